"""Units in which the linear programs of a stage are solved, found once from all its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.engine.stage.stage_data import StageData
from sddp.errors import ModelError
from sddp.lp import Arrays, Scaling
from sddp.lp_scaling import observed

# Numbers outside the support may differ from the largest ones of the support by this factor.
# Beyond it the units fitted to the support are no guide, and the number is likely in another unit.
WIDEST = 2.0**40


def state_sizes(stages: Iterable[StageData]) -> Floats:
    """Typical size of each state component in a problem; 0 where no stage says what it is.

    The geometric mean of the initial values and of the bounds of outgoing variables: one size for
    all stages, for a last stage may say nothing of the unit in which it counts.
    """
    known: list[Floats] = []
    for stage in stages:
        if stage.initial is not None:
            known.append(stage.initial)
        if len(stage.outgoing):
            known += [stage.column_lower[stage.outgoing], stage.column_upper[stage.outgoing]]
    return _geometric_mean(np.array(known)) if known else np.zeros(0)


def cone_units(stages: Iterable[StageData]) -> Floats:
    """Units of the state components of a homogeneous problem, powers of two, by which sizes count.

    Nothing says how large a state is, for all sides are 0: how large its components are beside
    each other follows from the matrices, the costs and the transitions. The mean over the stages
    of the units fitted to each of them.
    """
    exponents = []
    for stage in stages:
        found = np.log2(_fit(stage, np.zeros(0)).columns[stage.incoming])
        exponents.append(found - found.mean())
    mean = np.round(np.mean(exponents, axis=0))
    # The largest is 1, so that a state of size 1 is no larger than one of which the plain sum is
    # 1, for which bounds on the cost-to-go are stated.
    units: Floats = np.exp2(mean - mean.max())
    return units


def stage_scaling(compiled: StageData, sizes: Floats) -> Scaling:
    """Units of the declared columns and rows of a stage, and of its costs.

    `sizes` are the typical sizes of the state components. Each number of the stage counts once, as
    the geometric mean over all realizations of the noise. An incoming state counts in the unit of
    the outgoing one.
    """
    return _fit(compiled, sizes)


def _fit(compiled: StageData, sizes: Floats) -> Scaling:
    fit = observed(_typical(compiled))
    if len(compiled.outgoing):
        fit.tie(compiled.incoming, compiled.outgoing)
    if len(sizes):
        fit.observe(sizes, bounded=compiled.incoming)
    return fit.solve()


def check_range(compiled: StageData, entries: Mapping[str, Floats], where: str) -> None:
    """Reject noise entries outside the support that the units of the stage are not made for.

    Raises
    ------
    ModelError
        An entry is larger than all that the support puts there by a factor of 10^12.
    """
    for place, values in entries.items():
        if len(values) == 0:
            continue
        known = np.abs(compiled.noise.values[place])
        known = np.where(np.isfinite(known), known, 0.0).max(axis=0)
        sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
        largest = np.where(known > 0.0, known, max(float(known.max()), 1.0))
        beyond = np.flatnonzero(sizes > WIDEST * largest)
        if len(beyond):
            at = int(beyond[0])
            raise ModelError(
                f"{where}: noise makes an entry of {place} {values[at]:g}, which is more than "
                f"{WIDEST:.0e} times the largest in the support ({largest[at]:g}); give the noise "
                "in the unit of the support"
            )


def _typical(compiled: StageData) -> Arrays:
    """The stage with the geometric mean over realizations where noise enters."""
    positions, tables = compiled.noise.positions, compiled.noise.values
    parts = {
        name: getattr(compiled, name).copy()
        for name in ("cost", "row_lower", "row_upper", "column_lower", "column_upper")
    }
    for name, values in parts.items():
        values[positions[name]] = _geometric_mean(tables[name])
    matrix: Any = compiled.matrix
    entries = positions["matrix"].reshape(-1, 2)
    if len(entries):
        matrix = compiled.matrix.tolil(copy=True)
        matrix[entries[:, 0], entries[:, 1]] = _geometric_mean(tables["matrix"])
    lower, upper = parts["column_lower"], parts["column_upper"]
    # Bounds of incoming variables are no constraints.
    lower[compiled.incoming], upper[compiled.incoming] = -np.inf, np.inf
    return Arrays(
        parts["cost"], sp.csr_array(matrix), parts["row_lower"], parts["row_upper"], lower, upper
    )


def _geometric_mean(table: Floats) -> Floats:
    """Over the realizations, of what is neither 0 nor infinite; 0 where nothing is."""
    used = np.isfinite(table) & (table != 0.0)
    logarithms = np.log2(np.where(used, np.abs(table), 1.0))
    count = used.sum(axis=0)
    mean: Floats = np.where(count > 0, 2.0 ** (logarithms.sum(axis=0) / np.maximum(count, 1)), 0.0)
    return mean
