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
from sddp.lp import AT_UPPER, BASIC

# The system is solved densely: with more rows a warm solve of each realisation is faster.
MOST_ROWS = 150


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
    if programme.lp.n_rows > MOST_ROWS:
        return np.zeros(n_realisations, dtype=bool), np.zeros((n_realisations, 0))
    view = programme.solved_view()
    basic, tight = view.basis.columns == BASIC, view.basis.rows != BASIC
    lower = np.tile(view.row_lower, (n_realisations, 1))
    upper = np.tile(view.row_upper, (n_realisations, 1))
    moved = view.moved[sides.rows]
    lower[:, sides.rows], upper[:, sides.rows] = sides.lower - moved, sides.upper - moved
    held = np.where(view.basis.rows == AT_UPPER, upper, lower)[:, tight]
    square = view.matrix[np.ix_(tight, basic)]
    primal = np.tile(view.primal, (n_realisations, 1))
    try:
        change = np.linalg.solve(square, (held - view.matrix[tight] @ view.primal).T)
    except np.linalg.LinAlgError:  # no basis, or one that is singular in floating point
        return np.zeros(n_realisations, dtype=bool), programme.whole(primal)
    primal[:, basic] += change.T
    activity = primal @ view.matrix.T
    inside = (primal >= view.column_lower - tolerance) & (primal <= view.column_upper + tolerance)
    kept = (activity >= lower - tolerance) & (activity <= upper + tolerance)
    optimal: NDArray[np.bool_] = np.all(inside, axis=1) & np.all(kept, axis=1)
    return optimal, programme.whole(primal)
