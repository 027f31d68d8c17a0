"""A Gaussian hidden Markov model: its parameters, densities, filter and best path.

Shapes: ``n`` rows, ``K`` regimes, ``d`` variables. Source: Rabiner, *A tutorial on hidden Markov
models*, Proceedings of the IEEE 77 (1989), equations 19-20 (forward) and 32-34 (Viterbi).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh

from sddp.arrays import Floats, Ints

# Weights nearer to the smallest float than this have lost digits.
LEAST_WEIGHT = 1e-250


@dataclass(frozen=True, eq=False)
class Parameters:
    """Parameters of a Gaussian hidden Markov model with K regimes and d variables.

    `start_probabilities` (K,), `transition_matrix` (K, K; row = from), `means` (K, d),
    `covariances` (K, d, d).
    """

    start_probabilities: Floats
    transition_matrix: Floats
    means: Floats
    covariances: Floats

    def permuted(self, order: Ints) -> Parameters:
        """Rename the regimes: the new regime i is the old regime ``order[i]``."""
        return Parameters(
            self.start_probabilities[order],
            self.transition_matrix[np.ix_(order, order)],
            self.means[order],
            self.covariances[order],
        )

    def in_units(self, location: Floats, scale: Floats) -> Parameters:
        """Parameters of ``location + scale * x`` where these are those of ``x``."""
        return replace(
            self,
            means=location + scale * self.means,
            covariances=self.covariances * np.outer(scale, scale),
        )


@dataclass(frozen=True, eq=False)
class EMSettings:
    """The prior and the stopping rule of EM.

    Parameters
    ----------
    prior_covariance : array, shape (d, d)
        Covariance every regime is drawn to.
    prior_observations : float
        Strength of that pull in rows; 0 is maximum likelihood.
    tolerance : float
        Stop when a step adds less than this to the penalized log-likelihood.
    max_iterations : int
    """

    prior_covariance: Floats
    prior_observations: float
    tolerance: float
    max_iterations: int


@dataclass(frozen=True, eq=False)
class EMResult:
    """Result of EM from one start.

    Parameters
    ----------
    parameters : Parameters
    expected_counts : array, shape (K,)
        Expected number of rows each regime emitted.
    history : array, shape (n_iterations,)
        Penalized log-likelihood before each step.
    converged : bool
        Whether the last step added less than the tolerance.
    """

    parameters: Parameters
    expected_counts: Floats
    history: Floats
    converged: bool


class DegenerateStart(Exception):
    """EM ended in a degenerate model; the message says how."""


def log_densities(observations: Floats, means: Floats, covariances: Floats) -> Floats:
    """Log density of each row under each regime's normal law.

    Parameters
    ----------
    observations : array, shape (n, d)
    means : array, shape (K, d)
    covariances : array, shape (K, d, d)
        Positive definite.

    Returns
    -------
    array, shape (n, K)
        Each row is a function of that row of `observations` alone, to the last bit.
    """
    columns = [
        _log_density(observations - mean, np.linalg.cholesky(covariance))
        for mean, covariance in zip(means, covariances, strict=True)
    ]
    return np.column_stack(columns)


def _log_density(deviations: Floats, root: Floats) -> Floats:
    # Forward substitution by whole columns: a BLAS solve may round a row differently when the
    # number of rows changes, and then a decision would depend on data that came after it.
    whitened = np.empty_like(deviations.T)
    for i, row in enumerate(root):
        rest = deviations[:, i].copy()
        for j in range(i):
            rest -= row[j] * whitened[j]
        whitened[i] = rest / row[i]
    log_determinant = 2.0 * np.log(np.diag(root)).sum()
    squares = np.zeros(len(deviations))
    for column in whitened:
        squares += column * column
    density: Floats = -0.5 * (squares + log_determinant + len(root) * np.log(2.0 * np.pi))
    return density


def filtered_probabilities(
    densities: Floats, start_probabilities: Floats, transition_matrix: Floats
) -> tuple[Floats, float]:
    """Regime probabilities given the rows so far, and the log-likelihood of all rows.

    Parameters
    ----------
    densities : array, shape (n, K)
        Log density of each row under each regime.
    start_probabilities : array, shape (K,)
        Law of the regime of the first row.
    transition_matrix : array, shape (K, K)
        Row = from, column = to.

    Returns
    -------
    filtered : array, shape (n, K)
        Row t: law of the regime that emitted row t given rows 0..t.
    log_likelihood : float
    """
    filtered = np.empty_like(densities)
    predicted, log_likelihood = start_probabilities, 0.0
    for t, density in enumerate(densities):
        # In logarithms, since the only reachable regimes may all find the row incredible.
        joint = _log(predicted) + density
        peak = joint.max()
        weights = np.exp(joint - peak)
        total = weights.sum()
        filtered[t] = weights / total
        log_likelihood += float(peak + np.log(total))
        predicted = filtered[t] @ transition_matrix
    return filtered, log_likelihood


def last_filtered_probabilities(
    densities: Floats, start_probabilities: Floats, transition_matrix: Floats
) -> Floats:
    """Last row of `filtered_probabilities`, shape (K,), at a tenth of its cost.

    It is the start law times a product of matrices ``transition_matrix * density of the row``,
    which are multiplied in pairs, all pairs at a time. Arguments as there.
    """
    weights = np.exp(densities - densities.max(axis=1, keepdims=True))
    product = transition_matrix * weights[1:, None, :]
    least = 1.0
    while len(product) > 1 and least > LEAST_WEIGHT:
        # With an odd number the last one waits for the next round.
        even = len(product) // 2 * 2
        pairs = product[:even:2] @ product[1:even:2]
        peaks = pairs.max(axis=(1, 2), keepdims=True)
        least = float(peaks.min())
        product = np.concatenate([pairs / np.maximum(peaks, LEAST_WEIGHT), product[even:]])
    last: Floats = start_probabilities * weights[0]
    for factor in product[:1]:
        last = last @ factor
    if min(least, float(last.sum())) > LEAST_WEIGHT:
        belief: Floats = last / last.sum()
        return belief
    # The only regimes that can be reached find a row incredible.
    filtered, _ = filtered_probabilities(densities, start_probabilities, transition_matrix)
    return np.array(filtered[-1])


def viterbi_path(densities: Floats, start_probabilities: Floats, transition_matrix: Floats) -> Ints:
    """Return the most likely sequence of regimes, shape (n,), given all rows.

    Arguments as in `filtered_probabilities`.
    """
    log_transitions = _log(transition_matrix)
    best_before = np.zeros(densities.shape, dtype=np.int64)
    score = _log(start_probabilities) + densities[0]
    for t in range(1, len(densities)):
        arrivals = score[:, None] + log_transitions
        best_before[t] = arrivals.argmax(axis=0)
        score = arrivals.max(axis=0) + densities[t]
    return _backtrack(best_before, int(score.argmax()))


def _backtrack(best_before: Ints, last: int) -> Ints:
    path = np.empty(len(best_before), dtype=np.int64)
    path[-1] = last
    for t in range(len(path) - 1, 0, -1):
        path[t - 1] = best_before[t, path[t]]
    return path


def covariance_penalty(covariances: Floats, center: Floats, prior_observations: float) -> float:
    """Log prior of the covariances: minus the prior rows times a Kullback-Leibler divergence.

    ``-w sum_k KL(N(0, center) || N(0, covariance_k))``: an inverse Wishart prior up to a constant,
    zero where every covariance equals `center`, and the same in any unit of the data. With it the
    M-step is ``(w center + n_k S_k) / (w + n_k)``.

    Parameters
    ----------
    covariances : array, shape (K, d, d)
    center : array, shape (d, d)
        Covariance that the prior prefers.
    prior_observations : float
        Its weight ``w``, in rows.
    """
    if prior_observations == 0.0:
        return 0.0
    relative = np.linalg.solve(covariances, np.broadcast_to(center, covariances.shape))
    traces = np.trace(relative, axis1=1, axis2=2)
    divergences = 0.5 * (traces - len(center) - np.linalg.slogdet(relative)[1])
    return float(-prior_observations * divergences.sum())


def least_eigenvalue_ratio(covariances: Floats, pooled: Floats) -> float:
    """Least variance of any portfolio of the variables in any regime, over its pooled variance.

    The least generalized eigenvalue of (covariance_k, pooled); it does not depend on units.
    """
    return float(min(eigh(c, pooled, eigvals_only=True)[0] for c in covariances))


def count_parameters(n_states: int, n_variables: int) -> int:
    """Count the free parameters: start law, transitions, means, covariances.

    >>> count_parameters(n_states=2, n_variables=3)
    21
    """
    chain = n_states - 1 + n_states * (n_states - 1)
    return chain + n_states * (n_variables + n_variables * (n_variables + 1) // 2)


def _log(probabilities: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        logarithms: Floats = np.log(probabilities)
    return logarithms
