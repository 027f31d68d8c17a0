"""All a policy consists of beside its problem: what is frozen after training and put in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sddp.engine.cost_to_go import CutForm
from sddp.engine.cuts import Cuts
from sddp.engine.graph import NodeName
from sddp.engine.lazy_rows import RowTable
from sddp.lp import Basis
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
    basis : Basis or None
        Where each solve starts; None: all slack.
    """

    pools: Sequence[Cuts]
    feasibility: Cuts
    averages: Cuts
    rows: RowTable
    basis: Basis | None


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A trained network, frozen."""

    risk: Mapping[NodeName, RiskMeasure]
    root_risk: RiskMeasure
    cuts: CutForm
    tolerance: float
    theta_lower: Mapping[NodeName, float]
    nodes: Mapping[NodeName, NodeMemory]
