"""Feasibility cuts: by how much a state misses feasibility, and in which direction to move.

The phase-one problem lets every row be broken at cost 1 per unit; rows that were added later all
by the same amount, for many of them may state one constraint. Its value is convex
in the incoming state, zero where the stage is feasible; a supporting line of it, found from the
multipliers, is a feasibility cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.stage.stage_data import StageData, arrays_at
from sddp.engine.value.cuts import Cut, LinearConstraints
from sddp.errors import SolverError
from sddp.lp import FEASIBILITY_TOLERANCE, Arrays, Scaling, Status, solve_once
from sddp.lp_scaling import row_units

# A slope below this, in units of the state, is the LP's rounding of 0.
SLOPE_TOLERANCE = 1e-11

# A state that is nearer to a feasible one than this, in units of the state, may be off by rounding:
# rows in small units (those of a limit on losses) show a miss of 1e-14 of the state.
NEAREST = 1e-10


@dataclass(frozen=True, eq=False)
class Infeasibility:
    """What is found where a stage has no decision.

    Attributes
    ----------
    cut : Cut
        ``intercept + slope.x <= 0`` for every incoming state x from which a decision exists.
    shortfall : float
        By how much the rows must be broken at the state asked for, in their units (in those of the
        scaling for rows added later).
    incoming : array
        The state asked for.
    noise : int or None
        Realization of the noise; None: values outside the support.
    near : bool
        Whether a feasible state is so near that the LP may be solved with a wider tolerance.
    """

    cut: Cut
    shortfall: float
    incoming: Floats
    noise: int | None
    near: bool = False

    @property
    def everywhere(self) -> bool:
        """Whether no incoming state would be feasible."""
        return bool(np.abs(self.cut.slope).max(initial=0.0) == 0.0)


def feasibility_cut(
    compiled: StageData,
    noise: Mapping[str, Floats],
    lazy: LinearConstraints,
    kept: Ints,
    incoming: Floats,
    realisation: int | None,
    scaling: Scaling,
    where: str,
) -> Infeasibility | None:
    """Solve the phase-one problem of a stage that is infeasible at `incoming`.

    `noise` are the entries at `realisation`, `lazy` the rows added to the stage's own LP, whose
    first columns are those at `kept`, and `scaling` is that of the declared columns and rows. None
    where no shortfall is found: then the state misses feasibility by rounding only.

    Raises
    ------
    SolverError
        The phase-one problem, which always has a solution, ends otherwise.
    """
    arrays, _ = constraints(compiled, noise, lazy, kept, incoming)
    n_static, n_columns = len(compiled.row_lower), len(arrays.cost)
    sizes = scaling.columns / scaling.accuracy
    rows = _row_sizes(arrays.matrix, scaling.rows * scaling.accuracy, sizes)
    # In the unit of its row, each amount by which a row is broken is scaled with it.
    common = 1.0 / rows[n_static:].max(initial=1e-300) if len(rows) > n_static else 1.0
    amounts = np.concatenate([np.tile(1.0 / rows[:n_static], 2), [common]])
    money = float(np.exp2(np.round(np.log2(amounts).mean())))
    units = Scaling(np.concatenate([sizes, amounts]), rows, money).finer(scaling.accuracy)
    status, program = solve_once(elastic(arrays, n_static), units)
    if status is Status.INFEASIBLE:
        return Infeasibility(Cut(np.zeros_like(incoming), 1.0), np.inf, incoming, realisation)
    if status is not Status.OPTIMAL:
        names = [*compiled.row_names, *(f"added[{i}]" for i in range(program.n_rows - n_static))]
        missed = [f"{side}[{row}]" for side in ("below", "above") for row in names[:n_static]]
        file = program.write("sddp", [*compiled.column_names, *missed, "below[added]"], names)
        raise SolverError(
            f"{where}: infeasible by the stage LP, but phase one was "
            f"not solved ({program.status_text()}); written to {file}"
        )
    broken = float((program.primal()[n_columns:] / amounts).sum())  # in the units of the rows
    if broken <= 2.0 * FEASIBILITY_TOLERANCE * scaling.accuracy:
        return None
    intercept, slope = program.minorant(compiled.incoming)
    size = float((np.abs(slope) * sizes[compiled.incoming]).max(initial=0.0))
    if size < SLOPE_TOLERANCE:
        slope, size = np.zeros_like(slope), 1.0
    if compiled.homogeneous:
        intercept = 0.0  # the shortfall of a cone is homogeneous: what is left is rounding
    shortfall = program.objective()
    cut = Cut(slope / size, intercept / size)
    near = bool(slope.any()) and cut.intercept + float(cut.slope @ incoming) <= NEAREST
    return Infeasibility(cut, shortfall, incoming, realisation, near)


def constraints(
    compiled: StageData,
    noise: Mapping[str, Floats],
    lazy: LinearConstraints,
    kept: Ints,
    incoming: Floats,
) -> tuple[Arrays, Ints]:
    """All that a decision from `incoming` must satisfy, and which of the added rows stand in it.

    Rows on cost-to-go columns can always be satisfied and are left out.
    """
    arrays = arrays_at(compiled, noise)
    lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
    lower[compiled.incoming] = upper[compiled.incoming] = incoming
    arrays = replace(arrays, column_lower=lower, column_upper=upper)
    chosen = np.flatnonzero(~lazy.coefficients[:, len(kept) :].any(axis=1))
    if len(chosen) == 0:
        return arrays, chosen
    declared = np.zeros((len(chosen), len(arrays.cost)))
    declared[:, kept] = lazy.coefficients[chosen][:, : len(kept)]
    rows = sp.csr_array(declared)
    with_rows = replace(
        arrays,
        matrix=sp.vstack([arrays.matrix, rows], format="csr"),
        row_lower=np.concatenate([arrays.row_lower, lazy.lower[chosen]]),
        row_upper=np.concatenate([arrays.row_upper, np.full(rows.shape[0], np.inf)]),
    )
    return with_rows, chosen


def _row_sizes(matrix: sp.csr_array, static: Floats, columns: Floats) -> Floats:
    """Scaling of the rows: the given one, and by their largest entries for rows added later."""
    added = abs(matrix[len(static) :] @ sp.diags_array(columns)).max(axis=1)
    return np.concatenate([static, row_units(added.toarray().ravel())])


def elastic(arrays: Arrays, n_static: int) -> Arrays:
    """The phase-one problem: each row may be broken at cost 1 per unit.

    There are two columns for each of the first `n_static` rows, and one for all rows after them.
    """
    n_rows, n_columns = arrays.matrix.shape
    own = sp.eye_array(n_rows, n_static, format="csr")
    common = (np.arange(n_rows) >= n_static).astype(float)[:, None]
    n_added = 2 * n_static + 1
    return Arrays(
        cost=np.concatenate([np.zeros(n_columns), np.ones(n_added)]),
        matrix=sp.hstack([arrays.matrix, own, -own, sp.csr_array(common)], format="csr"),
        row_lower=arrays.row_lower,
        row_upper=arrays.row_upper,
        column_lower=np.concatenate([arrays.column_lower, np.zeros(n_added)]),
        column_upper=np.concatenate([arrays.column_upper, np.full(n_added, np.inf)]),
    )
