"""The paths of an iteration, followed one after the other or side by side in processes.

Each path has subproblems and value functions of its own. They grow as it is followed, and between
iterations take in what the other paths have found. What a path finds depends on these alone, not on
where it is followed: the numbers are the same for every number of processes.

Processes and not threads: between two solves of a tenth of a millisecond the interpreter has as
much to do, and two threads took as long as one (`papers/performance.md`).
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from numbers import Integral
from pickle import PicklingError
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import AdaptivePath, Step
from sddp.engine.subproblem.solutions import StageSolution, Work
from sddp.engine.subproblem.subproblems import Subproblems
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.passes import Visit, backward_pass, follow_first, forward_pass, path_cost
from sddp.engine.training.trial_points import TrialPoints
from sddp.engine.value.cut_updates import CutUpdates
from sddp.errors import ModelError, SolverError
from sddp.threads import one_blas_thread

# A fork needs no time and no pickling. Elsewhere it is missing, or unsafe beside system libraries.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"

# How long a process may take to end by itself once its connection is closed, seconds.
PATIENCE = 5.0


class PathTask(NamedTuple):
    """A path to follow.

    Attributes
    ----------
    number : int
        Of the path in its iteration: says with which subproblems it is followed.
    iteration : int
        From 1.
    path : sequence of Step
        All its steps; where `rest` is given, those known beforehand.
    tolerance : float
        To which rows are refined.
    updates : sequence of CutUpdates
        What other paths have found since the last task of this number.
    first : StageSolution or None
        The first decision, where it is known.
    rest : AdaptivePath or None
        Chooses the steps after those of `path`.
    beside : tuple of (Step, StageSolution) or None
        Another first decision, to be followed backwards before the path.
    """

    number: int
    iteration: int
    path: Sequence[Step]
    tolerance: float
    updates: Sequence[CutUpdates] = ()
    first: StageSolution | None = None
    rest: AdaptivePath | None = None
    beside: tuple[Step, StageSolution] | None = None


class PathResult(NamedTuple):
    """Result of one path: cost, new cuts, solver statistics.

    Attributes
    ----------
    cost : float
        Of the whole path, engine units.
    unvisited_mass : float
        Largest adjusted weight, over its decisions, of outcomes that no path had followed.
    updates : CutUpdates
        What was found along it.
    decisions : list of (node, array)
        Outgoing states of solutions, for the inner bound.
    work : Work
        All that the path's subproblems have done so far.
    visits : list of Visit
        The forward pass of path 0; empty for the others, which may be in another process.
    """

    cost: float
    unvisited_mass: float
    updates: CutUpdates
    decisions: list[tuple[NodeName, Floats]]
    work: Work
    visits: list[Visit]


class Replica:
    """Subproblems of one path, and the draws and trial points of its backward passes."""

    def __init__(
        self, subproblems: Subproblems, trial_points: TrialPoints, rng: np.random.Generator
    ) -> None:
        self.subproblems = subproblems
        self._trial_points, self._rng = trial_points, rng
        self._memory: dict[NodeName, Any] = {}

    def run(self, task: PathTask, interrupt: Interrupt) -> PathResult:
        """Take in what other paths have found; then forward and backward pass along the path."""
        subproblems = self.subproblems
        for updates in task.updates:
            subproblems.apply(updates)
        interrupt.check()
        if task.beside is not None:
            self._follow_beside(*task.beside, task.tolerance)
        visits, unvisited = self._passes(task, interrupt)
        decisions, subproblems.decisions = subproblems.decisions, []
        return PathResult(
            path_cost(visits),
            unvisited,
            subproblems.take_updates(),
            decisions,
            subproblems.work,
            visits if task.number == 0 else [],
        )

    def _follow_beside(self, step: Step, solution: StageSolution, tolerance: float) -> None:
        """Add cuts for a first decision that the path does not take."""
        follow_first(self.subproblems, step, solution, tolerance, self._rng)

    def _passes(
        self, task: PathTask, interrupt: Interrupt, noted: bool = False
    ) -> tuple[list[Visit], float]:
        """Forward and backward pass, and the largest unvisited mass.

        `noted`: the outcomes that the path follows are counted already.
        """
        subproblems, tolerance = self.subproblems, task.tolerance
        visits = forward_pass(subproblems, task.path, tolerance, interrupt, task.first, task.rest)
        if not noted:
            subproblems.value_functions.note_path([visit.step for visit in visits])
        unvisited = backward_pass(
            subproblems,
            visits,
            tolerance,
            self._rng,
            lambda visit: self._trial_point(visit, task.iteration),
            interrupt,
        )
        return visits, unvisited

    def _trial_point(self, visit: Visit, iteration: int) -> Floats:
        """Outgoing state at which cuts are made after a visit."""
        outgoing = visit.solution.outgoing
        return self._trial_points.point(
            self.subproblems.problem, visit.node, outgoing, iteration, self._memory
        )


class Replicas:
    """Replicas that share a process, made when they are first needed.

    Parameters
    ----------
    build : callable from int to Replica
        The replica of a path's number, knowing what was known when training began.
    """

    def __init__(self, build: Callable[[int], Replica]) -> None:
        self._build = build
        self._built: dict[int, Replica] = {}

    def __getitem__(self, number: int) -> Replica:
        if number not in self._built:
            self._built[number] = self._build(number)
        return self._built[number]

    def __setitem__(self, number: int, replica: Replica) -> None:
        self._built[number] = replica

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        """Follow some paths one after the other."""
        return [self[task.number].run(task, interrupt) for task in tasks]


class WorkerPool(Protocol):
    """Follows the paths of one training."""

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        """Follow the paths, each with the replica of its number; results in the same order."""
        ...

    def close(self) -> None:
        """End what was started."""
        ...


@runtime_checkable
class Workers(Protocol):
    """Where paths are followed: the numbers do not depend on it."""

    def start(self, here: Replicas, build: Callable[[int], Replica]) -> WorkerPool:
        """A pool for one training.

        Parameters
        ----------
        here : Replicas
            Of this process. Tasks of number 0 must be run by them: the bound is found with that
            replica's subproblems.
        build : callable from int to Replica
            Makes the replicas of another process, to which it can be pickled.
        """
        ...


@dataclass(frozen=True)
class Processes:
    """The process of the call, and others that are started when there is a second path.

    Parameters
    ----------
    n_jobs : int
        Processes at work, this one included; more than there are paths are of no use.
    """

    n_jobs: int = 1

    def __post_init__(self) -> None:
        n_jobs = self.n_jobs
        if isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs < 1:
            raise ModelError(f"n_jobs = {n_jobs!r}; give a whole number of at least 1")
        if n_jobs > 1 and multiprocessing.current_process().daemon:
            raise ModelError(
                f"n_jobs = {n_jobs} inside a process that may have none of its own (a worker of "
                "multiprocessing.Pool); give n_jobs=1, or use joblib around it"
            )

    def start(self, here: Replicas, build: Callable[[int], Replica]) -> WorkerPool:
        """See `Workers`."""
        return _ProcessPool(here, build, int(self.n_jobs))


class _ProcessPool:
    def __init__(self, here: Replicas, build: Callable[[int], Replica], n_jobs: int) -> None:
        self._here, self._build, self._n_jobs = here, build, n_jobs
        self._beside: list[_Process] = []

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        n, asked = self._n_jobs, min(self._n_jobs, len(tasks)) - 1
        shares = [[task for task in tasks if task.number % n == i] for i in range(asked + 1)]
        while len(self._beside) < asked:
            self._beside.append(_Process(self._build))
        for process, share in zip(self._beside, shares[1:], strict=False):
            process.send(share)
        found: dict[int, PathResult] = {}
        for task in shares[0]:
            found[task.number] = self._here[task.number].run(task, interrupt)
        for process, share in zip(self._beside, shares[1:], strict=False):
            found |= zip((task.number for task in share), process.receive(), strict=True)
        return [found[task.number] for task in tasks]

    def close(self) -> None:
        for process in self._beside:
            process.end()


class _Process:
    """Replicas in another process."""

    def __init__(self, build: Callable[[int], Replica]) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._connection, build), daemon=True
        )
        with warnings.catch_warnings(), _ignoring_ctrl_c():
            # Python 3.12 warns of forks while other threads run: the child uses none of theirs.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                self._process.start()
            except (AttributeError, TypeError, ValueError, OSError, PicklingError) as error:
                raise ModelError(
                    f"n_jobs: no further process could be started ({error}); give n_jobs=1, or a "
                    "problem whose functions are defined at the top of a module"
                ) from error
        other.close()

    def send(self, tasks: Sequence[PathTask]) -> None:
        try:
            self._connection.send(tasks)
        except OSError as error:
            raise self._lost() from error

    def receive(self) -> list[PathResult]:
        # Its end is watched too: the pipe stays open where another fork holds a copy of it.
        ready = wait([self._connection, self._process.sentinel])
        if self._connection not in ready:
            raise self._lost()
        try:
            answer, warned = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._lost() from error
        for warning in warned:
            warnings.warn(warning, stacklevel=2)
        if isinstance(answer, BaseException):
            raise answer
        found: list[PathResult] = answer
        return found

    def end(self) -> None:
        """It ends at once: what it still works on is of no use."""
        self._connection.close()
        self._process.terminate()
        self._process.join(PATIENCE)

    def _lost(self) -> SolverError:
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            reason = "killed, for want of memory?"
        else:
            reason = (
                'a script that cannot fork wants an `if __name__ == "__main__"` around its work'
            )
        return SolverError(
            f"a process that followed paths ended with code {code} before it had answered "
            f"({reason}); train again with n_jobs=1"
        )


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """A process started meanwhile ignores it from its first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(
    connection: Connection,
    others_end: Connection,
    build: Callable[[int], Replica],
) -> None:
    """Answer until the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    others_end.close()  # a copy kept here would hide that the other side is gone
    replicas = Replicas(build)
    with one_blas_thread(), suppress(EOFError, OSError):  # the other side may end at any time
        while True:
            connection.send(_answer(replicas, connection.recv()))


def _answer(
    replicas: Replicas, tasks: Sequence[PathTask]
) -> tuple[list[PathResult] | Exception, list[Warning]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer: list[PathResult] | Exception = replicas.run(tasks, Interrupt())
        except Exception as error:
            answer = _sendable(error)
    return answer, [w.message for w in caught if isinstance(w.message, Warning)]


def _sendable(error: Exception) -> Exception:
    """The error with the trace of where it arose, as something that can be pickled."""
    error.add_note("in another process:\n" + traceback.format_exc())
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:  # its class does not allow it
        return SolverError(f"{type(error).__name__} in another process: {error}")
    return error if type(again) is type(error) else SolverError(str(error))
