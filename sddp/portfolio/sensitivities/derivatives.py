"""Derivatives of an optimum along a path of problems, on either side of the present one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sddp.arrays import Floats
from sddp.errors import InfeasibleProblem, SolverError
from sddp.portfolio.inputs import leaves_something
from sddp.portfolio.optimizer import Terms
from sddp.portfolio.qp.polish import active_sides, direction
from sddp.portfolio.qp.problem import TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.transaction_cost_qp import columns_of, row_qp, start_at

# From a step, in the unit of the input, to the problem.
Path = Callable[[float], TransactionCostQp]


def derivative(
    terms: Terms,
    problem: TransactionCostQp,
    found: TransactionCostSolution,
    moved: Path,
    side: float,
) -> tuple[float, Floats]:
    """Derivative of utility and weights by an input of the objective or of the rows.

    The conditions for an optimum are solved for it with the active set of the optimum a little
    further on the side asked for.

    Parameters
    ----------
    moved : function
        From a step to the problem, whose numbers are smooth in it and whose bounds stay.
    side : float
        Small step; its sign says which side.

    Returns
    -------
    utility : float
    weights : array, shape (n_assets,)
        Per unit of step: at a kink the other side has others.
    """
    columns, scale = columns_of(problem), problem.scale
    qp = row_qp(problem, columns)
    z, duals = start_at(problem, columns, found)
    there = moved(side)
    beyond = terms.optimum(there)
    sides = active_sides(row_qp(there, columns), *start_at(there, columns, beyond))
    ahead, behind = moved(abs(side)), moved(-abs(side))
    one, other = row_qp(ahead, columns), row_qp(behind, columns)
    step = 2.0 * abs(side)

    def slope(name: str, own: bool) -> Floats:
        """Of a part of the program, its objective in the unit of the problem."""
        units = (ahead.scale / scale, behind.scale / scale) if own else (1.0, 1.0)
        left, right = getattr(one, name) * units[0], getattr(other, name) * units[1]
        # Infinite sides stay where they are.
        finite = np.isfinite(left) & np.isfinite(right)
        change: Floats = (np.where(finite, left, 0.0) - np.where(finite, right, 0.0)) / step
        return change

    gradient = slope("gradient", own=True) + slope("hessian", own=True) @ z
    rows = slope("rows", own=False)
    bounds = np.where(sides[0] < 0, slope("lower", own=False), slope("upper", own=False))
    row_sides = np.where(sides[1] < 0, slope("row_lower", own=False), slope("row_upper", own=False))
    dz, _ = direction(qp, *sides, gradient + duals @ rows, bounds, row_sides - rows @ z)
    weights = np.zeros(len(problem.mean))
    np.add.at(weights, columns.asset, columns.sign * dz[: len(columns.asset)])
    utility = (_lagrangian(ahead, found) - _lagrangian(behind, found)) / step
    return utility, weights


def bound_derivative(
    terms: Terms,
    problem: TransactionCostQp,
    found: TransactionCostSolution,
    moved: Path,
    side: float,
) -> tuple[float, Floats]:
    """The same by a bound or the side of a row.

    The weights are piecewise linear in it and the utility piecewise quadratic: difference
    quotients on the side asked for, inside the first piece, are the derivatives up to rounding.

    Returns
    -------
    utility : float
    weights : array, shape (n_assets,)
        NaN where no portfolio is feasible on that side.
    """
    try:
        once, twice = (optimum_at(terms, moved(k * side)) for k in (1.0, 2.0))
    except (InfeasibleProblem, SolverError):
        return np.nan, np.full(len(problem.mean), np.nan)
    here, first, second = (problem.objective(at.weights, at.cash) for at in (found, once, twice))
    utility = (4.0 * first - second - 3.0 * here) / (2.0 * side)
    slopes: Floats = (once.weights - found.weights) / side
    return utility, slopes


def optimum_at(terms: Terms, problem: TransactionCostQp) -> TransactionCostSolution:
    """Optimum of a problem with other bounds.

    Raises
    ------
    InfeasibleProblem
        The bounds leave nothing.
    SolverError
        The rows leave nothing, or no solution was found.
    """
    if not leaves_something(problem):
        raise InfeasibleProblem("the moved bounds leave no portfolio")
    return terms.optimum(problem)


def _lagrangian(problem: TransactionCostQp, found: TransactionCostSolution) -> float:
    """Objective of a changed problem at fixed weights, with the price of what the budget misses."""
    missed = problem.cash(found.weights) - found.cash
    return problem.objective(found.weights, found.cash) + found.prices.budget * missed
