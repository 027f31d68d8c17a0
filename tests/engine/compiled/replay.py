"""Visits made twice, by the compiled kernel and by HiGHS, under the same cuts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

import sddp
from sddp.engine.compiled.layout import Followers
from sddp.engine.compiled.simplex import INFEASIBLE, OPTIMAL
from sddp.engine.compiled.visitor import Visitor
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.subproblems import Subproblems, build_subproblems
from sddp.engine.value.cut_forms import LazyAggregation
from sddp.engine.value.cuts import Cut
from tests.engine.instances import Instance, random_instance

FINAL = 1e-9


@dataclass
class Replay:
    """Both solvers of one problem, and what they disagreed on.

    `worst` is the largest difference of values, relative to what tolerances are relative to;
    `highest` how far a compiled cut was above the reference's value at another state.
    """

    network: Subproblems
    visitor: Visitor
    worst: float = 0.0
    highest: float = -np.inf
    visits: int = 0
    unsettled: int = 0

    @classmethod
    def of(cls, problem: sddp.Problem, risk: sddp.risk.RiskMeasure | None = None) -> Replay:
        """Nothing learnt yet but the initial cuts."""
        network = build_subproblems(problem, risk, LazyAggregation(), trains_to=FINAL)
        functions = network.value_functions
        followers = Followers(
            {n: functions.outcomes(n) for n in functions},
            {n: len(function.pools) for n, function in functions.items()},
            functions.risk,
            network.theta_lower,
        )
        replay = cls(network, Visitor(problem, followers))
        for name, function in functions.items():
            for w, pool in enumerate(function.pools):
                replay.visitor.append_cuts(replay._pool(name, w), pool.slopes, pool.intercepts)
        return replay

    def visit(self, name: object, noise: int, x: np.ndarray, other: np.ndarray) -> None:
        """Solve by both, compare, and give the cut to both."""
        visitor, k = self.visitor, self.visitor.number[name]
        status = visitor.visit(k, noise, x, FINAL)
        reference = self.network[name].solve(x, noise, FINAL)
        self.visits += 1
        if isinstance(reference, Infeasibility):
            assert status == INFEASIBLE
            return
        assert status != INFEASIBLE, (name, noise, x)
        if status != OPTIMAL:
            self.unsettled += 1
            return
        value, intercept = visitor.scratch.result[:2]
        slope = visitor.scratch.slope.copy()
        money = self.network.problem.money
        size = max(1.0, money, abs(reference.value))
        self.worst = max(self.worst, abs(value - reference.value) / size)
        there = self.network[name].solve(other, noise, FINAL)
        if not isinstance(there, Infeasibility):
            excess = intercept + slope @ other - there.value
            self.highest = max(self.highest, excess / max(1.0, money, abs(there.value)))
        pools = self.network.value_functions[name].pools
        if len(pools) == self.network.problem.stages[name].noise.n_realisations:
            pools[noise].add(Cut(slope, float(intercept)))
            visitor.append_cuts(self._pool(name, noise), slope[None], np.array([intercept]))

    def _pool(self, name: object, noise: int) -> int:
        return int(self.visitor.stages.pool_at[self.visitor.number[name]]) + noise


def with_noise_in_sides(seed: int, **changes: object) -> Instance:
    """A random instance whose noise is in right-hand sides and bounds alone."""
    rng = np.random.default_rng(seed)
    instance = random_instance(seed, noise=2, **changes)
    for node in instance.tree.nodes.values():
        first = node.realizations[0]
        for w in range(1, len(node.realizations)):
            rhs, upper = first.rhs.copy(), first.upper.copy()
            rhs[5:] += rng.normal(size=2)
            upper[[0, 3]] += rng.uniform(0.0, 3.0, 2)
            node.realizations[w] = replace(first, rhs=rhs, upper=upper, fixed=rng.normal())
    return instance
