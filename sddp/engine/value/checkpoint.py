"""All a policy consists of beside its problem: what training found, frozen; in files as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.value.cost_to_go import CutForm
from sddp.engine.value.cuts import Cuts, LinearConstraints
from sddp.risk import RiskMeasure


@dataclass(frozen=True, eq=False)
class NodeState:
    """What is kept of one node, in engine units (costs).

    Attributes
    ----------
    pools : sequence of Cuts
        One for each noise, or a single one for their mean.
    feasibility : Cuts
    cost_to_go : Cuts
        Of the cost-to-go, where the cut form keeps them there (`AverageCut`); else none.
    rows : LinearConstraints
        Added to its linear program, in their order there.
    reference : array or None
        State at which it was last solved. A policy solves there first and starts every answer
        from the basis it finds.
    """

    pools: Sequence[Cuts]
    feasibility: Cuts
    cost_to_go: Cuts
    rows: LinearConstraints
    reference: Floats | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training has found so far.

    Attributes
    ----------
    risk, root_risk, cuts, tolerance :
        As in training, at its end.
    theta_lower : mapping from node name to float
        Lower bounds on the cost-to-go.
    nodes : mapping from node name to NodeState
    iterations : int
        How many it took, those of the trainings that it continued included.
    stage_solver : {"highs", "compiled"}
        Who solved the programs, and answers for the policy.
    """

    risk: Mapping[NodeName, RiskMeasure]
    root_risk: RiskMeasure
    cuts: CutForm
    tolerance: float
    theta_lower: Mapping[NodeName, float]
    nodes: Mapping[NodeName, NodeState]
    iterations: int = 0
    stage_solver: str = "highs"
