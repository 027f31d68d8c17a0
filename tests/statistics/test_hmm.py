import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sddp.statistics.hidden_markov.hmm import (
    count_parameters,
    covariance_penalty,
    filtered_probabilities,
    last_filtered_probabilities,
    least_eigenvalue_ratio,
    log_densities,
    viterbi_path,
)
from tests.statistics import oracles
from tests.statistics.models import random_regimes

SEEDS = range(5)


def _case(seed, n=5):
    model = random_regimes(seed)
    observations = np.random.default_rng(100 + seed).normal(size=(n, 2))
    return model, observations, log_densities(observations, model.means, model.covariances)


@pytest.mark.parametrize("seed", SEEDS)
def test_densities_equal_scipy(seed):
    model = random_regimes(seed, n_states=4, n_variables=6)
    rows = np.random.default_rng(seed).normal(size=(20, 6))
    expected = np.log(oracles.densities(rows, model.means, model.covariances))
    np.testing.assert_allclose(
        log_densities(rows, model.means, model.covariances), expected, rtol=1e-11
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_filter_and_likelihood_equal_path_enumeration(seed):
    model, observations, densities = _case(seed)
    filtered, log_likelihood = filtered_probabilities(
        densities, model.start_probabilities, model.transition_matrix
    )
    expected, likelihood = oracles.enumerated_filter(observations, model)
    np.testing.assert_allclose(filtered, expected, rtol=1e-12)
    assert log_likelihood == pytest.approx(np.log(likelihood), rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_row_of_the_filter_equals_path_enumeration(seed, n):
    model, observations, densities = _case(seed, n)
    chain = model.start_probabilities, model.transition_matrix
    expected, _ = oracles.enumerated_filter(observations, model)
    last = last_filtered_probabilities(densities, *chain)
    np.testing.assert_allclose(last, expected[-1], rtol=1e-12)


@pytest.mark.parametrize("n", [504, 505])
@pytest.mark.parametrize("size", [1.0, 30.0, 300.0, 3000.0])
def test_the_last_row_alone_is_that_of_the_filter(size, n):
    """However incredible rows are to all regimes that can be reached."""
    rng = np.random.default_rng(3)
    densities = -size * rng.exponential(size=(n, 3))
    chain = np.array([0.2, 0.8, 0.0]), np.array([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.0, 0.0, 1.0]])
    filtered, _ = filtered_probabilities(densities, *chain)
    last = last_filtered_probabilities(densities, *chain)
    np.testing.assert_allclose(last, filtered[-1], rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("depth", [600.0, 740.0])
def test_the_last_row_keeps_its_digits_near_the_smallest_float(depth, before):
    """Odds of e to 1 between the two that can be reached, as in closed form."""
    densities = np.array([*[[0.0, 0.0, 0.0]] * before, [-depth, -depth - 1.0, 0.0]])
    last = last_filtered_probabilities(densities, np.array([0.5, 0.5, 0.0]), np.eye(3))
    expected = [1.0 / (1.0 + np.exp(-1.0)), 1.0 / (1.0 + np.e), 0.0]
    np.testing.assert_allclose(last, expected, rtol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_viterbi_equals_path_enumeration(seed):
    model, observations, densities = _case(seed)
    path = viterbi_path(densities, model.start_probabilities, model.transition_matrix)
    best, _ = max(oracles.paths(observations, model), key=lambda item: item[1])
    assert tuple(path) == best


def test_filter_survives_a_row_that_every_reachable_regime_finds_incredible():
    # Regime 1 can never be reached; regime 0 gives the row a density of exp(-5000).
    densities = np.array([[-1.0, -1.0], [-5000.0, 0.0]])
    filtered, log_likelihood = filtered_probabilities(densities, np.array([1.0, 0.0]), np.eye(2))
    assert filtered.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert log_likelihood == -5001.0
    last = last_filtered_probabilities(densities, np.array([1.0, 0.0]), np.eye(2))
    assert last.tolist() == [1.0, 0.0]


def test_penalty_is_minus_the_prior_rows_times_a_kullback_leibler_divergence():
    model, center = random_regimes(0), np.array([[2.0, 0.3], [0.3, 1.0]])
    # Divergence by Monte Carlo from its definition, with its standard error.
    law = multivariate_normal([0, 0], center)
    draws = law.rvs(200_000, random_state=np.random.default_rng(1))
    gaps = sum(
        law.logpdf(draws) - multivariate_normal([0, 0], c).logpdf(draws) for c in model.covariances
    )
    penalty = covariance_penalty(model.covariances, center, 5.0)
    assert abs(penalty + 5.0 * gaps.mean()) < 4.0 * 5.0 * gaps.std() / np.sqrt(len(draws))
    assert covariance_penalty(np.array([center, center]), center, 5.0) == pytest.approx(0.0)


def test_least_eigenvalue_ratio_is_the_worst_variance_over_all_directions():
    model, pooled = random_regimes(2), np.array([[2.0, 0.3], [0.3, 1.0]])
    angles = np.linspace(0.0, np.pi, 20_001)
    w = np.stack([np.cos(angles), np.sin(angles)])
    worst = min(
        ((w * (c @ w)).sum(axis=0) / (w * (pooled @ w)).sum(axis=0)).min()
        for c in model.covariances
    )
    assert least_eigenvalue_ratio(model.covariances, pooled) == pytest.approx(worst, rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("d", [1, 3])
def test_parameter_count_by_listing_them(k, d):
    start, transitions, means = k - 1, k * (k - 1), k * d
    entries = sum(1 for i in range(d) for j in range(d) if i <= j)
    assert count_parameters(k, d) == start + transitions + means + k * entries
