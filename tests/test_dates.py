"""Frequencies and periods a year from dates; time zones and periods by the stated rule."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.dates import frequency, periods_per_year, plain_date, plain_dates
from sddp.errors import DataError


def test_periods_per_year_come_from_the_dates():
    monthly = pd.date_range("2000-01-31", "2020-01-31", freq="ME")
    assert periods_per_year(monthly) == pytest.approx(12.0, rel=1e-3)
    # The Brazilian set: 5,042 rows from 2000-01-04 to 2021-06-02.
    brazil = pd.DatetimeIndex(np.linspace(946944000, 1622592000, 5042) * 1e9)
    assert periods_per_year(brazil) == pytest.approx(235.5, abs=0.05)
    with pytest.raises(DataError, match="1 dates hold no period"):
        periods_per_year(brazil[:1])


@pytest.mark.parametrize(
    ("step", "word"),
    [
        ("h", "intraday"),
        ("D", "daily"),
        ("B", "daily"),
        ("W", "weekly"),
        ("2W", "fortnightly"),
        ("ME", "monthly"),
        ("QE", "quarterly"),
        ("2QE", "half-yearly"),
        ("YE", "yearly"),
        ("5YE", "several years apart"),
    ],
)
def test_frequency(step, word):
    assert frequency(pd.date_range("2000-01-03", periods=9, freq=step)) == word


def test_one_date_has_no_frequency():
    with pytest.raises(DataError, match="1 dates have no frequency"):
        frequency(pd.DatetimeIndex(["2020-01-01"]))


def test_a_time_zone_is_dropped_and_the_local_time_kept():
    local = pd.date_range("2020-03-06", periods=4, freq="B")
    assert plain_dates(local.tz_localize("America/New_York")).equals(local)
    assert plain_dates(local) is local
    assert plain_date("2020-01-02T16:00-05:00") == pd.Timestamp("2020-01-02 16:00")


@pytest.mark.parametrize(
    ("step", "first"),
    [
        ("M", "2020-01-31"),
        ("Q", "2020-03-31"),
        ("Y", "2020-12-31"),
        ("W-FRI", "2020-01-03"),
        ("D", "2020-01-01"),
        ("h", "2020-01-01 01:00"),
    ],
)
def test_a_period_becomes_the_day_on_which_it_ends(step, first):
    periods = pd.period_range("2020-01-01", periods=3, freq=step)
    assert plain_dates(periods)[0] == pd.Timestamp(first)
    assert plain_date(periods[0]) == pd.Timestamp(first)


def test_what_holds_no_dates_is_returned_as_it_is():
    index = pd.Index(["x"])
    assert plain_dates(index) is index
