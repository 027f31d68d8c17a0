"""A linear program kept beside the solver, and the checks that its answers must pass.

The solver's status is a claim. What a solution is worth is computed here from numbers of our own:
how far it misses rows and bounds, what its multipliers prove, and the gap between the two. All
numbers are in the solver's units, in which rows, columns and money are of size one (`Scaling`),
so 1 is the size below which nothing is relative.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints

# Residuals, reduced costs and the gap may miss by this, relative to 1 plus the terms that they are
# the sum of. The solver's own tolerances are the same number, absolute.
CHECK_TOLERANCE = 1e-9

# A reduced cost below this, relative to the terms it is the sum of, is the rounding of that sum.
ROUNDING = 1e-14

# Stands for infinity; see `Sides`. A multiplier of 1e-100 is none.
HUGE, HUGE_PRODUCT = 1e300, 1e200

# A side further away than this is none: `HUGE` counted in another unit.
FARTHEST = 1e150

# Up to this many entries, zeros counted, the matrix is kept dense: its product costs 2 to 10
# microseconds, a sparse one's bookkeeping alone twice as much.
DENSE_SIZE = 40_000


NO_COLUMNS: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Arrays:
    """A minimization ``cost.z + offset`` over ``row_lower <= matrix z <= row_upper`` and bounds."""

    cost: Floats
    matrix: sp.csr_array
    row_lower: Floats
    row_upper: Floats
    column_lower: Floats
    column_upper: Floats
    offset: float = 0.0

    def of_columns(self, columns: Ints) -> Arrays:
        """Those of some columns, without the offset."""
        return Arrays(
            self.cost[columns],
            self.matrix[:, columns],
            self.row_lower,
            self.row_upper,
            self.column_lower[columns],
            self.column_upper[columns],
        )


class Point(NamedTuple):
    """A primal and a dual solution and what follows from them.

    Attributes
    ----------
    values : array
        Columns, then rows as computed from them.
    weights : array
        Reduced costs of the columns as computed from the multipliers, then the multipliers.
    objective, dual_objective : float
        The second is a lower bound on the optimal value whatever the solver did, where there are
        no `free` columns.
    free : integer array
        Columns whose reduced cost, within the tolerance, asks for a bound that they do not have or
        that is far away. In the dual objective they are at their values.
    """

    values: Floats
    weights: Floats
    objective: float
    dual_objective: float
    free: Ints


class Sides:
    """Lower and upper sides; `HUGE` in size where there is none.

    HUGE times 0 is 0, and times any other weight so large that it cannot be overlooked: products
    need no masks in the checks of every solve.
    """

    def __init__(self, lower: Floats, upper: Floats) -> None:
        self.both = clamped(np.array((lower, upper)))

    @property
    def lower(self) -> Floats:
        """Lower sides."""
        lower: Floats = self.both[0]
        return lower

    @property
    def upper(self) -> Floats:
        """Upper sides."""
        upper: Floats = self.both[1]
        return upper

    def set(self, at: Any, both: Floats) -> None:
        """Replace some; lower and upper sides, clamped."""
        self.both[:, at] = both

    def insert(self, at: int, both: Floats) -> None:
        """Put some before position `at`."""
        self.both = np.concatenate([self.both[:, :at], both, self.both[:, at:]], axis=1)

    def keep(self, kept: Ints) -> None:
        """Forget the others."""
        self.both = np.ascontiguousarray(self.both[:, kept])

    def wanted(self, weights: Floats) -> Floats:
        """The sides that the signs of weights ask for; HUGE in size where they are not there."""
        wanted: Floats = np.where(weights > 0.0, self.both[0], self.both[1])
        return wanted

    def infinite(self, chosen: slice = slice(None)) -> tuple[Floats, Floats]:
        """Both sides of some, infinite where there is none."""
        lower, upper = self.both[:, chosen]
        return np.where(lower == -HUGE, -np.inf, lower), np.where(upper == HUGE, np.inf, upper)


def clamped(both: Floats) -> Floats:
    """Lower and upper sides with HUGE for infinity, in place."""
    clamped: Floats = np.copysign(HUGE, both, out=both, where=np.abs(both) > FARTHEST)
    return clamped


def weighted(sides: Floats, weights: Floats) -> Floats:
    """``sides @ weights`` where 0 times infinity is 0."""
    used = weights != 0.0
    product: Floats = sides[:, used] @ weights[used]
    return product


class ModelCopy:
    """The model as the solver should hold it, edited together with the solver's.

    Attributes
    ----------
    cost : array
    sides : Sides
        Bounds of the columns, then sides of the rows.
    """

    def __init__(self, arrays: Arrays) -> None:
        self.cost = arrays.cost.copy()
        self.sides = Sides(arrays.column_lower, arrays.column_upper)
        self._n_rows, self._n_columns = 0, len(self.cost)
        self._dense: Floats | None = None
        self._blocks: list[Any] = []  # sparse parts of the matrix, one below the other
        if arrays.matrix.shape[0] * arrays.matrix.shape[1] <= DENSE_SIZE:
            self._dense = np.zeros((arrays.matrix.shape[0] + 8, self._n_columns))
        self.add_rows(arrays.matrix, clamped(np.array((arrays.row_lower, arrays.row_upper))))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self._n_columns

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._n_rows

    @property
    def columns(self) -> Floats:
        """Bounds of columns, shape (2, n_columns)."""
        return self.sides.both[:, : self._n_columns]

    @property
    def rows(self) -> Floats:
        """Sides of rows, shape (2, n_rows)."""
        return self.sides.both[:, self._n_columns :]

    @property
    def matrix(self) -> Any:
        """Dense array or sparse matrix, shape (n_rows, n_columns)."""
        if self._dense is not None:
            return self._dense[: self._n_rows, : self._n_columns]
        if len(self._blocks) != 1:
            blocks = [b for b in self._blocks if b.shape[0]] or [sp.csr_array((0, self._n_columns))]
            self._blocks = [sp.csr_array(sp.vstack(blocks, format="csr"))]
        return self._blocks[0]

    def arrays(self) -> Arrays:
        """All of it; the offset is no part of it."""
        return Arrays(
            self.cost,
            sp.csr_array(self.matrix),
            *self.sides.infinite(slice(self._n_columns, None)),
            *self.sides.infinite(slice(0, self._n_columns)),
        )

    def set_columns(self, at: Any, both: Floats) -> None:
        """Replace bounds."""
        self.sides.set(at, both)

    def set_rows(self, at: Any, both: Floats) -> None:
        """Replace sides of rows."""
        self.sides.set(at + self._n_columns, both)

    def set_coefficients(self, rows: Ints, columns: Ints, values: Floats) -> None:
        """Replace entries of the matrix."""
        if self._dense is not None:
            self._dense[rows, columns] = values
            return
        with warnings.catch_warnings():  # an entry that was 0
            warnings.simplefilter("ignore", sp.SparseEfficiencyWarning)
            self.matrix[rows, columns] = values

    def add_columns(self, cost: Floats, both: Floats, entries: Floats) -> None:
        """Append columns; `entries` has shape (n_columns, n_rows)."""
        start, self._n_columns = self._n_columns, self._n_columns + len(cost)
        self.cost = np.concatenate([self.cost, cost])
        self.sides.insert(start, both)
        if self._dense is None:
            added = [self.matrix, sp.csr_array(entries.T)]
            self._blocks = [sp.csr_array(sp.hstack(added, format="csr"))]
            return
        self._make_room(self._n_rows, self._n_columns)
        self._dense[: self._n_rows, start : self._n_columns] = entries.T

    def delete_columns(self, columns: Ints) -> None:
        """Remove columns; later ones move up."""
        kept = np.delete(np.arange(self._n_columns), columns)
        self.cost = self.cost[kept]
        rows = np.arange(self._n_columns, self._n_columns + self._n_rows)
        self.sides.keep(np.concatenate([kept, rows]))
        if self._dense is not None:
            self._dense = np.ascontiguousarray(self._dense[:, kept])
        else:
            self._blocks = [sp.csr_array(self.matrix[:, kept])]
        self._n_columns = len(kept)

    def add_rows(self, matrix: Any, both: Floats) -> None:
        """Append rows."""
        start, self._n_rows = self._n_rows, self._n_rows + matrix.shape[0]
        self.sides.both = np.concatenate([self.sides.both, both], axis=1)
        if self._dense is None:
            self._blocks.append(sp.csr_array(matrix))
            return
        self._make_room(self._n_rows, self._n_columns)
        block = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
        self._dense[start : self._n_rows, : self._n_columns] = block

    def delete_rows(self, rows: Ints) -> None:
        """Remove rows; later ones move up."""
        kept = np.delete(np.arange(self._n_rows), rows)
        columns = np.arange(self._n_columns)
        self.sides.keep(np.concatenate([columns, kept + self._n_columns]))
        if self._dense is not None:
            self._dense[: len(kept)] = self._dense[kept]
        else:
            self._blocks = [sp.csr_array(self.matrix[kept])]
        self._n_rows = len(kept)

    def _make_room(self, n_rows: int, n_columns: int) -> None:
        assert self._dense is not None
        rows, columns = self._dense.shape
        if n_rows <= rows and n_columns <= columns:
            return
        if n_rows > rows:
            rows = 2 * n_rows
        larger = np.zeros((rows, max(columns, n_columns + 4 * (n_columns > columns))))
        larger[: self._dense.shape[0], : self._dense.shape[1]] = self._dense
        self._dense = larger

    # ------------------------------------------------------------------ checks

    def point(self, primal: Any, row_duals: Any) -> Point:
        """What follows from a solution; multipliers of sides that are not there are dropped."""
        n, matrix = self._n_columns, self.matrix
        values, weights = np.empty(n + self._n_rows), np.empty(n + self._n_rows)
        values[:n], weights[n:] = primal, row_duals
        values[n:] = matrix @ values[:n]
        np.subtract(self.cost, weights[n:] @ matrix, out=weights[:n])
        objective = float(self.cost @ values[:n])
        dual = float(self.sides.wanted(weights) @ weights)
        if abs(objective - dual) <= CHECK_TOLERANCE:
            return Point(values, weights, objective, dual, NO_COLUMNS)
        return self._careful_point(values, weights, objective)

    def _careful_point(self, values: Floats, weights: Floats, objective: float) -> Point:
        """The same without rounding times large numbers.

        Multipliers of sides that are not there are dropped. A reduced cost at the level of
        rounding is 0; one within the tolerance that is multiplied by a bound far away, or by one
        that is not there, is left out of the dual objective and named in `free`.
        """
        n = self._n_columns
        duals, primal = weights[n:], values[:n]
        duals = np.where(np.abs(self.sides.wanted(weights)[n:]) >= HUGE, 0.0, duals)
        reduced, terms = self.cost - duals @ self.matrix, self._cost_terms(duals)
        reduced[np.abs(reduced) <= ROUNDING * terms] = 0.0
        weights = np.concatenate([reduced, duals])
        wanted = self.sides.wanted(weights)
        wanted[weights == 0.0] = 0.0
        dual = float(wanted @ weights)
        size = 1.0 + float(np.abs(self.cost) @ np.abs(primal))
        free = NO_COLUMNS
        if not abs(objective - dual) <= CHECK_TOLERANCE * size:
            lost = np.abs(reduced) * np.abs(primal - wanted[:n])
            small = np.abs(reduced) <= CHECK_TOLERANCE * (1.0 + terms)
            free = np.flatnonzero(small & (lost > CHECK_TOLERANCE * size / max(n, 1)))
            wanted[free] = primal[free]
            dual = float(wanted @ weights)
        return Point(values, weights, objective, dual, free)

    def miss(self, point: Point, tolerance: float = CHECK_TOLERANCE) -> float:
        """The largest violation of a solution, relative; infinite where it holds no numbers.

        Rows relative to ``1 + |b_i| + sum |a_ij x_j|``, bounds to 1 plus themselves, the gap to
        ``1 + |c|.|x|``. Violations up to `tolerance` are not made relative. Reduced costs that no
        bound takes up are within the tolerance of ``1 + |c_j| + sum |a_ij y_i|``, or in the gap.
        """
        (lower, upper), values = self.sides.both, point.values
        worst = 0.0
        if len(values):
            worst = max(float((lower - values).max()), float((values - upper).max()))
        if not worst <= tolerance:
            worst = float((np.maximum(lower - values, values - upper) / self._terms(point)).max())
        gap = abs(point.objective - point.dual_objective)
        if not gap <= tolerance:
            gap /= 1.0 + float(np.abs(self.cost) @ np.abs(values[: self._n_columns]))
        # Comparisons with NaN are false: what is no number is no solution.
        return max(worst, gap) if worst < np.inf and gap < np.inf else np.inf

    def _cost_terms(self, row_duals: Floats) -> Floats:
        """``|c_j| + sum |a_ij y_i|`` of each column."""
        terms: Floats = np.abs(self.cost) + np.abs(row_duals) @ abs(self.matrix)
        return terms

    def _terms(self, point: Point) -> Floats:
        """What violations are relative to: 1, the side that is missed, and the terms of a row."""
        both = self.sides.both
        side = np.abs(np.where(point.values < both[0], both[0], both[1]))
        side[side == HUGE] = 0.0
        side[self._n_columns :] += abs(self.matrix) @ np.abs(point.values[: self._n_columns])
        terms: Floats = 1.0 + side
        return terms

    def proves_infeasible(self, ray: Floats) -> bool:
        """Whether a combination of rows cannot be satisfied within the bounds of the columns."""
        size = float(np.abs(ray).max(initial=0.0))
        if not 0.0 < size < np.inf:
            return False
        return any(self._contradicts(sign * ray / size) for sign in (1.0, -1.0))

    def _contradicts(self, weights: Floats) -> bool:
        entries = weights @ self.matrix
        entries[np.abs(entries) <= ROUNDING * (np.abs(weights) @ abs(self.matrix))] = 0.0
        columns, rows = self.columns, self.rows
        most = np.where(entries > 0.0, columns[1], columns[0])
        wanted = np.where(weights > 0.0, rows[0], rows[1])
        terms = float(np.abs(weights) @ np.abs(wanted) + np.abs(entries) @ np.abs(most))
        excess = float(weights @ wanted - entries @ most)
        return terms < HUGE_PRODUCT and excess > CHECK_TOLERANCE * (1.0 + terms)

    def proves_unbounded(self, ray: Floats) -> bool:
        """Whether the objective falls for ever along a direction that keeps rows and bounds."""
        size = float(np.abs(ray).max(initial=0.0))
        if not 0.0 < size < np.inf:
            return False
        ray = ray / size
        along = self.matrix @ ray
        room = CHECK_TOLERANCE * (abs(self.matrix) @ np.abs(ray))
        falls = float(self.cost @ ray) < -CHECK_TOLERANCE * float(np.abs(self.cost) @ np.abs(ray))
        return bool(
            falls
            and np.all((along >= -room) | (self.rows[0] == -HUGE))
            and np.all((along <= room) | (self.rows[1] == HUGE))
            and np.all((ray >= -CHECK_TOLERANCE) | (self.columns[0] == -HUGE))
            and np.all((ray <= CHECK_TOLERANCE) | (self.columns[1] == HUGE))
        )

    @property
    def crossed(self) -> bool:
        """Whether a lower side or bound is above the upper one by more than rounding."""
        return bool(np.any(self.sides.lower > self.sides.upper + CHECK_TOLERANCE))

    def refined_duals(self, row_duals: Floats, basic: Any, tight: Any) -> Floats:
        """Multipliers with which the reduced costs of `basic` columns are at rounding level.

        One step of iterative refinement: the system of the basis is solved for what is missing.
        `basic` marks columns, `tight` the rows that hold the solution.
        """
        missing = (self.cost - row_duals @ self.matrix)[basic]
        square = self.matrix[np.flatnonzero(tight)][:, np.flatnonzero(basic)]
        if square.shape[0] != square.shape[1] or square.shape[0] == 0:
            return row_duals
        refined = row_duals.copy()
        try:
            if isinstance(square, np.ndarray):
                refined[tight] += np.linalg.solve(square.T, missing)
            else:
                refined[tight] += sp.linalg.splu(sp.csc_array(square.T)).solve(missing)
        except (np.linalg.LinAlgError, RuntimeError):  # a basis that is singular in floating point
            return row_duals
        return refined
