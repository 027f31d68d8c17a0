"""Files as they come: each gives its table, or is refused with its sentence and remedy."""

from __future__ import annotations

import csv
import gzip
import io
import re

import numpy as np
import pandas as pd
import pytest

from sddp.data import Reading, read_factors, read_prices, read_returns
from sddp.errors import DataError
from tests.data.corpus import CORPUS, DAYS, PLAIN, PRICES, Case
from tests.tickers import TEXTS

READERS = {"prices": read_prices, "returns": read_returns, "factors": read_factors}


def read(case: Case, path, **options) -> Reading:
    return READERS[case.kind](path, **{**case.options, **options})


def expect(case: Case, reading: Reading) -> None:
    found = reading.table
    assert list(found.index) == list(pd.DatetimeIndex(case.dates))
    assert list(found.columns) == list(case.columns)
    for name, values in case.columns.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, atol=1e-15)


def test_the_corpus_is_large_and_its_names_differ():
    assert len(CORPUS) >= 60
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_corpus(case, tmp_path):
    path = tmp_path / case.file
    path.write_bytes(case.data)
    if case.words is None:
        reading = read(case, path)
        expect(case, reading)
        assert re.search(case.says or "", str(reading.report)), str(reading.report)
        return
    with pytest.raises(DataError) as caught:
        read(case, path)
    message = str(caught.value)
    assert re.search(case.words, message), message
    assert message.startswith(f"{case.kind} {path}: ")
    assert "\n" not in message
    if case.instead is not None:  # the remedy that the message names
        expect(case, read(case, path, **case.instead))


# --- what is no text file ---


def frame(index=None) -> pd.DataFrame:
    return pd.DataFrame(PRICES, index=pd.DatetimeIndex(DAYS) if index is None else index)


def same(reading: Reading, dates=DAYS, labels=("A", "B")) -> None:
    assert list(reading.table.index) == list(pd.DatetimeIndex(dates))
    assert list(reading.table.columns) == list(labels)
    np.testing.assert_array_equal(reading.table.to_numpy(), frame().to_numpy())


def test_a_workbook(tmp_path):
    pytest.importorskip("openpyxl", reason="Excel files need openpyxl")
    path = tmp_path / "p.xlsx"
    frame().rename_axis("Date").to_excel(path)
    reading = read_prices(path)
    same(reading)
    assert "Excel, sheet 'Sheet1'" in str(reading.report)
    with pd.ExcelWriter(path) as book:
        frame().to_excel(book, sheet_name="mine")
        (2.0 * frame()).to_excel(book, sheet_name="other")
    with pytest.raises(DataError, match="sheets 'mine', 'other'; choose by sheet"):
        read_prices(path)
    same(read_prices(path, sheet="mine"))
    with pytest.raises(DataError, match="sheet='none'"):
        read_prices(path, sheet="none")


def test_a_workbook_with_merged_header_and_numbers_for_names(tmp_path):
    pytest.importorskip("openpyxl", reason="Excel files need openpyxl")
    levels = pd.MultiIndex.from_product(
        [["Close", "Volume"], [7203, "B"]], names=["Price", "Ticker"]
    )
    table = pd.DataFrame(np.hstack([frame().to_numpy(), np.ones((3, 2))]), frame().index, levels)
    table.to_excel(tmp_path / "p.xlsx")
    same(read_prices(tmp_path / "p.xlsx"), labels=("7203", "B"))


def test_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    frame().to_parquet(tmp_path / "p.parquet")
    same(read_prices(tmp_path / "p.parquet"))
    long = frame().rename_axis("date").reset_index().melt("date", var_name="ticker")
    long.to_parquet(tmp_path / "long.parquet")
    same(read_prices(tmp_path / "long.parquet"))


@pytest.mark.parametrize(("start", "package"), [(b"PK\x03\x04", "openpyxl"), (b"PAR1", "pyarrow")])
def test_a_library_that_is_not_there_is_named(start, package, monkeypatch):
    def absent(*_, **__):
        raise ImportError(package)

    monkeypatch.setattr(pd, "read_excel", absent)
    monkeypatch.setattr(pd, "read_parquet", absent)
    with pytest.raises(DataError, match=rf"need the package {package}: pip install"):
        read_prices(io.BytesIO(start + b"..."))


def test_an_archive_and_an_open_file(tmp_path):
    (tmp_path / "p.csv.gz").write_bytes(gzip.compress(PLAIN.encode()))
    same(read_prices(tmp_path / "p.csv.gz"))
    same(read_prices(io.BytesIO(PLAIN.encode())))
    same(read_prices(io.StringIO(PLAIN)))
    with open(tmp_path / "p.csv", "w+b") as file:
        file.write(PLAIN.encode())
        file.seek(0)
        same(read_prices(file))


@pytest.mark.parametrize("path", ["none.csv", ".", "no\0name"])
def test_a_path_that_is_no_file(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"--prices .*: the file cannot be read"):
        read_prices(path, argument="--prices")


# --- DataFrames ---


@pytest.mark.parametrize(
    ("index", "dates"),
    [
        (pd.DatetimeIndex(DAYS, tz="America/New_York"), DAYS),
        (pd.DatetimeIndex(DAYS, tz="UTC"), DAYS),
        (pd.DatetimeIndex([f"{day} 16:00" for day in DAYS], tz="America/New_York"), DAYS),
        (
            pd.PeriodIndex(["2020-01", "2020-02", "2020-03"], freq="M"),
            ("2020-01-31", "2020-02-29", "2020-03-31"),
        ),
        (pd.PeriodIndex(DAYS, freq="D"), DAYS),
        (pd.Index(DAYS), DAYS),
        (pd.Index([int(day.replace("-", "")) for day in DAYS]), DAYS),
        (pd.Index([pd.Timestamp(day).date() for day in DAYS]), DAYS),
        (pd.Index([2018, 2019, 2020]), ("2018-12-31", "2019-12-31", "2020-12-31")),
    ],
    ids=repr,
)
def test_indices(index, dates):
    same(read_prices(frame(index)), dates)


def test_a_close_in_utc_is_not_taken_for_a_day():
    index = pd.DatetimeIndex([f"{day} 21:00" for day in DAYS], tz="UTC")
    with pytest.raises(DataError, match="stamped 21:00 UTC"):
        read_prices(frame(index))
    same(read_prices(frame(index), time_zone="America/New_York"))
    with pytest.raises(DataError, match="time_zone='Mars'"):
        read_prices(frame(index), time_zone="Mars")
    with pytest.raises(DataError, match="no time zone to convert from"):
        read_prices(frame(), time_zone="UTC")


def test_labels_of_a_dataframe_stay_as_they_are():
    labels = [7203, ("Gold", "oz")]
    table = frame()
    table.columns = pd.Index(labels, tupleize_cols=False)
    same(read_prices(table), labels=labels)
    pairs = pd.MultiIndex.from_tuples([("tech", 1), ("bank", 2)])
    same(read_prices(frame().set_axis(pairs, axis=1)), labels=list(pairs))


def test_dates_in_a_column_of_a_dataframe():
    same(read_prices(frame().rename_axis("Date").reset_index()))
    same(read_prices(frame().rename_axis("when").reset_index()))
    with pytest.raises(DataError, match="numbers that are no dates"):
        read_prices(frame(pd.RangeIndex(3)))


def test_the_usual_download_as_a_dataframe():
    levels = pd.MultiIndex.from_product([["Close", "High"], ["A", "B"]], names=["Price", "Ticker"])
    values = np.hstack([frame().to_numpy(), np.full((3, 2), 9999.0)])
    same(read_prices(pd.DataFrame(values, frame().index, levels)))
    turned = pd.DataFrame(values, frame().index, levels).swaplevel(axis=1)
    same(read_prices(turned))


def test_a_table_with_pairs_of_date_and_asset_in_its_index():
    pairs = frame().rename_axis("date").stack().rename_axis(["date", "ticker"]).to_frame("close")
    same(read_prices(pairs))


def test_missing_dates_are_rejected():
    table = frame(pd.DatetimeIndex([DAYS[0], pd.NaT, DAYS[2]]))
    with pytest.raises(DataError, match="row 1 has no date"):
        read_prices(table)


def test_an_unknown_option_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="unknown option 'dayfirst'"):
        read_prices(frame(), dayfirst=True)
    for option, value in (("keep", "all"), ("decimal", "·"), ("date_format", "d/m/y")):
        with pytest.raises(DataError, match=rf"{option}='.*--{option.replace('_', '-')}.*must be"):
            read_prices(io.BytesIO(PLAIN.encode()), **{option: value})


# --- numbers survive to the bit ---


def test_numbers_are_read_to_the_last_bit(tmp_path):
    rng = np.random.default_rng(7)
    values = np.exp(rng.normal(0.0, 0.02, (400, 3)).cumsum(axis=0)) * [1e-4, 1.0, 1e7]
    dates = pd.bdate_range("2001-01-01", periods=400, name="date")
    table = pd.DataFrame(values, dates, ["x", "y", "z"])
    table.to_csv(tmp_path / "p.csv")
    pd.testing.assert_frame_equal(
        read_prices(tmp_path / "p.csv").table,
        table.set_axis(dates.as_unit("us")),
        check_exact=True,
        check_freq=False,
    )


# --- names ---


@pytest.mark.parametrize(("delimiter", "decimal"), [(",", "."), (";", ","), ("\t", ".")])
def test_names_of_all_kinds_are_read_as_they_stand(delimiter, decimal, tmp_path):
    """Wide and long; of blanks around a name nothing is kept, and one of blanks is none."""
    names = [name for name in TEXTS if name.strip()]
    levels = 100.0 + np.arange(10.0)[:, None] * 1.25 + np.arange(len(names)) / 8.0
    dates = [f"2020-01-{day:02d}" for day in range(6, 16)]
    wide, long = tmp_path / "wide.csv", tmp_path / "long.csv"
    numbers = [[repr(x).replace(".", decimal) for x in row] for row in levels.tolist()]
    with wide.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["date", *names])
        writer.writerows([day, *row] for day, row in zip(dates, numbers, strict=True))
    with long.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["date", "ticker", "close"])
        for day, row in zip(dates, numbers, strict=True):
            writer.writerows([day, *pair] for pair in zip(names, row, strict=True))
    for path in (wide, long):
        table = read_prices(path).table
        assert list(table.columns) == [name.strip() for name in names]
        np.testing.assert_array_equal(table.to_numpy(), levels)
    assert "blanks around the names" in str(read_prices(wide).report)
