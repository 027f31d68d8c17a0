"""How far decisions hang on chance: on draws, fits, training, and on the history that was seen."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints, read_only
from sddp.backtest.multistage import MultistageStrategy
from sddp.cache.fingerprint import fresh
from sddp.dates import plain_date
from sddp.errors import ModelError
from sddp.estimation.regimes import RegimeEstimator
from sddp.labels import CASH, label_index, numbers_by_label
from sddp.market.market import Market, View
from sddp.rng import Rng, generator
from sddp.statistics.resampling import stationary_blocks

# Sources of chance, in the order of the table.
SOURCES = ("draw", "fit", "training", "history")

# Tables of a view that the bootstrap draws anew, all of the same rows.
REDRAWN = ("returns", "log_returns", "cash_rate", "factors")


def stability(
    strategy: MultistageStrategy,
    market: Market,
    dates: Sequence[str | pd.Timestamp],
    *,
    rng: Rng,
    n_repetitions: int = 16,
    block_length: float | None = None,
    holdings: Mapping[Hashable, float] | None = None,
    sources: Sequence[str] = SOURCES,
) -> pd.DataFrame:
    """Mean distance between decisions that differ by chance alone.

    The distance of two decisions is half the sum of the absolute differences of their weights, cash
    included: the share of wealth that is held otherwise. It is averaged over all pairs of
    repetitions, and over the dates. At each date the strategy is estimated and trained anew, and
    all but one source of chance is held fixed.

    Parameters
    ----------
    strategy : MultistageStrategy
        With a `RegimeEstimator`. Its own seeds are those that are not varied.
    market : Market
    dates : sequence of dates
        On which decisions are compared, each from the same holdings.
    rng : int, SeedSequence or Generator
        Draws the seeds and the histories.
    n_repetitions : int
        At least 2.
    block_length : float, optional
        Mean number of rows of a block of history; by default the cube root of the window, at least
        five periods.
    holdings : mapping from position to money, optional
        Held before the decision; all in cash by default.
    sources : sequence of str
        Of ``"draw"`` (the scenarios), ``"fit"`` (starts of EM), ``"training"`` (paths), and
        ``"history"`` (the rows of the window, drawn in blocks: estimation error).

    Returns
    -------
    DataFrame, shape (n_sources, 2 + n_dates)
        ``distance``, the mean; ``largest``, over dates and pairs; and the mean of each date.

    Raises
    ------
    ModelError
        A source is unknown, fewer than 2 repetitions, no dates, or another estimator.
    """
    estimator = strategy.estimator
    if not isinstance(estimator, RegimeEstimator):
        raise ModelError(f"estimator={estimator!r}: must be a RegimeEstimator to vary its seeds")
    unknown = [source for source in sources if source not in SOURCES]
    if unknown or not len(sources):
        raise ModelError(f"sources={list(sources)}: must be some of {', '.join(SOURCES)}")
    if n_repetitions < 2:
        raise ModelError(f"n_repetitions={n_repetitions}: must be at least 2 to compare decisions")
    if not len(dates):
        raise ModelError("dates=[]: must name at least one date")
    if block_length is None:
        block_length = max(estimator.window ** (1.0 / 3.0), 5.0 * estimator.period)
    views = [market.at(plain_date(date)) for date in dates]
    held = _money(views[0], holdings)
    streams = dict(zip(SOURCES, generator(rng).spawn(len(SOURCES)), strict=True))
    rows = {}
    for source in sources:
        found = [
            _weights(strategy, source, view, held, n_repetitions, block_length, stream)
            for view, stream in zip(views, streams[source].spawn(len(views)), strict=True)
        ]
        rows[source] = _row(found, views)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("source")


def _row(found: Sequence[Floats], views: Sequence[View]) -> dict[str, float]:
    distances = [
        np.array([0.5 * np.abs(a - b).sum() for a, b in combinations(weights, 2)])
        for weights in found
    ]
    means = {
        f"{view.date:%Y-%m-%d}": float(d.mean()) for view, d in zip(views, distances, strict=True)
    }
    overall = {
        "distance": float(np.mean(list(means.values()))),
        "largest": float(max(d.max() for d in distances)),
    }
    return overall | means


def _weights(
    strategy: MultistageStrategy,
    source: str,
    view: View,
    held: pd.Series[float],
    n_repetitions: int,
    block_length: float,
    rng: np.random.Generator,
) -> Floats:
    """Weights of each repetition, shape (n_repetitions, 1 + n_assets)."""
    positions = (CASH, *view.assets)
    rows = []
    for repetition in rng.spawn(n_repetitions):
        own = _varied(strategy, source, int(repetition.integers(2**31)))
        if source == "history":
            # Estimated on another history, asked on what is known today.
            own.refit(_redrawn(view, _regimes_of(own).window, block_length, repetition))
        weights = own.decide(view, held)
        rows.append([float(weights.get(name, 0.0)) for name in positions])
    return np.array(rows)


def _regimes_of(strategy: MultistageStrategy) -> RegimeEstimator:
    assert isinstance(strategy.estimator, RegimeEstimator)
    return strategy.estimator


def _varied(strategy: MultistageStrategy, source: str, seed: int) -> MultistageStrategy:
    """A fresh strategy with one seed replaced."""
    estimator = _regimes_of(strategy)
    drawn = estimator.seed if estimator.scenario_seed is None else estimator.scenario_seed
    if source == "draw":
        strategy = replace(strategy, estimator=replace(estimator, scenario_seed=seed))
    elif source == "fit":
        changed = replace(estimator, seed=seed, scenario_seed=drawn)
        strategy = replace(strategy, estimator=changed)
    elif source == "training":
        strategy = replace(strategy, seed=seed)
    return fresh(strategy)


def _redrawn(view: View, window: int, block_length: float, rng: np.random.Generator) -> View:
    """The view with the returns, factors and cash rates of its window drawn in blocks."""
    n_rows = len(view.returns)
    first = max(n_rows - window, 0)
    (blocks,) = stationary_blocks(n_rows - first, block_length=block_length, n_draws=1, rng=rng)
    chosen = np.concatenate([np.arange(first), first + blocks.rows()[0]])
    arrays = {
        name: _drawn(values, chosen) if name in REDRAWN else values
        for name, values in view.arrays.items()
    }
    return replace(view, arrays=arrays)


def _drawn(values: NDArray[Any], chosen: Ints) -> NDArray[Any]:
    """Rows of a table, the last ones where it has more than there are returns."""
    ahead = len(values) - len(chosen)
    return read_only(np.concatenate([values[:ahead], values[ahead:][chosen]]))


def _money(view: View, holdings: Mapping[Hashable, float] | None) -> pd.Series[float]:
    positions = (CASH, *view.assets)
    given = {CASH: 1.0} if holdings is None else holdings
    amounts = numbers_by_label(given, positions, "holdings", default=0.0)
    return pd.Series(amounts, index=label_index(positions))
