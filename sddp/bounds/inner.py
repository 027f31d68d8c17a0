"""Inner bound of an allocation policy: a deterministic interval around the optimum.

The outer bound of a trained policy says that no policy of the sampled problem does better. The
inner bound (`sddp.engine.certificate.inner_bound`) is built backwards from portfolios that the
policy holds. ``q`` of a portfolio ``u`` is the mean (or the nested risk measure) of what the next
stage guarantees from ``R u`` over all outcomes, and each stage guarantees the best feasible
combination of its portfolios, whose CVaR is at most that combination of theirs. Every guaranteed
value is attained: the policy that holds these combinations (`InnerBound.decide`) earns at least the
inner bound in expectation, by induction from the end,

    earned_t(x) = E earned_{t+1}(R u) >= E I_{t+1}(R u) >= sum_i l_i E I_{t+1}(R u_i)
                >= sum_i l_i q_i = I_t(x),     u = sum_i l_i u_i,

the second step because ``I_{t+1}`` is concave and homogeneous. All this is about the sampled
problem, whose returns are the scenarios, and true up to the LPs' rounding (1e-9 of wealth).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.allocation.model import Holdings
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.problem import AllocationProblem, money
from sddp.engine.certificate import inner_bound as engine
from sddp.engine.certificate.inner_points import visited_states
from sddp.errors import DataError, InfeasibleState, ModelError
from sddp.labels import label_index
from sddp.rng import Rng, generator
from sddp.threads import one_blas_thread

# Values are true up to this, relative to wealth: what HiGHS's tolerances leave over the stages.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class GuaranteedDecision:
    """Decision of the inner bound with its guaranteed value.

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
        Linear programs solved for the values.
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
    _engine: engine.InnerBound

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
            node = (stage, problem.scenarios.state_index(regime))
        except DataError as error:
            raise ModelError(str(error)) from error
        if not (0 <= stage < problem.n_stages and problem.engine.graph.reaches(node)):
            raise ModelError(
                f"stage = {stage} with regime = {regime!r} is not reached by the problem: stages "
                f"are 0..{problem.n_stages - 1}, from its initial regime on"
            )
        step = self._engine.decide(node, money(problem.positions, holdings))
        if step is None:
            raise InfeasibleState(
                f"stage {stage}, regime {regime!r}: no combination of the portfolios behind the "
                "inner bound is feasible from these holdings"
            )
        held = pd.Series(step.outgoing, index=label_index(problem.positions))
        return GuaranteedDecision(held, -step.value)


def inner_bound(policy: AllocationPolicy, *, rng: Rng, n_points: int = 50) -> InnerBound:
    """A deterministic interval for a trained policy's problem, without simulation error.

    Parameters
    ----------
    policy : AllocationPolicy
        It chooses the portfolios; the better it is, the narrower the interval. Any policy gives
        a true one.
    rng : int, SeedSequence or Generator
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
        `n_points` is below 1, or `rng` is none.
    """
    if n_points < 1:
        raise ModelError(f"n_points = {n_points}; draw at least one decision a stage and regime")
    rng = generator(rng)
    started, problem = time.perf_counter(), policy.problem
    risk, root_risk = policy.engine.checkpoint.risk, policy.engine.checkpoint.root_risk
    with one_blas_thread():
        states = visited_states(policy.engine, risk, n_points, rng)
        inner = engine.InnerBound(problem.engine, risk, root_risk)
        inner.sweep(states)
    if inner.value is None:
        raise InfeasibleState(
            f"no combination of the portfolios that {n_points} draws a stage and regime gave keeps "
            "the limits from the first decision to the last, so nothing is guaranteed; raise "
            "n_points, or cvar_limit above what selling out costs"
        )
    known = inner.n_points
    return InnerBound(
        value=inner.value,
        outer=policy.bound,
        cash=problem.cash_value,
        points=tuple(
            max(n for node, n in known.items() if problem.engine.graph.node(node).stage == stage)
            for stage in range(problem.n_stages)
        ),
        n_solves=inner.effort.solves,
        seconds=time.perf_counter() - started,
        _problem=problem,
        _engine=inner,
    )
