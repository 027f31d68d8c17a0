"""How far from the optimum a policy can be at most, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.engine.certificate.evaluation import MOST_NODES, policy_cost, tree_size
from sddp.engine.certificate.inner_bound import InnerBound
from sddp.engine.certificate.inner_points import (
    ByStage,
    Trained,
    distinct,
    merged,
    normal,
    visited_states,
)
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.subproblem.solutions import StageSolution
from sddp.errors import ModelError, SolverError
from sddp.risk import RiskMeasure

INNER_BOUND, EXACT_EVALUATION = "inner bound", "exact evaluation"

# Checks in training take at most this share of its linear programs.
SHARE = 0.1

# The first sweep of a training; later ones take as many new points as there are already.
FIRST_POINTS = 2

# With more state components than this, points that a tenth of the programs can afford do not
# certify a gap at which training may stop (4 to 12 assets: 0.5 to 2 % of the gain): all of it is
# for the check at the end, of which the points are the best.
MOST_EARLY = 3

# Points of the first sweep of the last check, or as many as there are state components: with fewer
# no mixture is near to what is decided (4 assets: 31 % of the gain by 3 points, 1 % by 4).
FEWEST_LAST = 4

# A check before the end is made once it may take so many times the programs of the one before.
GROWTH = 2

# Trial points that are kept of each stage, the latest ones.
MOST_RECENT = 400

# Where both values are below this, relative to the largest cost, their gap has no relative size.
NO_SIZE = 1e-9

# Decisions of a scenario tree that are enumerated for each unit of `effort`.
ENUMERATED = 500


@dataclass(frozen=True)
class Certificate:
    """An interval that holds the optimal value: no simulation error, no assumption.

    Attributes
    ----------
    bound : float
        The outer bound, by the policy's cuts, in the user's units.
    value : float or None
        The inner one, which a policy attains. None where nothing is known.
    gap : float or None
        Their distance.
    relative_gap : float or None
        Relative to the gain over `reference` where that was given, else to the larger of the two
        absolute values. None where that is below 1e-9 of the largest cost, and where `gap` is.
    known_by : {"inner bound", "exact evaluation"} or None
        Values guaranteed at known points and what lies between them; or all decisions of the
        policy in the scenario tree.
    why_not : str or None
        Why nothing is known.
    unvisited_mass : float or None
        Largest adjusted weight, at the decisions of the training's last pass, of what no path
        has followed.
    solves : int
        Linear programs that it took.
    """

    bound: float
    value: float | None
    gap: float | None
    relative_gap: float | None
    known_by: str | None
    why_not: str | None
    unvisited_mass: float | None = None
    solves: int = 0

    def __str__(self) -> str:
        if self.gap is None:
            return f"not certified ({self.why_not})"
        size = "" if self.relative_gap is None else f" ({100.0 * self.relative_gap:.2g} %)"
        return f"gap {self.gap:.4g}{size} by {self.known_by}"


class Known(NamedTuple):
    """The least cost that is known to be attained, in engine units, and how."""

    cost: float
    known_by: str | None
    why_not: str | None
    solves: int


def stated(
    problem: Problem,
    bound: float,
    known: Known,
    *,
    reference: float | None,
    largest_cost: float,
    unvisited_mass: float | None,
) -> Certificate:
    """A certificate from an outer bound in the user's units and what is known to be attained."""
    if not np.isfinite(known.cost):
        return Certificate(
            bound, None, None, None, None, known.why_not, unvisited_mass, known.solves
        )
    value = problem.sign * known.cost
    gap = max(0.0, problem.sign * (value - bound))
    if reference is None:
        size = max(abs(bound), abs(value))
        least = NO_SIZE * largest_cost
    else:
        size = problem.sign * (reference - value)
        least = NO_SIZE * max(largest_cost, abs(reference))
    relative = gap / size if size > least else None
    return Certificate(
        bound, value, gap, relative, known.known_by, None, unvisited_mass, known.solves
    )


class _Watched:
    """A policy whose largest cost of a stage is noted as it decides."""

    def __init__(self, policy: Trained) -> None:
        self.problem, self._policy = policy.problem, policy
        self.largest_cost, self.solves = 0.0, 0

    def solve_step(
        self, name: NodeName, incoming: Floats, noise: int
    ) -> tuple[StageSolution, float]:
        """See `Policy.solve_step`."""
        solution, size = self._policy.solve_step(name, incoming, noise)
        cost = abs(size * (solution.value - solution.theta))
        self.largest_cost, self.solves = max(self.largest_cost, cost), self.solves + 1
        return solution, size


def certify(
    policy: Trained,
    bound: float,
    risk: Mapping[NodeName, RiskMeasure],
    root_risk: RiskMeasure,
    *,
    effort: int,
    rng: np.random.Generator,
    reference: float | None,
    trial_states: ByStage,
    attained: float = np.inf,
    unvisited_mass: float | None = None,
) -> Certificate:
    """Certify a trained policy; see `Policy.certificate`.

    The first `effort` of a stage's `trial_states` are points beside those that are drawn;
    `attained` is a cost, engine units, that an inner bound has shown before.
    """
    if isinstance(effort, bool) or not isinstance(effort, int | np.integer) or effort < 1:
        raise ModelError(f"effort={effort!r}: must be a positive integer.")
    problem, watched = policy.problem, _Watched(policy)
    if problem.graph.reverse_topological() is None:
        known = Known(np.inf, None, CYCLE, 0)
    else:
        drawn = visited_states(watched, risk, effort, rng)
        tried = {stage: states[:effort] for stage, states in trial_states.items()}
        known = _inner(watched.problem, risk, root_risk, merged(drawn, tried))
        if tree_size(problem) <= min(MOST_NODES, ENUMERATED * effort):
            cost = policy_cost(watched, risk, root_risk)
            solves = known.solves + watched.solves
            # Of two that agree up to rounding the policy's own value says more.
            if cost <= known.cost + NO_SIZE * max(watched.largest_cost, abs(cost)):
                known = Known(cost, EXACT_EVALUATION, None, solves)
            known = known._replace(solves=solves)
        if attained < known.cost:
            known = Known(attained, INNER_BOUND, None, known.solves)
    return stated(
        problem,
        bound,
        known,
        reference=reference,
        largest_cost=watched.largest_cost,
        unvisited_mass=unvisited_mass,
    )


CYCLE = "the graph has a cycle; an inner bound is built back from an end"


def _inner(
    problem: Problem,
    risk: Mapping[NodeName, RiskMeasure],
    root_risk: RiskMeasure,
    states: ByStage,
) -> Known:
    inner = InnerBound(problem, risk, root_risk)
    try:
        inner.sweep(states)
    except SolverError as error:
        return Known(np.inf, None, str(error), inner.effort.solves)
    if not np.isfinite(inner.cost):
        return Known(np.inf, None, inner.explanation(), inner.effort.solves)
    return Known(inner.cost, INNER_BOUND, None, inner.effort.solves)


class Certifier:
    """Certifies in training, from its trial points, by a share of its linear programs.

    Counts decide, never the clock, so that runs repeat. Each check is a sweep of the latest trial
    points over hulls that are kept and grown; what it may take is known before it starts.
    """

    def __init__(
        self,
        problem: Problem,
        risk: Mapping[NodeName, RiskMeasure],
        root_risk: RiskMeasure,
        reference: float | None,
    ) -> None:
        self._problem, self.reference = problem, reference
        acyclic = problem.graph.reverse_topological() is not None
        self._inner = InnerBound(problem, risk, root_risk) if acyclic else None
        self.why_not = None if acyclic else CYCLE
        self._recent: dict[int, list[Floats]] = {}
        self._n_points, self._last = 0, 0  # points so far; programs of the last sweep
        self.largest_cost = 0.0

    @property
    def possible(self) -> bool:
        """Whether a certificate may still be had."""
        return self.why_not is None

    @property
    def cost(self) -> float:
        """Cost that is attained, engine units; infinite as long as nothing is guaranteed."""
        return self._inner.cost if self._inner else np.inf

    @property
    def solves(self) -> int:
        """Linear programs solved so far."""
        return self._inner.effort.solves if self._inner else 0

    def note(self, decisions: Sequence[tuple[NodeName, Floats]]) -> None:
        """Take in outgoing states of an iteration's solutions, one in each row."""
        for name, outgoing in decisions:
            recent = self._recent.setdefault(self._problem.graph.node(name).stage, [])
            recent += [normal(self._problem, state) for state in outgoing]
            del recent[:-MOST_RECENT]

    def advance(self, solves: int) -> None:
        """Check again if the share of `solves` linear programs allows enough of it."""
        if self._inner is None or not self.possible or self._problem.n_components > MOST_EARLY:
            return
        allowed = int(SHARE * solves) - self.solves
        if allowed >= max(self._inner.least_programs, GROWTH * self._last):
            self._sweep(max(FIRST_POINTS, self._n_points), allowed)

    def finish(self, solves: int) -> None:
        """Check when training ends, with what is left of the share.

        By few points first, which cost little, and by twice as many as long as that may be
        afforded: a sweep that is cut short leaves what the one before has shown.
        """
        n, least = max(FEWEST_LAST, self._problem.n_components, self._n_points), self._last
        while self._inner is not None and self.possible and n <= MOST_RECENT:
            allowed = int(SHARE * solves) - self.solves
            if allowed < max(1, least):
                return
            self._sweep(n, allowed)
            n, least = 2 * n, GROWTH * self._last

    def _sweep(self, n_points: int, at_most: int) -> None:
        assert self._inner is not None
        before = self.solves
        try:
            self._inner.sweep(self.latest(n_points), at_most=at_most)
        except SolverError as error:
            self.why_not = str(error)
        self._n_points = min(MOST_RECENT, self._n_points + n_points)
        self._last = self.solves - before

    def certificate(self, bound: float, unvisited_mass: float | None = None) -> Certificate:
        """What is known now."""
        cost = self.cost
        why_not = self.why_not
        if why_not is None and self._inner is not None and not np.isfinite(cost):
            why_not = self._inner.explanation()
        return stated(
            self._problem,
            bound,
            Known(cost, INNER_BOUND, why_not, self.solves),
            reference=self.reference,
            largest_cost=self.largest_cost,
            unvisited_mass=unvisited_mass,
        )

    def latest(self, n: int = MOST_RECENT) -> ByStage:
        """The last different trial points of each stage, the latest first."""
        return {
            stage: distinct(np.array(recent[::-1]))[:n] for stage, recent in self._recent.items()
        }
