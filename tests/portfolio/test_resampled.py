"""Resampled efficiency: limits, seeds, spread, constraints."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config

from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    ConstraintSet,
    GroupLimit,
    MeanVariance,
    Moments,
    SampleMoments,
    efficient_frontier,
    resampled_frontier,
)

ANY = MeanVariance(risk_aversion=1.0, max_cash=0.0, self_financing=False)
EQUAL = np.full(4, 0.25)


def returns(rows: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    volatility = np.array([0.01, 0.02, 0.03, 0.04])
    common = rng.standard_normal((rows, 1)) * 0.01
    return volatility * 0.15 + common + rng.standard_normal((rows, 4)) * volatility


def resampled(rows=60, seed=7, optimizer=ANY, **options):
    options = {"n_resamples": 30, "n_points": 6} | options
    return resampled_frontier(optimizer, returns(rows), current_weights=EQUAL, rng=seed, **options)


@pytest.mark.long
def test_with_ever_more_rows_it_is_the_plain_frontier():
    errors = []
    for rows in (100, 5_000, 200_000):
        R = returns(rows)
        plain = efficient_frontier(ANY, SampleMoments().estimate(R), current_weights=EQUAL)
        found = resampled_frontier(ANY, R, current_weights=EQUAL, rng=3, n_resamples=5, n_points=6)
        errors.append(float(np.abs(found.mean - plain.points(6)).mean()))
    # The error falls with the root of the number of rows: 6 times from the second to the third.
    assert errors[0] > 0.02
    assert errors[2] < 0.5 * errors[1]
    assert errors[2] < 0.005


def test_a_seed_gives_the_same_bits_and_draws_do_not_depend_on_their_number():
    assert resampled().mean.tobytes() == resampled().mean.tobytes()
    assert resampled(seed=8).mean.tobytes() != resampled().mean.tobytes()
    # The mean over 30 draws is that of the first 29 and the last one.
    few, many = resampled(n_resamples=29), resampled(n_resamples=30)
    last = 30.0 * many.mean - 29.0 * few.mean
    assert last.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-10)
    assert last.min() > -1e-10
    sequence = np.random.SeedSequence(7)
    first = resampled(seed=sequence)
    assert resampled(seed=sequence).mean.tobytes() == first.mean.tobytes()


def test_draws_in_parallel_are_those_in_a_row():
    """In threads here, which start at once; processes are given the same tasks."""
    with parallel_config(backend="threading"):
        found = resampled(n_jobs=3)
    for name in ("mean", "spread", "zero"):
        assert getattr(found, name).tobytes() == getattr(resampled(), name).tobytes()


@pytest.mark.long
def test_the_spread_is_that_of_an_independent_redraw():
    """Frontiers of samples drawn anew from the same normal law, by other code."""
    R = returns(60)
    mean, covariance = R.mean(axis=0), np.cov(R.T)
    found = resampled(n_resamples=300)
    rng, drawn = np.random.default_rng(99), []
    for _ in range(300):
        sample = rng.multivariate_normal(mean, covariance, 60)
        moments = Moments.of(sample.mean(axis=0), np.cov(sample.T))
        drawn.append(efficient_frontier(ANY, moments, current_weights=EQUAL).points(6))
    spread = np.std(drawn, axis=0, ddof=1)
    # A standard deviation over 300 draws of weights in [0, 1] is known to about 4 % of it.
    assert found.spread[:, 1:] == pytest.approx(spread[:, 1:], rel=0.2, abs=0.01)
    error = np.abs(found.mean - np.mean(drawn, axis=0))
    assert (error <= 4.5 * np.sqrt(2.0) * np.maximum(spread, 1e-9) / 17.0 + 1e-12).all()


def test_the_mean_keeps_the_constraints():
    group = GroupLimit(name="g", assets=["asset3", "asset4"], upper=0.3)
    model = MeanVariance(
        risk_aversion=1.0, max_cash=0.0, self_financing=False, constraints=ConstraintSet((group,))
    )
    found = resampled(optimizer=model)
    assert found.mean[:, 3:].sum(axis=1).max() <= 0.3 + 1e-9
    assert found.mean.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-10)
    assert ((found.zero >= 0.0) & (found.zero <= 1.0)).all()
    assert (found.zero[:, 0] == 1.0).all()
    table = found.table(3)
    assert list(table.columns) == ["mean", "spread", "zero"]


def test_blocks_of_rows_keep_their_order():
    found = resampled(redraw="bootstrap", block=5)
    assert found.mean.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-10)
    assert found.mean.tobytes() != resampled(redraw="bootstrap", block=1).mean.tobytes()


def test_bad_input_is_rejected():
    with pytest.raises(DataError, match="4 rows for 4 assets"):
        resampled(rows=4)
    with pytest.raises(ModelError, match="n_jobs=0: must be a positive integer"):
        resampled(n_jobs=0)
    with pytest.raises(ModelError, match="redraw='x'"):
        resampled(redraw="x")
    named = pd.DataFrame(returns(50), columns=list("abcd"))
    found = resampled_frontier(
        ANY, named, current_weights={"a": 1.0}, rng=1, n_resamples=3, n_points=4
    )
    assert found.names == list("abcd")
