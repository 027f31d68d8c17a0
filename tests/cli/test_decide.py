"""`sddp decide` and the defaults by frequency, in this process."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp import cli
from sddp.cli.settings import defaults_for
from tests.cli import small


@pytest.fixture
def where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prices = pd.read_csv(small.prices(tmp_path / "prices.csv"), index_col=0)
    prices.pct_change().iloc[1:].to_csv("returns.csv")
    (tmp_path / "shares.csv").write_text("asset,shares\ncash,500\nfund 1,3\n")
    (tmp_path / "money.csv").write_text("asset,money\ncash,500\nfund 1,300\n")
    return tmp_path


def decided(capsys, *arguments: str):
    code = cli.main(["decide", *arguments, *small.MODEL, "--quiet"])
    printed = capsys.readouterr()
    return code, (json.loads(printed.out) if code == 0 else printed.err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--holdings", "shares.csv"), "--holdings shares.csv: is in shares, which have no value"),
        (("--lot", "10"), "--lot 10: needs prices, and with --returns there are none; give prices"),
    ],
)
def test_returns_give_shares_no_value(where, capsys, arguments, words):
    code, said = decided(capsys, "returns.csv", "--returns", *arguments)
    assert code == 1
    assert words in said
    assert "write the holdings in money" in said or "or no --lot" in said


@pytest.mark.long
def test_orders_from_returns_are_money_alone(where, capsys):
    """The same as from prices, without a column that a price would be needed for."""
    _, of_returns = decided(capsys, "returns.csv", "--returns", "--holdings", "money.csv")
    _, of_prices = decided(capsys, "prices.csv", "--holdings", "money.csv")
    for one, other in zip(of_returns["orders"], of_prices["orders"], strict=True):
        assert set(other) - set(one) == {"price", "shares", "trade_shares", "after_shares"}
        assert one["trade"] == pytest.approx(other["trade"], abs=0.5)
    code, _ = decided(
        capsys, "returns.csv", "--returns", "--holdings", "money.csv", "--out", "today"
    )
    assert code == 0
    page = (where / "today" / "decision.html").read_text()
    assert "<th>price" not in page.replace(' scope="col"', "")


@pytest.mark.parametrize(
    ("dates", "window", "period", "limit"),
    [
        (pd.date_range("2021-01-01", periods=2400, freq="h"), 1440, 24, 0.015),
        (pd.date_range("2015-01-01", periods=900, freq="D"), 730, 7, 0.03),
        (pd.bdate_range("2015-01-01", periods=900), 504, 5, 0.03),
        (pd.date_range("2015-01-02", periods=400, freq="W-FRI"), 260, 1, 0.03),
        (pd.date_range("2015-01-02", periods=400, freq="2W-FRI"), 130, 1, 0.04),
        (pd.date_range("2000-01-31", periods=200, freq="ME"), 120, 1, 0.06),
        (pd.date_range("1980-03-31", periods=100, freq="QE"), 40, 1, 0.1),
        (pd.date_range("1900-12-31", periods=100, freq="YE"), 40, 1, 0.1),
    ],
    ids=["hourly", "every day", "daily", "weekly", "fortnightly", "monthly", "quarterly", "yearly"],
)
def test_defaults_by_frequency(dates, window, period, limit):
    found = {"window": 504, "period": 5, "cvar_limit": 0.03} | defaults_for(dates)
    assert (found["window"], found["period"], found["cvar_limit"]) == (window, period, limit)


@pytest.mark.long
def test_hourly_prices_are_called_so(where, capsys):
    rng = np.random.default_rng(2)
    dates = pd.date_range("2021-01-01", periods=24 * 70, freq="h", name="date")
    levels = 100.0 * np.exp(rng.normal(0.0, 0.004, (len(dates), 2)).cumsum(axis=0))
    pd.DataFrame(levels, dates, ["btc", "eth"]).to_csv("hours.csv")
    model = ("--states", "1", "--starts", "1", "--stages", "2", "--scenarios", "20")
    assert cli.main(["decide", "hours.csv", *model, "--iterations", "2", "--quiet"]) == 0
    notes = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "intraday (87" in notes
    assert "Settings for intraday prices: window 1440 rows, a decision every 24 rows" in notes


@pytest.mark.long
def test_within_trades_less_for_a_share_of_the_gain(where, capsys):
    held = ("prices.csv", "--holdings", "money.csv")
    _, best = decided(capsys, *held)
    _, near = decided(capsys, *held, "--within", "0.5")
    traded = [sum(abs(order["trade"]) for order in found["orders"]) for found in (best, near)]
    assert traded[1] < traded[0]
    gain = best["best_wealth_at_horizon"] - best["cash_wealth_at_horizon"]
    assert near["within"] == 0.5
    lost = near["best_wealth_at_horizon"] - near["expected_wealth_at_horizon"]
    assert 0.0 < lost <= 0.5 * gain * (1.0 + 1e-6)
    assert best["within"] is None


def test_within_is_a_share(where, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["decide", "prices.csv", "--within", "1.5"])
    assert stopped.value.code == 2
    assert "'1.5': must be a number from 0 to 1" in capsys.readouterr().err
