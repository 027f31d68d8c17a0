"""A linear program that is built once and then edited, solved by HiGHS, checked by us.

The program is kept twice, in the solver and beside it, in units in which its numbers are of size
one (`Scaling`); callers see their own units. After each edit the simplex method restarts from the
last basis. A solution is handed out only after it was checked against the copy (`ModelCopy`): the
solver's status is a claim. Where a check fails the program is solved again by other means, each
checked in the same way, before the solve counts as failed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.errors import SolverError
from sddp.highs import (
    AT_LOWER,
    AT_UPPER,
    BASIC,
    FEASIBILITY_TOLERANCE,
    Basis,
    Effort,
    Status,
    accept,
    accept_sides,
    basis_of,
    by_row,
    claim_of,
    kept_entries,
    new_solver,
    ray_of,
    run,
    set_basis,
    set_coefficient,
    words_of,
    write_model,
)
from sddp.lp_model import CHECK_TOLERANCE, Arrays, ModelCopy, Point, clamped
from sddp.lp_scaling import Scaling, fitted_scaling, row_units

__all__ = [
    "AT_LOWER",
    "AT_UPPER",
    "BASIC",
    "FEASIBILITY_TOLERANCE",
    "Arrays",
    "Basis",
    "Effort",
    "LinearProgram",
    "Scaling",
    "Status",
    "fitted_scaling",
    "solve_once",
    "write_model",
]


class LinearProgram:
    """One HiGHS model, kept and edited.

    Parameters
    ----------
    arrays : Arrays
    scaling : Scaling, optional
        Units inside the solver; the caller's own by default.
    effort : Effort, optional
        Where solves, simplex pivots and seconds are counted.
    presolve : bool
        For a large program that is solved once; a re-solve from a basis wants none.

    Attributes
    ----------
    model : ModelCopy
        The program in the solver's units, to read.
    offset : float
        Constant of the objective, the caller's to set.
    """

    def __init__(
        self,
        arrays: Arrays,
        scaling: Scaling | None = None,
        effort: Effort | None = None,
        *,
        presolve: bool = False,
    ) -> None:
        scaling = scaling or Scaling.uniform(arrays)
        inside = scaling.inside(arrays)
        self.model, self.offset = ModelCopy(inside), arrays.offset
        self.effort = Effort() if effort is None else effort
        self.column_units, self.row_units, self.money = (
            scaling.columns,
            scaling.rows,
            scaling.money,
        )
        self._point: Point | None = None
        self._claims: list[tuple[str, Status, str]] = []
        # Ways to solve that were not tried yet after the last solve.
        self._left: Iterator[tuple[str, Callable[[], Status | None]]] | None = None
        self._highs = new_solver(presolve=presolve)
        columns = np.arange(len(inside.cost), dtype=np.int32)
        bounds = (inside.column_lower, inside.column_upper)
        accept_sides(self._highs.addVars(len(columns), *bounds), *bounds)
        accept(self._highs.changeColsCost(len(columns), columns, inside.cost))
        self._send_rows(inside.matrix, inside.row_lower, inside.row_upper)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.model.n_columns

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.model.n_rows

    # ------------------------------------------------------------------ edits

    def set_column_bounds(self, columns: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace bounds of some columns."""
        both = clamped(np.array((lower, upper)) / self.column_units[columns])
        accept_sides(self._highs.changeColsBounds(len(columns), columns, both[0], both[1]), *both)
        self.model.set_columns(columns, both)

    def set_costs(self, columns: NDArray[np.int32], costs: Floats) -> None:
        """Replace cost coefficients of some columns."""
        costs = np.asarray(costs, dtype=float) * (self.column_units[columns] / self.money)
        accept(self._highs.changeColsCost(len(columns), columns, costs))
        self.model.cost[columns] = costs

    def set_row_bounds(self, rows: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace both sides of some rows."""
        both = clamped(np.array((lower, upper)) * self.row_units[rows])
        accept_sides(self._highs.changeRowsBounds(len(rows), rows, both[0], both[1]), *both)
        self.model.set_rows(rows, both)

    def set_coefficients(self, rows: Ints, columns: Ints, values: Floats) -> None:
        """Replace entries of the matrix."""
        if len(rows) == 0:
            return
        values = values * self.row_units[rows] * self.column_units[columns]
        for row, column, value in zip(rows, columns, kept_entries(values), strict=True):
            set_coefficient(self._highs, int(row), int(column), float(value))
        self.model.set_coefficients(rows, columns, values)

    def add_columns(
        self,
        cost: Floats,
        lower: Floats,
        upper: Floats,
        entries: Floats,
        units: Floats | None = None,
    ) -> None:
        """Append columns; `entries` is dense, shape (n_columns, n_rows), `units` their units."""
        units = np.ones(len(cost)) if units is None else units
        cost, both = cost * (units / self.money), clamped(np.array((lower, upper)) / units)
        entries = entries * self.row_units * units[:, None]
        starts, rows, values = by_row(entries)
        added = self._highs.addCols(len(cost), cost, *both, len(values), starts, rows, values)
        accept_sides(added, *both)
        self.model.add_columns(cost, both, entries)
        self.column_units = np.concatenate([self.column_units, units])

    def delete_columns(self, columns: Ints) -> None:
        """Remove columns; later ones move up. The basis survives if they were not basic."""
        if len(columns):
            accept(self._highs.deleteCols(len(columns), np.asarray(columns, dtype=np.int32)))
            self.model.delete_columns(columns)
            self.column_units = np.delete(self.column_units, columns)

    def add_rows(self, matrix: Any, lower: Floats, upper: Floats) -> None:
        """Append rows, given as a sparse or dense matrix over all columns."""
        if matrix.shape[0] == 0:
            return
        if isinstance(matrix, np.ndarray):
            matrix = matrix * self.column_units
            units = row_units(np.abs(matrix).max(axis=1, initial=0.0))
            matrix *= units[:, None]
        else:
            matrix = sp.csr_array(matrix @ sp.diags_array(self.column_units))
            units = row_units(abs(matrix).max(axis=1).toarray().ravel())
            matrix = sp.csr_array(sp.diags_array(units) @ matrix)
        both = clamped(np.array((lower, upper)) * units)
        self._send_rows(matrix, *both)
        self.model.add_rows(matrix, both)
        self.row_units = np.concatenate([self.row_units, units])

    def delete_rows(self, rows: Ints) -> None:
        """Remove rows; later ones move up. The basis survives if they were basic (slack)."""
        if len(rows):
            accept(self._highs.deleteRows(len(rows), np.asarray(rows, dtype=np.int32)))
            self.model.delete_rows(rows)
            self.row_units = np.delete(self.row_units, rows)

    def _send_rows(self, matrix: Any, lower: Floats, upper: Floats) -> None:
        starts, columns, values = by_row(matrix)
        added = self._highs.addRows(len(lower), lower, upper, len(values), starts, columns, values)
        accept_sides(added, lower, upper)

    # ------------------------------------------------------------------ solves

    def solve(self) -> Status:
        """Solve from the present basis; by other means where the answer fails its check.

        Returns
        -------
        Status
            `OPTIMAL` where a solution passed the checks. `INFEASIBLE` and `UNBOUNDED` where a ray
            proves it, or where nothing else was said by any means. `FAILED` otherwise.
        """
        self._claims = []
        if self.n_columns == 0:
            return self._status_without_columns()
        self._point = None
        status = self._attempt("warm")
        if status is not None:
            self._left = None
            return status
        self._left = self._other_means()
        return self.solve_otherwise()

    def solve_otherwise(self) -> Status:
        """Solve by the means that are left after the last solve; see `solve`."""
        self._point = None
        if self._left is None:
            self._left = self._other_means()
        for means, attempt in self._left:
            status = attempt()
            if status is not None:
                self.effort.retries[means] = self.effort.retries.get(means, 0) + 1
                return status
        claimed = {status for _, status, _ in self._claims if status is not Status.FAILED}
        return claimed.pop() if claimed in _WITHOUT_SOLUTION else Status.FAILED

    def solve_loosely(self) -> Status:
        """Solve afresh with a feasibility tolerance a thousand times the usual one."""
        self._claims, self._point = [], None
        tolerance = 1_000.0 * FEASIBILITY_TOLERANCE
        self._highs.clearSolver()
        with self._options({"primal_feasibility_tolerance": tolerance}):
            return self._attempt("loosely", tolerance) or Status.FAILED

    def solve_finely(self) -> Status:
        """Solve on from a solution with costs counted in a much smaller unit.

        Reduced costs within the solver's tolerance then show. Where that fails the last solution
        stays. Returns `OPTIMAL`.
        """
        point, basis, costs = self._solution, self.basis(), self.model.cost
        columns = np.arange(self.n_columns, dtype=np.int32)
        accept(self._highs.changeColsCost(len(columns), columns, costs * FINER))
        status = self._attempt("finer costs", finer=FINER)
        accept(self._highs.changeColsCost(len(columns), columns, costs))
        if status is not Status.OPTIMAL:
            self._point = point
            self.start_from(basis)
        return Status.OPTIMAL

    def _other_means(self) -> Iterator[tuple[str, Callable[[], Status | None]]]:
        """Ways to solve where the usual one failed; each starts from what the one before left."""
        yield "refactorized", self._refactorized
        yield "cold", lambda: self._cold("cold", {"presolve": "off"})
        yield "rescaled", self._rescaled
        yield "primal simplex", lambda: self._cold("primal simplex", {"simplex_strategy": 4})
        yield "presolve", lambda: self._cold("presolve", {"presolve": "on"})
        yield "interior point", lambda: self._cold("interior point", INTERIOR_POINT)

    def _attempt(
        self, means: str, tolerance: float = CHECK_TOLERANCE, finer: float = 1.0
    ) -> Status | None:
        """Run the solver, with costs `finer` times as large; None where that is not confirmed."""
        start = time.perf_counter()
        run(self._highs)
        self.effort.seconds += time.perf_counter() - start
        self.effort.solves += 1
        self.effort.pivots += max(self._highs.getInfo().simplex_iteration_count, 0)
        status = claim_of(self._highs)
        if status is Status.OPTIMAL:
            solution = self._highs.getSolution()
            duals = solution.row_dual if finer == 1.0 else np.array(solution.row_dual) / finer
            return self._checked(means, solution.col_value, duals, tolerance)
        self._claims.append((means, status, words_of(self._highs)))
        return status if self._is_proven(status) else None

    def _checked(
        self, means: str, primal: Values, duals: Values, tolerance: float
    ) -> Status | None:
        """Keep a solution in the solver's units if it passes the checks."""
        if len(primal) == self.n_columns and len(duals) == self.n_rows:
            point = self.model.point(primal, duals)
            miss = self.model.miss(point, tolerance)
            if miss > tolerance:
                point, miss = self._refined(point, miss, tolerance)
            if miss <= tolerance:
                self._point = point
                return Status.OPTIMAL
        else:
            miss = np.inf
        self._claims.append((means, Status.FAILED, f"Optimal, but wrong by {miss:.1e}"))
        return None

    def _is_proven(self, status: Status) -> bool:
        if status is Status.INFEASIBLE:
            return self.model.crossed or self.model.proves_infeasible(
                ray_of(self._highs.getDualRay(), self.n_rows)
            )
        if status is Status.UNBOUNDED:
            ray = ray_of(self._highs.getPrimalRay(), self.n_columns)
            return self.model.proves_unbounded(ray)
        return False

    def _refactorized(self) -> Status | None:
        self.start_from(self.basis())
        return self._attempt("refactorized")

    def _cold(self, means: str, options: Mapping[str, Any]) -> Status | None:
        self._highs.clearSolver()
        with self._options(options):
            return self._attempt(means)

    def _rescaled(self) -> Status | None:
        """Solve a copy in units fitted to the rows and columns that the program has now."""
        arrays = self.model.arrays()
        try:
            copy = LinearProgram(arrays, fitted_scaling(arrays), self.effort)
        except SolverError as error:  # numbers beyond the solver's range in these units
            self._claims.append(("rescaled", Status.FAILED, str(error)))
            return None
        status = copy._attempt("rescaled")
        self._claims.extend(copy._claims)
        if status is Status.OPTIMAL:
            status = self._checked("rescaled", copy.primal(), copy.row_duals(), CHECK_TOLERANCE)
            self.start_from(copy.basis())
        return status

    def _status_without_columns(self) -> Status:
        """HiGHS does not look at the rows of a program without columns."""
        point = self.model.point(np.zeros(0), np.zeros(self.n_rows))
        self.effort.solves += 1
        if self.model.miss(point) > CHECK_TOLERANCE:
            return Status.INFEASIBLE
        self._point = point
        return Status.OPTIMAL

    @contextmanager
    def _options(self, options: Mapping[str, Any]) -> Iterator[None]:
        before = {name: self._highs.getOptionValue(name)[1] for name in options}
        for name, value in options.items():
            accept(self._highs.setOptionValue(name, value))
        try:
            yield
        finally:
            for name, value in before.items():
                accept(self._highs.setOptionValue(name, value))

    def refine_duals(self) -> None:
        """Bring reduced costs of basic columns to rounding level by solving for the basis again."""
        point = self._solution
        self._point = self._refined(point, self.model.miss(point), CHECK_TOLERANCE)[0]

    def _refined(self, point: Point, miss: float, tolerance: float) -> tuple[Point, float]:
        """A point with multipliers solved for once more, and its miss, if that is better."""
        basis, n = self.basis(), self.n_columns
        if len(basis.rows) != self.n_rows or len(basis.columns) != n:
            return point, miss
        tight, basic = basis.rows != BASIC, basis.columns == BASIC
        duals = self.model.refined_duals(point.weights[n:], basic, tight)
        refined = self.model.point(point.values[:n], duals)
        found = self.model.miss(refined, tolerance)
        return (refined, found) if found <= max(miss, tolerance) else (point, miss)

    # ------------------------------------------------------------------ the last solution

    @property
    def is_solved(self) -> bool:
        """Whether the last solve ended with a solution."""
        return self._point is not None

    @property
    def _solution(self) -> Point:
        if self._point is None:
            raise SolverError("the linear program was not solved to optimality: it has no solution")
        return self._point

    def objective(self) -> float:
        """Optimal value, offset included."""
        return self._solution.objective * self.money + self.offset

    def primal(self) -> Floats:
        """Values of the columns."""
        values: Floats = self._solution.values[: self.n_columns] * self.column_units
        return values

    def reduced_costs(self) -> Floats:
        """Derivative of the optimal value with respect to each column's active bound."""
        n = self.n_columns
        costs: Floats = self._solution.weights[:n] * (self.money / self.column_units)
        return costs

    def row_duals(self) -> Floats:
        """Derivative of the optimal value with respect to each row's active side."""
        duals: Floats = self._solution.weights[self.n_columns :] * (self.money * self.row_units)
        return duals

    def row_activities(self) -> Floats:
        """Values of the rows."""
        values: Floats = self._solution.values[self.n_columns :] / self.row_units
        return values

    def minorant(self, columns: Ints) -> tuple[float, Floats]:
        """Constant and slope of a lower bound on the value, affine in fixed columns."""
        point, slope = self._solution, self.reduced_costs()[columns]
        weights = point.weights.copy()
        weights[columns] = weights[point.free] = 0.0
        constant = float(self.model.sides.wanted(weights) @ weights)
        return constant * self.money + self.offset, slope

    def dual_value(self) -> float:
        """Lower bound on the optimal value that the multipliers give; see `Point`."""
        return self._solution.dual_objective * self.money + self.offset

    def point(self) -> Point:
        """The last solution in the solver's units."""
        return self._solution

    def basis(self) -> Basis:
        """The present basis."""
        return basis_of(self._highs)

    def start_from(self, basis: Basis | None) -> None:
        """Forget everything the solver remembers and start from `basis` (None: all slack)."""
        self._highs.clearSolver()
        if basis is not None and len(basis.columns) == self.n_columns:
            set_basis(self._highs, basis)

    def arrays(self) -> Arrays:
        """The program in the caller's units."""
        units = Scaling(self.column_units, self.row_units, self.money)
        return replace(units.outside(self.model.arrays()), offset=self.offset)

    def write(
        self,
        stem: str,
        column_names: Sequence[str] | None = None,
        row_names: Sequence[str] | None = None,
    ) -> str:
        """Write the model to a new file, in the caller's units; returns the path, or why not.

        Names are ``column[0]``, ``row[0]`` and so on where none are given.
        """
        columns = column_names or [f"column[{j}]" for j in range(self.n_columns)]
        rows = row_names or [f"row[{i}]" for i in range(self.n_rows)]
        try:
            with tempfile.NamedTemporaryFile(prefix=f"{stem}-", suffix=".lp", delete=False) as file:
                path = Path(file.name)
            write_model(self.arrays(), path, column_names=columns, row_names=rows)
        except (OSError, SolverError) as error:
            return f"(not written: {error})"
        return str(path)

    def status_text(self) -> str:
        """How the last solve ended: what was said by each of the means that were tried."""
        if self._point is not None:
            return "Optimal"
        if len(self._claims) == 1:
            return self._claims[0][2]
        return "; ".join(f"{means}: {text}" for means, _, text in self._claims)


# A list as the solver hands it out, or an array.
Values = Sequence[float] | Floats

# Claims of all means together that are believed without a ray.
_WITHOUT_SOLUTION = ({Status.INFEASIBLE}, {Status.UNBOUNDED})

# Costs are multiplied by it where reduced costs within the tolerance of 1e-9 may matter.
FINER = 2.0**20

INTERIOR_POINT = {"solver": "ipm", "run_crossover": "on", "presolve": "off"}


def solve_once(arrays: Arrays, scaling: Scaling | None = None) -> tuple[Status, LinearProgram]:
    """Build and solve a linear program that is needed only once, in fitted units by default."""
    program = LinearProgram(arrays, scaling or fitted_scaling(arrays))
    return program.solve(), program
