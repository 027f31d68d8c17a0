"""Training: forward, backward, bound, log, stop."""

from __future__ import annotations

import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from numbers import Integral
from typing import Any, TextIO

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.engine.cost_to_go import CutForm, LazyAggregation
from sddp.engine.crew import Crew, Order
from sddp.engine.graph import NodeName
from sddp.engine.interrupt import Interrupt, deferred_interrupt
from sddp.engine.network import Network, RiskChoice
from sddp.engine.node_problem import Work
from sddp.engine.passes import (
    Visit,
    check_homogeneity,
    forward_pass,
    path_cost,
)
from sddp.engine.policy import Policy
from sddp.engine.problem import Problem
from sddp.engine.sampling import (
    InSample,
    SamplingScheme,
    Step,
    check_generator,
    check_path,
    position_of,
)
from sddp.engine.solutions import NoiseSolutions, StageSolution
from sddp.engine.stopping import BoundStalling, Iterations, LogEntry, Progress, StoppingRule
from sddp.engine.storage import problem_digest
from sddp.errors import BoundWarning, ModelError
from sddp.risk import RiskMeasure, as_risk_measure
from sddp.threads import one_blas_thread

# A bound that is met to this, relative to itself, is active.
ACTIVE_TOLERANCE = 1e-7

# Trial points are means of decisions for so many iterations; then the share of the mean falls with
# the number of iterations, for in the end cuts are wanted at the decisions themselves.
AVERAGED_ITERATIONS = 10

# The first iterations follow one path: with so few cuts a second one would find the same.
SINGLE_ITERATIONS = 10

# One path may move the bound hardly at all by chance.
RECENT_MOVES = 3

# The tolerance falls by so much at a time: a bound that rests for an iteration or two may move on.
# The bound is refined so much further than the rows that cuts are made of: what is missing from it
# is small beside its moves, which the tolerance follows, and the first decision that it was found
# by is good enough for the next iteration.
LARGEST_STEP = 10.0

# `TrainingResult.stopped_because` after Ctrl-C.
INTERRUPTED = "interrupted"

DEFAULT_STOPPING = BoundStalling(30, 1e-7) | Iterations(1_000)


@dataclass(frozen=True)
class Tolerances:
    """To what accuracy rows are refined, relative to the value, as training goes on.

    Cuts from a loosely refined LP are valid, only weaker, and early ones are superseded anyway.
    The tolerance follows the bound: it is `share` of the largest of the bound's last few relative
    moves, never above `start` or the tolerance before, never below `final` or (unless a stopping
    rule asks for `final`) a tenth of the tolerance before. The bound of an iteration is refined
    ten times as far; that of the last one, a policy's bound, its decisions and simulations always
    use `final`.

    Parameters
    ----------
    start, share, final : float
    """

    start: float = 1e-4
    share: float = 0.3
    final: float = 1e-9

    def next(self, tolerance: float, moved: float) -> float:
        """Tolerance of the next iteration, from this one's and a relative move of the bound."""
        wanted = max(self.share * moved, tolerance / LARGEST_STEP)
        return max(self.final, min(tolerance, wanted))


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What came out of `train`.

    Attributes
    ----------
    policy : Policy
    log : DataFrame
        One row per iteration; see `LogEntry` for the columns and their units. Each bound is valid;
        the last one is all that the cuts say, unless training was interrupted.
    stopped_because : str
        In the words of the stopping rule, or ``"interrupted"``.
    active_bounds : tuple
        Nodes at which the bound on the cost-to-go, not the cuts, set the value of the last
        forward pass. Where the bound was computed it is valid, and training stopped early; where
        it was given (then a `BoundWarning` says so too) the result stands and falls with it.
    work : Work
        Where the time went: linear programmes, cost-to-go, generated rows.
    """

    policy: Policy
    log: pd.DataFrame
    stopped_because: str
    active_bounds: tuple[NodeName, ...]
    work: Work

    @property
    def bound(self) -> float:
        """Bound on the optimal value, user's units: optimistic; by rows refined to `final`."""
        return self.policy.bound


@dataclass(eq=False)
class _Session:
    """State of one call of `train`."""

    crew: Crew
    root_risk: RiskMeasure
    sampling: SamplingScheme
    tolerances: Tolerances
    n_paths: int
    rngs: Sequence[np.random.Generator]  # forward passes, checks
    interrupt: Interrupt
    log: list[LogEntry] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)  # of the first path
    memory: dict[StoppingRule, Any] = field(default_factory=dict)
    n_sampled: int = 0
    refined: bool = False
    bound: float = -np.inf  # engine units: the best so far, for every one is valid
    moves: list[float] = field(default_factory=list)  # of the bound, relative
    firsts: Mapping[NodeName, NoiseSolutions] = field(default_factory=dict)  # of the last bound
    firsts_tolerance: float = np.inf
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.network = self.crew.first

    def iterate(self, tolerance: float) -> LogEntry:
        """One iteration of SDDP."""
        n_paths = self.n_paths if len(self.log) >= SINGLE_ITERATIONS else 1
        averaging = 0.0
        if self.network.problem.homogeneous:  # elsewhere decisions in other states are unlike
            averaging = min(1.0, AVERAGED_ITERATIONS / (len(self.log) + 1))
        orders = [self._order(tolerance, averaging) for _ in range(n_paths)]
        reports = self.crew.follow(orders, self.interrupt)
        self.visits = self.crew.first_visits
        if not self.log and self.network.problem.homogeneous:
            check_homogeneity(self.network, self.visits, self.rngs[1])
        before = self.bound
        self.find_bound(max(self.tolerances.final, tolerance / LARGEST_STEP))
        self.log.append(self._entry([report.cost for report in reports], tolerance))
        self.moves.append((self.bound - before) / (self.scale() or 1.0))
        return self.log[-1]

    def find_bound(self, tolerance: float) -> None:
        """Value under the present cuts, by rows refined to a tolerance."""
        self.firsts = self.network.first_solutions(tolerance)
        self.firsts_tolerance = tolerance
        self.bound = max(self.bound, self.network.root_value(self.firsts, self.root_risk))

    def settle(self) -> None:
        """State the last bound as exactly as the cuts say it."""
        self.find_bound(self.tolerances.final)
        self.log[-1] = replace(self.log[-1], bound=self.network.problem.sign * self.bound)

    def _order(self, tolerance: float, averaging: float) -> Order:
        self.n_sampled += 1
        problem = self.network.problem
        path = self.sampling.sample(problem, self.n_sampled - 1, self.rngs[0])
        check_path(problem, path)
        return Order(path, tolerance, averaging, self._first_decision(path[0], tolerance))

    def _first_decision(self, step: Step, tolerance: float) -> StageSolution | None:
        """What the bound was found by, if it was refined far enough: nobody need solve it again."""
        if step.node not in self.firsts or self.firsts_tolerance > tolerance:
            return None
        found = self.firsts[step.node][position_of(step.noise)]
        assert isinstance(found, StageSolution)
        return found

    def _entry(self, costs: Sequence[float], tolerance: float) -> LogEntry:
        sign, work = self.network.problem.sign, self.crew.work()
        return LogEntry(
            iteration=len(self.log) + 1,
            bound=sign * self.bound,
            simulated=sign * float(np.mean(costs)),
            seconds=time.perf_counter() - self.started,
            solves=work.lp.solves,
            tolerance=tolerance,
            warnings=work.warnings,
        )

    def progress(self) -> Progress:
        """View for the stopping rules."""
        maximises = self.network.problem.sign < 0.0
        return Progress(
            self.log,
            self.tolerances.final,
            maximises,
            self.scale(),
            self._simulate,
            self.memory,
            self._refine,
        )

    def next_tolerance(self, tolerance: float) -> float:
        """Tolerance of the next iteration, from this one's and the bound's last moves."""
        if self.refined:
            return self.tolerances.final
        return self.tolerances.next(tolerance, max(self.moves[-RECENT_MOVES:]))

    def _refine(self) -> None:
        self.refined = True

    def scale(self) -> float:
        """See `Progress`."""
        problem = self.network.problem
        if problem.homogeneous:
            firsts = problem.graph.children(problem.graph.root)
            return max(float(np.abs(problem.initial_state(name)).sum()) for name, _ in firsts)
        return max(max(abs(entry.bound), abs(entry.simulated)) for entry in self.log)

    def _simulate(self, n_paths: int, seed: int) -> Floats:
        self.firsts = {}  # feasibility cuts that are found here may refute them
        rng = np.random.default_rng(seed)
        totals = []
        for number in range(n_paths):
            path = InSample().sample(self.network.problem, number, rng)
            visits = forward_pass(self.network, path, self.tolerances.final, self.interrupt)
            totals.append(self.network.problem.sign * path_cost(visits))
        return np.array(totals)

    def active_bounds(self) -> tuple[NodeName, ...]:
        """Nodes of the last pass whose assumed bound is active."""
        visits = self.visits
        scale = max([1.0, *(abs(visit.solution.theta) for visit in visits)])
        return tuple(
            dict.fromkeys(
                visit.node
                for visit in visits
                if self.network.nodes[visit.node].leans_on_bound(
                    visit.incoming, visit.noise, visit.solution, ACTIVE_TOLERANCE * scale
                )
            )
        )


def train(
    problem: Problem,
    *,
    rng: np.random.Generator,
    stopping: StoppingRule = DEFAULT_STOPPING,
    risk: RiskChoice = None,
    root_risk: RiskMeasure | None = None,
    cuts: CutForm | None = None,
    sampling: SamplingScheme | None = None,
    tolerances: Tolerances | None = None,
    start: Policy | None = None,
    n_paths: int = 2,
    n_jobs: int = 1,
    progress: bool = True,
) -> TrainingResult:
    """Train a policy by stochastic dual dynamic programming.

    Parameters
    ----------
    problem : Problem
    rng : Generator
        Draws the sampled paths; the same generator state gives the same policy.
    stopping : StoppingRule
        Checked after each iteration.
    risk : RiskMeasure or mapping from node name to RiskMeasure, optional
        Taken between each node's decision and the next, jointly over everything that happens
        between them, and nested. Expectation by default.
    root_risk : RiskMeasure, optional
        Over what happens before the first decision. Expectation by default.
    cuts : CutForm, optional
        `LazyAggregation` (default), `MultiCut` or `AverageCut`: the same values, other speeds.
    sampling : SamplingScheme, optional
        Paths of the forward passes; `InSample` by default.
    tolerances : Tolerances, optional
        Refinement of rows.
    start : Policy, optional
        Continue where an earlier training of the same problem stopped; a homogeneous one may
        have other first holdings now. Risk and cut form are the earlier ones; `risk`, `root_risk`
        and `cuts` must be left out.
    n_paths : int
        Forward paths, and so trial points at each stage, of an iteration; the first ten
        have one.
    n_jobs : int
        Processes that follow paths side by side; more than `n_paths` are of no use. The numbers
        are the same for every `n_jobs`. Under Linux they are forked; elsewhere the problem must
        be one that can be pickled, and a script wants its ``if __name__ == "__main__"``.
    progress : bool
        Lines on standard error once training takes longer than some seconds.

    Returns
    -------
    TrainingResult
        Also after Ctrl-C, with what was learnt until then and ``stopped_because`` saying so.

    Raises
    ------
    InfeasibleProblem
        No policy keeps all constraints.
    SolverError
        An LP ended neither optimal nor infeasible; the message names the file it was written to.
    ModelError
        A bound on the cost-to-go is needed and was not given.
    """
    _check_arguments(rng, stopping, cuts, n_paths, n_jobs)
    tolerances = tolerances or Tolerances()
    display = _Display(progress, sys.stderr)
    forward, backward, checks = rng.spawn(3)
    with deferred_interrupt() as interrupt, one_blas_thread():
        first, build = _network(problem, risk, cuts, start, tolerances.final)
        with Crew(first, build, backward.spawn(n_paths), n_jobs) as crew:
            session = _Session(
                crew,
                _root_risk(root_risk, start),
                sampling or InSample(),
                tolerances,
                int(n_paths),
                (forward, checks),
                interrupt,
            )
            reason = _run(session, stopping, display, goes_on=start is not None)
            policy = Policy.from_network(first, session.root_risk, tolerances.final)
        if interrupt.requested:  # also where the last check came before the key was pressed
            reason = INTERRUPTED
    active = session.active_bounds()
    _warn_about_bounds(problem, active)
    columns = list(LogEntry.__dataclass_fields__)
    log = pd.DataFrame([asdict(entry) for entry in session.log], columns=columns)
    return TrainingResult(policy, log.set_index("iteration"), reason, active, crew.work())


def _check_arguments(
    rng: np.random.Generator,
    stopping: StoppingRule,
    cuts: CutForm | None,
    n_paths: int,
    n_jobs: int,
) -> None:
    check_generator(rng)
    for name, value in (("n_paths", n_paths), ("n_jobs", n_jobs)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ModelError(f"{name} = {value!r}; give a whole number of at least 1")
    if n_jobs > 1 and multiprocessing.current_process().daemon:
        raise ModelError(
            f"n_jobs = {n_jobs} inside a process that may have none of its own (a worker of "
            "multiprocessing.Pool); give n_jobs=1, or use joblib around it"
        )
    if not isinstance(stopping, StoppingRule):
        raise ModelError(f"stopping = {stopping!r}; give a rule, such as Iterations(100)")
    if cuts is not None and (isinstance(cuts, type) or not hasattr(cuts, "attach")):
        raise ModelError(f"cuts = {cuts!r}; give a cut form, such as LazyAggregation()")


def _warn_about_bounds(problem: Problem, active: Sequence[NodeName]) -> None:
    assumed = [name for name in active if problem.given_bound(name) is not None]
    if assumed:
        warnings.warn(
            f"the bound on the cost-to-go is still active at {assumed[:3]}: the result "
            "depends on it; check that it is valid, or train afresh with a looser one",
            BoundWarning,
            stacklevel=3,
        )


def _root_risk(root_risk: RiskMeasure | None, start: Policy | None) -> RiskMeasure:
    if start is None:
        return as_risk_measure(root_risk)
    if root_risk is not None:
        raise ModelError("root_risk is that of the policy given as start; leave it out")
    return start.snapshot.root_risk


def _network(
    problem: Problem,
    risk: RiskChoice,
    cuts: CutForm | None,
    start: Policy | None,
    tolerance: float,
) -> tuple[Network, Callable[[], Network]]:
    """The network that training starts from, and how to make another like it."""
    if start is None:
        first = Network(problem, risk, cuts or LazyAggregation(), trains_to=tolerance)
        snapshot = None
    else:
        if risk is not None or cuts is not None:
            raise ModelError("risk and cuts are those of the policy given as start; leave them out")
        digests_differ = problem_digest(start.problem) != problem_digest(problem)
        if start.problem is not problem and digests_differ:
            raise ModelError(
                "start was trained on another problem (its graph, stage data, noise, transitions "
                "or cost_to_go_bound differ); train afresh"
            )
        snapshot = start.snapshot
        first = Network.restored(problem, snapshot, trains_to=tolerance)
    known = (first.problem, first.risk, first.cuts, snapshot)
    return first, partial(Network, *known, trains_to=tolerance, theta_lower=first.theta_lower)


def _run(session: _Session, stopping: StoppingRule, display: _Display, *, goes_on: bool) -> str:
    """Iterate until a rule gives a reason or Ctrl-C is pressed."""
    tolerance = session.tolerances.start
    try:
        if goes_on:  # there are cuts already
            session.find_bound(session.tolerances.final)
        while True:
            display.show(session.iterate(tolerance))
            reason = stopping.reason(session.progress())
            if reason:
                session.settle()
                return reason
            tolerance = session.next_tolerance(tolerance)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        display.close(session.log)


class _Display:
    """Progress lines on a stream, the more seldom the longer it takes."""

    FIRST = 3.0  # seconds before anything is shown: short trainings stay silent
    GROWTH = 1.15

    def __init__(self, wanted: bool, stream: TextIO) -> None:
        self._wanted, self._stream, self._next = wanted, stream, self.FIRST
        self._shown = False

    def show(self, entry: LogEntry) -> None:
        """Print a line if it is time."""
        if not self._wanted or entry.seconds < self._next:
            return
        if not self._shown:
            self._print(f"{'iteration':>9} {'bound':>15} {'simulated':>15} {'LPs':>9} {'s':>7}")
        self._shown = True
        self._line(entry)
        self._next = max(entry.seconds + 1.0, entry.seconds * self.GROWTH)

    def close(self, log: Sequence[LogEntry]) -> None:
        """The last line, where any was shown."""
        if self._shown:
            self._line(log[-1])

    def _line(self, entry: LogEntry) -> None:
        self._print(
            f"{entry.iteration:>9} {entry.bound:>15.8g} {entry.simulated:>15.8g} "
            f"{entry.solves:>9} {entry.seconds:>7.1f}"
        )

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
