"""Statistics: regimes, factor model, autoregression, sampling, comparison; arrays in and out."""

from sddp.statistics.autoregression import (
    ReturnAutoregression,
    brown_smith,
    fit_autoregression,
)
from sddp.statistics.factors import FactorModel, FittedFactorModel
from sddp.statistics.paths import RegimePaths, ReturnPaths, Shocks, simulate_regimes
from sddp.statistics.regimes import FittedRegimes, GaussianRegimes, Regimes
from sddp.statistics.sampling import (
    NormalSampler,
    latin_hypercube_normal,
    match_moments,
    monte_carlo_normal,
    sobol_normal,
)
from sddp.statistics.scenario_generation import (
    asset_moments,
    historical_scenarios,
    markov_scenarios,
)
from sddp.statistics.selection import choose_n_states

__all__ = [
    "FactorModel",
    "FittedFactorModel",
    "FittedRegimes",
    "GaussianRegimes",
    "NormalSampler",
    "RegimePaths",
    "Regimes",
    "ReturnAutoregression",
    "ReturnPaths",
    "Shocks",
    "asset_moments",
    "brown_smith",
    "choose_n_states",
    "fit_autoregression",
    "historical_scenarios",
    "latin_hypercube_normal",
    "markov_scenarios",
    "match_moments",
    "monte_carlo_normal",
    "simulate_regimes",
    "sobol_normal",
]
