"""The paths of an iteration, followed one after the other or side by side in processes.

Each path has a network of its own, which learns as it goes and is told between iterations what
the others have learnt. What a network does depends on what it was told alone, not on where it
sits: the numbers are the same for every number of processes.

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pickle import PicklingError
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from sddp.engine.model.sampling import AdaptivePath, Step
from sddp.engine.subproblem.network import Network
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.subproblem.subproblem import Work
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.passes import Visit, backward_pass, follow_first, forward_pass, path_cost
from sddp.engine.value.cut_updates import News
from sddp.errors import ModelError, SolverError
from sddp.threads import one_blas_thread

# A fork needs no time and no pickling. Elsewhere it is missing, or unsafe beside system libraries.
START_METHOD = "fork" if sys.platform == "linux" else "spawn"

# How long a process may take to end by itself once nobody listens to it, seconds.
PATIENCE = 5.0


class Order(NamedTuple):
    """A path to follow.

    Attributes
    ----------
    path : sequence of Step
        All its steps; where `rest` is given, those known beforehand.
    tolerance : float
        To which rows are refined.
    averaging : float
        Share of earlier decisions in the trial points.
    first : StageSolution or None
        The first decision, where it is known.
    rest : AdaptivePath or None
        Chooses the steps after those of `path`.
    beside : tuple of (Step, StageSolution) or None
        Another first decision, to be followed backwards before the path.
    """

    path: Sequence[Step]
    tolerance: float
    averaging: float
    first: StageSolution | None = None
    rest: AdaptivePath | None = None
    beside: tuple[Step, StageSolution] | None = None


class Report(NamedTuple):
    """What came of it.

    Attributes
    ----------
    cost : float
        Of the whole path, engine units.
    unvisited_mass : float
        Largest adjusted weight, over its decisions, of outcomes that no path had followed.
    news : News
        What was learnt along it.
    work : Work
        All that the follower's network has done so far.
    """

    cost: float
    unvisited_mass: float
    news: News
    work: Work


class Follower:
    """A network, and the draws of its backward passes."""

    def __init__(self, network: Network, rng: np.random.Generator) -> None:
        self.network, self._rng = network, rng
        self.visits: list[Visit] = []  # of the last forward pass

    def follow(self, order: Order, heard: Sequence[News], interrupt: Interrupt) -> Report:
        """Learn along a path, after taking in what others have learnt."""
        for news in heard:
            self.network.hear(news)
        interrupt.check()
        if order.beside is not None:
            follow_first(self.network, *order.beside, order.tolerance, self._rng)
        self.visits = forward_pass(
            self.network, order.path, order.tolerance, interrupt, order.first, order.rest
        )
        self.network.note_path([visit.step for visit in self.visits])
        unvisited = backward_pass(
            self.network, self.visits, order.tolerance, self._rng, order.averaging, interrupt
        )
        return Report(
            path_cost(self.visits), unvisited, self.network.take_news(), self.network.work
        )


class _Team:
    """Followers that share a process, made when they are first needed."""

    def __init__(
        self, build: Callable[[], Network], rngs: Mapping[int, np.random.Generator]
    ) -> None:
        self._build, self._rngs = build, rngs
        self._followers: dict[int, Follower] = {}

    def add(self, number: int, network: Network) -> Follower:
        follower = self._followers[number] = Follower(network, self._rngs[number])
        return follower

    def follow(self, tasks: Sequence[_Task], interrupt: Interrupt) -> list[Report]:
        reports = []
        for task in tasks:
            if task.number not in self._followers:
                self.add(task.number, self._build())
            follower = self._followers[task.number]
            reports.append(follower.follow(task.order, task.heard, interrupt))
        return reports


class _Task(NamedTuple):
    number: int
    order: Order
    heard: list[News]


class Crew:
    """Follows several paths at a time.

    Parameters
    ----------
    first : Network
        Follows the first path of each iteration, and knows everything after it.
    build : callable returning Network
        A network that knows what `first` knows now. It must be possible to pickle it where
        processes cannot be forked.
    rngs : sequence of Generator
        One for each path.
    n_jobs : int
        Processes at work, this one included; more than there are paths are of no use.
    """

    def __init__(
        self,
        first: Network,
        build: Callable[[], Network],
        rngs: Sequence[np.random.Generator],
        n_jobs: int,
    ) -> None:
        self.first = first
        self._n_jobs = min(n_jobs, len(rngs))
        streams = list(enumerate(rngs))
        self._build = build
        self._streams = [dict(streams[p :: self._n_jobs]) for p in range(self._n_jobs)]
        self._here = _Team(build, self._streams[0])
        self._leader = self._here.add(0, first)
        self._beside: list[_Process] = []
        self._untold: list[list[News]] = [[] for _ in rngs]
        self._work: dict[int, Work] = {0: first.work}

    def follow(self, orders: Sequence[Order], interrupt: Interrupt) -> list[Report]:
        """Follow the first paths, as many as there are orders.

        Raises
        ------
        SolverError
            A process ended before it had answered.
        """
        tasks = [_Task(i, order, self._untold[i]) for i, order in enumerate(orders)]
        shares = [tasks[p :: self._n_jobs] for p in range(self._n_jobs)]
        if len(orders) > 1 and not self._beside:
            self._beside = [_Process(self._build, rngs) for rngs in self._streams[1:]]
        asked = list(zip(self._beside, shares[1:], strict=False)) if len(orders) > 1 else []
        for process, share in asked:
            process.send(share)
        answers = [self._here.follow(shares[0], interrupt)]
        answers += [process.receive() for process, _ in asked]
        reports = [answers[i % self._n_jobs][i // self._n_jobs] for i in range(len(orders))]
        self._spread(reports)
        return reports

    @property
    def first_visits(self) -> list[Visit]:
        """The first path's last forward pass."""
        return self._leader.visits

    def work(self) -> Work:
        """What all networks did together."""
        return Work.total(list(self._work.values()))

    def _spread(self, reports: Sequence[Report]) -> None:
        for number, report in enumerate(reports):
            self._untold[number] = []
            self._work[number] = report.work
        for number, report in enumerate(reports):
            told = replace(report.news, decisions=[])  # the session alone reads them
            for other, untold in enumerate(self._untold):
                if other != number:
                    untold.append(told)
        for news in self._untold[0]:  # the bound is that of everything found so far
            self.first.hear(news)
        self._untold[0] = []

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._beside:
            process.end()


class _Process:
    """Followers in another process."""

    def __init__(
        self, build: Callable[[], Network], rngs: Mapping[int, np.random.Generator]
    ) -> None:
        context: Any = multiprocessing.get_context(START_METHOD)
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, self._connection, build, rngs), daemon=True
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

    def send(self, tasks: Sequence[_Task]) -> None:
        try:
            self._connection.send(tasks)
        except OSError as error:
            raise self._lost() from error

    def receive(self) -> list[Report]:
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
        found: list[Report] = answer
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
    build: Callable[[], Network],
    rngs: Mapping[int, np.random.Generator],
) -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who asks
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    others_end.close()  # a copy kept here would hide that the other side is gone
    team = _Team(build, rngs)
    with one_blas_thread(), suppress(EOFError, OSError):  # the other side may end at any time
        while True:
            connection.send(_answer(team, connection.recv()))


def _answer(team: _Team, tasks: Sequence[_Task]) -> tuple[list[Report] | Exception, list[Warning]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer: list[Report] | Exception = team.follow(tasks, Interrupt())
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
