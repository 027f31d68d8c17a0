"""Benchmark strategies under the same limit and scenarios as the multi-stage policy."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel, Terms
from sddp.allocation.one_period import OnePeriodDistribution, one_period_distribution
from sddp.allocation.planning import Plan, planned_holdings
from sddp.allocation.scaling import scaled_to_limit
from sddp.arrays import Floats
from sddp.backtest.limits.positions import model_for, money_of_known, without_unquoted
from sddp.backtest.strategies import EqualWeight, Strategy
from sddp.backtest.trading import TransactionCosts, target_weights, wealth_after_costs
from sddp.backtest.trading.account import restore_strategy, strategy_state
from sddp.errors import InfeasibleState, ModelError
from sddp.estimation.scenario_models import RollingEstimate, ScenarioEstimate, ScenarioEstimator
from sddp.labels import CASH, label_index, places_of
from sddp.market.market import View
from sddp.scenarios import MarkovScenarios

Mode = Literal["receding", "run-through"]
LimitedPeriods = Literal["first", "each"]

# A decision whose CVaR is this near the limit, relative to wealth, is held back by it.
BINDING = 1e-6


@dataclass(frozen=True, eq=False)
class Situation:
    """Inputs of a decision.

    Attributes
    ----------
    view : View
    before : array, shape (1 + n_assets,)
        Money before trading, cash first, of the assets of the scenarios.
    terms : Terms
    scenarios : MarkovScenarios
        Of as many periods as are looked ahead.
    belief : array, shape (n_states,)
    confidence : float
    limit : float or None
    """

    view: View
    before: Floats
    terms: Terms
    scenarios: MarkovScenarios
    belief: Floats
    confidence: float
    limit: float | None

    def ahead(self, stage: int = 0, *, in_limit: bool = True) -> OnePeriodDistribution:
        """Outcomes of the period after a stage, as expected now."""
        belief = self.belief
        for t in range(stage):
            belief = belief @ self.scenarios.transition_matrix[t]
        cash_return = float(self.terms.cash_return[stage])
        return one_period_distribution(
            self.scenarios,
            stage,
            belief,
            cash_return,
            in_limit=in_limit,
            margin=self.terms.margin if in_limit else None,
        )

    def growth(self, stage: int) -> Floats:
        """Expected gross returns of the period after a stage, cash first."""
        ahead = self.ahead(stage, in_limit=False)
        return 1.0 + np.concatenate([[ahead.cash_return], ahead.probabilities @ ahead.returns])


@dataclass
class LimitedOpponent(ABC):
    """A strategy that decides anew each time on the scenarios of a multi-stage policy.

    Holdings that no trade brings within the limit are scaled towards cash to the least CVaR, and
    the decision log says so.

    Parameters
    ----------
    model : AllocationModel
        Costs and limits as the strategy believes them; `cash_return` is replaced by the rate known.
    estimator : ScenarioEstimator
        Scenarios and belief.
    refit_every : int
        Decisions between two estimates.

    Attributes
    ----------
    decision_log : list of dict
        One entry per decision, see `decision_log_table`.
    """

    model: AllocationModel
    estimator: ScenarioEstimator
    refit_every: int = 1
    decision_log: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _rolling: RollingEstimate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._rolling = RollingEstimate(self.estimator, self.refit_every)

    @property
    def cvar_limit(self) -> float | None:
        """The model's limit."""
        return self.model.cvar_limit

    @property
    def period(self) -> int:
        """Rows of the period that the limit is about."""
        return self.estimator.period

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """Weights under the model's limit."""
        return self.decide_within(view, holdings, self.model.cvar_limit)

    def decide_within(
        self, view: View, holdings: pd.Series[float], limit: float | None
    ) -> pd.Series[float]:
        """Weights under another limit."""
        started = time.perf_counter()
        refit = self._rolling.due
        estimate = self._rolling.refresh(view)
        situation = self._situation(view, holdings, estimate, limit)
        failure = ""
        try:
            held = self._chosen(situation)
        except InfeasibleState as error:
            failure, held = str(error), least_risk(situation)
        self.decision_log.append(
            {"date": view.date, "refit": refit}
            | self._forecast(situation, held)
            | {"failure": failure, "seconds": time.perf_counter() - started}
        )
        positions = label_index((CASH, *(situation.scenarios.asset_names or ())))
        return without_unquoted(pd.Series(held / held.sum(), index=positions), view)

    def decision_log_table(self) -> pd.DataFrame:
        """Decision log as a table by date.

        Returns
        -------
        DataFrame, shape (n_decisions, n_columns)
            ``refit``, whether scenarios were estimated anew; ``model_mean``, expected return of the
            next period, net of the trade; ``model_var`` and ``model_cvar``,
            one-period, cost of the trade included, as fractions of wealth before it;
            ``confidence``; ``cvar_limit`` and ``limit_used``; ``limit_binds``; ``cash``, its
            weight; ``failure`` in words; ``seconds`` the decision took.
        """
        return pd.DataFrame(self.decision_log).set_index("date")

    def checkpoint(self) -> dict[str, Any] | None:
        """As of the rolling estimate."""
        return self._rolling.checkpoint()

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """As of the rolling estimate."""
        self._rolling.resume(state, view)

    def state(self) -> dict[str, Any]:
        """State after any row, see `Stateful`; the decision log is not in it."""
        return {"rolling": self._rolling.state()}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`; `view` must reach back to the estimate in use."""
        if state["rolling"] is not None:
            self._rolling.resume(state["rolling"], view)

    @property
    def _n_stages(self) -> int:
        """Periods that the next decision looks ahead."""
        return 1

    @abstractmethod
    def _chosen(self, situation: Situation) -> Floats:
        """Money after trading, cash first.

        Raises
        ------
        InfeasibleState
            No trade keeps the limit.
        """

    def _situation(
        self,
        view: View,
        holdings: pd.Series[float],
        estimate: ScenarioEstimate,
        limit: float | None,
    ) -> Situation:
        scenarios = estimate.over(self._n_stages)
        names = tuple(scenarios.asset_names or ())
        cash_return = self.estimator.cash_return(view)
        model = replace(model_for(self.model, view, names), cash_return=cash_return)
        money = money_of_known(holdings, names, self.model)
        before: Floats = np.array([money.get(name, 0.0) for name in (CASH, *names)])
        return Situation(
            view=view,
            before=before,
            terms=model.on(scenarios),
            scenarios=scenarios,
            belief=estimate.belief(view),
            confidence=model.cvar_confidence,
            limit=limit,
        )

    def _forecast(self, situation: Situation, held: Floats) -> dict[str, Any]:
        """Risk of the next period by the model."""
        wealth, ahead = float(situation.before.sum()), situation.ahead()
        trades = held[1:] - situation.before[1:]
        terms, limit = situation.terms, situation.limit
        cost = float(
            np.maximum(trades, 0.0) @ terms.purchase_cost
            + np.maximum(-trades, 0.0) @ terms.sale_cost
        )
        own = (float(held[0]), held[1:], situation.confidence)
        cvar = (ahead.cvar(*own) + cost) / wealth
        expected = situation.ahead(in_limit=False).mean_gain(float(held[0]), held[1:])
        return {
            "model_mean": (expected - cost) / wealth,
            "model_var": (ahead.value_at_risk(*own) + cost) / wealth,
            "model_cvar": cvar,
            "confidence": situation.confidence,
            "cvar_limit": np.nan if self.model.cvar_limit is None else self.model.cvar_limit,
            "limit_used": np.nan if limit is None else limit,
            "limit_binds": limit is not None and cvar >= limit - BINDING,
            "cash": float(held[0] / held.sum()),
        }


@dataclass
class ScaledToLimit(LimitedOpponent):
    """The weights of another strategy, scaled towards cash until the model's CVaR is the limit.

    Parameters
    ----------
    model, estimator, refit_every :
        As `LimitedOpponent`.
    strategy : Strategy
        Whose weights are held; equal weights by default.

    Raises
    ------
    ModelError
        The model has no limit.
    """

    strategy: Strategy = field(default_factory=EqualWeight)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model.cvar_limit is None:
            raise ModelError("model.cvar_limit=None: must be a limit to scale to; give a number")

    def state(self) -> dict[str, Any]:
        """State after any row, with that of the other strategy."""
        return super().state() | {"strategy": strategy_state(self.strategy)}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`."""
        super().restore(state, view)
        restore_strategy(self.strategy, state["strategy"], view)

    def _chosen(self, situation: Situation) -> Floats:
        names = tuple(situation.scenarios.asset_names or ())
        view = situation.view
        money = pd.Series(situation.before, index=label_index((CASH, *names)))
        everything = money.reindex(label_index((CASH, *view.assets)), fill_value=0.0)
        answer = self.strategy.decide(view, everything)
        if answer is None:
            return least_risk(situation)
        places = [1 + place for place in places_of(names, list(view.assets))]
        asked = target_weights(answer, list(view.assets))[places]
        weights: Floats = np.concatenate([[1.0 - asked.sum()], asked])
        costs = TransactionCosts(situation.terms.purchase_cost, situation.terms.sale_cost)
        return _scaled(asked * wealth_after_costs(situation.before, weights, costs), situation)


@dataclass
class HeldToHorizon(LimitedOpponent):
    """The portfolio that would be best if it were held to the horizon: one LP, no later trade.

    Maximizes the expected excess return summed to the horizon, less the cost of this trade, under
    the one-period limit: ``max sum_i u_i m_i - cost`` with ``m_i`` the sum over the periods left of
    the conditional expected excess returns (not compounded).

    Parameters
    ----------
    model, estimator, refit_every :
        As `LimitedOpponent`.
    n_stages : int
        Decisions to the horizon.
    mode : {"receding", "run-through"}
        The horizon is always `n_stages` away, or it draws near: n_stages, n_stages - 1, ..., 1
        decisions, then a new estimate; `refit_every` is then `n_stages` at most.
    """

    n_stages: int = 12
    mode: Mode = "receding"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_stages < 1:
            raise ModelError(f"n_stages={self.n_stages}: must be a positive integer")
        if self.mode not in get_args(Mode):
            raise ModelError(f"mode={self.mode!r}: must be 'receding' or 'run-through'")
        if self.mode == "run-through" and self.refit_every > self.n_stages:
            raise ModelError(
                f"refit_every={self.refit_every}: must be at most n_stages={self.n_stages} where "
                "the horizon draws near; refit sooner, or use mode='receding'"
            )

    @property
    def _n_stages(self) -> int:
        # The rolling estimate has already counted this decision.
        gone = self._rolling.age - 1 if self.mode == "run-through" else 0
        return self.n_stages - gone

    def _chosen(self, situation: Situation) -> Floats:
        gain = np.zeros(len(situation.before))
        for stage in range(self._n_stages):
            growth = situation.growth(stage)
            gain += growth - growth[0]
        plan = Plan(1.0 + gain, situation.ahead())
        return planned_holdings(
            situation.before,
            [plan],
            situation.terms,
            confidence=situation.confidence,
            limit=situation.limit,
        )


@dataclass
class PredictiveControl(HeldToHorizon):
    """Model-predictive control: trades planned to the horizon on conditional means, one executed.

    Every planned trade pays its cost; none depends on what happens meanwhile.

    Parameters
    ----------
    model, estimator, refit_every, n_stages, mode :
        As `HeldToHorizon`.
    limited : {"first", "each"}
        Which periods the CVaR limit is on: the first alone, or each under the outcomes that are
        expected of it now.
    """

    limited: LimitedPeriods = "first"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limited not in get_args(LimitedPeriods):
            raise ModelError(f"limited={self.limited!r}: must be 'first' or 'each'")

    def _chosen(self, situation: Situation) -> Floats:
        plans = [
            Plan(
                situation.growth(stage),
                situation.ahead(stage) if stage == 0 or self.limited == "each" else None,
            )
            for stage in range(self._n_stages)
        ]
        return planned_holdings(
            situation.before,
            plans,
            situation.terms,
            confidence=situation.confidence,
            limit=situation.limit,
        )


def least_risk(situation: Situation) -> Floats:
    """What is held, scaled towards cash until the limit is kept or the CVaR is least."""
    return _scaled(situation.before[1:], situation)


def _scaled(wanted: Floats, situation: Situation) -> Floats:
    assert situation.limit is not None
    return scaled_to_limit(
        wanted,
        situation.before,
        situation.ahead(),
        purchase_cost=situation.terms.purchase_cost,
        sale_cost=situation.terms.sale_cost,
        confidence=situation.confidence,
        limit=situation.limit,
    ).holdings
