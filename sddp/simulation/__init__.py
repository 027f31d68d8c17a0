"""Simulation: laws of returns, portfolios and strategies under them, risk, stress, and markets."""

from sddp.simulation.laws import (
    BootstrapLaw,
    CallableLaw,
    MarkovLaw,
    RegimeLaw,
    ScenarioLaw,
    law_moments,
    per_period,
)
from sddp.simulation.normal_laws import NormalLaw, StudentLaw
from sddp.simulation.strategies import simulate_strategy
from sddp.simulation.wealth import (
    FixedWeights,
    SimulatedWealth,
    simulate_policy,
    simulate_portfolio,
)

__all__ = [
    "BootstrapLaw",
    "CallableLaw",
    "FixedWeights",
    "MarkovLaw",
    "NormalLaw",
    "RegimeLaw",
    "ScenarioLaw",
    "SimulatedWealth",
    "StudentLaw",
    "law_moments",
    "per_period",
    "simulate_policy",
    "simulate_portfolio",
    "simulate_strategy",
]
