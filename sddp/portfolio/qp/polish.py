"""Newton's method on the active set of a convex quadratic program over a box and some rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lstsq
from scipy.linalg.lapack import dgecon, dgetrf, dgetrs

from sddp.arrays import Floats, Ints

# A good start needs one or two; where more do not settle, the start is returned by the caller.
MAX_STEPS = 10

# A system with a smaller reciprocal condition number is solved by least squares instead.
WELL_CONDITIONED = 1e-13


@dataclass(frozen=True, eq=False)
class RowQp:
    """``min z'H z / 2 + g'z`` over a box and ``row_lower <= A z <= row_upper``.

    Attributes
    ----------
    hessian : array, shape (m, m)
        Positive semidefinite.
    gradient, lower, upper : array, shape (m,)
    rows : array, shape (k, m)
    row_lower, row_upper : array, shape (k,)
        Equal for an equation; infinite where there is no such side.
    """

    hessian: Floats
    gradient: Floats
    lower: Floats
    upper: Floats
    rows: Floats
    row_lower: Floats
    row_upper: Floats


def polish(
    qp: RowQp, z: Floats, row_duals: Floats, steps: int = MAX_STEPS
) -> Iterator[tuple[Floats, Floats]]:
    """Solve the optimality conditions as equations, with the active set read off a near solution.

    A bound or a side of a row counts as active where its slack is below its multiplier. Each step
    is the least one that solves the equations, so that an optimum which is not unique stays near
    where it was. The set is read again after each step, until it stands.

    Parameters
    ----------
    qp : RowQp
    z : array, shape (m,)
    row_duals : array, shape (k,)
        Multipliers of the rows, positive where the upper side holds.
    steps : int
        Largest number of steps.

    Yields
    ------
    z, row_duals
        They are not guaranteed to improve: where the active set is in doubt they may be worse than
        the start, and the caller compares the optimality conditions.
    """
    previous = None
    for _ in range(steps):
        sides, row_sides = active_sides(qp, z, row_duals)
        if (key := (sides.tobytes(), row_sides.tobytes())) == previous:
            return
        z, row_duals = active_set_step(qp, z, row_duals, sides, row_sides)
        yield z, row_duals
        previous = key


def active_sides(qp: RowQp, z: Floats, row_duals: Floats) -> tuple[Ints, Ints]:
    """Side on which each bound and each row holds: -1 lower, 1 upper, 0 neither."""
    slope = qp.hessian @ z + qp.gradient + row_duals @ qp.rows
    sides = np.where(z - qp.lower < slope, -1, np.where(qp.upper - z < -slope, 1, 0))
    level = qp.rows @ z
    at_upper = (qp.row_upper == qp.row_lower) | (qp.row_upper - level < row_duals)
    row_sides = np.where(at_upper, 1, np.where(level - qp.row_lower < -row_duals, -1, 0))
    if len(sides) and row_sides.any() and sides.all():
        # Something must be free to keep the rows: what is nearest to being free.
        sides[np.argmin(np.abs(slope))] = 0
    return sides, row_sides


def active_set_step(
    qp: RowQp, z: Floats, row_duals: Floats, sides: Ints, row_sides: Ints
) -> tuple[Floats, Floats]:
    """Least step that solves the conditions of the free entries and of the active rows."""
    moved = np.where(sides < 0, qp.lower, np.where(sides > 0, qp.upper, z))
    free, active = (sides == 0).nonzero()[0], row_sides.nonzero()[0]
    duals = np.where(row_sides != 0, row_duals, 0.0)
    slope = (qp.hessian @ moved + qp.gradient + duals @ qp.rows)[free]
    rows = qp.rows[active]
    gap = np.where(row_sides > 0, qp.row_upper, qp.row_lower)[active] - rows @ moved
    step = _least_solution(_conditions(qp, free, active), np.concatenate([-slope, gap]))
    n = len(free)
    moved[free] += step[:n]
    duals[active] += step[n:]
    return moved, duals


def direction(
    qp: RowQp,
    sides: Ints,
    row_sides: Ints,
    gradient: Floats,
    bounds: Floats | None = None,
    row_sides_move: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Derivative of the optimum along a change of the program, while the active set stands.

    Parameters
    ----------
    qp : RowQp
    sides, row_sides : integer arrays, shapes (m,) and (k,)
        The active set (`active_sides`).
    gradient : array, shape (m,)
        Change of the gradient, that of ``H`` times the optimum included, less what a change of
        rows times the multipliers adds.
    bounds : array, shape (m,), optional
        Change of the active bounds; entries of free columns are not read.
    row_sides_move : array, shape (k,), optional
        Change of the active sides of the rows, less a change of rows times the optimum.

    Returns
    -------
    z, row_duals : arrays, shapes (m,) and (k,)
    """
    free, active = np.flatnonzero(sides == 0), np.flatnonzero(row_sides)
    moved = np.zeros(len(sides)) if bounds is None else np.where(sides != 0, bounds, 0.0)
    duals, sides_move = np.zeros(len(row_sides)), np.zeros(len(row_sides))
    if row_sides_move is not None:
        sides_move = row_sides_move
    right = [-(gradient + qp.hessian @ moved)[free], (sides_move - qp.rows @ moved)[active]]
    step = _least_solution(_conditions(qp, free, active), np.concatenate(right))
    moved[free], duals[active] = step[: len(free)], step[len(free) :]
    return moved, duals


def _conditions(qp: RowQp, free: Ints, active: Ints) -> Floats:
    """Matrix of the optimality conditions of free columns and active rows."""
    n, k = len(free), len(active)
    matrix = np.zeros((n + k, n + k))
    matrix[:n, :n] = qp.hessian[free[:, None], free]
    matrix[n:, :n] = qp.rows[active[:, None], free]
    matrix[:n, n:] = matrix[n:, :n].T
    return matrix


def _least_solution(matrix: Floats, right: Floats) -> Floats:
    if not right.size:
        return right
    factors, pivots, singular = dgetrf(matrix)
    if not singular:
        size = np.abs(matrix).sum(axis=0).max()
        if dgecon(factors, size)[0] > WELL_CONDITIONED:
            solved: Floats = dgetrs(factors, pivots, right)[0]
            return solved
    # By QR with pivoting: many times faster than by singular values, and as exact here.
    solution: Floats = lstsq(matrix, right, lapack_driver="gelsy")[0]
    return solution
