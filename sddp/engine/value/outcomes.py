"""What can happen between two decisions, as risk measures that compare outcomes see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.stage_data import StageData
from sddp.engine.stage.transition import MatrixMap, ScaleMap, StateMap
from sddp.risk import RiskMeasure

NOTHING: Floats = np.zeros(0)


class Outcome(NamedTuple):
    """One outcome after a decision, or before the first one.

    Attributes
    ----------
    node : hashable or None
        Where the process goes; None where it stops.
    before : array, shape (n_parameters,)
        Noise seen there before the decision: values of the parameters in the order of the noise.
    after : array
        Noise after the decision that led there: the scale of each component or the entries of the
        matrix, then the shift where the transition has one. Empty before the first decision, and
        where the state arrives as it left.
    """

    node: NodeName | None
    before: Floats
    after: Floats


def outcomes_after(
    risk: RiskMeasure,
    stages: Mapping[NodeName, StageData],
    children: Sequence[NodeName],
    stops: bool,
) -> list[Outcome] | None:
    """Outcomes after a decision: by node, then noise seen there, then noise on the way; stop last.

    None where the measure does not look at them.
    """
    if not risk.looks_at_outcomes:
        return None
    found = [outcome for name in children for outcome in _at(name, stages[name])]
    return [*found, Outcome(None, NOTHING, NOTHING)] if stops else found


def outcomes_after_node(
    risk: RiskMeasure, problem: Problem, name: NodeName
) -> list[Outcome] | None:
    """Outcomes after the decision of a node, see `outcomes_after`."""
    if not risk.looks_at_outcomes:
        return None
    graph = problem.graph
    children = [child for child, _ in graph.children(name)]
    return outcomes_after(risk, problem.stages, children, graph.stop_probability(name) > 0.0)


def first_outcomes(risk: RiskMeasure, problem: Problem) -> list[Outcome] | None:
    """Outcomes before the first decision; None where the measure does not look at them."""
    if not risk.looks_at_outcomes:
        return None
    return [
        Outcome(name, problem.stages[name].noise.support[noise], NOTHING)
        for name, noise, _ in problem.first_outcomes()
    ]


def _at(name: NodeName, stage: StageData) -> Iterator[Outcome]:
    after = [_numbers(stage.transition, e) for e in range(stage.transition.n_realisations)]
    for before in stage.noise.support:
        for numbers in after:
            yield Outcome(name, before, numbers)


def _numbers(transition: StateMap, realisation: int) -> Floats:
    parts = [] if transition.shift is None else [transition.shift[realisation]]
    if isinstance(transition, ScaleMap):
        parts.insert(0, transition.scale[realisation])
    elif isinstance(transition, MatrixMap):
        n = transition.n_components
        rows = transition.stacked[realisation * n : (realisation + 1) * n]
        dense: Floats = rows if isinstance(rows, np.ndarray) else rows.toarray()
        parts.insert(0, dense.ravel())
    return np.concatenate(parts) if parts else NOTHING
