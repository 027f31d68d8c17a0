"""A stage as the inner bound sees it: the outgoing state is replaced by what is known of it.

Incoming states are constants of a solve, so they move right-hand sides; outgoing states become
combinations of known points, so their columns go. What is left are the other decisions. All is
read from the declared arrays, so that what the bound claims holds for the problem as stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.stage.stage_data import StageData, arrays_at
from sddp.lp import Arrays


@dataclass(frozen=True, eq=False)
class StageForm:
    """Realizations of a node's noise that share costs and matrix: one linear program serves them.

    Rows ``row_lower <= own @ y + out @ x' + into @ x <= row_upper`` over the other decisions
    ``y``, the outgoing state ``x'`` (of width 0 where nothing follows) and the incoming one
    ``x``. Arrays with a realization in each row are in the order of `noises`.

    Attributes
    ----------
    noises : integer array, shape (n_noises,)
    columns : integer array, shape (n_own,)
        Declared column of each ``y``.
    cost, cost_out, cost_in : arrays
    offset : array, shape (n_noises,)
    own : sparse matrix (n_rows, n_own)
    out, into : arrays, shapes (n_rows, n_out) and (n_rows, n_components)
    row_lower, row_upper : arrays, shape (n_noises, n_rows)
    lower, upper : arrays, shape (n_noises, n_own)
    lower_in, upper_in : arrays, shape (n_own, n_components)
        What the incoming state adds to a bound.
    out_lower, out_upper : arrays, shape (n_noises, n_out)
    """

    noises: Ints
    columns: Ints
    cost: Floats
    cost_out: Floats
    cost_in: Floats
    offset: Floats
    own: sp.csr_array
    out: Floats
    into: Floats
    row_lower: Floats
    row_upper: Floats
    lower: Floats
    upper: Floats
    lower_in: Floats
    upper_in: Floats
    out_lower: Floats
    out_upper: Floats


def stage_forms(compiled: StageData, *, followed: bool) -> tuple[StageForm, ...]:
    """Group the realizations of a stage's noise; `followed` is whether another decision comes."""
    table = compiled.noise
    arrays = [
        arrays_at(compiled, {place: values[w] for place, values in table.values.items()})
        for w in range(table.n_realisations)
    ]
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for w, realization in enumerate(arrays):
        groups.setdefault(_key(realization), []).append(w)
    outgoing = compiled.outgoing if followed else np.zeros(0, dtype=np.int64)
    return tuple(
        _with_moving_bounds(_form(compiled, outgoing, noises, [arrays[w] for w in noises]))
        for noises in groups.values()
    )


def stacked(blocks: Sequence[tuple[sp.csr_array, Floats]]) -> sp.csr_array:
    """Blocks ``[own | rest]`` one above the other."""
    rows: list[Any] = [sp.hstack([own, sp.csr_array(rest)], format="csr") for own, rest in blocks]
    return sp.csr_array(sp.vstack(rows, format="csr"))


def _key(arrays: Arrays) -> tuple[bytes, ...]:
    """Costs, matrix, and which bounds and sides there are."""
    sides = (arrays.row_lower, arrays.row_upper, arrays.column_lower, arrays.column_upper)
    matrix = arrays.matrix
    return (
        arrays.cost.tobytes(),
        matrix.data.tobytes(),
        matrix.indices.tobytes(),
        matrix.indptr.tobytes(),
        *(np.isfinite(side).tobytes() for side in sides),
    )


def _form(
    compiled: StageData, outgoing: Ints, noises: Sequence[int], arrays: Sequence[Arrays]
) -> StageForm:
    incoming, first = compiled.incoming, arrays[0]
    own = np.setdiff1d(np.arange(compiled.n_columns), np.concatenate([incoming, outgoing]))
    lower = np.array([a.column_lower for a in arrays])
    upper = np.array([a.column_upper for a in arrays])
    still = np.zeros((len(own), len(incoming)))
    return StageForm(
        noises=np.array(noises, dtype=np.int64),
        columns=own,
        cost=first.cost[own],
        cost_out=first.cost[outgoing],
        cost_in=first.cost[incoming],
        offset=np.array([a.offset for a in arrays]),
        own=sp.csr_array(first.matrix[:, own]),
        out=first.matrix[:, outgoing].toarray(),
        into=first.matrix[:, incoming].toarray(),
        row_lower=np.array([a.row_lower for a in arrays]),
        row_upper=np.array([a.row_upper for a in arrays]),
        lower=lower[:, own],
        upper=upper[:, own],
        lower_in=still,
        upper_in=still.copy(),
        out_lower=lower[:, outgoing],
        out_upper=upper[:, outgoing],
    )


def _with_moving_bounds(form: StageForm) -> StageForm:
    """Turn a row over one decision and the incoming state into a bound that moves with it.

    Known bases are square matrices of the rows, so that each row less saves time cubed.
    """
    lower, upper = form.lower.copy(), form.upper.copy()
    lower_in, upper_in = form.lower_in.copy(), form.upper_in.copy()
    kept = np.ones(form.own.shape[0], dtype=bool)
    starts, indices, data = form.own.indptr, form.own.indices, form.own.data
    for i in range(len(kept)):
        entries = np.flatnonzero(data[starts[i] : starts[i + 1]]) + starts[i]
        if len(entries) != 1 or form.out[i].any():
            continue
        column, pivot = indices[entries[0]], data[entries[0]]
        sides = {"lower": form.row_lower[:, i], "upper": form.row_upper[:, i]}
        finite = [name for name, side in sides.items() if np.isfinite(side).all()]
        if len(finite) != 1:
            continue
        is_lower = (finite[0] == "lower") == (pivot > 0.0)
        bounds, moves = (lower, lower_in) if is_lower else (upper, upper_in)
        if np.isfinite(bounds[:, column]).any():
            continue
        bounds[:, column] = sides[finite[0]] / pivot
        moves[column] = -form.into[i] / pivot
        kept[i] = False
    return replace(
        form,
        own=sp.csr_array(form.own[np.flatnonzero(kept)]),
        out=form.out[kept],
        into=form.into[kept],
        row_lower=form.row_lower[:, kept],
        row_upper=form.row_upper[:, kept],
        lower=lower,
        upper=upper,
        lower_in=lower_in,
        upper_in=upper_in,
    )
