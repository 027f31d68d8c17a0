"""The linear programs of all nodes, over one set of value functions."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping
from dataclasses import replace

import numpy as np

from sddp.arrays import PROBABILITY_TOLERANCE, Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.compile import CompiledProblem, compile_problem
from sddp.engine.presolve.presolve import PresolvedStage
from sddp.engine.presolve.theta_bounds import cost_to_go_bounds
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.lazy_constraints import RowPool
from sddp.engine.subproblem.solutions import NoiseSolutions, Work
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.value.checkpoint import Checkpoint, NodeState
from sddp.engine.value.cost_to_go import CostToGo, CutForm
from sddp.engine.value.cut_forms import LazyAggregation
from sddp.engine.value.cut_updates import CutUpdates
from sddp.engine.value.cuts import Cuts
from sddp.engine.value.value_functions import Arcs, RiskChoice, ValueFunctions
from sddp.errors import InfeasibleProblem, ModelError, NumericalWarning
from sddp.lp import FEASIBILITY_TOLERANCE
from sddp.risk import RiskMeasure

# Cuts of a homogeneous stage pass through the origin; what an LP leaves beside it, relative to
# a state of size 1, stays below this. A larger miss means the stage is not homogeneous.
HOMOGENEITY_TOLERANCE = 1e-6

# Decisions that are noted of one state, for the inner bound, where there are more noises.
MOST_NOTED = 8


class Subproblems:
    """One subproblem for each node, built when it is first asked for.

    Parameters
    ----------
    compiled : CompiledProblem
    value_functions : ValueFunctions
        Read by the subproblems, added to by `add_cuts`.
    cuts : CutForm
    theta_lower : mapping from node name to float
        Lower bounds on the cost-to-go.
    states : mapping from node name to NodeState
        Of a checkpoint: rows that a subproblem starts with.
    trains_to : float, optional
        Given in training: the tolerance at which it ends. Nodes then hand generated rows to each
        other and, above it, look at the cuts that matter. A policy's must do neither, for answers
        would depend on earlier ones.
    """

    # Who solves the programs in training; see `TrainingResult`.
    stage_solver = "highs"

    def __init__(
        self,
        compiled: CompiledProblem,
        value_functions: ValueFunctions,
        cuts: CutForm,
        theta_lower: Mapping[NodeName, float],
        states: Mapping[NodeName, NodeState],
        trains_to: float | None = None,
    ) -> None:
        self.compiled, self.problem = compiled, compiled.problem
        self.value_functions, self.cuts, self.theta_lower = value_functions, cuts, theta_lower
        self.work = Work()
        # The last state at which each node was solved: from there a policy starts its answers.
        self.references: dict[NodeName, Floats] = {}
        # Outgoing states of solutions, for the inner bound of a training.
        self.decisions: list[tuple[NodeName, Floats]] = []
        self._states, self._trains_to = states, trains_to
        self._row_pools = {} if trains_to is None else _row_pools(self.problem)
        self._built: dict[NodeName, Subproblem] = {}

    def __getitem__(self, name: NodeName) -> Subproblem:
        if name not in self._built:
            self._built[name] = self._build(name, self._states.get(name))
        return self._built[name]

    def rebuild(self, name: NodeName, state: NodeState) -> Subproblem:
        """Build the subproblem of a node anew, with the rows of `state`."""
        self._built[name] = self._build(name, state)
        return self._built[name]

    def drop(self, name: NodeName) -> None:
        """Free the subproblem of a node; it is built anew when asked for."""
        self._built.pop(name, None)

    def extra(self, stage: PresolvedStage, arcs: Arcs, risk: RiskMeasure, name: str) -> Subproblem:
        """Subproblem of a decision outside the graph that is followed by nodes of it."""
        self._check_extra(stage, arcs, name)
        cost_to_go = LazyAggregation().attach(self.value_functions.outcomes_of(arcs, risk))
        node = self._subproblem(stage, cost_to_go, -np.inf, name)
        node.add_first_rows(self._n_first_rows(arcs))
        return node

    def add_cuts(self, name: NodeName, incoming: Floats, solutions: NoiseSolutions) -> None:
        """Turn solutions for every noise of a node into cuts of its value function."""
        self._note(name, incoming, solutions)
        for found in solutions.infeasible.values():
            self.add_feasibility_cut(name, found)
        if solutions.infeasible:
            return
        intercepts = solutions.intercepts.copy()
        if self.problem.homogeneous:
            self._check_origin(name, intercepts)
            intercepts[:] = 0.0
        self.value_functions.add_cuts(name, incoming, Cuts(solutions.slopes, intercepts))

    def add_feasibility_cut(self, name: NodeName, found: Infeasibility) -> None:
        """Add the feasibility cut of a node that has no decision.

        Raises
        ------
        InfeasibleProblem
            No incoming state is feasible at the node, so no earlier decision can help.
        """
        if found.everywhere:
            raise InfeasibleProblem(
                f"node {name!r} has no feasible decision from any incoming state (its rows miss "
                f"feasibility by {found.shortfall:g}); relax its constraints; "
                f"{self[name].why_infeasible(found)}"
            )
        self.value_functions.add_feasibility_cut(name, found.cut)

    def first_solutions(self, tolerance: float) -> dict[NodeName, NoiseSolutions]:
        """Solutions of the first nodes at the initial state, of size 1 where homogeneous.

        Raises
        ------
        InfeasibleProblem
            A first decision is infeasible.
        """
        solved: dict[NodeName, NoiseSolutions] = {}
        for name, _ in self.problem.graph.children(self.problem.graph.root):
            incoming, _ = self.problem.normalized(self.problem.initial_state(name))
            solved[name] = self[name].solve_all(incoming, tolerance)
            self._note(name, incoming, solved[name])
            for found in solved[name].infeasible.values():
                raise self.infeasible_problem(name, found)
        return solved

    def infeasible_problem(self, name: NodeName, found: Infeasibility) -> InfeasibleProblem:
        """Error for a first node that has no decision."""
        return InfeasibleProblem(
            f"the problem is infeasible: at node {name!r} no decision from the initial state keeps "
            f"all constraints, now and later (least total violation {found.shortfall:g}); "
            f"{self[name].why_infeasible(found)}"
        )

    def first_values(self, solved: Mapping[NodeName, NoiseSolutions]) -> Floats:
        """What each outcome before the first decision is worth, by the first nodes' solutions."""
        sizes = [self.problem.normalized(self.problem.initial_state(name))[1] for name in solved]
        return np.concatenate(
            [size * found.values for size, found in zip(sizes, solved.values(), strict=True)]
        )

    def take_updates(self) -> CutUpdates:
        """Cuts and generated rows that were added here since the last call."""
        updates = self.value_functions.take_updates()
        return replace(updates, rows=[pool.take_fresh() for pool in self._row_pools.values()])

    def apply(self, updates: CutUpdates) -> None:
        """Add what was added to the subproblems of another path."""
        self.value_functions.apply(updates)
        for pool, rows in zip(self._row_pools.values(), updates.rows, strict=True):
            pool.take_in(rows)

    def checkpoint(
        self, root_risk: RiskMeasure, tolerance: float, iterations: int = 0
    ) -> Checkpoint:
        """All that was found, rows in canonical order."""
        for name in self.problem.graph.nodes:
            self[name].write_new_rows()
        return Checkpoint(
            risk=self.value_functions.risk,
            root_risk=root_risk,
            cuts=self.cuts,
            tolerance=tolerance,
            theta_lower=self.theta_lower,
            nodes={name: self._state(name) for name in self.problem.graph.nodes},
            iterations=iterations,
            stage_solver=self.stage_solver,
        )

    def judge(self, checkpoint: Checkpoint) -> None:
        """Solve the programs of a checkpoint once more by HiGHS, where it did not solve these."""

    def _note(self, name: NodeName, incoming: Floats, solutions: NoiseSolutions) -> None:
        """Note where a node was solved, and what it decided there."""
        self.references[name] = incoming
        if solutions.infeasible:
            return
        self[name].remove_idle()
        if self[name].cost_to_go is not None and self._trains_to is not None:
            every = -(-len(solutions) // MOST_NOTED)
            self.decisions.append((name, solutions.outgoing[::every].copy()))

    def _check_origin(self, name: NodeName, intercepts: Floats) -> None:
        miss = float(np.abs(intercepts).max())
        if miss > HOMOGENEITY_TOLERANCE * self.problem.money:
            self.work.warnings += 1
            warnings.warn(
                f"node {name!r}: a cut misses the origin by {miss:g} though the stage is declared "
                "homogeneous; check that all constraints are cones, and that a given "
                "cost_to_go_bound holds",
                NumericalWarning,
                stacklevel=2,
            )

    def _state(self, name: NodeName) -> NodeState:
        function = self.value_functions[name]
        return NodeState(
            pools=[pool.frozen() for pool in function.pools],
            feasibility=function.feasibility.frozen(),
            cost_to_go=self.value_functions.cost_to_go[name].frozen(),
            rows=self[name].stage_lp.rows.canonical(),
            reference=self.references.get(name),
        )

    def _build(self, name: NodeName, state: NodeState | None) -> Subproblem:
        outcomes = self.value_functions.outcomes(name)
        cost_to_go = self.cuts.attach(outcomes) if outcomes else None
        theta_lower = self.theta_lower.get(name, -np.inf)
        stage = self.compiled.stages[name]
        node = self._subproblem(stage, cost_to_go, theta_lower, f"node {name!r}")
        if cost_to_go is not None:
            cost_to_go.cuts = self.value_functions.cost_to_go[name]
            if self._trains_to is not None:
                cost_to_go.select_cuts(max(self._trains_to, FEASIBILITY_TOLERANCE))
        if state is not None:
            node.restore(state.rows)
        elif cost_to_go is not None and theta_lower == -np.inf and cost_to_go.outcomes.ready:
            node.add_first_rows(self._n_first_rows(self.problem.graph.children(name)))
        return node

    def _subproblem(
        self, stage: PresolvedStage, cost_to_go: CostToGo | None, theta_lower: float, name: str
    ) -> Subproblem:
        generator = stage.compiled.rows
        return Subproblem(
            stage,
            cost_to_go,
            theta_lower=theta_lower,
            money=self.problem.money,
            scaling=self.problem.scaling(stage.compiled),
            accuracy=self.problem.accuracy,
            name=name,
            work=self.work,
            row_pool=self._row_pools.get(generator.pool_key) if generator is not None else None,
        )

    def _n_first_rows(self, arcs: Arcs) -> int:
        """Cuts given before training bound the cost-to-go; where there are none, all together."""
        given = max(len(self.problem.initial_cuts[child]) for child, _ in arcs)
        return given or max(
            len(pool) for child, _ in arcs for pool in self.value_functions[child].pools
        )

    def _check_extra(self, stage: PresolvedStage, arcs: Arcs, name: str) -> None:
        data, total = stage.compiled, sum(p for _, p in arcs)
        valid = all(p >= 0.0 for _, p in arcs) and total <= 1.0 + PROBABILITY_TOLERANCE
        if not arcs or not valid:  # NaN is not valid
            raise ModelError(
                f"{name}: arcs have probabilities {[p for _, p in arcs]}; give at least one, none "
                "negative, that sum to at most 1"
            )
        if data.noise.names:
            raise ModelError(
                f"{name}: the stage has noise before the decision; decide once it is seen, in a "
                "stage that holds its values"
            )
        for child, _ in arcs:
            if child not in self.value_functions:
                raise ModelError(f"{name}: node {child!r} is unknown")
            if not self.value_functions[child].ready:
                raise ModelError(f"{name}: node {child!r} follows but has no cuts; train more")
        if data.states.labels != self.problem.labels or data.sign != self.problem.sign:
            raise ModelError(f"{name}: states or sense differ from the problem's")


def build_subproblems(
    problem: Problem,
    risk: RiskChoice,
    cuts: CutForm,
    *,
    trains_to: float | None = None,
    theta_lower: Mapping[NodeName, float] | None = None,
    kind: type[Subproblems] = Subproblems,
) -> Subproblems:
    """Subproblems over value functions that hold what is known before training.

    Bounds on the cost-to-go are computed unless `theta_lower` gives them. See `Subproblems`.
    """
    compiled = compile_problem(problem)
    value_functions = ValueFunctions(problem, risk)
    if theta_lower is None:
        theta_lower = cost_to_go_bounds(problem, value_functions.risk.__getitem__)
    for name in problem.graph.nodes:
        if name in compiled.exact:
            probabilities = problem.stages[name].noise.probabilities
            value_functions[name].replace(compiled.exact_values(name), probabilities)
    return kind(compiled, value_functions, cuts, theta_lower, {}, trains_to)


def restore_subproblems(
    problem: Problem,
    checkpoint: Checkpoint,
    *,
    trains_to: float | None = None,
    kind: type[Subproblems] = Subproblems,
) -> Subproblems:
    """Subproblems over the value functions of a checkpoint. See `Subproblems`."""
    value_functions = ValueFunctions(problem, checkpoint.risk, checkpoint.nodes)
    found = kind(
        compile_problem(problem),
        value_functions,
        checkpoint.cuts,
        checkpoint.theta_lower,
        checkpoint.nodes,
        trains_to,
    )
    if trains_to is not None:  # training goes on: rows must be restored before cuts come
        for name in problem.graph.nodes:
            found[name].write_new_rows()
    return found


def _row_pools(problem: Problem) -> dict[Hashable, RowPool]:
    """A pool for each key, in the order of the nodes: the same for all paths of a training."""
    pools: dict[Hashable, RowPool] = {}
    for data in problem.stages.values():
        if data.rows is not None:
            pools.setdefault(data.rows.pool_key, RowPool(len(data.generator_columns)))
    return pools
