"""Compile a problem: presolve its stages, once for each different one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.presolve import PresolvedStage, presolve
from sddp.engine.stage.declaration import Stage
from sddp.engine.stage.translation import read_stage
from sddp.engine.value.cuts import Cuts


@dataclass(frozen=True, eq=False)
class CompiledProblem:
    """A problem and its presolved stages; made by `compile_problem`.

    Attributes
    ----------
    problem : Problem
    stages : mapping from node name to PresolvedStage
        Nodes with equal stages share one.
    exact : frozenset of node name
        Last nodes without a decision, whose value is linear in the state.
    """

    problem: Problem
    stages: Mapping[NodeName, PresolvedStage]
    exact: frozenset[NodeName]

    def exact_values(self, name: NodeName) -> Cuts:
        """The value of an exact node, one cut for each realization."""
        reduced, data = self.stages[name], self.problem.stages[name]
        table, n = data.noise, self.problem.n_components
        slopes = np.tile(reduced.arrays.cost[:n], (table.n_realisations, 1))
        at = table.positions["cost"]
        # What substitutions added to a coefficient stays when noise replaces the declared one.
        slopes[:, reduced.column_position()[at]] += table.values["cost"] - data.cost[at]
        constants = np.full(len(slopes), reduced.arrays.offset)
        if len(table.positions["offset"]):
            constants += table.values["offset"][:, 0] - data.offset
        return Cuts(slopes, constants)


def presolve_stage(stage: Stage, where: str) -> PresolvedStage:
    """Read and reduce a declared stage; `where` names it in error messages."""
    return presolve(read_stage(stage, where))


def compile_problem(problem: Problem) -> CompiledProblem:
    """Presolve the stages of a problem; the same object as long as the problem lives."""
    known = _COMPILED.get(problem)
    if known is None:
        shared = {id(data): presolve(data) for data in problem.stages.values()}
        stages = {name: shared[id(data)] for name, data in problem.stages.items()}
        exact = frozenset(name for name in stages if _is_exact(problem, name, stages[name]))
        known = _COMPILED[problem] = CompiledProblem(problem, stages, exact)
    return known


_COMPILED: WeakKeyDictionary[Problem, CompiledProblem] = WeakKeyDictionary()


def _is_exact(problem: Problem, name: NodeName, stage: PresolvedStage) -> bool:
    arrays = stage.arrays
    decides = len(arrays.cost) > problem.n_components or arrays.matrix.shape[0] > 0
    return not (decides or problem.graph.children(name) or stage.compiled.rows)
