"""After a decision, compiled: states, arrivals, largest cuts, adjusted probabilities, tails."""

from __future__ import annotations

import numpy as np

from sddp.engine.compiled.kernel import kernel

# Kinds of transition, and of the terms of a risk measure.
IDENTITY, SCALE, MATRIX = 0, 1, 2
TAIL, ENTROPIC = 0, 1

# Realizations that are compared under the cuts together; a box around them rules cuts out.
CHUNK = 64
# Below this many cuts ruling out costs more than it saves.
FEWEST_CUTS = 6
# Outcomes of which the first bound of a tail is a quantile, and by how much it is rather too low.
SAMPLE, SPREAD = 48, 1.3
# Room for rounding in that comparison, relative to the terms.
ROUNDING = 1e-13


@kernel
def arrive(kind, E, d, data, at, shift, sh, u, x, live):
    """All arrivals ``A_e u + b_e``, component by component, into `x`; how many are not zero.

    Component ``live[l]`` of realization `e` is ``x[l * E + e]``. `data` holds the transition from
    place `at` on, scales component by component, matrices realization by realization; `shift`
    holds ``b`` from `sh` on (-1: none). Of scales without it the components are told alone.
    """
    n_live = 0
    for i in range(d):
        if kind != MATRIX and u[i] == 0.0 and sh < 0:
            continue
        base = n_live * E
        live[n_live] = i
        n_live += 1
        if kind == SCALE and sh < 0:
            continue
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
def combine(S, t, part, x, z, out):
    """Values of some declared columns (`part`) from the state and the columns of the program."""
    first, d = S.map_at[t, part], len(x)
    for i in range(S.map_at[t, part + 1] - first):
        total = S.map_const[first + i]
        for r in range(S.map_row[first + i], S.map_row[first + i + 1]):
            c = S.map_column[r]
            total += S.map_entry[r] * (x[c] if c < d else z[c - d])
        out[i] = total


@kernel
def contenders(box, at, d, n_live, live, slope, const, n, kept, middle, half):
    """Rule out cuts that are the largest nowhere in a box of scales, which begins at place `at`.

    There ``cut - good`` is at most its value in the middle of the box plus what each component can
    add to it. `slope` holds, for each of `n` cuts, its slope times the state component by
    component, the `n_live` that are not zero; positions of those left are written to `kept`, their
    number is returned.
    """
    for i in range(n_live):
        middle[i], half[i] = box[at + live[i]], box[at + d + live[i]]
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
def compare(
    x, place, first, last, n_live, slope, const, origin, kept, n_kept, total, value, active, at
):
    """Largest of the cuts kept at realizations `first` to `last`, into `value` and `active`."""
    n = last - first
    for e in range(n):
        value[at + first + e] = -np.inf
    for k in range(n_kept):
        c = kept[k]
        for e in range(n):
            total[e] = const[c]
        for i in range(n_live):
            w, base = slope[c, i], place[i] + first
            for e in range(n):
                total[e] += w * x[base + e]
        cut = origin[c]
        for e in range(n):
            v, o = total[e], at + first + e
            better = v > value[o]
            active[o] = cut if better else active[o]
            value[o] = v if better else value[o]


@kernel
def largest(S, W, t, n_live, u, slopes, consts, n, at):
    """Largest of `n` cuts in each realization of transition `t`: from place `at` of ``W.value``.

    Scales are multiplied by the slopes of the cuts times the state, and cuts that matter nowhere
    are ruled out, for all realizations and for each chunk of them; other transitions have their
    arrivals in ``W.arrived``.
    """
    E, d = S.transition_size[t], len(u)
    packed, const, origin, kept, live, place = (
        W.packed, W.packed_const, W.origin, W.kept, W.live, W.place
    )  # fmt: skip
    scaled = S.transition_kind[t] == SCALE and S.shift_at[t] < 0
    x = S.transition_data if scaled else W.arrived
    for i in range(n_live):
        place[i] = S.transition_at[t] + live[i] * E if scaled else i * E
    for c in range(n):
        const[c], origin[c] = consts[c], c
        for i in range(n_live):
            packed[c, i] = slopes[c, live[i]] * (u[live[i]] if scaled else 1.0)
    n_all, box = n, S.box_at[t]
    if scaled and n >= FEWEST_CUTS and E >= FEWEST_CUTS:
        n_all = contenders(S.box, box, d, n_live, live, packed, const, n, kept, W.middle, W.half)
        for k in range(n_all):
            c = kept[k]
            const[k], origin[k] = const[c], origin[c]
            for i in range(n_live):
                packed[k, i] = packed[c, i]
    for first in range(0, E, CHUNK):
        last, n_kept = min(first + CHUNK, E), n_all
        box += 2 * d
        if scaled and n_all >= FEWEST_CUTS and E > CHUNK:
            n_kept = contenders(
                S.box, box, d, n_live, live, packed, const, n_all, kept, W.middle, W.half
            )
        else:
            for k in range(n_all):
                kept[k] = k
        compare(
            x, place, first, last, n_live, packed, const, origin, kept, n_kept, W.sum, W.value,
            W.active, at,
        )  # fmt: skip


@kernel
def sampled_quantile(cost, order, n, mass, sample):
    """A cost that most likely bounds the tail from below: a quantile of evenly spread outcomes."""
    size = min(n, SAMPLE)
    for s in range(size):
        v, at = cost[order[s * n // size]], s
        while at > 0 and sample[at - 1] < v:
            sample[at] = sample[at - 1]
            at -= 1
        sample[at] = v
    return sample[min(int(SPREAD * mass * size) + 2, size - 1)]


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
    middle = sampled_quantile(cost, order, end, mass, weight)
    first_time = True
    while end - start > 1:
        if not first_time:
            a, b, c = cost[order[start]], cost[order[(start + end) // 2]], cost[order[end - 1]]
            middle = max(min(a, b), min(max(a, b), c))
        first_time = False
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
    q, tilted, weight, values = W.q, W.tilted, S.weight, W.value
    for o in range(n):
        q[o] = 0.0
    for term in range(S.risk_at[k], S.risk_at[k + 1]):
        share, kind, parameter = S.risk_share[term], S.risk_kind[term], S.risk_parameter[term]
        if kind == ENTROPIC:
            offset += share * entropic_weights(weight, first, n, values, parameter, tilted)
            for o in range(n):
                q[o] += share * tilted[o]
        elif parameter >= 1.0:
            for o in range(n):
                q[o] += share * weight[first + o]
        else:
            n_tail = tail_weights(weight, first, n, values, parameter, W.order, tilted)
            for t in range(n_tail):
                q[W.order[t]] += share * tilted[t]
    for o in range(n):
        value += q[o] * values[o]
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
            largest(S, W, t, n_live, u, M.cut_slope[p], M.cut_const[p], M.n_cuts[p], at)
            at += E
    if at < S.weight_at[k + 1] - S.weight_at[k]:  # the process may stop: an outcome of value 0
        W.value[at] = 0.0
    return adjust(S, W, k)


@kernel
def count_cuts(S, M, k):
    """Cuts of all pools after node `k`."""
    total = 0
    for b in range(S.branch_at[k], S.branch_at[k + 1]):
        for p in range(S.branch_pool[b], S.branch_pool[b] + S.branch_pools[b]):
            total += M.n_cuts[p]
    return total


@kernel
def support_by_runs(S, M, W, t, p, at, weight, slope):
    """What one pool adds to a supporting row under the nominal probabilities; its constant.

    Neighboring realizations with the same active cut are summed by two rows of the prefix sums
    ``sum_{e' < e} p_e' (scale_e', 1)``; `weight` is that of the first realization.
    """
    d, E, const = len(slope), S.transition_size[t], 0.0
    prefix, active, cuts, consts = S.prefix, W.active, M.cut_slope, M.cut_const
    base, width, start = S.prefix_at[t], d + 1, 0
    factor = weight / (prefix[base + width + d] - prefix[base + d])
    while start < E:
        cut, end = active[at + start], start + 1
        while end < E and active[at + end] == cut:
            end += 1
        low, high = base + start * width, base + end * width
        for i in range(d):
            part = prefix[high + i] - prefix[low + i]
            slope[i] += factor * cuts[p, cut, i] * part
        const += factor * consts[p, cut] * (prefix[high + d] - prefix[low + d])
        start = end
    return const


@kernel
def support(S, M, W, k, offset, slope):
    """Slope, into `slope`, and constant of the supporting row at the outcomes left in `W`."""
    d, at, const = len(slope), 0, offset
    cuts, consts, shift, weights, active = M.cut_slope, M.cut_const, S.shift, W.q, W.active
    for i in range(d):
        slope[i] = 0.0
    for b in range(S.branch_at[k], S.branch_at[k + 1]):
        t, pool = S.branch_transition[b], S.branch_pool[b]
        kind, E, sh = S.transition_kind[t], S.transition_size[t], S.shift_at[t]
        base, data = S.transition_rows_at[t], S.transition_rows
        for p in range(pool, pool + S.branch_pools[b]):
            if kind == SCALE and sh < 0 and S.neutral[k] != 0:
                const += support_by_runs(S, M, W, t, p, at, S.weight[S.weight_at[k] + at], slope)
                at += E
                continue
            for e in range(E):
                q = weights[at + e]
                if q == 0.0:
                    continue
                cut = active[at + e]
                const += q * consts[p, cut]
                if sh >= 0:
                    for i in range(d):
                        const += q * cuts[p, cut, i] * shift[sh + e * d + i]
                if kind == SCALE:
                    row = base + e * d
                    for i in range(d):
                        slope[i] += q * cuts[p, cut, i] * data[row + i]
                elif kind == IDENTITY:
                    for i in range(d):
                        slope[i] += q * cuts[p, cut, i]
                else:
                    for j in range(d):
                        w, row = q * cuts[p, cut, j], base + (e * d + j) * d
                        for i in range(d):
                            slope[i] += w * data[row + i]
            at += E
    return const
