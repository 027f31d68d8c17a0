"""Rows of the results: what a policy earns and risks, and by how much two differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.autoregressive.cells import Cell, Outcome, World
from experiments.autoregressive.sample import Sample
from sddp.arrays import Floats
from sddp.statistics.estimates import Estimate

# A decision counts as breaking the limit where it does by more than this share of it.
BREACH = 0.01


def summary(world: World, cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """A policy's value with its interval, and the true CVaR of its decisions."""
    sample = world.sample_of(cell)
    return {
        "policy": cell.policy,
        "cvar_limit": cell.cvar_limit,
        "cost": cell.cost,
        "decisions": world.config.n_decisions,
        "n_states": cell.n_states,
        "n_scenarios": cell.n_scenarios,
        "paths": sample.n_paths,
        **interval(sample.interval(outcome.value), "wealth"),
        **interval(sample.interval(outcome.wealth), "plain_simulation"),
        **risk(outcome.risk),
        "cost_paid": float(outcome.paid.mean()),
    }


def interval(estimate: Estimate, name: str) -> dict[str, float]:
    """Mean and 95 % interval under a name."""
    return {
        name: estimate.mean,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
    }


def difference(sample: Sample, first: Floats, second: Floats, name: str) -> dict[str, float]:
    """``first - second`` on the same paths, with the interval over replicates."""
    return interval(sample.interval(first - second), name)


def risk(ratios: Floats) -> dict[str, float]:
    """True one-period CVaR over the limit, over paths and decisions."""
    return {
        "true_cvar_over_limit": float(ratios.mean()),
        "true_cvar_over_limit_95": float(np.quantile(ratios, 0.95)),
        "share_over_limit": float((ratios > 1.0 + BREACH).mean()),
    }
