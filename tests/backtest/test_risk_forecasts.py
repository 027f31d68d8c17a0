from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import EqualWeight, backtest
from sddp.evaluation import risk_forecasts
from sddp.evaluation.risk_forecasts import forecast_table, tail_table, tail_window
from sddp.market import Market
from tests.backtest.modeled import Modeled


@pytest.fixture(scope="module")
def report():
    rng = np.random.default_rng(4)
    dates = pd.bdate_range("2019-01-01", periods=120)
    prices = pd.DataFrame(100.0 * np.cumprod(1.0 + rng.normal(0.0, 0.015, (120, 2)), axis=0), dates)
    strategies = {"model": Modeled(1), "1/N": EqualWeight(), "other": Modeled(2, confidence=0.8)}
    return backtest(Market(prices), strategies, start=dates[3], transaction_cost=0.002)


@pytest.fixture(scope="module")
def decision_logs(report):
    return risk_forecasts.decision_logs(report.strategies, report.ledgers)


@pytest.fixture(scope="module")
def periods(report, decision_logs):
    return risk_forecasts.forecast_periods(
        report.ledgers, decision_logs, lag=report.lag, period=None
    )


def test_decision_logs_are_those_of_this_run(report, decision_logs):
    assert list(decision_logs) == ["model", "other"]
    assert len(decision_logs["model"]) == len(report.ledger("model").decisions)
    again = backtest(
        Market(
            pd.DataFrame({"a": np.linspace(1.0, 2.0, 9)}, pd.bdate_range("2022-01-03", periods=9))
        ),
        {"model": report.strategies["model"]},
        start="2022-01-03",
        transaction_cost=0.0,
    )
    assert len(again.strategies["model"].decision_log) == len(decision_logs["model"]) + 7
    own = risk_forecasts.decision_logs(again.strategies, again.ledgers)["model"]
    assert own.index.equals(again.ledger("model").decisions.index)


def test_a_second_run_over_the_same_dates_counts_its_own_decisions(report, decision_logs):
    dates = report.cash_rate.index
    market = Market(pd.DataFrame({"a": np.linspace(1.0, 2.0, len(dates))}, dates))
    strategies = {"model": report.strategies["model"]}
    again = backtest(market, strategies, start=dates[0], transaction_cost=0.0)
    own = risk_forecasts.decision_logs(again.strategies, again.ledgers)["model"]
    written = again.strategies["model"].decision_log_table().iloc[len(decision_logs["model"]) :]
    assert own["model_var"].tolist() == written["model_var"].tolist()


def test_every_strategy_is_held_against_its_losses(report, periods):
    """The loss of a decision is that of the row after its execution, costs included."""
    assert list(periods) == ["model", "1/N", "other"]
    for name, table in periods.items():
        returns = report.returns[name]
        rows = report.wealth.index.get_indexer(table.index)
        assert table["loss"].to_numpy() == pytest.approx(-returns.to_numpy()[rows + 1])
    assert periods["1/N"]["model_cvar"].isna().all()
    assert set(periods["1/N"]["confidence"]) == {0.9}


def test_the_table_counts_forecasts_and_outcomes(periods, decision_logs):
    table = forecast_table(periods)
    losses, var = (
        periods["model"]["loss"],
        decision_logs["model"]["model_var"].reindex(periods["model"].index),
    )
    row = table.loc["model"]
    assert row["violations"] == sum(a > b for a, b in zip(losses, var, strict=True)) > 0
    assert row["n_periods"] == len(losses)
    assert row["expected"] == pytest.approx(0.1 * len(losses))
    assert row["cvar_limit"] == pytest.approx(0.02)
    assert row["model_cvar"] == pytest.approx(np.mean(var) + 0.005)
    assert row["largest_model_cvar"] == pytest.approx(max(var) + 0.005)
    assert row["binding"] == pytest.approx(np.mean(var > 0.015))
    tail = np.sort(losses)[::-1]
    weight = 0.1 * len(losses)
    whole = int(weight)
    expected = (tail[:whole].sum() + (weight - whole) * tail[whole]) / weight
    assert row["realized_cvar"] == pytest.approx(expected)
    assert table.loc["1/N", ["model_cvar", "violations", "expected", "n_periods"]].isna().all()
    assert np.isfinite(table.loc["1/N", "realized_cvar"])
    # Its own level, not that of the others.
    assert table.loc["other", "expected"] == pytest.approx(0.2 * len(losses))


def test_without_decision_logs_nothing_is_forecast(report):
    assert risk_forecasts.forecast_periods(report.ledgers, {}, lag=1, period=None) == {}
    assert forecast_table({}).empty


def test_forecasts_of_a_run_too_short_are_nan(periods):
    table = forecast_table({"model": periods["model"].iloc[:0]})
    assert table.loc["model"].isna().all()


def test_the_realized_cvar_at_a_decision_is_of_earlier_periods_only(periods):
    window = 30
    table = tail_table(periods["model"], window)
    losses = periods["model"]["loss"].to_numpy()
    assert table["realized_cvar"].iloc[:window].isna().all()
    for row in (window, window + 1, len(losses) - 1):
        worst = np.sort(losses[row - window : row])[-3:]
        assert table["realized_cvar"].iloc[row] == pytest.approx(worst.mean())
    assert table["violated"].tolist() == (losses > periods["model"]["model_var"]).tolist()
    assert table["model_cvar"].equals(periods["model"]["model_cvar"])


def test_the_window_holds_a_tail_of_25():
    assert (tail_window(0.9), tail_window(0.95), tail_window(0.99)) == (250, 500, 2500)


def test_the_level_is_the_highest_of_the_models(decision_logs):
    assert risk_forecasts.model_confidence(decision_logs) == 0.9
