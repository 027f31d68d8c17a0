"""What the numbers of the study depend on, beside the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Config:
    """Settings; the deck's where it states one.

    Attributes
    ----------
    start : str
        The first decision is taken on the first row from here on.
    n_rows : int or None
        Rows of the run; None goes to the end of the data.
    limits : tuple of float
        One-period CVaR as a fraction of wealth. The first is the deck's.
    headline : float
        The limit whose results are shown in full, lag 0 and other settings included.
    transaction_cost : float
        Fraction of the money traded, in the models and in the market.
    confidence : float
        Level of the CVaR.
    lag : int
        Rows between decision and execution.
    window, n_states, n_starts, n_scenarios :
        Of the hidden Markov model and its scenarios (these per regime).
    n_stages, iterations, refit_every, terminal_value, train_from :
        Of the multi-stage policy: one-row stages, iterations of a training (two paths each),
        decisions between two trainings, and what counts at the end, as in `AllocationModel`, and
        where trainings start, as in `MultistageStrategy`.
    risk_aversion : float
        Of the mean-variance model with a fixed one.
    volatility_rows : int
        Rows of the realized volatility that stands in for a volatility index.
    seeds : tuple of int
        The first is used everywhere, the others where the sensitivities are asked for.
    states, windows, costs :
        Tried beside `n_states`, `window` and `transaction_cost`.
    daily_starts : int
        Random starts of a fit where policies are trained every row.
    more_iterations : int
        Tried beside `iterations`, to see what a longer training would have changed.
    n_draws : int
        Of every bootstrap.
    """

    start: str = "2008-01-01"
    n_rows: int | None = None
    limits: tuple[float, ...] = (0.1, 0.02, 0.015, 0.01)
    headline: float = 0.015
    transaction_cost: float = 0.0005
    confidence: float = 0.9
    lag: int = 1
    window: int = 504
    n_states: int = 4
    n_starts: int = 10
    n_scenarios: int = 250
    n_stages: int = 10
    iterations: int = 5
    refit_every: int = 10
    terminal_value: Literal["marked", "liquidated"] = "marked"
    train_from: Literal["holdings", "cash"] = "holdings"
    risk_aversion: float = 5.0
    volatility_rows: int = 21
    seeds: tuple[int, ...] = (1, 2, 3)
    states: tuple[int, ...] = (2, 3)
    windows: tuple[int, ...] = (252, 1008)
    costs: tuple[float, ...] = (0.001, 0.005)
    daily_starts: int = 2
    more_iterations: int = 20
    n_draws: int = 5000

    @property
    def seed(self) -> int:
        """The first seed."""
        return self.seeds[0]


QUICK: Mapping[str, Any] = {
    "n_rows": 34,
    "limits": (0.1, 0.015),
    "window": 100,
    "n_states": 2,
    "n_starts": 2,
    "n_scenarios": 20,
    "n_stages": 4,
    "iterations": 2,
    "refit_every": 4,
    "seeds": (1, 2),
    "states": (3,),
    "windows": (80,),
    "costs": (0.005,),
    "daily_starts": 1,
    "more_iterations": 4,
    "n_draws": 200,
}
