"""Stationary block bootstrap: rows drawn in blocks, all columns together.

Politis and Romano (1994): blocks of consecutive rows start anywhere and have geometric lengths; the
last row is followed by the first. What follows a row in a draw follows it in the data, but at the
end of a block, and every column keeps its neighbors of the same row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.rng import Rng, generator

# Rows drawn at a time: what they take stays near the processor, whatever the number of draws.
CHUNK_ROWS = 400_000


@dataclass(frozen=True, eq=False)
class Blocks:
    """Draws of `length` rows each, as blocks of consecutive rows.

    Attributes
    ----------
    starts, lengths : array of int, shape (n_blocks,)
        First row and number of rows of each block, draw after draw; rows count modulo `n_rows`.
    first : array of int, shape (n_draws,)
        Position of each draw's first block.
    n_rows : int
        Rows of the data.
    length : int
        Rows of each draw.
    """

    starts: Ints
    lengths: Ints
    first: Ints
    n_rows: int
    length: int

    @classmethod
    def of_sample(cls, n_rows: int) -> Blocks:
        """The data themselves, each row a block."""
        return cls(
            starts=np.arange(n_rows),
            lengths=np.ones(n_rows, dtype=np.int64),
            first=np.zeros(1, dtype=np.int64),
            n_rows=n_rows,
            length=n_rows,
        )

    def rows(self) -> Ints:
        """Row numbers of each draw, shape (n_draws, length)."""
        total = int(self.lengths.sum())
        begins = np.cumsum(self.lengths) - self.lengths
        rows: Ints = np.repeat(self.starts - begins, self.lengths) + np.arange(total)
        return (rows % self.n_rows).reshape(-1, self.length)

    def sums(self, table: Floats) -> Floats:
        """Sum of the data's rows in each block: (n_rows, k) to (n_blocks, k)."""
        twice = np.concatenate([np.zeros((1, table.shape[1])), table, table]).cumsum(axis=0)
        sums: Floats = twice[self.starts + self.lengths] - twice[self.starts]
        return sums

    def drawn_sums(self, values: Floats) -> Floats:
        """Sum over each block of numbers given for each drawn row: (n_draws, n_rows) to 1-D."""
        begins = np.cumsum(self.lengths) - self.lengths
        sums: Floats = np.add.reduceat(values.ravel(), begins)
        return sums

    def per_draw(self, values: Floats) -> Floats:
        """Sum of the blocks' numbers in each draw: (n_blocks, k) to (n_draws, k)."""
        sums: Floats = np.add.reduceat(values, self.first, axis=0)
        return sums

    def per_block(self, values: Floats) -> Floats:
        """Each draw's numbers repeated for each of its blocks: (n_draws, k) to (n_blocks, k)."""
        counts = np.diff(np.append(self.first, len(self.starts)))
        repeated: Floats = np.repeat(values, counts, axis=0)
        return repeated


def stationary_blocks(
    n_rows: int, *, block_length: float, n_draws: int, rng: Rng
) -> Iterator[Blocks]:
    """Draws of the stationary bootstrap, some at a time.

    Parameters
    ----------
    n_rows : int
    block_length : float
        Mean length, at least 1: after each row a new block starts with probability
        ``1 / block_length``.
    n_draws : int
    rng : int, SeedSequence or Generator

    Yields
    ------
    Blocks
    """
    rng = generator(rng)
    at_a_time = max(CHUNK_ROWS // n_rows, 1)
    for done in range(0, n_draws, at_a_time):
        n_now = min(at_a_time, n_draws - done)
        yield draw_blocks(n_rows, n_rows, block_length=block_length, n_draws=n_now, rng=rng)


def draw_blocks(
    n_rows: int, length: int, *, block_length: float, n_draws: int, rng: np.random.Generator
) -> Blocks:
    """Draws of `length` rows out of `n_rows`, all at once; arguments as in `stationary_blocks`."""
    begins_here = rng.random((n_draws, length)) < 1.0 / block_length
    begins_here[:, 0] = True
    begins = np.flatnonzero(begins_here)
    counts = begins_here.sum(axis=1)
    return Blocks(
        starts=rng.integers(n_rows, size=len(begins)),
        lengths=np.diff(np.append(begins, n_draws * length)),
        first=np.cumsum(counts) - counts,
        n_rows=n_rows,
        length=length,
    )


def standard_error_of_mean(table: Floats, *, block_length: float) -> Floats:
    """Standard error of each column's mean under serial dependence.

    It is the standard deviation of the mean over all draws of the stationary bootstrap, in closed
    form (Politis and Romano 1994, lemma 1): autocovariances weighted by
    ``(1 - i / n) (1 - 1 / block_length)^i``, an estimate of the long-run variance.

    Parameters
    ----------
    table : array, shape (n_rows, k)
    block_length : float

    Returns
    -------
    array, shape (k,)
    """
    n_rows = len(table)
    spectrum = np.abs(np.fft.rfft(table - table.mean(axis=0), axis=0)) ** 2
    autocovariances = np.fft.irfft(spectrum, n_rows, axis=0) / n_rows
    lags = np.arange(n_rows)
    weights = 2.0 * (1.0 - lags / n_rows) * (1.0 - 1.0 / block_length) ** lags
    weights[0] = 1.0
    # The sum is a variance; below 0 it is rounding.
    return np.sqrt(np.maximum(weights @ autocovariances, 0.0) / n_rows)


def optimal_block_length(series: Floats) -> float:
    """Mean block length that suits a series: Politis and White (2004), corrected (Patton 2009).

    It minimizes the mean squared error of the stationary bootstrap's variance of the mean. The
    lag up to which autocorrelations count ends where ``max(5, log10 n)`` in a row lie inside
    ``2 sqrt(log10(n) / n)``. The result lies between 1 and ``min(3 sqrt n, n / 3)``; a series
    without variation has length 1.

    Parameters
    ----------
    series : array, shape (n_rows,)
        At least 9 rows.

    References
    ----------
    A. Patton, D. Politis and H. White, "Correction to 'Automatic block-length selection for the
    dependent bootstrap'", Econometric Reviews 28 (2009).
    """
    n_rows = len(series)
    longest = math.ceil(min(3.0 * math.sqrt(n_rows), n_rows / 3.0))
    run = max(5, int(math.log10(n_rows)))
    n_lags = math.ceil(math.sqrt(n_rows)) + run
    deviations = series - series.mean()
    # One more lag is left out of both norms than out of the product, as in Patton's program.
    products = [deviations[i:] @ deviations[: n_rows - i] for i in range(n_lags + 1)]
    norms = [_norm(deviations[i + 1 :]) * _norm(deviations[: -i - 1]) for i in range(n_lags + 1)]
    if min(norms) == 0.0:
        return 1.0
    autocovariances = np.array(products) / n_rows
    bandwidth = _bandwidth(np.abs(np.array(products) / np.array(norms)), run, n_rows)
    lags = np.arange(1, bandwidth + 1)
    tapered = np.minimum(1.0, 2.0 * (1.0 - lags / bandwidth)) * autocovariances[lags]
    slope, long_run = 2.0 * (lags @ tapered), autocovariances[0] + 2.0 * tapered.sum()
    if long_run == 0.0:
        return float(longest)
    return float(np.clip((slope / long_run) ** 2 * n_rows, 1.0, longest**3) ** (1.0 / 3.0))


def _norm(values: Floats) -> float:
    return math.sqrt(float(values @ values))


def _bandwidth(correlations: Floats, run: int, n_rows: int) -> int:
    """Twice the first lag of a run of `run` negligible correlations (lag 0 has correlation 1)."""
    negligible = correlations < 2.0 * math.sqrt(math.log10(n_rows) / n_rows)
    n_lags = len(correlations) - 1
    for lag in range(1, n_lags - run + 1):
        if negligible[lag : lag + run].all():
            return min(2 * lag, n_lags)
    return n_lags
