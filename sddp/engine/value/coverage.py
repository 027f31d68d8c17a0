"""Which outcomes the paths of a training have followed, and which rare one is to be followed next.

An outcome is followed where a decision was taken after it. What no path has followed may hold
anything: its value is that of cuts made elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import Step, Successors, position_of

# An outcome is rare where its probability is below this share of what it would be if all outcomes
# of the decision were alike; such outcomes are followed once in a tenth of the visits as well.
RARE_SHARE = 0.1
TRIPS_PER_VISIT = 0.1

# Rare outcomes of less adjusted weight than this are not followed, but reported.
LEAST_WEIGHT = 1e-4


class Coverage:
    """Counts of the outcomes followed.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        # By node: how often each (noise, arrival) was followed.
        self._followed: dict[NodeName, NDArray[np.int32]] = {}
        self._trips: dict[NodeName, int] = {}
        self._rare: dict[NodeName | None, bool] = {}
        self.visits: dict[NodeName, int] = {}  # of paths alone

    def note_path(self, steps: Iterable[Step]) -> None:
        """Count the outcomes that a path has followed."""
        for step in steps:
            self.visits[step.node] = self.visits.get(step.node, 0) + 1
            self._count(step)

    def note_trip(self, name: NodeName, step: Step) -> None:
        """Count an outcome that was followed beside a path, after a decision at `name`."""
        self._trips[name] = self._trips.get(name, 0) + 1
        self._count(step)

    def count(self, step: Step) -> int:
        """How often an outcome was followed."""
        return int(self._table(step.node)[position_of(step.noise), position_of(step.arrival)])

    def unfollowed_noise(self, name: NodeName, arrival: int) -> float:
        """Probability of the noise of a node that no path has seen after an arrival."""
        probabilities = self._problem.stages[name].noise.probabilities
        return float(probabilities[self._table(name)[:, arrival] == 0].sum())

    def unvisited_mass(self, successors: Successors) -> float:
        """Adjusted weight of the outcomes of a decision that no path has followed."""
        known = [self._followed.get(branch.node) for branch in successors.branches]
        if all(table is not None and table.all() for table in known):
            return 0.0
        mass = 0.0
        weights = successors.joint(successors.adjusted)
        for weight, table in zip(weights, known, strict=True):
            mass += float(weight[self._untouched(table, weight.shape[1])].sum())
        return mass

    def rare_step(self, successors: Successors) -> Step | None:
        """A rare outcome to follow beside the path, or None.

        The one followed least, and of those the one of the largest weight; one in ten visits.
        """
        name = successors.node
        if name is None or not successors.branches or not self.has_rare(successors):
            return None
        if self._trips.get(name, 0) > TRIPS_PER_VISIT * self.visits.get(name, 0):
            return None
        threshold = _threshold(successors)
        best: tuple[float, float] | None = None
        step = None
        tables = zip(
            successors.branches,
            successors.joint(successors.probabilities),
            successors.joint(successors.adjusted),
            strict=True,
        )
        for branch, nominal, adjusted in tables:
            counts = self._table(branch.node)
            for w, e in np.argwhere((nominal < threshold) & (adjusted > LEAST_WEIGHT)).tolist():
                rank = (float(counts[w, e]), -float(adjusted[w, e]))
                if best is None or rank < best:
                    best, step = rank, Step(branch.node, w, e)
        return step

    def _count(self, step: Step) -> None:
        self._table(step.node)[position_of(step.noise), position_of(step.arrival)] += 1

    def has_rare(self, successors: Successors) -> bool:
        """Whether any outcome after a decision is rare."""
        name = successors.node
        if name not in self._rare:
            threshold = _threshold(successors)
            nominal = successors.joint(successors.probabilities)
            self._rare[name] = any(bool((table < threshold).any()) for table in nominal)
        return self._rare[name]

    def _table(self, name: NodeName) -> NDArray[np.int32]:
        if name not in self._followed:
            stage = self._problem.stages[name]
            shape = (stage.noise.n_realisations, stage.transition.n_realisations)
            self._followed[name] = np.zeros(shape, dtype=np.int32)
        return self._followed[name]

    @staticmethod
    def _untouched(table: NDArray[np.int32] | None, n_arrivals: int) -> NDArray[np.bool_] | slice:
        """Outcomes not followed; before the first decision there is but one way to arrive."""
        if table is None:
            return slice(None)
        untouched: NDArray[Any] = table == 0
        if n_arrivals < table.shape[1]:
            untouched = np.all(untouched, axis=1, keepdims=True)
        return untouched


def _threshold(successors: Successors) -> float:
    """Probability below which an outcome is rare."""
    n = sum(table.size for table in successors.joint(successors.probabilities))
    return RARE_SHARE * float(successors.probabilities.sum()) / n
