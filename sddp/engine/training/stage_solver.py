"""Who solves the stages of a training: HiGHS, or compiled visits with HiGHS as their reference.

With compiled visits the paths of an iteration are followed side by side in threads. Each has
subproblems of its own, as in `workers`, and is told between iterations what the others have found:
the numbers are the same for every number of threads. A pass is one compiled call that holds no
interpreter lock, so two of them use two cores.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.model.sampling import Step
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblems import Subproblems
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.passes import (
    Visit,
)
from sddp.engine.training.trial_points import AveragedDecisions, Decisions
from sddp.engine.training.workers import PathResult, PathTask, Processes, Replica, Replicas
from sddp.engine.value.cost_to_go import CutForm
from sddp.errors import ModelError, NumericalWarning
from sddp.risk import RiskMeasure

if TYPE_CHECKING:  # numba is imported with the first compiled training
    from sddp.engine.compiled.subproblems import CompiledSubproblems

StageSolver = Literal["auto", "highs", "compiled"]

_log = logging.getLogger("sddp")


class Parts(NamedTuple):
    """What a training is made of: its subproblems, replicas, and workers for a number of jobs."""

    subproblems: type[Subproblems]
    replica: type[Replica]
    workers: type[Processes]


HIGHS = Parts(Subproblems, Replica, Processes)


def check_stage_solver(stage_solver: str) -> None:
    """Refuse a name that is none.

    Raises
    ------
    ModelError
    """
    if stage_solver not in get_args(StageSolver):
        raise ModelError(
            f"stage_solver={stage_solver!r}: must be one of {', '.join(get_args(StageSolver))}"
        )


def parts_of(
    stage_solver: StageSolver,
    problem: Problem,
    risk: Mapping[NodeName, RiskMeasure],
    cuts: CutForm,
) -> Parts:
    """The parts of a training.

    `auto` decides by the problem alone: compiled where the compiled visit can take it. Numba is
    imported here, and never before.

    Raises
    ------
    ModelError
        ``stage_solver="compiled"`` for a problem that the compiled visit cannot take, or without
        numba.
    """
    if stage_solver == "highs":
        return HIGHS
    try:
        from sddp.engine.compiled.subproblems import CompiledSubproblems
        from sddp.engine.compiled.visitor import reason_against
    except ImportError as error:
        if stage_solver == "compiled":
            raise ModelError(
                f"stage_solver='compiled' needs numba, which cannot be imported ({error}); install "
                "it, or give stage_solver='highs'"
            ) from error
        warnings.warn(
            f"numba cannot be imported ({error}), so HiGHS solves the stages, 10 to 30 times as "
            "slowly; install numba, or give stage_solver='highs'",
            NumericalWarning,
            stacklevel=3,
        )
        return HIGHS
    reason = reason_against(problem, risk, cuts)
    if reason is None:
        _log.info("stages are solved by compiled visits")
        return Parts(CompiledSubproblems, CompiledReplica, Threads)
    if stage_solver == "compiled":
        raise ModelError(f"stage_solver='compiled': {reason}; give 'auto' or 'highs'")
    _log.info("stages are solved by HiGHS: %s", reason)
    return HIGHS


class CompiledReplica(Replica):
    """A `Replica` whose passes are compiled calls where the path is known beforehand."""

    subproblems: CompiledSubproblems

    def _follow_beside(self, step: Step, solution: StageSolution, tolerance: float) -> None:
        super()._follow_beside(step, solution, tolerance)
        self.subproblems.see([step])

    def _passes(
        self, task: PathTask, interrupt: Interrupt, noted: bool = False
    ) -> tuple[list[Visit], float]:
        subproblems = self.subproblems
        if task.rest is None and not subproblems.has_rare(task.path):
            subproblems.value_functions.note_path(task.path)
            subproblems.see(task.path)
            noted = True
        found = self._compiled_passes(task, interrupt) if noted else None
        if found is None:  # visit by visit
            subproblems.publish()
            found = super()._passes(task, interrupt, noted)
            subproblems.see([visit.step for visit in found[0]])
        subproblems.count_effort()
        return found

    def _compiled_passes(
        self, task: PathTask, interrupt: Interrupt
    ) -> tuple[list[Visit], float] | None:
        """As `_passes`, for a path that is known; None where a decision is infeasible."""
        runner = self.subproblems.runner
        decided = runner.follow(task.path, task.tolerance, task.first, interrupt.check)
        if decided is None:
            return None
        visits, share = _visits(task.path, decided), self._share(task.iteration)
        points: list[Floats] = []
        if share is None:
            points = [self._trial_point(visit, task.iteration) for visit in visits[::-1]][::-1]
        mass = runner.add_cuts(task.path, task.tolerance, self._rng, share, points, interrupt.check)
        return visits, mass

    def _share(self, iteration: int) -> float | None:
        """The share of means in the trial points, None for rules that the passes do not know."""
        rule = self._trial_points
        if type(rule) is Decisions or (type(rule) is AveragedDecisions and not rule.iterations):
            return 0.0
        if type(rule) is not AveragedDecisions:
            return None
        homogeneous = self.subproblems.problem.homogeneous
        return rule.share(iteration) if homogeneous else 0.0


@dataclass(frozen=True)
class Threads(Processes):
    """Threads of this process, in which compiled passes run side by side.

    Parameters
    ----------
    n_jobs : int
        More than there are paths are of no use.
    """

    def start(self, here: Replicas, build: Callable[[int], Replica]) -> _ThreadPool:
        """See `Workers`."""
        return _ThreadPool(here, int(self.n_jobs))


class _ThreadPool:
    def __init__(self, here: Replicas, n_jobs: int) -> None:
        self._here = here
        self._threads = ThreadPoolExecutor(n_jobs) if n_jobs > 1 else None

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        replicas = [self._here[task.number] for task in tasks]
        if self._threads is None or len(tasks) == 1:
            return [
                replica.run(task, interrupt) for replica, task in zip(replicas, tasks, strict=True)
            ]
        runs = [
            self._threads.submit(replica.run, task, interrupt)
            for replica, task in zip(replicas, tasks, strict=True)
        ]
        return [run.result() for run in runs]

    def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown()


def _visits(
    path: Sequence[Step], decided: Sequence[tuple[Floats, StageSolution, float]]
) -> list[Visit]:
    """The visits of a forward pass from its incoming states, solutions and sizes of states."""
    following = [*path[1:], None]
    return [
        Visit(step, *each, after)
        for step, each, after in zip(path, decided, following, strict=True)
    ]
