"""Figures of a portfolio that runs, row by row: the topic ``analytics.portfolio``."""

from __future__ import annotations

import base64
import math
from collections import Counter, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading.events import (
    MEASURED,
    Event,
    PortfolioOptimized,
    RebalanceInstructionIssued,
    TradeExecuted,
    TradingHalted,
    TradingReleased,
    TriggerFired,
)
from sddp.dates import periods_per_year
from sddp.errors import ModelError
from sddp.evaluation import metrics
from sddp.labels import CASH
from sddp.live.observers import ProcessedRow

# Decisions and rows whose run time and iterations are looked at.
REMEMBERED = 1_000


@dataclass(frozen=True, kw_only=True)
class PortfolioAnalytics(Event):
    """Figures after a row. Figures that do not exist yet are NaN.

    Parameters
    ----------
    row : int
        Rows seen, this one included.
    wealth, drawdown, cost : float
        Money; fall below the highest wealth so far as a share of it, 0 or positive; money paid
        for trading so far.
    sharpe, sortino, beta, tracking_error, volatility : float
        Of the returns of the last rows, a year, as in `sddp.evaluation.metrics`; the last three
        against, and in excess of, the benchmark and cash where their definitions say so.
    weights, target : mapping of text to float
        Shares of wealth by position, cash among them; the last decision's (empty before it).
    contributions, group_contributions : mapping of text to float
        Of each asset or group to the portfolio's volatility a year, which add up to it.
    slippage : float
        Basis points of the money traded: executed quotes against those of the decision, positive
        where buyers paid more. Of all trades so far.
    settlement : float
        Mean rows from an instruction to its last fill; 0 where it is filled on the same row.
    iterations : mapping
        ``p50``, ``p95``, ``max`` of the solver, over the last decisions.
    triggers : mapping of text to int
        Firings so far.
    halted : str
        Reason for which trading is halted; empty where it is not.
    stale : mapping of text to int
        Rows since the last quote of assets that are not quoted on this row.
    run_time : mapping
        ``p50``, ``p95``, ``max`` seconds a row; measured.
    """

    topic: ClassVar[str] = "analytics.portfolio"

    row: int
    wealth: float
    drawdown: float
    cost: float
    sharpe: float
    sortino: float
    beta: float
    tracking_error: float
    volatility: float
    weights: Mapping[str, float]
    target: Mapping[str, float]
    contributions: Mapping[str, float]
    group_contributions: Mapping[str, float]
    slippage: float
    settlement: float
    iterations: Mapping[str, float]
    triggers: Mapping[str, int]
    halted: str
    stale: Mapping[str, int]
    run_time: Mapping[str, float] = field(default_factory=dict, metadata=MEASURED)


class Analytics:
    """Observer that keeps the figures of a portfolio up to date.

    Parameters
    ----------
    window : int
        Rows that rolling figures look at.
    every : int
        Rows between two answers; all rows are counted.
    benchmark : mapping of asset to weight, optional
        Rebalanced each row; by default equal weights of all assets.
    groups : mapping of asset to group, optional
        Assets left out are a group of their own.
    rows_per_year : float, optional
        By default the rows of the window over its calendar years.

    Attributes
    ----------
    latest : PortfolioAnalytics or None
        Last answer.
    """

    def __init__(
        self,
        *,
        window: int = 250,
        every: int = 1,
        benchmark: Mapping[Hashable, float] | None = None,
        groups: Mapping[Hashable, Hashable] | None = None,
        rows_per_year: float | None = None,
    ) -> None:
        if window < 2 or every < 1:
            raise ModelError(f"window={window}, every={every}: must be at least 2 and 1 rows")
        if rows_per_year is not None and not 0.0 < rows_per_year < math.inf:
            raise ModelError(f"rows_per_year={rows_per_year}: must be positive")
        self.window, self.every = window, every
        self.benchmark = None if benchmark is None else dict(benchmark)
        self.groups = {} if groups is None else dict(groups)
        self.rows_per_year = rows_per_year
        self.latest: PortfolioAnalytics | None = None
        self._rolling: Floats = np.empty((0, 3))  # own, benchmark's and cash returns
        self._wealth: float | None = None
        self._peak, self._row, self._cost = 0.0, 0, 0.0
        self._traded = self._slipped = 0.0
        self._issued: dict[str, tuple[int, dict[str, float]]] = {}
        self._waits = (0, 0)  # instructions filled, rows they took
        self._iterations: deque[int] = deque(maxlen=REMEMBERED)
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)
        self._triggers: Counter[str] = Counter()
        self._halted = ""
        self._quoted: dict[str, int] = {}

    def observe(self, done: ProcessedRow) -> Sequence[Event]:
        """See `Observer.observe`: the figures, every so many rows."""
        self._row += 1
        self._seconds.append(done.seconds)
        names = [str(asset) for asset in done.account.assets]
        quoted = done.view.arrays["quoted"][-1]
        self._quoted |= {n: self._row for n, told in zip(names, quoted, strict=True) if told}
        prices = dict(zip(names, done.view.arrays["prices"][-1].tolist(), strict=True))
        paid = 0.0
        for event in done.events:
            paid += self._take(event, prices)
        self._earn(done, paid)
        if self._row % self.every:
            return ()
        self.latest = self._figures(done, names)
        return (self.latest,)

    def _take(self, event: Event, prices: Mapping[str, float]) -> float:
        """Count an event; money that it cost."""
        if isinstance(event, TriggerFired):
            self._triggers[event.trigger] += 1
        elif isinstance(event, TradingHalted):
            self._halted = event.reason
        elif isinstance(event, TradingReleased):
            self._halted = ""
        elif isinstance(event, PortfolioOptimized):
            if event.iterations is not None:
                self._iterations.append(event.iterations)
        elif isinstance(event, RebalanceInstructionIssued):
            legs = event.instruction["legs"]
            quotes = {name: prices[name] for name in legs if name in prices}
            self._issued[str(event.instruction["identifier"])] = self._row, quotes
        elif isinstance(event, TradeExecuted):
            return self._fill(event, prices)
        return 0.0

    def _fill(self, fill: TradeExecuted, prices: Mapping[str, float]) -> float:
        row, quotes = self._issued.get(fill.identifier, (self._row, {}))
        for name, money in fill.trades.items():
            before = quotes.get(name, math.nan)
            if before > 0.0 and math.isfinite(prices.get(name, math.nan)):
                self._slipped += money * (1.0 - before / prices[name])
                self._traded += abs(money)
        if fill.complete:
            filled, waited = self._waits
            self._waits = filled + 1, waited + self._row - row
            self._issued.pop(fill.identifier, None)
        paid = math.fsum(fill.costs.values())
        self._cost += paid
        return paid

    def _earn(self, done: ProcessedRow, paid: float) -> None:
        wealth = float(done.account.holdings.sum())
        if self._wealth is not None and len(done.view.arrays["returns"]):
            returns = np.nan_to_num(done.view.arrays["returns"][-1])
            cash = float(done.view.arrays["cash_rate"][-1])
            held = self._benchmark(done.account.assets)
            market = float(held @ returns) + (1.0 - float(held.sum())) * cash
            row = [wealth / self._wealth - 1.0, market, cash]
            self._rolling = np.vstack([self._rolling[1 - self.window :], [row]])
        self._wealth = wealth
        # A peak counts before the costs of the row that reaches it, as wealth does in a backtest.
        self._peak = max(self._peak, wealth + paid)

    def _benchmark(self, assets: Sequence[Hashable]) -> Floats:
        if self.benchmark is None:
            return np.full(len(assets), 1.0 / len(assets))
        return np.array([float(self.benchmark.get(asset, 0.0)) for asset in assets])

    def _figures(self, done: ProcessedRow, names: list[str]) -> PortfolioAnalytics:
        holdings, wealth = done.account.holdings, float(done.account.holdings.sum())
        own, market, cash = self._rolling.T
        # Of the rows with a return; the table of all of them is not made for it.
        n_rows = min(self.window, len(done.view.arrays["returns"]))
        pace = self._pace(pd.DatetimeIndex(done.view.index[len(done.view.index) - n_rows :]))
        enough = len(own) > 1
        shares = holdings / wealth
        parts = self._contributions(done, shares[1:], pace)
        groups: dict[str, float] = {}
        for asset, name, part in zip(done.account.assets, names, parts.tolist(), strict=True):
            group = str(self.groups.get(asset, name))
            groups[group] = groups.get(group, 0.0) + part
        decision = done.account.decision
        target = None if decision is None else decision.weights
        positions = [CASH, *names]
        filled, waited = self._waits
        return PortfolioAnalytics(
            time=done.time,
            row=self._row,
            wealth=wealth,
            drawdown=1.0 - wealth / self._peak,
            cost=self._cost,
            sharpe=metrics.sharpe_ratio(own, cash, pace) if enough else math.nan,
            sortino=metrics.sortino_ratio(own, pace) if enough else math.nan,
            beta=metrics.beta(own, market, cash),
            tracking_error=metrics.tracking_error(own, market, pace),
            volatility=metrics.volatility(own, pace),
            weights=dict(zip(positions, shares.tolist(), strict=True)),
            target={} if target is None else dict(zip(positions, map(float, target), strict=True)),
            contributions=dict(zip(names, parts.tolist(), strict=True)),
            group_contributions=groups,
            slippage=1e4 * self._slipped / self._traded if self._traded else math.nan,
            settlement=waited / filled if filled else math.nan,
            iterations=quantiles(self._iterations),
            triggers=dict(sorted(self._triggers.items())),
            halted=self._halted,
            stale={
                name: self._row - self._quoted.get(name, 0)
                for name in names
                if self._quoted.get(name, 0) < self._row
            },
            run_time=quantiles(self._seconds),
        )

    def _pace(self, dates: pd.DatetimeIndex) -> float:
        if self.rows_per_year is not None:
            return self.rows_per_year
        return periods_per_year(dates) if len(dates) > 1 else math.nan

    def _contributions(self, done: ProcessedRow, weights: Floats, pace: float) -> Floats:
        """``w_i cov(r_i, w'r) / std(w'r)`` of the window, a year."""
        rows = done.view.arrays["returns"][-self.window :]
        if len(rows) < 2:
            return np.full(len(weights), math.nan)
        rows = np.nan_to_num(rows)
        rows = rows - rows.mean(axis=0)
        whole = rows @ weights
        variance = float(whole @ whole) / (len(rows) - 1)
        if variance <= 0.0:
            return np.zeros(len(weights))
        marginal: Floats = (rows.T @ whole) / (len(rows) - 1) * math.sqrt(pace / variance)
        return weights * marginal

    def state(self) -> dict[str, Any]:
        """See `Observer.state`; measured run times are not part of it."""
        return {
            "rolling": base64.b64encode(np.ascontiguousarray(self._rolling).tobytes()).decode(),
            "wealth": self._wealth,
            "numbers": [self._peak, self._cost, self._traded, self._slipped],
            "row": self._row,
            "issued": {key: list(value) for key, value in self._issued.items()},
            "waits": list(self._waits),
            "iterations": list(self._iterations),
            "triggers": dict(self._triggers),
            "halted": self._halted,
            "quoted": dict(self._quoted),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Observer.restore`."""
        self._rolling = np.frombuffer(base64.b64decode(state["rolling"])).reshape(-1, 3).copy()
        self._wealth, self._row = state["wealth"], state["row"]
        self._peak, self._cost, self._traded, self._slipped = state["numbers"]
        self._issued = {key: (row, dict(quotes)) for key, (row, quotes) in state["issued"].items()}
        filled, waited = state["waits"]
        self._waits = filled, waited
        self._iterations = deque(state["iterations"], maxlen=REMEMBERED)
        self._triggers = Counter(state["triggers"])
        self._halted, self._quoted = state["halted"], dict(state["quoted"])


def quantiles(values: Sequence[float] | deque[Any]) -> dict[str, float]:
    """``p50``, ``p95`` and ``max``; empty without values."""
    if not values:
        return {}
    found = np.quantile(np.fromiter(values, dtype=float), [0.5, 0.95, 1.0])
    return dict(zip(("p50", "p95", "max"), found.tolist(), strict=True))
