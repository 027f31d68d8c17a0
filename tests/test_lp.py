"""A linear program that is edited equals one that is built anew, after every kind of edit.

The oracle is scipy on the plain arrays, and a freshly built `LinearProgram`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import highspy
import numpy as np
import pytest
import scipy.sparse as sp

from sddp.errors import SolverError
from sddp.highs import AT_LOWER, BASIC, Basis, Status
from sddp.lp import Arrays, Effort, LinearProgram, Scaling, solve_once
from sddp.lp_model import Sides
from tests.oracles import solve_lp

SOLVER = 1e-9
ROOT = Path(__file__).resolve().parents[1]
INDEX = np.int32


def random_arrays(rng: np.random.Generator, n_columns: int = 6, n_rows: int = 5) -> Arrays:
    """Feasible (0.5 everywhere) and bounded (a box), with two-sided, one-sided and equal rows."""
    matrix = rng.normal(size=(n_rows, n_columns)) * (rng.random((n_rows, n_columns)) < 0.7)
    middle = matrix @ np.full(n_columns, 0.5)
    kind = rng.integers(0, 4, n_rows)
    width = rng.uniform(0.1, 1.0, n_rows)
    return Arrays(
        cost=rng.normal(size=n_columns),
        matrix=sp.csr_array(matrix),
        row_lower=np.where(kind == 0, -np.inf, np.where(kind == 1, middle, middle - width)),
        row_upper=np.where(kind == 1, middle, np.where(kind == 2, np.inf, middle + width)),
        column_lower=np.zeros(n_columns),
        column_upper=rng.uniform(0.6, 2.0, n_columns),
        offset=float(rng.normal()),
    )


def oracle(arrays: Arrays) -> float:
    """Optimal value by scipy."""
    return solve_lp(
        arrays.cost,
        arrays.matrix,
        arrays.row_lower,
        arrays.row_upper,
        arrays.column_lower,
        arrays.column_upper,
        arrays.offset,
    )[0]


def assert_equals(program: LinearProgram, arrays: Arrays) -> None:
    """Value, feasibility and duality of the edited program against the arrays it stands for."""
    assert program.solve() is Status.OPTIMAL
    value = oracle(arrays)
    assert program.objective() == pytest.approx(value, rel=SOLVER, abs=SOLVER)
    fresh = LinearProgram(arrays)
    assert fresh.solve() is Status.OPTIMAL
    assert program.objective() == pytest.approx(fresh.objective(), rel=SOLVER, abs=SOLVER)
    z, y, d = program.primal(), program.row_duals(), program.reduced_costs()
    assert arrays.cost @ z + arrays.offset == pytest.approx(value, rel=1e-8, abs=1e-8)
    rows = arrays.matrix @ z
    for low, at, high in (
        (arrays.row_lower, rows, arrays.row_upper),
        (arrays.column_lower, z, arrays.column_upper),
    ):
        assert (at >= low - 1e-8).all()
        assert (at <= high + 1e-8).all()
    assert d == pytest.approx(arrays.cost - arrays.matrix.T @ y, abs=1e-8)
    # Strong duality: each multiplier times the side it belongs to.
    sides = np.where(y > 0, arrays.row_lower, arrays.row_upper)
    bounds = np.where(d > 0, arrays.column_lower, arrays.column_upper)
    dual = y[y != 0] @ sides[y != 0] + d[d != 0] @ bounds[d != 0] + arrays.offset
    assert dual == pytest.approx(value, rel=1e-8, abs=1e-8)


def change_costs(rng, lp, a):
    columns = rng.choice(6, 3, replace=False).astype(INDEX)
    cost = a.cost.copy()
    cost[columns] = rng.normal(size=3)
    lp.set_costs(columns, cost[columns])
    return replace(a, cost=cost)


def change_column_bounds(rng, lp, a):
    columns = rng.choice(6, 3, replace=False).astype(INDEX)
    lower, upper = a.column_lower.copy(), a.column_upper.copy()
    lower[columns], upper[columns] = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.5, 3.0, 3)
    upper[columns[0]] = lower[columns[0]] = 0.5  # a fixed column
    lp.set_column_bounds(columns, lower[columns], upper[columns])
    return replace(a, column_lower=lower, column_upper=upper)


def change_row_bounds(rng, lp, a):
    rows = rng.choice(a.matrix.shape[0], 2, replace=False).astype(INDEX)
    lower, upper = a.row_lower.copy(), a.row_upper.copy()
    middle = (a.matrix @ np.full(a.matrix.shape[1], 0.5))[rows]
    lower[rows], upper[rows] = middle - rng.uniform(0.0, 0.5, 2), middle + 0.7
    lower[rows[0]] = -np.inf
    lp.set_row_bounds(rows, lower[rows], upper[rows])
    return replace(a, row_lower=lower, row_upper=upper)


def change_coefficients(rng, lp, a):
    """To another number, to zero, and back from zero."""
    matrix = a.matrix.toarray()
    rows, columns = rng.integers(0, len(matrix), 4), rng.integers(0, matrix.shape[1], 4)
    values = np.array([0.0, *rng.normal(size=3)])
    for row, column, value in zip(rows, columns, values, strict=True):
        matrix[row, column] = value
    lp.set_coefficients(rows, columns, values)
    middle = matrix @ np.full(matrix.shape[1], 0.5)
    lower, upper = np.minimum(a.row_lower, middle), np.maximum(a.row_upper, middle)
    every = np.arange(len(matrix), dtype=INDEX)
    lp.set_row_bounds(every, lower, upper)
    return replace(a, matrix=sp.csr_array(matrix), row_lower=lower, row_upper=upper)


def add_rows(rng, lp, a):
    n = a.matrix.shape[1]
    rows = rng.normal(size=(2, n)) * (rng.random((2, n)) < 0.6)
    lower = rows @ np.full(n, 0.5) - rng.uniform(0.0, 0.3, 2)
    upper = np.array([np.inf, lower[1] + 1.0])
    lp.add_rows(rows if rng.random() < 0.5 else sp.csr_array(rows), lower, upper)
    return replace(
        a,
        matrix=sp.vstack([a.matrix, rows], format="csr"),
        row_lower=np.concatenate([a.row_lower, lower]),
        row_upper=np.concatenate([a.row_upper, upper]),
    )


def delete_rows(rng, lp, a):
    n_rows = a.matrix.shape[0]
    if n_rows < 4:
        return a
    gone = np.sort(rng.choice(n_rows, 2, replace=False))
    lp.delete_rows(gone)
    keep = np.setdiff1d(np.arange(n_rows), gone)
    return replace(
        a, matrix=a.matrix[keep], row_lower=a.row_lower[keep], row_upper=a.row_upper[keep]
    )


def change_offset(rng, lp, a):
    lp.offset = float(rng.normal())
    return replace(a, offset=lp.offset)


EDITS = (
    change_costs,
    change_column_bounds,
    change_row_bounds,
    change_coefficients,
    add_rows,
    delete_rows,
    change_offset,
)


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_one_kind_of_edit(edit, unit):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        arrays = random_arrays(rng)
        program = LinearProgram(arrays, Scaling.uniform(arrays, 1.0 / unit))
        assert_equals(program, arrays)
        for _ in range(4):
            arrays = edit(rng, program, arrays)
            assert_equals(program, arrays)
            assert program.n_rows == arrays.matrix.shape[0]


@pytest.mark.parametrize("seed", range(8))
def test_edits_of_every_kind_in_a_row(seed):
    rng = np.random.default_rng(100 + seed)
    arrays = random_arrays(rng)
    program = LinearProgram(arrays, Scaling.uniform(arrays, 0.1))
    for _ in range(20):
        arrays = EDITS[rng.integers(len(EDITS))](rng, program, arrays)
        assert_equals(program, arrays)


def test_appended_columns_enter_the_rows_they_are_given():
    arrays = random_arrays(np.random.default_rng(0))
    program = LinearProgram(arrays, Scaling.uniform(arrays, 0.2))
    n_rows = program.n_rows
    entries = np.random.default_rng(1).normal(size=(2, n_rows))
    lower, upper = np.array([-0.5, 0.0]), np.array([1.0, 2.0])
    program.add_columns(np.array([1.5, -0.5]), lower, upper, entries)
    larger = replace(
        arrays,
        cost=np.append(arrays.cost, [1.5, -0.5]),
        matrix=sp.csr_array(np.hstack([arrays.matrix.toarray(), entries.T])),
        column_lower=np.append(arrays.column_lower, lower),
        column_upper=np.append(arrays.column_upper, upper),
    )
    assert program.n_columns == 8
    assert_equals(program, larger)


def test_deleting_columns_at_their_bound_costs_no_pivot():
    arrays = random_arrays(np.random.default_rng(0))
    program = LinearProgram(arrays)
    program.add_columns(np.array([50.0]), np.zeros(1), np.ones(1), np.ones((1, program.n_rows)))
    assert program.solve() is Status.OPTIMAL
    assert program.primal()[6] == 0.0
    pivots = program.effort.pivots
    program.delete_columns(np.array([6]))
    assert program.solve() is Status.OPTIMAL
    assert program.effort.pivots == pivots
    assert_equals(program, arrays)


@pytest.mark.parametrize(("side", "status"), [(1.0, Status.INFEASIBLE), (-1.0, Status.OPTIMAL)])
def test_a_program_without_columns_still_has_rows(side, status):
    none = np.zeros(0)
    rows = sp.csr_array((1, 0))
    arrays = Arrays(none, rows, np.array([side]), np.array([2.0]), none, none, offset=3.0)
    program = LinearProgram(arrays)
    assert program.solve() is status
    if status is Status.OPTIMAL:
        assert program.objective() == 3.0


def test_no_rows_and_no_columns_change_nothing():
    arrays = random_arrays(np.random.default_rng(1))
    program = LinearProgram(arrays)
    program.add_rows(np.zeros((0, 6)), np.zeros(0), np.zeros(0))
    program.delete_rows(np.zeros(0, dtype=np.int64))
    none = np.zeros(0, dtype=INDEX)
    program.set_costs(none, np.zeros(0))
    program.set_column_bounds(none, np.zeros(0), np.zeros(0))
    program.set_coefficients(none, none, np.zeros(0))
    assert_equals(program, arrays)


def test_the_unit_changes_values_inside_the_solver_only():
    arrays = random_arrays(np.random.default_rng(2))
    answers = []
    for unit in (1.0, 1e3, 1e-2):
        program = LinearProgram(arrays, Scaling.uniform(arrays, 1.0 / unit))
        program.solve()
        answers.append((program.objective(), program.primal(), program.reduced_costs()))
    for objective, primal, reduced in answers[1:]:
        assert objective == pytest.approx(answers[0][0], rel=1e-8)
        assert primal == pytest.approx(answers[0][1], abs=1e-7)
        assert reduced == pytest.approx(answers[0][2], abs=1e-7)


def test_a_basis_brings_back_the_very_same_solution():
    """Bit for bit, whatever was solved in between: this is what makes `decide` pure."""
    rng = np.random.default_rng(3)
    arrays = random_arrays(rng, 20, 15)
    program = LinearProgram(arrays)
    program.solve()
    basis = program.basis()
    cost = arrays.cost + 0.3 * rng.normal(size=20)
    columns = np.arange(20, dtype=INDEX)

    def ask():
        program.set_costs(columns, cost)
        program.start_from(basis)
        program.solve()
        return program.primal()

    first = ask()
    for _ in range(5):
        program.set_costs(columns, rng.normal(size=20))
        program.solve()
        assert (ask() == first).all()


def test_starting_from_the_optimal_basis_takes_no_pivot():
    arrays = random_arrays(np.random.default_rng(4), 20, 15)
    program = LinearProgram(arrays)
    program.solve()
    basis = program.basis()
    before = program.effort.pivots
    assert before > 0
    program.start_from(basis)
    program.solve()
    assert program.effort.pivots == before
    program.start_from(None)
    program.solve()
    assert program.effort.pivots > before


def test_a_basis_survives_as_codes():
    arrays = random_arrays(np.random.default_rng(5))
    program = LinearProgram(arrays)
    program.solve()
    basis = program.basis()
    copied = Basis(basis.columns.copy(), basis.rows.copy())
    program.start_from(copied)
    program.solve()
    again = program.basis()
    assert (again.columns == basis.columns).all()
    assert (again.rows == basis.rows).all()


def test_the_basis_tells_slack_rows_and_inactive_columns():
    """``x + y >= 1`` holds the minimum of ``x + 2 y``; ``x <= 5`` and ``y <= 7`` do not."""
    arrays = Arrays(
        cost=np.array([1.0, 2.0]),
        matrix=sp.csr_array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),
        row_lower=np.array([1.0, -np.inf, -np.inf]),
        row_upper=np.array([np.inf, 5.0, 7.0]),
        column_lower=np.zeros(2),
        column_upper=np.full(2, np.inf),
    )
    program = LinearProgram(arrays)
    program.solve()
    basis = program.basis()
    assert list(basis.rows == BASIC) == [False, True, True]
    assert list(basis.columns == AT_LOWER) == [False, True]
    assert program.row_duals() == pytest.approx([1.0, 0.0, 0.0])
    assert program.reduced_costs() == pytest.approx([0.0, 1.0])


def one_row(cost, lower, upper) -> Arrays:
    """One non-negative column and one row ``lower <= z <= upper``."""
    return Arrays(
        np.array([cost]),
        sp.csr_array([[1.0]]),
        np.array([lower]),
        np.array([upper]),
        np.zeros(1),
        np.full(1, np.inf),
    )


@pytest.mark.parametrize(
    ("arrays", "status"),
    [
        (one_row(1.0, 2.0, 5.0), Status.OPTIMAL),
        (one_row(1.0, -5.0, -2.0), Status.INFEASIBLE),
        (one_row(1.0, 3.0, 2.0), Status.INFEASIBLE),
        (one_row(-1.0, 2.0, np.inf), Status.UNBOUNDED),
    ],
)
def test_the_status_says_how_it_ended(arrays, status):
    assert solve_once(arrays)[0] is status


def test_a_program_recovers_from_infeasible_and_unbounded():
    program = LinearProgram(one_row(1.0, 2.0, 5.0))
    row = np.array([0], dtype=INDEX)
    for _ in range(2):
        program.set_row_bounds(row, np.array([-5.0]), np.array([-2.0]))
        assert program.solve() is Status.INFEASIBLE
        program.set_row_bounds(row, np.array([2.0]), np.array([np.inf]))
        program.set_costs(row, np.array([-1.0]))
        assert program.solve() is Status.UNBOUNDED
        program.set_costs(row, np.array([1.0]))
        assert program.solve() is Status.OPTIMAL
        assert program.objective() == pytest.approx(2.0)


def test_a_side_that_is_not_there_is_not_there_in_any_unit():
    """Half of what stands for infinity was a side, by which the units of a retry went mad."""
    arrays = Arrays(
        cost=np.ones(2),
        matrix=sp.csr_array([[1.0, 1.0], [1.0, 0.0]]),
        row_lower=np.array([1.0, -np.inf]),
        row_upper=np.array([np.inf, 4.0]),
        column_lower=np.zeros(2),
        column_upper=np.full(2, np.inf),
    )
    units = Scaling(np.array([2.0, 0.25]), np.array([0.5, 0.125]), 8.0)
    program = LinearProgram(arrays, units)
    sides = Sides(arrays.row_lower, arrays.row_upper)
    program.set_row_bounds(np.arange(2, dtype=INDEX), sides.lower, sides.upper)
    bounds = Sides(arrays.column_lower, arrays.column_upper)
    program.set_column_bounds(np.arange(2, dtype=INDEX), bounds.lower, bounds.upper)
    there = program.arrays()
    np.testing.assert_array_equal(there.row_lower, arrays.row_lower)
    np.testing.assert_array_equal(there.row_upper, arrays.row_upper)
    np.testing.assert_array_equal(there.column_upper, arrays.column_upper)
    assert program.solve() is Status.OPTIMAL
    assert program._rescaled() is Status.OPTIMAL


def test_crossed_column_bounds_are_infeasible():
    program = LinearProgram(one_row(1.0, 0.0, 5.0))
    column = np.array([0], dtype=INDEX)
    program.set_column_bounds(column, np.array([3.0]), np.array([2.0]))
    assert program.solve() is Status.INFEASIBLE
    program.set_column_bounds(column, np.array([2.0]), np.array([3.0]))
    assert program.solve() is Status.OPTIMAL
    assert program.objective() == pytest.approx(2.0)


def test_effort_is_counted_over_programs_that_share_a_counter():
    effort = Effort()
    arrays = random_arrays(np.random.default_rng(6))
    programs = [LinearProgram(arrays, effort=effort) for _ in range(2)]
    for program in programs:
        program.solve()
    programs[0].start_from(None)
    programs[0].solve()
    assert effort.solves == 3
    assert effort.pivots > 0
    assert effort.seconds > 0.0


def test_a_program_can_be_written_for_inspection(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = LinearProgram(one_row(1.0, 2.0, 5.0)).write("stem")
    assert path.startswith(str(tmp_path / "stem-"))
    assert path.endswith(".lp")
    assert "min" in (tmp_path / path).read_text()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert LinearProgram(one_row(1.0, 2.0, 5.0)).write("stem").startswith("(not written:")


def test_what_highs_rejects_is_an_error():
    program = LinearProgram(one_row(1.0, 2.0, 5.0))
    at = np.array([-1], dtype=np.int32)
    with pytest.raises(SolverError, match="HiGHS refused a change"):
        program.set_column_bounds(at, np.zeros(1), np.ones(1))
    with pytest.raises(IndexError):
        program.set_column_bounds(at + 2, np.zeros(1), np.ones(1))
    assert program.solve() is Status.OPTIMAL


def test_making_solvers_leaves_standard_output_alone():
    """HiGHS 1.16 prints a banner when the first object of a process is made."""
    code = (
        "import numpy as np, scipy.sparse as sp\n"
        "from sddp.lp import Arrays, solve_once\n"
        "print('before')\n"
        "one = np.ones(1)\n"
        "for _ in range(2):\n"
        "    solve_once(Arrays(one, sp.csr_array((1, 1)), -one, one, one, one))\n"
        "print('after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "before\nafter\n"


def test_a_solver_can_be_made_where_standard_output_is_closed():
    code = (
        "import os; os.close(1)\n"
        "from sddp import highs\n"
        "highs.new_solver(presolve=False)\n"
        "highs.new_solver(presolve=False)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("seed", range(4))
def test_a_written_program_is_in_the_callers_units(seed, tmp_path, monkeypatch):
    """Solved inside in units of its own, edited, and read back by a HiGHS of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rng = np.random.default_rng(seed)
    arrays = random_arrays(rng)
    scaling = Scaling(2.0 ** rng.integers(-20, 20, 6), 2.0 ** rng.integers(-20, 20, 5), 2.0**12)
    program = LinearProgram(arrays, scaling)
    program.set_costs(np.array([1], dtype=INDEX), np.array([0.25]))
    program.add_rows(np.ones((1, 6)), np.array([-np.inf]), np.array([4.0]))
    assert program.solve() is Status.OPTIMAL
    path = program.write("stem", [f"z{j}" for j in range(6)])
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    assert highs.readModel(path) == highspy.HighsStatus.kOk
    highs.run()
    assert highs.getInfo().objective_function_value == pytest.approx(program.objective(), rel=1e-6)
    assert sorted(highs.getLp().col_names_) == [f"z{j}" for j in range(6)]
    column = highs.getLp().col_names_.index("z2")
    assert highs.getLp().col_upper_[column] == pytest.approx(arrays.column_upper[2], rel=1e-9)
