"""Linear factor model of log returns: ``log(1 + r) = a + B f + e``, by least squares."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import numpy as np

from sddp.arrays import Floats, Ints, read_only
from sddp.errors import DataError, ModelError
from sddp.statistics.tables import Table, TableLike, read_table
from sddp.threads import one_blas_thread

ResidualCovariance = Literal["diagonal", "full"]
MissingCells = Literal["raise", "skip"]


@dataclass(frozen=True, eq=False)
class FittedFactorModel:
    """Log returns of assets as linear functions of factors plus independent residuals.

    ``log(1 + r) = intercepts + loadings @ f + e``, with `f` and `e` of the same period and `e`
    normal with mean 0, independent of `f` and of other periods.

    Parameters
    ----------
    intercepts : array, shape (n_assets,)
        Log return per period where all factors are 0.
    loadings : array, shape (n_assets, n_factors)
        Log return per unit of factor.
    residual_covariance : array, shape (n_assets, n_assets)
        Covariance (variances on its diagonal, not standard deviations) of `e` per period.
    r_squared : array, shape (n_assets,)
        Share of each asset's variance that the factors explain, in sample.
    asset_names, factor_names : sequence of hashable, optional
        Labels, where the data had them.

    Raises
    ------
    DataError
        Shapes disagree or a number is not finite.
    """

    intercepts: Floats
    loadings: Floats
    residual_covariance: Floats
    r_squared: Floats
    asset_names: Sequence[Hashable] | None = None
    factor_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        loadings = read_only(self.loadings)
        if loadings.ndim != 2 or loadings.size == 0:
            raise DataError(f"loadings has shape {loadings.shape}; give (n_assets, n_factors)")
        n = len(loadings)
        shapes = {"intercepts": (n,), "residual_covariance": (n, n), "r_squared": (n,)}
        for name, shape in {"loadings": loadings.shape, **shapes}.items():
            array = read_only(getattr(self, name))
            if array.shape != shape or not np.isfinite(array).all():
                raise DataError(f"{name} must hold finite numbers of shape {shape}")
            object.__setattr__(self, name, array)

    @property
    def n_assets(self) -> int:
        """Number of assets."""
        return int(self.loadings.shape[0])

    @property
    def n_factors(self) -> int:
        """Number of factors."""
        return int(self.loadings.shape[1])

    @property
    def residual_variances(self) -> Floats:
        """Variance of each asset's residual per period, shape (n_assets,)."""
        variances: Floats = np.diag(self.residual_covariance).copy()
        return variances

    def log_returns(self, factors: Floats, residuals: Floats) -> Floats:
        """Log returns of the assets, shape (n, n_assets), from factors and residuals."""
        returns: Floats = self.intercepts + factors @ self.loadings.T + residuals
        return returns


@dataclass(frozen=True)
class FactorModel:
    """Settings of a linear factor model.

    Parameters
    ----------
    residual_covariance : {"diagonal", "full"}
        Whether residuals of different assets are taken as uncorrelated (what a factor model
        means, and the paper's choice) or keep their sample covariance.
    missing : {"raise", "skip"}
        Whether an empty cell of an asset is an error, or leaves its row out of that asset's
        regression. Uncorrelated residuals only: others are not seen on the same rows.

    Raises
    ------
    ModelError
        Another word was given, or ``"skip"`` with ``"full"``.

    Examples
    --------
    >>> factor = np.array([[0.01], [-0.02], [0.03], [0.00]])
    >>> fitted = FactorModel().fit(0.001 + 2.0 * factor, factor)
    >>> fitted.loadings.round(6).tolist(), fitted.intercepts.round(6).tolist()
    ([[2.0]], [0.001])
    """

    _: KW_ONLY
    residual_covariance: ResidualCovariance = "diagonal"
    missing: MissingCells = "raise"

    def __post_init__(self) -> None:
        if self.residual_covariance not in get_args(ResidualCovariance):
            raise ModelError(
                f"residual_covariance = {self.residual_covariance!r}; give 'diagonal' or 'full'"
            )
        if self.missing not in get_args(MissingCells):
            raise ModelError(f"missing = {self.missing!r}; give 'raise' or 'skip'")
        if self.missing == "skip" and self.residual_covariance == "full":
            raise ModelError(
                "missing = 'skip' with residual_covariance = 'full': residuals of assets with "
                "other gaps have no common rows; give 'diagonal', or tables without gaps"
            )

    def fit(self, asset_log_returns: TableLike, factor_log_returns: TableLike) -> FittedFactorModel:
        """Regress every asset on all factors and a constant.

        Parameters
        ----------
        asset_log_returns : DataFrame or array, shape (n, n_assets)
            Log returns per period.
        factor_log_returns : DataFrame or array, shape (n, n_factors)
            Log returns of the factors over the same periods, row by row.

        Returns
        -------
        FittedFactorModel
            Residual (co)variances are unbiased: sums of squares over ``n - n_factors - 1``.

        Raises
        ------
        DataError
            A table is not finite, the tables are not of the same periods, there are too few rows,
            a factor is constant or a combination of others, or an asset never changes.
        """
        assets = read_table(asset_log_returns, "asset_log_returns", gaps=self.missing == "skip")
        factors = read_table(factor_log_returns, "factor_log_returns")
        _check_same_periods(assets, factors)
        groups = list(_by_gaps(assets))
        parts = [self._regress(_part(assets, *g), _part(factors, g[0])) for g in groups]
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([columns for _, columns in groups]))
        return FittedFactorModel(
            intercepts=np.concatenate([part.intercepts for part in parts])[order],
            loadings=np.concatenate([part.loadings for part in parts])[order],
            residual_covariance=np.diag(
                np.concatenate([part.residual_variances for part in parts])[order]
            ),
            r_squared=np.concatenate([part.r_squared for part in parts])[order],
            asset_names=assets.names,
            factor_names=factors.names,
        )

    def _regress(self, assets: Table, factors: Table) -> FittedFactorModel:
        """The model of assets without gaps."""
        design = _design(factors)
        with one_blas_thread():
            coefficients = np.asarray(np.linalg.lstsq(design, assets.values)[0], dtype=float)
            residuals = assets.values - design @ coefficients
        return FittedFactorModel(
            intercepts=coefficients[0],
            loadings=coefficients[1:].T,
            residual_covariance=self._covariance(residuals, len(design) - design.shape[1]),
            r_squared=_r_squared(assets, residuals),
            asset_names=assets.names,
            factor_names=factors.names,
        )

    def _covariance(self, residuals: Floats, degrees_of_freedom: int) -> Floats:
        covariance: Floats = residuals.T @ residuals / degrees_of_freedom
        return covariance if self.residual_covariance == "full" else np.diag(np.diag(covariance))


def _by_gaps(assets: Table) -> Iterator[tuple[Ints, Ints]]:
    """Rows that are there and columns, for each set of assets with the same gaps."""
    known = ~np.isnan(assets.values)
    patterns, of_asset = np.unique(known, axis=1, return_inverse=True)
    for k, pattern in enumerate(patterns.T):
        yield np.flatnonzero(pattern), np.flatnonzero(of_asset.ravel() == k)


def _part(table: Table, rows: Ints, columns: Ints | None = None) -> Table:
    """Some rows and columns of a table; the table itself where that is all of it."""
    chosen = np.arange(table.values.shape[1]) if columns is None else columns
    if table.values.shape == (len(rows), len(chosen)):
        return table
    return Table(
        table.values[np.ix_(rows, chosen)],
        None if table.names is None else tuple(table.names[i] for i in chosen),
        None if table.rows is None else table.rows[rows],
    )


def _check_same_periods(assets: Table, factors: Table) -> None:
    if len(assets.values) != len(factors.values):
        raise DataError(
            f"asset_log_returns has {len(assets.values)} rows and factor_log_returns "
            f"{len(factors.values)}; give the same periods"
        )
    if (
        assets.rows is not None
        and factors.rows is not None
        and not assets.rows.equals(factors.rows)
    ):
        row = int(np.argmin(np.asarray(assets.rows == factors.rows)))
        raise DataError(
            f"row {row} is {assets.row(row)} in asset_log_returns and {factors.row(row)} in "
            "factor_log_returns; align the tables on common periods"
        )


def _design(factors: Table) -> Floats:
    n_rows, n_factors = factors.values.shape
    if n_rows < n_factors + 2:
        raise DataError(
            f"{n_rows} rows do not determine {n_factors} loadings, an intercept and a variance; "
            f"give at least {n_factors + 2}"
        )
    _check_dependent(factors)
    return np.column_stack([np.ones(n_rows), factors.values])


def _check_dependent(factors: Table) -> None:
    spread = np.ptp(factors.values, axis=0)
    if not spread.all():
        column = factors.column(int(np.argmin(spread)))
        raise DataError(f"factor_log_returns: column {column} never changes; leave it out")
    centered = factors.values - factors.values.mean(axis=0)
    if np.linalg.matrix_rank(centered / centered.std(axis=0)) < factors.values.shape[1]:
        raise DataError("factor_log_returns: a column is a combination of others; leave it out")


def _r_squared(assets: Table, residuals: Floats) -> Floats:
    spread = np.ptp(assets.values, axis=0)
    if not spread.all():
        column = assets.column(int(np.argmin(spread)))
        raise DataError(f"asset_log_returns: column {column} never changes; treat it as cash")
    explained: Floats = 1.0 - residuals.var(axis=0) / assets.values.var(axis=0)
    return explained
