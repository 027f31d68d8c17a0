"""One-period portfolios: mean against variance with costs, and the moments that go in."""

from sddp.portfolio.mean_variance import MeanVariance
from sddp.portfolio.moments import (
    ExponentialMoments,
    LedoitWolfMoments,
    MomentEstimator,
    Moments,
    Outcomes,
    SampleMoments,
    outcome_moments,
    regime_moments,
    scenario_outcomes,
)
from sddp.portfolio.result import Duals, MeanVarianceResult
from sddp.portfolio.risk_aversion import (
    CVaRMatched,
    VolatilityDriven,
    risk_aversion_of_return,
    risk_aversion_of_variance,
    risk_aversion_of_volatility,
)

__all__ = [
    "CVaRMatched",
    "Duals",
    "ExponentialMoments",
    "LedoitWolfMoments",
    "MeanVariance",
    "MeanVarianceResult",
    "MomentEstimator",
    "Moments",
    "Outcomes",
    "SampleMoments",
    "VolatilityDriven",
    "outcome_moments",
    "regime_moments",
    "risk_aversion_of_return",
    "risk_aversion_of_variance",
    "risk_aversion_of_volatility",
    "scenario_outcomes",
]
