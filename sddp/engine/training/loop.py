"""The loop of stochastic dual dynamic programming: sample, passes, lower bound, log, stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.engine.certificate.certificate import Certificate, Certifier
from sddp.engine.model.graph import NodeName
from sddp.engine.model.sampling import (
    InSample,
    SamplingScheme,
    Step,
    Successors,
    begin_path,
    check_path,
    position_of,
)
from sddp.engine.policy.policy import Policy
from sddp.engine.subproblem.solutions import NoiseSolutions, StageSolution, Work
from sddp.engine.subproblem.subproblems import (
    Subproblems,
)
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.passes import Visit, check_homogeneity, forward_pass, path_cost
from sddp.engine.training.result import TrainingResult
from sddp.engine.training.schedules import (
    PathSchedule,
    ToleranceSchedule,
)
from sddp.engine.training.stopping import (
    LogEntry,
    Progress,
    StoppingRule,
)
from sddp.engine.training.workers import (
    PathResult,
    PathTask,
    Replica,
    Replicas,
    Workers,
)
from sddp.engine.value.cut_updates import CutUpdates
from sddp.engine.value.outcomes import first_outcomes
from sddp.risk import RiskMeasure
from sddp.threads import one_blas_thread

_log = logging.getLogger("sddp")

# A bound that is met to this, relative to itself, is active.
ACTIVE_TOLERANCE = 1e-7

OnIteration = Callable[[LogEntry], object]


@dataclass(eq=False)
class Training:
    """A training that is driven step by step; made by `start_training`.

    >>> with sddp.start_training(problem, rng=0) as training:  # doctest: +SKIP
    ...     while training.iterate().iteration < 20:
    ...         print(training.log[-1].bound)
    ...     policy = training.result().policy

    Attributes
    ----------
    problem : Problem
    log : list of LogEntry
    bound : float
        Best lower bound so far, engine units (costs): every one is valid.
    """

    subproblems: Subproblems  # of the first path, which know everything after an iteration
    root_risk: RiskMeasure
    reference: float | None
    sampling: SamplingScheme
    tolerances: ToleranceSchedule
    paths: PathSchedule
    workers: Workers
    here: Replicas
    build: Callable[[int], Replica]
    streams: Mapping[str, np.random.Generator]
    start: Policy | None
    interrupt: Interrupt = field(default_factory=Interrupt)
    log: list[LogEntry] = field(default_factory=list)
    bound: float = -np.inf
    refined: bool = False

    def __post_init__(self) -> None:
        self.problem, self.value_functions = (
            self.subproblems.problem,
            self.subproblems.value_functions,
        )
        risk = self.value_functions.risk
        self.certifier = Certifier(self.problem, risk, self.root_risk, self.reference)
        self.certified: Certificate | None = None
        self._pool = self.workers.start(self.here, self.build)
        self._pending: list[list[CutUpdates]] = [[] for _ in range(self.paths.most)]
        self._work: dict[int, Work] = {0: self.subproblems.work}
        self._memory: dict[StoppingRule, Any] = {}
        self._visits: list[Visit] = []  # of the first path
        self._moves: list[float] = []  # of the bound, relative
        self._first: Mapping[NodeName, NoiseSolutions] = {}  # first stages, by the last bound
        self._first_tolerance = np.inf
        self._n_sampled, self._started = 0, time.perf_counter()
        self._n_before = self.start.checkpoint.iterations if self.start is not None else 0

    def run(self, stopping: StoppingRule, on_iteration: Iterable[OnIteration] = ()) -> str:
        """Iterate until a rule gives a reason: the reason."""
        reason = None
        while not reason:
            entry = self.iterate()
            for callback in on_iteration:
                callback(entry)
            reason = stopping.reason(self.progress())
        self.settle()
        return reason

    def iterate(self) -> LogEntry:
        """One iteration of SDDP: sample, forward and backward passes, lower bound, log."""
        if self.start is not None and not self.log:  # there are cuts already
            self.find_lower_bound(self.tolerances.final)
        tolerance = self._tolerance()
        paths = self._sample(tolerance)
        results = self._pool.run(paths, self.interrupt)  # forward_pass, backward_pass
        self._add_cuts(results)
        moved = self.find_lower_bound(self.tolerances.of_bound(tolerance))
        self.log.append(self._entry(results, tolerance))
        self._moves.append(moved / (self.scale() or 1.0))
        _log.debug("iteration %d: bound %.8g", self.log[-1].iteration, self.log[-1].bound)
        return self.log[-1]

    def find_lower_bound(self, tolerance: float) -> float:
        """Value under the present cuts, by rows refined to a tolerance; by how much it rose."""
        self._first = self.subproblems.first_solutions(tolerance)
        self._first_tolerance, before = tolerance, self.bound
        weights = [probability for _, _, probability in self.problem.first_outcomes()]
        values = self.subproblems.first_values(self._first)
        seen = first_outcomes(self.root_risk, self.problem)
        value = self.root_risk.evaluate(weights, values, "min", seen)
        self.bound = max(self.bound, value)
        return self.bound - before

    def settle(self) -> None:
        """State the last bound as exactly as the cuts say it."""
        self.find_lower_bound(self.tolerances.final)
        if self.log:
            self.log[-1] = replace(self.log[-1], bound=self.problem.sign * self.bound)
        if self.certified is not None:
            entry = self.log[-1]
            self.certified = self.certifier.certificate(entry.bound, entry.unvisited_mass)

    def result(self, stopped_because: str = "stopped by the caller") -> TrainingResult:
        """The policy under the present cuts, and the log."""
        tolerance, iterations = self.tolerances.final, self._n_before + len(self.log)
        with one_blas_thread():
            checkpoint = self.subproblems.checkpoint(self.root_risk, tolerance, iterations)
            if not self.interrupt.requested:
                self.subproblems.judge(checkpoint)
            policy = Policy(self.problem, checkpoint)
            active = self._active_bounds()
        policy.trial_states = self.certifier.latest()
        policy.attained_cost = self.certifier.cost
        columns = list(LogEntry.__dataclass_fields__)
        log = pd.DataFrame([asdict(entry) for entry in self.log], columns=columns)
        return TrainingResult(
            policy,
            log.set_index("iteration"),
            stopped_because,
            self.log[-1].unvisited_mass if self.log else 1.0,
            active,
            self.work(),
            self.certified,
            self.reference,
            self.subproblems.stage_solver,
        )

    def work(self) -> Work:
        """What the subproblems of all paths did together."""
        return Work.total(list(self._work.values()))

    def progress(self) -> Progress:
        """What stopping rules may look at."""
        return Progress(
            self.log,
            self.tolerances.final,
            self.problem.sign < 0.0,
            self.scale(),
            self._simulate,
            self._memory,
            self._refine,
            self._certify if self.certifier.possible else None,
            self.reference,
        )

    def scale(self) -> float:
        """See `Progress`."""
        if self.problem.homogeneous:
            first_nodes = self.problem.graph.children(self.problem.graph.root)
            sizes = [
                self.problem.normalized(self.problem.initial_state(n))[1] for n, _ in first_nodes
            ]
            return self.problem.money * max(sizes)
        return max(max(abs(entry.bound), abs(entry.simulated)) for entry in self.log)

    def close(self) -> None:
        """End the processes that follow paths."""
        self._pool.close()

    def __enter__(self) -> Training:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ parts of an iteration

    def _tolerance(self) -> float:
        if not self.log:
            return self.tolerances.start
        if self.refined:
            return self.tolerances.final
        return self.tolerances.next(self.log[-1].tolerance, self._moves)

    def _sample(self, tolerance: float) -> list[PathTask]:
        """The paths of an iteration, with what is known of their first decisions."""
        iteration, root = self._n_before + len(self.log) + 1, self._root()
        tasks: list[PathTask] = []
        for number in range(self.paths.n_paths(iteration)):
            rng = self.streams["forward"]
            sampled = self.sampling.sample(self.problem, self._n_sampled, rng)
            self._n_sampled += 1
            path, rest = begin_path(sampled, root)
            check_path(self.problem, path)
            first, untold = self._first_decision(path[0], tolerance), self._pending[number]
            tasks.append(PathTask(number, iteration, path, tolerance, untold, first, rest))
        beside = self._beside(root, tasks[0].path[0], tolerance)
        tasks[0] = tasks[0]._replace(beside=beside)
        return tasks

    def _add_cuts(self, results: Sequence[PathResult]) -> None:
        """Tell each path what the others have found, and the first one at once."""
        self._visits = results[0].visits
        for number, result in enumerate(results):
            self._pending[number] = []
            self._work[number] = result.work
            self.certifier.note(result.decisions)
        for number, result in enumerate(results):
            for other, untold in enumerate(self._pending):
                if other != number:
                    untold.append(result.updates)
        for updates in self._pending[0]:  # the bound is that of everything found so far
            self.subproblems.apply(updates)
        self._pending[0] = []
        costs = [abs(visit.stage_cost) for visit in self._visits]
        self.certifier.largest_cost = max([self.certifier.largest_cost, *costs])
        if not self.log and self.problem.homogeneous:
            check_homogeneity(self.subproblems, self._visits, self.streams["checks"])

    def _root(self) -> Successors:
        """What may come before the first decision, by the decisions of the last bound."""
        values = partial(self.subproblems.first_values, self._first) if self._first else None
        return self.value_functions.first_successors(values, self.root_risk)

    def _beside(
        self, root: Successors, taken: Step, tolerance: float
    ) -> tuple[Step, StageSolution] | None:
        """The first decision followed least so far, unless the first path takes it.

        Each is solved in every iteration, for the bound needs it; none may rest on cuts of the
        others for good.
        """
        outcomes = root.outcomes()
        if len(outcomes) < 2 or not self._first or self._first_tolerance > tolerance:
            return None
        counts = np.array([self.value_functions.coverage.count(step) for step in outcomes])
        least = np.flatnonzero(counts == counts.min())
        step = outcomes[int(least[root.adjusted[least].argmax()])]
        if (step.node, step.noise) == (taken.node, position_of(taken.noise)):
            return None
        solution = self._first_decision(step, tolerance)
        return None if solution is None else (step, solution)

    def _first_decision(self, step: Step, tolerance: float) -> StageSolution | None:
        """The first decision by which the bound was found, if it was refined far enough."""
        if step.node not in self._first or self._first_tolerance > tolerance:
            return None
        found = self._first[step.node][position_of(step.noise)]
        assert isinstance(found, StageSolution)
        return found

    def _entry(self, results: Sequence[PathResult], tolerance: float) -> LogEntry:
        sign, work = self.problem.sign, self.work()
        unvisited = self.value_functions.coverage.unvisited_mass(self._root())
        return LogEntry(
            iteration=len(self.log) + 1,
            bound=sign * self.bound,
            simulated=sign * float(np.mean([result.cost for result in results])),
            seconds=time.perf_counter() - self._started,
            solves=work.lp.solves,
            tolerance=tolerance,
            warnings=work.warnings,
            unvisited_mass=max(unvisited, *(result.unvisited_mass for result in results)),
            fallbacks=work.fallbacks,
        )

    def _refine(self) -> None:
        self.refined = True

    def _certify(self, finish: bool) -> Certificate:
        """The certificate, after work within its share of linear programs, or one last sweep."""
        solves = self.work().lp.solves
        if finish:
            self.certifier.finish(solves)
        else:
            self.certifier.advance(solves)
        self.certified = self.certifier.certificate(self.problem.sign * self.bound)
        return self.certified

    def _simulate(self, n_paths: int, seed: int) -> Floats:
        self._first = {}  # feasibility cuts that are found here may refute them
        rng = np.random.default_rng(seed)
        totals = []
        for number in range(n_paths):
            path = InSample().sample(self.problem, number, rng)
            visits = forward_pass(self.subproblems, path, self.tolerances.final, self.interrupt)
            totals.append(self.problem.sign * path_cost(visits))
        return np.array(totals)

    def _active_bounds(self) -> tuple[NodeName, ...]:
        """Nodes of the last pass whose assumed bound is active."""
        visits = self._visits
        scale = max([self.problem.money, *(abs(visit.solution.theta) for visit in visits)])
        return tuple(
            dict.fromkeys(
                visit.node
                for visit in visits
                if self.subproblems[visit.node].bound_is_active(
                    visit.incoming, visit.noise, visit.solution, ACTIVE_TOLERANCE * scale
                )
            )
        )
