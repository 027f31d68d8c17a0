"""From fitted regimes to the scenarios that optimization reads."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from scipy.linalg import block_diag

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.labels import same_labels
from sddp.rng import Rng, generator
from sddp.scenarios import MarkovScenarios
from sddp.statistics.factors import FittedFactorModel
from sddp.statistics.regimes import Regimes
from sddp.statistics.sampling import NormalSampler, match_moments, scheme
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
