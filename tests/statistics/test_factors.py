import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from sddp.errors import DataError, ModelError
from sddp.statistics import FactorModel, FittedFactorModel

ASSETS, FACTORS = ["a", "b", "c"], ["mkt", "smb"]


def _data(n=60, seed=0):
    rng = np.random.default_rng(seed)
    factors = pd.DataFrame(0.04 * rng.normal(size=(n, 2)), columns=FACTORS)
    shocks = rng.normal(size=(n, 3)) @ np.array(
        [[0.03, 0.02, 0.0], [0.0, 0.01, 0.0], [0.0, 0.0, 0.05]]
    )
    loadings = np.array([[1.0, 0.3], [0.8, -0.5], [1.2, 0.0]])
    assets = 0.002 + factors.to_numpy() @ loadings.T + shocks
    return pd.DataFrame(assets, columns=ASSETS), factors


def test_one_factor_equals_scipys_regression():
    assets, factors = _data()
    market = factors[["mkt"]]
    fitted = FactorModel().fit(assets, market)
    for i, name in enumerate(ASSETS):
        line = linregress(market["mkt"], assets[name])
        assert fitted.intercepts[i] == pytest.approx(line.intercept, rel=1e-10)
        assert fitted.loadings[i, 0] == pytest.approx(line.slope, rel=1e-10)
        assert fitted.r_squared[i] == pytest.approx(line.rvalue**2, rel=1e-10)
        # stderr of the slope is sqrt(residual variance / sum of squares of the factor).
        variance = line.stderr**2 * ((market["mkt"] - market["mkt"].mean()) ** 2).sum()
        assert fitted.residual_variances[i] == pytest.approx(variance, rel=1e-10)


def test_several_factors_equal_the_normal_equations():
    assets, factors = _data()
    fitted = FactorModel(residual_covariance="full").fit(assets, factors)
    design = np.column_stack([np.ones(60), factors])
    coefficients = np.linalg.inv(design.T @ design) @ design.T @ assets.to_numpy()
    np.testing.assert_allclose(fitted.intercepts, coefficients[0], rtol=1e-9)
    np.testing.assert_allclose(fitted.loadings, coefficients[1:].T, rtol=1e-9)
    residuals = assets.to_numpy() - design @ coefficients
    # Residuals of a regression with a constant have mean 0: np.cov loses 1 degree, the fit 3.
    expected = np.cov(residuals.T) * 59 / 57
    np.testing.assert_allclose(fitted.residual_covariance, expected, rtol=1e-9)
    total = assets.var(ddof=0).to_numpy()
    np.testing.assert_allclose(fitted.r_squared, 1 - (residuals**2).mean(axis=0) / total, rtol=1e-9)


def test_diagonal_residuals_are_the_variances_of_the_full_ones():
    data = _data()
    diagonal = FactorModel().fit(*data).residual_covariance
    full = FactorModel(residual_covariance="full").fit(*data).residual_covariance
    np.testing.assert_array_equal(diagonal, np.diag(np.diag(full)))
    assert np.abs(full[0, 1]) > 1e-5
    # A variance, not a standard deviation: the third asset's shock is 5 %.
    assert diagonal[2, 2] == pytest.approx(0.05**2, rel=0.5)


def test_names_are_kept_and_log_returns_are_the_stated_sum():
    assets, factors = _data()
    fitted = FactorModel().fit(assets, factors)
    assert (fitted.asset_names, fitted.factor_names) == (tuple(ASSETS), tuple(FACTORS))
    assert (fitted.n_assets, fitted.n_factors) == (3, 2)
    residuals = np.full((60, 3), 0.01)
    expected = [
        fitted.intercepts[i]
        + sum(fitted.loadings[i, j] * factors.iloc[4, j] for j in range(2))
        + 0.01
        for i in range(3)
    ]
    np.testing.assert_allclose(fitted.log_returns(factors.to_numpy(), residuals)[4], expected)
    assert FactorModel().fit(assets.to_numpy(), factors.to_numpy()).asset_names is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda a, f: (a.drop(index=7).reindex(a.index), f),
            "asset_log_returns holds nan in column 'a', row 7",
        ),
        (lambda a, f: (a, f["mkt"]), "factor_log_returns has shape"),
        (lambda a, f: (a[:-1], f), "asset_log_returns has 59 rows and factor_log_returns 60"),
        (lambda a, f: (a, f.set_axis(range(1, 61))), "row 0 is 0 in asset_log_returns and 1 in"),
        (lambda a, f: (a[:3], f[:3]), "3 rows do not determine 2 loadings.*at least 4"),
        (lambda a, f: (a, f.assign(smb=0.01)), "column 'smb' never changes"),
        (lambda a, f: (a, f.assign(smb=2 * f["mkt"] + 1)), "a combination of others"),
        (lambda a, f: (a.assign(b=0.0), f), "asset_log_returns: column 'b' never changes"),
    ],
)
def test_bad_data_is_named_and_the_next_fit_works(spoil, words):
    data = _data()
    with pytest.raises(DataError, match=words):
        FactorModel().fit(*spoil(*data))
    assert FactorModel().fit(*data).n_assets == 3


def test_an_unknown_residual_covariance_is_rejected():
    with pytest.raises(ModelError, match="residual_covariance = 'none'; give 'diagonal' or 'full'"):
        FactorModel(residual_covariance="none")


def test_wrong_shapes_of_a_model_given_by_hand_are_rejected():
    with pytest.raises(DataError, match=r"intercepts must hold finite numbers of shape \(3,\)"):
        FittedFactorModel(np.zeros(2), np.ones((3, 2)), np.eye(3), np.zeros(3))
    with pytest.raises(DataError, match=r"give \(n_assets, n_factors\)"):
        FittedFactorModel(np.zeros(2), np.ones(3), np.eye(3), np.zeros(3))


def test_rows_an_asset_lacks_are_left_out_of_its_regression_alone():
    assets, factors = _data()
    holes = assets.copy()
    holes.iloc[5:9, 1] = np.nan
    holes.iloc[[7, 40], 2] = np.nan
    fitted = FactorModel(missing="skip").fit(holes, factors[["mkt"]])
    assert fitted.asset_names == tuple(ASSETS)
    for i, name in enumerate(ASSETS):
        known = holes[name].notna()
        line = linregress(factors["mkt"][known], holes[name][known])
        assert fitted.intercepts[i] == pytest.approx(line.intercept, rel=1e-10)
        assert fitted.loadings[i, 0] == pytest.approx(line.slope, rel=1e-10)
        assert fitted.r_squared[i] == pytest.approx(line.rvalue**2, rel=1e-10)
        spread = ((factors["mkt"][known] - factors["mkt"][known].mean()) ** 2).sum()
        variance = line.stderr**2 * spread
        assert fitted.residual_variances[i] == pytest.approx(variance, rel=1e-10)


def test_without_gaps_skipping_changes_no_bit():
    data = _data()
    plain, skipping = FactorModel().fit(*data), FactorModel(missing="skip").fit(*data)
    for name in ("intercepts", "loadings", "residual_covariance", "r_squared"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(skipping, name))


def test_gaps_are_rejected_where_they_cannot_be_skipped():
    assets, factors = _data()
    holes = assets.drop(index=7).reindex(assets.index)
    with pytest.raises(DataError, match="asset_log_returns holds nan"):
        FactorModel().fit(holes, factors)
    with pytest.raises(DataError, match="asset_log_returns holds inf"):
        FactorModel(missing="skip").fit(assets.replace(assets.iloc[3, 0], np.inf), factors)
    with pytest.raises(DataError, match="0 rows do not determine"):
        FactorModel(missing="skip").fit(assets.assign(b=np.nan), factors)
    with pytest.raises(ModelError, match="missing = 'skip' with residual_covariance = 'full'"):
        FactorModel(missing="skip", residual_covariance="full")
    with pytest.raises(ModelError, match="missing = 'drop'; give 'raise' or 'skip'"):
        FactorModel(missing="drop")
