"""A certified interval for a policy: what its portfolios guarantee, and what its cuts allow.

The outer bound of a trained policy says that no policy of the sampled problem does better. The
inner bound is built backwards from portfolios that the policy holds. ``q`` of a portfolio ``u`` is
the mean (or the nested risk measure) of what the next stage guarantees from ``R u`` over all
outcomes, and each stage guarantees the best feasible combination of its portfolios
(`InnerHull`). Every guaranteed value is attained: the policy that holds these combinations
(`InnerBound.decide`) earns at least the inner bound in expectation, by induction from the end,

    earned_t(x) = E earned_{t+1}(R u) >= E I_{t+1}(R u) >= sum_i l_i E I_{t+1}(R u_i)
                >= sum_i l_i q_i = I_t(x),     u = sum_i l_i u_i,

the second step because ``I_{t+1}`` is concave and homogeneous. All this is about the sampled
problem, whose returns are the scenarios, and true up to the LPs' rounding (1e-9 of wealth).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.allocation.inner_hull import GuaranteedPortfolios, InnerHull
from sddp.allocation.inner_points import visited_portfolios
from sddp.allocation.model import Holdings
from sddp.allocation.outlook import outlook
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.problem import AllocationProblem, money
from sddp.arrays import Floats
from sddp.engine.sampling import check_generator
from sddp.errors import DataError, InfeasibleState, ModelError
from sddp.risk import RiskMeasure
from sddp.threads import one_blas_thread

# Values are true up to this, relative to wealth: what HiGHS's tolerances leave over the stages.
ROUNDING = 1e-9

# States asked at once: tables of (states x known bases) must not fill the memory.
BLOCK = 4_000

Hulls = Mapping[tuple[int, int], InnerHull]


@dataclass(frozen=True, eq=False)
class GuaranteedDecision:
    """What to hold, and what that guarantees.

    Attributes
    ----------
    holdings : Series by position, cash first
        Money after trading, before the period's returns.
    value : float
        Lower bound on the expected terminal wealth of going on with `InnerBound.decide`, in money.
    """

    holdings: pd.Series[float]
    value: float


@dataclass(frozen=True, eq=False)
class InnerBound:
    """Bounds from below and above on the optimum of the sampled problem. Made by `inner_bound`.

    Attributes
    ----------
    value : float
        Expected terminal wealth that `decide` attains at least, from the initial holdings, in
        money (its nested risk where the policy was trained with a risk measure).
    outer : float
        The policy's own bound: no policy attains more.
    cash : float
        The initial wealth left in cash.
    points : tuple of int
        Portfolios with a guaranteed value at each stage.
    n_solves : int
        Linear programmes solved for the values.
    seconds : float
        Wall-clock time, drawing of the portfolios included.
    """

    value: float
    outer: float
    cash: float
    points: tuple[int, ...]
    n_solves: int
    seconds: float
    _problem: AllocationProblem
    _hulls: Hulls

    @property
    def gap(self) -> float:
        """Width of the interval relative to the gain ``value - cash``; infinite without gain."""
        gain = self.value - self.cash
        return (self.outer - self.value) / gain if gain > ROUNDING * self.cash else np.inf

    def decide(
        self, *, stage: int = 0, regime: int | str, holdings: Holdings
    ) -> GuaranteedDecision:
        """The feasible decision with the largest guaranteed value.

        Parameters
        ----------
        stage : int
            0 for the first decision.
        regime : int or str
            Present regime, by position or name.
        holdings : mapping or Series from position to money
            Before trading; positions left out are 0.

        Raises
        ------
        InfeasibleState
            No combination of the portfolios is feasible from these holdings.
        ModelError
            Unknown stage, regime or position, or nothing held.
        """
        problem = self._problem
        try:
            known = self._hulls.get((stage, problem.scenarios.state_index(regime)))
        except DataError as error:
            raise ModelError(str(error)) from error
        if known is None:
            raise ModelError(
                f"stage = {stage} with regime = {regime!r} is not reached by the problem: stages "
                f"are 0..{problem.n_stages - 1}, from its initial regime on"
            )
        before = np.array(list(money(problem.positions, holdings).values()))
        answer = known.decide(before)
        if answer is None:
            raise InfeasibleState(
                f"stage {stage}, regime {regime!r}: no combination of the portfolios behind the "
                "inner bound is feasible from these holdings"
            )
        value, held = answer
        return GuaranteedDecision(pd.Series(held, index=list(problem.positions)), value)


def inner_bound(
    policy: AllocationPolicy, *, rng: np.random.Generator, n_points: int = 50
) -> InnerBound:
    """A deterministic interval for a trained policy's problem, without simulation error.

    Parameters
    ----------
    policy : AllocationPolicy
        It chooses the portfolios; the better it is, the narrower the interval. Any policy gives
        a true one.
    rng : Generator
        Draws the states in which the policy is asked.
    n_points : int
        Decisions drawn for each stage and regime, in tens: with the same `rng` ten more never
        widen the interval. The time grows a little faster than their number.

    Raises
    ------
    InfeasibleState
        No combination of the drawn portfolios is feasible all the way: nothing is guaranteed.
        Possible only where a limit is below what selling out costs; draw more points.
    ModelError
        `n_points` is below 1, or `rng` is no generator.
    """
    if n_points < 1:
        raise ModelError(f"n_points = {n_points}; draw at least one decision a stage and regime")
    check_generator(rng)
    started, problem = time.perf_counter(), policy.problem
    weights = visited_portfolios(policy, n_points, rng)
    with one_blas_thread():
        hulls, points = _backwards(policy, weights)
    first = next(regime for stage, regime in hulls if stage == 0)
    start = problem.engine.initial_state((0, first))
    value = float(hulls[0, first].values(start[None, :])[0])
    if not np.isfinite(value):
        raise InfeasibleState(
            f"no combination of the portfolios that {n_points} draws a stage and regime gave keeps "
            "the limits from the first decision to the last, so nothing is guaranteed; raise "
            "n_points, or cvar_limit above what selling out costs"
        )
    return InnerBound(
        value=value,
        outer=policy.bound,
        cash=float(start.sum() * np.prod(1.0 + problem.terms.cash_return)),
        points=points,
        n_solves=sum(hull.n_solves for hull in hulls.values()),
        seconds=time.perf_counter() - started,
        _problem=problem,
        _hulls=hulls,
    )


def _backwards(
    policy: AllocationPolicy, weights: tuple[Floats, ...]
) -> tuple[dict[tuple[int, int], InnerHull], tuple[int, ...]]:
    """Hulls of all stages and reachable regimes from the last decision to the first."""
    problem, graph = policy.problem, policy.problem.engine.graph
    hulls: dict[tuple[int, int], InnerHull] = {}
    points = []
    for stage in reversed(range(problem.n_stages)):
        later = _later_values(problem, stage, weights[stage], hulls)
        regimes = [k for k in range(problem.scenarios.n_states) if graph.reaches((stage, k))]
        known = 0
        for regime in regimes:
            risk = policy.engine.snapshot.risk[(stage, regime)]
            portfolios = _guaranteed(problem, stage, regime, weights[stage], later, risk)
            known = max(known, len(portfolios.values))
            name = f"stage {stage}, regime {regime}"
            hulls[stage, regime] = InnerHull(portfolios, problem.model, problem.terms, name)
        points.append(known)
    return hulls, tuple(reversed(points))


def _later_values(problem: AllocationProblem, stage: int, weights: Floats, hulls: Hulls) -> Floats:
    """Guaranteed wealth after each outcome, shape (n_points, n_states, n_scenarios).

    Regimes that cannot follow hold NaN.
    """
    scenarios = problem.scenarios
    shape = (len(weights), scenarios.n_states, scenarios.n_scenarios)
    values = np.full(shape, np.nan)
    together = max(1, BLOCK // scenarios.n_scenarios)
    for regime in range(scenarios.n_states):
        if not problem.engine.graph.reaches((stage + 1, regime)):
            continue
        gross = _gross_returns(problem, stage, regime)
        for i in range(0, len(weights), together):
            arrived = weights[i : i + together, None, :] * gross
            states = arrived.reshape(-1, weights.shape[1])
            found = _worth_on_arrival(problem, stage + 1, regime, states, hulls)
            values[i : i + together, regime] = found.reshape(arrived.shape[:2])
        if stage + 1 < problem.n_stages:
            hulls[stage + 1, regime].forget_bases()
    return values


def _gross_returns(problem: AllocationProblem, stage: int, regime: int) -> Floats:
    risky = problem.scenarios.returns[stage, regime]
    cash = np.full((len(risky), 1), problem.terms.cash_return[stage])
    return 1.0 + np.hstack([cash, risky])


def _worth_on_arrival(
    problem: AllocationProblem, stage: int, regime: int, states: Floats, hulls: Hulls
) -> Floats:
    if stage < problem.n_stages:
        return hulls[stage, regime].values(states)
    kept = np.ones(states.shape[1])
    if problem.model.terminal_value == "liquidated":
        kept[1:] -= problem.terms.sale_cost
    worth: Floats = states @ kept
    return worth


def _guaranteed(
    problem: AllocationProblem,
    stage: int,
    regime: int,
    weights: Floats,
    later: Floats,
    risk: RiskMeasure,
) -> GuaranteedPortfolios:
    """The portfolios that can be gone on from in every outcome, with value and CVaR."""
    scenarios, terms = problem.scenarios, problem.terms
    assert scenarios.probabilities is not None
    chance = scenarios.transition_matrix[stage, regime][:, None] * scenarios.probabilities[stage]
    possible = chance > 0.0
    outcomes = later[:, possible]
    usable = np.isfinite(outcomes).all(axis=1)
    values = [risk.evaluate(chance[possible], row, "max") for row in outcomes[usable]]
    belief = np.eye(scenarios.n_states)[regime]
    view = outlook(scenarios, stage, belief, float(terms.cash_return[stage]))
    confidence = problem.model.cvar_confidence
    cvar = [view.cvar(float(row[0]), row[1:], confidence) for row in weights[usable]]
    return GuaranteedPortfolios(weights[usable], np.array(values), np.array(cvar))
