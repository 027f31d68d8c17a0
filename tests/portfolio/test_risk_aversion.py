"""Where risk aversion comes from: other conventions, an index, a CVaR limit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sddp.errors import InfeasibleProblem, ModelError
from sddp.portfolio import (
    CVaRMatched,
    MeanVariance,
    Moments,
    Outcomes,
    VolatilityDriven,
    outcome_moments,
    risk_aversion_of_return,
    risk_aversion_of_variance,
    risk_aversion_of_volatility,
)

MEAN, COVARIANCE = np.array([0.010, 0.006]), np.array([[0.0036, 0.0006], [0.0006, 0.0016]])
COST = 0.001


def first_weight(risk_aversion: float, cost: float) -> float:
    model = MeanVariance(
        risk_aversion=risk_aversion, transaction_cost=cost, max_cash=0.0, self_financing=False
    )
    result = model.solve(Moments(MEAN, COVARIANCE), current_weights=[0.2, 0.8])
    return float(result.holdings["asset1"])


def least(objective) -> float:
    """Weight of the first asset that minimises a function of (mean, variance, cost)."""

    def of(w: float) -> float:
        both = np.array([w, 1.0 - w])
        return objective(MEAN @ both, both @ COVARIANCE @ both, COST * 2.0 * abs(w - 0.2))

    return float(minimize_scalar(of, bounds=(0.0, 1.0), options={"xatol": 1e-12}).x)


def test_the_full_variance_is_twice_the_aversion():
    expected = least(lambda mean, variance, cost: -(mean - 3.0 * variance - cost))
    found = first_weight(risk_aversion_of_variance(3.0), COST)
    assert 0.2 < expected < 1.0
    assert found == pytest.approx(expected, abs=1e-7)


def test_a_multiplier_of_the_return_is_the_inverse():
    expected = least(lambda mean, variance, cost: variance - 0.4 * (mean - cost))
    assert first_weight(risk_aversion_of_return(0.4), COST) == pytest.approx(expected, abs=1e-7)


def test_costs_that_enter_such_an_objective_once_are_divided_by_the_multiplier():
    expected = least(lambda mean, variance, cost: variance - 0.4 * mean + cost / 100.0)
    found = first_weight(risk_aversion_of_return(0.4), COST / 100.0 / 0.4)
    assert found == pytest.approx(expected, abs=1e-7)


def test_the_volatility_form_is_met_at_its_own_solution():
    expected = least(lambda mean, variance, cost: np.sqrt(variance) - 4.0 * (mean - cost))
    both = np.array([expected, 1.0 - expected])
    own = risk_aversion_of_volatility(4.0, float(np.sqrt(both @ COVARIANCE @ both)))
    assert first_weight(own, COST) == pytest.approx(expected, abs=1e-6)


def test_a_multiplier_of_the_return_is_positive():
    with pytest.raises(ModelError, match=r"multiplier = 0.0; give a positive number"):
        risk_aversion_of_return(0.0)
    with pytest.raises(ModelError, match="multiplier = 'much'; give a finite number"):
        risk_aversion_of_variance("much")
    with pytest.raises(ModelError, match=r"volatility = -0.1; give a number of at least 0"):
        risk_aversion_of_volatility(1.0, -0.1)


def test_aversion_follows_the_index():
    driven = VolatilityDriven(base=2.0, sensitivity=0.05)
    assert driven.at(30.0) == 5.0
    model = MeanVariance(risk_aversion=driven, max_cash=0.0, self_financing=False)
    found = model.solve(
        Moments(MEAN, COVARIANCE), current_weights=[0.2, 0.8], volatility_index=30.0
    )
    assert found.risk_aversion == 5.0
    assert found.holdings["asset1"] == first_weight(5.0, 0.0)


@pytest.mark.parametrize("index", [0.3, -5.0, np.nan, np.inf])
def test_an_index_in_decimals_is_rejected(index):
    with pytest.raises(ModelError, match=f"volatility_index = {index}; give points"):
        VolatilityDriven(base=2.0, sensitivity=0.05).at(index)


def test_parameters_of_aversion_are_checked_at_once():
    with pytest.raises(ModelError, match="base = -1"):
        VolatilityDriven(base=-1, sensitivity=0.05)
    with pytest.raises(ModelError, match="sensitivity = nan"):
        VolatilityDriven(base=2.0, sensitivity=np.nan)
    with pytest.raises(ModelError, match=r"confidence = 1.0; give a number between 0 and 1"):
        CVaRMatched(limit=0.02, confidence=1.0)
    with pytest.raises(ModelError, match="limit = nan"):
        CVaRMatched(limit=np.nan)


def skewed(seed: int = 0, n: int = 300) -> Outcomes:
    """Three assets with a fat left tail, unequal probabilities."""
    rng = np.random.default_rng(seed)
    crash = rng.random(n) < 0.1
    returns = rng.normal([0.012, 0.008, 0.004], [0.05, 0.03, 0.01], (n, 3))
    return Outcomes(returns - crash[:, None] * [0.08, 0.03, 0.0], rng.dirichlet(np.ones(n)))


def tail_mean(losses: np.ndarray, weights: np.ndarray, tail: float) -> float:
    """CVaR by its definition: the worst outcomes, the last one in part."""
    left, total = tail, 0.0
    for i in np.argsort(-losses):
        taken = min(left, weights[i])
        total, left = total + taken * losses[i], left - taken
    return total / tail


def solve(limit: float, law: Outcomes, confidence: float = 0.9, **changes):
    moments = outcome_moments(law)
    wanted = CVaRMatched(limit=limit, confidence=confidence)
    model = MeanVariance(**({"risk_aversion": wanted, "transaction_cost": 0.003} | changes))
    current = [0.0, 0.2, 0.1] if model.max_cash else [0.5, 0.3, 0.2]
    result = model.solve(
        moments,
        current_weights=current,
        cash_return=0.001,
        outcomes=law,
    )
    return result, moments, current


@pytest.mark.parametrize("limit", [0.005, 0.01, 0.02, 0.04])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("self_financing", [True, False])
def test_the_cvar_is_the_limit_and_bolder_would_break_it(limit, confidence, self_financing):
    """Own tail mean, costs counted as a loss; and the same model at fixed aversions around it."""
    law = skewed()
    result, moments, current = solve(limit, law, confidence, self_financing=self_financing)

    def cvar(held) -> float:
        losses = held.cost - law.returns @ held.holdings.to_numpy()[1:]
        losses = losses - 0.001 * held.holdings["cash"]
        return tail_mean(losses, law.probabilities, 1.0 - confidence)

    assert cvar(result) == pytest.approx(limit, abs=1e-9)
    assert result.cvar(law, confidence=confidence) == pytest.approx(limit, abs=1e-9)
    for factor in (0.2, 0.5, 0.9, 0.99, 1.0, 1.01):
        fixed = MeanVariance(
            risk_aversion=factor * result.risk_aversion,
            transaction_cost=0.003,
            self_financing=self_financing,
        )
        other = fixed.solve(moments, current_weights=current, cash_return=0.001)
        assert (cvar(other) > limit + 1e-9) == (factor < 1.0)


def test_one_asset_has_its_matched_aversion_in_closed_form():
    """Without costs: ``w = limit / CVaR of the asset``, ``lambda = mean / (variance w)``."""
    rng = np.random.default_rng(1)
    law = Outcomes(rng.normal(0.01, 0.04, (500, 1)))
    moments = outcome_moments(law)
    cvar = tail_mean(-law.returns[:, 0], np.full(500, 1.0 / 500), 0.1)
    model = MeanVariance(risk_aversion=CVaRMatched(limit=0.02))
    result = model.solve(moments, current_weights=[0.0], outcomes=law)
    weight = 0.02 / cvar
    assert 0.1 < weight < 0.9
    assert result.holdings["asset1"] == pytest.approx(weight, abs=1e-8)
    expected = float(moments.mean.iloc[0] / (moments.covariance.iloc[0, 0] * weight))
    assert result.risk_aversion == pytest.approx(expected, rel=1e-7)


def test_a_limit_that_does_not_bind_leaves_no_aversion():
    result, _, _ = solve(0.5, skewed())
    assert result.risk_aversion == 0.0
    assert result.cvar(skewed(), confidence=0.9) < 0.5


def test_a_limit_that_nothing_meets_is_named_with_the_least_cvar():
    law = skewed()
    with pytest.raises(InfeasibleProblem, match=r"CVaR down to the limit -0.05: the least met is"):
        solve(-0.05, law)
    with pytest.raises(InfeasibleProblem, match=r"at risk_aversion = .*; raise the limit"):
        solve(0.001, law, max_cash=0.0, self_financing=False)


def test_the_search_stops_where_wasting_wealth_would_pay():
    with pytest.raises(ModelError, match=r"wasting money on costs would pay"):
        solve(0.001, skewed(), max_cash=0.0)


def test_the_bolder_of_two_matches_is_taken():
    """Without cash the least variance need not have the least CVaR: here it rises again.

    A gamble of mean 3 %, and a quiet asset that loses 1 % for certain.
    """
    rng = np.random.default_rng(2)
    law = Outcomes(np.array([0.03, -0.01]) + rng.normal(size=(2000, 2)) * [0.05, 0.01])
    moments = outcome_moments(law)

    def matched(risk_aversion):
        model = MeanVariance(risk_aversion=risk_aversion, max_cash=0.0)
        return model.solve(moments, current_weights=[0.5, 0.5], outcomes=law)

    grid = np.geomspace(1.0, 1e5, 300)
    cvars = np.array([matched(float(value)).cvar(law, confidence=0.9) for value in grid])
    limit = (cvars.min() + cvars[-1]) / 2.0
    first, last = np.flatnonzero(cvars <= limit)[[0, -1]]
    assert 0 < first < last < len(grid) - 1
    result = matched(CVaRMatched(limit=limit))
    assert grid[first - 1] < result.risk_aversion <= grid[first]
    assert result.cvar(law, confidence=0.9) == pytest.approx(limit, abs=1e-9)


def test_where_weights_jump_the_side_within_the_limit_is_taken():
    """Two assets that always move together: the covariance has rank 1, the choice is a corner."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=500)
    law = Outcomes(np.column_stack([0.012 + 0.06 * noise, 0.006 + 0.02 * noise]))
    moments = outcome_moments(law)
    for limit in (0.02, 0.035, 0.05):
        result = MeanVariance(risk_aversion=CVaRMatched(limit=limit)).solve(
            moments, current_weights=[0.0, 0.0], outcomes=law
        )
        assert result.cvar(law, confidence=0.9) <= limit + 1e-9
