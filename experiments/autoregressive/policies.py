"""The policies that are compared, as rules for all paths at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from experiments.autoregressive.config import N_NODES
from experiments.autoregressive.one_step import best_holdings, cost_free_rewards, myopic_rewards
from experiments.autoregressive.sample import Sample
from experiments.autoregressive.tail import TrueTail
from sddp.allocation.policy import AllocationPolicy
from sddp.arrays import Floats
from sddp.backtest.trading import TransactionCosts, wealth_after_costs
from sddp.bounds.frictionless import FrictionlessPolicy
from sddp.evaluation.rollout import Rule
from sddp.evaluation.true_risk import towards_cash

ASSETS = ("asset1", "asset2", "asset3")


@dataclass(frozen=True, eq=False)
class TrainedRule:
    """Policies of several scenario draws, each asked for its own paths.

    Without costs decisions are weights, which the holdings before do not move: each is asked for
    once, whoever follows it.

    Attributes
    ----------
    policies : sequence of AllocationPolicy, one per draw
    sample : Sample
    beliefs : array, shape (n_paths, n_decisions, n_states)
    myopic : bool
        Decide as if every decision were the last one.
    """

    policies: list[AllocationPolicy]
    sample: Sample
    beliefs: Floats
    myopic: bool = False
    _weights: dict[int, Floats] = field(default_factory=dict, init=False)

    def thinned(self, per_draw: int) -> TrainedRule:
        """The same policies on the first paths of each block."""
        chosen = self.sample.first(per_draw)
        if len(chosen) == self.sample.n_paths:
            return self
        few = replace(self, sample=self.sample.thinned(per_draw), beliefs=self.beliefs[chosen])
        few._weights.update({stage: known[chosen] for stage, known in self._weights.items()})
        return few

    @property
    def free(self) -> bool:
        """Whether the policies know no cost of trading."""
        return all(p.problem.model.transaction_cost == 0.0 for p in self.policies)

    def __call__(self, stage: int, before: Floats) -> Floats:
        """Holdings after trading."""
        if not self.free:
            return self._asked(stage, before)
        if stage not in self._weights:
            cash = np.zeros_like(before)
            cash[:, 0] = 1.0
            self._weights[stage] = self._asked(stage, cash)
        holdings: Floats = self._weights[stage] * before.sum(axis=1, keepdims=True)
        return holdings

    def _asked(self, stage: int, before: Floats) -> Floats:
        """Equal questions, as all of the first date are, are asked once."""
        draws = self.sample.draws[:, None]
        questions = np.hstack([draws, self.beliefs[:, stage], before])
        distinct, of_path = np.unique(questions, axis=0, return_inverse=True)
        answers = [self._answer(stage, question) for question in distinct]
        return np.array(answers)[of_path.ravel()]

    def _answer(self, stage: int, question: Floats) -> Floats:
        n = len(ASSETS) + 1
        policy, belief, before = self.policies[int(question[0])], question[1:-n], question[-n:]
        decision = policy.decide(
            stage=policy.problem.n_stages - 1 if self.myopic else stage,
            regime=belief,
            holdings=dict(zip(("cash", *ASSETS), before.tolist(), strict=True)),
        )
        return np.asarray(decision.holdings, dtype=float)


def most_likely(beliefs: Floats) -> Floats:
    """All of the belief on its most likely regime."""
    certain: Floats = np.eye(beliefs.shape[-1])[beliefs.argmax(axis=-1)]
    return certain


def one_step(program: FrictionlessPolicy, sample: Sample, cost: float, *, future: bool) -> Rule:
    """The best trade of one period; `future`: with the value function of free trading after it."""
    expectation = program.process.quadrature(N_NODES)

    def rule(stage: int, before: Floats) -> Floats:
        factors = sample.paths.factors[:, stage, 0]
        rewards = (
            cost_free_rewards(program, expectation, stage, factors)
            if future
            else myopic_rewards(program.process, factors)
        )
        return best_holdings(before, factors, rewards, program, cost)

    return rule


def frictionless(program: FrictionlessPolicy, sample: Sample) -> Rule:
    """The dynamic program without costs."""

    def rule(stage: int, before: Floats) -> Floats:
        weights = program.weights(stage, sample.paths.factors[:, stage, 0])
        shares = np.column_stack([1.0 - weights.sum(axis=1), weights])
        holdings: Floats = shares * before.sum(axis=1)[:, None]
        return holdings

    return rule


def paying(free: Rule, cost: float) -> Rule:
    """A rule that ignores costs, in a market that charges them: its weights after costs."""
    costs = TransactionCosts.of(cost, ASSETS)

    def rule(stage: int, before: Floats) -> Floats:
        wanted = free(stage, before)
        weights = wanted / wanted.sum(axis=1, keepdims=True)
        left = [wealth_after_costs(x, w, costs) for x, w in zip(before, weights, strict=True)]
        holdings: Floats = weights * np.array(left)[:, None]
        return holdings

    return rule


def within(inner: Rule, tail: TrueTail, sample: Sample, limit: float, cost: float) -> Rule:
    """A rule moved towards cash wherever it breaks the limit under the process itself."""

    def rule(stage: int, before: Floats) -> Floats:
        after = inner(stage, before)
        cvar = tail.cvar(after[:, 1:], sample.paths.factors[:, stage, 0])
        return towards_cash(before, after, cvar, limit=limit, cost=cost)

    return rule
