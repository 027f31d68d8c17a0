"""The data report: what it finds in tables where the answer is known, as text, HTML and JSON."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp import cli
from sddp.cli.inputs.market import read_tables
from sddp.data import DataReport, read_factors, read_numbers, read_prices, read_returns

N = 60
DAYS = pd.bdate_range("2020-01-01", periods=N, name="date")


def walk(seed: int, n: int = N) -> np.ndarray:
    return 100.0 * np.exp(np.random.default_rng(seed).normal(0.0, 0.01, n).cumsum())


def table(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns, DAYS)


def report_of(prices: pd.DataFrame) -> DataReport:
    return read_prices(prices).report


def test_a_table_without_anything_odd():
    report = report_of(table(A=walk(1), B=walk(2)))
    assert (report.n_rows, report.first, report.last) == (N, "2020-01-01", "2020-03-24")
    assert (report.frequency, report.unit, report.kind) == ("daily", "levels", "prices")
    assert report.periods_per_year == pytest.approx((N - 1) / 83 * 365.25)
    assert (report.gaps, report.stale, report.jumps) == ((), (), ())
    assert (report.guessed, report.done, report.cautions) == ((), (), ())
    assert "missing cells: none" in str(report)


def test_late_starts_ends_gaps_and_losses_by_asset():
    prices = table(A=walk(1), late=walk(2), ended=walk(3), gap=walk(4), lost=walk(5), none=np.nan)
    prices.iloc[:7, 1] = np.nan
    prices.iloc[40:, 2] = np.nan
    prices.iloc[[10, 11, 30], 3] = np.nan
    prices.iloc[50:, 4] = 0.0
    report = report_of(prices)
    by_name = {asset.name: asset for asset in report.assets}
    assert (by_name["late"].late, by_name["late"].first) == (True, "2020-01-10")
    assert (by_name["ended"].ended, by_name["ended"].last) == (True, "2020-02-25")
    assert by_name["gap"].n_missing == 3
    assert by_name["lost"].lost == "2020-03-11"
    assert (by_name["none"].n_numbers, by_name["none"].first) == (0, None)
    said = str(report)
    for words in (
        "late: begins 2020-01-10",
        "ended: ends 2020-02-25",
        "gap: 3 cells missing between",
        "lost: all lost on 2020-03-11",
        "none: no number at all",
    ):
        assert words in said
    assert "A:" not in said


def test_stale_quotes_and_jumps():
    prices = table(A=walk(1), B=walk(2), C=walk(3))
    prices.iloc[20:26, 0] = prices.iloc[20, 0]  # six equal prices
    prices.iloc[20:23, 1] = prices.iloc[20, 1]  # three are nothing
    prices.iloc[30:, 1] *= 100.0  # pence for pounds
    prices.iloc[40, 2] *= 5.0  # a slip, there and back
    report = report_of(prices)
    assert report.stale == ({"asset": "A", "from": "2020-01-29", "to": "2020-02-05", "rows": 6},)
    assert [(jump["asset"], jump["date"]) for jump in report.jumps] == [
        ("B", "2020-02-12"),
        ("C", "2020-02-26"),
        ("C", "2020-02-27"),
    ]
    assert report.jumps[0]["factor"] == pytest.approx(100.0, rel=0.05)
    assert "another unit, such as pence for pounds?" in str(report)
    prices.iloc[30:, 1] /= 12.5
    returns = prices.pct_change().iloc[1:]
    again = read_returns(returns, percent=False).report
    assert [jump["date"] for jump in again.jumps] == [jump["date"] for jump in report.jumps]
    assert again.stale == ({"asset": "A", "from": "2020-01-30", "to": "2020-02-05", "rows": 5},)


def test_stretches_without_rows():
    report = report_of(table(A=walk(1)).drop(DAYS[10:25]))
    assert report.gaps == ({"after": "2020-01-14", "before": "2020-02-05", "days": 22.0},)
    assert "22 days, 2020-01-14 to 2020-02-05" in str(report)


def test_frequencies_and_cautions():
    months = pd.DataFrame({"A": walk(1)}, pd.date_range("2015-01-01", periods=N, freq="MS"))
    report = report_of(months)
    assert report.frequency == "monthly"
    assert report.periods_per_year == pytest.approx(12.0, rel=0.01)
    assert "dated at the first of the month" in report.cautions[0]
    weeks = pd.DataFrame({"A": walk(1)}, pd.date_range("2015-01-05", periods=N, freq="W-MON"))
    assert "weekly rows are dated on Mondays" in report_of(weeks).cautions[0]
    mixed = pd.DataFrame(
        {"A": walk(1)}, DAYS[:30].append(DAYS[30:] + pd.to_timedelta(np.arange(30) ** 2, "D"))
    )
    assert "unevenly spaced" in report_of(mixed).cautions[0]


@pytest.mark.parametrize(
    "dates",
    [
        pd.bdate_range("2020-01-01", periods=N),
        pd.bdate_range("2020-01-01", periods=N).drop(["2020-01-20", "2020-02-17"]),  # holidays
        pd.bdate_range("2020-03-02", periods=4, tz="America/New_York"),
        pd.DatetimeIndex(
            [
                day + pd.Timedelta(hours=hour)
                for day in pd.bdate_range("2020-01-01", periods=9)
                for hour in range(10, 17)
            ]
        ),
        pd.date_range("2020-01-03", periods=N, freq="W-FRI"),
        pd.bdate_range("2015-01-30", periods=N, freq="BME"),
        pd.bdate_range("2005-03-31", periods=N, freq="BQE"),
    ],
    ids=["days", "holidays", "zone", "hours", "weeks", "months", "quarters"],
)
def test_rows_of_a_market_are_evenly_spaced(dates):
    """Weekends, nights and months of different lengths are no caution."""
    report = report_of(pd.DataFrame({"A": walk(1, len(dates))}, dates))
    assert not any("unevenly" in caution for caution in report.cautions)


def test_factors_and_numbers_have_reports_too():
    values = table(A=np.random.default_rng(1).normal(0.0, 0.01, N), B=0.0)
    assert read_factors(values).report.kind == "factors"
    report = read_numbers(values * 1e6).report
    assert (report.kind, report.unit, report.stale) == ("numbers", "numbers as they stand", ())


def test_a_report_is_text_html_and_json(tmp_path):
    folder = tmp_path / ("a folder with a long name " * 5).strip()
    folder.mkdir()
    path = folder / "p.csv"
    table(**{"<b>A</b>": walk(1), "é & ü": walk(2)}).to_csv(path)
    report = read_prices(path).report
    told = json.loads(json.dumps(report.to_dict()))
    assert told["source"]["file"] == "p.csv"
    assert told["source"]["bytes"] == path.stat().st_size
    assert [asset["name"] for asset in told["assets"]] == ["<b>A</b>", "é & ü"]
    assert "&lt;b&gt;A&lt;/b&gt;" in report._repr_html_()
    assert "<b>A</b>" not in report.to_html()
    assert report.to_html().startswith("<!DOCTYPE html>")
    assert max(map(len, str(report).splitlines())) <= 88


# --- the command ---


def test_the_command_prints_the_report_alone(tmp_path, capsys):
    path = tmp_path / "p.csv"
    table(A=walk(1)).to_csv(path)
    html = tmp_path / "report.html"
    assert cli.main(["data", "check", str(path), "--html", str(html)]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out) == read_prices(path, argument="FILE").report.to_dict()
    assert "rows: 60, 2020-01-01 to 2020-03-24" in printed.err
    assert "Data report" in html.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "several readings: .*--day-first"),
        (["--month-first", "--returns"], "all numbers are near 1"),
        (["--month-first", "--percent"], "--percent: prices have no unit"),
        (
            ["--month-first", "--decimal", ",", "--keep", "last"],
            "no number with a decimal comma|certain",
        ),
    ],
)
def test_the_command_says_what_it_rejects(arguments, words, tmp_path, capsys):
    import re

    path = tmp_path / "p.csv"
    path.write_text(
        "date,A\n01/02/2020,1.5\n02/03/2020,1.25\n03/04/2020,1.5\n04/04/2020,2\n05/04/2020,1\n"
    )
    assert cli.main(["data", "check", str(path), *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.search(words, printed.err), printed.err
    assert cli.main(["data", "check", str(path), "--day-first"]) == 0


def test_every_option_that_a_message_names_exists():
    """The remedies in the sources of `sddp.data`, `Market` and the departures."""
    import re
    from pathlib import Path

    import sddp.data
    import sddp.market.departures
    import sddp.market.market

    files = [*Path(sddp.data.__file__).parent.glob("*.py")]
    files += [Path(module.__file__) for module in (sddp.market.market, sddp.market.departures)]
    named = {
        option for file in files for option in re.findall(r"--[a-z]+(?:-[a-z]+)*", file.read_text())
    }
    assert len(named) > 15
    parser = cli.parser()
    for command in (["backtest"], ["data", "check"], ["decide"]):
        parsed = parser.parse_args([*command, "p.csv"])
        known = {f"--{name.replace('_', '-')}" for name in vars(parsed)}
        known |= {"--month-first", "--no-percent", "--missing-value"}
        assert named - {"--prices"} - known <= (
            {"--missing", "--delisting-return"} if "check" in command else set()
        ), command


def test_a_delisting_without_a_return_is_said_to_flatter(tmp_path):
    prices = table(A=walk(1), B=walk(2))
    prices.iloc[40:, 1] = np.nan
    prices.to_csv(tmp_path / "p.csv")
    parser = cli.parser()

    def caveats(*given: str) -> tuple[str, ...]:
        return read_tables(parser.parse_args(["backtest", str(tmp_path / "p.csv"), *given])).caveats

    assert "prices of B end before" in caveats("--missing", "carry")[0]
    assert caveats("--missing", "carry", "--delisting-return", "-0.3") == ()
    assert caveats() == ()
