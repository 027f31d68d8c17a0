"""All that training finds, in one place: cuts of every node, and which outcomes were followed.

One object is the owner of this state. Linear programs read from it, passes add to it, a checkpoint
is a copy of it, and what one path adds reaches the others as `CutUpdates`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from sddp.arrays import PROBABILITY_TOLERANCE, Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import Branch, Step, Successors
from sddp.engine.value.checkpoint import NodeState
from sddp.engine.value.cost_to_go import Child, Outcomes
from sddp.engine.value.coverage import Coverage
from sddp.engine.value.cut_updates import CutUpdates
from sddp.engine.value.cuts import Cut, Cuts, ValueFunction
from sddp.engine.value.initial_cuts import averse_nodes, value_function
from sddp.engine.value.outcomes import first_outcomes, outcomes_after
from sddp.errors import ModelError
from sddp.risk import RiskMeasure, as_risk_measure

RiskChoice = RiskMeasure | Mapping[NodeName, RiskMeasure] | None
Arcs = Sequence[tuple[NodeName, float]]


class ValueFunctions(Mapping[NodeName, ValueFunction]):
    """The value function of each node as far as it is known, by node name.

    Parameters
    ----------
    problem : Problem
    risk : RiskMeasure, or mapping from node name to RiskMeasure, or None
        Measure between each node's decision and the next; expectation for nodes left out.
    states : mapping from node name to NodeState, optional
        Of a checkpoint, taken over as they are; initial cuts else.

    Attributes
    ----------
    cost_to_go : dict of Cuts
        Cuts of each node's cost-to-go, where the cut form makes them.
    coverage : Coverage
    """

    def __init__(
        self,
        problem: Problem,
        risk: RiskChoice,
        states: Mapping[NodeName, NodeState] | None = None,
    ) -> None:
        self.problem, self.risk = problem, risk_by_node(problem, risk)
        bent = [m for m in self.risk.values() if not m.positively_homogeneous]
        if problem.homogeneous and bent:
            raise ModelError(
                f"{bent[0]!r} is not positively homogeneous, but the stages are declared "
                "homogeneous, so cuts could not be shared between states of different size; use "
                "CVaR, or drop the declaration"
            )
        averse = averse_nodes(self.risk)
        self._functions = {name: value_function(problem, name, averse) for name in self.risk}
        self.cost_to_go = {name: Cuts.none(problem.n_components) for name in self.risk}
        self.coverage = Coverage(problem)
        self._updates = CutUpdates()
        self._outcomes: dict[NodeName, Outcomes | None] = {}
        for name, state in (states or {}).items():
            self._restore(name, state)

    def __getitem__(self, name: NodeName) -> ValueFunction:
        return self._functions[name]

    def __iter__(self) -> Iterator[NodeName]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def outcomes(self, name: NodeName) -> Outcomes | None:
        """What may follow a decision at a node; None where nothing does."""
        if name not in self._outcomes:
            arcs = self.problem.graph.children(name)
            self._outcomes[name] = self.outcomes_of(arcs, self.risk[name]) if arcs else None
        return self._outcomes[name]

    def outcomes_of(self, arcs: Arcs, risk: RiskMeasure) -> Outcomes:
        """Outcomes for given children and probabilities; what is missing to 1 stops."""
        children = [
            Child(name, p, self.problem.stages[name].transition, self[name]) for name, p in arcs
        ]
        rest = 1.0 - sum(p for _, p in arcs)
        rest = rest if rest > PROBABILITY_TOLERANCE else 0.0
        names = [name for name, _ in arcs]
        seen = outcomes_after(risk, self.problem.stages, names, rest > 0.0)
        return Outcomes(children, rest, risk, seen)

    def add_cuts(self, name: NodeName, state: Floats, cuts: Cuts) -> None:
        """Add a cut for each noise of a node, made at one incoming state."""
        self._functions[name].add(state, cuts, self.problem.stages[name].noise.probabilities)
        self._updates.cuts.append((name, state, cuts))

    def add_cost_to_go_cut(self, name: NodeName, cut: Cut, outgoing: Floats) -> None:
        """Add a cut of a node's cost-to-go, made at `outgoing`."""
        self.cost_to_go[name].add_if_better(cut, outgoing, self.problem.money)
        self._updates.cost_to_go.append((name, cut, outgoing))

    def add_feasibility_cut(self, name: NodeName, cut: Cut) -> None:
        """Add a cut ``intercept + slope.x <= 0`` that holds where a node has a decision."""
        self._functions[name].add_feasibility_cut(cut)
        self._updates.feasibility.append((name, cut))

    def note_path(self, steps: Sequence[Step]) -> None:
        """Count the outcomes that a path has followed."""
        self.coverage.note_path(steps)
        self._updates.followed.extend(steps)

    def note_beside(self, name: NodeName, step: Step) -> None:
        """Count an outcome that was followed beside a path, after a decision at `name`."""
        self.coverage.note_trip(name, step)
        self._updates.beside.append((name, step))

    def take_updates(self) -> CutUpdates:
        """What was added here since the last call."""
        updates, self._updates = self._updates, CutUpdates()
        return updates

    def apply(self, updates: CutUpdates) -> None:
        """Add what was added to other value functions of the same problem, risk and cut form."""
        own = self._updates
        self._updates = CutUpdates()  # the others know what they found
        for name, state, cuts in updates.cuts:
            self.add_cuts(name, state, cuts)
        for name, cut, outgoing in updates.cost_to_go:
            self.add_cost_to_go_cut(name, cut, outgoing)
        for name, cut in updates.feasibility:
            self.add_feasibility_cut(name, cut)
        self.note_path(updates.followed)
        for name, step in updates.beside:
            self.note_beside(name, step)
        self._updates = own

    def successors(self, name: NodeName, outgoing: Floats) -> Successors:
        """What may follow a decision at a node, as sampling schemes see it."""
        outcomes = self.outcomes(name)
        branches = [
            Branch(c.name, len(c.value_function.pools), c.transition.n_realisations)
            for c in (outcomes.children if outcomes else ())
        ]
        n = sum(branch.n_noises * branch.n_arrivals for branch in branches)
        probabilities = outcomes.weights[:n] if outcomes else np.zeros(0)

        def evaluate() -> tuple[Floats, Floats]:
            if outcomes is None or not outcomes.ready:
                return np.full(n, np.nan), probabilities
            found = outcomes.evaluate(outgoing)
            return found.values[:n], found.q[:n]

        stop = outcomes.stop_probability if outcomes else 1.0
        visits = self.coverage.visits
        return Successors(
            self.problem, name, outgoing, branches, probabilities, stop, evaluate, visits
        )

    def first_successors(
        self, values: Callable[[], Floats] | None, root_risk: RiskMeasure
    ) -> Successors:
        """What may come before the first decision; `values` of its outcomes, where known."""
        problem = self.problem
        probabilities = np.array([p for _, _, p in problem.first_outcomes()])
        seen = first_outcomes(root_risk, problem)

        def evaluate() -> tuple[Floats, Floats]:
            if values is None:
                return np.full(len(probabilities), np.nan), probabilities
            known = values()
            return known, root_risk.adjust(probabilities, known, "min", seen)[0]

        names = [name for name, _ in problem.graph.children(problem.graph.root)]
        branches = [Branch(n, problem.stages[n].noise.n_realisations, 1) for n in names]
        visits = self.coverage.visits
        return Successors(problem, None, None, branches, probabilities, 0.0, evaluate, visits)

    def _restore(self, name: NodeName, state: NodeState) -> None:
        function = self._functions[name]
        for pool, cuts in zip(function.pools, state.pools, strict=True):
            pool.clear()  # of the initial cuts, which are among those stored
            pool.extend(cuts)
        function.feasibility.extend(state.feasibility)
        self.cost_to_go[name].extend(state.cost_to_go)


def risk_by_node(problem: Problem, risk: RiskChoice) -> dict[NodeName, RiskMeasure]:
    """One measure for each node; expectation where none is given."""
    if not isinstance(risk, Mapping):
        return dict.fromkeys(problem.graph.nodes, _checked(as_risk_measure(risk)))
    unknown = [name for name in risk if name not in problem.stages]
    if unknown:
        raise ModelError(f"risk names node {unknown[0]!r}, which is not in the graph")
    return {name: _checked(as_risk_measure(risk.get(name))) for name in problem.graph.nodes}


def _checked(measure: RiskMeasure) -> RiskMeasure:
    """The measure; a combination whose weights do not sum to 1 raises here, before any solve."""
    measure.tail_mixture()
    return measure
