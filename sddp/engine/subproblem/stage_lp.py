"""The linear program of a stage as the solver sees it: only the part that matters.

Two things keep it small, and change no solution. The incoming state is a number, not a column:
what it adds moves the right-hand sides. And columns that may be zero (assets that nobody holds)
are inactive, not in the solver, until their reduced cost says that they would help; rows are then
added to few columns, which is what a re-solve pays for. Inactive columns are priced by one product
after every solve, so an optimum of the small program is an optimum of the whole one.

Every solve gives a cut: an affine lower bound on the value as a function of the incoming state. It
is the dual objective of the whole stage at the multipliers found, each column at the bound that the
sign of its reduced cost asks for, so it is valid whatever the solver's tolerances are.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.presolve.presolve import DENSE_PARTS_SIZE, as_operator
from sddp.engine.presolve.presolve import Movement as Movement
from sddp.engine.subproblem.implied_bounds import implied_bound
from sddp.engine.value.cuts import Cut, LinearConstraints
from sddp.lp import (
    AT_LOWER,
    FEASIBILITY_TOLERANCE,
    Arrays,
    Basis,
    Effort,
    LinearProgram,
    Scaling,
    Status,
)
from sddp.lp_model import CHECK_TOLERANCE, Sides, clamped, weighted

# A row, or a column, that mattered to none of this many solutions in a row is removed; it comes
# back when it is needed (docs/decisions/002-lazy_constraints.md).
MAXIMAL_AGE = 4

# Below this many removable columns, pricing them costs more than solving with them.
FEWEST_REMOVABLE = 24

# A slack, or a reduced cost, above it (in the solver's units) is surely no rounding: the row does
# not hold the solution, the column is not basic.
CLEAR = 1e-7

# Columns added after one solve: too few cost solves, too many make each one dearer.
ADDED_AT_ONCE = 12


# A state that misses a moving bound by rounding is not infeasible: the interval is closed.
CLOSING_TOLERANCE = 1e-9


class StageLP:
    """A minimisation over `arrays` and rows added later, solved for one state after another.

    Parameters
    ----------
    arrays : Arrays
        Its first columns are the incoming state. Bounds that move are given at state 0.
    n_state : int
    removable : integer array
        Columns that may be inactive: their lower bound is 0 at all times, and neither their
        cost nor their coefficients ever change.
    scaling : Scaling
        Of the columns and rows of `arrays`.
    effort : Effort
    movement : Movement, optional
    """

    def __init__(
        self,
        arrays: Arrays,
        n_state: int,
        removable: Ints,
        scaling: Scaling,
        effort: Effort,
        movement: Movement | None = None,
    ) -> None:
        self._n_state, self._n_static = n_state, len(arrays.row_lower)
        self._cost = arrays.cost.copy()
        self._scaling, self._movement = scaling, movement
        self._columns = Sides(arrays.column_lower, arrays.column_upper)
        self._rows = Sides(arrays.row_lower, arrays.row_upper)
        if movement is not None:
            at = movement.columns
            self._unmoved = Sides(arrays.column_lower[at], arrays.column_upper[at])
        self._static = as_operator(arrays.matrix, DENSE_PARTS_SIZE)
        self._state = np.zeros(n_state)
        self._taken = np.zeros(self._n_static)  # what the state takes from the sides of each row
        self._find_moved(np.unique(arrays.matrix[:, :n_state].nonzero()[0]))
        removable = removable[arrays.column_upper[removable] >= 0.0]
        self._removable = removable if len(removable) >= FEWEST_REMOVABLE else removable[:0]
        self._kept = np.setdiff1d(np.arange(n_state, len(arrays.cost)), self._removable)
        self._ages = np.zeros(len(arrays.cost), dtype=np.int64)
        self._place(self._kept)
        self.offset = arrays.offset
        self._cut: Cut | None = None  # of the last solution, once it was asked for
        self._unbounded: Ints = removable[:0]  # columns whose reduced cost no bound takes up
        self._inactive_costs = np.zeros(0)  # reduced costs of the inactive columns
        self.rows = LinearConstraints.none(len(arrays.cost))  # added, in their order there
        self._row_ages = np.zeros(0, dtype=np.int64)
        self.lp = LinearProgram(
            arrays.of_columns(self._kept), scaling.of_columns(self._kept), effort
        )

    def set_state(self, state: Floats) -> None:
        """Give the incoming state; rows and bounds move with it."""
        if np.array_equal(state, self._state):
            return
        self._state = state.copy()
        moved, n_added = self._moved, len(self.rows)
        self._taken[moved] = taken = self._moved_entries @ state
        both = np.empty((2, len(moved) + n_added))
        both[:, : len(moved)] = self._rows.both[:, moved] - taken
        both[0, len(moved) :] = self.rows.lower - self.rows.coefficients[:, : self._n_state] @ state
        both[1, len(moved) :] = np.inf
        added = np.arange(self._n_static, self._n_static + n_added, dtype=np.int32)
        self.lp.set_row_bounds(np.concatenate([moved, added]), both[0], both[1])
        self._move_bounds()

    def set_column_bounds(self, columns: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace bounds of some columns; inactive ones that need no longer be zero are added."""
        self._columns.set(columns, clamped(np.array((lower, upper))))
        position = self._position[columns]
        if len(self._inactive) == 0:
            self.lp.set_column_bounds(position.astype(np.int32), lower, upper)
            return
        active = position >= 0
        self.lp.set_column_bounds(position[active].astype(np.int32), lower[active], upper[active])
        self._add_columns(columns[~active & (upper != 0.0)].astype(np.int64))

    def set_costs(self, columns: NDArray[np.int32], costs: Floats) -> None:
        """Replace cost coefficients of columns that are not removable."""
        self._cost[columns] = costs
        position = self._position[columns]
        active = position >= 0
        self.lp.set_costs(position[active].astype(np.int32), costs[active])

    def set_row_bounds(self, rows: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace both sides of some rows of `arrays`."""
        self._rows.set(rows, clamped(np.array((lower, upper))))
        self._write_row_bounds(rows)

    def set_coefficients(self, rows: Ints, columns: Ints, values: Floats) -> None:
        """Replace entries, in columns that are not removable, of the matrix of `arrays`."""
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

    def append(self, table: LinearConstraints) -> None:
        """Add rows."""
        self.rows = self.rows.and_also(table)
        self._row_ages = np.append(self._row_ages, np.zeros(len(table), dtype=np.int64))
        lower = table.lower - table.coefficients[:, : self._n_state] @ self._state
        self.lp.add_rows(table.coefficients[:, self._active], lower, np.full(len(table), np.inf))

    def truncate(self, n_rows: int) -> None:
        """Remove all added rows but the first `n_rows`."""
        self._remove_rows(np.arange(n_rows, len(self.rows)))

    def remove_idle(self) -> None:
        """Remove rows that were slack, and columns that were zero, for many solutions."""
        if not self.lp.is_solved:
            return
        point, start = self.lp.point(), self.lp.n_columns + self._n_static
        self._row_ages = np.where(point.weights[start:] == 0.0, self._row_ages + 1, 0)
        old = np.flatnonzero((self._row_ages > MAXIMAL_AGE) & self.rows.recurring)
        idle = np.zeros(0, dtype=np.int64)
        if len(old):
            # Only what is clear of its side is surely basic; a degenerate row stays.
            sides = self.lp.model.sides.lower[start:]
            idle = old[point.values[start:][old] - sides[old] > CLEAR]
        if len(self._removable):
            self._remove_idle_columns()
        if len(idle):
            self._remove_rows(idle)

    def _remove_idle_columns(self) -> None:
        point, n = self.lp.point(), self.lp.n_columns
        primal, reduced = point.values[:n], point.weights[:n]
        self._ages[self._active] = np.where(primal == 0.0, self._ages[self._active] + 1, 0)
        self._ages[self._kept] = 0
        places = np.flatnonzero(self._ages[self._active] > MAXIMAL_AGE)
        if len(places):
            # Only what would surely cost something is surely outside the basis.
            self._remove_columns(places[reduced[places] > CLEAR])

    def solve(self, *, loosely: bool = False) -> Status:
        """Solve from the present basis, adding columns until none would help.

        `loosely`: see `LinearProgram.solve_loosely`; the rows may be missed by its tolerance.
        """
        solve = self.lp.solve_loosely if loosely else self.lp.solve
        finely = not loosely
        while True:
            status = solve()
            if status is not Status.OPTIMAL:
                if len(self._inactive) == 0:
                    return status
                self._add_columns(self._inactive)
                continue
            self._cut = None
            if len(self._inactive) == 0 and len(self.lp.point().free) == 0:
                return status
            self._inactive_costs = self.reduced_costs()[self._inactive]
            wanted = self._wanted(FEASIBILITY_TOLERANCE, ADDED_AT_ONCE)
            if len(wanted) == 0:
                tight = self._is_tight()
                if finely and len(self._unbounded) > 0:
                    solve, finely = self.lp.solve_finely, False
                    continue
                self._record_free_costs()
                if tight or loosely:
                    return status
                # What single inactive columns offer within the tolerance adds up.
                wanted = self._wanted(0.0, len(self._inactive))
                solve = self.lp.solve if len(wanted) else self.lp.solve_otherwise
            self._add_columns(wanted)

    def objective(self) -> float:
        """Optimal value, offset and the state's own cost included, by the multipliers."""
        _ = self.cut
        return self._value

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

    def _state_slope(self) -> Floats:
        """Reduced costs of the state's columns."""
        duals, n = self.lp.row_duals(), self._n_state
        slope: Floats = self._cost[:n] - duals[self._n_static :] @ self.rows.coefficients[:, :n]
        slope -= duals[self._moved] @ self._moved_entries
        return slope

    def value_of_sides(self, rows: NDArray[np.int32], lower: Floats, upper: Floats) -> Floats:
        """What these sides of some rows of `arrays`, a line per realisation, add to dual values."""
        duals = self.lp.row_duals()[rows]
        above, below = np.maximum(duals, 0.0), np.minimum(duals, 0.0)
        value: Floats = weighted(lower, above) + weighted(upper, below)
        return value

    def sides(self, rows: NDArray[np.int32]) -> tuple[Floats, Floats]:
        """Present sides of some rows of `arrays`, one realisation of each."""
        return self._rows.lower[None, rows], self._rows.upper[None, rows]

    def sides_taken(self, rows: NDArray[np.int32]) -> Floats:
        """What the state takes from the sides of some rows of `arrays`."""
        return self._taken[rows]

    def whole(self, active: Floats) -> Floats:
        """All columns, shape (n, n_columns), from those that the solver holds."""
        values = np.zeros((len(active), len(self._cost)))
        values[:, : self._n_state] = self._state
        values[:, self._active] = active
        return values

    def agree(self, columns: Floats, values: Floats) -> NDArray[np.bool_]:
        """Whether dual values without the offset are the objectives of solutions (n, n_columns)."""
        gap = np.abs(columns @ self._cost - values)
        money = self._scaling.money
        agree: NDArray[np.bool_] = gap <= CHECK_TOLERANCE * money
        if not agree.all():
            agree = gap <= CHECK_TOLERANCE * (money + np.abs(columns) @ np.abs(self._cost))
        return agree

    def basis(self) -> Basis:
        """The present basis; inactive columns at their bound, none for the state's."""
        own = self.lp.basis()
        columns = np.full(len(self._cost) - self._n_state, AT_LOWER, dtype=np.int8)
        columns[self._active - self._n_state] = own.columns
        return Basis(columns, own.rows)

    def start_from(self, basis: Basis | None) -> None:
        """Forget what the solver remembers; start from `basis` (None: all slack)."""
        wanted = self._kept
        if basis is not None:
            used = np.flatnonzero(basis.columns != AT_LOWER) + self._n_state
            wanted = np.concatenate([wanted, np.setdiff1d(used, wanted)])
        # The order of columns is part of what a solve depends on.
        if not np.array_equal(self._active[: len(wanted)], wanted):
            self._remove_columns(np.arange(len(self._kept), len(self._active)))
            self._add_columns(wanted[len(self._kept) :])
        self._remove_columns(np.arange(len(wanted), len(self._active)))
        if basis is not None:
            basis = Basis(basis.columns[self._active - self._n_state], basis.rows)
        self.lp.start_from(basis)

    def _wanted(self, tolerance: float, at_most: int) -> Ints:
        """Inactive columns whose reduced cost would lower the value, the best first."""
        inactive = self._inactive
        if len(inactive) == 0:
            return inactive
        units = self._scaling.columns[inactive] / self._scaling.money
        costs = self._inactive_costs * units
        costs[self._columns.upper[inactive] <= 0.0] = 0.0
        if costs.min() >= -tolerance:
            return inactive[:0]
        best = np.argsort(costs, kind="stable")[:at_most]
        wanted: Ints = inactive[best[costs[best] < -tolerance]]
        return wanted

    @property
    def cut(self) -> Cut:
        """The dual objective at the present multipliers, as a function of the state."""
        if self._cut is None:
            self._correction, slope = 0.0, self._state_slope()
            self._unbounded = self._inactive[:0]
            if len(self.lp.point().free):
                self._correction, added = self._weighed_free_costs()
                slope += added
            if len(self._inactive):
                missing = np.minimum(self._inactive_costs, 0.0)
                self._correction += float(missing @ self._columns.upper[self._inactive])
            if self._movement is not None:
                slope += self._movement_slope()
            own = float(self._cost[: self._n_state] @ self._state) + self.offset
            self._value = self.lp.dual_value() + own + self._correction
            self._cut = Cut(slope, self._value - float(slope @ self._state))
        return self._cut

    def _is_tight(self) -> bool:
        """Whether the cut gives the objective of the solution, up to rounding.

        It may be below it by what inactive columns offer, and bounds that rows imply take up.
        """
        _ = self.cut
        room = CHECK_TOLERANCE * self._scaling.money
        if self._correction >= -room:
            return True
        terms = float(np.abs(self.primal()) @ np.abs(self._cost))
        return self._correction >= -(room + CHECK_TOLERANCE * terms)

    def _movement_slope(self) -> Floats:
        """What bounds that move with the state add to the slope."""
        assert self._movement is not None
        at, lower, upper = self._movement
        active = self.lp.reduced_costs()
        active[self.lp.point().free] = 0.0
        if len(self._inactive):
            reduced = np.zeros(len(self._cost))
            reduced[self._active] = active
            reduced[self._inactive] = np.minimum(self._inactive_costs, 0.0)
            moving = reduced[at]
        else:
            moving = active[self._position[at]]
        slope = np.zeros(self._n_state)
        slope += lower.slope(np.maximum(moving, 0.0))
        slope += upper.slope(np.minimum(moving, 0.0))
        return slope

    def _weighed_free_costs(self) -> tuple[float, Floats]:
        """What reduced costs that ask for a bound far away, or for none, take from the value.

        The basis is solved for again; what is left is weighed with a bound that a row implies, or
        noted in `_unbounded` where there is none. Returns the change of the value now, and by the
        state.
        """
        self.lp.refine_duals()
        value, slope, unbounded = 0.0, np.zeros(self._n_state), []
        free = self._active[self.lp.point().free]
        costs, primal = self.lp.reduced_costs()[self._position[free]], self.primal()[free]
        for column, cost, at in zip(free, costs, primal, strict=True):
            implied = self._implied_bound(int(column), cost)
            if implied is None:
                unbounded.append(column)
                continue
            value += cost * (implied.intercept + float(implied.slope @ self._state) - at)
            slope += cost * implied.slope
        self._unbounded = np.array(unbounded, dtype=np.int64)
        return value, slope

    def _record_free_costs(self) -> None:
        """Note the reduced costs that are left on columns without a bound."""
        if len(self._unbounded):
            costs = np.abs(self.lp.reduced_costs()[self._position[self._unbounded]])
            units = self._scaling.money / self._scaling.columns[self._unbounded]
            # Terms that are rounding themselves (1e-29 of a unit) are nothing to be relative to.
            terms = np.maximum(self._cost_terms(self._unbounded), units)
            largest = float((costs / terms).max())
            self.lp.effort.free_cost = max(self.lp.effort.free_cost, largest)

    def _cost_terms(self, columns: Ints) -> Floats:
        """What the reduced costs of some columns are the sum of, in absolute values."""
        duals = np.abs(self.lp.row_duals())
        terms: Floats = np.abs(self._cost[columns])
        terms += duals[self._n_static :] @ np.abs(self.rows.coefficients[:, columns])
        if self._n_static:
            terms += duals[: self._n_static] @ np.abs(_dense(self._static[:, columns]))
        return terms

    def _implied_bound(self, column: int, reduced: float) -> Cut | None:
        (lower, upper), n = self._columns.infinite(), self._n_state
        maps = np.zeros((2, len(lower), n))
        if self._movement is not None:
            at = self._movement.columns
            lower[at], upper[at] = self._unmoved.infinite()
            maps[:, at] = self._movement.maps(n)
        holding = np.flatnonzero(_dense(self._static[:, [column]]))
        rows, sides = _dense(self._static[holding]), self._rows.both[:, holding]
        return implied_bound(column, reduced, rows, sides, (lower, upper), maps, self._state)

    def _add_columns(self, columns: Ints) -> None:
        if len(columns) == 0:
            return
        entries = self.rows.coefficients[:, columns].T
        if self._n_static:
            entries = np.hstack([_dense(self._static[:, columns]).T, entries])
        lower, upper = self._columns.lower[columns], self._columns.upper[columns]
        units = self._scaling.columns[columns]
        self.lp.add_columns(self._cost[columns], lower, upper, entries, units)
        self._ages[columns] = 0
        self._place(np.concatenate([self._active, columns]))

    def _remove_columns(self, places: Ints) -> None:
        """Remove active columns, given by their place in the solver."""
        self.lp.delete_columns(places)
        self._place(np.delete(self._active, places))

    def _place(self, active: Ints) -> None:
        self._active = active
        self._position = np.full(len(self._cost), -1, dtype=np.int64)
        self._position[active] = np.arange(len(active))
        self._inactive: Ints = self._removable[self._position[self._removable] < 0]

    def _remove_rows(self, positions: Ints) -> None:
        kept = np.ones(len(self.rows), dtype=bool)
        kept[positions] = False
        self.rows, self._row_ages = self.rows.chosen(kept), self._row_ages[kept]
        self.lp.delete_rows(positions + self._n_static)

    def _find_moved(self, rows: Ints) -> None:
        """These rows of `arrays` hold entries of the state."""
        self._moved = rows.astype(np.int32)
        self._moved_entries = self._static[self._moved][:, : self._n_state]

    def _move_rows(self) -> None:
        self._taken[self._moved] = self._moved_entries @ self._state
        self._write_row_bounds(self._moved)

    def _move_bounds(self) -> None:
        if self._movement is None:
            return
        at, moving_lower, moving_upper = self._movement
        lower, upper = moving_lower.at(self._state), moving_upper.at(self._state)
        sizes = self._scaling.columns[at] / self._scaling.accuracy
        room = CLOSING_TOLERANCE * np.maximum(sizes, np.abs(upper))
        crossed = (lower > upper) & (lower <= upper + room)
        self.set_column_bounds(at, lower, np.where(crossed, lower, upper))

    def _write_row_bounds(self, rows: NDArray[np.int32]) -> None:
        taken = self._taken[rows]
        self.lp.set_row_bounds(rows, self._rows.lower[rows] - taken, self._rows.upper[rows] - taken)


def _dense(matrix: Any) -> Floats:
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
