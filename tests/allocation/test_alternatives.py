"""What a limit costs and what not trading gives up, against linear programs of their own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp import AllocationModel, MarkovScenarios, train_allocation
from sddp.allocation.alternatives import limit_price, without_trading
from sddp.engine.training.stopping import Iterations

COST, CONFIDENCE, BELIEF = 0.004, 0.8, np.array([0.7, 0.3])
HELD = {"cash": 30.0, "bold": 60.0, "meek": 10.0}


def scenarios(n_stages: int) -> MarkovScenarios:
    rng = np.random.default_rng(3)
    mean = np.array([[0.02, 0.004], [-0.01, 0.003]])
    returns = mean[:, None] + np.array([0.05, 0.01]) * rng.standard_normal((2, 30, 2))
    return MarkovScenarios(
        returns, [[0.9, 0.1], [0.3, 0.7]], asset_names=["bold", "meek"], n_stages=n_stages
    )


def trained(limit: float | None, n_stages: int = 1, iterations: int = 1):
    model = AllocationModel(
        transaction_cost=COST, cvar_confidence=CONFIDENCE, cvar_limit=limit, cash_return=0.001
    )
    return train_allocation(
        model,
        scenarios(n_stages),
        initial_holdings={"cash": 1.0},
        rng=np.random.default_rng(1),
        stopping=Iterations(iterations),
        progress=False,
    ).policy


def outcomes() -> tuple[np.ndarray, np.ndarray]:
    """Gross returns (cash first) and probabilities of one period under the belief."""
    found = scenarios(1)
    arrival = BELIEF @ found.transition_matrix[0]
    returns = found.returns[0].reshape(-1, 2)
    gross = np.hstack([np.full((len(returns), 1), 1.001), 1.0 + returns])
    return gross, np.repeat(arrival, 30) / 30.0


def one_period(limit: float) -> tuple[float, float]:
    """Best expected wealth and the dual of the limit, by Rockafellar and Uryasev's LP.

    Columns: cash, bold, meek after trading; purchases; sales; quantile; excesses.
    """
    gross, p = outcomes()
    n, held = len(p), np.array(list(HELD.values()))
    wealth = held.sum()
    width = 3 + 2 + 2 + 1 + n
    objective = np.zeros(width)
    objective[:3] = -(p @ gross)
    balance = np.zeros((3, width))
    balance[0, [0, 3, 4, 5, 6]] = 1.0, 1.0 + COST, 1.0 + COST, COST - 1.0, COST - 1.0
    for i in (0, 1):
        balance[1 + i, [1 + i, 3 + i, 5 + i]] = 1.0, -1.0, 1.0
    excess = np.zeros((n, width))  # cost - earned - quantile - excess <= 0
    excess[:, :3], excess[:, 3:7], excess[:, 7] = 1.0 - gross, COST, -1.0
    excess[:, 8:] = -np.eye(n)
    cvar = np.zeros((1, width))
    cvar[0, 7], cvar[0, 8:] = 1.0, p / (1.0 - CONFIDENCE)
    bounds = [(0.0, None)] * 5 + [(0.0, held[1]), (0.0, held[2]), (None, None)] + [(0, None)] * n
    found = linprog(
        objective,
        A_ub=np.vstack([cvar, excess]),
        b_ub=np.concatenate([[limit * wealth], np.zeros(n)]),
        A_eq=balance,
        b_eq=held,
        bounds=bounds,
    )
    return -found.fun, -found.ineqlin.marginals[0] * wealth


@pytest.mark.parametrize("limit", [0.01, 0.02, 0.03, 0.2])
def test_the_price_of_the_limit_is_its_dual(limit):
    value, dual = one_period(limit)
    policy = trained(limit)
    decision = policy.decide(regime=BELIEF, holdings=HELD)
    assert decision.value == pytest.approx(value, rel=1e-8)
    assert limit_price(policy, regime=BELIEF, holdings=HELD) == pytest.approx(dual, rel=1e-3)
    assert (dual > 1.0) == (limit < 0.1)


def test_no_limit_costs_nothing():
    assert limit_price(trained(None), regime=0, holdings=HELD) == 0.0


def test_not_trading_is_worth_what_is_held():
    gross, p = outcomes()
    held = np.array(list(HELD.values()))
    losses = np.sort(-(gross - 1.0) @ held)[::-1]
    order = np.argsort((gross - 1.0) @ held)
    left, tail = 1.0 - CONFIDENCE, 0.0
    for o, loss in zip(order, losses, strict=True):
        weight = min(left, p[o])
        tail, left = tail + weight * loss, left - weight
    kept = without_trading(trained(0.01), regime=BELIEF, holdings=HELD)
    assert kept.value == pytest.approx(float(p @ gross @ held), rel=1e-8)
    assert kept.cvar == pytest.approx(tail / (1.0 - CONFIDENCE) / held.sum(), rel=1e-9)
    assert kept.cvar > 0.01  # the limit is not imposed on it


@pytest.mark.long
def test_over_several_stages_a_decision_is_worth_at_least_what_not_trading_is():
    policy = trained(0.03, n_stages=4, iterations=15)
    for held in (HELD, {"cash": 100.0}, {"meek": 100.0}):
        kept = without_trading(policy, regime=BELIEF, holdings=held)
        decision = policy.decide(regime=BELIEF, holdings=held)
        if kept.cvar <= 0.03:
            assert decision.value >= kept.value - 1e-7
    again = policy.decide(regime=BELIEF, holdings=HELD)  # asking moved nothing
    assert again.value == policy.decide(regime=BELIEF, holdings=HELD).value


@pytest.mark.long
def test_keeping_the_best_holdings_gives_up_nothing():
    """Without a limit: under one, the cost that is paid once leaves room for more risk after."""
    policy = trained(None, n_stages=3, iterations=15)
    best = policy.decide(regime=0, holdings={"cash": 100.0}).holdings
    kept = without_trading(policy, regime=0, holdings=best)
    decision = policy.decide(regime=0, holdings=best)
    assert decision.value == pytest.approx(kept.value, rel=1e-7)
