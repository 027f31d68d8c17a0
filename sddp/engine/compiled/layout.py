"""From a problem and its value functions to the flat arrays of `tables`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.compiled.outcomes import CHUNK, ENTROPIC, IDENTITY, MATRIX, SCALE, TAIL
from sddp.engine.compiled.simplex import AT_LOWER, AT_UPPER
from sddp.engine.compiled.tables import Stages
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.tail_form import TailForm
from sddp.engine.presolve.compile import compile_problem
from sddp.engine.presolve.presolve import PresolvedStage
from sddp.engine.stage.stage_data import StageData
from sddp.engine.stage.transition import IdentityMap, ScaleMap, StateMap
from sddp.engine.subproblem.stage_lp import Movement
from sddp.engine.value.cost_to_go import Outcomes
from sddp.lp import Scaling
from sddp.risk import AVaR, ConvexCombination, CVaR, Entropic, Expectation, RiskMeasure, WorstCase

# Blocks of realizations along their first principal component.
BLOCKS = 12


@dataclass(frozen=True, eq=False)
class Followers:
    """What follows each node of a problem, and how its value function is kept.

    Attributes
    ----------
    outcomes : mapping from node name to Outcomes or None
        None where nothing follows.
    n_pools : mapping from node name to int
        Pools of cuts of the node's own value function.
    risk : mapping from node name to RiskMeasure
    theta_lower : mapping from node name to float
        Bounds on the cost-to-go; minus infinity where left out.
    """

    outcomes: Mapping[NodeName, Outcomes | None]
    n_pools: Mapping[NodeName, int]
    risk: Mapping[NodeName, RiskMeasure]
    theta_lower: Mapping[NodeName, float]


def stages_of(problem: Problem, followers: Followers) -> tuple[Stages, list[Floats]]:
    """The arrays of all nodes of a problem, and the units of the columns of each kind."""
    names = list(problem.graph.nodes)
    kinds, kind_of = _kinds(problem, names)
    exact = compile_problem(problem).exact
    parts: dict[str, Any] = {"kind": np.array(kind_of)}
    parts |= _stacked_kinds(kinds)
    parts |= _stacked_maps(kinds)
    parts |= _tails(kinds)
    parts |= _followers(problem, names, followers)
    money = kinds[0].scaling.money
    lower = [followers.theta_lower.get(name, -np.inf) / money for name in names]
    parts["theta_lower"] = np.array(lower)
    parts["unit"], parts["money"] = np.array([money]), np.array([problem.money])
    parts["homogeneous"] = np.array([int(problem.homogeneous)])
    parts["exact"] = np.array([int(name in exact) for name in names])
    stages = Stages(**{name: _own(parts[name]) for name in Stages._fields})
    return stages, [kind.columns for kind in kinds]


def _own(array: Any) -> Any:
    """A contiguous array of its own that may be written to: kernels are compiled for such alone."""
    kind = np.float64 if np.asarray(array).dtype.kind == "f" else np.int64
    return np.array(array, dtype=kind, order="C")


@dataclass(eq=False)
class _Kind:
    """One kind of stage in the units of its programs."""

    prepared: PresolvedStage
    has_theta: bool
    scaling: Scaling
    form: TailForm | None
    n_state: int = field(init=False)
    columns: Floats = field(init=False)

    def __post_init__(self) -> None:
        self.n_state = len(self.compiled.incoming)
        self.columns = self.scaling.columns[self.n_state :]

    @property
    def compiled(self) -> StageData:
        return self.prepared.compiled

    @property
    def reduced(self) -> PresolvedStage:
        return self.prepared

    @property
    def n(self) -> int:
        """Columns, the cost-to-go's included."""
        return len(self.columns)

    @property
    def n_own(self) -> int:
        """Columns of the reduced stage."""
        return self.n - self.has_theta

    def matrix(self) -> tuple[Floats, Floats]:
        """Rows over the columns and over the state."""
        dense = self.reduced.arrays.matrix.toarray() * self.scaling.rows[:, None]
        A = np.zeros((len(dense), self.n))
        A[:, : self.n_own] = dense[:, self.n_state :] * self.columns[: self.n_own]
        return A, dense[:, : self.n_state]

    def costs(self) -> tuple[Floats, Floats]:
        """Costs of the columns and of the state."""
        cost, d = self.reduced.arrays.cost / self.scaling.money, self.n_state
        own = cost[d:] * self.columns[: self.n_own]
        return np.append(own, np.ones(int(self.has_theta))), cost[:d]

    def movement(self) -> tuple[Ints, Floats, Floats]:
        """Columns with moving bounds; their two bounds at state 0, and how these move."""
        reduced = self.reduced
        movement = Movement(reduced.bound_columns, reduced.bound_lower, reduced.bound_upper)
        at = reduced.bound_columns.astype(np.int64) - self.n_state
        zero, units = np.zeros(self.n_state), self.columns[at]
        constant = np.array([movement.lower.at(zero), movement.upper.at(zero)]) / units
        return at, constant, movement.maps(self.n_state) / units[:, None]

    def by_noise(self) -> dict[str, Floats]:
        """Sides and bounds under each noise, a line each."""
        table, arrays, compiled = self.compiled.noise, self.reduced.arrays, self.compiled
        columns, rows = self.reduced.column_position(), self.reduced.row_position
        places = {
            "row_lower": rows, "row_upper": rows, "column_lower": columns, "column_upper": columns
        }  # fmt: skip
        found = {}
        for place, position in places.items():
            declared, own = getattr(compiled, place), getattr(arrays, place)
            at = table.positions[place]
            lines = np.tile(own, (table.n_realisations, 1))
            # What substitutions added to an entry stays when noise replaces the declared part.
            lines[:, position[at]] = table.values[place] + (own[position[at]] - declared[at])
            found[place] = lines
        for place in ("column_lower", "column_upper"):
            own = found[place][:, self.n_state :] / self.columns[: self.n_own]
            free = np.full((len(own), int(self.has_theta)), np.inf)
            found[place] = np.hstack([own, -free if place == "column_lower" else free])
            at, constant, _ = self.movement()
            found[place][:, at] = constant[int(place == "column_upper")]
        for place in ("row_lower", "row_upper"):
            found[place] = found[place] * self.scaling.rows
        offsets = table.values["offset"]
        found["offset"] = np.full(table.n_realisations, arrays.offset)
        if offsets.shape[1]:
            found["offset"] = offsets[:, 0] + (arrays.offset - compiled.offset)
        for place in ("lower", "upper"):
            at, bounds = table.positions[f"column_{place}"], getattr(compiled, f"column_{place}")
            lines = np.tile(bounds, (table.n_realisations, 1))
            lines[:, at] = table.values[f"column_{place}"]
            found[f"outgoing_{place}"] = lines[:, compiled.outgoing]
        return found

    def map_of(self, columns: Ints) -> tuple[Floats, Any]:
        """Declared columns from the state and the columns of the program."""
        expand = self.reduced.expand[columns].tocsr(copy=True)
        units = np.concatenate([np.ones(self.n_state), self.columns[: self.n_own]])
        expand.data = expand.data * units[expand.indices]
        expand.eliminate_zeros()
        return self.reduced.constant[columns], expand


def tail_form(compiled: StageData) -> TailForm | None:
    """The tail form of a stage's row generator, where it has one."""
    make = getattr(compiled.rows, "tail_form", None)
    form: TailForm | None = None if make is None else make()
    return form


def _kinds(problem: Problem, names: Iterable[NodeName]) -> tuple[list[_Kind], list[int]]:
    kinds: dict[tuple[int, int, bool], int] = {}
    found: list[_Kind] = []
    numbers = []
    for name in names:
        stage, has_theta = compile_problem(problem).stages[name], bool(problem.graph.children(name))
        key = (id(stage.compiled), id(stage), has_theta)
        if key not in kinds:
            kinds[key] = len(found)
            scaling = stage.scaling(
                problem.scaling(stage.compiled), int(has_theta), problem.money, problem.accuracy
            )
            found.append(_Kind(stage, has_theta, scaling, tail_form(stage.compiled)))
        numbers.append(kinds[key])
    return found, numbers


def _padded(parts: Sequence[Floats], shape: tuple[int, ...], fill: float = 0.0) -> Floats:
    """Arrays side by side along a new first axis, filled up to one shape."""
    table = np.full((len(parts), *shape), fill)
    for line, part in zip(table, parts, strict=True):
        line[tuple(slice(0, size) for size in part.shape)] = part
    return table


def _stacked_kinds(kinds: Sequence[_Kind]) -> dict[str, Any]:
    n, d = max(kind.n for kind in kinds), kinds[0].n_state
    matrices = [kind.matrix() for kind in kinds]
    m = max(len(A) for A, _ in matrices)
    noises = [kind.by_noise() for kind in kinds]
    sizes = [len(lines["offset"]) for lines in noises]
    parts: dict[str, Any] = {
        "n_columns": np.array([kind.n for kind in kinds]),
        "n_rows": np.array([len(A) for A, _ in matrices]),
        "n_noises": np.array(sizes),
        "noise_at": np.cumsum([0, *sizes])[:-1],
        "theta": np.array([kind.n - 1 if kind.has_theta else -1 for kind in kinds]),
        "cost": _padded([kind.costs()[0] for kind in kinds], (n,)),
        "cost_state": np.array([kind.costs()[1] for kind in kinds]),
        "A": _padded([A for A, _ in matrices], (m, n)),
        "B": _padded([B for _, B in matrices], (m, d)),
        "offset": np.concatenate([lines["offset"] for lines in noises]),
        "noise_weight": np.concatenate([k.compiled.noise.probabilities for k in kinds]),
    }
    widths = {"row_lower": m, "row_upper": m, "column_lower": n, "column_upper": n}
    for place in (*widths, "outgoing_lower", "outgoing_upper"):
        lines = [line for found in noises for line in found[place]]
        parts[place] = _padded(lines, (widths.get(place, d),))
    moves = [_moves(kind) for kind in kinds]
    parts["move_at"] = np.cumsum([0, *(len(move[0]) for move in moves)])
    for i, name in enumerate(("move_column", "move_side", "move_state", "move_entry")):
        parts[name] = np.concatenate([move[i] for move in moves])
    bounds = [_implied(kind, *matrices[t], noises[t]) for t, kind in enumerate(kinds)]
    parts["implied"] = _padded([const for const, _ in bounds], (2, n), np.inf)
    parts["implied_slope"] = _padded([slope for _, slope in bounds], (2, n, d))
    return parts


def _moves(kind: _Kind) -> tuple[Ints, Ints, Ints, Floats]:
    at, _, maps = kind.movement()
    side, column, state = np.nonzero(maps)
    codes = np.where(side == 0, AT_LOWER, AT_UPPER)
    return at[column], codes, state, maps[side, column, state]


def _implied(kind: _Kind, A: Floats, B: Floats, noise: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Bounds that the stage's own rows imply for columns without one, whatever the noise.

    They weigh rounding only, so the first row that implies one will do; see `implied_bounds`.
    """
    at, _, moving = kind.movement()
    maps = np.zeros((2, kind.n, kind.n_state))
    maps[:, at] = moving
    bounds = (noise["column_lower"].min(axis=0), noise["column_upper"].max(axis=0))
    sides = (noise["row_lower"].min(axis=0), noise["row_upper"].max(axis=0))
    const, slope = np.full((2, kind.n), np.inf), np.zeros((2, kind.n, kind.n_state))
    for high in (0, 1):
        for j in np.flatnonzero(np.isinf(bounds[high])):
            for i in np.flatnonzero(A[:, j]):
                found = _row_bound(A[i], B[i], [side[i] for side in sides], j, high, bounds, maps)
                if found is not None:
                    const[high, j], slope[high, j] = found
                    break
    return const, slope


def _row_bound(
    row: Floats,
    own: Floats,
    sides: Sequence[float],
    j: Any,
    high: int,
    bounds: tuple[Floats, Floats],
    maps: Floats,
) -> tuple[float, Floats] | None:
    """``z_j <= const + slope.x``, from below where `high` is 0, by ``row z + own x`` in sides."""
    upper = (row[j] > 0.0) == bool(high)
    others = row.copy()
    others[j] = 0.0
    # The side less the least (of an upper side) or largest value of the other terms.
    ends = (others > 0.0) != upper
    values = np.where(ends, bounds[1], bounds[0])
    used = others != 0.0
    const = sides[int(upper)] - float(others[used] @ values[used])
    if not np.isfinite(const):
        return None
    moved = np.where(ends[:, None], maps[1], maps[0])
    slope: Floats = (-own - others @ moved) / row[j]
    return const / row[j], slope


def _stacked_maps(kinds: Sequence[_Kind]) -> dict[str, Any]:
    at, row = [], [0]
    const: list[float] = []
    column: list[Ints] = []
    entry: list[Floats] = []
    for kind in kinds:
        first = kind.form.outcomes.shape[1] if kind.form is not None else 0
        starts = [len(const)]
        for columns in (kind.compiled.outgoing, kind.compiled.generator_columns[:first]):
            constant, matrix = kind.map_of(np.asarray(columns, dtype=np.int64))
            const.extend(constant.tolist())
            row.extend((row[-1] + matrix.indptr[1:]).tolist())
            column.append(matrix.indices)
            entry.append(matrix.data)
            starts.append(len(const))
        at.append(starts)
    return {
        "map_at": np.array(at),
        "map_const": np.array(const, dtype=float),
        "map_row": np.array(row),
        "map_column": np.concatenate(column),
        "map_entry": np.concatenate(entry),
    }


def _tails(kinds: Sequence[_Kind]) -> dict[str, Any]:
    n, d = max(kind.n for kind in kinds), kinds[0].n_state
    number: dict[Hashable, int] = {}
    forms: list[TailForm] = []
    tail = []
    fixed, size = np.zeros((len(kinds), d + n)), np.zeros((len(kinds), d + n))
    const = np.zeros(len(kinds))
    for t, kind in enumerate(kinds):
        if kind.form is None:
            tail.append(-1)
            continue
        assert kind.compiled.rows is not None
        key = kind.compiled.rows.pool_key
        if key not in number:
            number[key] = len(forms)
            forms.append(kind.form)
        tail.append(number[key])
        constant, matrix = kind.map_of(kind.compiled.generator_columns)
        width = matrix.shape[1]
        fixed[t, :width], const[t] = matrix.T @ kind.form.fixed, constant @ kind.form.fixed
        size[t, :width] = matrix.T @ kind.form.size
    shapes = [form.outcomes.shape for form in forms]
    return {
        "tail": np.array(tail),
        "tail_fixed": fixed[:, d:],
        "tail_fixed_state": fixed[:, :d],
        "tail_fixed_const": const,
        "tail_size": size[:, :d],
        "tail_outcomes": np.array([m for m, _ in shapes], dtype=np.int64),
        "tail_at": np.cumsum([0, *(m * k for m, k in shapes)]),
        "tail_data": _joined([form.outcomes.T.ravel() for form in forms]),
        "tail_rows": _joined([form.outcomes.ravel() for form in forms]),
        "tail_weight_at": np.cumsum([0, *(m for m, _ in shapes)]),
        "tail_weight": _joined([form.probabilities for form in forms]),
        "tail_mass": np.array([form.mass for form in forms], dtype=float),
    }


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate([np.zeros(0), *parts])


def _followers(problem: Problem, names: list[NodeName], known: Followers) -> dict[str, Any]:
    number = {name: k for k, name in enumerate(names)}
    pool_at = np.cumsum([0, *(known.n_pools[name] for name in names)])
    maps: list[StateMap] = []
    positions: dict[int, int] = {}
    for name in names:
        transition = problem.stages[name].transition
        if id(transition) not in positions:
            positions[id(transition)] = len(maps)
            maps.append(transition)
    at = [positions[id(problem.stages[name].transition)] for name in names]
    orders = [_spread(each) for each in maps]
    branches: list[int] = []
    branch_at, weight_at, risk_at = [0], [0], [0]
    weights: list[Floats] = []
    terms: list[tuple[float, int, float]] = []
    for name in names:
        found = known.outcomes[name]
        if found is not None:
            branches.extend(number[child.name] for child in found.children)
            weights.append(_reordered(found, {id(m): o for m, o in zip(maps, orders, strict=True)}))
            terms.extend(risk_terms(known.risk[name]))
        branch_at.append(len(branches))
        weight_at.append(weight_at[-1] + (0 if found is None else len(found.weights)))
        risk_at.append(len(terms))
    node = np.array(branches, dtype=np.int64)
    return {
        "branch_at": np.array(branch_at),
        "branch_node": node,
        "branch_transition": np.array(at)[node],
        "branch_pool": pool_at[node],
        "branch_pools": np.diff(pool_at)[node],
        "weight_at": np.array(weight_at),
        "weight": _joined(weights),
        "risk_at": np.array(risk_at),
        "risk_share": np.array([term[0] for term in terms], dtype=float),
        "risk_kind": np.array([term[1] for term in terms], dtype=np.int64),
        "risk_parameter": np.array([term[2] for term in terms], dtype=float),
        "pool_at": pool_at,
        "node_transition": np.array(at),
        "neutral": np.array([int(type(known.risk[name]) is Expectation) for name in names]),
        **_transitions(maps, orders),
    }


def _reordered(outcomes: Outcomes, orders: Mapping[int, Ints]) -> Floats:
    """Weights of the outcomes, realizations of each child in the order of its transition."""
    parts, start = [], 0
    for child, _ in outcomes.pools:
        n = child.transition.n_realisations
        parts.append(outcomes.weights[start : start + n][orders[id(child.transition)]])
        start += n
    return np.concatenate([*parts, outcomes.weights[start:]])


def _spread(transition: StateMap) -> Ints:
    """An order of the realizations in which neighbors are alike.

    Blocks of the first principal component, in each by the second one, there and back. Boxes
    around neighbors are then small, and their active cuts often the same.
    """
    n = transition.n_realisations
    if not isinstance(transition, ScaleMap) or n < 2 * BLOCKS:
        return np.arange(n)
    centered = transition.scale - transition.scale.mean(axis=0)
    _, vectors = np.linalg.eigh(centered.T @ centered)
    first = centered @ vectors[:, -1]
    second = centered @ vectors[:, max(-2, -len(vectors))]
    block = np.argsort(np.argsort(first, kind="stable"), kind="stable") * BLOCKS // n
    return np.lexsort((np.where(block % 2 == 0, second, -second), block))


def _transitions(maps: Sequence[StateMap], orders: Sequence[Ints]) -> dict[str, Any]:
    kinds, shift_at = [], []
    data: list[Floats] = []
    rows: list[Floats] = []
    shifts: list[Floats] = []
    prefixes: list[Floats] = []
    boxes: list[Floats] = []
    n_shifts = 0
    for transition, order in zip(maps, orders, strict=True):
        prefix, box = np.zeros(0), np.zeros(0)
        if isinstance(transition, ScaleMap):
            scale, p = transition.scale[order], transition.probabilities[order]
            kind, by_component, by_realization = SCALE, scale.T, scale
            summed = np.cumsum(p[:, None] * np.hstack([scale, np.ones((len(p), 1))]), axis=0)
            prefix = np.vstack([np.zeros(summed.shape[1]), summed])
            parts = [scale, *(scale[i : i + CHUNK] for i in range(0, len(scale), CHUNK))]
            ends = np.array([(part.min(axis=0), part.max(axis=0)) for part in parts])
            box = np.stack([ends.sum(axis=1) / 2.0, np.diff(ends, axis=1)[:, 0] / 2.0], axis=1)
        elif isinstance(transition, IdentityMap):
            kind, by_component, by_realization = IDENTITY, np.zeros(0), np.zeros(0)
        else:
            kind = MATRIX
            stacked = transition.stacked  # type: ignore[attr-defined]
            full = stacked if isinstance(stacked, np.ndarray) else stacked.toarray()
            by_component = by_realization = full
        kinds.append(kind)
        data.append(np.ravel(by_component))
        rows.append(np.ravel(by_realization))
        prefixes.append(np.ravel(prefix))
        boxes.append(np.ravel(box))
        shift_at.append(-1 if transition.shift is None else n_shifts)
        if transition.shift is not None:
            shifts.append(np.ravel(transition.shift[order]))
            n_shifts += transition.shift.size
    sizes = [each.n_realisations for each in maps]
    return {
        "transition_kind": np.array(kinds, dtype=np.int64),
        "transition_size": np.array(sizes, dtype=np.int64),
        "transition_at": np.cumsum([0, *(each.size for each in data)]),
        "transition_rows_at": np.cumsum([0, *(each.size for each in rows)]),
        "transition_data": _joined(data),
        "transition_rows": _joined(rows),
        "prefix_at": np.cumsum([0, *(each.size for each in prefixes)]),
        "prefix": _joined(prefixes),
        "box_at": np.cumsum([0, *(each.size for each in boxes)]),
        "box": _joined(boxes),
        "shift_at": np.array(shift_at, dtype=np.int64),
        "shift": _joined(shifts),
        "cumulated_at": np.cumsum([0, *sizes]),
        "cumulated": _joined([each.cumulated for each in maps]),
        "position": np.concatenate([np.argsort(order, kind="stable") for order in orders]),
    }


def risk_terms(measure: RiskMeasure) -> list[tuple[float, int, float]]:
    """A measure as a sum of (share, kind, parameter); empty where it is not one of ours."""
    if type(measure) is Entropic:
        return [(1.0, ENTROPIC, measure.risk_aversion)]
    if type(measure) is ConvexCombination:
        parts = [(share, risk_terms(part)) for share, part in measure.terms]
        if not all(found for _, found in parts):
            return []
        return [(share * s, kind, p) for share, found in parts for s, kind, p in found]
    if type(measure) in (Expectation, AVaR, CVaR, WorstCase):
        pairs = measure.tail_mixture() or ()
        return [(share, TAIL, mass) for share, mass in pairs]
    return []
