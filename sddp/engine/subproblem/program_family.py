"""Linear programs of one cost and matrix at many states and noises."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.lp import AT_UPPER, BASIC, Basis, Scaling


class Family(NamedTuple):
    """Programs over rows and bounds that move with noise w and state x, in units of size one.

    The value is ``money * min cost @ y + offset[w] + cost_in @ x``.
    Sides of rows ``row_lower[w] - row_in @ x`` to ``row_upper[w] - row_in @ x``, bounds of columns
    ``lower[w] + lower_in @ x`` to ``upper[w] + upper_in @ x``; only `moving` columns move.
    """

    matrix: Floats
    cost: Floats
    row_lower: Floats
    row_upper: Floats
    row_in: Floats
    lower: Floats
    upper: Floats
    lower_in: Floats
    upper_in: Floats
    moving: Ints
    money: float
    offset: Floats
    cost_in: Floats


@dataclass(frozen=True, eq=False)
class FormProgram:
    """``min cost @ y + cost_in @ x + offset`` over rows and bounds that move with state and noise.

    Rows ``row_lower <= matrix @ y + row_in @ x <= row_upper``, bounds ``lower + lower_in @ x``
    to ``upper + upper_in @ x``; sides and constants of bounds have one row per noise.
    """

    cost: Floats
    cost_in: Floats
    offset: Floats
    matrix: sp.csr_array
    row_in: Floats
    row_lower: Floats
    row_upper: Floats
    lower: Floats
    upper: Floats
    lower_in: Floats
    upper_in: Floats
    moving_columns: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        moves = (self.lower != self.lower[:1]).any(axis=0) | (self.upper != self.upper[:1]).any(0)
        moves |= self.lower_in.any(axis=1) | self.upper_in.any(axis=1)
        object.__setattr__(self, "moving_columns", np.flatnonzero(moves).astype(np.int32))

    def family(self, scaling: Scaling) -> Family:
        """The same in units in which its numbers are of size one, the matrix dense."""
        columns, rows, money = scaling.columns, scaling.rows, scaling.money
        return Family(
            matrix=np.ascontiguousarray(self.matrix.toarray() * rows[:, None] * columns),
            cost=self.cost * (columns / money),
            row_lower=self.row_lower * rows,
            row_upper=self.row_upper * rows,
            row_in=self.row_in * rows[:, None],
            lower=self.lower / columns,
            upper=self.upper / columns,
            lower_in=self.lower_in / columns[:, None],
            upper_in=self.upper_in / columns[:, None],
            moving=self.moving_columns.astype(np.int64),
            money=money,
            offset=self.offset,
            cost_in=self.cost_in,
        )

    def with_rows(self, block: sp.csr_array, into: Floats, sides: Floats) -> FormProgram:
        """The same with rows ``block @ y + into @ x <= sides`` at the end."""
        n = len(self.offset)
        return replace(
            self,
            matrix=sp.csr_array(sp.vstack([self.matrix, block], format="csr")),
            row_in=np.vstack([self.row_in, into]),
            row_lower=np.hstack([self.row_lower, np.full((n, len(sides)), -np.inf)]),
            row_upper=np.hstack([self.row_upper, np.tile(sides, (n, 1))]),
        )


def basis_sides(basis: Basis) -> tuple[Ints, Ints]:
    """A basis for the compiled solver: 0 at the lower side, 1 at the upper, 2 at none, -1 basic."""

    def coded(statuses: NDArray[np.int8]) -> Ints:
        sides = np.where(statuses == AT_UPPER, 1, np.where(statuses == BASIC, -1, 0))
        return np.where(statuses > AT_UPPER, 2, sides)

    return coded(basis.columns), coded(basis.rows)
