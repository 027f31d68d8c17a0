"""Why a stage is infeasible: a small set of rows and bounds that cannot all hold.

The duals of the phase-one problem prove the infeasibility with the rows and bounds on which they
are not zero. A deletion filter (Chinneck and Dravnieks, 1991) then leaves out one after the other
and keeps out what the proof does not need.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.stage.file import StageModel, added_row_names, write_failure
from sddp.engine.stage.stage_data import StageData
from sddp.engine.subproblem.feasibility import Infeasibility, constraints, elastic
from sddp.engine.subproblem.lazy_constraints import over_declared
from sddp.engine.value.cuts import LinearConstraints
from sddp.lp import Arrays, Status, solve_once

# The filter stops after so many seconds.
SECONDS = 2.0

# A dual below this, relative to the largest, is rounding of 0.
SUPPORT_TOLERANCE = 1e-9

# Names shown in a message.
SHOWN = 10


@dataclass(frozen=True)
class Conflict:
    """Rows and bounds that cannot all hold.

    Attributes
    ----------
    rows, bounds : tuple of str
        Names of rows; bounds as ``level >= 0``.
    minimal : bool
        Whether each of them is needed: without it, the others can be met.
    """

    rows: tuple[str, ...]
    bounds: tuple[str, ...]
    minimal: bool

    def __str__(self) -> str:
        parts = []
        if self.rows:
            parts.append(f"conflicting rows: {_listed(self.rows)}")
        if self.bounds:
            parts.append(f"conflicting bounds: {_listed(self.bounds)}")
        if not parts:
            return "no conflicting rows were found"
        end = (
            " (each is needed for the conflict)"
            if self.minimal
            else f" (the search for a smaller set was stopped after {SECONDS:g} s)"
        )
        return "; ".join(parts) + end


def explain(
    compiled: StageData,
    noise: Mapping[str, Floats],
    lazy: LinearConstraints,
    kept: Ints,
    found: Infeasibility,
    where: str,
) -> str:
    """Noise, incoming state, conflict and file of a stage that is infeasible, as text.

    `noise` are the entries at which `found` was met, `lazy` the rows added to the stage's LP, whose
    first columns are those at `kept`; `where` names the node.
    """
    arrays, chosen = constraints(compiled, noise, lazy, kept, found.incoming)
    added = over_declared(lazy, kept, compiled.n_columns).coefficients
    added_names = added_row_names(added, added.shape[1] - compiled.n_columns)
    names = [*compiled.row_names, *(added_names[i] for i in chosen)]
    conflict = find_conflict(
        arrays, compiled.incoming, names, compiled.column_names, len(compiled.row_names)
    )
    at = "noise outside the support" if found.noise is None else f"noise {found.noise}"
    model = StageModel(arrays, list(compiled.column_names), names, compiled.sign)
    file = write_failure(model, f"{where} {at}")
    state = compiled.states.describe(found.incoming)
    return f"{at}, incoming state {state}: {conflict}; written to {file}"


def find_conflict(
    arrays: Arrays,
    fixed: Ints,
    row_names: Sequence[str],
    column_names: Sequence[str],
    n_declared: int,
    seconds: float = SECONDS,
) -> Conflict:
    """Rows and bounds of an infeasible program that cannot all hold.

    Parameters
    ----------
    arrays : Arrays
    fixed : integer array
        Columns that are given (the incoming state): their bounds are no part of the conflict.
    row_names, column_names : sequence of str
    n_declared : int
        Rows from here on were added in training.
    seconds : float
        After this the set found so far is returned.
    """
    deadline = time.perf_counter() + seconds
    items = _support(arrays, fixed, n_declared)
    system = _System(arrays, fixed)
    if not system.infeasible(items):
        items = _all_items(arrays, fixed)
    minimal = True
    for item in tuple(items):
        if time.perf_counter() > deadline:
            minimal = False
            break
        rest = [other for other in items if other != item]
        if system.infeasible(rest):
            items = rest
    rows = tuple(row_names[i] for kind, i in items if kind == "row")
    bounds = tuple(
        f"{column_names[i]} {'>=' if kind == 'lower' else '<='} "
        f"{(arrays.column_lower if kind == 'lower' else arrays.column_upper)[i]:g}"
        for kind, i in items
        if kind != "row"
    )
    return Conflict(rows, bounds, minimal)


Item = tuple[str, int]  # "row", "lower" or "upper", and a position


class _System:
    """The constraints of a program, some of which may be left out."""

    def __init__(self, arrays: Arrays, fixed: Ints) -> None:
        self._arrays = arrays
        self._fixed = np.zeros(len(arrays.cost), dtype=bool)
        self._fixed[fixed] = True

    def infeasible(self, items: Sequence[Item]) -> bool:
        """Whether the solver finds these rows and bounds, and no others, infeasible."""
        arrays = self._arrays
        lower = np.where(self._fixed, arrays.column_lower, -np.inf)
        upper = np.where(self._fixed, arrays.column_upper, np.inf)
        rows = np.array([i for kind, i in items if kind == "row"], dtype=np.int64)
        for kind, i in items:
            if kind == "lower":
                lower[i] = arrays.column_lower[i]
            elif kind == "upper":
                upper[i] = arrays.column_upper[i]
        if np.any(lower > upper):
            return True
        matrix = arrays.matrix[rows]
        used = np.unique(matrix.indices)
        if len(used) == 0:  # a program without columns: its rows are 0
            return bool(np.any(arrays.row_lower[rows] > 0.0) or np.any(arrays.row_upper[rows] < 0))
        status, _ = solve_once(
            Arrays(
                np.zeros(len(used)),
                matrix[:, used],
                arrays.row_lower[rows],
                arrays.row_upper[rows],
                lower[used],
                upper[used],
            )
        )
        return status is Status.INFEASIBLE


def _support(arrays: Arrays, fixed: Ints, n_declared: int) -> list[Item]:
    """Rows and bounds on which the duals of the phase-one problem are not zero."""
    crossed = np.flatnonzero(arrays.column_lower > arrays.column_upper)
    if len(crossed):
        return [("lower", int(crossed[0])), ("upper", int(crossed[0]))]
    status, program = solve_once(elastic(arrays, n_declared))
    if status is not Status.OPTIMAL:
        return _all_items(arrays, fixed)
    duals, costs = program.row_duals(), program.reduced_costs()[: len(arrays.cost)]
    size = float(np.abs(duals).max(initial=0.0))
    rows: list[Item] = [("row", int(i)) for i in _clear(duals, size)]
    given = set(fixed.tolist())
    weighed = _largest_products(arrays, duals)
    bounds: list[Item] = [
        ("lower" if costs[i] > 0.0 else "upper", int(i))
        for i in np.flatnonzero(np.abs(costs) > SUPPORT_TOLERANCE * weighed)
        if int(i) not in given
    ]
    return rows + [item for item in bounds if np.isfinite(_bound(arrays, item))]


def _largest_products(arrays: Arrays, duals: Floats) -> Floats:
    """For each column the largest of its entries times duals, of which its reduced cost is made."""
    products = abs(arrays.matrix.multiply(duals[:, None]))
    largest = products.max(axis=0)
    return np.asarray(largest.todense() if hasattr(largest, "todense") else largest).ravel()


def _clear(values: Floats, size: float) -> Ints:
    found: Ints = np.flatnonzero(np.abs(values) > SUPPORT_TOLERANCE * size)
    return found


def _all_items(arrays: Arrays, fixed: Ints) -> list[Item]:
    given = set(fixed.tolist())
    items: list[Item] = [("row", i) for i in range(arrays.matrix.shape[0])]
    for i in range(len(arrays.cost)):
        items += [
            (side, i) for side in ("lower", "upper") if i not in given
            and np.isfinite(_bound(arrays, (side, i)))
        ]  # fmt: skip
    return items


def _bound(arrays: Arrays, item: Item) -> float:
    side, i = item
    return float((arrays.column_lower if side == "lower" else arrays.column_upper)[i])


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
