"""Simulated shocks and histories of returns, factors and regimes, as arrays with their timing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sddp.arrays import Floats, Ints, checked_probabilities, read_only
from sddp.errors import DataError, ModelError
from sddp.rng import Rng, generator
from sddp.statistics.factors import FittedFactorModel
from sddp.statistics.regimes import Regimes
from sddp.threads import one_blas_thread

Pairing = Literal["same date", "predicted"]


@dataclass(frozen=True, eq=False)
class Shocks:
    """Weighted scenarios of the shocks of one period.

    Parameters
    ----------
    growth : array, shape (n_points, n_assets)
        ``exp(e_r)``: what the shock multiplies each asset's gross return with.
    factors : array, shape (n_points, n_factors)
        ``e_z``.
    probabilities : array, shape (n_points,), optional
        Equiprobable by default.
    has_tails : bool
        False where `growth` is a mean given ``e_z``: right for expectations that are linear in
        returns, wrong for every risk measure.

    Raises
    ------
    DataError
        Shapes disagree or a number is not finite.
    ModelError
        The probabilities are none.
    """

    growth: Floats
    factors: Floats
    probabilities: Floats | None = None
    has_tails: bool = True

    def __post_init__(self) -> None:
        growth, factors = read_only(self.growth), read_only(self.factors)
        if growth.ndim != 2 or factors.ndim != 2 or len(growth) != len(factors):
            raise DataError(
                f"growth has shape {growth.shape} and factors {factors.shape}; "
                "give (n_points, n_assets) and (n_points, n_factors)"
            )
        if not (np.isfinite(growth).all() and np.isfinite(factors).all()):
            raise DataError("growth and factors must hold finite numbers")
        p = checked_probabilities(self.probabilities, len(growth), "shocks")
        object.__setattr__(self, "growth", growth)
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "probabilities", p)


@dataclass(frozen=True, eq=False)
class ReturnPaths:
    """Independent histories of returns and factors.

    Attributes
    ----------
    log_returns : array, shape (n_paths, n_periods, n_assets)
        Entry t is earned over ``(t, t+1]``: predicted by ``factors[:, t]``, known at t+1.
    factors : array, shape (n_paths, n_periods + 1, n_factors)
        Entry t is known when date t decides.
    cash_return : float
        Simple return of cash per period.
    """

    log_returns: Floats
    factors: Floats
    cash_return: float

    @property
    def excess_returns(self) -> Floats:
        """Simple returns less the return of cash, shape (n_paths, n_periods, n_assets)."""
        excess: Floats = np.expm1(self.log_returns) - self.cash_return
        return excess

    def observations(self, pairing: Pairing) -> Floats:
        """Log returns and factors side by side, as a regime model is fitted on them.

        Parameters
        ----------
        pairing : {"same date", "predicted"}
            The return known at a date with the factor known at that date, ``(rho_t, z_t)``, as
            in the authors' test data; a regime then describes the period that ends. Or the
            factor with the return it predicts, ``(rho_{t+1}, z_t)``; a regime then describes
            the period that begins.

        Returns
        -------
        array, shape (n_paths, n_periods, n_assets + n_factors)

        Raises
        ------
        ModelError
            `pairing` is another word.
        """
        if pairing not in ("same date", "predicted"):
            raise ModelError(f"pairing = {pairing!r}; give 'same date' or 'predicted'")
        factors = self.factors[:, 1:] if pairing == "same date" else self.factors[:, :-1]
        return np.concatenate([self.log_returns, factors], axis=2)


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
    """Draw independent paths of regimes and returns.

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
    for k, root in enumerate(roots):
        # One product for each regime: a matrix for each emission took ten times as long.
        at = states == k
        normal[at] = normal[at] @ root.T + regimes.means[k]
    return normal
