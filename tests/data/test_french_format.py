"""The library's text format: tables and titles, missing values, units, and damaged files."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.french_format import column_name, parse, returns
from sddp.errors import DataError
from tests.data.library import FIVE_FACTORS, FIVE_FACTORS_DAILY, names, portfolios, portfolios_daily

ROWS = {
    "192607": [5.8248, -1.7006, 0.4875, -99.99],
    "192608": [-999.0, -8.0282, 1.3796, 1.4606],
    "192609": [-6.2113, -0.2989, -0.99, -3.5],
}


def values(text, at=0):
    return returns(parse(text, "file").tables[at], "file")


def test_factors_monthly_with_crlf_and_an_annual_table_below():
    file = parse(FIVE_FACTORS, "file")
    assert [table.frequency for table in file.tables] == ["monthly", "annual"]
    assert file.tables[1].title == "Annual Factors: January-December"
    assert (file.vintage, file.copyright) == ("202302", "Copyright 2023 Kenneth R. French")
    found = values(FIVE_FACTORS)
    assert list(found.columns) == ["mkt_rf", "smb", "hml", "rmw", "cma", "rf"]
    assert [f"{day:%Y-%m-%d}" for day in found.index] == ["1963-07-31", "1963-08-31", "1963-09-30"]
    assert found.iloc[0].tolist() == [-0.0039, -0.0047, -0.0083, 0.0066, -0.0115, 0.0027]


def test_factors_daily():
    found = values(FIVE_FACTORS_DAILY)
    assert [f"{day:%Y-%m-%d}" for day in found.index[[0, -1]]] == ["1963-07-01", "1963-07-05"]
    assert found["rf"].tolist() == [0.00012] * 4


def test_many_tables_are_told_apart_by_their_titles():
    file = parse(portfolios(2, ROWS), "file")
    assert [(table.title, table.frequency) for table in file.tables] == [
        ("Average Value Weighted Returns -- Monthly", "monthly"),
        ("Average Equal Weighted Returns -- Monthly", "monthly"),
        ("Average Value Weighted Returns -- Annual", "annual"),
        ("Average Equal Weighted Returns -- Annual", "annual"),
        ("Number of Firms in Portfolios", "monthly"),
        ("Average Market Cap", "monthly"),
        (
            "For portfolios formed in June of year t Value Weight Average of BE/ME Calculated for "
            "June of t to June of t+1 as: Sum[ME(Mth) * BE(Fiscal Year t-1) / ME(Dec t-1)] / "
            "Sum[ME(Mth)] Where Mth is a month from June of t to June of t+1",
            "monthly",
        ),
    ]
    assert file.vintage == "202105"


def test_both_codes_of_a_missing_value_and_none_beside_them():
    found = values(portfolios(2, ROWS))
    assert found.isna().to_numpy().sum() == 2
    assert np.isnan(found.iloc[0, 3])
    assert np.isnan(found.iloc[1, 0])
    assert found.iloc[2].tolist() == [-0.062113, -0.002989, -0.0099, -0.035]


def test_names_of_the_library_become_ours():
    assert [column_name(name) for name in names(5)][:6] == [
        "small_lobm",
        "me1_bm2",
        "me1_bm3",
        "me1_bm4",
        "small_hibm",
        "me2_bm1",
    ]
    assert column_name("BIG HiOP") == "big_hiop"
    assert column_name(" ME10 BM9 ") == "me10_bm9"


def test_a_file_that_went_through_a_spreadsheet():
    """Trailing commas, byte order mark gone, LF and blanks behind names."""
    text = FIVE_FACTORS.replace("\r\n", ",,\n").replace("CMA,RF", "CMA ,RF ")
    pd.testing.assert_frame_equal(values(text), values(FIVE_FACTORS))
    assert parse(text, "file").copyright == "Copyright 2023 Kenneth R. French"


def test_no_vintage_and_no_footer():
    text = ",Mkt-RF,SMB\n196307,   -0.39,   -0.47\n196308,    5.07,   -0.79"
    file = parse(text, "file")
    assert (file.vintage, file.copyright, file.tables[0].title) == (None, None, "")


FACTORS = FIVE_FACTORS.replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "file holds no table"),
        ("<html><body>Service unavailable</body></html>", "file holds no table"),
        ("196307, 1.0\n196308, 2.0\n", "line 1: no header line"),
        (FACTORS.replace(",Mkt-RF,SMB,HML,RMW,CMA,RF\n1963", "\n1963"), "line 5: "),
        (FACTORS.replace("196308,    5.07,", "196308,"), "line 6: not 6 numbers: '196308,   -0.79"),
        (FACTORS.replace("5.07", "5.o7"), "line 6: not 6 numbers"),
        (FACTORS.replace("196308", "196313"), "line 6: '196313' is no date"),
        (FACTORS.replace("196308", "196307"), "1963-07-31 follows 1963-07-31"),
        (FACTORS.replace("196309", "196310"), "no row between 1963-08-31 and 1963-10-31"),
        (FACTORS.replace("196309", "19630930"), "line 7: '19630930,"),
        (FACTORS.replace("5.07", "-100.00"), "mkt_rf is -100.0 % on 1963-08-31"),
        (FIVE_FACTORS_DAILY.replace("19630705", "19630805"), "1963-07-03 and 1963-08-05"),
    ],
)
def test_a_damaged_file_is_named_with_the_place(text, words):
    with pytest.raises(DataError) as caught:
        values(text)
    assert words in str(caught.value)


def test_numbers_that_are_no_percent_are_rejected():
    rows = {date: [value / 100.0 for value in row[:3]] + [0.01] for date, row in ROWS.items()}
    rows["192608"][0] = 0.01
    with pytest.raises(DataError, match="not in percent"):
        values(portfolios(2, rows))


def test_a_long_daily_file_of_two_tables_is_read_whole():
    days = pd.bdate_range("1926-07-01", periods=2_000)
    numbers = np.random.default_rng(2).normal(0.0, 1.0, (len(days), 25)).round(2)
    rows = {f"{day:%Y%m%d}": list(row) for day, row in zip(days, numbers, strict=True)}
    found = values(portfolios_daily(5, rows))
    assert list(found.index) == list(days)
    np.testing.assert_allclose(found, numbers / 100.0, atol=1e-12)
