"""Passes of one path: the compiled calls, and what they cannot do by themselves."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.compiled.outcomes import cost_to_go
from sddp.engine.compiled.passes import (
    BRANCH,
    CUTS,
    DECISIONS,
    JUDGE,
    NOISE,
    PAUSE,
    STEP,
    STUDIED,
    UNTIL_JUDGED,
    backward,
    forward,
)
from sddp.engine.compiled.records import path_record
from sddp.engine.compiled.simplex import OPTIMAL
from sddp.engine.compiled.tables import Path, new_path
from sddp.engine.compiled.visit import FULL, VALUE, WIDTH
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import Step, position_of
from sddp.engine.subproblem import interval
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.subproblem.subproblems import MOST_NOTED
from sddp.engine.value.cuts import Cut
from sddp.errors import SolverError
from sddp.lp import FEASIBILITY_TOLERANCE

if TYPE_CHECKING:
    from sddp.engine.compiled.subproblems import CompiledSubproblems

# A visit in so many is solved again by the reference.
JUDGED_EVERY = 1_000

# Intervals from the dual value to the value that is attained, of two solutions of one program,
# that are further apart than this, relative to the value, contradict each other.
BRACKETS_APART = 1e-9


class Found(NamedTuple):
    """Cuts that a path found, one in each row."""

    pool: Ints
    x: Floats
    slope: Floats
    const: Floats


class PathRunner:
    """Forward and backward passes of a path's subproblems, each one compiled call.

    Parameters
    ----------
    subproblems : CompiledSubproblems
    """

    def __init__(self, subproblems: CompiledSubproblems) -> None:
        self.subproblems: CompiledSubproblems = weakref.proxy(subproblems)
        self._judged_every = JUDGED_EVERY
        self._path: Path | None = None
        self.found: list[Found] = []

    def follow(
        self,
        path: Sequence[Step],
        tolerance: float,
        first: StageSolution | None,
        pause: Callable[[], None],
    ) -> list[tuple[Floats, StageSolution, float]] | None:
        """Forward pass along a path that is known.

        Incoming state, solution and true size of each state; None where a decision is infeasible.
        `pause` is called now and then, and may raise.
        """
        P = self._room_for(path)
        state, size = self.subproblems.problem.normalized(
            self.subproblems.problem.initial_state(path[0].node)
        )
        P.x[0], P.scale[0] = state, size
        P.at[STEP] = 0
        if first is not None:
            self._load(P.node[0], first)

        def call(given: bool) -> int:
            return int(
                forward(
                    *self.subproblems.visitor.records, self._record, len(path), tolerance, given
                )
            )

        def at_hand() -> tuple[int, int, Floats]:
            t = P.at[STEP]
            return int(P.node[t]), int(P.noise[t]), P.x[t].copy()

        if self._drive(call, at_hand, tolerance, first is not None, pause) is not None:
            return None
        for t, step in enumerate(path):
            self.subproblems.references[step.node] = P.x[t].copy()
        return self._decided(path, P)

    def add_cuts(
        self,
        path: Sequence[Step],
        tolerance: float,
        rng: np.random.Generator,
        share: float | None,
        points: Sequence[Floats],
        pause: Callable[[], None],
    ) -> float:
        """Backward pass along the path just followed; the largest unvisited mass.

        Trial points are means of decisions to a `share`, or `points`, one for each step, where it
        is None.
        """
        P = self._path
        assert P is not None
        self._draw(P, path, rng)
        P.at[[CUTS, DECISIONS, BRANCH, NOISE, STUDIED]] = 0
        P.at[STEP], P.off_origin[0] = len(path) - 1, 0.0
        averaging = share or 0.0
        for t, point in enumerate(points):
            P.u[t, : len(point)] = point

        def call(given: bool) -> int:
            arguments = (tolerance, averaging, MOST_NOTED, given)
            return int(backward(*self.subproblems.visitor.records, self._record, *arguments))

        def at_hand() -> tuple[int, int, Floats]:
            first = self.subproblems.visitor.stages.branch_at[P.node[P.at[STEP]]]
            child = self.subproblems.visitor.stages.branch_node[first + P.at[BRANCH]]
            return int(child), int(P.at[NOISE]), P.arrived.copy()

        try:
            while (cut := self._drive(call, at_hand, tolerance, False, pause)) is not None:
                self.subproblems.add_feasibility_cut(self.subproblems.names[at_hand()[0]], cut)
                P.at[NOISE], P.at[BRANCH] = 0, P.at[BRANCH] + 1
        finally:  # the other paths take in what a pass found that was stopped
            self._note_found(P)
        return float(P.unvisited[: len(path)].max(initial=0.0))

    def _drive(
        self,
        call: Callable[[bool], int],
        at_hand: Callable[[], tuple[int, int, Floats]],
        tolerance: float,
        given: bool,
        pause: Callable[[], None],
    ) -> Infeasibility | None:
        """Go on with a pass until it ends, or until a visit turns out infeasible."""
        while (status := call(given)) != OPTIMAL:
            given = False
            if status == FULL and self.subproblems.visitor.grow_rows():
                continue
            if status == PAUSE:
                pause()
                continue
            k, w, x = at_hand()
            given = True
            if status == JUDGE:
                self._judge(k, w, x)
                continue
            self.subproblems.work.fallbacks += 1
            found = self.subproblems.reference(self.subproblems.names[k]).solve(x, w, tolerance)
            if isinstance(found, Infeasibility):
                return found
            self._load(k, found)
        return None

    def _load(self, k: int, solution: StageSolution) -> None:
        """Leave a solution of node `k` in the scratch, as a visit does."""
        visitor = self.subproblems.visitor
        scratch = visitor.scratch
        scratch.result[:3] = solution.value, solution.cut.intercept, solution.theta
        scratch.slope[:] = solution.cut.slope
        scratch.u[: len(solution.outgoing)] = solution.outgoing
        cost_to_go(*visitor.records, k, scratch.u)  # adjusts the probabilities of what follows

    def _judge(self, k: int, w: int, x: Floats) -> None:
        """Solve the visit that was just made by both solvers to the end, and compare.

        To the end, for a width is of first order: what a loosely kept row costs is more than its
        multiplier says.
        """
        assert self._path is not None
        self._path.at[UNTIL_JUDGED] = self._judged_every
        kept = [part.copy() for part in self._results()]
        if self.subproblems.visitor.visit(k, w, x, FEASIBILITY_TOLERANCE) == OPTIMAL:
            node = self.subproblems.reference(self.subproblems.names[k])
            self.compare(node, w, x, node.solve(x, w, FEASIBILITY_TOLERANCE))
        for part, before in zip(self._results(), kept, strict=True):
            part[:] = before

    def _results(self) -> tuple[Floats, ...]:
        scratch = self.subproblems.visitor.scratch
        return scratch.result, scratch.slope, scratch.u, scratch.q

    def compare(
        self, node: Subproblem, w: int, x: Floats, found: StageSolution | Infeasibility
    ) -> None:
        """Compare the visit that was just made with what the node of the reference `found`.

        Raises
        ------
        SolverError
            The intervals in which they have the optimal value are apart.
        """
        self.subproblems.work.judged += 1
        value, width = self.subproblems.visitor.scratch.result[[VALUE, WIDTH]].tolist()
        known, room = np.inf, 0.0
        if isinstance(found, StageSolution):
            known, room = found.value, interval.width(node, found)
        size = max(self.subproblems.problem.money, abs(value))
        if max(known - (value + width), value - (known + room)) > BRACKETS_APART * size:
            raise SolverError(
                f"internal error, please report: {node.name}, noise {w}, incoming state "
                f"{x.tolist()}: the optimal value is between {value!r} and {value + width!r} by "
                f"the compiled visit, between {known!r} and {known + room!r} by HiGHS; the "
                f"program was written to {node.written(x)}; train with stage_solver='highs'"
            )

    def _room_for(self, path: Sequence[Step]) -> Path:
        """The path's steps in the flat arrays, with room for what its passes write down."""
        stages, number = self.subproblems.visitor.stages, self.subproblems.visitor.number
        nodes = [number[step.node] for step in path]
        n_cuts = n_decisions = 0
        for k in nodes:
            for child in stages.branch_node[stages.branch_at[k] : stages.branch_at[k + 1]]:
                n_cuts += int(stages.pool_at[child + 1] - stages.pool_at[child])
                n_decisions += MOST_NOTED
        P = self._path
        if (
            P is None
            or len(P.node) < len(path)
            or len(P.cut_pool) < n_cuts
            or len(P.decision) < n_decisions
        ):
            until = self._judged_every if P is None else int(P.at[UNTIL_JUDGED])
            P = self._path = new_path(
                stages, len(path), n_cuts, n_decisions, self.subproblems.unseen
            )
            P.at[UNTIL_JUDGED] = until
            self._record = path_record(P)
        self.subproblems.visitor.reserve(len(path) + 1)
        P.length[0] = len(path)
        P.node[: len(path)] = nodes
        P.noise[: len(path)] = [position_of(step.noise) for step in path]
        place = self.subproblems.visitor.place
        P.arrival[: len(path)] = [place(step.node, position_of(step.arrival)) for step in path]
        return P

    def _draw(self, P: Path, path: Sequence[Step], rng: np.random.Generator) -> None:
        """A number for each child that the path does not lead to, in the order of the pass."""
        places = []
        for t in range(len(path) - 1, -1, -1):
            k = P.node[t]
            following = P.node[t + 1] if t + 1 < len(path) else -1
            places += [(t, b) for b, child in self._drawn[k] if child != following]
        if places:
            P.uniform[tuple(np.array(places).T)] = rng.random(len(places))

    @cached_property
    def _drawn(self) -> list[list[tuple[int, int]]]:
        """By node: branch and number of the children whose arrival is drawn."""
        stages = self.subproblems.visitor.stages
        many = stages.transition_size[stages.node_transition] > 1
        drawn = []
        for k in range(len(self.subproblems.names)):
            children = stages.branch_node[stages.branch_at[k] : stages.branch_at[k + 1]]
            drawn.append(
                [(b, int(c)) for b, c in enumerate(children) if many[c] and not stages.exact[c]]
            )
        return drawn

    def _decided(self, path: Sequence[Step], P: Path) -> list[tuple[Floats, StageSolution, float]]:
        none, decided = np.zeros(0), []
        for t, step in enumerate(path):
            n_out = len(self.subproblems.problem.stages[step.node].outgoing)
            value, intercept, theta = P.result[t].tolist()
            cut = Cut(P.slope[t].copy(), intercept)
            solution = StageSolution(value, theta, none, P.u[t, :n_out].copy(), cut)
            decided.append((P.x[t].copy(), solution, float(P.scale[t])))
        return decided

    def _note_found(self, P: Path) -> None:
        """Keep what a backward pass found for the next cut updates."""
        n, g = int(P.at[CUTS]), int(P.at[DECISIONS])
        self.found.append(
            Found(
                P.cut_pool[:n].copy(),
                P.cut_x[:n].copy(),
                P.cut_slope[:n].copy(),
                P.cut_const[:n].copy(),
            )
        )
        for f in range(g):
            name = self.subproblems.names[P.decision_node[f]]
            self.subproblems.decisions.append((name, P.decision[f : f + 1].copy()))
        for pool, x in zip(self.found[-1].pool.tolist(), self.found[-1].x, strict=True):
            self.subproblems.references[self._node_of_pool[pool]] = x
        if self.subproblems.problem.homogeneous:
            self.subproblems.check_origin(self.subproblems.names[P.node[0]], P.off_origin)

    @cached_property
    def _node_of_pool(self) -> list[NodeName]:
        sizes = np.diff(self.subproblems.visitor.stages.pool_at)
        return [
            name for name, n in zip(self.subproblems.names, sizes, strict=True) for _ in range(n)
        ]
