"""Planned trades against linear programs written out with Rockafellar and Uryasev's rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp.allocation.model import Terms
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.allocation.planning import Plan, planned_holdings
from sddp.errors import InfeasibleState

CONFIDENCE = 0.8


def terms(n, cost=0.004, weight_limit=None) -> Terms:
    limits = None if weight_limit is None else np.array(weight_limit)
    return Terms(np.full(n, cost), np.full(n, 2.0 * cost), np.zeros(1), limits)


def plans(seed: int, n_periods: int, n=3, limited="each") -> list[Plan]:
    rng, found = np.random.default_rng(seed), []
    for h in range(n_periods):
        returns = rng.normal(0.01, 0.06, (25, n))
        weights = rng.dirichlet(np.ones(25))
        growth = 1.0 + np.concatenate([[0.001], weights @ returns])
        ahead = OnePeriodDistribution(returns, weights, 0.001)
        found.append(Plan(growth, ahead if h == 0 or limited == "each" else None))
    return found


def best_value(before, plan, t, limit, first=None):
    """The whole program in one, by another solver; `first` fixes the holdings after one trade."""
    n, wealth = len(before) - 1, before.sum()
    names, size = {}, 0

    def add(name, count):
        nonlocal size
        names[name] = np.arange(size, size + count)
        size += count

    for h, own in enumerate(plan):
        for what, count in (("u", n + 1), ("b", n), ("d", n)):
            add((what, h), count)
        if own.ahead is not None:
            add(("q", h), 1)
            add(("e", h), len(own.ahead.probabilities))
    equal, sides, upper, caps = [], [], [], []

    def row():
        return np.zeros(size)

    def arrived(h, i, r, factor):
        if h == 0:
            return factor * before[i]
        r[names["u", h - 1][i]] += -factor * plan[h - 1].growth[i]
        return 0.0

    for h, own in enumerate(plan):
        for i in range(n + 1):
            r = row()
            r[names["u", h][i]] = 1.0
            if i == 0:
                r[names["b", h]] = 1.0 + t.purchase_cost
                r[names["d", h]] = -(1.0 - t.sale_cost)
            else:
                r[names["b", h][i - 1]], r[names["d", h][i - 1]] = -1.0, 1.0
            side = arrived(h, i, r, 1.0)
            equal.append(r)
            sides.append(side)
        if own.ahead is None or limit is None:
            continue
        q, e = names["q", h][0], names["e", h]
        for s, returns in enumerate(own.ahead.returns):
            r = row()
            r[names["u", h][0]], r[names["u", h][1:]] = -own.ahead.cash_return, -returns
            r[names["b", h]], r[names["d", h]] = t.purchase_cost, t.sale_cost
            r[q], r[e[s]] = -1.0, -1.0
            upper.append(r)
            caps.append(0.0)
        r = row()
        r[q], r[e] = 1.0, own.ahead.probabilities / (1.0 - CONFIDENCE)
        side = sum(arrived(h, i, r, limit) for i in range(n + 1))
        upper.append(r)
        caps.append(side)
    for h in range(len(plan)):
        if t.weight_limit is not None:
            for i in np.flatnonzero(np.isfinite(t.weight_limit)):
                r = row()
                r[names["u", h][1 + i]] = 1.0
                side = sum(arrived(h, k, r, float(t.weight_limit[i])) for k in range(n + 1))
                upper.append(r)
                caps.append(side)
    bounds = [(0.0, None)] * size
    for h, own in enumerate(plan):
        if own.ahead is not None:
            bounds[names["q", h][0]] = (None, None)
    for i, d in enumerate(names["d", 0]):
        bounds[d] = (0.0, before[1 + i])
    if first is not None:
        for i, u in enumerate(names["u", 0]):
            bounds[u] = (first[i] - 1e-7 * wealth, first[i] + 1e-7 * wealth)
    c = row()
    c[names["u", len(plan) - 1]] = -plan[-1].growth
    found = linprog(
        c,
        A_ub=np.array(upper) if upper else None,
        b_ub=np.array(caps) if upper else None,
        A_eq=np.array(equal),
        b_eq=np.array(sides),
        bounds=bounds,
        method="highs",
    )
    return -found.fun / wealth if found.status == 0 else None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("n_periods", "limited", "weight_limit"),
    [(1, "each", None), (3, "first", None), (3, "each", None), (3, "each", [0.2, np.inf, 0.3])],
)
def test_planned_trades_are_optimal(seed, n_periods, limited, weight_limit):
    rng = np.random.default_rng([seed, 9])
    before = rng.uniform(0.0, 50.0, 4)
    own, t = plans(seed, n_periods, limited=limited), terms(3, weight_limit=weight_limit)
    held = planned_holdings(before, own, t, confidence=CONFIDENCE, limit=0.02)
    best = best_value(before, own, t, 0.02)
    assert best_value(before, own, t, 0.02, first=held) == pytest.approx(best, abs=1e-6)
    free = planned_holdings(before, own, t, confidence=CONFIDENCE, limit=None)
    if seed in (0, 3):  # the limit is what holds it back
        assert best_value(before, own, t, None, first=free) > best + 1e-5


def test_one_period_keeps_its_limit_exactly():
    before, own = np.array([100.0, 0.0, 0.0, 0.0]), plans(3, 1)
    held = planned_holdings(before, own, terms(3), confidence=CONFIDENCE, limit=0.03)
    cost = 0.004 * held[1:].sum()
    cvar = own[0].ahead.cvar(held[0], held[1:], CONFIDENCE) + cost
    assert cvar == pytest.approx(3.0, abs=1e-7)
    assert held.sum() == pytest.approx(100.0 - cost)


def test_decisions_scale_with_wealth():
    before, own = np.array([3.0, 1.0, 0.0, 2.0]), plans(5, 3)
    held = [
        planned_holdings(c * before, own, terms(3), confidence=CONFIDENCE, limit=0.05) / c
        for c in (1.0, 1e6)
    ]
    np.testing.assert_allclose(*held, atol=1e-9)


def test_without_a_way_to_keep_the_limit_it_is_said():
    before = np.array([0.0, 1.0, 0.0, 0.0])
    with pytest.raises(InfeasibleState, match=r"no planned trades keep cvar_limit = 0\.001"):
        planned_holdings(
            before, plans(1, 1), terms(3, cost=0.05), confidence=CONFIDENCE, limit=0.001
        )
