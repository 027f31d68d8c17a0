"""Risk of what is held, from the rows of a view, and the triggers that read it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading.decisions import Fired, Question, State
from sddp.backtest.triggers.trigger import Combinable
from sddp.dates import periods_per_year
from sddp.errors import ModelError
from sddp.labels import label_index
from sddp.market.market import View
from sddp.portfolio.constraints.constraint_set import ConstraintSet


@dataclass(frozen=True)
class RiskSpike(Combinable):
    """Fire on every row on which risk is above its budget.

    Parameters
    ----------
    volatility : float, optional
        Budget a year: 0.2 is 20 %. Compared with the volatility of the present holdings in the
        returns of the window.
    index : float, optional
        Budget of the market's volatility index, in points: 25.
    window : int, default 30
        Returns that the volatility is that of; with fewer than two known it does not fire.

    Raises
    ------
    ModelError
        No budget is given, or one is not positive, or the window is shorter than two returns.
    """

    volatility: float | None = None
    index: float | None = None
    window: int = 30

    def __post_init__(self) -> None:
        if self.volatility is None and self.index is None:
            raise ModelError("volatility=None, index=None: give a budget, such as volatility=0.2")
        for name in ("volatility", "index"):
            budget = getattr(self, name)
            if budget is not None and not budget > 0.0:
                raise ModelError(f"{name}={budget}: must be positive")
        if self.window < 2:
            raise ModelError(f"window={self.window}: must be at least 2 returns")

    @property
    def lookback(self) -> int:  # type: ignore[override]
        """The window, and the row before it."""
        return 1 if self.volatility is None else self.window + 1

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; no state.

        Raises
        ------
        ModelError
            The market has no volatility index to compare with.
        """
        figures, reasons = {}, []
        if self.volatility is not None:
            found = volatility_held(question, self.window)
            if found > self.volatility:
                figures["volatility"] = found
                reasons.append(f"volatility {found:.4g} above {self.volatility:g}")
        if self.index is not None:
            points = index_of(question.view)
            if points > self.index:
                figures["index"] = points
                reasons.append(f"index {points:.4g} above {self.index:g}")
        return (self.fired(", ".join(reasons), figures) if reasons else None), state


@dataclass(frozen=True)
class ConstraintBreached(Combinable):
    """Fire where the present holdings do not keep a constraint.

    Limits of trades are not about holdings, and do not fire.

    Parameters
    ----------
    constraint_set : ConstraintSet
    window : int, optional
        Returns whose covariance a tracking error is measured with.

    Raises
    ------
    ModelError
        When first asked: a tracking error is limited and no window given, or a name is unknown.
    """

    constraint_set: ConstraintSet
    window: int | None = None

    @property
    def lookback(self) -> int:  # type: ignore[override]
        """The window."""
        return 1 if self.window is None else self.window

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; no state."""
        weights = pd.Series(question.weights(), index=question.holdings.index)
        covariance = None
        if self.window is not None:
            returns = recent_returns(question.view, self.window)
            names = label_index(question.assets)
            matrix = np.cov(returns, rowvar=False, ddof=1).reshape(len(names), len(names))
            covariance = pd.DataFrame(matrix, index=names, columns=names)
        breaches = self.constraint_set.check(
            weights, current_weights=weights, covariance=covariance
        )
        if not breaches:
            return None, state
        figures = {breach.name: breach.amount for breach in breaches}
        version = self.constraint_set.version
        told = tuple((version, breach) for breach in breaches)
        return self.fired("; ".join(b.text for b in breaches), figures, None, told), state


def recent_returns(view: View, window: int) -> Floats:
    """Returns of the last rows, 0 where an asset has none, shape (at most window, n_assets)."""
    found: Floats = np.nan_to_num(view.arrays["returns"][-window:])
    return found


def portfolio_returns(view: View, holdings: Floats, window: int) -> Floats:
    """Returns that the present holdings (money, cash first) would have had on the last rows."""
    weights = holdings / holdings.sum()
    returns = recent_returns(view, window)
    cash = view.arrays["cash_rate"][len(view.index) - len(returns) :]
    earned: Floats = returns @ weights[1:] + weights[0] * cash
    return earned


def yearly_volatility(view: View, holdings: Floats, window: int) -> float:
    """Volatility a year of the present holdings in the last rows; 0 where two are not known."""
    earned = portfolio_returns(view, holdings, window)
    if len(earned) < 2:
        return 0.0
    dates = view.dates[-min(len(earned) + 1, len(view.dates)) :]
    return float(earned.std(ddof=1)) * math.sqrt(periods_per_year(dates))


def volatility_held(question: Question, window: int) -> float:
    """Volatility a year of what is held."""
    return yearly_volatility(question.view, question.money, window)


def index_of(view: View) -> float:
    """The market's volatility index today, in points.

    Raises
    ------
    ModelError
        There is none.
    """
    if "volatility_index" not in view.arrays:
        raise ModelError(
            "index: needs the market's volatility index; give Market(volatility_index=...)"
        )
    return float(view.arrays["volatility_index"][-1])
