"""The Brazilian price file: what its columns are, and a reader that checks their units."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.data.sources.files import read_table
from sddp.errors import DataError

ASSETS = ("ibov", "gold", "usd", "eur")
CASH = "cdi"

# Dropped holidays leave six days at most; two weeks is a hole, or another frequency.
LARGEST_GAP = np.timedelta64(14, "D")

# Daily CDI since 1999: 1.9 % to 45 % a year, 7e-5 to 1.5e-3 a day. A day's rate in percent is a
# hundred times that, so the two ranges do not meet.
PLAUSIBLE_MEDIAN_CDI = (5e-5, 2.5e-3)
# Over the longest gap between rows cash never earned 0.3 %.
LARGEST_CDI = 0.02
# A euro was worth 0.83 to 1.60 dollars since 1999.
EUR_IN_USD = (0.6, 2.2)
# The slope of 5-row log changes of gold on those of the dollar, on any 504 rows of 2000-2021, is
# 0.36 to 1.05 for gold in reais and -0.64 to 0.05 for gold in dollars.
GOLD_SLOPE, GOLD_ROWS, GOLD_STEP = 0.2, 504, 5


class BrazilPrices(NamedTuple):
    """What `read_prices` returns.

    Attributes
    ----------
    prices : DataFrame, shape (n_rows, 4)
        ``ibov`` (points), ``gold``, ``usd``, ``eur`` (all three in reais) by date.
    cash_rate : Series, shape (n_rows,)
        Decimal return of the CDI earned from the previous row to this row.
    """

    prices: pd.DataFrame
    cash_rate: pd.Series[float]


def read_prices(path: str | Path) -> BrazilPrices:
    """Read and check a file with the columns ``date, ibov, gold, usd, eur, cdi``.

    Gold may be per gram or per ounce, but in reais.

    Raises
    ------
    DataError
        The file is not readable or not the one of its sidecar, a column is lacking, a cell is
        empty, a price is not positive, dates repeat, go back or leap by more than 14 days, the CDI
        is not a daily decimal, the euro is not in reais, or gold is in dollars (seen from 504 rows
        on).
    """
    table = read_table(path)
    lacking = {*ASSETS, CASH} - set(table.columns)
    if lacking:
        raise DataError(f"{path} lacks {', '.join(sorted(lacking))}; see sddp data fetch brazil")
    prices, cash_rate = table[list(ASSETS)], table[CASH]
    check_prices(prices, cash_rate, str(path))
    return BrazilPrices(prices, cash_rate)


def check_prices(prices: pd.DataFrame, cash_rate: pd.Series[float], where: str) -> None:
    """Refuse prices or a cash rate with a hole, or that cannot be in the units of `read_prices`.

    Raises
    ------
    DataError
        As `read_prices`; `where` names the table.
    """
    if (prices <= 0.0).any(axis=None):
        column = prices.columns[(prices <= 0.0).any()][0]
        date = prices.index[prices[column] <= 0.0][0]
        raise DataError(
            f"{where}: {column} is {prices[column][date]} on {date:%Y-%m-%d}, not positive"
        )
    _check_gaps(prices.index.to_numpy(), where)
    _check_cash_rate(cash_rate, where)
    ratio = float((prices["eur"] / prices["usd"]).median())
    if not EUR_IN_USD[0] < ratio < EUR_IN_USD[1]:
        raise DataError(f"{where}: eur / usd is {ratio:.4g}; both must be reais per unit")
    _check_gold(prices, where)


def _check_gaps(dates: NDArray[np.datetime64], where: str) -> None:
    gaps = np.diff(dates)
    if len(gaps) and gaps.max() > LARGEST_GAP:
        at = int(gaps.argmax())
        ends = f"{pd.Timestamp(dates[at]):%Y-%m-%d} and {pd.Timestamp(dates[at + 1]):%Y-%m-%d}"
        raise DataError(f"{where}: no row between {ends}; daily rows are needed")


def _check_cash_rate(rate: pd.Series[float], where: str) -> None:
    low, high = PLAUSIBLE_MEDIAN_CDI
    median = float(rate.median())
    if not low <= median <= high:
        percent = " (it looks like percent: divide by 100)" if low <= median / 100.0 <= high else ""
        raise DataError(
            f"{where}: the median of {CASH} is {median:.4g}; decimal daily rates have one between "
            f"{low:g} and {high:g}{percent}"
        )
    wrong = (rate < 0.0) | (rate > LARGEST_CDI)
    if wrong.any():
        date = rate.index[wrong][0]
        raise DataError(
            f"{where}: {CASH} is {rate[date]:.4g} on {date:%Y-%m-%d}; give a decimal rate"
        )


def _check_gold(prices: pd.DataFrame, where: str) -> None:
    """Gold in reais moves with the dollar one for one; gold in dollars does not."""
    if len(prices) < GOLD_ROWS:
        return
    changes = prices[["gold", "usd"]].apply(np.log).diff(GOLD_STEP).dropna()
    (_, covariance), (_, variance) = np.cov(changes.to_numpy(), rowvar=False)
    slope = covariance / variance
    if slope < GOLD_SLOPE:
        raise DataError(
            f"{where}: gold does not move with the dollar (slope {slope:.2f}); give it in reais, "
            "not in dollars: multiply by usd"
        )
