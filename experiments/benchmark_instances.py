"""Seeded allocation instances of any size: factors in regimes, assets by loadings on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sddp.allocation.model import AllocationModel
from sddp.arrays import Floats
from sddp.scenarios import MarkovScenarios

N_FACTORS = 5
PERIODS = {"monthly": 1.0, "daily": 1.0 / 21.0}  # in months


@dataclass(frozen=True)
class Size:
    """What an instance is made of.

    Parameters
    ----------
    n_assets, n_states, n_scenarios, n_stages : int
    cvar_limit : float
        Fraction of wealth per period.
    transaction_cost : float
    scale : {"monthly", "daily"}
        Size of the returns.
    seed : int
    """

    n_assets: int
    n_states: int
    n_scenarios: int
    n_stages: int
    cvar_limit: float = 0.05
    transaction_cost: float = 0.01
    scale: str = "monthly"
    seed: int = 0

    def __str__(self) -> str:
        return (
            f"N={self.n_assets} K={self.n_states} S={self.n_scenarios} T={self.n_stages} "
            f"{self.scale}"
        )

    @property
    def model(self) -> AllocationModel:
        """Costs and limit."""
        return AllocationModel(
            transaction_cost=self.transaction_cost, cvar_confidence=0.9, cvar_limit=self.cvar_limit
        )

    def scenarios(self) -> MarkovScenarios:
        """Simple returns: calm regimes with a good market first, wild ones with a bad one last."""
        rng = np.random.default_rng(self.seed)
        months = PERIODS[self.scale]
        loadings = rng.normal(0.5, 0.35, (self.n_assets, N_FACTORS))
        loadings[:, 0] = rng.normal(1.0, 0.2, self.n_assets)
        own_risk = rng.uniform(0.01, 0.04, self.n_assets) * np.sqrt(months)
        returns = np.empty((self.n_states, self.n_scenarios, self.n_assets))
        for state in range(self.n_states):
            factors = self._factors(state, months, rng)
            noise = own_risk * rng.standard_normal((self.n_scenarios, self.n_assets))
            returns[state] = np.exp(factors @ loadings.T + noise) - 1.0
        return MarkovScenarios(returns, self._transitions(), n_stages=self.n_stages)

    def _factors(self, state: int, months: float, rng: np.random.Generator) -> Floats:
        badness = state / max(self.n_states - 1, 1)
        mean = np.append(0.012 - 0.024 * badness, rng.normal(0.002, 0.003, N_FACTORS - 1))
        spread = (0.03 + 0.04 * badness) * np.append(1.0, np.full(N_FACTORS - 1, 0.5))
        draws: Floats = rng.standard_normal((self.n_scenarios, N_FACTORS))
        factors: Floats = mean * months + spread * np.sqrt(months) * draws
        return factors

    def _transitions(self) -> Floats:
        """Stay with probability 0.92, leave for any other regime alike."""
        if self.n_states == 1:
            return np.ones((1, 1))
        leave = 0.08 / (self.n_states - 1)
        return np.full((self.n_states, self.n_states), leave) + (0.92 - leave) * np.eye(
            self.n_states
        )
