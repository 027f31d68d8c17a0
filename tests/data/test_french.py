"""``sddp data fetch french`` on zip files in the library's format, and the readers."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.download import DownloadError, read_url
from sddp.data.sources.french import DATASETS, LIBRARY
from sddp.data.sources.french_returns import read_factors, read_returns
from sddp.errors import DataError
from tests.data.fetching import fetch_main
from tests.data.library import FIVE_FACTORS, FIVE_FACTORS_DAILY, portfolios, portfolios_daily
from tests.data.services import DOWN, serving, zipped
from tests.reference_data import reference_path


def main(arguments, get) -> int:
    return fetch_main("french", arguments, get)


MONTHS = ("192607", "192608", "192609")
DAYS = ("19260701", "19260702", "19260706")


def rows(dates, n_columns):
    numbers = np.random.default_rng(4).normal(0.5, 4.0, (len(dates), n_columns)).round(2)
    numbers[0, 0] = -99.99
    return {date: list(row) for date, row in zip(dates, numbers, strict=True)}


@pytest.fixture
def library():
    """The library's zip files by name."""
    return {
        "F-F_Research_Data_5_Factors_2x3_CSV.zip": zipped(FIVE_FACTORS),
        "25_Portfolios_5x5_CSV.zip": zipped(portfolios(5, rows(MONTHS, 25))),
        "100_Portfolios_10x10_CSV.zip": zipped(portfolios(10, rows(MONTHS, 100))),
        "100_Portfolios_ME_OP_10x10_CSV.zip": zipped(portfolios(10, rows(MONTHS, 100), "OP")),
        "F-F_Research_Data_5_Factors_2x3_daily_CSV.zip": zipped(FIVE_FACTORS_DAILY),
        "25_Portfolios_5x5_Daily_CSV.zip": zipped(portfolios_daily(5, rows(DAYS, 25))),
    }


def fetching(library):
    return lambda url: library[url.removeprefix(LIBRARY)]


def test_all_data_sets_over_http(tmp_path, library, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(lambda path: (200, library[path.removeprefix("/")])) as base:
        get = lambda url: read_url(base + "/" + url.removeprefix(LIBRARY))  # noqa: E731
        assert main(["--out", str(tmp_path / "french"), "--daily"], get=get) == 0
    written = sorted(file.name for file in (tmp_path / "french").iterdir())
    assert written == sorted(f"{d.name}.csv{end}" for d in DATASETS for end in ("", ".json"))
    factors, rf = read_factors(tmp_path / "french" / "ff5_monthly.csv")
    assert list(factors.columns) == ["mkt_rf", "smb", "hml", "rmw", "cma"]
    assert rf.tolist() == [0.0027, 0.0025, 0.0027]
    found = read_returns(tmp_path / "french" / "size_op_100_monthly.csv")
    wanted = np.array(list(rows(MONTHS, 100).values())) / 100.0
    wanted[0, 0] = np.nan
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert (found.columns[0], found.columns[-1]) == ("small_loop", "big_hiop")
    assert "size_bm_25_daily: 3 rows" in capsys.readouterr().err


def test_monthly_only_unless_asked(tmp_path, library):
    assert main(["--out", str(tmp_path)], get=fetching(library)) == 0
    assert not list(tmp_path.glob("*daily*"))
    assert len(list(tmp_path.glob("*.csv"))) == 4


def test_the_sidecar_holds_vintage_and_checksums(tmp_path, library):
    assert main(["--out", str(tmp_path)], get=fetching(library)) == 0
    about = json.loads((tmp_path / "size_bm_25_monthly.csv.json").read_text())
    archive = library["25_Portfolios_5x5_CSV.zip"]
    assert about["vintage"] == "202105"
    assert about["source"] == LIBRARY + "25_Portfolios_5x5_CSV.zip"
    assert about["source_sha256"] == hashlib.sha256(archive).hexdigest()
    assert about["missing_cells"] == 1
    assert about["unit"] == "simple decimal return, monthly"
    assert about["copyright"] == "Copyright 2021 Kenneth R. French"
    assert len(about["tables_in_source"]) == 7
    table = (tmp_path / "size_bm_25_monthly.csv").read_bytes()
    assert about["sha256"] == hashlib.sha256(table).hexdigest()


def test_zip_files_saved_by_hand(tmp_path, library, capsys):
    saved = tmp_path / "saved"
    saved.mkdir()
    for name, archive in library.items():
        (saved / name).write_bytes(archive)

    def nobody(url):
        pytest.fail("asked the network")

    assert main(["--out", str(tmp_path / "out"), "--saved", str(saved)], get=nobody) == 0
    (saved / "25_Portfolios_5x5_CSV.zip").unlink()
    assert main(["--out", str(tmp_path / "second"), "--saved", str(saved)], get=nobody) == 1
    assert f"save {LIBRARY}25_Portfolios_5x5_CSV.zip there" in capsys.readouterr().err
    assert not list((tmp_path / "second").iterdir())


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (DOWN, "is no zip file .*502 Bad Gateway"),
        (b"", "is no zip file"),
        (zipped("x", "readme.txt"), "holds no CSV file"),
        (zipped(portfolios(2, rows(MONTHS, 4))), "has 4 columns, not 25"),
        (
            zipped(portfolios(5, rows(MONTHS, 25)).replace("Value Weighted", "Value")),
            "holds 0 times",
        ),
        (
            zipped(
                portfolios(5, rows(MONTHS, 25)).replace("Returns --", "Returns, no Dividends --")
            ),
            "holds 0 times",
        ),
        (zipped(FIVE_FACTORS), r"holds 0 times .* its tables are .*Annual Factors"),
        (zipped(portfolios(5, rows(MONTHS, 25)).replace("Equal", "Value")), "holds 2 times"),
    ],
    ids=["page", "empty", "no CSV", "columns", "no table", "no total returns", "factors", "twice"],
)
def test_an_archive_that_is_not_the_one_is_named(tmp_path, library, capsys, archive, words):
    library["25_Portfolios_5x5_CSV.zip"] = archive
    assert main(["--out", str(tmp_path)], get=fetching(library)) == 1
    printed = capsys.readouterr().err
    assert "25_Portfolios_5x5_CSV.zip" in printed.splitlines()[-1]
    assert pd.Series([printed]).str.contains(words).all()
    assert not list(tmp_path.iterdir())  # not even the data set before it


def test_two_files_in_an_archive(tmp_path, library, capsys):
    import io
    import zipfile

    buffer = io.BytesIO(library["25_Portfolios_5x5_CSV.zip"])
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("other.csv", "x")
    library["25_Portfolios_5x5_CSV.zip"] = buffer.getvalue()
    assert main(["--out", str(tmp_path)], get=fetching(library)) == 1
    assert "['file.CSV', 'other.csv']; one CSV file is needed" in capsys.readouterr().err


def test_a_byte_order_mark_and_another_encoding(tmp_path, library):
    text = FIVE_FACTORS.replace("Ibbotson and Associates", "Ibbotson & Associés")
    plain = tmp_path / "plain"
    assert main(["--out", str(plain)], get=fetching(library)) == 0
    for encoding in ("utf-8-sig", "cp1252"):
        library["F-F_Research_Data_5_Factors_2x3_CSV.zip"] = zipped(text.encode(encoding))
        out = tmp_path / encoding
        assert main(["--out", str(out)], get=fetching(library)) == 0
        name = "ff5_monthly.csv"
        assert (out / name).read_bytes() == (plain / name).read_bytes()


def test_no_network_and_ctrl_c(tmp_path, library, capsys):
    def nowhere(url):
        raise DownloadError(f"{url} cannot be reached: no network", passing=True)

    assert main(["--out", str(tmp_path)], get=nowhere) == 1
    assert LIBRARY + "100_Portfolios_ME_OP_10x10_CSV.zip" in capsys.readouterr().err
    asked: list[str] = []

    def interrupted(url):
        asked.append(url)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return fetching(library)(url)

    assert main(["--out", str(tmp_path)], get=interrupted) == 130
    assert not list(tmp_path.iterdir())


ENDS = pd.date_range("1963-07-31", periods=6, freq="ME")


def written(header, *numbers) -> str:
    """A file with one row of numbers repeated, its sign changing."""
    lines = [
        ",".join([f"{day:%Y-%m-%d}", *(f"{n * (-1) ** i:g}" for n in numbers)])
        for i, day in enumerate(ENDS)
    ]
    return "\n".join([header, *lines, ""])


@pytest.mark.parametrize(
    ("text", "read", "words"),
    [
        (written("date,a,b", 1, 2), read_returns, "if 1.5 is 1.5 %"),
        (written("date,mkt_rf,rf", 3, 1), read_factors, "if 1.5 is 1.5 %"),
        (written("date,a,b,c", 0.1, -1.5, 0.1), read_returns, "b is -1.5 on 1963-07-31"),
        (written("date,mkt_rf,smb", 0.1, 0.1), read_factors, "needs factors and 'rf'"),
        (written("date,rf", 0.1), read_factors, "needs factors and 'rf'"),
        (
            written("date,a,rf", 0.1, 0) + "1964-01-31,,0\n",
            read_factors,
            "a is empty on 1964-01-31",
        ),
    ],
)
def test_readers_reject_what_is_no_decimal_return(tmp_path, text, read, words):
    (tmp_path / "file.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read(tmp_path / "file.csv")


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "shape", "missing"),
    [
        ("size_bm_100_monthly", (1161, 100), 1448),
        ("size_op_100_monthly", (676, 100), 12),
        ("size_bm_25_daily", (24854, 25), 0),
    ],
)
def test_reference_portfolios(name, shape, missing):
    table = read_returns(reference_path(f"data/french/{name}.csv"))
    assert table.shape == shape
    assert int(table.isna().to_numpy().sum()) == missing


@pytest.mark.long
@pytest.mark.parametrize("name", ["ff5_monthly", "ff5_daily"])
def test_reference_factors_have_the_columns_that_we_write(name):
    factors, rf = read_factors(reference_path(f"data/french/{name}.csv"))
    assert list(factors.columns) == ["mkt_rf", "smb", "hml", "rmw", "cma"]
    assert 0.0 <= rf.min() <= rf.max() < 0.02


@pytest.mark.parametrize(
    ("name", "size", "second"),
    [
        ("size_bm_25_monthly", 5, "BM"),
        ("size_bm_100_monthly", 10, "BM"),
        ("size_op_100_monthly", 10, "OP"),
    ],
)
def test_our_column_names_are_those_of_the_reference_files(name, size, second):
    from sddp.data.sources.french_format import column_name
    from tests.data.library import names

    header = reference_path(f"data/french/{name}.csv").read_text().splitlines()[0]
    assert header.split(",") == ["date", *map(column_name, names(size, second))]
