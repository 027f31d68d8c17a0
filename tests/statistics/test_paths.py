"""Simulated paths of regimes and assets: their law, and beliefs along them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from sddp.errors import DataError
from sddp.statistics import FittedFactorModel, Regimes, simulate_regimes

CHAIN = np.array([[0.9, 0.1], [0.3, 0.7]])
MODEL = Regimes(
    means=np.array([[0.01, 0.0], [-0.03, 0.02]]),
    covariances=np.array([[[4e-4, 1e-4], [1e-4, 3e-4]], [[2.5e-3, -5e-4], [-5e-4, 1e-3]]]),
    transition_matrix=CHAIN,
    start_probabilities=np.array([0.5, 0.5]),
)
ASSETS = FittedFactorModel(
    intercepts=np.array([0.001, 0.002, 0.0]),
    loadings=np.array([[1.0, 0.5], [0.7, -0.2], [0.0, 0.0]]),
    residual_covariance=np.diag([1e-4, 4e-4, 9e-4]),
    r_squared=np.full(3, 0.5),
)
START = np.array([0.25, 0.75])


@pytest.fixture(scope="module")
def paths():
    rng = np.random.default_rng(1)
    return simulate_regimes(MODEL, ASSETS, start=START, n_paths=20_000, n_periods=3, rng=rng)


def test_regimes_follow_the_chain(paths):
    law = START
    for t in range(4):
        share = (paths.regimes[:, t] == 0).mean()
        assert abs(share - law[0]) < 4.0 * np.sqrt(0.25 / 20_000)
        law = law @ CHAIN
    left = paths.regimes[paths.regimes[:, 1] == 1, 2] == 0
    assert abs(left.mean() - 0.3) < 4.0 * np.sqrt(0.21 / len(left))


def test_returns_are_emitted_by_the_regime_that_is_arrived_in(paths):
    """Mean of a lognormal return, and covariance of log returns, in closed form."""
    for k in (0, 1):
        rows = paths.returns[paths.regimes[:, 1:] == k]
        covariance = ASSETS.loadings @ MODEL.covariances[k] @ ASSETS.loadings.T
        covariance += ASSETS.residual_covariance
        center = ASSETS.intercepts + ASSETS.loadings @ MODEL.means[k]
        expected = np.exp(center + np.diag(covariance) / 2.0) - 1.0
        error = rows.std(axis=0) / np.sqrt(len(rows))
        assert (np.abs(rows.mean(axis=0) - expected) < 4.0 * error).all()
        np.testing.assert_allclose(np.cov(np.log1p(rows).T), covariance, atol=6e-5)


def test_beliefs_are_those_of_enumeration(paths):
    """Law of the regime at the third date given two emissions, over all paths of regimes."""
    beliefs = paths.beliefs(MODEL, START)
    assert beliefs.shape == (20_000, 3, 2)
    np.testing.assert_array_equal(beliefs[:, 0], np.tile(START, (20_000, 1)))
    for i in range(5):
        weights = np.zeros(2)
        for first, second, third in product((0, 1), repeat=3):
            chance = START[first] * CHAIN[first, second] * CHAIN[second, third]
            for k, row in ((second, 0), (third, 1)):
                law = multivariate_normal(MODEL.means[k], MODEL.covariances[k])
                chance *= law.pdf(paths.factors[i, row])
            weights[third] += chance
        np.testing.assert_allclose(beliefs[i, 2], weights / weights.sum(), rtol=1e-9)


def test_beliefs_over_one_period_are_the_start(paths):
    rng = np.random.default_rng(2)
    short = simulate_regimes(MODEL, start=START, n_paths=4, n_periods=1, rng=rng)
    np.testing.assert_array_equal(short.beliefs(MODEL, START), np.tile(START, (4, 1, 1)))
    np.testing.assert_allclose(short.returns, np.expm1(short.factors))


def test_equal_seeds_give_equal_paths():
    first, second = (
        simulate_regimes(
            MODEL, ASSETS, start=START, n_paths=5, n_periods=4, rng=np.random.default_rng(3)
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.returns, second.returns)
    np.testing.assert_array_equal(first.regimes, second.regimes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"start": np.array([0.5, 0.4])}, "start = .*one probability for each of 2"),
        ({"start": np.array([1.0])}, "start = "),
        ({"n_paths": 0}, "n_paths = 0, n_periods = 3; give at least 1"),
        ({"n_periods": 0}, "n_periods = 0"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    settings = {"start": START, "n_paths": 2, "n_periods": 3, "rng": np.random.default_rng(1)}
    with pytest.raises(DataError, match=words):
        simulate_regimes(MODEL, **(settings | changes))
