"""Starting points of EM; to add a kind, add a function to `KINDS`.

Observations are standardized here (mean 0, variance 1 per column).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.statistics.hidden_markov.hmm import Parameters

Start = Callable[[Floats, int, np.random.Generator], Parameters]

# Regimes of markets last: a first guess of ten periods a visit. EM forgets it in a few steps.
STAY = 0.9

# An estimate from few rows is pulled to the pooled covariance by this many rows per variable, so
# that every start is positive definite.
PULL = 2

# Moving windows of about a month of days carry a volatility that is worth sorting by.
SHORTEST_WINDOW = 20

# Earlier parameters may hold exact zeros (the first regime of the last fit is certain), which EM
# can never leave: mix in this share of the uniform law.
FORGETTING = 0.05


def windows(observations: Floats, n_states: int, rng: np.random.Generator) -> Parameters:
    """One random stretch of consecutive rows per regime: regimes are persistent."""
    length = _window(observations)
    first = rng.integers(0, len(observations) - length + 1, size=n_states)
    return _from_groups(observations, [observations[i : i + length] for i in first])


def volatility_bands(observations: Floats, n_states: int, rng: np.random.Generator) -> Parameters:
    """Rows sorted by the size of moves around them, cut at random quantiles."""
    length = _window(observations)
    size = np.convolve((observations**2).sum(axis=1), np.full(length, 1.0 / length), "same")
    shares = rng.dirichlet(np.full(n_states, 3.0))
    cuts = np.quantile(size, np.cumsum(shares)[:-1])
    return _from_labels(observations, np.searchsorted(cuts, size), n_states)


def spread_centers(observations: Floats, n_states: int, rng: np.random.Generator) -> Parameters:
    """Rows nearest to each of several far-apart rows (Arthur and Vassilvitskii 2007, k-means++)."""
    nearest = np.full(len(observations), np.inf)
    labels = np.zeros(len(observations), dtype=np.int64)
    chosen = int(rng.integers(len(observations)))
    for k in range(n_states):
        distance = ((observations - observations[chosen]) ** 2).sum(axis=1)
        labels[distance < nearest] = k
        nearest = np.minimum(nearest, distance)
        if nearest.sum() > 0.0:
            chosen = int(rng.choice(len(observations), p=nearest / nearest.sum()))
    return _from_labels(observations, labels, n_states)


KINDS: tuple[Start, ...] = (windows, volatility_bands, spread_centers)


def softened(earlier: Parameters) -> Parameters:
    """Parameters of an earlier fit as a start for other rows: no exact zeros, any first regime."""
    n_states = len(earlier.means)
    return Parameters(
        np.full(n_states, 1.0 / n_states),
        (1.0 - FORGETTING) * earlier.transition_matrix + FORGETTING / n_states,
        earlier.means,
        earlier.covariances,
    )


def _window(observations: Floats) -> int:
    n_rows, n_variables = observations.shape
    longest: int = min(max(2 * n_variables, SHORTEST_WINDOW), n_rows)
    return longest


def _from_labels(observations: Floats, labels: Ints, n_states: int) -> Parameters:
    return _from_groups(observations, [observations[labels == k] for k in range(n_states)])


def _from_groups(observations: Floats, groups: list[Floats]) -> Parameters:
    pooled = np.cov(observations, rowvar=False, bias=True).reshape(observations.shape[1], -1)
    moments = [_pulled_moments(group, pooled) for group in groups]
    n_states = len(groups)
    others = (1.0 - STAY) / max(n_states - 1, 1)
    transitions = np.where(np.eye(n_states) > 0.0, 1.0 - others * (n_states - 1), others)
    return Parameters(
        np.full(n_states, 1.0 / n_states),
        transitions,
        np.array([mean for mean, _ in moments]),
        np.array([covariance for _, covariance in moments]),
    )


def _pulled_moments(group: Floats, pooled: Floats) -> tuple[Floats, Floats]:
    # An empty group starts at the mean of all rows, which is 0, with the pooled covariance.
    weight = PULL * len(pooled)
    mean = group.sum(axis=0) / max(len(group), 1)
    scatter = (group - mean).T @ (group - mean)
    return mean, (scatter + weight * pooled) / (len(group) + weight)
