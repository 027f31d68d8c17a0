"""The flat arrays as records that compiled code passes by one pointer.

A tuple of fifty arrays is some four hundred arguments of every call, and triples the time that the
compiler takes. The constructors name every field, for the compiler caches no code made of strings.
"""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.experimental import structref

from sddp.engine.compiled.tables import Memory, Scratch, Stages


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


STAGES = RecordType(
    [
        *_fields(
            types.float64,
            1,
            "offset move_entry map_const map_entry theta_lower unit money weight risk_share "
            "risk_parameter transition_data transition_rows shift tail_fixed_const tail_data "
            "tail_rows tail_weight tail_mass noise_weight ",
        ),
        *_fields(
            types.float64,
            2,
            "cost cost_state row_lower row_upper column_lower column_upper outgoing_lower "
            "outgoing_upper tail_fixed tail_fixed_state tail_size ",
        ),
        *_fields(
            types.float64,
            3,
            "A B implied ",
        ),
        *_fields(
            types.float64,
            4,
            "implied_slope ",
        ),
        *_fields(
            types.int64,
            1,
            "kind n_columns n_rows noise_at n_noises theta move_at move_column move_side "
            "move_state map_row map_column branch_at branch_node branch_transition branch_pool "
            "branch_pools weight_at risk_at risk_kind transition_kind transition_size "
            "transition_at transition_rows_at shift_at tail tail_outcomes tail_at tail_weight_at "
            "pool_at ",
        ),
        *_fields(
            types.int64,
            2,
            "map_at ",
        ),
    ]
)

MEMORY = RecordType(
    [
        *_fields(
            types.float64,
            1,
            "last_theta ",
        ),
        *_fields(
            types.float64,
            2,
            "rhs d last cut_const ",
        ),
        *_fields(
            types.float64,
            3,
            "A B D cut_slope tails ",
        ),
        *_fields(
            types.int64,
            1,
            "m n_kept last_cuts n_cuts n_tails ",
        ),
        *_fields(
            types.int64,
            2,
            "age nonbasic side basic counts ",
        ),
    ]
)

SCRATCH = RecordType(
    [
        *_fields(
            types.float64,
            1,
            "lower upper xn xb z z_before u slope result reduced row row_state gradient arrived "
            "packed_const sum middle half value q tilted loss v v_before g miss ",
        ),
        *_fields(
            types.float64,
            2,
            "packed ",
        ),
        *_fields(
            types.int64,
            1,
            "mark live origin kept active order ",
        ),
        *_fields(
            types.boolean,
            1,
            "alive ",
        ),
    ]
)


@njit(cache=True)
def stages_record(t: Stages) -> Any:
    """The record of a `Stages`; it shares the arrays."""
    r = structref.new(STAGES)
    r.kind = t.kind
    r.n_columns = t.n_columns
    r.n_rows = t.n_rows
    r.noise_at = t.noise_at
    r.n_noises = t.n_noises
    r.theta = t.theta
    r.cost = t.cost
    r.cost_state = t.cost_state
    r.A = t.A
    r.B = t.B
    r.row_lower = t.row_lower
    r.row_upper = t.row_upper
    r.column_lower = t.column_lower
    r.column_upper = t.column_upper
    r.offset = t.offset
    r.outgoing_lower = t.outgoing_lower
    r.outgoing_upper = t.outgoing_upper
    r.move_at = t.move_at
    r.move_column = t.move_column
    r.move_side = t.move_side
    r.move_state = t.move_state
    r.move_entry = t.move_entry
    r.implied = t.implied
    r.implied_slope = t.implied_slope
    r.map_at = t.map_at
    r.map_const = t.map_const
    r.map_row = t.map_row
    r.map_column = t.map_column
    r.map_entry = t.map_entry
    r.theta_lower = t.theta_lower
    r.unit = t.unit
    r.money = t.money
    r.branch_at = t.branch_at
    r.branch_node = t.branch_node
    r.branch_transition = t.branch_transition
    r.branch_pool = t.branch_pool
    r.branch_pools = t.branch_pools
    r.weight_at = t.weight_at
    r.weight = t.weight
    r.risk_at = t.risk_at
    r.risk_share = t.risk_share
    r.risk_kind = t.risk_kind
    r.risk_parameter = t.risk_parameter
    r.transition_kind = t.transition_kind
    r.transition_size = t.transition_size
    r.transition_at = t.transition_at
    r.transition_rows_at = t.transition_rows_at
    r.transition_data = t.transition_data
    r.transition_rows = t.transition_rows
    r.shift_at = t.shift_at
    r.shift = t.shift
    r.tail = t.tail
    r.tail_fixed = t.tail_fixed
    r.tail_fixed_state = t.tail_fixed_state
    r.tail_fixed_const = t.tail_fixed_const
    r.tail_size = t.tail_size
    r.tail_outcomes = t.tail_outcomes
    r.tail_at = t.tail_at
    r.tail_data = t.tail_data
    r.tail_rows = t.tail_rows
    r.tail_weight_at = t.tail_weight_at
    r.tail_weight = t.tail_weight
    r.tail_mass = t.tail_mass
    r.pool_at = t.pool_at
    r.noise_weight = t.noise_weight
    return r


@njit(cache=True)
def memory_record(t: Memory) -> Any:
    """The record of a `Memory`; it shares the arrays."""
    r = structref.new(MEMORY)
    r.A = t.A
    r.B = t.B
    r.rhs = t.rhs
    r.age = t.age
    r.m = t.m
    r.n_kept = t.n_kept
    r.D = t.D
    r.d = t.d
    r.nonbasic = t.nonbasic
    r.side = t.side
    r.basic = t.basic
    r.counts = t.counts
    r.last = t.last
    r.last_theta = t.last_theta
    r.last_cuts = t.last_cuts
    r.cut_slope = t.cut_slope
    r.cut_const = t.cut_const
    r.n_cuts = t.n_cuts
    r.tails = t.tails
    r.n_tails = t.n_tails
    return r


@njit(cache=True)
def scratch_record(t: Scratch) -> Any:
    """The record of a `Scratch`; it shares the arrays."""
    r = structref.new(SCRATCH)
    r.lower = t.lower
    r.upper = t.upper
    r.xn = t.xn
    r.xb = t.xb
    r.alive = t.alive
    r.mark = t.mark
    r.z = t.z
    r.z_before = t.z_before
    r.u = t.u
    r.slope = t.slope
    r.result = t.result
    r.reduced = t.reduced
    r.row = t.row
    r.row_state = t.row_state
    r.gradient = t.gradient
    r.arrived = t.arrived
    r.live = t.live
    r.packed = t.packed
    r.packed_const = t.packed_const
    r.origin = t.origin
    r.kept = t.kept
    r.sum = t.sum
    r.middle = t.middle
    r.half = t.half
    r.value = t.value
    r.active = t.active
    r.q = t.q
    r.tilted = t.tilted
    r.order = t.order
    r.loss = t.loss
    r.v = t.v
    r.v_before = t.v_before
    r.g = t.g
    r.miss = t.miss
    return r
