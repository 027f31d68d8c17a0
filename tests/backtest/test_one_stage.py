"""Mean against variance as a strategy: its inputs, schedule, risk forecasts, and no look-ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.backtest import MultistageStrategy, backtest
from sddp.backtest.one_stage import OneStageStrategy
from sddp.cache.fingerprint import describe
from sddp.errors import DataError, InfeasibleProblem, ModelError
from sddp.estimation import RegimeEstimator
from sddp.estimation.forecasts import RegimeForecaster, WindowForecaster
from sddp.market import Market
from sddp.portfolio import (
    CVaRMatched,
    ExponentialMoments,
    LedoitWolfMoments,
    MeanVariance,
    Moments,
    VolatilityDriven,
)
from sddp.statistics import GaussianRegimes
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead

COST = 0.002
DATE = "2020-03-06"
HELD = pd.Series({"cash": 40.0, "gold": 30.0, "stocks": 0.0, "dollar": 10.0, "euro": 20.0})


CASH_ONLY = pd.Series({"cash": 100.0, "gold": 0.0, "stocks": 0.0, "dollar": 0.0, "euro": 0.0})


@pytest.fixture
def rising(data) -> Market:
    """Half a percent a day on top: there is something to hold, and a limit to meet."""
    drift = np.exp(0.005 * np.arange(len(data.prices)))[:, None]
    return replace(data, prices=data.prices * drift).market()


def strategy(forecaster=None, **changes) -> OneStageStrategy:
    settings = {"risk_aversion": 4.0, "transaction_cost": COST}
    options = {
        name: changes.pop(name) for name in ("confidence", "if_infeasible") if name in changes
    }
    model = MeanVariance(**(settings | changes))
    return OneStageStrategy(model, forecaster or WindowForecaster(20), **options)


def regimes(**changes) -> RegimeForecaster:
    estimator = RegimeEstimator(
        seed=3,
        window=25,
        regimes=GaussianRegimes(n_states=1, n_starts=1, min_count=5),
        n_scenarios=40,
    )
    return RegimeForecaster(estimator, **changes)


def test_the_decision_is_the_models_on_the_windows_moments(data, market):
    view = market.at(DATE)
    returns = data.prices.pct_change().loc[:DATE].iloc[-20:]
    expected = MeanVariance(risk_aversion=4.0, transaction_cost=COST).solve(
        Moments(returns.mean(), returns.cov()),
        current_weights=HELD / 100.0,
        cash_return=float(data.cash_rate.loc[DATE]),
    )
    weights = strategy().decide(view, HELD)
    assert weights.to_numpy() == pytest.approx(expected.weights.to_numpy(), abs=1e-9)
    assert expected.cost > 0.0
    assert list(weights.index) == ["cash", *data.prices.columns]


def test_at_the_models_costs_the_market_trades_what_the_model_asked_for(data):
    """Self-financing weights of wealth after costs are executed to the last digit, at lag 0."""
    tested = strategy(WindowForecaster(20), risk_aversion=20.0)
    report = backtest(data.market(), {"tested": tested}, start=DATE, transaction_cost=COST, lag=0)
    ledger, returns = report.ledger("tested"), data.prices.pct_change()
    traded = []
    for date in ledger.decisions.index:
        before, window = ledger.holdings_before.loc[date], returns.loc[:date].iloc[-20:]
        asked = tested.optimizer.solve(
            Moments(window.mean(), window.cov()),
            current_weights=before / before.sum(),
            cash_return=float(data.cash_rate.loc[date]),
        )
        executed = ledger.executed.loc[date].to_numpy()
        assert executed == pytest.approx(asked.trades.to_numpy() * before.sum(), abs=1e-9)
        traded.append(np.abs(executed).max() > 1e-6)
    assert 1 < sum(traded) < len(traded)  # costs keep it from trading every day


def test_aversion_follows_the_markets_index(data):
    driven = VolatilityDriven(base=2.0, sensitivity=0.05)
    tested = strategy(risk_aversion=driven)
    tested.decide(data.market().at(DATE), HELD)
    assert tested.decision_log[0]["risk_aversion"] == 2.0 * (
        1.0 + 0.05 * data.volatility_index[DATE]
    )
    without = Market(data.prices).at(DATE)
    with pytest.raises(ModelError, match="needs volatility_index"):
        tested.decide(without, HELD)


@pytest.mark.parametrize("moments", [ExponentialMoments(half_life=8.0), LedoitWolfMoments()])
def test_other_moments_are_taken_from_the_same_window(moments, data, market):
    forecast = WindowForecaster(20, moments).forecast(market.at(DATE))
    expected = moments.estimate(data.prices.pct_change().loc[:DATE].iloc[-20:])
    np.testing.assert_allclose(forecast.moments.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(forecast.moments.covariance, expected.covariance, rtol=1e-9)


def test_periods_overlap_and_cash_compounds(data, market):
    forecast = WindowForecaster(21, period=5).forecast(market.at(DATE))
    prices = data.prices.loc[:DATE].to_numpy()[-22:]
    expected = prices[5:] / prices[:-5] - 1.0
    np.testing.assert_allclose(forecast.outcomes.returns, expected, rtol=1e-12)
    assert forecast.cash_return == pytest.approx((1.0 + data.cash_rate[DATE]) ** 5 - 1.0, rel=1e-13)


def test_an_expanding_window_keeps_every_row(data, market):
    forecast = WindowForecaster(20, expanding=True).forecast(market.at(DATE))
    assert len(forecast.outcomes.returns) == len(data.prices.loc[:DATE]) - 1


def test_estimates_are_kept_until_they_are_due(market):
    tested = WindowForecaster(20, refit_every=3)
    dates = market.dates[market.dates >= DATE][:5]
    means = [tested.forecast(market.at(date)).moments.mean for date in dates]
    assert means[0].equals(means[1])
    assert means[0].equals(means[2])
    assert not means[2].equals(means[3])
    assert means[3].equals(means[4])


def test_a_window_longer_than_history_is_rejected_by_date(market):
    with pytest.raises(DataError, match=r"needs 20 rows .* only 2 are known on 2020-01-03"):
        strategy().decide(market.at("2020-01-03"), HELD)


def test_what_is_not_quoted_or_not_known_is_sold(data):
    """Gold has no price today, the euro is too young: neither is held, both are paid for."""
    prices = data.prices.copy()
    prices.loc[DATE:, "gold"] = np.nan
    prices.loc[:"2020-02-20", "euro"] = np.nan
    view = Market(prices, missing="carry").at(DATE)
    weights = strategy(min_weights={"gold": 0.2, "stocks": 0.1}).decide(view, HELD)
    assert weights["gold"] == weights["euro"] == 0.0
    assert weights["stocks"] >= 0.1


def test_where_nothing_is_known_long_enough_it_is_said(data):
    prices = data.prices.copy()
    prices.iloc[:40] = np.nan
    view = Market(prices, missing="carry").at(DATE)
    with pytest.raises(DataError, match="no asset has a return on each of the 20 rows"):
        strategy().decide(view, HELD)


@pytest.mark.parametrize("limit", [0.004, 0.01])
def test_a_matched_cvar_is_the_limit_on_the_regimes_outcomes(limit, rising):
    """Measured by the multi-stage policy's own model, on an estimate of its own."""
    view = rising.at(DATE)
    matched = CVaRMatched(limit=limit, confidence=0.9)
    tested = OneStageStrategy(MeanVariance(risk_aversion=matched, transaction_cost=COST), regimes())
    weights = tested.decide(view, CASH_ONLY)
    seen = regimes().estimator.estimate(view).one_period_distribution(view)
    after = 1.0 / (1.0 + COST * (1.0 - weights["cash"]))  # from cash everything is bought
    cvar = seen.cvar(weights["cash"] * after, weights.to_numpy()[1:] * after, 0.9) + 1.0 - after
    note = tested.decision_log_table().loc[pd.Timestamp(DATE)]
    assert cvar == pytest.approx(limit, abs=1e-9)
    assert note["model_cvar"] == pytest.approx(limit, abs=1e-9)
    assert note["cvar_limit"] == limit
    assert note["limit_binds"]
    assert note["risk_aversion"] > 0.0
    assert note["model_var"] < note["model_cvar"]


def test_the_myopic_policy_earns_at_least_what_the_matched_one_does(rising):
    """Both under one limit, on the same outcomes: only one of them maximizes the mean there."""
    view, limit = rising.at(DATE), 0.006
    matched = OneStageStrategy(
        MeanVariance(risk_aversion=CVaRMatched(limit=limit), transaction_cost=COST), regimes()
    )
    myopic = MultistageStrategy(
        AllocationModel(transaction_cost=COST, cvar_limit=limit),
        1,
        regimes().estimator,
        n_stages=1,
    )
    seen = regimes().estimator.estimate(view).one_period_distribution(view)
    mean = np.append(seen.cash_return, seen.probabilities @ seen.returns)

    def growth(weights: pd.Series) -> float:
        after = 1.0 / (1.0 + COST * (1.0 - weights["cash"]))
        return after * float((1.0 + mean) @ weights.to_numpy()) - 1.0

    best, other = (growth(s.decide(view, CASH_ONLY)) for s in (myopic, matched))
    assert 0.5 * best < other < best


def test_where_no_holdings_keep_the_limit_it_is_said_or_sold(market):
    view = market.at(DATE)
    options = {"risk_aversion": CVaRMatched(limit=1e-4), "transaction_cost": 0.01}
    with pytest.raises(InfeasibleProblem, match=r"down to the limit 0.0001"):
        strategy(**options).decide(view, HELD)
    selling = strategy(**options, if_infeasible="sell")
    assert selling.decide(view, HELD).to_dict() == {"cash": 1.0}
    note = selling.decision_log_table().iloc[0]
    assert "down to the limit 0.0001" in note["failure"]
    assert note["limit_binds"]
    assert np.isnan(note["model_cvar"])


def test_the_decision_log_forecasts_a_tail_for_a_fixed_aversion_too(rising):
    tested = strategy(confidence=0.8)
    view = rising.at(DATE)
    weights = tested.decide(view, CASH_ONLY)
    assert weights["cash"] < 0.9
    window = view.returns.iloc[-20:].to_numpy()
    after = 1.0 / (1.0 + COST * (1.0 - weights["cash"]))
    earned = after * (window @ weights.to_numpy()[1:] + view.cash_rate.iloc[-1] * weights["cash"])
    losses = np.sort(1.0 - after - earned)[::-1]
    note = tested.decision_log[0]
    assert note["model_cvar"] == pytest.approx(losses[:4].mean(), abs=1e-12)
    assert note["model_var"] == pytest.approx(losses[3], abs=1e-12)
    assert note["confidence"] == 0.8
    assert np.isnan(note["cvar_limit"])
    assert not note["limit_binds"]


# Not "emptied" for regimes: a price that is carried never changes again, and the fit refuses it.
CASES = [("window", future) for future in FUTURES] + [
    ("regimes", future) for future in sorted({*FUTURES} - {"emptied"})
]


@pytest.mark.long
@pytest.mark.parametrize(("kind", "future"), CASES)
def test_decisions_ignore_the_future(kind, future, data, other_data):
    def made(_) -> OneStageStrategy:
        if kind == "window":
            driven = VolatilityDriven(base=2.0, sensitivity=0.05)
            return strategy(WindowForecaster(10, refit_every=3), risk_aversion=driven)
        estimator = replace(regimes().estimator, window=10)
        return OneStageStrategy(
            MeanVariance(risk_aversion=CVaRMatched(limit=0.01), transaction_cost=COST),
            RegimeForecaster(estimator, refit_every=12),
        )

    assert_no_look_ahead(made, data, other_data, future, lag=1)


@pytest.mark.parametrize("make", [lambda: WindowForecaster(20, refit_every=2), regimes])
def test_a_run_that_is_cut_goes_on_to_the_same_bits(make, market):
    dates = market.dates[market.dates >= DATE][:4]
    whole, first, rest = (strategy(make()) for _ in range(3))
    expected = [whole.decide(market.at(date), HELD) for date in dates]
    states = []
    for date in dates[:2]:
        first.decide(market.at(date), HELD)
        states.append(first.checkpoint())
    assert states[1] is not None
    rest.resume(states[1], market.at(dates[1]))
    for date, weights in zip(dates[2:], expected[2:], strict=True):
        assert (
            rest.decide(market.at(date), HELD).to_numpy().tobytes() == weights.to_numpy().tobytes()
        )


def test_within_a_window_a_run_is_not_cut(market):
    tested = strategy(WindowForecaster(20, refit_every=2))
    tested.decide(market.at(DATE), HELD)
    assert tested.checkpoint() is None


def test_strategies_are_told_apart_by_their_settings():
    keys = [
        describe(strategy()),
        describe(strategy(risk_aversion=5.0)),
        describe(strategy(WindowForecaster(21))),
        describe(strategy(WindowForecaster(20, LedoitWolfMoments()))),
        describe(strategy(risk_aversion=CVaRMatched(limit=0.01))),
        describe(strategy(regimes())),
    ]
    assert describe(strategy()) == keys[0]
    assert all(a != b for i, a in enumerate(keys) for b in keys[:i])


def test_settings_that_make_no_sense_are_rejected():
    with pytest.raises(ModelError, match="window = 4, period = 5, refit_every = 1"):
        WindowForecaster(4, period=5)
    with pytest.raises(ModelError, match="if_infeasible = 'hope'"):
        strategy(if_infeasible="hope")
    with pytest.raises(ModelError, match=r"confidence = 1.0"):
        strategy(confidence=1.0)


def test_a_failed_estimate_is_kept_or_raised(market):
    """The estimator fails on every second call: the forecaster goes on and says why."""

    class Failing:
        period = 1
        calls = 0

        def estimate(self, view, *, start=None):
            self.calls += 1
            if self.calls % 2 == 0:
                raise DataError("too few rows")
            return regimes().estimator.estimate(view, start=start)

    dates = market.dates[market.dates >= DATE][:3]
    keeping = RegimeForecaster(Failing(), 1, "keep")
    model = OneStageStrategy(MeanVariance(risk_aversion=4.0, transaction_cost=COST), keeping)
    for date in dates:
        model.decide(market.at(date), HELD)
    assert model.decision_log_table()["failure"].tolist() == ["", "DataError: too few rows", ""]
    raising = RegimeForecaster(Failing(), 1)
    raising.forecast(market.at(dates[0]))
    with pytest.raises(DataError, match="too few rows"):
        raising.forecast(market.at(dates[1]))
    with pytest.raises(ModelError, match="on_failure='wait'"):
        RegimeForecaster(Failing(), 1, "wait")
