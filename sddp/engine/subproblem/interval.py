"""Where the optimal value of a program lies, by its solution: between two values."""

from __future__ import annotations

import numpy as np

from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.lp import LinearProgram
from sddp.lp_model import HUGE


def width(node: Subproblem, solution: StageSolution) -> float:
    """By how much the optimal value may be above that of a node's last solution, to first order.

    Sides and generated rows that it misses, by their multipliers, and what its cost-to-go column
    misses under all cuts.
    """
    total = _missed(node.stage_lp.lp)
    if node.cost_to_go is not None and node.cost_to_go.outcomes.ready:
        value = node.cost_to_go.outcomes.evaluate(solution.outgoing).value
        total += max(value - solution.theta, 0.0)
    if node.compiled.rows is not None:
        values = node.stage.generator_values(node.stage_lp.primal())
        rows, upper = node.compiled.rows.violated(values, 0.0)
        breach = float((rows @ values - upper).max(initial=0.0))
        total += breach * _weight_of_generated_rows(node)
    return total


def _missed(program: LinearProgram) -> float:
    """What the sides that the last solution misses are worth, by their multipliers."""
    point, sides = program.point(), program.model.sides
    active = np.where(point.weights > 0.0, sides.lower, sides.upper)
    used = (point.weights != 0.0) & (np.abs(active) < HUGE)
    misses = np.abs(point.values - active)[used]
    return float(np.abs(point.weights[used]) @ misses) * program.money


def _weight_of_generated_rows(node: Subproblem) -> float:
    """Sum of the multipliers of the added rows that hold no cost-to-go column."""
    coefficients = node.stage_lp.rows.coefficients
    n_rows, n_columns = coefficients.shape
    duals = node.stage_lp.lp.row_duals()
    without = ~np.any(coefficients[:, n_columns - node.n_theta :], axis=1)
    return float(np.abs(duals[len(duals) - n_rows :][without]).sum())
