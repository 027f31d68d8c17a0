"""Independent answers for the statistics: enumeration, simulation, scipy's densities."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.stats import multivariate_normal


def densities(observations, means, covariances):
    """Density of each row under each regime, by scipy: shape (n, K)."""
    laws = [multivariate_normal(m, c) for m, c in zip(means, covariances, strict=True)]
    columns = [law.pdf(observations) for law in laws]
    return np.column_stack(columns).reshape(len(observations), len(means))


def paths(observations, model):
    """Every path of regimes with its joint probability with the observations."""
    emission = densities(observations, model.means, model.covariances)
    for path in itertools.product(range(len(model.means)), repeat=len(observations)):
        weight = model.start_probabilities[path[0]]
        weight *= np.prod([model.transition_matrix[i, j] for i, j in itertools.pairwise(path)])
        yield path, weight * np.prod([emission[t, k] for t, k in enumerate(path)])


def enumerated_filter(observations, model):
    """Law of the last regime of each prefix, and the likelihood of all rows."""
    rows = []
    for t in range(1, len(observations) + 1):
        mass = np.zeros(len(model.means))
        for path, weight in paths(observations[:t], model):
            mass[path[-1]] += weight
        rows.append(mass / mass.sum())
    return np.array(rows), mass.sum()


def simulated_chain(n, model, rng):
    """Regimes (n,) and observations (n, d) of a chain."""
    states = [rng.choice(len(model.means), p=model.start_probabilities)]
    while len(states) < n:
        states.append(rng.choice(len(model.means), p=model.transition_matrix[states[-1]]))
    rows = [rng.multivariate_normal(model.means[k], model.covariances[k]) for k in states]
    return np.array(states), np.array(rows)
