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
from sddp.simulation.measures import (
    compare_risk,
    control_variate_mean,
    cvar_contributions,
    path_figures,
    risk_figures,
    trade_effect,
    volatility_contributions,
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
    "compare_risk",
    "control_variate_mean",
    "cvar_contributions",
    "law_moments",
    "path_figures",
    "per_period",
    "risk_figures",
    "simulate_policy",
    "simulate_portfolio",
    "simulate_strategy",
    "trade_effect",
    "volatility_contributions",
]
