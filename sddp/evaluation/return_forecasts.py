"""Whether strategies earned what their models expected: bias and Mincer-Zarnowitz regressions.

A decision log states with each decision what the model expects of the traded portfolio, net of the
trade. `expected_and_earned` sets the realized return of the period beside it, `return_tests` says
by how much the two differ and whether a larger expectation was followed by a larger return: the
slope of realized on expected returns is 1 for a model that is right (Mincer and Zarnowitz 1969),
and 0 for one whose expectations say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.evaluation.inference import MINIMUM_PERIODS, Resampling, mean_interval
from sddp.evaluation.risk_forecasts import forecasts_and_losses
from sddp.rng import generator
from sddp.statistics.resampling import optimal_block_length, stationary_blocks

# Fewer horizons that do not overlap carry no interval, no slope and no p-value.
MINIMUM_HORIZONS = 20
# Expectations that differ by less are the same: there is no slope.
ROUNDING = 1e-12

TESTED = (
    *("difference_low", "difference_high", "separate_low", "separate_high"),
    *("slope", "slope_low", "slope_high"),
)


def expected_and_earned(
    wealth: pd.Series[float], log: pd.DataFrame, *, lag: int, period: int | None = None
) -> pd.DataFrame:
    """Expected and realized return of the period after each decision.

    Both are simple returns on the wealth before the trade, net of it. Parameters, dates and errors
    as `forecasts_and_losses`; the log needs a column ``model_mean`` too.

    Returns
    -------
    DataFrame, shape (n_periods, 2)
        ``expected`` and ``realized``, by date of decision; decisions without an expectation are
        left out.

    Raises
    ------
    DataError
        There is no column ``model_mean``.
    """
    if "model_mean" not in log.columns:
        raise DataError(f"decision log: column 'model_mean' is missing; it has {list(log.columns)}")
    told = forecasts_and_losses(wealth, log, lag=lag, period=period)
    expected = log.loc[told.index, "model_mean"].astype(float)
    table = pd.DataFrame({"expected": expected, "realized": -told["loss"]})
    return table[table["expected"].notna()]


def return_tests(
    periods: Mapping[str, pd.DataFrame], how: Resampling, *, horizon: int = 1
) -> pd.DataFrame:
    """Tests of expected returns of some strategies.

    Parameters
    ----------
    periods : mapping of str to DataFrame
        ``expected`` and ``realized`` by strategy, as `expected_and_earned`, in order of time.
    how : Resampling
        Mean blocks are at least twice the horizon.
    horizon : int
        Rows that one return covers: returns of rows nearer than this overlap.

    Returns
    -------
    DataFrame, shape (n_strategies, 13)
        ``n_periods``, ``n_independent`` (horizons that do not overlap); ``expected`` and
        ``realized``, means; ``difference``, realized less expected, with its bootstrap interval
        ``difference_low`` to ``difference_high`` and, from every horizon-th row alone,
        ``separate_low`` to ``separate_high``; ``slope`` of realized on expected returns with its
        interval. With fewer than 20 independent horizons there are no intervals and no slope, and
        ``note`` says so.

    Raises
    ------
    ModelError
        `horizon` is below 1.
    DataError
        A number is missing.
    """
    if horizon < 1:
        raise ModelError(f"horizon={horizon}: must be a positive number of rows")
    streams = generator(how.rng).spawn(len(periods))
    rows = {
        name: _tests(table, replace(how, rng=stream), horizon)
        for (name, table), stream in zip(periods.items(), streams, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _tests(table: pd.DataFrame, how: Resampling, horizon: int) -> dict[str, Any]:
    expected = table["expected"].to_numpy(dtype=float)
    realized = table["realized"].to_numpy(dtype=float)
    if not (np.isfinite(expected).all() and np.isfinite(realized).all()):
        raise DataError("expected or realized returns hold a gap; leave those periods out")
    errors, n_independent = realized - expected, len(table) // horizon
    facts = {
        "n_periods": len(table),
        "n_independent": n_independent,
        "expected": float(expected.mean()) if len(table) else math.nan,
        "realized": float(realized.mean()) if len(table) else math.nan,
        "difference": float(errors.mean()) if len(table) else math.nan,
    }
    if n_independent < MINIMUM_HORIZONS or len(table) < MINIMUM_PERIODS:
        few = f"{n_independent} horizons that do not overlap; intervals need {MINIMUM_HORIZONS}"
        return facts | dict.fromkeys(TESTED, math.nan) | {"note": few}
    streams = generator(how.rng).spawn(3)
    own = replace(how, block_length=_block_length(errors, how, horizon))
    _, low, high = mean_interval(errors, how=replace(own, rng=streams[0]))
    _, *separate = mean_interval(errors[::horizon], how=replace(how, rng=streams[1]))
    slope = mincer_zarnowitz(expected, realized, replace(own, rng=streams[2]))
    return facts | dict(zip(TESTED, (low, high, *separate, *slope), strict=True)) | {"note": ""}


def _block_length(errors: Floats, how: Resampling, horizon: int) -> float | None:
    """Mean block: as asked or automatic, but at least two horizons where returns overlap."""
    if horizon == 1:
        return how.block_length
    return max(how.block_length or optimal_block_length(errors), 2.0 * horizon)


def mincer_zarnowitz(
    expected: Floats, realized: Floats, how: Resampling
) -> tuple[float, float, float]:
    """Slope of realized on expected returns, with an interval of bootstrap quantiles.

    Pairs are drawn in blocks. NaN where the expectations do not differ.

    Parameters
    ----------
    expected, realized : array, shape (n_periods,)
    how : Resampling
        By default blocks suit the product of both deviations.

    Returns
    -------
    slope, low, high : float
    """
    if np.ptp(expected) <= ROUNDING:
        return math.nan, math.nan, math.nan
    deviation = expected - expected.mean()
    length = how.block_length or optimal_block_length(deviation * (realized - realized.mean()))
    drawn = [
        _slopes(expected[rows], realized[rows])
        for blocks in stationary_blocks(
            len(expected), block_length=length, n_draws=how.n_draws, rng=how.rng
        )
        for rows in [blocks.rows()]
    ]
    slopes = np.concatenate(drawn)
    slopes = slopes[np.isfinite(slopes)]
    outside = (1.0 - how.level) / 2.0
    low, high = np.quantile(slopes, [outside, 1.0 - outside])
    return float(_slopes(expected[None], realized[None])[0]), float(low), float(high)


def _slopes(expected: Floats, realized: Floats) -> Floats:
    """Least-squares slope of each row of draws; NaN where the expectations do not differ."""
    x = expected - expected.mean(axis=1, keepdims=True)
    y = realized - realized.mean(axis=1, keepdims=True)
    spread = (x**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes: Floats = np.where(spread > ROUNDING**2, (x * y).sum(axis=1) / spread, np.nan)
    return slopes
