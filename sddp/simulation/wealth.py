"""Wealth of a portfolio under a law of returns, many scenarios at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.trading import Cost, TransactionCosts, execute, requested_trades, target_weights
from sddp.errors import ModelError
from sddp.labels import CASH, ByLabel, numbers_by_label
from sddp.market.market import View
from sddp.rng import Rng, root_seed
from sddp.simulation.laws import ScenarioLaw, check_counts
from sddp.threads import one_blas_thread


@dataclass(frozen=True)
class FixedWeights:
    """Target weights, and when they are traded back to.

    Without `every` and `threshold` the holdings are bought once and drift. A portfolio that holds
    nothing but cash is always built.

    Parameters
    ----------
    weights : mapping or Series
        Of wealth after costs, by asset; the rest is cash.
    every : int, optional
        Periods between two rebalancings; 1 is a constant mix.
    threshold : float, optional
        Trade only where a weight has drifted from its target by more than this. Looked at every
        `every` periods, by default each period.
    relative : bool
        Whether `threshold` is a share of the target weight (of assets with a target of 0 any
        holding counts) or a weight.

    Raises
    ------
    ModelError
        A weight is negative, they sum to more than 1, or `every` or `threshold` is out of range.
    """

    weights: ByLabel
    every: int | None = None
    threshold: float | None = None
    relative: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", dict(self.weights.items()))
        target_weights(self.weights, [name for name in self.weights if name != CASH])
        every, threshold = self.every, self.threshold
        if every is not None and (isinstance(every, bool) or every != int(every) or every < 1):
            raise ModelError(f"every={every}: must be a whole number of periods, at least 1")
        if threshold is not None and not 0.0 < threshold < np.inf:
            raise ModelError(f"threshold={threshold}: must be a positive number (0.05 is 5 %)")

    @property
    def period(self) -> int | None:
        """Periods between two looks at the weights; None where they are only bought."""
        return 1 if self.every is None and self.threshold is not None else self.every

    def out_of_band(self, holdings: Floats, target: Floats) -> NDArray[np.bool_]:
        """Which portfolios are to be traded.

        Parameters
        ----------
        holdings : array, shape (..., 1 + n_assets)
        target : array, shape (1 + n_assets,)
        """
        unbuilt = ~np.asarray((holdings[..., 1:] > 0.0).any(axis=-1))
        if self.period is None:
            return unbuilt
        if self.threshold is None:
            return np.ones_like(unbuilt)
        wealth = holdings.sum(axis=-1, keepdims=True)
        band = self.threshold * target if self.relative else np.full(len(target), self.threshold)
        drifted = np.abs(holdings - target * wealth) > band * wealth
        due: NDArray[np.bool_] = unbuilt | drifted.any(axis=-1)
        return due

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float] | None:
        """See `sddp.backtest.Strategy`; `every` is the business of the backtest's trigger."""
        assets = list(holdings.index[1:])
        target = target_weights(self.weights, assets)
        due = self.out_of_band(np.asarray(holdings, dtype=float), target)
        return pd.Series(target, index=holdings.index) if due else None


@dataclass(frozen=True, eq=False)
class SimulatedWealth:
    """Wealth in each scenario.

    Attributes
    ----------
    initial : float
        Wealth before the first trade.
    terminal : array, shape (n_scenarios,)
        Wealth at the end, marked: nothing is sold.
    costs : array, shape (n_scenarios,)
        Money paid for trading.
    paths : array, shape (n_scenarios, n_periods + 1), or None
        Wealth before trading at each date.
    gains : array, shape (n_scenarios, 1 + n_assets), or None
        Money earned by position less what its trades cost, cash first: they sum to
        ``terminal - initial``.
    asset_names : tuple of labels
    n_floored : int
        Returns below -1, which count as -1: a holding cannot be worth less than nothing.
    """

    initial: float
    terminal: Floats
    costs: Floats
    paths: Floats | None
    gains: Floats | None
    asset_names: tuple[Hashable, ...]
    n_floored: int

    @property
    def returns(self) -> Floats:
        """Simple returns over the whole horizon, costs included, shape (n_scenarios,)."""
        returns: Floats = self.terminal / self.initial - 1.0
        return returns

    @property
    def losses(self) -> Floats:
        """Losses over the whole horizon as shares of the initial wealth: positive is bad."""
        return -self.returns


class SimulatingPolicy(Protocol):
    """A trained policy that follows itself along its own scenarios, such as AllocationPolicy."""

    def simulate(self, n_paths: int, *, rng: Rng) -> pd.DataFrame:
        """Table with index (path, stage) and columns ``wealth`` and ``cost``."""
        ...


class _Job(NamedTuple):
    """What each block needs."""

    portfolio: FixedWeights
    target: Floats
    costs: TransactionCosts
    start: Floats
    cash_growth: float
    n_periods: int


class _Kept(NamedTuple):
    """What is kept of each scenario; blocks write to rows of their own."""

    terminal: Floats
    costs: Floats
    paths: Floats | None
    gains: Floats | None


def simulate_portfolio(
    portfolio: FixedWeights,
    law: ScenarioLaw,
    *,
    n_scenarios: int,
    n_periods: int,
    rng: Rng,
    transaction_cost: Cost | tuple[Cost, Cost] = 0.0,
    initial_holdings: ByLabel | None = None,
    cash_return: float = 0.0,
    paths: bool = False,
    gains: bool = False,
    n_jobs: int = 1,
) -> SimulatedWealth:
    """Follow fixed weights through scenarios of a law.

    Trades happen at the beginning of a period, sales first, with the costs of the backtest's own
    step; between them holdings drift.

    Parameters
    ----------
    portfolio : FixedWeights
    law : ScenarioLaw
    n_scenarios, n_periods : int
    rng : int, SeedSequence or Generator
    transaction_cost : float, mapping by asset, or pair (buy, sell) of either
    initial_holdings : mapping or Series, optional
        Money by position. By default 1 in cash, so that the cost of building counts.
    cash_return : float
        Per period.
    paths, gains : bool
        Whether to keep wealth at all dates, and earnings by position. Without them 16 bytes are
        kept of a scenario.
    n_jobs : int
        Threads. The numbers do not depend on it.

    Raises
    ------
    ModelError
        A name is unknown, holdings are negative or empty, a count is below 1, or `cash_return` is
        no return.
    """
    if not (np.isfinite(cash_return) and cash_return > -1.0):
        raise ModelError(f"cash_return={cash_return}: must be a decimal return above -1")
    names = list(law.names)
    start = starting_holdings(initial_holdings, names)
    target = target_weights(portfolio.weights, names)
    costs = TransactionCosts.of(transaction_cost, names)
    job = _Job(portfolio, target, costs, start, 1.0 + cash_return, n_periods)
    check_counts(n_scenarios=n_scenarios, n_periods=n_periods, n_jobs=n_jobs)
    kept = _Kept(
        terminal=np.empty(n_scenarios),
        costs=np.empty(n_scenarios),
        paths=np.empty((n_scenarios, n_periods + 1)) if paths else None,
        gains=np.empty((n_scenarios, 1 + len(names))) if gains else None,
    )
    size, seed = law.block_size(n_periods), root_seed(rng)
    n_blocks = -(-n_scenarios // size)
    ends = np.linspace(0, n_blocks, min(n_jobs, n_blocks) + 1).astype(int)

    def work(first: int, last: int) -> int:
        draw = law.blocks(n_periods, size, seed)
        return sum(_block(job, draw(number), number * size, kept) for number in range(first, last))

    with one_blas_thread(), ThreadPoolExecutor(len(ends) - 1) as pool:
        runs = [pool.submit(work, int(a), int(b)) for a, b in pairwise(ends)]
        floored = sum(run.result() for run in runs)
    return SimulatedWealth(float(start.sum()), *kept, tuple(names), floored)


def simulate_policy(policy: SimulatingPolicy, *, n_scenarios: int, rng: Rng) -> SimulatedWealth:
    """Follow a trained policy along the scenarios that it was trained on.

    Parameters
    ----------
    policy : SimulatingPolicy
        Such as an `AllocationPolicy`.
    n_scenarios : int
    rng : int, SeedSequence or Generator
    """
    table = policy.simulate(n_scenarios, rng=rng)
    wealth = table["wealth"].unstack("stage").to_numpy()
    costs = table["cost"].unstack("stage").to_numpy().sum(axis=1)
    return SimulatedWealth(float(wealth[0, 0]), wealth[:, -1], costs, wealth, None, (), 0)


def starting_holdings(initial_holdings: ByLabel | None, names: Sequence[Hashable]) -> Floats:
    """Money by position, cash first; 1 in cash by default.

    Raises
    ------
    ModelError
        A name is unknown, a holding negative or not finite, or there is no money.
    """
    if initial_holdings is None:
        initial_holdings = {CASH: 1.0}
    what = "initial_holdings"
    held = numbers_by_label(initial_holdings, [CASH, *names], what, default=0.0)
    if not (np.isfinite(held).all() and held.min() >= 0.0 and held.sum() > 0.0):
        raise ModelError(f"{what}={dict(initial_holdings.items())}: must be money of 0 or more")
    return held


def _block(job: _Job, returns: Floats, first: int, kept: _Kept) -> int:
    """Follow one block and write what is kept; returns how many returns were floored."""
    n = min(len(returns), len(kept.terminal) - first)
    rows = slice(first, first + n)
    floored = int((returns[:n] < -1.0).sum())
    if floored:
        np.maximum(returns, -1.0, out=returns)
    held, charged = _traded(job, job.start[None], 0)
    if job.portfolio.period is None:
        _hold(job, held[0], charged[0], returns, rows, kept)
        return floored
    held = np.repeat(held, len(returns), axis=0)
    paid = np.full(len(returns), charged.sum())
    earned = np.repeat(np.concatenate([[0.0], -charged[0]])[None], len(returns), axis=0)
    if kept.paths is not None:
        kept.paths[rows, 0] = job.start.sum()
    for t in range(job.n_periods):
        if t > 0 and t % job.portfolio.period == 0:
            held, charged = _traded(job, held, t)
            paid += charged.sum(axis=1)
            if kept.gains is not None:
                earned[:, 1:] -= charged
        if kept.gains is not None:
            earned[:, 0] += held[:, 0] * (job.cash_growth - 1.0)
            earned[:, 1:] += held[:, 1:] * returns[:, t]
        held[:, 0] *= job.cash_growth
        held[:, 1:] += held[:, 1:] * returns[:, t]
        if kept.paths is not None:
            kept.paths[rows, t + 1] = held[:n].sum(axis=1)
    kept.terminal[rows] = held[:n].sum(axis=1)
    kept.costs[rows] = paid[:n]
    if kept.gains is not None:
        kept.gains[rows] = earned[:n]
    return floored


def _hold(
    job: _Job, held: Floats, charged: Floats, returns: Floats, rows: slice, kept: _Kept
) -> None:
    """Write what is kept of holdings that nobody trades any more; `returns` are overwritten.

    Few long steps of arrays: threads that ask for the interpreter in each period wait for each
    other (two of them took 0.71 of one's time that way, 0.57 this way).
    """
    n = rows.stop - rows.start
    growth = np.cumprod(np.add(returns, 1.0, out=returns), axis=1, out=returns)
    cash = held[0] * job.cash_growth ** np.arange(1, job.n_periods + 1)
    wealth = growth @ held[1:] + cash
    kept.terminal[rows] = wealth[:n, -1]
    kept.costs[rows] = charged.sum()
    if kept.paths is not None:
        kept.paths[rows, 0] = job.start.sum()
        kept.paths[rows, 1:] = wealth[:n]
    if kept.gains is not None:
        kept.gains[rows, 0] = cash[-1] - held[0]
        kept.gains[rows, 1:] = held[1:] * (growth[:n, -1] - 1.0) - charged


def _traded(job: _Job, held: Floats, t: int) -> tuple[Floats, Floats]:
    """Holdings after the trades of a date, and what they cost by asset."""
    charged, held = np.zeros_like(held[:, 1:]), held.copy() if t == 0 else held
    rows = np.flatnonzero(job.portfolio.out_of_band(held, job.target))
    if len(rows):
        before = held[rows]
        requested = requested_trades(before, job.target, job.costs)
        quoted = np.ones(held.shape[1] - 1, dtype=bool)
        _, charged[rows], held[rows] = execute(before, requested, job.costs, quoted)
    return held, charged
