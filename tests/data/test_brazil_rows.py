"""From series to rows: the unit of the CDI, its compounding, dropped days, slips, continuations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.brazil_rows import assemble, compounded, continued, corrected, decimal_cdi
from sddp.errors import DataError
from tests.reference_data import reference_path

DAYS = pd.DatetimeIndex(["2008-01-02", "2008-01-03", "2008-01-04", "2008-01-07", "2008-01-08"])


def on(days, *values):
    return pd.Series(list(values), pd.DatetimeIndex(days), dtype=float)


def four(**changed):
    series = {name: on(DAYS, 1.0, 2.0, 3.0, 4.0, 5.0) for name in ("ibov", "gold", "usd", "eur")}
    return series | changed


def test_cash_over_a_dropped_day_earns_both_days():
    """The rate dated d accrues from d to the next business day."""
    daily = on(DAYS, 0.01, 0.02, 0.03, 0.04, 0.05)
    cash = compounded(daily, DAYS[[0, 1, 3, 4]])
    assert np.isnan(cash.iloc[0])
    np.testing.assert_allclose(cash.iloc[1:], [0.01, 1.02 * 1.03 - 1.0, 0.04], rtol=1e-13)


def test_a_rate_on_a_day_that_is_no_row_counts_for_the_span_it_lies_in():
    daily = on(["2008-01-02", "2008-01-05", "2008-01-07"], 0.01, 0.02, 0.03)
    cash = compounded(daily, pd.DatetimeIndex(["2008-01-02", "2008-01-07"]))
    assert cash.iloc[1] == pytest.approx(1.01 * 1.02 - 1.0, rel=1e-13)


def test_a_span_without_any_rate_is_rejected():
    daily = on(DAYS[[0, 1, 4]], 0.01, 0.02, 0.05)
    with pytest.raises(DataError, match="no rate from 2008-01-04 to the next row"):
        compounded(daily, DAYS[[0, 2, 3]])


def test_rows_are_the_common_days_and_the_others_are_listed():
    assets = four(ibov=on(DAYS[[0, 1, 3, 4]], 10, 11, 12, 13), eur=on(DAYS[:4], 1, 2, 3, 4))
    table, dropped = assemble(assets, on(DAYS, 0.01, 0.02, 0.03, 0.04, 0.05))
    assert list(table.index) == list(DAYS[[1, 3]])  # the first common day has no cash return
    assert table["ibov"].tolist() == [11.0, 12.0]
    np.testing.assert_allclose(table["cdi"], [0.01, 1.02 * 1.03 - 1.0], rtol=1e-13)
    assert dropped == {"2008-01-04": ["ibov"]}


def test_a_bank_day_without_cdi_is_rejected():
    with pytest.raises(DataError, match="SGS 12 lacks 1 bank days, the first 2008-01-04"):
        assemble(four(), on(DAYS[[0, 1, 3, 4]], 0.01, 0.02, 0.03, 0.04))


def test_series_that_do_not_meet_are_named_with_their_ranges():
    late = four(gold=on(["2009-01-02", "2009-01-05"], 1.0, 2.0))
    with pytest.raises(DataError, match=r"0 days have all .*gold 2009-01-02\.\.2009-01-05"):
        assemble(late, on(DAYS, *[0.01] * 5))


@pytest.mark.parametrize("rate", [0.0075, 0.045513, 0.14])
def test_percent_a_day_becomes_decimal(rate):
    assert decimal_cdi(on(DAYS, *[rate] * 5)).tolist() == [rate / 100.0] * 5


@pytest.mark.parametrize(("rate", "words"), [(0.00045513, "0.0004551"), (11.2, "11.2")])
def test_another_unit_is_not_divided(rate, words):
    """Decimals already, or percent a year."""
    with pytest.raises(DataError, match=f"the median is {words}; the CDI in percent a day"):
        decimal_cdi(on(DAYS, *[rate] * 5))


def test_known_slips_are_put_right_and_others_left():
    days = ["2016-10-20", "2016-10-21", "2019-02-18", "2019-02-27"]
    fixed, changed = corrected(on(days, 63837.0, 61108.0, 96509.0, 97885.0))
    assert fixed.tolist() == [63837.0, 64108.0, 96509.0, 97307.32]
    assert changed == ["2016-10-21", "2019-02-27"]


def test_slips_are_put_right_to_the_close_of_another_source():
    """Closes of brdsio/masters-degree, which come from the exchange."""
    closes = pd.read_csv(reference_path("data/brazil/ibov.csv"), index_col="date")["ibov"]
    served = on(["2016-10-21", "2019-02-18", "2019-02-27"], 61108.0, 96168.0, 97885.0)
    fixed, _ = corrected(served)
    assert fixed.tolist() == [closes[f"{day:%Y-%m-%d}"] for day in served.index]


def continuation(tmp_path, series, name="ibov"):
    series.rename_axis("date").to_frame(name).to_csv(tmp_path / "more.csv")
    return tmp_path / "more.csv"


def test_a_continuation_has_no_return_in_its_seam(tmp_path):
    days = pd.bdate_range("2019-08-01", "2019-10-31")
    full = pd.Series(100_000.0 * 1.001 ** np.arange(len(days)), days)
    served = full.loc[:"2019-09-30"]
    values, ratio = continued(served, continuation(tmp_path, full * 1.004), "ibov")
    assert ratio == pytest.approx(1.004, rel=1e-12)
    pd.testing.assert_series_equal(values, full, check_names=False, check_freq=False, rtol=1e-12)


@pytest.mark.parametrize(
    ("factor", "rows", "name", "words"),
    [
        (31.1035, 60, "ibov", "is 31.1035 times the service's series"),
        (1.03, 60, "ibov", "is 1.0300 times"),
        (1.0, 19, "ibov", "shares 19 days .* ends on 2019-10-22; give at least 20"),
        (1.0, 60, "close", "has no column 'ibov' but close"),
    ],
)
def test_a_continuation_that_does_not_fit(tmp_path, factor, rows, name, words):
    series = pd.Series(1.0, pd.bdate_range("2019-08-01", periods=59))
    path = continuation(tmp_path, series.iloc[:rows] * factor, name)
    with pytest.raises(DataError, match=words):
        continued(series, path, "ibov")


def test_the_study_set_is_rebuilt_from_its_sources():
    """Rows, prices and cash of `prices.csv`, which others made from the same files."""

    def read(name):
        path = reference_path(f"data/brazil/{name}.csv")
        return pd.read_csv(path, index_col="date", parse_dates=["date"])

    gold, euro, usd = read("gold_usd"), read("eur"), read("usdbrl")["usdbrl_ptax_buy"].dropna()
    ounce = gold["gold_usd_pm"].fillna(gold["gold_usd_am"]).dropna()
    series = {
        "ibov": read("ibov")["ibov"].dropna(),
        "gold": (ounce * usd).dropna(),
        "usd": usd,
        "eur": (euro["eurusd_fred_noon"] * usd).dropna(),
    }
    wanted = read("prices")
    cut = {name: values.loc["1999-12-30":"2021-06-02"] for name, values in series.items()}
    table, dropped = assemble(cut, read("cdi_daily")["cdi"])
    assert len(wanted) == 5042
    np.testing.assert_array_equal(table.index, wanted.index)
    # Their first row earned from another day than a common one.
    np.testing.assert_allclose(table["cdi"][1:], wanted["cdi"][1:], rtol=0.0, atol=1e-9)
    for name in cut:
        np.testing.assert_allclose(table[name], wanted[name], rtol=2e-6)
    assert sum("ibov" not in lacking for lacking in dropped.values()) == 258
