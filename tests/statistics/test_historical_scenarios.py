"""Filtered history and predictive scenarios, against what they must have."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sddp.errors import DataError
from sddp.statistics import FactorModel, Regimes, historical_scenarios

TWO = Regimes(
    [[0.002, 0.001], [-0.01, -0.02]],
    [np.array([[4.0, 1.0], [1.0, 2.0]]) * 1e-4, np.array([[30.0, 5.0], [5.0, 20.0]]) * 1e-4],
    [[0.95, 0.05], [0.1, 0.9]],
    [0.7, 0.3],
)
ONE = Regimes([[0.0, 0.0]], [np.diag([4e-4, 1e-4])], [[1.0]], [1.0])


@pytest.fixture(scope="module")
def window() -> np.ndarray:
    rng = np.random.default_rng(12)
    wild = (np.arange(400) // 50) % 3 == 2
    shocks = rng.standard_t(4, (400, 2))
    return np.where(wild, -0.01, 0.002)[:, None] + np.where(wild, 0.03, 0.015)[:, None] * shocks


def test_scenarios_have_the_fitted_moments_and_the_shape_of_history(window):
    scenarios = historical_scenarios(TWO, window, n_stages=1, rng=1)
    assert scenarios.n_scenarios == 400
    for k in range(2):
        logs = np.log1p(scenarios.returns[0, k])
        np.testing.assert_allclose(logs.mean(axis=0), TWO.means[k], atol=1e-12)
        np.testing.assert_allclose(np.cov(logs.T, bias=True), TWO.covariances[k], atol=1e-12)
    # The same row is the same shock in both regimes.
    roots = [np.linalg.cholesky(c) for c in TWO.covariances]
    shocks = [
        np.linalg.solve(root, (np.log1p(scenarios.returns[0, k]) - TWO.means[k]).T)
        for k, root in enumerate(roots)
    ]
    np.testing.assert_allclose(*shocks, atol=1e-9)
    assert stats.kurtosis(shocks[0][0]) > 0.5


def test_all_rows_are_taken_without_a_draw_and_fewer_are_drawn_once_each(window):
    whole = historical_scenarios(TWO, window, n_stages=1, rng=1)
    again = historical_scenarios(TWO, window, n_stages=1, n_scenarios=1024, rng=2)
    assert whole.returns.tobytes() == again.returns.tobytes()
    some = historical_scenarios(TWO, window, n_stages=1, n_scenarios=100, rng=3)
    rows = {row.tobytes() for row in whole.returns[0, 0]}
    drawn = [row.tobytes() for row in some.returns[0, 0]]
    assert len(set(drawn)) == 100
    assert set(drawn) <= rows


def test_a_row_brings_its_own_residual(window):
    """Asset returns are ``a + B f + e`` with factor shock and residual of one row."""
    rng = np.random.default_rng(3)
    errors = rng.normal(0.0, 0.01, (400, 3))
    assets = 0.001 + window @ rng.normal(size=(3, 2)).T + errors
    fitted = FactorModel().fit(assets, window)
    scenarios = historical_scenarios(ONE, window, fitted, assets, n_stages=1, rng=1)
    factors = historical_scenarios(ONE, window, n_stages=1, rng=1)
    implied = np.log1p(scenarios.returns[0, 0]) - fitted.log_returns(
        np.log1p(factors.returns[0, 0]), np.zeros((400, 3))
    )
    residuals = assets - fitted.log_returns(window, np.zeros((400, 3)))
    for i in range(3):
        assert np.corrcoef(implied[:, i], residuals[:, i])[0, 1] == pytest.approx(1.0, abs=1e-12)
    variances = (implied**2).mean(axis=0)
    np.testing.assert_allclose(variances, fitted.residual_variances, rtol=1e-9)


def test_missing_residuals_take_turns(window):
    rng = np.random.default_rng(3)
    assets = window @ np.array([[1.0], [0.5]]) + rng.normal(0.0, 0.01, (400, 1))
    assets[:150] = np.nan
    fitted = FactorModel(missing="skip").fit(assets, window)
    scenarios = historical_scenarios(ONE, window, fitted, assets, n_stages=1, rng=1)
    assert np.isfinite(scenarios.returns).all()


@pytest.mark.parametrize("count", [12.0, 60.0])
def test_predictive_scenarios_of_normal_rows_follow_students_law(count):
    """Against the predictive law in closed form: Student with n - d degrees of freedom."""
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((40_000, 2)) * [0.02, 0.01]
    scenarios = historical_scenarios(
        ONE, rows, n_stages=1, independent_rows=np.array([count]), rng=5
    )
    logs = np.log1p(scenarios.returns[0, 0])
    freedom = count - 2.0
    scale = 0.02 * np.sqrt((count + 1.0) / freedom)
    for level in (0.01, 0.1, 0.9, 0.99):
        share = (logs[:, 0] <= scale * stats.t.ppf(level, freedom)).mean()
        assert share == pytest.approx(level, abs=4.0 * np.sqrt(level * (1.0 - level) / 40_000))


def test_what_cannot_be_made_raises(window):
    with pytest.raises(DataError, match=r"regime 1 has 4.0 independent rows; .* more than 4"):
        historical_scenarios(
            TWO, window, n_stages=1, independent_rows=np.array([300.0, 4.0]), rng=1
        )
    fitted = FactorModel().fit(window, window[:, :1] + 0.1 * window[:, 1:])
    with pytest.raises(DataError, match="1 factors; regimes has 2"):
        historical_scenarios(TWO, window, fitted, window, n_stages=1, rng=1)
    both = FactorModel().fit(window + 1e-3 * np.sin(np.arange(800)).reshape(400, 2), window)
    with pytest.raises(DataError, match="asset_log_returns=None"):
        historical_scenarios(TWO, window, both, n_stages=1, rng=1)
    with pytest.raises(DataError, match=r"must be \(400, 2\)"):
        historical_scenarios(TWO, window, both, window[:300], n_stages=1, rng=1)
