"""Substitutions at compile time that make the stage LP smaller without changing it.

Incoming states are constants of a solve. A row that holds one decision column and incoming
states is then a bound on that column that moves with the state; an equality row that defines a
column whose own bounds are implied needs neither the row nor the column. For the portfolio the
balance rows and the holdings disappear: what is left is a problem in purchases and sales.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.compile import CompiledStage
from sddp.lp import Arrays

Row = dict[int, float]

# A substituted column spreads its row over the rows that hold it; past this many new entries
# per entry removed the smaller problem is the slower one (explicit CVaR rows: 100 to 1).
MAXIMAL_FILL = 4


# Below this many entries, zeros counted, a dense product beats a sparse one; parts of a matrix
# are taken from a dense one ten times as fast.
DENSE_SIZE, DENSE_PARTS_SIZE = 4_000, 40_000


class MovingBounds:
    """Bounds ``constant + map @ state`` of some columns; often one side moves and the other not."""

    def __init__(self, constant: Floats, state_map: sp.csr_array) -> None:
        self._constant, self._rests = constant, state_map.nnz == 0
        self._map, self._back = as_operator(state_map), as_operator(sp.csr_array(state_map.T))

    def at(self, state: Floats) -> Floats:
        """The bounds at a state."""
        if self._rests:
            return self._constant
        bounds: Floats = self._constant + self._map @ state
        return bounds

    def slope(self, duals: Floats) -> Floats | float:
        """Derivative of the optimal value with respect to the state, by the bounds' duals."""
        if self._rests:
            return 0.0
        slope: Floats = self._back @ duals
        return slope


@dataclass(frozen=True, eq=False)
class ReducedStage:
    """The LP that is solved, and the way back to the columns the user declared.

    Attributes
    ----------
    arrays : Arrays
        Over the kept columns: incoming states first, in the order of the state components.
    kept : integer array
        Position in `CompiledStage` of each kept column.
    expand, constant : sparse matrix (n_columns, n_kept), array (n_columns,)
        ``z = expand @ y + constant`` gives all columns from the kept ones.
    bound_columns : integer array
        Kept columns with a bound that moves with the incoming state.
    bound_lower, bound_upper : MovingBounds
        Their two bounds.
    row_position : integer array
        Position of each row of the compiled stage among the rows kept, -1 where it is gone.
    resting : integer array
        Kept columns that are at least 0 whatever the state and the noise, and free of noise.
    """

    arrays: Arrays
    kept: Ints
    expand: sp.csr_array
    constant: Floats
    bound_columns: NDArray[np.int32]
    bound_lower: MovingBounds
    bound_upper: MovingBounds
    row_position: Ints
    resting: Ints

    def column_position(self) -> Ints:
        """Position among the kept columns of each compiled column, -1 where it is gone."""
        position = np.full(self.expand.shape[0], -1, dtype=np.int64)
        position[self.kept] = np.arange(len(self.kept))
        return position


class _Elimination:
    """Working copy of a stage as rows of dictionaries."""

    def __init__(self, compiled: CompiledStage) -> None:
        self.stage = compiled
        self.state_position = {int(c): i for i, c in enumerate(compiled.incoming)}
        self.rows = _dictionaries(compiled.matrix)
        self.row_lower = compiled.row_lower.copy()
        self.row_upper = compiled.row_upper.copy()
        self.row_alive = np.ones(len(self.rows), dtype=bool)
        self.lower, self.upper = compiled.column_lower.copy(), compiled.column_upper.copy()
        self.cost, self.offset = compiled.cost.copy(), compiled.offset
        self.moving: dict[str, dict[int, Row]] = {"lower": {}, "upper": {}}
        self.defined: dict[int, tuple[Row, float]] = {}
        self.noisy_rows, self.noisy_columns = _noisy(compiled)
        self.holders: dict[int, set[int]] = {}
        for i, row in enumerate(self.rows):
            for column in row:
                self.holders.setdefault(column, set()).add(i)

    def run(self) -> None:
        """Bounds first: a definition may lean on them."""
        for i in range(len(self.rows)):
            self._try_bound(i)
        for i in range(len(self.rows)):
            self._try_definition(i)

    def _decisions(self, row: Row) -> list[int]:
        return [column for column in row if column not in self.state_position]

    def _try_bound(self, i: int) -> None:
        """Turn ``a y + c.x <= b`` into a moving bound on ``y``."""
        row = self.rows[i]
        decisions = self._decisions(row)
        if len(decisions) != 1 or len(row) == 1 or i in self.noisy_rows:
            return
        column = decisions[0]
        sides = {"lower": self.row_lower[i], "upper": self.row_upper[i]}
        if np.isfinite(list(sides.values())).all() or column in self.noisy_columns:
            return
        name = "upper" if np.isfinite(sides["upper"]) else "lower"
        target = name if row[column] > 0 else ("lower" if name == "upper" else "upper")
        bounds = self.lower if target == "lower" else self.upper
        if np.isfinite(bounds[column]) or column in self.moving[target]:
            return
        bounds[column] = sides[name] / row[column]
        self.moving[target][column] = {
            state: -value / row[column] for state, value in row.items() if state != column
        }
        self._drop(i)

    def _try_definition(self, i: int) -> None:
        """Eliminate a column that the equality row `i` defines."""
        row = self.rows[i]
        if not self.row_alive[i] or i in self.noisy_rows or self.row_lower[i] != self.row_upper[i]:
            return
        for column in self._decisions(row):
            if self._may_go(column, i) and self._bounds_implied(column, i):
                self._substitute(column, i)
                return

    def _may_go(self, column: int, i: int) -> bool:
        others = len(self.holders[column]) - 1
        cheap = others * (len(self.rows[i]) - 2) <= MAXIMAL_FILL * len(self.rows[i])
        moving = column in self.moving["lower"] or column in self.moving["upper"]
        return cheap and not moving and column not in self.noisy_columns

    def _bounds_implied(self, column: int, i: int) -> bool:
        definition, constant = self._definition(column, i)
        for side, bound in (("lower", self.lower[column]), ("upper", self.upper[column])):
            if not np.isfinite(bound):
                continue
            reach = self._extreme(definition, constant, side)
            if reach is None or (reach < bound if side == "lower" else reach > bound):
                return False
        return True

    def _definition(self, column: int, i: int) -> tuple[Row, float]:
        row = self.rows[i]
        pivot = row[column]
        return (
            {other: -value / pivot for other, value in row.items() if other != column},
            float(self.row_upper[i]) / pivot,
        )

    def _extreme(self, definition: Row, constant: float, side: str) -> float | None:
        """Least or greatest value of a definition; None where it moves with the state."""
        state_part: Row = {}
        for column, value in definition.items():
            if column in self.noisy_columns:
                return None  # its bounds may be others under other noise
            if column in self.state_position:
                state_part[column] = state_part.get(column, 0.0) + value
                continue
            end = side if value > 0 else ("upper" if side == "lower" else "lower")
            constant += value * float((self.lower if end == "lower" else self.upper)[column])
            for state, slope in self.moving[end].get(column, {}).items():
                state_part[state] = state_part.get(state, 0.0) + value * slope
        moves = any(value != 0.0 for value in state_part.values())
        return None if moves or not np.isfinite(constant) else constant

    def _substitute(self, column: int, i: int) -> None:
        definition, constant = self._definition(column, i)
        for other in sorted(self.holders[column] - {i}):
            row = self.rows[other]
            factor = row.pop(column)
            _add(row, definition, factor)
            for touched in definition:
                self.holders[touched].add(other)
            self.row_lower[other] -= factor * constant
            self.row_upper[other] -= factor * constant
        for other, value in definition.items():
            self.cost[other] += self.cost[column] * value
        self.offset += self.cost[column] * constant
        self.cost[column] = 0.0
        self.defined[column] = (definition, constant)
        self._drop(i)

    def _drop(self, i: int) -> None:
        self.row_alive[i] = False
        for column in self.rows[i]:
            self.holders[column].discard(i)


def reduce_stage(compiled: CompiledStage) -> ReducedStage:
    """Apply all substitutions to a compiled stage."""
    work = _Elimination(compiled)
    work.run()
    states = [int(c) for c in compiled.incoming]
    others = [
        c
        for c in range(compiled.n_columns)
        if c not in work.state_position and c not in work.defined
    ]
    kept = np.array(states + others, dtype=np.int64)
    position = {int(c): i for i, c in enumerate(kept)}
    expand, constant = _expansion(work, position)
    alive = np.flatnonzero(work.row_alive)
    row_position = np.full(len(work.rows), -1, dtype=np.int64)
    row_position[alive] = np.arange(len(alive))
    moving = sorted({*work.moving["lower"], *work.moving["upper"]}, key=position.__getitem__)
    return ReducedStage(
        arrays=Arrays(
            cost=work.cost[kept],
            matrix=_matrix([work.rows[i] for i in alive], position),
            row_lower=work.row_lower[alive],
            row_upper=work.row_upper[alive],
            column_lower=work.lower[kept],
            column_upper=work.upper[kept],
            offset=work.offset,
        ),
        kept=kept,
        expand=expand,
        constant=constant,
        bound_columns=np.array([position[c] for c in moving], dtype=np.int32),
        bound_lower=_moving_bounds(work, "lower", moving, position),
        bound_upper=_moving_bounds(work, "upper", moving, position),
        row_position=row_position,
        resting=np.array([position[c] for c in others if _may_rest(work, c)], dtype=np.int64),
    )


def _moving_bounds(
    work: _Elimination, side: str, columns: list[int], position: dict[int, int]
) -> MovingBounds:
    constant = getattr(work, side)[columns]
    rows = [work.moving[side].get(c, {}) for c in columns]
    state_map = _matrix(rows, position, [int(c) for c in work.stage.incoming])
    return MovingBounds(constant, state_map)


def _may_rest(work: _Elimination, column: int) -> bool:
    steady = column not in work.noisy_columns and column not in work.moving["lower"]
    return steady and work.lower[column] == 0.0


def as_operator(matrix: sp.csr_array, largest: int = DENSE_SIZE) -> Any:
    """A matrix in the form whose product with a vector, ``matrix @ x``, is fastest.

    Dense up to `largest` entries.

    The hot loop multiplies by the same few matrices again and again, and a sparse product of a
    few entries costs scipy's bookkeeping ten times over.
    """
    return matrix.toarray() if matrix.shape[0] * matrix.shape[1] <= largest else matrix


def _dictionaries(matrix: sp.csr_array) -> list[Row]:
    columns, values = matrix.indices.tolist(), matrix.data.tolist()
    return [
        {c: v for c, v in zip(columns[start:end], values[start:end], strict=True) if v != 0.0}
        for start, end in pairwise(matrix.indptr.tolist())
    ]


def _noisy(compiled: CompiledStage) -> tuple[set[int], set[int]]:
    """Rows and columns that hold noise and are left as they are."""
    positions = compiled.noise.positions
    entries = positions["matrix"].reshape(-1, 2)
    rows = {int(i) for place in ("row_lower", "row_upper") for i in positions[place]}
    columns = {
        int(i) for place in ("cost", "column_lower", "column_upper") for i in positions[place]
    }
    return rows | {int(i) for i in entries[:, 0]}, columns | {int(j) for j in entries[:, 1]}


def _add(row: Row, definition: Row, factor: float) -> None:
    for column, value in definition.items():
        total = row.get(column, 0.0) + factor * value
        if total == 0.0:
            row.pop(column, None)
        else:
            row[column] = total


def _expansion(work: _Elimination, position: dict[int, int]) -> tuple[sp.csr_array, Floats]:
    """Definitions may name columns eliminated later: resolve them from the last one back."""
    constant = np.zeros(work.stage.n_columns)
    resolved: dict[int, Row] = {}
    for column in reversed(list(work.defined)):
        definition, shift = work.defined[column]
        row: Row = {}
        for other, value in definition.items():
            _add(row, resolved.get(other, {other: 1.0}), value)
            shift += value * constant[other]
        resolved[column], constant[column] = row, shift
    rows = [resolved.get(c, {c: 1.0}) for c in range(work.stage.n_columns)]
    return _matrix(rows, position), constant


def _matrix(
    rows: list[Row], position: dict[int, int], columns: list[int] | None = None
) -> sp.csr_array:
    n_columns = len(position) if columns is None else len(columns)
    counts = [len(row) for row in rows]
    indices = [position[column] for row in rows for column in row]
    data = [value for row in rows for value in row.values()]
    pointer = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    matrix = sp.csr_array((data, indices, pointer), shape=(len(rows), n_columns), dtype=float)
    matrix.sort_indices()
    return matrix
