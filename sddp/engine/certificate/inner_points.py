"""States at which the inner bound asks for the cost-to-go: corners, and decisions of a policy."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.theta_bounds import outgoing_box
from sddp.engine.subproblem.solutions import StageSolution
from sddp.errors import InfeasibleState
from sddp.risk import Expectation, RiskMeasure

# States nearer to each other than this, relative, are one point: far below any gap.
DIGITS = 10

# Lines of descent that are drawn together.
BATCH = 10

# Noises seen before the decision in each drawn state: all, where there are no more.
NOISES_EACH = 4

# A box has 2^d corners; with more states than this only those that differ from the lowest one
# in a single component.
MOST_CORNERED = 6

# Outgoing states of each node.
ByNode = dict[NodeName, Floats]

# Outgoing states of each stage of the graph: nodes of a stage share their points.
ByStage = dict[int, Floats]


class Trained(Protocol):
    """A policy whose decisions are drawn."""

    problem: Problem

    def solve_step(
        self, name: NodeName, incoming: Floats, noise: int
    ) -> tuple[StageSolution, float]:
        """Solution at a state vector, for the state at size 1, and that size."""
        ...


def visited_states(
    policy: Trained,
    risk: Mapping[NodeName, RiskMeasure],
    n_points: int,
    rng: np.random.Generator,
) -> ByStage:
    """What a policy hands on at each stage.

    Every node is entered in `n_points` states and decides under up to four noises in each, so
    that rare ones are known too. The states are drawn with the probabilities of what comes
    before: states that mostly follow from unlikely nodes would leave the likely paths without
    support. After a decision under a risk measure half of the weight is spread evenly, for there
    unlikely outcomes count. Draws come in
    batches with random numbers of their own: with the same `rng`, the states of whole batches
    stay when more are drawn.
    """
    sizes = [min(BATCH, n_points - i) for i in range(0, n_points, BATCH)]
    streams = rng.spawn(len(sizes))
    batches = [_batch(policy, risk, n, own) for n, own in zip(sizes, streams, strict=True)]
    return by_stage(policy.problem, batches)


def by_stage(problem: Problem, batches: list[ByNode]) -> ByStage:
    """The outgoing states of all nodes of a stage, each once."""
    found: dict[int, list[Floats]] = {}
    for states in batches:
        for name, outgoing in states.items():
            if problem.graph.children(name) and len(outgoing):
                found.setdefault(problem.graph.node(name).stage, []).append(outgoing)
    return {stage: distinct(np.vstack(parts)) for stage, parts in found.items()}


def merged(some: ByStage, others: ByStage) -> ByStage:
    """The states of both, each once."""
    stages = {**some, **others}
    return {
        stage: distinct(np.vstack([given[stage] for given in (some, others) if stage in given]))
        for stage in stages
    }


def distinct(states: Floats) -> Floats:
    """States that differ, in the order of their first appearance."""
    scale = np.abs(states).max(axis=0)
    rounded = (states / np.where(scale > 0.0, scale, 1.0)).round(DIGITS)
    _, first = np.unique(rounded, axis=0, return_index=True)
    return np.asarray(states[np.sort(first)])


def corners(problem: Problem, name: NodeName) -> Floats:
    """Corners of the box of a node's outgoing states, those that are finite.

    Unit vectors where the problem is homogeneous: they span the cone of all states, whose bounds
    are 0 or infinite.
    """
    d = problem.n_components
    lower, upper = outgoing_box(problem.stages[name])
    if problem.homogeneous:
        ends_of = np.diag(problem.state_units)
        return np.vstack([ends_of[upper > 0.0], -ends_of[lower < 0.0]])
    ends = [
        sorted({float(end) for end in (low, high) if np.isfinite(end)}) or [0.0]
        for low, high in zip(lower, upper, strict=True)
    ]
    if d <= MOST_CORNERED:
        return np.array(list(itertools.product(*ends)))
    lowest = np.array([end[0] for end in ends])
    others = []
    for j, end in enumerate(ends):
        if len(end) > 1:
            other = lowest.copy()
            other[j] = end[-1]
            others.append(other)
    return np.vstack([lowest, *others])


def _batch(
    policy: Trained,
    risk: Mapping[NodeName, RiskMeasure],
    n_points: int,
    rng: np.random.Generator,
) -> ByNode:
    """Decisions drawn at each node, each from those of the nodes before."""
    graph = policy.problem.graph
    order = graph.reverse_topological()
    assert order is not None
    chance: dict[NodeName, float] = dict.fromkeys(graph.nodes, 0.0)
    sources: dict[NodeName, list[tuple[NodeName, float]]] = {name: [] for name in graph.nodes}
    for name, p in graph.children(graph.root):
        chance[name] += p
        sources[name].append((graph.root, p))
    held: ByNode = {}
    for name in reversed(order):
        if not graph.reaches(name):
            continue
        for child, p in graph.children(name):
            chance[child] += chance[name] * p
            sources[child].append((name, chance[name] * p))
        states = _arrived(policy, name, sources[name], held, risk, n_points, rng)
        averse = any(
            parent != graph.root and not isinstance(risk[parent], Expectation)
            for parent, _ in sources[name]
        )
        held[name] = _decided(policy, name, states, averse, rng)
    return held


def _arrived(
    policy: Trained,
    name: NodeName,
    sources: list[tuple[NodeName, float]],
    held: ByNode,
    risk: Mapping[NodeName, RiskMeasure],
    n_points: int,
    rng: np.random.Generator,
) -> Floats:
    """States on arrival at a node, from what was handed on before."""
    problem, root = policy.problem, policy.problem.graph.root
    if sources == [(root, sources[0][1])]:
        n_noises = problem.stages[name].noise.n_realisations
        n = min(n_points, -(-n_noises // NOISES_EACH))
        return np.tile(problem.initial_state(name), (n, 1))
    known = [(p, w) for p, w in sources if p != root and w > 0.0 and len(held.get(p, ()))]
    if not known:
        return np.zeros((0, problem.n_components))
    states = np.vstack([held[parent] for parent, _ in known])
    weights = np.concatenate([np.full(len(held[p]), w / len(held[p])) for p, w in known])
    parents = states[_evenly(weights, n_points, rng)]
    transition = problem.stages[name].transition
    averse = any(not isinstance(risk[parent], Expectation) for parent, _ in known)
    arrivals = rng.permutation(_evenly(_spread(transition.probabilities, averse), n_points, rng))
    arrived = np.array(
        [transition.arrive(state, int(e)) for state, e in zip(parents, arrivals, strict=True)]
    )
    alive: Floats = arrived[np.abs(arrived).sum(axis=1) > 0.0] if problem.homogeneous else arrived
    return alive


def _spread(probabilities: Floats, averse: bool) -> Floats:
    """Under a risk measure half of the weight goes to all outcomes alike."""
    if not averse:
        return probabilities
    return (probabilities + 1.0 / len(probabilities)) / 2.0


def _evenly(weights: Floats, n: int, rng: np.random.Generator) -> Ints:
    """`n` positions, each as often as its weight says up to less than one (systematic sampling).

    With independent draws lines of descent die out by chance from stage to stage; once in a
    while the interval was then five times as wide.
    """
    ends = np.cumsum(weights)
    at = (rng.random() + np.arange(n)) / n * ends[-1]
    chosen: Ints = np.minimum(np.searchsorted(ends, at, side="right"), len(weights) - 1)
    return chosen


def _decided(
    policy: Trained, name: NodeName, states: Floats, averse: bool, rng: np.random.Generator
) -> Floats:
    """What the policy hands on from each state; infeasible states are left out.

    Of size 1 where the problem is homogeneous.
    """
    problem, stage = policy.problem, policy.problem.stages[name]
    if not problem.graph.children(name):
        return np.zeros((0, problem.n_components))
    n_noises = stage.noise.n_realisations
    each = min(n_noises, NOISES_EACH)
    states = np.repeat(states, each, axis=0)
    noises = np.tile(np.arange(each), len(states) // each)
    if n_noises > NOISES_EACH and len(states):
        weights = _spread(stage.noise.probabilities, averse)
        noises = rng.permutation(_evenly(weights, len(states), rng))
    asked = np.column_stack([states, noises])
    different, place = np.unique(asked, axis=0, return_inverse=True)
    handed = np.full((len(different), problem.n_components), np.nan)
    for i, row in enumerate(different):
        try:
            solution, size = policy.solve_step(name, row[:-1], int(row[-1]))
        except InfeasibleState:
            continue
        handed[i] = normal(problem, size * solution.outgoing)
    drawn = handed[place.ravel()]
    feasible: Floats = drawn[np.isfinite(drawn).all(axis=1)]
    return feasible


def normal(problem: Problem, outgoing: Floats) -> Floats:
    """An outgoing state, of size 1 where the problem is homogeneous."""
    if not problem.homogeneous:
        return outgoing
    size = float(problem.state_sizes(outgoing))
    scaled: Floats = outgoing / size if size > 0.0 else np.full(len(outgoing), np.nan)
    return scaled
