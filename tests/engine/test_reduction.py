"""The smaller linear programme has the value and the slopes of the one that was declared.

The declared one is solved by scipy from the literal compiled arrays.
"""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.compile import arrays_at
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, untrained
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
    return network.nodes[name], problem.stages[name], problem.prepared[name].reduced


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
                assert below - 1e-5 <= solution.slope @ direction <= above + 1e-5


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
