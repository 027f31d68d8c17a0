"""Bounds on the cost-to-go: given, computed, asked for, and reported when they matter."""

from __future__ import annotations

import warnings

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.presolve.theta_bounds import cost_to_go_bounds
from sddp.engine.stage.stage_data import ReadStage
from sddp.errors import BoundWarning, ModelError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.instances import TRANSITIONS, random_instance
from tests.engine.support import SOLVER, Reaches, train
from tests.oracles import state_value


def computed(problem, risk=None):
    """Computed lower bounds on the cost after each node, in engine units (costs)."""
    measure = risk or sddp.Expectation()
    return cost_to_go_bounds(problem, lambda name: measure)


def without_bound(problem):
    """The same problem, its bound left out."""
    return sddp.Problem(problem.graph, lambda node: ReadStage(problem.stages[node.name]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("build", "value"),
    [
        (stagewise.a8, 62500.0),
        (stagewise.a11, 25000 / 3),
        (stagewise.a16b, 650.0),
        (stagewise.a19, 35 / 11),
        (markov.b7, 96875 / 12),
        (markov.c2, 855.0),
        (reservoir.c9, 275 / 6),
    ],
)
def test_known_cases_need_no_bound_of_the_user(build, value):
    problem = without_bound(build())
    result = train(problem, sddp.Iterations(100) | Reaches(value))
    assert result.bound == pytest.approx(value, rel=SOLVER)
    assert result.active_bounds == ()


def test_costs_that_are_never_negative_bound_a_loop_by_zero():
    assert computed(without_bound(reservoir.d3())) == {"node": 0.0}


@pytest.mark.long
def test_negative_costs_on_a_loop_are_summed_up():
    """A least cost of -3 a stage, discounted: -3 * 0.9 / (1 - 0.9) after a decision."""
    problem = loop(-1.0)
    assert computed(problem)["node"] == pytest.approx(-27.0, rel=1e-6)
    result = train(problem, 100)
    assert result.bound == pytest.approx(-30.0, rel=1e-6)


def test_negative_costs_on_a_loop_with_risk_need_a_bound():
    with pytest.raises(ModelError, match=r"cycle.*risk averse: give Problem a cost_to_go_bound"):
        train(loop(-1.0), 5, risk=sddp.AVaR(0.5))
    result = train(loop(1.0), 60, risk=sddp.AVaR(0.5))  # non-negative costs need none
    assert result.bound == pytest.approx(0.0, abs=SOLVER)


def loop(price):
    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 3))
        m.cost = pyo.Objective(expr=price * m.x)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=0.0)})

    return sddp.Problem(reservoir.discounted_loop(), build)


@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("graph", ["stopping", "markov"])
def test_computed_bounds_lie_below_the_cost_to_go(graph, transition):
    """Compared with the exact value functions at states within the bounds."""
    instance = random_instance(1, graph=graph, transition=transition, noise=2)
    problem = instance.problem()
    bounds = computed(problem)
    rng = np.random.default_rng(0)
    for name, bound in bounds.items():
        arcs = problem.graph.children(name)
        for outgoing in rng.uniform([0.0, 0.1], [5.0, 8.0], (2, 2)):
            total = 0.0
            for child, p in arcs:
                node = instance.tree.nodes[child]
                for (a, b), r in zip(node.arrivals, node.arrival_probabilities, strict=True):
                    for w, q in enumerate(node.probabilities):
                        value = state_value(instance.tree, child, a @ outgoing + b, w)
                        total += p * q * r * value
            assert bound <= total


def harvest(**bounds):
    """Maximise what comes in; `bounds` of the outgoing state by stage."""

    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=bounds.get(f"stage{node.stage}", (0, None)))
        m.balance = pyo.Constraint(expr=m.x <= m.x_in)
        m.gain = pyo.Objective(expr=m.x_in, sense=pyo.maximize)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=5.0)})

    return build


def test_a_bound_that_cannot_be_computed_is_asked_for():
    problem = sddp.Problem(sddp.linear_graph(3), harvest())
    with pytest.raises(
        ModelError, match=r"node \d, noise 0, has no least .*give Problem a cost_to_go"
    ):
        train(problem, 5)
    given = sddp.Problem(sddp.linear_graph(3), harvest(), cost_to_go_bound=100.0)
    assert train(given, 10).bound == pytest.approx(15.0, rel=SOLVER)


def test_bounds_given_for_some_nodes_are_completed():
    """After node 0 nothing can be computed, after node 1 the state is at most 10."""
    problem = sddp.Problem(
        sddp.linear_graph(3), harvest(stage1=(0, 10)), cost_to_go_bound={0: 100.0}
    )
    assert train(problem, 10).bound == pytest.approx(15.0, rel=SOLVER)


def test_nodes_that_are_never_reached_need_no_bound():
    """The chain starts in regime 0 and stays there."""
    graph = sddp.markov_graph(transition_matrix=np.eye(2), n_stages=3)
    bounds = dict.fromkeys(("stage0", "stage1", "stage2"), (0, 10))
    result = train(sddp.Problem(graph, harvest(**bounds)), 10)
    assert result.bound == pytest.approx(15.0, rel=SOLVER)


def test_noise_in_a_bound_of_the_state_is_seen():
    """The parameter's value in the model, 0, is not among its realisations."""

    def build(node):
        m = pyo.ConcreteModel()
        m.cap = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, m.cap))
        m.cost = pyo.Objective(expr=-m.x_in)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=0.0)},
            noise=sddp.Noise([{"cap": 5.0}, {"cap": 10.0}]),
        )

    result = train(sddp.Problem(sddp.linear_graph(3), build), 10)
    assert result.bound == pytest.approx(-15.0, rel=SOLVER)


def test_a_scale_of_zero_or_below_keeps_an_unbounded_state_bounded():
    """0 times infinity is 0, and a negative scale turns the box around."""

    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, None))
        m.cost = pyo.Objective(expr=m.x - m.x_in)
        return sddp.Stage(
            m,
            {"x": sddp.State(m.x_in, m.x, initial=1.0)},
            transition=sddp.LinearTransition(scale=[[0.0], [-0.5]]),
        )

    result = train(sddp.Problem(sddp.linear_graph(3), build), 20)
    assert result.bound == pytest.approx(-1.0, rel=SOLVER)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (float("inf"), "cost_to_go_bound = inf: must be a finite"),
        (float("nan"), "cost_to_go_bound = nan: must be a finite"),
        ({7: 0.0}, "cost_to_go_bound names node 7, which is unknown"),
    ],
)
def test_bad_bounds_are_rejected(bound, words):
    with pytest.raises(ModelError, match=words):
        sddp.Problem(sddp.linear_graph(2), harvest(), cost_to_go_bound=bound)


def test_a_bound_that_holds_the_result_is_reported():
    """Too low a ceiling of 4, where 10 can follow node 0.

    Keeping 2 is enough to reach the ceiling, so the cuts at that decision do not contradict it;
    without the ceiling the decision would be another.
    """
    problem = sddp.Problem(sddp.linear_graph(3), harvest(), cost_to_go_bound=4.0)
    with pytest.warns(BoundWarning, match=r"still active at \[0\S*: the result depends on it"):
        result = train(problem, 10)
    assert 0 in result.active_bounds
    assert result.bound == pytest.approx(5.0 + 4.0, rel=SOLVER)


def test_a_valid_bound_that_happens_to_be_met_is_not_reported():
    """A11 without demand costs nothing, and 0 is the bound: the cuts say so too."""

    def build(node):
        stage = stagewise.hydro_stage(node.stage)
        stage.model.del_component("demand")
        stage.model.demand = pyo.Constraint(expr=stage.model.h + stage.model.g == 0)
        return stage

    problem = sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(problem, 10)
    assert (result.bound, result.active_bounds) == (0.0, ())


def shortage_stage(node, *, cuts, upper=None):
    """The second stage pays ``max(10 - 5 x, 0)``; the first pays x and may keep without limit."""
    m = pyo.ConcreteModel()
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, upper))
    m.y = pyo.Var(domain=pyo.NonNegativeReals)
    states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
    if node.stage == 0:
        m.more = pyo.Constraint(expr=m.x >= m.x_in)
        m.cost = pyo.Objective(expr=m.x)
        return sddp.Stage(m, states)
    m.short = pyo.Constraint(expr=m.y >= 10 - 5 * m.x_in)
    m.cost = pyo.Objective(expr=m.y)
    return sddp.Stage(m, states, initial_cuts=cuts)


def shortage(**options):
    """Two stages of `shortage_stage`."""
    return sddp.Problem(sddp.linear_graph(2), lambda node: shortage_stage(node, **options))


FALLING, LEVEL = sddp.InitialCut([-5.0], 10.0), sddp.InitialCut([0.0], 0.0)


@pytest.mark.parametrize("cuts", [[FALLING, LEVEL], [LEVEL, FALLING], [LEVEL]])
def test_initial_cuts_stand_in_for_a_bound(cuts):
    """x = 2 and no shortage; the cuts bound the cost-to-go together, not each alone."""
    result = train(shortage(cuts=cuts), 10)
    assert result.bound == pytest.approx(2.0, rel=SOLVER)


def test_initial_cuts_of_two_children_in_another_order():
    """Each child's cuts bound it; which of them is listed first must not matter."""

    def build(node):
        stage = shortage_stage(node, cuts=())
        if node.stage == 0:
            return stage
        cuts = [FALLING, LEVEL] if node.markov_state == 0 else [LEVEL, FALLING]
        return sddp.Stage(stage.model, stage.states, initial_cuts=cuts)

    problem = sddp.Problem(sddp.markov_graph([[[1.0]], [[0.5, 0.5]]]), build)
    assert train(problem, 10).bound == pytest.approx(2.0, rel=SOLVER)


def test_an_initial_cut_that_bounds_within_the_limits_is_enough():
    result = train(shortage(cuts=[FALLING], upper=4.0), 10)
    assert result.bound == pytest.approx(2.0, rel=SOLVER)


def test_initial_cuts_need_one_slope_for_each_component():
    with pytest.raises(ModelError, match=r"slope of shape \(2,\); it needs \(1,\)"):
        shortage(cuts=[sddp.InitialCut([1.0, 2.0])])
