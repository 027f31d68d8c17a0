"""The multi-stage policy as a strategy: estimate, train, decide, re-estimate."""

from __future__ import annotations

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import AllocationDecision, AllocationPolicy
from sddp.allocation.scaling import scaled_to_limit
from sddp.allocation.training import AllocationResult, frictionless_policy
from sddp.arrays import Floats
from sddp.backtest.limits.positions import model_for, money_of_known, without_unquoted
from sddp.backtest.policy_cache import START, TrainingCache
from sddp.cache.fingerprint import NOT_DESCRIBED, generator_for
from sddp.engine.training.stopping import BoundStalling, Iterations, StoppingRule
from sddp.errors import DataError, InfeasibleProblem, InfeasibleState, ModelError, SolverError
from sddp.estimation.scenario_models import (
    RollingEstimate,
    ScenarioEstimate,
    ScenarioEstimator,
)
from sddp.labels import CASH
from sddp.market.market import View
from sddp.rng import Seed, seed_sequence

Mode = Literal["receding", "run-through"]
Future = Literal["trained", "cost-free"]
OnFailure = Literal["raise", "keep"]
TrainFrom = Literal["holdings", "cash"]

# What the data of a window or their scenarios can do to a refit; anything else is a mistake.
REFIT_FAILURES = (DataError, InfeasibleProblem, SolverError)

# A decision whose CVaR is this near the limit, relative to wealth, is held back by it.
BINDING = 1e-6

# What follows the last decision is known exactly: one iteration states it.
ONE_STAGE = Iterations(1)


@dataclass
class MultistageStrategy:
    """Train a multi-stage policy on what is known and follow it, until it is trained anew.

    Every decision is taken under the filtered belief over regimes, from the holdings held now.
    Assets that were not quoted when the policy was trained are sold, as the policy sees it before
    its decision; money that it gives to assets not quoted today stays in cash.
    The variants that studies compare are this class with other settings, or a one-period program;
    see `variants`.

    Parameters
    ----------
    model : AllocationModel
        What the strategy believes of costs and limits; its `cash_return` is replaced by the cash
        rate known at each training, compounded over a period.
    seed : int or SeedSequence
        For the paths of training, together with the date. Estimates have their own, that of
        `estimator`.
    estimator : ScenarioEstimator
        Regimes and scenarios: a `RegimeEstimator`, `GivenScenarios` of one's own, or an object with
        their methods.
    n_stages : int
        Decisions the policy looks ahead; with 1 it is `myopic`.
    mode : {"receding", "run-through"}
        Take the first decision of the policy each time, or its decisions of stages 0, 1, 2, ...
        as the horizon draws near.
    future : {"trained", "cost-free"}
        What wealth is worth after this decision: as trained, or ``v_j`` times wealth in regime j,
        with v the growth of wealth if all later trading were free. The latter sees costs in the
        present decision only, and needs no training.
    train_from : {"holdings", "cash"}
        Where the paths of a training start: from what is held when it is trained (from cash where
        that can neither be kept nor sold within the limit), or always from cash. Cuts hold from any
        state, but those of few iterations are good where the paths went: trained from cash, a
        decision from other holdings is off by 6 to 9 % of wealth. Trainings from cash do not
        depend on what a strategy has done before: compare their bounds, not those from holdings.
    stopping : StoppingRule
        Of training, where `n_stages` is above 1.
    refit_every : int
        Decisions between two trainings.
    on_failure : {"raise", "keep"}
        What a failed refit does: no usable fit, no feasible policy, no answer of the solver.
        ``"keep"`` goes on with the last policy, from its first stage, until the next refit is
        due; the first refit has none to keep and raises. A decision from holdings that no trade
        brings within the limit is to sell everything. The decision_log says what failed.
    trainings : TrainingCache
        Where trained policies are looked up; it moves no number.

    Attributes
    ----------
    decision_log : list of dict
        One entry per decision, see `decision_log_table`.
    result : AllocationResult or None
        The last training, where there was one and it was not looked up.
    training_log : DataFrame or None
        Of the last training, also where it was looked up.
    policy : AllocationPolicy or None
        In use.

    Raises
    ------
    ModelError
        An unknown `mode`, `future`, `train_from` or `on_failure`; `refit_every` exceeds the stages
        that are run through.
    """

    model: AllocationModel
    seed: Seed
    estimator: ScenarioEstimator
    n_stages: int = 12
    mode: Mode = "receding"
    future: Future = "trained"
    train_from: TrainFrom = "holdings"
    stopping: StoppingRule = field(default_factory=lambda: BoundStalling(5, 1e-6) | Iterations(40))
    refit_every: int = 1
    on_failure: OnFailure = "raise"
    trainings: TrainingCache = field(
        default_factory=TrainingCache, repr=False, metadata=NOT_DESCRIBED
    )
    decision_log: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    result: AllocationResult | None = field(default=None, init=False, repr=False)
    training_log: pd.DataFrame | None = field(default=None, init=False, repr=False)
    policy: AllocationPolicy | None = field(default=None, init=False, repr=False)
    _rolling: RollingEstimate = field(init=False, repr=False)
    _limit: float | None = field(init=False, repr=False)
    _trained_limit: float | None = field(init=False, repr=False)
    _trained_from: list[float] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        choices = {"mode": Mode, "future": Future, "train_from": TrainFrom}
        for name, known in (choices | {"on_failure": OnFailure}).items():
            if getattr(self, name) not in get_args(known):
                given = getattr(self, name)
                raise ModelError(f"{name} = {given!r}; known are {', '.join(get_args(known))}")
        if self.mode == "run-through" and self.refit_every > self.n_stages:
            raise ModelError(
                f"refit_every = {self.refit_every} runs through more than the n_stages = "
                f"{self.n_stages} of the policy; refit sooner, or use mode='receding'"
            )
        if self.model.pays:
            raise ModelError(
                "model has payments or a floor on wealth, which the accounts of a backtest do not "
                "pay; leave payment, payment_share and wealth_floor out"
            )
        seed_sequence(self.seed)
        self._rolling = RollingEstimate(self.estimator, self.refit_every)
        self._limit = self._trained_limit = self.model.cvar_limit

    @property
    def cvar_limit(self) -> float | None:
        """The model's limit."""
        return self.model.cvar_limit

    @property
    def period(self) -> int:
        """Rows of the period that the limit is about."""
        return self.estimator.period

    @property
    def estimate(self) -> ScenarioEstimate | None:
        """Regimes and scenarios in use."""
        return self._rolling.estimate

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """Weights of the policy's decision."""
        return self.decide_within(view, holdings, self.model.cvar_limit)

    def decide_within(
        self, view: View, holdings: pd.Series[float], limit: float | None
    ) -> pd.Series[float]:
        """Weights of the policy's decision under another limit than the model's.

        A refit trains for this limit. Between refits a decision of larger CVaR is scaled towards
        cash until it has this one; above the limit of the training, the latter holds.
        """
        started = time.perf_counter()
        self._limit = limit
        refit = self._rolling.due
        failure = self.refit(view, holdings) if refit else ""
        stage = self._rolling.age if self.mode == "run-through" else 0
        self._rolling.age += 1
        assert self._rolling.estimate is not None
        assert self.policy is not None
        belief = self._rolling.estimate.belief(view)
        note = {"date": view.date, "stage": stage, "refit": refit, "belief": tuple(belief.tolist())}
        money = money_of_known(holdings, self.policy.problem.asset_names, self.model)
        try:
            decision = self.policy.decide(stage=stage, regime=belief, holdings=money)
        except InfeasibleState as error:
            if self.on_failure == "raise":
                raise
            failure, decision = f"{failure}; {error}".removeprefix("; "), None
        if decision is not None:
            decision = self._scaled(self.policy, decision, money)
        note |= self._forecast(decision)
        note |= self._expectation(self.policy, stage, belief, decision, sum(money.values()))
        note |= {"bound": self.policy.bound, "failure": failure}
        self.decision_log.append(note | {"seconds": time.perf_counter() - started})
        return (
            pd.Series({CASH: 1.0}) if decision is None else without_unquoted(decision.weights, view)
        )

    def decision_log_table(self) -> pd.DataFrame:
        """Decision log as a table by date.

        Returns
        -------
        DataFrame, shape (n_decisions, n_columns)
            ``stage`` of the policy; ``refit``, whether it was trained anew; ``model_var`` and
            ``model_cvar``, one-period, of the portfolio after trading and with the cost of the
            trade as the model sees it, as fractions of wealth before it, under the belief and at
            the level ``confidence`` (NaN where no decision kept the limit); ``cvar_limit``
            and ``limit_used``, which differ where the limit is calibrated; ``limit_binds``;
            ``model_mean`` and ``horizon_mean``, expected return of the next period and to the
            horizon, net of the trade, the latter under the policy's cuts and so optimistic (NaN
            where the decision was scaled); ``cash``, its weight; ``bound`` on wealth at the horizon
            per unit of wealth at the refit, from what was held then; ``failure`` in words;
            ``seconds`` the decision took; and the belief as ``regime 1`` (calmest),
            ``regime 2``, ...
        """
        table = pd.DataFrame(self.decision_log).set_index("date")
        rows = table.pop("belief").tolist()
        # A fit may have had to do with fewer regimes than asked for.
        beliefs = np.zeros((len(rows), max(len(row) for row in rows)))
        for belief, row in zip(beliefs, rows, strict=True):
            belief[: len(row)] = row
        names = [f"regime {k + 1}" for k in range(beliefs.shape[1])]
        return table.join(pd.DataFrame(beliefs, index=table.index, columns=names))

    def checkpoint(self) -> dict[str, Any] | None:
        """Checkpoint at the end of each window, see `Resumable`."""
        return self._told(self._rolling.checkpoint())

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint; the policy in use then is trained again when needed."""
        self._rolling.resume(state, view)
        self._trained_limit = state["trained_limit"]
        self._trained_from = state["trained_from"]

    def final_state(self) -> dict[str, Any] | None:
        """State from which `restore_policy` restores the policy in use at the end of a run."""
        return self._told(self._rolling.state())

    def _told(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        return (
            None
            if state is None
            else state
            | {
                "trained_limit": self._trained_limit,
                "trained_from": self._trained_from,
            }
        )

    def restore_policy(self, state: Mapping[str, Any], view: View) -> None:
        """Restore the policy in use at the end of a run.

        With the caches of the run nothing is fitted or trained again.
        """
        self.resume(state, view)
        estimate = self._rolling.estimate
        assert estimate is not None
        self._train(estimate, view.until(estimate.date), self._trained_limit, self._trained_from)

    def state(self) -> dict[str, Any]:
        """State after any row, see `Stateful`; the decision log is not in it."""
        return {"policy": self.final_state()}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`: the policy in use is looked up, or trained again."""
        if state["policy"] is not None:
            self.restore_policy(state["policy"], view)

    def refit(self, view: View, holdings: pd.Series[float] | None = None) -> str:
        """Estimate and train anew, from holdings or else from cash.

        Returns what failed, where the last policy is kept.
        """
        try:
            estimate = self._rolling.renewed(view)
            given = holdings if self.train_from == "holdings" else None
            shares = None if given is None else self._shares(estimate, given)
            try:
                self._train(estimate, view, self._limit, shares)
            except InfeasibleProblem:
                if shares is None:
                    raise
                # What is held can neither be kept nor sold within the limit; cash can.
                self._train(estimate, view, self._limit, None)
        except REFIT_FAILURES as error:
            kept = self._rolling.estimate
            if self.on_failure == "raise" or kept is None:
                raise
            if self.policy is None:  # the run was cut and continued since it was trained
                then = view.until(kept.date)
                self._train(kept, then, self._trained_limit, self._trained_from)
            self._rolling.adopt(kept)
            return f"{type(error).__name__}: {error}"
        self._rolling.adopt(estimate)
        return ""

    def _shares(self, estimate: ScenarioEstimate, holdings: pd.Series[float]) -> list[float]:
        """Shares of wealth by position of the estimate, cash first."""
        names = tuple(estimate.scenarios.asset_names or ())
        money = money_of_known(holdings, names, self.model)
        amounts: Floats = np.array([money.get(name, 0.0) for name in (CASH, *names)])
        shares: list[float] = (amounts / amounts.sum()).tolist()
        return shares

    def _train(
        self,
        estimate: ScenarioEstimate,
        view: View,
        limit: float | None,
        shares: list[float] | None,
    ) -> None:
        scenarios = estimate.over(self.n_stages)
        model = replace(
            model_for(self.model, view, tuple(scenarios.asset_names or ())),
            cash_return=self.estimator.cash_return(view),
            cvar_limit=limit,
        )
        if self.future == "cost-free":
            self.result, self.training_log, self._trained_limit = None, None, limit
            self._trained_from = shares
            self.policy = frictionless_policy(model, scenarios)
            return
        positions: tuple[Hashable, ...] = (CASH, *(scenarios.asset_names or ()))
        held = dict(zip(positions, shares or (), strict=shares is not None))
        trained = self.trainings.train(
            model,
            scenarios,
            initial_regime=int(estimate.belief(view).argmax()),
            stopping=self.stopping if self.n_stages > 1 else ONE_STAGE,
            rng=generator_for(self.seed, "training", view.date),
            initial_holdings=START if shares is None else held,
        )
        self.result, self.training_log = trained.result, trained.log
        self.policy, self._trained_limit, self._trained_from = trained.policy, limit, shares

    def _scaled(
        self,
        policy: AllocationPolicy,
        decision: AllocationDecision,
        money: Mapping[Hashable, float],
    ) -> AllocationDecision:
        """The decision within the limit of this date, where that is below the training's."""
        limit, trained = self._limit, self._trained_limit
        if limit is None or trained is None or limit >= trained or self.model.cvar_penalty:
            return decision
        problem = policy.problem
        wanted: Floats = np.asarray(decision.holdings, dtype=float)[1:]
        before: Floats = np.array([money.get(name, 0.0) for name in problem.positions])
        confidence = problem.model.cvar_confidence
        found = scaled_to_limit(
            wanted,
            before,
            decision.distribution,
            purchase_cost=problem.terms.purchase_cost,
            sale_cost=problem.terms.sale_cost,
            confidence=confidence,
            limit=limit,
        )
        held = pd.Series(found.holdings, index=decision.holdings.index)
        loss = decision.distribution.value_at_risk(
            float(found.holdings[0]), found.holdings[1:], confidence
        )
        return replace(
            decision,
            trades=pd.Series(found.holdings[1:] - before[1:], index=decision.trades.index),
            holdings=held,
            weights=held / held.sum(),
            cost=found.cost,
            cvar=found.cvar,
            value=float("nan"),  # the cuts value the decision before it was scaled
            value_at_risk=(loss + found.cost) / float(before.sum()),
        )

    def _forecast(self, decision: AllocationDecision | None) -> dict[str, Any]:
        """Risk of the next period by the model."""
        asked, limit = self.model.cvar_limit, self._limit
        if limit is not None and self._trained_limit is not None:
            limit = min(limit, self._trained_limit)
        stated = {
            "confidence": self.model.cvar_confidence,
            "cvar_limit": float("nan") if asked is None else asked,
            "limit_used": float("nan") if limit is None else limit,
        }
        if decision is None:
            nothing = {"model_var": float("nan"), "model_cvar": float("nan")}
            return stated | nothing | {"limit_binds": True, "cash": 1.0}
        return stated | {
            "model_var": decision.value_at_risk,
            "model_cvar": decision.cvar,
            "limit_binds": limit is not None and decision.cvar >= limit - BINDING,
            "cash": float(decision.weights[CASH]),
        }

    def _expectation(
        self,
        policy: AllocationPolicy,
        stage: int,
        belief: Floats,
        decision: AllocationDecision | None,
        wealth: float,
    ) -> dict[str, Any]:
        """Expected returns by the model, net of the trade: of the next period, to the horizon."""
        if decision is None:
            return {"model_mean": float("nan"), "horizon_mean": float("nan")}
        held: Floats = np.asarray(decision.holdings, dtype=float)
        ahead = policy.problem.distribution(stage, belief, in_limit=False)
        gain = ahead.mean_gain(float(held[0]), held[1:]) - decision.cost
        return {"model_mean": gain / wealth, "horizon_mean": decision.value / wealth - 1.0}
