"""The first decision is found once an iteration, with the bound, and handed to all paths."""

from __future__ import annotations

import pytest

import sddp
from sddp.engine.subproblem.subproblem import Subproblem
from sddp.engine.subproblem.subproblems import Subproblems
from sddp.engine.training.stopping import Progress, StoppingRule
from sddp.engine.training.workers import Replica
from tests.engine.cases import markov, reservoir
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, Watched, train
from tests.engine.test_recourse import tank


@pytest.fixture
def refined(monkeypatch):
    """To which tolerance each first decision was refined."""
    tolerances, solve = [], Subproblems.first_solutions

    def solved(subproblems, tolerance):
        tolerances.append(tolerance)
        return solve(subproblems, tolerance)

    monkeypatch.setattr(Subproblems, "first_solutions", solved)
    return tolerances


def test_no_path_solves_the_first_node_again(monkeypatch):
    """After the first iteration, before which nothing was known."""
    solved: list[str] = []
    solve, run = Subproblem.solve, Replica.run
    inside = [False]

    def counted(node, *arguments):
        if inside[0]:
            solved.append(node.name)
        return solve(node, *arguments)

    def running(replica, *arguments):
        inside[0] = True
        try:
            return run(replica, *arguments)
        finally:
            inside[0] = False

    monkeypatch.setattr(Subproblem, "solve", counted)
    monkeypatch.setattr(Replica, "run", running)
    train(markov.b1(), 15, n_paths=3, stage_solver="highs")
    assert solved.count("node (0, 0)") == 1
    assert solved.count("node (1, 0)") > 15


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_decision_that_the_path_would_take(seed):
    """Two first nodes, several noises: the value at the path's own, as solved afresh."""
    made = random_instance(seed, graph="markov")
    seen = []

    class Comparing(Watched):
        def run(self, tasks, interrupt):
            for task in tasks:
                subproblems = self.here[task.number].subproblems
                for updates in task.updates:
                    subproblems.apply(updates)
                if task.first is not None:
                    step = task.path[0]
                    afresh = subproblems[step.node].solve(
                        subproblems.problem.initial_state(step.node), step.noise, task.tolerance
                    )
                    room = 2.0 * task.tolerance * max(1.0, abs(afresh.value))
                    assert task.first.value == pytest.approx(afresh.value, abs=room)
                    seen.append((step.node, step.noise))
            return super().run([task._replace(updates=()) for task in tasks], interrupt)

    train(made.problem(), 15, risk=made.risk(), root_risk=made.root_risk(), n_jobs=Comparing())
    assert len(set(seen)) > 1


def test_it_is_refined_as_far_as_the_iteration_asks(refined):
    """Also where a stopping rule makes the tolerance jump to the final one."""

    class Jumps(StoppingRule):
        def reason(self, progress: Progress) -> str | None:
            if len(progress.log) == 6:
                progress.refine()
            return "enough" if len(progress.log) == 9 else None

    workers = Watched()
    train(reservoir.c9(), Jumps(), n_jobs=workers)
    told = [task for tasks in workers.tasks for task in tasks]
    assert told[0].first is None
    assert {task.tolerance for task in told[6:]} == {SOLVER}
    assert told[6].first is None  # the bound before was found more loosely
    assert all(task.first is not None for task in [*told[1:6], *told[7:]])
    for task, tolerance in zip(told[1:], refined, strict=False):
        assert task.first is None or tolerance <= task.tolerance


def test_what_a_simulation_may_refute_is_found_again():
    """It follows paths under the present cuts, and hands back feasibility cuts as training does."""
    workers, stopping = Watched(), sddp.PolicyStability(20, 3, 0.0) | sddp.Iterations(9)
    result = train(tank(3.0), stopping, n_jobs=workers)
    known = [tasks[0].first is not None for tasks in workers.tasks]
    assert known == [False, True, True] * 3
    assert result.bound == pytest.approx(sddp.extensive_form(tank(3.0)).solve().value, rel=SOLVER)


def test_going_on_begins_with_the_decision_of_its_bound(refined):
    policy = train(reservoir.c9(), 12).policy
    workers = Watched()
    refined.clear()
    train(reservoir.c9(), 2, start=policy, n_jobs=workers)
    assert refined[0] == SOLVER
    assert all(tasks[0].first is not None for tasks in workers.tasks)


def test_a_path_that_leaves_the_problem_is_rejected_before_anything_is_solved():
    class Lost:
        def sample(self, problem, number, rng):
            return [sddp.Step(0), sddp.Step(1, noise=3)]

    with pytest.raises(sddp.errors.ModelError, match=r"noise = 3 is outside 0\.\.2"):
        train(reservoir.c9(), 3, sampling=Lost(), n_jobs=2)
