"""Feasibility cuts refuse infeasible states and no feasible one.

Whether a state is feasible is asked of scipy, with every row written out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.optimize import linprog

import sddp
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblems import build_subproblems
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, time_limit, train

N_STATE, N_DECISIONS, N_HIDDEN = 3, 4, 40


@dataclass(frozen=True, eq=False)
class Stage:
    """``own y >= need x + a``, ``hidden y <= give x + b``, ``0 <= y`` over state x, decision y.

    The rows of `hidden` are found by a generator; `a` and `b` are 0 for a cone.
    """

    own: np.ndarray
    need: np.ndarray
    a: np.ndarray
    hidden: np.ndarray
    give: np.ndarray
    b: np.ndarray

    def feasible(self, x: np.ndarray, room: float = 0.0) -> bool:
        """By scipy; `room` closes (or, negative, opens) every row a little."""
        result = linprog(
            np.zeros(N_DECISIONS),
            A_ub=np.vstack([-self.own, self.hidden]),
            b_ub=np.concatenate([-self.need @ x - self.a, self.give @ x + self.b]) - room,
            method="highs-ds",
        )
        assert result.status in (0, 2)
        return bool(result.status == 0)


def random_stage(rng: np.random.Generator, *, cone: bool) -> Stage:
    """Rows of very different sizes; about half of the states in the unit box are feasible."""
    sizes = 10.0 ** rng.uniform(-2.0, 2.0, (N_HIDDEN, 1))
    hidden = rng.uniform(0.0, 1.0, (N_HIDDEN, N_DECISIONS)) * sizes
    give = rng.uniform(0.5, 1.5, (N_HIDDEN, N_STATE)) * sizes
    need = rng.normal(0.0, 1.2, (2, N_STATE)) + 0.6
    own = rng.uniform(0.2, 1.0, (2, N_DECISIONS))
    none = 0.0 if cone else 1.0
    a, b = none * rng.normal(0.0, 0.3, 2), none * rng.uniform(0.0, 0.5, N_HIDDEN) * sizes[:, 0]
    return Stage(own, need, a, hidden, give, b)


@dataclass(frozen=True, eq=False)
class Hidden:
    """Writes the most broken rows."""

    stage: Stage
    pool_key: str = "hidden"

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        rows = np.hstack([self.stage.hidden, -self.stage.give])
        excess = rows @ values - self.stage.b
        worst = np.argsort(-excess)[:3]
        worst = worst[excess[worst] > tolerance]
        return rows[worst], self.stage.b[worst]

    def digest(self) -> str:
        """See `RowGenerator`."""
        return "hidden"


def problem(stage: Stage, *, cone: bool) -> sddp.Problem:
    """First choose a state in the box (a share of what comes in), then live with it."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        i, j = range(N_STATE), range(N_DECISIONS)
        m.x_in, m.x = pyo.Var(i), pyo.Var(i, domain=pyo.NonNegativeReals)
        states = {"x": sddp.State(m.x_in, m.x, initial=1.0)}
        if node.stage == 0:
            m.share = pyo.Constraint(i, rule=lambda m, k: m.x[k] <= m.x_in[k])
            m.cost = pyo.Objective(expr=sum((1.0 - 0.8 * k) * m.x[k] for k in i))
            return sddp.Stage(m, states, homogeneous=cone)
        m.y = pyo.Var(j, domain=pyo.NonNegativeReals)
        m.own = pyo.Constraint(
            range(2),
            rule=lambda m, r: (
                sum(stage.own[r, k] * m.y[k] for k in j)
                >= sum(stage.need[r, k] * m.x_in[k] for k in i) + stage.a[r]
            ),
        )
        m.same = pyo.Constraint(i, rule=lambda m, k: m.x[k] == m.x_in[k])
        m.cost = pyo.Objective(expr=sum(m.y[k] for k in j))
        variables = [*m.y.values(), *m.x_in.values()]
        return sddp.Stage(m, states, rows=Hidden(stage), row_variables=variables, homogeneous=cone)

    return sddp.Problem(sddp.linear_graph(2), build)


@pytest.mark.parametrize("cone", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_cuts_reject_the_state_and_no_feasible_one(seed, cone):
    """The node goes on from state to state, so rows of earlier ones stand in its LP."""
    rng = np.random.default_rng(seed)
    stage = random_stage(rng, cone=cone)
    stated = problem(stage, cone=cone)
    node = build_subproblems(stated, None, sddp.LazyAggregation())[1]
    units = stated.scaling(node.compiled).columns[node.compiled.incoming]
    points = rng.uniform(0.0, 1.0, (60, N_STATE))
    good = [x for x in points if stage.feasible(x)]
    cuts = []
    for x in points:
        answer = node.solve(x, 0, SOLVER)
        if stage.feasible(x, room=1e-7):
            assert isinstance(answer, StageSolution)
        if not stage.feasible(x, room=-1e-6):
            assert isinstance(answer, Infeasibility)
        if isinstance(answer, Infeasibility):
            cuts.append(answer.cut)
            assert answer.shortfall > 0.0
            assert answer.cut.intercept + answer.cut.slope @ x > 0.0
            assert (np.abs(answer.cut.slope) * units).max() == pytest.approx(1.0)
    assert len(cuts) > 3
    assert len(good) > 3
    for cut in cuts:
        assert (cut.intercept == 0.0) == cone
        assert max(cut.intercept + cut.slope @ x for x in good) <= 1e-8


@pytest.mark.parametrize("cone", [False, True])
def test_the_shortfall_is_the_least_total_violation(cone):
    """Static rows may be broken one by one, added ones all by one amount: scipy's value of it."""
    rng = np.random.default_rng(3)
    stage = random_stage(rng, cone=cone)
    network = build_subproblems(problem(stage, cone=cone), None, sddp.LazyAggregation())
    node, seen = network[1], 0
    for x in rng.uniform(0.0, 1.0, (40, N_STATE)):
        answer = node.solve(x, 0, SOLVER)
        if isinstance(answer, StageSolution):
            continue
        seen += 1
        table = node.stage_lp.rows
        n = N_DECISIONS
        y = [list(node.stage.kept).index(c) for c in node.compiled.generator_columns[:n]]
        result = linprog(
            np.concatenate([np.zeros(n), np.ones(3)]),
            A_ub=np.vstack(
                [
                    np.hstack([-stage.own, -np.eye(2), np.zeros((2, 1))]),
                    np.hstack(
                        [
                            -table.coefficients[:, y],
                            np.zeros((len(table), 2)),
                            -np.ones((len(table), 1)),
                        ]
                    ),
                ]
            ),
            b_ub=np.concatenate(
                [-stage.need @ x - stage.a, table.coefficients[:, :N_STATE] @ x - table.lower]
            ),
            method="highs-ds",
        )
        assert answer.shortfall == pytest.approx(result.fun, rel=1e-7, abs=1e-9)
    assert seen > 3


@pytest.mark.parametrize("cone", [False, True])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_training_ends_at_the_value_with_all_rows_written(cuts, cone):
    """Over state and decision at once, by scipy."""
    for seed in (1, 4):
        stage = random_stage(np.random.default_rng(seed), cone=cone)
        cost = np.concatenate([1.0 - 0.8 * np.arange(N_STATE), np.ones(N_DECISIONS)])
        result = linprog(
            cost,
            A_ub=np.vstack(
                [np.hstack([stage.need, -stage.own]), np.hstack([-stage.give, stage.hidden])]
            ),
            b_ub=np.concatenate([-stage.a, stage.b]),
            bounds=[(0.0, 1.0)] * N_STATE + [(0.0, None)] * N_DECISIONS,
            method="highs-ds",
        )
        assert result.status == 0
        with time_limit(20):
            trained = train(problem(stage, cone=cone), 40, cuts=cuts)
        assert trained.bound == pytest.approx(result.fun, rel=1e-8, abs=1e-8)
