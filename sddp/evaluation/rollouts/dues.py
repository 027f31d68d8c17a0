"""Rules followed along paths of regimes, with payments, floors and a costly exit.

A rule knows the stage, the regime and what is held on arrival. All rules of a comparison meet the
same regimes and returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sddp.allocation.planning import Plan, planned_holdings
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.problem import AllocationProblem
from sddp.arrays import Floats
from sddp.errors import InfeasibleState
from sddp.rng import Rng, generator

# (stage, regime, money on arrival) -> money after payment and trade; cash first.
RegimeRule: TypeAlias = Callable[[int, int, Floats], Floats]


@dataclass(frozen=True, eq=False)
class DueRollout:
    """A rule followed along paths.

    Attributes
    ----------
    value : array, shape (n_paths,)
        Terminal wealth after the last payment, less the price of the shortfall.
    shortfall : array, shape (n_paths,)
        Money not paid, and money that wealth was below its floor, over all stages.
    """

    value: Floats
    shortfall: Floats


def follow_with_dues(
    rule: RegimeRule, problem: AllocationProblem, *, n_paths: int, rng: Rng
) -> DueRollout:
    """Follow a rule under the regimes, returns and dues of a problem, from its first holdings.

    Parameters
    ----------
    rule : function
        It pays what it can of what is due; what it leaves unpaid is shortfall.
    problem : AllocationProblem
    n_paths : int
    rng : int, SeedSequence or Generator
        Rules that are followed with the same one meet the same regimes and returns.
    """
    scenarios, terms, price = problem.scenarios, problem.terms, problem.model.shortfall_price
    assert scenarios.probabilities is not None
    root: Any = next(name for name, _ in problem.engine.graph.children(problem.engine.graph.root))
    start, first = problem.engine.initial_state(root), int(root[1])
    value, shortfall = np.empty(n_paths), np.zeros(n_paths)
    for p, own in enumerate(generator(rng).spawn(n_paths)):
        held, regime = start.copy(), first
        for stage in range(problem.n_stages):
            after = rule(stage, regime, held)
            trades = after[1:] - held[1:]
            cost = np.maximum(trades, 0.0) @ terms.purchase_cost
            cost += np.maximum(-trades, 0.0) @ terms.sale_cost
            paid = float(held.sum() - cost - after.sum())
            shortfall[p] += _short(problem, stage, float(held.sum()), paid)
            regime = int(
                own.choice(scenarios.n_states, p=scenarios.transition_matrix[stage, regime])
            )
            at = own.choice(scenarios.n_scenarios, p=scenarios.probabilities[stage, regime])
            held = after.copy()
            held[0] *= 1.0 + float(terms.cash_return[stage])
            held[1:] *= 1.0 + scenarios.returns[stage, regime, at]
        value[p], short = _end(problem, held)
        shortfall[p] += short
        value[p] -= price * shortfall[p]
    return DueRollout(value, shortfall)


def policy_rule(policy: AllocationPolicy) -> RegimeRule:
    """Decisions of a policy that knows the dues."""

    def rule(stage: int, regime: int, held: Floats) -> Floats:
        if not held.sum() > 0.0:
            return held
        money = dict(zip(policy.problem.positions, held.tolist(), strict=True))
        decision = policy.decide(stage=stage, regime=regime, holdings=money)
        return np.asarray(decision.holdings, dtype=float)

    return rule


def planned_rule(
    problem: AllocationProblem, *, held: bool, n_ahead: int | None = None
) -> RegimeRule:
    """Rules of one linear program: they pay what is due now and do not look at what will be.

    Parameters
    ----------
    problem : AllocationProblem
        Costs, limit of the stage and conditional means are known.
    held : bool
        One trade, valued by the summed excess returns to the horizon; else a trade is planned for
        each period ahead, and the first one executed.
    n_ahead : int, optional
        Periods that are looked ahead at most; 1 is the best trade of one period.
    """

    def rule(stage: int, regime: int, before: Floats) -> Floats:
        due = problem.terms.due(stage)
        money = before.copy()
        money[0] -= due.money + due.share * float(before.sum())
        if not money.sum() > 0.0:
            return _sold(problem, money)
        left = problem.n_stages - stage
        means = _growth(problem, stage, regime, left if n_ahead is None else min(left, n_ahead))
        ahead = problem.distribution(stage, np.eye(problem.scenarios.n_states)[regime])
        if held:
            total = 1.0 + (means - means[:, :1]).sum(axis=0)
            plans = [Plan(total, ahead)]
        else:
            plans = [Plan(own, ahead if h == 0 else None) for h, own in enumerate(means)]
        limit = problem.terms.limit(stage)
        # The limit is a share of the wealth before the payment.
        scale = float(before.sum() / money.sum())
        try:
            return planned_holdings(
                money,
                plans,
                problem.terms,
                confidence=problem.model.cvar_confidence,
                limit=None if limit is None else limit * scale,
            )
        except InfeasibleState:
            return _sold(problem, money)

    return rule


def _growth(problem: AllocationProblem, stage: int, regime: int, n_periods: int) -> Floats:
    """Expected gross returns of the coming periods, cash first, shape (n_periods, 1 + n_assets)."""
    belief, found = np.eye(problem.scenarios.n_states)[regime], []
    for t in range(stage, stage + n_periods):
        ahead = problem.distribution(t, belief, in_limit=False)
        means = ahead.probabilities @ ahead.returns
        found.append(1.0 + np.concatenate([[ahead.cash_return], means]))
        belief = belief @ problem.scenarios.transition_matrix[t]
    return np.array(found)


def _sold(problem: AllocationProblem, money: Floats) -> Floats:
    """Everything in cash; what cannot be paid is left unpaid."""
    cash = float(money[0] + (1.0 - problem.terms.sale_cost) @ money[1:])
    return np.concatenate([[max(cash, 0.0)], np.zeros(len(money) - 1)])


def _short(problem: AllocationProblem, stage: int, wealth: float, paid: float) -> float:
    due = problem.terms.due(stage)
    owed = due.money + due.share * wealth
    return max(owed - paid, 0.0) * (owed > 0.0) + max(due.floor - wealth, 0.0)


def _end(problem: AllocationProblem, held: Floats) -> tuple[float, float]:
    """Terminal wealth after the last payment, and the shortfall there."""
    wealth, worth = float(held.sum()), float(held.sum())
    if problem.model.terminal_value == "liquidated":
        worth = float(held[0] + (1.0 - problem.terms.sale_cost) @ held[1:])
    due = problem.terms.due(problem.n_stages)
    owed = due.money + due.share * wealth
    paid = min(owed, worth)
    return worth - paid, owed - paid + max(due.floor - wealth, 0.0)
