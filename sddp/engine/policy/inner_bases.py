"""Bases of the inner bound's linear programs, kept as maps of state and noise.

Right-hand sides are affine in the incoming state, so a basis that is optimal once is optimal on
a whole region of states. Its duals bound the value everywhere, and its primal solution attains
that bound where it keeps all signs; most states are answered by a basis that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.lp import AT_UPPER, BASIC, Basis

# By which a bound may be missed by the solution of a known basis: rounding of a small system.
ROUNDING = 1e-11

# What a basis says where it was found, and what the solver said there.
AGREEMENT = 1e-9


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


class KnownBases:
    """Bases found so far; none are kept where `remembers` is false."""

    def __init__(self, program: FormProgram, remembers: bool) -> None:
        self._anatomy = _Anatomy(program) if remembers else None
        self._bases: list[_Region] = []

    def clear(self) -> None:
        """Forget all."""
        self._bases.clear()

    def values(self, states: Floats, noises: Ints) -> tuple[Floats, Floats]:
        """Values where a known basis is optimal (else NaN), and what duals allow at least."""
        values = np.full(len(states), np.nan)
        if not self._bases:
            return values, np.full(len(states), -np.inf)
        slopes = np.array([basis.slope for basis in self._bases])
        constants = np.array([basis.constants for basis in self._bases])
        offered = states @ slopes.T + constants[:, noises].T
        best = offered.argmax(axis=1)
        floor: Floats = offered[np.arange(len(states)), best]
        for number in np.unique(best):
            asked = np.flatnonzero(best == number)
            kept = asked[self._bases[number].keeps_signs(states[asked], noises[asked])]
            values[kept] = floor[kept]
        return values, floor

    def answered_by_last(
        self, states: Floats, noises: Ints, floor: Floats
    ) -> tuple[NDArray[np.bool_], Floats]:
        """Where the basis found last is optimal, and its values; it raises `floor` in place."""
        basis = self._bases[-1]
        offered: Floats = states @ basis.slope + basis.constants[noises]
        # A basis is optimal only where no other one's duals ask for more.
        answered = offered >= floor - ROUNDING * (1.0 + np.abs(offered))
        asked = np.flatnonzero(answered)
        answered[asked] = basis.keeps_signs(states[asked], noises[asked])
        np.maximum(floor, offered, out=floor)
        return answered, offered

    def add(self, basis: Basis, state: Floats, noise: int, value: float) -> bool:
        """Keep a basis; False where its maps do not give the value that it was found with."""
        if self._anatomy is None:
            return False
        region = self._anatomy.region(basis)
        if region is None:
            return False
        offered = float(state @ region.slope + region.constants[noise])
        if not abs(offered - value) <= AGREEMENT * (1.0 + abs(value)):
            return False
        self._bases.append(region)
        return True


@dataclass(frozen=True, eq=False)
class _Region:
    """Value ``constants[w] + slope @ x`` where all of ``room[w] + room_in @ x`` are at least 0."""

    slope: Floats
    constants: Floats
    room: Floats
    room_in: Floats

    def keeps_signs(self, states: Floats, noises: Ints) -> NDArray[np.bool_]:
        room = self.room[noises]
        left: Floats = states @ self.room_in.T + room
        return np.asarray((left >= -ROUNDING * np.maximum(1.0, np.abs(room))).all(axis=1))


class _Anatomy:
    """What all bases of a program share. Rows stand behind columns, their activities as values."""

    def __init__(self, lp: FormProgram) -> None:
        self.lp, self.dense = lp, lp.matrix.toarray()
        # The activity of a row is that of the decisions alone: the state moves its sides.
        self.lower = np.concatenate([lp.lower, lp.row_lower], axis=1)
        self.upper = np.concatenate([lp.upper, lp.row_upper], axis=1)
        self.lower_in = np.concatenate([lp.lower_in, -lp.row_in])
        self.upper_in = np.concatenate([lp.upper_in, -lp.row_in])
        # Where a side is infinite under one noise, it is under all of a form.
        self.below, self.above = np.isfinite(self.lower[0]), np.isfinite(self.upper[0])
        # Columns that may rest on something else than 0.
        lower = np.where(self.below, self.lower, 0.0).any(axis=0) | self.lower_in.any(axis=1)
        self.special = np.flatnonzero((lower | self.above | ~self.below)[: len(lp.cost)])

    def region(self, basis: Basis) -> _Region | None:
        """A basis as affine maps; None where it is singular, or rests on a bound that is none."""
        lp, n_rows = self.lp, len(self.dense)
        columns, slack = np.flatnonzero(basis.columns == BASIC), basis.rows == BASIC
        n = len(columns)
        if n + np.count_nonzero(slack) != n_rows:
            return None
        slacks, tight = np.flatnonzero(slack), np.flatnonzero(~slack)
        resting = self.special[basis.columns[self.special] != BASIC]
        at, at_in = self._bounds(resting, basis.columns[resting] == AT_UPPER)
        behind = tight + len(lp.cost)
        sides, _ = self._bounds(behind, basis.rows[tight] == AT_UPPER)
        if not (np.isfinite(at).all() and np.isfinite(sides).all()):
            return None
        right = np.zeros((n_rows, len(lp.offset) + lp.row_in.shape[1]))
        right[tight, : len(lp.offset)] = sides.T
        right[tight, len(lp.offset) :] = -lp.row_in[tight]
        rest = np.concatenate([at.T, at_in], axis=1)
        right -= self.dense[:, resting] @ rest
        square = np.zeros((n_rows, n_rows))
        square[:, :n] = self.dense[:, columns]
        square[slacks, np.arange(n, n_rows)] = -1.0
        try:
            basics = np.asarray(np.linalg.solve(square, right), dtype=float)
        except np.linalg.LinAlgError:
            return None
        total = lp.cost[columns] @ basics[:n] + lp.cost[resting] @ rest
        constants = total[: len(lp.offset)] + lp.offset
        slope = total[len(lp.offset) :] + lp.cost_in
        where = np.concatenate([columns, slacks + len(lp.cost)])
        return _Region(slope, constants, *self._room(where, basics))

    def _bounds(self, where: Ints, upper: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """The bounds that columns or rows rest on; 0 for those that have none."""
        upper = (upper & self.above[where]) | ~self.below[where]
        at = np.where(upper, self.upper[:, where], self.lower[:, where])
        at_in = np.where(upper[:, None], self.upper_in[where], self.lower_in[where])
        at[:, ~(self.below[where] | self.above[where])] = 0.0
        return at, at_in

    def _room(self, where: Ints, basics: Floats) -> tuple[Floats, Floats]:
        """Distances of the basic columns and rows from their bounds, as affine maps."""
        n_noises = len(self.lp.offset)
        constants, maps = basics[:, :n_noises].T, basics[:, n_noises:]
        above = np.flatnonzero(self.above[where])
        bounded = where[above]
        return (
            np.concatenate(
                [constants - self.lower[:, where], self.upper[:, bounded] - constants[:, above]],
                axis=1,
            ),
            np.concatenate(
                [maps - self.lower_in[where], self.upper_in[bounded] - maps[above]],
            ),
        )
