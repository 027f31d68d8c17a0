"""The one place that maps the name of an optimizer to its class."""

from __future__ import annotations

from enum import Enum
from typing import Any

from sddp.errors import ModelError
from sddp.portfolio.optimizer import PortfolioOptimizer
from sddp.portfolio.optimizers.black_litterman import BlackLitterman
from sddp.portfolio.optimizers.deviation import StandardDeviation
from sddp.portfolio.optimizers.markowitz import (
    MaximumSharpe,
    MinimumVariance,
    TargetReturn,
    TargetVolatility,
)
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.optimizers.risk_budget import RiskBudget
from sddp.portfolio.optimizers.scenario_cvar import CVaRLimited, MaximumReturnToCVaR, MinimumCVaR


class OptimizerType(Enum):
    """Names by which a configuration or a governance parameter chooses an optimizer."""

    MARKOWITZ = "markowitz"
    BLACK_LITTERMAN = "black_litterman"
    ERC = "erc"
    MINIMUM_VARIANCE = "minimum_variance"
    MAXIMUM_SHARPE = "maximum_sharpe"
    TARGET_RETURN = "target_return"
    TARGET_VOLATILITY = "target_volatility"
    STANDARD_DEVIATION = "standard_deviation"
    MINIMUM_CVAR = "minimum_cvar"
    CVAR_LIMITED = "cvar_limited"
    MAXIMUM_RETURN_TO_CVAR = "maximum_return_to_cvar"


CLASSES: dict[OptimizerType, type[PortfolioOptimizer]] = {
    OptimizerType.MARKOWITZ: MeanVariance,
    OptimizerType.BLACK_LITTERMAN: BlackLitterman,
    OptimizerType.ERC: RiskBudget,
    OptimizerType.MINIMUM_VARIANCE: MinimumVariance,
    OptimizerType.MAXIMUM_SHARPE: MaximumSharpe,
    OptimizerType.TARGET_RETURN: TargetReturn,
    OptimizerType.TARGET_VOLATILITY: TargetVolatility,
    OptimizerType.STANDARD_DEVIATION: StandardDeviation,
    OptimizerType.MINIMUM_CVAR: MinimumCVaR,
    OptimizerType.CVAR_LIMITED: CVaRLimited,
    OptimizerType.MAXIMUM_RETURN_TO_CVAR: MaximumReturnToCVaR,
}


def optimizer(kind: OptimizerType | str, **parameters: Any) -> PortfolioOptimizer:
    """Make an optimizer by its name.

    Parameters
    ----------
    kind : OptimizerType, or its value or member name as text
    **parameters
        Of the class.

    Raises
    ------
    ModelError
        The name or a parameter is unknown, or the class refuses a parameter.

    Examples
    --------
    >>> optimizer("MARKOWITZ", risk_aversion=3.0).risk_aversion
    3.0
    """
    chosen = CLASSES[_type_of(kind)]
    try:
        return chosen(**parameters)
    except TypeError as error:
        raise ModelError(
            f"parameters={sorted(parameters)}: {error}; give those of {chosen.__name__}"
        ) from error


def _type_of(kind: OptimizerType | str) -> OptimizerType:
    if isinstance(kind, OptimizerType):
        return kind
    for member in OptimizerType:
        if kind in (member.name, member.value):
            return member
    known = ", ".join(member.name for member in OptimizerType)
    raise ModelError(f"kind={kind!r}: must be one of {known}")
