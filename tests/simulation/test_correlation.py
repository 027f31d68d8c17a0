"""The nearest correlation matrix against published examples, and what it must be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from sddp.errors import DataError, ModelError
from sddp.simulation.correlation import nearest_correlation, nearest_covariance

# The example of NAG's routine g02aa, which is Higham's algorithm.
TRIDIAGONAL = np.array([[2, -1, 0, 0], [-1, 2, -1, 0], [0, -1, 2, -1], [0, 0, -1, 2]], dtype=float)
NEAREST = [
    [1.0, -0.8084, 0.1916, 0.1068],
    [-0.8084, 1.0, -0.6562, 0.1916],
    [0.1916, -0.6562, 1.0, -0.8084],
    [0.1068, 0.1916, -0.8084, 1.0],
]
# Higham (2002), section 1 and 4.
THREE = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
NEAREST_THREE = [[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]]


def random_symmetric(seed, n):
    x = np.random.default_rng(seed).uniform(-1.0, 1.0, (n, n))
    x = (x + x.T) / 2.0
    np.fill_diagonal(x, 1.0)
    return x


@pytest.mark.parametrize(("given", "known"), [(TRIDIAGONAL, NEAREST), (THREE, NEAREST_THREE)])
def test_published_examples(given, known):
    found = nearest_correlation(given)
    np.testing.assert_allclose(found.matrix, known, atol=5e-5)
    assert found.distance == pytest.approx(np.linalg.norm(found.matrix - given))


def test_highams_distance():
    """He gives 0.5278 for the matrix of three."""
    assert nearest_correlation(THREE).distance == pytest.approx(0.5278, abs=5e-5)


@pytest.mark.parametrize("n", [2, 5, 20, 60])
def test_the_result_is_a_correlation_matrix_and_is_left_alone(n):
    found = nearest_correlation(random_symmetric(n, n)).matrix
    np.testing.assert_array_equal(found.diagonal(), np.ones(n))
    np.testing.assert_array_equal(found, found.T)
    assert np.linalg.eigvalsh(found)[0] >= -1e-12
    assert np.abs(found).max() <= 1.0 + 1e-12
    again = nearest_correlation(found)
    assert again.iterations == 0
    np.testing.assert_array_equal(again.matrix, found)


@pytest.mark.parametrize("weights", [None, [1.0, 3.0, 1.0, 10.0]])
def test_nothing_is_nearer(weights):
    """Against a general optimizer over the angles of a triangular root."""
    given = random_symmetric(8, 4)
    w = np.ones(4) if weights is None else np.array(weights)
    norm = np.outer(w, w)

    def matrix_of(x):
        root = np.zeros((4, 4))
        root[np.tril_indices(4)] = x
        root /= np.linalg.norm(root, axis=1, keepdims=True)
        return root @ root.T

    def distance(x):
        return float((norm * (matrix_of(x) - given) ** 2).sum())

    best = min(
        (minimize(distance, np.random.default_rng(s).normal(size=10), tol=1e-14) for s in range(8)),
        key=lambda result: result.fun,
    )
    found = nearest_correlation(given, weights=weights).matrix
    assert (norm * (found - given) ** 2).sum() <= best.fun + 1e-8
    np.testing.assert_allclose(found, matrix_of(best.x), atol=1e-4)


def test_weights_protect_an_asset():
    plain = np.abs(nearest_correlation(THREE).matrix - THREE)
    heavy = np.abs(nearest_correlation(THREE, weights=[10.0, 10.0, 0.1]).matrix - THREE)
    assert heavy[0, 1] < 0.1 * plain[0, 1]


def test_fixed_entries_stay_while_the_others_move_least():
    given = np.array([[1.0, 0.9, -0.6], [0.9, 1.0, 0.6], [-0.6, 0.6, 1.0]])
    fixed = np.zeros((3, 3), dtype=bool)
    fixed[0, 1] = True
    found = nearest_correlation(given, fixed=fixed).matrix
    assert found[0, 1] == pytest.approx(0.9, abs=1e-9)
    # By symmetry the others are -a and a with the matrix singular: (1 - 0.9) / 2 = a^2 (1 ...).
    a = np.sqrt((1.0 - 0.9) / 2.0)
    np.testing.assert_allclose(found[2, :2], [-a, a], atol=1e-8)
    assert np.linalg.eigvalsh(found)[0] >= -1e-12


def test_the_nearest_covariance_keeps_variances():
    names = ["a", "b", "c"]
    given = pd.DataFrame(THREE * np.outer([1, 2, 3], [1, 2, 3]), index=names, columns=names)
    found, distance = nearest_covariance(given)
    np.testing.assert_array_equal(np.diag(found), [1.0, 4.0, 9.0])
    assert list(found.columns) == names
    assert distance == pytest.approx(0.5278, abs=5e-5)
    assert np.linalg.eigvalsh(found)[0] > -1e-11
    still, _ = nearest_covariance(np.diag([1.0, 0.0]))
    np.testing.assert_array_equal(still, np.diag([1.0, 0.0]))


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: nearest_correlation(np.ones((2, 3))), "must be square"),
        (lambda: nearest_correlation([[1.0, 0.5], [0.4, 1.0]]), "must be symmetric"),
        (
            lambda: nearest_correlation([[1.0, 1.5], [1.5, 1.0]], fixed=np.ones((2, 2))),
            "correlation of 0 and 1 = 1.5: must be in",
        ),
        (
            lambda: nearest_correlation(
                [[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]],
                fixed=np.ones((3, 3)),
                names=["gold", "land", "coin"],
            ),
            "no correlation matrix has all the given ones together",
        ),
        (lambda: nearest_correlation(THREE, weights=[1.0, -1.0, 1.0]), "positive numbers"),
        (lambda: nearest_covariance([[-1.0]]), "no variance negative"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()
