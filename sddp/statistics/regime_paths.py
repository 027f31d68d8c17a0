"""Paths of regimes, of what they emit, and of the assets that follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.errors import DataError
from sddp.rng import Rng, generator
from sddp.statistics.factors import FittedFactorModel
from sddp.statistics.regimes import Regimes
from sddp.threads import one_blas_thread


@dataclass(frozen=True, eq=False)
class RegimePaths:
    """Independent paths of a hidden Markov model with continuous emissions.

    Attributes
    ----------
    regimes : array, shape (n_paths, n_periods + 1)
        Entry t is the regime when date t decides; it is not seen.
    factors : array, shape (n_paths, n_periods, n_variables)
        Log returns emitted over ``(t, t+1]`` by the regime of date t+1, known at t+1.
    returns : array, shape (n_paths, n_periods, n_assets)
        Simple decimal returns of the assets over ``(t, t+1]``.
    """

    regimes: Ints
    factors: Floats
    returns: Floats

    def beliefs(self, model: Regimes, start: Floats) -> Floats:
        """Law of the regime at each date given what was emitted until then.

        Parameters
        ----------
        model : Regimes
            Of the paths' factors.
        start : array, shape (n_states,)
            Law of the regime at the first date.

        Returns
        -------
        array, shape (n_paths, n_periods, n_states)
        """
        n_paths, n_periods, _ = self.factors.shape
        first = np.broadcast_to(start, (n_paths, 1, model.n_states))
        if n_periods == 1:
            return np.array(first)
        arrived = Regimes(
            model.means,
            model.covariances,
            model.transition_matrix,
            start @ model.transition_matrix,
        )
        seen = self.factors[:, :-1].reshape(-1, model.n_variables)
        filtered = arrived.filter(seen, lengths=[n_periods - 1] * n_paths)
        return np.concatenate([first, filtered.reshape(n_paths, n_periods - 1, -1)], axis=1)


def simulate_regimes(
    regimes: Regimes,
    assets: FittedFactorModel | None = None,
    *,
    start: Floats,
    n_paths: int,
    n_periods: int,
    rng: Rng,
) -> RegimePaths:
    """Draw paths.

    Parameters
    ----------
    regimes : Regimes
        Of the assets themselves, or of the factors where `assets` is given.
    assets : FittedFactorModel, optional
        Turns factors into assets: ``log(1 + r) = a + B f + e`` with independent normal e.
    start : array, shape (n_states,)
        Law of the regime at the first date.
    n_paths, n_periods : int
    rng : int, SeedSequence or Generator

    Raises
    ------
    DataError
        `start` is no law of the regimes, or a count is below 1.
    """
    rng = generator(rng)
    law = np.asarray(start, dtype=float)
    if law.shape != (regimes.n_states,) or law.min() < 0.0 or abs(law.sum() - 1.0) > 1e-6:
        raise DataError(f"start = {law}; give one probability for each of {regimes.n_states}")
    if n_paths < 1 or n_periods < 1:
        raise DataError(f"n_paths = {n_paths}, n_periods = {n_periods}; give at least 1")
    chain_rng, factor_rng, residual_rng = rng.spawn(3)
    states = _chain(regimes.transition_matrix, law, n_paths, n_periods, chain_rng)
    with one_blas_thread():
        factors = _emissions(regimes, states[:, 1:], factor_rng)
        logs = factors
        if assets is not None:
            shocks = residual_rng.standard_normal((n_paths, n_periods, assets.n_assets))
            root = np.linalg.cholesky(assets.residual_covariance)
            logs = assets.log_returns(factors, shocks @ root.T)
    return RegimePaths(states, factors, np.expm1(logs))


def _chain(
    transition_matrix: Floats, start: Floats, n_paths: int, n_periods: int, rng: np.random.Generator
) -> Ints:
    """Regimes, shape (n_paths, n_periods + 1), by the inverse of the distribution function."""
    uniform = rng.uniform(size=(n_periods + 1, n_paths))
    last = len(start) - 1
    states = np.empty((n_paths, n_periods + 1), dtype=np.int64)
    states[:, 0] = np.minimum(np.searchsorted(np.cumsum(start), uniform[0], side="right"), last)
    sums = np.cumsum(transition_matrix, axis=1)
    for t in range(n_periods):
        below = uniform[t + 1][:, None] >= sums[states[:, t]]
        states[:, t + 1] = np.minimum(below.sum(axis=1), last)
    return states


def _emissions(regimes: Regimes, states: Ints, rng: np.random.Generator) -> Floats:
    normal = rng.standard_normal((*states.shape, regimes.n_variables))
    roots = np.linalg.cholesky(regimes.covariances)
    emitted: Floats = regimes.means[states] + np.einsum("ptij,ptj->pti", roots[states], normal)
    return emitted
