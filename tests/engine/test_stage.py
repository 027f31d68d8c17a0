"""Declaring a stage: what is understood, and the words with which a bad one is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.common.collections import ComponentMap
from pyomo.gdp import Disjunction

import sddp
from sddp.errors import ModelError
from tests.engine.cases.stagewise import hydro_stage
from tests.engine.support import CUT_FORMS, SOLVER, train


def model() -> pyo.ConcreteModel:
    """Keep some of what comes in, pay for it."""
    m = pyo.ConcreteModel()
    m.w = pyo.Param(mutable=True, initialize=0.0)
    m.rain = pyo.Param([1, 2], mutable=True, initialize=0.0)
    m.fixed = pyo.Param(initialize=1.0)
    m.positive = pyo.Param(mutable=True, within=pyo.NonNegativeReals, initialize=0.0)
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 10))
    m.y, m.unused = pyo.Var(domain=pyo.NonNegativeReals), pyo.Var()
    m.balance = pyo.Constraint(expr=m.x <= m.x_in)
    m.need = pyo.Constraint(expr=m.y >= m.w + m.rain[1] - m.rain[2] + 2 - m.x)
    m.cost = pyo.Objective(expr=m.y + 0.5 * m.x)
    return m


def problem(
    change: Callable[[pyo.ConcreteModel], None] = lambda m: None,
    states: Callable[[pyo.ConcreteModel], dict[str, Any]] | None = None,
    n_stages: int = 2,
    **options: Any,
) -> sddp.Problem:
    """Two stages of `model`, changed; `options` go to `Stage`."""
    states = states or (lambda m: {"x": sddp.State(m.x_in, m.x, initial=3.0)})

    def build(node: sddp.Node) -> sddp.Stage:
        m = model()
        change(m)
        return sddp.Stage(m, states(m), **options)

    return sddp.Problem(sddp.linear_graph(n_stages), build)


def test_the_model_of_this_file_is_sound():
    """By hand: keep 2 units through both stages at 0.5 each."""
    assert train(problem(), 5).bound == pytest.approx(2.0, rel=SOLVER)


def nonlinear_row(m):
    m.bad = pyo.Constraint(expr=m.x * m.y <= 1)


def nonlinear_cost(m):
    m.cost.deactivate()
    m.bad = pyo.Objective(expr=m.x**2)


def integer(m):
    m.z = pyo.Var(domain=pyo.NonNegativeIntegers)
    m.bad = pyo.Constraint(expr=m.z <= m.x)


def no_objective(m):
    m.cost.deactivate()


def two_objectives(m):
    m.second = pyo.Objective(expr=m.x)


def nan_coefficient(m):
    m.bad = pyo.Constraint(expr=float("nan") * m.x + m.y <= 1)


def nan_side(m):
    m.bad = pyo.Constraint(expr=m.x + m.y <= m.w * float("nan"))


def no_value(m):
    m.p = pyo.Param(mutable=True, within=pyo.Reals)
    m.bad = pyo.Constraint(expr=m.y >= m.p)


def either_or(m):
    m.choice = Disjunction(expr=[[m.x >= 2], [m.x <= 1]])


def at_most_one(m):
    m.z = pyo.Var([1, 2], bounds=(0, 1))
    m.one = pyo.SOSConstraint(var=m.z, sos=1)
    m.both = pyo.Constraint(expr=m.z[1] + m.z[2] >= 1.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (either_or, "choice"),
        (at_most_one, "one"),
        (nonlinear_row, "node 0: constraint bad is not linear"),
        (nonlinear_cost, "node 0: the objective is not linear"),
        (integer, "node 0: variable z is integer"),
        (no_objective, "node 0: the model has 0 active objectives; give exactly one"),
        (two_objectives, "node 0: the model has 2 active objectives (cost, second)"),
        (nan_coefficient, "node 0: the coefficient of x in constraint bad is nan"),
        (nan_side, "node 0: the upper side of constraint bad is nan"),
        (no_value, "node 0: a number in constraint bad has no value"),
    ],
)
def test_models_that_are_no_linear_programs_are_rejected(change, words, caplog):
    with pytest.raises(ModelError, match=re.escape(words)):
        problem(change)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        (lambda m: {}, "node 0: states is empty"),
        (lambda m: {"x": sddp.State(m.x_in, m.x)}, "states have no initial value"),
        (
            lambda m: {"x": sddp.State(m.x_in, m.x, initial=float("nan"))},
            "state x is not finite",
        ),
        (
            lambda m: {
                "x": sddp.State(m.x_in, m.x, initial=1.0),
                "y": sddp.State(m.y, pyo.Reference([m.y]), initial=1.0),
            },
            "state 'y' has incoming index",
        ),
        (
            lambda m: {
                "x": sddp.State(m.x_in, m.x, initial=1.0),
                "y": sddp.State(m.x_in, m.y, initial=1.0),
            },
            "one variable serves two states",
        ),
        (
            lambda m: {
                "x": sddp.State(m.x_in, m.x, initial=1.0),
                "y": sddp.State(m.y, initial=1.0),
            },
            "give every state an outgoing variable, or none",
        ),
        (
            lambda m: {
                "x": sddp.State(m.x_in, m.x, initial=1.0),
                "y": sddp.State(m.y, m.unused),
            },
            "['y'] have no initial value but others do",
        ),
        (
            lambda m: {"x": sddp.State(m.x_in, initial=1.0)},
            "node 0 is followed by others but its states have no outgoing variable",
        ),
    ],
)
def test_bad_states_are_rejected(states, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        problem(states=states)


def test_a_fixed_incoming_variable_is_rejected():
    """Pyomo would put its value into the constraints and the state would have no effect."""
    with pytest.raises(ModelError, match=r"node 0.*x_in.*fix"):
        problem(lambda m: m.x_in.fix(3.0))


def test_a_fixed_decision_is_a_constant():
    fixed = train(problem(lambda m: m.x.fix(1.0)), 5).bound
    assert fixed == pytest.approx(2 * (1.0 + 0.5), rel=SOLVER)


def test_nodes_must_agree():
    def states(node):
        m = model()
        name = "x" if node.stage == 0 else "level"
        return sddp.Stage(m, {name: sddp.State(m.x_in, m.x, initial=1.0)})

    with pytest.raises(ModelError, match=r"node 1 has states \('level',\), node 0 has \('x',\)"):
        sddp.Problem(sddp.linear_graph(2), states)

    def senses(node):
        stage = states(sddp.Node(0, 0))
        stage.model.cost.sense = pyo.minimize if node.stage == 0 else pyo.maximize
        return stage

    with pytest.raises(ModelError, match="node 1 and node 0 have opposite senses"):
        sddp.Problem(sddp.linear_graph(2), senses)


def test_a_builder_must_return_a_stage():
    with pytest.raises(ModelError, match="node 0: the builder returned ConcreteModel, not a Stage"):
        sddp.Problem(sddp.linear_graph(1), lambda node: model())


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (sddp.Noise([]), "noise has no realisations"),
        (sddp.Noise([{"w": 1.0}, {"v": 1.0}]), "noise realisation 1 sets ['v'], the first sets"),
        (sddp.Noise([{"nothing": 1.0}]), "noise key 'nothing' is not one mutable parameter"),
        (sddp.Noise([{"rain": 1.0}]), "noise key 'rain' is not one mutable parameter"),
        (sddp.Noise([{"rain[7]": 1.0}]), "noise key 'rain[7]' is not one mutable parameter"),
        (sddp.Noise([{"fixed": 1.0}]), "noise key 'fixed' is not one mutable parameter"),
        (sddp.Noise([{"y": 1.0}]), "noise key 'y' is not one mutable parameter"),
        (sddp.Noise([{"cost": 1.0}]), "noise key 'cost' is not one mutable parameter"),
        (sddp.Noise([{"positive": -1.0}]), "node 0"),
        (sddp.Noise([{"w": "much"}]), "node 0"),
        (sddp.Noise([{"w": float("nan")}]), "NaN"),
        (sddp.Noise([{"w": float("inf")}]), "node 0"),
        (sddp.Noise([{"w": 1.0}, {"w": 2.0}], [0.5, 0.6]), "probabilities sum to 1.1"),
        (sddp.Noise([{"w": 1.0}, {"w": 2.0}], [1.5, -0.5]), "the least is"),
        (sddp.Noise([{"w": 1.0}, {"w": 2.0}], [1.0]), "probabilities has shape (1,)"),
        (sddp.Noise([{"w": 1.0}], [float("nan")]), "probabilities sum to"),
    ],
)
def test_bad_noise_is_rejected(noise, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        problem(noise=noise)


def test_noise_on_a_parameter_of_another_model_is_rejected():
    """Shared keys between nodes: they would change a model that is not this node's."""
    other = model()
    noise = sddp.Noise([ComponentMap([(other.w, value)]) for value in (0.0, 1.0)])
    with pytest.raises(ModelError, match="node 0: noise key 'w'"):
        problem(noise=noise)


@pytest.mark.parametrize("keys", ["names", "components"])
def test_noise_keys_may_be_names_or_a_component_map(keys):
    def build(node):
        m = model()
        table = [(1.0, 2.0), (4.0, 0.5)]
        if keys == "names":
            realisations = [{"w": a, "rain[2]": b} for a, b in table]
        else:
            realisations = [ComponentMap([(m.w, a), (m.rain[2], b)]) for a, b in table]
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=0.0)},
            noise=sddp.Noise(realisations, [0.25, 0.75]),
        )

    # Nothing can be kept: y = w - rain[2] + 2 in each stage.
    result = train(sddp.Problem(sddp.linear_graph(2), build), 5)
    assert result.bound == pytest.approx(2 * (0.25 * 1.0 + 0.75 * 5.5), rel=SOLVER)


def test_an_outcome_of_probability_zero_is_no_outcome():
    """Neither its cost nor its constraints count: 1e6 could never be met with y <= 20."""

    def build(node):
        m = model()
        m.y.setub(20)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=0.0)},
            noise=sddp.Noise([{"w": 1.0}, {"w": 1e6}], [1.0, 0.0]),
        )

    p = sddp.Problem(sddp.linear_graph(2), build)
    assert sddp.extensive_form(p).solve().value == pytest.approx(6.0, rel=SOLVER)
    for cuts in CUT_FORMS:
        for risk in (None, sddp.WorstCase()):
            assert train(p, 5, cuts=cuts, risk=risk).bound == pytest.approx(6.0, rel=SOLVER)


def test_the_models_parameters_keep_their_values():
    m = model()
    m.w.set_value(7.0)
    stage = sddp.Stage(
        m,
        {"x": sddp.State(m.x_in, m.x, initial=0.0)},
        noise=sddp.Noise([{"w": 1.0}, {"w": 2.0}]),
    )
    sddp.Problem(sddp.linear_graph(1), lambda node: stage)
    assert pyo.value(m.w) == 7.0


def test_ranges_equalities_blocks_and_unused_parts():
    """Two-sided rows, a block, a deactivated row, an expression, a variable without use."""

    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(-5, 5))
        m.b = pyo.Block()
        m.b.y = pyo.Var(bounds=(None, 4))
        m.unused = pyo.Var()
        m.spread = pyo.Expression(expr=m.b.y - m.x)
        m.b.range = pyo.Constraint(expr=(1, m.spread, 3))
        m.off = pyo.Constraint(expr=m.x >= 100)
        m.off.deactivate()
        m.same = pyo.Constraint(expr=m.x == m.x_in)
        m.cost = pyo.Objective(expr=2 * m.b.y + m.x, sense=pyo.maximize)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=2.0)})

    policy = train(sddp.Problem(sddp.linear_graph(1), build), 2).policy
    assert policy.bound == pytest.approx(2 * 4 + 2)  # y <= min(4, x + 3)
    assert policy.decide(0, {"x": -1.0}).variables["b.y"] == pytest.approx(2.0)
    with pytest.raises(sddp.errors.InfeasibleState):
        policy.decide(0, {"x": 4.0})  # y >= x + 1 = 5 > 4


def test_one_stage_object_may_serve_many_nodes():
    shared = hydro_stage(0)
    shared_bound = train(
        sddp.Problem(sddp.linear_graph(3), lambda node: shared, cost_to_go_bound=0.0), 30
    ).bound
    own = sddp.Problem(sddp.linear_graph(3), lambda node: hydro_stage(0), cost_to_go_bound=0.0)
    assert shared_bound == train(own, 30).bound


@pytest.mark.parametrize("value", [{"z": 1.0}, 3.0, [3.0]])
def test_states_are_given_by_name(value):
    policy = train(problem(), 2).policy
    with pytest.raises(ModelError, match=r"it needs values for \['x'\]"):
        policy.decide(0, value)


def test_indexed_states_may_be_given_as_mapping_or_sequence_or_one_number():
    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(["a", "b"]), pyo.Var(["a", "b"], bounds=(0, 9))
        m.keep = pyo.Constraint(["a", "b"], rule=lambda m, i: m.x[i] >= m.x_in[i])
        m.cost = pyo.Objective(expr=m.x["a"] + 10 * m.x["b"])
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial={"b": 1.0, "a": 2.0})})

    p = sddp.Problem(sddp.linear_graph(1), build)
    policy = train(p, 2).policy
    assert p.labels == ("x[a]", "x[b]")
    assert policy.bound == pytest.approx(12.0)
    for state, value in (
        ({"b": 3.0, "a": 4.0}, 34.0),
        ([4.0, 3.0], 34.0),
        (np.array([4.0, 3.0]), 34.0),
        (2.0, 22.0),
    ):
        decision = policy.decide(0, {"x": state})
        assert decision.value == pytest.approx(value)
    assert policy.decide(0, {"x": [4.0, 3.0]}).outgoing == {"x": {"a": 4.0, "b": 3.0}}
    with pytest.raises(ModelError, match=re.escape("state x: unknown ['c'], missing ['b']")):
        policy.decide(0, {"x": {"a": 1.0, "c": 2.0}})
    with pytest.raises(ModelError, match=re.escape("state x has shape (3,); it needs (2,)")):
        policy.decide(0, {"x": [1.0, 2.0, 3.0]})
    with pytest.raises(ModelError, match=re.escape("state x[b] is not finite")):
        policy.decide(0, {"x": [1.0, float("inf")]})


@pytest.mark.parametrize("risk", ["neutral", 0.5, [sddp.Expectation()]])
def test_risk_must_be_a_measure(risk):
    with pytest.raises(ModelError, match="is no RiskMeasure"):
        train(problem(), 1, risk=risk)


def test_risk_of_an_unknown_node_is_rejected():
    with pytest.raises(ModelError, match="risk names node 9, which is not in the graph"):
        train(problem(), 1, risk={9: sddp.Expectation()})


def test_noise_in_a_bound_of_an_incoming_variable_is_no_constraint():
    """``y`` of at most 1, 3 or 0.2 at price 1, the rest of 0.5 at price 5: 0.5, 0.5 and 1.7."""

    def stage(bounds: bool) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.p = pyo.Param(mutable=True, initialize=1.0)
        m.x_in, m.x = pyo.Var(bounds=(0, m.p) if bounds else None), pyo.Var(bounds=(0, 10))
        m.y, m.z = pyo.Var(bounds=(0, m.p)), pyo.Var(bounds=(0, 100))
        m.balance = pyo.Constraint(expr=m.x == m.x_in + m.y + m.z - 1)
        m.cost = pyo.Objective(expr=m.y + 5 * m.z + 0.01 * m.x)
        noise = sddp.Noise([{"p": 1.0}, {"p": 3.0}, {"p": 0.2}])
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=0.5)}, noise=noise)

    for bounds in (False, True):
        problem = sddp.Problem(sddp.linear_graph(1), lambda node, bounds=bounds: stage(bounds))
        assert train(problem, 1).bound == pytest.approx(0.9, rel=SOLVER)
