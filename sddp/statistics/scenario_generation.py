"""Scenarios of asset returns from fitted regimes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import block_diag

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.labels import same_labels
from sddp.rng import Rng, generator
from sddp.scenarios import MarkovScenarios
from sddp.statistics.factors import FittedFactorModel
from sddp.statistics.regimes import Regimes
from sddp.statistics.sampling import NormalSampler, match_moments, scheme
from sddp.statistics.tables import TableLike, read_table
from sddp.threads import one_blas_thread


def markov_scenarios(
    regimes: Regimes,
    assets: FittedFactorModel | None = None,
    *,
    n_stages: int,
    n_scenarios: int,
    rng: Rng,
    sampling: str | NormalSampler = "sobol",
    moment_matching: bool = False,
    fresh_each_stage: bool = False,
) -> MarkovScenarios:
    """Draw equiprobable return scenarios in every regime.

    In regime k the log returns are normal: ``z ~ N(means[k], covariances[k])``, or, through a
    factor model, ``z = a + B f + e`` with ``f`` of that law and ``e`` independent of it (drawn
    jointly, in ``n_factors + n_assets`` dimensions). Returns are ``exp(z) - 1``: total simple
    returns, nothing subtracted for cash.

    Parameters
    ----------
    regimes : Regimes
        Regimes of the assets themselves, or of the factors where `assets` is given.
    assets : FittedFactorModel, optional
        Turns factors into assets.
    n_stages : int
        Number of decisions.
    n_scenarios : int
        Scenarios in each regime (and each stage, with `fresh_each_stage`).
    rng : int, SeedSequence or Generator
        More stages leave the draws of the earlier ones as they were.
    sampling : {"sobol", "latin hypercube", "monte carlo"} or function
        How the points are placed; a function has the form of `monte_carlo_normal`.
    moment_matching : bool
        Give the assets' log returns of each regime exactly the mean and covariance of the law.
    fresh_each_stage : bool
        Draw anew for each stage; by default one draw is the law of every stage.

    Returns
    -------
    MarkovScenarios
        ``returns[t, j, s]`` is earned over ``(t, t+1]`` on arrival in regime j.

    Raises
    ------
    DataError
        `assets` was fitted on other factors, a count is below 1, or moment matching is asked for
        with no more scenarios than assets.
    ModelError
        `sampling` is an unknown name.
    """
    rng = generator(rng)
    if assets is not None:
        _check_factors(regimes, assets)
    if n_stages < 1 or n_scenarios < 1:
        raise DataError(f"n_stages = {n_stages}, n_scenarios = {n_scenarios}; give at least 1")
    sampler, streams = scheme(sampling), rng.spawn(n_stages if fresh_each_stage else 1)
    with one_blas_thread():
        draws = [
            _stage_log_returns(regimes, assets, n_scenarios, sampler, moment_matching, stream)
            for stream in streams
        ]
    return MarkovScenarios(
        returns=np.expm1(np.stack(draws) if fresh_each_stage else draws[0]),
        transition_matrix=regimes.transition_matrix,
        asset_names=_asset_names(regimes, assets),
        n_stages=n_stages,
    )


def _stage_log_returns(
    regimes: Regimes,
    assets: FittedFactorModel | None,
    n_scenarios: int,
    sampler: NormalSampler,
    moment_matching: bool,
    rng: np.random.Generator,
) -> Floats:
    """Log returns of one stage, shape (n_states, n_scenarios, n_assets)."""
    laws = zip(regimes.means, regimes.covariances, rng.spawn(regimes.n_states), strict=True)
    draws = []
    for mean, covariance, stream in laws:
        points = _log_returns(mean, covariance, assets, n_scenarios, sampler, stream)
        if moment_matching:
            points = match_moments(points, *asset_moments(mean, covariance, assets))
        draws.append(points)
    return np.stack(draws)


def _log_returns(
    mean: Floats,
    covariance: Floats,
    assets: FittedFactorModel | None,
    n_scenarios: int,
    sampler: NormalSampler,
    rng: np.random.Generator,
) -> Floats:
    if assets is None:
        return sampler(mean, covariance, n_scenarios, rng=rng)
    joint_mean = np.concatenate([mean, np.zeros(assets.n_assets)])
    joint_covariance = block_diag(covariance, assets.residual_covariance)
    points = sampler(joint_mean, joint_covariance, n_scenarios, rng=rng)
    return assets.log_returns(points[:, : assets.n_factors], points[:, assets.n_factors :])


def historical_scenarios(
    regimes: Regimes,
    observations: TableLike,
    assets: FittedFactorModel | None = None,
    asset_log_returns: TableLike | None = None,
    *,
    n_stages: int,
    n_scenarios: int | None = None,
    lengths: ArrayLike | None = None,
    independent_rows: Floats | None = None,
    rng: Rng,
) -> MarkovScenarios:
    """Return scenarios made of a window's own rows: filtered history.

    Row t is standardized by the regime of the window's most likely path,
    ``z_t = L^-1 (x_t - m)`` with ``L L'`` the regime's covariance; all ``z`` together are given
    mean 0 and covariance 1, so a regime's scenarios ``m_k + L_k z_t`` have its fitted mean and
    covariance and history's shape. Through a factor model the residual of the same row is added,
    scaled to the fitted variance: what happened together stays together. Where an asset
    lacks a row, its known residuals take turns.

    With `independent_rows` the parameters' uncertainty is added (predictive scenarios): mean and
    covariance of each scenario are drawn from their posterior under the usual flat prior, as in
    ``m_k + s sqrt(n_k / v) (L_k z_t + L_k x / sqrt(n_k))`` with normal x, ``v = n_k - d`` and
    ``s^2 = v / chi^2_v``. Were z normal, the scenarios would be of Student's predictive law with
    v degrees of freedom. Residuals carry the uncertainty of their regression in the same way.

    Parameters
    ----------
    regimes : Regimes
        Of the assets themselves, or of the factors where `assets` is given.
    observations : DataFrame or array, shape (n, d)
        The window of the fit, as in `Regimes.filter`.
    assets : FittedFactorModel, optional
    asset_log_returns : DataFrame or array, shape (n, n_assets), optional
        Of the same rows, with NaN where there is none; needed with `assets`.
    n_stages : int
    n_scenarios : int, optional
        Where there are fewer rows, or by default, every row is a scenario and nothing is drawn;
        otherwise so many rows, drawn without replacement.
    lengths : sequence of int, optional
        As in `Regimes.filter`.
    independent_rows : array, shape (n_states,), optional
        Independent rows that each regime was fitted to.
    rng : int, SeedSequence or Generator

    Raises
    ------
    DataError
        The tables do not fit each other, or a regime has no more independent rows than variables
        and 2.
    """
    rows_rng, parameter_rng = generator(rng).spawn(2)
    table = read_table(observations, "observations").values
    shocks = _standardized(regimes, observations, lengths)
    residuals = None
    if assets is not None:
        _check_factors(regimes, assets)
        residuals = _residuals(assets, table, asset_log_returns)
    if n_scenarios is not None and n_scenarios < len(shocks):
        chosen = np.sort(rows_rng.choice(len(shocks), n_scenarios, replace=False))
        shocks = shocks[chosen]
        residuals = None if residuals is None else residuals[chosen]
    draws = []
    for k, stream in enumerate(parameter_rng.spawn(regimes.n_states)):
        root = np.linalg.cholesky(regimes.covariances[k])
        moves, own = shocks @ root.T, residuals
        if independent_rows is not None:
            count = float(independent_rows[k])
            moves = _with_uncertainty(moves, root, count, k, stream)
            if own is not None:
                total = float(np.sum(independent_rows))
                own = own * _residual_uncertainty(regimes.means[k] + moves, table, total, stream)
        points = regimes.means[k] + moves
        if assets is not None and own is not None:
            points = assets.log_returns(points, own)
        draws.append(np.expm1(points))
    return MarkovScenarios(
        returns=np.stack(draws),
        transition_matrix=regimes.transition_matrix,
        asset_names=_asset_names(regimes, assets),
        n_stages=n_stages,
    )


def _standardized(regimes: Regimes, observations: TableLike, lengths: ArrayLike | None) -> Floats:
    """Rows less the mean of their regime over its volatility; mean 0 and covariance 1 in all."""
    values = read_table(observations, "observations").values
    path = regimes.viterbi(observations, lengths=lengths)
    shocks = np.empty_like(values)
    for k in range(regimes.n_states):
        rows = path == k
        root = np.linalg.cholesky(regimes.covariances[k])
        shocks[rows] = np.linalg.solve(root, (values[rows] - regimes.means[k]).T).T
    d = shocks.shape[1]
    return match_moments(shocks, np.zeros(d), np.eye(d))


def _residuals(
    assets: FittedFactorModel, factors: Floats, asset_log_returns: TableLike | None
) -> Floats:
    if asset_log_returns is None:
        raise DataError("asset_log_returns=None: must be given where assets follow factors")
    own = read_table(asset_log_returns, "asset_log_returns", gaps=True).values
    if own.shape != (len(factors), assets.n_assets):
        raise DataError(
            f"asset_log_returns has shape {own.shape}: must be "
            f"{(len(factors), assets.n_assets)}, as the rows of the factors and the assets"
        )
    residuals = own - assets.log_returns(factors, np.zeros_like(own))
    for column, variance in zip(residuals.T, assets.residual_variances, strict=True):
        known = column[~np.isnan(column)]
        gaps = np.flatnonzero(np.isnan(column))
        column[gaps] = known[gaps % len(known)]
        column *= np.sqrt(variance / np.mean(column**2))
    return residuals


def _with_uncertainty(
    moves: Floats, root: Floats, count: float, regime: int, rng: np.random.Generator
) -> Floats:
    """Moves of a regime under parameters drawn from their posterior, one draw a scenario."""
    n, d = moves.shape
    freedom = count - d
    if freedom <= 2.0:
        raise DataError(
            f"regime {regime} has {count:.1f} independent rows; predictive scenarios of {d} "
            f"variables need more than {d + 2}: give more rows or fewer states"
        )
    scale = np.sqrt(count / rng.chisquare(freedom, size=n))
    means = rng.standard_normal((n, d)) @ root.T / np.sqrt(count)
    drawn: Floats = scale[:, None] * (moves + means)
    return drawn


def _residual_uncertainty(
    factors: Floats, window: Floats, count: float, rng: np.random.Generator
) -> Floats:
    """Factor on each residual: Student's scale, and the error of the regression at its factors."""
    n, d = factors.shape
    freedom = count - d - 1.0
    if freedom <= 2.0:
        raise DataError(
            f"{count:.1f} independent rows; predictive scenarios of assets that follow {d} "
            f"factors need more than {d + 3}: give more rows"
        )
    centred = factors - window.mean(axis=0)
    spread = np.atleast_2d(np.cov(window, rowvar=False, bias=True))
    squared = (centred * np.linalg.solve(spread, centred.T).T).sum(axis=1)
    scale = np.sqrt(freedom / rng.chisquare(freedom, size=n))
    inflated: Floats = scale * np.sqrt(1.0 + (1.0 + squared) / count)
    return inflated[:, None]


def asset_moments(
    mean: Floats, covariance: Floats, assets: FittedFactorModel | None = None
) -> tuple[Floats, Floats]:
    """Mean and covariance of the assets' log returns where the factors have the given ones.

    Parameters
    ----------
    mean : array, shape (n_factors,)
    covariance : array, shape (n_factors, n_factors)
    assets : FittedFactorModel, optional
        None where the variables are the assets.

    Returns
    -------
    mean : array, shape (n_assets,)
    covariance : array, shape (n_assets, n_assets)
    """
    if assets is None:
        return mean, covariance
    b = assets.loadings
    return assets.intercepts + b @ mean, b @ covariance @ b.T + assets.residual_covariance


def _check_factors(regimes: Regimes, assets: FittedFactorModel) -> None:
    if assets.n_factors != regimes.n_variables:
        raise DataError(
            f"assets has {assets.n_factors} factors; regimes has {regimes.n_variables} variables"
        )
    names, factors = regimes.variable_names, assets.factor_names
    if names and factors and not same_labels(names, factors):
        raise DataError(
            f"assets was fitted on the factors {list(factors)}, regimes on {list(names)}; "
            "fit both on the same columns"
        )


def _asset_names(regimes: Regimes, assets: FittedFactorModel | None) -> Sequence[Hashable] | None:
    return regimes.variable_names if assets is None else assets.asset_names
