"""Bootstrap statistics with their influence functions, by which draws are studentized.

An estimator maps a table of rows, shape (n_rows, k), and `Blocks` to an `Estimate` per column. The
sum of a statistic's influence function over a block says how far the block moves it; the data
themselves are blocks of one row (`Blocks.of_sample`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.evaluation.metrics import NO_SPREAD, tail_rank
from sddp.statistics.resampling import Blocks


class Estimate(NamedTuple):
    """Values of a statistic, shape (n_draws, k), and its influence, shape (n_blocks, k).

    NaN where the statistic does not exist in a draw.
    """

    values: Floats
    influence: Floats


Estimator = Callable[[Floats, Blocks], Estimate]


def mean(rows: Floats, blocks: Blocks) -> Estimate:
    """Mean of the rows."""
    sums = blocks.sums(rows)
    means = blocks.per_draw(sums) / blocks.n_rows
    return Estimate(means, sums - blocks.lengths[:, None] * blocks.per_block(means))


def log_deviation(rows: Floats, blocks: Blocks) -> Estimate:
    """Logarithm of the standard deviation (ddof 1), closer to normal than the deviation."""
    _, deviations, _, squares = _moments(rows, blocks)
    with np.errstate(divide="ignore"):
        values = np.log(deviations)
    return Estimate(values, 0.5 * squares)


def sharpe(rows: Floats, blocks: Blocks) -> Estimate:
    """Mean over standard deviation (ddof 1), per period; the rows are excess returns."""
    means, deviations, sums, squares = _moments(rows, blocks)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = means / deviations
        values[deviations == 0.0] = np.nan
    return Estimate(values, sums - 0.5 * blocks.per_block(values) * squares)


def tail_mean(confidence: float) -> Estimator:
    """Estimator of the CVaR: mean of the largest ``1 - confidence`` of rows, in part the last."""

    def estimate(rows: Floats, blocks: Blocks) -> Estimate:
        drawn = blocks.rows()
        columns = [_tail(column[drawn], blocks, confidence) for column in rows.T]
        return Estimate(*(np.stack(parts, axis=-1) for parts in zip(*columns, strict=True)))

    return estimate


def _tail(losses: Floats, blocks: Blocks, confidence: float) -> tuple[Floats, Floats]:
    """CVaR by Rockafellar and Uryasev: ``VaR + mean(max(loss - VaR, 0)) / (1 - confidence)``.

    Losses have shape (n_draws, n_rows).
    """
    rank = tail_rank(blocks.n_rows, confidence)
    quantiles = np.partition(losses, -rank, axis=1)[:, -rank]
    excess = np.maximum(losses - quantiles[:, None], 0.0) / (1.0 - confidence)
    means = excess.mean(axis=1)
    influence = blocks.drawn_sums(excess) - blocks.lengths * blocks.per_block(means)
    return quantiles + means, influence


def _moments(rows: Floats, blocks: Blocks) -> tuple[Floats, Floats, Floats, Floats]:
    """Means and standard deviations by draw; standardized sums and squares less 1 by block."""
    # About the sample's mean, where squares lose nothing to cancellation.
    center = rows.mean(axis=0)
    sums, squares = blocks.sums(rows - center), blocks.sums((rows - center) ** 2)
    n_rows, lengths = blocks.n_rows, blocks.lengths[:, None]
    means = blocks.per_draw(sums) / n_rows
    variances = np.maximum(blocks.per_draw(squares) / n_rows - means**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviations = np.sqrt(variances * np.float64(n_rows) / (n_rows - 1))
    variances[deviations <= NO_SPREAD] = np.nan
    deviations[deviations <= NO_SPREAD] = 0.0
    by_block = blocks.per_block(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = (sums - lengths * by_block) / blocks.per_block(deviations)
        squared = squares - 2.0 * by_block * sums + lengths * by_block**2
        standardized = squared / blocks.per_block(variances) - lengths
    return means + center, deviations, scaled, standardized
