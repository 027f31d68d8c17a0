"""Bunching: many right-hand sides answered from the basis of one solve.

Where noise moves right-hand sides only, neighbouring realisations share an optimal basis. Its
duals stay feasible as long as the same side of each row holds the solution, so it is optimal for
every realisation at which the solution held by those sides keeps all bounds: one small system for
all of them, and one product to test what it gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.subproblem.stage_lp import StageLP
from sddp.lp import AT_UPPER, BASIC, FEASIBILITY_TOLERANCE, Basis, LinearProgram
from sddp.lp_model import HUGE_PRODUCT

# The system of the rows that hold the solution is solved densely: with more of them a warm solve of
# each realisation is faster. So it is where the whole matrix, made dense, has many entries.
MOST_TIGHT = 150
MOST_ENTRIES = 100_000


class RightHandSides(NamedTuple):
    """Sides of the rows that noise moves: positions, and a row of values for each realisation."""

    rows: NDArray[np.int32]
    lower: Floats
    upper: Floats

    def of(self, chosen: NDArray[np.int64]) -> RightHandSides:
        """Those of some realisations."""
        return RightHandSides(self.rows, self.lower[chosen], self.upper[chosen])


def responses(stage_lp: StageLP, sides: RightHandSides) -> tuple[Ints, Floats]:
    """What the present optimal basis answers to other right-hand sides.

    Parameters
    ----------
    stage_lp : StageLP
        Just solved to optimality.
    sides : RightHandSides

    Returns
    -------
    optimal, primal
        Positions of the realisations for which the basis is optimal, and all columns there, shape
        (n_optimal, n_columns).
    """
    lp = stage_lp.lp
    if lp.n_rows * lp.n_columns > MOST_ENTRIES:
        return _nothing(stage_lp)
    basis = lp.basis()
    if len(basis.rows) != lp.n_rows or np.count_nonzero(basis.rows != BASIC) > MOST_TIGHT:
        return _nothing(stage_lp)
    model, solution = lp.model, lp.point().values[: lp.n_columns]
    matrix = model.matrix if isinstance(model.matrix, np.ndarray) else model.matrix.toarray()
    basic, tight = basis.columns == BASIC, basis.rows != BASIC
    moved, units = stage_lp.sides_taken(sides.rows), lp.row_units[sides.rows]
    lower, upper = (sides.lower - moved) * units, (sides.upper - moved) * units
    at_upper = _held_from_above(lp, basis)
    own = np.where(at_upper, model.rows[1], model.rows[0])
    held = np.tile(own, (len(lower), 1))
    held[:, sides.rows] = np.where(at_upper[sides.rows], upper, lower)
    held = held[:, tight]
    bounded = np.all(np.abs(held) < HUGE_PRODUCT, axis=1)
    held[~bounded] = 0.0
    try:
        square = matrix[np.ix_(tight, basic)]
        change = np.linalg.solve(square, (held - matrix[tight] @ solution).T)
    except np.linalg.LinAlgError:  # no basis, or one that is singular in floating point
        return _nothing(stage_lp)
    primal = np.tile(solution, (len(lower), 1))
    primal[:, basic] += change.T
    activity, room = primal @ matrix.T, FEASIBILITY_TOLERANCE
    inside = (primal >= model.columns[0] - room) & (primal <= model.columns[1] + room)
    kept = (activity >= model.rows[0] - room) & (activity <= model.rows[1] + room)
    activity = activity[:, sides.rows]
    kept[:, sides.rows] = (activity >= lower - room) & (activity <= upper + room)
    optimal = np.flatnonzero(bounded & np.all(inside, axis=1) & np.all(kept, axis=1))
    return optimal, stage_lp.whole(primal[optimal] * lp.column_units)


def _held_from_above(lp: LinearProgram, basis: Basis) -> NDArray[np.bool_]:
    """Rows that hold the solution from above.

    HiGHS calls an equality "at its lower side" whatever the sign of its dual. Under another
    realisation the row may be a range, and only one of its sides goes with that sign.
    """
    equal = lp.model.rows[0] == lp.model.rows[1]
    negative = lp.point().weights[lp.n_columns :] < 0.0
    above: NDArray[np.bool_] = np.where(equal, negative, basis.rows == AT_UPPER)
    return above


def _nothing(stage_lp: StageLP) -> tuple[Ints, Floats]:
    return np.zeros(0, dtype=np.int64), stage_lp.whole(np.zeros((0, stage_lp.lp.n_columns)))
