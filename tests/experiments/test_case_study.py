"""The main job on the data that ship in packages, and the dates of these data."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.case_study import industries, main
from experiments.industries import (
    FILE,
    INDUSTRIES,
    PACKAGE,
    industry_returns,
    read_industry_returns,
)
from sddp.backtest import BuyAndHold, backtest
from sddp.errors import DataError

FIGURES = ("allocation", "bound", "regimes", "terminal_wealth", "wealth")
TABLES = (
    *("decisions", "summary", "training", "wealth", "weights"),
    *("checks", "stability", "intervals", "differences", "calibration"),
)


@pytest.fixture(scope="module")
def as_shipped() -> pd.DataFrame:
    """The file as linearmodels ships it: months by their first day."""
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        pytest.skip("the industries' returns ship inside linearmodels")
    return pd.read_csv(Path(spec.origin).parent / FILE, index_col=0, parse_dates=True)


def test_the_tables_are_those_of_the_file_at_the_ends_of_months(as_shipped):
    found = industry_returns()
    assert found.industries.shape == (819, 12)
    assert (found.industries.index[0], found.industries.index[-1]) == (
        pd.Timestamp("1949-01-31"),
        pd.Timestamp("2017-03-31"),
    )
    np.testing.assert_array_equal(found.industries, as_shipped[list(INDUSTRIES)])
    np.testing.assert_array_equal(found.bills, as_shipped["RF"])


def test_no_decision_sees_the_return_it_is_taken_for(as_shipped):
    """A month's return is unknown on its first day, the file's date, and earned by who held it."""
    market = industries().market(0.0, "raise")
    for first in as_shipped.index[[1, 400, 818]]:
        last = first + pd.offsets.MonthEnd(0)
        before = market.at(last - pd.Timedelta(days=1))
        assert before.date == first - pd.Timedelta(days=1)
        known = before.returns.iloc[-1]
        previous = as_shipped.loc[first - pd.DateOffset(months=1), list(INDUSTRIES)]
        np.testing.assert_allclose(known, previous, rtol=1e-12)
    # Bought on the last day of May, the return of June is the first one earned.
    found = backtest(
        market, {"s": BuyAndHold({"Hlth": 1.0})}, start="1990-05-31", transaction_cost=0.0, lag=0
    )
    assert found.wealth["s"].index[0] == pd.Timestamp("1990-05-31")
    assert found.returns["s"].iloc[0] == pytest.approx(as_shipped.loc["1990-06-01", "Hlth"])
    # Bills bought then pay the rate of June, which was known when it began.
    assert found.cash_returns.iloc[0] == pytest.approx(as_shipped.loc["1990-06-01", "RF"])


def test_a_file_of_another_form_is_named(tmp_path):
    table = pd.DataFrame({"NoDur": [0.01]}, pd.DatetimeIndex(["1949-01-01"], name="dates"))
    table.to_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"other.csv: must hold the months of linearmodels"):
        read_industry_returns(tmp_path / "other.csv")


def test_months_dated_by_another_day_are_named(tmp_path, as_shipped):
    moved = as_shipped.set_axis(as_shipped.index + pd.offsets.MonthEnd(0))
    moved.to_csv(tmp_path / "moved.csv")
    with pytest.raises(DataError, match=r"dates must be the first days of months"):
        read_industry_returns(tmp_path / "moved.csv")


def test_a_rate_of_cash_contradicts_the_bills(tmp_path, capsys):
    pytest.importorskip("linearmodels", reason="the industries' returns ship inside linearmodels")
    assert main(["--quick", "--cash-rate", "0.001", "--out", str(tmp_path / "out")]) == 1
    assert "--cash-rate 0.001: these data bring the return of cash" in capsys.readouterr().err


@pytest.mark.long
def test_quick_form_on_the_packaged_data(tmp_path, capsys):
    pytest.importorskip("linearmodels", reason="the industries' returns ship inside linearmodels")
    where = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    assert main(["--quick", *where]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert answer["summary"]["equal weights"]["volatility"] > 0.0
    assert "month-end quotes" in printed.err
    assert "SDDP, calibrated: " in printed.err  # progress
    assert "Sharpe ratio" in answer["finding"]
    for name in FIGURES:
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 10_000
    tables = {name: pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in TABLES}
    assert len(tables["decisions"]) == 6
    assert set(tables["stability"]["source"]) == {"draw", "fit", "training", "history"}
    # What calibration adds is the calibrated strategy less the same one without.
    added = tables["calibration"].set_index(["strategy", "metric"])["value"]
    sharpe = tables["summary"].set_index(tables["summary"].columns[0])["sharpe"]
    expected = sharpe["held to the horizon, calibrated"] - sharpe["held to the horizon"]
    assert added["held to the horizon, calibrated", "sharpe"] == pytest.approx(expected, abs=1e-7)
    # Cash earns the bills' return.
    bills = industry_returns().bills.iloc[-6:]
    np.testing.assert_allclose(tables["wealth"]["cash"].iloc[-1], (1.0 + bills).prod(), rtol=1e-9)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["config"]["stages"] == 3
    assert set(record["inputs_sha256"]) == {"prices", "factors", "cash"}
    checks = tables["checks"].set_index("strategy")
    assert checks.loc["SDDP, calibrated", "calibration"] > 0.0
    assert np.isnan(checks.loc["SDDP", "calibration"])
