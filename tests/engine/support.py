"""What the tests of the engine share: a quiet `train`, a stopping rule, a time limit."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import sddp
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.solutions import NoiseSolutions
from sddp.engine.subproblem.subproblems import (
    Subproblems,
    build_subproblems,
    restore_subproblems,
)
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.stopping import Progress, StoppingRule
from sddp.engine.training.workers import PathResult, PathTask, Replica, Replicas

CUT_FORMS = (sddp.LazyAggregation(), sddp.MultiCut(), sddp.AverageCut())
BY_NAME = {"ids": lambda cuts: type(cuts).__name__}

# The LP solver's feasibility tolerance is 1e-9 and rows are refined to 1e-9 of the value.
SOLVER = 1e-9
# Two sums of the same numbers in another order.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Reaches(StoppingRule):
    """Stop once the bound is at a known value: saves the iterations after convergence."""

    value: float
    tolerance: float = 1e-11

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        miss = abs(progress.log[-1].bound - self.value)
        return "reached" if miss <= self.tolerance * max(1.0, abs(self.value)) else None


def train(
    problem: sddp.Problem, stopping: StoppingRule | int = 50, seed: int = 0, **options: Any
) -> sddp.TrainingResult:
    """`sddp.train`, silent and from a fixed seed; an integer is a number of iterations."""
    rule = sddp.Iterations(stopping) if isinstance(stopping, int) else stopping
    rng = np.random.default_rng(seed)
    return sddp.train(problem, rng=rng, stopping=rule, progress=False, **options)


def untrained(problem: sddp.Problem, risk: Any = None) -> Subproblems:
    """Linear programs and empty value functions of all nodes."""
    return build_subproblems(problem, risk, sddp.LazyAggregation())


def assert_never_worse(
    result: sddp.TrainingResult, sign: float, tolerance: float = ROUNDING
) -> None:
    """The bound of a minimisation (sign 1) never falls, that of a maximisation never rises."""
    bounds = sign * result.log["bound"].to_numpy()
    lost = np.maximum.accumulate(bounds) - bounds
    assert lost.max() <= tolerance * max(1.0, np.abs(bounds).max())


def solve_noises(
    subproblems: Subproblems, name: sddp.Node, incoming: np.ndarray, tolerance: float
) -> NoiseSolutions:
    """Solutions for every noise of a node, as a pass finds them."""
    solutions = subproblems[name].solve_all(incoming, tolerance)
    if not solutions.infeasible:
        subproblems[name].remove_idle()
    return solutions


class Watched:
    """Workers of this process that keep what they were told to do."""

    def __init__(self) -> None:
        self.tasks: list[list[PathTask]] = []  # of each iteration

    def start(self, here: Replicas, build: Callable[[int], Replica]) -> Watched:
        """See `Workers`."""
        self.here = here
        return self

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        """See `WorkerPool`."""
        self.tasks.append(list(tasks))
        return self.here.run(tasks, interrupt)

    def close(self) -> None:
        """See `WorkerPool`."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Turn a loop that would not end into a failure."""

    def give_up(signum: int, frame: object) -> None:
        raise TimeoutError(f"still running after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class PressCtrlC(StoppingRule):
    """Press it after some iterations, and never be a reason."""

    after: int

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        if progress.log[-1].iteration == self.after:
            signal.raise_signal(signal.SIGINT)
        return None


def thawed(policy: Policy) -> Subproblems:
    """Subproblems that know what the policy knows, and may learn; the policy stays as it is."""
    known = policy.checkpoint
    return restore_subproblems(policy.problem, known, trains_to=known.tolerance)
