"""State of one training: iterations, bound, log, and what stopping rules may look at."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from sddp.arrays import Floats
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
from sddp.engine.policy.certificate import Certificate, Certifier
from sddp.engine.subproblem.solutions import NoiseSolutions, StageSolution
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.parallel import Crew, Order, Report
from sddp.engine.training.passes import Visit, check_homogeneity, forward_pass, path_cost
from sddp.engine.training.stopping import LogEntry, Progress, StoppingRule
from sddp.errors import ModelError
from sddp.risk import RiskMeasure

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

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("share", self.share), ("final", self.final)):
            if not (isinstance(value, Real) and np.isfinite(value) and value >= 0.0):
                raise ModelError(
                    f"Tolerances: {name} = {value!r}: must be a finite number >= 0, relative to "
                    "the value"
                )

    def next(self, tolerance: float, moved: float) -> float:
        """Tolerance of the next iteration, from this one's and a relative move of the bound."""
        wanted = max(self.share * moved, tolerance / LARGEST_STEP)
        return max(self.final, min(tolerance, wanted))


@dataclass(eq=False)
class Session:
    """State of one call of `train`."""

    crew: Crew
    root_risk: RiskMeasure
    reference: float | None
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
        self.certifier = Certifier(
            self.network.problem, self.network.risk, self.root_risk, self.reference
        )
        self.certified: Certificate | None = None

    def iterate(self, tolerance: float) -> LogEntry:
        """One iteration of SDDP."""
        n_paths = self.n_paths if len(self.log) >= SINGLE_ITERATIONS else 1
        averaging = 0.0
        if self.network.problem.homogeneous:  # elsewhere decisions in other states are unlike
            averaging = min(1.0, AVERAGED_ITERATIONS / (len(self.log) + 1))
        root = self._root()
        orders = [self._order(root, tolerance, averaging) for _ in range(n_paths)]
        orders[0] = orders[0]._replace(beside=self._beside(root, orders[0].path[0], tolerance))
        reports = self.crew.follow(orders, self.interrupt)
        self.visits = self.crew.first_visits
        for report in reports:
            self.certifier.note(report.news.decisions)
        costs = [abs(visit.stage_cost) for visit in self.visits]
        self.certifier.largest_cost = max([self.certifier.largest_cost, *costs])
        if not self.log and self.network.problem.homogeneous:
            check_homogeneity(self.network, self.visits, self.rngs[1])
        before = self.bound
        self.find_bound(max(self.tolerances.final, tolerance / LARGEST_STEP))
        self.log.append(self._entry(reports, tolerance))
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
        if self.certified is not None:
            entry = self.log[-1]
            self.certified = self.certifier.certificate(entry.bound, entry.unvisited_mass)

    def _root(self) -> Successors:
        """What may come before the first decision, by the decisions of the last bound."""
        firsts = self.firsts
        values = partial(self.network.first_values, firsts) if firsts else None
        return self.network.first_successors(values, self.root_risk)

    def _order(self, root: Successors, tolerance: float, averaging: float) -> Order:
        problem, number = self.network.problem, self.n_sampled
        self.n_sampled += 1
        sampled = self.sampling.sample(problem, number, self.rngs[0])
        path, rest = begin_path(sampled, root)
        check_path(problem, path)
        return Order(path, tolerance, averaging, self._first_decision(path[0], tolerance), rest)

    def _beside(
        self, root: Successors, taken: Step, tolerance: float
    ) -> tuple[Step, StageSolution] | None:
        """The first decision followed least so far, unless the first path takes it.

        Each is solved in every iteration, for the bound needs it; none may rest on cuts of the
        others for good.
        """
        outcomes = root.outcomes()
        if len(outcomes) < 2 or not self.firsts or self.firsts_tolerance > tolerance:
            return None
        counts = np.array([self.network.coverage.count(step) for step in outcomes])
        least = np.flatnonzero(counts == counts.min())
        step = outcomes[int(least[root.adjusted[least].argmax()])]
        if (step.node, step.noise) == (taken.node, position_of(taken.noise)):
            return None
        solution = self._first_decision(step, tolerance)
        return None if solution is None else (step, solution)

    def _first_decision(self, step: Step, tolerance: float) -> StageSolution | None:
        """What the bound was found by, if it was refined far enough: nobody need solve it again."""
        if step.node not in self.firsts or self.firsts_tolerance > tolerance:
            return None
        found = self.firsts[step.node][position_of(step.noise)]
        assert isinstance(found, StageSolution)
        return found

    def _entry(self, reports: Sequence[Report], tolerance: float) -> LogEntry:
        sign, work = self.network.problem.sign, self.crew.work()
        unvisited = self.network.coverage.unvisited_mass(self._root())
        return LogEntry(
            iteration=len(self.log) + 1,
            bound=sign * self.bound,
            simulated=sign * float(np.mean([report.cost for report in reports])),
            seconds=time.perf_counter() - self.started,
            solves=work.lp.solves,
            tolerance=tolerance,
            warnings=work.warnings,
            unvisited_mass=max(unvisited, *(report.unvisited_mass for report in reports)),
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
            self._certify if self.certifier.possible else None,
            self.reference,
        )

    def next_tolerance(self, tolerance: float) -> float:
        """Tolerance of the next iteration, from this one's and the bound's last moves."""
        if self.refined:
            return self.tolerances.final
        return self.tolerances.next(tolerance, max(self.moves[-RECENT_MOVES:]))

    def _certify(self, finish: bool) -> Certificate:
        """The certificate, after work within its share of linear programs, or one last sweep."""
        if finish:
            self.certifier.finish()
        else:
            self.certifier.advance(self.crew.work().lp.solves)
        self.certified = self.certifier.certificate(self.network.problem.sign * self.bound)
        return self.certified

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
        scale = max([self.network.problem.money, *(abs(visit.solution.theta) for visit in visits)])
        return tuple(
            dict.fromkeys(
                visit.node
                for visit in visits
                if self.network.nodes[visit.node].leans_on_bound(
                    visit.incoming, visit.noise, visit.solution, ACTIVE_TOLERANCE * scale
                )
            )
        )
