"""Bunching: many right-hand sides answered from the basis of one solve.

Where noise moves right-hand sides only, neighbouring realisations share an optimal basis. Its
duals stay feasible, so it is optimal for every realisation at which its primal solution keeps
the bounds: one small system for all of them, and one product to test what it gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.engine.stage_programme import StageProgramme
from sddp.lp import AT_UPPER, BASIC, Statuses

# The system of the rows that hold the solution is solved densely: with more of them a warm solve of
# each realisation is faster.
MOST_TIGHT = 150


class RightHandSides(NamedTuple):
    """Sides of the rows that noise moves: positions, and a row of values for each realisation."""

    rows: NDArray[np.int32]
    lower: Floats
    upper: Floats

    def of(self, chosen: NDArray[np.int64]) -> RightHandSides:
        """Those of some realisations."""
        return RightHandSides(self.rows, self.lower[chosen], self.upper[chosen])


def responses(
    programme: StageProgramme, sides: RightHandSides, tolerance: float
) -> tuple[NDArray[np.bool_], Floats]:
    """What the present optimal basis answers to other right-hand sides.

    Parameters
    ----------
    programme : StageProgramme
        Just solved to optimality.
    sides : RightHandSides
    tolerance : float
        By which a bound may be missed.

    Returns
    -------
    optimal, primal
        Whether the basis is optimal for each realisation, and all columns there, shape
        (n_realisations, n_columns).
    """
    n_realisations = len(sides.lower)
    view = programme.solved_view()
    basic, tight = view.basis.columns == BASIC, view.basis.rows != BASIC
    primal = np.tile(view.primal, (n_realisations, 1))
    if np.count_nonzero(tight) > MOST_TIGHT:
        return np.zeros(n_realisations, dtype=bool), programme.whole(primal)
    moved = view.moved[sides.rows]
    lower, upper = sides.lower - moved, sides.upper - moved
    held = np.tile(_active(view.basis.rows, view.row_lower, view.row_upper), (n_realisations, 1))
    held[:, sides.rows] = _active(view.basis.rows[sides.rows], lower, upper)
    try:
        square = view.matrix[np.ix_(tight, basic)]
        change = np.linalg.solve(square, (held[:, tight] - view.matrix[tight] @ view.primal).T)
    except np.linalg.LinAlgError:  # no basis, or one that is singular in floating point
        return np.zeros(n_realisations, dtype=bool), programme.whole(primal)
    primal[:, basic] += change.T
    activity = primal @ view.matrix.T
    inside = (primal >= view.column_lower - tolerance) & (primal <= view.column_upper + tolerance)
    kept = (activity >= view.row_lower - tolerance) & (activity <= view.row_upper + tolerance)
    activity = activity[:, sides.rows]
    kept[:, sides.rows] = (activity >= lower - tolerance) & (activity <= upper + tolerance)
    optimal: NDArray[np.bool_] = np.all(inside, axis=1) & np.all(kept, axis=1)
    return optimal, programme.whole(primal)


def _active(statuses: Statuses, lower: Floats, upper: Floats) -> Floats:
    """The side that holds each row."""
    active: Floats = np.where(statuses == AT_UPPER, upper, lower)
    return active
