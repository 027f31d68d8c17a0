"""What each ingredient of the multi-stage policy is worth, all else being the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from experiments.autoregressive.cells import (
    COST_FREE_FUTURE,
    COSTS_IGNORED,
    MOST_LIKELY,
    MYOPIC,
    SDDP,
    Cell,
    Outcome,
    World,
)
from experiments.autoregressive.config import Config
from experiments.autoregressive.tables import difference, summary


def cells(config: Config) -> dict[tuple[float, float, str], Cell]:
    """The policy without each ingredient, by limit, cost and ingredient."""
    found: dict[tuple[float, float, str], Cell] = {}
    for limit, cost in config.ingredient_cells:
        whole = whole_cell(config, limit, cost)
        without = {
            "regimes": replace(whole, n_states=1),
            "costs in the model": replace(whole, policy=COSTS_IGNORED),
            "horizon": replace(whole, policy=MYOPIC),
            "costs after the present trade": replace(whole, policy=COST_FREE_FUTURE),
            "belief instead of most likely regime": replace(whole, policy=MOST_LIKELY),
            "return paired with its own date": replace(whole, pairing="predicted"),
        }
        found |= {(limit, cost, name): cell for name, cell in without.items()}
    return found


def whole_cell(config: Config, limit: float, cost: float) -> Cell:
    """The policy with all of them."""
    return Cell(SDDP, limit, cost, config.n_states, config.n_scenarios)


def table(world: World, outcomes: Mapping[Cell, Outcome]) -> pd.DataFrame:
    """What is lost without each ingredient, on the same paths and scenario draws."""
    rows = []
    for (limit, cost, name), cell in cells(world.config).items():
        whole = outcomes[whole_cell(world.config, limit, cost)]
        sample = world.sample_of(cell)
        row = {"ingredient": name, **summary(world, cell, outcomes[cell])}
        row |= difference(sample, whole.value, outcomes[cell].value, "worth")
        row["worth_share_of_gain"] = row["worth"] / (float(whole.value.mean()) - 1.0)
        rows.append(row)
    return pd.DataFrame(rows)
