"""The efficient frontier: policies and upper bounds by limit and cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from experiments.autoregressive.cells import (
    ONE_STEP,
    ONE_STEP_FUTURE,
    ORACLE,
    SDDP,
    Cell,
    Outcome,
    World,
)
from experiments.autoregressive.config import Config
from experiments.autoregressive.tables import difference, frame, summary
from sddp.arrays import Floats

POLICIES = (SDDP, ONE_STEP_FUTURE, ONE_STEP, ORACLE)
WITHIN = "SDDP within the true limit"
BOUND, LOOSE_BOUND = "upper bound", "upper bound without penalty"

# (limit, cost, penalized)
BoundCell = tuple[float, float, bool]


def cells(config: Config) -> list[Cell]:
    """All policies at all limits and costs, on all paths."""
    return [
        cell_of(config, policy, limit, cost)
        for limit in config.limits
        for cost in config.costs
        for policy in POLICIES
    ]


def cell_of(config: Config, policy: str, limit: float, cost: float) -> Cell:
    """One policy at one limit and cost."""
    sizes = config.n_states, config.n_scenarios
    return Cell(policy, limit, cost, *sizes, thin=False, scaled=policy == SDDP)


def bound_cells(config: Config) -> list[BoundCell]:
    """Upper bounds at the same limits and costs."""
    return [(g, c, p) for g in config.limits for c in config.costs for p in (True, False)]


def table(
    world: World, outcomes: Mapping[Cell, Outcome], bounds: Mapping[BoundCell, Floats]
) -> pd.DataFrame:
    """One row per policy or bound, limit and cost.

    ``below_sddp`` compares on the same paths; ``below_bound`` on the first of each block, with the
    bound path by path. The bound is that of policies which keep the true limit: a policy trained
    on scenarios may exceed it by breaking that limit, but not once it is moved towards cash.
    """
    rows = []
    for cell in cells(world.config):
        outcome, bound = outcomes[cell], bounds[cell.cvar_limit, cell.cost, True]
        best = outcomes[cell_of(world.config, SDDP, cell.cvar_limit, cell.cost)].value
        few = outcome.value[world.sample.first(world.config.n_thin)]
        row = summary(world, cell, outcome)
        row |= difference(world.sample, best, outcome.value, "below_sddp")
        rows.append(row | difference(world.thin, bound, few, "below_bound"))
        if outcome.scaled_value is not None:
            moved = _thin_row(world, WITHIN, cell.cvar_limit, cell.cost, outcome.scaled_value)
            rows.append(moved | difference(world.thin, bound, outcome.scaled_value, "below_bound"))
    for limit, cost, penalized in bound_cells(world.config):
        name = BOUND if penalized else LOOSE_BOUND
        rows.append(_thin_row(world, name, limit, cost, bounds[limit, cost, penalized]))
    return frame(rows)


def _thin_row(world: World, name: str, limit: float, cost: float, values: Floats) -> dict[str, Any]:
    """What is known on the first paths of each block only."""
    return {
        "policy": name,
        "cvar_limit": limit,
        "cost": cost,
        "decisions": world.config.n_decisions,
        "paths": world.thin.n_paths,
        **world.thin.interval(values, "wealth"),
    }
