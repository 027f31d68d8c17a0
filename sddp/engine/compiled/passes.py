"""Forward and backward pass of one path, each one compiled call.

A pass that cannot go on by itself (no room for a row, a visit that was not settled, a visit that is
to be judged, a pause in which the caller may stop it) returns its status; the cursor in ``P.at``
says where it stands. The caller makes room, or solves that visit by the reference and leaves the
result in the scratch, and calls again.
"""

from __future__ import annotations

import numpy as np

from sddp.engine.compiled.kernel import kernel
from sddp.engine.compiled.outcomes import IDENTITY, MATRIX, SCALE
from sddp.engine.compiled.simplex import OPTIMAL
from sddp.engine.compiled.visit import visit

# How a pass may end beside the statuses of a visit: the visit just made is to be solved by the
# reference too; it is time to ask whether somebody wants to stop.
JUDGE, PAUSE = 4, 5

# Places in `P.at`: step, branch, noise of the visit at hand; cuts and decisions written down;
# visits until one is judged; visits until a pause; the step whose trial point is known, plus 1.
STEP, BRANCH, NOISE, CUTS, DECISIONS, UNTIL_JUDGED, UNTIL_PAUSE, STUDIED = 0, 1, 2, 3, 4, 5, 6, 7

# Visits between two pauses: the interpreter sees signals in a pause alone. The largest programs
# take some 4 ms a visit, a pause some 10 us.
PAUSE_EVERY = 64

# A cut that lifts its pool at its own state by less than this, relative to the value, is rounding.
IMPROVEMENT = 1e-13


@kernel
def arrive_at(S, k, e, u, x):
    """Incoming state of node `k` for arrival `e` into `x`, normalized; its size."""
    t, d = S.node_transition[k], len(u)
    kind, at, sh = S.transition_kind[t], S.transition_rows_at[t], S.shift_at[t]
    for i in range(d):
        if kind == SCALE:
            x[i] = S.transition_rows[at + e * d + i] * u[i]
        elif kind == IDENTITY:
            x[i] = u[i]
        elif kind == MATRIX:
            total = 0.0
            for j in range(d):
                total += S.transition_rows[at + (e * d + i) * d + j] * u[j]
            x[i] = total
        if sh >= 0:
            x[i] += S.shift[sh + e * d + i]
    return normalize(S, x)


@kernel
def normalize(S, x):
    """Scale a state to size 1 where the problem is homogeneous; its size."""
    size = 0.0
    for i in range(len(x)):
        size += abs(x[i])
    if S.homogeneous[0] == 0 or size == 0.0:
        return 1.0
    for i in range(len(x)):
        x[i] /= size
    return size


@kernel
def pauses(P):
    """Whether it is time for a pause before the next visit."""
    P.at[UNTIL_PAUSE] -= 1
    if P.at[UNTIL_PAUSE] >= 0:
        return False
    P.at[UNTIL_PAUSE] = PAUSE_EVERY
    return True


@kernel
def judged(P, status):
    """The status of a visit, or JUDGE where its turn has come."""
    if status != OPTIMAL:
        return status
    P.at[UNTIL_JUDGED] -= 1
    if P.at[UNTIL_JUDGED] <= 0:
        return JUDGE
    return OPTIMAL


@kernel
def forward(S, M, W, P, last, tolerance, given):
    """Decide along steps ``P.at[STEP]`` to ``last - 1`` of the path; the status.

    `given`: the solution of the first of them stands in the scratch.
    """
    d = P.x.shape[1]
    while P.at[STEP] < last:
        t = P.at[STEP]
        k = P.node[t]
        if not given:
            if pauses(P):
                return PAUSE
            status = judged(P, visit(S, M, W, k, P.noise[t], P.x[t], tolerance))
            if status != OPTIMAL:
                return status
        given = False
        P.unvisited[t] = 0.0
        first = S.weight_at[k]
        for o in range(S.weight_at[k + 1] - first):
            P.unvisited[t] += W.q[o] * P.unseen[first + o]
        for i in range(d):
            P.u[t, i], P.slope[t, i] = W.u[i], W.slope[i]
        P.result[t, 0], P.result[t, 1] = W.result[0], W.result[1]
        P.result[t, 2] = W.result[2] if S.theta[S.kind[k]] >= 0 else 0.0
        P.at[STEP] = t + 1
        if t + 1 < P.length[0]:
            size = arrive_at(S, P.node[t + 1], P.arrival[t + 1], P.u[t], P.x[t + 1])
            P.scale[t + 1] = P.scale[t] * size
    return OPTIMAL


@kernel
def trial_point(S, M, k, u, averaging, trial):
    """Where the cost-to-go is studied: the decision, or a mean with those before it."""
    d = len(u)
    size = 0.0
    for i in range(d):
        size += abs(u[i])
    if averaging <= 0.0 or size == 0.0 or S.homogeneous[0] == 0:
        size = 1.0
    for i in range(d):
        decision = u[i] / size
        if averaging > 0.0:
            before = M.mean[k, i] if M.n_mean[k] > 0 else decision
            M.mean[k, i] = (decision + before) / 2.0
            decision = (1.0 - averaging) * decision + averaging * M.mean[k, i]
        trial[i] = size * decision
    if averaging > 0.0:
        M.n_mean[k] = 1


@kernel
def add_cut(M, p, x, slope, const, money):
    """Append a cut made at `x` to pool `p` if it lifts the pool there; whether it did."""
    d, best, new = len(x), -np.inf, const
    for c in range(M.n_cuts[p]):
        value = M.cut_const[p, c]
        for i in range(d):
            value += M.cut_slope[p, c, i] * x[i]
        best = max(best, value)
    for i in range(d):
        new += slope[i] * x[i]
    if new <= best + IMPROVEMENT * max(money, abs(best)):
        return False
    c = M.n_cuts[p]
    for i in range(d):
        M.cut_slope[p, c, i] = slope[i]
    M.cut_const[p, c] = const
    M.n_cuts[p] = c + 1
    return True


@kernel
def take_in(M, pool, x, slope, const, money):
    """Append the cuts that another path found."""
    for f in range(len(pool)):
        add_cut(M, pool[f], x[f], slope[f], const[f], money)


@kernel
def learn(S, M, P, k, pool, slope, const):
    """Take in one cut, made at ``P.trial``, and write it down for the other paths."""
    if add_cut(M, pool, P.arrived, slope, const, S.money[0]):
        f = P.at[CUTS]
        P.cut_pool[f], P.cut_const[f] = pool, const
        for i in range(len(slope)):
            P.cut_x[f, i], P.cut_slope[f, i] = P.arrived[i], slope[i]
        P.at[CUTS] = f + 1


@kernel
def keep_solution(S, M, W, P, k, w, every):
    """Turn the solution of child `k` at noise `w` in the scratch into cuts."""
    d, at = P.x.shape[1], S.noise_at[S.kind[k]] + w
    pool, const = S.pool_at[k], W.result[1]
    averaged = S.pool_at[k + 1] - pool == 1
    p = S.noise_weight[at] if averaged else 1.0
    if S.homogeneous[0] != 0:
        P.off_origin[0] = max(P.off_origin[0], abs(const))
        const = 0.0
    if w == 0 or not averaged:
        P.sum_const[0] = 0.0
        for i in range(d):
            P.sum[i] = 0.0
    P.sum_const[0] += p * const
    for i in range(d):
        P.sum[i] += p * W.slope[i]
    if not averaged:
        learn(S, M, P, k, pool + w, P.sum, P.sum_const[0])
    elif w == S.n_noises[S.kind[k]] - 1:
        learn(S, M, P, k, pool, P.sum, P.sum_const[0])
    if S.theta[S.kind[k]] >= 0 and w % every == 0:
        f = P.at[DECISIONS]
        P.decision_node[f] = k
        for i in range(d):
            P.decision[f, i] = W.u[i]
        P.at[DECISIONS] = f + 1


@kernel
def backward(S, M, W, P, tolerance, averaging, most_noted, given):
    """Add cuts from step ``P.at[STEP]`` down to the first one; the status.

    ``P.uniform`` holds a number for each step and branch, of which an arrival follows where the
    path did not go. `given`: the solution of the visit at hand stands in the scratch.
    """
    while P.at[STEP] >= 0:
        t = P.at[STEP]
        k = P.node[t]
        first, last = S.branch_at[k], S.branch_at[k + 1]
        if P.at[STUDIED] != t + 1:
            trial_point(S, M, k, P.u[t], averaging, P.trial)
            P.at[STUDIED] = t + 1
        while P.at[BRANCH] < last - first:
            b = P.at[BRANCH]
            child = S.branch_node[first + b]
            n_noises = S.n_noises[S.kind[child]]
            if S.exact[child] != 0:
                P.at[BRANCH] = b + 1
                continue
            if P.at[NOISE] == 0 and not given:
                follows = t + 1 < P.length[0] and P.node[t + 1] == child
                e = P.arrival[t + 1] if follows else drawn(S, child, P.uniform[t, b])
                arrive_at(S, child, e, P.trial, P.arrived)
            while P.at[NOISE] < n_noises:
                w = P.at[NOISE]
                if not given:
                    if pauses(P):
                        return PAUSE
                    status = judged(P, visit(S, M, W, child, w, P.arrived, tolerance))
                    if status != OPTIMAL:
                        return status
                given = False
                keep_solution(S, M, W, P, child, w, (n_noises + most_noted - 1) // most_noted)
                P.at[NOISE] = w + 1
            P.at[NOISE], P.at[BRANCH] = 0, b + 1
        P.at[BRANCH], P.at[STEP] = 0, t - 1
    return OPTIMAL


@kernel
def drawn(S, k, uniform):
    """Place of the arrival at node `k` by a number from 0 to 1."""
    t = S.node_transition[k]
    first, n = S.cumulated_at[t], S.transition_size[t]
    goal = uniform * S.cumulated[first + n - 1]
    e = 0
    while e < n - 1 and S.cumulated[first + e] <= goal:
        e += 1
    return S.position[first + e]
