"""Rows that are added when a solution breaks them, and a pool of them that nodes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.value.cuts import LinearConstraints
from sddp.lp_model import HUGE


def over_declared(rows: LinearConstraints, kept: Ints, n_columns: int) -> LinearConstraints:
    """Rows of a program whose first columns are the declared ones at `kept`, over all of those."""
    n_kept = len(kept)
    coefficients = np.zeros((len(rows), n_columns + rows.coefficients.shape[1] - n_kept))
    coefficients[:, kept] = rows.coefficients[:, :n_kept]
    coefficients[:, n_columns:] = rows.coefficients[:, n_kept:]
    return replace(rows, coefficients=coefficients)


def broken_rows(
    rows: Floats,
    upper: Floats,
    values: Floats,
    tolerance: float,
    sizes: Floats,
    least: float = 0.0,
) -> NDArray[np.bool_]:
    """Which rows ``rows @ values <= upper`` are broken by more than a tolerance.

    It is relative to the terms of each row, ``|upper| + sum |a_j v_j|``, and to what its states
    would add at their typical `sizes` (0 for other variables): no unit of a row or of a variable
    matters. Terms below `least` count as that. A row with a number that is not finite is broken.
    """
    excess = rows @ values - upper
    no_numbers = ~np.isfinite(excess)
    broken = no_numbers | (excess > 0.0)
    if broken.any():
        coefficients = np.abs(rows[broken])
        terms = np.abs(upper[broken]) + coefficients @ np.abs(values)
        terms = np.maximum(terms, (coefficients * sizes).max(axis=1, initial=least))
        broken[broken] = ~(excess[broken] <= tolerance * terms)
    return broken | no_numbers


class RowPool:
    """Rows found by generators of one key, over their variables: ``coefficients @ v <= upper``.

    A row that one node's solution needed is often needed by the next node's too; checking the
    pool costs one product, finding rows one at a time costs a solve each. The latest are kept.
    """

    CAPACITY = 128
    # More rows at a time save few solves and make each one dearer.
    AT_ONCE = 3

    def __init__(self, n_variables: int) -> None:
        self._coefficients = np.zeros((self.CAPACITY, n_variables))
        self._upper = np.full(self.CAPACITY, HUGE)  # rows that nothing breaks
        self._next = 0
        self._fresh: list[tuple[Floats, float]] = []

    def add(self, coefficients: Floats, upper: Floats) -> None:
        """Remember new rows in place of the oldest."""
        found = list(zip(coefficients, upper.tolist(), strict=True))
        self._fresh.extend(found)
        self.take_in(found)

    def take_in(self, rows: Sequence[tuple[Floats, float]]) -> None:
        """Remember rows that another pool found."""
        for row, bound in rows:
            self._coefficients[self._next], self._upper[self._next] = row, bound
            self._next = (self._next + 1) % self.CAPACITY

    def take_fresh(self) -> list[tuple[Floats, float]]:
        """Rows added since the last call, without those taken in."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def violated(
        self, values: Floats, tolerance: float, sizes: Floats, least: float = 0.0
    ) -> tuple[Floats, Floats]:
        """The rows that `values` breaks most, by more than `tolerance`; see `broken_rows`."""
        broken = broken_rows(self._coefficients, self._upper, values, tolerance, sizes, least)
        if not broken.any():
            return self._coefficients[:0], self._upper[:0]
        at = np.flatnonzero(broken)
        excess = self._coefficients[at] @ values - self._upper[at]
        chosen = at[np.argsort(-excess, kind="stable")[: self.AT_ONCE]]
        return self._coefficients[chosen], self._upper[chosen]
