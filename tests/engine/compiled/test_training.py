"""Trainings by compiled visits: the values of HiGHS, the same bits for one and two threads."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

import sddp
from sddp.engine.compiled import runner
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.stopping import BoundStalling, Iterations
from sddp.errors import ModelError, NumericalWarning, SolverError
from tests.allocation.problems import medium_case, random_case
from tests.engine.compiled.replay import with_noise_in_sides
from tests.engine.instances import TRANSITIONS, random_instance
from tests.engine.test_bunching import tank

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


def shifted(monkeypatch, change: float) -> None:
    """HiGHS gives values that are too high by a `change`."""
    solve = Subproblem.solve

    def wrong(node, *arguments):
        found = solve(node, *arguments)
        return replace(found, value=found.value + change)

    monkeypatch.setattr(Subproblem, "solve", wrong)


@pytest.mark.long
@pytest.mark.parametrize("every", [1, 10**9])  # 10**9: the final programs alone
def test_a_contradiction_of_the_solvers_names_the_program(every, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runner, "JUDGED_EVERY", every)
    problem = random_case(0, T=3, K=2, S=3, N=2).problem().engine

    def trained() -> sddp.TrainingResult:
        stopping = Iterations(3)
        return sddp.train(problem, rng=1, stopping=stopping, stage_solver="compiled")

    result = trained()
    finals = [m for m in result.policy.checkpoint.nodes.values() if m.reference is not None]
    assert result.work.judged >= (len(finals) if every > 1 else 20)
    shifted(monkeypatch, 1e-7)
    with pytest.raises(SolverError, match=r"node .* by HiGHS; the program was written to .*\.lp"):
        trained()


@pytest.mark.long
def test_ctrl_c_inside_a_compiled_pass_loses_nothing(monkeypatch):
    """In a pause; what it had found reaches the other path, and training goes on."""
    problem = random_instance(0, graph="markov", transition="scale", noise=1).problem()
    exact = sddp.extensive_form(problem).solve().value
    check, stopped = Interrupt.check, []

    def pressed(interrupt):
        n_cuts = int(training.here[0].subproblems.visitor.memory.n_cuts.sum())
        if sys._getframe(1).f_code.co_name == "_drive" and n_cuts > 0 and not stopped:
            stopped.append(n_cuts)
            raise KeyboardInterrupt
        check(interrupt)

    monkeypatch.setattr(Interrupt, "check", pressed)
    with sddp.start_training(problem, rng=2, stage_solver="compiled") as training:
        with pytest.raises(KeyboardInterrupt):
            training.run(Iterations(100))
        assert stopped
        assert training.result().bound <= exact + 1e-9 * abs(exact)
        while len(training.log) < 60:
            training.iterate()
        assert training.result().bound == pytest.approx(exact, rel=1e-8)


@pytest.mark.long
def test_no_visit_of_an_allocation_is_left_to_highs():
    """The programs of the last stage have neither columns nor rows."""
    problem = random_case(1, T=3, K=2, S=5, N=2).problem().engine
    result = sddp.train(problem, rng=1, stopping=Iterations(20), stage_solver="compiled")
    assert result.stage_solver == "compiled"
    assert result.work.fallbacks == 0 == result.log["fallbacks"].iloc[-1]


@pytest.mark.long
def test_beside_feasibility_cuts():
    """Decisions before them are left to HiGHS; the policy keeps its rows, paths count once."""
    risk = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.3)
    exact = sddp.extensive_form(tank(), risk=risk).solve().value
    with sddp.start_training(tank(), rng=0, risk=risk, stage_solver="compiled") as training:
        for _ in range(15):
            training.iterate()
        result = training.result()
        visits = training.value_functions.coverage.visits
    assert result.bound == pytest.approx(exact, rel=1e-9)
    assert result.work.fallbacks > 0
    assert visits[0] == 10 + 2 * 5  # the first ten iterations follow one path
