"""Bounded dual simplex on a dense dictionary.

A stage has `n` decision columns and `m` rows. A row is a variable too: its activity ``A z``,
between the two sides of the row. At any time `n` of the ``n + m`` variables are nonbasic, each at
a bound, and the dictionary states the others by them::

    x_B = D x_N,        objective = d x_N.

Right-hand sides are bounds, so a new incoming state, a new noise or a new row changes neither `D`
nor `d`: the last basis stays dual feasible, and the method goes on from there. Variable ``v < n``
is a column, ``v >= n`` the activity of row ``v - n``. The reduced cost of a nonbasic activity is
the multiplier of its row.

Leaving variable: the largest violation. Entering variable: the ratio test that lets boxed variables
flip to their other bound as long as the dual objective rises (Maros 2003, "A generalized dual
phase-2 simplex algorithm"). After many pivots in one solve both are chosen by the smallest index
without flips, which cannot cycle (Bland 1977).

Loops are written out: an array expression or a slice assignment costs the compiler a second each.
"""

from __future__ import annotations

import numpy as np

from sddp.engine.compiled.kernel import kernel

OPTIMAL, INFEASIBLE, FAILED = 0, 1, 2

# Sides of nonbasic variables; AT_ZERO is that of a free one.
AT_LOWER, AT_UPPER, AT_ZERO = 0, 1, 2

# Violations up to this, in the units of the program, are none.
PRIMAL_TOLERANCE = 1e-11
# Reduced costs up to this ask for neither bound.
DUAL_TOLERANCE = 1e-12
# Entries up to this are no pivots; those below the second number only from a fresh dictionary.
SMALLEST_PIVOT, SMALL_PIVOT = 1e-9, 1e-6
# Two ratios this near are a tie, and the larger pivot wins.
TIE = 1e-13
# Entries that have become as small as this are rounding.
VANISHED = 1e-15

# Pivots on one dictionary before it is made anew.
MOST_PIVOTS = 120
# Pivots of one solve, per variable, before the rule of the smallest index; and before giving up.
PATIENCE, LIMIT = 4, 40


@kernel
def pivot(D, d, nb, bs, m, n, i, q):
    """Exchange the basic variable of row `i` and the nonbasic one of column `q`."""
    inverse = 1.0 / D[i, q]
    for j in range(n):
        D[i, j] *= -inverse
    D[i, q] = inverse
    for k in range(m):
        f = D[k, q]
        if k != i and f != 0.0:
            D[k, q] = 0.0
            if abs(f) > VANISHED:
                for j in range(n):
                    D[k, j] += f * D[i, j]
    f = d[q]
    if f != 0.0:
        d[q] = 0.0
        for j in range(n):
            d[j] += f * D[i, j]
    bs[i], nb[q] = nb[q], bs[i]


@kernel
def place(D, d, nb, side, bs, lo, up, xn, xb, m, n):
    """Put each nonbasic variable at the bound that its reduced cost asks for.

    False where there is no such bound: the basis is not dual feasible.
    """
    for j in range(n):
        v, s = nb[j], side[j]
        if d[j] > DUAL_TOLERANCE:
            s = AT_LOWER
        elif d[j] < -DUAL_TOLERANCE:
            s = AT_UPPER
        elif s == AT_ZERO:
            s = AT_LOWER
        if (s == AT_LOWER and lo[v] == -np.inf) or (s == AT_UPPER and up[v] == np.inf):
            if abs(d[j]) > DUAL_TOLERANCE:
                return False
            s = AT_LOWER if lo[v] > -np.inf else (AT_UPPER if up[v] < np.inf else AT_ZERO)
        side[j] = s
        xn[j] = lo[v] if s == AT_LOWER else (up[v] if s == AT_UPPER else 0.0)
    for i in range(m):
        total = 0.0
        for j in range(n):
            total += D[i, j] * xn[j]
        xb[i] = total
    return True


@kernel
def start_cold(A, c, D, d, nb, side, bs, m, n):
    """The dictionary of the basis of all rows."""
    for i in range(m):
        bs[i] = n + i
        for j in range(n):
            D[i, j] = A[i, j]
    for j in range(n):
        nb[j], d[j] = j, c[j]
        side[j] = AT_LOWER


@kernel
def refactor(A, c, D, d, nb, side, bs, mark, m, n):
    """Make the dictionary of the present basis anew from the rows.

    `mark` holds, for each variable, its side where it is nonbasic and -1 where it is basic. A
    column without a pivot in the rows that are to leave stays nonbasic.
    """
    for i in range(m):
        mark[bs[i]] = -1
    for j in range(n):
        mark[nb[j]] = side[j]
    start_cold(A, c, D, d, nb, side, bs, m, n)
    for v in range(n):
        if mark[v] >= 0:
            continue
        best, row = SMALLEST_PIVOT, -1
        for i in range(m):
            # Column v was pivoted by none before, so it stands at its own place.
            if bs[i] >= n and mark[bs[i]] >= 0 and abs(D[i, v]) > best:
                best, row = abs(D[i, v]), i
        if row >= 0:
            pivot(D, d, nb, bs, m, n, row, v)
    for j in range(n):
        side[j] = max(mark[nb[j]], 0)


@kernel
def leaving(bs, lo, up, xb, m, bland):
    """Row of the basic variable that leaves, -1 where none is out of its bounds."""
    row, worst, least = -1, PRIMAL_TOLERANCE, np.int64(2**62)
    for i in range(m):
        v = bs[i]
        miss = max(xb[i] - up[v], lo[v] - xb[i])
        if miss > PRIMAL_TOLERANCE:
            if bland:
                if v < least:
                    least, row = v, i
            elif miss > worst:
                worst, row = miss, i
    return row


@kernel
def entering(D, d, nb, side, lo, up, xn, xb, alive, m, n, row, sign, miss, bland):
    """Column of the variable that enters, -1 where none may; boxed ones on the way are flipped."""
    for j in range(n):
        a, v, s = sign * D[row, j], nb[j], side[j]
        movable = up[v] > lo[v]
        if s == AT_UPPER:
            alive[j] = movable and a > SMALLEST_PIVOT
        elif s == AT_LOWER:
            alive[j] = movable and a < -SMALLEST_PIVOT
        else:
            alive[j] = abs(a) > SMALLEST_PIVOT
    slope = miss
    while True:
        best, ratio, size = -1, np.inf, 0.0
        for j in range(n):
            if alive[j]:
                a = abs(D[row, j])
                r = abs(d[j]) / a
                if r < ratio - TIE:
                    best, ratio, size = j, r, a
                elif r <= ratio + TIE and ((nb[j] < nb[best]) if bland else (a > size)):
                    best, ratio, size = j, min(r, ratio), a
        if best < 0:
            return -1
        v = nb[best]
        width = up[v] - lo[v]
        if bland or width == np.inf or slope - size * width < 0.0:
            return best
        slope -= size * width
        alive[best] = False
        step = width if side[best] == AT_LOWER else -width
        side[best] = AT_UPPER if side[best] == AT_LOWER else AT_LOWER
        xn[best] = up[v] if side[best] == AT_UPPER else lo[v]
        for i in range(m):
            xb[i] += D[i, best] * step


@kernel
def solve(A, c, D, d, nb, side, bs, lo, up, xn, xb, alive, mark, m, n, count):
    """Solve from the present basis; the status, `OPTIMAL`, `INFEASIBLE` or `FAILED`.

    `count` holds pivots since the dictionary was made, pivots and refactorizations in all.
    """
    if count[0] > MOST_PIVOTS:
        refactor(A, c, D, d, nb, side, bs, mark, m, n)
        count[0] = 0
        count[2] += 1
    if not place(D, d, nb, side, bs, lo, up, xn, xb, m, n):
        start_cold(A, c, D, d, nb, side, bs, m, n)
        count[0] = 0
        if not place(D, d, nb, side, bs, lo, up, xn, xb, m, n):
            return FAILED
    exact = True
    for it in range(LIMIT * (m + n) + 1):
        bland = it > PATIENCE * (m + n)
        row = leaving(bs, lo, up, xb, m, bland)
        if row < 0:
            if exact:
                return OPTIMAL
            # Values kept up to date pivot by pivot are checked once more.
            if not place(D, d, nb, side, bs, lo, up, xn, xb, m, n):
                return FAILED
            exact = True
            continue
        exact = False
        out = bs[row]
        high = xb[row] > up[out]
        sign = 1.0 if high else -1.0
        goal = up[out] if high else lo[out]
        miss = abs(xb[row] - goal)
        q = entering(D, d, nb, side, lo, up, xn, xb, alive, m, n, row, sign, miss, bland)
        if count[0] > 0 and (q < 0 or abs(D[row, q]) < SMALL_PIVOT):
            refactor(A, c, D, d, nb, side, bs, mark, m, n)
            count[0] = 0
            count[2] += 1
            if not place(D, d, nb, side, bs, lo, up, xn, xb, m, n):
                return FAILED
            continue
        if q < 0:
            return INFEASIBLE
        step = (goal - xb[row]) / D[row, q]
        for i in range(m):
            xb[i] += D[i, q] * step
        arrived = xn[q] + step
        pivot(D, d, nb, bs, m, n, row, q)
        count[0] += 1
        count[1] += 1
        xb[row], xn[q] = arrived, goal
        side[q] = AT_UPPER if high else AT_LOWER
    return FAILED


@kernel
def append_row(A, D, nb, bs, m, n):
    """Take row `m` of `A` into the dictionary, as basic; its bounds are the caller's to set."""
    for j in range(n):
        D[m, j] = A[m, nb[j]] if nb[j] < n else 0.0
    for i in range(m):
        if bs[i] < n:
            f = A[m, bs[i]]
            if f != 0.0:
                for j in range(n):
                    D[m, j] += f * D[i, j]
    bs[m] = n + m
