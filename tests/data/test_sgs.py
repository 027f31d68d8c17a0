"""The central bank's service: windows, answers as recorded, and answers gone wrong."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources import sgs
from sddp.data.sources.download import DownloadError
from sddp.errors import DataError
from tests.data.services import DOWN, NOT_FOUND, TOO_LONG, sgs_answer, sgs_json

# As the service answers for 10813 in January 2008.
RECORDED = b"""[{"data":"02/01/2008","valor":"1.7695"},{"data":"03/01/2008","valor":"1.7571"},
{"data":"04/01/2008","valor":"1.7593"}]
"""
DAY = pd.Timedelta(days=1)


def stretches(start, end):
    return list(sgs.windows(pd.Timestamp(start), pd.Timestamp(end)))


def test_a_recorded_answer():
    values = sgs.parse(RECORDED, "here")
    assert [f"{day:%Y-%m-%d}" for day in values.index] == ["2008-01-02", "2008-01-03", "2008-01-04"]
    assert values.tolist() == [1.7695, 1.7571, 1.7593]


def test_the_address_is_the_documented_one():
    window = (pd.Timestamp(2016, 8, 20), pd.Timestamp(2026, 8, 20))
    assert sgs.address(432, window) == (
        "https://api.bcb.gov.br/dados/serie/bcdata.sgs.432/dados"
        "?formato=json&dataInicial=20/08/2016&dataFinal=20/08/2026"
    )


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2000-01-01", "2021-06-02"),
        ("2000-02-29", "2030-03-01"),
        ("2000-01-01", "2009-12-31"),
        ("2000-01-01", "2010-01-01"),
        ("2008-05-05", "2008-05-05"),
    ],
)
def test_windows_join_without_gap_or_overlap_and_are_short_enough(start, end):
    found = stretches(start, end)
    days = [day for first, last in found for day in pd.date_range(first, last)]
    assert days == list(pd.date_range(start, end))
    for first, last in found:
        assert last < first + pd.DateOffset(years=10)


def test_a_series_over_several_windows_is_whole():
    days = pd.bdate_range("1999-06-01", "2025-03-31")
    series = pd.Series(np.arange(len(days)) + 1.0, days)

    def get(url):
        status, body = sgs_answer({12: series}, url.removeprefix("https://api.bcb.gov.br"))
        assert status == 200
        return body

    values = sgs.download(12, stretches("2000-01-01", "2024-12-31"), get)
    pd.testing.assert_series_equal(values, series.loc["2000-01-01":"2024-12-31"], check_freq=False)


def test_windows_without_values_are_left_out_where_a_series_begins_or_ends():
    def get(url):
        if "dataInicial=01/01/2000" in url:
            return RECORDED
        raise DownloadError("no", passing=False, status=404, body=NOT_FOUND)

    assert len(sgs.download(4, stretches("2000-01-01", "2021-01-01"), get)) == 3


def test_a_series_without_any_value_is_an_error():
    def get(url):
        raise DownloadError("no", passing=False, status=404, body=NOT_FOUND)

    with pytest.raises(DataError, match="SGS 4 has no value in the time asked for"):
        sgs.download(4, stretches("2021-01-01", "2021-02-01"), get)


@pytest.mark.parametrize(("status", "body"), [(404, b"<html>no such page"), (406, TOO_LONG)])
def test_other_refusals_are_passed_on(status, body):
    def get(url):
        raise DownloadError(f"HTTP {status}", passing=False, status=status, body=body)

    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        sgs.download(4, stretches("2008-01-01", "2008-02-01"), get)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the answer is empty"),
        (b" \n", "the answer is empty"),
        (
            DOWN,
            "a web page instead of JSON; try again later: <!DOCTYPE HTML> <html><head><title>502",
        ),
        (b'<?xml version="1.0" encoding="p', "a web page instead of JSON"),
        (RECORDED[:50], "no JSON"),
        (TOO_LONG, "a message instead of values"),
        (b'[{"data":"2008-01-02","valor":"1.7"}]', "is not"),
        (b'[{"data":"02/01/2008","valor":"1,7695"}]', "'1,7695'"),
        (b'[{"data":"02/01/2008","valor":"NaN"}]', "'NaN'"),
        (b'[{"data":"02/01/2008"}]', "is not"),
        (b'["02/01/2008"]', "is not"),
    ],
)
def test_an_answer_gone_wrong_is_named(body, words):
    with pytest.raises(DataError) as caught:
        sgs.download(10813, stretches("2008-01-01", "2008-01-31"), lambda url: body)
    assert words in str(caught.value)
    assert "bcdata.sgs.10813" in str(caught.value)


def test_an_empty_value_is_left_out():
    body = b'[{"data":"02/01/2008","valor":""},{"data":"03/01/2008","valor":"1.5"}]'
    assert sgs.parse(body, "here").tolist() == [1.5]


def test_an_answer_for_other_days_is_rejected():
    with pytest.raises(DataError, match="holds a value of 2008-01-02, not asked for"):
        sgs.download(10813, stretches("2008-01-03", "2008-01-31"), lambda url: RECORDED)


def test_a_hole_between_windows_is_found():
    days = pd.bdate_range("2000-01-03", "2021-12-31")
    series = pd.Series(1.0, days)
    whole = stretches("2000-01-01", "2021-12-31")

    def get(url):
        if "dataInicial=01/01/2010" in url:
            raise DownloadError("no", passing=False, status=404, body=NOT_FOUND)
        return sgs_answer({1: series}, url.removeprefix("https://api.bcb.gov.br"))[1]

    with pytest.raises(DataError, match="no value between 2009-12-31 and 2020-01-01"):
        sgs.download(1, whole, get)


def save(folder, code, *answers):
    for i, values in enumerate(answers):
        (folder / f"sgs_{code}_{i}.json").write_bytes(sgs_json(values))


def test_answers_saved_by_hand_may_overlap(tmp_path):
    days = pd.bdate_range("2008-01-01", periods=8)
    values = pd.Series(np.arange(8.0) + 1.0, days)
    save(tmp_path, 12, values.iloc[3:], values.iloc[:5])
    save(tmp_path, 1, values * 2.0)
    pd.testing.assert_series_equal(sgs.read_saved(12, tmp_path), values, check_freq=False)


def test_two_values_for_one_day_are_rejected(tmp_path):
    values = pd.Series([1.0, 2.0], pd.bdate_range("2008-01-01", periods=2))
    save(tmp_path, 12, values, values * 1.1)
    with pytest.raises(DataError, match="SGS 12 has two different values for 2008-01-01"):
        sgs.read_saved(12, tmp_path)


def test_saved_answers_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match=r"holds no file sgs_12_\*\.json"):
        sgs.read_saved(12, tmp_path)
