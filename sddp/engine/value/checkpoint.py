"""All a policy consists of beside its problem: what is frozen after training and put in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.subproblem.lazy_constraints import RowTable
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.cuts import Cuts
from sddp.risk import RiskMeasure


@dataclass(frozen=True, eq=False)
class NodeMemory:
    """What is kept of one node, in engine units (costs).

    Attributes
    ----------
    pools : sequence of Cuts
        One per noise, or a single one for their mean.
    feasibility : Cuts
    averages : Cuts
        Of the cost-to-go, where `AverageCut` keeps them; else none.
    rows : RowTable
        Rows added to its LP, in their order there.
    reference : array or None
        State at which it was last solved. A policy solves there first and starts every answer
        from the basis it finds.
    """

    pools: Sequence[Cuts]
    feasibility: Cuts
    averages: Cuts
    rows: RowTable
    reference: Floats | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A trained network, frozen."""

    risk: Mapping[NodeName, RiskMeasure]
    root_risk: RiskMeasure
    cuts: CutForm
    tolerance: float
    theta_lower: Mapping[NodeName, float]
    nodes: Mapping[NodeName, NodeMemory]
