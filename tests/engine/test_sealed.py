"""A stage is closed when it is compiled: what its model becomes afterwards changes nothing."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.core.expr.relational_expr import RangedExpression

import sddp
from sddp.engine.stage.stage_data import arrays_at, noise_values
from sddp.engine.stage.translation import read_stage
from sddp.errors import ModelError
from tests.engine.support import SOLVER, Reaches, train
from tests.engine.test_generated_rows import Circle, circle_stage

PRICES = (50, 100, 150)
INFLOWS = (0.0, 50.0, 100.0)


def reservoir(product: bool = True) -> pyo.ConcreteModel:
    """Demand 150 from water or at a price; `product` multiplies price, noise and decision."""
    m = pyo.ConcreteModel()
    m.w = pyo.Param(initialize=0.0, mutable=True)
    m.price = pyo.Param(initialize=50.0, mutable=True)
    m.i, m.x = pyo.Var(), pyo.Var(bounds=(0, 200))
    m.g, m.h, m.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
    m.balance = pyo.Constraint(expr=m.x == m.i - m.h - m.s + m.w)
    m.demand = pyo.Constraint(expr=m.h + m.g == 150)
    m.o = pyo.Objective(expr=m.price * m.g + (0.001 * m.price * m.w * m.g if product else 0.0))
    return m


def stage_of(m: pyo.ConcreteModel) -> sddp.Stage:
    noise = sddp.Noise([{"w": w} for w in INFLOWS])
    return sddp.Stage(m, {"v": sddp.State(m.i, m.x, 200.0)}, noise)


def priced(m: pyo.ConcreteModel, node: sddp.Node) -> pyo.ConcreteModel:
    m.price.set_value(float(PRICES[node.stage]))
    return m


def three_stages(build: Callable[[sddp.Node], sddp.Stage]) -> sddp.Problem:
    return sddp.Problem(sddp.linear_graph(3), build)


def numbers(policy: sddp.Policy) -> list[float]:
    """Bound, decisions in the support and outside it, and a simulation outside it."""
    found = [policy.bound]
    for node in range(3):
        for noise in (1, {"w": 25.0}, {"w": 130.0}):
            decision = policy.decide(node, {"v": 10.0}, noise=noise)
            found += [decision.stage_objective, decision.value, *decision.slope]
    law = sddp.OutOfSample(lambda node, rng: ({"w": float(rng.uniform(0, 120))}, 0))
    table = policy.simulate(5, rng=np.random.default_rng(1), sampling=law)
    return [*found, *table["objective"]]


def test_one_model_changed_for_each_node_is_a_model_for_each_node():
    one = reservoir()
    changed = three_stages(lambda node: stage_of(priced(one, node)))
    own = three_stages(lambda node: stage_of(priced(reservoir(), node)))
    results = [train(problem, 30) for problem in (changed, own)]
    assert numbers(results[0].policy) == numbers(results[1].policy)
    policy = results[0].policy
    assert policy.bound == pytest.approx(8500.0, rel=SOLVER)
    outside = policy.decide(0, {"v": 10.0}, noise={"w": 25.0})
    assert outside.stage_objective == pytest.approx(7687.5, rel=SOLVER)  # a price of 51.25 for 150


def test_the_same_stage_returned_with_other_numbers_is_another_stage():
    m = reservoir(product=False)
    stage = stage_of(m)

    def build(node: sddp.Node) -> sddp.Stage:
        priced(m, node)
        return stage

    problem = three_stages(build)
    assert train(problem, 30).bound == pytest.approx(25000 / 3, rel=SOLVER)
    assert sddp.extensive_form(problem).solve().value == pytest.approx(25000 / 3, rel=SOLVER)


def test_the_same_noise_returned_with_other_numbers_is_another_noise():
    """By hand: each stage pays ``w - 1`` where w is 1, 2 or 3 at the first, 2, 4 or 6 next."""
    realisations = [{"w": 0.0} for _ in range(3)]
    noise = sddp.Noise(realisations)

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.i, m.x = pyo.Var(), pyo.Var(bounds=(0, 1))
        m.y = pyo.Var(domain=pyo.NonNegativeReals)
        m.keep = pyo.Constraint(expr=m.x == m.i)
        m.need = pyo.Constraint(expr=m.y >= m.w - m.i)
        m.o = pyo.Objective(expr=m.y)
        for k, realisation in enumerate(realisations, 1):
            realisation["w"] = float(k * (node.stage + 1))
        return sddp.Stage(m, {"v": sddp.State(m.i, m.x, 1.0)}, noise)

    problem = sddp.Problem(sddp.linear_graph(2), build)
    assert train(problem, 10).bound == pytest.approx(1.0 + 3.0, rel=SOLVER)


def test_what_changes_after_compilation_changes_nothing():
    """Model, noise, transition, initial state, initial cut, bounds and row generator."""
    parts: dict[str, Any] = {
        "realisations": [{"a": 1.0, "b": 0.3}, {"a": -0.5, "b": 0.9}],
        "probabilities": np.array([0.5, 0.5]),
        "scale": np.array([[0.9], [1.0]]),
        "cut": np.array([0.0]),
        "rows": Scaled(radius=[1.0]),
        "bound": {0: -100.0, 1: -100.0},
    }
    models = []

    def build(node: sddp.Node) -> sddp.Stage:
        stage = circle_stage(lazily=True)
        models.append(stage.model)
        return replace(
            stage,
            noise=sddp.Noise(parts["realisations"], parts["probabilities"]),
            transition=sddp.LinearTransition(scale=parts["scale"]),
            rows=parts["rows"],
            initial_cuts=[sddp.InitialCut(parts["cut"], -100.0)],
        )

    def problem() -> sddp.Problem:
        return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=parts["bound"])

    expected = train(problem(), 25).bound
    sealed = problem()
    for m in models:
        m.cost.expr = m.cost.expr * 3.0 + 1.0
        m.r.setub(0.1)
        m.inside = pyo.Constraint(expr=m.x + m.y <= 0.0)
    parts["realisations"][0]["a"] = 100.0
    parts["probabilities"][:] = [1.0, 0.0]
    parts["scale"][:] = 7.0
    parts["cut"][:] = 1000.0
    parts["rows"].radius[0] = 0.01
    parts["bound"][0] = 1000.0
    assert train(sealed, 25).bound == expected


@dataclass(frozen=True, eq=False)
class Scaled(Circle):
    """A circle of another size, held where anyone can change it."""

    radius: list[float] = field(default_factory=lambda: [1.0])

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        size = self.radius[0]
        rows, upper = super().violated(np.array([*values[:2], values[2] * size]), tolerance)
        return rows * [1.0, 1.0, size], upper

    def digest(self) -> str:
        """See `RowGenerator`."""
        return f"radius {self.radius}"


@pytest.mark.parametrize("name", ["closure", "rows", "product"])
def test_a_policy_travels_whatever_its_builder_was(name):
    """Nothing of Pyomo, and no closure, is in the pickle."""
    here = {"closure": lambda: reservoir(product=False), "product": reservoir}

    def build(node: sddp.Node) -> sddp.Stage:
        return circle_stage(lazily=True) if name == "rows" else stage_of(priced(here[name](), node))

    policy = train(three_stages(build), 12).policy
    data = pickle.dumps(policy)
    assert b"pyomo" not in data
    twin = pickle.loads(data)
    assert twin.bound == policy.bound
    if name != "rows":
        assert numbers(twin) == numbers(policy)


@pytest.mark.long
def test_processes_take_a_problem_whatever_its_builder_was(monkeypatch):
    monkeypatch.setattr("sddp.engine.training.workers.START_METHOD", "spawn")
    bounds = [
        train(three_stages(lambda node: stage_of(priced(reservoir(), node))), 12, n_jobs=n).bound
        for n in (1, 2)
    ]
    assert bounds[0] == bounds[1]


# ---------------------------------------------------------------- sharing by content


def shared(one: sddp.Stage, other: sddp.Stage) -> bool:
    """Whether two nodes with these stages share one compiled stage."""
    stages = (one, other)
    problem = sddp.Problem(sddp.linear_graph(2), lambda node: stages[node.stage])
    return problem.stages[0] is problem.stages[1]


def with_model(change: Callable[[Any], Any]) -> sddp.Stage:
    m = reservoir()
    change(m)
    return stage_of(m)


@dataclass(frozen=True)
class Other(Circle):
    """Equal rows, of another class."""


CHANGES: dict[str, Callable[[], sddp.Stage]] = {
    "cost": lambda: with_model(lambda m: m.price.set_value(51.0)),
    "constant": lambda: with_model(lambda m: m.o.set_value(m.o.expr + 1)),
    "sense is not shared": lambda: with_model(lambda m: m.demand.set_value(m.h + m.g >= 150)),
    "bound": lambda: with_model(lambda m: m.x.setub(199)),
    "side": lambda: with_model(lambda m: m.demand.set_value(m.h + m.g == 151)),
    "coefficient": lambda: with_model(lambda m: m.demand.set_value(m.h + 2 * m.g == 150)),
    "code": lambda: with_model(lambda m: m.o.set_value(m.price * m.g + 0.001 * m.w**2 * m.g)),
    "noise": lambda: replace(stage_of(reservoir()), noise=sddp.Noise([{"w": 1.0}])),
    "probability": lambda: replace(
        stage_of(reservoir()), noise=sddp.Noise([{"w": w} for w in INFLOWS], [0.2, 0.2, 0.6])
    ),
    "transition": lambda: replace(
        stage_of(reservoir()), transition=sddp.LinearTransition(scale=[[0.9]])
    ),
    "shift": lambda: replace(
        stage_of(reservoir()), transition=sddp.LinearTransition(shift=[[1.0]])
    ),
}


def test_stages_of_equal_content_are_compiled_once():
    assert shared(stage_of(reservoir()), stage_of(reservoir()))
    assert shared(circle_stage(lazily=True), circle_stage(lazily=True))


@pytest.mark.parametrize("name", CHANGES)
def test_stages_of_other_content_are_not_shared(name):
    assert not shared(stage_of(reservoir()), CHANGES[name]())


def test_rows_and_initial_states_are_content():
    circle = circle_stage(lazily=True)
    assert not shared(circle, replace(circle, rows=Other()))
    assert not shared(circle, replace(circle, rows=Scaled(radius=[2.0])))
    m = circle.model
    assert not shared(circle, replace(circle, states={"r": sddp.State(m.r_in, m.r, initial=2.0)}))


def test_initial_cuts_are_the_nodes_own_and_leave_the_stage_shared():
    one, other = (
        replace(stage_of(reservoir()), initial_cuts=[sddp.InitialCut([0.0], height)])
        for height in (0.0, -1.0)
    )
    stages = (one, other)
    problem = sddp.Problem(sddp.linear_graph(2), lambda node: stages[node.stage])
    assert problem.stages[0] is problem.stages[1]
    assert [cuts[0].intercept for cuts in problem.initial_cuts.values()] == [0.0, -1.0]


@pytest.mark.parametrize("seed", range(12))
def test_random_models_changed_between_nodes(seed):
    """One model, one Stage and one Noise for all nodes, against a fresh one for each."""
    rng = np.random.default_rng(seed)
    table = rng.uniform(0.5, 2.0, (3, 6))
    one = changing_model(table[0])
    stage = changing_stage(one)

    def change(node: sddp.Node) -> sddp.Stage:
        write(one, table[node.stage])
        for k, realisation in enumerate(stage.noise.realisations):
            realisation["p"] = table[node.stage][4] + 0.5 * k
        return stage

    def afresh(node: sddp.Node) -> sddp.Stage:
        fresh = changing_stage(changing_model(table[node.stage]))
        for k, realisation in enumerate(fresh.noise.realisations):
            realisation["p"] = table[node.stage][4] + 0.5 * k
        return fresh

    values = []
    for build in (change, afresh):
        problem = three_stages(build)
        exact = sddp.extensive_form(problem).solve().value
        result = train(problem, Reaches(exact) | sddp.Iterations(40), seed)
        assert result.bound == pytest.approx(exact, rel=1e-8)
        outside = result.policy.decide(1, {"x": 1.0}, noise={"p": 0.77})
        values.append([exact, result.bound, outside.value, *outside.variables.values()])
    assert values[0] == values[1]


def changing_model(numbers: np.ndarray) -> Any:
    m = pyo.ConcreteModel()
    m.p = pyo.Param(mutable=True, initialize=1.0)
    m.a = pyo.Param(range(6), mutable=True, initialize=1.0)
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 4))
    m.y, m.z = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
    m.e = pyo.Expression(expr=m.a[0] * m.y)
    m.balance = pyo.Constraint(expr=m.x == m.x_in + m.e - m.a[1] * m.p + m.z)
    m.cap = pyo.Constraint(expr=m.y <= m.a[5] * m.p**2)
    m.o = pyo.Objective(expr=m.a[2] * m.p * m.y + (5 + m.a[3]) * m.z + 0.1 * m.x)
    write(m, numbers)
    return m


def write(m: Any, numbers: np.ndarray) -> None:
    for k, value in enumerate(numbers.tolist()):
        m.a[k].set_value(value)
    m.x.setub(1.0 + numbers[3])
    m.e.set_value(m.a[0] * m.y * (1.0 if numbers[0] < 1.0 else 1.1))


def changing_stage(m: Any) -> sddp.Stage:
    noise = sddp.Noise([{"p": 0.0}, {"p": 0.0}])
    return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=1.0)}, noise)


# ---------------------------------------------------------------- noise as expressions


def random_factor(m: Any, rng: np.random.Generator, depth: int, kinds: int = 11) -> Any:
    """A random function of noise ``p[0..2]``, of a parameter and of numbers."""
    if depth == 0:
        return rng.choice([m.p[0], m.p[1], m.p[2], m.q, 0.5, 2.0, -1.5])
    one, two = (random_factor(m, rng, depth - 1, kinds) for _ in range(2))
    kind = int(rng.integers(kinds))
    if kind < 3:
        return one + two
    if kind < 5:
        return one * two
    if kind == 5:
        return one - 3.0 * two
    if kind == 6:
        return one / (2.0 + two**2)
    if kind == 7:
        return pyo.exp(-0.1 * one) + abs(two)
    if kind == 8:
        return pyo.sin(one) * pyo.sqrt(1.0 + two**2)
    if kind == 9:
        return -(one**3)
    return pyo.Expr_if(IF=two >= 0.3, THEN=one, ELSE=-one)


def test_conditions_on_noise_may_be_ranges():
    m = reservoir()
    limits = ((False, False), (True, True), (True, False))
    for strict in limits:
        inside = RangedExpression((0, m.w, 50), strict)
        m.o.set_value(pyo.Expr_if(IF=inside, THEN=m.w, ELSE=-1.0) * m.g + m.g)
        costs = read_stage(stage_of(m), "node 0").noise.values["cost"][:, 0]
        assert costs.tolist() == [0.0 if strict[0] else 1.0, 0.0 if strict[1] else 51.0, 0.0]


@pytest.mark.parametrize("seed", range(40))
def test_random_expressions_of_noise_have_the_value_that_pyomo_gives(seed):
    """In the support and outside it; sides, coefficients, bounds, costs and the constant."""
    rng = np.random.default_rng(seed)
    m = pyo.ConcreteModel()
    m.p = pyo.Param(range(3), mutable=True, initialize=0.3)
    m.q = pyo.Param(mutable=True, initialize=0.7)
    m.i, m.x = pyo.Var(), pyo.Var(bounds=(0, 200))
    m.y = pyo.Var(range(3))
    depths = rng.integers(0, 4, 12)
    # Pyomo takes no Expr_if as a bound.
    f = [random_factor(m, rng, int(d), 10 if k < 2 else 11) for k, d in enumerate(depths)]
    m.y[0].setub(f[0])
    m.y[1].setlb(f[1] - 1)
    m.e = pyo.Expression(expr=f[2] * m.y[0] + f[3] * (m.x + f[4] * m.y[1]))
    m.r = pyo.Constraint(expr=m.e + 2 * m.e / (3 + f[5] ** 2) <= f[6] + f[7] * m.y[2])
    m.s = pyo.Constraint(expr=(f[8] - 1, m.x - m.y[2] * f[9], abs(f[8])))
    m.t = pyo.Constraint(expr=m.p[0] * m.x + m.p[1] * m.y[0] + m.p[2] * m.y[1] <= 1)
    m.o = pyo.Objective(expr=f[10] * m.x + f[11] + m.e)
    support = [{f"p[{k}]": float(v) for k, v in enumerate(row)} for row in rng.normal(size=(3, 3))]
    stage = sddp.Stage(m, {"x": sddp.State(m.i, m.x, 0.0)}, sddp.Noise(support))
    compiled = read_stage(stage, "node 0")
    compiled = pickle.loads(pickle.dumps(compiled))
    outside = [{f"p[{k}]": float(v) for k, v in enumerate(row)} for row in rng.normal(size=(3, 3))]
    for w, realisation in enumerate([*support, *outside]):
        if w < len(support):
            entries = {place: values[w] for place, values in compiled.noise.values.items()}
        else:
            entries = noise_values(compiled, realisation, "node 0")
        arrays = arrays_at(compiled, entries)
        for name, value in realisation.items():
            m.find_component(name).set_value(value)
        assert_arrays(arrays, m, compiled.column_names)


def assert_arrays(arrays: Any, m: Any, names: tuple[str, ...]) -> None:
    """Against Pyomo's own evaluation at the present values of its parameters."""
    variables = [m.find_component(name) for name in names]

    def coefficients(expression: Any) -> tuple[np.ndarray, float]:
        """Of a linear expression, by its values at 0 and at the unit vectors."""
        values = []
        for j in range(-1, len(names)):
            for k, variable in enumerate(variables):
                variable.set_value(float(j == k), skip_validation=True)
            values.append(pyo.value(expression))
        return np.array(values[1:]) - values[0], values[0]

    def near(expected: Any, scale: float) -> Any:
        return pytest.approx(expected, rel=1e-11, abs=1e-11 * scale)

    for i, constraint in enumerate(m.component_data_objects(pyo.Constraint)):
        row, constant = coefficients(constraint.body)
        scale = 1.0 + np.abs(row).max() + abs(constant)
        assert arrays.matrix.toarray()[i] == near(row, scale)
        for side, bound in (("row_lower", constraint.lower), ("row_upper", constraint.upper)):
            if bound is not None:
                assert getattr(arrays, side)[i] == near(pyo.value(bound) - constant, scale)
    cost, constant = coefficients(m.o.expr)
    scale = 1.0 + np.abs(cost).max() + abs(constant)
    assert arrays.cost == near(cost, scale)
    assert arrays.offset == near(constant, scale)
    upper, lower = pyo.value(m.y[0].upper), pyo.value(m.y[1].lower)
    assert arrays.column_upper[names.index("y[0]")] == near(upper, 1.0)
    assert arrays.column_lower[names.index("y[1]")] == near(lower, 1.0 + abs(lower))


def test_what_is_affine_in_the_noise_is_kept_as_arrays():
    m = reservoir()
    entries = read_stage(stage_of(m), "node 0").noise.entries
    assert all(not held.codes for held in entries.values())  # price times noise is affine
    m.o.set_value(m.price * m.g * m.w * m.w)
    entries = read_stage(stage_of(m), "node 0").noise.entries
    assert {place: len(held.codes) for place, held in entries.items() if held.codes} == {"cost": 1}


def test_expressions_may_be_nested_a_thousand_deep():
    m = reservoir()
    cost = m.g
    for _ in range(3_000):
        cost = (cost + 0.001 * m.w * m.h) * 1.0
    m.o.set_value(cost)
    compiled = read_stage(stage_of(m), "node 0")
    position = compiled.column_names.index("h")
    values = compiled.noise.values["cost"][:, 0]
    assert compiled.noise.positions["cost"].tolist() == [position]
    assert values == pytest.approx([0.0, 150.0, 300.0], rel=1e-9)


# ---------------------------------------------------------------- linearity and bad input


def nonlinear(expression: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(m: Any) -> None:
        m.off = pyo.Param(initialize=0.0, mutable=True)
        m.named = pyo.Expression(expr=m.x + m.h)
        m.one = pyo.Param(initialize=1.0, mutable=True)
        m.bad = pyo.Constraint(expr=expression(m) >= 0)

    return change


NONLINEAR = {
    "power": nonlinear(lambda m: m.x * (m.off + m.x * m.w) ** 3),
    "noise": nonlinear(lambda m: m.w * m.x * m.g + m.h),
    "parameter": nonlinear(lambda m: m.off * m.x * m.g + m.h),
    "parameter first": nonlinear(lambda m: (m.off * m.x) * m.g + m.h),
    "division": nonlinear(lambda m: m.off * m.x / (1 + m.g) + m.h),
    "exponent": nonlinear(lambda m: m.x**m.one),
    "function": nonlinear(lambda m: m.off * pyo.exp(m.x) + m.h),
    "condition": nonlinear(lambda m: pyo.Expr_if(IF=m.x >= 1, THEN=m.h, ELSE=m.g)),
    "named": nonlinear(lambda m: m.named * m.off * m.g),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_linearity_is_proved_whatever_the_parameters_are(name):
    with pytest.raises(ModelError, match="node 0: constraint bad is not linear"):
        three_stages(lambda node: with_model(NONLINEAR[name]))


@pytest.mark.parametrize(
    "expression",
    [
        lambda m: 0.0 * (m.x * m.g) + m.h,
        lambda m: m.h**1 / m.price,
        lambda m: pyo.Expr_if(IF=m.w >= 1, THEN=m.h, ELSE=m.h + m.g),
        lambda m: (m.h + m.g) * (m.w + m.price) / 2**m.w,
    ],
)
def test_linear_expressions_are_understood(expression):
    three_stages(lambda node: with_model(nonlinear(expression)))


def test_a_fixed_variable_is_a_number():
    def change(m: Any) -> None:
        m.k = pyo.Var()
        m.k.fix(2.0)
        m.limit = pyo.Constraint(expr=m.k * m.g <= 100)

    compiled = read_stage(with_model(change), "node 0")
    row = compiled.row_names.index("limit")
    assert compiled.matrix.toarray()[row, compiled.column_names.index("g")] == 2.0
    assert "k" not in compiled.column_names


def unused(m: Any) -> sddp.Stage:
    m.other = pyo.Param(initialize=1.0, mutable=True)
    m.off = pyo.Constraint(expr=m.other * m.x <= 3)
    m.off.deactivate()
    m.i.setub(m.other)
    return replace(stage_of(m), noise=sddp.Noise([{"w": 1.0, "other": 2.0}]))


def twice(m: Any) -> sddp.Stage:
    return replace(stage_of(m), states={"v": sddp.State(m.i, m.x, 1.0), "u": sddp.State(m.g, m.x)})


def second_objective(m: Any) -> sddp.Stage:
    m.second = pyo.Objective(expr=m.g)
    return stage_of(m)


def rows_without_variables(m: Any) -> sddp.Stage:
    return replace(stage_of(m), rows=Circle())


def infinite_under_noise(m: Any) -> sddp.Stage:
    m.o.set_value(m.g / m.w)
    return stage_of(m)


def infinite_cost(m: Any) -> sddp.Stage:
    m.o.set_value(float("inf") * m.g)
    return stage_of(m)


def outside_domain(m: Any) -> sddp.Stage:
    m.share = pyo.Param(initialize=0.5, mutable=True, within=pyo.PercentFraction)
    m.part = pyo.Constraint(expr=m.g >= m.share)
    return replace(stage_of(m), noise=sddp.Noise([{"w": 1.0, "share": 1.5}]))


BAD = {
    unused: "node 1: noise sets other, which occurs in no active constraint",
    twice: "node 1: variable x is used twice: one variable serves two states",
    second_objective: "node 1: the model has 2 active objectives (o, second); give exactly one",
    rows_without_variables: "node 1: rows=Circle(pool_key='circle') is given without row_variables",
    infinite_under_noise: "node 1: noise w=0 makes the coefficient of g in the objective inf",
    infinite_cost: "node 1: the coefficient of g in the objective is inf; give a finite number",
    outside_domain: "node 1: noise share = 1.5 is outside the domain of its parameter",
    lambda m: m: "node 1: the builder returned ConcreteModel, not a Stage",
    lambda m: None: "node 1: the builder returned NoneType, not a Stage",
    lambda m: (stage_of(m),): "node 1: the builder returned tuple, not a Stage",
}


@pytest.mark.parametrize("bad", BAD, ids=BAD.values())
def test_bad_stages_are_rejected_before_any_solve(bad):
    def build(node: sddp.Node) -> Any:
        return bad(reservoir()) if node.stage == 1 else stage_of(reservoir())

    with pytest.raises(ModelError, match=re.escape(BAD[bad])):
        three_stages(build)
    assert train(three_stages(lambda node: stage_of(priced(reservoir(), node))), 2).bound > 0.0


def test_noise_outside_the_domain_of_its_parameter_is_rejected():
    def build(node: sddp.Node) -> sddp.Stage:
        m = reservoir()
        m.share = pyo.Param(initialize=0.5, mutable=True, within=pyo.PercentFraction)
        m.part = pyo.Constraint(expr=m.g >= m.share)
        return replace(stage_of(m), noise=sddp.Noise([{"w": 1.0, "share": 0.5}]))

    policy = train(three_stages(build), 3).policy
    with pytest.raises(ModelError, match=r"noise share = 1\.5 lies outside \[0, 1\]"):
        policy.decide(0, {"v": 10.0}, noise={"w": 1.0, "share": 1.5})
    with pytest.raises(ModelError, match=r"node 0: noise has \['w'\]; it needs values for"):
        policy.decide(0, {"v": 10.0}, noise={"w": 1.0})
    assert policy.decide(0, {"v": 10.0}, noise={"w": 1.0, "share": 0.9}).value > 0.0
