"""Risk aversion that follows what is known today: an index, realized volatility, or regimes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np

from sddp.arrays import Floats
from sddp.dates import periods_per_year
from sddp.errors import DataError, ModelError
from sddp.estimation.forecasts import Forecast
from sddp.market.market import View
from sddp.portfolio.moments import decaying_weights
from sddp.portfolio.risk_aversion import VolatilityDriven

# Half-lives after which a weight, 2^-10, is left out of a mean.
HALF_LIVES = 10.0


class RiskAversionRule(Protocol):
    """Risk aversion of each decision: a pure function of the rows known and of the forecast."""

    def at(self, view: View, forecast: Forecast) -> float:
        """Risk aversion of today."""
        ...

    def with_base(self, base: float) -> Self:
        """The rule with another base (lambda0), which may be exchanged while a portfolio runs.

        Raises
        ------
        ModelError
            It is out of range, or the rule has none.
        """
        ...

    @property
    def lookback(self) -> int | None:
        """Rows of a view that are read; None for all."""
        ...


@dataclass(frozen=True)
class RealizedVolatility:
    """Stands for a volatility index where there is none: that of equal weights, in points.

    Parameters
    ----------
    window : int
        Returns that the volatility (``n - 1``, a year) is that of.

    Raises
    ------
    ModelError
        The window is shorter than two returns.

    Examples
    --------
    >>> import pandas as pd
    >>> from sddp.market import Market
    >>> dates = pd.date_range("2024-01-01", periods=4, freq="YS")
    >>> market = Market(pd.DataFrame({"a": [100.0, 110.0, 99.0, 108.9]}, dates))
    >>> RealizedVolatility(3).points(market.at(dates[-1]), 1).round(1)
    array([11.5])
    """

    window: int = 30

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ModelError(f"window={self.window}: must be at least 2 returns")

    def points(self, view: View, n_rows: int) -> Floats:
        """Points (20 is 20 % a year) on the last rows, oldest first; fewer where fewer are known.

        Raises
        ------
        DataError
            The window is not filled today.
        """
        returns = view.arrays["returns"][-(self.window + n_rows - 1) :]
        if len(returns) < self.window:
            raise DataError(
                f"realized volatility needs {self.window} returns; {len(returns)} are known on "
                f"{view.date}: start later or shorten the window"
            )
        earned = np.nan_to_num(returns).mean(axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(earned, self.window)
        pace = periods_per_year(view.dates[-min(self.window + 1, len(view.dates)) :])
        found: Floats = 100.0 * windows.std(axis=1, ddof=1) * math.sqrt(pace)
        return found


@dataclass(frozen=True, kw_only=True)
class IndexedRiskAversion:
    """``base (1 + sensitivity index)`` within bounds, smoothed over the rows before today.

    Parameters
    ----------
    base, sensitivity : float
        As in `VolatilityDriven`; the index is in points.
    least, most : float
        Bounds on every row.
    half_life : float, optional
        Rows in which the weight of a row in the mean halves; None takes today's alone.
    realized : RealizedVolatility, optional
        In place of the market's volatility index.

    Raises
    ------
    ModelError
        A number is out of range; when asked: the market has no index.

    Examples
    --------
    >>> rule = IndexedRiskAversion(base=2.0, sensitivity=0.05, most=4.5)
    >>> rule.of(np.array([20.0, 30.0]))
    4.5
    """

    base: float
    sensitivity: float
    least: float = 0.0
    most: float = math.inf
    half_life: float | None = None
    realized: RealizedVolatility | None = None

    def __post_init__(self) -> None:
        VolatilityDriven(base=self.base, sensitivity=self.sensitivity)
        if not 0.0 <= self.least <= self.most:
            raise ModelError(f"least={self.least}, most={self.most}: must be ordered, from 0 on")
        if self.half_life is not None and not 0.0 < self.half_life < math.inf:
            raise ModelError(f"half_life={self.half_life}: must be a positive number of rows")

    @property
    def _n_rows(self) -> int:
        return 1 if self.half_life is None else math.ceil(HALF_LIVES * self.half_life)

    @property
    def lookback(self) -> int:
        """Rows of the mean, and of the window before the first of them."""
        return self._n_rows + (0 if self.realized is None else self.realized.window)

    def at(self, view: View, forecast: Forecast) -> float:
        """See `RiskAversionRule.at`."""
        if self.realized is not None:
            return self.of(self.realized.points(view, self._n_rows))
        if "volatility_index" not in view.arrays:
            raise ModelError(
                "IndexedRiskAversion: needs the market's volatility index; give "
                "Market(volatility_index=...), or realized=RealizedVolatility()"
            )
        return self.of(view.arrays["volatility_index"][-self._n_rows :])

    def of(self, points: Floats) -> float:
        """Risk aversion after some rows of the index, oldest first.

        Raises
        ------
        ModelError
            The index of today is below 1: a decimal was given for points.
        """
        driven = VolatilityDriven(base=self.base, sensitivity=self.sensitivity)
        driven.at(float(points[-1]))
        levels = self.base * (1.0 + self.sensitivity * points)
        within = np.minimum(np.maximum(levels, self.least), self.most)
        if self.half_life is None:
            return float(within[-1])
        weights = decaying_weights(len(within), self.half_life)
        return float(weights @ within / weights.sum())

    def with_base(self, base: float) -> IndexedRiskAversion:
        """See `RiskAversionRule.with_base`."""
        return replace(self, base=base)


@dataclass(frozen=True)
class RegimeRiskAversion:
    """Mean of one risk aversion a regime under the filtered probabilities of today's.

    Parameters
    ----------
    levels : sequence of float
        In the order of the regimes, which are sorted by volatility.

    Raises
    ------
    ModelError
        A level is negative or not finite; when asked: the forecaster has no regimes, or others.

    Examples
    --------
    >>> RegimeRiskAversion([2.0, 10.0]).of(np.array([0.75, 0.25]))
    4.0
    """

    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = tuple(float(level) for level in self.levels)
        if not levels or not all(0.0 <= level < math.inf for level in levels):
            raise ModelError(f"levels={self.levels}: must be numbers of at least 0, one a regime")
        object.__setattr__(self, "levels", levels)

    @property
    def lookback(self) -> int:
        """One row: the belief is the forecaster's."""
        return 1

    def at(self, view: View, forecast: Forecast) -> float:
        """See `RiskAversionRule.at`."""
        if forecast.belief is None:
            raise ModelError(
                "RegimeRiskAversion: the forecast has no regimes; RegimeForecaster has"
            )
        return self.of(forecast.belief)

    def of(self, belief: Floats) -> float:
        """Risk aversion under probabilities of the regimes."""
        if len(belief) != len(self.levels):
            raise ModelError(
                f"levels={self.levels}: must be one for each of the {len(belief)} regimes"
            )
        return float(belief @ np.array(self.levels))

    def with_base(self, base: float) -> RegimeRiskAversion:
        """See `RiskAversionRule.with_base`."""
        raise ModelError("RegimeRiskAversion: has a level for each regime, and no base")
