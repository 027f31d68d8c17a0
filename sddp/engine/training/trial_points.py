"""At which outgoing states the cost-to-go is studied."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem


class TrialPoints(Protocol):
    """Chooses the outgoing state at which a backward pass makes cuts."""

    def point(
        self,
        problem: Problem,
        node: NodeName,
        outgoing: Floats,
        iteration: int,
        memory: MutableMapping[NodeName, Any],
    ) -> Floats:
        """The trial point after a decision.

        Parameters
        ----------
        problem : Problem
        node : hashable
            Where the decision was taken.
        outgoing : array, shape (n_components,)
            State that it hands on, of size 1 before the decision where the problem is homogeneous.
        iteration : int
            From 1.
        memory : mapping
            What to remember until the next call for the same path of an iteration.
        """
        ...


@dataclass(frozen=True)
class AveragedDecisions:
    """Means of the last decisions at first, then more and more the decisions themselves.

    Decisions by few cuts jump from one extreme to the next; a mean of the last ones is nearer to
    the optimum, and a cut made there says more. In the end cuts are wanted at the decisions. Means
    are taken where the problem is homogeneous: elsewhere decisions in other states are unlike.

    Parameters
    ----------
    iterations : int
        Trial points are means for so many iterations; in iteration k after them the share of the
        mean is ``iterations / k``. With ten, and the paper's size, the gap after ten iterations is
        0.53 instead of 1.21 % (medians of three seeds; `papers/performance.md`).
    """

    iterations: int = 10

    def share(self, iteration: int) -> float:
        """Share of the mean in the trial points of an iteration, from 1."""
        return min(1.0, self.iterations / iteration)

    def point(
        self,
        problem: Problem,
        node: NodeName,
        outgoing: Floats,
        iteration: int,
        memory: MutableMapping[NodeName, Any],
    ) -> Floats:
        """See `TrialPoints`."""
        if not (problem.homogeneous and self.iterations):
            return outgoing
        share = self.share(iteration)
        decision, size = problem.normalized(outgoing)
        average = memory[node] = (decision + memory.get(node, decision)) / 2.0
        trial: Floats = size * ((1.0 - share) * decision + share * average)
        return trial


@dataclass(frozen=True)
class Decisions:
    """The decisions themselves, as in the textbook."""

    def point(
        self,
        problem: Problem,
        node: NodeName,
        outgoing: Floats,
        iteration: int,
        memory: MutableMapping[NodeName, Any],
    ) -> Floats:
        """See `TrialPoints`."""
        return outgoing
