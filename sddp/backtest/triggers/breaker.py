"""`CircuitBreaker`: halts all trading until somebody releases it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sddp.arrays import Floats
from sddp.backtest.trading.decisions import Fired, State
from sddp.backtest.triggers.risk import portfolio_returns, yearly_volatility
from sddp.errors import ModelError
from sddp.market.market import View

AT_FIRST = {"halted": False, "peak": 0.0, "failures": 0}

# Figures that must have fallen before trading is released; a drawdown and failures do not fall
# while nothing is traded.
FALLING = ("volatility", "value_at_risk", "stale")


@dataclass(frozen=True)
class CircuitBreaker:
    """Halt all trading where a figure is above its limit, until it is released.

    A halt cancels open instructions; no trigger and no strategy is asked while it lasts. It ends by
    a message on the topic ``"breaker.release"`` that says ``by`` whom and for which ``reason``, and
    not before volatility, value at risk and staleness have fallen below `release_at` times their
    limits. The drawdown counts from the wealth at the release on.

    Parameters
    ----------
    volatility : float, optional
        Largest volatility a year of the present holdings in the window: 0.4 is 40 %.
    drawdown : float, optional
        Largest loss from the highest wealth so far, as a fraction of it.
    value_at_risk : float, optional
        Largest loss of a row, as a fraction of wealth, that the present holdings would have
        exceeded on a share ``1 - confidence`` of the window's rows at most.
    stale : int, optional
        Most rows in a row without a quote of an asset that is held.
    failures : int, optional
        Most failures of the strategy in a row (where failures are kept, see `Rules`).
    window : int, default 60
        Rows of the volatility and the value at risk; below two returns they are 0.
    confidence : float, default 0.95
        Of the value at risk.
    release_at : float, default 0.8

    Raises
    ------
    ModelError
        No limit is given, or a number is out of range.
    """

    volatility: float | None = None
    drawdown: float | None = None
    value_at_risk: float | None = None
    stale: int | None = None
    failures: int | None = None
    window: int = 60
    confidence: float = 0.95
    release_at: float = 0.8

    def __post_init__(self) -> None:
        limits = ("volatility", "drawdown", "value_at_risk", "stale", "failures")
        if all(getattr(self, name) is None for name in limits):
            raise ModelError(f"CircuitBreaker: give one of the limits {', '.join(limits)}")
        for name in limits:
            limit = getattr(self, name)
            if limit is not None and not limit >= 0.0:
                raise ModelError(f"{name}={limit}: must be at least 0")
        if self.window < 2:
            raise ModelError(f"window={self.window}: must be at least 2 returns")
        for name in ("confidence", "release_at"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ModelError(f"{name}={getattr(self, name)}: must lie between 0 and 1")

    @property
    def lookback(self) -> int:
        """Rows that the figures need."""
        measured = self.volatility is not None or self.value_at_risk is not None
        return max(self.window + 1 if measured else 1, 1 + (self.stale or 0))

    def figures(self, view: View, holdings: Floats, state: State) -> dict[str, float]:
        """The figures that have a limit."""
        told = {**AT_FIRST, **(state or {})}
        wealth = float(holdings.sum())
        found: dict[str, float] = {}
        if self.volatility is not None:
            found["volatility"] = yearly_volatility(view, holdings, self.window)
        if self.drawdown is not None:
            found["drawdown"] = 1.0 - wealth / max(told["peak"], wealth)
        if self.value_at_risk is not None:
            found["value_at_risk"] = self._value_at_risk(view, holdings)
        if self.stale is not None:
            # Not counted further than is needed: the figure is the same in a window of rows.
            found["stale"] = min(float(_stale_rows(view, holdings)), self.stale + 1.0)
        if self.failures is not None:
            found["failures"] = float(told["failures"])
        return found

    def check(self, view: View, holdings: Floats, state: State) -> tuple[Fired | None, State]:
        """Whether trading is to be halted now, and the state after the row.

        Parameters
        ----------
        view : View
        holdings : array, shape (1 + n_assets,)
            Money, cash first, before the row's trades.
        state : mapping or None
        """
        told = {**AT_FIRST, **(state or {})}
        told["peak"] = max(told["peak"], float(holdings.sum()))
        if told["halted"]:
            return None, told
        found = self.figures(view, holdings, told)
        over = {name: x for name, x in found.items() if x > getattr(self, name)}
        if not over:
            return None, told
        words = [f"{name} {x:.4g} above {getattr(self, name):g}" for name, x in over.items()]
        return Fired(", ".join(words), found, parts=(repr(self),)), {**told, "halted": True}

    def release(
        self, view: View, holdings: Floats, state: State, act: Mapping[str, Any]
    ) -> tuple[str | None, State]:
        """Release trading by a named act: why not, or None; and the state after it."""
        told = {**AT_FIRST, **(state or {})}
        for name in ("by", "reason"):
            if not (isinstance(act.get(name), str) and act[name].strip()):
                return f"{name}={act.get(name)!r}: must be a text; say who releases and why", told
        if not told["halted"]:
            return "trading is not halted", told
        found = self.figures(view, holdings, told)
        high = [
            f"{name} {found[name]:.4g} above {self.release_at * getattr(self, name):g}"
            for name in FALLING
            if name in found and found[name] > self.release_at * getattr(self, name)
        ]
        if high:
            return f"not released: {', '.join(high)}", told
        return None, {**AT_FIRST, "peak": float(holdings.sum())}

    def failed(self, state: State) -> State:
        """State after a failure of the strategy."""
        told = {**AT_FIRST, **(state or {})}
        return {**told, "failures": told["failures"] + 1}

    def succeeded(self, state: State) -> State:
        """State after a decision."""
        return {**AT_FIRST, **(state or {}), "failures": 0}

    def _value_at_risk(self, view: View, holdings: Floats) -> float:
        earned = portfolio_returns(view, holdings, self.window)
        if len(earned) < 2:
            return 0.0
        # The loss that at most the share 1 - confidence of the rows exceeds, no interpolation.
        return float(np.quantile(-earned, self.confidence, method="inverted_cdf"))


def _stale_rows(view: View, holdings: Floats) -> int:
    """Rows since the last quote of the asset that is held and has been without one longest."""
    held = holdings[1:] > 0.0
    if not held.any():
        return 0
    recent = view.arrays["quoted"][::-1, held]
    since = np.where(recent.any(axis=0), recent.argmax(axis=0), len(recent))
    return int(since.max())
