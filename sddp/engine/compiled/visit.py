"""One visit, compiled: incoming state and noise in; value, decision and a cut out.

The linear program of node `k` is held as rows over the decision columns `z` of the reduced stage
and the incoming state `x`, ``lower <= A z + B x <= upper``: the stage's own rows first, then
those of the tails and of the cost-to-go, added when a solution breaks them. It is solved, looked
at and solved again until nothing is broken by more than the tolerance; then the solution is
verified and its multipliers make the cut.
"""

from __future__ import annotations

import numpy as np

from sddp.engine.compiled.kernel import kernel
from sddp.engine.compiled.outcomes import combine, cost_to_go, count_cuts, support, tail_weights
from sddp.engine.compiled.simplex import (
    AT_LOWER,
    INFEASIBLE,
    OPTIMAL,
    append_row,
    refactor,
    solve,
)

# How a visit may end beside OPTIMAL and INFEASIBLE: the simplex method gave up or the result was
# not verified; there is no room for another row.
UNSETTLED, FULL = 2, 3

# Stands for an infinite bound that a cost asks for, in the program's units. A solution that leans
# on it is not settled.
FAR = 1e7

# Residuals and the gap may miss by this, relative to 1 plus the terms they are the sum of.
CHECK = 1e-10
# A reduced cost that asks for a missing bound may be this large: the rounding of its sum.
FREE = 1e-13
# A state that misses a moving bound by rounding is not infeasible: the interval is closed.
CLOSING = 1e-9

# Places in `W.result`: value, intercept, cost-to-go column; by how much the optimal value may be
# above the value, to first order; by how much the solution breaks its tail.
VALUE, INTERCEPT, THETA, WIDTH, BREACH = 0, 1, 2, 3, 4

# Rows of a tail pool that are taken at a time.
AT_ONCE = 3
# A row that held nothing for so many solutions is dropped, if it is clear of its side.
MOST_IDLE, CLEAR = 4, 1e-7
MOST_ROUNDS = 1_000


@kernel
def set_bounds(S, M, W, k, w, x):
    """Bounds of columns and rows at state `x` and noise `w`; False where two of them cross."""
    t = S.kind[k]
    n, at, d = S.n_columns[t], S.noise_at[t] + w, len(x)
    B, lower, upper = M.B, W.lower, W.upper
    for j in range(n):
        lower[j], upper[j] = S.column_lower[at, j], S.column_upper[at, j]
    for r in range(S.move_at[t], S.move_at[t + 1]):
        j, change = S.move_column[r], S.move_entry[r] * x[S.move_state[r]]
        if S.move_side[r] == AT_LOWER:
            lower[j] += change
        else:
            upper[j] += change
    theta = S.theta[t]
    if theta >= 0:
        lower[theta] = S.theta_lower[k]
    for j in range(n):
        if lower[j] > upper[j]:
            if lower[j] > upper[j] + CLOSING * max(1.0, abs(upper[j])):
                return False
            upper[j] = lower[j]
        if S.cost[t, j] > 0.0 and lower[j] == -np.inf:
            lower[j] = -FAR
        elif S.cost[t, j] < 0.0 and upper[j] == np.inf:
            upper[j] = FAR
    for i in range(M.m[k]):
        taken = 0.0
        for s in range(d):
            taken += B[k, i, s] * x[s]
        if i < S.n_rows[t]:
            lower[n + i] = S.row_lower[at, i] - taken
            upper[n + i] = S.row_upper[at, i] - taken
        else:
            lower[n + i], upper[n + i] = M.rhs[k, i] - taken, np.inf
    return True


@kernel
def add_row(S, M, W, k, x, part, g, sign, unit, rhs, theta):
    """Append ``sign g v / unit + theta >= rhs`` over the declared columns `v` of a part.

    The coefficients that the row has beside `g` (of a tail row) stand in ``W.row`` and
    ``W.row_state`` already. False where there is no room.
    """
    t, d = S.kind[k], len(x)
    n, m = S.n_columns[t], M.m[k]
    if m >= M.rhs.shape[1]:
        return False
    first = S.map_at[t, part]
    for i in range(S.map_at[t, part + 1] - first):
        w = sign * g[i] / unit
        if w != 0.0:
            rhs -= w * S.map_const[first + i]
            for r in range(S.map_row[first + i], S.map_row[first + i + 1]):
                c = S.map_column[r]
                if c < d:
                    W.row_state[c] += w * S.map_entry[r]
                else:
                    W.row[c - d] += w * S.map_entry[r]
    if theta:
        W.row[S.theta[t]] += 1.0
    taken = 0.0
    for s in range(d):
        M.B[k, m, s] = W.row_state[s]
        taken += W.row_state[s] * x[s]
        W.row_state[s] = 0.0
    for j in range(n):
        M.A[k, m, j] = W.row[j]
        W.row[j] = 0.0
    M.rhs[k, m], M.age[k, m] = rhs, 0
    W.lower[n + m], W.upper[n + m] = rhs - taken, np.inf
    append_row(M.A[k], M.D[k], M.nonbasic[k], M.basic[k], m, n)
    M.m[k] = m + 1
    return True


@kernel
def tail_of(S, W, f, v, g):
    """Mean loss over the tail of the outcomes at `v`; its coefficients go to `g`."""
    n, d = S.tail_outcomes[f], len(v)
    loss, data, rows, order, weight = W.loss, S.tail_data, S.tail_rows, W.order, W.tilted
    for o in range(n):
        loss[o] = 0.0
    for i in range(d):
        w, at = v[i], S.tail_at[f] + i * n
        if w != 0.0:
            for o in range(n):
                loss[o] += w * data[at + o]
    n_tail = tail_weights(
        S.tail_weight, S.tail_weight_at[f], n, loss, S.tail_mass[f], order, weight
    )
    mean = 0.0
    for i in range(d):
        g[i] = 0.0
    for r in range(n_tail):
        o, w = order[r], weight[r]
        mean += w * loss[o]
        at = S.tail_at[f] + o * d
        for i in range(d):
            g[i] += w * rows[at + i]
    return mean


@kernel
def write_tail(S, M, W, k, f, x, g):
    """Append the row of a tail, ``g v + fixed <= 0``."""
    t = S.kind[k]
    for s in range(len(x)):
        W.row_state[s] = -S.tail_fixed_state[t, s]
    for j in range(S.n_columns[t]):
        W.row[j] = -S.tail_fixed[t, j]
    return add_row(S, M, W, k, x, 1, g, -1.0, 1.0, S.tail_fixed_const[t], False)


@kernel
def break_tails(S, M, W, k, x, z, tolerance, again):
    """Append tail rows that a solution breaks; how many, -1 where there is no room.

    The pool of known tails is asked first. A new tail is made at the solution, and one half-way
    from the solution before (`again`), which cuts deeper where it cuts.
    """
    t = S.kind[k]
    f, d = S.tail[t], len(x)
    n_first = S.map_at[t, 2] - S.map_at[t, 1]
    v, base, size = W.v[:n_first], S.tail_fixed_const[t], 0.0
    if again:  # of this visit: what an earlier one left must not matter
        for i in range(n_first):
            W.v_before[i] = v[i]
    combine(S, t, 1, x, z, v)
    for s in range(d):
        base += S.tail_fixed_state[t, s] * x[s]
        size += S.tail_size[t, s] * x[s]
    for j in range(S.n_columns[t]):
        base += S.tail_fixed[t, j] * z[j]
    room, n_added = tolerance * max(size, 0.0), 0
    n_known = min(M.n_tails[f], M.tails.shape[1])
    for r in range(n_known):
        W.miss[r] = base
        for i in range(n_first):
            W.miss[r] += M.tails[f, r, i] * v[i]
    W.result[BREACH] = 0.0
    while n_added < AT_ONCE:
        best, worst = -1, room
        for r in range(n_known):
            if W.miss[r] > worst:
                best, worst = r, W.miss[r]
        if best < 0:
            break
        W.miss[best] = -np.inf
        W.result[BREACH] = max(W.result[BREACH], worst)
        if not write_tail(S, M, W, k, f, x, M.tails[f, best]):
            return -1
        n_added += 1
    if n_added > 0:
        return n_added
    g = W.g[:n_first]
    W.result[BREACH] = max(tail_of(S, W, f, v, g) + base, 0.0)
    if W.result[BREACH] <= room:
        return 0
    for way in range(2 if again else 1):
        if way == 1:
            for i in range(n_first):
                W.middle[i] = (v[i] + W.v_before[i]) / 2.0
            tail_of(S, W, f, W.middle[:n_first], g)
            miss = base
            for i in range(n_first):
                miss += g[i] * v[i]
            if miss <= room:
                break
        place = M.n_tails[f] % M.tails.shape[1]
        for i in range(n_first):
            M.tails[f, place, i] = g[i]
        M.n_tails[f] += 1
        if not write_tail(S, M, W, k, f, x, g):
            return -1
        n_added += 1
    return n_added


@kernel
def break_cost_to_go(S, M, W, k, x, u, theta, tolerance):
    """Append the row of the cost-to-go if a solution breaks it; how many, -1 without room."""
    value, offset = cost_to_go(S, M, W, k, u)
    W.result[WIDTH] = max(value - theta, 0.0)
    if value == -np.inf:
        return 0
    if theta >= value - tolerance * max(S.money[0], abs(value)):
        return 0
    const = support(S, M, W, k, offset, W.gradient)
    if not add_row(S, M, W, k, x, 0, W.gradient, -1.0, S.unit[0], const / S.unit[0], True):
        return -1
    return 1


@kernel
def refresh(S, M, W, k, x, tolerance):
    """Write what cuts that have come since the last solution say of it; False without room."""
    n_cuts = count_cuts(S, M, k)
    if M.last_cuts[k] < 0 or M.last_cuts[k] == n_cuts:
        return True
    M.last_cuts[k] = n_cuts
    return break_cost_to_go(S, M, W, k, x, M.last[k], M.last_theta[k], tolerance) >= 0


@kernel
def rows_hold(M, W, k, n):
    """Whether the solution keeps all rows of the program; their ages grow by one."""
    A, z = M.A, W.z
    for i in range(M.m[k]):
        value, size = 0.0, 1.0
        for j in range(n):
            part = A[k, i, j] * z[j]
            value += part
            size += abs(part)
        if max(W.lower[n + i] - value, value - W.upper[n + i]) > CHECK * size:
            return False
        M.age[k, i] += 1
    return True


@kernel
def widen(S, M, W, k, gap):
    """Add to the width the gap and what the broken tail would cost by its multipliers; True."""
    t, tails = S.kind[k], 0.0
    n, theta = S.n_columns[t], S.theta[t]
    for j in range(n):
        i = M.nonbasic[k, j] - n
        if i >= S.n_rows[t] and (theta < 0 or M.A[k, i, theta] == 0.0):
            tails += abs(M.d[k, j])
    W.result[WIDTH] += S.unit[0] * (max(gap, 0.0) + tails * W.result[BREACH])
    return True


@kernel
def certify(S, M, W, k, w, x):
    """Verify the solution and make its cut; False where it misses by more than `CHECK`.

    The cut is the dual objective as a function of the state: each row at the side, each column at
    the bound, that the sign of its multiplier or reduced cost asks for. It is a lower bound
    whatever the rounding of the multipliers. The optimal value is above it by no more than the gap,
    what the cost-to-go column misses and what the broken tail would cost (``W.result[WIDTH]``).
    """
    t, d, primal, terms = S.kind[k], len(x), 0.0, 0.0
    n, at = S.n_columns[t], S.noise_at[t] + w
    for s in range(d):
        W.slope[s] = S.cost_state[t, s]
        primal += S.cost_state[t, s] * x[s]
        terms += abs(S.cost_state[t, s] * x[s])
    dual = primal
    for j in range(n):
        W.reduced[j] = S.cost[t, j]
        primal += S.cost[t, j] * W.z[j]
        terms += abs(S.cost[t, j] * W.z[j])
    if not rows_hold(M, W, k, n):
        return False
    for j in range(n):
        i, y = M.nonbasic[k, j] - n, M.d[k, j]
        if i < 0 or y == 0.0:
            continue
        side = W.lower[n + i] if y > 0.0 else W.upper[n + i]
        if abs(side) == np.inf:
            if abs(y) > FREE:
                return False
            continue
        M.age[k, i] = 0
        dual += y * side
        terms += abs(y * side)
        for s in range(d):
            W.slope[s] -= y * M.B[k, i, s]
        for h in range(n):
            W.reduced[h] -= y * M.A[k, i, h]
    for j in range(n):
        y = W.reduced[j]
        if y == 0.0:
            continue
        high = 0 if y > 0.0 else 1
        bound = S.column_upper[at, j] if high == 1 else S.column_lower[at, j]
        if j == S.theta[t] and high == 0:
            bound = S.theta_lower[k]
        if abs(bound) < np.inf:
            side = W.upper[j] if high == 1 else W.lower[j]
            dual += y * side
            terms += abs(y * side)
        elif S.implied[t, high, j] < np.inf:
            dual += y * S.implied[t, high, j]
            for s in range(d):
                dual += y * S.implied_slope[t, high, j, s] * x[s]
                W.slope[s] += y * S.implied_slope[t, high, j, s]
        elif abs(y) > FREE or abs(W.z[j]) >= FAR / 2.0:
            return False
    for r in range(S.move_at[t], S.move_at[t + 1]):
        y = W.reduced[S.move_column[r]]
        if (y > 0.0) == (S.move_side[r] == AT_LOWER):
            W.slope[S.move_state[r]] += y * S.move_entry[r]
    if not abs(primal - dual) <= CHECK * (1.0 + terms):
        return False
    W.result[VALUE] = W.result[INTERCEPT] = S.unit[0] * dual + S.offset[at]
    for s in range(d):
        W.slope[s] *= S.unit[0]
        W.result[INTERCEPT] -= W.slope[s] * x[s]
    return widen(S, M, W, k, primal - dual)


@kernel
def drop_idle(S, M, W, k):
    """Drop added rows that held nothing for many solutions, once there are several of them."""
    t = S.kind[k]
    n, m, idle = S.n_columns[t], M.m[k], 0
    for i in range(m):
        W.mark[i] = i
    for i in range(m):
        v = M.basic[k, i]
        r = v - n
        if r < S.n_rows[t] + M.n_kept[k] or M.age[k, r] <= MOST_IDLE:
            continue
        if W.xb[i] - W.lower[v] > CLEAR:
            W.mark[r] = -1
            idle += 1
    if idle < 4 and m < M.rhs.shape[1] - 8:
        return
    place = 0
    for r in range(m):
        if W.mark[r] < 0:
            continue
        W.mark[r] = place
        if place < r:
            M.rhs[k, place], M.age[k, place] = M.rhs[k, r], M.age[k, r]
            for j in range(n):
                M.A[k, place, j] = M.A[k, r, j]
            for s in range(M.B.shape[2]):
                M.B[k, place, s] = M.B[k, r, s]
        place += 1
    M.m[k], place = place, 0
    for i in range(m):
        v = M.basic[k, i]
        if v >= n and W.mark[v - n] < 0:
            continue
        M.basic[k, place] = v if v < n else n + W.mark[v - n]
        if place < i:
            for j in range(n):
                M.D[k, place, j] = M.D[k, i, j]
        place += 1
    for j in range(n):
        v = M.nonbasic[k, j]
        if v >= n:
            M.nonbasic[k, j] = n + W.mark[v - n]


@kernel
def optimize(S, M, W, k):
    """Solve the program as it stands; the columns' values go to ``W.z``."""
    t = S.kind[k]
    n, m = S.n_columns[t], M.m[k]
    status = solve(
        M.A[k], S.cost[t], M.D[k], M.d[k], M.nonbasic[k], M.side[k], M.basic[k], W.lower, W.upper,
        W.xn, W.xb, W.alive, W.mark, m, n, M.counts[k],
    )  # fmt: skip
    M.counts[k, 3] += 1
    if status != OPTIMAL:
        return status
    for j in range(n):
        if M.nonbasic[k, j] < n:
            W.z[M.nonbasic[k, j]] = W.xn[j]
    for i in range(m):
        if M.basic[k, i] < n:
            W.z[M.basic[k, i]] = W.xb[i]
    return OPTIMAL


@kernel
def break_rows(S, M, W, k, at, x, tolerance, again):
    """Append all rows that the solution breaks; how many, -1 where there is no room."""
    t = S.kind[k]
    combine(S, t, 0, x, W.z, W.u)
    for i in range(S.map_at[t, 1] - S.map_at[t, 0]):
        W.u[i] = min(max(W.u[i], S.outgoing_lower[at, i]), S.outgoing_upper[at, i])
    n_tails, n_cuts = 0, 0
    W.result[WIDTH] = W.result[BREACH] = 0.0
    if S.tail[t] >= 0:
        n_tails = break_tails(S, M, W, k, x, W.z, tolerance, again)
        if n_tails < 0:
            return -1
    if S.theta[t] >= 0:
        W.result[THETA] = W.z[S.theta[t]] * S.unit[0]
        n_cuts = break_cost_to_go(S, M, W, k, x, W.u, W.result[THETA], tolerance)
        if n_cuts < 0:
            return -1
    return n_tails + n_cuts


@kernel
def visit(S, M, W, k, w, x, tolerance):
    """Solve node `k` at state `x` and noise `w`, rows refined to `tolerance`; the status.

    Where it is OPTIMAL, ``W.result`` holds value, intercept and cost-to-go column, ``W.slope`` the
    slope, ``W.u`` the outgoing state, ``W.z`` the columns of the program.
    """
    t = S.kind[k]
    n, theta, d = S.n_columns[t], S.theta[t], len(x)
    at = S.noise_at[t] + w
    if M.closed[k] != 0:
        return UNSETTLED
    if not set_bounds(S, M, W, k, w, x):
        return INFEASIBLE
    if theta >= 0 and not refresh(S, M, W, k, x, tolerance):
        return FULL
    M.counts[k, 4] += 1
    rechecked, settled = False, False
    for j in range(n):
        W.z_before[j] = np.nan
    for number in range(MOST_ROUNDS):
        status = optimize(S, M, W, k)
        if status != OPTIMAL:
            return status
        broken = break_rows(S, M, W, k, at, x, tolerance, number > 0)
        if broken < 0:
            return FULL
        moved = False
        for j in range(n):
            moved = moved or W.z[j] != W.z_before[j]
            W.z_before[j] = W.z[j]
        if broken > 0 and moved:
            continue
        if broken > 0:  # broken within the program's own tolerance
            M.counts[k, 5] += 1
        settled = certify(S, M, W, k, w, x)
        if settled or rechecked:
            break
        rechecked = True
        refactor(
            M.A[k], S.cost[t], M.D[k], M.d[k], M.nonbasic[k], M.side[k], M.basic[k], W.mark,
            M.m[k], n,
        )  # fmt: skip
        M.counts[k, 0] = 0
        M.counts[k, 2] += 1
    if not settled:
        return UNSETTLED
    if theta >= 0:
        M.last_theta[k], M.last_cuts[k] = W.result[THETA], count_cuts(S, M, k)
        for s in range(d):
            M.last[k, s] = W.u[s]
    drop_idle(S, M, W, k)
    return OPTIMAL
