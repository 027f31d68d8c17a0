"""Trainings by compiled visits: the values of HiGHS, the same bits for one and two threads."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import sddp
from sddp.engine.compiled import runner
from sddp.engine.training.stopping import BoundStalling, Iterations
from sddp.errors import ModelError, NumericalWarning
from tests.allocation.problems import medium_case, random_case
from tests.engine.compiled.replay import with_noise_in_sides
from tests.engine.instances import TRANSITIONS, random_instance

CONVERGED = BoundStalling(tolerance=1e-10, iterations=25) | Iterations(400)


def bound(problem: sddp.Problem, solver: str, **options: object) -> float:
    result = sddp.train(
        problem, rng=3, stopping=CONVERGED, stage_solver=solver, progress=False, **options
    )
    return result.bound


@pytest.fixture
def judged(monkeypatch):
    """Every visit of a pass is solved by HiGHS too."""
    monkeypatch.setattr(runner, "JUDGED_EVERY", 1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_a_small_allocation_reaches_its_exact_value(seed, judged):
    case = random_case(seed, T=3, K=2, S=3, N=2)
    assert bound(case.problem().engine, "compiled") == pytest.approx(case.exact(), rel=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("transition", TRANSITIONS)
def test_general_problems_reach_the_value_of_highs(transition, judged):
    for seed in range(2):
        problem = random_instance(seed, graph="markov", transition=transition, noise=1).problem()
        exact = sddp.extensive_form(problem).solve().value
        assert bound(problem, "compiled") == pytest.approx(exact, rel=1e-7, abs=1e-7)


@pytest.mark.long
@pytest.mark.parametrize("measure", [None, sddp.CVaR(confidence=0.5)])
def test_noise_in_sides_and_risk_reach_the_value_of_highs(measure, judged):
    for seed in range(3):
        problem = with_noise_in_sides(seed, graph="general", transition="scale").problem()
        exact = sddp.extensive_form(problem, risk=measure).solve().value
        found = bound(problem, "compiled", risk=measure)
        assert found == pytest.approx(exact, rel=1e-7, abs=1e-7)


@pytest.mark.long
def test_one_and_two_threads_give_the_same_bits():
    problem = medium_case(T=4).problem().engine
    logs = [
        sddp.train(
            problem,
            rng=1,
            stopping=Iterations(25),
            stage_solver="compiled",
            n_jobs=n_jobs,
            progress=False,
        ).log["bound"]
        for n_jobs in (1, 2)
    ]
    np.testing.assert_array_equal(logs[0], logs[1])


def test_an_unknown_stage_solver_is_rejected():
    problem = random_case(0).problem().engine
    with pytest.raises(ModelError, match="stage_solver='fast': must be one of auto, highs"):
        sddp.train(problem, rng=1, stage_solver="fast")


def test_what_the_compiled_visit_cannot_take_is_said():
    problem = random_case(0).problem().engine
    with pytest.raises(ModelError, match=r"MultiCut\(\) are kept by the reference alone"):
        sddp.train(problem, rng=1, stage_solver="compiled", cuts=sddp.MultiCut())


@pytest.mark.long
def test_value_functions_hold_the_compiled_cuts_in_their_order():
    """Of passes and of visits one by one: first decisions beside the path, adjusted paths."""
    n_cuts = 0
    problem = with_noise_in_sides(1, graph="general", transition="scale").problem()
    with sddp.start_training(
        problem, rng=2, risk=sddp.CVaR(confidence=0.5), stage_solver="compiled"
    ) as training:
        for _ in range(25):
            training.iterate()
        for number in (0, 1):
            subproblems = training.here[number].subproblems
            subproblems.publish()
            memory, at = subproblems.visitor.memory, subproblems.visitor.stages.pool_at
            for k, function in enumerate(subproblems.value_functions.values()):
                for w, pool in enumerate(function.pools):
                    n = memory.n_cuts[at[k] + w]
                    np.testing.assert_array_equal(memory.cut_slope[at[k] + w, :n], pool.slopes)
                    np.testing.assert_array_equal(memory.cut_const[at[k] + w, :n], pool.intercepts)
                    n_cuts += len(pool)
    assert n_cuts > 20


def test_without_numba_auto_warns_and_compiled_raises(monkeypatch):
    monkeypatch.setitem(sys.modules, "sddp.engine.compiled.subproblems", None)
    problem = random_case(0).problem().engine
    with pytest.raises(ModelError, match="stage_solver='compiled' needs numba"):
        sddp.train(problem, rng=1, stage_solver="compiled")
    with pytest.warns(NumericalWarning, match="numba cannot be imported"):
        result = sddp.train(
            problem, rng=1, stopping=Iterations(2), stage_solver="auto", progress=False
        )
    assert len(result.log) == 2
