import logging

import numpy as np
import pytest
from hmmlearn.hmm import GaussianHMM

from sddp.statistics.hidden_markov import em
from sddp.statistics.hidden_markov.em import run_em
from sddp.statistics.hidden_markov.hmm import (
    DegenerateStart,
    EMSettings,
    Parameters,
    covariance_penalty,
)
from sddp.statistics.hidden_markov.starts import KINDS, softened, windows
from tests.statistics.models import random_regimes, two_volatilities


@pytest.fixture(autouse=True)
def _silence(caplog):
    """Nothing here may reach hmmlearn's logger, which prints to the user's screen."""
    with caplog.at_level(logging.DEBUG):
        yield
    assert not caplog.records


def _standardized(n=300, seed=0, n_variables=2):
    rows = two_volatilities(n, np.random.default_rng(seed), n_variables)
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def _settings(rows, prior_observations=5.0, scale=0.7, tolerance=1e-11):
    return EMSettings(scale * np.cov(rows.T, bias=True), prior_observations, tolerance, 5000)


def _hmmlearn(parameters):
    model = GaussianHMM(len(parameters.means), "full")
    model.startprob_, model.transmat_ = parameters.start_probabilities, parameters.transition_matrix
    model.means_, model.covars_ = parameters.means, parameters.covariances
    return model


@pytest.mark.parametrize("prior_observations", [0.0, 5.0, 40.0])
def test_a_fixed_point_is_the_stated_map_estimate(prior_observations):
    rows = _standardized()
    settings = _settings(rows, prior_observations)
    start = windows(rows, 2, np.random.default_rng(1))
    result = run_em(rows, np.array([150, 150]), start, settings)
    weights = _hmmlearn(result.parameters).predict_proba(rows, [150, 150])
    for k, weight in enumerate(weights.T):
        mean = weight @ rows / weight.sum()
        scatter = (weight[:, None] * (rows - mean)).T @ (rows - mean)
        covariance = (prior_observations * settings.prior_covariance + scatter) / (
            prior_observations + weight.sum()
        )
        np.testing.assert_allclose(result.parameters.means[k], mean, atol=1e-5)
        np.testing.assert_allclose(result.parameters.covariances[k], covariance, atol=1e-5)
        assert result.expected_counts[k] == pytest.approx(weight.sum(), abs=1e-5)
    starts = weights[[0, 150]].mean(axis=0)
    np.testing.assert_allclose(result.parameters.start_probabilities, starts, atol=1e-5)


@pytest.mark.parametrize("prior_observations", [0.0, 5.0, 40.0])
@pytest.mark.parametrize("kind", KINDS)
def test_the_penalized_likelihood_never_falls_and_is_the_recorded_one(kind, prior_observations):
    rows = _standardized()
    settings = _settings(rows, prior_observations)
    result = run_em(rows, np.array([300]), kind(rows, 2, np.random.default_rng(3)), settings)
    assert result.converged
    assert np.diff(result.history).min() > -1e-9
    penalty = covariance_penalty(
        result.parameters.covariances, settings.prior_covariance, prior_observations
    )
    final = _hmmlearn(result.parameters).score(rows) + penalty
    assert result.history[-1] == pytest.approx(final, abs=1e-9)


def test_the_plain_likelihood_may_fall_under_a_prior_and_the_start_is_kept():
    # Started at the maximum of the plain likelihood, EM with a strong prior must walk down it.
    rows = _standardized()
    free = run_em(
        rows, np.array([300]), windows(rows, 2, np.random.default_rng(1)), _settings(rows, 0.0)
    )
    pulled = run_em(rows, np.array([300]), softened(free.parameters), _settings(rows, 40.0))
    plain = _hmmlearn(pulled.parameters).score(rows)
    assert plain < _hmmlearn(free.parameters).score(rows) - 0.1
    assert np.diff(pulled.history).min() > -1e-9


def test_far_outliers_underflow_nowhere():
    rows = np.vstack([_standardized(), [[80.0, -80.0]], _standardized(seed=1)])
    start = windows(rows[:300], 2, np.random.default_rng(0))
    result = run_em(rows, np.array([len(rows)]), start, _settings(rows))
    assert np.isfinite(result.history).all()


def test_a_regime_without_rows_is_a_degenerate_start():
    rows = _standardized()
    far = Parameters(
        np.array([1.0, 0.0]), np.eye(2), np.zeros((2, 2)), np.tile(np.eye(2), (2, 1, 1))
    )
    with pytest.raises(DegenerateStart, match=r"a regime lost all its rows|no transition"):
        run_em(rows, np.array([300]), far, _settings(rows, 0.0))


def test_a_singular_covariance_is_a_degenerate_start():
    rows = np.vstack([_standardized(), np.full((3, 2), 30.0)])
    start = Parameters(
        np.array([1.0, 0.0]),
        np.array([[0.99, 0.01], [0.01, 0.99]]),
        np.array([[0.0, 0.0], [30.0, 30.0]]),
        np.tile(np.eye(2), (2, 1, 1)),
    )
    with pytest.raises(DegenerateStart, match=r"positive definite|likelihood fell|no transition"):
        run_em(rows, np.array([303]), start, _settings(rows, 0.0))


def test_a_fall_of_the_likelihood_is_a_degenerate_start(monkeypatch):
    falling = iter(-10.0 * np.arange(100.0))
    monkeypatch.setattr(em, "covariance_penalty", lambda *_: next(falling))
    rows = _standardized()
    with pytest.raises(DegenerateStart, match="likelihood fell by "):
        run_em(rows, np.array([300]), windows(rows, 2, np.random.default_rng(1)), _settings(rows))


def test_permuting_and_changing_units_leave_the_law_of_the_data():
    model = random_regimes(1)
    parameters = Parameters(
        model.start_probabilities, model.transition_matrix, model.means, model.covariances
    )
    rows = np.random.default_rng(5).normal(size=(30, 2))
    score = _hmmlearn(parameters).score(rows)
    assert _hmmlearn(parameters.permuted(np.array([2, 0, 1]))).score(rows) == pytest.approx(score)
    location, scale = np.array([0.3, -0.1]), np.array([0.01, 4.0])
    moved = _hmmlearn(parameters.in_units(location, scale)).score(location + scale * rows)
    assert moved + 30 * np.log(scale).sum() == pytest.approx(score)
