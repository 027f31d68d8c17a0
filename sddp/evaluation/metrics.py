"""Measures of a backtest: pure functions, each with its definition.

Returns are simple decimal returns per period, compounded. ``periods_per_year`` comes from the
dates of the data (`sddp.dates.periods_per_year`), never from a convention such as 252. A
measure is NaN where it does not exist: a ratio whose denominator is 0, a spread of one period, a
regression on two, and anything of a period whose return is missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from pandas.api.typing import NaTType

from sddp.arrays import Floats
from sddp.dates import periods_per_year
from sddp.risk import weighted_cvar

# A line through two points fits them whatever they are.
FEWEST_FOR_A_LINE = 3

# Returns are quotients of wealth and carry its rounding (1e-16): a spread below this is none.
NO_SPREAD = 1e-13

# 5 % of 100 rows are 5.000000000000004 in floating point; they must not count as six.
COUNT_ROUNDING = 1e-9


class Drawdown(NamedTuple):
    """Drawdown from a peak: depth and dates.

    `depth` is the lowest ``W / peak - 1`` (0 or negative), `peak` the last date on the peak,
    `trough` the first at the lowest point, and `recovery` the first date on which the peak is
    reached again (NaT while it is not).
    """

    depth: float
    peak: pd.Timestamp
    trough: pd.Timestamp
    recovery: pd.Timestamp | NaTType


def simple_returns(wealth: ArrayLike) -> Floats:
    """``W_t / W_{t-1} - 1``, shape (n_rows - 1,)."""
    w: Floats = np.asarray(wealth, dtype=float)
    returns: Floats = w[1:] / w[:-1] - 1.0
    return returns


def annualized_return(wealth: pd.Series[float]) -> float:
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
    excess = _less(returns, cash_returns)
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


def beta(returns: ArrayLike, benchmark: ArrayLike, cash_returns: ArrayLike) -> float:
    """Slope of the least-squares line of returns on the benchmark's, both in excess of cash.

    ``cov(e, b) / var(b)`` over the same periods; NaN for fewer than three, or where the benchmark
    earns what cash earns.
    """
    return _line(returns, benchmark, cash_returns)[1]


def alpha(
    returns: ArrayLike, benchmark: ArrayLike, cash_returns: ArrayLike, periods_per_year: float
) -> float:
    """Intercept of that line a year: ``(mean(e) - beta mean(b)) periods_per_year``.

    Arithmetic, not compounded; see `beta`.
    """
    return _line(returns, benchmark, cash_returns)[0] * periods_per_year


def tracking_error(returns: ArrayLike, benchmark: ArrayLike, periods_per_year: float) -> float:
    """``std(r - b, ddof=1) sqrt(periods_per_year)``; NaN for fewer than two periods."""
    return volatility(_less(returns, benchmark), periods_per_year)


def information_ratio(returns: ArrayLike, benchmark: ArrayLike, periods_per_year: float) -> float:
    """``mean(r - b) / std(r - b, ddof=1) sqrt(periods_per_year)``."""
    return sharpe_ratio(returns, benchmark, periods_per_year)


def calmar_ratio(wealth: pd.Series[float]) -> float:
    """Annualized return over the depth of the maximum drawdown."""
    return _ratio(annualized_return(wealth), -maximum_drawdown(wealth).depth)


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


def deepest_falls(wealth: pd.Series[float], n_falls: int) -> list[Drawdown]:
    """Deepest falls that do not overlap, deepest first; each lasts from a peak to its recovery."""
    dates = pd.DatetimeIndex(wealth.index)
    found: list[Drawdown] = []
    stretches = [(0, len(wealth))]
    while stretches and len(found) < n_falls:
        falls = [maximum_drawdown(wealth.iloc[low:high]) for low, high in stretches]
        place = int(np.argmin([fall.depth for fall in falls]))
        fall, (low, high) = falls[place], stretches.pop(place)
        if fall.depth == 0.0:
            break
        found.append(fall)
        # Before the peak another fall may lie, and after the recovery.
        peak = int(dates.searchsorted(fall.peak))
        stretches.append((low, peak + 1))
        if not pd.isna(fall.recovery):
            stretches.append((int(dates.searchsorted(fall.recovery)), high))
    return found


def calendar_returns(wealth: pd.DataFrame) -> pd.DataFrame:
    """Return in each calendar year, the first and the last as far as they are covered.

    Parameters
    ----------
    wealth : DataFrame, shape (n_rows, n_strategies)
        Money.

    Returns
    -------
    DataFrame, shape (n_years, n_strategies)
        From the last row of the year before, or the first row, to the last row of the year.
    """
    years = pd.DatetimeIndex(wealth.index).year
    last = wealth.groupby(years).last()
    base = last.shift(1)
    base.iloc[0] = wealth.iloc[0]
    table = (last / base - 1.0).rename_axis("year")
    # A first year of one row earned nothing.
    return table.iloc[1:] if (years == years[0]).sum() == 1 and len(table) > 1 else table


def trailing_return(wealth: pd.DataFrame, *, months: int) -> pd.DataFrame:
    """``W_t / W_s - 1`` with s the last row at least `months` before t; rows without s left out."""
    dates = pd.DatetimeIndex(wealth.index)
    base = wealth.reindex(dates - pd.DateOffset(months=months), method="ffill").set_axis(dates)
    return (wealth / base - 1.0)[base.notna().all(axis=1)]


def rolling_volatility(returns: pd.DataFrame, *, months: int) -> pd.DataFrame:
    """`volatility` of the trailing months, by row and strategy.

    At t, over the periods that end after ``t - months`` and not after t; rows with less than
    `months` of history are left out. ``periods_per_year`` is that of all rows, here and in the
    other rolling measures.
    """
    per_year = _pace(returns)
    return _rolling(returns, months, lambda window: volatility(window[:, 0], per_year))


def rolling_sharpe(
    returns: pd.DataFrame, cash_returns: pd.Series[float], *, months: int
) -> pd.DataFrame:
    """`sharpe_ratio` of the trailing months; rows as `rolling_volatility`."""
    per_year = _pace(returns)
    return _rolling(
        returns,
        months,
        lambda window: sharpe_ratio(window[:, 0], window[:, 1], per_year),
        cash_returns,
    )


def rolling_beta(
    returns: pd.DataFrame,
    benchmark: pd.Series[float],
    cash_returns: pd.Series[float],
    *,
    months: int,
) -> pd.DataFrame:
    """`beta` of the trailing months; rows as `rolling_volatility`."""
    return _rolling(returns, months, lambda window: beta(*window.T), benchmark, cash_returns)


def rolling_cvar(returns: pd.DataFrame, *, months: int, confidence: float) -> pd.DataFrame:
    """`conditional_value_at_risk` of the trailing months; rows as `rolling_volatility`."""
    return _rolling(
        returns,
        months,
        lambda window: conditional_value_at_risk(window[:, 0], confidence=confidence),
    )


def value_at_risk(returns: ArrayLike, *, confidence: float) -> float:
    """Loss of one period at the order statistic ``ceil((1 - confidence) T)`` from the worst.

    Positive is a loss; 0.95 looks at the worst 5 %.
    """
    losses = np.sort(-np.asarray(returns, dtype=float))
    if np.isnan(losses).any():
        return math.nan
    return float(losses[-tail_rank(losses.size, confidence)])


def tail_rank(n_periods: int, confidence: float) -> int:
    """Rank from the worst of the loss that is the VaR: ``ceil((1 - confidence) n_periods)``."""
    return max(math.ceil((1.0 - confidence) * n_periods - COUNT_ROUNDING), 1)


def conditional_value_at_risk(returns: ArrayLike, *, confidence: float) -> float:
    """Mean loss of one period in the worst ``1 - confidence`` of periods; positive is a loss.

    The tail is fractional: its last period counts in part (Rockafellar and Uryasev).
    """
    losses: Floats = -np.asarray(returns, dtype=float)
    return math.nan if np.isnan(losses).any() else weighted_cvar(losses, confidence=confidence)


def hit_rate(returns: ArrayLike) -> float:
    """Share of periods with a return above 0."""
    r: Floats = np.asarray(returns, dtype=float)
    return float((r > 0.0).mean()) if not np.isnan(r).any() else math.nan


def per_year(amounts: pd.Series[float]) -> float:
    """Sum over rows (of turnover, relative costs) per calendar year."""
    n_periods = len(amounts) - 1
    return float(amounts.sum()) / n_periods * periods_per_year(pd.DatetimeIndex(amounts.index))


def _less(returns: ArrayLike, others: ArrayLike) -> Floats:
    difference: Floats = np.asarray(returns, dtype=float) - np.asarray(others, dtype=float)
    return difference


def _line(returns: ArrayLike, benchmark: ArrayLike, cash_returns: ArrayLike) -> tuple[float, float]:
    """Intercept and slope of excess returns on those of the benchmark."""
    e, b = _less(returns, cash_returns), _less(benchmark, cash_returns)
    if b.size < FEWEST_FOR_A_LINE or not b.std() > NO_SPREAD:
        return math.nan, math.nan
    deviations = b - b.mean()
    slope = float(deviations @ (e - e.mean()) / (deviations @ deviations))
    return float(e.mean() - slope * b.mean()), slope


def _pace(returns: pd.DataFrame) -> float:
    return periods_per_year(pd.DatetimeIndex(returns.index))


def _rolling(
    returns: pd.DataFrame,
    months: int,
    measure: Callable[[Floats], float],
    *beside: pd.Series[float],
) -> pd.DataFrame:
    """`measure` of each column's trailing rows, with those of `beside` as further columns."""
    dates = pd.DatetimeIndex(returns.index)
    since = dates - pd.DateOffset(months=months)
    full = np.flatnonzero(since >= dates[0])
    starts = dates.searchsorted(since, side="right")
    others = [series.reindex(dates).to_numpy() for series in beside]
    columns = {}
    for name, column in returns.items():
        table = np.column_stack([column.to_numpy(), *others])
        columns[name] = [measure(table[starts[row] : row + 1]) for row in full]
    return pd.DataFrame(columns, index=dates[full], columns=returns.columns)


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > NO_SPREAD else math.nan
