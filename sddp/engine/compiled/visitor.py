"""Compiled visits as Python calls them, one at a time; and what they cannot take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.engine.compiled.layout import Followers, risk_terms, stages_of, tail_form
from sddp.engine.compiled.records import (
    memory_record,
    scratch_record,
    stages_record,
)
from sddp.engine.compiled.simplex import OPTIMAL
from sddp.engine.compiled.tables import BY_ROW, Scratch, new_memory, new_scratch, with_room
from sddp.engine.compiled.visit import FULL, visit
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.compile import compile_problem
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.cut_forms import LazyAggregation
from sddp.risk import RiskMeasure

# A program of more columns than this has a dictionary that costs more than HiGHS with the columns
# at zero outside: 3.5 ms a program at 1,000 columns against 0.64.
MOST_COLUMNS = 600

# Rows beside its own that a program may hold before the visit is left to the reference.
MOST_ROWS = 2_000

# Numbers in the largest array of a training, cuts or rows of all nodes.
LARGEST = 2**26


def reason_against(
    problem: Problem, risk: Mapping[NodeName, RiskMeasure], cuts: CutForm
) -> str | None:
    """Why the compiled visit cannot take a problem; None where it can."""
    if type(cuts) is not LazyAggregation:
        return f"cuts={cuts!r} are kept by the reference alone"
    if np.any(problem.state_units != 1.0):
        return "state components of a homogeneous problem are in units that are far apart"
    for name, measure in risk.items():
        if not risk_terms(measure):
            return f"the risk measure {measure!r} at node {name!r} is not one that is compiled"
    for name, stage in compile_problem(problem).stages.items():
        reason = _reason_against_stage(problem, name)
        if reason is not None:
            return reason
        n = stage.arrays.matrix.shape[1] - problem.n_components
        if n > MOST_COLUMNS:
            return f"node {name!r} has {n} columns, more than the {MOST_COLUMNS} that pay"
    return None


def _reason_against_stage(problem: Problem, name: NodeName) -> str | None:
    data = problem.stages[name]
    exact = name in compile_problem(problem).exact
    for place in ("cost", "matrix"):
        if len(data.noise.positions[place]) and not exact:
            return f"node {name!r} has noise in its {place}"
    if data.rows is None:
        return None
    form = tail_form(data)
    if form is None:
        return f"node {name!r} has a row generator without a tail form, {data.rows!r}"
    if form.outcomes.shape[1] > problem.n_components:
        return f"node {name!r} has a tail form of more variables than the state has components"
    return None


# Parts of the memory of a node beside those by row of its program.
BY_NODE = ("m", "n_kept", "d", "nonbasic", "side", "counts", "last", "last_theta", "last_cuts")


class NodeMemory(NamedTuple):
    """What the visits of one node remember, and the tail rows known beside them.

    Attributes
    ----------
    by_row, by_node : list of array
        In the order of `BY_ROW` and `BY_NODE`.
    tails : list of array
        Of each tail form.
    """

    by_row: list[Floats]
    by_node: list[Floats]
    tails: list[Floats]


class Visitor:
    """The arrays of a problem, and one path's memory of it.

    Parameters
    ----------
    problem : Problem
    followers : Followers

    Attributes
    ----------
    stages, memory, scratch : Stages, Memory, Scratch
    units : list of array
        Of the columns of each kind of stage.
    number : dict
        Of each node.
    """

    def __init__(self, problem: Problem, followers: Followers) -> None:
        self.stages, self.units = stages_of(problem, followers)
        self.number = {name: k for k, name in enumerate(problem.graph.nodes)}
        self._own = stages_record(self.stages)
        self.memory = new_memory(self.stages)
        self._make_room(0, 0)

    def _make_room(self, n_rows: int, n_cuts: int) -> None:
        self.memory = with_room(self.memory, n_rows, n_cuts)
        self.scratch: Scratch = new_scratch(self.stages, self.memory)
        self._records = (memory_record(self.memory), scratch_record(self.scratch))

    @property
    def records(self) -> tuple[object, object, object]:
        """Stages, memory and scratch as kernels take them."""
        return (self._own, *self._records)

    def reserve(self, n_cuts: int) -> None:
        """Room for so many more cuts in each pool."""
        wanted = int(self.memory.n_cuts.max(initial=0)) + n_cuts
        if wanted > self.memory.cut_const.shape[1]:
            self._make_room(0, wanted)

    def grow_rows(self) -> bool:
        """Room for more rows; False where there are too many already."""
        room = self.memory.rhs.shape[1]
        if room > MOST_ROWS or self.memory.A.size * 2 > LARGEST:
            return False
        self._make_room(room + 1, 0)
        return True

    def append_cuts(self, pool: int, slopes: Floats, intercepts: Floats) -> None:
        """Append cuts to a pool as they are."""
        self.reserve(len(intercepts))
        first = int(self.memory.n_cuts[pool])
        last = first + len(intercepts)
        self.memory.cut_slope[pool, first:last] = slopes
        self.memory.cut_const[pool, first:last] = intercepts
        self.memory.n_cuts[pool] = last

    def remembered(self, k: int) -> NodeMemory:
        """A copy of what the visits of node `k` remember."""
        memory = self.memory
        rows = slice(int(memory.m[k]))
        return NodeMemory(
            [getattr(memory, part)[k, rows].copy() for part in BY_ROW],
            [getattr(memory, part)[k].copy() for part in BY_NODE],
            [
                tails[: min(n, len(tails))].copy()
                for tails, n in zip(memory.tails, memory.n_tails.tolist(), strict=False)
            ],
        )

    def restore(self, k: int, known: NodeMemory) -> None:
        """Let node `k` remember what it did when `known` was copied, and nothing since."""
        memory = self.memory
        for part, copied in zip(BY_ROW, known.by_row, strict=True):
            getattr(memory, part)[k, : len(copied)] = copied
        for part, copied in zip(BY_NODE, known.by_node, strict=True):
            getattr(memory, part)[k] = copied
        for f, tails in enumerate(known.tails):
            memory.tails[f, : len(tails)] = tails
            memory.n_tails[f] = len(tails)

    def forget_tails(self) -> None:
        """Know no tail row beside those of the programs."""
        self.memory.n_tails[:] = 0

    def place(self, name: NodeName, arrival: int) -> int:
        """Where a realization of a node's transition stands in the arrays."""
        stages = self.stages
        first = stages.cumulated_at[stages.node_transition[self.number[name]]]
        return int(stages.position[first + arrival])

    def visit(self, k: int, w: int, x: Floats, tolerance: float) -> int:
        """Solve node `k` under noise `w` at state `x`; the status, see `visit.visit`."""
        state = np.array(x, dtype=float)
        while True:
            status = int(visit(*self.records, k, w, state, tolerance))
            if status != FULL or not self.grow_rows():
                return status


__all__ = ["OPTIMAL", "Visitor", "reason_against"]
