"""Small hidden Markov models that several tests share."""

from __future__ import annotations

import numpy as np

from sddp.statistics import Regimes


def random_regimes(seed: int, n_states: int = 3, n_variables: int = 2) -> Regimes:
    """Regimes with overlapping laws, so that no probability is trivial."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_states, n_variables, n_variables))
    return Regimes(
        means=rng.normal(size=(n_states, n_variables)),
        covariances=factors @ factors.transpose(0, 2, 1) + 0.3 * np.eye(n_variables),
        transition_matrix=rng.dirichlet(np.ones(n_states), size=n_states),
        start_probabilities=rng.dirichlet(np.ones(n_states)),
    )


def separated_regimes() -> Regimes:
    """Three regimes of monthly returns whose rows can nearly be told apart by eye."""
    correlation = np.array([[1.0, 0.4], [0.4, 1.0]])
    return Regimes(
        means=np.array([[0.01, 0.005], [-0.10, -0.08], [0.25, 0.20]]),
        covariances=np.array([0.02, 0.03, 0.05])[:, None, None] ** 2 * correlation,
        transition_matrix=np.array([[0.95, 0.03, 0.02], [0.06, 0.90, 0.04], [0.05, 0.10, 0.85]]),
        start_probabilities=np.array([1.0, 0.0, 0.0]),
    )


def two_volatilities(n: int, rng: np.random.Generator, n_variables: int = 2) -> np.ndarray:
    """Rows of a calm regime of 2 % and a wild one of 6 %, fifty rows each in turn."""
    wild = np.arange(n) // 50 % 2 == 1
    return rng.normal(size=(n, n_variables)) * np.where(wild, 0.06, 0.02)[:, None]
