"""Newton's method on the active set that an interior point method has found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lstsq

from sddp.arrays import Floats, Ints

# A good start needs one or two; where more do not settle, the start is returned by the caller.
MAX_STEPS = 10


@dataclass(frozen=True, eq=False)
class BoxQp:
    """``min z'H z / 2 + g'z`` over a box and one row ``row_lower <= a'z <= row_upper``.

    Attributes
    ----------
    hessian : array, shape (m, m)
        Positive semidefinite.
    gradient, lower, upper, row : array, shape (m,)
    row_lower, row_upper : float
        Equal for an equation.
    """

    hessian: Floats
    gradient: Floats
    lower: Floats
    upper: Floats
    row: Floats
    row_lower: float
    row_upper: float


def polish(qp: BoxQp, z: Floats, row_dual: float) -> Iterator[tuple[Floats, float]]:
    """Solve the optimality conditions as equations, with the active set read off a near solution.

    A bound counts as active where its slack is below its multiplier. Each step is the least one
    that solves the equations, so that an optimum which is not unique stays near where it was. The
    set is read again after each step, until it stands.

    Parameters
    ----------
    qp : BoxQp
    z : array, shape (m,)
    row_dual : float
        Multiplier of the row, positive where its upper side holds.

    Yields
    ------
    z, row_dual
        Nothing is promised of them: where the active set is doubtful they may be worse than the
        start, and the caller compares the optimality conditions.
    """
    previous = None
    for _ in range(MAX_STEPS):
        sides, row_side = _active(qp, z, row_dual)
        if (key := (sides.tobytes(), row_side)) == previous:
            return
        z, row_dual = _step(qp, z, row_dual, sides, row_side)
        yield z, row_dual
        previous = key


def _active(qp: BoxQp, z: Floats, row_dual: float) -> tuple[Ints, int]:
    """Side on which each bound holds, and on which the row does: -1 lower, 1 upper, 0 neither."""
    slope = qp.hessian @ z + qp.gradient + row_dual * qp.row
    sides = np.where(z - qp.lower < slope, -1, np.where(qp.upper - z < -slope, 1, 0))
    level = float(qp.row @ z)
    if qp.row_upper == qp.row_lower or qp.row_upper - level < row_dual:
        row_side = 1
    else:
        row_side = -1 if level - qp.row_lower < -row_dual else 0
    if row_side and sides.all():
        # Something must be free to keep the row: what is nearest to being free.
        sides[np.argmin(np.abs(slope))] = 0
    return sides, row_side


def _step(
    qp: BoxQp, z: Floats, row_dual: float, sides: Ints, row_side: int
) -> tuple[Floats, float]:
    """Least step that solves the conditions of the free entries, and of the row if it holds."""
    moved = np.where(sides < 0, qp.lower, np.where(sides > 0, qp.upper, z))
    free = np.flatnonzero(sides == 0)
    n_rows = abs(row_side)
    dual = n_rows * row_dual
    slope = (qp.hessian @ moved + qp.gradient + dual * qp.row)[free]
    row = qp.row[None, free][:n_rows]
    gap = np.array([(qp.row_upper if row_side > 0 else qp.row_lower) - qp.row @ moved])[:n_rows]
    corner = np.zeros((n_rows, n_rows))
    matrix = np.block([[qp.hessian[np.ix_(free, free)], row.T], [row, corner]])
    step = _least_solution(matrix, np.concatenate([-slope, gap]))
    moved[free] += step[: len(free)]
    return moved, dual + float(step[len(free) :].sum())


def _least_solution(matrix: Floats, right: Floats) -> Floats:
    if not right.size:
        return right
    # By QR with pivoting: many times faster than by singular values, and as exact here.
    solution: Floats = lstsq(matrix, right, lapack_driver="gelsy")[0]
    return solution
