"""Bounds on the value of a policy: frictionless trading, information relaxation, inner bound."""

from sddp.bounds.frictionless import CostFreePolicy, factor_grid, solve_cost_free
from sddp.bounds.information_relaxation import information_relaxation, laws_along
from sddp.bounds.martingales import controlled_wealth, return_differences, value_differences

__all__ = [
    "CostFreePolicy",
    "controlled_wealth",
    "factor_grid",
    "information_relaxation",
    "laws_along",
    "return_differences",
    "solve_cost_free",
    "value_differences",
]
