"""The problems of `engine_cases.md` with their known optimal values, in every cut form.

Values and first decisions are those of the case list, which re-solved every problem
independently of this package. Where it prints enough digits (or an exact fraction) they are
asserted at the LP solver's tolerance, else to half a unit of the last printed digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.optimize import minimize_scalar

import sddp
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.support import (
    BY_NAME,
    CUT_FORMS,
    SOLVER,
    Reaches,
    assert_never_worse,
    train,
)


def eavar(weight: float, tail: float) -> sddp.risk.RiskMeasure:
    """``weight E + (1 - weight) AVaR_tail``, as in the case list."""
    return weight * sddp.Expectation() + (1.0 - weight) * sddp.AVaR(tail)


@dataclass(frozen=True)
class Case:
    """A problem, how risk is taken, and what is known of its solution."""

    name: str
    build: Callable[[], sddp.Problem]
    value: float
    half_unit: float | None = None  # where the value is printed with few digits
    options: Mapping[str, Any] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)  # variables of the first decision
    first_tolerance: float = 1e-6

    @property
    def tolerance(self) -> float:
        """Absolute."""
        return self.half_unit or SOLVER * max(1.0, abs(self.value))


LATE_RISK = {(2, 0): eavar(0.5, 0.5), (2, 1): eavar(0.5, 0.5)}
ACYCLIC = (
    Case("A1", stagewise.a1, -2.0),
    Case("A3", stagewise.a3, -23.96),
    Case("A8", stagewise.a8, 62500.0, first={"u": 200.0, "x": 100.0}),
    Case(
        "A9",
        stagewise.a9,
        108390.0,
        first={"area[wheat]": 170.0, "area[corn]": 80.0, "area[beet]": 250.0},
    ),
    Case("A11", stagewise.a11, 25000 / 3),
    Case("A11b", stagewise.a11b, 10625.0),
    Case("A14", stagewise.a14, -5.4725),
    Case("A16a", stagewise.a16a, 400.0),
    Case("A16b", stagewise.a16b, 650.0),
    Case("A16c", stagewise.a16c, 410.0),
    Case("A19", stagewise.a19, 35 / 11, first={"b": 7.0}),
    Case("B1", markov.b1, 1.51408464285714, first={"s": 41.4792722935, "b": 13.5207277065}),
    Case("B1-costs", lambda: markov.b1(cost=0.01), 3.14773240777, first={"b": 55.0}),
    Case("B1-risk", markov.b1, 6.850773125, options={"risk": eavar(0.5, 0.5)}, first={"b": 55.0}),
    Case(
        "B1-costs-risk",
        lambda: markov.b1(cost=0.01),
        6.850773125,
        options={"risk": eavar(0.5, 0.5)},
        first={"b": 55.0},
    ),
    Case("B2", markov.b2, 4074.1391, 0.5e-4, first={"acres": 42.8}, first_tolerance=0.05),
    Case("B7", markov.b7, 96875 / 12),
    Case(
        "C1",
        markov.c1,
        1.27841009240,
        options={"risk": LATE_RISK},
        first={"xs": 50.8416875522, "xb": 4.1583124478},
    ),
    Case("C1-neutral", markov.c1, 4.43516797095),
    Case("C1-all-nodes", markov.c1, -5.7611, 0.5e-4, {"risk": eavar(0.5, 0.5)}),
    Case("C2", markov.c2, 855.0),
    Case("C2-risk", markov.c2, 828.1572543618, options={"risk": eavar(0.5, 0.66)}),
    Case("C9", reservoir.c9, 275 / 6),
    Case("C9-tail", reservoir.c9, 1105 / 6, options={"risk": sddp.AVaR(1 / 3)}),
    Case(
        "C9-root-tail",
        reservoir.c9,
        250.0,
        options={"risk": sddp.AVaR(1 / 3), "root_risk": sddp.AVaR(1 / 3)},
    ),
)
# Refinement of rows to 1e-9 a stage would add up to 1e-8 over an expected ten stages. 1e-10 is
# the least that stays above the accuracy of the LPs.
FINE = {"tolerances": sddp.Tolerances(final=1e-10)}
CYCLIC = (
    Case("D1", reservoir.d1, 20.0, options=FINE),
    Case("D3", reservoir.d3, 715 / 6, options=FINE),
)
NAMES = {"ids": lambda case: case.name}


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("case", ACYCLIC, **NAMES)
def test_training_reaches_the_known_value(case, cuts):
    problem = case.build()
    stopping = sddp.Iterations(60) | Reaches(case.value)
    result = train(problem, stopping, cuts=cuts, **case.options)
    assert result.bound == pytest.approx(case.value, rel=0.0, abs=case.tolerance)
    assert result.log["bound"].iloc[-1] == pytest.approx(case.value, rel=0.0, abs=case.tolerance)
    assert result.active_bounds == ()
    assert result.log["warnings"].iloc[-1] == 0
    assert_never_worse(result, problem.sign)
    assert_first_decision(case, first_decision(problem, result.policy))


@pytest.mark.parametrize("case", ACYCLIC, **NAMES)
def test_the_extensive_form_has_the_known_value(case):
    solution = sddp.extensive_form(case.build(), **case.options).solve()
    assert solution.value == pytest.approx(case.value, rel=0.0, abs=case.tolerance)
    if case.first:
        (first,) = solution.first
        assert_first_decision(case, first[2])


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("case", CYCLIC, **NAMES)
def test_a_discounted_loop_reaches_the_known_value(case, cuts):
    problem = case.build()
    stopping = sddp.Iterations(300) | Reaches(case.value, 0.9 * SOLVER)
    result = train(problem, stopping, cuts=cuts, **case.options)
    assert result.bound == pytest.approx(case.value, rel=0.0, abs=case.tolerance)
    # Each of many rows may be broken by the LP's tolerance, here or in the iteration before.
    assert_never_worse(result, problem.sign, SOLVER)


@pytest.mark.long
def test_the_constant_cost_does_not_depend_on_the_state():
    """D1: any initial state has the value 20."""
    policy = train(reservoir.d1(), 100).policy
    for state in (-3.0, 0.0, 1e3):
        assert policy.value("node", {"x": state}) == pytest.approx(20.0, rel=1e-6)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_a_false_bound_gives_the_wrong_value_and_says_so(cuts):
    """A14 with M = 0: SDDP converges to -1.375 (the case list's value), and must warn."""
    with pytest.warns(sddp.errors.BoundWarning, match=r"still active at \[0\]"):
        result = train(stagewise.a14(cost_to_go_bound=0.0), 30, cuts=cuts)
    assert result.bound == pytest.approx(-1.375, rel=SOLVER)
    assert result.active_bounds == (0,)


@pytest.mark.long
def test_risk_is_taken_jointly_over_everything_between_two_decisions():
    """C2: nesting the measure over the price and then the rain gives 828.037, not 828.157."""
    case = next(case for case in ACYCLIC if case.name == "C2-risk")
    result = train(case.build(), 60, **case.options)
    assert result.bound == pytest.approx(828.1572543618, rel=SOLVER)
    assert abs(result.bound - 828.037) > 0.1


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("sense", [pyo.minimize, pyo.maximize])
def test_entropic_risk_of_costs_that_add_up(sense, cuts):
    """Costs w of 0, 1 or 3 in each of three stages, nothing to decide.

    The measure is additive over independent stages: the value is the mean of the first stage
    plus twice ``log E exp(g w) / g`` (for rewards ``-log E exp(-g w) / g``).
    """
    g, w, p = 0.7, np.array([0.0, 1.0, 3.0]), np.array([0.5, 0.3, 0.2])
    sign = 1.0 if sense == pyo.minimize else -1.0

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.w = pyo.Param(mutable=True, initialize=0.0)
        m.x_in, m.x, m.pay = pyo.Var(), pyo.Var(bounds=(0, 1)), pyo.Var()
        m.keep = pyo.Constraint(expr=m.x == m.x_in)
        m.paid = pyo.Constraint(expr=m.pay == m.w)
        m.total = pyo.Objective(expr=m.pay, sense=sense)
        noise = sddp.Noise([{"w": value} for value in w], p)
        return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=0.5)}, noise=noise)

    problem = sddp.Problem(sddp.linear_graph(3), build)
    exact = p @ w + 2 * sign * np.log(p @ np.exp(sign * g * w)) / g
    result = train(problem, 10, cuts=cuts, risk=sddp.Entropic(g))
    assert result.bound == pytest.approx(exact, rel=SOLVER)
    rooted = train(problem, 10, cuts=cuts, risk=sddp.Entropic(g), root_risk=sddp.Entropic(g))
    exact = 3 * sign * np.log(p @ np.exp(sign * g * w)) / g
    assert rooted.bound == pytest.approx(exact, rel=SOLVER)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_entropic_risk_of_a_decision(cuts):
    """A19 with entropic risk: a function of one purchase, maximised by scipy on its breakpoints."""
    g, demands = 0.4, np.arange(11.0)

    def worth(b: float) -> float:
        earned = 2 * np.minimum(b, demands) + 0.5 * np.maximum(b - demands, 0.0)
        return -b - np.log(np.mean(np.exp(-g * earned))) / g

    pieces = [
        minimize_scalar(lambda b: -worth(b), bounds=(k, k + 1), method="bounded") for k in range(10)
    ]
    exact = max([-piece.fun for piece in pieces] + [worth(k) for k in range(11)])
    result = train(stagewise.a19(), 60, cuts=cuts, risk=sddp.Entropic(g))
    # Rows are refined to 1e-9 of the largest stage cost, which is 20.
    assert result.bound == pytest.approx(exact, abs=2e-8)
    assert result.bound >= exact - 1e-9


def first_decision(problem: sddp.Problem, policy: sddp.Policy) -> Mapping[str, float]:
    """Variables decided at the only first node, at its first noise."""
    ((node, _),) = problem.graph.children("root")
    state = problem.stages[node].states.label(problem.initial_state(node))
    return policy.decide(node, state, 0).variables


def assert_first_decision(case: Case, variables: Mapping[str, float]) -> None:
    """Only what the case list states; unique there."""
    for name, value in case.first.items():
        assert variables[name] == pytest.approx(value, rel=0.0, abs=case.first_tolerance), name
