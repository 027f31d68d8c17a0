"""`backtest`: trade strategies through the past without look-ahead."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from sddp.backtest.result import BacktestResult
from sddp.backtest.run import Run, simulate
from sddp.backtest.strategies import EveryPeriods, Strategy
from sddp.backtest.trading.account import Rules
from sddp.backtest.trading.events import Event
from sddp.backtest.trading.execution import Cost, TransactionCosts, target_weights
from sddp.backtest.trading.messages import Envelope
from sddp.backtest.triggers.breaker import CircuitBreaker
from sddp.backtest.triggers.trigger import Trigger
from sddp.dates import plain_date
from sddp.errors import DataError, ModelError
from sddp.labels import ByLabel
from sddp.market.market import Market
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
    initial_weights: ByLabel | None = None,
    rebalance: Trigger = EveryPeriods(1),  # noqa: B008 - frozen and without state
    breaker: CircuitBreaker | None = None,
    messages: Sequence[tuple[str | pd.Timestamp, Envelope]] = (),
    keep_events: bool = False,
    progress: Progress | None = None,
) -> BacktestResult:
    """Trade each strategy through the past, from cash or from given holdings.

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
        Fraction of the money traded (0.0005 = 0.05 %), charged whatever a strategy assumes. Where
        the market has costs of its own (`Market`), those of the row are charged.
    lag : int, default 1
        0 trades at the very quotes decided on: not executable unless quotes are simultaneous.
    initial_wealth : float, default 1.0
        Money.
    initial_weights : mapping or Series by asset, optional
        Shares of it that are held before the first row; the rest is cash, as is all by default.
    rebalance : Trigger
        When strategies are asked; by default on every row. See `sddp.backtest.triggers`.
    breaker : CircuitBreaker, optional
        Halts all trading.
    messages : sequence of (date, Envelope)
        What arrives from outside: each is received before the first row at or after its date.
    keep_events : bool, default False
        Whether the result has the events of every strategy.
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
        `lag`, `initial_wealth`, `initial_weights` or `strategies` make no sense, or a strategy
        answers with weights that do not; the message's note names the strategy and the date.
    """
    check_strategies(strategies)
    rules, dates = trading_rules(
        market,
        start=start,
        end=end,
        transaction_cost=transaction_cost,
        lag=lag,
        initial_wealth=initial_wealth,
        initial_weights=initial_weights,
        rebalance=rebalance,
        breaker=breaker,
    )
    timed = [(plain_date(date), envelope) for date, envelope in messages]
    events: dict[str, list[Event]] = {name: [] for name in strategies}
    runs = {}
    for name, strategy in strategies.items():
        sink = events[name] if keep_events else None
        runs[name] = Run(strategy, market.assets, rules, dates, messages=timed, events=sink)
        _follow(name, runs[name], market, progress)
    return BacktestResult(
        ledgers={name: run.ledger() for name, run in runs.items()},
        cash_rate=market.at(dates[-1]).cash_rate.loc[dates],
        lag=lag,
        strategies={name: run.account.strategy for name, run in runs.items()},
        events={name: tuple(found) for name, found in events.items()} if keep_events else {},
    )


def _follow(name: str, run: Run, market: Market, progress: Progress | None) -> None:
    n_rows = len(run.dates)
    try:
        simulate(run, market, after_row=lambda r: progress and progress(name, r.row, n_rows))
    except Exception as error:
        error.add_note(f"(strategy {name!r}, {day(run.today)})")
        raise


def print_progress(name: str, done: int, total: int) -> None:
    """Print progress to the error stream: one updated line on a terminal, quarters in a file."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{name}: {done} of {total} rows", end=end, file=sys.stderr, flush=True)
    elif done == total or 4 * done // total > 4 * (done - 1) // total:
        print(f"{name}: {done} of {total} rows", file=sys.stderr, flush=True)


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
    breaker: CircuitBreaker | None = None,
    initial_weights: ByLabel | None = None,
) -> tuple[Rules, pd.DatetimeIndex]:
    """Rules of a run, checked, and its rows; arguments and errors as in `backtest`."""
    if isinstance(lag, bool) or not isinstance(lag, int) or lag < 0:
        raise ModelError(f"lag = {lag!r}; give 0, 1, ... rows between decision and execution")
    if not (math.isfinite(initial_wealth) and initial_wealth > 0.0):
        raise ModelError(f"initial_wealth = {initial_wealth}; give a positive amount of money")
    costs = TransactionCosts.of(transaction_cost, list(market.assets))
    if not callable(getattr(rebalance, "fires", None)):
        raise ModelError(f"rebalance = {rebalance!r}: must be a trigger, such as EveryPeriods(5)")
    held = None
    if initial_weights is not None:
        held = tuple(target_weights(initial_weights, list(market.assets)).tolist())
    rules = Rules(costs, lag, initial_wealth, rebalance, breaker, initial_weights=held)
    return rules, _rows(market, start, end, lag)


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
