"""Constraints written only when broken: the same answers as with all of them written out.

The constraints are the tangents ``cos(a) x + sin(a) y <= 1`` of a circle, 64 of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import ModelError
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train

ANGLES = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
TANGENTS = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])


@dataclass(frozen=True, eq=False)
class Circle:
    """Writes the tangent that a point breaks most: ``a x + b y <= radius``."""

    pool_key: str = "circle"

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`; the third variable is the radius, an incoming state."""
        rows = np.column_stack([TANGENTS, -np.ones(len(TANGENTS))])
        excess = rows @ values
        worst = int(excess.argmax())
        chosen = [worst] if excess[worst] > tolerance else []
        return rows[chosen], np.zeros(len(chosen))

    def digest(self) -> str:
        """See `RowGenerator`."""
        return "64 tangents"


def circle_stage(*, lazily: bool) -> sddp.Stage:
    """Go far in a random direction within a circle whose radius the stage before paid for."""
    m = pyo.ConcreteModel()
    m.r_in, m.r = pyo.Var(), pyo.Var(bounds=(0, 3))
    m.x, m.y = pyo.Var(bounds=(-5, 5)), pyo.Var(bounds=(-5, 5))
    m.a, m.b = (pyo.Param(mutable=True, initialize=0.0) for _ in range(2))
    if not lazily:
        m.inside = pyo.Constraint(
            range(64),
            rule=lambda m, i: TANGENTS[i, 0] * m.x + TANGENTS[i, 1] * m.y <= m.r_in,
        )
    m.cost = pyo.Objective(expr=0.8 * m.r - m.a * m.x - m.b * m.y)
    directions = [(1.0, 0.3), (-0.5, 0.9), (0.2, -0.4)]
    return sddp.Stage(
        m,
        {"r": sddp.State(m.r_in, m.r, initial=1.0)},
        noise=sddp.Noise([{"a": a, "b": b} for a, b in directions], [0.5, 0.3, 0.2]),
        rows=Circle() if lazily else None,
        row_variables=[m.x, m.y, m.r_in],
    )


def circle(*, lazily: bool) -> sddp.Problem:
    """Three stages of `circle_stage`."""
    return sddp.Problem(sddp.linear_graph(3), lambda node: circle_stage(lazily=lazily))


@dataclass(frozen=True, eq=False)
class Scaled(Circle):
    """The tangents in other units of lengths and of rows."""

    row: float = 1.0

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        rows, upper = super().violated(self.row * values, tolerance)
        return self.row * rows, upper


def scaled_circle(length: float, money: float, row: float) -> sddp.Problem:
    """Three stages of `circle_stage` with lengths counted in `1/length`, costs in `1/money`."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.r_in, m.r = pyo.Var(), pyo.Var(bounds=(0, 3 * length))
        m.x, m.y = (pyo.Var(bounds=(-5 * length, 5 * length)) for _ in range(2))
        m.a, m.b = (pyo.Param(mutable=True, initialize=0.0) for _ in range(2))
        price = money / length
        m.cost = pyo.Objective(expr=0.8 * price * m.r - price * (m.a * m.x + m.b * m.y))
        directions = [(1.0, 0.3), (-0.5, 0.9), (0.2, -0.4)]
        return sddp.Stage(
            m,
            {"r": sddp.State(m.r_in, m.r, initial=length)},
            noise=sddp.Noise([{"a": a, "b": b} for a, b in directions], [0.5, 0.3, 0.2]),
            rows=Scaled(row=row),
            row_variables=[m.x, m.y, m.r_in],
        )

    return sddp.Problem(sddp.linear_graph(3), build)


@pytest.mark.parametrize(
    ("length", "money", "row"),
    [(1e-6, 1.0, 1.0), (1e9, 1e-3, 1.0), (1.0, 1e6, 1e-7), (1e-8, 1e9, 1e6), (1e6, 1.0, 1e6)],
)
def test_answers_do_not_depend_on_the_units_of_generated_rows(length, money, row):
    """Tolerances in the unit of the rows let rows of a millionth be broken by a thousandth."""
    problem = scaled_circle(length, money, row)
    result = train(problem, 30)
    assert result.bound / money == pytest.approx(exact(), rel=SOLVER)
    assert sddp.extensive_form(problem).solve().value / money == pytest.approx(exact(), rel=SOLVER)
    certificate = result.policy.certificate()
    assert certificate.value is not None
    assert certificate.value / money == pytest.approx(exact(), rel=2e-3)
    assert certificate.value / money >= exact() - 1e-9 * abs(exact())


@dataclass(frozen=True, eq=False)
class Broken(Circle):
    """Returns a number that is none in a coefficient or on the right-hand side."""

    in_upper: bool = False

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        rows, upper = Circle.violated(self, values, tolerance)
        return (rows, upper + np.inf) if self.in_upper else (rows * np.nan, upper)


@pytest.mark.parametrize("in_upper", [False, True])
def test_generated_rows_that_are_no_numbers_are_rejected(in_upper):
    def build(node: sddp.Node) -> sddp.Stage:
        stage = circle_stage(lazily=True)
        return replace(stage, rows=Broken(in_upper=in_upper))

    problem = sddp.Problem(sddp.linear_graph(3), build)
    with pytest.raises(ModelError, match=r"node \d: the row generator Broken.* is not finite"):
        train(problem, 3)


@cache
def exact() -> float:
    """Value with every tangent written out."""
    return sddp.extensive_form(circle(lazily=False)).solve().value


def test_the_extensive_form_generates_them_too():
    value = sddp.extensive_form(circle(lazily=True)).solve().value
    assert value == pytest.approx(exact(), rel=SOLVER)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_training_reaches_the_same_value(cuts):
    result = train(circle(lazily=True), 40, cuts=cuts)
    assert result.bound == pytest.approx(exact(), rel=SOLVER)


def test_a_policy_keeps_rows_that_a_question_needs_to_itself():
    """Answers do not depend on what was asked before, rows found on the way included."""
    policy = train(circle(lazily=True), 40).policy
    questions = [(0.1 * k, k % 3) for k in range(12)]
    first = [policy.decide(1, {"r": r}, w) for r, w in questions]
    again = [policy.decide(1, {"r": r}, w) for r, w in reversed(questions)][::-1]
    assert [d.variables for d in first] == [d.variables for d in again]
    for decision, (r, _) in zip(first, questions, strict=True):
        reached = TANGENTS @ [decision.variables["x"], decision.variables["y"]]
        assert reached.max() <= r + 10 * SOLVER


def test_slopes_count_generated_rows():
    """The radius is worth what the tangents' duals say: by finite differences."""
    policy = train(circle(lazily=True), 40).policy
    for w in range(3):
        slope = policy.decide(2, {"r": 1.5}, w).slope[0]
        ends = [policy.value(2, {"r": 1.5 + step}, w) for step in (-1e-3, 1e-3)]
        assert slope == pytest.approx((ends[1] - ends[0]) / 2e-3, abs=1e-6)
