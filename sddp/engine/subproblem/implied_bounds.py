"""Bounds that the rows of a stage imply for columns without one, as functions of the state."""

from __future__ import annotations

import numpy as np

from sddp.arrays import Floats
from sddp.engine.value.cuts import Cut
from sddp.lp_model import HUGE_PRODUCT


def implied_bound(
    column: int,
    reduced: float,
    rows: Floats,
    sides: Floats,
    bounds: tuple[Floats, Floats],
    maps: Floats,
    state: Floats,
) -> Cut | None:
    """The bound on a column that its reduced cost asks for, if a row implies one.

    From below where the reduced cost is positive, else from above. A row ``a z + rest >= b`` gives
    ``z >= (b - largest rest) / a`` for positive ``a``; all four signs are treated alike.

    Parameters
    ----------
    column : int
    reduced : float
    rows : array, shape (n_rows, n_columns)
        The rows that hold the column; incoming states are the first columns.
    sides : array, shape (2, n_rows)
    bounds : pair of array, shape (n_columns,)
        Lower and upper bounds at state 0, infinite where there is none.
    maps : array, shape (2, n_columns, n_state)
        How the bounds move with the state.
    state : array, shape (n_state,)
        The tightest bound here is chosen.
    """
    n, sign = len(state), 1.0 if reduced > 0.0 else -1.0
    (lower, upper), best, best_value = bounds, None, -np.inf
    for row, low, high in zip(rows, *sides, strict=True):
        pivot = row[column]
        side = low if pivot * sign > 0.0 else high
        others = row[n:] / pivot * sign
        others[column - n] = 0.0
        ends, used = np.where(others > 0.0, upper[n:], lower[n:]), others != 0.0
        intercept = float(sign * side / pivot - others[used] @ ends[used])
        if not abs(intercept) < HUGE_PRODUCT:
            continue
        end_maps = np.where((others > 0.0)[:, None], maps[1, n:], maps[0, n:])
        slope = -sign * row[:n] / pivot - others @ end_maps
        value = intercept + float(slope @ state)
        if value > best_value:
            best, best_value = Cut(sign * slope, sign * intercept), value
    return best
