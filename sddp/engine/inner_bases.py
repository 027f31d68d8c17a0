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

    def answer_with_last(
        self, states: Floats, noises: Ints, answers: Floats, floor: Floats
    ) -> None:
        """Fill in what the basis found last answers; `answers` and `floor` are updated."""
        basis = self._bases[-1]
        offered = states @ basis.slope + basis.constants[noises]
        # A basis is optimal only where no other one's duals ask for more.
        room = ROUNDING * (1.0 + np.abs(offered))
        asked = np.flatnonzero(np.isnan(answers) & (offered >= floor - room))
        kept = asked[basis.keeps_signs(states[asked], noises[asked])]
        answers[kept] = offered[kept]
        np.maximum(floor, offered, out=floor)

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
    """What all bases of a program share: which bounds there are, and which are not 0."""

    def __init__(self, lp: FormProgram) -> None:
        self.lp, self.dense = lp, lp.matrix.toarray()
        finite_lower, finite_upper = np.isfinite(lp.lower), np.isfinite(lp.upper)
        # Where a side is infinite under one noise, it is under all of a form.
        self.below, self.above = finite_lower[0], finite_upper[0]
        self.row_below, self.row_above = np.isfinite(lp.row_lower[0]), np.isfinite(lp.row_upper[0])
        # Columns that may rest on something else than 0 when they are at their lower bound.
        lower = np.where(finite_lower, lp.lower, 0.0)
        self.raised = lower.any(axis=0) | lp.lower_in.any(axis=1)
        self.free = ~(self.below | self.above)

    def region(self, basis: Basis) -> _Region | None:
        """A basis as affine maps; None where it is singular, or rests on a bound that is none."""
        lp, dense = self.lp, self.dense
        basic, slack = np.flatnonzero(basis.columns == BASIC), np.flatnonzero(basis.rows == BASIC)
        n, n_rows = len(basic), len(dense)
        if n + len(slack) != n_rows:
            return None
        resting = self._resting(basis)
        tight = self._tight(basis)
        if resting is None or tight is None:
            return None
        columns, at, at_in = resting
        rows, sides = tight
        right = np.zeros((len(lp.offset), n_rows))
        right[:, rows] = sides
        right_in = np.zeros((n_rows, lp.row_in.shape[1]))
        right_in[rows] = -lp.row_in[rows]
        slope, constants = lp.cost_in, lp.offset
        if len(columns):
            right -= at @ dense[:, columns].T
            right_in -= dense[:, columns] @ at_in
            slope = slope + lp.cost[columns] @ at_in
            constants = constants + at @ lp.cost[columns]
        square = np.zeros((n_rows, n_rows))
        square[:, :n] = dense[:, basic]
        square[slack, np.arange(n, n_rows)] = -1.0
        try:
            solved = np.linalg.solve(square, np.concatenate([right.T, right_in], axis=1))
        except np.linalg.LinAlgError:
            return None
        basics, basics_in = solved[:, : len(right)].T, solved[:, len(right) :]
        slope = slope + lp.cost[basic] @ basics_in[:n]
        constants = constants + basics[:, :n] @ lp.cost[basic]
        return _Region(slope, constants, *self._room(basic, slack, basics, basics_in))

    def _resting(self, basis: Basis) -> tuple[Ints, Floats, Floats] | None:
        """Columns that rest on a bound other than 0, with its constants and maps."""
        lp, nonbasic = self.lp, basis.columns != BASIC
        at_upper = np.flatnonzero(nonbasic & (basis.columns == AT_UPPER) & ~self.free)
        at_lower = np.flatnonzero(nonbasic & (basis.columns != AT_UPPER) & self.raised)
        unbounded = nonbasic & ~self.free & (basis.columns != AT_UPPER) & ~self.below
        at = np.concatenate([lp.upper[:, at_upper], lp.lower[:, at_lower]], axis=1)
        if unbounded.any() or not np.isfinite(at).all():
            return None
        at_in = np.concatenate([lp.upper_in[at_upper], lp.lower_in[at_lower]])
        return np.concatenate([at_upper, at_lower]), at, at_in

    def _tight(self, basis: Basis) -> tuple[Ints, Floats] | None:
        """Rows that are not basic, with the sides that they are at."""
        lp, rows = self.lp, np.flatnonzero(basis.rows != BASIC)
        upper = (basis.rows[rows] == AT_UPPER) & self.row_above[rows]
        upper |= ~self.row_below[rows]
        sides = np.where(upper, lp.row_upper[:, rows], lp.row_lower[:, rows])
        return (rows, sides) if np.isfinite(sides).all() else None

    def _room(
        self, basic: Ints, slack: Ints, basics: Floats, basics_in: Floats
    ) -> tuple[Floats, Floats]:
        """Distances of the basic columns and rows from their bounds, as affine maps."""
        lp, n = self.lp, len(basic)
        room, room_in = [], []
        # The activity of a row is that of the decisions alone: the state moves its sides.
        for first, where, lower, upper, lower_in, upper_in, below, above in (
            (0, basic, lp.lower, lp.upper, lp.lower_in, lp.upper_in, self.below, self.above),
            (
                n,
                slack,
                lp.row_lower,
                lp.row_upper,
                -lp.row_in,
                -lp.row_in,
                self.row_below,
                self.row_above,
            ),
        ):
            at = np.flatnonzero(below[where])
            room.append(basics[:, first + at] - lower[:, where[at]])
            room_in.append(basics_in[first + at] - lower_in[where[at]])
            at = np.flatnonzero(above[where])
            room.append(upper[:, where[at]] - basics[:, first + at])
            room_in.append(upper_in[where[at]] - basics_in[first + at])
        return np.concatenate(room, axis=1), np.concatenate(room_in)
