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
from experiments.autoregressive.tables import difference, frame, summary


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
    return Cell(SDDP, limit, cost, config.n_states, config.n_scenarios, scaled=True)


def table(world: World, outcomes: Mapping[Cell, Outcome]) -> pd.DataFrame:
    """What is lost without each ingredient, on the same paths and scenario draws.

    ``worth`` is of the policies as trained, of which one may break the true limit more than the
    other; ``worth_within`` of both moved towards cash wherever they break it.
    """
    rows = []
    for (limit, cost, name), cell in cells(world.config).items():
        whole = outcomes[whole_cell(world.config, limit, cost)]
        sample = world.sample_of(cell)
        without = outcomes[cell]
        row = {"ingredient": name, **summary(world, cell, without)}
        assert whole.scaled_value is not None
        assert without.scaled_value is not None
        row |= difference(sample, whole.value, without.value, "worth")
        row |= difference(sample, whole.scaled_value, without.scaled_value, "worth_within")
        row["gain"] = float(whole.value.mean()) - 1.0
        row["worth_share_of_gain"] = row["worth"] / row["gain"]
        rows.append(row)
    return frame(rows)
