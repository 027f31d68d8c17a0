"""Rows of the results: what a policy earns and risks, and by how much two differ."""

from __future__ import annotations

from typing import Any

import pandas as pd

from experiments.autoregressive.cells import Cell, Outcome, World
from experiments.autoregressive.sample import Sample
from sddp.arrays import Floats
from sddp.evaluation.true_risk import over_limit


def summary(world: World, cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """A policy's value with its interval, and the true CVaR of its decisions."""
    sample = world.sample_of(cell)
    return {
        "policy": cell.policy,
        "cvar_limit": cell.cvar_limit,
        "cost": cell.cost,
        "decisions": world.config.n_decisions,
        "n_states": cell.n_states if cell.on_scenarios else None,
        "n_scenarios": cell.n_scenarios if cell.on_scenarios else None,
        "paths": sample.n_paths,
        **sample.interval(outcome.value, "wealth"),
        **sample.interval(outcome.wealth, "plain_simulation"),
        **over_limit(outcome.risk),
        "cost_paid": float(outcome.paid.mean()),
    }


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `summary` as a table; regimes and scenarios are whole numbers or missing."""
    return pd.DataFrame(rows).astype({"n_states": "Int64", "n_scenarios": "Int64"})


def difference(sample: Sample, first: Floats, second: Floats, name: str) -> dict[str, float]:
    """``first - second`` on the same paths, with the interval over replicates."""
    return sample.interval(first - second, name)
