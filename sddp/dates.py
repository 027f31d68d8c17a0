"""Dates of tables: periods a year, frequency, and the rule for time zones and periods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sddp.errors import DataError

DAYS_PER_YEAR = 365.25

# Median days between rows, and the word for them.
FREQUENCIES = (
    (0.9, "intraday"),
    (4.0, "daily"),
    (10.0, "weekly"),
    (20.0, "fortnightly"),
    (45.0, "monthly"),
    (135.0, "quarterly"),
    (270.0, "half-yearly"),
    (550.0, "yearly"),
)
LONGER = "several years apart"


def periods_per_year(dates: pd.DatetimeIndex) -> float:
    """Periods between the first and the last date over the calendar years between them.

    A year has 365.25 days; n rows hold n - 1 periods.

    Raises
    ------
    DataError
        Fewer than two dates.

    >>> round(periods_per_year(pd.date_range("2000-01-31", periods=121, freq="ME")), 2)
    12.0
    """
    if len(dates) < 2:
        raise DataError(f"{len(dates)} dates hold no period; give at least two")
    years = (dates[-1] - dates[0]) / pd.Timedelta(days=DAYS_PER_YEAR)
    return (len(dates) - 1) / years


def days_between(dates: pd.DatetimeIndex) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Days from each date to the next, shape (n_dates - 1,)."""
    return np.diff(dates.to_numpy()) / np.timedelta64(1, "D")


def frequency(dates: pd.DatetimeIndex) -> str:
    """Word for the median distance between sorted dates: ``daily``, ``weekly``, ``monthly``, ...

    Raises
    ------
    DataError
        Fewer than two dates.

    >>> frequency(pd.bdate_range("2020-01-01", periods=9))
    'daily'
    """
    if len(dates) < 2:
        raise DataError(f"{len(dates)} dates have no frequency; give at least two")
    usual = float(np.median(days_between(dates)))
    return next((word for most, word in FREQUENCIES if usual < most), LONGER)


def plain_dates(index: pd.Index[Any]) -> pd.Index[Any]:
    """Dates without time zone and instead of periods; any other index is returned as it is.

    A time zone is dropped and the local time kept: midnight in New York stays midnight of the same
    day. A period (a month, a quarter) becomes its last day, on which its values are known; one
    shorter than a day becomes the time at which it ends.

    >>> plain_dates(pd.period_range("2020-01", periods=2, freq="M"))
    DatetimeIndex(['2020-01-31', '2020-02-29'], dtype='datetime64[us]', freq=None)
    """
    if isinstance(index, pd.PeriodIndex):
        ends = index.to_timestamp(how="end")
        rounded = ends.normalize() if _whole_days(index) else ends.ceil("s")
        return pd.DatetimeIndex(rounded.to_numpy().astype("datetime64[us]"), name=index.name)
    if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
        return index.tz_localize(None)
    return index


def _whole_days(periods: pd.PeriodIndex) -> bool:
    starts, ends = periods.to_timestamp(how="start"), periods.to_timestamp(how="end")
    return bool((ends - starts >= pd.Timedelta(hours=23, minutes=59)).all())


def plain_date(date: Any) -> pd.Timestamp:
    """A date from text, `Timestamp` or `Period`, by the rule of `plain_dates`.

    >>> plain_date(pd.Timestamp("2020-01-02 16:00", tz="America/New_York"))
    Timestamp('2020-01-02 16:00:00')
    """
    index = pd.PeriodIndex([date]) if isinstance(date, pd.Period) else [pd.Timestamp(date)]
    stamp: pd.Timestamp = plain_dates(pd.Index(index))[0]
    return stamp
