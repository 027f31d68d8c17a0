"""The linear programme of a stage as the solver sees it: only the part that matters.

Two things keep it small, and change no solution. The incoming state is a number, not a column:
what it adds moves the right-hand sides. And columns that may rest at zero (assets that nobody
wants) stay outside until their reduced cost says that they would help; rows are then added to
few columns, which is what a re-solve pays for. Outside columns are priced after every solve by
one product, so an optimum of the small programme is an optimum of the whole one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.lazy_rows import MAXIMAL_AGE, LazyRows, RowTable
from sddp.engine.reduction import DENSE_PARTS_SIZE, as_operator
from sddp.lp import (
    AT_LOWER,
    FEASIBILITY_TOLERANCE,
    Arrays,
    Basis,
    Effort,
    LinearProgram,
    Status,
)

# Below this many columns that may rest, pricing them costs more than solving with them.
FEWEST_RESTING = 24

# A slack, or a reduced cost, above it is surely no rounding: the row does not hold the solution,
# the column is not basic.
CLEAR = 1e-7

# Columns called in after one solve: too few cost solves, too many make each one dearer.
CALLED_AT_ONCE = 12


class SolvedView(NamedTuple):
    """What the solver held when it ended: its columns and rows, the state on the right-hand sides.

    `moved` is what the state takes from the sides of each row, `row_duals` the derivative of the
    value with respect to the side that holds it.
    """

    matrix: Floats
    row_lower: Floats
    row_upper: Floats
    moved: Floats
    column_lower: Floats
    column_upper: Floats
    primal: Floats
    row_duals: Floats
    basis: Basis


class StageProgramme:
    """A minimisation over `arrays` and rows added later, solved for one state after another.

    Parameters
    ----------
    arrays : Arrays
        Its first columns are the incoming state.
    n_state : int
    resting : integer array
        Columns that may be left outside: their lower bound is 0 at all times, and neither their
        cost nor their coefficients ever change.
    unit, effort :
        See `LinearProgram`.
    """

    def __init__(
        self, arrays: Arrays, n_state: int, resting: Ints, unit: float, effort: Effort
    ) -> None:
        self._n_state, self._n_static = n_state, len(arrays.row_lower)
        self._cost = arrays.cost.copy()
        self._column_bounds = (arrays.column_lower.copy(), arrays.column_upper.copy())
        self._row_bounds = (arrays.row_lower.copy(), arrays.row_upper.copy())
        self._static = as_operator(arrays.matrix, DENSE_PARTS_SIZE)
        self._state = np.zeros(n_state)
        self._taken = np.zeros(self._n_static)  # what the state takes from the sides of each row
        self._find_moved(np.unique(arrays.matrix[:, :n_state].nonzero()[0]))
        resting = resting[arrays.column_upper[resting] >= 0.0]
        self._resting = resting if len(resting) >= FEWEST_RESTING else resting[:0]
        self._awake = np.setdiff1d(np.arange(n_state, len(arrays.cost)), self._resting)
        self._ages = np.zeros(len(arrays.cost), dtype=np.int64)
        self._place(self._awake)
        self.offset = arrays.offset
        self.rows = LazyRows(len(arrays.cost))
        self.lp = LinearProgram(_restricted(arrays, self._awake), unit, effort)

    def set_state(self, state: Floats) -> None:
        """Give the incoming state."""
        if not np.array_equal(state, self._state):
            self._state = state.copy()
            self._move_rows()
            added = np.arange(self._n_static, self.lp.n_rows, dtype=np.int32)
            lower = self.rows.lower - self.rows.coefficients[:, : self._n_state] @ state
            self.lp.set_row_bounds(added, lower, np.full(len(added), np.inf))

    def set_column_bounds(self, columns: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace bounds of some columns; outside ones that may not stay at zero alone come in."""
        self._column_bounds[0][columns], self._column_bounds[1][columns] = lower, upper
        position = self._position[columns]
        if len(self._outside) == 0:
            self.lp.set_column_bounds(position.astype(np.int32), lower, upper)
            return
        inside = position >= 0
        self.lp.set_column_bounds(position[inside].astype(np.int32), lower[inside], upper[inside])
        self._call_in(columns[~inside & (upper != 0.0)].astype(np.int64))

    def set_costs(self, columns: NDArray[np.int32], costs: Floats) -> None:
        """Replace cost coefficients of columns that do not rest."""
        self._cost[columns] = costs
        position = self._position[columns]
        inside = position >= 0
        self.lp.set_costs(position[inside].astype(np.int32), costs[inside])

    def set_row_bounds(self, rows: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace both sides of some rows of `arrays`."""
        self._row_bounds[0][rows], self._row_bounds[1][rows] = lower, upper
        self._write_row_bounds(rows)

    def set_coefficients(self, rows: Ints, columns: Ints, values: Floats) -> None:
        """Replace entries, in columns that do not rest, of the matrix of `arrays`."""
        if len(rows) == 0:
            return
        with warnings.catch_warnings():  # an entry that was 0 under the first noise
            warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
            self._static[rows, columns] = values
        of_state = columns < self._n_state
        if of_state.any():
            self._find_moved(np.union1d(self._moved, rows[of_state]))
            self._move_rows()
        self.lp.set_coefficients(
            rows[~of_state], self._position[columns[~of_state]], values[~of_state]
        )

    def append(self, table: RowTable) -> None:
        """Add rows."""
        self.rows.append(table)
        lower = table.lower - table.coefficients[:, : self._n_state] @ self._state
        self.lp.add_rows(table.coefficients[:, self._inside], lower, np.full(len(table), np.inf))

    def truncate(self, n_rows: int) -> None:
        """Remove all added rows but the first `n_rows`."""
        self._remove_rows(np.arange(n_rows, len(self.rows)))

    def drop_idle(self) -> None:
        """Remove rows that were slack, and columns that rested, for many solutions."""
        old = self.rows.age(self.lp.row_duals()[self._n_static :] == 0.0)
        if len(old):
            activity = self.lp.row_activities()[self._n_static :][old]
            sides = (
                self.rows.lower[old] - self.rows.coefficients[old, : self._n_state] @ self._state
            )
            # Only what is clear of its side is surely basic; a degenerate row stays.
            self._remove_rows(old[activity > sides + CLEAR])
        if len(self._resting):
            self._send_out_idle()

    def _send_out_idle(self) -> None:
        resting = self.lp.primal() == 0.0
        self._ages[self._inside] = np.where(resting, self._ages[self._inside] + 1, 0)
        self._ages[self._awake] = 0
        places = np.flatnonzero(self._ages[self._inside] > MAXIMAL_AGE)
        if len(places):
            # Only what would surely cost something is surely outside the basis.
            self._send_out(places[self.lp.reduced_costs()[places] > CLEAR])

    def solve(self) -> Status:
        """Solve from the present basis, calling in columns until none would help."""
        return self._with_columns(self.lp.solve)

    def solve_afresh(self) -> Status:
        """See `LinearProgram.solve_afresh`."""
        return self._with_columns(self.lp.solve_afresh)

    def solve_loosely(self) -> Status:
        """See `LinearProgram.solve_loosely`."""
        return self._with_columns(self.lp.solve_loosely)

    def objective(self) -> float:
        """Optimal value, offset and the state's own cost included."""
        own = float(self._cost[: self._n_state] @ self._state)
        return self.lp.objective() + own + self.offset

    def primal(self) -> Floats:
        """Values of all columns, those of the state first."""
        values: Floats = self.whole(self.lp.primal()[None, :])[0]
        return values

    def reduced_costs(self) -> Floats:
        """Derivative of the optimal value with respect to each column's value or active bound."""
        duals = self.lp.row_duals()
        static, added = duals[: self._n_static], duals[self._n_static :]
        costs: Floats = self._cost - added @ self.rows.coefficients
        if self._n_static:
            costs -= self._static.T @ static
        return costs

    def solved_view(self, basis: Basis) -> SolvedView:
        """See `SolvedView`; `basis` is the solver's, of which the caller has looked at the size."""
        n, table = self._n_state, self.rows
        whole = np.vstack([_dense(self._static), table.coefficients])
        moved = whole[:, :n] @ self._state
        lower = np.concatenate([self._row_bounds[0], table.lower])
        upper = np.concatenate([self._row_bounds[1], np.full(len(table), np.inf)])
        return SolvedView(
            matrix=whole[:, self._inside],
            row_lower=lower - moved,
            row_upper=upper - moved,
            moved=moved,
            column_lower=self._column_bounds[0][self._inside],
            column_upper=self._column_bounds[1][self._inside],
            primal=self.lp.primal(),
            row_duals=self.lp.row_duals(),
            basis=basis,
        )

    def whole(self, inside: Floats) -> Floats:
        """All columns, shape (n, n_columns), from those that the solver holds."""
        values = np.zeros((len(inside), len(self._cost)))
        values[:, : self._n_state] = self._state
        values[:, self._inside] = inside
        return values

    def values(self, columns: Floats) -> Floats:
        """Objective at given values of all columns, shape (n, n_columns); no offset."""
        values: Floats = columns @ self._cost
        return values

    def basis(self) -> Basis:
        """The present basis; outside columns at their bound, none for the state's."""
        own = self.lp.basis()
        columns = np.full(len(self._cost) - self._n_state, AT_LOWER, dtype=np.int8)
        columns[self._inside - self._n_state] = own.columns
        return Basis(columns, own.rows)

    def start_from(self, basis: Basis | None) -> None:
        """Forget what the solver remembers; start from `basis` (None: all slack)."""
        wanted = self._awake
        if basis is not None:
            used = np.flatnonzero(basis.columns != AT_LOWER) + self._n_state
            wanted = np.concatenate([wanted, np.setdiff1d(used, wanted)])
        # The order of columns is part of what a solve depends on.
        if not np.array_equal(self._inside[: len(wanted)], wanted):
            self._send_out(np.arange(len(self._awake), len(self._inside)))
            self._call_in(wanted[len(self._awake) :])
        self._send_out(np.arange(len(wanted), len(self._inside)))
        if basis is not None:
            basis = Basis(basis.columns[self._inside - self._n_state], basis.rows)
        self.lp.start_from(basis)

    def _with_columns(self, solve: Callable[[], Status]) -> Status:
        while True:
            status = solve()
            wanted = self._wanted() if status is Status.OPTIMAL else self._outside
            if len(wanted) == 0:
                return status
            self._call_in(wanted)

    def _wanted(self) -> Ints:
        """Outside columns whose reduced cost would lower the value, the best first."""
        outside = self._outside
        if len(outside) == 0:
            return outside
        costs = self.reduced_costs()[outside]
        costs[self._column_bounds[1][outside] <= 0.0] = 0.0
        if costs.min() >= -FEASIBILITY_TOLERANCE:
            return outside[:0]
        best = np.argsort(costs, kind="stable")[:CALLED_AT_ONCE]
        wanted: Ints = outside[best[costs[best] < -FEASIBILITY_TOLERANCE]]
        return wanted

    def _call_in(self, columns: Ints) -> None:
        if len(columns) == 0:
            return
        entries = self.rows.coefficients[:, columns].T
        if self._n_static:
            entries = np.hstack([_dense(self._static[:, columns]).T, entries])
        lower, upper = self._column_bounds
        self.lp.add_columns(self._cost[columns], lower[columns], upper[columns], entries)
        self._ages[columns] = 0
        self._place(np.concatenate([self._inside, columns]))

    def _send_out(self, places: Ints) -> None:
        """Remove inside columns, given by their place in the solver."""
        self.lp.delete_columns(places)
        self._place(np.delete(self._inside, places))

    def _place(self, inside: Ints) -> None:
        self._inside = inside
        self._position = np.full(len(self._cost), -1, dtype=np.int64)
        self._position[inside] = np.arange(len(inside))
        self._outside: Ints = self._resting[self._position[self._resting] < 0]

    def _remove_rows(self, positions: Ints) -> None:
        self.rows.remove(positions)
        self.lp.delete_rows(positions + self._n_static)

    def _find_moved(self, rows: Ints) -> None:
        """These rows of `arrays` hold entries of the state."""
        self._moved = rows.astype(np.int32)
        self._moved_entries = self._static[self._moved][:, : self._n_state]

    def _move_rows(self) -> None:
        self._taken[self._moved] = self._moved_entries @ self._state
        self._write_row_bounds(self._moved)

    def _write_row_bounds(self, rows: NDArray[np.int32]) -> None:
        taken, (lower, upper) = self._taken[rows], self._row_bounds
        self.lp.set_row_bounds(rows, lower[rows] - taken, upper[rows] - taken)


def _dense(matrix: Any) -> Floats:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def _restricted(arrays: Arrays, columns: Ints) -> Arrays:
    return Arrays(
        arrays.cost[columns],
        arrays.matrix[:, columns],
        arrays.row_lower,
        arrays.row_upper,
        arrays.column_lower[columns],
        arrays.column_upper[columns],
    )
