"""The linear program of a node whose cost-to-go is what combinations of known points guarantee."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.certificate.inner_stage import StageForm, stacked
from sddp.engine.stage.stage_data import StageData
from sddp.engine.subproblem.lazy_constraints import broken_rows
from sddp.engine.subproblem.program_family import FormProgram, basis_sides
from sddp.errors import SolverError
from sddp.lp import (
    Arrays,
    Effort,
    LinearProgram,
    Status,
    fitted_scaling,
)
from sddp.lp_model import CHECK_TOLERANCE

if TYPE_CHECKING:
    from sddp.engine.compiled.hull_values import CompiledFamily

# Generated rows are refined until none is broken by more than this, relative; see `broken_rows`.
ROW_TOLERANCE = 1e-10
MAXIMAL_ROUNDS = 1_000

# A dense dictionary with more entries is slower than the sparse solver.
MOST_ENTRIES = 400_000


@dataclass(frozen=True, eq=False)
class KnownPoints:
    """What is known of the cost-to-go of a node, in engine units (costs).

    Attributes
    ----------
    states : array, shape (n_points, n_components)
        Outgoing states; of size 1 in homogeneous problems.
    values : array, shape (n_points,)
        The cost-to-go there is at most this.
    up, down : array, shape (n_components,)
        Largest rise of the cost-to-go per unit of a component added, and taken away; NaN where
        none is known.
    """

    states: Floats
    values: Floats
    up: Floats
    down: Floats


# See `RowGenerator.at_combinations`.
Combines = Callable[[Floats], tuple[Floats, Floats, Floats]]


class InnerProgram:
    """The linear program of one form: ``[own decisions | ups | downs | weights]``."""

    def __init__(
        self,
        compiled: StageData,
        form: StageForm,
        points: KnownPoints | None,
        *,
        homogeneous: bool,
        accuracy: float,
        name: str,
        effort: Effort,
    ) -> None:
        self.form, self.points, self.name = form, points, name
        self._states, self._column_names = compiled.states, compiled.column_names
        self._homogeneous = homogeneous
        generator = compiled.rows
        combines = getattr(generator, "at_combinations", None)
        self._generator = None if combines else generator
        self._places = _places(compiled, form)
        self._row_sizes = np.zeros(len(compiled.generator_columns))
        if points is not None and len(points.values):
            units = np.zeros(compiled.n_columns)
            units[compiled.outgoing] = np.abs(points.states).max(axis=0)
            self._row_sizes = compiled.row_sizes(units)
        self._ups, self._downs = _directions(points, generator is not None)
        self.program = self._program(homogeneous, combines)
        lp = self.program
        arrays = Arrays(
            lp.cost, lp.matrix, lp.row_lower[0], lp.row_upper[0], lp.lower[0], lp.upper[0]
        )
        self._scaling = fitted_scaling(arrays)
        self._lp = LinearProgram(arrays, self._scaling.finer(accuracy), effort)
        self._family: CompiledFamily | None = None

    def values(
        self, states: Floats, noises: Ints, groups: Ints, at_most: int | None = None
    ) -> Floats:
        """Values at states (of size 1 where homogeneous) and positions in the form's noises.

        See `InnerHull.values`.
        """
        if self.program.matrix.shape[1] == 0:
            return self._without_decisions(states, noises)
        values, position = np.full(len(states), np.nan), 0
        failed = np.zeros(int(groups.max(initial=0)) + 1, dtype=bool)
        family, effort = self._compiled(), self._lp.effort
        end = np.inf if at_most is None else effort.solves + at_most
        while position < len(states) and effort.solves < end:
            if family is not None:
                most = len(states) if at_most is None else int(end - effort.solves)
                asked = (states, noises, groups, failed, values)
                position, solved, left = family.answer(*asked, position, most)
                effort.solves += solved
                if not left:
                    continue
            at, position = position, position + 1
            values[at] = np.inf
            if not failed[groups[at]]:
                values[at] = self.solve(states[at], int(noises[at]))
                failed[groups[at]] = np.isinf(values[at])
                if family is not None and not failed[groups[at]]:
                    family.start_from(*basis_sides(self._lp.basis()))
        return values

    def forget_bases(self) -> None:
        """Free the memory of the bases that were met."""
        self._family = None

    def _compiled(self) -> CompiledFamily | None:
        """The same program for the compiled solver; None where it does not take it."""
        n_rows, n_columns = self.program.matrix.shape
        if self._generator is not None or not 0 < n_rows * n_columns <= MOST_ENTRIES:
            return None
        if self._family is None:
            try:
                from sddp.engine.compiled.hull_values import CompiledFamily
            except ImportError:  # no numba for this Python: the same values, later
                return None
            self._family = CompiledFamily(self.program.family(self._scaling))
        return self._family

    def _without_decisions(self, states: Floats, noises: Ints) -> Floats:
        lp = self.program
        values: Floats = self.form.offset[noises] + states @ self.form.cost_in
        moved = states @ lp.row_in.T
        room = CHECK_TOLERANCE * (1.0 + np.abs(moved))
        holds = (lp.row_lower[noises] - moved <= room) & (lp.row_upper[noises] - moved >= -room)
        values[~holds.all(axis=1)] = np.inf
        return values

    def solve(self, state: Floats, noise: int) -> float:
        """Value at one state; infinite where no combination is feasible."""
        if self.program.matrix.shape[1] == 0:
            return float(self._without_decisions(state[None, :], np.array([noise]))[0])
        self._state, self._noise = state, noise
        self._write_sides()
        self._before = np.full(1, np.nan)
        for _ in range(MAXIMAL_ROUNDS):
            status = self._lp.solve()
            if status is Status.INFEASIBLE:
                return np.inf
            if status is not Status.OPTIMAL:
                raise SolverError(
                    f"inner bound, {self._where()}: not solved ({self._lp.status_text()}); written "
                    f"to {self._written()}"
                )
            lp, w = self.program, noise  # bounds are kept to the last digit
            lower, upper = lp.lower[w] + lp.lower_in @ state, lp.upper[w] + lp.upper_in @ state
            self._primal = np.maximum(np.minimum(self._lp.primal(), upper), lower)
            if not self._add_broken_rows():
                constant = self.form.offset[noise] + self.form.cost_in @ state
                return float(self._lp.objective() + constant)
        raise SolverError(
            f"inner bound, {self._where()}: {MAXIMAL_ROUNDS} rounds of rows did not end; "
            f"written to {self._written()}"
        )

    def _where(self) -> str:
        """Node, noise and incoming state of the last solve."""
        state = self._states.describe(self._state)
        size = " (at size 1)" if self._homogeneous else ""
        return f"{self.name}, noise {self.form.noises[self._noise]}, incoming state {state}{size}"

    def _written(self) -> str:
        """Write the last program to a file; its columns are decisions, steps and weights."""
        d = range(0 if self.points is None else self.points.states.shape[1])
        labels = self._states.labels
        names = [self._column_names[j] for j in self.form.columns]
        names += [f"up[{labels[j]}]" for j in d if j in self._ups]
        names += [f"down[{labels[j]}]" for j in d if j in self._downs]
        names += [f"weight[{i}]" for i in range(self._lp.n_columns - len(names))]
        return self._lp.write("sddp-inner", names)

    def solution(self) -> tuple[Floats, Floats]:
        """Own decisions and outgoing state of the last solve."""
        y, n = self._primal, len(self.form.columns)
        if self.points is None:
            return y[:n], np.zeros(0)
        up, down = self.steps()
        weights = y[n + len(self._ups) + len(self._downs) :]
        return y[:n], weights @ self.points.states + up - down

    def steps(self) -> tuple[Floats, Floats]:
        """Steps up and down along each component in the last solution."""
        assert self.points is not None
        first = len(self.form.columns)
        up, down = np.zeros((2, self.points.states.shape[1]))
        up[self._ups] = self._primal[first : first + len(self._ups)]
        first += len(self._ups)
        down[self._downs] = self._primal[first : first + len(self._downs)]
        return up, down

    def _write_sides(self) -> None:
        lp, w, x = self.program, self._noise, self._state
        moved, at = lp.row_in @ x, lp.moving_columns
        rows = np.arange(len(moved), dtype=np.int32)
        self._lp.set_row_bounds(rows, lp.row_lower[w] - moved, lp.row_upper[w] - moved)
        lower, upper = lp.lower[w, at] + lp.lower_in[at] @ x, lp.upper[w, at] + lp.upper_in[at] @ x
        crossed = (lower > upper) & (lower <= upper + CHECK_TOLERANCE * (1.0 + np.abs(upper)))
        self._lp.set_column_bounds(at, lower, np.where(crossed, lower, upper))

    def _add_broken_rows(self) -> bool:
        """Append generated rows that the solution breaks; whether there were any."""
        if self._generator is None:
            return False
        own, outgoing = self.solution()
        columns = np.zeros(sum(len(place) for place in self._places.declared))
        columns[self._places.declared[0]] = own
        columns[self._places.declared[1]] = self._state
        columns[self._places.declared[2]] = outgoing
        values = columns[self._places.generator]
        rows, sides = self._generator.violated(values, 0.0)
        broken = broken_rows(rows, sides, values, ROW_TOLERANCE, self._row_sizes)
        rows, sides = rows[broken], sides[broken]
        if len(sides) == 0 or np.array_equal(self._primal, self._before):
            return False  # none, or rows that a solve moved by its own tolerance at most
        self._before = self._primal
        rest = self._out_block(self._places.of_outgoing(rows))
        block = sp.csr_array(np.hstack([self._places.of_own(rows), rest]))
        into = self._places.of_incoming(rows)
        self.program = self.program.with_rows(block, into, sides)
        self._lp.add_rows(block, np.full(len(sides), -np.inf), sides - into @ self._state)
        self._write_sides()
        return True

    def _out_block(self, out: Floats) -> Floats:
        """Rows over the outgoing state as rows over ups, downs and weights."""
        if self.points is None:
            return np.zeros((len(out), 0))
        return np.hstack([out[:, self._ups], -out[:, self._downs], out @ self.points.states.T])

    def _program(self, homogeneous: bool, combines: Combines | None) -> FormProgram:
        form, points = self.form, self.points
        blocks = [
            _Block(form.own, self._out_block(form.out), form.into, form.row_lower, form.row_upper)
        ]
        cost, n_extra = [form.cost], 0
        if points is not None:
            n_extra = len(self._ups) + len(self._downs) + len(points.values)
            cost += [
                points.up[self._ups] + form.cost_out[self._ups],
                points.down[self._downs] - form.cost_out[self._downs],
                points.values + points.states @ form.cost_out,
            ]
            blocks += self._combination_rows(homogeneous, combines)
        still = np.zeros((n_extra, form.into.shape[1]))
        n_noises = len(form.noises)
        return FormProgram(
            cost=np.concatenate(cost),
            cost_in=form.cost_in,
            offset=form.offset,
            matrix=stacked([(b.own, b.rest) for b in blocks]),
            row_in=np.vstack([b.into for b in blocks]),
            row_lower=np.hstack([b.lower for b in blocks]),
            row_upper=np.hstack([b.upper for b in blocks]),
            lower=np.hstack([form.lower, np.zeros((n_noises, n_extra))]),
            upper=np.hstack([form.upper, np.full((n_noises, n_extra), np.inf)]),
            lower_in=np.vstack([form.lower_in, still]),
            upper_in=np.vstack([form.upper_in, still]),
        )

    def _combination_rows(self, homogeneous: bool, combines: Combines | None) -> list[_Block]:
        """Bounds of the outgoing state, weights that sum to 1, and rows of a generator."""
        form, points = self.form, self.points
        assert points is not None
        n_noises, n_points = len(form.noises), len(points.values)
        n_extra = len(self._ups) + len(self._downs) + n_points
        bounded = self._bounded_components()
        own, into = np.zeros((len(bounded), len(form.columns))), form.into
        blocks = [
            _Block(
                sp.csr_array(own),
                self._out_block(np.eye(points.states.shape[1])[bounded]),
                np.zeros((len(bounded), into.shape[1])),
                form.out_lower[:, bounded],
                form.out_upper[:, bounded],
            )
        ]
        if not homogeneous:
            one = np.zeros((1, n_extra))
            one[0, n_extra - n_points :] = 1.0
            side = np.ones((n_noises, 1))
            blocks.append(
                _Block(
                    sp.csr_array((1, len(form.columns))),
                    one,
                    np.zeros((1, into.shape[1])),
                    side,
                    side,
                )
            )
        if combines is not None:
            weights, rows, sides = combines(points.states)
            rest = self._out_block(self._places.of_outgoing(rows))
            rest[:, n_extra - n_points :] += weights
            blocks.append(
                _Block(
                    sp.csr_array(self._places.of_own(rows)),
                    rest,
                    self._places.of_incoming(rows),
                    np.full((n_noises, len(sides)), -np.inf),
                    np.tile(sides, (n_noises, 1)),
                )
            )
        return blocks

    def _bounded_components(self) -> Ints:
        """Components whose bounds combinations of the points might leave."""
        assert self.points is not None
        low, high = self.form.out_lower.max(axis=0), self.form.out_upper.min(axis=0)
        states = self.points.states
        leaves = (states.min(axis=0) < low) | (states.max(axis=0) > high)
        moves = np.zeros(len(low), dtype=bool)
        moves[self._ups] = True
        moves[self._downs] = True
        bounded = np.isfinite(self.form.out_lower).any(axis=0)
        bounded |= np.isfinite(self.form.out_upper).any(axis=0)
        return np.flatnonzero(bounded & (leaves | moves))


class _Block(NamedTuple):
    """Rows over own decisions and the rest (ups, downs, weights), moved by the incoming state."""

    own: sp.csr_array
    rest: Floats
    into: Floats
    lower: Floats
    upper: Floats


class _Places(NamedTuple):
    """Where the row generator's variables are: own decisions, incoming and outgoing state."""

    declared: tuple[Ints, Ints, Ints]
    generator: Ints

    def of_own(self, rows: Floats) -> Floats:
        return self._spread(rows)[:, self.declared[0]]

    def of_incoming(self, rows: Floats) -> Floats:
        return self._spread(rows)[:, self.declared[1]]

    def of_outgoing(self, rows: Floats) -> Floats:
        return self._spread(rows)[:, self.declared[2]]

    def _spread(self, rows: Floats) -> Floats:
        full = np.zeros((len(rows), sum(len(place) for place in self.declared)))
        for column, values in zip(self.generator.tolist(), rows.T, strict=True):
            full[:, column] += values
        return full


def _places(compiled: StageData, form: StageForm) -> _Places:
    own = set(form.columns.tolist())
    outgoing = [c for c in compiled.outgoing.tolist() if c not in own]
    return _Places(
        (form.columns, compiled.incoming, np.array(outgoing, dtype=np.int64)),
        compiled.generator_columns,
    )


def _directions(points: KnownPoints | None, generated: bool) -> tuple[Ints, Ints]:
    """Components with a slope up, and down; none where generated rows bind the combination."""
    if points is None or generated:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.flatnonzero(~np.isnan(points.up)), np.flatnonzero(~np.isnan(points.down))
