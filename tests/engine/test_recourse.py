"""Feasibility cuts: problems in which a decision can make a later one impossible.

The tank: water is bought at 1 before anything is known, up to a limit. Then, twice, it may or
may not rain 4, and 5 must be delivered; at most 1 can be bought in an emergency. From the worst
case, the first purchase is at least 8. With b the first purchase, 8 <= b <= 9, and c the
emergency price, the cost is ``b + c (9 - b)/2 + c/4`` (in the first dry stage buy 9 - b, so that
4 are left; in a second dry one buy 1); above 9, ``b + c (10 - b)/4``. So c = 3 gives b = 9 and
9.75, and c = 0.1 gives b = 8, the edge of feasibility, and 8.075.
"""

from __future__ import annotations

import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import InfeasibleProblem, InfeasibleState
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, time_limit, train

KNOWN = ((3.0, 9.0, 9.75), (0.1, 8.0, 8.075))


def tank(
    emergency: float, *, limit: float = 20.0, rain_after: bool = False, maximises: bool = False
) -> sddp.Problem:
    """`rain_after`: rain falls before the state arrives instead of before the decision."""
    sense, sign = (pyo.maximize, -1.0) if maximises else (pyo.minimize, 1.0)

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 50))
        states = {"x": sddp.State(m.x_in, m.x, initial=0.0)}
        if node.stage == 0:
            m.buy = pyo.Var(bounds=(0, limit))
            m.balance = pyo.Constraint(expr=m.x == m.x_in + m.buy)
            m.cost = pyo.Objective(expr=sign * m.buy, sense=sense)
            return sddp.Stage(m, states)
        m.rain = pyo.Param(mutable=True, initialize=0.0)
        m.buy = pyo.Var(bounds=(0, 1))
        m.balance = pyo.Constraint(expr=m.x == m.x_in + m.rain + m.buy - 5)
        m.cost = pyo.Objective(expr=sign * emergency * m.buy, sense=sense)
        if rain_after:
            transition = sddp.LinearTransition(shift=[[0.0], [4.0]])
            return sddp.Stage(m, states, transition=transition)
        return sddp.Stage(m, states, noise=sddp.Noise([{"rain": 0.0}, {"rain": 4.0}]))

    return sddp.Problem(sddp.linear_graph(3), build)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("rain_after", [False, True])
@pytest.mark.parametrize(("emergency", "first", "value"), KNOWN)
def test_the_optimum_is_found_although_recourse_is_not_complete(
    emergency, first, value, rain_after, cuts
):
    problem = tank(emergency, rain_after=rain_after)
    assert sddp.extensive_form(problem).solve().value == pytest.approx(value, rel=SOLVER)
    with time_limit(20):
        result = train(problem, 40, cuts=cuts)
    assert result.bound == pytest.approx(value, rel=SOLVER)
    decision = result.policy.decide(0, {"x": 0.0})
    assert decision.variables["buy"] == pytest.approx(first, abs=1e-7)


def test_maximising_mirrors_it():
    result = train(tank(0.1, maximises=True), 40)
    assert result.bound == pytest.approx(-8.075, rel=SOLVER)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_risk_averse_policies_too(cuts):
    problem, risk = tank(3.0), 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)
    exact = sddp.extensive_form(problem, risk=risk).solve().value
    with time_limit(20):
        result = train(problem, 40, cuts=cuts, risk=risk)
    assert result.bound == pytest.approx(exact, rel=SOLVER)


def test_an_infeasible_problem_is_named():
    """7 units and two emergencies are 9, but 10 are needed in the worst case."""
    problem = tank(3.0, limit=7.0)
    with time_limit(20), pytest.raises(InfeasibleProblem, match="node 0 no decision from the"):
        train(problem, 40)
    with pytest.raises(InfeasibleProblem, match="no policy exists"):
        sddp.extensive_form(problem).solve()


@pytest.mark.parametrize("kind", ["rows", "bounds"])
def test_a_node_that_no_state_can_satisfy_is_named(kind):
    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.x, m.u = pyo.Var(), pyo.Var(bounds=(0, 5)), pyo.Var(bounds=(0, 5))
        m.balance = pyo.Constraint(expr=m.x == m.x_in)
        m.cost = pyo.Objective(expr=m.u)
        if node.stage == 1 and kind == "rows":
            m.impossible = pyo.Constraint(expr=m.u + m.x - m.x_in >= 6)
        if node.stage == 1 and kind == "bounds":
            m.u.setlb(6)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=1.0)})

    problem = sddp.Problem(sddp.linear_graph(2), build)
    with time_limit(20), pytest.raises(InfeasibleProblem, match="node 1 has no feasible decision"):
        train(problem, 10)


def test_an_infeasible_state_is_rejected_and_the_next_question_is_answered():
    policy = train(tank(3.0), 40).policy
    before = policy.decide(2, {"x": 4.5}, 0)
    with pytest.raises(InfeasibleState, match=r"node 2: .* missed by 3 in total"):
        policy.decide(2, {"x": 1.0}, 0)
    after = policy.decide(2, {"x": 4.5}, 0)
    assert (after.variables, after.value) == (before.variables, before.value)
    assert policy.decide(2, {"x": 1.0}, 1).variables["buy"] == 0.0


def test_a_state_that_is_infeasible_only_later_is_rejected():
    """7.5 - 5 + 1 leaves 3.5, too little for another dry stage."""
    policy = train(tank(3.0), 40).policy
    with pytest.raises(InfeasibleState, match="node 1: no decision from this state"):
        policy.decide(1, {"x": 7.5}, 0)
    assert policy.decide(1, {"x": 8.0}, 0).variables["buy"] == pytest.approx(1.0)


def near_the_edge(lower: float, unit: float) -> sddp.Problem:
    """Stage 1 needs 5 units; stage 0 would rather keep `lower` units."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.x_in, m.u = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        m.x = pyo.Var(bounds=(lower * unit if node.stage == 0 else 0, 10 * unit))
        m.balance = pyo.Constraint(expr=m.x == m.x_in - m.u)
        if node.stage == 1:
            m.need = pyo.Constraint(expr=m.u >= 5 * unit)
        m.cost = pyo.Objective(expr=m.x)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=6.0 * unit)})

    return sddp.Problem(sddp.linear_graph(2), build)


@pytest.mark.parametrize(("lower", "unit"), [(4.9995, 1.0), (4.9999999, 1.0), (0.0, 1e-4)])
def test_a_miss_smaller_than_the_early_tolerance_is_a_miss(lower, unit):
    """Early iterations refine rows to 1e-3 only; a state let through would never improve."""
    with time_limit(20):
        result = train(near_the_edge(lower, unit), 10)
    assert result.bound == pytest.approx(5.0 * unit, abs=3 * SOLVER)
