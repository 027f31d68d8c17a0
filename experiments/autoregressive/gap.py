"""How far trained policies are from the optimum of the process, and what they really risk.

Ten policies, each trained on its own draw of the scenarios and following its own paths. The true
problem is the autoregressive process. Without costs its optimum is the dynamic program's value;
with costs its upper bound is the information relaxation on the same paths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from experiments.autoregressive.cells import SDDP, Cell, Outcome, World, program
from experiments.autoregressive.choices import SampledPrograms
from experiments.autoregressive.config import Config
from experiments.autoregressive.frontier import BoundCell
from experiments.autoregressive.process import START
from sddp.arrays import Floats
from sddp.evaluation import optimality_gap
from sddp.evaluation.true_risk import over_limit

PLAIN, MATCHED = "Latin hypercube", "moments matched"
SOBOL, TIGHTENED = "scrambled Sobol", "tightened limit"
VARIANTS = (PLAIN, MATCHED, SOBOL, TIGHTENED)


def variant(cell: Cell, name: str, tightening: float) -> Cell:
    """The same policy on other scenarios, or under a lower limit."""
    changed: dict[str, Cell] = {
        PLAIN: cell,
        MATCHED: replace(cell, moment_matching=True),
        SOBOL: replace(cell, sampling="sobol"),
        TIGHTENED: replace(cell, tightening=tightening),
    }
    return changed[name]


def settings(config: Config) -> list[tuple[float, int, str]]:
    """(cost, number of scenarios, variant): free trading for all numbers, costs for the study's."""
    free = [(0.0, n, name) for n in config.gap_numbers for name in VARIANTS]
    return free + [(config.gap_cost, config.n_scenarios, name) for name in VARIANTS]


def cell_of(config: Config, cost: float, n_scenarios: int, name: str) -> Cell:
    """The cell of a setting."""
    plain = Cell(SDDP, config.gap_limit, cost, config.n_states, n_scenarios, scaled=True)
    return variant(plain, name, config.tightening)


def cells(config: Config) -> list[Cell]:
    """The cells of all settings."""
    return [cell_of(config, *setting) for setting in settings(config)]


def bound_cell(config: Config) -> BoundCell:
    """The upper bound where trading costs."""
    return config.gap_limit, config.gap_cost, True


def table(
    world: World,
    outcomes: Mapping[Cell, Outcome],
    bounds: Mapping[BoundCell, Floats],
    programs: Mapping[tuple[float, int], SampledPrograms],
) -> pd.DataFrame:
    """One row per setting: gap and true CVaR, of the policy and of the one moved towards cash."""
    config, rows = world.config, []
    optimum = float(program(config, config.gap_limit).growth_at(0, START)[0])
    for cost, n_scenarios, name in settings(config):
        cell = cell_of(config, cost, n_scenarios, name)
        sample, outcome = world.sample_of(cell), outcomes[cell]
        upper = np.full(sample.n_paths, optimum) if cost == 0.0 else bounds[bound_cell(config)]
        assert outcome.scaled_value is not None
        assert outcome.bounds is not None
        row: dict[str, Any] = {
            "cvar_limit": config.gap_limit,
            "cost": cost,
            "decisions": config.n_decisions,
            "n_scenarios": n_scenarios,
            "variant": name,
            "upper": float(upper.mean()),
            "gain": float(upper.mean()) - 1.0,
            **sample.interval(upper - outcome.value, "gap"),
            **sample.interval(upper - outcome.scaled_value, "scaled_gap"),
            **over_limit(outcome.risk),
            "bound_of_the_sampled_model": float(outcome.bounds.mean()),
        }
        row["gap_share_of_gain"] = row["gap"] / row["gain"]
        row["scaled_gap_share_of_gain"] = row["scaled_gap"] / row["gain"]
        if cost == 0.0:
            row |= _as_the_authors(config, programs, n_scenarios, outcome)
        rows.append(row)
    return pd.DataFrame(rows)


def _as_the_authors(
    config: Config,
    programs: Mapping[tuple[float, int], SampledPrograms],
    n_scenarios: int,
    outcome: Outcome,
) -> dict[str, float]:
    """Ten sampled programs as upper bound, the policy on independent paths as lower."""
    draws = [programs[config.gap_limit, m].growth[n_scenarios] for m in range(config.n_draws)]
    found = optimality_gap(draws, outcome.value)
    return {
        "authors_gap": found.gap,
        "authors_gap_upper_limit": found.upper_limit,
        "authors_share_of_bound": found.share_of_bound,
    }
