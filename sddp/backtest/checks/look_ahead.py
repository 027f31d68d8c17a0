"""A check that decisions depend on nothing that was not known yet."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from sddp.backtest.simulator import backtest
from sddp.backtest.strategies import EveryPeriods, Strategy
from sddp.backtest.trading import Cost
from sddp.backtest.triggers.trigger import Trigger
from sddp.dates import plain_date
from sddp.errors import DataError, ModelError
from sddp.market.market import Market
from sddp.rng import Rng, generator
from sddp.tables import day


def check_no_look_ahead(
    strategy: Strategy | Callable[[Market], Strategy],
    market: Market,
    *,
    start: str | pd.Timestamp,
    last_known: str | pd.Timestamp,
    transaction_cost: Cost | tuple[Cost, Cost] = 0.0,
    lag: int = 1,
    rebalance: Trigger = EveryPeriods(1),  # noqa: B008 - frozen and without state
    rng: Rng = 0,
) -> None:
    """Raise where a strategy decides otherwise once the future is another one.

    The strategy trades through the market, and through markets that are the same up to `last_known`
    and then end, go on with other valid returns (drawn from the past), or have no more quotes. Its
    decisions up to that date must be the same numbers, bit for bit.

    Parameters
    ----------
    strategy : Strategy, or function from Market to Strategy
        A function where the strategy is made from the market's data (and could so know them).
    market : Market
    start, last_known : date
        First decision, and the last date that all futures share.
    transaction_cost, lag, rebalance :
        As in `backtest`.
    rng : int, SeedSequence or Generator
        Draws the other returns.

    Raises
    ------
    ModelError
        A decision differs; names the future, the date, the asset and both weights.
    DataError
        Nothing is decided up to `last_known`, or no date lies after it.
    """
    settings = {
        "start": start,
        "transaction_cost": transaction_cost,
        "lag": lag,
        "rebalance": rebalance,
    }
    known = plain_date(last_known)
    if not (market.dates > known).any():
        raise DataError(f"last_known={day(known)}: must be before the market's last date")
    expected = _decisions(strategy, market, known, settings)
    if expected.empty:
        raise DataError(f"last_known={day(known)}: no decision is taken up to it; choose later")
    for name, altered in _futures(market, known, generator(rng)):
        found = _decisions(strategy, altered, known, settings)
        # The last orders of a market that ends could not be executed any more.
        shared = expected.iloc[: len(found)]
        if len(found) < len(expected) - (lag + 1 if name == "truncated" else 0):
            raise ModelError(f"future {name}: decisions up to {day(known)} are missing")
        _compare(name, shared, found)


def _decisions(
    strategy: Any, market: Market, known: pd.Timestamp, settings: dict[str, Any]
) -> pd.DataFrame:
    made = strategy if callable(getattr(strategy, "decide", None)) else strategy(market)
    result = backtest(market, {"strategy": copy.deepcopy(made)}, **settings)
    decisions = result.ledger("strategy").decisions
    return decisions[decisions.index <= known]


def _compare(name: str, expected: pd.DataFrame, found: pd.DataFrame) -> None:
    if not found.index.equals(expected.index):
        raise ModelError(f"future {name}: decisions are taken on other dates")
    one, other = expected.to_numpy(), found.to_numpy()
    differs = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if differs.any():
        row, column = np.argwhere(differs)[0]
        raise ModelError(
            f"future {name}: on {day(expected.index[row])} the weight of "
            f"{expected.columns[column]!r} is {one[row, column]!r} in one future and "
            f"{other[row, column]!r} in another; the decision looks ahead"
        )


def _futures(
    market: Market, known: pd.Timestamp, rng: np.random.Generator
) -> Iterator[tuple[str, Market]]:
    """Markets that are the same up to a date."""
    view = market.at(market.dates[-1])
    tables = {
        "prices": view.prices.where(view.quoted),
        "cash_rate": view.cash_rate,
        "factors": view.factors,
        "volatility_index": view.volatility_index,
        "volumes": view.volumes,
        "costs": view.costs,
        "limits": view.limits,
    }
    last = int((market.dates <= known).sum())
    yield "truncated", _market({k: None if t is None else t[:last] for k, t in tables.items()})
    rows = rng.integers(1, last, size=len(market.dates) - last)
    yield "replaced", _market(_gone_on(tables, last, rows))
    emptied = _gone_on(tables, last, rows)
    emptied["prices"] = emptied["prices"].copy()
    emptied["prices"].iloc[last:] = np.nan
    yield "emptied", _market(emptied)


def _gone_on(tables: dict[str, Any], last: int, rows: Any) -> dict[str, Any]:
    """Tables whose later rows are drawn from earlier ones; prices by their returns."""
    found = {}
    for name, table in tables.items():
        if table is None or name == "prices":
            found[name] = table
            continue
        values = table.to_numpy().copy()
        values[last:] = values[rows]
        found[name] = type(table)(values, **_labels(table))
    prices = tables["prices"]
    values = prices.ffill().to_numpy().copy()
    for k, row in enumerate(rows, start=last):
        with np.errstate(invalid="ignore"):
            values[k] = values[k - 1] * (values[row] / values[row - 1])
    values[:last] = prices.to_numpy()[:last]
    return found | {"prices": pd.DataFrame(values, prices.index, prices.columns)}


def _labels(table: Any) -> dict[str, Any]:
    if isinstance(table, pd.DataFrame):
        return {"index": table.index, "columns": table.columns}
    return {"index": table.index, "name": table.name}


def _market(tables: dict[str, Any]) -> Market:
    prices = tables.pop("prices")
    return Market(prices, missing="carry", **tables)
