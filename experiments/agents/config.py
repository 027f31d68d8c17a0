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


@dataclass(frozen=True)
class Config:
    """Sizes of the study.

    `depths` are money that moves the price of real estate by 1 %, in shares of the agents' wealth;
    `noise` the error of an agent's estimate of a period's mean, in volatilities of that period;
    `horizons` days, of a year of 252; `data` a folder with digital_rwa/prices.csv and hourly/.
    """

    seed: int = 1
    n_scenarios: int = 10_000
    n_crowd: int = 1_000
    counts: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    depths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
    alikeness: tuple[float, ...] = (0.0, 0.3, 0.6, 0.9, 1.0)
    permanent: tuple[float, ...] = (0.0, 0.5, 1.0)
    horizons: tuple[int, ...] = (5, 30)
    noise: float = 0.2
    risk_aversion: float = 3.0
    n_agents: int = 10
    data: str | None = None


QUICK = {
    "n_scenarios": 2_000,
    "n_crowd": 400,
    "counts": (0, 2),
    "depths": (0.03,),
    "alikeness": (0.0, 1.0),
    "permanent": (0.5,),
    "horizons": (30,),
    "n_agents": 2,
}
