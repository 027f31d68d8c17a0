"""The flat arrays as records that compiled code passes by one pointer.

A tuple of fifty arrays is some four hundred arguments of every call, and triples the time that the
compiler takes. The constructors name every field, for the compiler caches no code made of strings.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.experimental import structref

from sddp.engine.compiled.kernel import kernel
from sddp.engine.compiled.tables import Memory, Path, Scratch, Stages


@structref.register
class RecordType(types.StructRef):
    """Type of a record; equal where the fields are."""

    def preprocess_fields(self, fields: Any) -> Any:
        """Fields keep their types."""
        return tuple((name, types.unliteral(kind)) for name, kind in fields)


class Record(structref.StructRefProxy):
    """A record as Python holds it: a pointer to hand to a kernel."""


structref.define_boxing(RecordType, Record)


def _fields(kind: Any, n: int, names: str) -> list[tuple[str, Any]]:
    """Fields that are contiguous arrays of `n` dimensions."""
    return [(name, types.Array(kind, n, "C")) for name in names.split()]


# fmt: off
# fmt: off
STAGES = RecordType([
    *_fields(types.float64, 1, """
        offset move_entry map_const map_entry theta_lower unit money weight risk_share
        risk_parameter transition_data transition_rows shift tail_fixed_const tail_data
        tail_rows tail_weight tail_mass noise_weight prefix box cumulated
    """),
    *_fields(types.float64, 2, """
        cost cost_state row_lower row_upper column_lower column_upper outgoing_lower
        outgoing_upper tail_fixed tail_fixed_state tail_size
    """),
    *_fields(types.float64, 3, """
        A B implied
    """),
    *_fields(types.float64, 4, """
        implied_slope
    """),
    *_fields(types.int64, 1, """
        kind n_columns n_rows noise_at n_noises theta move_at move_column move_side
        move_state map_row map_column branch_at branch_node branch_transition branch_pool
        branch_pools weight_at risk_at risk_kind transition_kind transition_size
        transition_at transition_rows_at shift_at tail tail_outcomes tail_at
        tail_weight_at pool_at node_transition cumulated_at homogeneous exact
        neutral prefix_at box_at position
    """),
    *_fields(types.int64, 2, """
        map_at
    """),
])

MEMORY = RecordType([
    *_fields(types.float64, 1, """
        last_theta
    """),
    *_fields(types.float64, 2, """
        rhs d last cut_const mean
    """),
    *_fields(types.float64, 3, """
        A B D cut_slope tails
    """),
    *_fields(types.int64, 1, """
        m n_kept last_cuts n_cuts n_tails n_mean closed
    """),
    *_fields(types.int64, 2, """
        age nonbasic side basic counts
    """),
])

SCRATCH = RecordType([
    *_fields(types.float64, 1, """
        lower upper xn xb z z_before u slope result reduced row row_state gradient arrived
        packed_const sum middle half value q tilted loss v v_before g miss
    """),
    *_fields(types.float64, 2, """
        packed
    """),
    *_fields(types.int64, 1, """
        mark live place origin kept active order
    """),
    *_fields(types.boolean, 1, """
        alive
    """),
])

PATH = RecordType([
    *_fields(types.float64, 1, """
        scale unvisited unseen trial arrived sum sum_const cut_const off_origin
    """),
    *_fields(types.float64, 2, """
        x u slope result uniform cut_x cut_slope decision
    """),
    *_fields(types.int64, 1, """
        node noise arrival length at cut_pool decision_node
    """),
])

# fmt: on


@kernel
def stages_record(t: Stages) -> Any:
    """The record of a `Stages`; it shares the arrays."""
    r = structref.new(STAGES)
    r.kind, r.n_columns, r.n_rows = t.kind, t.n_columns, t.n_rows
    r.noise_at, r.n_noises, r.theta = t.noise_at, t.n_noises, t.theta
    r.cost, r.cost_state, r.A = t.cost, t.cost_state, t.A
    r.B, r.row_lower, r.row_upper = t.B, t.row_lower, t.row_upper
    r.column_lower, r.column_upper, r.offset = t.column_lower, t.column_upper, t.offset
    r.outgoing_lower, r.outgoing_upper, r.move_at = t.outgoing_lower, t.outgoing_upper, t.move_at
    r.move_column, r.move_side, r.move_state = t.move_column, t.move_side, t.move_state
    r.move_entry, r.implied, r.implied_slope = t.move_entry, t.implied, t.implied_slope
    r.map_at, r.map_const, r.map_row = t.map_at, t.map_const, t.map_row
    r.map_column, r.map_entry, r.theta_lower = t.map_column, t.map_entry, t.theta_lower
    r.unit, r.money, r.branch_at = t.unit, t.money, t.branch_at
    r.branch_node, r.branch_transition, r.branch_pool = (
        t.branch_node,
        t.branch_transition,
        t.branch_pool,
    )
    r.branch_pools, r.weight_at, r.weight = t.branch_pools, t.weight_at, t.weight
    r.risk_at, r.risk_share, r.risk_kind = t.risk_at, t.risk_share, t.risk_kind
    r.risk_parameter, r.transition_kind, r.transition_size = (
        t.risk_parameter,
        t.transition_kind,
        t.transition_size,
    )
    r.transition_at, r.transition_rows_at, r.transition_data = (
        t.transition_at,
        t.transition_rows_at,
        t.transition_data,
    )
    r.transition_rows, r.shift_at, r.shift = t.transition_rows, t.shift_at, t.shift
    r.tail, r.tail_fixed, r.tail_fixed_state = t.tail, t.tail_fixed, t.tail_fixed_state
    r.tail_fixed_const, r.tail_size, r.tail_outcomes = (
        t.tail_fixed_const,
        t.tail_size,
        t.tail_outcomes,
    )
    r.tail_at, r.tail_data, r.tail_rows = t.tail_at, t.tail_data, t.tail_rows
    r.tail_weight_at, r.tail_weight, r.tail_mass = t.tail_weight_at, t.tail_weight, t.tail_mass
    r.pool_at, r.noise_weight, r.node_transition = t.pool_at, t.noise_weight, t.node_transition
    r.cumulated_at, r.cumulated, r.homogeneous = t.cumulated_at, t.cumulated, t.homogeneous
    r.exact = t.exact
    r.neutral, r.prefix_at = t.neutral, t.prefix_at
    r.box_at, r.box = t.box_at, t.box
    r.prefix, r.position = t.prefix, t.position
    return r


@kernel
def memory_record(t: Memory) -> Any:
    """The record of a `Memory`; it shares the arrays."""
    r = structref.new(MEMORY)
    r.A, r.B, r.rhs = t.A, t.B, t.rhs
    r.age, r.m, r.n_kept = t.age, t.m, t.n_kept
    r.D, r.d, r.nonbasic = t.D, t.d, t.nonbasic
    r.side, r.basic, r.counts = t.side, t.basic, t.counts
    r.last, r.last_theta, r.last_cuts = t.last, t.last_theta, t.last_cuts
    r.cut_slope, r.cut_const, r.n_cuts = t.cut_slope, t.cut_const, t.n_cuts
    r.tails, r.n_tails, r.mean = t.tails, t.n_tails, t.mean
    r.n_mean, r.closed = t.n_mean, t.closed
    return r


@kernel
def scratch_record(t: Scratch) -> Any:
    """The record of a `Scratch`; it shares the arrays."""
    r = structref.new(SCRATCH)
    r.lower, r.upper, r.xn = t.lower, t.upper, t.xn
    r.xb, r.alive, r.mark = t.xb, t.alive, t.mark
    r.z, r.z_before, r.u = t.z, t.z_before, t.u
    r.slope, r.result, r.reduced = t.slope, t.result, t.reduced
    r.row, r.row_state, r.gradient = t.row, t.row_state, t.gradient
    r.arrived, r.live, r.packed = t.arrived, t.live, t.packed
    r.packed_const, r.origin, r.kept = t.packed_const, t.origin, t.kept
    r.sum, r.middle, r.half = t.sum, t.middle, t.half
    r.value, r.active, r.q = t.value, t.active, t.q
    r.tilted, r.order, r.loss = t.tilted, t.order, t.loss
    r.v, r.v_before, r.g = t.v, t.v_before, t.g
    r.miss = t.miss
    r.place = t.place
    return r


@kernel
def path_record(t: Path) -> Any:
    """The record of a `Path`; it shares the arrays."""
    r = structref.new(PATH)
    r.node, r.noise, r.arrival = t.node, t.noise, t.arrival
    r.length, r.x, r.scale = t.length, t.x, t.scale
    r.u, r.slope, r.result = t.u, t.slope, t.result
    r.unvisited, r.unseen, r.uniform = t.unvisited, t.unseen, t.uniform
    r.at, r.trial, r.arrived = t.at, t.trial, t.arrived
    r.sum, r.sum_const, r.cut_pool = t.sum, t.sum_const, t.cut_pool
    r.cut_x, r.cut_slope, r.cut_const = t.cut_x, t.cut_slope, t.cut_const
    r.off_origin, r.decision_node, r.decision = t.off_origin, t.decision_node, t.decision
    return r
