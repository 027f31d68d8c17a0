"""Tests of expected returns: their size, their coverage, and what they refuse to say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import EveryPeriods, HeldToHorizon, backtest
from sddp.errors import DataError, ModelError
from sddp.evaluation import return_backtest
from sddp.evaluation.inference import Resampling
from sddp.evaluation.return_forecasts import expected_and_earned, mincer_zarnowitz, return_tests
from tests.backtest.test_multistage import small_strategy, two_regime_market
from tests.backtest.test_opponents import MODEL, estimator

HOW = Resampling(rng=1, n_draws=500)


def table(expected, realized) -> pd.DataFrame:
    return pd.DataFrame({"expected": expected, "realized": realized})


def test_a_model_that_is_right_has_slope_one_and_no_difference():
    rng = np.random.default_rng(2)
    expected = rng.normal(0.01, 0.01, 2000)
    realized = expected + rng.normal(0.0, 0.01, 2000)
    row = return_tests({"s": table(expected, realized)}, HOW).loc["s"]
    assert row["slope_low"] < 1.0 < row["slope_high"]
    assert row["slope"] == pytest.approx(np.polyfit(expected, realized, 1)[0], rel=1e-9)
    assert row["difference_low"] < 0.0 < row["difference_high"]
    assert row["difference"] == pytest.approx((realized - expected).mean())


def test_a_model_that_boasts_is_found_out():
    rng = np.random.default_rng(3)
    expected = rng.normal(0.02, 0.01, 1000)
    realized = rng.normal(0.0, 0.02, 1000)
    row = return_tests({"s": table(expected, realized)}, HOW).loc["s"]
    assert row["difference_high"] < 0.0
    assert row["slope_high"] < 1.0


def test_few_horizons_are_counted_and_nothing_more():
    rng = np.random.default_rng(4)
    row = return_tests({"s": table(*rng.normal(size=(2, 100)))}, HOW, horizon=6).loc["s"]
    assert (row["n_periods"], row["n_independent"]) == (100, 16)
    assert row["note"] == "16 horizons that do not overlap; intervals need 20"
    assert np.isfinite(row["difference"])
    assert row[["difference_low", "separate_low", "slope", "slope_low"]].isna().all()


def test_overlapping_returns_have_wider_intervals_than_their_rows_say():
    """Sums of ten rows move slowly: blocks of at least twenty keep their dependence."""
    rng = np.random.default_rng(5)
    sums = np.convolve(rng.normal(size=800), np.ones(10), "valid")
    zero = np.zeros_like(sums)

    def width(horizon, **how) -> float:
        how = Resampling(rng=1, n_draws=500, **how)
        row = return_tests({"s": table(zero, sums)}, how, horizon=horizon).loc["s"]
        return row["difference_high"] - row["difference_low"]

    assert width(10, block_length=1.0) > 2.0 * width(1, block_length=1.0)


@pytest.mark.slow
def test_intervals_of_overlapping_returns_cover():
    """500 series of sums of independent noise: 95 % intervals cover in at least 90 %."""
    covered = 0
    for seed in range(500):
        noise = np.random.default_rng([seed, 8]).normal(size=1009)
        sums = np.convolve(noise, np.ones(10), "valid")
        how = Resampling(rng=seed, n_draws=400)
        row = return_tests({"s": table(np.zeros(1000), sums)}, how, horizon=10).loc["s"]
        covered += row["difference_low"] <= 0.0 <= row["difference_high"]
    assert covered >= 450


def test_equal_expectations_have_no_slope():
    assert np.isnan(mincer_zarnowitz(np.full(50, 0.01), np.arange(50.0), HOW)).all()


def test_what_cannot_be_tested_raises():
    with pytest.raises(ModelError, match="horizon=0"):
        return_tests({}, HOW, horizon=0)
    with pytest.raises(DataError, match="hold a gap"):
        return_tests({"s": table([np.nan] * 40, [0.0] * 40)}, HOW)
    wealth = pd.Series(np.ones(5), index=pd.bdate_range("2020-01-01", periods=5))
    with pytest.raises(DataError, match="'model_mean' is missing"):
        expected_and_earned(wealth, pd.DataFrame({"model_var": []}), lag=1)


# --- what the strategies write down ---


def test_decision_logs_hold_what_the_model_expects_net_of_the_trade():
    """On each date: the mean over the outcomes of the traded portfolio's return, cost taken off."""
    market = two_regime_market()
    strategies = {
        "multi": small_strategy(model=MODEL, estimator=estimator()),
        "held": HeldToHorizon(MODEL, estimator(), n_stages=3, refit_every=5),
    }
    result = backtest(
        market,
        strategies,
        start=market.dates[-40],
        transaction_cost=0.002,
        lag=0,
        rebalance=EveryPeriods(2),
    )
    for name, strategy in result.strategies.items():
        log, ledger = strategy.decision_log_table(), result.ledger(name)
        estimate, date = strategy._rolling.estimate, log.index[-1]
        ahead = estimate.one_period_distribution(market.at(date), in_limit=False)
        held = ledger.holdings_after.loc[date].to_numpy()
        cost = ledger.costs.loc[date].sum()
        before = ledger.holdings_before.loc[date].sum()
        mean = ahead.probabilities @ ahead.returns @ held[1:] - cost
        assert log["model_mean"].iloc[-1] == pytest.approx(mean / before, abs=1e-9)
        told = expected_and_earned(ledger.wealth, log, lag=0, period=1)
        assert len(told) == len(log)
    tests = return_backtest(result, HOW)
    assert tests.index.tolist() == ["multi", "held"]
    assert (tests["n_periods"] == 19).all()
