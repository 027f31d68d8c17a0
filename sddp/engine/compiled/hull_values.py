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
        return bool(_take_in(self._family, work, self._kept))

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
            self._family, self._work, self._kept, states, noises, groups, failed, values,
            position, most, counts,
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
    n, d = len(family.cost), len(x)
    crossed = False
    for at in range(len(family.moving)):
        j = family.moving[at]
        low, high = family.lower[w, j], family.upper[w, j]
        for k in range(d):
            low += family.lower_in[j, k] * x[k]
            high += family.upper_in[j, k] * x[k]
        if low > high:
            room = CHECK_TOLERANCE * (1.0 + abs(high))
            crossed = crossed or low > high + room
            high = low
        work.lo[j], work.up[j] = low, high
    for r in range(len(family.row_in)):
        moved = 0.0
        for k in range(d):
            moved += family.row_in[r, k] * x[k]
        work.lo[n + r] = family.row_lower[w, r] - moved
        work.up[n + r] = family.row_upper[w, r] - moved
    return crossed


@kernel
def _solve_one(family, work, kept, x, w):
    m, n = family.matrix.shape
    best, bound = -1, -np.inf
    for b in range(kept.number[0]):
        offered = kept.constant[b, w]
        for k in range(len(x)):
            offered += kept.slope[b, k] * x[k]
        if offered > bound:
            best, bound = b, offered
    if best < 0:
        return ASK
    if best != kept.number[2]:
        _recall(work, kept, best, m, n)
    before = work.pivots[1]
    status = solve(
        family.matrix, family.cost, work.D, work.d, work.nb, work.side, work.bs, work.lo, work.up,
        work.xn, work.xb, work.alive, work.mark, m, n, work.pivots,
    )  # fmt: skip
    pivots = work.pivots[1] - before
    if status != OPTIMAL or not _holds(family, work):  # whether there is no solution is not ours
        kept.number[2] = -1
        return ASK
    if pivots == 0:
        return READ
    _keep(family, work, kept)
    return SOLVED


@kernel
def _recall(work, kept, b, m, n):
    for i in range(m):
        work.bs[i] = kept.bs[b, i]
        for j in range(n):
            work.D[i, j] = kept.D[b, i, j]
    for j in range(n):
        work.d[j], work.nb[j], work.side[j] = kept.d[b, j], kept.nb[b, j], kept.side[b, j]
    work.pivots[0] = kept.age[b]
    kept.number[2] = b


@kernel
def _keep(family, work, kept):
    """Keep the dictionary, in place of the oldest where there is no room."""
    m, n = family.matrix.shape
    b = kept.number[1]
    for i in range(m):
        kept.bs[b, i] = work.bs[i]
        for j in range(n):
            kept.D[b, i, j] = work.D[i, j]
    for k in range(kept.slope.shape[1]):
        kept.slope[b, k] = 0.0
    for w in range(kept.constant.shape[1]):
        kept.constant[b, w] = 0.0
    for j in range(n):
        kept.d[b, j], kept.nb[b, j], kept.side[b, j] = work.d[j], work.nb[j], work.side[j]
        if work.d[j] != 0.0 and work.side[j] != AT_ZERO:
            _add_bound(family, kept, b, work.nb[j], work.side[j], work.d[j])
    kept.age[b], kept.number[2] = work.pivots[0], b
    kept.number[0] = max(kept.number[0], b + 1)
    kept.number[1] = (b + 1) % len(kept.d)


@kernel
def _add_bound(family, kept, b, v, side, weight):
    """What a nonbasic variable at a bound adds to what a basis bounds the value by."""
    n = len(family.cost)
    for k in range(kept.slope.shape[1]):
        if v >= n:
            kept.slope[b, k] -= weight * family.row_in[v - n, k]
        else:
            moves = family.lower_in[v, k] if side == AT_LOWER else family.upper_in[v, k]
            kept.slope[b, k] += weight * moves
    for w in range(kept.constant.shape[1]):
        if v >= n:
            at = family.row_lower[w, v - n] if side == AT_LOWER else family.row_upper[w, v - n]
        else:
            at = family.lower[w, v] if side == AT_LOWER else family.upper[w, v]
        kept.constant[b, w] += weight * at


@kernel
def _holds(family, work):
    """Whether the solution keeps rows and bounds and its value is what the multipliers prove."""
    m, n = family.matrix.shape
    dual = 0.0
    for j in range(n):
        if work.nb[j] < n:
            work.y[work.nb[j]] = work.xn[j]
        dual += work.d[j] * work.xn[j]
    for i in range(m):
        if work.bs[i] < n:
            work.y[work.bs[i]] = work.xb[i]
    objective, size = 0.0, 1.0
    for j in range(n):
        y, low, high = work.y[j], work.lo[j], work.up[j]
        room = CHECK_TOLERANCE * (1.0 + abs(y))
        if not (y >= low - room and y <= high + room):
            return False
        work.y[j] = min(max(y, low), high)
        objective += family.cost[j] * work.y[j]
        size += abs(family.cost[j] * work.y[j])
    for r in range(m):
        activity, terms = 0.0, 1.0
        for j in range(n):
            part = family.matrix[r, j] * work.y[j]
            activity += part
            terms += abs(part)
        room = CHECK_TOLERANCE * terms
        if not (activity >= work.lo[n + r] - room and activity <= work.up[n + r] + room):
            return False
    return abs(objective - dual) <= CHECK_TOLERANCE * size


@kernel
def _value(family, work, x, w):
    value = 0.0
    for j in range(len(family.cost)):
        value += family.cost[j] * work.y[j]
    value = family.money * value + family.offset[w]
    for k in range(len(x)):
        value += family.cost_in[k] * x[k]
    return value


@kernel
def _take_in(family, work, kept):
    """Make the dictionary of a basis from elsewhere and keep it; False where it is no use."""
    m, n = family.matrix.shape
    wanted = np.empty(m, np.int64)
    for i in range(m):
        wanted[i] = work.bs[i]
    refactor(
        family.matrix, family.cost, work.D, work.d, work.nb, work.side, work.bs, work.mark, m, n
    )
    work.pivots[0] = 0
    kept.number[2] = -1
    basic = 0
    for i in range(m):
        for k in range(m):
            basic += work.bs[i] == wanted[k]
    if basic != m:
        return False  # singular
    for j in range(n):
        v, cost = work.nb[j], work.d[j]
        if v < n:
            low, high = family.lower[0, v], family.upper[0, v]
        else:
            low, high = family.row_lower[0, v - n], family.row_upper[0, v - n]
        below, above = low > -np.inf, high < np.inf
        missing = (cost > 0.0 and not below) or (cost < 0.0 and not above)
        if missing:
            if abs(cost) > FOREIGN_TOLERANCE:
                return False
            work.d[j] = cost = 0.0
        if cost > 0.0:
            work.side[j] = AT_LOWER
        elif cost < 0.0:
            work.side[j] = AT_UPPER
        elif work.side[j] == AT_LOWER and not below:
            work.side[j] = AT_UPPER if above else AT_ZERO
        elif work.side[j] == AT_UPPER and not above:
            work.side[j] = AT_LOWER if below else AT_ZERO
    _keep(family, work, kept)
    return True
