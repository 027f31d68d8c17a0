"""Resampled efficiency (Michaud, 1998): mean weights of the frontiers of redrawn samples."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.display.shown import Shown
from sddp.errors import DataError, ModelError
from sddp.labels import CASH, label_index
from sddp.portfolio.inputs import Weights, read_weights
from sddp.portfolio.moments import MomentEstimator, SampleMoments
from sddp.portfolio.optimizer import Optimizer, Terms
from sddp.portfolio.optimizers.frontier import Frontier, trace
from sddp.statistics.resampling import draw_blocks
from sddp.statistics.tables import TableLike, read_table

Redraw = Literal["normal", "bootstrap"]

# Weights below this are none.
ZERO = 1e-9


@dataclass(frozen=True, eq=False, repr=False)
class ResampledFrontier(Shown):
    """Mean portfolios by rank, from least variance to greatest expected return.

    Attributes
    ----------
    names : sequence of labels
        Of the assets.
    mean : array, shape (n_points, 1 + n_assets)
        Mean holdings by rank, cash first. Every draw keeps the constraints, which are convex, so
        the mean keeps them.
    spread : array, shape (n_points, 1 + n_assets)
        Standard deviation of the holdings over the draws.
    zero : array, shape (n_points, 1 + n_assets)
        Share of the draws that hold nothing.
    n_resamples : int
    """

    names: Sequence[Hashable]
    mean: Floats
    spread: Floats
    zero: Floats
    n_resamples: int

    def table(self, rank: int) -> pd.DataFrame:
        """``mean``, ``spread`` and ``zero`` of a rank, by position, cash first."""
        columns = {"mean": self.mean[rank], "spread": self.spread[rank], "zero": self.zero[rank]}
        return pd.DataFrame(columns, index=label_index([CASH, *self.names]))

    def _facts(self) -> dict[str, str]:
        return {"ranks": str(len(self.mean)), "resamples": str(self.n_resamples)}

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"The middle rank": self.table(len(self.mean) // 2)}


def resampled_frontier(
    optimizer: Optimizer,
    returns: TableLike,
    *,
    current_weights: Weights,
    rng: int | np.random.SeedSequence,
    cash_return: float = 0.0,
    n_resamples: int = 500,
    n_points: int = 20,
    redraw: Redraw = "normal",
    block: float = 1.0,
    moments: MomentEstimator | None = None,
    n_jobs: int = 1,
) -> ResampledFrontier:
    """Redraw the sample, trace the frontier of each draw, take means by rank.

    Parameters
    ----------
    optimizer : Optimizer
        Its costs, bounds and constraints count, see `efficient_frontier`.
    returns : DataFrame or array, shape (n_rows, n_assets)
        Simple decimal returns, oldest first.
    current_weights, cash_return
        See `Optimizer.solve`.
    rng : int or SeedSequence
        Each draw has a stream of its own: draw k is the same whatever `n_resamples` is.
    n_resamples, n_points : int
        Draws, and ranks at equal steps of each draw's expected return.
    redraw : {"normal", "bootstrap"}
        Rows from the normal law of the sample's moments, or blocks of rows of the sample (the
        stationary bootstrap of Politis and Romano, 1994).
    block : float
        Mean number of rows in a block of the bootstrap, at least 1.
    moments : MomentEstimator, optional
        `SampleMoments` by default.
    n_jobs : int
        Processes; the bits of the answer do not depend on it.

    Returns
    -------
    ResampledFrontier

    Raises
    ------
    DataError
        Fewer rows than assets: the frontier of a redrawn sample is then that of noise.
    ModelError
        A parameter is out of range.
    InfeasibleProblem, SolverError
        See `Optimizer.solve`.
    """
    table = read_table(returns, "returns")
    rows, n = table.values.shape
    if rows <= n:
        raise DataError(f"returns has {rows} rows for {n} assets: give more rows than assets")
    if n_jobs < 1:
        raise ModelError(f"n_jobs={n_jobs}: must be a positive integer")
    if n_resamples < 1 or n_points < 2 or not block >= 1.0 or redraw not in get_args(Redraw):
        raise ModelError(
            f"n_resamples={n_resamples}, n_points={n_points}, block={block}, redraw={redraw!r}: "
            "must be at least 1, 2, 1, and 'normal' or 'bootstrap'"
        )
    known = (moments or SampleMoments()).estimate(returns)
    names = list(known.mean.index)
    draw = _Draw(
        optimizer=optimizer,
        names=names,
        returns=table.values,
        center=np.asarray(known.mean, dtype=float),
        root=_root(known.covariance.to_numpy(dtype=float)),
        redraw=redraw,
        block=block,
        moments=moments,
        current=read_weights(current_weights, names),
        cash_return=cash_return,
        n_points=n_points,
    )
    total, squares, zeros = np.zeros((3, n_points, n + 1))
    seeds = np.random.SeedSequence(rng) if isinstance(rng, int) else rng
    # One after the other and in order, so that the sums have the same bits for any n_jobs.
    for points in _mapped(draw, _streams(seeds, n_resamples), n_jobs):
        total += points
        squares += points**2
        zeros += points <= ZERO
    mean = total / n_resamples
    variance = np.maximum(squares / n_resamples - mean**2, 0.0)
    spread = np.sqrt(variance * n_resamples / max(n_resamples - 1, 1))
    return ResampledFrontier(names, mean, spread, zeros / n_resamples, n_resamples)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Draw:
    """Portfolios by rank of one redrawn sample."""

    optimizer: Optimizer
    names: list[Hashable]
    returns: Floats
    center: Floats
    root: Floats
    redraw: Redraw
    block: float
    moments: MomentEstimator | None
    current: Floats
    cash_return: float
    n_points: int

    def __call__(self, seed: np.random.SeedSequence) -> Floats:
        """Holdings, shape (n_points, 1 + n_assets), cash first."""
        generator, (rows, n) = np.random.default_rng(seed), self.returns.shape
        if self.redraw == "normal":
            sample = self.center + generator.standard_normal((rows, n)) @ self.root
        else:
            blocks = draw_blocks(rows, rows, block_length=self.block, n_draws=1, rng=generator)
            sample = self.returns[blocks.rows()[0]]
        terms = Terms(self.optimizer, self.names)
        moments = _estimated(sample, self.moments)
        problem = terms.problem(*moments, self.current, self.cash_return)
        return Frontier(self.names, problem, trace(terms, problem)).points(self.n_points)


def _mapped(draw: _Draw, seeds: Sequence[np.random.SeedSequence], n_jobs: int) -> Iterable[Floats]:
    if n_jobs == 1:
        return map(draw, seeds)
    from joblib import Parallel, delayed  # takes 0.1 s to import

    found: Iterable[Floats] = Parallel(n_jobs, return_as="generator")(
        delayed(draw)(seed) for seed in seeds
    )
    return found


def _streams(seeds: np.random.SeedSequence, n: int) -> list[np.random.SeedSequence]:
    """Seeds by position; a `SeedSequence` counts what it has spawned, so a copy is asked."""
    copy = np.random.SeedSequence(seeds.entropy, spawn_key=seeds.spawn_key)
    return copy.spawn(n)


def _estimated(sample: Floats, moments: MomentEstimator | None) -> tuple[Floats, Floats]:
    if moments is None:
        # The sample's moments without labels: half of the time with ten assets.
        return sample.mean(axis=0), np.atleast_2d(np.cov(sample.T))
    found = moments.estimate(sample)
    return np.asarray(found.mean, dtype=float), np.asarray(found.covariance, dtype=float)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return root
