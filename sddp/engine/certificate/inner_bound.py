"""A bound on the optimum from the inner side: what a policy built from known points attains.

Built backwards. At a point, an outgoing state of a node, the cost-to-go is at most the risk
measure of what every outcome guarantees; from these points each node's `InnerHull` guarantees a
value at any incoming state. By induction from the end the policy that decides by the hulls
(`InnerBound.decide`) costs at most the bound, for the cost-to-go is convex and a risk measure is
monotone and convex. All is true up to the rounding of linear programs (1e-9, relative).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.certificate.inner_hull import GuaranteedStep, InnerHull, missing_direction
from sddp.engine.certificate.inner_points import ByStage, corners, distinct
from sddp.engine.certificate.inner_program import KnownPoints
from sddp.engine.certificate.inner_slopes import Slopes
from sddp.engine.certificate.inner_stage import StageForm, stage_forms
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.transition import ScaleMap, StateMap
from sddp.engine.value.outcomes import first_outcomes, outcomes_after_node
from sddp.errors import ModelError
from sddp.lp import Effort
from sddp.risk import RiskMeasure

# Programs for each table of a sweep of few points.
PROGRAMS_EACH = 4

# Few tables need most of the linear programs: each may take as much as is left for so many alike.
TABLES_ALIKE = 3

# States asked at once: tables of (states x known bases) must not fill the memory.
BLOCK = 4_000


class Question(NamedTuple):
    """A state and noise at which a node was asked, and no combination was feasible."""

    node: NodeName
    state: Floats
    noise: int


class InnerBound:
    """Upper bound on the optimal cost of an acyclic problem; it falls as points are added.

    Parameters
    ----------
    problem : Problem
        Its graph has no cycle.
    risk : mapping from node name to RiskMeasure
    root_risk : RiskMeasure

    Attributes
    ----------
    cost : float
        In engine units (costs); infinite as long as nothing is guaranteed.
    effort : Effort
        Linear programs solved so far.
    n_points : mapping from node name to int
        Points with a guaranteed cost-to-go, of each node that another follows.
    """

    def __init__(
        self, problem: Problem, risk: Mapping[NodeName, RiskMeasure], root_risk: RiskMeasure
    ) -> None:
        order = problem.graph.reverse_topological()
        if order is None:
            raise ModelError("the graph has a cycle; the inner bound is built back from an end")
        self.problem, self.cost, self.effort = problem, np.inf, Effort()
        self._risk, self._root_risk = risk, root_risk
        self._order = [name for name in order if problem.graph.reaches(name)]
        self._forms: dict[tuple[int, bool], tuple[StageForm, ...]] = {}
        self._slopes = Slopes(problem, risk, self._forms_of, self.effort)
        self._hulls: dict[NodeName, InnerHull] = {}
        self._failures: dict[NodeName, Question] = {}
        self._askers = self._stages_of_parents()
        self._n_tables = sum(len(stages) for stages in self._askers.values())

    @property
    def value(self) -> float | None:
        """The bound in the user's units and sense; None as long as nothing is guaranteed."""
        return self.problem.sign * self.cost if np.isfinite(self.cost) else None

    @property
    def n_points(self) -> dict[NodeName, int]:
        """See the class."""
        known = {name: hull.points for name, hull in self._hulls.items()}
        return {name: len(p.values) for name, p in known.items() if p is not None}

    @property
    def least_programs(self) -> int:
        """Linear programs with which a first sweep is worth its while."""
        return self._slopes.n_programs() + PROGRAMS_EACH * self._n_tables

    def decide(self, node: NodeName, state: Floats, noise: int = 0) -> GuaranteedStep | None:
        """The best guaranteed decision, in engine units; None where nothing is feasible.

        Raises
        ------
        ModelError
            The node is unknown, or no sweep has ended yet.
        """
        if node not in self._hulls:
            raise ModelError(f"node {node!r} is not reached by the problem, or was never swept")
        return self._hulls[node].decide(state, noise)

    def sweep(self, states: ByStage, *, at_most: int | None = None) -> None:
        """Add points, from the last nodes back to the root.

        Parameters
        ----------
        states : mapping from stage of the graph to array (n, n_components)
            Outgoing states, the most important ones first; the corners of each node's box are
            always there. Points known from earlier sweeps stay.
        at_most : int, optional
            Linear programs to solve. Each node's share goes to its first points; later ones are
            left out where it is spent.
        """
        hulls: dict[NodeName, InnerHull] = {}
        self._failures.clear()
        kept = len(self.problem.first_outcomes()) + self._slopes.n_programs()
        later = _Later(self.effort, at_most, self._n_tables, kept)
        asked: dict[int, Floats] = {}
        for name in self._order:
            points = None
            if self.problem.graph.children(name):
                stage = self.problem.graph.node(name).stage
                if stage not in asked:
                    asked[stage] = self._asked(stage, states.get(stage))
                points = self._points(name, asked[stage], hulls, later)
            hulls[name] = InnerHull(
                self.problem.stages[name],
                self._forms_of(name),
                points,
                self.problem.homogeneous,
                self.problem.state_units,
                self.problem.accuracy,
                f"node {name!r}",
                self.effort,
            )
        self._hulls = hulls
        values = []
        for name, noise, _ in self.problem.first_outcomes():
            state = self.problem.initial_state(name)
            alone = np.zeros(1, dtype=np.int64)
            found = hulls[name].values(state[None, :], alone + noise, alone)
            values.append(float(found[0]))
            if not np.isfinite(found[0]):
                self._failures[self.problem.graph.root] = Question(name, state, noise)
        if np.isfinite(values).all():
            weights = [probability for _, _, probability in self.problem.first_outcomes()]
            risk, seen = self._root_risk, first_outcomes(self._root_risk, self.problem)
            self.cost = min(self.cost, risk.evaluate(weights, values, "min", seen))

    def explanation(self) -> str:
        """Why nothing is guaranteed: the node, and the direction that no combination reaches."""
        question = self._failures.get(self.problem.graph.root)
        if question is None:
            return "no sweep of the inner bound has ended"
        while self._hulls[question.node].empty and question.node in self._failures:
            cause = self._failures[question.node]
            if cause.node == question.node:
                return f"node {cause.node!r}: the linear programs allowed gave no point"
            question = cause
        sense, component = missing_direction(
            self._hulls[question.node], question.state, question.noise
        )
        what = f"{self.problem.labels[component]} {sense}" if component is not None else sense
        return (
            f"node {question.node!r}: no combination of the known points is feasible in a state "
            f"that is reached; direction: {what}"
        )

    def _forms_of(self, name: NodeName) -> tuple[StageForm, ...]:
        compiled = self.problem.stages[name]
        key = (id(compiled), bool(self.problem.graph.children(name)))
        if key not in self._forms:
            self._forms[key] = stage_forms(compiled, followed=key[1])
        return self._forms[key]

    def _stages_of_parents(self) -> dict[NodeName, set[int]]:
        graph = self.problem.graph
        askers: dict[NodeName, set[int]] = {name: set() for name in graph.nodes}
        for name in self._order:
            stage = graph.node(name).stage
            for child, _ in graph.children(name):
                askers[child].add(stage)
        return askers

    def _asked(self, stage: int, given: Floats | None) -> Floats:
        """Points whose cost-to-go a sweep computes at the nodes of a stage, the first ones first.

        Where the problem is homogeneous the corners come last: any mixture of other points that a
        decision can reach does as well, once there are some.
        """
        graph, d = self.problem.graph, self.problem.n_components
        names = [n for n in self._order if graph.node(n).stage == stage and graph.children(n)]
        parts = [np.zeros((0, d))] if given is None else [given]
        if not self._hulls:
            ends = [corners(self.problem, name) for name in names]
            parts = [*parts, *ends] if self.problem.homogeneous else [*ends, *parts]
        return distinct(np.vstack(parts))

    def _points(
        self,
        name: NodeName,
        states: Floats,
        hulls: Mapping[NodeName, InnerHull],
        later: _Later,
    ) -> KnownPoints:
        """What is known of a node's cost-to-go: new points, and those of earlier sweeps."""
        graph, stages = self.problem.graph, self.problem.stages
        stage = graph.node(name).stage
        tables, weights = [], []
        for child, probability in graph.children(name):
            if (stage, child) not in later.tables:
                table = self._later_values(child, states, hulls[child], later.share())
                later.tables[stage, child] = table
                if len(self._askers[child]) == 1:  # nobody asks again: free the bases' memory
                    hulls[child].forget_bases()
            table = later.tables[stage, child]
            if np.isinf(table).any() and child in self._failures:
                self._failures[name] = self._failures[child]
            tables.append(table)
            compiled = stages[child]
            joint = np.outer(compiled.noise.probabilities, compiled.transition.probabilities)
            weights.append(probability * joint.ravel())
        stop = graph.stop_probability(name)
        if stop > 0.0:
            tables.append(np.zeros((len(states), 1)))
            weights.append(np.array([stop]))
        outcomes, chances = np.hstack(tables), np.concatenate(weights)
        usable = np.isfinite(outcomes).all(axis=1)
        risk = self._risk[name]
        seen = outcomes_after_node(risk, self.problem, name)
        rows = [risk.evaluate(chances, row, "min", seen) for row in outcomes[usable]]
        values = np.array(rows, dtype=float)
        up, down = self._slopes.of(name)
        known = self._hulls[name].points if name in self._hulls else None
        return _merged(known, KnownPoints(states[usable], values, up, down))

    def _later_values(
        self, child: NodeName, states: Floats, hull: InnerHull, at_most: int | None
    ) -> Floats:
        """Guaranteed value of every outcome after each point, shape (n_points, n_w * n_e).

        All of a point's are infinite once one is; NaN where `at_most` programs were solved.
        """
        compiled = self.problem.stages[child]
        n_w, n_e = compiled.noise.n_realisations, compiled.transition.n_realisations
        values = np.full((len(states), n_w * n_e), np.nan)
        together = max(1, BLOCK // (n_w * n_e))
        for i in range(0, len(states), together):
            arrived = _arrivals(compiled.transition, states[i : i + together])
            n = len(arrived)
            asked = np.repeat(arrived[:, None], n_w, axis=1).reshape(-1, arrived.shape[2])
            noises = np.tile(np.repeat(np.arange(n_w), n_e), n)
            points = np.repeat(np.arange(n), n_w * n_e)
            before = self.effort.solves
            found = hull.values(asked, noises, points, at_most)
            bad = np.flatnonzero(np.isinf(found))
            if len(bad) and child not in self._failures:
                first = int(bad[0])
                self._failures[child] = Question(child, asked[first], int(noises[first]))
            values[i : i + together] = found.reshape(n, -1)
            if at_most is not None:
                at_most -= self.effort.solves - before
                if at_most <= 0:
                    break
        return values


class _Later:
    """Values after the points of a sweep, by stage and child, and the programs left for them."""

    def __init__(self, effort: Effort, at_most: int | None, n_tables: int, kept: int) -> None:
        self.tables: dict[tuple[int, NodeName], Floats] = {}
        self._effort, self._n_tables = effort, n_tables
        self._end = None if at_most is None else effort.solves + at_most - kept

    def share(self) -> int | None:
        """Linear programs for the next table."""
        if self._end is None:
            return None
        left = self._end - self._effort.solves
        return max(0, left // min(self._n_tables - len(self.tables), TABLES_ALIKE))


def _arrivals(transition: StateMap, outgoing: Floats) -> Floats:
    """Incoming states of every realization, shape (n, n_realizations, n_components)."""
    if isinstance(transition, ScaleMap):
        arrived = outgoing[:, None, :] * transition.scale
        return arrived if transition.shift is None else arrived + transition.shift
    each = [transition.arrive(outgoing, e) for e in range(transition.n_realisations)]
    return np.stack(each, axis=1)


def _merged(known: KnownPoints | None, new: KnownPoints) -> KnownPoints:
    """Points of both, each once and at the lower of its values."""
    if known is None or len(known.values) == 0:
        return new
    states = np.vstack([known.states, new.states])
    values = np.concatenate([known.values, new.values])
    different, place = _different(states)
    least = np.full(len(different), np.inf)
    np.minimum.at(least, place, values)
    return KnownPoints(states[different], least, new.up, new.down)


def _different(states: Floats) -> tuple[Ints, Ints]:
    """Position of the first of each group of equal states, and the group of each state."""
    _, first, place = np.unique(states, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return first[order], rank[place.ravel()]
