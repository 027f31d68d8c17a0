"""Scenarios of one's own in a multi-stage strategy, without subclassing anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sddp.backtest import Cell, variants
from sddp.backtest.today import TrainedModel
from sddp.errors import ModelError
from sddp.estimation import GivenScenarios, RegimeForecaster, RollingEstimate
from sddp.scenarios import MarkovScenarios
from tests.backtest.test_estimation import two_regimes
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead
from tests.backtest.test_multistage import run, small_strategy, two_regime_market

REFERENCE = two_regimes(n_scenarios=20, carry=False)


def from_regimes(view) -> MarkovScenarios:
    """The package's own scenarios, as a function that a user might write."""
    return REFERENCE.estimate(view).scenarios


def filtered(view) -> np.ndarray:
    estimate = REFERENCE.estimate(view)
    return estimate.belief(view)


def recent(view) -> MarkovScenarios:
    """The last ten returns of what is quoted."""
    quoted = view.quoted.iloc[-1]
    rows = view.returns.loc[:, quoted].iloc[-10:].fillna(0.0)
    if rows.empty or not len(rows.columns):
        rows = view.returns.iloc[-10:].fillna(0.0)
    return MarkovScenarios(rows, [[1.0]], n_stages=1)


def three_stages(view) -> MarkovScenarios:
    laws = np.stack([recent(view).returns[0] * (1.0 + k) for k in range(3)])
    return MarkovScenarios(laws, np.ones((3, 1, 1)), asset_names=list(view.assets))


def test_the_same_scenarios_give_the_same_decisions():
    market = two_regime_market()
    own = GivenScenarios(from_regimes, filtered)
    ours = small_strategy(estimator=REFERENCE, refit_every=1)
    theirs = small_strategy(estimator=own, refit_every=1)
    weights = [
        run(strategy, market, n_decisions=3)[0].ledger("tested").decisions
        for strategy in (ours, theirs)
    ]
    np.testing.assert_array_equal(*weights)


def test_scenarios_by_stage_are_taken_as_they_are():
    market = two_regime_market()
    strategy = small_strategy(estimator=GivenScenarios(three_stages), n_stages=3)
    _, ran = run(strategy, market, n_decisions=1)
    assert ran.policy.problem.n_stages == 3
    assert not ran.policy.problem.scenarios.stationary
    short = small_strategy(estimator=GivenScenarios(three_stages), n_stages=4)
    with pytest.raises(ModelError, match="scenarios of 3 stages: must be of 4"):
        run(short, market, n_decisions=1)


def test_a_one_period_forecast_takes_them_too():
    market = two_regime_market()
    view = market.at(market.dates[-1])
    forecast = RegimeForecaster(GivenScenarios(recent)).forecast(view)
    np.testing.assert_allclose(forecast.moments.mean, view.returns.iloc[-10:].mean())


@dataclass(frozen=True)
class Frozen:
    """A user's own estimator, by the methods alone."""

    period: int = 1

    def estimate(self, view, *, start=None):
        return GivenScenarios(recent).estimate(view)

    def cash_return(self, view):
        return 0.001


def test_a_users_own_estimator_can_be_described_and_followed():
    market = two_regime_market()
    strategy = small_strategy(estimator=Frozen())
    assert Cell(strategy, 0.002).strategy.estimator == Frozen()
    _, ran = run(strategy, market, n_decisions=2)
    assert ran.policy.problem.terms.cash_return[0] == 0.001
    rolling = RollingEstimate(Frozen(), 2)
    rolling.refresh(market.at(market.dates[-1]))
    state = rolling.state()
    again = RollingEstimate(Frozen(), 2)
    again.resume(state, market.at(market.dates[-1]))
    assert again.estimate.date == rolling.estimate.date


@pytest.mark.parametrize("future", FUTURES)
def test_scenarios_of_ones_own_know_no_future(future, data, other_data):
    def make(_):
        return small_strategy(estimator=GivenScenarios(recent), on_failure="keep")

    assert_no_look_ahead(make, data, other_data, future, lag=1)


# --- what is not possible ---


def nothing(view):
    return None


def strangers(view) -> MarkovScenarios:
    return MarkovScenarios([[[0.01]]], [[1.0]], asset_names=["stranger"], n_stages=1)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (GivenScenarios(nothing), "a NoneType: must be MarkovScenarios"),
        (GivenScenarios(strangers), r"assets \['stranger'\], which the market lacks"),
        (GivenScenarios(from_regimes), "belief=None: must be a function where there are 2 regimes"),
    ],
)
def test_what_is_no_estimate_raises(estimator, message):
    with pytest.raises(ModelError, match=message):
        run(small_strategy(estimator=estimator), two_regime_market(), n_decisions=1)


def test_what_needs_fitted_regimes_says_so():
    strategy = small_strategy(estimator=GivenScenarios(recent))
    market = two_regime_market()
    with pytest.raises(ModelError, match="must be a RegimeEstimator"):
        variants(strategy)
    with pytest.raises(ModelError, match="must be a RegimeEstimator"):
        TrainedModel.of(strategy, market.at(market.dates[-1]))
    with pytest.raises(ModelError, match="scenarios=3: must be a function"):
        GivenScenarios(3)
    with pytest.raises(ModelError, match="period=0"):
        GivenScenarios(recent, period=0)
