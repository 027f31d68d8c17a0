"""Optional tables of a market with a column for each asset: volumes, costs, limits."""

from __future__ import annotations

import math

import pandas as pd

from sddp.errors import DataError
from sddp.tables import cells, check_same_dates, checked_table

# Dearer than any market; 0.5 meant as half a percent is not taken for half the money.
LARGEST_COST = 0.2

# The largest number allowed in each table, and the rule in words.
BY_ASSET = {
    "volumes": (math.inf, "must be money, at least 0"),
    "costs": (LARGEST_COST, "must be a fraction of the money traded (0.0005 = 0.05 %)"),
    "limits": (1.0, "must be a largest weight between 0 and 1"),
}


def tables_by_asset(
    given: dict[str, pd.DataFrame | None], prices: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The tables that are given, checked, with the columns of the prices in their order.

    Raises
    ------
    DataError
        Rows or columns are not those of the prices, or a number is out of range.
    """
    tables = {}
    for name, whole in given.items():
        if whole is None:
            continue
        table = checked_table(whole, name)
        check_same_dates(table, prices.index, name)
        if set(table.columns) != set(prices.columns):
            raise DataError(
                f"{name}: has the columns {list(table.columns)}; must have those of prices, "
                f"{list(prices.columns)}"
            )
        table = table[list(prices.columns)]
        most, rule = BY_ASSET[name]
        check_cells((table < 0.0) | (table > most), table, name, rule)
        tables[name] = table.fillna(0.0) if name == "volumes" else table
    return tables


def check_cells(mask: pd.DataFrame, table: pd.DataFrame, name: str, remedy: str) -> None:
    """Raise for the first cell of a mask, with its value."""
    if mask.to_numpy().any():
        value = table.to_numpy()[mask.to_numpy()][0]
        raise DataError(f"{name} = {value:g} at {cells(mask)}; it {remedy}")
