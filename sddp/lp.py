"""The only file that talks to HiGHS: a linear programme that is built once and then edited.

Values are multiplied by one constant (`unit`) on the way in and divided on the way out, so that
the solver's absolute tolerances become relative to it; duals do not change. After each edit the
simplex method restarts from the last basis.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.errors import SolverError

# HiGHS's default of 1e-7 stalls cut loops at 1e-4 relative on daily returns; 1e-10 is its least.
FEASIBILITY_TOLERANCE = 1e-9

Statuses = NDArray[np.int8]

# Codes of `Basis`.
AT_LOWER = int(highspy.HighsBasisStatus.kLower)
BASIC = int(highspy.HighsBasisStatus.kBasic)
AT_UPPER = int(highspy.HighsBasisStatus.kUpper)


class Status(Enum):
    """How a solve ended; everything unexpected is `FAILED`."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"


_STATUS = {
    highspy.HighsModelStatus.kOptimal: Status.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: Status.INFEASIBLE,
    highspy.HighsModelStatus.kUnbounded: Status.UNBOUNDED,
}


@dataclass(frozen=True, eq=False)
class Arrays:
    """A minimisation ``cost.z + offset`` over ``row_lower <= matrix z <= row_upper`` and bounds."""

    cost: Floats
    matrix: sp.csr_array
    row_lower: Floats
    row_upper: Floats
    column_lower: Floats
    column_upper: Floats
    offset: float = 0.0


@dataclass(frozen=True, eq=False)
class Basis:
    """Simplex basis as HiGHS status codes of columns and rows."""

    columns: Statuses
    rows: Statuses


@dataclass
class Effort:
    """Counters of the work done; added up over the linear programmes of a problem."""

    solves: int = 0
    pivots: int = 0
    seconds: float = 0.0

    def add(self, other: Effort) -> None:
        """Count another's work too."""
        self.solves += other.solves
        self.pivots += other.pivots
        self.seconds += other.seconds


@dataclass
class LinearProgram:
    """One HiGHS model, kept and edited.

    Parameters
    ----------
    arrays : Arrays
    unit : float
        Constant by which primal values are multiplied inside the solver.
    effort : Effort
        Where solves, simplex pivots and seconds are counted.
    presolve : bool
        For a large programme that is solved once; a re-solve from a basis wants none.
    """

    arrays: Arrays
    unit: float = 1.0
    effort: Effort = field(default_factory=Effort)
    presolve: bool = False

    def __post_init__(self) -> None:
        self._highs = new_solver(presolve=self.presolve)
        self._n_columns = len(self.arrays.cost)
        self._n_rows = 0
        columns = np.arange(self._n_columns, dtype=np.int32)
        _accepted(
            self._highs.addVars(
                self._n_columns,
                self._scaled(self.arrays.column_lower),
                self._scaled(self.arrays.column_upper),
            )
        )
        _accepted(
            self._highs.changeColsCost(self._n_columns, columns, np.asarray(self.arrays.cost))
        )
        self.offset = self.arrays.offset
        self.add_rows(self.arrays.matrix, self.arrays.row_lower, self.arrays.row_upper)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self._n_columns

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._n_rows

    def set_column_bounds(self, columns: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace bounds of some columns."""
        _accepted(
            self._highs.changeColsBounds(
                len(columns), columns, self._scaled(lower), self._scaled(upper)
            )
        )

    def set_costs(self, columns: NDArray[np.int32], costs: Floats) -> None:
        """Replace cost coefficients of some columns."""
        _accepted(self._highs.changeColsCost(len(columns), columns, np.asarray(costs, dtype=float)))

    def set_row_bounds(self, rows: NDArray[np.int32], lower: Floats, upper: Floats) -> None:
        """Replace both sides of some rows."""
        _accepted(
            self._highs.changeRowsBounds(len(rows), rows, self._scaled(lower), self._scaled(upper))
        )

    def set_coefficients(self, rows: Ints, columns: Ints, values: Floats) -> None:
        """Replace entries of the matrix."""
        for row, column, value in zip(rows, columns, values, strict=True):
            _accepted(self._highs.changeCoeff(int(row), int(column), float(value)))

    def add_columns(self, cost: Floats, lower: Floats, upper: Floats, entries: Floats) -> None:
        """Append columns; `entries` is dense, shape (n_columns, n_rows)."""
        starts, rows, values = _by_row(entries)
        _accepted(
            self._highs.addCols(
                len(cost),
                cost,
                self._scaled(lower),
                self._scaled(upper),
                len(values),
                starts,
                rows,
                values,
            )
        )
        self._n_columns += len(cost)

    def delete_columns(self, columns: Ints) -> None:
        """Remove columns; later ones move up. The basis survives if they were not basic."""
        if len(columns):
            _accepted(self._highs.deleteCols(len(columns), np.asarray(columns, dtype=np.int32)))
            self._n_columns -= len(columns)

    def add_rows(self, matrix: Any, lower: Floats, upper: Floats) -> None:
        """Append rows, given as a sparse or dense matrix over all columns."""
        n_rows = matrix.shape[0]
        if n_rows == 0:
            return
        starts, columns, values = _by_row(matrix)
        _accepted(
            self._highs.addRows(
                n_rows,
                self._scaled(lower),
                self._scaled(upper),
                len(values),
                starts,
                columns,
                values,
            )
        )
        self._n_rows += n_rows

    def delete_rows(self, rows: Ints) -> None:
        """Remove rows; later ones move up. The basis survives if they were basic (slack)."""
        if len(rows):
            _accepted(self._highs.deleteRows(len(rows), np.asarray(rows, dtype=np.int32)))
            self._n_rows -= len(rows)

    def solve(self) -> Status:
        """Solve from the present basis."""
        start = time.perf_counter()
        self._highs.run()
        self.effort.seconds += time.perf_counter() - start
        self.effort.solves += 1
        self.effort.pivots += max(self._highs.getInfoValue("simplex_iteration_count")[1], 0)
        status = self._highs.getModelStatus()
        if status == highspy.HighsModelStatus.kModelEmpty:
            return self._status_without_columns()
        return _STATUS.get(status, Status.FAILED)

    def _status_without_columns(self) -> Status:
        """HiGHS does not look at the rows of a programme without columns."""
        lp = self._highs.getLp()
        room = FEASIBILITY_TOLERANCE
        holds = np.all(np.array(lp.row_lower_) <= room) and np.all(np.array(lp.row_upper_) >= -room)
        return Status.OPTIMAL if holds else Status.INFEASIBLE

    def solve_afresh(self) -> Status:
        """Forget basis and factorisation, then solve with all the help there is."""
        return self._solve_with({"presolve": "on", "simplex_scale_strategy": 2})

    def solve_loosely(self) -> Status:
        """Solve afresh with a feasibility tolerance a thousand times the usual one."""
        return self._solve_with({"primal_feasibility_tolerance": 1_000.0 * FEASIBILITY_TOLERANCE})

    def _solve_with(self, options: dict[str, Any]) -> Status:
        self._highs.clearSolver()
        before = {name: self._highs.getOptionValue(name)[1] for name in options}
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        try:
            return self.solve()
        finally:
            for name, value in before.items():
                self._highs.setOptionValue(name, value)

    def objective(self) -> float:
        """Optimal value, offset included; of the last solve, until the programme is edited."""
        return float(self._highs.getObjectiveValue()) / self.unit + self.offset

    def primal(self) -> Floats:
        """Values of the columns."""
        return np.array(self._highs.getSolution().col_value) / self.unit

    def reduced_costs(self) -> Floats:
        """Derivative of the optimal value with respect to each column's active bound."""
        return np.array(self._highs.getSolution().col_dual)

    def row_duals(self) -> Floats:
        """Derivative of the optimal value with respect to each row's active side."""
        return np.array(self._highs.getSolution().row_dual)

    def row_activities(self) -> Floats:
        """Values of the rows."""
        return np.array(self._highs.getSolution().row_value) / self.unit

    def basis(self) -> Basis:
        """The present basis."""
        basis = self._highs.getBasis()
        return Basis(_codes(basis.col_status), _codes(basis.row_status))

    def start_from(self, basis: Basis | None) -> None:
        """Forget everything the solver remembers and start from `basis` (None: all slack)."""
        self._highs.clearSolver()
        if basis is not None:
            highs_basis = highspy.HighsBasis()
            highs_basis.col_status = [highspy.HighsBasisStatus(int(c)) for c in basis.columns]
            highs_basis.row_status = [highspy.HighsBasisStatus(int(c)) for c in basis.rows]
            highs_basis.valid = True
            _accepted(self._highs.setBasis(highs_basis))

    def write(self, stem: str) -> str:
        """Write the present model for inspection; returns the path, or why there is none."""
        try:
            with tempfile.NamedTemporaryFile(prefix=f"{stem}-", suffix=".lp", delete=False) as file:
                path = Path(file.name)
        except OSError as error:
            return f"(not written: {error})"
        self._highs.writeModel(str(path))
        return str(path)

    def status_text(self) -> str:
        """HiGHS's own words for how the last solve ended."""
        return str(self._highs.modelStatusToString(self._highs.getModelStatus()))

    def _scaled(self, values: Floats) -> Floats:
        scaled: Floats = np.asarray(values, dtype=float) * self.unit
        return scaled


def _accepted(status: Any) -> None:
    """Nothing is left undone in silence: what HiGHS refuses leaves the programme as it was."""
    if status == highspy.HighsStatus.kError:
        raise SolverError(
            "HiGHS refused a change of a linear programme: a position it does not have, or a "
            "number that is none; please report how it came about"
        )


_FIRST_SOLVER = threading.Lock()
_first_solver_made = False


def _silent_highs() -> Any:
    """Make a HiGHS object without output.

    From version 1.16 HiGHS prints its banner on the C-level standard output when the first object
    of a process is made, before `output_flag` can be set.
    """
    global _first_solver_made
    if _first_solver_made:
        return highspy.Highs()
    with _FIRST_SOLVER, _standard_output_discarded():
        highs = highspy.Highs()
        _first_solver_made = True
    return highs


@contextmanager
def _standard_output_discarded() -> Iterator[None]:
    """Point file descriptor 1 at the null device; C's buffers are flushed on both sides."""
    with suppress(AttributeError, OSError, ValueError):  # no stream, or one that is closed
        sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # descriptor 1 is closed: there is nothing to keep clean
        yield
        return
    try:
        _flush_c_streams()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        yield
    finally:
        _flush_c_streams()
        os.dup2(saved, 1)
        os.close(saved)


def _flush_c_streams() -> None:
    with suppress(OSError, AttributeError, TypeError):  # Windows does not open the null library
        ctypes.CDLL(None).fflush(None)


def new_solver(*, presolve: bool) -> Any:
    """Make a HiGHS object with the options of this package; the only place that makes one."""
    highs = _silent_highs()
    options = {
        "output_flag": False,
        "presolve": "on" if presolve else "off",
        "solver": "simplex",
        "threads": 1,
        "simplex_scale_strategy": 0,  # the numbers are of one size; scaling each time costs a tenth
        "primal_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "dual_feasibility_tolerance": FEASIBILITY_TOLERANCE,
    }
    for name, value in options.items():
        highs.setOptionValue(name, value)
    return highs


def _by_row(matrix: Any) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Start of each row, columns and values of the entries, row by row."""
    if not isinstance(matrix, np.ndarray):
        block = matrix.tocsr()
        return block.indptr[:-1].astype(np.int32), block.indices.astype(np.int32), block.data
    # Dense rows come one by one in the hot loop, where building a sparse matrix costs more
    # than the solve.
    rows, columns = np.nonzero(matrix)
    starts = np.searchsorted(rows, np.arange(len(matrix)))
    return starts.astype(np.int32), columns.astype(np.int32), matrix[rows, columns]


def _codes(statuses: Any) -> Statuses:
    return np.array([int(status) for status in statuses], dtype=np.int8)


def solve_once(arrays: Arrays, unit: float = 1.0) -> tuple[Status, LinearProgram]:
    """Build and solve a linear programme that is needed only once."""
    programme = LinearProgram(arrays, unit)
    return programme.solve(), programme


# What no name may hold in an LP file (operators, brackets, blanks, comments), and words with a
# meaning there.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.(),#$%&!?@{}~]")
# fmt: off
_RESERVED = frozenset((
    "bin", "binaries", "binary", "bound", "bounds", "end", "free", "gen", "general", "generals",
    "inf", "infinity", "int", "integer", "integers", "max", "maximise", "maximize", "maximum",
    "min", "minimise", "minimize", "minimum", "obj", "s.t.", "sec", "semi", "sos", "st", "st.",
    "such", "subject", "that", "to",
))
# fmt: on


def write_model(
    arrays: Arrays,
    path: Path,
    *,
    column_names: Sequence[str],
    row_names: Sequence[str],
    maximize: bool = False,
) -> None:
    """Write a linear program to a file in the format of its ending, ``.lp`` or ``.mps``.

    Square brackets become round ones, and what the formats forbid in names becomes ``_``; names
    that are equal then get a number.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    model = highspy.HighsLp()
    model.num_row_, model.num_col_ = arrays.matrix.shape
    model.sense_ = highspy.ObjSense.kMaximize if maximize else highspy.ObjSense.kMinimize
    model.offset_, model.col_cost_ = arrays.offset, np.asarray(arrays.cost, dtype=float)
    model.col_lower_, model.col_upper_ = arrays.column_lower, arrays.column_upper
    model.row_lower_, model.row_upper_ = arrays.row_lower, arrays.row_upper
    matrix = sp.csr_array(arrays.matrix)
    model.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    model.a_matrix_.start_ = matrix.indptr.astype(np.int32)
    model.a_matrix_.index_ = matrix.indices.astype(np.int32)
    model.a_matrix_.value_ = np.asarray(matrix.data, dtype=float)
    model.col_names_, model.row_names_ = _file_names(column_names), _file_names(row_names)
    highs = new_solver(presolve=False)
    highs.setOptionValue("small_matrix_value", 1e-12)  # the least that HiGHS allows
    _accepted(highs.passModel(model))
    with path.open("wb"):  # HiGHS says no more than that it failed
        pass
    _accepted(highs.writeModel(str(path)))


def _file_names(names: Sequence[str]) -> list[str]:
    used: dict[str, int] = {}
    found = []
    for name in names:
        clean = _NOT_IN_NAMES.sub("_", name.replace("[", "(").replace("]", ")")) or "_"
        if not (clean[0].isalpha() or clean[0] == "_") or _has_a_meaning(clean):
            clean = f"_{clean}"
        used[clean] = used.get(clean, 0) + 1
        found.append(clean if used[clean] == 1 else f"{clean}~{used[clean]}")
    return found


def _has_a_meaning(name: str) -> bool:
    """Reserved words; and ``e3`` after a coefficient is read as its exponent."""
    return name.lower() in _RESERVED or re.match(r"[eE][0-9.+-]*$", name) is not None
