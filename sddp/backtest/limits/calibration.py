"""A risk limit that is calibrated by the losses that came of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from sddp.backtest.trading.account import Resumable, restore_strategy, strategy_state
from sddp.errors import CalibrationWarning, ModelError
from sddp.market.market import View


@dataclass(frozen=True)
class CalibratedLimit:
    r"""How the limit used follows from the limit asked: online, from realized losses.

    The limit used is ``c`` times the limit asked, c = 1 at first. Once the loss of a period is
    known, ::

        x = tail_loss / forecast - 1,   tail_loss = VaR + max(loss - VaR, 0) / (1 - confidence)
        c <- c * exp(-step * x), kept within `bounds`

    VaR and forecast are the VaR and CVaR of the portfolio traded under the model, *divided by the c
    that was in force when it was decided*: the forecast is in units of the limit asked. (By the
    model's own figures x would not depend on c, and c would run into a bound.) If VaR is the
    quantile of the loss, the mean of `tail_loss` is its CVaR, and it is never below it otherwise
    (Rockafellar and Uryasev 2000), so the mean of x is 0 exactly where the CVaR realized is the one
    forecast.

    **The identity.** Let ``l_t = log c_t`` before the t-th update and ``y_t = l_t - step * x_t``.
    Then ``l_{t+1} = y_t + a_t - b_t``, with ``a_t = max(log c_min - y_t, 0)`` and
    ``b_t = max(y_t - log c_max, 0)``, of which at most one is positive. Summed over n updates, ::

        step * sum_t x_t = log(c_0 / c_n) + sum_t a_t - sum_t b_t

    for every series of losses: nothing is assumed of the market or the model.

    **The bound.** Where c never touches `bounds`, both sums are 0, and as ``c_min <= c_t <= c_max``
    ::

        | mean of x_t | <= log(c_max / c_min) / (step * n)

    With clipping, ``sum_t a_t / (step * n)`` is added to the upper side: a limit that cannot be
    had from this model even at c_min; and ``sum_t b_t / (step * n)`` to the lower side: a model so
    cautious that c_max does not use the limit up. Both sums are in the decision log. While c
    stands at c_min, a `CalibrationWarning` says so.

    Parameters
    ----------
    step : float
        Above 0, at most 1. Fix it before any result is seen.
    bounds : pair of float
        Least and largest c; they hold 1.
    warm_up : int
        Known losses before c moves. The first trade from cash costs what later ones do not.

    Raises
    ------
    ModelError
        Names the parameter, its value and what is allowed.

    Examples
    --------
    A loss of 4 % where the model forecast a VaR of 1 % and a CVaR of 2 % tightens the limit:

    >>> state = Calibration(CalibratedLimit(warm_up=0))
    >>> x = state.update(loss=0.04, var=0.01, cvar=0.02, confidence=0.9)
    >>> round(x, 6), round(state.scale, 6)
    (14.5, 0.748264)
    """

    step: float = 0.02
    bounds: tuple[float, float] = (0.3, 1.5)
    warm_up: int = 1

    def __post_init__(self) -> None:
        if not 0.0 < self.step <= 1.0:
            raise ModelError(f"step={self.step}: must be above 0 and at most 1; give 0.02")
        low, high = (float(bound) for bound in self.bounds)
        if not 0.0 < low <= 1.0 <= high < math.inf:
            raise ModelError(
                f"bounds={self.bounds}: must be two positive numbers that hold 1 between them; "
                "give (0.3, 1.5)"
            )
        object.__setattr__(self, "bounds", (low, high))
        if isinstance(self.warm_up, bool) or not isinstance(self.warm_up, int) or self.warm_up < 0:
            raise ModelError(f"warm_up={self.warm_up!r}: must be a whole number of at least 0")


@dataclass
class Calibration:
    """State of a calibrated limit.

    Attributes
    ----------
    settings : CalibratedLimit
    log_scale : float
        ``log c``.
    clipped_low, clipped_high : float
        Sums of the logarithms clipped at the least and at the largest c.
    n_known : int
        Losses known, those of the warm-up included.
    n_updates : int
    """

    settings: CalibratedLimit
    log_scale: float = 0.0
    clipped_low: float = 0.0
    clipped_high: float = 0.0
    n_known: int = 0
    n_updates: int = 0

    @property
    def scale(self) -> float:
        """The factor c on the limit asked."""
        low, high = self.settings.bounds
        return min(max(math.exp(self.log_scale), low), high)

    @property
    def at_least(self) -> bool:
        """Whether c stands at its lower bound."""
        return self.n_updates > 0 and self.log_scale <= math.log(self.settings.bounds[0])

    def update(self, loss: float, var: float, cvar: float, confidence: float) -> float:
        """Learn from the loss of one period; returns x, or NaN where nothing could be learned.

        Parameters
        ----------
        loss : float
            Fraction of wealth.
        var, cvar : float
            Forecast, each divided by the c in force when it was decided. A CVaR that is not
            positive forecasts no loss to compare with: c stays.
        confidence : float
        """
        if not (cvar > 0.0 and math.isfinite(loss) and math.isfinite(var)):
            return math.nan
        self.n_known += 1
        tail_loss = var + max(loss - var, 0.0) / (1.0 - confidence)
        x = tail_loss / cvar - 1.0
        if self.n_known > self.settings.warm_up:
            self._step(x)
        return x

    def _step(self, x: float) -> None:
        low, high = (math.log(bound) for bound in self.settings.bounds)
        moved = self.log_scale - self.settings.step * x
        self.log_scale = min(max(moved, low), high)
        self.clipped_low += max(low - moved, 0.0)
        self.clipped_high += max(moved - high, 0.0)
        self.n_updates += 1


@runtime_checkable
class LimitedStrategy(Protocol):
    """A strategy with a limit on one-period CVaR that can be told another limit.

    It writes a ``decision_log`` with ``model_var``, ``model_cvar`` and ``confidence``.
    """

    decision_log: list[dict[str, Any]]

    @property
    def cvar_limit(self) -> float | None:
        """The limit asked, as a fraction of wealth."""
        ...

    @property
    def period(self) -> int:
        """Rows of the period that the limit is about."""
        ...

    def decide_within(
        self, view: View, holdings: pd.Series[float], limit: float | None
    ) -> pd.Series[float] | None:
        """`Strategy.decide` under a limit of this size."""
        ...


@dataclass
class CalibratedStrategy:
    """A strategy whose risk limit is calibrated by its own realized losses.

    Losses are those of the account: through costs, lag and the drift of weights. The loss of a
    decision of row t, executed at row ``t + lag``, is known a period after that, and decisions from
    there on use it: with a period of one row, `lag` + 1 decisions later. Losses are learned from in
    their order. Between refits a multi-stage decision is scaled towards cash until its CVaR is the
    limit used; where that has risen above the limit of the training, the latter holds until the
    refit.

    Parameters
    ----------
    strategy : LimitedStrategy
        `MultistageStrategy`, `HeldToHorizon`, `PredictiveControl`, `ScaledToLimit`, or a
        `OneStageStrategy` whose optimizer has a limit on CVaR.
    calibration : CalibratedLimit

    Raises
    ------
    ModelError
        The strategy has no risk limit, or cannot be told another one.
    """

    strategy: LimitedStrategy
    calibration: CalibratedLimit = field(default_factory=CalibratedLimit)
    _state: Calibration = field(init=False, repr=False)
    _pending: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)
    _wealth: float = field(default=math.nan, init=False, repr=False)
    _lag: int | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, LimitedStrategy):
            raise ModelError(
                f"strategy={self.strategy!r}: must have cvar_limit, period, decision_log and "
                "decide_within(view, holdings, limit), see LimitedStrategy; give one whose limit "
                "can be set"
            )
        if self.strategy.cvar_limit is None:
            raise ModelError("strategy.cvar_limit=None: must be a number to calibrate; set a limit")
        self._state = Calibration(self.calibration)

    @property
    def cvar_limit(self) -> float | None:
        """The limit asked."""
        return self.strategy.cvar_limit

    @property
    def decision_log(self) -> list[dict[str, Any]]:
        """The strategy's own, see `decision_log_table`."""
        return self.strategy.decision_log

    def decision_log_table(self) -> pd.DataFrame:
        """The strategy's own table with what the calibration adds.

        Returns
        -------
        DataFrame
            Also ``limit_used`` beside the ``cvar_limit`` asked, ``calibration`` (c in force), the
            forecasts in units of the limit asked, ``forecast_var`` and ``forecast_cvar`` (the
            model's divided by c), and the sums ``clipped_low`` and ``clipped_high`` so far.
        """
        own = getattr(self.strategy, "decision_log_table", None)
        if own is None:
            return pd.DataFrame(self.decision_log).set_index("date")
        table: pd.DataFrame = own()
        return table

    def observe(self, view: View, wealth: float, lag: int) -> None:
        """Take note of the account's wealth on a row, before its trades; see `Observing`."""
        row = view.row
        self._wealth, self._lag = wealth, lag
        period = self.strategy.period
        for told in self._pending:
            if row == told["row"] + lag:
                told["start"] = wealth
        while self._pending and row >= self._pending[0]["row"] + lag + period:
            told = self._pending.pop(0)
            loss = 1.0 - wealth / told["start"]
            self._state.update(loss, told["var"], told["cvar"], told["confidence"])

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float] | None:
        """The strategy's decision under the limit used."""
        asked, scale = self.strategy.cvar_limit, self._state.scale
        assert asked is not None
        used = min(scale * asked, 1.0)
        if self._state.at_least:
            warnings.warn(
                f"the calibrated limit stands at its least, {self.calibration.bounds[0]:g} times "
                f"the limit {asked:g}: this model cannot keep it",
                CalibrationWarning,
                stacklevel=2,
            )
        written = len(self.strategy.decision_log)
        answer = self.strategy.decide_within(view, holdings, used)
        log = self.strategy.decision_log
        if len(log) != written + 1 or "model_cvar" not in log[-1]:
            raise ModelError(
                f"{type(self.strategy).__name__} wrote no risk forecast of its decision; a "
                "calibrated strategy must log model_var, model_cvar and confidence"
            )
        self._note(log[-1], asked, used, scale, view.row)
        return answer

    def _note(
        self, entry: dict[str, Any], asked: float, used: float, scale: float, row: int
    ) -> None:
        """Write the calibration beside a decision, and wait for its loss."""
        var, cvar = entry["model_var"] / scale, entry["model_cvar"] / scale
        entry |= {
            "cvar_limit": asked,
            "limit_used": entry.get("limit_used", used),
            "calibration": scale,
            "forecast_var": var,
            "forecast_cvar": cvar,
            "clipped_low": self._state.clipped_low,
            "clipped_high": self._state.clipped_high,
        }
        told = {"row": row, "var": var, "cvar": cvar, "confidence": entry["confidence"]}
        # Executed at once, where there is no lag: from the wealth of this very row.
        self._pending.append(told | {"start": self._wealth})

    def checkpoint(self) -> dict[str, Any] | None:
        """State where the strategy may be cut, the calibration included; see `Resumable`."""
        own = self.strategy.checkpoint() if isinstance(self.strategy, Resumable) else None
        return None if own is None else {"strategy": own, "calibration": self._plain()}

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a checkpoint, to the same bits."""
        assert isinstance(self.strategy, Resumable)
        self.strategy.resume(state["strategy"], view)
        self._take(state["calibration"])

    def state(self) -> dict[str, Any]:
        """State after any row, see `Stateful`."""
        return {"strategy": strategy_state(self.strategy), "calibration": self._plain()}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`."""
        restore_strategy(self.strategy, state["strategy"], view)
        self._take(state["calibration"])

    def _take(self, calibration: Mapping[str, Any]) -> None:
        kept = dict(calibration)
        self._pending = [dict(told) for told in kept.pop("pending")]
        self._wealth, self._lag = kept.pop("wealth"), kept.pop("lag")
        self._state = Calibration(self.calibration, **kept)

    def final_state(self) -> dict[str, Any] | None:
        """What the strategy wants kept at the end of a run."""
        kept = getattr(self.strategy, "final_state", None)
        found: dict[str, Any] | None = None if kept is None else kept()
        return found

    def _plain(self) -> dict[str, Any]:
        """The calibration in words of JSON."""
        state = asdict(self._state)
        del state["settings"]
        pending = [dict(told) for told in self._pending]
        return state | {"pending": pending, "wealth": self._wealth, "lag": self._lag}
