"""Simulation: laws of returns, portfolios and strategies under them, risk, stress, and markets."""

from sddp.simulation.correlation import (
    NearestCorrelation,
    nearest_correlation,
    nearest_covariance,
)
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
from sddp.simulation.stress import (
    EPISODES,
    ConditionalMoments,
    ReverseStress,
    Shock,
    ShockedLaw,
    conditional_moments,
    replayed,
    reverse_stress,
    shock_returns,
    standard_shocks,
    stress_table,
    stressed_moments,
)
from sddp.simulation.wealth import (
    FixedWeights,
    SimulatedWealth,
    simulate_policy,
    simulate_portfolio,
)

__all__ = [
    "EPISODES",
    "BootstrapLaw",
    "CallableLaw",
    "ConditionalMoments",
    "FixedWeights",
    "MarkovLaw",
    "NearestCorrelation",
    "NormalLaw",
    "RegimeLaw",
    "ReverseStress",
    "ScenarioLaw",
    "Shock",
    "ShockedLaw",
    "SimulatedWealth",
    "StudentLaw",
    "compare_risk",
    "conditional_moments",
    "control_variate_mean",
    "cvar_contributions",
    "law_moments",
    "nearest_correlation",
    "nearest_covariance",
    "path_figures",
    "per_period",
    "replayed",
    "reverse_stress",
    "risk_figures",
    "shock_returns",
    "simulate_policy",
    "simulate_portfolio",
    "simulate_strategy",
    "standard_shocks",
    "stress_table",
    "stressed_moments",
    "trade_effect",
    "volatility_contributions",
]
