from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtri
from scipy.stats import linregress

from sddp.errors import DataError, ModelError
from sddp.statistics.autoregression import ReturnAutoregression, fit_autoregression
from sddp.statistics.paths import ReturnPaths, Shocks
from tests.brown_smith import COVARIANCE, PROCESS
from tests.reference_data import reference_path

VARIANCES, ACROSS = np.diag(COVARIANCE)[:3], COVARIANCE[:3, 3]

TWO_FACTORS = ReturnAutoregression(
    return_intercepts=np.array([0.004, -0.002]),
    return_loadings=np.array([[0.5, 0.0], [0.2, -0.3]]),
    factor_intercepts=np.array([0.1, 0.0]),
    factor_transition=np.array([[0.8, 0.1], [0.0, 0.5]]),
    covariance=0.01 * (np.eye(4) + 0.4),
)


def test_the_stationary_law_of_one_factor_is_the_textbook_one():
    shifted = replace(PROCESS, factor_intercepts=np.array([0.06]))
    mean, covariance = shifted.stationary_law()
    assert mean == pytest.approx([0.06 / 0.03])
    assert covariance == pytest.approx(np.array([[0.0529 / (1.0 - 0.97**2)]]))


def test_the_stationary_law_of_two_factors_reproduces_itself():
    mean, covariance = TWO_FACTORS.stationary_law()
    transition = TWO_FACTORS.factor_transition
    np.testing.assert_allclose(TWO_FACTORS.expected_factors(mean), mean)
    again = transition @ covariance @ transition.T + TWO_FACTORS.covariance[2:, 2:]
    np.testing.assert_allclose(again, covariance, rtol=1e-12)


def test_expected_returns_are_those_of_the_lognormal_law():
    z = 0.7
    expected = np.exp(PROCESS.return_intercepts + [0.00196, 0.00343, 0.00427] + VARIANCES / 2)
    np.testing.assert_allclose(
        PROCESS.expected_returns(np.array([z])), expected - 1.00042, rtol=1e-12
    )


def test_quadrature_has_the_moments_that_stein_gives():
    """``E[exp(x) g(y)] = exp(var x / 2) E[g(y + cov(x, y))]`` for centered normal x, y."""
    nodes = PROCESS.quadrature(16)
    y, p = nodes.factors[:, 0], nodes.probabilities
    mean = np.exp(VARIANCES / 2)
    np.testing.assert_allclose(p @ nodes.growth, mean, rtol=1e-13)
    np.testing.assert_allclose((p * y) @ nodes.growth, mean * ACROSS, rtol=1e-11)
    np.testing.assert_allclose((p * y**2) @ nodes.growth, mean * (0.0529 + ACROSS**2), rtol=1e-12)
    assert not nodes.has_tails


def test_quadrature_of_two_factors_has_their_covariance():
    nodes = TWO_FACTORS.quadrature(7)
    p, covariance = nodes.probabilities, TWO_FACTORS.covariance
    weighted = nodes.factors.T @ (p[:, None] * nodes.factors)
    np.testing.assert_allclose(weighted, covariance[2:, 2:], atol=1e-15)
    expected = np.exp(np.diag(covariance)[:2] / 2) * covariance[2:, :2]
    np.testing.assert_allclose(nodes.factors.T @ (p[:, None] * nodes.growth), expected, rtol=1e-7)


def test_shocks_are_those_of_the_sampling_scheme():
    sobol = PROCESS.shocks(4096, rng=np.random.default_rng(0))
    logs = np.column_stack([np.log(sobol.growth), sobol.factors])
    deviations = np.sqrt(np.diag(COVARIANCE))
    off = (np.cov(logs.T, ddof=0) - COVARIANCE) / np.outer(deviations, deviations)
    assert np.abs(off).max() < 2e-3  # 4096 independent points: 0.016
    cube = PROCESS.shocks(50, rng=np.random.default_rng(0), sampling="latin hypercube")
    quantiles = 0.23 * ndtri((np.arange(50) + 0.5) / 50)
    np.testing.assert_allclose(np.sort(cube.factors[:, 0]), quantiles, rtol=1e-12)
    matched = PROCESS.shocks(50, rng=np.random.default_rng(0), moment_matching=True)
    logs = np.column_stack([np.log(matched.growth), matched.factors])
    np.testing.assert_allclose(np.cov(logs.T, ddof=0), COVARIANCE, atol=1e-12)


def test_outcomes_follow_the_two_equations():
    shocks = Shocks(np.array([[1.1, 1.0, 0.9]]), np.array([[0.2]]))
    returns, factors = PROCESS.outcomes(np.array([0.5]), shocks)
    logs = PROCESS.return_intercepts + 0.5 * PROCESS.return_loadings[:, 0]
    np.testing.assert_allclose(returns[0], np.exp(logs) * [1.1, 1.0, 0.9] - 1.0 - 0.00042)
    assert factors == pytest.approx(0.97 * 0.5 + 0.2)


def test_simulated_paths_have_the_shocks_of_the_law():
    """Residuals of the two equations are normal shocks that do not depend on what was known."""
    paths = PROCESS.simulate(4000, 6, rng=np.random.default_rng(3), start=[0.4])
    z = paths.factors
    assert (z[:, 0] == 0.4).all()
    predicted = PROCESS.return_intercepts + z[:, :-1] * PROCESS.return_loadings[:, 0]
    shocks = np.concatenate([paths.log_returns - predicted, z[:, 1:] - 0.97 * z[:, :-1]], axis=2)
    shocks = shocks.reshape(-1, 4)
    deviations = np.sqrt(np.diag(COVARIANCE))
    standard = shocks / deviations
    correlation = COVARIANCE / np.outer(deviations, deviations)
    error = 1.0 / np.sqrt(len(shocks))
    assert np.abs(standard.mean(axis=0)).max() < 4.0 * error
    # A product of standard normals has variance at most 2.
    assert np.abs(np.cov(standard.T) - correlation).max() < 4.0 * np.sqrt(2.0) * error
    seen = z[:, :-1].reshape(-1)
    assert np.abs(standard.T @ (seen - seen.mean())).max() < 4.0 * np.linalg.norm(
        seen - seen.mean()
    )


def test_without_shocks_paths_are_the_two_equations():
    """The return over a period is predicted by the factor at its beginning."""
    still = replace(PROCESS, covariance=np.zeros((4, 4)))
    paths = still.simulate(1, 2, rng=np.random.default_rng(0), start=[1.0])
    assert paths.factors[0, :, 0] == pytest.approx([1.0, 0.97, 0.97**2])
    assert paths.log_returns[0, 0] == pytest.approx([0.0081, 0.0116, 0.0133])
    assert paths.log_returns[0, 1] == pytest.approx(
        [0.0053 + 0.0028 * 0.97, 0.0067 + 0.0049 * 0.97, 0.0072 + 0.0061 * 0.97]
    )


def test_the_factor_after_t_periods_has_the_law_of_t_shocks():
    z = PROCESS.simulate(20_000, 11, rng=np.random.default_rng(4), start=[0.5]).factors[:, 11, 0]
    variance = 0.0529 * (1.0 - 0.97**22) / (1.0 - 0.97**2)
    assert abs(z.mean() - 0.5 * 0.97**11) < 4.0 * np.sqrt(variance / 20_000)
    assert z.var() == pytest.approx(variance, rel=4.0 * np.sqrt(2.0 / 20_000))


def test_without_a_start_the_factor_begins_in_its_long_run():
    z = PROCESS.simulate(20_000, 1, rng=np.random.default_rng(5)).factors
    variance = 0.0529 / (1.0 - 0.97**2)
    for t in (0, 1):
        assert z[:, t].var() == pytest.approx(variance, rel=4.0 * np.sqrt(2.0 / 20_000))


def test_more_paths_leave_the_earlier_ones():
    few = PROCESS.simulate(3, 5, rng=np.random.default_rng(6))
    many = PROCESS.simulate(8, 5, rng=np.random.default_rng(6))
    np.testing.assert_array_equal(many.log_returns[:3], few.log_returns)
    np.testing.assert_array_equal(many.factors[:3], few.factors)


def test_observations_pair_a_return_with_the_date_or_with_its_predictor():
    paths = ReturnPaths(
        np.array([[[0.1], [0.2], [0.3]]]), np.array([[[1.0], [2.0], [3.0], [4.0]]]), 0.01
    )
    assert paths.observations("same date").tolist() == [[[0.1, 2.0], [0.2, 3.0], [0.3, 4.0]]]
    assert paths.observations("predicted").tolist() == [[[0.1, 1.0], [0.2, 2.0], [0.3, 3.0]]]
    np.testing.assert_allclose(paths.excess_returns[0, 0], np.exp(0.1) - 1.01)
    with pytest.raises(ModelError, match="pairing = 'next'; give 'same date' or 'predicted'"):
        paths.observations("next")


def test_a_fit_is_scipys_regression():
    paths = PROCESS.simulate(4, 50, rng=np.random.default_rng(7))
    fitted = fit_autoregression(paths)
    before, after = paths.factors[:, :-1, 0].ravel(), paths.factors[:, 1:, 0].ravel()
    line = linregress(before, after)
    assert fitted.factor_transition[0, 0] == pytest.approx(line.slope, rel=1e-10)
    assert fitted.factor_intercepts[0] == pytest.approx(line.intercept, rel=1e-10)
    residuals = [after - line.intercept - line.slope * before]
    for i in range(3):
        returns = paths.log_returns[:, :, i].ravel()
        line = linregress(before, returns)
        assert fitted.return_loadings[i, 0] == pytest.approx(line.slope, rel=1e-9)
        assert fitted.return_intercepts[i] == pytest.approx(line.intercept, rel=1e-9)
        residuals.insert(i, returns - line.intercept - line.slope * before)
    # np.cov loses one degree of freedom, the regression two.
    np.testing.assert_allclose(fitted.covariance, np.cov(residuals) * 199 / 198, rtol=1e-9)
    assert fitted.cash_return == 0.00042


def test_a_fit_finds_two_factors_again():
    paths = TWO_FACTORS.simulate(50, 400, rng=np.random.default_rng(8))
    fitted = fit_autoregression(paths)
    error = 4.0 * 0.12 / np.sqrt(20_000 * 0.01)  # residual deviation over that of a factor
    for name in ("return_loadings", "factor_transition"):
        assert np.abs(getattr(fitted, name) - getattr(TWO_FACTORS, name)).max() < error
    np.testing.assert_allclose(fitted.covariance, TWO_FACTORS.covariance, atol=5e-4)


def test_the_authors_series_pair_the_return_and_the_factor_of_the_same_date():
    """Fitted on their test data with that timing, the constants of their model come back."""
    table = pd.read_csv(reference_path("data/msddp_tests/hmm_ar_series.csv"))
    series = table.to_numpy().reshape(10, 120, 6)[:, :, 2:]
    same_date = ReturnPaths(series[:, 1:, :3], series[:, :, 3:], 0.00042)
    fitted = fit_autoregression(same_date)
    assert fitted.factor_transition[0, 0] == pytest.approx(0.97, abs=4 * 0.23 / np.sqrt(1190 * 0.9))
    np.testing.assert_allclose(
        fitted.return_loadings[:, 0], PROCESS.return_loadings[:, 0], atol=4 * 0.0027
    )
    # Correlation of the shocks, where it is large, is known to 4 / sqrt(1190).
    np.testing.assert_allclose(fitted.covariance[:3, :3], COVARIANCE[:3, :3], rtol=0.17)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"return_loadings": np.ones(3)}, r"return_loadings has shape \(3,\)"),
        ({"return_intercepts": np.ones(2)}, r"return_intercepts must hold .* shape \(3,\)"),
        ({"factor_transition": np.array([[np.nan]])}, "factor_transition must hold finite"),
        ({"covariance": COVARIANCE + np.triu(np.full((4, 4), 1e-3), 1)}, "not symmetric"),
        ({"covariance": np.diag([1.0, 1.0, 1.0, -0.1])}, "its least eigenvalue is -0.1"),
        ({"cash_return": -1.0}, "cash_return = -1.0; cash cannot lose everything"),
    ],
)
def test_a_bad_process_is_named(change, words):
    with pytest.raises(DataError, match=words):
        replace(PROCESS, **change)


def test_bad_requests_are_named():
    rng = np.random.default_rng(0)
    walk = replace(PROCESS, factor_transition=np.array([[1.0]]))
    with pytest.raises(ModelError, match="eigenvalue of size 1: the factors have no stationary"):
        walk.simulate(2, 2, rng=rng)
    assert walk.simulate(2, 2, rng=rng, start=[0.0]).factors.shape == (2, 3, 1)
    with pytest.raises(DataError, match="n_paths = 0, n_periods = 2"):
        PROCESS.simulate(0, 2, rng=rng)
    with pytest.raises(DataError, match=r"start has shape \(3,\); give \(1,\) or \(2, 1\)"):
        PROCESS.simulate(2, 2, rng=rng, start=[0.0, 0.0, 0.0])
    with pytest.raises(DataError, match="n_nodes = 0"):
        PROCESS.quadrature(0)
    paths = PROCESS.simulate(2, 5, rng=rng)
    with pytest.raises(DataError, match=r"needs shape \(2, 6, n_factors\), not \(2, 5, 1\)"):
        fit_autoregression(replace(paths, factors=paths.factors[:, 1:]))
    with pytest.raises(DataError, match=r"log_returns has shape \(5, 3\)"):
        fit_autoregression(ReturnPaths(paths.log_returns[0], paths.factors[0], 0.0))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((np.ones((2, 3)), np.ones((3, 1))), DataError, r"growth has shape \(2, 3\)"),
        ((np.full((2, 3), np.inf), np.ones((2, 1))), DataError, "must hold finite"),
        ((np.ones((2, 3)), np.ones((2, 1)), [0.5, 0.4]), ModelError, "sum to 0.9"),
    ],
)
def test_bad_shocks_are_named(arguments, error, words):
    with pytest.raises(error, match=words):
        Shocks(*arguments)
