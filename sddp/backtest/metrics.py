"""Measures of a backtest: pure functions, each with its definition.

Returns are simple decimal returns per period, compounded. ``periods_per_year`` comes from the
dates of the data (`periods_per_year`), never from a convention such as 252. A ratio whose
denominator is 0 is NaN.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api.typing import NaTType

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.risk import weighted_cvar

DAYS_PER_YEAR = 365.25

# Returns are quotients of wealth and carry its rounding (1e-16): a spread below this is none.
NO_SPREAD = 1e-13

# 5 % of 100 rows are 5.000000000000004 in floating point; they must not count as six.
COUNT_ROUNDING = 1e-9


class Drawdown(NamedTuple):
    """A fall from a peak.

    `depth` is the lowest ``W / peak - 1`` (0 or negative), `peak` the last date on the peak,
    `trough` the first at the lowest point, and `recovery` the first date on which the peak is
    reached again (NaT while it is not).
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp
    recovery: pd.Timestamp | NaTType


def periods_per_year(dates: pd.DatetimeIndex) -> float:
    """Periods between the first and the last date over the calendar years between them.

    A year has 365.25 days; n rows hold n - 1 periods.

    Raises
    ------
    DataError
        Fewer than two dates.

    >>> round(periods_per_year(pd.date_range("2000-01-31", periods=121, freq="ME")), 2)
    12.0
    """
    if len(dates) < 2:
        raise DataError(f"{len(dates)} dates hold no period; give at least two")
    years = (dates[-1] - dates[0]) / pd.Timedelta(days=DAYS_PER_YEAR)
    return (len(dates) - 1) / years


def simple_returns(wealth: ArrayLike) -> Floats:
    """``W_t / W_{t-1} - 1``, shape (n_rows - 1,)."""
    w: Floats = np.asarray(wealth, dtype=float)
    returns: Floats = w[1:] / w[:-1] - 1.0
    return returns


def annualised_return(wealth: pd.Series[float]) -> float:
    """Compound annual growth rate ``(W_T / W_0)^(periods_per_year / T) - 1``."""
    growth = float(wealth.iloc[-1] / wealth.iloc[0])
    exponent = periods_per_year(pd.DatetimeIndex(wealth.index)) / (len(wealth) - 1)
    return float(growth**exponent - 1.0)


def volatility(returns: ArrayLike, periods_per_year: float) -> float:
    """``std(r, ddof=1) sqrt(periods_per_year)``; NaN for fewer than two returns."""
    r: Floats = np.asarray(returns, dtype=float)
    return float(r.std(ddof=1)) * math.sqrt(periods_per_year) if r.size > 1 else math.nan


def sharpe_ratio(returns: ArrayLike, cash_returns: ArrayLike, periods_per_year: float) -> float:
    """``mean(e) / std(e, ddof=1) sqrt(periods_per_year)``, e = return - cash of the same period."""
    excess = np.asarray(returns, dtype=float) - np.asarray(cash_returns, dtype=float)
    return _ratio(float(excess.mean()) * periods_per_year, volatility(excess, periods_per_year))


def sortino_ratio(
    returns: ArrayLike, periods_per_year: float, *, minimum_return: float = 0.0
) -> float:
    """``mean(r - m) / sqrt(mean(min(r - m, 0)^2)) sqrt(periods_per_year)``.

    ``m`` is `minimum_return` per period; the mean of squares is over all periods.
    """
    over: Floats = np.asarray(returns, dtype=float) - minimum_return
    downside = math.sqrt(float((np.minimum(over, 0.0) ** 2).mean()))
    return _ratio(float(over.mean()) * math.sqrt(periods_per_year), downside)


def calmar_ratio(wealth: pd.Series[float]) -> float:
    """Annualised return over the depth of the maximum drawdown."""
    return _ratio(annualised_return(wealth), -maximum_drawdown(wealth).depth)


def drawdowns(wealth: pd.Series[float]) -> pd.Series[float]:
    """``W_t / max(W_0, ..., W_t) - 1`` at each date: 0 or negative."""
    return wealth / wealth.cummax() - 1.0


def maximum_drawdown(wealth: pd.Series[float]) -> Drawdown:
    """Deepest fall of compounded wealth below its running maximum, the first row included."""
    dates = pd.DatetimeIndex(wealth.index)
    w, falls = wealth.to_numpy(), drawdowns(wealth).to_numpy()
    trough = int(falls.argmin())
    peak = int(np.flatnonzero(w[: trough + 1] == w[: trough + 1].max())[-1])
    recovered = trough + np.flatnonzero(w[trough:] >= w[peak])
    recovery = dates[recovered[0]] if recovered.size else pd.NaT
    return Drawdown(float(falls[trough]), dates[peak], dates[trough], recovery)


def trailing_return(wealth: pd.DataFrame, *, months: int) -> pd.DataFrame:
    """``W_t / W_s - 1`` with s the last row at least `months` before t; rows without s left out."""
    dates = pd.DatetimeIndex(wealth.index)
    base = wealth.reindex(dates - pd.DateOffset(months=months), method="ffill").set_axis(dates)
    return (wealth / base - 1.0)[base.notna().all(axis=1)]


def value_at_risk(returns: ArrayLike, *, confidence: float) -> float:
    """Loss of one period at the order statistic ``ceil((1 - confidence) T)`` from the worst.

    Positive is a loss; 0.95 looks at the worst 5 %.
    """
    losses = np.sort(-np.asarray(returns, dtype=float))[::-1]
    rank = math.ceil((1.0 - confidence) * losses.size - COUNT_ROUNDING)
    return float(losses[max(rank, 1) - 1])


def conditional_value_at_risk(returns: ArrayLike, *, confidence: float) -> float:
    """Mean loss of one period in the worst ``1 - confidence`` of periods; positive is a loss.

    The tail is fractional: its last period counts in part (Rockafellar and Uryasev).
    """
    return weighted_cvar(-np.asarray(returns, dtype=float), confidence=confidence)


def hit_rate(returns: ArrayLike) -> float:
    """Share of periods with a return above 0."""
    return float((np.asarray(returns, dtype=float) > 0.0).mean())


def per_year(amounts: pd.Series[float]) -> float:
    """Sum of what happens at the rows (turnover, relative costs) over calendar years."""
    n_periods = len(amounts) - 1
    return float(amounts.sum()) / n_periods * periods_per_year(pd.DatetimeIndex(amounts.index))


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > NO_SPREAD else math.nan
