"""From the service's series to rows: units, slips, continuations, common days, compounded cash."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from sddp.data.sources.brazil_prices import CASH, PLAUSIBLE_MEDIAN_CDI
from sddp.data.sources.files import read_table
from sddp.errors import DataError

# Two sources of one quantity agree but for rounding, hour and, for gold, a local premium.
LEAST_OVERLAP, LARGEST_MISMATCH = 20, 0.02

# Values of SGS 7 that miss the exchange's own close by a slip of the hand: (served, the close).
SLIPS = {
    "2016-10-21": (61108.0, 64108.0),
    "2019-02-18": (96168.0, 96509.89),
    "2019-02-27": (97885.0, 97307.32),
}


def decimal_cdi(percent: pd.Series[float]) -> pd.Series[float]:
    """Daily CDI as decimal, from percent a day as the service gives it.

    Raises
    ------
    DataError
        The median is not that of a daily rate in percent, such as one already decimal.
    """
    low, high = PLAUSIBLE_MEDIAN_CDI
    median = float(percent.median())
    if not 100.0 * low <= median <= 100.0 * high:
        raise DataError(
            f"SGS 12: the median is {median:.4g}; the CDI in percent a day has one between "
            f"{100.0 * low:g} and {100.0 * high:g}, so the unit is another one"
        )
    return percent / 100.0


def compounded(daily: pd.Series[float], dates: pd.DatetimeIndex) -> pd.Series[float]:
    """Cash return earned from the previous date to each date; the first one is NaN.

    Parameters
    ----------
    daily : Series
        Decimal rate dated d, which accrues from d to the next business day.
    dates : DatetimeIndex

    Raises
    ------
    DataError
        No rate lies between two dates that follow one another.
    """
    before = daily.index.searchsorted(dates)  # rates that have accrued by each date
    idle = np.flatnonzero(np.diff(before) == 0)
    if idle.size:
        raise DataError(f"{CASH} has no rate from {dates[idle[0]]:%Y-%m-%d} to the next row")
    grown = np.concatenate([[0.0], np.log1p(daily.to_numpy()).cumsum()])[before]
    return pd.Series(np.expm1(np.diff(grown, prepend=np.nan)), index=dates, name=CASH)


class Assembled(NamedTuple):
    """A table of complete rows, and what was left out: which columns lacked on which day."""

    table: pd.DataFrame
    dropped: dict[str, list[str]]


def assemble(assets: Mapping[str, pd.Series[float]], cdi: pd.Series[float]) -> Assembled:
    """Rows of the days on which every asset has a value, with the CDI compounded between them.

    Parameters
    ----------
    assets : mapping from name to Series
    cdi : Series
        Decimal daily rate; the day before the first row must have one.

    Raises
    ------
    DataError
        Fewer than three common days, or a day with a dollar rate (a bank day) without CDI.
    """
    quotes = pd.DataFrame(dict(assets))
    complete = quotes.dropna()
    if len(complete) < 3:
        ends = ", ".join(
            f"{n} {s.index[0]:%Y-%m-%d}..{s.index[-1]:%Y-%m-%d}" for n, s in assets.items()
        )
        raise DataError(
            f"{len(complete)} days have all of {', '.join(assets)} ({ends}); three are needed"
        )
    first, last = complete.index[0], complete.index[-1]
    bank_days = quotes.loc[first:last, "usd"].dropna().index[:-1]
    idle = bank_days.difference(cdi.index)
    if len(idle):
        raise DataError(f"SGS 12 lacks {len(idle)} bank days, the first {idle[0]:%Y-%m-%d}")
    absent = quotes.loc[first:last].isna()
    dropped = {
        f"{day:%Y-%m-%d}": list(absent.columns[row])
        for day, row in zip(absent.index, absent.to_numpy(), strict=True)
        if row.any()
    }
    cash_rate = compounded(cdi, pd.DatetimeIndex(complete.index))
    return Assembled(complete.assign(**{CASH: cash_rate}).iloc[1:], dropped)


def corrected(ibov: pd.Series[float]) -> tuple[pd.Series[float], list[str]]:
    """The Ibovespa without the known slips of the service, and the days put right."""
    slips = {day: pair for day, pair in SLIPS.items() if ibov.get(pd.Timestamp(day)) == pair[0]}
    closes = pd.Series({pd.Timestamp(day): close for day, (_, close) in slips.items()}, dtype=float)
    return closes.combine_first(ibov), list(slips)


class Continued(NamedTuple):
    """A series with later rows behind its own, and what they were divided by."""

    values: pd.Series[float]
    ratio: float


def continued(series: pd.Series[float], path: Path, name: str) -> Continued:
    """A series with the later rows of a file (columns ``date`` and `name`) behind its own.

    The file's rows are divided by its median ratio to the series on common days, so that the seam
    holds no return.

    Raises
    ------
    DataError
        The file is not readable, lacks the column, shares fewer than 20 days with the series, or
        its level is another one on them.
    """
    table = read_table(path)
    if name not in table.columns:
        raise DataError(f"--{name} {path} has no column {name!r} but {', '.join(table.columns)}")
    more = table[name]
    ratios = (more / series).dropna()
    if len(ratios) < LEAST_OVERLAP:
        raise DataError(
            f"--{name} {path} shares {len(ratios)} days with the service's series, which ends on "
            f"{series.index[-1]:%Y-%m-%d}; give at least {LEAST_OVERLAP} for comparison"
        )
    ratio = float(ratios.median())
    if abs(ratio - 1.0) > LARGEST_MISMATCH:
        raise DataError(
            f"--{name} {path} is {ratio:.4f} times the service's series on common days; it must be "
            "the same quantity in the same unit (31.1035 is an ounce in grams)"
        )
    later = more[more.index > series.index[-1]] / ratio
    return Continued(pd.concat([series, later]), ratio)
