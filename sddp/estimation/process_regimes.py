"""Regimes that stand for a process with a predicting factor, fitted on its simulated histories."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sddp.arrays import Floats
from sddp.rng import Rng
from sddp.scenarios import MarkovScenarios
from sddp.statistics import (
    GaussianRegimes,
    Regimes,
    ReturnAutoregression,
    ReturnPaths,
    markov_scenarios,
)
from sddp.statistics.paths import Pairing

# Of a log-likelihood of some hundred thousand: below it no mean moves by its standard error.
EM_TOLERANCE = 0.1

# Mixed into every move of the chain: what one regime never leads to could not be trained from it,
# while the first decision is taken under a belief over several.
SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class RegimeModel:
    """Regimes that stand for the factor, in one of two timings.

    With ``"same date"`` a regime emits ``(rho_t, z_t)``, as in the authors' test data: it is that
    of the period that ends, and the next return is emitted by the next regime. With
    ``"predicted"`` a regime emits ``(rho_{t+1}, z_t)``: the next return is emitted by the present
    regime, of which only ``z_t`` has been seen. States of the policy's chain are then pairs of a
    regime and the next one, for scenarios are those of the state that is arrived in.

    Attributes
    ----------
    regimes : Regimes
        Of the log returns and, last, the factor.
    pairing : {"same date", "predicted"}
    cash_return : float
    """

    regimes: Regimes
    pairing: Pairing
    cash_return: float

    @property
    def n_assets(self) -> int:
        """Number of assets; the variable after them is the factor."""
        return self.regimes.n_variables - 1

    def with_known_moments(self, process: ReturnAutoregression) -> RegimeModel:
        """The same regimes of the factor; returns as the process has them given the factor.

        What is left of the fit are the chain and the factor's mean and variance in each regime, so
        that nothing of a regime's expected returns or risks is estimated.
        """
        mean, intercept, slope, rest = _law_given_factor(process, self.pairing)
        n, fitted = self.n_assets, self.regimes
        factor, variance = fitted.means[:, n], fitted.covariances[:, n, n]
        means = np.column_stack([intercept + np.outer(factor - mean, slope), factor])
        covariances = fitted.covariances.copy()
        covariances[:, :n, :n] = rest + variance[:, None, None] * np.outer(slope, slope)
        covariances[:, :n, n] = covariances[:, n, :n] = np.outer(variance, slope)
        regimes = Regimes(means, covariances, fitted.transition_matrix, fitted.start_probabilities)
        return replace(self, regimes=regimes)

    def scenarios(
        self,
        n_scenarios: int,
        n_stages: int,
        *,
        rng: np.random.Generator,
        sampling: str = "latin hypercube",
        moment_matching: bool = False,
    ) -> MarkovScenarios:
        """Scenarios of excess returns, one law for all stages."""
        n, fitted = self.n_assets, self.regimes
        assets = Regimes(
            fitted.means[:, :n],
            fitted.covariances[:, :n, :n],
            fitted.transition_matrix,
            fitted.start_probabilities,
        )
        drawn = markov_scenarios(
            assets,
            n_stages=1,
            n_scenarios=n_scenarios,
            rng=rng,
            sampling=sampling,
            moment_matching=moment_matching,
        )
        returns, chain = drawn.returns[0] - self.cash_return, drawn.transition_matrix[0]
        if self.pairing == "predicted":
            returns, chain = _pairs(returns, chain)
        chain = (1.0 - SPREAD) * chain + SPREAD / len(chain)
        return MarkovScenarios(returns, chain, n_stages=n_stages)

    def beliefs(self, paths: ReturnPaths, n_decisions: int) -> Floats:
        """Law of the chain's state given what each decision knows.

        The first decision knows the factor and nothing before it: the chain's stationary law is
        updated by the factor's own density.

        Returns
        -------
        array, shape (n_paths, n_decisions, n_states)
        """
        if self.pairing == "predicted":
            return _of_pairs(self._predicted(paths, n_decisions))
        n_paths = len(paths.factors)
        first = self._factor_law(self._stationary()[None, :], paths.factors[:, 0])
        if n_decisions == 1:
            return first[:, None, :]
        rows = paths.observations("same date")[:, : n_decisions - 1]
        later = [
            self._starting(law @ self.regimes.transition_matrix).filter(row)
            for law, row in zip(first, rows, strict=True)
        ]
        return np.concatenate(
            [first[:, None, :], np.reshape(later, (n_paths, -1, len(first[0])))], 1
        )

    def _predicted(self, paths: ReturnPaths, n_decisions: int) -> Floats:
        """Law of the regime whose return comes next, of which the factor is seen."""
        first = np.broadcast_to(self._stationary(), (len(paths.factors), self.regimes.n_states))
        known = [first]
        if n_decisions > 1:
            rows = paths.observations("predicted")[:, : n_decisions - 1]
            seen = self._starting(first[0]).filter(
                rows.reshape(-1, rows.shape[2]), lengths=[n_decisions - 1] * len(rows)
            )
            moved = seen @ self.regimes.transition_matrix
            known += list(moved.reshape(len(rows), n_decisions - 1, -1).swapaxes(0, 1))
        laws = [self._factor_law(law, paths.factors[:, t]) for t, law in enumerate(known)]
        return np.stack(laws, axis=1)

    def _factor_law(self, known: Floats, factors: Floats) -> Floats:
        """Laws of the regime, shape (n, K), updated by the factor alone, shape (n, 1)."""
        n, fitted = self.n_assets, self.regimes
        variances = fitted.covariances[:, n, n]
        logs = -0.5 * ((factors - fitted.means[:, n]) ** 2 / variances + np.log(variances))
        density = np.exp(logs - logs.max(axis=1, keepdims=True)) * known
        law: Floats = density / density.sum(axis=1, keepdims=True)
        return law

    def _starting(self, law: Floats) -> Regimes:
        fitted = self.regimes
        return Regimes(fitted.means, fitted.covariances, fitted.transition_matrix, law)

    def _stationary(self) -> Floats:
        """The long-run law of the regimes: ``pi (P - I) = 0`` and ``sum pi = 1``."""
        chain = self.regimes.transition_matrix
        k = len(chain)
        system = np.vstack([chain.T - np.eye(k), np.ones(k)])
        solved = np.maximum(np.linalg.lstsq(system, np.eye(k + 1)[k], rcond=None)[0], 0.0)
        law: Floats = solved / solved.sum()
        return law


def histories(
    process: ReturnAutoregression, n_histories: int, n_periods: int, *, n_discarded: int, rng: Rng
) -> ReturnPaths:
    """Simulated histories of so many periods, those before them discarded."""
    paths = process.simulate(n_histories, n_discarded + n_periods, rng=rng)
    return ReturnPaths(
        paths.log_returns[:, n_discarded:], paths.factors[:, n_discarded:], paths.cash_return
    )


def fit_regimes(paths: ReturnPaths, n_states: int, pairing: Pairing, *, rng: Rng) -> RegimeModel:
    """Maximum likelihood from a start in slots of the factor, as the authors start theirs.

    Their slots are of equal width; these hold equally many rows, so that none is empty.

    Parameters
    ----------
    paths : ReturnPaths
        With one factor.
    n_states : int
    pairing : {"same date", "predicted"}
    rng : int, SeedSequence or Generator
    """
    rows = paths.observations(pairing)
    n_series, length, d = rows.shape
    fitted = GaussianRegimes(n_states=n_states, n_starts=1, tolerance=EM_TOLERANCE).fit(
        rows.reshape(-1, d),
        lengths=[length] * n_series,
        start=_slots(rows, n_states),
        rng=rng,
    )
    return RegimeModel(fitted, pairing, paths.cash_return)


def _slots(rows: Floats, n_states: int) -> Regimes:
    """Moments and moves between slots of the factor, the last variable."""
    inner = np.quantile(rows[:, :, -1], np.arange(1, n_states) / n_states)
    labels = np.searchsorted(inner, rows[:, :, -1])
    groups = [rows[labels == k] for k in range(n_states)]
    moves = np.zeros((n_states, n_states))
    np.add.at(moves, (labels[:, :-1], labels[:, 1:]), 1.0)
    return Regimes(
        np.array([group.mean(axis=0) for group in groups]),
        np.array([np.cov(group.T) for group in groups]),
        moves / moves.sum(axis=1, keepdims=True),
        np.full(n_states, 1.0 / n_states),
    )


def _law_given_factor(
    process: ReturnAutoregression, pairing: Pairing
) -> tuple[float, Floats, Floats, Floats]:
    """The returns of a row given its factor z, in the long run.

    Returns
    -------
    mean : float
        Of the factor.
    intercept, slope : array, shape (n_assets,)
        ``E[rho | z] = intercept + slope (z - mean)``.
    rest : array, shape (n_assets, n_assets)
        Covariance of rho given z.
    """
    n, loadings = process.n_assets, process.return_loadings[:, 0]
    center, spread = process.stationary_law()
    mean, variance = float(center[0]), float(spread[0, 0])
    intercept, noise = process.return_intercepts + loadings * mean, process.covariance
    if pairing == "predicted":
        return mean, intercept, loadings, noise[:n, :n]
    # The row's return was predicted by the factor before its own.
    across = loadings * process.factor_transition[0, 0] * variance + noise[:n, n]
    total = noise[:n, :n] + variance * np.outer(loadings, loadings)
    return mean, intercept, across / variance, total - np.outer(across, across) / variance


def _pairs(returns: Floats, chain: Floats) -> tuple[Floats, Floats]:
    """Scenarios and chain of pairs (regime, next regime): in (k, m) come the returns of k."""
    k = len(chain)
    moves = np.zeros((k, k, k, k))
    for before in range(k):
        for now in range(k):
            moves[before, now, now] = chain[now]
    return np.repeat(returns, k, axis=0), moves.reshape(k * k, k * k)


def _of_pairs(laws: Floats) -> Floats:
    """Laws of a regime as laws of pairs that end in it; what came before does not matter."""
    k = laws.shape[-1]
    pairs = np.zeros((*laws.shape[:-1], k, k))
    pairs[..., np.arange(k), np.arange(k)] = laws
    return pairs.reshape(*laws.shape[:-1], k * k)
