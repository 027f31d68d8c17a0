"""Readers of files with factors or portfolio returns, as `data.french` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from data.files import read_table
from sddp.errors import DataError

RISK_FREE = "rf"
# Volatilities are 0.005 to 0.08 in decimals, monthly or daily, and 0.5 to 8 in percent.
LARGEST_VOLATILITY = 0.2


class Factors(NamedTuple):
    """What `read_factors` returns.

    Attributes
    ----------
    factors : DataFrame, shape (n_periods, n_factors)
        Decimal returns of long-short portfolios (``mkt_rf`` in excess of the bill rate), over the
        period that ends at the date.
    rf : Series, shape (n_periods,)
        Decimal bill rate of the same period; known at its beginning.
    """

    factors: pd.DataFrame
    rf: pd.Series[float]


def read_factors(path: str | Path) -> Factors:
    """Read and check a file with the columns ``date``, factors and ``rf``.

    Raises
    ------
    DataError
        The file is not readable or not the one of its sidecar, lacks ``rf``, has an empty cell, or
        the numbers are not decimal returns.
    """
    table = read_table(path)
    if RISK_FREE not in table.columns or table.shape[1] < 2:
        raise DataError(f"{path} has columns {', '.join(table.columns)}; it needs factors and 'rf'")
    factors = table.drop(columns=RISK_FREE)
    _check_returns(factors, str(path))
    return Factors(factors, table[RISK_FREE])


def read_returns(path: str | Path) -> pd.DataFrame:
    """Read and check total decimal returns of portfolios by date; an empty cell is NaN.

    Raises
    ------
    DataError
        The file is not readable or not the one of its sidecar, or the numbers are not decimal
        returns above -1.
    """
    table = read_table(path, missing=True)
    _check_returns(table, str(path))
    return table


def _check_returns(table: pd.DataFrame, where: str) -> None:
    volatility = float(table.std().median())
    if volatility > LARGEST_VOLATILITY:
        raise DataError(
            f"{where}: the volatility is {volatility:.3g} a period, so the numbers are in percent; "
            "divide them by 100"
        )
    ruined = (table <= -1.0).any()
    if ruined.any():
        column = table.columns[ruined][0]
        date = table.index[table[column] <= -1.0][0]
        raise DataError(
            f"{where}: {column} is {table[column][date]} on {date:%Y-%m-%d}, not above -1"
        )
