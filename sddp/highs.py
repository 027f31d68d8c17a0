"""The only file that talks to HiGHS: solvers, what they are given, and what they say."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import highspy
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.errors import SolverError
from sddp.lp_model import Arrays
from sddp.silence import standard_output_discarded

# HiGHS's default of 1e-7 stalls cut loops at 1e-4 relative on daily returns; 1e-10 is its least.
FEASIBILITY_TOLERANCE = 1e-9

# HiGHS drops matrix entries up to this size (its default is 1e-9, 1e-12 is its least). The copy
# keeps them, so a solution that they matter for fails its check.
SMALLEST_ENTRY = 1e-12

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
class Basis:
    """Simplex basis as HiGHS status codes of columns and rows."""

    columns: Statuses
    rows: Statuses


@dataclass
class Effort:
    """Counters of the work done; added up over the linear programs of a problem.

    Attributes
    ----------
    solves, pivots : int
    seconds : float
        In the solver.
    retries : dict of str to int
        Solves that succeeded only by other means, by what these were.
    free_cost : float
        The largest reduced cost left on a column without a bound on that side, relative to the
        terms it is the sum of, or to its unit where they are smaller: by so much times the column
        a dual value may be too high.
    """

    solves: int = 0
    pivots: int = 0
    seconds: float = 0.0
    retries: dict[str, int] = field(default_factory=dict)
    free_cost: float = 0.0

    def add(self, other: Effort) -> None:
        """Count another's work too."""
        self.solves += other.solves
        self.pivots += other.pivots
        self.seconds += other.seconds
        for means, number in other.retries.items():
            self.retries[means] = self.retries.get(means, 0) + number
        self.free_cost = max(self.free_cost, other.free_cost)


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
    with _FIRST_SOLVER, standard_output_discarded():
        highs = highspy.Highs()
        _first_solver_made = True
    return highs


def new_solver(*, presolve: bool) -> Any:
    """Make a HiGHS object with the options of this package; the only place that makes one."""
    highs = _silent_highs()
    options = {
        "output_flag": False,
        "presolve": "on" if presolve else "off",
        "solver": "simplex",
        "threads": 1,
        "parallel": "off",
        "simplex_scale_strategy": 0,  # the numbers are of one size; scaling each time costs a tenth
        "small_matrix_value": SMALLEST_ENTRY,
        "primal_feasibility_tolerance": FEASIBILITY_TOLERANCE,
        "dual_feasibility_tolerance": FEASIBILITY_TOLERANCE,
    }
    for name, value in options.items():
        accept(highs.setOptionValue(name, value))
    return highs


def run(solver: Any) -> None:
    """Solve; how it ended is asked afterwards.

    HiGHS keeps one pool of threads for all solvers of a thread and refuses to run one that asks
    for another number of threads than the first. If the process used HiGHS with other settings
    before, the solver takes that pool as it is: our algorithms are serial, so nothing changes.
    """
    if solver.run() == highspy.HighsStatus.kError and solver.getOptionValue("threads")[1] != 0:
        accept(solver.setOptionValue("threads", 0))
        solver.run()


def kept_entries(values: Floats) -> Floats:
    """Entries as the solver takes them: without those that it would drop with a warning."""
    kept: Floats = np.where(np.abs(values) > SMALLEST_ENTRY, values, 0.0)
    return kept


def by_row(matrix: Any) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Start of each row, columns and values of the entries that the solver takes, row by row."""
    if not isinstance(matrix, np.ndarray):
        block = sp.csr_array(matrix, copy=True)
        block.data = kept_entries(block.data)
        block.eliminate_zeros()
        return block.indptr[:-1].astype(np.int32), block.indices.astype(np.int32), block.data
    # Dense rows come one by one in the hot loop, where building a sparse matrix costs more
    # than the solve.
    rows, columns = np.nonzero(np.abs(matrix) > SMALLEST_ENTRY)
    starts = np.searchsorted(rows, np.arange(len(matrix)))
    return starts.astype(np.int32), columns.astype(np.int32), matrix[rows, columns]


def accept(status: Any) -> None:
    """Nothing is left undone in silence: what HiGHS refuses or changes is an error."""
    if status != highspy.HighsStatus.kOk:
        raise SolverError(
            "HiGHS refused a change of a linear program, or changed its numbers: a position that "
            "does not exist, NaN, or a number beyond its range; please report how it came about"
        )


def accept_sides(status: Any, lower: Floats, upper: Floats) -> None:
    """The same where sides were given: of crossed ones some versions of HiGHS warn."""
    if status != highspy.HighsStatus.kWarning or not np.any(lower > upper):
        accept(status)


def set_coefficient(solver: Any, row: int, column: int, value: float) -> None:
    """Replace an entry of the matrix; of an entry 0 HiGHS warns that it is small."""
    status = solver.changeCoeff(row, column, value)
    if value != 0.0 or status != highspy.HighsStatus.kWarning:
        accept(status)


def claim_of(solver: Any) -> Status:
    """How the last run ended by the solver's own account."""
    return _STATUS.get(solver.getModelStatus(), Status.FAILED)


def words_of(solver: Any) -> str:
    """The solver's words for how the last run ended."""
    return str(solver.modelStatusToString(solver.getModelStatus()))


def basis_of(solver: Any) -> Basis:
    """The present basis."""
    basis = solver.getBasis()
    return Basis(_codes(basis.col_status), _codes(basis.row_status))


def set_basis(solver: Any, basis: Basis) -> None:
    """Give a basis to start from."""
    given = highspy.HighsBasis()
    given.col_status = [highspy.HighsBasisStatus(int(code)) for code in basis.columns]
    given.row_status = [highspy.HighsBasisStatus(int(code)) for code in basis.rows]
    given.valid = True
    accept(solver.setBasis(given))


def _codes(statuses: Any) -> Statuses:
    return np.array([int(status) for status in statuses], dtype=np.int8)


def ray_of(answer: Any, length: int) -> Floats:
    """A ray if the solver has one, else zeros."""
    values = np.array(answer[-1]) if answer[1] else np.zeros(length)
    return values if len(values) == length else np.zeros(length)


# What no name may hold in an LP file (operators, brackets, blanks, comments), and words with a
# meaning there.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.(),#$%&!?@{}~]")
# fmt: off
_RESERVED = frozenset((
    "bin", "binaries", "binary", "bound", "bounds", "end", "free", "gen", "general", "generals",
    "inf", "infinity", "int", "integer", "integers", "max", "maximize", "maximize", "maximum",
    "min", "minimize", "minimize", "minimum", "obj", "s.t.", "sec", "semi", "sos", "st", "st.",
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
    lower = np.concatenate([arrays.column_lower, arrays.row_lower])
    upper = np.concatenate([arrays.column_upper, arrays.row_upper])
    accept_sides(highs.passModel(model), lower, upper)
    with path.open("wb"):  # HiGHS says no more than that it failed
        pass
    accept(highs.writeModel(str(path)))


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
