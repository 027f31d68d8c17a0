"""`backtest`: strategies traded through the past, each decided on what was known."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.ledger import Entry, Ledger
from sddp.backtest.market import CASH, Market, View
from sddp.backtest.report import BacktestReport
from sddp.backtest.strategies import Decision, EveryPeriods, Strategy, Trigger
from sddp.backtest.tables import day
from sddp.backtest.trading import (
    Cost,
    TransactionCosts,
    execute,
    requested_trades,
    target_weights,
)
from sddp.errors import DataError, ModelError

Progress = Callable[[str, int, int], None]


def backtest(
    market: Market,
    strategies: Mapping[str, Strategy],
    *,
    start: str | pd.Timestamp,
    end: str | pd.Timestamp | None = None,
    transaction_cost: Cost | tuple[Cost, Cost],
    lag: int = 1,
    initial_wealth: float = 1.0,
    rebalance: Trigger = EveryPeriods(1),  # noqa: B008 - frozen and without state
    progress: Progress | None = None,
) -> BacktestReport:
    """Trade each strategy through the past, from cash.

    On every row: returns since the row before are earned, an order due is executed at the row's
    quotes, and, when the trigger says so, the strategy decides on the rows up to this one. The
    decision of row ``t`` is executed at the quotes of row ``t + lag`` and earns from there.
    Assets are sold first; then all purchases are scaled by one factor so that cash does not go
    below 0. Between trades weights drift and cash earns the cash rate.

    Parameters
    ----------
    market : Market
    strategies : mapping of str to Strategy
        By the name they are reported under. They are copied: the objects stay as they are.
    start, end : date
        The first decision is taken on the first row from `start` on; `end` is the last row whose
        wealth counts (default: the market's last).
    transaction_cost : float, mapping by asset, or pair (buy, sell) of either
        Fraction of the money traded (0.0005 = 0.05 %), charged whatever a strategy assumes.
    lag : int, default 1
        0 trades at the very quotes decided on: not executable unless quotes are simultaneous.
    initial_wealth : float, default 1.0
        Money, all in cash.
    rebalance : Trigger
        When strategies are asked; by default on every row.
    progress : callable, optional
        Called as ``progress(name, rows_done, n_rows)``; `print_progress` is one.

    Returns
    -------
    BacktestReport

    Raises
    ------
    DataError
        Too few rows lie between `start` and `end`, or a cost is no fraction.
    ModelError
        `lag`, `initial_wealth` or `strategies` make no sense, or a strategy answers with weights
        that do not; the message's note names the strategy and the date.
    """
    _check(strategies, lag, initial_wealth)
    rules = _Rules(
        dates=_rows(market, start, end, lag),
        costs=TransactionCosts.of(transaction_cost, list(market.assets)),
        lag=lag,
        initial_wealth=initial_wealth,
        rebalance=rebalance,
    )
    accounts = {
        name: _simulate(name, strategy, market, rules, progress or _silent)
        for name, strategy in strategies.items()
    }
    return BacktestReport(
        ledgers={name: account.ledger() for name, account in accounts.items()},
        cash_rate=market.at(rules.dates[-1]).cash_rate.loc[rules.dates],
        lag=lag,
        strategies={name: account.strategy for name, account in accounts.items()},
    )


def print_progress(name: str, done: int, total: int) -> None:
    """Progress of a backtest on the error stream: a line that moves, or quarters in a file."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{name}: {done} of {total} rows", end=end, file=sys.stderr, flush=True)
    elif done == total or 4 * done // total > 4 * (done - 1) // total:
        print(f"{name}: {done} of {total} rows", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class _Rules:
    """What all strategies of a backtest share."""

    dates: pd.DatetimeIndex
    costs: TransactionCosts
    lag: int
    initial_wealth: float
    rebalance: Trigger


class _Account:
    """The money of one strategy, its orders, and the lines written about them."""

    def __init__(self, strategy: Strategy, assets: Any, rules: _Rules) -> None:
        self.strategy = copy.deepcopy(strategy)
        self.rules = rules
        self.assets = list(assets)
        self.positions = pd.Index([CASH, *assets])
        self.holdings: Floats = np.zeros(len(self.positions))
        self.holdings[0] = rules.initial_wealth
        self.orders: dict[int, Floats] = {}
        self.entries: list[Entry] = []
        self.decisions: list[Decision] = []

    def earn(self, view: View) -> Floats:
        """Add what the row's returns pay on the holdings of the row before."""
        if not self.entries:
            return np.zeros_like(self.holdings)
        rates = np.append(view.cash_rate.iloc[-1], view.returns.iloc[-1])
        # An asset not yet quoted has no return, and is not held.
        earned: Floats = self.holdings * np.nan_to_num(rates)
        self.holdings = self.holdings + earned
        return earned

    def decide(self, row: int, view: View) -> None:
        """Ask the strategy, if it is time and the order can still earn something."""
        execution_row = row + self.rules.lag
        held = pd.Series(self.holdings.copy(), index=self.positions)
        if execution_row >= len(self.rules.dates) - 1 or not self._due(view, held):
            return
        answer = self.strategy.decide(view, held)
        weights = None
        if answer is not None:
            self.orders[execution_row] = target_weights(answer, self.assets)
            weights = pd.Series(self.orders[execution_row], index=self.positions)
        self.decisions.append(Decision(view.date, weights))

    def _due(self, view: View, held: pd.Series[float]) -> bool:
        return not self.decisions or self.rules.rebalance.due(view, held, self.decisions[-1])

    def trade(self, row: int, quoted: NDArray[np.bool_], earned: Floats) -> None:
        """Execute the order of this row, if there is one, and write the row's entry."""
        before, costs = self.holdings, self.rules.costs
        order = self.orders.pop(row, None)
        requested = (
            np.zeros(len(before) - 1) if order is None else requested_trades(before, order, costs)
        )
        executed, charged, after = execute(before, requested, costs, quoted)
        self.holdings = after
        self.entries.append(Entry(earned, before, requested, executed, charged, after))

    def ledger(self) -> Ledger:
        """All lines."""
        return Ledger.of(self.entries, self.decisions, self.rules.dates, pd.Index(self.assets))


def _simulate(
    name: str, strategy: Strategy, market: Market, rules: _Rules, progress: Progress
) -> _Account:
    account = _Account(strategy, market.assets, rules)
    for row, date in enumerate(rules.dates):
        try:
            _step(account, row, market.at(date))
        except Exception as error:
            error.add_note(f"(strategy {name!r}, {day(date)})")
            raise
        progress(name, row + 1, len(rules.dates))
    return account


def _step(account: _Account, row: int, view: View) -> None:
    earned = account.earn(view)
    # Read before the strategy has had the view in its hands.
    quoted = view.quoted.to_numpy()[-1]
    if account.rules.lag == 0:
        account.decide(row, view)
        account.trade(row, quoted, earned)
    else:
        account.trade(row, quoted, earned)
        account.decide(row, view)


def _silent(name: str, done: int, total: int) -> None:
    pass


def _check(strategies: Mapping[str, Strategy], lag: int, initial_wealth: float) -> None:
    if not strategies:
        raise ModelError("strategies is empty; name at least one")
    for name, strategy in strategies.items():
        if isinstance(strategy, type) or not callable(getattr(strategy, "decide", None)):
            raise ModelError(f"strategies[{name!r}] = {strategy!r} is no object with decide()")
    if isinstance(lag, bool) or not isinstance(lag, int) or lag < 0:
        raise ModelError(f"lag = {lag!r}; give 0, 1, ... rows between decision and execution")
    if not (math.isfinite(initial_wealth) and initial_wealth > 0.0):
        raise ModelError(f"initial_wealth = {initial_wealth}; give a positive amount of money")


def _rows(
    market: Market, start: str | pd.Timestamp, end: str | pd.Timestamp | None, lag: int
) -> pd.DatetimeIndex:
    last = market.dates[-1] if end is None else pd.Timestamp(end)
    dates = market.dates
    chosen = dates[(dates >= pd.Timestamp(start)) & (dates <= last)]
    if len(chosen) < lag + 2:
        raise DataError(
            f"start = {start} and end = {end} leave {len(chosen)} of the rows {day(dates[0])} to "
            f"{day(dates[-1])}; with lag = {lag} at least {lag + 2} are needed"
        )
    return chosen
