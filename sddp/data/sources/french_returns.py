"""Readers of files with factors or portfolio returns, as `sddp.data.sources.french` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sddp.data import reader
from sddp.data.sources.files import read_table
from sddp.errors import DataError

RISK_FREE = "rf"


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
    table = read_table(path, read=reader.read_factors)
    if RISK_FREE not in table.columns or table.shape[1] < 2:
        raise DataError(f"{path} has columns {', '.join(table.columns)}; it needs factors and 'rf'")
    return Factors(table.drop(columns=RISK_FREE), table[RISK_FREE])


def read_returns(path: str | Path) -> pd.DataFrame:
    """Read and check total decimal returns of portfolios by date; an empty cell is NaN.

    Raises
    ------
    DataError
        The file is not readable or not the one of its sidecar, or the numbers are not decimal
        returns of at least -1.
    """
    return read_table(path, missing=True, read=reader.read_returns)
