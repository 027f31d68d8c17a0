"""`backtest`: trade strategies through the past without look-ahead."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping

import pandas as pd

from sddp.backtest.account import Account, Rules
from sddp.backtest.result import BacktestResult
from sddp.backtest.strategies import EveryPeriods, Strategy, Trigger
from sddp.backtest.trading import Cost, TransactionCosts
from sddp.dates import plain_date
from sddp.errors import DataError, ModelError
from sddp.market.market import Market, View
from sddp.tables import day

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
) -> BacktestResult:
    """Trade each strategy through the past, from cash.

    On every row: returns since the row before are earned, an order due is executed at the row's
    quotes, and, when the trigger says so, the strategy decides on the rows up to this one. The
    decision of row ``t`` is executed at the quotes of row ``t + lag`` and earns from there. With a
    lag above 1 the strategy is shown its holdings as if the orders on the way were executed.
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
    BacktestResult

    Raises
    ------
    DataError
        Too few rows lie between `start` and `end`, or a cost is no fraction.
    ModelError
        `lag`, `initial_wealth` or `strategies` make no sense, or a strategy answers with weights
        that do not; the message's note names the strategy and the date.
    """
    check_strategies(strategies)
    rules = trading_rules(
        market,
        start=start,
        end=end,
        transaction_cost=transaction_cost,
        lag=lag,
        initial_wealth=initial_wealth,
        rebalance=rebalance,
    )
    accounts = {
        name: _run(name, strategy, market, rules, progress) for name, strategy in strategies.items()
    }
    return BacktestResult(
        ledgers={name: account.ledger() for name, account in accounts.items()},
        cash_rate=market.at(rules.dates[-1]).cash_rate.loc[rules.dates],
        lag=lag,
        strategies={name: account.strategy for name, account in accounts.items()},
    )


def _run(
    name: str, strategy: Strategy, market: Market, rules: Rules, progress: Progress | None
) -> Account:
    account = Account(strategy, market.assets, rules)
    n_rows = len(rules.dates)
    try:
        simulate(account, market, after_row=lambda a: progress and progress(name, a.row, n_rows))
    except Exception as error:
        error.add_note(f"(strategy {name!r}, {day(account.today)})")
        raise
    return account


def print_progress(name: str, done: int, total: int) -> None:
    """Print progress to the error stream: one updated line on a terminal, quarters in a file."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{name}: {done} of {total} rows", end=end, file=sys.stderr, flush=True)
    elif done == total or 4 * done // total > 4 * (done - 1) // total:
        print(f"{name}: {done} of {total} rows", file=sys.stderr, flush=True)


def simulate(
    account: Account,
    market: Market,
    *,
    after_row: Callable[[Account], object],
) -> None:
    """Run an account from its present row to the last.

    Parameters
    ----------
    account : Account
        Written to.
    market : Market
    after_row : callable
        Called with the account after each row, to tell of it or to keep it.
    """
    for row in range(account.row, len(account.rules.dates)):
        _step(account, row, market.at(account.rules.dates[row]))
        after_row(account)


def _step(account: Account, row: int, view: View) -> None:
    earned = account.earn(view)
    # Read before the strategy has had the view in its hands.
    quoted = view.quoted.to_numpy()[-1]
    if account.rules.lag == 0:
        account.decide(row, view)
        account.trade(row, quoted, earned)
    else:
        account.trade(row, quoted, earned)
        account.decide(row, view)


def check_strategies(strategies: Mapping[str, Strategy]) -> None:
    """Check that every strategy has a method `decide`.

    Raises
    ------
    ModelError
        There is none, a name is no text, or one is no object with a method `decide`.
    """
    if not strategies:
        raise ModelError("strategies is empty; name at least one")
    for name, strategy in strategies.items():
        if not isinstance(name, str):
            raise ModelError(f"strategies name {name!r}: must be text; give str({name!r})")
        if isinstance(strategy, type) or not callable(getattr(strategy, "decide", None)):
            raise ModelError(
                f"strategies[{name!r}] = {strategy!r}: must be an object with decide()"
            )


def trading_rules(
    market: Market,
    *,
    start: str | pd.Timestamp,
    end: str | pd.Timestamp | None,
    transaction_cost: Cost | tuple[Cost, Cost],
    lag: int,
    initial_wealth: float,
    rebalance: Trigger,
) -> Rules:
    """Rules of a run, checked; arguments and errors as in `backtest`."""
    if isinstance(lag, bool) or not isinstance(lag, int) or lag < 0:
        raise ModelError(f"lag = {lag!r}; give 0, 1, ... rows between decision and execution")
    if not (math.isfinite(initial_wealth) and initial_wealth > 0.0):
        raise ModelError(f"initial_wealth = {initial_wealth}; give a positive amount of money")
    costs = TransactionCosts.of(transaction_cost, list(market.assets))
    return Rules(_rows(market, start, end, lag), costs, lag, initial_wealth, rebalance)


def _rows(
    market: Market, start: str | pd.Timestamp, end: str | pd.Timestamp | None, lag: int
) -> pd.DatetimeIndex:
    last = market.dates[-1] if end is None else plain_date(end)
    dates = market.dates
    chosen = dates[(dates >= plain_date(start)) & (dates <= last)]
    if len(chosen) < lag + 2:
        raise DataError(
            f"start = {start} and end = {end} leave {len(chosen)} of the rows {day(dates[0])} to "
            f"{day(dates[-1])}; with lag = {lag} at least {lag + 2} are needed"
        )
    return chosen
