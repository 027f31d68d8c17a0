"""From the known history of a market to regimes, scenarios and forecasts of the next period."""

from sddp.estimation.excess_returns import ExcessRegimeEstimator
from sddp.estimation.fit_cache import FitCache
from sddp.estimation.forecasts import Forecast, Forecaster, RegimeForecaster, WindowForecaster
from sddp.estimation.incremental import (
    ExponentialDecay,
    IncrementalForecaster,
    RollingWindow,
    WeightedSums,
)
from sddp.estimation.means import (
    BayesStein,
    EquilibriumMeans,
    GivenMeans,
    MeanEstimator,
    MeanInputs,
    PooledMeans,
    SampleMeans,
    null_mean_distances,
)
from sddp.estimation.regimes import RegimeEstimate, RegimeEstimator
from sddp.estimation.risk_aversions import (
    IndexedRiskAversion,
    RealizedVolatility,
    RegimeRiskAversion,
    RiskAversionRule,
)
from sddp.estimation.scenario_models import (
    GivenScenarios,
    RollingEstimate,
    ScenarioEstimate,
    ScenarioEstimator,
)
from sddp.estimation.views import BlackLittermanMeans

__all__ = [
    "BayesStein",
    "BlackLittermanMeans",
    "EquilibriumMeans",
    "ExcessRegimeEstimator",
    "ExponentialDecay",
    "FitCache",
    "Forecast",
    "Forecaster",
    "GivenMeans",
    "GivenScenarios",
    "IncrementalForecaster",
    "IndexedRiskAversion",
    "MeanEstimator",
    "MeanInputs",
    "PooledMeans",
    "RealizedVolatility",
    "RegimeEstimate",
    "RegimeEstimator",
    "RegimeForecaster",
    "RegimeRiskAversion",
    "RiskAversionRule",
    "RollingEstimate",
    "RollingWindow",
    "SampleMeans",
    "ScenarioEstimate",
    "ScenarioEstimator",
    "WeightedSums",
    "WindowForecaster",
    "null_mean_distances",
]
