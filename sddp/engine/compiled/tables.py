"""A problem as flat arrays: what the kernels read (`Stages`), what they learn (`Memory`), scratch.

Nodes and kinds of stage are numbered. Nodes of equal content share a kind; arrays by kind or node
are padded to the largest. States, outgoing states and cuts are in the engine's units; columns, rows
and money of a program in those of its scaling, converted here and nowhere else.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints

Flags = NDArray[np.bool_]

# Tail rows that a pool remembers; the latest take the place of the oldest.
POOL_SIZE = 128

# Rows beside a stage's own that the program of a node has room for at first; it grows.
FIRST_ROWS = 48

# Parts of a `Memory` by row of a program, along their second axis.
BY_ROW = ("A", "B", "rhs", "age", "D", "basic")

# Cuts that a pool has room for at first; it grows.
FIRST_CUTS = 32


class Stages(NamedTuple):
    """What never changes. `T` kinds, `K` nodes, `n` columns, `d` state components.

    Attributes
    ----------
    kind : (K,) kind of each node. n_columns, n_rows, noise_at, theta : (T,) columns, own rows,
    place
        of the first noise in the tables by noise, position of the cost-to-go column (-1: none).
    cost : (T, n). cost_state : (T, d). A, B : (T, rows, n) and (T, rows, d).
    row_lower, row_upper, column_lower, column_upper, offset, outgoing_lower, outgoing_upper :
        by noise of a kind.
    move_at : (T + 1,) range of each kind in `move_column`, `move_side`, `move_state`, `move_entry`:
        a bound moves by entry times state component.
    implied, implied_slope : (T, 2, n), (T, 2, n, d) bounds that rows imply; inf where none.
    map_at : (T, 3) rows of the two maps to declared columns (outgoing state; first variables of
        the tail) in `map_const`, `map_row`; entries in `map_column`, `map_entry`.
    theta_lower : (K,). unit, money : (1,) unit of money; size of costs.
    branch_at : (K + 1,) range of each node in the branches: child, transition, first pool, number
        of pools. weight_at : (K + 1,) range of each node's outcomes in `weight`.
    risk_at : (K + 1,) range in `risk_share`, `risk_kind`, `risk_parameter`.
    transition_kind, transition_size, transition_at, transition_rows_at, shift_at : by transition;
        `transition_data` by component, `transition_rows` by realization, `shift` by realization.
    tail : (T,) tail form of a kind (-1: none), with its fixed part by kind, and by form the
    outcomes
        (by variable, `tail_data`; by outcome, `tail_rows`), weights and mass.
    pool_at : (K + 1,) pools of each node. noise_weight : by noise of a kind.
    node_transition, exact : (K,) transition by which a node is entered; whether its value is known.
    cumulated_at, cumulated : cumulated probabilities of the realizations of each transition.
    homogeneous : (1,). neutral : (K,) whether the risk measure is the expectation.
    prefix_at, prefix : sums over the realizations before each one of ``p (scale, 1)``.
    box_at, box : middle and half width, by component, of the box around all realizations of a
        scale, then around each chunk of them.
    position : by the problem's number of a realization its place here, where neighbors are alike.
    """

    kind: Ints
    n_columns: Ints
    n_rows: Ints
    noise_at: Ints
    n_noises: Ints
    theta: Ints
    cost: Floats
    cost_state: Floats
    A: Floats
    B: Floats
    row_lower: Floats
    row_upper: Floats
    column_lower: Floats
    column_upper: Floats
    offset: Floats
    outgoing_lower: Floats
    outgoing_upper: Floats
    move_at: Ints
    move_column: Ints
    move_side: Ints
    move_state: Ints
    move_entry: Floats
    implied: Floats
    implied_slope: Floats
    map_at: Ints
    map_const: Floats
    map_row: Ints
    map_column: Ints
    map_entry: Floats
    theta_lower: Floats
    unit: Floats
    money: Floats
    branch_at: Ints
    branch_node: Ints
    branch_transition: Ints
    branch_pool: Ints
    branch_pools: Ints
    weight_at: Ints
    weight: Floats
    risk_at: Ints
    risk_share: Floats
    risk_kind: Ints
    risk_parameter: Floats
    transition_kind: Ints
    transition_size: Ints
    transition_at: Ints
    transition_rows_at: Ints
    transition_data: Floats
    transition_rows: Floats
    shift_at: Ints
    shift: Floats
    tail: Ints
    tail_fixed: Floats
    tail_fixed_state: Floats
    tail_fixed_const: Floats
    tail_size: Floats
    tail_outcomes: Ints
    tail_at: Ints
    tail_data: Floats
    tail_rows: Floats
    tail_weight_at: Ints
    tail_weight: Floats
    tail_mass: Floats
    pool_at: Ints
    noise_weight: Floats
    node_transition: Ints
    cumulated_at: Ints
    cumulated: Floats
    homogeneous: Ints
    exact: Ints
    neutral: Ints
    prefix_at: Ints
    prefix: Floats
    box_at: Ints
    box: Floats
    position: Ints


class Memory(NamedTuple):
    """What one path learns: programs with their bases, cuts and tails.

    Attributes
    ----------
    A, B, rhs, age : rows of each node's program; `m` of them, the first `n_kept` added ones for
    good.
    D, d, nonbasic, side, basic : dictionary; see `simplex`.
    counts : (K, 6) pivots since the dictionary was made, pivots, refactorizations, solves, visits,
        solutions accepted with a row broken within the program's tolerance.
    last, last_theta, last_cuts : last solution and the number of cuts it was found under (-1:
    none).
    cut_slope, cut_const, n_cuts : by pool.
    tails, n_tails : by tail form; the number counts all ever found.
    mean, n_mean : (K, d), (K,) running means of decisions, and whether there is one.
    closed : (K,) nodes that are left to the reference.
    """

    A: Floats
    B: Floats
    rhs: Floats
    age: Ints
    m: Ints
    n_kept: Ints
    D: Floats
    d: Floats
    nonbasic: Ints
    side: Ints
    basic: Ints
    counts: Ints
    last: Floats
    last_theta: Floats
    last_cuts: Ints
    cut_slope: Floats
    cut_const: Floats
    n_cuts: Ints
    tails: Floats
    n_tails: Ints
    mean: Floats
    n_mean: Ints
    closed: Ints


class Scratch(NamedTuple):
    """Room to work in, and the results of the last visit: `result`, `slope`, `u`, `z`, `q`."""

    lower: Floats
    upper: Floats
    xn: Floats
    xb: Floats
    alive: Flags
    mark: Ints
    z: Floats
    z_before: Floats
    u: Floats
    slope: Floats
    result: Floats
    reduced: Floats
    row: Floats
    row_state: Floats
    gradient: Floats
    arrived: Floats
    live: Ints
    place: Ints
    packed: Floats
    packed_const: Floats
    origin: Ints
    kept: Ints
    sum: Floats
    middle: Floats
    half: Floats
    value: Floats
    active: Ints
    q: Floats
    tilted: Floats
    order: Ints
    loss: Floats
    v: Floats
    v_before: Floats
    g: Floats
    miss: Floats


def new_memory(stages: Stages, n_rows: int = FIRST_ROWS, n_cuts: int = FIRST_CUTS) -> Memory:
    """Programs with their own rows alone, each at the basis of all rows; no cuts, no tails."""
    n_nodes, n = len(stages.kind), stages.cost.shape[1]
    d, own = stages.cost_state.shape[1], stages.A.shape[1]
    room, kind = own + n_rows, stages.kind
    A, B = np.zeros((n_nodes, room, n)), np.zeros((n_nodes, room, d))
    A[:, :own], B[:, :own] = stages.A[kind], stages.B[kind]
    basic = np.zeros((n_nodes, room), dtype=np.int64)
    basic[:, :own] = stages.n_columns[kind][:, None] + np.arange(own)
    n_pools, n_forms = int(stages.pool_at[-1]), max(len(stages.tail_mass), 1)
    return Memory(
        A=A,
        B=B,
        rhs=np.zeros((n_nodes, room)),
        age=np.zeros((n_nodes, room), dtype=np.int64),
        m=stages.n_rows[kind].copy(),
        n_kept=np.zeros(n_nodes, dtype=np.int64),
        D=A.copy(),
        d=stages.cost[kind].copy(),
        nonbasic=np.tile(np.arange(n), (n_nodes, 1)),
        side=np.zeros((n_nodes, n), dtype=np.int64),
        basic=basic,
        counts=np.zeros((n_nodes, 6), dtype=np.int64),
        last=np.zeros((n_nodes, d)),
        last_theta=np.zeros(n_nodes),
        last_cuts=np.full(n_nodes, -1, dtype=np.int64),
        cut_slope=np.zeros((n_pools, n_cuts, d)),
        cut_const=np.zeros((n_pools, n_cuts)),
        n_cuts=np.zeros(n_pools, dtype=np.int64),
        tails=np.zeros((n_forms, POOL_SIZE, max(1, d))),
        n_tails=np.zeros(n_forms, dtype=np.int64),
        mean=np.zeros((n_nodes, d)),
        n_mean=np.zeros(n_nodes, dtype=np.int64),
        closed=np.zeros(n_nodes, dtype=np.int64),
    )


def with_room(memory: Memory, n_rows: int, n_cuts: int) -> Memory:
    """The same with room for at least so many rows of a program and cuts of a pool."""
    grown: dict[str, Any] = {}
    rows, cuts = memory.rhs.shape[1], memory.cut_const.shape[1]
    if n_rows > rows:
        for name in BY_ROW:
            grown[name] = _longer(getattr(memory, name), max(n_rows, 2 * rows))
    if n_cuts > cuts:
        for name in ("cut_slope", "cut_const"):
            grown[name] = _longer(getattr(memory, name), max(n_cuts, 2 * cuts))
    return memory._replace(**grown)


def _longer(array: Any, length: int) -> Any:
    """The same with a longer second axis."""
    longer = np.zeros((array.shape[0], length, *array.shape[2:]), dtype=array.dtype)
    longer[:, : array.shape[1]] = array
    return longer


def new_scratch(stages: Stages, memory: Memory) -> Scratch:
    """Room for all visits with a memory of this size."""
    n, d = stages.cost.shape[1], stages.cost_state.shape[1]
    m, n_cuts = memory.rhs.shape[1], memory.cut_const.shape[1]
    most = int(stages.transition_size.max(initial=1))
    outcomes = int(np.diff(stages.weight_at).max(initial=1))
    outcomes = max(outcomes, int(stages.tail_outcomes.max(initial=1)))
    floats = {
        "lower": n + m, "upper": n + m, "xn": n, "xb": m, "z": n, "z_before": n, "u": d, "slope": d,
        "result": 5, "reduced": n, "row": n, "row_state": d, "gradient": d, "arrived": d * most,
        "packed_const": n_cuts, "sum": max(most, 1), "middle": d, "half": d, "value": outcomes,
        "q": outcomes, "tilted": max(outcomes, 64), "loss": outcomes, "v": d, "v_before": d, "g": d,
        "miss": POOL_SIZE,
    }  # fmt: skip
    ints = {
        "mark": n + m, "live": d, "place": d, "origin": n_cuts, "kept": n_cuts, "active": outcomes,
        "order": outcomes,
    }  # fmt: skip
    return Scratch(
        **{name: np.zeros(size) for name, size in floats.items()},
        **{name: np.zeros(size, dtype=np.int64) for name, size in ints.items()},
        alive=np.zeros(n, dtype=np.bool_),
        packed=np.zeros((n_cuts, d)),
    )


class Path(NamedTuple):
    """One path, and what its passes write down. `L` steps at most, `F` cuts, `G` decisions.

    Attributes
    ----------
    node, noise, arrival : (L,). length : (1,)
    x, scale, u, slope, result : by step: incoming state of size 1 where homogeneous, its true size,
        outgoing state, slope, and value, intercept, cost-to-go column.
    unvisited : (L,) weight of the outcomes of a decision that no path has followed.
    unseen : by outcome of each node, the share of it that no path has followed.
    uniform : (L, branches)
    at : see `passes`.
    trial, arrived, sum, sum_const : the state that is studied, a child's, its mean cut so far.
    cut_pool, cut_x, cut_slope, cut_const : (F,) cuts as they came. off_origin : (1,) largest
        intercept of a homogeneous one.
    decision_node, decision : (G,), (G, d)
    """

    node: Ints
    noise: Ints
    arrival: Ints
    length: Ints
    x: Floats
    scale: Floats
    u: Floats
    slope: Floats
    result: Floats
    unvisited: Floats
    unseen: Floats
    uniform: Floats
    at: Ints
    trial: Floats
    arrived: Floats
    sum: Floats
    sum_const: Floats
    cut_pool: Ints
    cut_x: Floats
    cut_slope: Floats
    cut_const: Floats
    off_origin: Floats
    decision_node: Ints
    decision: Floats


def new_path(stages: Stages, length: int, n_cuts: int, n_decisions: int, unseen: Floats) -> Path:
    """Room for a path of so many steps."""
    d = stages.cost_state.shape[1]
    branches = int(np.diff(stages.branch_at).max(initial=1))

    def ints(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    return Path(
        node=ints(length),
        noise=ints(length),
        arrival=ints(length),
        length=ints(1),
        x=np.zeros((length, d)),
        scale=np.ones(length),
        u=np.zeros((length, d)),
        slope=np.zeros((length, d)),
        result=np.zeros((length, 3)),
        unvisited=np.zeros(length),
        unseen=unseen,
        uniform=np.zeros((length, branches)),
        at=ints(8),
        trial=np.zeros(d),
        arrived=np.zeros(d),
        sum=np.zeros(d),
        sum_const=np.zeros(1),
        cut_pool=ints(n_cuts),
        cut_x=np.zeros((n_cuts, d)),
        cut_slope=np.zeros((n_cuts, d)),
        cut_const=np.zeros(n_cuts),
        off_origin=np.zeros(1),
        decision_node=ints(n_decisions),
        decision=np.zeros((n_decisions, d)),
    )
