from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from sddp.errors import DataError, ModelError
from sddp.statistics import (
    FittedFactorModel,
    Regimes,
    asset_moments,
    latin_hypercube_normal,
    markov_scenarios,
    monte_carlo_normal,
    sobol_normal,
)

NAMES = ("gold", "ibov")
REGIMES = Regimes(
    means=np.array([[0.01, 0.004], [-0.02, -0.03]]),
    covariances=np.array([[[0.0004, 0.0001], [0.0001, 0.0009]], [[0.004, 0.001], [0.001, 0.006]]]),
    transition_matrix=np.array([[0.9, 0.1], [0.3, 0.7]]),
    start_probabilities=np.array([0.5, 0.5]),
    variable_names=NAMES,
)
ASSETS = FittedFactorModel(
    intercepts=np.array([0.001, 0.002, -0.003]),
    loadings=np.array([[1.0, 0.2], [0.5, 0.5], [0.0, 1.5]]),
    residual_covariance=np.diag([0.01, 0.02, 0.03]) ** 2,
    r_squared=np.array([0.9, 0.8, 0.7]),
    asset_names=("x", "y", "z"),
    factor_names=NAMES,
)


def _rng(seed=0):
    return np.random.default_rng(seed)


def _draw(assets=None, **options):
    settings = {"n_stages": 4, "n_scenarios": 64, "rng": _rng()} | options
    return markov_scenarios(REGIMES, assets, **settings)


def _log_returns(scenarios, state, stage=0):
    return np.log1p(scenarios.returns[stage, state])


def test_without_assets_the_regimes_variables_are_the_assets():
    scenarios = _draw()
    assert scenarios.returns.shape == (4, 2, 64, 2)
    assert scenarios.asset_names == NAMES
    assert scenarios.stationary
    np.testing.assert_array_equal(scenarios.transition_matrix[2], REGIMES.transition_matrix)
    assert (scenarios.probabilities == 1 / 64).all()


@pytest.mark.parametrize("state", [0, 1])
def test_returns_are_simple_returns_of_the_regimes_law(state):
    scenarios = _draw(sampling="latin hypercube", n_scenarios=50)
    u = (np.arange(50) + 0.5) / 50
    deviations = np.sqrt(np.diag(REGIMES.covariances[state]))
    expected = np.exp(norm.ppf(u[:, None], REGIMES.means[state], deviations)) - 1.0
    np.testing.assert_allclose(np.sort(scenarios.returns[0, state], axis=0), expected, atol=1e-12)


@pytest.mark.parametrize("state", [0, 1])
def test_factor_scenarios_have_the_moments_of_the_factor_model(state):
    n = 4096
    z = _log_returns(_draw(ASSETS, n_scenarios=n), state)
    b, sigma = ASSETS.loadings, REGIMES.covariances[state]
    mean = ASSETS.intercepts + b @ REGIMES.means[state]
    covariance = b @ sigma @ b.T + np.diag([0.01**2, 0.02**2, 0.03**2])
    deviations = np.sqrt(np.diag(covariance))
    # Standard errors of a random draw; Sobol points do better.
    assert (np.abs(z.mean(axis=0) - mean) / (deviations / np.sqrt(n))).max() < 0.3
    spread = np.sqrt((covariance**2 + np.outer(deviations**2, deviations**2)) / n)
    assert (np.abs(np.cov(z.T) - covariance) / spread).max() < 1.0
    for found, stated in zip(
        asset_moments(REGIMES.means[state], sigma, ASSETS), (mean, covariance), strict=True
    ):
        np.testing.assert_allclose(found, stated, rtol=1e-12)


def test_residuals_are_drawn_with_their_variance_as_a_variance():
    # The paper's own code passes one for the other. Without loadings z = a + e exactly.
    residuals_only = replace(ASSETS, loadings=np.zeros((3, 2)))
    z = _log_returns(_draw(residuals_only, sampling="latin hypercube", n_scenarios=40), 1)
    u = (np.arange(40) + 0.5) / 40
    expected = norm.ppf(u[:, None], ASSETS.intercepts, [0.01, 0.02, 0.03])
    np.testing.assert_allclose(np.sort(z, axis=0), expected, atol=1e-12)


def test_full_residual_covariance_is_drawn():
    full = np.array([[1e-4, 1.2e-4, 0.0], [1.2e-4, 4e-4, 0.0], [0.0, 0.0, 9e-4]])
    assets = replace(ASSETS, loadings=np.zeros((3, 2)), residual_covariance=full)
    z = _log_returns(_draw(assets, n_scenarios=4096), 0)
    np.testing.assert_allclose(np.corrcoef(z.T)[0, 1], 0.6, atol=0.02)


@pytest.mark.parametrize("assets", [None, ASSETS])
@pytest.mark.parametrize("sampling", ["sobol", "latin hypercube", "monte carlo"])
def test_matched_moments_are_exact_in_every_regime_and_stage(assets, sampling):
    scenarios = _draw(
        assets, sampling=sampling, moment_matching=True, n_scenarios=7, fresh_each_stage=True
    )
    for t in range(4):
        for k in range(2):
            mean, covariance = REGIMES.means[k], REGIMES.covariances[k]
            if assets is not None:
                b = assets.loadings
                mean = assets.intercepts + b @ mean
                covariance = b @ covariance @ b.T + assets.residual_covariance
            z = _log_returns(scenarios, k, t)
            np.testing.assert_allclose(z.mean(axis=0), mean, atol=1e-14)
            np.testing.assert_allclose(np.cov(z.T, bias=True), covariance, atol=1e-14)


def test_fresh_stages_differ_and_more_stages_keep_the_earlier():
    fresh = _draw(fresh_each_stage=True)
    assert not fresh.stationary
    assert np.abs(fresh.returns[0] - fresh.returns[1]).max() > 1e-3
    longer = _draw(fresh_each_stage=True, n_stages=6)
    np.testing.assert_array_equal(longer.returns[:4], fresh.returns)


def test_regimes_are_drawn_apart():
    standard = [
        np.linalg.solve(
            np.linalg.cholesky(REGIMES.covariances[k]),
            (_log_returns(_draw(), k) - REGIMES.means[k]).T,
        )
        for k in range(2)
    ]
    assert np.abs(standard[0] - standard[1]).max() > 0.1


@pytest.mark.parametrize("sampling", ["sobol", "latin hypercube", "monte carlo"])
def test_the_seed_decides(sampling):
    first, again, other = (_draw(sampling=sampling, rng=_rng(s)).returns for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize("sampler", [sobol_normal, latin_hypercube_normal, monte_carlo_normal])
def test_a_scheme_may_be_given_as_a_function(sampler):
    name = next(n for n in ("sobol", "latin hypercube", "monte carlo") if n[:3] in sampler.__name__)
    np.testing.assert_array_equal(_draw(sampling=sampler).returns, _draw(sampling=name).returns)


def test_a_scheme_of_the_users_own_needs_no_change_here():
    def two_points(mean, covariance, n, *, rng):
        signs = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        return mean + signs[:, None] * np.sqrt(np.diag(covariance))

    z = _log_returns(_draw(sampling=two_points, n_scenarios=2), 0)
    np.testing.assert_allclose(z, [[0.03, 0.034], [-0.01, -0.026]], atol=1e-15)


@pytest.mark.parametrize(
    ("assets", "options", "error", "words"),
    [
        (None, {"sampling": "halton"}, ModelError, "sampling = 'halton'"),
        (None, {"n_stages": 0}, DataError, "n_stages = 0, n_scenarios = 64; give at least 1"),
        (None, {"n_scenarios": 0}, DataError, "n_scenarios = 0"),
        (None, {"moment_matching": True, "n_scenarios": 2}, DataError, "more than 2 points, not 2"),
        (ASSETS, {"moment_matching": True, "n_scenarios": 3}, DataError, "more than 3 points"),
        (replace(ASSETS, factor_names=("a", "b")), {}, DataError, r"factors \['a', 'b'\], regimes"),
        (
            replace(ASSETS, loadings=np.ones((3, 1)), factor_names=None),
            {},
            DataError,
            "assets has 1 factors; regimes has 2 variables",
        ),
    ],
)
def test_wrong_calls_are_named_and_the_next_one_works(assets, options, error, words):
    with pytest.raises(error, match=words):
        _draw(assets, **options)
    assert _draw().n_states == 2
