"""Statistics: market regimes, factor model and sampling; arrays in, scenarios out."""

from sddp.statistics.factors import FactorModel, FittedFactorModel
from sddp.statistics.regimes import FittedRegimes, GaussianRegimes, Regimes
from sddp.statistics.sampling import (
    NormalSampler,
    latin_hypercube_normal,
    match_moments,
    monte_carlo_normal,
    sobol_normal,
)
from sddp.statistics.scenario_generation import asset_moments, markov_scenarios
from sddp.statistics.selection import choose_n_states

__all__ = [
    "FactorModel",
    "FittedFactorModel",
    "FittedRegimes",
    "GaussianRegimes",
    "NormalSampler",
    "Regimes",
    "asset_moments",
    "choose_n_states",
    "latin_hypercube_normal",
    "markov_scenarios",
    "match_moments",
    "monte_carlo_normal",
    "sobol_normal",
]
