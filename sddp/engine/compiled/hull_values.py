"""Values of one linear program at many right-hand sides: the programs of the inner bound.

Costs and matrix are the same for all, so every optimal basis is dual feasible for all of them: its
multipliers bound each value from below, and where its solution is feasible it is optimal. Each
program starts from the known basis whose bound is the best there, and most end without a pivot.
What is handed out is checked from the program's own numbers, not from the dictionary's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.compiled.kernel import kernel
from sddp.engine.compiled.simplex import (
    AT_LOWER,
    AT_UPPER,
    AT_ZERO,
    OPTIMAL,
    refactor,
    solve,
)
from sddp.engine.subproblem.program_family import Family

# Rows, bounds and the gap may miss by this, relative to 1 plus their terms, as in `sddp.lp_model`.
CHECK_TOLERANCE = 1e-9

# Reduced costs of a basis from elsewhere that miss their sign by less than this are 0.
FOREIGN_TOLERANCE = 1e-8

# Dictionaries that are kept: at most so many, and at most so many numbers in all of them (64 MB).
MOST_KEPT, MOST_NUMBERS = 2_000, 8_000_000

# How an answer was found; `ASK` is for another solver.
READ, SOLVED, ASK = 0, 1, 2


# Places in the tuples below. A kernel takes plain tuples: numba's cache on disk holds the types of
# arguments, and with classes among them it could not be read once a class has moved.
(
    MATRIX,
    COST,
    ROW_LOWER,
    ROW_UPPER,
    ROW_IN,
    LOWER,
    UPPER,
    LOWER_IN,
    UPPER_IN,
    MOVING,
    MONEY,
    OFFSET,
    COST_IN,
) = range(13)
(TABLE, REDUCED, NONBASIC, SIDE, BASICS, LOW, HIGH, AT, VALUE, ALIVE, MARK, SOLUTION, PIVOTS) = (
    range(13)
)
(
    KEPT_TABLE,
    KEPT_REDUCED,
    KEPT_NONBASIC,
    KEPT_SIDE,
    KEPT_BASICS,
    KEPT_SLOPE,
    KEPT_CONSTANT,
    KEPT_AGE,
    KEPT_NUMBER,
) = range(9)


class _Work(NamedTuple):
    """The present dictionary; see `sddp.engine.compiled.simplex`."""

    D: Floats
    d: Floats
    nb: Ints
    side: Ints
    bs: Ints
    lo: Floats
    up: Floats
    xn: Floats
    xb: Floats
    alive: NDArray[np.bool_]
    mark: Ints
    y: Floats
    pivots: Ints  # on this dictionary, in all, and dictionaries made


class _Kept(NamedTuple):
    """Dictionaries of bases that were optimal somewhere, and the lower bounds that they give."""

    D: Floats
    d: Floats
    nb: Ints
    side: Ints
    bs: Ints
    slope: Floats
    constant: Floats
    age: Ints  # pivots since the dictionary was made from the rows
    number: Ints  # kept, next to be replaced, the one at work or -1


class CompiledFamily:
    """Solver of one `Family`, with the bases that it has met."""

    def __init__(self, family: Family) -> None:
        (m, n), self._family = family.matrix.shape, family
        n_noises, n_state = len(family.lower), family.row_in.shape[1]
        size = max(1, min(MOST_KEPT, MOST_NUMBERS // max(m * n, 1)))
        whole, floats = np.int64, np.float64
        self._work = _Work(
            np.zeros((m, n)), np.zeros(n), np.zeros(n, whole), np.zeros(n, whole),
            np.zeros(m, whole), np.zeros(n + m), np.zeros(n + m), np.zeros(n), np.zeros(m),
            np.zeros(n, np.bool_), np.zeros(n + m, whole), np.zeros(n), np.zeros(3, whole),
        )  # fmt: skip
        self._work.lo[:n], self._work.up[:n] = family.lower[0], family.upper[0]
        self._kept = _Kept(
            np.empty((size, m, n), floats), np.empty((size, n), floats),
            np.empty((size, n), whole), np.empty((size, n), whole), np.empty((size, m), whole),
            np.empty((size, n_state)), np.empty((size, n_noises)),
            np.zeros(size, whole), np.array([0, 0, -1], dtype=whole),
        )  # fmt: skip

    def start_from(self, columns: Any, rows: Any) -> bool:
        """Take in a basis: the side of each column and row, -1 where it is basic.

        False where it is none, or not dual feasible.
        """
        n, mark = len(columns), np.concatenate([columns, rows]).astype(np.int64)
        if np.count_nonzero(mark >= 0) != n:
            return False
        work = self._work
        work.nb[:], work.bs[:] = np.flatnonzero(mark >= 0), np.flatnonzero(mark < 0)
        work.side[:] = mark[work.nb]
        return bool(_take_in(tuple(self._family), tuple(work), tuple(self._kept)))

    def answer(
        self,
        states: Floats,
        noises: Ints,
        groups: Ints,
        failed: NDArray[np.bool_],
        values: Floats,
        position: int,
        most: int,
    ) -> tuple[int, int, bool]:
        """Fill `values` from `position` on until `most` programs were solved.

        All of a group that has `failed` are infinite. Returns where it ended, how many were
        solved, and whether the one there is left for another solver.
        """
        counts = np.zeros(2, dtype=np.int64)
        position = _answer(
            tuple(self._family), tuple(self._work), tuple(self._kept), states, noises, groups,
            failed, values, position, most, counts,
        )  # fmt: skip
        return int(position), int(counts[0]), bool(counts[1])


@kernel
def _answer(family, work, kept, states, noises, groups, failed, values, start, most, counts):
    i = start
    while i < len(states) and counts[0] < most:
        if failed[groups[i]]:
            values[i] = np.inf
            i += 1
            continue
        x, w = states[i], noises[i]
        crossed = _move(family, work, x, w)
        if crossed:
            values[i], failed[groups[i]] = np.inf, True
            i += 1
            continue
        how = _solve_one(family, work, kept, x, w)
        counts[0] += how == SOLVED
        if how == ASK:
            counts[1] = 1
            return i
        values[i] = _value(family, work, x, w)
        i += 1
    return i


@kernel
def _move(family, work, x, w):
    """Write the bounds at a state and noise; whether some cross."""
    n, d = len(family[COST]), len(x)
    crossed = False
    for at in range(len(family[MOVING])):
        j = family[MOVING][at]
        low, high = family[LOWER][w, j], family[UPPER][w, j]
        for k in range(d):
            low += family[LOWER_IN][j, k] * x[k]
            high += family[UPPER_IN][j, k] * x[k]
        if low > high:
            room = CHECK_TOLERANCE * (1.0 + abs(high))
            crossed = crossed or low > high + room
            high = low
        work[LOW][j], work[HIGH][j] = low, high
    for r in range(len(family[ROW_IN])):
        moved = 0.0
        for k in range(d):
            moved += family[ROW_IN][r, k] * x[k]
        work[LOW][n + r] = family[ROW_LOWER][w, r] - moved
        work[HIGH][n + r] = family[ROW_UPPER][w, r] - moved
    return crossed


@kernel
def _solve_one(family, work, kept, x, w):
    m, n = family[MATRIX].shape
    best, bound = -1, -np.inf
    for b in range(kept[KEPT_NUMBER][0]):
        offered = kept[KEPT_CONSTANT][b, w]
        for k in range(len(x)):
            offered += kept[KEPT_SLOPE][b, k] * x[k]
        if offered > bound:
            best, bound = b, offered
    if best < 0:
        return ASK
    if best != kept[KEPT_NUMBER][2]:
        _recall(work, kept, best, m, n)
    before = work[PIVOTS][1]
    status = solve(
        family[MATRIX], family[COST], work[TABLE], work[REDUCED], work[NONBASIC], work[SIDE],
        work[BASICS], work[LOW], work[HIGH], work[AT], work[VALUE], work[ALIVE], work[MARK], m, n,
        work[PIVOTS],
    )  # fmt: skip
    pivots = work[PIVOTS][1] - before
    if status != OPTIMAL or not _holds(family, work):  # whether there is no solution is not ours
        kept[KEPT_NUMBER][2] = -1
        return ASK
    if pivots == 0:
        return READ
    _keep(family, work, kept)
    return SOLVED


@kernel
def _recall(work, kept, b, m, n):
    for i in range(m):
        work[BASICS][i] = kept[KEPT_BASICS][b, i]
        for j in range(n):
            work[TABLE][i, j] = kept[KEPT_TABLE][b, i, j]
    for j in range(n):
        work[REDUCED][j] = kept[KEPT_REDUCED][b, j]
        work[NONBASIC][j] = kept[KEPT_NONBASIC][b, j]
        work[SIDE][j] = kept[KEPT_SIDE][b, j]
    work[PIVOTS][0] = kept[KEPT_AGE][b]
    kept[KEPT_NUMBER][2] = b


@kernel
def _keep(family, work, kept):
    """Keep the dictionary, in place of the oldest where there is no room."""
    m, n = family[MATRIX].shape
    b = kept[KEPT_NUMBER][1]
    for i in range(m):
        kept[KEPT_BASICS][b, i] = work[BASICS][i]
        for j in range(n):
            kept[KEPT_TABLE][b, i, j] = work[TABLE][i, j]
    for k in range(kept[KEPT_SLOPE].shape[1]):
        kept[KEPT_SLOPE][b, k] = 0.0
    for w in range(kept[KEPT_CONSTANT].shape[1]):
        kept[KEPT_CONSTANT][b, w] = 0.0
    for j in range(n):
        kept[KEPT_REDUCED][b, j] = work[REDUCED][j]
        kept[KEPT_NONBASIC][b, j] = work[NONBASIC][j]
        kept[KEPT_SIDE][b, j] = work[SIDE][j]
        if work[REDUCED][j] != 0.0 and work[SIDE][j] != AT_ZERO:
            _add_bound(family, kept, b, work[NONBASIC][j], work[SIDE][j], work[REDUCED][j])
    kept[KEPT_AGE][b], kept[KEPT_NUMBER][2] = work[PIVOTS][0], b
    kept[KEPT_NUMBER][0] = max(kept[KEPT_NUMBER][0], b + 1)
    kept[KEPT_NUMBER][1] = (b + 1) % len(kept[KEPT_REDUCED])


@kernel
def _add_bound(family, kept, b, v, side, weight):
    """What a nonbasic variable at a bound adds to what a basis bounds the value by."""
    n = len(family[COST])
    for k in range(kept[KEPT_SLOPE].shape[1]):
        if v >= n:
            kept[KEPT_SLOPE][b, k] -= weight * family[ROW_IN][v - n, k]
        else:
            moves = family[LOWER_IN][v, k] if side == AT_LOWER else family[UPPER_IN][v, k]
            kept[KEPT_SLOPE][b, k] += weight * moves
    for w in range(kept[KEPT_CONSTANT].shape[1]):
        if v >= n:
            at = family[ROW_LOWER][w, v - n] if side == AT_LOWER else family[ROW_UPPER][w, v - n]
        else:
            at = family[LOWER][w, v] if side == AT_LOWER else family[UPPER][w, v]
        kept[KEPT_CONSTANT][b, w] += weight * at


@kernel
def _holds(family, work):
    """Whether the solution keeps rows and bounds and its value is what the multipliers prove."""
    m, n = family[MATRIX].shape
    dual = 0.0
    for j in range(n):
        if work[NONBASIC][j] < n:
            work[SOLUTION][work[NONBASIC][j]] = work[AT][j]
        dual += work[REDUCED][j] * work[AT][j]
    for i in range(m):
        if work[BASICS][i] < n:
            work[SOLUTION][work[BASICS][i]] = work[VALUE][i]
    objective, size = 0.0, 1.0
    for j in range(n):
        y, low, high = work[SOLUTION][j], work[LOW][j], work[HIGH][j]
        room = CHECK_TOLERANCE * (1.0 + abs(y))
        if not (y >= low - room and y <= high + room):
            return False
        work[SOLUTION][j] = min(max(y, low), high)
        objective += family[COST][j] * work[SOLUTION][j]
        size += abs(family[COST][j] * work[SOLUTION][j])
    for r in range(m):
        activity, terms = 0.0, 1.0
        for j in range(n):
            part = family[MATRIX][r, j] * work[SOLUTION][j]
            activity += part
            terms += abs(part)
        room = CHECK_TOLERANCE * terms
        if not (activity >= work[LOW][n + r] - room and activity <= work[HIGH][n + r] + room):
            return False
    return abs(objective - dual) <= CHECK_TOLERANCE * size


@kernel
def _value(family, work, x, w):
    value = 0.0
    for j in range(len(family[COST])):
        value += family[COST][j] * work[SOLUTION][j]
    value = family[MONEY] * value + family[OFFSET][w]
    for k in range(len(x)):
        value += family[COST_IN][k] * x[k]
    return value


@kernel
def _take_in(family, work, kept):
    """Make the dictionary of a basis from elsewhere and keep it; False where it is no use."""
    m, n = family[MATRIX].shape
    wanted = np.empty(m, np.int64)
    for i in range(m):
        wanted[i] = work[BASICS][i]
    refactor(
        family[MATRIX],
        family[COST],
        work[TABLE],
        work[REDUCED],
        work[NONBASIC],
        work[SIDE],
        work[BASICS],
        work[MARK],
        m,
        n,
    )
    work[PIVOTS][0] = 0
    kept[KEPT_NUMBER][2] = -1
    basic = 0
    for i in range(m):
        for k in range(m):
            basic += work[BASICS][i] == wanted[k]
    if basic != m:
        return False  # singular
    for j in range(n):
        v, cost = work[NONBASIC][j], work[REDUCED][j]
        if v < n:
            low, high = family[LOWER][0, v], family[UPPER][0, v]
        else:
            low, high = family[ROW_LOWER][0, v - n], family[ROW_UPPER][0, v - n]
        below, above = low > -np.inf, high < np.inf
        missing = (cost > 0.0 and not below) or (cost < 0.0 and not above)
        if missing:
            if abs(cost) > FOREIGN_TOLERANCE:
                return False
            work[REDUCED][j] = cost = 0.0
        if cost > 0.0:
            work[SIDE][j] = AT_LOWER
        elif cost < 0.0:
            work[SIDE][j] = AT_UPPER
        elif work[SIDE][j] == AT_LOWER and not below:
            work[SIDE][j] = AT_UPPER if above else AT_ZERO
        elif work[SIDE][j] == AT_UPPER and not above:
            work[SIDE][j] = AT_LOWER if below else AT_ZERO
    _keep(family, work, kept)
    return True
