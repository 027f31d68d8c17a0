"""The one place that maps the name of an optimizer to its class."""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from typing import Any, cast

from sddp.errors import ModelError
from sddp.portfolio.constraints.constraint_set import ConstraintSet
from sddp.portfolio.optimizer import Optimizer, PortfolioOptimizer
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
from sddp.portfolio.risk_aversion import VolatilityDriven


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


# What another optimizer takes over: what trading costs, and what may be held.
COMMON = ("transaction_cost", "sale_cost", "min_weights", "max_weights", "constraints")


def exchanged(
    given: PortfolioOptimizer,
    *,
    kind: OptimizerType | str | None = None,
    risk_aversion: float | None = None,
    constraints: str | None = None,
) -> PortfolioOptimizer:
    """The optimizer with another class, risk aversion or constraint set.

    Parameters
    ----------
    given : Optimizer
    kind : OptimizerType or name, optional
        Another class: it takes over costs, bounds of assets and constraints, and the risk aversion
        where it has one; all else are its defaults.
    risk_aversion : float, optional
        Of one that follows an index, its base.
    constraints : str, optional
        JSON of a `ConstraintSet`.

    Raises
    ------
    ModelError
        A value is out of range, or the class has no such parameter.

    Examples
    --------
    >>> bold = exchanged(optimizer("MARKOWITZ", risk_aversion=3.0), risk_aversion=1.0)
    >>> bold.risk_aversion
    1.0
    >>> type(exchanged(bold, kind="ERC")).__name__
    'RiskBudget'
    """
    if not isinstance(given, Optimizer):
        raise ModelError(
            f"optimizer={given!r}: must be one that derives from Optimizer to be exchanged"
        )
    found: Any = given
    present = getattr(given, "risk_aversion", None)
    aversion: Any = present if risk_aversion is None else risk_aversion
    if risk_aversion is not None and isinstance(present, VolatilityDriven):
        aversion = replace(present, base=risk_aversion)
    if kind is not None:
        chosen = CLASSES[_type_of(kind)]
        takes_it = any(f.name == "risk_aversion" for f in fields(cast(Any, chosen)))
        own = {"risk_aversion": aversion} if takes_it and aversion is not None else {}
        found = optimizer(kind, **{name: getattr(given, name) for name in COMMON}, **own)
    if risk_aversion is not None:
        if getattr(found, "risk_aversion", None) is None:
            raise ModelError(f"risk_aversion={risk_aversion}: {type(found).__name__} has none")
        found = replace(found, risk_aversion=aversion)
    if constraints is not None:
        found = replace(found, constraints=ConstraintSet.from_json(constraints))
    changed: PortfolioOptimizer = found
    return changed


def _type_of(kind: OptimizerType | str) -> OptimizerType:
    if isinstance(kind, OptimizerType):
        return kind
    for member in OptimizerType:
        if kind in (member.name, member.value):
            return member
    known = ", ".join(member.name for member in OptimizerType)
    raise ModelError(f"kind={kind!r}: must be one of {known}")
