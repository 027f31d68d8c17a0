"""Allocation problems as plain arrays, read both by the package and by the oracles beside it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sddp import BoundStalling, Iterations, MarkovScenarios, extensive_form
from sddp.allocation.model import AllocationModel
from sddp.allocation.problem import AllocationProblem, allocation_problem
from sddp.allocation.training import AllocationResult, train_allocation

# Over 10 iterations a bound may stand still by chance (random_case(4, caps=0.4) does, 1e-6 above
# the optimum), so that tests of exactness wait longer.
CONVERGED = BoundStalling(30, 1e-9) | Iterations(400)


@dataclass(frozen=True)
class Case:
    """One problem.

    `returns` has shape (K, S, N) for one law at all stages, else (T, K, S, N); `transition`
    (K, K) or (T, K, K); `probabilities` (K, S), (T, K, S) or None. The oracles read the
    properties, which spread everything over stages and assets.
    """

    returns: Any
    transition: Any
    n_stages: int
    holdings: Any  # money, cash first
    regime: int = 0
    probabilities: Any = None
    cost: Any = 0.0
    sale_cost: Any = None
    confidence: float = 0.9
    limit: float | None = None
    penalty: float | None = None
    cash_return: Any = 0.0
    caps: Any = None
    terminal_value: str = "marked"
    names: dict[str, Any] = field(default_factory=dict)

    # --- for the oracles ---------------------------------------------------------------

    @property
    def n_states(self) -> int:
        return np.shape(self.returns)[-3]

    @property
    def n_assets(self) -> int:
        return np.shape(self.returns)[-1]

    @property
    def all_returns(self) -> np.ndarray:
        r = np.asarray(self.returns, dtype=float)
        return np.broadcast_to(r, (self.n_stages, *r.shape[-3:]))

    @property
    def all_transitions(self) -> np.ndarray:
        p = np.asarray(self.transition, dtype=float)
        return np.broadcast_to(p, (self.n_stages, *p.shape[-2:]))

    @property
    def all_probabilities(self) -> np.ndarray:
        shape = self.all_returns.shape[:3]
        if self.probabilities is None:
            return np.full(shape, 1.0 / shape[2])
        return np.broadcast_to(np.asarray(self.probabilities, dtype=float), shape)

    @property
    def purchase(self) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.cost, dtype=float), (self.n_assets,))

    @property
    def sale(self) -> np.ndarray:
        cost = self.cost if self.sale_cost is None else self.sale_cost
        return np.broadcast_to(np.asarray(cost, dtype=float), (self.n_assets,))

    @property
    def cash(self) -> np.ndarray:
        return np.broadcast_to(np.asarray(self.cash_return, dtype=float), (self.n_stages,))

    @property
    def cap(self) -> np.ndarray | None:
        if self.caps is None:
            return None
        return np.broadcast_to(np.asarray(self.caps, dtype=float), (self.n_assets,))

    @property
    def keeps(self) -> np.ndarray:
        """What one unit of each position, cash first, is worth at the end."""
        loss = self.sale if self.terminal_value == "liquidated" else np.zeros(self.n_assets)
        return np.concatenate([[1.0], 1.0 - loss])

    # --- for the package ---------------------------------------------------------------

    @property
    def model(self) -> AllocationModel:
        return AllocationModel(
            transaction_cost=self.cost,
            sale_cost=self.sale_cost,
            cvar_confidence=self.confidence,
            cvar_limit=self.limit,
            cvar_penalty=self.penalty,
            cash_return=self.cash_return,
            weight_limit=self.caps,
            terminal_value=self.terminal_value,
        )

    @property
    def scenarios(self) -> MarkovScenarios:
        one_law = np.ndim(self.returns) == 3
        return MarkovScenarios(
            returns=self.returns,
            transition_matrix=self.transition,
            probabilities=self.probabilities,
            n_stages=self.n_stages if one_law else None,
            **self.names,
        )

    @property
    def positions(self) -> tuple[str, ...]:
        return ("cash", *self.scenarios.asset_names)

    def as_holdings(self, amounts: Any) -> dict[str, float]:
        return dict(zip(self.positions, np.asarray(amounts, dtype=float).tolist(), strict=True))

    def problem(self, cvar: str = "lazy") -> AllocationProblem:
        return allocation_problem(
            self.model,
            self.scenarios,
            initial_holdings=self.as_holdings(self.holdings),
            initial_regime=self.regime,
            cvar=cvar,
        )

    def train(self, *, seed: int = 1, **options: Any) -> AllocationResult:
        return train_allocation(
            self.model,
            self.scenarios,
            initial_holdings=self.as_holdings(self.holdings),
            initial_regime=self.regime,
            rng=np.random.default_rng(seed),
            progress=False,
            **{"stopping": CONVERGED, **options},
        )

    def exact(self, **options: Any) -> float:
        """The package's own extensive form."""
        return extensive_form(self.problem().engine, **options).solve().value


# `tiny` and `tiny2` of ../shared/instances, stated here so that nothing outside is needed.
TINY = Case(
    returns=[
        [[0.06, 0.02], [-0.03, 0.01], [0.01, -0.02]],
        [[-0.08, -0.03], [0.03, 0.04], [-0.02, 0.01]],
    ],
    transition=[[0.8, 0.2], [0.4, 0.6]],
    n_stages=2,
    holdings=[1.0, 0.0, 0.0],
    cost=0.002,
    confidence=0.9,
    limit=0.03,
)
TINY2 = Case(
    returns=[
        [[0.09, 0.01], [0.01, 0.05]],
        [[-0.06, 0.03], [0.08, -0.01]],
        [[-0.15, -0.04], [0.06, 0.02]],
    ],
    transition=[[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.0, 0.35, 0.65]],
    n_stages=3,
    holdings=[0.4, 0.35, 0.25],
    regime=1,
    cost=0.01,
    confidence=0.75,
    limit=0.05,
)


def random_case(seed: int, *, T: int = 3, K: int = 2, S: int = 3, N: int = 2, **changes: Any):
    """A small problem whose limit binds: unequal weights, costs, mixed first holdings."""
    rng = np.random.default_rng(seed)
    case = Case(
        returns=rng.normal(0.012, 0.05, (K, S, N)),
        transition=rng.dirichlet(np.full(K, 2.0), K),
        n_stages=T,
        holdings=rng.dirichlet(np.ones(N + 1)),
        probabilities=rng.dirichlet(np.full(S, 3.0), K),
        cost=0.004,
        confidence=0.8,
        limit=0.02,
    )
    return replace(case, **changes)


def varying_case(seed: int, *, T: int = 3, K: int = 2, S: int = 3, N: int = 2, **changes: Any):
    """The same with returns, weights, transitions and interest that differ by stage."""
    rng = np.random.default_rng(seed)
    case = random_case(seed, T=T, K=K, S=S, N=N)
    case = replace(
        case,
        returns=rng.normal(0.012, 0.05, (T, K, S, N)),
        transition=rng.dirichlet(np.full(K, 2.0), (T, K)),
        probabilities=rng.dirichlet(np.full(S, 3.0), (T, K)),
        cash_return=tuple(rng.uniform(0.0, 0.004, T).tolist()),
    )
    return replace(case, **changes)


def medium_case(seed: int = 7, *, T: int = 8, K: int = 3, S: int = 40, N: int = 6) -> Case:
    """Monthly-like returns of a few correlated assets in regimes that last: no outside file."""
    rng = np.random.default_rng(seed)
    means = np.linspace(0.012, -0.006, K)[:, None] + rng.normal(0.0, 0.003, (K, N))
    volatility = np.linspace(0.03, 0.07, K)
    loading = rng.uniform(0.4, 0.8, N)
    market = rng.standard_normal((K, S, 1))
    own = rng.standard_normal((K, S, N))
    shocks = loading * market + np.sqrt(1.0 - loading**2) * own
    leave = 0.15 / (K - 1)
    return Case(
        returns=np.expm1(means[:, None, :] + volatility[:, None, None] * shocks),
        transition=np.full((K, K), leave) + (0.85 - leave) * np.eye(K),
        n_stages=T,
        holdings=[0.5, 0.5, *np.zeros(N - 1)],
        cost=0.005,
        confidence=0.9,
        limit=0.04,
    )
