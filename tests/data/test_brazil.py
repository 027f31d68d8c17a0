"""``sddp data fetch brazil`` from end to end, against a local service in the recorded format."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.brazil_prices import read_prices
from sddp.data.sources.download import DownloadError, read_url
from tests.data.fetching import fetch_main
from tests.data.services import NOT_FOUND, brazilian_series, serving, sgs_answer, sgs_json
from tests.reference_data import REPOSITORY

HOST = "https://api.bcb.gov.br"


def main(arguments, get=None) -> int:
    return fetch_main("brazil", arguments, get)


RANGE = ["--start", "2007-12-31", "--end", "2020-12-31"]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def recorded(series):
    """A fetch that answers as the service would, without a network."""

    def get(url):
        status, body = sgs_answer(series, url.removeprefix(HOST))
        if status != 200:
            raise DownloadError(f"HTTP {status}", passing=False, status=status, body=body)
        return body

    return get


@pytest.mark.long
def test_download_over_http_to_a_file_that_reads_back(tmp_path, capsys):
    series = brazilian_series()
    out = tmp_path / "new" / "prices.csv"
    with serving(lambda path: sgs_answer(series, path)) as base:
        assert main([*RANGE, "--out", str(out)], get=lambda u: read_url(base + u[len(HOST) :])) == 0
    prices, cash_rate = read_prices(out)

    common = series[7].index.intersection(series[4].index)
    assert list(prices.index) == list(common[1:])
    for name, code in {"ibov": 7, "gold": 4, "usd": 10813, "eur": 21620}.items():
        np.testing.assert_array_equal(prices[name], series[code][prices.index])
    whole = np.prod(1.0 + series[12].loc[common[0] : common[-2]] / 100.0)
    skipped = series[12].loc[common[-2] : common[-1]].iloc[1:-1]
    whole *= np.prod(1.0 + skipped / 100.0)
    assert np.prod(1.0 + cash_rate) == pytest.approx(whole, rel=1e-9)

    printed = capsys.readouterr()
    assert json.loads(printed.out)["rows"] == len(prices)
    assert "usd: 3394 values, 2007-12-31 to 2020-12-31" in printed.err
    assert "SGS 4 (gold) was discontinued on 2019-09-30" in printed.err
    assert sorted(file.name for file in out.parent.iterdir()) == ["prices.csv", "prices.csv.json"]


def test_the_sidecar_names_source_side_unit_and_dropped_days(tmp_path):
    series = brazilian_series()
    out = tmp_path / "prices.csv"
    assert main([*RANGE, "--out", str(out)], get=recorded(series)) == 0
    about = json.loads((tmp_path / "prices.csv.json").read_text(encoding="utf-8"))
    assert about["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert about["rows"] == len(out.read_text().splitlines()) - 1
    columns = about["columns"]
    assert {name: column["code"] for name, column in columns.items()} == {
        "ibov": 7,
        "gold": 4,
        "usd": 10813,
        "eur": 21620,
        "cdi": 12,
    }
    assert columns["gold"]["unit"] == "BRL per gram"
    assert columns["gold"]["ended"] == "2019-09-30"
    assert "purchase: the sale rate, SGS 1, lies 0.040%" in columns["usd"]["side"]
    assert "purchase: the sale rate, SGS 21619, lies 0.060%" in columns["eur"]["side"]
    assert columns["cdi"]["converted"] == "from percent a day"
    assert columns["usd"]["urls"] == [
        f"{HOST}/dados/serie/bcdata.sgs.10813/dados?formato=json&dataInicial={first}&dataFinal={last}"
        for first, last in (("31/12/2007", "30/12/2017"), ("31/12/2017", "31/12/2020"))
    ]
    lost = series[10813].loc[:"2019-09-30"].index.difference(series[7].index)
    assert about["dropped_days"] == len(about["dropped"]) >= len(lost)
    assert "ibov" in about["dropped"][f"{lost[0]:%Y-%m-%d}"]


def test_sides_taken_for_each_other_are_found_out(tmp_path, capsys):
    series = brazilian_series()
    series[21619], series[21620] = series[21620], series[21619]
    assert main([*RANGE, "--out", str(tmp_path / "prices.csv")], get=recorded(series)) == 1
    assert "SGS 21619 lies -0.060% above SGS 21620 (eur)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_cdi_served_as_decimals_is_not_divided_again(tmp_path, capsys):
    series = brazilian_series()
    series[12] = series[12] / 100.0
    assert main([*RANGE, "--out", str(tmp_path / "prices.csv")], get=recorded(series)) == 1
    assert "SGS 12: the median is 0.0002462" in capsys.readouterr().err


@pytest.mark.long
def test_index_and_gold_are_continued_from_files(tmp_path, capsys):
    series = brazilian_series()
    days = pd.bdate_range("2019-06-03", "2020-12-31")
    arguments = [*RANGE, "--out", str(tmp_path / "prices.csv")]
    for name, code in {"ibov": 7, "gold": 4}.items():
        more = series[code].reindex(days).ffill()
        more.rename_axis("date").to_frame(name).to_csv(tmp_path / f"{name}.csv")
        arguments += [f"--{name}", str(tmp_path / f"{name}.csv")]
    assert main(arguments, get=recorded(series)) == 0
    assert "discontinued" not in capsys.readouterr().err
    prices, _ = read_prices(tmp_path / "prices.csv")
    assert f"{prices.index[-1]:%Y-%m-%d}" == "2020-12-31"
    about = json.loads((tmp_path / "prices.csv.json").read_text())["columns"]["ibov"]["continued"]
    assert about["file"] == "ibov.csv"
    assert about["sha256"] == hashlib.sha256((tmp_path / "ibov.csv").read_bytes()).hexdigest()
    assert about["divided_by"] == pytest.approx(1.0)


@pytest.mark.long
def test_answers_saved_by_hand_give_the_same_file(tmp_path):
    series = brazilian_series()
    (tmp_path / "saved").mkdir()
    for code, values in series.items():
        for year, part in values.groupby(values.index.year // 5):
            (tmp_path / "saved" / f"sgs_{code}_{year}.json").write_bytes(sgs_json(part))
    fetched, saved = tmp_path / "fetched.csv", tmp_path / "by_hand.csv"
    assert main([*RANGE, "--out", str(fetched)], get=recorded(series)) == 0

    def nobody(url):
        pytest.fail("asked the network")

    assert main([*RANGE, "--out", str(saved), "--saved", str(tmp_path / "saved")], get=nobody) == 0
    assert saved.read_bytes() == fetched.read_bytes()
    about = json.loads((tmp_path / "by_hand.csv.json").read_text())["columns"]["usd"]
    assert set(about["files"]) == {f"sgs_10813_{year}.json" for year in (401, 402, 403, 404)}


def test_a_host_out_of_reach_is_said_with_the_way_by_hand(tmp_path, capsys):
    def nowhere(url):
        raise DownloadError(f"{url} cannot be reached: no network", passing=True)

    assert main(["--out", str(tmp_path / "prices.csv")], get=nowhere) == 1
    printed = capsys.readouterr().err
    assert "cannot be reached: no network" in printed
    assert "--saved FOLDER" in printed
    assert "1, 4, 7, 12, 10813, 21619, 21620" in printed
    assert "bcdata.sgs.10813/dados?formato=json&dataInicial=01/01/2000" in printed
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_found_before_anything_is_fetched(tmp_path, capsys):
    (tmp_path / "file").write_text("")

    def nobody(url):
        pytest.fail("fetched")

    assert main(["--out", str(tmp_path / "file" / "prices.csv")], get=nobody) == 1
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x.csv", "--start", "01/02/2008"], "'01/02/2008': must be a date, YYYY-MM-DD"),
        ([], "--out"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err


def test_an_end_before_the_start(tmp_path, capsys):
    given = ["--start", "2020-01-01", "--end", "2019-01-01"]
    assert main([*given, "--out", str(tmp_path / "x.csv")]) == 1
    assert "--start 2020-01-01: must lie before --end 2019-01-01" in capsys.readouterr().err


@pytest.mark.long
def test_ctrl_c_in_a_download_leaves_nothing(tmp_path):
    """The service has answered two requests and lets the third one wait."""
    series, release, third = brazilian_series(), threading.Event(), threading.Event()
    asked: list[str] = []

    def respond(path):
        asked.append(path)
        if len(asked) < 3:
            return sgs_answer(series, path)
        third.set()
        release.wait(20.0)
        return 404, NOT_FOUND

    code = (
        "import sys; from sddp import cli; from sddp.data.sources import download; "
        "download.fetch = lambda url: download.read_url(sys.argv[1] + url[22:]); "
        "sys.exit(cli.main(['data', 'fetch', 'brazil', *sys.argv[2:]]))"
    )
    assert len(HOST) == 22
    with serving(respond) as base:
        process = subprocess.Popen(
            [sys.executable, "-c", code, base, *RANGE, "--out", str(tmp_path / "prices.csv")],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert third.wait(20.0)
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=20.0)
        release.set()
    assert process.returncode == 130
    assert printed.splitlines()[-1] == "interrupted: no file is half-written"
    assert "Traceback" not in printed
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["brazil", "french"])
def test_both_downloads_are_commands(source, capsys):
    with pytest.raises(SystemExit) as ended:
        fetch_main(source, ["--help"], None)
    assert ended.value.code == 0
    assert "--saved" in capsys.readouterr().out
