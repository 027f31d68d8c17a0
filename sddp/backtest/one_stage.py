"""Any one-period optimizer as a strategy: forecast one period, solve, forecast the next."""

from __future__ import annotations

import datetime
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading.decisions import Solution
from sddp.backtest.trading.events import ParametersChanged
from sddp.errors import InfeasibleProblem, ModelError, NothingBeatsCash
from sddp.estimation.forecasts import (
    Forecast,
    Forecaster,
    forecaster_state,
    restore_forecaster,
)
from sddp.estimation.risk_aversions import RiskAversionRule
from sddp.labels import CASH, label_index, places_of
from sddp.market.market import View
from sddp.portfolio import (
    BlackLitterman,
    CVaRLimited,
    CVaRMatched,
    MeanVariance,
    Moments,
    Optimizer,
    Outcomes,
    PortfolioOptimizer,
    PortfolioResult,
)
from sddp.portfolio.inputs import read_per_asset
from sddp.portfolio.registry import exchanged
from sddp.portfolio.views.view import InvestorView

IfInfeasible = Literal["raise", "sell"]

MISSING = float("nan")

# A CVaR this near to its limit meets it.
BINDING = 1e-8


@dataclass
class OneStageStrategy:
    """The holdings of a one-period optimizer under a forecast of the next period.

    Trades start from the holdings of today. A risk aversion that follows a volatility index reads
    the market's, in points; risk that is measured on outcomes is measured on those of the
    forecast. Assets not quoted today, or not forecast, are sold at the optimizer's cost; where
    that is all of them everything is sold, and the decision_log says so.

    Parameters
    ----------
    optimizer : PortfolioOptimizer
        Such as `MeanVariance`, `RiskBudget`, `BlackLitterman`, or ``optimizer("ERC")``: what the
        strategy believes of costs, its bounds and constraints.
    forecaster : Forecaster
        `WindowForecaster`, `RegimeForecaster`, or one's own.
    confidence : float
        Level of the CVaR in the decision_log; an optimizer with a limit on CVaR has its own.
    if_infeasible : {"raise", "sell"}
        What to do where no holdings keep the constraints, none keeps a limit on CVaR (such as
        after a loss, where trading back costs more than the limit allows), or a ratio is asked for
        and nothing beats cash: raise, or sell everything and say so in the decision_log.
    risk_aversion : RiskAversionRule, optional
        Of each decision, in place of the optimizer's: `IndexedRiskAversion` follows an index within
        bounds, `RegimeRiskAversion` the regimes of a `RegimeForecaster`.

    Attributes
    ----------
    decision_log : list of dict
        One entry per decision, see `decision_log_table`.
    solution : Solution or None
        Optimizer, constraint set, moments and risk aversion of the last decision.

    Raises
    ------
    ModelError
        `if_infeasible` is unknown, or `confidence` not between 0 and 1.
    """

    optimizer: PortfolioOptimizer
    forecaster: Forecaster
    confidence: float = 0.9
    if_infeasible: IfInfeasible = "raise"
    risk_aversion: RiskAversionRule | None = None
    decision_log: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    solution: Solution | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.if_infeasible not in get_args(IfInfeasible):
            raise ModelError(f"if_infeasible = {self.if_infeasible!r}; known are raise, sell")
        if not 0.0 < self.confidence < 1.0:
            raise ModelError(f"confidence = {self.confidence}; give a number between 0 and 1")

    @property
    def cvar_limit(self) -> float | None:
        """The optimizer's limit on CVaR; None where it has none."""
        limited = _limited(self.optimizer)
        return None if limited is None else limited.limit

    @property
    def period(self) -> int:
        """Rows of the period that the forecast and the limit are about."""
        return self.forecaster.period

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """Weights of the wealth after costs.

        Raises
        ------
        ModelError
            The risk aversion follows an index that the market does not have.
        """
        return self._decide(view, holdings, frozenset(), self.cvar_limit)

    def decide_fixed(
        self, view: View, holdings: pd.Series[float], fixed: frozenset[Hashable]
    ) -> pd.Series[float]:
        """Weights where some assets are held fixed: their bounds are what is held now.

        Raises
        ------
        ModelError
            As `decide`.
        """
        return self._decide(view, holdings, fixed, self.cvar_limit)

    def decide_within(
        self, view: View, holdings: pd.Series[float], limit: float | None
    ) -> pd.Series[float]:
        """Weights of the wealth after costs, under another limit on CVaR than the optimizer's."""
        return self._decide(view, holdings, frozenset(), limit)

    def _decide(
        self,
        view: View,
        holdings: pd.Series[float],
        fixed: frozenset[Hashable],
        limit: float | None,
    ) -> pd.Series[float]:
        started = time.perf_counter()
        refit = self.forecaster.due
        own = self.forecaster.forecast(view)
        assets, quoted = view.assets.tolist(), view.arrays["quoted"][-1]
        if quoted.all() and own.moments.mean.index.equals(view.assets):
            tradable = assets
        else:
            now = dict(zip(assets, quoted, strict=True))
            tradable = [name for name in own.moments.mean.index.tolist() if now[name]]
        forecast = _of_all(own, view.assets)
        failures = [str(getattr(self.forecaster, "failure", ""))]
        result = None
        try:
            if tradable:
                held = holdings.to_numpy()
                weights = held[1:] / held.sum()
                result = self._solve(view, forecast, tradable, assets, weights, fixed, limit)
            else:
                failures.append("no asset is quoted and forecast today")
        except (InfeasibleProblem, NothingBeatsCash) as error:
            if self.if_infeasible == "raise":
                raise
            failures.append(str(error))
        self.solution = self._solution(result, forecast)
        note = {"date": view.date, "refit": refit} | self._forecast(result, forecast, limit)
        seconds = time.perf_counter() - started
        failure = "; ".join(text for text in failures if text)
        self.decision_log.append(note | {"failure": failure, "seconds": seconds})
        return pd.Series({CASH: 1.0}) if result is None else result.weights

    def decision_log_table(self) -> pd.DataFrame:
        """Decision log as a table by date.

        Returns
        -------
        DataFrame, shape (n_decisions, n_columns)
            ``refit``, whether the forecast was estimated anew; ``risk_aversion``;
            ``model_var`` and ``model_cvar``, one-period, of the portfolio after trading and with
            the cost of the trade as the model sees it, as fractions of wealth before it, on the
            forecast's outcomes at the level ``confidence``; ``cvar_limit``, ``limit_used`` (which
            differs where the limit is calibrated) and ``limit_binds`` of an optimizer with a limit
            on CVaR; ``model_mean``, expected return of the next period net of the trade;
            ``cash``, its weight; ``failure`` in words;
            ``seconds`` the decision took. NaN where nothing was found or no limit is set, and
            ``risk_aversion`` where the answer is no mean-variance portfolio.
        """
        return pd.DataFrame(self.decision_log).set_index("date")

    def checkpoint(self) -> dict[str, Any] | None:
        """Checkpoint, where the forecaster can be resumed."""
        return self.forecaster.checkpoint()

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint."""
        self.forecaster.resume(state, view)

    @property
    def lookback(self) -> int | None:
        """Rows that forecaster and risk aversion say they read; None for all."""
        read: list[int | None] = [getattr(self.forecaster, "lookback", None)]
        if self.risk_aversion is not None:
            read.append(self.risk_aversion.lookback)
        return None if None in read else max(n for n in read if n is not None)

    def state(self) -> dict[str, Any]:
        """State after any row, see `Stateful`; the decision log is not in it.

        Raises
        ------
        ModelError
            The forecaster keeps an estimate that it cannot hand out.
        """
        return forecaster_state(self.forecaster)

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`."""
        restore_forecaster(self.forecaster, state, view)

    def change(self, event: ParametersChanged) -> None:
        """Exchange optimizer, risk aversion or constraint set; see `Adjustable`.

        Another optimizer keeps the costs, bounds and constraints of the present one. The risk
        aversion is the base of one that follows an index.

        Raises
        ------
        ModelError
            A value is out of range, or the optimizer has no such parameter.
        """
        rule, base = self.risk_aversion, event.risk_aversion
        if rule is not None and base is not None:
            rule, base = rule.with_base(base), None
        optimizer = exchanged(
            self.optimizer,
            kind=event.optimizer,
            risk_aversion=base,
            constraints=event.constraint_set,
        )
        self.optimizer, self.risk_aversion = optimizer, rule

    def take_views(
        self,
        views: Sequence[InvestorView],
        market_weights: Mapping[Hashable, float] | None,
        sources: frozenset[str],
    ) -> None:
        """Decide with other views; see `TakesViews`.

        Raises
        ------
        ModelError
            The optimizer is not `BlackLitterman`.
        """
        if not isinstance(self.optimizer, BlackLitterman):
            raise ModelError(
                f"optimizer={type(self.optimizer).__name__}: decides without views; give "
                "BlackLitterman"
            )
        kept = [view for view in self.optimizer.views if view.source not in sources]
        weights = self.optimizer.market_weights if market_weights is None else market_weights
        self.optimizer = replace(self.optimizer, views=(*kept, *views), market_weights=weights)

    def _solve(
        self,
        view: View,
        forecast: Forecast,
        tradable: list[Hashable],
        assets: list[Hashable],
        weights: Floats,
        fixed: frozenset[Hashable],
        limit: float | None,
    ) -> PortfolioResult:
        index = view.arrays.get("volatility_index")
        today = view.date.date()
        optimizer = _held(_within(self.optimizer, limit), today)
        if self.risk_aversion is not None:
            optimizer = _at(optimizer, self.risk_aversion.at(view, forecast))
        optimizer = optimizer.restricted(tradable, assets)
        if "costs" in view.arrays or "limits" in view.arrays or fixed:
            optimizer = _of_the_row(optimizer, view, weights, fixed)
        return optimizer.solve(
            forecast.moments,
            current_weights=weights,
            cash_return=forecast.cash_return,
            volatility_index=None if index is None else float(index[-1]),
            outcomes=forecast.outcomes,
            as_of=today,
        )

    def _solution(self, result: PortfolioResult | None, forecast: Forecast) -> Solution:
        constraints = getattr(self.optimizer, "constraints", None)
        return Solution(
            optimizer=type(self.optimizer).__name__,
            constraint_set=None if constraints is None else constraints.version,
            iterations=None if result is None else result.iterations,
            moments=forecast.moments,
            cash_return=forecast.cash_return,
            risk_aversion=None if result is None else result.risk_aversion,
        )

    def _forecast(
        self, result: PortfolioResult | None, forecast: Forecast, used: float | None
    ) -> dict[str, Any]:
        """Risk of the next period by the model."""
        limited = _limited(self.optimizer)
        confidence = self.confidence if limited is None else limited.confidence
        limit = MISSING if limited is None else limited.limit
        within = MISSING if used is None else used
        stated = {"confidence": confidence, "cvar_limit": limit, "limit_used": within}
        if result is None:
            unknown = ("risk_aversion", "model_var", "model_cvar", "model_mean")
            nothing = dict.fromkeys(unknown, MISSING)
            return stated | nothing | {"limit_binds": True, "cash": 1.0}
        outcomes = forecast.outcomes
        var, cvar = result.tail(outcomes, confidence=confidence)
        # A matched risk aversion above 0 is one that the limit asked for.
        matched = isinstance(limited, CVaRMatched) and bool(result.risk_aversion)
        return stated | {
            "risk_aversion": MISSING if result.risk_aversion is None else result.risk_aversion,
            "model_var": var,
            "model_cvar": cvar,
            "model_mean": result.expected_return,
            "limit_binds": matched
            or (isinstance(limited, CVaRLimited) and cvar >= within - BINDING),
            "cash": float(result.weights.iloc[0]),
        }


def _held(optimizer: PortfolioOptimizer, today: datetime.date) -> PortfolioOptimizer:
    """The optimizer with the views that are held today: others have expired, or are not issued."""
    if not isinstance(optimizer, BlackLitterman):
        return optimizer
    views = [v for v in optimizer.views if v.issued_at <= today <= v.valid_until]
    return replace(optimizer, views=views)


def _at(optimizer: PortfolioOptimizer, risk_aversion: float) -> PortfolioOptimizer:
    """The optimizer at another risk aversion.

    Raises
    ------
    ModelError
        It has none.
    """
    changed: Any = optimizer
    if isinstance(optimizer, BlackLitterman):
        return replace(optimizer, optimizer=cast(Any, _at(optimizer.inner, risk_aversion)))
    if not hasattr(optimizer, "risk_aversion"):
        raise ModelError(
            f"{type(optimizer).__name__}: has no risk aversion; leave out risk_aversion, or give "
            "MeanVariance"
        )
    found: PortfolioOptimizer = replace(changed, risk_aversion=risk_aversion)
    return found


def _of_the_row(
    optimizer: PortfolioOptimizer, view: View, held: Floats, fixed: frozenset[Hashable]
) -> PortfolioOptimizer:
    """The optimizer with the row's costs and limits, and what is held fixed at its weight.

    Raises
    ------
    ModelError
        The optimizer has no costs or bounds that could be set.
    """
    if isinstance(optimizer, BlackLitterman):
        inner: Any = _of_the_row(optimizer.inner, view, held, fixed)
        return replace(optimizer, optimizer=inner)
    if not isinstance(optimizer, Optimizer):
        raise ModelError(
            f"{type(optimizer).__name__}: has no costs and bounds that follow the row; give an "
            "optimizer that derives from Optimizer"
        )
    assets = list(view.assets)
    lower = read_per_asset(optimizer.min_weights, assets, "min_weights", default=0.0)
    upper = read_per_asset(optimizer.max_weights, assets, "max_weights", default=1.0)
    if view.limits is not None:
        upper = np.minimum(upper, view.limits.to_numpy()[-1])
        lower = np.minimum(lower, upper)
    still = np.array([name in fixed for name in assets])
    lower, upper = np.where(still, held, lower), np.where(still, held, upper)
    if view.costs is None:
        return replace(optimizer, min_weights=lower, max_weights=upper)
    rates = view.costs.to_numpy()[-1]
    return replace(
        optimizer, min_weights=lower, max_weights=upper, transaction_cost=rates, sale_cost=None
    )


def _of_all(forecast: Forecast, labels: pd.Index[Any]) -> Forecast:
    """The forecast with the assets that it leaves out as ones without return: none is held."""
    moments, (returns, probabilities) = forecast.moments, forecast.outcomes
    known = np.asarray(returns, dtype=float)
    if moments.mean.index.equals(labels):
        # With names, and in rows, as below.
        table = pd.DataFrame(np.ascontiguousarray(known), columns=labels, copy=False)
        return replace(forecast, outcomes=Outcomes(table, probabilities))
    assets = labels.tolist()
    places = places_of(moments.mean.index, assets)
    mean, covariance = np.zeros(len(assets)), np.zeros((len(assets), len(assets)))
    everything = np.zeros((len(known), len(assets)))
    mean[places] = moments.mean
    covariance[np.ix_(places, places)] = moments.covariance
    everything[:, places] = known
    # With names: what makes views from outcomes asks for them.
    table = pd.DataFrame(everything, columns=label_index(assets))
    return replace(
        forecast,
        moments=Moments.of(mean, covariance, assets),
        outcomes=Outcomes(table, probabilities),
    )


def _within(optimizer: PortfolioOptimizer, limit: float | None) -> PortfolioOptimizer:
    """The optimizer under a limit on CVaR of this size, where it has one."""
    limited = _limited(optimizer)
    if limited is None or limit is None or limit == limited.limit:
        return optimizer
    changed: Any = replace(limited, limit=limit)
    if isinstance(optimizer, MeanVariance):
        changed = replace(optimizer, risk_aversion=changed)
    elif isinstance(optimizer, BlackLitterman):
        inner: Any = _within(optimizer.inner, limit)
        changed = replace(optimizer, optimizer=inner)
    found: PortfolioOptimizer = changed
    return found


def _limited(optimizer: PortfolioOptimizer) -> CVaRMatched | CVaRLimited | None:
    """What limits the CVaR of an optimizer's portfolios."""
    if isinstance(optimizer, BlackLitterman):
        return _limited(optimizer.inner)
    if isinstance(optimizer, CVaRLimited):
        return optimizer
    wanted = optimizer.risk_aversion if isinstance(optimizer, MeanVariance) else None
    return wanted if isinstance(wanted, CVaRMatched) else None
