"""Decisions scaled towards cash, against a fine grid."""

from __future__ import annotations

import numpy as np
import pytest

from sddp.allocation.one_period import OnePeriodDistribution
from sddp.allocation.scaling import scaled_to_limit
from sddp.risk import weighted_cvar


def law(seed: int, cash_return: float = 0.002) -> OnePeriodDistribution:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.002, 0.05, (200, 3))
    return OnePeriodDistribution(returns, np.full(200, 1.0 / 200), cash_return)


def cvar_by_hand(scale, wanted, before, ahead, cost):
    risky = scale * wanted
    trades = risky - before[1:]
    paid = cost * np.abs(trades).sum()
    cash = before[0] - trades.sum() - paid
    losses = paid - ahead.returns @ risky - ahead.cash_return * cash
    return weighted_cvar(losses, confidence=0.9) / before.sum()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cost", [0.0, 0.004])
def test_the_largest_share_within_the_limit_is_kept(seed, cost):
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.0, 100.0, 4)
    wanted = rng.dirichlet(np.ones(3)) * before.sum() * 0.9
    ahead, limit = law(seed), 0.03
    costs = np.full(3, cost)
    found = scaled_to_limit(
        wanted,
        before,
        ahead,
        purchase_cost=costs,
        sale_cost=costs,
        confidence=0.9,
        limit=limit,
    )
    grid = np.linspace(0.0, 1.0, 2001)
    risks = np.array([cvar_by_hand(s, wanted, before, ahead, cost) for s in grid])
    assert grid[risks <= limit].max() == pytest.approx(found.scale, abs=6e-4)
    assert found.cvar == pytest.approx(limit, abs=1e-9) or found.scale == 1.0
    assert found.cvar == pytest.approx(cvar_by_hand(found.scale, wanted, before, ahead, cost))
    assert found.holdings.sum() == pytest.approx(before.sum() - found.cost)


def test_a_decision_within_the_limit_is_left_alone():
    before, wanted = np.array([100.0, 0.0, 0.0, 0.0]), np.array([10.0, 5.0, 0.0])
    settings = {"purchase_cost": np.zeros(3), "sale_cost": np.zeros(3), "confidence": 0.9}
    found = scaled_to_limit(wanted, before, law(1), limit=0.5, **settings)
    assert found.scale == 1.0
    np.testing.assert_array_equal(found.holdings, [85.0, 10.0, 5.0, 0.0])


def test_where_nothing_keeps_the_limit_the_least_risk_is_taken():
    """Selling out costs 10 %, keeping risks more than 1 %: the least CVaR is reported."""
    before, wanted = np.array([0.0, 50.0, 30.0, 20.0]), np.array([50.0, 30.0, 20.0])
    costs = np.full(3, 0.1)
    found = scaled_to_limit(
        wanted, before, law(2), purchase_cost=costs, sale_cost=costs, confidence=0.9, limit=0.01
    )
    grid = np.linspace(0.0, 1.0, 1001)
    risks = [cvar_by_hand(s, wanted, before, law(2), 0.1) for s in grid]
    assert found.cvar > 0.01
    assert found.cvar == pytest.approx(min(risks), abs=1e-4)
