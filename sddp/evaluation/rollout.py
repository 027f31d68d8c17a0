"""Policies followed along simulated paths, many at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from sddp.allocation.policy import AllocationPolicy
from sddp.arrays import Floats, Ints
from sddp.backtest.trading import TransactionCosts, wealth_after_costs
from sddp.evaluation.true_risk import towards_cash
from sddp.rng import Rng
from sddp.simulation.laws import ScenarioLaw

# (stage, holdings before trading) -> holdings after it, both (n_paths, 1 + n_assets), cash first.
Rule: TypeAlias = Callable[[int, Floats], Floats]


@dataclass(frozen=True, eq=False)
class Rollout:
    """A policy followed along paths.

    Attributes
    ----------
    holdings : array, shape (n_paths, n_decisions, 1 + n_assets)
        After trading, cash first.
    wealth : array, shape (n_paths, n_decisions + 1)
        Before trading; in excess of what cash earns. The last is marked at quoted
        values: nothing is sold at the end.
    """

    holdings: Floats
    wealth: Floats

    @property
    def terminal(self) -> Floats:
        """Terminal wealth, shape (n_paths,)."""
        return self.wealth[:, -1]

    @property
    def paid(self) -> Floats:
        """Costs of trading, shape (n_paths, n_decisions)."""
        paid: Floats = self.wealth[:, :-1] - self.holdings.sum(axis=2)
        return paid


def rollout(
    rule: Rule, returns: Floats, n_decisions: int, *, start: ArrayLike | None = None
) -> Rollout:
    """Follow a rule from one unit of cash, or from other holdings.

    Parameters
    ----------
    rule : function
    returns : array, shape (n_paths, at least n_decisions, n_assets)
        Simple returns in excess of cash.
    n_decisions : int
    start : array, shape (1 + n_assets,), optional
        Money, cash first.
    """
    growth = 1.0 + returns
    n_paths, _, n = growth.shape
    before = np.zeros((n_paths, n + 1))
    before[:, 0] = 1.0
    if start is not None:
        before[:] = np.asarray(start, dtype=float)
    holdings, wealth = np.empty((n_paths, n_decisions, n + 1)), np.empty((n_paths, n_decisions + 1))
    wealth[:, 0] = before.sum(axis=1)
    for t in range(n_decisions):
        holdings[:, t] = rule(t, before)
        before = holdings[:, t].copy()
        before[:, 1:] *= growth[:, t]
        wealth[:, t + 1] = before.sum(axis=1)
    return Rollout(holdings, wealth)


def rollout_under(
    rule: Rule, law: ScenarioLaw, *, n_paths: int, n_decisions: int, rng: Rng
) -> Rollout:
    """Follow a rule from one unit of cash under a law of returns.

    Parameters
    ----------
    rule : function
    law : ScenarioLaw
        Of simple returns in excess of cash.
    n_paths, n_decisions : int
    rng : int, SeedSequence or Generator
        Rules that are followed with the same one meet the same returns.
    """
    chunks = law.sample(n_paths, n_decisions, rng=rng)
    parts = [rollout(rule, returns, n_decisions) for returns in chunks]
    return Rollout(
        np.concatenate([part.holdings for part in parts]),
        np.concatenate([part.wealth for part in parts]),
    )


@dataclass(frozen=True, eq=False)
class PolicyRule:
    """Decisions of trained policies for many paths; equal questions are asked once.

    Attributes
    ----------
    policies : sequence of AllocationPolicy
        Each is followed along the paths of its block.
    beliefs : array, shape (n_paths, n_decisions, n_states)
        Probabilities of the regimes that a policy is asked with.
    blocks : array of int, shape (n_paths,)
        Position of the policy of each path.
    stage : int, optional
        Ask this stage's decision always, such as 0 for a receding horizon; -1 is the last one.
    proportional : bool
        Decisions are proportional to wealth and do not depend on the weights before, as without
        trading costs: each is asked for once a stage and belief.
    """

    policies: Sequence[AllocationPolicy]
    beliefs: Floats
    blocks: Ints
    stage: int | None = None
    proportional: bool = False
    _weights: dict[int, Floats] = field(default_factory=dict, init=False)

    def on(self, chosen: Ints) -> PolicyRule:
        """The same policies on some of the paths."""
        few = replace(self, beliefs=self.beliefs[chosen], blocks=self.blocks[chosen])
        few._weights.update({stage: known[chosen] for stage, known in self._weights.items()})
        return few

    def __call__(self, stage: int, before: Floats) -> Floats:
        """Holdings after trading of the first paths, as many as `before` has rows."""
        if not self.proportional:
            return self._asked(stage, before)
        if stage not in self._weights:
            cash = np.zeros((len(self.beliefs), before.shape[1]))
            cash[:, 0] = 1.0
            self._weights[stage] = self._asked(stage, cash)
        weights = self._weights[stage][: len(before)]
        holdings: Floats = weights * before.sum(axis=1, keepdims=True)
        return holdings

    def _asked(self, stage: int, before: Floats) -> Floats:
        n = len(before)
        known = np.hstack([self.blocks[:n, None], self.beliefs[:n, stage], before])
        questions, of_path = np.unique(known, axis=0, return_inverse=True)
        answers = [self._answer(stage, question) for question in questions]
        return np.array(answers)[of_path.ravel()]

    def _answer(self, stage: int, question: Floats) -> Floats:
        policy, n = self.policies[int(question[0])], self.beliefs.shape[2]
        asked = stage if self.stage is None else self.stage % policy.problem.n_stages
        held = dict(zip(policy.problem.positions, question[n + 1 :].tolist(), strict=True))
        decision = policy.decide(stage=asked, regime=question[1 : n + 1], holdings=held)
        return np.asarray(decision.holdings, dtype=float)


def paying_costs(rule: Rule, cost: float) -> Rule:
    """A rule that ignores costs in a market that charges them: its weights after costs.

    `cost` is charged per unit of money bought or sold.
    """

    def charged(stage: int, before: Floats) -> Floats:
        wanted = rule(stage, before)
        weights = wanted / wanted.sum(axis=1, keepdims=True)
        costs = TransactionCosts.of(cost, range(wanted.shape[1] - 1))
        left = [wealth_after_costs(x, w, costs) for x, w in zip(before, weights, strict=True)]
        holdings: Floats = weights * np.array(left)[:, None]
        return holdings

    return charged


def within_limit(
    rule: Rule, cvar: Callable[[int, Floats], Floats], *, limit: float, cost: ArrayLike
) -> Rule:
    """A rule moved towards cash wherever it exceeds a limit on the true CVaR.

    Parameters
    ----------
    rule : function
    cvar : function
        From a stage and holdings after trading to their CVaR in money, costs left out.
    limit, cost
        As in `sddp.evaluation.true_risk.towards_cash`.
    """

    def limited(stage: int, before: Floats) -> Floats:
        after = rule(stage, before)
        return towards_cash(before, after, cvar(stage, after), limit=limit, cost=cost)

    return limited


@dataclass(frozen=True, eq=False)
class RegimeControl:
    """Control variate of terminal wealth where returns depend on a regime.

    Wealth at a date is taken to be worth ``belief . growth`` times itself. Its differences from
    the expectation one date before have mean 0 for any policy without foresight, whatever
    ``growth`` holds; with the growth of frictionless trading they explain most of the variance.

    Attributes
    ----------
    beliefs : array, shape (n_paths, n_decisions, K)
        Law of the regime at each decision given what is known then; 1 for one that is seen.
    chain : array, shape (K, K)
    gross : array, shape (K, 1 + n_assets)
        Expected gross returns.
    growth : array, shape (n_decisions + 1, K)
        Worth of wealth at each date; the last row is 1.
    """

    beliefs: Floats
    chain: Floats
    gross: Floats
    growth: Floats

    def value(self, run: Rollout) -> Floats:
        """Terminal wealth of the first paths less the control variate, shape (n_paths,)."""
        n_paths, n_decisions, _ = run.holdings.shape
        total = run.terminal.copy()
        for t in range(n_decisions):
            later = self.growth[t + 1]
            ahead = (self.arrival(t)[:n_paths] * later) @ self.gross
            expected = np.einsum("pn,pn->p", ahead, run.holdings[:, t])
            total -= self._worth(t + 1)[:n_paths] * run.wealth[:, t + 1] - expected
        return total

    def arrival(self, stage: int) -> Floats:
        """Law of the next regime at a decision, shape (n_paths, K)."""
        law: Floats = self.beliefs[:, stage] @ self.chain
        return law

    def _worth(self, date: int) -> Floats:
        """Of one unit of wealth; 1 at the end, which has no decision and so no belief."""
        if date == len(self.growth) - 1:
            return np.ones(len(self.beliefs))
        worth: Floats = self.beliefs[:, date] @ self.growth[date]
        return worth
