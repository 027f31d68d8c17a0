"""What the numbers of the study depend on, beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


@dataclass(frozen=True)
class Config:
    """Settings; those of the authors' code where it states one. Periods are rows of the data.

    Attributes
    ----------
    first : str
        Rows of the data before this date are left out.
    n_training : int
        Rows known at the first decision out of sample, and of the fit in sample.
    n_rows : int or None
        Rows after these; None goes to the end of the data.
    n_decisions : int
        The authors' T = 12 counts dates, one more.
    n_states, n_starts, n_scenarios, sampling :
        Of the regimes and of the scenarios in each.
    transaction_cost, cvar_confidence, cvar_limit : float
    iterations : int
        Of a training.
    refit_every, minimum_history, lag : int
        Decisions between two fits out of sample; rows without a missing cell before a portfolio is
        bought; rows between decision and execution.
    n_draws, few_draws, n_paths, n_hidden, n_checked : int
        In sample: independent draws of the scenarios, each with a policy and paths of its own;
        fewer of them, for the horizon and the frontier over bills; how many paths each, where the
        regime is seen and where it is hidden; on how many of these decisions are checked under the
        true law.
    n_tail : int
        Points of the true CVaR, in each regime.
    steps, step_paths :
        Iterations after which a training is looked at, and paths that its policy is simulated on.
    limits : tuple of float
        Of the efficient frontier.
    gap_numbers : tuple of int
        Numbers of scenarios at which the gap to the true problem is estimated.
    tightening : float
        Share by which the tightened limit is below the limit.
    horizons, horizon_limits, horizon_costs, look_aheads :
        Of the study of the horizon; in decisions.
    states, state_repeats, state_starts :
        Candidates for the number of regimes, random repeats of the choice, starts of each fit.
    other_seeds : tuple of int
        Tried beside the first out of sample.
    n_bootstrap : int
    """

    seed: int = 1
    first: str = "1963-07-01"
    n_training: int = 618
    n_rows: int | None = None
    n_decisions: int = 11
    n_states: int = 3
    n_starts: int = 10
    n_scenarios: int = 1_000
    sampling: str = "latin hypercube"
    transaction_cost: float = 0.01
    cvar_confidence: float = 0.9
    cvar_limit: float = 0.05
    iterations: int = 15
    refit_every: int = 11
    minimum_history: int = 12
    lag: int = 0
    n_draws: int = 10
    n_paths: int = 20
    n_hidden: int = 5
    n_checked: int = 2
    n_tail: int = 100_000
    steps: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30)
    step_paths: int = 60
    limits: tuple[float, ...] = (0.01, 0.05, 0.1, 0.15)
    gap_numbers: tuple[int, ...] = (250, 1_000)
    tightening: float = 0.05
    horizons: tuple[int, ...] = tuple(range(1, 12))
    horizon_limits: tuple[float, ...] = (0.02, 0.05, 0.1)
    horizon_costs: tuple[float, ...] = (0.005, 0.01, 0.02)
    few_draws: int = 4
    look_aheads: tuple[int, ...] = (1, 3, 11)
    states: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    state_repeats: int = 5
    state_starts: int = 3
    other_seeds: tuple[int, ...] = (2, 3)
    n_bootstrap: int = 5_000


# The authors' older settings of 25 portfolios day by day: T = 22 dates, a limit of 2 %, a cost of
# 0.5 %. Ten years are known at the first decision, executed a day after it is taken.
DAILY: Mapping[str, Any] = {
    "first": "2005-01-01",
    "n_training": 2_520,
    "n_decisions": 21,
    "transaction_cost": 0.005,
    "cvar_limit": 0.02,
    "refit_every": 21,
    "minimum_history": 252,
    "lag": 1,
}

# Known at the end of 1983.
SINCE_1984: Mapping[str, Any] = {"n_training": 246}

QUICK: Mapping[str, Any] = {
    "n_training": 120,
    "n_rows": 32,
    "n_decisions": 4,
    "n_states": 2,
    "n_starts": 2,
    "n_scenarios": 30,
    "transaction_cost": 0.005,
    "iterations": 2,
    "refit_every": 4,
    "n_draws": 2,
    "n_paths": 4,
    "n_hidden": 3,
    "n_checked": 2,
    "n_tail": 1_000,
    "steps": (1, 2),
    "step_paths": 4,
    "limits": (0.02, 0.05),
    "gap_numbers": (30,),
    "horizons": (1, 4),
    "horizon_limits": (0.05,),
    "horizon_costs": (0.005,),
    "few_draws": 2,
    "look_aheads": (1, 4),
    "states": (1, 2),
    "state_repeats": 2,
    "state_starts": 1,
    "other_seeds": (2,),
    "n_bootstrap": 200,
}


class Purpose(IntEnum):
    """What random numbers are for: each has a stream of its own."""

    FIT = 1
    SCENARIOS = 2
    TRAINING = 3
    PATHS = 4
    TAIL = 5
    SIMULATION = 6
    STATES = 7
    ROLLING = 8
    BOOTSTRAP = 9
