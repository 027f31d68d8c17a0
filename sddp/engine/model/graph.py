"""The policy graph: which decision follows which, and with what probability.

The graph is the only place that knows time. A node is a decision; a path starts at the root
(which is no decision), moves along arcs, and stops where out-probabilities leave room for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sddp.arrays import PROBABILITY_TOLERANCE, Floats
from sddp.errors import ModelError

NodeName = Hashable


@dataclass(frozen=True)
class Node:
    """What a builder is told about the node it builds.

    Attributes
    ----------
    name : hashable
        ``t`` in a linear graph, ``(t, k)`` in a Markovian one, the user's own otherwise.
    stage : int
        Number of decisions before this one on the shortest way from the root (from 0).
    markov_state : int or None
        ``k`` in a Markovian graph.
    """

    name: NodeName
    stage: int
    markov_state: int | None = None


@dataclass(frozen=True)
class Graph:
    """Nodes and arcs with probabilities.

    Parameters
    ----------
    nodes : sequence of hashable
        Names of the decisions.
    arcs : mapping (from, to) -> probability
        Where the out-probabilities of a node sum to less than 1 the process stops there with
        the rest: that is a discount and, with a cycle, an infinite horizon. Arcs of probability
        0 may be listed and are ignored. Those from the root sum to 1.
    root : hashable
        Name of the start, which is no decision.

    Raises
    ------
    ModelError
        Names the node and the number that is wrong: an unknown or doubled node, a probability
        outside [0, 1], a sum above 1, a node without any arc leading to it, or a cycle from
        which the process never stops.
    """

    nodes: Sequence[NodeName]
    arcs: Mapping[tuple[NodeName, NodeName], float]
    root: NodeName = "root"
    _children: Mapping[NodeName, tuple[tuple[NodeName, float], ...]] = field(
        init=False, repr=False, compare=False
    )
    _parents: Mapping[NodeName, tuple[NodeName, ...]] = field(init=False, repr=False, compare=False)
    _stop: Mapping[NodeName, float] = field(init=False, repr=False, compare=False)
    _stages: Mapping[NodeName, int] = field(init=False, repr=False, compare=False)
    _reached: frozenset[NodeName] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "arcs", _numbers(self.arcs))
        self._check_names()
        self._check_probabilities()
        children: dict[NodeName, list[tuple[NodeName, float]]] = {
            name: [] for name in (self.root, *self.nodes)
        }
        for (source, target), probability in self.arcs.items():
            if probability > 0.0:
                children[source].append((target, probability))
        parents: dict[NodeName, list[NodeName]] = {name: [] for name in children}
        for source, kids in children.items():
            for target, _ in kids:
                parents[target].append(source)
        totals = {name: sum([p for _, p in kids]) for name, kids in children.items()}
        object.__setattr__(self, "_children", {n: tuple(c) for n, c in children.items()})
        object.__setattr__(self, "_parents", {n: tuple(p) for n, p in parents.items()})
        object.__setattr__(self, "_stop", {name: _rest(total) for name, total in totals.items()})
        self._check_sums(totals)
        object.__setattr__(self, "_stages", self._distances())
        object.__setattr__(self, "_reached", self._reachable())
        self._check_stops()

    def children(self, name: NodeName) -> tuple[tuple[NodeName, float], ...]:
        """``(child, probability)`` pairs of positive probability."""
        return self._children[name]

    def parents(self, name: NodeName) -> tuple[NodeName, ...]:
        """Nodes (the root among them) with an arc of positive probability to `name`."""
        return self._parents[name]

    def reaches(self, name: NodeName) -> bool:
        """Whether some path of positive probability leads from the root to the node."""
        return name in self._reached

    def stop_probability(self, name: NodeName) -> float:
        """Probability that the process ends after the decision at `name`."""
        return self._stop[name]

    def node(self, name: NodeName) -> Node:
        """The `Node` handed to the builder."""
        return Node(name, self._stages[name])

    def reverse_topological(self) -> tuple[NodeName, ...] | None:
        """Nodes with every child before its parents; None where there is a cycle."""
        order: list[NodeName] = []
        left = {name: len(self._children[name]) for name in (self.root, *self.nodes)}
        ready = [name for name in self.nodes if left[name] == 0]
        while ready:
            name = ready.pop()
            order.append(name)
            for parent in self._parents[name]:
                left[parent] -= 1
                if left[parent] == 0 and parent != self.root:
                    ready.append(parent)
        return tuple(order) if len(order) == len(self.nodes) else None

    def transition_probabilities(self) -> sp.csr_array:
        """Matrix over `nodes` (from, to), the root left out."""
        position = {name: i for i, name in enumerate(self.nodes)}
        arcs = [
            (position[name], position[child], probability)
            for name in self.nodes
            for child, probability in self._children[name]
        ]
        rows, columns, values = zip(*arcs, strict=True) if arcs else ((), (), ())
        shape = (len(self.nodes), len(self.nodes))
        return sp.csr_array((np.array(values, dtype=float), (rows, columns)), shape=shape)

    def _check_names(self) -> None:
        if not self.nodes:
            raise ModelError("nodes is empty; a graph needs at least one decision")
        for name in (self.root, *self.nodes):
            _check_name(name)
        names = list(self.nodes)
        if len(set(names)) < len(names):
            doubled = next(name for name in names if names.count(name) > 1)
            raise ModelError(f"node {doubled!r} is listed twice")
        if self.root in names:
            raise ModelError(f"{self.root!r} is the root and cannot be a decision; rename one")
        known, targets = {self.root, *names}, {target for _, target in self.arcs}
        if not known.issuperset(targets) or not known.issuperset([s for s, _ in self.arcs]):
            for source, target in self.arcs:
                for name in (source, target):
                    if name not in known:
                        raise ModelError(f"arc ({source!r}, {target!r}): node {name!r} is unknown")
        for name in names:
            if name not in targets:
                raise ModelError(f"node {name!r} has no arc leading to it; add one or remove it")

    def _check_probabilities(self) -> None:
        values = np.fromiter(self.arcs.values(), dtype=float, count=len(self.arcs))
        valid = (values >= 0.0) & (values <= 1.0 + PROBABILITY_TOLERANCE)  # NaN is not
        if not valid.all():
            source, target = list(self.arcs)[int(np.argmin(valid))]
            value = self.arcs[source, target]
            raise ModelError(f"arc ({source!r}, {target!r}) has probability {value}; give 0 to 1")
        back = [source for source, target in self.arcs if target == self.root]
        if back:
            raise ModelError(f"arc ({back[0]!r}, {self.root!r}) leads back to the root")

    def _check_sums(self, totals: Mapping[NodeName, float]) -> None:
        for name, total in totals.items():
            if total > 1.0 + PROBABILITY_TOLERANCE:
                raise ModelError(f"the arcs out of node {name!r} sum to {total}, more than 1")
        total = totals[self.root]
        if abs(total - 1.0) > PROBABILITY_TOLERANCE:
            raise ModelError(f"the arcs out of the root sum to {total}; they must sum to 1")

    def _distances(self) -> dict[NodeName, int]:
        """Fewest arcs from the root's listed children (arcs of probability 0 count)."""
        listed: dict[NodeName, list[NodeName]] = {}
        for source, target in self.arcs:
            listed.setdefault(source, []).append(target)
        distance: dict[NodeName, int] = {}
        frontier, depth = list(listed.get(self.root, [])), 0
        while frontier:
            fresh = [name for name in dict.fromkeys(frontier) if name not in distance]
            distance.update(dict.fromkeys(fresh, depth))
            frontier, depth = [t for name in fresh for t in listed.get(name, [])], depth + 1
        for name in self.nodes:
            if name not in distance:
                raise ModelError(f"node {name!r} cannot be reached from the root")
        return distance

    def _reachable(self) -> frozenset[NodeName]:
        reached: set[NodeName] = set()
        frontier: list[NodeName] = [self.root]
        while frontier:
            fresh = {k for name in frontier for k, _ in self._children[name]} - reached
            reached |= fresh
            frontier = list(fresh)
        return frozenset(reached)

    def _check_stops(self) -> None:
        stopping = {name for name in self.nodes if self._stop[name] > 0.0}
        frontier = list(stopping)
        while frontier:
            fresh = {p for name in frontier for p in self._parents[name]} - stopping
            stopping |= fresh
            frontier = list(fresh)
        for name in self.nodes:
            if name not in stopping:
                raise ModelError(
                    f"from node {name!r} the process never stops: give a cycle out-probabilities "
                    "that sum to less than 1 (a discount)"
                )


def _numbers(arcs: Mapping[tuple[NodeName, NodeName], Any]) -> dict[Any, float]:
    """The arcs with their probabilities as floats."""
    found = {}
    arc: Any = None
    try:
        for arc, probability in arcs.items():
            found[arc] = float(probability)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"arc {arc!r} has probability {arcs[arc]!r}; give a number from 0 to 1"
        ) from error
    return found


def _check_name(name: NodeName) -> None:
    """Reject names by which a node is not found again, in this process or from a file."""
    remedy = "give each node a number, a text, a date or a tuple of them"
    if name is None:
        raise ModelError(f"node name None: stands for no node; {remedy}")
    try:
        hash(name)
        same = _equals_itself(name)
    except (TypeError, ValueError) as error:
        raise ModelError(f"node name {name!r}: must be hashable ({error}); {remedy}") from error
    if not same:
        raise ModelError(f"node name {name!r}: is not equal to itself, as NaN and NaT; {remedy}")


def _equals_itself(name: Any) -> bool:
    """Whether a name, and each part of a tuple, equals itself; tuples look at identity first."""
    if isinstance(name, tuple | frozenset):
        return all(_equals_itself(part) for part in name)
    return bool(name == name)


def _rest(total: float) -> float:
    """What the probabilities leave of 1; a rest that is rounding is none."""
    rest = 1.0 - total
    return rest if rest > PROBABILITY_TOLERANCE else 0.0


@dataclass(frozen=True)
class MarkovGraph(Graph):
    """A graph whose nodes are ``(stage, markov state)``; made by `markov_graph`."""

    def node(self, name: NodeName) -> Node:
        """The `Node`, which knows its Markov state."""
        stage, state = cast(tuple[int, int], name)
        return Node(name, stage, state)


def linear_graph(n_stages: int) -> Graph:
    """Decisions ``0, 1, ..., n_stages - 1``, one after the other.

    >>> linear_graph(3).children(0)
    ((1, 1.0),)
    """
    if n_stages < 1:
        raise ModelError(f"n_stages = {n_stages}; at least one decision is needed")
    chain: list[Any] = ["root", *range(n_stages)]
    return Graph(range(n_stages), dict.fromkeys(itertools.pairwise(chain), 1.0))


def markov_graph(
    transition_matrices: Sequence[ArrayLike] | None = None,
    *,
    transition_matrix: ArrayLike | None = None,
    n_stages: int | None = None,
    initial: int | ArrayLike = 0,
) -> MarkovGraph:
    """Decisions ``(t, k)``: stage ``t`` in Markov state ``k``.

    Parameters
    ----------
    transition_matrices : sequence of arrays
        One per stage; the first, of one row, leads from the root to stage 0. Row = from,
        column = to. Matrices need not be square: states may differ between stages.
    transition_matrix, n_stages, initial :
        Instead: one square matrix for all stages, the number of decisions, and the state at
        stage 0 (an integer, or probabilities).

    Raises
    ------
    ModelError
        Sizes do not fit, or `Graph` refuses the arcs.
    """
    if transition_matrices is None:
        matrices = _stationary_chain(transition_matrix, n_stages, initial)
    else:
        matrices = [np.atleast_2d(np.asarray(m, dtype=float)) for m in transition_matrices]
    nodes: list[tuple[int, int]] = []
    arcs: dict[tuple[NodeName, NodeName], float] = {}
    sources: list[NodeName] = ["root"]
    for stage, matrix in enumerate(matrices):
        if matrix.ndim != 2 or matrix.shape[0] != len(sources):
            raise ModelError(
                f"the matrix into stage {stage} has shape {matrix.shape}; it needs "
                f"{len(sources)} rows, one for each state before it"
            )
        targets = [(stage, k) for k in range(matrix.shape[1])]
        for source, row in zip(sources, matrix.tolist(), strict=True):
            arcs.update({(source, target): p for target, p in zip(targets, row, strict=True)})
        nodes.extend(targets)
        sources = list(targets)
    return MarkovGraph(nodes, arcs)


def _stationary_chain(
    transition_matrix: ArrayLike | None, n_stages: int | None, initial: int | ArrayLike
) -> list[Floats]:
    if transition_matrix is None or n_stages is None or n_stages < 1:
        raise ModelError("give transition_matrices, or transition_matrix and n_stages >= 1")
    matrix: Floats = np.asarray(transition_matrix, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ModelError(f"transition_matrix has shape {matrix.shape}; it must be square")
    start = np.asarray(initial)
    if start.ndim == 0:
        if not 0 <= int(start) < len(matrix):
            raise ModelError(f"initial = {int(start)} is outside 0..{len(matrix) - 1}")
        start = np.eye(len(matrix))[int(start)]
    return [start[None, :].astype(float), *([matrix] * (n_stages - 1))]
