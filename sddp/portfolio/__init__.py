"""One-period portfolios: optimizers, constraints, views, sensitivities, estimators of moments."""

from sddp.portfolio.constraints.constraint import Constraint
from sddp.portfolio.constraints.constraint_set import Breach, ConstraintSet
from sddp.portfolio.constraints.members import (
    CashBounds,
    EsgFloor,
    FactorExposure,
    GroupLimit,
    Liquidity,
    PositionLimit,
    TrackingError,
    Turnover,
)
from sddp.portfolio.moments import (
    ConstantCorrelationMoments,
    ExponentialMoments,
    LedoitWolfMoments,
    MomentEstimator,
    Moments,
    OasMoments,
    Outcomes,
    SampleMoments,
    outcome_moments,
    regime_moments,
    scenario_outcomes,
)
from sddp.portfolio.optimizer import Kernel, Known, Optimizer, PortfolioOptimizer
from sddp.portfolio.optimizers.black_litterman import BlackLitterman
from sddp.portfolio.optimizers.cvar_limit import LimitedPortfolio, ReturnLaw
from sddp.portfolio.optimizers.deviation import StandardDeviation
from sddp.portfolio.optimizers.frontier import Frontier, efficient_frontier
from sddp.portfolio.optimizers.markowitz import (
    MaximumSharpe,
    MinimumVariance,
    TargetReturn,
    TargetVolatility,
)
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.optimizers.online import OnlineMeanVariance
from sddp.portfolio.optimizers.resampled import ResampledFrontier, resampled_frontier
from sddp.portfolio.optimizers.risk_budget import RiskBudget
from sddp.portfolio.optimizers.scenario_cvar import CVaRLimited, MaximumReturnToCVaR, MinimumCVaR
from sddp.portfolio.registry import OptimizerType, optimizer
from sddp.portfolio.result import Duals, PortfolioResult
from sddp.portfolio.risk_aversion import (
    CVaRMatched,
    VolatilityDriven,
    risk_aversion_of_return,
    risk_aversion_of_variance,
    risk_aversion_of_volatility,
)
from sddp.portfolio.sensitivities.sensitivity import Sensitivity, sensitivity
from sddp.portfolio.views.generators import MomentumViews, RegimeViews, ViewGenerator
from sddp.portfolio.views.parameter_optimizer import ParameterOptimizer
from sddp.portfolio.views.posterior import (
    BlackLittermanProcessor,
    MarketImplied,
    Posterior,
    TrackRecord,
)
from sddp.portfolio.views.view import InvestorView

__all__ = [
    "BlackLitterman",
    "BlackLittermanProcessor",
    "Breach",
    "CVaRLimited",
    "CVaRMatched",
    "CashBounds",
    "ConstantCorrelationMoments",
    "Constraint",
    "ConstraintSet",
    "Duals",
    "EsgFloor",
    "ExponentialMoments",
    "FactorExposure",
    "Frontier",
    "GroupLimit",
    "InvestorView",
    "Kernel",
    "Known",
    "LedoitWolfMoments",
    "LimitedPortfolio",
    "Liquidity",
    "MarketImplied",
    "MaximumReturnToCVaR",
    "MaximumSharpe",
    "MeanVariance",
    "MinimumCVaR",
    "MinimumVariance",
    "MomentEstimator",
    "Moments",
    "MomentumViews",
    "OasMoments",
    "OnlineMeanVariance",
    "Optimizer",
    "OptimizerType",
    "Outcomes",
    "ParameterOptimizer",
    "PortfolioOptimizer",
    "PortfolioResult",
    "PositionLimit",
    "Posterior",
    "RegimeViews",
    "ResampledFrontier",
    "ReturnLaw",
    "RiskBudget",
    "SampleMoments",
    "Sensitivity",
    "StandardDeviation",
    "TargetReturn",
    "TargetVolatility",
    "TrackRecord",
    "TrackingError",
    "Turnover",
    "ViewGenerator",
    "VolatilityDriven",
    "efficient_frontier",
    "optimizer",
    "outcome_moments",
    "regime_moments",
    "resampled_frontier",
    "risk_aversion_of_return",
    "risk_aversion_of_variance",
    "risk_aversion_of_volatility",
    "scenario_outcomes",
    "sensitivity",
]
