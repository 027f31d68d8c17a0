"""What follows a decision, compiled: arrivals, largest cuts, adjusted probabilities, tails."""

from __future__ import annotations

import numpy as np

from sddp.engine.compiled.kernel import kernel

# Kinds of transition, and of the terms of a risk measure.
IDENTITY, SCALE, MATRIX = 0, 1, 2
TAIL, ENTROPIC = 0, 1

# Realizations that are compared under the cuts together; a box around them rules cuts out.
CHUNK = 128
# Below this many cuts ruling out costs more than it saves.
FEWEST_CUTS = 6
# Room for rounding in that comparison, relative to the terms.
ROUNDING = 1e-13


@kernel
def arrive(kind, E, d, data, at, shift, sh, u, x, live):
    """All arrivals ``A_e u + b_e``, component by component, into `x`; how many are not zero.

    Component ``live[l]`` of realization `e` is ``x[l * E + e]``. `data` holds the transition from
    place `at` on, scales component by component, matrices realization by realization; `shift`
    holds ``b`` from `sh` on (-1: none).
    """
    n_live = 0
    for i in range(d):
        if kind != MATRIX and u[i] == 0.0 and sh < 0:
            continue
        base = n_live * E
        live[n_live] = i
        n_live += 1
        if kind == SCALE:
            for e in range(E):
                x[base + e] = data[at + i * E + e] * u[i]
        elif kind == IDENTITY:
            for e in range(E):
                x[base + e] = u[i]
        else:
            for e in range(E):
                total, row = 0.0, at + (e * d + i) * d
                for k in range(d):
                    total += data[row + k] * u[k]
                x[base + e] = total
        if sh >= 0:
            for e in range(E):
                x[base + e] += shift[sh + e * d + i]
    return n_live


@kernel
def contenders(x, E, first, last, n_live, slope, const, n, kept, middle, half):
    """Rule out cuts that are the largest nowhere in the box around some realizations.

    There ``cut - good`` is at most its value in the middle of the box plus what each component can
    add to it. `slope` holds `n_live` numbers for each of `n` cuts; positions of those left are
    written to `kept`, their number is returned.
    """
    for i in range(n_live):
        least = greatest = x[i * E + first]
        for e in range(first + 1, last):
            v = x[i * E + e]
            least, greatest = min(least, v), max(greatest, v)
        middle[i], half[i] = (greatest + least) / 2.0, (greatest - least) / 2.0
    good, best = 0, -np.inf
    for c in range(n):
        v = const[c]
        for i in range(n_live):
            v += slope[c, i] * middle[i]
        if v > best:
            good, best = c, v
    n_kept = 0
    for c in range(n):
        v, reach = const[c] - const[good], abs(const[c]) * ROUNDING
        for i in range(n_live):
            change = slope[c, i] - slope[good, i]
            v += change * middle[i]
            reach += abs(change) * half[i] + ROUNDING * abs(slope[c, i] * middle[i])
        if v + reach >= 0.0:
            kept[n_kept] = c
            n_kept += 1
    return n_kept


@kernel
def largest(x, E, n_live, live, slopes, consts, n, value, active, at, W):
    """Largest of `n` cuts in each realization: `value` and `active` from place `at` on.

    The cuts that matter nowhere are ruled out for all realizations, then for each chunk of them.
    """
    few = n < FEWEST_CUTS or E < FEWEST_CUTS
    for c in range(n):
        W.packed_const[c] = consts[c]
        W.origin[c] = c
        for i in range(n_live):
            W.packed[c, i] = slopes[c, live[i]]
    n_all = n
    if not few:
        n_all = contenders(
            x, E, 0, E, n_live, W.packed, W.packed_const, n, W.kept, W.middle, W.half
        )
        for k in range(n_all):
            c = W.kept[k]
            W.packed_const[k] = W.packed_const[c]
            W.origin[k] = W.origin[c]
            for i in range(n_live):
                W.packed[k, i] = W.packed[c, i]
    for first in range(0, E, CHUNK):
        last = min(first + CHUNK, E)
        n_kept = n_all
        if n_all < FEWEST_CUTS or few or E <= CHUNK:
            for k in range(n_all):
                W.kept[k] = k
        else:
            n_kept = contenders(
                x, E, first, last, n_live, W.packed, W.packed_const, n_all, W.kept, W.middle,
                W.half,
            )  # fmt: skip
        for e in range(first, last):
            value[at + e] = -np.inf
        for k in range(n_kept):
            c = W.kept[k]
            for e in range(last - first):
                W.sum[e] = W.packed_const[c]
            for i in range(n_live):
                w, base = W.packed[c, i], i * E + first
                for e in range(last - first):
                    W.sum[e] += w * x[base + e]
            cut = W.origin[c]
            for e in range(last - first):
                v = W.sum[e]
                better = v > value[at + first + e]
                active[at + first + e] = cut if better else active[at + first + e]
                value[at + first + e] = v if better else value[at + first + e]


@kernel
def tail_weights(p, first, n, cost, mass, order, weight):
    """Weights of the mean of the largest costs with probability `mass`; how many there are.

    Outcome ``order[k]`` has weight ``weight[k]``; the weights sum to 1. Probabilities start at
    place `first` of `p`. The tail is found by repeated partition (Hoare's selection by mass), never
    by sorting.
    """
    end = 0
    for o in range(n):
        if p[first + o] > 0.0:
            order[end] = o
            end += 1
    if mass <= 0.0:
        for k in range(1, end):
            if cost[order[k]] > cost[order[0]]:
                order[0], order[k] = order[k], order[0]
        weight[0] = 1.0
        return 1
    start, left = 0, mass  # outcomes before `start` are in the tail, of mass `mass - left`
    while end - start > 1:
        a, b, c = cost[order[start]], cost[order[(start + end) // 2]], cost[order[end - 1]]
        middle = max(min(a, b), min(max(a, b), c))
        i, j, k, above, equal = start, start, end, 0.0, 0.0
        while j < k:  # larger than the middle one, equal to it, not looked at yet, smaller
            o = order[j]
            v = cost[o]
            if v > middle:
                order[i], order[j] = o, order[i]
                above += p[first + o]
                i += 1
                j += 1
            elif v < middle:
                k -= 1
                order[j], order[k] = order[k], o
            else:
                equal += p[first + o]
                j += 1
        if above >= left:
            end = i
        elif above + equal >= left or j == end:
            left -= above
            start = i
            while start < j - 1 and p[first + order[start]] < left:
                left -= p[first + order[start]]
                start += 1
            break
        else:
            left -= above + equal
            start = j
    total = 0.0
    for k in range(start + 1):
        weight[k] = p[first + order[k]] if k < start else min(left, p[first + order[k]])
        total += weight[k]
    for k in range(start + 1):
        weight[k] /= total
    return start + 1


@kernel
def entropic_weights(p, first, n, cost, aversion, q):
    """Adjusted probabilities of the entropic measure into `q`, and its offset."""
    worst = -np.inf
    for o in range(n):
        if p[first + o] > 0.0:
            worst = max(worst, cost[o])
    total, excess, mean = 0.0, 0.0, 0.0
    for o in range(n):
        exponent = min(aversion * (cost[o] - worst), 0.0)
        q[o] = p[first + o] * np.exp(exponent)
        total += q[o]
        excess += p[first + o] * np.expm1(exponent)
    for o in range(n):
        q[o] /= total
        mean += q[o] * cost[o]
    return worst + np.log1p(excess) / aversion - mean


@kernel
def adjust(S, W, k):
    """Adjusted probabilities at ``W.value`` into ``W.q`` and the offset: the value of the risk."""
    first, n = S.weight_at[k], S.weight_at[k + 1] - S.weight_at[k]
    value, offset = 0.0, 0.0
    for o in range(n):
        W.q[o] = 0.0
    for term in range(S.risk_at[k], S.risk_at[k + 1]):
        share, kind, parameter = S.risk_share[term], S.risk_kind[term], S.risk_parameter[term]
        if kind == ENTROPIC:
            offset += share * entropic_weights(S.weight, first, n, W.value, parameter, W.tilted)
            for o in range(n):
                W.q[o] += share * W.tilted[o]
        elif parameter >= 1.0:
            for o in range(n):
                W.q[o] += share * S.weight[first + o]
        else:
            n_tail = tail_weights(S.weight, first, n, W.value, parameter, W.order, W.tilted)
            for t in range(n_tail):
                W.q[W.order[t]] += share * W.tilted[t]
    for o in range(n):
        value += W.q[o] * W.value[o]
    return value + offset, offset


@kernel
def cost_to_go(S, M, W, k, u):
    """The cost-to-go of node `k` at the outgoing state `u` under all cuts; value and offset.

    Leaves values, active cuts and adjusted probabilities of all outcomes in `W`. As long as some
    outcome has no cut the value is minus infinity and the probabilities are the nominal ones.
    """
    at, d = 0, len(u)
    for b in range(S.branch_at[k], S.branch_at[k + 1]):
        for p in range(S.branch_pool[b], S.branch_pool[b] + S.branch_pools[b]):
            if M.n_cuts[p] == 0:
                for o in range(S.weight_at[k + 1] - S.weight_at[k]):
                    W.q[o] = S.weight[S.weight_at[k] + o]
                return -np.inf, 0.0
    for b in range(S.branch_at[k], S.branch_at[k + 1]):
        t, pool = S.branch_transition[b], S.branch_pool[b]
        E = S.transition_size[t]
        n_live = arrive(
            S.transition_kind[t], E, d, S.transition_data, S.transition_at[t], S.shift,
            S.shift_at[t], u, W.arrived, W.live,
        )  # fmt: skip
        for p in range(pool, pool + S.branch_pools[b]):
            slopes, consts = M.cut_slope[p], M.cut_const[p]
            largest(
                W.arrived, E, n_live, W.live, slopes, consts, M.n_cuts[p], W.value, W.active, at, W
            )
            at += E
    if at < S.weight_at[k + 1] - S.weight_at[k]:  # the process may stop: an outcome of value 0
        W.value[at] = 0.0
    return adjust(S, W, k)


@kernel
def support(S, M, W, k, offset, slope):
    """Slope, into `slope`, and constant of the supporting row at the outcomes left in `W`."""
    d, at, const = len(slope), 0, offset
    for i in range(d):
        slope[i] = 0.0
    for b in range(S.branch_at[k], S.branch_at[k + 1]):
        t, pool = S.branch_transition[b], S.branch_pool[b]
        kind, E, sh = S.transition_kind[t], S.transition_size[t], S.shift_at[t]
        base, data = S.transition_rows_at[t], S.transition_rows
        for p in range(pool, pool + S.branch_pools[b]):
            for e in range(E):
                q = W.q[at + e]
                if q == 0.0:
                    continue
                cut = W.active[at + e]
                const += q * M.cut_const[p, cut]
                if sh >= 0:
                    for i in range(d):
                        const += q * M.cut_slope[p, cut, i] * S.shift[sh + e * d + i]
                if kind == SCALE:
                    row = base + e * d
                    for i in range(d):
                        slope[i] += q * M.cut_slope[p, cut, i] * data[row + i]
                elif kind == IDENTITY:
                    for i in range(d):
                        slope[i] += q * M.cut_slope[p, cut, i]
                else:
                    for j in range(d):
                        w, row = q * M.cut_slope[p, cut, j], base + (e * d + j) * d
                        for i in range(d):
                            slope[i] += w * data[row + i]
            at += E
    return const
