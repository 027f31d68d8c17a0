"""Workers: paths in this process and in others, and what happens when one of them fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import sddp
from experiments.benchmark_instances import Size
from sddp import threads
from sddp.allocation.problem import allocation_problem
from sddp.engine.subproblem.subproblems import build_subproblems
from sddp.engine.training import workers
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.workers import PathTask, Replica, Replicas, WorkerPool
from sddp.errors import ModelError, NumericalWarning, SolverError
from tests.engine import support
from tests.engine.cases import reservoir
from tests.engine.support import BY_NAME, CUT_FORMS, SOLVER, PressCtrlC, time_limit
from tests.engine.test_generated_rows import circle
from tests.engine.test_paths import exact, numbers

# Processes follow the paths of HiGHS; compiled passes run in threads.
train = partial(support.train, stage_solver="highs")


def tasks(problem: sddp.Problem, n: int) -> list[PathTask]:
    rng = np.random.default_rng(1)
    return [PathTask(i, 1, sddp.InSample().sample(problem, i, rng), SOLVER) for i in range(n)]


@dataclass(frozen=True)
class Built:
    """Makes the replica of a path's number."""

    problem: sddp.Problem

    def __call__(self, number: int) -> Replica:
        form = sddp.LazyAggregation()
        subproblems = build_subproblems(self.problem, None, form, trains_to=SOLVER)
        return Replica(subproblems, sddp.AveragedDecisions(), np.random.default_rng([0, number]))


@contextmanager
def pool_of(problem: sddp.Problem, n_jobs: int) -> Iterator[WorkerPool]:
    build = Built(problem)
    pool = sddp.Processes(n_jobs).start(Replicas(build), build)
    try:
        yield pool
    finally:
        pool.close()


@pytest.mark.parametrize("n_jobs", [1, 2, 3, 7])
def test_results_come_in_the_order_of_the_paths(n_jobs):
    problem = reservoir.c9()
    given = tasks(problem, 5)
    with pool_of(problem, n_jobs) as pool:
        for n in (1, 5, 1, 3, 5):
            results = pool.run(given[:n], Interrupt())
            assert len(results) == n
            assert [visit.noise for visit in results[0].visits] == [
                step.noise for step in given[0].path
            ]
            assert all(result.visits == [] for result in results[1:])
        for task, result in zip(given, results, strict=True):  # each found cuts along its own path
            assert [step.noise for step in result.updates.followed] == [
                step.noise for step in task.path
            ]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_the_first_path_knows_what_all_paths_found(n_jobs):
    """Its value function at a state is at least what any other path has shown it to be."""
    problem = reservoir.c9()
    found = []

    class Keeping(sddp.Processes):
        def start(self, here, build):
            pool = super().start(here, build)
            run = pool.run

            def kept(asked, interrupt):
                results = run(asked, interrupt)
                found.extend(cut for result in results for cut in result.updates.cuts)
                return results

            pool.run = kept
            return pool

    paths = sddp.SinglePathFirst(3, single=0)
    with sddp.start_training(
        problem, rng=0, n_paths=paths, n_jobs=Keeping(n_jobs), stage_solver="highs"
    ) as training:
        training.iterate()
        value_functions = training.subproblems.value_functions
    assert len(found) >= 3 * 3  # three later stages on each of three paths
    for name, state, cuts in found:
        p = problem.stages[name].noise.probabilities
        value = float(p @ (cuts.intercepts + cuts.slopes @ state))
        assert value_functions[name].pools[0].value(state) >= value - 1e-12


def test_paths_are_followed_in_other_processes(monkeypatch):
    """Marked in memory that they share."""
    seen = multiprocessing.get_context("fork").Array("q", 3)
    original = Replica.run

    def mark(self, task, interrupt):
        seen[task.number] = os.getpid()
        return original(self, task, interrupt)

    monkeypatch.setattr(Replica, "run", mark)
    problem = reservoir.c9()
    with pool_of(problem, 2) as pool:
        pool.run(tasks(problem, 3), Interrupt())
    assert seen[0] == seen[2] == os.getpid()
    assert seen[1] not in (0, os.getpid())


def elsewhere(monkeypatch, act: Callable[[], None]) -> None:
    """Do something before a path is followed in another process."""
    here, original = os.getpid(), Replica.run

    def run(self, task, interrupt):
        if os.getpid() != here:
            act()
        return original(self, task, interrupt)

    monkeypatch.setattr(Replica, "run", run)


def test_a_process_that_dies_is_reported(monkeypatch):
    elsewhere(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
    before = set(multiprocessing.active_children())  # other tests' pools
    with pytest.raises(SolverError, match=r"ended with code -9 before it had answered.*n_jobs=1"):
        train(reservoir.c9(), 12, n_paths=2, n_jobs=2)
    assert set(multiprocessing.active_children()) <= before


class Odd(Exception):
    """It holds what cannot be pickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.hold = lambda: None


def test_an_error_of_another_process_says_where_it_arose(monkeypatch):
    def fails() -> None:
        raise ModelError("so it goes")

    elsewhere(monkeypatch, fails)
    with pytest.raises(ModelError, match="so it goes") as caught:
        train(reservoir.c9(), 12, n_jobs=2)
    assert "in fails" in "".join(caught.value.__notes__)


def test_an_error_that_cannot_be_sent_is_told_in_words(monkeypatch):
    def fails() -> None:
        raise Odd("this", "that")

    elsewhere(monkeypatch, fails)
    with pytest.raises(SolverError, match="Odd in another process: this and that"):
        train(reservoir.c9(), 12, n_jobs=2)


def test_ctrl_c_is_for_who_asks(monkeypatch):
    """A terminal sends it to every process of the group."""
    elsewhere(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    result = train(reservoir.c9(), 12, n_jobs=2)
    assert result.stopped_because == "iteration limit"
    assert numbers(result) == numbers(train(reservoir.c9(), 12))


@pytest.mark.long
def test_processes_end_with_the_one_that_started_them():
    """Killed, it cannot tell them."""
    script = """
import os, signal, multiprocessing
from tests.engine.cases import reservoir
from tests.engine.support import PressCtrlC, train
class Kill(PressCtrlC):
    def reason(self, progress):
        if progress.log[-1].iteration == 12:
            print(*[child.pid for child in multiprocessing.active_children()], flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
train(reservoir.c9(), Kill(12), n_paths=3, n_jobs=3, stage_solver="highs")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    children = [int(pid) for pid in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL
    assert len(children) == 2
    deadline = time.monotonic() + 10.0
    while any(_runs(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in children)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_training_while_another_thread_asks_for_one_blas_thread(monkeypatch):
    """A lock that is held at the fork is never let go of in the child."""
    original = workers._Process.__init__

    def start(self, *arguments):
        with threads._guard:
            original(self, *arguments)

    monkeypatch.setattr(workers._Process, "__init__", start)
    with time_limit(20):
        assert len(train(reservoir.c9(), 12, n_jobs=2).log) == 12


def test_a_process_that_may_have_none_is_told_at_once(monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    with pytest.raises(ModelError, match="n_jobs = 2 inside a process that may have none"):
        train(reservoir.c9(), 1, n_jobs=2)


def test_warnings_of_another_process_are_given_here(monkeypatch):
    elsewhere(monkeypatch, lambda: warnings.warn("a number is odd", NumericalWarning, stacklevel=1))
    with pytest.warns(NumericalWarning, match="a number is odd"):
        train(reservoir.c9(), 11, n_paths=2, n_jobs=2)


def test_no_process_is_started_for_one_path_or_few_iterations(monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "no such method")
    train(reservoir.c9(), 12, n_paths=1, n_jobs=2)
    train(reservoir.c9(), 10, n_paths=2, n_jobs=2)
    with pytest.raises(ValueError, match="no such method"):
        train(reservoir.c9(), 11, n_paths=2, n_jobs=2)


@pytest.mark.long
def test_where_processes_cannot_be_forked_the_problem_is_sent(monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "spawn")
    size = Size(3, 2, 20, 4)
    problem = allocation_problem(
        size.model, size.scenarios(), initial_holdings={"cash": 1.0}
    ).engine
    alone, beside = (train(problem, 12, n_paths=2, n_jobs=n_jobs) for n_jobs in (1, 2))
    assert numbers(beside) == numbers(alone)


def test_a_problem_that_cannot_be_sent_is_rejected(monkeypatch):
    monkeypatch.setattr(workers, "START_METHOD", "spawn")

    class Mine(sddp.Expectation):
        """A class that another process does not find."""

    problem = circle(lazily=True)
    with pytest.raises(ModelError, match=r"no further process could be started .*n_jobs=1"):
        train(problem, 12, n_paths=2, n_jobs=2, risk=Mine())
    assert train(problem, 12, n_paths=2).bound == pytest.approx(exact("rows"), rel=1e-3)


# ---------------------------------------------------------------- errors and Ctrl-C


class BreaksOnce(sddp.InSample):
    """A path to a node that is not there, once."""

    def __init__(self, at: int) -> None:
        self.at: int | None = at

    def sample(self, problem, number, rng):
        """See `SamplingScheme`."""
        path = super().sample(problem, number, rng)
        if number != self.at:
            return path
        self.at = None
        return [replace(path[0], node="nowhere"), *path[1:]]


@pytest.mark.long
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_in_one_path_is_raised_and_the_next_call_works(n_jobs):
    problem, sampling = reservoir.c9(), BreaksOnce(at=13)  # the second path of iteration 12
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ModelError, match="node 'nowhere', which is unknown"):
        train(problem, 30, sampling=sampling, n_jobs=n_jobs)
    assert signal.getsignal(signal.SIGINT) is before
    assert sampling.at is None
    result = train(problem, 60, sampling=sampling, n_jobs=n_jobs)
    assert result.bound == pytest.approx(275 / 6, rel=SOLVER)


class PressesWhileDrawing(sddp.InSample):
    """Press it while the paths of an iteration are drawn."""

    def sample(self, problem, number, rng):
        """See `SamplingScheme`."""
        if number == 15:
            signal.raise_signal(signal.SIGINT)
        return super().sample(problem, number, rng)


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("where", ["after", "drawing"])
def test_ctrl_c_while_processes_work(where, cuts):
    before = signal.getsignal(signal.SIGINT)
    options = {"n_paths": 3, "n_jobs": 2, "cuts": cuts}
    if where == "after":
        result = train(reservoir.c9(), PressCtrlC(12), **options)
        assert len(result.log) == 12
    else:  # the last of the three paths of iteration 12
        result = train(reservoir.c9(), 50, sampling=PressesWhileDrawing(), **options)
        assert len(result.log) == 11
    assert result.stopped_because == "interrupted"
    assert signal.getsignal(signal.SIGINT) is before
    assert result.bound == pytest.approx(result.log["bound"].iloc[-1], rel=1e-6)
    assert result.policy.decide(0, {"x": 10.0}, 1).outgoing["x"] >= 5.0
    again = train(reservoir.c9(), 40, start=result.policy, n_paths=2, n_jobs=2)
    assert again.bound == pytest.approx(275 / 6, rel=SOLVER)
