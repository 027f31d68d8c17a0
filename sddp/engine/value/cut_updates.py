"""What one network has learnt and its twins do not know yet; small enough to be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import Step
from sddp.engine.subproblem.feasibility import FeasibilityCut
from sddp.engine.value.cost_to_go import Support


class CutsAt(NamedTuple):
    """A cut for each noise of a node, made at one incoming state."""

    node: NodeName
    state: Floats
    slopes: Floats
    intercepts: Floats


class AveragedCut(NamedTuple):
    """A cut of a node's cost-to-go, made at one outgoing state."""

    node: NodeName
    support: Support
    outgoing: Floats


@dataclass(frozen=True, eq=False)
class News:
    """Cuts, feasibility cuts, and generated rows of each pool, as they came.

    `decisions` are outgoing states of solutions, for the inner bound; nobody hears them. `followed`
    are the outcomes that a path has followed, `trips` those followed beside it, with the node (or
    root) before.
    """

    cuts: list[CutsAt] = field(default_factory=list)
    averages: list[AveragedCut] = field(default_factory=list)
    refusals: list[tuple[NodeName, FeasibilityCut]] = field(default_factory=list)
    decisions: list[tuple[NodeName, Floats]] = field(default_factory=list)
    rows: Sequence[Sequence[tuple[Floats, float]]] = ()
    followed: list[Step] = field(default_factory=list)
    trips: list[tuple[NodeName, Step]] = field(default_factory=list)
