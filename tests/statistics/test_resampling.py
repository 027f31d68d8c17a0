from __future__ import annotations

import math

import numpy as np
import pytest
from arch.bootstrap import StationaryBootstrap
from arch.bootstrap import optimal_block_length as automatic_length

from sddp.statistics.resampling import (
    CHUNK_ROWS,
    Blocks,
    optimal_block_length,
    standard_error_of_mean,
    stationary_blocks,
)


def autoregression(phi: float, n_rows: int, rng: np.random.Generator) -> np.ndarray:
    """AR(1) of unit variance, started from its stationary law."""
    shocks = rng.normal(size=n_rows) * math.sqrt(1.0 - phi**2)
    series = np.empty(n_rows)
    series[0] = rng.normal()
    for t in range(1, n_rows):
        series[t] = phi * series[t - 1] + shocks[t]
    return series


def all_draws(n_rows: int, **options) -> list[Blocks]:
    return list(stationary_blocks(n_rows, **options))


# --- the drawn rows ---


def test_blocks_are_runs_of_rows_of_geometric_length():
    n_rows, length, n_draws = 100, 5.0, 4000
    (blocks,) = all_draws(
        n_rows, block_length=length, n_draws=n_draws, rng=np.random.default_rng(0)
    )
    rows = blocks.rows()
    assert rows.shape == (n_draws, n_rows)
    new = (rows[:, 1:] - rows[:, :-1]) % n_rows != 1
    # A new block starts with probability 1/5, and then 1 time in 100 where the last one ended.
    share = (1.0 - 1.0 / n_rows) / length
    error = math.sqrt(share * (1.0 - share) / new.size)
    assert new.mean() == pytest.approx(share, abs=4.0 * error)
    # Every row is drawn equally often: 4000 each, give or take the clustering of blocks.
    counts = np.bincount(rows.ravel(), minlength=n_rows)
    assert counts == pytest.approx(np.full(n_rows, n_draws), abs=5.0 * math.sqrt(9.0 * n_draws))


def test_a_length_of_one_is_the_ordinary_bootstrap():
    (blocks,) = all_draws(50, block_length=1.0, n_draws=200, rng=np.random.default_rng(0))
    assert (blocks.lengths == 1).all()
    assert len(blocks.starts) == 50 * 200


def test_sums_over_blocks_and_draws_are_those_of_the_rows(rng):
    table = rng.normal(size=(30, 3))
    (blocks,) = all_draws(30, block_length=4.0, n_draws=20, rng=rng)
    rows = blocks.rows()
    assert blocks.per_draw(blocks.sums(table)) == pytest.approx(table[rows].sum(axis=1))
    drawn = rng.normal(size=rows.shape)
    expected = [part.sum() for part in np.split(drawn.ravel(), blocks.lengths.cumsum()[:-1])]
    assert blocks.drawn_sums(drawn) == pytest.approx(expected)
    marks = np.repeat(blocks.per_block(np.arange(20)[:, None])[:, 0], blocks.lengths)
    assert marks.tolist() == [draw for draw in range(20) for _ in range(30)]


def test_the_sample_is_its_own_blocks(rng):
    table = rng.normal(size=(12, 2))
    sample = Blocks.of_sample(12)
    assert sample.rows().tolist() == [list(range(12))]
    assert sample.sums(table) == pytest.approx(table)


def test_draws_come_in_pieces_and_are_the_same_every_time():
    n_rows = CHUNK_ROWS // 10
    options = {"block_length": 1000.0, "n_draws": 25}
    pieces, again = (all_draws(n_rows, rng=np.random.default_rng(3), **options) for _ in range(2))
    assert [len(piece.first) for piece in pieces] == [10, 10, 5]
    for one, other in zip(pieces, again, strict=True):
        assert (one.starts == other.starts).all()
        assert (one.lengths == other.lengths).all()


# --- the standard error ---


@pytest.mark.parametrize("length", [1.0, 3.0, 20.0])
def test_the_standard_error_is_the_spread_of_the_drawn_means(rng, length):
    """Standard error of a standard deviation over 20,000 draws: 0.5 %."""
    table = np.column_stack([autoregression(phi, 80, rng) for phi in (0.0, 0.7, -0.5)])
    means = [
        blocks.per_draw(blocks.sums(table)) / 80
        for blocks in stationary_blocks(80, block_length=length, n_draws=20_000, rng=rng)
    ]
    expected = np.concatenate(means).std(axis=0)
    assert standard_error_of_mean(table, block_length=length) == pytest.approx(expected, rel=0.02)


def test_the_standard_error_is_that_of_the_library(rng):
    """Standard error over 4,000 draws: 1.1 %."""
    series = autoregression(0.6, 200, rng)
    library = StationaryBootstrap(8, series, seed=np.random.default_rng(1))
    means = library.apply(lambda drawn: drawn.mean(), 4000)
    ours = standard_error_of_mean(series[:, None], block_length=8.0)[0]
    assert ours == pytest.approx(float(means.std()), rel=0.04)


def test_independent_rows_have_the_textbook_error(rng):
    series = rng.normal(size=500)
    error = standard_error_of_mean(series[:, None], block_length=1.0)
    assert error == pytest.approx([series.std() / math.sqrt(500)], rel=1e-12)


# --- the length of blocks ---


@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.3, 0.8, 0.97])
@pytest.mark.parametrize("n_rows", [30, 101, 1000])
def test_the_length_is_that_of_the_library(rng, phi, n_rows):
    series = autoregression(phi, n_rows, rng)
    expected = max(float(automatic_length(series)["stationary"].iloc[0]), 1.0)
    assert optimal_block_length(series) == pytest.approx(expected, rel=1e-9)


def test_dependent_rows_get_longer_blocks(rng):
    lengths = [optimal_block_length(autoregression(phi, 3000, rng)) for phi in (0.0, 0.5, 0.9)]
    assert lengths[0] < 4.0 < lengths[1] < lengths[2]


def test_a_series_without_variation_has_blocks_of_one():
    assert optimal_block_length(np.full(100, 0.5)) == 1.0


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)
