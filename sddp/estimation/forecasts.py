"""Forecasts of the next period for one-period strategies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.estimation.means import (
    MeanEstimator,
    MeanInputs,
    SampleMeans,
    checked_means,
    mean_excess,
)
from sddp.estimation.regimes import LimitMeans, check_means
from sddp.estimation.scenario_models import RollingEstimate, ScenarioEstimate, ScenarioEstimator
from sddp.market.market import View
from sddp.portfolio import MomentEstimator, Moments, Outcomes, SampleMoments, outcome_moments

OnFailure = Literal["raise", "keep"]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Law of the next period.

    Attributes
    ----------
    moments : Moments
        Of simple returns, for the assets that can be judged today; others are left out.
    outcomes : Outcomes
        Returns of the same assets, in their order, and probabilities: what risk is measured on.
    cash_return : float
        Simple return of cash over the period.
    belief : array, shape (n_states,), or None
        Filtered probabilities of today's regime, where there are regimes.
    """

    moments: Moments
    outcomes: Outcomes
    cash_return: float
    belief: Floats | None = None


class Forecaster(Protocol):
    """Source of a strategy's forecasts; it keeps the estimate in use and its age.

    A run can be cut and continued (see `OneStageStrategy.checkpoint`).
    """

    @property
    def period(self) -> int:
        """Rows of the period that is forecast."""
        ...

    @property
    def due(self) -> bool:
        """Whether the next forecast needs a new estimate."""
        ...

    def forecast(self, view: View) -> Forecast:
        """Law of the next period, once per decision.

        Raises
        ------
        DataError
            What is known does not carry an estimate.
        """
        ...

    def checkpoint(self) -> dict[str, Any] | None:
        """State from which a fresh copy can continue, as JSON; None where it cannot be resumed."""
        ...

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint; `view` is that of the date on which it was taken."""
        ...


@dataclass
class WindowForecaster:
    """Moments of the returns in a window; each of these returns is an outcome.

    Assets without a return on every row of the window are left out.

    Parameters
    ----------
    window : int
        Rows used, ending today; the fewest, with `expanding`.
    moments : MomentEstimator
        Such as `SampleMoments`, `ExponentialMoments`, `LedoitWolfMoments`.
    expanding : bool
        Use all rows from the first one on.
    period : int
        Rows between decisions: returns are those of all runs of so many rows, which overlap.
    refit_every : int
        Forecasts between two estimates.
    means : MeanEstimator
        What the assets are expected to earn over cash; the outcomes are shifted to it. See
        `sddp.estimation.means`: the window is its only regime.
    limit_means : {"same", "zero"} or MeanEstimator
        The means of the outcomes, on which risk is measured: those of `means`, none over cash, or
        others.

    Raises
    ------
    ModelError
        A number is below its least, the window holds fewer than two periods, or `means` or
        `limit_means` estimate no means.
    """

    window: int
    moments: MomentEstimator = field(default_factory=SampleMoments)
    expanding: bool = False
    period: int = 1
    refit_every: int = 1
    means: MeanEstimator = field(default_factory=SampleMeans)
    limit_means: LimitMeans = "same"
    _known: tuple[Moments, Outcomes] | None = field(default=None, init=False, repr=False)
    _age: int = field(default=0, init=False, repr=False)
    _estimated_on: pd.Timestamp | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.period < 1 or self.window < 2 * self.period or self.refit_every < 1:
            raise ModelError(
                f"window = {self.window}, period = {self.period}, refit_every = "
                f"{self.refit_every}; give whole numbers of at least 1 and a window of many periods"
            )
        for name, words in (("means", ()), ("limit_means", ("same", "zero"))):
            check_means(name, getattr(self, name), words)

    @property
    def due(self) -> bool:
        """Whether the next forecast needs a new estimate."""
        return self._known is None or self._age >= self.refit_every

    def forecast(self, view: View) -> Forecast:
        """Law of the next period; the cash rate is today's, whatever the age of the estimate.

        Raises
        ------
        DataError
            Fewer rows than `window` are known, or no asset has a return on each of them.
        """
        if self.due:
            self._known, self._age = self._estimate(view), 0
            self._estimated_on = view.date
        self._age += 1
        assert self._known is not None
        return Forecast(*self._known, cash_return=cash_return(view, self.period))

    def checkpoint(self) -> dict[str, Any] | None:
        """Empty state: the next forecast is estimated again."""
        return {} if self.due else None

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume with a new estimate, as the uninterrupted run would."""

    @property
    def lookback(self) -> int | None:
        """Rows of a view that are read; None where all may be."""
        sliding = not self.expanding and self.refit_every == 1
        plain = isinstance(self.means, SampleMeans) and self.limit_means == "same"
        return self.window if sliding and plain else None

    def state(self) -> dict[str, Any]:
        """State after any row: the date of the estimate in use, and its age."""
        date = None if self._estimated_on is None else self._estimated_on.isoformat()
        return {"estimated_on": date, "age": self._age}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`: the estimate in use then is made again."""
        self._age = state["age"]
        if state["estimated_on"] is not None:
            self._estimated_on = pd.Timestamp(state["estimated_on"])
            # Where the next forecast is estimated anew, this one is not looked at.
            if self._age < self.refit_every:
                self._known = self._estimate(view.until(self._estimated_on))

    def _estimate(self, view: View) -> tuple[Moments, Outcomes]:
        returns = self._returns(view)
        moments = self.moments.estimate(returns)
        if isinstance(self.means, SampleMeans) and self.limit_means == "same":
            return moments, Outcomes(returns)
        rate = view.cash_rate.loc[view.returns.index].apply(np.log1p)
        cash = rate.rolling(self.period).sum().loc[returns.index].apply(np.expm1)
        today, names = cash_return(view, self.period), list(returns.columns)
        sample: Floats = np.asarray(moments.mean, dtype=float) - float(cash.mean())
        inputs = MeanInputs(
            names=names,
            pooled=mean_excess(returns, cash),
            by_regime=sample[None],
            shares=np.ones(1),
            covariance=moments.covariance.to_numpy(),
            n_independent=len(returns) / self.period,
            distances=np.zeros(1),
            date=view.date,
        )
        means = checked_means(self.means, inputs)[0]
        in_limit = means
        if self.limit_means == "zero":
            in_limit = np.zeros(len(names))
        elif not isinstance(self.limit_means, str):
            in_limit = checked_means(self.limit_means, inputs)[0]
        centred = returns - returns.mean()
        return (
            Moments.of(today + means, moments.covariance, names),
            Outcomes(centred + today + in_limit),
        )

    def _returns(self, view: View) -> pd.DataFrame:
        """Simple returns of whole periods, oldest first, of the assets that have all of them."""
        known = view.log_returns
        if len(known) < self.window:
            raise DataError(
                f"the window needs {self.window} rows of returns, but only {len(known)} are known "
                f"on {view.date:%Y-%m-%d}; start later or shorten the window"
            )
        rows = known if self.expanding else known.iloc[-self.window :]
        # A window without gaps is the usual one, and looking takes a tenth of dropping.
        if np.isnan(rows.to_numpy()).any():
            rows = rows.dropna(axis=1)
        if not len(rows.columns):
            raise DataError(
                f"no asset has a return on each of the {len(rows)} rows before "
                f"{view.date:%Y-%m-%d}; shorten the window"
            )
        sums = np.lib.stride_tricks.sliding_window_view(rows.to_numpy(), self.period, axis=0)
        dates = rows.index[self.period - 1 :]
        return pd.DataFrame(np.expm1(sums.sum(axis=-1)), index=dates, columns=rows.columns)


@dataclass
class RegimeForecaster:
    """One-period distribution of a multi-stage policy's first decision, and its moments.

    With the estimator and the schedule of a `MultistageStrategy` both see the same scenarios
    under the same belief: what is left between them is the horizon and the model.

    Parameters
    ----------
    estimator : ScenarioEstimator
    refit_every : int
        Forecasts between two estimates; the belief is that of today each time.
    on_failure : {"raise", "keep"}
        Where what is known does not carry a new estimate: raise, or go on with the last one until
        the next is due. The first has none to keep and raises.

    Attributes
    ----------
    failure : str
        Why the last forecast has kept an old estimate; empty where it has not.

    Raises
    ------
    ModelError
        `refit_every` is below 1, or `on_failure` unknown.
    """

    estimator: ScenarioEstimator
    refit_every: int = 1
    on_failure: OnFailure = "raise"
    failure: str = field(default="", init=False, repr=False)
    _rolling: RollingEstimate = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.on_failure not in get_args(OnFailure):
            raise ModelError(f"on_failure={self.on_failure!r}: must be 'raise' or 'keep'")
        self._rolling = RollingEstimate(self.estimator, self.refit_every)

    @property
    def period(self) -> int:
        """Rows of the period that is forecast."""
        return self.estimator.period

    @property
    def due(self) -> bool:
        """Whether the next forecast needs a new estimate."""
        return self._rolling.due

    def forecast(self, view: View) -> Forecast:
        """Law of the next period: outcomes ``(j, s)`` with weights ``(belief P)_j p_js``.

        Raises
        ------
        DataError
            What is known does not carry a fit of regimes, see `RegimeEstimator.estimate`.
        """
        estimate = self._refreshed(view)
        seen = estimate.one_period_distribution(view)
        outcomes = Outcomes(seen.returns, seen.probabilities)
        if estimate.scenarios.limit_shift is not None:
            seen = estimate.one_period_distribution(view, in_limit=False)
        expected = Outcomes(seen.returns, seen.probabilities)
        moments = outcome_moments(expected, estimate.scenarios.asset_names)
        return Forecast(moments, outcomes, seen.cash_return, estimate.belief(view))

    def _refreshed(self, view: View) -> ScenarioEstimate:
        kept, self.failure = self._rolling.estimate, ""
        try:
            return self._rolling.refresh(view)
        except DataError as error:
            if self.on_failure == "raise" or kept is None:
                raise
            self.failure = f"{type(error).__name__}: {error}"
        self._rolling.adopt(kept)
        return self._rolling.refresh(view)

    def state(self) -> dict[str, Any]:
        """State after any row."""
        return {"rolling": self._rolling.state()}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`; `view` must reach back to the estimate in use."""
        if state["rolling"] is not None:
            self._rolling.resume(state["rolling"], view)

    def checkpoint(self) -> dict[str, Any] | None:
        """As of the rolling estimate."""
        return self._rolling.checkpoint()

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """As of the rolling estimate."""
        self._rolling.resume(state, view)


def forecaster_state(forecaster: Forecaster) -> dict[str, Any]:
    """State of a forecaster after any row, as JSON.

    Raises
    ------
    ModelError
        It keeps an estimate that it cannot hand out.
    """
    hand_out = getattr(forecaster, "state", forecaster.checkpoint)
    state: dict[str, Any] | None = hand_out()
    if state is None:
        raise ModelError(
            f"forecaster={forecaster!r}: keeps an estimate that it cannot hand out; give it "
            "state() and restore(state, view), or refit_every=1"
        )
    return state


def restore_forecaster(forecaster: Forecaster, state: Mapping[str, Any], view: View) -> None:
    """Restore what `forecaster_state` gave."""
    take = getattr(forecaster, "restore", forecaster.resume)
    take(state, view)


def cash_return(view: View, period: int) -> float:
    """Return of cash over some rows at the rate known today."""
    rate = float(view.arrays["cash_rate"][-1]) if len(view.index) > 1 else 0.0
    return float((1.0 + rate) ** period - 1.0)
