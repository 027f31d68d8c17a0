"""Value functions, outcomes and LPs of all nodes, wired together along the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sddp.arrays import PROBABILITY_TOLERANCE, Floats, read_only
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import Branch, Step, Successors
from sddp.engine.model.stage_data import StageData
from sddp.engine.subproblem.compile import PresolvedStage, compile_problem
from sddp.engine.subproblem.feasibility import FeasibilityCut
from sddp.engine.subproblem.lazy_constraints import RowPool
from sddp.engine.subproblem.solutions import NoiseSolutions
from sddp.engine.subproblem.subproblem import NodeProblem, Work
from sddp.engine.subproblem.theta_bounds import cost_to_go_bounds
from sddp.engine.value.checkpoint import NodeMemory, Snapshot
from sddp.engine.value.cost_to_go import Child, CutForm, LazyAggregation, Outcomes, Support
from sddp.engine.value.coverage import Coverage
from sddp.engine.value.cut_updates import AveragedCut, CutsAt, News
from sddp.engine.value.cuts import CutPool, Cuts
from sddp.engine.value.initial_cuts import value_function
from sddp.errors import InfeasibleProblem, ModelError, NumericalWarning
from sddp.lp import FEASIBILITY_TOLERANCE
from sddp.risk import RiskMeasure, as_risk_measure

RiskChoice = RiskMeasure | Mapping[NodeName, RiskMeasure] | None
Arcs = Sequence[tuple[NodeName, float]]

# Cuts of a homogeneous stage pass through the origin; what an LP leaves beside it, relative to
# a state of size 1, stays below this. A larger miss means the stage is not homogeneous.
HOMOGENEITY_TOLERANCE = 1e-6


# Decisions that are noted of one state, for the inner bound, where there are more noises.
MOST_NOTED = 8


class _Nodes(dict[NodeName, NodeProblem]):
    """Linear programmes by node, built when they are first asked for."""

    def __init__(self, build: Callable[[NodeName], NodeProblem]) -> None:
        super().__init__()
        self._build = build

    def __missing__(self, name: NodeName) -> NodeProblem:
        node = self[name] = self._build(name)
        return node


class Network:
    """Everything that training grows and a policy reads.

    Parameters
    ----------
    problem : Problem
    risk : RiskMeasure, or mapping from node name to RiskMeasure, or None
        Measure between each node's decision and the next; expectation for nodes left out.
    cuts : CutForm
    snapshot : Snapshot, optional
        What an earlier network had learnt, taken over as it is.
    trains_to : float, optional
        Given where the network is there to learn: the tolerance at which training ends. Nodes
        then hand generated rows to each other and, above it, look at the cuts that matter. A
        policy's must do neither, for answers would depend on earlier ones.
    theta_lower : mapping from node name to float, optional
        Bounds on the cost-to-go, where they are known; computed or those of the snapshot else.
    """

    def __init__(
        self,
        problem: Problem,
        risk: RiskChoice,
        cuts: CutForm,
        snapshot: Snapshot | None = None,
        *,
        trains_to: float | None = None,
        theta_lower: Mapping[NodeName, float] | None = None,
    ) -> None:
        self.problem, self.cuts, self.work = problem, cuts, Work()
        self.risk = risk_by_node(problem, risk)
        bent = [m for m in self.risk.values() if not m.positively_homogeneous]
        if problem.homogeneous and bent:
            raise ModelError(
                f"{bent[0]!r} is not positively homogeneous, but the stages are declared "
                "homogeneous, so cuts could not be shared between states of different size; use "
                "CVaR, or drop the declaration"
            )
        self.value_functions = {n: value_function(problem, n, self.risk) for n in self.risk}
        if theta_lower is None:
            theta_lower = (
                snapshot.theta_lower
                if snapshot
                else cost_to_go_bounds(problem, self.risk.__getitem__)
            )
        self.theta_lower = theta_lower
        # The last state at which each node was solved: from there a policy starts its answers.
        self.references: dict[NodeName, Floats] = {}
        # Running means of the decisions at each node, of size 1 where that has a meaning.
        self.averages_of_decisions: dict[NodeName, Floats] = {}
        self.coverage = Coverage(problem)
        self._news = News()
        self.exact = compile_problem(problem).exact
        # Averaged cuts of each node's cost-to-go; filled by `AverageCut` only.
        self.averages = {
            n: CutPool(problem.n_components, problem.money) for n in problem.graph.nodes
        }
        self._learn_beforehand(snapshot)
        self._trains_to = trains_to
        self._row_pools = {} if trains_to is None else _row_pools(problem)
        memories = snapshot.nodes if snapshot else {}
        self.nodes = _Nodes(lambda name: self._node(name, memories.get(name)))
        if (
            snapshot and trains_to is not None
        ):  # training goes on: rows must be restored before cuts come
            for name in problem.graph.nodes:
                self.nodes[name].write_new_rows()

    @classmethod
    def restored(
        cls, problem: Problem, snapshot: Snapshot, *, trains_to: float | None = None
    ) -> Network:
        """The network that was frozen."""
        return cls(problem, snapshot.risk, snapshot.cuts, snapshot, trains_to=trains_to)

    def freeze(self, root_risk: RiskMeasure, tolerance: float) -> Snapshot:
        """All that was learnt, rows in canonical order."""
        for name in self.problem.graph.nodes:
            self.nodes[name].write_new_rows()
        return Snapshot(
            risk=self.risk,
            root_risk=root_risk,
            cuts=self.cuts,
            tolerance=tolerance,
            theta_lower=self.theta_lower,
            nodes={name: self._memory(name) for name in self.problem.graph.nodes},
        )

    def outcomes(self, arcs: Arcs, risk: RiskMeasure) -> Outcomes:
        """Outcomes for given children and probabilities; what is missing to 1 stops."""
        stages = self.problem.stages
        children = [
            Child(name, p, stages[name].transition, self.value_functions[name]) for name, p in arcs
        ]
        rest = 1.0 - sum(p for _, p in arcs)
        return Outcomes(children, rest if rest > PROBABILITY_TOLERANCE else 0.0, risk)

    def extra_node(
        self, stage: PresolvedStage, arcs: Arcs, risk: RiskMeasure, name: str
    ) -> NodeProblem:
        """LP of a decision outside the graph that is followed by nodes of it."""
        compiled = stage.compiled
        self._check_extra(compiled, arcs, name)
        if compiled.states.labels != self.problem.labels or compiled.sign != self.problem.sign:
            raise ModelError(f"{name}: states or sense differ from the problem's")
        node = self._lp(stage, LazyAggregation(), arcs, risk, -np.inf, name)
        node.add_first_rows(self._n_first_rows(arcs))
        return node

    def _n_first_rows(self, arcs: Arcs) -> int:
        """Cuts given before training bound the cost-to-go; where there are none, all together."""
        given = max(len(self.problem.initial_cuts[child]) for child, _ in arcs)
        return given or max(
            len(pool) for child, _ in arcs for pool in self.value_functions[child].pools
        )

    def normalised(self, state: Floats) -> tuple[Floats, float]:
        """The state scaled to size 1 (sum of absolute values) and its size, if homogeneous."""
        size = float(np.abs(state).sum()) if self.problem.homogeneous else 1.0
        return (state / size, size) if size > 0.0 else (state, 1.0)

    def _check_extra(self, compiled: StageData, arcs: Arcs, name: str) -> None:
        total = sum(p for _, p in arcs)
        valid = all(p >= 0.0 for _, p in arcs) and total <= 1.0 + PROBABILITY_TOLERANCE
        if not arcs or not valid:  # NaN is not valid
            raise ModelError(
                f"{name}: arcs have probabilities {[p for _, p in arcs]}; give at least one, none "
                "negative, that sum to at most 1"
            )
        if compiled.noise.names:
            raise ModelError(
                f"{name}: the stage has noise before the decision; decide once it is seen, in a "
                "stage that holds its values"
            )
        for child, _ in arcs:
            if child not in self.value_functions:
                raise ModelError(f"{name}: node {child!r} is unknown")
            if not self.value_functions[child].ready:
                raise ModelError(f"{name}: node {child!r} follows but has no cuts; train more")

    def renew(self, name: NodeName, memory: NodeMemory) -> NodeProblem:
        """Build the LP of a node anew, with the rows of `memory`."""
        self.nodes[name] = self._node(name, memory)
        return self.nodes[name]

    def solve_noises(self, name: NodeName, incoming: Floats, tolerance: float) -> NoiseSolutions:
        """Solutions of a node for every noise at one incoming state."""
        node = self.nodes[name]
        self.references[name] = incoming
        solutions = node.solve_all(incoming, tolerance)
        if not solutions.refused:
            node.rest()
            if node.cost_to_go is not None and self._trains_to is not None:
                every = -(-len(solutions) // MOST_NOTED)
                self._news.decisions.append((name, solutions.outgoing[::every].copy()))
        return solutions

    def learn(self, name: NodeName, incoming: Floats, solutions: NoiseSolutions) -> None:
        """Turn solutions for every noise of a node into cuts of its value function."""
        for cut in solutions.refused.values():
            self.refuse(name, cut)
        if solutions.refused:
            return
        slopes, intercepts = solutions.slopes, solutions.intercepts.copy()
        if self.problem.homogeneous:
            self._check_origin(name, intercepts)
            intercepts[:] = 0.0
        self._take_in_cuts(name, incoming, slopes, intercepts)
        self._news.cuts.append(CutsAt(name, incoming, slopes, intercepts))

    def refuse(self, name: NodeName, cut: FeasibilityCut) -> None:
        """Take in a feasibility cut.

        Raises
        ------
        InfeasibleProblem
            No incoming state is feasible at the node, so no earlier decision can help.
        """
        if cut.hopeless:
            raise InfeasibleProblem(
                f"node {name!r} has no feasible decision from any incoming state (its rows miss "
                f"feasibility by {cut.shortfall:g}); relax its constraints; "
                f"{self.nodes[name].why_infeasible(cut)}"
            )
        self.value_functions[name].refuse(cut.slope, cut.intercept)
        self._news.refusals.append((name, cut))

    def learn_average(self, name: NodeName, support: Support, outgoing: Floats) -> None:
        """Take in an averaged cut of a node's cost-to-go, made at `outgoing`."""
        self.averages[name].add_if_better(support.slope, support.constant, outgoing)
        self._news.averages.append(AveragedCut(name, support, outgoing))

    def note_path(self, steps: Sequence[Step]) -> None:
        """Count the outcomes that a path has followed."""
        self.coverage.note_path(steps)
        self._news.followed.extend(steps)

    def note_trip(self, name: NodeName, step: Step) -> None:
        """Count an outcome that was followed beside a path, after a decision at `name`."""
        self.coverage.note_trip(name, step)
        self._news.trips.append((name, step))

    def successors(self, name: NodeName, outgoing: Floats) -> Successors:
        """What may follow a decision at a node, as sampling schemes see it."""
        cost_to_go = self.nodes[name].cost_to_go
        outcomes = cost_to_go.outcomes if cost_to_go else None
        children = outcomes.children if outcomes else ()
        branches = [
            Branch(c.name, len(c.value_function.pools), c.transition.n_realisations)
            for c in children
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

        def evaluate() -> tuple[Floats, Floats]:
            if values is None:
                return np.full(len(probabilities), np.nan), probabilities
            known = values()
            return known, root_risk.adjust(probabilities, known)[0]

        names = [name for name, _ in problem.graph.children(problem.graph.root)]
        branches = [Branch(n, problem.stages[n].noise.n_realisations, 1) for n in names]
        visits = self.coverage.visits
        return Successors(problem, None, None, branches, probabilities, 0.0, evaluate, visits)

    def take_news(self) -> News:
        """What was learnt here since the last call."""
        rows = [pool.take_fresh() for pool in self._row_pools.values()]
        news, self._news = replace(self._news, rows=rows), News()
        return news

    def hear(self, news: News) -> None:
        """Take in what a twin has learnt: a network of the same problem, risk and cut form."""
        for name, state, slopes, intercepts in news.cuts:
            self._take_in_cuts(name, state, slopes, intercepts)
        for name, support, outgoing in news.averages:
            self.averages[name].add_if_better(support.slope, support.constant, outgoing)
        for name, cut in news.refusals:
            self.value_functions[name].refuse(cut.slope, cut.intercept)
        for pool, rows in zip(self._row_pools.values(), news.rows, strict=True):
            pool.take_in(rows)
        self.coverage.note_path(news.followed)
        for name, step in news.trips:
            self.coverage.note_trip(name, step)

    def first_solutions(self, tolerance: float) -> dict[NodeName, NoiseSolutions]:
        """Solutions of the first nodes at the initial state, of size 1 where homogeneous.

        Raises
        ------
        InfeasibleProblem
            A first decision is infeasible.
        """
        found: dict[NodeName, NoiseSolutions] = {}
        for name, _ in self.problem.graph.children(self.problem.graph.root):
            incoming, _ = self.normalised(self.problem.initial_state(name))
            found[name] = self.solve_noises(name, incoming, tolerance)
            if found[name].refused:
                raise self.infeasible_problem(name, next(iter(found[name].refused.values())))
        return found

    def infeasible_problem(self, name: NodeName, cut: FeasibilityCut) -> InfeasibleProblem:
        """Error for a first node that has no decision."""
        return InfeasibleProblem(
            f"the problem is infeasible: at node {name!r} no decision from the initial state keeps "
            f"all constraints, now and later (least total violation {cut.shortfall:g}); "
            f"{self.nodes[name].why_infeasible(cut)}"
        )

    def root_value(
        self, firsts: Mapping[NodeName, NoiseSolutions], root_risk: RiskMeasure
    ) -> float:
        """Value of the problem, in engine units, by the solutions of its first nodes."""
        weights = [probability for _, _, probability in self.problem.first_outcomes()]
        return root_risk.evaluate(weights, self.first_values(firsts))

    def first_values(self, firsts: Mapping[NodeName, NoiseSolutions]) -> Floats:
        """What each outcome before the first decision is worth, by the first nodes' solutions."""
        sizes = [self.normalised(self.problem.initial_state(name))[1] for name in firsts]
        return np.concatenate(
            [size * found.values for size, found in zip(sizes, firsts.values(), strict=True)]
        )

    def _take_in_cuts(
        self, name: NodeName, state: Floats, slopes: Floats, intercepts: Floats
    ) -> None:
        probabilities = self.problem.stages[name].noise.probabilities
        self.value_functions[name].learn(state, slopes, intercepts, probabilities)

    def _check_origin(self, name: NodeName, intercepts: Floats) -> None:
        miss = float(np.abs(intercepts).max())
        if miss > HOMOGENEITY_TOLERANCE * self.problem.money:
            self.work.warnings += 1
            warnings.warn(
                f"node {name!r}: a cut misses the origin by {miss:g} though the stage is declared "
                "homogeneous; check that all constraints are cones",
                NumericalWarning,
                stacklevel=2,
            )

    def _learn_beforehand(self, snapshot: Snapshot | None) -> None:
        for name in self.problem.graph.nodes:
            if snapshot:
                self._recall(name, snapshot.nodes[name])
            elif name in self.exact:
                exact = compile_problem(self.problem).exact_values(name)
                noise = self.problem.stages[name].noise
                self.value_functions[name].replace(*exact, noise.probabilities)

    def _memory(self, name: NodeName) -> NodeMemory:
        function, node = self.value_functions[name], self.nodes[name]
        return NodeMemory(
            pools=[_frozen(pool) for pool in function.pools],
            feasibility=_frozen(function.feasibility),
            averages=_frozen(self.averages[name]),
            rows=node.programme.rows.table().canonical(),
            reference=self.references.get(name),
        )

    def _recall(self, name: NodeName, memory: NodeMemory) -> None:
        function = self.value_functions[name]
        for pool, cuts in zip(function.pools, memory.pools, strict=True):
            pool.clear()  # of the initial cuts, which are among those stored
            pool.extend(cuts.slopes, cuts.intercepts)
        function.feasibility.extend(memory.feasibility.slopes, memory.feasibility.intercepts)

    def _node(self, name: NodeName, memory: NodeMemory | None) -> NodeProblem:
        node = self._lp(
            compile_problem(self.problem).stages[name],
            self.cuts,
            self.problem.graph.children(name),
            self.risk[name],
            self.theta_lower.get(name, -np.inf),
            f"node {name!r}",
        )
        if node.cost_to_go:
            node.cost_to_go.averages = self.averages[name]
            if self._trains_to is not None:
                node.cost_to_go.select_cuts(max(self._trains_to, FEASIBILITY_TOLERANCE))
        if memory:
            node.restore(memory)
        elif node.theta_lower == -np.inf and node.cost_to_go and node.cost_to_go.outcomes.ready:
            node.add_first_rows(self._n_first_rows(self.problem.graph.children(name)))
        return node

    def _lp(
        self,
        stage: PresolvedStage,
        cuts: CutForm,
        arcs: Arcs,
        risk: RiskMeasure,
        theta_lower: float,
        name: str,
    ) -> NodeProblem:
        return NodeProblem(
            stage,
            cuts.attach(self.outcomes(arcs, risk)) if arcs else None,
            theta_lower=theta_lower,
            money=self.problem.money,
            scaling=self.problem.scaling(stage.compiled),
            accuracy=self.problem.accuracy,
            name=name,
            work=self.work,
            row_pool=self._row_pool(stage.compiled),
        )

    def _row_pool(self, compiled: StageData) -> RowPool | None:
        generator = compiled.rows
        return self._row_pools.get(generator.pool_key) if generator is not None else None


def _row_pools(problem: Problem) -> dict[Hashable, RowPool]:
    """A pool for each key, in the order of the nodes: the same for all networks of a problem."""
    pools: dict[Hashable, RowPool] = {}
    for compiled in problem.stages.values():
        if compiled.rows is not None:
            pools.setdefault(compiled.rows.pool_key, RowPool(len(compiled.generator_columns)))
    return pools


def _frozen(pool: CutPool) -> Cuts:
    return Cuts(read_only(pool.slopes), read_only(pool.intercepts))


def risk_by_node(problem: Problem, risk: RiskChoice) -> dict[NodeName, RiskMeasure]:
    """One measure for each node; expectation where none is given."""
    if not isinstance(risk, Mapping):
        return dict.fromkeys(problem.graph.nodes, as_risk_measure(risk))
    unknown = [name for name in risk if name not in problem.stages]
    if unknown:
        raise ModelError(f"risk names node {unknown[0]!r}, which is not in the graph")
    return {name: as_risk_measure(risk.get(name)) for name in problem.graph.nodes}
