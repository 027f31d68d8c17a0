"""The smaller linear program has the value and the slopes of the one that was declared.

The declared one is solved by scipy from the literal compiled arrays.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.presolve.compile import compile_problem
from sddp.engine.presolve.elimination import Elimination
from sddp.engine.stage.stage_data import arrays_at
from sddp.errors import InfeasibleProblem
from tests.engine.equality_chains import miss
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, train, untrained
from tests.oracles import solve_lp

STEP = 1e-4  # of finite differences; the value is piecewise linear, so no error but at kinks


def literal_value(compiled, realisation, incoming):
    """Declared problem at an incoming state, by scipy."""
    noise = {place: values[realisation] for place, values in compiled.noise.values.items()}
    arrays = arrays_at(compiled, noise)
    lower, upper = arrays.column_lower.copy(), arrays.column_upper.copy()
    lower[compiled.incoming] = upper[compiled.incoming] = incoming
    value, _ = solve_lp(
        arrays.cost, arrays.matrix, arrays.row_lower, arrays.row_upper, lower, upper, arrays.offset
    )
    return value


def last_stage(problem):
    """Node problem without a cost-to-go, and its compilation."""
    network = untrained(problem)
    name = problem.graph.nodes[-1]
    return network[name], problem.stages[name], compile_problem(problem).stages[name]


@pytest.mark.parametrize("noise", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_reduced_stage_equals_the_declared_one(seed, noise):
    instance = random_instance(seed, noise=noise, maximises=seed % 2 == 1)
    node, compiled, reduced = last_stage(instance.problem())
    assert reduced.arrays.matrix.shape[0] < compiled.matrix.shape[0]
    assert len(reduced.kept) < compiled.n_columns
    assert len(reduced.bound_columns) == 2
    rng = np.random.default_rng(seed)
    for incoming in rng.uniform(0.0, 8.0, (4, 2)):
        for w in range(compiled.noise.n_realisations):
            solution = node.solve(incoming, w, SOLVER)
            exact = literal_value(compiled, w, incoming)
            assert solution.value == pytest.approx(exact, rel=SOLVER, abs=SOLVER)
            for direction in rng.normal(size=(2, 2)):
                ends = [literal_value(compiled, w, incoming + s * direction) for s in (-STEP, STEP)]
                below, above = (exact - ends[0]) / STEP, (ends[1] - exact) / STEP
                assert below - 1e-5 <= solution.cut.slope @ direction <= above + 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_solution_keeps_every_declared_row_and_bound(seed):
    instance = random_instance(seed, noise=2)
    node, compiled, _ = last_stage(instance.problem())
    rng = np.random.default_rng(seed)
    for incoming in rng.uniform(0.0, 8.0, (3, 2)):
        for w in range(2):
            z = node.solve(incoming, w, SOLVER).columns
            arrays = arrays_at(compiled, {p: v[w] for p, v in compiled.noise.values.items()})
            rows = arrays.matrix @ z
            assert (rows >= arrays.row_lower - 1e-7).all()
            assert (rows <= arrays.row_upper + 1e-7).all()
            free = np.setdiff1d(np.arange(compiled.n_columns), compiled.incoming)
            assert (z[free] >= arrays.column_lower[free] - 1e-7).all()
            assert (z[free] <= arrays.column_upper[free] + 1e-7).all()
            assert z[compiled.incoming] == pytest.approx(incoming)


def one_stage(declare, noise=None, states=1):
    """A last stage with incoming states `x` and whatever `declare` adds to the model."""

    def build(node):
        m = pyo.ConcreteModel()
        m.x = pyo.Var(range(states))
        declare(m)
        return sddp.Stage(m, {"x": sddp.State(m.x, initial=1.0)}, noise=noise)

    return sddp.Problem(sddp.linear_graph(1), build)


def assert_equal_to_declared(problem, states):
    node, compiled, _ = last_stage(problem)
    for state in states:
        for w in range(compiled.noise.n_realisations):
            incoming = np.atleast_1d(np.asarray(state, dtype=float))
            exact = literal_value(compiled, w, incoming)
            assert node.solve(incoming, w, SOLVER).value == pytest.approx(exact, rel=SOLVER)


def test_a_coefficient_that_is_zero_is_no_pivot():
    """A mutable parameter keeps its place in the matrix with the value 0."""

    def declare(m):
        m.a = pyo.Param(mutable=True, initialize=0.0)
        m.y = pyo.Var(domain=pyo.NonNegativeReals)
        m.u = pyo.Var(domain=pyo.NonNegativeReals)
        m.row = pyo.Constraint(expr=m.a * m.y + m.u == m.x[0])
        m.bound = pyo.Constraint(expr=m.a * m.y + m.x[0] <= 50)
        m.cost = pyo.Objective(expr=m.u + 2 * m.y)

    assert_equal_to_declared(one_stage(declare), [1.0, 3.0])


def test_a_bound_that_is_noise_implies_no_other_bound():
    """`y` equals `u` <= cap, and cap is 0 only where the model was written."""

    def declare(m):
        m.cap = pyo.Param(mutable=True, initialize=0.0)
        m.u, m.y = pyo.Var(bounds=(0, m.cap)), pyo.Var(bounds=(0, 100))
        m.same = pyo.Constraint(expr=m.y == m.u)
        m.cost = pyo.Objective(expr=-m.u - 0.5 * m.y + 0.0 * m.x[0])

    noise = sddp.Noise([{"cap": 50.0}, {"cap": 200.0}])
    assert_equal_to_declared(one_stage(declare, noise), [1.0])


def test_moving_bounds_on_both_sides_with_negative_coefficients():
    def declare(m):
        m.y = pyo.Var()
        m.above = pyo.Constraint(expr=-2 * m.y + m.x[0] >= -8)
        m.below = pyo.Constraint(expr=-3 * m.y <= 6 - m.x[1])
        m.cost = pyo.Objective(expr=m.y)

    assert_equal_to_declared(one_stage(declare, states=2), [(1.0, 2.0), (-3.0, 9.0)])


def test_a_chain_of_definitions_is_undone_in_order():
    def declare(m):
        m.y, m.u = pyo.Var([1, 2, 3]), pyo.Var(bounds=(1, 4))
        m.first = pyo.Constraint(expr=m.y[1] == m.u + 2 * m.x[0])
        m.second = pyo.Constraint(expr=m.y[2] == 3 * m.y[1] - m.u)
        m.third = pyo.Constraint(expr=m.y[3] == m.y[1] + m.y[2] + 1)
        m.limit = pyo.Constraint(expr=m.y[3] >= 10)
        m.cost = pyo.Objective(expr=m.y[3] + 0.1 * m.u)

    problem = one_stage(declare)
    assert_equal_to_declared(problem, [0.0, 1.0, 2.0])
    node, compiled, _ = last_stage(problem)
    columns = node.solve(np.ones(1), 0, SOLVER).columns
    values = dict(zip(compiled.column_names, columns, strict=True))
    assert values["y[1]"] == pytest.approx(values["u"] + 2)
    assert values["y[2]"] == pytest.approx(3 * values["y[1]"] - values["u"])
    assert values["y[3]"] == pytest.approx(values["y[1]"] + values["y[2]"] + 1)


# ---------------------------------------------------------------- chains of equality rows


@pytest.mark.long
@pytest.mark.parametrize("start", range(0, 200, 40))
def test_random_equality_chains_agree_with_the_extensive_form(start):
    """Sums that cancel up to rounding, redundant rows in other units, inconsistent rows."""
    missed = {seed: miss(seed) for seed in range(start, start + 40)}
    assert {seed: found for seed, found in missed.items() if found > 1e-8} == {}


def rows_and_columns(problem):
    """Size of the LP that is solved."""
    matrix = last_stage(problem)[2].arrays.matrix
    return matrix.shape


@pytest.mark.parametrize(("one", "two", "both"), [(0.1, 0.2, 0.3), (0.7, 0.1, 0.8)])
def test_an_entry_that_cancels_up_to_rounding_is_dropped(one, two, both):
    """``a + b - both y`` is 0, so x + w = 5: the residue 5e-17 must not become a pivot."""

    def declare(m):
        m.a, m.b, m.y = pyo.Var(), pyo.Var(), pyo.Var()
        m.u, m.w = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
        m.r1 = pyo.Constraint(expr=m.a - one * m.y == 0)
        m.r2 = pyo.Constraint(expr=m.b - two * m.y == 0)
        m.r3 = pyo.Constraint(expr=m.a + m.b - both * m.y + m.u + m.w == 5 + m.x[0])
        m.cost = pyo.Objective(expr=m.u + 2 * m.w)

    problem = one_stage(declare)
    assert_equal_to_declared(problem, [0.0, 2.0])
    matrix = last_stage(problem)[2].arrays.matrix
    assert np.abs(matrix.data).min(initial=1.0) > 0.1


def test_a_row_that_loses_a_column_exactly_is_no_longer_listed_under_it():
    """`y` leaves the second row, and is then eliminated by the third."""

    def declare(m):
        m.a, m.y = pyo.Var(), pyo.Var()
        m.u, m.w, m.z = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
        m.r1 = pyo.Constraint(expr=m.a - m.y == 0)
        m.r3 = pyo.Constraint(expr=m.a - m.y + m.u + m.w >= 5)
        m.r5 = pyo.Constraint(expr=m.y - 2 * m.z == 2)
        m.cost = pyo.Objective(expr=m.u + 2 * m.w + m.x[0])

    assert_equal_to_declared(one_stage(declare), [0.0])


def balance_twice(miss_by):
    def declare(m):
        m.f, m.q = pyo.Var(bounds=(-25, 25)), pyo.Var()
        m.p, m.r = pyo.Var(bounds=(0, 12)), pyo.Var(bounds=(0, 12))
        m.e1 = pyo.Constraint(expr=0.8 * m.f + m.p + 0.7 * m.q + 0.1 * m.r == 5.31)
        m.e2 = pyo.Constraint(
            expr=-0.08 * m.f - 0.1 * m.p - 0.07 * m.q - 0.01 * m.r == -0.531 + miss_by
        )
        m.cost = pyo.Objective(expr=0.5 * m.f + 0.0 * m.x[0])

    return one_stage(declare)


def test_a_row_in_other_units_is_redundant():
    problem = balance_twice(0.0)
    assert_equal_to_declared(problem, [1.0])
    assert rows_and_columns(problem)[0] == 0  # both rows, and the free `q`, are gone


def test_an_inconsistent_row_in_other_units_is_infeasible():
    with pytest.raises(InfeasibleProblem, match="node 0"):
        train(balance_twice(1e-6), 2)


def test_a_pivot_is_not_small_beside_its_row():
    """``1e-7 a`` defines `a` by numbers of 1e7; the row defines `b` instead."""

    def declare(m):
        m.a, m.b = pyo.Var(), pyo.Var()
        m.u = pyo.Var(bounds=(0, 4))
        m.r1 = pyo.Constraint(expr=1e-7 * m.a + m.b - m.u == 1)
        m.r2 = pyo.Constraint(expr=m.a + m.b == 3)
        m.cost = pyo.Objective(expr=0.5 * m.a + m.b)

    problem = one_stage(declare)
    assert_equal_to_declared(problem, [1.0])
    work = Elimination(problem.stages[0])
    work.run()
    assert len(work.defined) == 2
    assert max(abs(v) for row, _ in work.defined.values() for v in row.values()) < 2.0


def test_a_substitution_that_leaves_mostly_rounding_is_not_made():
    """Two rows that differ by 1e-9 of their coefficients are left to the solver as they are."""

    def declare(m):
        m.a = pyo.Var()
        m.u = pyo.Var(bounds=(0, 4))
        m.r1 = pyo.Constraint(expr=m.a - m.u == 1)
        m.r2 = pyo.Constraint(expr=m.a - (1 + 1e-9) * m.u + m.x[0] <= 4)
        m.cost = pyo.Objective(expr=m.u)

    matrix = last_stage(one_stage(declare))[2].arrays.matrix
    assert np.abs(matrix.data).min() > 0.5


def test_a_cost_that_cancels_is_dropped():
    """``0.1 a + 0.2 b - 0.3 u`` costs nothing; 5e-17 on an unbounded column is no cost."""

    def declare(m):
        m.a, m.b, m.u = pyo.Var(), pyo.Var(), pyo.Var()
        m.r1 = pyo.Constraint(expr=m.a == m.u)
        m.r2 = pyo.Constraint(expr=m.b == m.u)
        m.r3 = pyo.Constraint(expr=m.u >= m.x[0])
        m.cost = pyo.Objective(expr=0.1 * m.a + 0.2 * m.b - 0.3 * m.u)

    assert last_stage(one_stage(declare))[2].arrays.cost.tolist() == [0.0, 0.0]
