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
        self._program, self._remembers = program, remembers
        self._dense = program.matrix.toarray() if remembers else np.zeros((0, 0))
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
        if not self._remembers:
            return False
        region = _region(self._program, self._dense, basis)
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
        left = states @ self.room_in.T + room
        kept: NDArray[np.bool_] = (left >= -ROUNDING * np.maximum(1.0, np.abs(room))).all(axis=1)
        return kept


def _region(lp: FormProgram, dense: Floats, basis: Basis) -> _Region | None:
    """A basis as affine maps; None where it is singular, or rests on a bound that there is not."""
    column_basic, row_basic = basis.columns == BASIC, basis.rows == BASIC
    column_upper, row_upper = basis.columns == AT_UPPER, basis.rows == AT_UPPER
    # Columns that are not basic rest on a bound, or (free ones) on 0.
    resting = np.where(column_upper, lp.upper, lp.lower)
    resting_in = np.where(column_upper[:, None], lp.upper_in, lp.lower_in)
    resting = np.where(np.isinf(lp.lower) & np.isinf(lp.upper), 0.0, resting)
    resting[:, column_basic] = 0.0
    resting_in = np.where(column_basic[:, None], 0.0, resting_in)
    sides = np.where(row_upper & np.isfinite(lp.row_upper), lp.row_upper, lp.row_lower)
    sides = np.where(np.isinf(sides), lp.row_upper, sides)
    sides[:, row_basic] = 0.0
    if not (np.isfinite(resting).all() and np.isfinite(sides).all()):
        return None
    n_rows = len(dense)
    square = np.hstack([dense[:, column_basic], -np.eye(n_rows)[:, row_basic]])
    right = sides - resting @ dense.T
    right_in = np.where(row_basic[:, None], 0.0, -lp.row_in) - dense @ resting_in
    if square.shape != (n_rows, n_rows):
        return None
    try:
        solved = np.linalg.solve(square, np.hstack([right.T, right_in]))
    except np.linalg.LinAlgError:
        return None
    basics, basics_in = solved[:, : len(right)].T, solved[:, len(right) :]
    n = int(column_basic.sum())
    cost = lp.cost[column_basic]
    slope = cost @ basics_in[:n] + lp.cost @ resting_in + lp.cost_in
    constants = basics[:, :n] @ cost + resting @ lp.cost + lp.offset
    # The basic row of -row_in @ x: its activity is that of the decisions alone.
    lower = np.hstack([lp.lower[:, column_basic], lp.row_lower[:, row_basic]])
    upper = np.hstack([lp.upper[:, column_basic], lp.row_upper[:, row_basic]])
    lower_in = np.vstack([lp.lower_in[column_basic], -lp.row_in[row_basic]])
    upper_in = np.vstack([lp.upper_in[column_basic], -lp.row_in[row_basic]])
    below, above = np.isfinite(lower).any(axis=0), np.isfinite(upper).any(axis=0)
    room = np.hstack([(basics - lower)[:, below], (upper - basics)[:, above]])
    room_in = np.vstack([(basics_in - lower_in)[below], (upper_in - basics_in)[above]])
    return _Region(slope, constants, room, room_in)
