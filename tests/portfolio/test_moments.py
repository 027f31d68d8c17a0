"""Estimators against formulas, other libraries, quadrature and enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    ConstantCorrelationMoments,
    ExponentialMoments,
    LedoitWolfMoments,
    OasMoments,
    Outcomes,
    SampleMoments,
    outcome_moments,
    regime_moments,
    scenario_outcomes,
)
from sddp.scenarios import MarkovScenarios
from sddp.statistics import FactorModel, Regimes, markov_scenarios

ESTIMATORS = [
    SampleMoments(),
    ExponentialMoments(half_life=20.0),
    LedoitWolfMoments(),
    OasMoments(),
    ConstantCorrelationMoments(),
]


@pytest.fixture
def returns() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    common = rng.normal(size=(60, 1))
    table = 0.004 + 0.02 * common + 0.03 * rng.normal(size=(60, 4))
    return pd.DataFrame(table, columns=["gold", "stocks", "dollar", "euro"])


@pytest.fixture
def regimes() -> Regimes:
    """Monthly log returns of two variables, calm and wild."""
    correlation = np.array([[1.0, 0.3], [0.3, 1.0]])
    return Regimes(
        means=np.array([[0.010, 0.004], [-0.030, 0.002]]),
        covariances=np.array([0.03, 0.09])[:, None, None] ** 2 * correlation,
        transition_matrix=np.array([[0.9, 0.1], [0.3, 0.7]]),
        start_probabilities=np.array([1.0, 0.0]),
        variable_names=("stocks", "bonds"),
    )


def test_sample_moments_are_those_of_pandas(returns):
    moments = SampleMoments().estimate(returns)
    pd.testing.assert_series_equal(moments.mean, returns.mean())
    pd.testing.assert_frame_equal(moments.covariance, returns.cov())


def test_exponential_moments_are_those_of_pandas(returns):
    moments = ExponentialMoments(half_life=20.0).estimate(returns)
    weighted = returns.ewm(halflife=20.0)
    pd.testing.assert_series_equal(moments.mean, weighted.mean().iloc[-1], check_names=False)
    covariance = weighted.cov(bias=False).loc[returns.index[-1]]
    pd.testing.assert_frame_equal(moments.covariance, covariance)


def test_a_long_half_life_forgets_nothing(returns):
    slow, sample = ExponentialMoments(half_life=1e9), SampleMoments()
    found, expected = slow.estimate(returns), sample.estimate(returns)
    pd.testing.assert_frame_equal(found.covariance, expected.covariance, rtol=1e-6)


@pytest.mark.parametrize("rows", [60, 3])
def test_ledoit_and_wolf_by_their_formula(returns, rows):
    """Ledoit and Wolf (2004): ``(b2 / d2) m I + (1 - b2 / d2) S``, over n, from the paper."""
    x = returns.to_numpy()[-rows:]
    x = x - x.mean(axis=0)
    n, p = x.shape
    sample = x.T @ x / n
    m = np.trace(sample) / p
    d2 = ((sample - m * np.eye(p)) ** 2).sum() / p
    b2 = sum(((np.outer(row, row) - sample) ** 2).sum() for row in x) / p / n**2
    b2 = min(b2, d2)
    expected = b2 / d2 * m * np.eye(p) + (d2 - b2) / d2 * sample
    moments = LedoitWolfMoments().estimate(returns.iloc[-rows:])
    np.testing.assert_allclose(moments.covariance.to_numpy(), expected, rtol=1e-12)
    assert np.linalg.eigvalsh(moments.covariance)[0] > 0.0
    pd.testing.assert_series_equal(moments.mean, returns.iloc[-rows:].mean())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_name_assets_and_reject_bad_tables(estimator, returns):
    assert list(estimator.estimate(returns).mean.index) == list(returns.columns)
    assert list(estimator.estimate(returns.to_numpy()).covariance.index) == [
        "asset1",
        "asset2",
        "asset3",
        "asset4",
    ]
    with_gap = returns.copy()
    with_gap.loc[7, "stocks"] = np.nan
    with pytest.raises(DataError, match="returns has 1 row; a covariance needs at least 2"):
        estimator.estimate(returns.iloc[:1])
    with pytest.raises(DataError, match="returns holds nan in column 'stocks', row 7"):
        estimator.estimate(with_gap)
    with pytest.raises(DataError, match="returns holds -3, a loss of more than everything"):
        estimator.estimate(returns.replace(returns.iloc[0, 0], -3.0))


@pytest.mark.parametrize("half_life", [0.0, -1.0, np.inf, np.nan])
def test_a_half_life_is_positive(half_life):
    with pytest.raises(ModelError, match=f"half_life = {half_life}"):
        ExponentialMoments(half_life=half_life)


def test_moments_of_a_discrete_law_are_those_of_numpy():
    rng = np.random.default_rng(3)
    returns, p = rng.normal(size=(30, 3)), rng.dirichlet(np.ones(30))
    moments = outcome_moments(Outcomes(returns, p))
    np.testing.assert_allclose(moments.mean, np.average(returns, axis=0, weights=p), rtol=1e-12)
    expected = np.cov(returns.T, aweights=p, ddof=0)
    np.testing.assert_allclose(moments.covariance.to_numpy(), expected, rtol=1e-12)
    equal = outcome_moments(Outcomes(returns), names=["a", "b", "c"])
    np.testing.assert_allclose(equal.covariance.to_numpy(), np.cov(returns.T, ddof=0), rtol=1e-12)
    assert list(equal.mean.index) == ["a", "b", "c"]
    with pytest.raises(ModelError, match="outcomes: probabilities sum to"):
        outcome_moments(Outcomes(returns, p / 2.0))


def test_outcomes_of_a_belief_by_enumeration():
    """``(belief P)_j p_js``, summed over where one is, where one goes, and what it pays."""
    rng = np.random.default_rng(6)
    returns, p = rng.normal(0.0, 0.1, (2, 3, 4, 2)), rng.dirichlet(np.ones(4), size=(2, 3))
    chain = rng.dirichlet(np.ones(3), size=(2, 3))
    scenarios = MarkovScenarios(returns, chain, p)
    belief = np.array([0.5, 0.2, 0.3])
    law = outcome_moments(scenario_outcomes(scenarios, belief, stage=1))
    mean, square = np.zeros(2), np.zeros((2, 2))
    for k, j, s in product(range(3), range(3), range(4)):
        weight, r = belief[k] * chain[1, k, j] * p[1, j, s], returns[1, j, s]
        mean, square = mean + weight * r, square + weight * np.outer(r, r)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(
        law.covariance.to_numpy(), square - np.outer(mean, mean), rtol=1e-10, atol=1e-16
    )


def quadrature(mean: np.ndarray, covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and second moment of ``exp(z) - 1`` for normal z, by Gauss and Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    root = np.linalg.cholesky(covariance)
    first, second = np.zeros(len(mean)), np.zeros_like(covariance)
    for index in product(range(40), repeat=len(mean)):
        r = np.exp(mean + root @ nodes[list(index)]) - 1.0
        weight = np.prod(weights[list(index)] / np.sqrt(2.0 * np.pi))
        first, second = first + weight * r, second + weight * np.outer(r, r)
    return first, second


def test_regime_moments_are_those_of_the_mixture_of_log_normals(regimes):
    belief = np.array([0.25, 0.75])
    weights = belief @ regimes.transition_matrix
    parts = [quadrature(*law) for law in zip(regimes.means, regimes.covariances, strict=True)]
    mean = sum(w * first for w, (first, _) in zip(weights, parts, strict=True))
    square = sum(w * second for w, (_, second) in zip(weights, parts, strict=True))
    moments = regime_moments(regimes, belief)
    np.testing.assert_allclose(moments.mean, mean, rtol=1e-11)
    expected = square - np.outer(mean, mean)
    np.testing.assert_allclose(moments.covariance.to_numpy(), expected, rtol=1e-10)
    assert list(moments.mean.index) == ["stocks", "bonds"]


def test_scenarios_of_the_regimes_have_their_moments(regimes):
    """Through a factor model: 2^13 Sobol points a regime against the closed form.

    The sampling error of a mean is about 1e-5 here, far below the means themselves.
    """
    rng = np.random.default_rng(9)
    factors = rng.normal(size=(200, 2)) * 0.05
    own = 0.002 + factors @ np.array([[0.8, 0.3, 1.2], [0.1, 0.9, -0.4]])
    own = own + 0.02 * rng.normal(size=(200, 3))
    table = pd.DataFrame(own, columns=["a", "b", "c"])
    assets = FactorModel().fit(table, pd.DataFrame(factors, columns=["stocks", "bonds"]))
    scenarios = markov_scenarios(regimes, assets, n_stages=1, n_scenarios=2**13, rng=rng)
    belief = np.array([0.4, 0.6])
    sampled = outcome_moments(scenario_outcomes(scenarios, belief))
    exact = regime_moments(regimes, belief, assets)
    assert list(exact.mean.index) == ["a", "b", "c"]
    np.testing.assert_allclose(sampled.mean, exact.mean, atol=1e-4)
    np.testing.assert_allclose(
        sampled.covariance.to_numpy(), exact.covariance.to_numpy(), rtol=0.02, atol=2e-5
    )


@pytest.mark.parametrize("belief", [[0.5, 0.6], [1.5, -0.5], [1.0]])
def test_a_belief_is_a_law_of_the_regimes(belief, regimes):
    with pytest.raises(ModelError, match="belief over regimes: probabilities"):
        regime_moments(regimes, belief)


def test_constant_correlation_is_that_of_the_authors_steps(returns):
    """Sums over rows and pairs, written out as in the appendix of Ledoit and Wolf (2004).

    (PyPortfolioOpt 1.6.0, run apart, mixes sums over n and over n - 1: 0.0604 for 0.0625 here.)
    """
    returns = returns.assign(euro=0.3 * returns["stocks"] - 0.9 * returns["gold"])
    x = (returns - returns.mean()).to_numpy()
    n, p = x.shape
    s = x.T @ x / n
    sd = np.sqrt(np.diag(s))
    pairs = [(i, j) for i in range(p) for j in range(p) if i != j]
    common = np.mean([s[i, j] / (sd[i] * sd[j]) for i, j in pairs])
    f = np.array(
        [[s[i, i] if i == j else common * sd[i] * sd[j] for j in range(p)] for i in range(p)]
    )

    def error(i, j):
        return x[:, i] * x[:, j] - s[i, j]

    pi = sum(np.mean(error(i, j) ** 2) for i in range(p) for j in range(p))
    rho = sum(np.mean(error(i, i) ** 2) for i in range(p))
    rho += sum(
        common
        / 2.0
        * (
            sd[j] / sd[i] * np.mean(error(i, i) * error(i, j))
            + sd[i] / sd[j] * np.mean(error(j, j) * error(i, j))
        )
        for i, j in pairs
    )
    share = (pi - rho) / ((f - s) ** 2).sum() / n
    assert 0.0 < share < 0.9
    found = ConstantCorrelationMoments().estimate(returns)
    np.testing.assert_allclose(
        found.covariance.to_numpy(), share * f + (1.0 - share) * s, rtol=1e-12
    )
    still = returns.assign(gold=0.01)
    with pytest.raises(DataError, match="'gold' do not vary"):
        ConstantCorrelationMoments().estimate(still)


def test_oas_is_that_of_chen_and_others(returns):
    """Their equation (23) with the correction of the published erratum, as scikit-learn has it."""
    x = (returns - returns.mean()).to_numpy()
    n, p = x.shape
    s = x.T @ x / n
    mu, alpha = np.trace(s) / p, np.mean(s**2)
    share = min((alpha + mu**2) / ((n + 1.0) * (alpha - mu**2 / p)), 1.0)
    expected = share * mu * np.eye(p) + (1.0 - share) * s
    np.testing.assert_allclose(
        OasMoments().estimate(returns).covariance.to_numpy(), expected, rtol=1e-12
    )
