"""Positively homogeneous problems: cuts through the origin, states of any size, and the check.

The problem is a portfolio without a risk limit: cash and one asset that grows by 30 % or
falls by 10 %, bought and sold at 1 %. One of its facts is ``V(c x) = c V(x)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import ModelError
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train


def portfolio_stage(
    node: sddp.Node, wealth: float, *, cap: float | None = None, declared: bool, risk_limit: bool
) -> sddp.Stage:
    """`cap` limits each purchase in money, which is no cone."""
    m = pyo.ConcreteModel()
    m.c_in, m.a_in = pyo.Var(), pyo.Var()
    m.c, m.a = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
    m.buy, m.sell = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
    m.asset = pyo.Constraint(expr=m.a == m.a_in + m.buy - m.sell)
    m.cash = pyo.Constraint(expr=m.c == m.c_in - 1.01 * m.buy + 0.99 * m.sell)
    if cap is not None:
        m.cap = pyo.Constraint(expr=m.buy + 0.0 * m.c <= cap)
    if risk_limit:
        m.share = pyo.Constraint(expr=m.a <= 0.5 * (m.c_in + m.a_in))
    last = node.stage == 2
    m.gain = pyo.Objective(expr=(m.c + m.a) if last else 0.0 * m.c, sense=pyo.maximize)
    return sddp.Stage(
        m,
        {
            "c": sddp.State(m.c_in, m.c, initial=wealth),
            "a": sddp.State(m.a_in, m.a, initial=0.0),
        },
        transition=sddp.LinearTransition(scale=[[1.0, 1.3], [1.0, 0.9]]),
        homogeneous=declared,
    )


def portfolio(
    wealth: float, *, cap: float | None = None, declared: bool = True, risk_limit: bool = True
) -> sddp.Problem:
    """Three stages of `portfolio_stage`."""

    def build(node: sddp.Node) -> sddp.Stage:
        return portfolio_stage(node, wealth, cap=cap, declared=declared, risk_limit=risk_limit)

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=100.0 * wealth)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("wealth", [1.0, 3e6])
def test_declared_or_not_the_value_is_the_same(wealth, cuts):
    exact = sddp.extensive_form(portfolio(wealth)).solve().value
    for declared in (True, False):
        result = train(portfolio(wealth, declared=declared), 40, cuts=cuts)
        assert result.bound == pytest.approx(exact, rel=SOLVER)


@pytest.mark.parametrize("share", [1.0001, 1.5, 100.0])
@pytest.mark.parametrize("wealth", [0.01, 1.0, 1e6])
def test_a_bound_on_the_cost_to_go_scales_with_the_initial_state(wealth, share):
    """Valid bounds, close to the optimum 1.096356875 of wealth 1, or far from it."""
    given = portfolio(wealth)
    problem = sddp.Problem(
        given.graph,
        lambda node: portfolio_stage(node, wealth, declared=True, risk_limit=True),
        cost_to_go_bound=1.096356875 * wealth * share,
    )
    assert train(problem, 15).bound == pytest.approx(1.096356875 * wealth, rel=SOLVER)


def shrinks_then_grows(wealth: float, bound: float) -> sddp.Problem:
    """One asset: a tenth of it is left at stage 1, twenty times that at stage 2."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.a_in, m.a = pyo.Var(), pyo.Var(domain=pyo.NonNegativeReals)
        m.keep = pyo.Constraint(expr=m.a <= m.a_in)
        m.gain = pyo.Objective(expr=m.a if node.stage == 2 else 0.0 * m.a, sense=pyo.maximize)
        scale = [[1.0], [0.1], [20.0]][node.stage]
        states = {"a": sddp.State(m.a_in, m.a, initial=wealth)}
        transition = sddp.LinearTransition(scale=[scale])
        return sddp.Stage(m, states, transition=transition, homogeneous=True)

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=bound)


@pytest.mark.parametrize("wealth", [1e-3, 1.0, 1e5])
def test_a_bound_that_holds_where_states_have_shrunk(wealth):
    """The bound, 2.5 times wealth, holds after every decision; at size 1 it is 25 at node 1."""
    problem = shrinks_then_grows(wealth, 2.5 * wealth)
    assert train(problem, 5).bound == pytest.approx(2.0 * wealth, rel=SOLVER)


@pytest.mark.parametrize("risk", [None, 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.3)])
def test_value_decision_and_slope_at_another_wealth(risk):
    policy = train(portfolio(1.0), 40, risk=risk).policy
    small = policy.decide(0, {"c": 0.7, "a": 0.3})
    large = policy.decide(0, {"c": 0.7e5, "a": 0.3e5})
    assert large.value == pytest.approx(1e5 * small.value, rel=1e-12)
    assert large.variables["a"] == pytest.approx(1e5 * small.variables["a"], rel=1e-12)
    assert large.slope == pytest.approx(small.slope)
    for state in ({"c": 0.2, "a": 0.8}, {"c": 1e4, "a": 4e4}):
        last = policy.decide(2, state)
        assert last.cost_to_go == 0.0
        assert last.value == pytest.approx(last.variables["c"] + last.variables["a"], rel=1e-9)
        assert last.outgoing["a"] == last.variables["a"]
    # Euler: a homogeneous function is its slope times the state.
    assert small.slope @ [0.7, 0.3] == pytest.approx(small.value, rel=1e-8)


def test_the_log_is_in_the_users_money():
    small, large = (train(portfolio(wealth), 10) for wealth in (1.0, 1e6))
    for column in ("bound", "simulated"):
        assert large.log[column].to_numpy() == pytest.approx(1e6 * small.log[column].to_numpy())
    table = large.policy.simulate(3, rng=np.random.default_rng(0))
    assert table.xs(0, level="stage")["c.in"].to_numpy() == pytest.approx(1e6)
    assert (table.groupby("path")["objective"].sum() > 0.5e6).all()


def test_nothing_is_worth_nothing():
    policy = train(portfolio(1.0), 20).policy
    assert policy.value(0, {"c": 0.0, "a": 0.0}) == pytest.approx(0.0, abs=SOLVER)


@pytest.mark.parametrize(("wealth", "cap"), [(1.0, 0.3), (10.0, 3.0), (1e6, 3e5)])
def test_a_stage_that_is_not_homogeneous_is_found_out(wealth, cap):
    """A cap on purchases in money binds at the wealth the problem starts from."""
    with pytest.raises(ModelError, match=r"node \d.*homogeneous=True.*cone"):
        train(portfolio(wealth, cap=cap), 40)


@dataclass(frozen=True, eq=False)
class RichOnly:
    """A limit on cash that only the rich must keep: no cone, and no constant to see."""

    pool_key: str = "rich"

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """``c <= 0.2 wealth`` where wealth is above 1.2."""
        row = np.array([[1.0, -0.2, -0.2]])
        broken = values[1:].sum() > 1.2 and row[0] @ values > tolerance
        return (row, np.zeros(1)) if broken else (row[:0], np.zeros(0))

    def digest(self) -> str:
        """See `RowGenerator`."""
        return "rich"


def test_generated_rows_that_depend_on_the_size_are_found_out():
    base = portfolio(1.0, risk_limit=False)

    def build(node: sddp.Node) -> sddp.Stage:
        stage = portfolio_stage(node, 1.0, declared=True, risk_limit=False)
        m = stage.model
        return replace(stage, rows=RichOnly(), row_variables=[m.c, m.c_in, m.a_in])

    with pytest.raises(ModelError, match="declares homogeneous=True, but its value at a state"):
        train(sddp.Problem(base.graph, build, cost_to_go_bound=100.0), 5)


def test_a_cone_passes_the_check_silently():
    for seed in range(5):
        train(portfolio(1.0), 3, seed)


def portfolio_in_units(unit: float, money: float, row: float) -> sddp.Problem:
    """The asset counted in `unit`, its balance in `row`, the gain in `money`."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.c_in, m.a_in = pyo.Var(), pyo.Var()
        m.c, m.a, m.buy, m.sell = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(4))
        m.asset = pyo.Constraint(expr=row * m.a == row * (m.a_in + unit * (m.buy - m.sell)))
        m.cash = pyo.Constraint(expr=m.c == m.c_in - 1.01 * m.buy + 0.99 * m.sell)
        m.share = pyo.Constraint(expr=m.a / unit <= 0.5 * (m.c_in + m.a_in / unit))
        last = node.stage == 2
        gain = money * (m.c + m.a / unit) if last else 0.0 * m.c
        m.gain = pyo.Objective(expr=gain, sense=pyo.maximize)
        states = {"c": sddp.State(m.c_in, m.c, 1.0), "a": sddp.State(m.a_in, m.a, 0.0)}
        transition = sddp.LinearTransition(scale=[[1.0, 1.3], [1.0, 0.9]])
        return sddp.Stage(m, states, transition=transition, homogeneous=True)

    return sddp.Problem(sddp.linear_graph(3), build, cost_to_go_bound=100.0 * money)


@pytest.mark.parametrize("row", [1.0, 1e5])
@pytest.mark.parametrize("money", [1.0, 1e-6, 1e11])
@pytest.mark.parametrize("unit", [1.0, 1e-6, 1e-3, 1e3, 1e9])
def test_answers_do_not_depend_on_the_unit(unit, money, row):
    """A bound 9 % below the optimum stood as exact where the asset was counted in 1e-9."""
    problem = portfolio_in_units(unit, money, row)
    exact = 1.096356875
    result = train(problem, 15)
    assert result.bound == pytest.approx(exact * money, rel=1e-8)
    assert sddp.extensive_form(problem).solve().value == pytest.approx(exact * money, rel=1e-8)
    certificate = result.policy.certificate()
    assert certificate.value == pytest.approx(exact * money, rel=1e-6)
