"""A policy's answers by compiled visits: values of HiGHS, and no trace of earlier questions."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest

import sddp
from sddp.engine.policy.policy import Policy, load_policy
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.training.stopping import Iterations
from sddp.errors import NumericalWarning
from tests.allocation.problems import random_case

Question = tuple[object, np.ndarray]


@pytest.fixture(scope="module")
def policy() -> Policy:
    """Of a small allocation, trained by compiled visits."""
    problem = random_case(5, T=4, K=2, S=24, N=4).problem().engine
    result = sddp.train(problem, rng=1, stopping=Iterations(15), progress=False)
    assert result.stage_solver == result.policy.checkpoint.stage_solver == "compiled"
    return result.policy


@pytest.fixture(scope="module")
def questions(policy) -> list[Question]:
    """Nodes and states along simulated paths."""
    table = policy.simulate(12, rng=2)
    states = table[[f"{label}.in" for label in policy.problem.labels]].to_numpy()
    return list(zip(table["node"], states, strict=True))


def numbers(policy: Policy, question: Question) -> tuple[float, ...]:
    solution, size = policy.solve_step(*question, 0)
    assert isinstance(solution, StageSolution)
    cut = solution.cut
    return (
        *(solution.value, solution.theta, cut.intercept, size),
        *solution.columns,
        *solution.outgoing,
        *cut.slope,
    )


def test_answers_have_the_values_of_highs(policy, questions):
    by_highs = Policy(policy.problem, replace(policy.checkpoint, stage_solver="highs"))
    settled = 0
    for node, state in questions:
        settled += policy._answers.solve(node, policy.problem.normalized(state)[0], 0) is not None
        solution, size = policy.solve_step(node, state, 0)
        expected, _ = by_highs.solve_step(node, state, 0)
        assert size * solution.value == pytest.approx(size * expected.value, rel=1e-8)
    assert settled > 0.9 * len(questions)


def test_answers_do_not_depend_on_earlier_ones(policy, questions, tmp_path):
    policy.save(tmp_path / "policy.json")
    loaded = load_policy(tmp_path / "policy.json")
    assert loaded.checkpoint.stage_solver == "compiled"
    expected = [numbers(policy, question) for question in questions]
    copy = pickle.loads(pickle.dumps(policy))
    order = np.random.default_rng(3).permutation(len(questions))
    for other in (copy, loaded, policy):
        assert [numbers(other, questions[i]) for i in order] == [expected[i] for i in order]


def test_no_answer_depends_on_what_the_scratch_holds(policy, questions):
    expected = [numbers(policy, question) for question in questions]
    scratch = policy._answers._subproblems.visitor.scratch
    for name, array in scratch._asdict().items():
        if array.dtype == float and name not in ("row", "row_state"):  # zero between uses
            for question, wanted in zip(questions[:6], expected, strict=False):
                array[:] = np.nan
                assert numbers(policy, question) == wanted, name


def test_without_numba_highs_answers_and_says_so(policy, questions, monkeypatch):
    copy = Policy(policy.problem, policy.checkpoint)
    monkeypatch.setitem(sys.modules, "sddp.engine.policy.compiled_answers", None)
    with pytest.warns(NumericalWarning, match="HiGHS answers"):
        solution, _ = copy.solve_step(*questions[0], 0)
    assert solution.value == pytest.approx(policy.solve_step(*questions[0], 0)[0].value, rel=1e-8)


def test_a_policy_of_highs_is_answered_by_highs():
    problem = random_case(5).problem().engine
    result = sddp.train(
        problem, rng=1, stopping=Iterations(3), stage_solver="highs", progress=False
    )
    assert result.policy._answers is None
