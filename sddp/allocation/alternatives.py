"""Alternatives to a decision: not trading, another risk limit, or a decision nearer to cash.

All are valued by the policy's cuts, as the decision itself is: what follows is optimal trading
under the limits that the policy was trained with.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyomo.environ as pyo

from sddp.allocation.model import AllocationModel, Holdings
from sddp.allocation.policy import AllocationPolicy, Regime, belief_over_regimes
from sddp.allocation.problem import money
from sddp.allocation.stage import StageInputs, decision_stage
from sddp.arrays import Floats
from sddp.engine.policy.policy import Decision
from sddp.engine.presolve.compile import presolve_stage
from sddp.engine.stage.declaration import Stage
from sddp.errors import InfeasibleState, ModelError
from sddp.labels import label_index

# Fraction of wealth by which the limit is moved to find what it costs: the value is piecewise
# linear in it, and the solver's tolerances (1e-9) are far below.
LIMIT_STEP = 1e-5

# Of wealth: values that differ by less are the same to the solver.
TOLERANCE = 1e-9
# A price on distance too small to give up value for, and one that buys all distance.
TIE, DEAREST = 1e-9, 1e3
# Each solve finds a new vertex of the frontier; some dozens are met.
MOST_SOLVES = 200


@dataclass(frozen=True)
class Unchanged:
    """Value and risk of not trading until the next decision.

    Attributes
    ----------
    value : float or None
        Expected terminal wealth, in money, under the policy's cuts; None where no later decision
        could keep the limit.
    cvar : float
        One-period CVaR of the loss, as a fraction of wealth. It may exceed the limit.
    """

    value: float | None
    cvar: float


def without_trading(
    policy: AllocationPolicy, *, stage: int = 0, regime: Regime, holdings: Holdings
) -> Unchanged:
    """Value and risk of not trading now.

    Parameters as for `AllocationPolicy.decide`. The limit is not imposed on this decision: what is
    held may exceed it.
    """
    problem = policy.problem
    before = money(problem.positions, holdings)
    belief = belief_over_regimes(problem, regime)
    declared = _stage(policy, stage, replace(problem.model, cvar_limit=None, cvar_penalty=None))
    model = declared.model
    for trade in (*model.purchases.values(), *model.sales.values()):
        trade.fix(0.0)
    loss = problem.distribution(stage, belief).cvar(
        float(before[0]), before[1:], problem.model.cvar_confidence
    )
    cvar = loss / float(before.sum())
    try:
        value = _decide(policy, stage, belief, declared, before).value
    except InfeasibleState:
        value = None
    return Unchanged(value, cvar)


def limit_price(
    policy: AllocationPolicy, *, stage: int = 0, regime: Regime, holdings: Holdings
) -> float:
    """Shadow price of the risk limit on the present decision.

    Parameters as for `AllocationPolicy.decide`.

    Returns
    -------
    float
        Expected terminal wealth, in money, that one more unit of `cvar_limit` (a fraction of
        wealth: 0.01 is one percentage point) on this decision alone would add, at the margin;
        0 where the limit does not bind or there is none.

    Raises
    ------
    InfeasibleState
        No decision keeps the limit.
    """
    problem = policy.problem
    if problem.model.cvar_limit is None:
        return 0.0
    before = money(problem.positions, holdings)
    belief = belief_over_regimes(problem, regime)
    values = []
    for step in (0.0, LIMIT_STEP):
        model = replace(problem.model, cvar_limit=problem.model.cvar_limit + step)
        values.append(_decide(policy, stage, belief, _stage(policy, stage, model, belief), before))
    gain = (values[1].value - values[0].value) / LIMIT_STEP
    # Below what the solver's tolerance (1e-9 of wealth) can tell from nothing.
    noise = 1e-9 * float(before.sum()) / LIMIT_STEP
    return gain if gain > noise else 0.0


def _stage(
    policy: AllocationPolicy,
    stage: int,
    model: AllocationModel,
    belief: np.ndarray | None = None,
) -> Stage:
    """The decision problem of a stage with another model."""
    problem = policy.problem
    if belief is None:
        belief = np.full(problem.scenarios.n_states, 1.0 / problem.scenarios.n_states)
    distribution = problem.distribution(stage, belief)
    terms = problem.terms
    if model.cvar_limit is not None and model.cvar_limit != problem.model.cvar_limit:
        terms = model.on(problem.scenarios)
    inputs = StageInputs(model, terms, distribution, problem.cvar, stage)
    return decision_stage(inputs, None, np.zeros(len(problem.positions)))


def _decide(
    policy: AllocationPolicy,
    stage: int,
    belief: np.ndarray,
    declared: Stage,
    before: Floats,
) -> Decision:
    arrival = belief @ policy.problem.scenarios.transition_matrix[stage]
    arcs = [((stage + 1, int(j)), float(arrival[j])) for j in np.flatnonzero(arrival > 0.0)]
    name = f"stage {stage}"
    return policy.engine.decide_before(
        presolve_stage(declared, name),
        arcs,
        {"holdings": before},
        risk=policy.engine.checkpoint.risk[(stage, int(belief.argmax()))],
        name=name,
    )


@dataclass(frozen=True, eq=False)
class NearestDecision:
    """A decision that gives up little for being near.

    Attributes
    ----------
    holdings : Series by position, cash first
        Money after trading.
    trades : Series by asset
        Purchases less sales.
    cost : float
        Of the trades, in money.
    cvar : float
        One-period CVaR of the loss, cost of trading included, as a fraction of wealth.
    value : float
        Expected terminal wealth under the policy's cuts, at least; `best` is that of the best
        decision, `cash` what cash alone would give. In money.
    best, cash : float
    distance : float
        Sum of absolute differences from the wanted holdings of the assets, in money; cash is what
        is left.
    """

    holdings: pd.Series[float]
    trades: pd.Series[float]
    cost: float
    cvar: float
    value: float
    best: float
    cash: float
    distance: float


@dataclass(frozen=True, eq=False)
class _Point:
    """A vertex of the frontier of value and distance; wealth is 1."""

    held: Floats
    value: float
    distance: float


def nearest_decision(
    policy: AllocationPolicy,
    *,
    within: float,
    nearest: Holdings,
    stage: int = 0,
    regime: Regime,
    holdings: Holdings,
) -> NearestDecision:
    """Return the decision nearest to wanted holdings among those that are nearly best.

    Nearly best: the expected gain to the horizon, value less what cash alone would give, is at
    least ``1 - within`` times the best one. Values are those of the policy's cuts, and all limits
    of the decision hold.

    The least distance for a given value is found on the frontier of the two: maximizing value less
    a price times distance gives its vertices, and the price is set by the two vertices on either
    side until no vertex lies between them. Value is concave, so what lies between two vertices has
    at least the value between theirs.

    Parameters
    ----------
    policy : AllocationPolicy
    within : float
        Share of the gain that may be given up, from 0 to 1.
    nearest : mapping or Series from position to money
        What to be near: what is held, for few trades, or an earlier decision.
    stage, regime, holdings :
        As in `AllocationPolicy.decide`.

    Raises
    ------
    ModelError
        `within` is no share, or as in `AllocationPolicy.decide`.
    InfeasibleState
        No trade keeps the risk limit now and later.
    """
    if not 0.0 <= within <= 1.0:
        raise ModelError(f"within={within}: must be a share of the gain from 0 to 1; give 0.05")
    problem = policy.problem
    if problem.model.pays:
        raise ModelError(
            "model has payments or a floor on wealth: the nearest decision is found without them; "
            "use AllocationPolicy.decide"
        )
    before, wanted = (money(problem.positions, given) for given in (holdings, nearest))
    policy.decide(stage=stage, regime=regime, holdings=holdings)  # checks what it is given
    wealth = float(before.sum())
    search = _Search(
        policy, stage, belief_over_regimes(problem, regime), before / wealth, wanted / wealth
    )
    cash = float(np.prod(1.0 + problem.terms.cash_return[stage:]))
    found, best = search.frontier(cash, within)
    return search.in_money(found, best, cash, wealth, before)


class _Search:
    def __init__(
        self,
        policy: AllocationPolicy,
        stage: int,
        belief: Floats,
        before: Floats,
        wanted: Floats,
    ) -> None:
        self._policy, self._stage, self._belief = policy, stage, belief
        self._before, self._wanted = before, wanted
        self.ahead = policy.problem.distribution(stage, belief)
        arrival = belief @ policy.problem.scenarios.transition_matrix[stage]
        self._arcs = [((stage + 1, int(j)), float(arrival[j])) for j in np.flatnonzero(arrival)]

    def frontier(self, cash: float, within: float) -> tuple[_Point, float]:
        """The nearest point of enough value, and the best value."""
        high = self.at(0.0)
        enough = high.value - within * max(high.value - cash, 0.0)
        # Among the best ones the nearest: a price too small to give up value for.
        best = high.value
        tied = self.at(TIE)
        high = tied if tied.value >= best - 10.0 * TOLERANCE else high
        low = self.at(DEAREST)
        if low.value >= enough - TOLERANCE:
            return low, best
        for _ in range(MOST_SOLVES):
            if high.distance - low.distance <= TOLERANCE:
                break
            price = (high.value - low.value) / (high.distance - low.distance)
            new = self.at(price)
            on_line = high.value - price * high.distance
            if new.value - price * new.distance <= on_line + TOLERANCE:
                break
            low, high = (new, high) if new.value < enough else (low, new)
        return _between(low, high, enough), best

    def at(self, price: float) -> _Point:
        """Best value less a price on distance."""
        decision = self._decide(price)
        held: Floats = np.array(list(decision.outgoing["holdings"].values()), dtype=float)
        distance = float(np.abs(held - self._wanted)[1:].sum())
        return _Point(held, decision.value + price * distance, distance)

    def _decide(self, price: float) -> Decision:
        problem, name = self._policy.problem, f"stage {self._stage}"
        inputs = StageInputs(problem.model, problem.terms, self.ahead, problem.cvar, self._stage)
        declared = decision_stage(inputs, None, np.zeros(len(problem.positions)))
        return self._policy.engine.decide_before(
            presolve_stage(self._near(declared, price), name),
            self._arcs,
            {"holdings": self._before},
            risk=self._policy.engine.checkpoint.risk[(self._stage, int(self._belief.argmax()))],
            name=name,
        )

    def _near(self, declared: Stage, price: float) -> Stage:
        """The stage with a price on the distance from what is wanted; wealth is 1."""
        m, wanted = declared.model, self._wanted
        m.above = pyo.Var(m.assets, domain=pyo.NonNegativeReals)
        m.below = pyo.Var(m.assets, domain=pyo.NonNegativeReals)
        m.apart = pyo.Constraint(
            m.assets,
            rule={i: m.holdings[i] - m.above[i] + m.below[i] == float(wanted[i]) for i in m.assets},
        )
        m.objective.expr -= price * pyo.quicksum(m.above[i] + m.below[i] for i in m.assets)
        return replace(declared, homogeneous=False)

    def in_money(
        self, found: _Point, best: float, cash: float, wealth: float, before: Floats
    ) -> NearestDecision:
        """The decision in money, its cost and risk computed from the holdings."""
        problem = self._policy.problem
        held = found.held * wealth
        trades = held[1:] - before[1:]
        bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
        cost = float(bought @ problem.terms.purchase_cost + sold @ problem.terms.sale_cost)
        loss = self.ahead.cvar(float(held[0]), held[1:], problem.model.cvar_confidence)
        return NearestDecision(
            holdings=pd.Series(held, index=label_index(problem.positions)),
            trades=pd.Series(trades, index=label_index(problem.asset_names)),
            cost=cost,
            cvar=(loss + cost) / wealth,
            value=found.value * wealth,
            best=best * wealth,
            cash=cash * wealth,
            distance=found.distance * wealth,
        )


def _between(low: _Point, high: _Point, enough: float) -> _Point:
    """The point of enough value on the line between two."""
    if high.value <= low.value:
        return high
    share = min(max((enough - low.value) / (high.value - low.value), 0.0), 1.0)
    held = low.held + share * (high.held - low.held)
    value = low.value + share * (high.value - low.value)
    return _Point(held, value, low.distance + share * (high.distance - low.distance))
