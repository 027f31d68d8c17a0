"""Bounds on the value of a policy: frictionless trading, information relaxation, inner bound."""

from sddp.bounds.frictionless import FrictionlessPolicy, factor_grid, solve_frictionless
from sddp.bounds.information_relaxation import information_relaxation, laws_along
from sddp.bounds.martingales import controlled_wealth, return_differences, value_differences

__all__ = [
    "FrictionlessPolicy",
    "controlled_wealth",
    "factor_grid",
    "information_relaxation",
    "laws_along",
    "return_differences",
    "solve_frictionless",
    "value_differences",
]
