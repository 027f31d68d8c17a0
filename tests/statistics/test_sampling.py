import json
import warnings

import numpy as np
import pytest
from scipy.stats import norm, qmc, spearmanr

from sddp.errors import DataError, ModelError
from sddp.statistics import (
    latin_hypercube_normal,
    match_moments,
    monte_carlo_normal,
    sampling,
    sobol_normal,
)
from tests.reference_data import reference_path

MEAN = np.array([0.01, -0.02, 0.3])
COVARIANCE = np.array([[0.04, 0.012, -0.02], [0.012, 0.09, 0.03], [-0.02, 0.03, 0.25]])
DEVIATIONS = np.array([0.2, 0.3, 0.5])
ALL = [monte_carlo_normal, latin_hypercube_normal, sobol_normal]


def _rng(seed=0):
    return np.random.default_rng(seed)


def _sorted_quantiles(mean, covariance, n):
    u = (np.arange(1, n + 1) - 0.5) / n
    return norm.ppf(u[:, None], np.asarray(mean), np.sqrt(np.diag(covariance)))


@pytest.mark.parametrize("n", [1, 10, 501])
def test_hypercube_columns_are_equal_quantiles(n):
    points = latin_hypercube_normal(MEAN, COVARIANCE, n, rng=_rng())
    np.testing.assert_allclose(
        np.sort(points, axis=0), _sorted_quantiles(MEAN, COVARIANCE, n), rtol=0, atol=1e-12
    )


def test_hypercube_columns_are_the_authors():
    cases = json.loads(reference_path("data/msddp_tests/reference_values.json").read_text())
    for case in cases["lhs_midpoint"]:
        points = latin_hypercube_normal(case["mu"], case["Sigma"], case["n"], rng=_rng())
        np.testing.assert_allclose(
            np.sort(points, axis=0), np.sort(case["x"], axis=0), rtol=0, atol=1e-12
        )


def test_hypercube_ranks_are_those_of_the_normal_draw():
    points = latin_hypercube_normal(MEAN, COVARIANCE, 400, rng=_rng(3))
    draw = monte_carlo_normal(MEAN, COVARIANCE, 400, rng=_rng(3))
    np.testing.assert_array_equal(points.argsort(axis=0), draw.argsort(axis=0))
    rho = spearmanr(latin_hypercube_normal(MEAN, COVARIANCE, 4000, rng=_rng())).statistic
    # Pearson's r of a normal pair is 2 sin(pi rho / 6); standard error below 1 / sqrt(4000).
    target = COVARIANCE / np.outer(DEVIATIONS, DEVIATIONS)
    assert np.abs(2.0 * np.sin(np.pi / 6.0 * rho) - target).max() < 4.0 / np.sqrt(4000)


def test_random_placement_puts_one_point_somewhere_in_each_cell():
    n = 200
    points = latin_hypercube_normal(MEAN, COVARIANCE, n, rng=_rng(), placement="random")
    u = norm.cdf(points, MEAN, DEVIATIONS) * n
    np.testing.assert_array_equal(np.sort(np.floor(u), axis=0)[:, 0], np.arange(n))
    offsets = u - np.floor(u)
    # Uniform in the cell: mean 1/2 and variance 1/12, 600 of them.
    assert abs(offsets.mean() - 0.5) < 4.0 / np.sqrt(12 * 600)
    assert offsets.std() == pytest.approx(np.sqrt(1 / 12), rel=0.1)
    with pytest.raises(ModelError, match="placement = 'middle'; give 'midpoint' or 'random'"):
        latin_hypercube_normal(MEAN, COVARIANCE, n, rng=_rng(), placement="middle")


def test_sobol_fills_every_cell_of_every_coordinate_once():
    n = 1024
    root = np.linalg.cholesky(COVARIANCE)
    points = sobol_normal(MEAN, COVARIANCE, n, rng=_rng())
    u = norm.cdf(np.linalg.solve(root, (points - MEAN).T))
    np.testing.assert_array_equal(np.sort(np.floor(u * n), axis=1), np.tile(np.arange(n), (3, 1)))


def test_sobol_moments_are_far_nearer_than_those_of_a_random_draw():
    n = 4096
    points = sobol_normal(MEAN, COVARIANCE, n, rng=_rng())
    mean_error = np.abs(points.mean(axis=0) - MEAN) / (DEVIATIONS / np.sqrt(n))
    assert mean_error.max() < 0.1
    spread = np.sqrt((COVARIANCE**2 + np.outer(DEVIATIONS**2, DEVIATIONS**2)) / n)
    assert (np.abs(np.cov(points.T) - COVARIANCE) / spread).max() < 0.3


@pytest.mark.parametrize("n", [1, 2, 3, 750, 1000])
def test_sobol_takes_any_count_in_silence_and_starts_the_same(n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = sobol_normal(MEAN, COVARIANCE, n, rng=_rng(5))
    assert points.shape == (n, 3)
    np.testing.assert_allclose(
        points, sobol_normal(MEAN, COVARIANCE, 1024, rng=_rng(5))[:n], rtol=1e-12
    )


def test_sobol_zero_is_finite(monkeypatch):
    class Zeros:
        MAXDIM = 3

        def __init__(self, *_, **__):
            pass

        def random_base2(self, m):
            return np.zeros((2**m, 3))

    monkeypatch.setattr("scipy.stats.qmc.Sobol", Zeros)
    points = sobol_normal(np.zeros(3), np.eye(3), 4, rng=_rng())
    np.testing.assert_allclose(points, norm.ppf(2.0**-31), rtol=1e-9)


def test_monte_carlo_moments_within_their_standard_errors():
    n = 20_000
    points = monte_carlo_normal(MEAN, COVARIANCE, n, rng=_rng())
    assert (np.abs(points.mean(axis=0) - MEAN) / (DEVIATIONS / np.sqrt(n))).max() < 4.0
    spread = np.sqrt((COVARIANCE**2 + np.outer(DEVIATIONS**2, DEVIATIONS**2)) / n)
    assert (np.abs(np.cov(points.T) - COVARIANCE) / spread).max() < 4.0


@pytest.mark.parametrize("sampler", ALL)
def test_the_seed_decides(sampler):
    first, again, other = (sampler(MEAN, COVARIANCE, 50, rng=_rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("sampler", ALL)
def test_a_semidefinite_covariance_keeps_its_plane(sampler):
    direction = np.array([[1.0], [-2.0]])
    points = sampler(np.zeros(2), 0.01 * direction @ direction.T, 64, rng=_rng())
    np.testing.assert_allclose(points[:, 1], -2.0 * points[:, 0], atol=1e-7)
    assert points[:, 0].std() == pytest.approx(0.1, rel=0.3)
    np.testing.assert_array_equal(
        sampler(MEAN, np.zeros((3, 3)), 4, rng=_rng()), np.tile(MEAN, (4, 1))
    )


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize(
    ("mean", "covariance", "n", "words"),
    [
        (MEAN[:2], [[1.0, 2.0], [2.0, 1.0]], 8, "not positive semidefinite: its least eig.* -1"),
        (MEAN[:2], [[1.0, 0.5], [0.2, 1.0]], 8, "not symmetric"),
        (MEAN[:2], COVARIANCE, 8, r"mean has shape \(2,\) and covariance \(3, 3\)"),
        ([0.0, np.nan], np.eye(2), 8, "must hold finite"),
        (MEAN, COVARIANCE, 0, "n = 0; draw at least one"),
    ],
)
def test_bad_laws_are_named_and_the_next_draw_works(sampler, mean, covariance, n, words):
    with pytest.raises(DataError, match=words):
        sampler(mean, covariance, n, rng=_rng())
    assert sampler(MEAN, COVARIANCE, 8, rng=_rng()).shape == (8, 3)


def test_sobol_names_its_largest_dimension():
    with pytest.raises(DataError, match="21202 variables; Sobol numbers have 21201 at most"):
        sampling._check_directions(21_202, qmc.Sobol.MAXDIM)
    sampling._check_directions(21_201, qmc.Sobol.MAXDIM)


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize("n", [8, 50, 1000])
def test_matched_moments_are_exact(sampler, n):
    points = match_moments(sampler(MEAN, COVARIANCE, n, rng=_rng()), MEAN, COVARIANCE)
    np.testing.assert_allclose(points.mean(axis=0), MEAN, atol=1e-14)
    np.testing.assert_allclose(np.cov(points.T, bias=True), COVARIANCE, atol=1e-14)


def test_well_placed_points_hardly_move():
    points = sobol_normal(MEAN, COVARIANCE, 1024, rng=_rng())
    moved = match_moments(points, MEAN, COVARIANCE) - points
    assert (np.abs(moved) / DEVIATIONS).max() < 0.05


@pytest.mark.parametrize("n", [1, 3])
def test_matching_needs_more_points_than_variables(n):
    points = monte_carlo_normal(MEAN, COVARIANCE, n, rng=_rng())
    with pytest.raises(
        DataError, match=rf"3 variables needs more than 3 points, not {n}; draw more"
    ):
        match_moments(points, MEAN, COVARIANCE)


def test_points_in_a_plane_cannot_be_matched():
    points = monte_carlo_normal(MEAN, COVARIANCE, 50, rng=_rng())
    points[:, 2] = points[:, 0] + points[:, 1]
    with pytest.raises(
        DataError, match="the 50 points lie in a plane and cannot be matched; draw more"
    ):
        match_moments(points, MEAN, COVARIANCE)


def test_schemes_by_name_or_by_function():
    for name, sampler in sampling.SCHEMES.items():
        assert sampling.scheme(name) is sampler
    assert sampling.scheme(sobol_normal) is sobol_normal
    with pytest.raises(
        ModelError, match=r"sampling = 'halton'; give one of \['monte carlo', 'latin"
    ):
        sampling.scheme("halton")
