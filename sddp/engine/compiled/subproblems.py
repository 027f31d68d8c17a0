"""Subproblems that are visited by compiled code, with HiGHS as their reference."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np

from sddp.arrays import Floats
from sddp.engine.compiled.layout import Followers
from sddp.engine.compiled.passes import take_in
from sddp.engine.compiled.runner import Found, PathRunner
from sddp.engine.compiled.simplex import OPTIMAL
from sddp.engine.compiled.visitor import Visitor
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import Step, position_of
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import NoiseSolutions, StageSolution
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.subproblem.subproblems import Subproblems, restore_subproblems
from sddp.engine.value.checkpoint import Checkpoint, NodeState
from sddp.engine.value.cost_to_go import CostToGo
from sddp.engine.value.cut_updates import CutUpdates
from sddp.engine.value.cuts import Cut, Cuts, LinearConstraints
from sddp.risk import RiskMeasure


class CompiledNode:
    """A node as the passes in Python see it: each call is one compiled visit."""

    def __init__(self, subproblems: CompiledSubproblems, name: NodeName) -> None:
        # Of a circle of objects the arrays would stay until the interpreter looks for circles.
        self._subproblems: CompiledSubproblems = weakref.proxy(subproblems)
        self.name = name
        self.compiled = subproblems.problem.stages[name]
        outcomes = subproblems.value_functions.outcomes(name)
        self.cost_to_go = None if outcomes is None else CostToGo(outcomes)
        self._theta_lower = subproblems.theta_lower.get(name, -np.inf)

    def solve(
        self, incoming: Floats, noise: int, tolerance: float
    ) -> StageSolution | Infeasibility:
        """See `Subproblem.solve`."""
        return self._subproblems.solve(self.name, incoming, noise, tolerance)

    def solve_all(self, incoming: Floats, tolerance: float) -> NoiseSolutions:
        """See `Subproblem.solve_all`."""
        n, data = self.compiled.noise.n_realisations, self.compiled
        found = NoiseSolutions(n, len(data.cost), len(incoming), len(data.outgoing))
        for noise in range(n):
            found.put(noise, self.solve(incoming, noise, tolerance))
        return found

    def remove_idle(self) -> None:
        """Nothing is left to do: a visit drops idle rows itself."""

    def write_new_rows(self) -> None:
        """Nothing is left to do: rows are written when a solution breaks them."""

    def bound_is_active(
        self, incoming: Floats, noise: int, solution: StageSolution, tolerance: float
    ) -> bool:
        """See `Subproblem.bound_is_active`."""
        if self.cost_to_go is None or solution.theta > self._theta_lower + tolerance:
            return False
        return self._subproblems.reference(self.name).bound_is_active(
            incoming, noise, solution, tolerance
        )

    def why_infeasible(self, cut: Infeasibility) -> str:
        """See `Subproblem.why_infeasible`."""
        return self._subproblems.reference(self.name).why_infeasible(cut)


@dataclass(frozen=True, eq=False)
class CompiledUpdates(CutUpdates):
    """Updates with cuts and new tails as arrays.

    Attributes
    ----------
    found : list of Found
    tails : list of array
        New tails of each form.
    """

    found: list[Found] = field(default_factory=list)
    tails: list[Floats] = field(default_factory=list)


class CompiledSubproblems(Subproblems):
    """`Subproblems` whose nodes are visited by compiled code.

    The visits read a copy of the cuts in flat arrays. What a compiled pass adds there is written
    to the value functions when they are asked for (`publish`), and what is added to those is
    copied (`absorb`); either way cuts keep their order. What the compiled visit does not settle is
    solved by the reference, the subproblems of `Subproblems`.
    """

    stage_solver = "compiled"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        functions = self.value_functions
        self.names = list(self.problem.graph.nodes)
        outcomes = {name: functions.outcomes(name) for name in self.names}
        pools = {name: len(functions[name].pools) for name in self.names}
        self.visitor = Visitor(
            self.problem, Followers(outcomes, pools, functions.risk, self.theta_lower)
        )
        self._nodes = {name: CompiledNode(self, name) for name in self.names}
        # The share of each outcome that no path has followed.
        self.unseen = np.ones(len(self.visitor.stages.weight))
        self.runner = PathRunner(self)
        self._known_tails = self.visitor.memory.n_tails.copy()
        self._counted = np.zeros(6, dtype=np.int64)
        for name in self.names:
            if len(functions[name].feasibility):
                self._close_before(name)
        self.absorb()

    def __getitem__(self, name: NodeName) -> Any:
        return self._nodes[name]

    @cached_property
    def _pools(self) -> dict[NodeName, list[tuple[int, Cuts]]]:
        """Pools of each node with their numbers."""
        at = self.visitor.stages.pool_at.tolist()
        functions = self.value_functions
        return {
            name: [*enumerate(functions[name].pools, at[k])] for k, name in enumerate(self.names)
        }

    def publish(self, names: Iterable[NodeName] | None = None) -> None:
        """Bring the value functions (of all nodes, or some) up to date with the compiled cuts."""
        memory = self.visitor.memory
        for name in self.names if names is None else names:
            for number, pool in self._pools[name]:
                new = slice(len(pool), int(memory.n_cuts[number]))
                if new.start < new.stop:
                    pool.extend(Cuts(memory.cut_slope[number, new], memory.cut_const[number, new]))

    def absorb(self, names: Iterable[NodeName] | None = None) -> None:
        """Bring the compiled cuts (of all nodes, or some) up to date with the value functions."""
        for name in self.names if names is None else names:
            for number, pool in self._pools[name]:
                known = int(self.visitor.memory.n_cuts[number])
                if known < len(pool):
                    self.visitor.append_cuts(number, pool.slopes[known:], pool.intercepts[known:])

    def add_cuts(self, name: NodeName, incoming: Floats, solutions: NoiseSolutions) -> None:
        """See `Subproblems`."""
        self.publish([name])
        super().add_cuts(name, incoming, solutions)
        self.absorb([name])

    def reference(self, name: NodeName) -> Subproblem:
        """The node as HiGHS solves it, under all present cuts."""
        self.publish()
        return super().__getitem__(name)

    def solve(
        self, name: NodeName, incoming: Floats, noise: int, tolerance: float
    ) -> StageSolution | Infeasibility:
        """One visit; by the reference where the compiled one settles nothing."""
        found = self.settled(name, incoming, noise, tolerance)
        if found is None:
            self.work.fallbacks += 1
            return self.reference(name).solve(incoming, noise, tolerance)
        return found

    def settled(
        self, name: NodeName, incoming: Floats, noise: int, tolerance: float
    ) -> StageSolution | None:
        """One visit; None where it settles nothing."""
        visitor, k = self.visitor, self.visitor.number[name]
        if visitor.visit(k, noise, incoming, tolerance) != OPTIMAL:
            return None
        scratch, stage = visitor.scratch, self.compiled.stages[name]
        units = visitor.units[visitor.stages.kind[k]]
        primal = np.concatenate([incoming, scratch.z[: len(units)] * units])
        n_out = len(self.problem.stages[name].outgoing)
        has_theta = visitor.stages.theta[visitor.stages.kind[k]] >= 0
        return StageSolution(
            value=float(scratch.result[0]),
            theta=float(scratch.result[2]) if has_theta else 0.0,
            columns=stage.declared_values(primal),
            outgoing=scratch.u[:n_out].copy(),
            cut=Cut(scratch.slope.copy(), float(scratch.result[1])),
        )

    def has_rare(self, path: Sequence[Step]) -> bool:
        """Whether any node of a path may be followed by a rare outcome."""
        return any(step.node in self._before_rare for step in path)

    @cached_property
    def _before_rare(self) -> set[NodeName]:
        state, functions = np.zeros(self.problem.n_components), self.value_functions
        return {
            name
            for name in self.names
            if functions.outcomes(name) is not None
            and functions.coverage.has_rare(functions.successors(name, state))
        }

    def add_feasibility_cut(self, name: NodeName, found: Infeasibility) -> None:
        """See `Subproblems`; decisions before the node are left to the reference from now on."""
        super().add_feasibility_cut(name, found)
        self._close_before(name)

    def _close_before(self, name: NodeName) -> None:
        for parent in self.problem.graph.parents(name):
            if parent in self.visitor.number:
                self.visitor.memory.closed[self.visitor.number[parent]] = 1

    def see(self, steps: Sequence[Step]) -> None:
        """Mark outcomes as followed."""
        for step in steps:
            w, arrival = position_of(step.noise), position_of(step.arrival)
            e = self.visitor.place(step.node, arrival)
            for start, n_arrivals, averaged in self._places[step.node]:
                if not averaged:
                    self.unseen[start + w * n_arrivals + e] = 0.0
                else:
                    coverage = self.value_functions.coverage
                    self.unseen[start + e] = coverage.unfollowed_noise(step.node, arrival)

    @cached_property
    def _places(self) -> dict[NodeName, list[tuple[int, int, bool]]]:
        """Where the outcomes of a node begin after each node before it."""
        places: dict[NodeName, list[tuple[int, int, bool]]] = {name: [] for name in self.names}
        for name, first in zip(self.names, self.visitor.stages.weight_at.tolist(), strict=False):
            outcomes = self.value_functions.outcomes(name)
            for child in outcomes.children if outcomes else ():
                n, pools = child.transition.n_realisations, len(child.value_function.pools)
                places[child.name].append((first, n, child.value_function.averaged))
                first += n * pools
        return places

    def take_updates(self) -> CompiledUpdates:
        """See `Subproblems`."""
        updates = super().take_updates()
        found, self.runner.found = self.runner.found, []
        known = {each.name: getattr(updates, each.name) for each in fields(updates)}
        return CompiledUpdates(**known, found=found, tails=self._new_tails())

    def _new_tails(self) -> list[Floats]:
        memory, tails = self.visitor.memory, []
        room, pairs = memory.tails.shape[1], (self._known_tails, memory.n_tails)
        for f, (known, n) in enumerate(zip(*(each.tolist() for each in pairs), strict=True)):
            places = np.arange(max(known, n - room), n) % room
            tails.append(memory.tails[f, places])
        self._known_tails = memory.n_tails.copy()
        return tails

    def apply(self, updates: CutUpdates) -> None:
        """See `Subproblems`."""
        changed = {name for name, *_ in updates.cuts}
        self.publish(changed)
        super().apply(updates)
        self.absorb(changed)
        self.see([*updates.followed, *(step for _, step in updates.beside)])
        for name, _ in updates.feasibility:
            self._close_before(name)
        if not isinstance(updates, CompiledUpdates):
            return
        for found in updates.found:
            self.visitor.reserve(len(found.pool))
            take_in(self.visitor.records[1], *found, self.problem.money)
        memory = self.visitor.memory
        for f, tails in enumerate(updates.tails):
            for tail in tails:
                memory.tails[f, memory.n_tails[f] % memory.tails.shape[1]] = tail
                memory.n_tails[f] += 1
        self._known_tails = memory.n_tails.copy()

    def checkpoint(
        self, root_risk: RiskMeasure, tolerance: float, iterations: int = 0
    ) -> Checkpoint:
        """See `Subproblems`."""
        self.publish()
        return super().checkpoint(root_risk, tolerance, iterations)

    def judge(self, checkpoint: Checkpoint) -> None:
        """Solve each node at its reference state by both solvers, and compare.

        Raises
        ------
        SolverError
            They contradict each other.
        """
        reference = restore_subproblems(self.problem, checkpoint)
        for name, k in self.visitor.number.items():
            state = checkpoint.nodes[name].reference
            if state is None:
                continue
            if self.visitor.visit(k, 0, state, checkpoint.tolerance) != OPTIMAL:
                continue
            found = reference[name].solve(state, 0, checkpoint.tolerance)
            self.runner.compare(reference[name], 0, state, found)
            reference.drop(name)

    def count_effort(self) -> None:
        """Add what the compiled visits did since the last call to the counters of the work."""
        counts = self.visitor.memory.counts.sum(axis=0)
        done = counts - self._counted
        self.work.lp.solves += int(done[3])
        self.work.lp.pivots += int(done[1])
        self.work.warnings += int(done[5])
        self._counted = counts

    def check_origin(self, name: NodeName, intercepts: Floats) -> None:
        """Warn of cuts of a homogeneous stage that miss the origin."""
        self._check_origin(name, intercepts)

    def _state(self, name: NodeName) -> NodeState:
        function = self.value_functions[name]
        return NodeState(
            pools=[pool.frozen() for pool in function.pools],
            feasibility=function.feasibility.frozen(),
            cost_to_go=self.value_functions.cost_to_go[name].frozen(),
            rows=self._rows_of(name).canonical(),
            reference=self.references.get(name),
        )

    def _rows_of(self, name: NodeName) -> LinearConstraints:
        """The rows added to the program of a node, in the engine's units."""
        visitor, k = self.visitor, self.visitor.number[name]
        if visitor.memory.closed[k] != 0 and name in self._built:  # HiGHS solves it
            return self._built[name].stage_lp.rows
        stages, memory = visitor.stages, visitor.memory
        t = stages.kind[k]
        units, theta = visitor.units[t], stages.theta[t]
        added = slice(int(stages.n_rows[t]), int(memory.m[k]))
        A, B = memory.A[k, added, : len(units)], memory.B[k, added]
        size = np.where(A[:, theta] != 0.0, stages.unit[0], 1.0) if theta >= 0 else np.ones(len(A))
        coefficients = np.hstack([B, A / units]) * size[:, None]
        lower = memory.rhs[k, added] * size
        kept = np.arange(len(lower)) < memory.n_kept[k]
        return LinearConstraints(coefficients, lower, ~kept)
