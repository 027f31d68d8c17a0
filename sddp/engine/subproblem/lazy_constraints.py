"""Rows added to a stage LP after it was built, and the ones that wait in a shared pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.value.cuts import LinearConstraints

# A row that held none of this many solutions in a row is dropped; it comes back when needed.
MAXIMAL_AGE = 4


class LazyRows:
    """The added rows of one LP, in the order in which they stand there.

    Only recurring ones age.
    """

    def __init__(self, n_columns: int) -> None:
        self._table = LinearConstraints(
            np.empty((8, n_columns)), np.empty(8), np.empty(8, dtype=bool)
        )
        self._ages = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ages)

    @property
    def coefficients(self) -> Floats:
        """Shape (n_rows, n_columns)."""
        return self._table.coefficients[: len(self)]

    @property
    def lower(self) -> Floats:
        """Shape (n_rows,)."""
        return self._table.lower[: len(self)]

    def append(self, table: LinearConstraints) -> None:
        """Add rows at the end."""
        start, end = len(self), len(self) + len(table)
        while end > len(self._table):
            self._double()
        own = self._table
        own.coefficients[start:end] = table.coefficients
        own.lower[start:end], own.recurring[start:end] = table.lower, table.recurring
        self._ages = np.concatenate([self._ages, np.zeros(len(table), dtype=np.int64)])

    def age(self, slack: NDArray[np.bool_]) -> Ints:
        """Count one more solution; positions of the rows that were slack for too long."""
        self._ages = np.where(slack, self._ages + 1, 0)
        old: Ints = np.flatnonzero((self._ages > MAXIMAL_AGE) & self._table.recurring[: len(self)])
        return old

    def remove(self, positions: Ints) -> None:
        """Forget rows."""
        if len(positions) == 0:
            return
        keep = np.ones(len(self), dtype=bool)
        keep[positions] = False
        own, n_kept = self._table, int(keep.sum())
        for values in (own.coefficients, own.lower, own.recurring):
            values[:n_kept] = values[: len(keep)][keep]
        self._ages = self._ages[keep]

    def copy(self) -> LinearConstraints:
        """All rows, copied."""
        own, n = self._table, len(self)
        return LinearConstraints(
            own.coefficients[:n].copy(), own.lower[:n].copy(), own.recurring[:n].copy()
        )

    def _double(self) -> None:
        own = self._table
        self._table = LinearConstraints(
            np.concatenate([own.coefficients, np.empty_like(own.coefficients)]),
            np.concatenate([own.lower, np.empty_like(own.lower)]),
            np.concatenate([own.recurring, np.empty_like(own.recurring)]),
        )


def over_declared(rows: LinearConstraints, kept: Ints, n_columns: int) -> LinearConstraints:
    """Rows of a program whose first columns are the declared ones at `kept`, over all of those."""
    n_kept = len(kept)
    coefficients = np.zeros((len(rows), n_columns + rows.coefficients.shape[1] - n_kept))
    coefficients[:, kept] = rows.coefficients[:, :n_kept]
    coefficients[:, n_columns:] = rows.coefficients[:, n_kept:]
    return replace(rows, coefficients=coefficients)


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
        self._upper = np.full(self.CAPACITY, np.inf)
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

    def violated(self, values: Floats, tolerance: float) -> tuple[Floats, Floats]:
        """The rows that `values` breaks most, by more than `tolerance`."""
        excess = np.dot(self._coefficients, values) - self._upper
        if excess.max() <= tolerance:
            return self._coefficients[:0], self._upper[:0]
        order = np.argsort(-excess, kind="stable")[: self.AT_ONCE]
        chosen = order[excess[order] > tolerance]
        return self._coefficients[chosen], self._upper[chosen]
