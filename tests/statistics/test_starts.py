import numpy as np
import pytest

from sddp.statistics.hidden_markov.hmm import Parameters
from sddp.statistics.hidden_markov.starts import (
    KINDS,
    softened,
    spread_centers,
    volatility_bands,
    windows,
)
from tests.statistics.models import two_volatilities


def _rows(n=400):
    rows = two_volatilities(n, np.random.default_rng(0))
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_states", [1, 2, 5])
@pytest.mark.parametrize("n", [20, 400])
def test_every_kind_starts_from_a_regular_model(kind, n_states, n):
    start = kind(_rows(n), n_states, np.random.default_rng(1))
    assert start.means.shape == (n_states, 2)
    assert np.linalg.eigvalsh(start.covariances).min() > 0.01
    np.testing.assert_allclose(start.transition_matrix.sum(axis=1), 1.0)
    assert start.transition_matrix.min() > 0.0
    assert start.start_probabilities.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [windows, volatility_bands, spread_centers])
def test_the_seed_decides(kind):
    first, again, other = (kind(_rows(), 3, np.random.default_rng(s)).means for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_bands_sort_by_volatility():
    covariances = volatility_bands(_rows(), 2, np.random.default_rng(0)).covariances
    calm, wild = np.trace(covariances, axis1=1, axis2=2)
    assert wild > 2.0 * calm


def test_centers_separate_groups_that_lie_apart():
    rng = np.random.default_rng(0)
    groups = np.repeat([[-3.0, 0.0], [0.0, 3.0], [3.0, 0.0]], 50, axis=0)
    rows = rng.permutation(groups + 0.1 * rng.normal(size=(150, 2)))
    means = spread_centers(rows, 3, rng).means
    order = np.argsort(means[:, 0])
    np.testing.assert_allclose(means[order], [[-3, 0], [0, 3], [3, 0]], atol=0.1)


def test_fewer_different_rows_than_regimes_leave_a_group_at_the_pooled_moments():
    rows = np.repeat([[-1.0, 1.0], [1.0, -1.0]], 10, axis=0) + 0.0
    start = spread_centers(rows, 3, np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(start.means[:, 0]), [-1.0, 0.0, 1.0])
    empty = start.covariances[np.abs(start.means[:, 0]) < 0.5][0]
    np.testing.assert_allclose(empty, [[1.0, -1.0], [-1.0, 1.0]])


def test_an_earlier_fit_forgets_its_certainties():
    earlier = Parameters(np.array([1.0, 0.0]), np.eye(2), np.ones((2, 1)), np.ones((2, 1, 1)))
    start = softened(earlier)
    assert start.start_probabilities.tolist() == [0.5, 0.5]
    assert start.transition_matrix.min() > 0.0
    np.testing.assert_allclose(start.transition_matrix.sum(axis=1), 1.0)
    np.testing.assert_array_equal(start.means, earlier.means)
