"""The corpus of tickers through every command that takes a file of prices."""

from __future__ import annotations

import csv
import html
import json

import numpy as np
import pandas as pd
import pytest

from sddp import cli
from tests.tickers import TEXTS

pytestmark = pytest.mark.long

MODEL = (
    *("--window", "45", "--period", "2", "--stages", "2", "--states", "1", "--starts", "1"),
    *("--scenarios", "10", "--iterations", "1", "--cvar-limit", "0.05", "--quiet"),
)
# In a file a line break, and spaces around a name, are the writer's; the reader says what it took.
NAMES = [text for text in TEXTS if text == text.strip() and "\n" not in text and "\t" not in text]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prices and holdings under the names of the corpus, and once more under plain ones."""
    where = tmp_path_factory.mktemp("tickers")
    rng = np.random.default_rng(1)
    steps = rng.normal(0.0005, 0.01, (60, len(NAMES))) + rng.normal(0.0, 0.006, (60, 1))
    dates = pd.bdate_range("2020-01-01", periods=60)
    for kind, names in (("odd", NAMES), ("plain", [f"asset{i}x" for i in range(len(NAMES))])):
        table = pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, names)
        table.to_csv(where / f"{kind}.csv", index_label="day of trading")
        held = [["asset", "money"], ["cash", 1000], *([n, 10 + i] for i, n in enumerate(names))]
        with (where / f"{kind}_holdings.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(held)
        objects = {"unit": "money", "holdings": {"cash": 1000, **dict(held[2:])}}
        (where / f"{kind}_holdings.json").write_text(json.dumps(objects), encoding="utf-8")
    return where


@pytest.fixture
def run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def answer(*arguments: str):
        assert cli.main(list(arguments)) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return answer


def test_there_are_two_hundred_names():
    assert len(NAMES) >= 200


def test_data_check_reports_every_name(run, folder):
    found = run("data", "check", "odd.csv", "--html", "report.html", "--quiet")
    assert [asset["name"] for asset in found["assets"]] == NAMES
    assert "<script>alert" not in (folder / "report.html").read_text(encoding="utf-8")


def test_train_and_decide_give_orders_by_name(run, folder):
    """The same as under plain names; holdings from CSV and JSON; a policy from its folder."""
    orders = {}
    for kind in ("odd", "plain"):
        run("train", f"{kind}.csv", *MODEL, "--out", f"{kind}_policy")
        for form in ("csv", "json"):
            held = ("--holdings", f"{kind}_holdings.{form}", "--quiet")
            out = ("--out", f"{kind}_{form}")
            found = run("decide", f"{kind}.csv", "--policy", f"{kind}_policy", *held, *out)
            orders[kind, form] = found["orders"]
    assert [order["asset"] for order in orders["odd", "csv"]] == NAMES
    for key, found in orders.items():
        for one, other in zip(found, orders["odd", "csv"], strict=True):
            assert {**one, "asset": ""} == {**other, "asset": ""}, key
    with (folder / "odd_csv" / "orders.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == NAMES
    page = (folder / "odd_csv" / "decision.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    for name in NAMES:
        assert name in html.unescape(page)


def test_decide_trains_by_itself(run):
    found = run("decide", "odd.csv", *MODEL, "--wealth", "1000")
    assert [order["asset"] for order in found["orders"]] == NAMES


def test_backtest_writes_tables_figures_and_a_page(run, folder):
    walk = ("--start", "2020-03-10", "--seeds", "1", "--paths", "5")
    answers = {
        kind: run("backtest", f"{kind}.csv", *MODEL, *walk, "--out", f"{kind}_out")
        for kind in ("odd", "plain")
    }
    assert answers["odd"]["market"]["assets"] == NAMES
    assert answers["odd"]["summary"] == answers["plain"]["summary"]
    out = folder / "odd_out"
    with (out / "weights.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file))[1:] == ["cash", *NAMES]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["results"]["market"]["assets"] == NAMES


def test_a_name_can_be_left_out(run):
    gone = ("=SUM(A1)", "nan", "7203", '"quoted"')
    options = [text for name in gone for text in ("--without", name)]
    found = run("decide", "odd.csv", *MODEL, *options)
    assert [order["asset"] for order in found["orders"]] == [n for n in NAMES if n not in gone]
