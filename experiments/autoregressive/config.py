"""All that a run of the study depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# Gauss-Hermite nodes of expectations of smooth functions of the next factor.
N_NODES = 32


@dataclass(frozen=True)
class Config:
    """Sizes of the study. Periods are months; the authors' T counts dates, one more than decisions.

    Attributes
    ----------
    n_paths : int
        Out-of-sample paths, in as many equal blocks as there are scenario draws.
    n_thin : int
        Paths of each block that the studies beside the frontier follow.
    n_decisions : int
    n_draws : int
        Independent draws of the scenarios, each with a trained policy of its own that follows its
        own block of paths: draw and block together are one replicate.
    n_histories, n_history, n_discarded : int
        Simulated histories on which regimes are fitted, their months, and the months before them.
    n_states, n_scenarios : int
        Regimes, and scenarios in each.
    iterations : int
        Of a training with costs; without, two state the optimum.
    law_points, oracle_points, tail_points : int
        Points of the law for one-step policies and bounds, for the oracle's values, and for the
        true CVaR of decisions.
    tightening : float
        Share by which the tightened limit is below the limit.
    """

    seed: int = 1
    n_paths: int = 1_000
    n_thin: int = 10
    n_decisions: int = 11
    n_draws: int = 10
    n_histories: int = 1_000
    n_history: int = 120
    n_discarded: int = 120
    n_states: int = 3
    n_scenarios: int = 750
    cvar_confidence: float = 0.9
    iterations: int = 20
    law_points: int = 2**12
    oracle_points: int = 2**14
    tail_points: int = 2**17
    n_grid: int = 29
    reference_limits: tuple[float, ...] = (0.012, 0.02, 0.05, 0.08, 0.1, 0.2)
    limits: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    costs: tuple[float, ...] = (0.005, 0.013, 0.02)
    scenario_numbers: tuple[int, ...] = (250, 500, 750, 1_000, 1_250, 1_500, 1_750, 2_000, 2_500)
    scenario_limits: tuple[float, ...] = (0.02, 0.05, 0.08, 0.1, 0.2)
    state_numbers: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    state_limits: tuple[float, ...] = (0.05,)
    gap_numbers: tuple[int, ...] = (100, 250, 500, 750, 1_000)
    gap_limit: float = 0.05
    gap_cost: float = 0.005
    tightening: float = 0.05
    ingredient_cells: tuple[tuple[float, float], ...] = ((0.05, 0.005), (0.1, 0.013))


QUICK: Mapping[str, Any] = {
    "n_paths": 20,
    "n_thin": 1,
    "n_decisions": 2,
    "n_histories": 40,
    "n_discarded": 24,
    "n_scenarios": 60,
    "iterations": 2,
    "law_points": 2**9,
    "oracle_points": 2**12,
    "n_grid": 15,
    "tail_points": 2**10,
    "reference_limits": (0.05,),
    "limits": (0.05, 0.1),
    "costs": (0.005,),
    "scenario_numbers": (50, 100, 200),
    "scenario_limits": (0.05,),
    "state_numbers": (1, 3),
    "state_limits": (0.05,),
    "gap_numbers": (60,),
    "ingredient_cells": ((0.1, 0.005),),
}


class Purpose(IntEnum):
    """What random numbers are for: each has a stream of its own."""

    HISTORIES = 1
    FIT = 2
    PATHS = 3
    SCENARIOS = 4
    TRAINING = 5
    LAW = 6
    ORACLE = 7
    TAIL = 8
    SHOCKS = 9
