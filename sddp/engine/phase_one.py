"""Feasibility cuts: by how much a state misses feasibility, and in which direction to move.

The phase-one problem lets every row be broken at cost 1 per unit; rows that were added later all
by the same amount, for many of them may state one constraint. Its value is convex in the incoming
state, zero where the stage is feasible; a supporting line of it is a feasibility cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.compile import CompiledStage, arrays_at
from sddp.engine.lazy_rows import RowTable
from sddp.errors import SolverError
from sddp.lp import FEASIBILITY_TOLERANCE, Arrays, Status, solve_once

# A slope below this is the LP's rounding of 0.
SLOPE_TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class FeasibilityCut:
    """``intercept + slope.x <= 0`` for every incoming state `x` from which a decision exists.

    `shortfall` is by how much the rows must be broken at the state asked for, in their units;
    `hopeless` where no state would be feasible.
    """

    slope: Floats
    intercept: float
    shortfall: float

    @property
    def hopeless(self) -> bool:
        """Whether the cut refuses every state."""
        return bool(np.abs(self.slope).max(initial=0.0) == 0.0)


def feasibility_cut(
    compiled: CompiledStage,
    noise: Mapping[str, Floats],
    lazy: RowTable,
    kept: Ints,
    incoming: Floats,
    unit: float,
    where: str,
) -> FeasibilityCut | None:
    """Solve the phase-one problem of a stage that is infeasible at `incoming`.

    `lazy` are the rows added to the stage's own LP, whose first columns are those at `kept`, and
    `unit` is that LP's. None where no shortfall is found: then the state misses
    feasibility by rounding only.

    Raises
    ------
    SolverError
        The phase-one problem, which always has a solution, ends otherwise.
    """
    arrays = arrays_at(compiled, noise)
    n_static = len(arrays.row_lower)
    arrays = _with_lazy_rows(arrays, lazy, kept)
    lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
    lower[compiled.incoming] = upper[compiled.incoming] = incoming
    status, programme = solve_once(_elastic(arrays, n_static, lower, upper), unit)
    if status is Status.INFEASIBLE:
        return FeasibilityCut(np.zeros_like(incoming), 1.0, np.inf)
    if status is not Status.OPTIMAL:
        raise SolverError(
            f"{where}, incoming state {incoming}: infeasible by the stage LP, but phase one ended "
            f"{programme.status_text()!r}; written to {programme.write('sddp')}"
        )
    shortfall = programme.objective()
    if shortfall <= 2.0 * FEASIBILITY_TOLERANCE / unit:
        return None
    slope = programme.reduced_costs()[compiled.incoming]
    slope[np.abs(slope) < SLOPE_TOLERANCE] = 0.0
    size = float(np.abs(slope).max(initial=0.0)) or 1.0
    intercept = shortfall - float(slope @ incoming)
    if compiled.homogeneous:
        intercept = 0.0  # the shortfall of a cone is homogeneous: what is left is rounding
    return FeasibilityCut(slope / size, intercept / size, shortfall)


def _with_lazy_rows(arrays: Arrays, lazy: RowTable, kept: Ints) -> Arrays:
    """Rows on cost-to-go columns can always be satisfied and are left out."""
    chosen = ~lazy.coefficients[:, len(kept) :].any(axis=1)
    if not chosen.any():
        return arrays
    declared = np.zeros((int(chosen.sum()), len(arrays.cost)))
    declared[:, kept] = lazy.coefficients[chosen][:, : len(kept)]
    rows = sp.csr_array(declared)
    return Arrays(
        arrays.cost,
        sp.vstack([arrays.matrix, rows], format="csr"),
        np.concatenate([arrays.row_lower, lazy.lower[chosen]]),
        np.concatenate([arrays.row_upper, np.full(rows.shape[0], np.inf)]),
        arrays.column_lower,
        arrays.column_upper,
    )


def _elastic(arrays: Arrays, n_static: int, lower: Floats, upper: Floats) -> Arrays:
    """Two columns for each of the first `n_static` rows, and one for all rows after them."""
    n_rows, n_columns = arrays.matrix.shape
    own = sp.eye_array(n_rows, n_static, format="csr")
    common = sp.csr_array((np.arange(n_rows) >= n_static).astype(float)[:, None])
    n_added = 2 * n_static + 1
    return Arrays(
        cost=np.concatenate([np.zeros(n_columns), np.ones(n_added)]),
        matrix=sp.hstack([arrays.matrix, own, -own, common], format="csr"),
        row_lower=arrays.row_lower,
        row_upper=arrays.row_upper,
        column_lower=np.concatenate([lower, np.zeros(n_added)]),
        column_upper=np.concatenate([upper, np.full(n_added, np.inf)]),
    )
