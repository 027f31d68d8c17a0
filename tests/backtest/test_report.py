from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import BuyAndHold, EqualWeight, HoldCash, backtest
from sddp.errors import DataError
from sddp.evaluation import (
    Resampling,
    deflated_sharpe,
    differences,
    intervals,
    metrics,
    sample,
    summary,
)
from sddp.market import Market


@pytest.fixture
def report(market):
    strategies = {"1/N": EqualWeight(), "gold": BuyAndHold({"gold": 0.7}), "cash": HoldCash()}
    return backtest(
        market, strategies, start="2020-01-13", transaction_cost=0.01, initial_wealth=500.0
    )


def test_wealth_and_returns_are_tables_by_strategy(report):
    assert list(report.wealth.columns) == ["1/N", "gold", "cash"]
    assert report.wealth.iloc[0].tolist() == [500.0] * 3
    expected = report.wealth.pct_change().iloc[1:]
    assert report.returns.to_numpy() == pytest.approx(expected.to_numpy())
    assert report.returns.index.equals(expected.index)


def test_the_summary_holds_the_metrics_of_the_wealth(report):
    row = summary(report, confidence=0.9).loc["1/N"]
    wealth, returns = report.wealth["1/N"], report.returns["1/N"].to_numpy()
    years = (wealth.index[-1] - wealth.index[0]).days / 365.25
    assert row["annualized_return"] == pytest.approx((wealth.iloc[-1] / 500.0) ** (1 / years) - 1)
    excess = returns - report.cash_rate.iloc[1:].to_numpy()
    expected = excess.mean() / excess.std(ddof=1) * np.sqrt(len(returns) / years)
    assert row["sharpe"] == pytest.approx(expected)
    assert row["cvar"] == metrics.conditional_value_at_risk(returns, confidence=0.9)
    assert row["value_at_risk"] == metrics.value_at_risk(returns, confidence=0.9)
    assert row["maximum_drawdown"] == metrics.maximum_drawdown(wealth).depth
    assert row["final_wealth"] == wealth.iloc[-1]
    assert row["hit_rate"] == (returns > 0).mean()
    assert row["confidence"] == 0.9


def test_the_summary_counts_trading(report):
    ledger, row = report.ledger("1/N"), summary(report).loc["1/N"]
    years = (ledger.wealth.index[-1] - ledger.wealth.index[0]).days / 365.25
    assert row["costs_paid"] == pytest.approx(0.01 * ledger.executed.abs().to_numpy().sum())
    relative = ledger.executed.abs().sum(axis=1) / ledger.wealth
    assert row["turnover"] == pytest.approx(relative.sum() / years)
    assert row["cost_drag"] == pytest.approx(0.01 * relative.sum() / years)


def test_average_cash_is_after_trading(report):
    table = summary(report)
    assert table.loc["cash", "average_cash"] == 1.0
    periods = len(report.returns)
    # All cash in the first period of the lag, then none.
    assert table.loc["1/N", "average_cash"] == pytest.approx(1.0 / periods, rel=1e-9)


def test_cash_has_no_sharpe_ratio_and_no_cost(report):
    row = summary(report).loc["cash"]
    assert np.isnan(row["sharpe"])
    assert row[["costs_paid", "turnover", "cost_drag", "maximum_drawdown"]].tolist() == [0.0] * 4


def test_the_summary_says_how_decisions_were_traded(market, report):
    assert set(summary(report)["execution"]) == {"lag 1: executed 1 row after the decision"}
    same_quotes = backtest(
        market, {"1/N": EqualWeight()}, start="2020-01-13", transaction_cost=0.0, lag=0
    )
    label = "lag 0: not executable unless quotes are simultaneous"
    assert summary(same_quotes)["execution"].tolist() == [label]
    assert label in repr(same_quotes)


def test_the_summary_compares_with_a_benchmark(report):
    plain, table = summary(report), summary(report, benchmark="gold")
    pd.testing.assert_frame_equal(table[plain.columns], plain)
    assert list(table.columns.difference(plain.columns, sort=False)) == [
        *("beta", "alpha", "tracking_error", "information_ratio")
    ]
    returns, cash = report.returns, report.cash_rate.iloc[1:]
    excess = returns.sub(cash, axis=0)
    beta = excess["1/N"].cov(excess["gold"]) / excess["gold"].var()
    assert table.loc["1/N", "beta"] == pytest.approx(beta)
    years = (report.wealth.index[-1] - report.wealth.index[0]).days / 365.25
    alpha = (excess["1/N"].mean() - beta * excess["gold"].mean()) * len(returns) / years
    assert table.loc["1/N", "alpha"] == pytest.approx(alpha)
    active = returns["1/N"] - returns["gold"]
    root = np.sqrt(len(returns) / years)
    assert table.loc["1/N", "tracking_error"] == pytest.approx(active.std() * root)
    assert table.loc["1/N", "information_ratio"] == pytest.approx(
        active.mean() / active.std() * root
    )
    assert table.loc["gold", ["beta", "tracking_error"]].tolist() == pytest.approx([1.0, 0.0])
    with pytest.raises(DataError, match="'QP' is unknown"):
        summary(report, benchmark="QP")


def test_intervals_are_about_the_numbers_of_the_summary(report):
    table = intervals(sample(report), Resampling(0, 300), confidence=0.8)
    metrics_of = summary(report, confidence=0.8)
    for _, row in table.iterrows():
        expected = metrics_of.loc[row["strategy"], row["metric"]]
        assert row["value"] == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)
    traded = table[table["strategy"] != "cash"]
    assert (traded["low"] < traded["value"]).all()
    assert (traded["value"] < traded["high"]).all()
    again = intervals(sample(report), Resampling(0, 300), confidence=0.8)
    pd.testing.assert_frame_equal(table, again)


def test_intervals_heed_level_and_block_length(report):
    options = {"n_draws": 300, "block_length": 7.0}
    narrow, wide = (
        intervals(sample(report), Resampling(0, level=level, **options), confidence=0.8)
        for level in (0.5, 0.99)
    )
    assert (narrow["block_length"] == 7.0).all()
    traded = narrow["strategy"] != "cash"
    assert (wide["high"][traded] > narrow["high"][traded]).all()


def test_differences_are_those_of_the_summary(report):
    table = differences(sample(report), "gold", Resampling(0, 300))
    metrics_of = summary(report)
    sharpe = table.set_index(["strategy", "metric"]).loc[("1/N", "sharpe")]
    assert sharpe["value"] == pytest.approx(
        metrics_of.loc["1/N", "sharpe"] - metrics_of.loc["gold", "sharpe"]
    )
    assert sharpe["low"] < sharpe["value"] < sharpe["high"]
    with pytest.raises(DataError, match="reference = 'QP'"):
        differences(sample(report), "QP", Resampling(0))


def test_deflated_sharpe_ratios_are_those_of_the_summary(report):
    table = deflated_sharpe(sample(report), trial_sharpes=[0.5, 1.0, 2.0], n_trials=20)
    assert table.loc["1/N", "sharpe"] == pytest.approx(summary(report).loc["1/N", "sharpe"])
    assert 0.0 < table.loc["1/N", "deflated"] < table.loc["1/N", "probabilistic"] < 1.0
    assert table["n_periods"].unique().tolist() == [len(report.returns)]


def test_one_strategy_alone_has_intervals(market):
    alone = backtest(market, {"s": EqualWeight()}, start="2020-01-13", transaction_cost=0.0)
    table = intervals(sample(alone), Resampling(0, 200), confidence=0.8)
    assert np.isfinite(table["low"]).all()
    with pytest.raises(DataError, match="of at least two strategies"):
        differences(sample(alone), "s", Resampling(0))


def test_an_unknown_strategy_is_rejected(report):
    with pytest.raises(DataError, match=r"'QP' is unknown; known are \['1/N', 'gold', 'cash'\]"):
        report.weights("QP")
    assert report.weights("gold").shape == (52, 5)


def test_one_period_is_enough():
    dates = pd.to_datetime(["2020-01-01", "2020-07-01"])
    market = Market(pd.DataFrame({"a": [1.0, 1.2]}, dates))
    report = backtest(market, {"s": EqualWeight()}, start=dates[0], transaction_cost=0.0, lag=0)
    row = summary(report).loc["s"]
    assert np.isnan(row["volatility"])
    assert row["final_wealth"] == pytest.approx(1.2)


def test_a_report_has_a_short_name(report):
    name = "BacktestResult(1/N, gold, cash; 2020-01-13 to 2020-03-24; lag 1: "
    assert repr(report).startswith(name)
