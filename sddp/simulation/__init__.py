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

__all__ = [
    "BootstrapLaw",
    "CallableLaw",
    "MarkovLaw",
    "NormalLaw",
    "RegimeLaw",
    "ScenarioLaw",
    "StudentLaw",
    "law_moments",
    "per_period",
]
