"""A node's problem with the cost-to-go replaced by what known points guarantee.

The cost-to-go ``Q`` of a node is convex in the outgoing state. Where it is at most ``q_i`` at
``x'_i``, and rises by at most ``s`` per unit along a direction ``e``, it is at most

    min  sum_i l_i q_i + s.d    with    x' = sum_i l_i x'_i + E d,   sum_i l_i = 1,   l, d >= 0

(Philpott, de Matos and Finardi 2013; Baucke, Downward and Zakeri 2017). In place of the
cost-to-go this gives a linear program whose every feasible point is a decision of the true
problem, and whose value is at least what going on from it costs. Homogeneous problems need no
``sum_i l_i = 1``.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.compile import CompiledStage
from sddp.engine.inner_bases import FormProgram, KnownBases
from sddp.engine.inner_stage import StageForm
from sddp.engine.reduction import as_operator
from sddp.errors import SolverError
from sddp.lp import Arrays, Effort, LinearProgram, Status

# Generated rows are refined until none is broken by more than this, relative.
ROW_TOLERANCE = 1e-10
MAXIMAL_ROUNDS = 1_000

# A solution that breaks a row by more than this, relative to the row's terms, is none.
LARGEST_BREACH = 1e-7

# With more rows the square matrices of known bases cost more than the solves that they save.
MOST_ROWS = 400


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


class GuaranteedStep(NamedTuple):
    """A feasible decision: its guaranteed value, declared columns and outgoing state."""

    value: float
    columns: Floats
    outgoing: Floats


# One item after each linear program, and the answer in the end.
Counted = Generator[None, None, Floats]


@dataclass(eq=False)
class InnerHull:
    """Guaranteed values of one node, at any incoming state and noise.

    Parameters
    ----------
    compiled : CompiledStage
    forms : sequence of StageForm
    points : KnownPoints or None
        None where nothing follows.
    homogeneous : bool
    unit : float
        See `LinearProgram`.
    name : str
        For error messages.
    effort : Effort
        Where linear programs are counted.
    """

    compiled: CompiledStage
    forms: Sequence[StageForm]
    points: KnownPoints | None
    homogeneous: bool
    unit: float
    name: str
    effort: Effort
    _programs: dict[int, _Solver] = field(default_factory=dict, repr=False)

    @property
    def hopeless(self) -> bool:
        """Whether no point is known, so that nothing is guaranteed from any state."""
        return self.points is not None and len(self.points.values) == 0

    def values(self, states: Floats, noises: Ints, groups: Ints) -> Counted:
        """Guaranteed values at pairs of incoming state and noise; infinite where there is none.

        `states` has shape (n, n_components), `noises` and `groups` (n,): once one of a group has
        no value, the others are not asked for and infinite too. A generator: it yields after
        each linear program and returns the values, so that its caller may put off the rest.
        """
        found = np.full(len(states), np.inf)
        if self.hopeless:
            return found
        sizes = np.ones(len(states))
        if self.homogeneous:
            sizes = np.abs(states).sum(axis=1)
            found[sizes == 0.0] = 0.0
        for number, form in enumerate(self.forms):
            place = np.full(self.compiled.noise.n_realisations, -1)
            place[form.noises] = np.arange(len(form.noises))
            asked = np.flatnonzero((place[noises] >= 0) & (sizes > 0.0))
            if len(asked):
                scaled = states[asked] / sizes[asked, None]
                local = place[noises[asked]]
                answers = yield from self._solver(number).values(scaled, local, groups[asked])
                found[asked] = sizes[asked] * answers
        return found

    def decide(self, state: Floats, noise: int) -> GuaranteedStep | None:
        """The best guaranteed decision; None where no combination of the points is feasible."""
        if self.hopeless:
            return None
        size = float(np.abs(state).sum()) if self.homogeneous else 1.0
        number = next(i for i, form in enumerate(self.forms) if noise in form.noises)
        form = self.forms[number]
        local = int(np.flatnonzero(form.noises == noise)[0])
        solver = self._solver(number)
        value = solver.solve(state / (size or 1.0), local)
        if not np.isfinite(value):
            return None
        own, outgoing = solver.solution()
        columns = np.zeros(self.compiled.n_columns)
        columns[form.columns] = size * own
        columns[self.compiled.incoming] = state
        if len(outgoing):
            columns[self.compiled.outgoing] = size * outgoing
        return GuaranteedStep(size * value, columns, size * outgoing)

    def forget_bases(self) -> None:
        """Free the memory of known bases once all states have been asked."""
        for solver in self._programs.values():
            solver.bases.clear()

    def _solver(self, number: int) -> _Solver:
        if number not in self._programs:
            self._programs[number] = _Solver(self, self.forms[number])
        return self._programs[number]


def missing_direction(hull: InnerHull, state: Floats, noise: int) -> tuple[str, int | None]:
    """The direction, and its component, that would make a combination feasible at a state.

    That of the least total step along directions without a slope; no component where no step
    along them helps either.
    """
    points = hull.points
    if points is None or len(points.values) == 0:
        return "no point is known", None
    missing_up, missing_down = np.isnan(points.up), np.isnan(points.down)
    free = replace(
        hull,
        forms=[
            replace(f, cost=0.0 * f.cost, cost_out=0.0 * f.cost_out, cost_in=0.0 * f.cost_in)
            for f in hull.forms
        ],
        points=KnownPoints(
            points.states,
            np.zeros(len(points.values)),
            missing_up.astype(float),
            missing_down.astype(float),
        ),
        _programs={},
    )
    step = free.decide(state, noise)
    if step is None:
        return "none of the state's components alone", None
    solver = free._solver(next(i for i, f in enumerate(hull.forms) if noise in f.noises))
    ups, downs = solver.steps()
    up, down = np.where(missing_up, ups, 0.0), np.where(missing_down, downs, 0.0)
    if up.max() >= down.max():
        return "upward", int(up.argmax())
    return "downward", int(down.argmax())


class _Solver:
    """The linear program of one form: ``[own decisions | ups | downs | weights]``."""

    def __init__(self, hull: InnerHull, form: StageForm) -> None:
        self.form, self.points, self.name = form, hull.points, hull.name
        generator = hull.compiled.stage.rows
        combines = getattr(generator, "at_combinations", None)
        self._generator = None if combines else generator
        self._places = _places(hull.compiled, form)
        self._ups, self._downs = _directions(hull.points, generator is not None)
        self.program = self._program(hull, combines)
        lp = self.program
        self._lp = LinearProgram(
            Arrays(
                lp.cost, lp.matrix, lp.row_lower[0], lp.row_upper[0], lp.lower[0], lp.upper[0]
            ),
            hull.unit,
            hull.effort,
        )
        self._operator = as_operator(lp.matrix)
        remembers = self._generator is None and lp.matrix.shape[0] <= MOST_ROWS
        self.bases = KnownBases(lp, remembers)

    def values(self, states: Floats, noises: Ints, groups: Ints) -> Counted:
        """Values at states (of size 1 where homogeneous) and positions in the form's noises."""
        if self.program.matrix.shape[1] == 0:
            return self._without_decisions(states, noises)
        answers, floor = self.bases.values(states, noises)
        for i in np.flatnonzero(np.isnan(answers)):
            if not np.isnan(answers[i]):
                continue
            answers[i] = self.solve(states[i], int(noises[i]))
            yield
            if np.isinf(answers[i]):
                answers[np.isnan(answers) & (groups == groups[i])] = np.inf
            elif self.bases.add(self._lp.basis(), states[i], int(noises[i]), float(answers[i])):
                self.bases.answer_with_last(states, noises, answers, floor)
        return answers

    def _without_decisions(self, states: Floats, noises: Ints) -> Floats:
        lp = self.program
        values: Floats = self.form.offset[noises] + states @ self.form.cost_in
        moved = states @ lp.row_in.T
        room = LARGEST_BREACH * (1.0 + np.abs(moved))
        holds = (lp.row_lower[noises] - moved <= room) & (lp.row_upper[noises] - moved >= -room)
        values[~holds.all(axis=1)] = np.inf
        return values

    def solve(self, state: Floats, noise: int) -> float:
        """Value at one state; infinite where no combination is feasible."""
        if self.program.matrix.shape[1] == 0:
            return float(self._without_decisions(state[None, :], np.array([noise]))[0])
        self._state, self._noise = state, noise
        self._write_sides()
        for _ in range(MAXIMAL_ROUNDS):
            status = self._lp.solve()
            value = self._checked(status)
            if value is None:
                status = self._lp.solve_afresh()
                value = self._checked(status)
            if value is None:
                raise SolverError(
                    f"inner bound, {self.name}: {self._lp.status_text()!r} from scratch, or a "
                    f"solution that breaks its rows; written to {self._lp.write('sddp')}"
                )
            if not np.isfinite(value) or not self._add_broken_rows():
                return value
        raise SolverError(f"inner bound, {self.name}: {MAXIMAL_ROUNDS} rounds of rows did not end")

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
        lp, w = self.program, self._noise
        moved = lp.row_in @ self._state
        self._sides = lp.row_lower[w] - moved, lp.row_upper[w] - moved
        self._lp.set_row_bounds(np.arange(len(moved), dtype=np.int32), *self._sides)
        self._bounds = (
            lp.lower[w] + lp.lower_in @ self._state,
            lp.upper[w] + lp.upper_in @ self._state,
        )
        self._lp.set_column_bounds(lp.moving_columns, *(b[lp.moving_columns] for b in self._bounds))

    def _checked(self, status: Status) -> float | None:
        """The value of a feasible point; infinite where there is none, None where none is found.

        What is missing from the sides of rows is paid for at the rows' duals.
        """
        lower, upper = self._bounds
        if status is Status.INFEASIBLE or np.any(lower > upper):
            return np.inf
        if status is not Status.OPTIMAL:
            return None
        y = self._primal = np.clip(self._lp.primal(), lower, upper)
        activity = self._operator @ y
        missing = np.maximum(self._sides[0] - activity, activity - self._sides[1])
        missing = np.maximum(missing, 0.0)
        paid = 0.0
        if missing.any():
            terms = 1.0 + np.abs(self._operator) @ np.abs(y)
            if np.any(missing > LARGEST_BREACH * terms):
                return None
            paid = float(np.abs(self._lp.row_duals()) @ missing)
        form = self.form
        constant = form.offset[self._noise] + form.cost_in @ self._state
        return float(self.program.cost @ y + constant) + paid

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
        tolerance = ROW_TOLERANCE * max(1.0, float(np.abs(values).max()))
        rows, sides = self._generator.violated(values, tolerance)
        if len(sides) == 0:
            return False
        block = self._rows_over(rows, self._weights_of_outgoing(rows))
        into = self._places.of_incoming(rows)
        self.program = self.program.with_rows(block, into, sides)
        self._operator = as_operator(self.program.matrix)
        self._lp.add_rows(
            block, np.full(len(sides), -np.inf), sides - into @ self._state
        )
        self._write_sides()
        return True

    def _weights_of_outgoing(self, rows: Floats) -> Floats:
        out = self._places.of_outgoing(rows)
        return self._out_block(out)

    def _out_block(self, out: Floats) -> Floats:
        """Rows over the outgoing state as rows over ups, downs and weights."""
        if self.points is None:
            return np.zeros((len(out), 0))
        return np.hstack([out[:, self._ups], -out[:, self._downs], out @ self.points.states.T])

    def _rows_over(self, rows: Floats, rest: Floats) -> sp.csr_array:
        return sp.csr_array(np.hstack([self._places.of_own(rows), rest]))

    def _program(self, hull: InnerHull, combines: object) -> FormProgram:
        form, points = self.form, self.points
        n_own, n_noises = len(form.columns), len(form.noises)
        blocks = [sp.hstack([form.own, self._out_block(form.out)], format="csr")]
        row_in, lower, upper = [form.into], [form.row_lower], [form.row_upper]
        cost, n_extra = [form.cost], 0
        if points is not None:
            n_extra = len(self._ups) + len(self._downs) + len(points.values)
            cost += [
                points.up[self._ups] + form.cost_out[self._ups],
                points.down[self._downs] - form.cost_out[self._downs],
                points.values + points.states @ form.cost_out,
            ]
            bounded = self._bounded_components()
            eye = np.eye(points.states.shape[1])[bounded]
            blocks.append(_beside(n_own, self._out_block(eye)))
            lower.append(form.out_lower[:, bounded])
            upper.append(form.out_upper[:, bounded])
            row_in.append(np.zeros((len(bounded), form.into.shape[1])))
            if not hull.homogeneous:
                one = np.concatenate([np.zeros(n_extra - len(points.values)), np.ones(len(points.values))])
                blocks.append(_beside(n_own, one[None, :]))
                lower.append(np.ones((n_noises, 1)))
                upper.append(np.ones((n_noises, 1)))
                row_in.append(np.zeros((1, form.into.shape[1])))
            if callable(combines):
                weights, rows, sides = combines(points.states)
                rest = self._weights_of_outgoing(rows)
                rest[:, n_extra - len(points.values) :] += weights
                blocks.append(self._rows_over(rows, rest))
                lower.append(np.full((n_noises, len(sides)), -np.inf))
                upper.append(np.tile(sides, (n_noises, 1)))
                row_in.append(self._places.of_incoming(rows))
        still = np.zeros((n_extra, form.into.shape[1]))
        return FormProgram(
            cost=np.concatenate(cost),
            cost_in=form.cost_in,
            offset=form.offset,
            matrix=sp.csr_array(sp.vstack(blocks, format="csr")),
            row_in=np.vstack(row_in),
            row_lower=np.hstack(lower),
            row_upper=np.hstack(upper),
            lower=np.hstack([form.lower, np.zeros((n_noises, n_extra))]),
            upper=np.hstack([form.upper, np.full((n_noises, n_extra), np.inf)]),
            lower_in=np.vstack([form.lower_in, still]),
            upper_in=np.vstack([form.upper_in, still]),
        )

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
        np.add.at(full, (slice(None), self.generator), rows)
        return full


def _places(compiled: CompiledStage, form: StageForm) -> _Places:
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


def _beside(n_own: int, block: Floats) -> sp.csr_array:
    return sp.csr_array(np.hstack([np.zeros((len(block), n_own)), block]))
