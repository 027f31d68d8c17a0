"""What each trigger of a backtest brought about: firings, trades, their cost and their benefit."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.result import BacktestResult
from sddp.backtest.trading.events import (
    Event,
    RebalanceInstructionIssued,
    TradeExecuted,
    TriggerFired,
)
from sddp.errors import DataError
from sddp.market.market import Market

COLUMNS = ["firings", "trades", "turnover", "cost", "benefit"]


def trigger_table(result: BacktestResult, name: str, market: Market) -> pd.DataFrame:
    """Firings, trades, cost and benefit by trigger.

    The benefit of a firing is what its trades were worth until the next trades of any trigger:
    holdings after them, costs paid, against the holdings before them, both left alone until then.

    Parameters
    ----------
    result : BacktestResult
        With its events: ``backtest(..., keep_events=True)``.
    name : str
        Of the strategy.
    market : Market
        Of the backtest.

    Returns
    -------
    DataFrame, by trigger
        ``firings``; ``trades``, of an asset on a row; ``turnover``, purchases plus sales;
        ``cost``; ``benefit``, net of the cost. The last three are sums of fractions of the wealth
        at the trade.

    Raises
    ------
    DataError
        The strategy is unknown, or its events were not kept.
    """
    ledger = result.ledger(name)
    if name not in result.events:
        raise DataError(f"events of {name!r}: were not kept; give backtest(keep_events=True)")
    events = result.events[name]
    told = _triggers_of_instructions(events)
    dates = ledger.wealth.index
    growth = _growth(market, dates)
    fills: dict[pd.Timestamp, list[TradeExecuted]] = {}
    for event in events:
        if isinstance(event, TradeExecuted):
            fills.setdefault(event.time, []).append(event)
    rows = [int(dates.searchsorted(time)) for time in fills]
    before, after = ledger.holdings_before.to_numpy(), ledger.holdings_after.to_numpy()
    sums: dict[str, Floats] = {}
    for event in events:
        if isinstance(event, TriggerFired):
            sums.setdefault(event.trigger, np.zeros(len(COLUMNS)))[0] += 1.0
    for row, until, time in zip(rows, [*rows[1:], len(dates) - 1], fills, strict=True):
        wealth = float(before[row].sum())
        grown = growth[row + 1 : until + 1].prod(axis=0)
        benefit = float(((after[row] - before[row]) * grown).sum()) / wealth
        # Trades of several instructions on one row share its benefit by what they trade.
        sizes = [sum(abs(x) for x in fill.trades.values()) for fill in fills[time]]
        for fill, size in zip(fills[time], sizes, strict=True):
            share = size / sum(sizes) if sum(sizes) else 0.0
            cost = sum(fill.costs.values()) / wealth
            found = np.array([0.0, float(len(fill.trades)), size / wealth, cost, share * benefit])
            sums[told[fill.identifier]] += found
    names = pd.Index(list(sums), name="trigger")
    table = pd.DataFrame(np.array(list(sums.values())), names, COLUMNS)
    return table.astype({"firings": int, "trades": int})


def _triggers_of_instructions(events: tuple[Event, ...]) -> dict[str, str]:
    """The trigger behind each instruction: the last one that fired before it was issued."""
    found, last = {}, ""
    for event in events:
        if isinstance(event, TriggerFired):
            last = event.trigger
        elif isinstance(event, RebalanceInstructionIssued):
            found[event.instruction["identifier"]] = last
    return found


def _growth(market: Market, dates: pd.Index[pd.Timestamp]) -> Floats:
    """Growth of each position, cash first, over each row of a run, shape (n_rows, 1 + n_assets)."""
    view = market.at(dates[-1])
    returns = view.returns.reindex(dates).to_numpy()
    cash = view.cash_rate.loc[dates].to_numpy()
    growth: Floats = 1.0 + np.nan_to_num(np.column_stack([cash, returns]))
    return growth
