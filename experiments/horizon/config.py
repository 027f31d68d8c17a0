"""Settings of the study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

# Months in which the factor of Brown and Smith (0.97 a month) comes half-way back to its mean.
PAPER_HALF_LIFE = 22.76


@dataclass(frozen=True)
class Setting:
    """One cell: the truth, what is known of it, and what is held at first.

    Attributes
    ----------
    cost : float
    half_life : float
        Months; the factor's long-run variance is the paper's.
    months : int
        Of data that parameters are estimated from; 0: they are known.
    start : {"cash", "invested"}
    """

    cost: float
    half_life: float = PAPER_HALF_LIFE
    months: int = 0
    start: str = "cash"


@dataclass(frozen=True)
class Config:
    """Sizes of the study.

    Attributes
    ----------
    n_draws : int
        Replicates: each has its own data, scenarios, policy and paths.
    n_paths, n_few : int
        Of a replicate, and those that the planned trades and the upper bound are computed on.
    invested : tuple of float
        Cash and three assets, of the start that is not cash.
    costs, half_lives, months :
        The settings: all costs, then one change each at the middle cost.
    term_stages, term_scenarios, term_iterations, term_paths : int
        Of the part with payments and other terms that one decision does not see.
    """

    seed: int = 1
    n_draws: int = 4
    n_paths: int = 20
    n_few: int = 6
    n_decisions: int = 11
    cvar_limit: float = 0.05
    confidence: float = 0.9
    n_states: int = 3
    n_scenarios: int = 250
    iterations: int = 10
    n_histories: int = 100
    n_history: int = 120
    law_points: int = 2**11
    n_grid: int = 29
    costs: tuple[float, ...] = (0.005, 0.013, 0.02)
    half_lives: tuple[float, ...] = (3.0, 8.0)
    months: tuple[int, ...] = (600, 240, 120)
    invested: tuple[float, ...] = (0.55, 0.15, 0.15, 0.15)
    term_stages: int = 9
    term_scenarios: int = 64
    term_iterations: int = 40
    term_paths: int = 200

    @property
    def settings(self) -> list[Setting]:
        """All cells: costs, then one change each at the middle cost."""
        middle = self.costs[len(self.costs) // 2]
        return [
            *(Setting(cost) for cost in self.costs),
            *(Setting(middle, half_life=h) for h in self.half_lives),
            *(Setting(middle, months=m) for m in self.months),
            Setting(middle, start="invested"),
        ]


# Over nine months: what one decision does not look at. Quarters end after three of them.
TERMS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "1 % of wealth paid each quarter": {"payment_share": [0, 0, 0, 0.01, 0, 0, 0.01, 0, 0, 0.01]},
    "a third of the first wealth paid each quarter": {
        "payment": [0, 0, 0, 0.33, 0, 0, 0.33, 0, 0, 0.33],
        "shortfall_price": 2.0,
    },
    "a floor at 98 % of the first wealth": {"wealth_floor": 0.98, "shortfall_price": 2.0},
    "a limit that falls to 1.5 % after six months": {
        "cvar_limit_scale": [1, 1, 1, 1, 1, 1, 0.3, 0.3, 0.3]
    },
    "an exit that costs": {"terminal_value": "liquidated"},
}

QUICK: Mapping[str, Any] = {
    "n_draws": 2,
    "n_paths": 4,
    "n_few": 2,
    "n_decisions": 3,
    "n_scenarios": 40,
    "iterations": 2,
    "n_histories": 20,
    "law_points": 2**8,
    "n_grid": 9,
    "costs": (0.013,),
    "half_lives": (3.0,),
    "months": (240,),
    "term_scenarios": 8,
    "term_iterations": 8,
    "term_paths": 4,
}


class Purpose(IntEnum):
    """What random numbers are for."""

    PATHS = 1
    DATA = 2
    HISTORIES = 3
    FIT = 4
    SCENARIOS = 5
    TRAINING = 6
    LAW = 7
