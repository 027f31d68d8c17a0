"""What one path has found and the other paths' value functions do not hold yet; small to send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import Step
from sddp.engine.value.cuts import Cut, Cuts


@dataclass(frozen=True, eq=False)
class CutUpdates:
    """Cuts and generated rows in the order in which they were found.

    Attributes
    ----------
    cuts : list of (node, incoming state, Cuts)
        A cut for each noise of the node, made at that state.
    cost_to_go : list of (node, Cut, outgoing state)
        Cuts of a node's cost-to-go, made at that state.
    feasibility : list of (node, Cut)
    rows : sequence of Cuts
        Generated rows ``slope.v <= intercept`` of each shared pool.
    followed : list of Step
        Outcomes that a path has followed.
    beside : list of (node or root, Step)
        Outcomes that were followed beside a path, with the node before.
    """

    cuts: list[tuple[NodeName, Floats, Cuts]] = field(default_factory=list)
    cost_to_go: list[tuple[NodeName, Cut, Floats]] = field(default_factory=list)
    feasibility: list[tuple[NodeName, Cut]] = field(default_factory=list)
    rows: Sequence[Sequence[tuple[Floats, float]]] = ()
    followed: list[Step] = field(default_factory=list)
    beside: list[tuple[NodeName, Step]] = field(default_factory=list)
