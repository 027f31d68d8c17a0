"""Presolve: substitutions that make the LP of a stage smaller without changing it, and undo them.

Incoming states are constants of a solve. A row that holds one decision column and incoming
states is then a bound on that column that moves with the state; an equality row that defines a
column whose own bounds are implied needs neither the row nor the column. For the portfolio the
balance rows and the holdings disappear: what is left is a problem in purchases and sales.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.presolve.elimination import Elimination, Row, add_to
from sddp.engine.stage.declaration import RowGenerator
from sddp.engine.stage.stage_data import StageData
from sddp.engine.value.cuts import LinearConstraints
from sddp.lp import Arrays, Scaling

# Below this many entries, zeros counted, a dense product beats a sparse one; parts of a matrix
# are taken from a dense one ten times as fast.
DENSE_SIZE, DENSE_PARTS_SIZE = 4_000, 40_000


class MovingBounds:
    """Bounds ``constant + map @ state`` of some columns; often one side moves and the other not."""

    def __init__(self, constant: Floats, state_map: sp.csr_array | None) -> None:
        self._constant, self._rests = constant, state_map is None
        if state_map is not None:
            self._map, self._back = as_operator(state_map), transposed(state_map)

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


class Movement(NamedTuple):
    """Columns whose bounds move with the incoming state, and how; see `MovingBounds`."""

    columns: NDArray[np.int32]
    lower: MovingBounds
    upper: MovingBounds

    def maps(self, n_state: int) -> Floats:
        """How the bounds move, shape (2, n_columns, n_state)."""
        maps = np.zeros((2, len(self.columns), n_state))
        for i, unit in enumerate(np.eye(len(self.columns))):
            maps[0, i] += self.lower.slope(unit)
            maps[1, i] += self.upper.slope(unit)
        return maps


@dataclass(frozen=True, eq=False)
class PresolvedStage:
    """What presolve left of a stage, and the way back to the columns that the user declared.

    ``z = expand @ y + constant`` gives all columns from the kept ones. Values of kept columns may
    be those of one solution or, a row each, of many; cost-to-go columns stand behind them.

    Attributes
    ----------
    compiled : StageData
    arrays : Arrays
        Over the kept columns: incoming states first, in the order of the state components.
    kept : integer array
        Position in `StageData` of each kept column.
    expand, constant : sparse matrix (n_columns, n_kept), array (n_columns,)
    bound_columns : integer array
        Kept columns with a bound that moves with the incoming state.
    bound_lower, bound_upper : MovingBounds
        Their two bounds.
    row_position : integer array
        Position of each declared row among the rows kept, -1 where it is gone.
    removable : integer array
        Kept columns that are at least 0 whatever the state and the noise, and free of noise.
    """

    compiled: StageData
    arrays: Arrays
    kept: Ints
    expand: sp.csr_array
    constant: Floats
    bound_columns: NDArray[np.int32]
    bound_lower: MovingBounds
    bound_upper: MovingBounds
    row_position: Ints
    removable: Ints

    def with_rows(self, rows: RowGenerator) -> PresolvedStage:
        """The same stage with another generator over the same variables."""
        found = replace(self, compiled=replace(self.compiled, rows=rows))
        for part in ("_declared", "_outgoing", "_generator"):  # they do not depend on the rows
            found.__dict__[part] = getattr(self, part)
        return found

    def column_position(self) -> Ints:
        """Position among the kept columns of each declared column, -1 where it is gone."""
        position = np.full(self.expand.shape[0], -1, dtype=np.int64)
        position[self.kept] = np.arange(len(self.kept))
        return position

    def scaling(self, declared: Scaling, n_theta: int, money: float, accuracy: float) -> Scaling:
        """Units of the kept columns and rows; the cost-to-go counts in money."""
        columns = np.concatenate([declared.columns[self.kept], np.full(n_theta, money)])
        rows = np.zeros(len(self.arrays.row_lower))
        kept = self.row_position >= 0
        rows[self.row_position[kept]] = declared.rows[kept]
        return Scaling(columns, rows, money).finer(accuracy)

    def outgoing(self, kept: Floats, lower: Floats, upper: Floats) -> Floats:
        """State handed on, freed of the LP's tolerance on its own bounds."""
        values = self._outgoing.values(kept[..., : len(self.kept)])
        clipped: Floats = np.minimum(np.maximum(values, lower), upper)
        return clipped

    def declared_values(self, kept: Floats) -> Floats:
        """Values of all declared columns."""
        return self._declared.values(kept[..., : len(self.kept)])

    def generator_values(self, kept: Floats) -> Floats:
        """Values of the row generator's variables."""
        return self._generator.values(kept[: len(self.kept)])

    def cost_to_go_rows(self, rows: LinearConstraints) -> LinearConstraints:
        """Rows over the outgoing state and the cost-to-go columns, over the kept columns."""
        n = len(self.compiled.outgoing)
        state, theta = rows.coefficients[:, :n], rows.coefficients[:, n:]
        coefficients, lower = self._outgoing.rows(state, rows.lower)
        return LinearConstraints(np.hstack([coefficients, theta]), lower, rows.recurring)

    def generator_rows(self, rows: Floats, upper: Floats, n_theta: int) -> LinearConstraints:
        """Generated rows, turned to "at least", beside `n_theta` cost-to-go columns."""
        coefficients, lower = self._generator.rows(-rows, -upper)
        none = np.zeros((len(lower), n_theta))
        return LinearConstraints(np.hstack([coefficients, none]), lower, np.ones(len(lower), bool))

    @cached_property
    def _declared(self) -> _Part:
        return self._part(np.arange(len(self.constant)))

    @cached_property
    def _outgoing(self) -> _Part:
        return self._part(self.compiled.outgoing)

    @cached_property
    def _generator(self) -> _Part:
        return self._part(self.compiled.generator_columns)

    def _part(self, columns: Ints) -> _Part:
        # Parts of a dense matrix are taken ten times as fast.
        return _Part(as_operator(self.expand, DENSE_PARTS_SIZE), self.constant, columns)


class _Part:
    """Some declared columns as functions of the kept ones."""

    def __init__(self, expand: Any, constant: Floats, columns: Ints) -> None:
        part = expand[columns]
        self._expand, self._contract = as_operator(part), transposed(part)
        self._constant = constant[columns]

    def values(self, kept: Floats) -> Floats:
        """Their values, by the last axis."""
        return _product(self._expand, kept) + self._constant

    def rows(self, coefficients: Floats, lower: Floats) -> tuple[Floats, Floats]:
        """Rows over them as rows over the kept columns, and their lower sides."""
        return _product(self._contract, coefficients), lower - coefficients @ self._constant


def _product(operator: Any, values: Floats) -> Floats:
    """``operator @ x`` for a vector, or for each of some rows.

    From the left: a sparse matrix from the right costs scipy five times as much.
    """
    product: Floats = (operator @ values.T).T
    return product


def presolve(compiled: StageData) -> PresolvedStage:
    """Apply all substitutions to a stage."""
    work = Elimination(compiled)
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
    return PresolvedStage(
        compiled=compiled,
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
        removable=np.array(
            [position[c] for c in others if _may_be_removed(work, c)], dtype=np.int64
        ),
    )


def _moving_bounds(
    work: Elimination, side: str, columns: list[int], position: dict[int, int]
) -> MovingBounds:
    constant = getattr(work, side)[columns]
    rows = [work.moving[side].get(c, {}) for c in columns]
    if not any(rows):
        return MovingBounds(constant, None)
    state_map = _matrix(rows, position, [int(c) for c in work.stage.incoming])
    return MovingBounds(constant, state_map)


def _may_be_removed(work: Elimination, column: int) -> bool:
    steady = column not in work.noisy_columns and column not in work.moving["lower"]
    return steady and work.lower[column] == 0.0


def as_operator(matrix: Any, largest: int = DENSE_SIZE) -> Any:
    """A matrix in the form whose product with a vector, ``matrix @ x``, is fastest.

    Dense up to `largest` entries, else sparse.

    The hot loop multiplies by the same few matrices again and again, and a sparse product of a
    few entries costs scipy's bookkeeping ten times over.
    """
    dense = isinstance(matrix, np.ndarray)
    if matrix.shape[0] * matrix.shape[1] <= largest:
        return matrix if dense else matrix.toarray()
    return sp.csr_array(matrix) if dense else matrix


def transposed(matrix: Any) -> Any:
    """The transpose of a matrix, as `as_operator` gives it."""
    if isinstance(matrix, np.ndarray):
        return as_operator(np.ascontiguousarray(matrix.T))
    return as_operator(sp.csr_array(matrix.T))


def _expansion(work: Elimination, position: dict[int, int]) -> tuple[sp.csr_array, Floats]:
    """Definitions may name columns eliminated later: resolve them from the last one back."""
    constant = np.zeros(work.stage.n_columns)
    resolved: dict[int, Row] = {}
    for column in reversed(list(work.defined)):
        definition, shift = work.defined[column]
        row: Row = {}
        sizes: Row = {}
        for other, value in definition.items():
            add_to(row, sizes, resolved.get(other, {other: 1.0}), value)
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
