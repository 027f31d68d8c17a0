"""Strategies (what to hold), and triggers (when to ask them)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from sddp.backtest.trading.decisions import Fired, Question, State
from sddp.backtest.trading.events import ParametersChanged
from sddp.backtest.trading.execution import target_weights
from sddp.backtest.triggers.trigger import Combinable
from sddp.errors import DataError, ModelError
from sddp.labels import CASH, ByLabel, label_index
from sddp.market.market import View
from sddp.portfolio.views.view import InvestorView
from sddp.tables import day


class Strategy(Protocol):
    """What to hold, from what is known.

    A strategy may keep state between calls (a fitted model, a cache, when it last refitted).
    It may declare ``lookback``, the rows that it reads: views are then windows of at least so many
    rows. `backtest` works on a deep copy of the object it is given: every run starts from the state
    that was handed in and leaves it unchanged, be it the first run or the tenth, serial or
    parallel.
    """

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float] | None:
        """Target weights, as fractions of the wealth after costs.

        Parameters
        ----------
        view : View
            Everything known today.
        holdings : Series
            Money held at today's quotes, cash first, then the assets; orders on the way (with a
            lag above 1) as if they were executed today, all at a quote.

        Returns
        -------
        Series or None
            Weight by asset: what is left out gets 0, cash the rest (it may be named ``cash``).
            None trades nothing.
        """
        ...


@runtime_checkable
class HoldsFixed(Protocol):
    """Strategy that decides with some assets held fixed, inside its optimization."""

    def decide_fixed(
        self, view: View, holdings: pd.Series[float], fixed: frozenset[Hashable]
    ) -> pd.Series[float] | None:
        """`Strategy.decide` where the assets in `fixed` are not traded."""
        ...


@runtime_checkable
class Adjustable(Protocol):
    """Strategy whose parameters may be exchanged between two rows."""

    def change(self, event: ParametersChanged) -> None:
        """Exchange the parameters that the event names.

        Raises
        ------
        ModelError
            A value is out of range; nothing is exchanged.
        """
        ...


@runtime_checkable
class TakesViews(Protocol):
    """Strategy that decides with views from outside."""

    def take_views(
        self,
        views: Sequence[InvestorView],
        market_weights: Mapping[Hashable, float] | None,
        sources: frozenset[str],
    ) -> None:
        """Replace all views of these sources; None keeps the market weights.

        Raises
        ------
        ModelError
            Nothing decides with views; nothing is replaced.
        """
        ...


@dataclass(frozen=True)
class EveryPeriods(Combinable):
    """Decide on the first row and on every n-th row after it.

    Parameters
    ----------
    n_periods : int
        1 decides on every row.

    Raises
    ------
    ModelError
        `n_periods` is no positive whole number.
    """

    n_periods: int

    def __post_init__(self) -> None:
        _check_whole("n_periods", self.n_periods, smallest=1)

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """Fire where `n_periods` rows have passed since the last decision; no state."""
        if question.row - question.last.row < self.n_periods:
            return None, state
        return self.fired(f"{self.n_periods} rows since the last decision"), state


@dataclass(frozen=True)
class HoldCash:
    """Hold cash only."""

    lookback: ClassVar[int] = 1

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """All wealth in cash."""
        return pd.Series({CASH: 1.0})


@dataclass(frozen=True)
class EqualWeight:
    """The same weight in every asset quoted today.

    An asset whose price is only carried is sold, and one not yet quoted is not bought.

    Parameters
    ----------
    include_cash : bool, default False
        Whether cash gets a share as well.
    """

    lookback: ClassVar[int] = 1

    include_cash: bool = False

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """One over the number of quoted assets (and cash); all cash if none is quoted."""
        quoted = view.quoted.iloc[-1]
        shares = int(quoted.sum()) + self.include_cash
        return quoted.astype(float) / max(shares, 1)


@dataclass
class BuyAndHold:
    """Buy once, on the first decision, and never trade again.

    Parameters
    ----------
    weights : mapping or Series
        Weight of wealth after costs by asset; the rest stays in cash.

    Raises
    ------
    ModelError
        A weight is negative or not finite, or they sum to more than 1.
    """

    lookback: ClassVar[int] = 1

    weights: ByLabel
    _bought: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        # A dict, as pandas would split tuples and turn None into NaN.
        weights = dict(self.weights.items())
        target_weights(weights, [name for name in weights if name != CASH])
        self.weights = weights

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float] | None:
        """The weights the first time, then no trade."""
        if self._bought:
            return None
        self._bought = True
        labels, numbers = zip(*self.weights.items(), strict=True)
        return pd.Series(np.array(numbers, dtype=float), index=label_index(labels))

    def state(self) -> dict[str, Any]:
        """Whether it has bought, see `Stateful`."""
        return {"bought": self._bought}

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`."""
        self._bought = state["bought"]


@dataclass(frozen=True)
class InverseVolatility:
    """Weights proportional to one over the volatility of simple returns in a sliding window.

    Assets not quoted today, listed for less than the window, or without any variation in it get
    no weight.

    Parameters
    ----------
    window : int
        Number of returns, at least 2.

    Raises
    ------
    ModelError
        `window` is no whole number of at least 2.
    """

    window: int

    def __post_init__(self) -> None:
        _check_whole("window", self.window, smallest=2)

    @property
    def lookback(self) -> int:
        """The window."""
        return self.window

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float]:
        """One over the standard deviation, scaled to sum to 1; all cash if no asset has one.

        Raises
        ------
        DataError
            Fewer than `window` returns are known.
        """
        if len(view.returns) < self.window:
            raise DataError(
                f"InverseVolatility needs {self.window} returns; {len(view.returns)} are known on "
                f"{day(view.date)}: start later or shorten the window"
            )
        volatility = view.returns.iloc[-self.window :].std(skipna=False)
        inverse = 1.0 / volatility[view.quoted.iloc[-1] & (volatility > 0.0)]
        return inverse / inverse.sum()


def _check_whole(name: str, value: Hashable, smallest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < smallest:
        raise ModelError(f"{name} = {value!r}; give a whole number of at least {smallest}")
