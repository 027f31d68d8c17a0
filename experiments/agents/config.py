"""Numbers of the specification's example, and of the study."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.portfolio import Moments

ASSETS = ("bitcoin", "real estate", "stablecoin")
WEIGHTS = {"bitcoin": 0.5, "real estate": 0.3, "stablecoin": 0.2}
COSTS = {"bitcoin": 0.001, "real estate": 0.01, "stablecoin": 0.0005}
GROUPS: dict[Hashable, Sequence[Hashable]] = {
    kind: [name] for kind, name in zip(("crypto", *ASSETS[1:]), ASSETS, strict=True)
}

VOLATILITY = np.array([0.40, 0.15, 0.02])
CORRELATION = np.array([[1.0, 0.3, 0.0], [0.3, 1.0, 0.0], [0.0, 0.0, 1.0]])
MEAN = pd.Series([0.08, 0.05, 0.02], index=list(ASSETS))
ANNUAL = Moments.of(MEAN, CORRELATION * np.outer(VOLATILITY, VOLATILITY), list(ASSETS))

# Columns of the data's prices that stand for the assets: no token of real estate has a daily file.
COLUMNS = {"btc": "bitcoin", "vnq": "real estate", "usdc": "stablecoin"}

CLAIM = -0.15

# The ways in which thirty days are drawn: days a period, days a year, periods, rebalancing, and
# whether the cost of building from cash counts.
CONVENTIONS: dict[str, tuple[int, int, int, int | None, bool]] = {
    "30 of 252 days as one period": (30, 252, 1, None, False),
    "30 of 365 days as one period": (30, 365, 1, None, False),
    "30 of 252 days as one period, built from cash": (30, 252, 1, None, True),
    "30 compounded days, holdings fixed": (1, 252, 30, None, False),
    "30 compounded days, rebalanced daily": (1, 252, 30, 1, False),
}
ONE_PERIOD, OF_365, BUILT, FIXED, DAILY = CONVENTIONS
LAWS = {"normal": None, "Student-t (4)": 4.0}

# What was computed for this project before this code, by other means; digits as given.
VAR, CVAR = "VaR 95 %", "CVaR 95 %"
KNOWN: dict[tuple[str, str, str], tuple[float, float]] = {
    ("normal", ONE_PERIOD, VAR): (0.1166, 5e-5),
    ("normal", ONE_PERIOD, CVAR): (0.1480, 5e-5),
    ("normal", OF_365, VAR): (0.0979, 5e-5),
    ("normal", BUILT, "return's 5 % quantile (minus VaR)"): (-0.1202, 5e-5),
    ("Student-t (4)", ONE_PERIOD, VAR): (0.106, 5e-4),
    ("normal", FIXED, VAR): (0.1099, 3e-4),
    ("normal", FIXED, CVAR): (0.1344, 3e-4),
    ("Student-t (4)", FIXED, VAR): (0.1097, 3e-4),
    ("Student-t (4)", FIXED, CVAR): (0.1386, 3e-4),
    ("normal", DAILY, VAR): (0.1127, 3e-4),
    ("normal", DAILY, CVAR): (0.1396, 3e-4),
    ("Student-t (4)", DAILY, VAR): (0.1122, 3e-4),
    ("Student-t (4)", DAILY, CVAR): (0.1434, 3e-4),
    ("normal", ONE_PERIOD, "probability of losing more than 20 %"): (0.003, 5e-4),
}


@dataclass(frozen=True)
class Config:
    """Sizes of the study.

    `n_known` scenarios are compared with known numbers, `n_crowd` drawn with other agents,
    `n_foreseen` with agents who reckon with the price move, `n_drawn` for how alike they are;
    `depths` are money that moves the price of real estate by 1 %, in shares of the agents'
    wealth; `permanent` the share of the move that stays; `noise` the error of an agent's estimate
    of a period's mean, in volatilities of that period;
    `horizons` days, of a year of 252.
    """

    seed: int = 1
    n_scenarios: int = 10_000
    n_known: int = 400_000
    n_crowd: int = 2_000
    n_foreseen: int = 1_000
    n_drawn: int = 20
    counts: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    depths: tuple[float, ...] = (0.003, 0.005, 0.01, 0.015, 0.03, 0.1, 0.3)
    alikeness: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    permanent: tuple[float, ...] = (0.0, 0.5, 0.9, 1.0)
    horizons: tuple[int, ...] = (5, 30)
    noise: float = 0.2
    risk_aversion: float = 3.0
    n_agents: int = 10


QUICK = {
    "n_scenarios": 2_000,
    "n_known": 4_000,
    "n_crowd": 400,
    "n_foreseen": 400,
    "n_drawn": 3,
    "counts": (0, 2),
    "depths": (0.03,),
    "alikeness": (0.0, 1.0),
    "permanent": (0.5,),
    "horizons": (30,),
    "n_agents": 2,
}
