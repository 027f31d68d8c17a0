"""Nodes of a policy are built and settled when first asked for: the order does not show.

Every comparison is bit by bit, with a policy that was asked nothing before.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.policy.policy import Decision, Policy
from sddp.engine.presolve.compile import presolve_stage
from tests.engine.cases import markov
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, train
from tests.engine.test_generated_rows import TANGENTS, Circle, circle, circle_stage
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_recourse import tank

TAIL = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)
PROBLEMS = {
    "markov": markov.c2,
    "rows": partial(circle, lazily=True),
    "infeasible-states": lambda: tank(3.0),
    "homogeneous": lambda: portfolio(1.0),
}
Question = tuple[Any, dict[str, Any], int]


def state(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """From which there is a decision."""
    return {
        "markov": lambda: {"r": rng.uniform(0.0, 200.0, 2)},
        "rows": lambda: {"r": rng.uniform(0.1, 3.0)},
        "infeasible-states": lambda: {"x": rng.uniform(8.0, 12.0)},
        "homogeneous": lambda: dict(zip("ca", rng.uniform(0.1, 2.0, 2), strict=True)),
    }[name]()


@cache
def trained(name: str, cuts: sddp.CutForm) -> Policy:
    """Few iterations: some nodes were seldom visited, and no row is idle yet."""
    return train(PROBLEMS[name](), 7, cuts=cuts, risk=TAIL).policy


def questions(name: str, policy: Policy, n: int = 24) -> list[Question]:
    rng = np.random.default_rng(2)
    found = []
    for number in range(n):
        node = policy.nodes[number % len(policy.nodes)]
        n_noises = policy.problem.stages[node].noise.n_realisations
        found.append((node, state(name, rng), int(rng.integers(n_noises))))
    return found


def bits(decision: Decision) -> tuple:
    """Everything a decision says."""
    numbers = [decision.stage_objective, decision.cost_to_go, *decision.slope.tolist()]
    return tuple(decision.variables.items()), tuple(number.hex() for number in numbers)


def fresh(policy: Policy) -> Policy:
    """The same policy, asked nothing yet."""
    return Policy(policy.problem, policy.checkpoint)


def alone(policy: Policy, asked: list[Question]) -> list[tuple]:
    """Each question is the first that a policy is asked."""
    return [bits(fresh(policy).decide(*question)) for question in asked]


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_answers_do_not_depend_on_the_order_of_questions(name, cuts, tmp_path):
    """In order, backwards and shuffled; from the file; after simulations, bounds and training."""
    policy = trained(name, cuts)
    asked = questions(name, policy)
    expected = alone(policy, asked)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(asked))
        other = fresh(policy)
        answers = {int(i): bits(other.decide(*asked[i])) for i in order}
        assert [answers[i] for i in range(len(asked))] == expected
    policy.save(tmp_path / "policy")
    loaded = sddp.load_policy(tmp_path / "policy", PROBLEMS[name]())
    assert [bits(loaded.decide(*question)) for question in asked[::-1]][::-1] == expected
    busy = fresh(policy)
    busy.simulate(3, rng=np.random.default_rng(0))
    assert busy.bound == policy.bound == loaded.bound
    train(busy.problem, 2, start=busy)
    assert [bits(busy.decide(*question)) for question in asked] == expected


@pytest.mark.parametrize("name", PROBLEMS)
def test_threads_get_the_same_answers(name):
    """Four at once, from a policy whose nodes are not built yet."""
    policy = trained(name, sddp.LazyAggregation())
    asked = questions(name, policy)
    expected = alone(policy, asked)
    for _ in range(3):
        shared = fresh(policy)
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda q, p=shared: bits(p.decide(*q)), asked * 2))
        assert answers == expected * 2


@pytest.mark.parametrize("solver", ["highs", "compiled"])
def test_a_policy_settles_only_nodes_that_are_asked_for(solver):
    result = train(PROBLEMS["markov"](), 7, risk=TAIL, stage_solver=solver)
    policy = result.policy
    settled = policy._starts if solver == "highs" else policy._answers._starts
    assert len(settled) == 0
    policy.decide((1, 0), {"r": [100.0, 100.0]}, 0)
    assert list(settled) == [(1, 0)]


# ---------------------------------------------------------------- one preparation, many generators


@dataclass(frozen=True, eq=False)
class Half(Circle):
    """Half of the tangents, and a circle of half the radius."""

    pool_key: str = "half"

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        rows = np.column_stack([TANGENTS[::2], np.full(32, -0.5)])
        excess = rows @ values
        worst = int(excess.argmax())
        chosen = [worst] if excess[worst] > tolerance else []
        return rows[chosen], np.zeros(len(chosen))


def stage_with(kind: type[Circle] | None) -> sddp.Stage:
    """The stage of `circle` in one direction, without noise."""
    stage = circle_stage(lazily=True)
    m = stage.model
    m.a.set_value(0.7)
    m.b.set_value(0.6)
    return replace(stage, noise=None, rows=kind() if kind else None)


@pytest.mark.parametrize("risk", [None, sddp.AVaR(0.4)])
def test_a_prepared_stage_with_other_rows_is_the_stage_declared_with_them(risk):
    policy = trained("rows", sddp.LazyAggregation())
    declared = stage_with(Circle)
    ready = presolve_stage(declared, "decision")
    other = ready.with_rows(Half())
    arcs = [(1, 0.6), (2, 0.4)]

    def ask(stage: Any, radius: float) -> tuple:
        return bits(policy.decide_before(stage, arcs, {"r": radius}, risk=risk))

    for radius in (0.4, 1.0, 2.5):
        large, small = ask(stage_with(Circle), radius), ask(stage_with(Half), radius)
        assert large != small
        assert ask(ready, radius) == large
        assert ask(other, radius) == small
        assert ask(ready, radius) == large  # and is not changed by what was asked between
        shape = policy.decide_before(other, arcs, {"r": radius}, risk=risk).variables
        assert (TANGENTS[::2] @ [shape["x"], shape["y"]]).max() == pytest.approx(
            0.5 * radius, rel=1e-7
        )


def test_prepared_decisions_from_threads():
    policy = trained("rows", sddp.LazyAggregation())
    ready = presolve_stage(stage_with(Circle), "decision")
    radii = [0.2 + 0.1 * k for k in range(20)]

    def ask(radius: float) -> tuple:
        before = bits(policy.decide_before(ready, [(1, 1.0)], {"r": radius}))
        return before, bits(policy.decide(1, {"r": radius}, 1))

    expected = [ask(radius) for radius in radii]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, radii)) == expected


def test_rows_of_a_prepared_stage_can_be_taken_away_or_given():
    """Without them only the box of 5 holds: by hand."""
    policy = trained("rows", sddp.LazyAggregation())
    free = presolve_stage(stage_with(Circle), "decision").with_rows(NoRows())
    decision = policy.decide_before(free, [(1, 1.0)], {"r": 1.0})
    assert decision.variables["x"] == pytest.approx(5.0, rel=SOLVER)
    assert decision.variables["y"] == pytest.approx(5.0, rel=SOLVER)
    assert isinstance(decision.stage_objective, float)
    assert pyo.value(stage_with(Circle).model.a) == 0.7


class NoRows:
    """Everything is allowed."""

    pool_key = "none"

    def violated(self, values: np.ndarray, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
        """See `RowGenerator`."""
        return np.zeros((0, len(values))), np.zeros(0)

    def digest(self) -> str:
        """See `RowGenerator`."""
        return "none"
