"""The small stage_lp of a stage equals the whole one, after every kind of edit.

The oracle is scipy on all columns, those of the state fixed by their bounds: nothing is moved to
the right-hand side there and no column is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from sddp.engine.subproblem.stage_lp import FEWEST_REMOVABLE, MAXIMAL_AGE, StageLP
from sddp.engine.value.cuts import LinearConstraints
from sddp.lp import AT_LOWER, AT_UPPER, BASIC, Arrays, Effort, LinearProgram, Scaling, Status
from tests.engine.support import SOLVER
from tests.oracles import solve_lp

N_STATE, N_KEPT, N_INACTIVE, N_ROWS = 3, 5, 36, 7
N_COLUMNS = N_STATE + N_KEPT + N_INACTIVE
KEPT, INACTIVE = np.arange(N_STATE, N_STATE + N_KEPT), np.arange(N_STATE + N_KEPT, N_COLUMNS)
# A point that keeps rows as they are made, without any removable column.
INNER = np.where(np.arange(N_COLUMNS) < N_STATE + N_KEPT, 0.5, 0.0)
INDEX = np.int32


@dataclass(eq=False)
class Pair:
    """A `StageLP` and the plain numbers that it stands for, edited together."""

    rng: np.random.Generator
    whole: Arrays
    stage_lp: StageLP
    state: np.ndarray
    added: LinearConstraints

    def arrays(self, state: np.ndarray | None = None) -> Arrays:
        """All rows and columns, the state as fixed columns."""
        own, here = self.whole, self.state if state is None else state
        fixed = slice(0, N_STATE)
        lower, upper = own.column_lower.copy(), own.column_upper.copy()
        lower[fixed] = upper[fixed] = here
        return Arrays(
            own.cost,
            sp.csr_array(np.vstack([own.matrix.toarray(), self.added.coefficients])),
            np.concatenate([own.row_lower, self.added.lower]),
            np.concatenate([own.row_upper, np.full(len(self.added), np.inf)]),
            lower,
            upper,
            own.offset,
        )

    def value(self, state: np.ndarray | None = None) -> float:
        """Optimal value by scipy; infinite where there is no solution."""
        a = self.arrays(state)
        sides = (a.row_lower, a.row_upper, a.column_lower, a.column_upper)
        try:
            return float(solve_lp(a.cost, a.matrix, *sides, a.offset)[0])
        except ValueError as error:  # the columns are in a box, so nothing is unbounded
            if "infeasible" not in str(error):
                raise
            return np.inf


def pair(rng: np.random.Generator, *, integral: bool = False, unit: float = 1.0) -> Pair:
    """Columns of both kinds in a box; most removable ones are too dear to be wanted.

    `integral` makes ties everywhere: entries, costs and sides are small whole numbers.
    """
    shape = (N_ROWS, N_COLUMNS)
    matrix = rng.normal(size=shape) * (rng.random(shape) < 0.6)
    cost = np.concatenate([rng.normal(size=N_STATE + N_KEPT), rng.uniform(0.0, 4.0, N_INACTIVE)])
    upper, width = rng.uniform(0.5, 2.0, N_COLUMNS), rng.uniform(0.1, 0.6, N_ROWS)
    inner, state = INNER, rng.uniform(0.4, 0.6, N_STATE)
    if integral:
        matrix, cost = np.sign(np.round(matrix)), np.ceil(cost)
        inner, state = np.ceil(INNER), np.ones(N_STATE)
        upper, width = np.ones(N_COLUMNS), np.ones(N_ROWS)
    middle, kind = matrix @ inner, rng.integers(0, 4, N_ROWS)
    whole = Arrays(
        cost,
        sp.csr_array(matrix),
        np.where(kind == 0, -np.inf, np.where(kind == 1, middle, middle - width)),
        np.where(kind == 1, middle, np.where(kind == 2, np.inf, middle + width)),
        np.zeros(N_COLUMNS),
        upper,
        0.7,
    )
    stage_lp = StageLP(whole, N_STATE, INACTIVE, Scaling.uniform(whole, 1.0 / unit), Effort())
    stage_lp.set_state(state)
    none = LinearConstraints(np.zeros((0, N_COLUMNS)), np.zeros(0), np.zeros(0, dtype=bool))
    return Pair(rng, whole, stage_lp, state, none)


def some(rng: np.random.Generator, positions: np.ndarray, n: int = 3) -> np.ndarray:
    """A few of them, sorted."""
    return np.sort(rng.choice(positions, n, replace=False)).astype(INDEX)


def set_state(p: Pair) -> None:
    p.state = np.clip(p.state + p.rng.normal(0.0, 0.2, N_STATE), 0.0, 1.0)
    p.stage_lp.set_state(p.state)


def bound_kept_columns(p: Pair) -> None:
    at = some(p.rng, KEPT, 2)
    lower = p.rng.uniform(-0.3, 0.3, 2)
    _bound(p, at, lower, lower + p.rng.uniform(0.5, 2.0, 2))


def bound_removable_columns(p: Pair) -> None:
    at = some(p.rng, INACTIVE, 8)
    _bound(p, at, np.zeros(8), p.rng.uniform(0.0, 1.0, 8) * (p.rng.random(8) < 0.7))


def _bound(p: Pair, at: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
    p.whole.column_lower[at], p.whole.column_upper[at] = lower, upper
    p.stage_lp.set_column_bounds(at, lower, upper)


def set_costs(p: Pair) -> None:
    at, costs = some(p.rng, KEPT), p.rng.normal(size=3)
    p.whole.cost[at] = costs
    p.stage_lp.set_costs(at, costs)


def set_row_bounds(p: Pair) -> None:
    rows = some(p.rng, np.arange(N_ROWS), 2)
    middle, width = p.whole.matrix[rows] @ INNER, p.rng.uniform(0.2, 1.0, 2)
    p.whole.row_lower[rows], p.whole.row_upper[rows] = middle - width, middle + width
    p.stage_lp.set_row_bounds(rows, middle - width, middle + width)


def set_coefficients(p: Pair) -> None:
    """Of the state and of columns that do not rest."""
    rows, columns = p.rng.integers(0, N_ROWS, 4), p.rng.permutation(N_STATE + N_KEPT)[:4]
    values = p.rng.normal(size=4) * (p.rng.random(4) < 0.8)
    dense = p.whole.matrix.toarray()
    dense[rows, columns] = values
    p.whole = Arrays(
        p.whole.cost,
        sp.csr_array(dense),
        p.whole.row_lower,
        p.whole.row_upper,
        p.whole.column_lower,
        p.whole.column_upper,
        p.whole.offset,
    )
    p.stage_lp.set_coefficients(rows, columns, values)


def append(p: Pair) -> None:
    n = int(p.rng.integers(1, 4))
    coefficients = p.rng.normal(size=(n, N_COLUMNS)) * (p.rng.random((n, N_COLUMNS)) < 0.5)
    lower = coefficients @ INNER - p.rng.uniform(0.0, 0.5, n)
    rows = LinearConstraints(coefficients, lower, p.rng.random(n) < 0.8)
    p.stage_lp.append(rows)
    p.added = _joined(p.added, rows)


def _joined(one: LinearConstraints, other: LinearConstraints) -> LinearConstraints:
    return LinearConstraints(
        np.vstack([one.coefficients, other.coefficients]),
        np.concatenate([one.lower, other.lower]),
        np.concatenate([one.recurring, other.recurring]),
    )


def truncate(p: Pair) -> None:
    n = int(p.rng.integers(0, len(p.added) + 1))
    p.stage_lp.truncate(n)
    p.added = _chosen(p.added, np.arange(len(p.added)) < n)


def _chosen(rows: LinearConstraints, mask: np.ndarray) -> LinearConstraints:
    return LinearConstraints(rows.coefficients[mask], rows.lower[mask], rows.recurring[mask])


def remove_idle(p: Pair) -> None:
    """Often enough that rows and columns go; the value stays, and rows that must stay do."""
    before, value = p.added, p.value()
    for _ in range(MAXIMAL_AGE + 2):
        if p.stage_lp.solve() is not Status.OPTIMAL:
            return
        p.stage_lp.remove_idle()
    p.added = p.stage_lp.rows
    kept = [tuple(row) for row in p.added.coefficients]
    stays = np.array([tuple(row) in kept for row in before.coefficients], dtype=bool)
    assert np.all(stays | before.recurring)
    assert [tuple(row) for row in before.coefficients[stays]] == kept
    assert p.value() == pytest.approx(value, rel=SOLVER, abs=SOLVER)


def round_trip(p: Pair) -> None:
    if p.stage_lp.solve() is Status.OPTIMAL:
        p.stage_lp.start_from(p.stage_lp.basis())


def forget(p: Pair) -> None:
    p.stage_lp.start_from(None)


def solve(p: Pair) -> None:
    p.stage_lp.solve()


EDITS: tuple[Callable[[Pair], None], ...] = (
    set_state,
    bound_kept_columns,
    bound_removable_columns,
    set_costs,
    set_row_bounds,
    set_coefficients,
    append,
    truncate,
    remove_idle,
    round_trip,
    forget,
    solve,
)


def assert_equal(p: Pair, status: Status, *, generic: bool = True) -> None:
    """Objective, primal and reduced costs against scipy; the last two by what optimality says.

    `generic` data have one dual solution, which a freshly built stage_lp of all columns finds.
    """
    value = p.value()
    if not np.isfinite(value):
        assert status is Status.INFEASIBLE
        return
    assert status is Status.OPTIMAL
    close = {"rel": SOLVER, "abs": 1e-8}
    assert p.stage_lp.objective() == pytest.approx(value, **close)
    z, d, a = p.stage_lp.primal(), p.stage_lp.reduced_costs(), p.arrays()
    assert z[:N_STATE].tolist() == p.state.tolist()
    assert a.cost @ z + a.offset == pytest.approx(value, **close)
    assert np.all((z >= a.column_lower - 1e-8) & (z <= a.column_upper + 1e-8))
    activity = a.matrix @ z
    assert np.all((activity >= a.row_lower - 1e-7) & (activity <= a.row_upper + 1e-7))
    decisions = np.arange(N_STATE, N_COLUMNS)
    at_lower = (z <= a.column_lower + 1e-7)[decisions]
    at_upper = (z >= a.column_upper - 1e-7)[decisions]
    assert np.all((d[decisions] >= -1e-8) | at_upper)
    assert np.all((d[decisions] <= 1e-8) | at_lower)
    _assert_subgradient(p, value, d[:N_STATE])
    if generic:
        fresh = LinearProgram(a)
        assert fresh.solve() is Status.OPTIMAL
        assert d == pytest.approx(fresh.reduced_costs(), rel=1e-6, abs=1e-6)


def _assert_subgradient(p: Pair, value: float, slope: np.ndarray) -> None:
    for size in (0.01, 0.3):
        step = np.random.default_rng(0).normal(0.0, size, N_STATE)
        for move in (step, -step):
            assert p.value(p.state + move) >= value + slope @ move - 1e-7


@pytest.mark.long
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 10_000),
    edits=st.lists(st.sampled_from(EDITS), min_size=2, max_size=9),
    unit=st.sampled_from([1.0, 1000.0]),
)
def test_any_sequence_of_edits(seed, edits, unit):
    p = pair(np.random.default_rng(seed), unit=unit)
    for edit in edits:
        edit(p)
        assert_equal(p, p.stage_lp.solve())
    assert_equal(p, p.stage_lp.solve())


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_one_kind_of_edit_again_and_again(edit):
    """After rows and columns have come and gone."""
    p = pair(np.random.default_rng(11))
    append(p)
    assert_equal(p, p.stage_lp.solve())
    for _ in range(3):
        edit(p)
        assert_equal(p, p.stage_lp.solve())


@pytest.mark.parametrize("seed", range(4))
def test_ties_everywhere(seed):
    """Whole numbers: degenerate solutions, many optima, sides at which rows change hands."""
    p = pair(np.random.default_rng(seed), integral=True)
    for _ in range(4):
        assert_equal(p, p.stage_lp.solve(), generic=False)
        if np.isfinite(p.value()):
            remove_idle(p)
        z = p.stage_lp.primal()
        row = np.sign(np.round(p.rng.normal(size=(2, N_COLUMNS))))
        tight = LinearConstraints(
            row, row @ z, np.ones(2, dtype=bool)
        )  # they hold z where it stands
        p.stage_lp.append(tight)
        p.added = _joined(p.added, tight)
        p.state = p.rng.integers(0, 2, N_STATE).astype(float)
        p.stage_lp.set_state(p.state)


# ---------------------------------------------------------------- columns outside


def menu(
    costs: np.ndarray, *, upper: float = np.inf, dear: float = 10.0, need: float = 1.0
) -> StageLP:
    """Cover ``need - x`` by removable columns, one unit each, or by one kept column at `dear`."""
    n = len(costs)
    arrays = Arrays(
        np.concatenate([[0.0, dear], costs]),
        sp.csr_array(np.ones((1, n + 2))),
        np.array([need]),
        np.array([np.inf]),
        np.zeros(n + 2),
        np.concatenate([[np.inf, np.inf], np.full(n, upper)]),
    )
    return StageLP(arrays, 1, np.arange(2, n + 2), Scaling.uniform(arrays), Effort())


def test_only_columns_that_help_are_called_in():
    costs = np.full(40, 20.0)  # dearer than the kept column
    costs[7] = 3.0
    stage_lp = menu(costs)
    assert stage_lp.lp.n_columns == 1
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.lp.n_columns == 2
    assert stage_lp.objective() == pytest.approx(3.0, rel=SOLVER)
    assert np.flatnonzero(stage_lp.primal()).tolist() == [9]
    assert stage_lp.reduced_costs() == pytest.approx(
        np.concatenate([[-3.0, 7.0], costs - 3.0]), rel=SOLVER
    )


def test_few_removable_columns_stay_active():
    stage_lp = menu(np.full(FEWEST_REMOVABLE - 1, 20.0))
    assert stage_lp.lp.n_columns == FEWEST_REMOVABLE


def test_closed_columns_are_not_called_in_until_they_open():
    costs = np.full(40, 20.0)
    costs[7] = 3.0
    stage_lp = menu(costs, upper=0.0)
    stage_lp.solve()
    assert (stage_lp.lp.n_columns, stage_lp.objective()) == (1, pytest.approx(10.0))
    stage_lp.set_column_bounds(np.array([9], dtype=INDEX), np.zeros(1), np.array([0.25]))
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.objective() == pytest.approx(0.25 * 3.0 + 0.75 * 10.0, rel=SOLVER)


def test_columns_at_their_upper_bound_are_never_sent_out():
    """Five at their bound of 0.1 carry half of the need; others rest and go."""
    costs = np.concatenate([np.full(5, 1.0), np.full(35, 12.0)])
    stage_lp = menu(costs, upper=0.1, dear=15.0)
    for _ in range(3 * MAXIMAL_AGE):
        assert stage_lp.solve() is Status.OPTIMAL  # 5 at 1 and 5 at 12
        assert stage_lp.objective() == pytest.approx(0.5 * 1.0 + 0.5 * 12.0, rel=SOLVER)
        stage_lp.remove_idle()
    used = np.flatnonzero(stage_lp.primal() > 0.0) - 1
    assert {1, 2, 3, 4, 5} <= set((used).tolist())
    stage_lp.set_state(np.array([0.6]))  # now only 0.4 are needed: the first five do
    for _ in range(3 * MAXIMAL_AGE):
        stage_lp.solve()
        assert stage_lp.objective() == pytest.approx(0.4, rel=SOLVER)
        stage_lp.remove_idle()
    inside = stage_lp.lp.n_columns
    at_upper = np.flatnonzero(stage_lp.basis().columns == AT_UPPER)
    assert 3 <= len(at_upper) <= inside <= 7
    stage_lp.remove_idle()
    assert np.all(stage_lp.primal()[at_upper + 1] == 0.1)


def test_columns_that_rested_long_are_sent_out_and_come_back():
    costs = np.full(40, 20.0)
    costs[[3, 4]] = 3.0, 4.0
    stage_lp = menu(costs, upper=0.6)
    stage_lp.solve()
    assert (stage_lp.lp.n_columns, stage_lp.objective()) == (3, pytest.approx(0.6 * 3 + 0.4 * 4))
    stage_lp.set_state(np.array([0.5]))  # the dearer of the two is not needed now
    sizes = []
    for _ in range(MAXIMAL_AGE + 2):
        stage_lp.solve()
        stage_lp.remove_idle()
        sizes.append(stage_lp.lp.n_columns)
    assert sizes[: MAXIMAL_AGE - 1] == [3] * (MAXIMAL_AGE - 1)
    assert sizes[-1] == 2
    stage_lp.set_state(np.array([0.0]))
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.objective() == pytest.approx(0.6 * 3.0 + 0.4 * 4.0, rel=SOLVER)


def test_a_column_of_the_basis_that_is_zero_is_not_sent_out():
    """ "As much as the state" of something costly: at a state of 0 it is zero, and in the basis."""
    n = 2 + FEWEST_REMOVABLE  # the state, one column that is always inside, and those that may rest
    matrix = np.zeros((1, n))
    matrix[0, [0, 2]] = -1.0, 1.0
    bounds = np.zeros(n), np.ones(n)
    arrays = Arrays(np.ones(n), sp.csr_array(matrix), np.zeros(1), np.full(1, np.inf), *bounds)
    effort = Effort()
    stage_lp = StageLP(arrays, 1, np.arange(2, n), Scaling.uniform(arrays), effort)
    stage_lp.set_state(np.array([0.3]))
    for _ in range(3 * MAXIMAL_AGE):  # all were called in, for without them it is infeasible
        assert stage_lp.solve() is Status.OPTIMAL
        stage_lp.remove_idle()
    assert (stage_lp.primal()[2], stage_lp.lp.n_columns) == (0.3, 2)
    stage_lp.set_state(np.array([0.0]))
    pivots = effort.pivots
    for _ in range(3 * MAXIMAL_AGE):
        assert stage_lp.solve() is Status.OPTIMAL
        assert stage_lp.primal()[2] == 0.0
        stage_lp.remove_idle()
    assert BASIC in stage_lp.basis().columns[1:]
    assert (effort.pivots, stage_lp.lp.n_columns) == (pivots, 2)


def test_what_is_infeasible_without_the_inactive_columns_is_solved_with_them():
    stage_lp = menu(np.arange(1.0, 41.0), upper=0.5, dear=100.0, need=3.0)
    stage_lp.set_column_bounds(np.array([1], dtype=INDEX), np.zeros(1), np.zeros(1))
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.objective() == pytest.approx(0.5 * (1 + 2 + 3 + 4 + 5 + 6), rel=SOLVER)


def test_infeasible_and_unbounded_are_said_of_the_whole_and_undone_by_an_edit():
    stage_lp = menu(np.arange(1.0, 41.0), upper=0.5, dear=100.0, need=30.0)
    row, kept = np.array([0], dtype=INDEX), np.array([1], dtype=INDEX)
    stage_lp.set_column_bounds(kept, np.zeros(1), np.zeros(1))
    assert stage_lp.solve() is Status.INFEASIBLE  # 40 halves are 20
    assert stage_lp.solve() is Status.INFEASIBLE
    stage_lp.set_state(np.array([29.0]))
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.objective() == pytest.approx(0.5 * 1 + 0.5 * 2, rel=SOLVER)
    stage_lp.set_column_bounds(kept, np.zeros(1), np.array([np.inf]))
    stage_lp.set_costs(kept, np.array([-1.0]))
    assert stage_lp.solve() is Status.UNBOUNDED
    stage_lp.set_row_bounds(row, np.array([30.0]), np.array([31.0]))
    assert stage_lp.solve() is Status.OPTIMAL
    assert stage_lp.objective() == pytest.approx(-2.0, rel=SOLVER)


@pytest.mark.parametrize(("cost", "left"), [(1e-29, 1e-29), (1e-10, 1e-10)])
def test_a_reduced_cost_left_without_a_bound_is_recorded_in_units(cost, left):
    """No row takes up the cost of the second column; rounding of rounding is none of its size."""
    one, no_columns = np.ones(1), np.zeros(0, dtype=np.int64)
    bounds = np.array([-np.inf, 0.0]), np.array([np.inf, np.inf])
    matrix = sp.csr_array(np.array([[0.0, 1.0]]))
    arrays = Arrays(np.array([cost, 1.0]), matrix, one, np.full(1, np.inf), *bounds)
    effort = Effort()
    stage_lp = StageLP(arrays, 0, no_columns, Scaling.uniform(arrays), effort)
    assert stage_lp.solve() is Status.OPTIMAL
    assert effort.free_cost == left


def test_an_inactive_column_can_make_it_unbounded():
    costs = np.full(40, 20.0)
    costs[11] = -1.0
    assert menu(costs).solve() is Status.UNBOUNDED
    assert menu(costs, upper=2.0).solve() is Status.OPTIMAL


@pytest.mark.parametrize("n", [FEWEST_REMOVABLE - 1, FEWEST_REMOVABLE])
def test_crossed_bounds_are_infeasible_whether_the_column_is_active_or_not(n):
    stage_lp = menu(np.full(n, 20.0))
    stage_lp.solve()
    stage_lp.set_column_bounds(np.array([2], dtype=INDEX), np.zeros(1), np.array([-1.0]))
    assert stage_lp.solve() is Status.INFEASIBLE


# ---------------------------------------------------------------- sameness


@pytest.mark.parametrize("seed", range(6))
def test_from_a_basis_the_next_solution_is_bitwise_the_same(seed):
    """Whatever came between: other states, rows and columns, other costs."""
    p = pair(np.random.default_rng(seed))
    append(p)
    assert p.stage_lp.solve() is Status.OPTIMAL
    basis, first, n_rows = p.stage_lp.basis(), p.state.copy(), len(p.added)
    second = np.clip(first + 0.1, 0.0, 1.0)

    def answer() -> tuple[bytes, bytes, float, int]:
        p.stage_lp.truncate(n_rows)
        p.stage_lp.start_from(basis)
        p.stage_lp.set_state(second)
        status = p.stage_lp.solve()
        assert status is Status.OPTIMAL
        z, d = p.stage_lp.primal(), p.stage_lp.reduced_costs()
        return z.tobytes(), d.tobytes(), p.stage_lp.objective(), p.stage_lp.lp.n_columns

    expected = answer()
    costs = p.whole.cost[KEPT].copy()
    for _ in range(4):
        for edit in (set_state, append, set_costs, solve, remove_idle_columns):
            edit(p)
        p.stage_lp.set_costs(KEPT.astype(INDEX), costs)
        assert answer() == expected
    p.stage_lp.start_from(None)
    assert answer() == expected


def remove_idle_columns(p: Pair) -> None:
    """Rows at the front must stay where they are: only columns are removed."""
    if p.stage_lp.solve() is Status.OPTIMAL:
        p.stage_lp._remove_idle_columns()


def test_a_basis_speaks_of_all_columns():
    p = pair(np.random.default_rng(3))
    assert p.stage_lp.solve() is Status.OPTIMAL
    basis, inside = p.stage_lp.basis(), p.stage_lp.lp.n_columns
    assert N_KEPT < inside < N_KEPT + N_INACTIVE  # some stayed outside, some were called in
    assert len(basis.columns) == N_KEPT + N_INACTIVE
    outside = p.stage_lp.primal()[INACTIVE] == 0.0
    assert np.all((basis.columns[N_KEPT:] == AT_LOWER) | ~outside | (basis.columns[N_KEPT:] == 1))
    effort = p.stage_lp.lp.effort
    pivots = effort.pivots
    p.stage_lp.start_from(basis)
    assert p.stage_lp.solve() is Status.OPTIMAL
    assert effort.pivots == pivots


def test_values_and_whole_are_those_of_the_solution():
    p = pair(np.random.default_rng(8))
    assert p.stage_lp.solve() is Status.OPTIMAL
    z = p.stage_lp.whole(p.stage_lp.lp.primal()[None, :])
    assert z[0].tolist() == p.stage_lp.primal().tolist()
    value = np.array([p.stage_lp.objective() - p.whole.offset])
    assert p.stage_lp.agree(z, value).all()
    assert not p.stage_lp.agree(z, value * (1.0 + 1e-6)).any()
