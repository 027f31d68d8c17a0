from __future__ import annotations

import base64
import html
import io
import os
from dataclasses import dataclass, field
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sddp.backtest import BacktestResult, BuyAndHold, EqualWeight, HoldCash, Ledger, backtest
from sddp.display.png import DPI
from sddp.errors import DataError, ModelError
from sddp.evaluation import summary
from sddp.evaluation.reports import findings
from sddp.evaluation.reports.report_data import collect
from sddp.market import Market
from sddp.reporting import ReportOptions
from sddp.reporting.gallery import gallery
from sddp.reporting.html import opened, write_html
from sddp.reporting.html_elements import (
    facts,
    interval,
    money,
    number,
    p_value,
    percent,
    plain,
    typeset,
)
from tests.backtest.modeled import Modeled

HOSTILE = "<script>alert('1')</script> & \"co\" $x$"
NBSP, MINUS = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}"
SECTIONS = [
    *("strategies", "metrics", "differences", "risk_forecasts", "years", "holdings"),
    *("trailing", "rolling", "allocation", "regimes", "trading", "provenance"),
]


@dataclass
class Page(HTMLParser):
    """What a browser finds in a page: tags, links, pictures, sections and tables of text."""

    text: str
    tags: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.links += [found[name] for name in ("src", "href", "srcset", "action") if name in found]
        if "id" in found and tag == "section":
            self.identifiers.append(found["id"])
        if tag == "img":
            self.images.append(found)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_data(self, data):
        self.words.append(data)
        inside = self.tables and self.tables[-1] and self.tables[-1][-1]
        if inside and self.tags[-1] in ("th", "td", "span"):
            self.tables[-1][-1][-1] += ("|" if self.tags[-1] == "span" else "") + data.strip()

    def handle_endtag(self, tag):
        # What follows a cell is not in it.
        self.tags.append(f"/{tag}")

    def table(self, first_column: str) -> pd.DataFrame:
        """The table that has a column of this heading, by strategy."""
        (rows,) = [table for table in self.tables if first_column in table[0]]
        return pd.DataFrame(
            [row[1:] for row in rows[1:]], [row[0] for row in rows[1:]], rows[0][1:]
        )


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(3)
    dates = pd.bdate_range("2018-01-01", periods=330)
    prices = np.cumprod(1.0 + rng.normal(0.0003, 0.01, (330, 2)), axis=0)
    return Market(pd.DataFrame(prices, dates, ["a < b", "gold"]), cash_rate=0.0001)


@pytest.fixture(scope="module")
def report(market):
    strategies = {
        HOSTILE: Modeled(1),
        "1/N": EqualWeight(),
        "held": BuyAndHold({"gold": 0.5}),
        "cash": HoldCash(),
    }
    return backtest(market, strategies, start=market.dates[3], transaction_cost=0.002)


@pytest.fixture(scope="module")
def options(market):
    level = pd.Series(np.linspace(90.0, 110.0, 330), market.dates, name="index & co")
    return ReportOptions(reference="1/N", benchmark="held", market=level, n_draws=100)


@pytest.fixture(scope="module")
def report_data(report, options):
    return collect(report, options, np.random.default_rng(5))


@pytest.fixture(scope="module")
def text(report, options, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    written = write_html(
        report,
        path,
        title="Test of <b>",
        options=options,
        rng=np.random.default_rng(5),
        caveats=["Mind the & gap"],
        provenance={
            "seconds": 12.5,
            "warnings": ["one <i>", "two"],
            "config": {"window": 504, "nested": {"deep": None}},
            "dirty": False,
        },
    )
    assert written == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


@pytest.mark.long
def test_every_section_is_there_and_in_the_contents(page):
    assert page.identifiers == SECTIONS
    assert [link[1:] for link in page.links if link.startswith("#")] == SECTIONS


def test_nothing_is_fetched_and_nothing_runs(page, text):
    assert all(link.startswith(("#", "data:image/")) for link in page.links)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    assert "http://" not in text
    assert "https://" not in text
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(" not in text


def test_pictures_are_embedded_and_described(page):
    assert len(page.images) == 10
    for image in page.images:
        data = base64.b64decode(image["src"].partition(",")[2], validate=True)
        drawing = ElementTree.fromstring(data)
        size = [float(drawing.get(side).removesuffix("pt")) for side in ("width", "height")]
        # Points of a drawing are 3/4 of a pixel of CSS.
        wanted = [0.75 * int(image[side]) for side in ("width", "height")]
        np.testing.assert_allclose(size, wanted, atol=0.4)
        assert b"prefers-color-scheme: dark" in data
        assert len(image["alt"]) > 40
    assert any(HOSTILE in image["alt"] for image in page.images)


def test_a_narrow_screen_gets_pictures_of_its_own(page):
    narrow = [
        link
        for link in page.links
        if link.startswith("data:") and link not in {i["src"] for i in page.images}
    ]
    assert len(narrow) == len(page.images)
    for link in narrow:
        drawing = ElementTree.fromstring(base64.b64decode(link.partition(",")[2]))
        assert float(drawing.get("width").removesuffix("pt")) < 330.0


def test_the_page_opens_with_its_finding_and_caveats_follow(text, report_data):
    said = findings.finding(report_data)
    assert said.startswith("From 2018-01-04 to ")
    assert "of -" in said or "of +" in said  # the difference from the reference
    opening, _, rest = text.partition('class="caveats"')
    assert html.escape(typeset(said), quote=False)[:60] in opening.replace("&#39;", "'")
    assert (
        opening.index('class="finding"') < opening.index('class="figures"') < opening.index("<img")
    )
    assert "Mind the &amp; gap" in rest
    assert "Mind the &amp; gap" not in opening


def test_forecasts_are_set_beside_what_came_of_them(report_data, page):
    checks = report_data.checks()
    tests = report_data.uncertainty.risk_tests
    for name in checks.index:
        expected = tests.loc[name, "realized_cvar"] / tests.loc[name, "forecast_cvar"]
        assert checks.loc[name, "ratio"] == pytest.approx(expected, nan_ok=True)
    table = page.table("Realized over forecast")
    shown = float(table["Realized over forecast"].iloc[0].partition("|")[0])
    assert shown == pytest.approx(checks["ratio"].iloc[0], abs=0.005)


def test_strategies_say_what_they_are(page):
    table = page.table("What it does")
    assert (table["What it does"].str.len() > 5).all()


def test_names_are_escaped(text, page):
    assert "<script" not in text
    assert "alert('1')" not in text
    words = "".join(page.words)
    for name in (HOSTILE, "Test of <b>", "Mind the & gap", "a < b", "one <i>"):
        assert name in words


def test_the_tables_hold_the_numbers_of_the_summary(report, page):
    table_of = summary(report, confidence=0.9, benchmark="held")
    table, losses = page.table("Sortino ratio"), page.table(f"CVaR 90{NBSP}%, one row")
    trading, against = page.table("Mean share of cash"), page.table("Beta")
    assert list(table.index) == list(table_of.index)

    def read(cell: str) -> float:
        return float(cell.partition("|")[0].replace(MINUS, "-").replace(f"{NBSP}%", ""))

    for name, row in table_of.iterrows():
        shown = [
            (table, "Return, a year", 100.0 * row["annualized_return"], 0.05),
            (table, "Volatility, a year", 100.0 * row["volatility"], 0.05),
            (table, "Final wealth", row["final_wealth"], 0.0005),
            (losses, "Maximum drawdown", 100.0 * row["maximum_drawdown"], 0.05),
            (losses, f"CVaR 90{NBSP}%, one row", 100.0 * row["cvar"], 0.005),
            (trading, "Turnover, times wealth a year", row["turnover"], 0.05),
            (trading, "Costs, of wealth a year", 100.0 * row["cost_drag"], 0.005),
            (trading, "Mean share of cash", 100.0 * row["average_cash"], 0.5),
            (against, "Beta", row["beta"], 0.005),
            (against, "Alpha, a year", 100.0 * row["alpha"], 0.05),
        ]
        for where, column, value, rounding in shown:
            assert read(where.loc[name, column]) == pytest.approx(value, abs=rounding * 1.0001)
    assert table.loc["cash", "Sharpe ratio"] == "\N{EN DASH}"
    peak = f"{table_of.loc['1/N', 'drawdown_peak']:%Y-%m-%d} to "
    assert losses.loc["1/N", "Maximum drawdown"].partition("|")[2].startswith(peak)


def test_intervals_stand_beneath_their_numbers(report_data, page):
    known = report_data.uncertainty.intervals.set_index(["strategy", "metric"])
    row = known.loc[("1/N", "sharpe")]
    low, high = (f"{row[end]:.2f}".replace("-", MINUS) for end in ("low", "high"))
    cell = page.table("Sortino ratio").loc["1/N", "Sharpe ratio"]
    assert cell.endswith(f"|{low} to {high}")
    # No measure is set off from the others.
    assert not {"strong", "b", "mark"} & set(page.tags[page.tags.index("main") :])


def test_differences_come_with_both_p_values(report_data, page):
    known = report_data.uncertainty.differences
    known = known[known["metric"] == "sharpe"].set_index("strategy")
    assert (known["p_value"] < known["adjusted_p_value"] - 0.001).any()
    (rows,) = [table for table in page.tables if "p, adjusted" in table[0]]
    assert [cells[0] for cells in rows[1:]] == [HOSTILE, "held", "cash"]
    for name, value, p, adjusted, *_ in rows[1:3]:
        row = known.loc[name]
        assert float(p) == pytest.approx(row["p_value"], abs=0.0005001)
        assert float(adjusted) == pytest.approx(row["adjusted_p_value"], abs=0.0005001)
        assert value.startswith(f"{row['value']:.2f}".replace("-", MINUS))
    assert rows[3][1:4] == ["\N{EN DASH}"] * 3


def test_forecasts_are_held_against_the_limit(report_data, page):
    row = report_data.forecasts.loc[HOSTILE]
    assert row["low"] < row["realized_cvar"] < row["high"]
    table = page.table("Realized CVaR")
    assert table.loc[HOSTILE, "Limit"] == f"2.00{NBSP}%"
    assert table.loc[HOSTILE, "Losses above the model's VaR"] == (
        f"{row['violations']:.0f}|of {row['n_periods']:.0f}, {row['expected']:.0f} expected"
    )
    ends = f"{100 * row['low']:.2f}{NBSP}% to {100 * row['high']:.2f}{NBSP}%"
    assert table.loc[HOSTILE, "Realized CVaR"].endswith(f"|{ends}")
    assert table.loc["1/N", "Limit"] == "\N{EN DASH}"
    tests = report_data.uncertainty.risk_tests.loc[HOSTILE]
    shown = page.table("p: both").loc[HOSTILE]
    assert shown["p: both"] == p_value(tests["both"])
    assert shown["CVaR given the model's VaR"].startswith(percent(tests["realized_cvar"], 2))


def test_the_run_tells_where_it_comes_from(report, page):
    words = "".join(page.words)
    told = dict(cells for table in page.tables for cells in table if len(cells) == 2)
    assert told["seconds"] == "12.5"
    assert told["window"] == "504"
    assert told["deep"] == "none"
    assert told["dirty"] == "no"
    assert told["warnings"] == "one <i>\ntwo"
    assert "config: nested" in words
    assert told["Execution"] == report.timing
    assert told["Costs charged"].startswith(f"0.200{NBSP}%")
    assert told["Assets"] == "a < b, gold"
    decisions = page.table("Trainings").loc[HOSTILE]
    assert decisions.tolist() == ["325", "65", "1", "162"]


@pytest.mark.long
def test_what_has_no_data_has_no_section(market, tmp_path):
    report = backtest(
        market,
        {"s": EqualWeight()},
        start=market.dates[5],
        end=market.dates[20],
        transaction_cost=0.0,
        lag=0,
    )
    shown = Page(write_html(report, tmp_path / "a.html").read_text(encoding="utf-8"))
    assert shown.identifiers == [
        *("strategies", "metrics", "years", "holdings", "allocation", "trading", "provenance")
    ]
    words = "".join(shown.words)
    assert "No intervals were asked for" in words
    assert "nobody could have done so" in words  # lag 0
    assert "1 strategy, " in words
    assert "None" not in words
    assert f"CVaR 95{NBSP}%, one row" in words


@pytest.mark.long
def test_one_strategy_with_one_asset_and_a_model_has_all_it_can(tmp_path):
    dates = pd.bdate_range("2018-01-01", periods=40)
    market = Market(pd.DataFrame({"a": np.linspace(1.0, 2.0, 40)}, dates))
    report = backtest(market, {"m": Modeled(1)}, start=dates[0], transaction_cost=0.0)
    rng = np.random.default_rng(1)
    page = write_html(report, tmp_path / "a.html", options=ReportOptions(n_draws=100), rng=rng)
    expected = [
        "strategies",
        "metrics",
        "risk_forecasts",
        "years",
        "holdings",
        "allocation",
        "regimes",
        "trading",
        "provenance",
    ]
    assert Page(page.read_text(encoding="utf-8")).identifiers == expected


@pytest.mark.long
def test_the_same_seed_writes_the_same_page(market, tmp_path):
    dates = market.dates[5:45]
    strategies = {"1/N": EqualWeight(), "gold": BuyAndHold({"gold": 1.0})}
    report = backtest(market, strategies, start=dates[0], end=dates[-1], transaction_cost=0.0)
    options = ReportOptions(detail=(), n_draws=100)

    def written(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return write_html(report, tmp_path / "a.html", options=options, rng=rng).read_bytes()

    assert written(5) == written(5) != written(6)


@pytest.mark.parametrize("argument", ["reference", "benchmark", "detail"])
def test_an_unknown_strategy_is_named(report, tmp_path, argument):
    value = ["nobody"] if argument == "detail" else "nobody"
    with pytest.raises(DataError, match="strategy 'nobody' is unknown"):
        write_html(report, tmp_path / "a.html", options=ReportOptions(**{argument: value}))
    assert list(tmp_path.iterdir()) == []


def test_a_reference_needs_draws(report, tmp_path):
    with pytest.raises(ModelError, match="reference = '1/N' without rng; give one"):
        write_html(report, tmp_path / "a.html", options=ReportOptions(reference="1/N"))


def test_a_market_is_checked(report, market, tmp_path):
    with pytest.raises(DataError, match=r"market = 0\.0 on 2018-01-01; give positive levels"):
        ReportOptions(market=pd.Series([0.0, 1.0], market.dates[:2]))
    with pytest.raises(DataError, match="market is a list"):
        ReportOptions(market=[1.0, 2.0])
    early = pd.Series([1.0, 1.0], pd.to_datetime(["2001-01-01", "2001-01-02"]))
    with pytest.raises(DataError, match="market has no row from 2018-01-04 to"):
        write_html(report, tmp_path / "a.html", options=ReportOptions(market=early))


def write(path, text) -> None:
    with opened(path) as file:
        file.write_text(text(), encoding="utf-8")


def test_places_that_cannot_be_written_to_are_named_before_any_work(report, tmp_path):
    (tmp_path / "file").write_text("x")
    for path, reason in (
        (tmp_path, "it is a folder"),
        (tmp_path / "none" / "a.html", "No such file or directory"),
        (tmp_path / "file" / "a.html", "Not a directory"),
        (tmp_path / ("long" * 100), "name too long"),
    ):
        with pytest.raises(DataError, match=rf"path = .* cannot be written to: .*{reason}"):
            write_html(report, path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_page_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.html"
    path.write_text("old")

    def failing() -> str:
        assert path.read_text() == "old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, failing)
    assert path.read_text() == "old"
    write(path, lambda: "new, caf\N{LATIN SMALL LETTER E WITH ACUTE}")
    assert path.read_text(encoding="utf-8").startswith("new, caf")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.html"]


def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match="cannot be written to: No space left"):
        write(path, lambda: "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.html"]


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_others_may_read_the_page(tmp_path):
    old = os.umask(0o022)
    try:
        write(tmp_path / "a.html", lambda: "")
    finally:
        os.umask(old)
    assert (tmp_path / "a.html").stat().st_mode & 0o777 == 0o644


def test_numbers_are_written_for_readers():
    assert number(-1234.567, 1) == f"{MINUS}1,234.6"
    assert number(-0.0004, 2) == "0.00"
    assert number(float("nan"), 2) == number(float("inf"), 2) == "\N{EN DASH}"
    assert percent(0.12345, 1) == f"12.3{NBSP}%"
    assert percent(-0.00001, 2) == f"0.00{NBSP}%"
    assert (money(1.23456), money(1234567.8)) == ("1.235", "1,234,568")
    assert (p_value(0.0004), p_value(0.0495)) == ("< 0.001", "0.050")
    assert interval((0.1, float("nan")), money) == ""


def test_facts_take_whatever_a_run_holds():
    lists = facts(
        "run", {"a": {"b": {"c": np.float64(0.1)}}, "d": (), "e": pd.Timestamp("2020-01-02")}
    )
    assert [(part.heading, part.pairs) for part in lists] == [
        ("run", [("d", "none"), ("e", "2020-01-02")]),
        ("a: b", [("c", "0.1")]),
    ]
    assert plain(np.True_) == "yes"
    assert plain([{"x": 1}, "y"]) == "{'x': 1}\ny"


@pytest.mark.long
@pytest.mark.parametrize("section", ["wealth", "regimes"])
def test_fewer_colors_change_no_picture(report_data, section):
    """Nothing but shades along edges, by an eighth at most; common colors are kept."""
    picture, whole = gallery(report_data)[section][0], io.BytesIO()
    picture.figure.savefig(whole, format="png", dpi=DPI)
    before, after = (
        np.asarray(Image.open(stream).convert("RGB")).reshape(-1, 3).astype(int)
        for stream in (whole, io.BytesIO(picture.png()))
    )
    changes = np.abs(after - before)
    assert changes.max() < 255 / 8
    assert changes.mean() < 0.25
    codes = before @ [65536, 256, 1]
    known, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    common = np.isin(places, np.argsort(-counts)[:100])
    assert (known == 0xFFFFFF).any()
    assert not changes[common].any()


@pytest.mark.slow
def test_twelve_strategies_over_thirteen_years_of_days_are_below_5_mb(tmp_path):
    rng = np.random.default_rng(1)
    dates = pd.bdate_range("2008-01-01", periods=3300)
    ledgers = {f"strategy {i}": random_ledger(rng, dates) for i in range(12)}
    strategies = {}
    for i, (name, ledger) in enumerate(ledgers.items()):
        strategies[name] = model = Modeled(i, n_regimes=4)
        view = type("View", (), {"assets": ["a"]})
        for date in ledger.decisions.index:
            view.date = date
            model.decide(view, None)
    report = BacktestResult(ledgers, pd.Series(0.0, dates), 1, strategies)
    path = write_html(report, tmp_path / "a.html")
    assert path.stat().st_size < 5_000_000


def random_ledger(rng: np.random.Generator, dates: pd.DatetimeIndex) -> Ledger:
    """Of a strategy that trades everything every day."""
    assets = ["a", "b", "c", "d"]
    wealth = np.cumprod(1.0 + rng.normal(0.0003, 0.01, len(dates)))
    weights = rng.dirichlet(np.ones(5), len(dates))
    held = pd.DataFrame(weights * wealth[:, None], dates, ["cash", *assets])
    trades = held[assets].diff().fillna(0.0)
    return Ledger(
        earned=0.0 * held,
        holdings_before=held,
        requested=trades,
        executed=trades,
        costs=0.001 * trades.abs(),
        holdings_after=held,
        decisions=held.iloc[:-2],
    )
