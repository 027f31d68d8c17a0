"""Random markets."""

from __future__ import annotations

import numpy as np

from sddp.portfolio import MeanVariance, Moments
from sddp.simulation import Agent, Impact, ImpactMarket

FREE = {"min_weights": -50.0, "max_weights": 50.0, "min_cash": -50.0, "max_cash": 50.0}


def random_market(seed: int) -> ImpactMarket:
    """A few agents with bounds, costs and estimates of their own."""
    rng = np.random.default_rng(seed)
    n, count = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    root = rng.normal(size=(n, n + 2))
    # A floor under the eigenvalues: a spectral radius of hundreds needs as many thousand rounds.
    covariance = 0.01 * (root @ root.T + np.eye(n))
    mean = rng.normal(0.03, 0.03, n)
    names = [f"asset{i}" for i in range(n)]
    shares = rng.dirichlet(np.ones(count))
    agents = []
    for k in range(count):
        model = MeanVariance(
            risk_aversion=float(rng.uniform(1.0, 10.0)),
            transaction_cost=float(rng.uniform(0.0, 0.01)),
            sale_cost=float(rng.uniform(0.0, 0.01)),
            max_weights=float(rng.uniform(0.3, 1.0)),
            max_cash=float(rng.uniform(0.75, 1.0)),
            self_financing=False,
        )
        estimate = Moments.of(mean + rng.normal(0.0, 0.01, n), covariance, names)
        held = 0.9 * rng.dirichlet(np.ones(n + 1))[:n]
        share = float(shares[k])
        agents.append(Agent(name=k, share=share, optimizer=model, current=held, moments=estimate))
    impact = Impact(alpha=rng.uniform(0.0, 0.3, n), permanent=float(rng.uniform(0.0, 1.0)))
    return ImpactMarket(Moments.of(mean, covariance, names), impact, agents, cash_return=0.01)


def identical_market(
    count: int, *, wealth: float | None = None, alpha: float = 0.2, **options: float
) -> ImpactMarket:
    """Agents without bounds and costs, in three assets; one unit of wealth, or each its own."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(3, 5))
    moments = Moments.of([0.05, 0.03, 0.02], 0.02 * root @ root.T)
    model = MeanVariance(risk_aversion=4.0, self_financing=False, **FREE)
    agents = [
        Agent(name=k, share=wealth or 1.0 / count, optimizer=model, current=[0.2, 0.1, 0.3])
        for k in range(count)
    ]
    impact = Impact(alpha=alpha * np.array([1.0, 0.5, 2.0]), **options)
    return ImpactMarket(moments, impact, agents)
