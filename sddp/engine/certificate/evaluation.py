"""The exact value of a policy: all its decisions, by enumeration of the scenario tree.

The value of any policy bounds the optimum from the inner side. States that are reached on
several ways are decided once, for a policy is a function of node, state and noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.engine.certificate.inner_points import Trained
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.value.outcomes import first_outcomes, outcomes_after_node
from sddp.errors import InfeasibleState
from sddp.risk import RiskMeasure

# Nodes of a scenario tree that are enumerated at most.
MOST_NODES = 200_000


class _Reached(NamedTuple):
    """A decision: cost of its stage, and what may come after it by key."""

    node: NodeName
    cost: float
    later: list[tuple[NodeName, bytes, int]]
    weights: list[float]


def tree_size(problem: Problem) -> float:
    """Decisions in the scenario tree of an acyclic problem; infinite where there is a cycle."""
    order = problem.graph.reverse_topological()
    if order is None:
        return np.inf
    below: dict[NodeName, float] = {}
    for name in order:
        below[name] = 1.0 + sum(
            _outcomes(problem, child) * below[child] for child, _ in problem.graph.children(name)
        )
    first = problem.graph.children(problem.graph.root)
    return sum(problem.stages[name].noise.n_realisations * below[name] for name, _ in first)


def policy_cost(
    policy: Trained, risk: Mapping[NodeName, RiskMeasure], root_risk: RiskMeasure
) -> float:
    """Cost of a policy in engine units; infinite where it reaches a state without a decision."""
    problem = policy.problem
    known: dict[tuple[NodeName, bytes, int], _Reached] = {}
    waiting = [
        (name, problem.initial_state(name), noise) for name, noise, _ in problem.first_outcomes()
    ]
    while waiting:
        name, state, noise = waiting.pop()
        key = (name, state.tobytes(), noise)
        if key in known:
            continue
        try:
            solution, size = policy.solve_step(name, state, noise)
        except InfeasibleState:
            return np.inf
        after = _after(problem, name, size * solution.outgoing)
        known[key] = _Reached(
            name,
            size * (solution.value - solution.theta),
            [(child, arrived.tobytes(), w) for child, arrived, w, _ in after],
            [weight for *_, weight in after],
        )
        waiting.extend((child, arrived, w) for child, arrived, w, _ in after)
    return _evaluate(problem, known, risk, root_risk)


def _evaluate(
    problem: Problem,
    known: Mapping[tuple[NodeName, bytes, int], _Reached],
    risk: Mapping[NodeName, RiskMeasure],
    root_risk: RiskMeasure,
) -> float:
    """Nested risk from the last nodes to the root."""
    order = problem.graph.reverse_topological()
    assert order is not None
    place = {name: i for i, name in enumerate(order)}
    values: dict[tuple[NodeName, bytes, int], float] = {}
    # Once for a node, whatever the number of its states.
    seen = {
        name: outcomes_after_node(risk[name], problem, name)
        for name in {reached.node for reached in known.values()}
    }
    for key in sorted(known, key=lambda k: place[k[0]]):
        reached = known[key]
        later = [values[k] for k in reached.later]
        weights = list(reached.weights)
        stop = problem.graph.stop_probability(reached.node)
        if later and stop > 0.0:
            later.append(0.0)
            weights.append(stop)
        measure, outcomes = risk[reached.node], seen[reached.node]
        follows = measure.evaluate(weights, later, "min", outcomes) if later else 0.0
        values[key] = reached.cost + follows
    first, weights = [], []
    for name, noise, probability in problem.first_outcomes():
        first.append(values[name, problem.initial_state(name).tobytes(), noise])
        weights.append(probability)
    return root_risk.evaluate(weights, first, "min", first_outcomes(root_risk, problem))


def _after(
    problem: Problem, name: NodeName, outgoing: Floats
) -> list[tuple[NodeName, Floats, int, float]]:
    """Node, state, noise and probability of everything that may come after a decision."""
    return [
        (child, np.asarray(stage.transition.arrive(outgoing, e)), w, p * q * r)
        for child, p in problem.graph.children(name)
        for stage in [problem.stages[child]]
        for w, r in enumerate(stage.noise.probabilities)
        for e, q in enumerate(stage.transition.probabilities)
    ]


def _outcomes(problem: Problem, name: NodeName) -> int:
    stage = problem.stages[name]
    return stage.transition.n_realisations * stage.noise.n_realisations
