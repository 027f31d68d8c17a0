"""Parameters of Black-Litterman: likelihoods as of scipy, and choices that must follow."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from sddp.errors import DataError, ModelError
from sddp.portfolio import (
    BlackLitterman,
    BlackLittermanProcessor,
    InvestorView,
    MarketImplied,
    MeanVariance,
    Moments,
    MomentumViews,
    Outcomes,
    ParameterOptimizer,
    SampleMoments,
)

NAMES = ["a", "b", "c"]


@dataclass(frozen=True)
class Fixed:
    """The same views at any time."""

    means: tuple[float, ...]

    def generate(self, outcomes: Outcomes, as_of: datetime.date) -> list[InvestorView]:
        return [
            InvestorView(
                kind="absolute",
                assets=[name],
                magnitude=value,
                horizon=1.0,
                confidence=0.5,
                variance=1e-8,
                issued_at=as_of,
                valid_until=as_of,
                source="test",
            )
            for name, value in zip(NAMES, self.means, strict=True)
        ]


@pytest.fixture
def returns() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    dates = pd.date_range("2020-01-01", periods=400, freq="B")
    true = np.array([0.02, -0.01, 0.005])
    return pd.DataFrame(true + rng.normal(0.0, 0.03, (400, 3)), index=dates, columns=NAMES)


def model(means, **options) -> BlackLitterman:
    return BlackLitterman(
        market_weights=dict.fromkeys(NAMES, 1.0),
        generator=Fixed(means),
        processor=BlackLittermanProcessor(uncertainty="given"),
        optimizer=MeanVariance(risk_aversion=5.0, transaction_cost=0.001),
        **options,
    )


def test_true_views_are_taken_and_false_ones_left(returns):
    chooser = ParameterOptimizer()
    right = chooser.choose(model((0.02, -0.01, 0.005)), returns)
    wrong = chooser.choose(model((-0.05, 0.05, -0.05)), returns)
    assert right.processor.blending == 1.0
    assert wrong.processor.blending == 0.0
    assert right.parameters is None


def test_the_likelihood_is_that_of_scipy(returns):
    tried = ParameterOptimizer(
        taus=(0.1,), prior_risk_aversions=(3.0,), blendings=(0.5,), n_blocks=1, first=0.25
    )
    given = model((0.02, -0.01, 0.005))
    folds = list(tried._folds(given, returns))
    value = tried.likelihoods(given, folds, 0.001).iloc[0]
    before, later = returns.iloc[:100], returns.iloc[100:]
    processor = BlackLittermanProcessor(
        tau=0.1, prior=MarketImplied(risk_aversion=3.0), uncertainty="given", blending=0.5
    )
    views = given.generator.generate(Outcomes(before), before.index[-1].date())
    at = processor.process(
        views, given.market_weights, SampleMoments().estimate(before), cash_return=0.001
    ).moments
    density = multivariate_normal(at.mean, at.covariance).logpdf(later)
    assert value == pytest.approx(density.mean(), rel=1e-12)


@pytest.mark.parametrize(("wilder", "expected"), [(1.0, 40.0), (5.0, 1000.0)])
def test_risk_aversion_is_that_of_the_greatest_utility(wilder, expected, returns):
    """Where the block is like the rows before it, the investor's own; 25 times that where the
    variance is 25 times what it was."""
    means = np.array([0.004, -0.001, 0.002])
    half = returns.iloc[:200] - returns.iloc[:200].mean()
    both = pd.concat([half / wilder, half]).set_axis(returns.index) + means
    chooser = ParameterOptimizer(
        taus=(0.01,), blendings=(1.0,), risk_aversions=(5.0, 40.0, 200.0, 1000.0), n_blocks=1
    )
    given = model(tuple(means))
    given = replace(given, optimizer=MeanVariance(risk_aversion=40.0))
    assert chooser.choose(given, both).optimizer.risk_aversion == expected
    assert given.optimizer.risk_aversion == 40.0


def test_nothing_before_a_block_depends_on_it(returns):
    chooser = ParameterOptimizer(n_blocks=3)
    given = model((0.01, 0.0, 0.0))
    folds = list(chooser._folds(given, returns))
    other = returns.copy()
    other.iloc[-1] = 0.3
    changed = list(chooser._folds(given, other))
    for one, two in zip(folds, changed, strict=True):
        pd.testing.assert_series_equal(one.moments.mean, two.moments.mean)
        pd.testing.assert_frame_equal(one.moments.covariance, two.moments.covariance)
    assert sum(len(fold.later) for fold in folds) == 200


def test_solve_chooses_from_the_window_it_is_given(returns):
    chooser = ParameterOptimizer(taus=(0.05, 0.5), prior_risk_aversions=(2.5,), n_blocks=2)
    tuned = replace(model((0.02, -0.01, 0.005)), parameters=chooser)
    inputs = SampleMoments().estimate(returns)
    given = {"current_weights": np.zeros(3), "outcomes": Outcomes(returns)}
    as_of = returns.index[-1].date()
    found = tuned.solve(inputs, as_of=as_of, **given)
    expected = chooser.choose(tuned, returns).solve(inputs, as_of=as_of, **given)
    pd.testing.assert_series_equal(found.weights, expected.weights)
    with pytest.raises(ModelError, match="needs outcomes"):
        tuned.solve(inputs, current_weights=np.zeros(3), as_of=as_of)


def test_bad_input_is_rejected(returns):
    with pytest.raises(ModelError, match="taus="):
        ParameterOptimizer(taus=())
    with pytest.raises(ModelError, match="n_blocks=0"):
        ParameterOptimizer(n_blocks=0)
    with pytest.raises(ModelError, match="blending=2"):
        BlackLittermanProcessor(blending=2.0)
    without = replace(model((0.0, 0.0, 0.0)), generator=None)
    with pytest.raises(ModelError, match="generator=None"):
        ParameterOptimizer().choose(without, returns)
    with pytest.raises(DataError, match="needs 70"):
        ParameterOptimizer().choose(
            replace(without, generator=MomentumViews(lookback=60)), returns.iloc[:100]
        )
    with pytest.raises(DataError, match="too few"):
        ParameterOptimizer().choose(model((0.0, 0.0, 0.0)), returns.iloc[:3])


def test_blending_goes_from_the_prior_to_the_posterior():
    moments = Moments.of(np.zeros(3), np.diag([0.01, 0.02, 0.03]), NAMES)
    views = Fixed((0.02, 0.0, 0.01)).generate(Outcomes(np.zeros((2, 3))), datetime.date(2024, 1, 1))
    at = {
        share: BlackLittermanProcessor(uncertainty="given", blending=share)
        .process(views, dict.fromkeys(NAMES, 1.0), moments)
        .moments
        for share in (0.0, 0.5, 1.0)
    }
    prior = BlackLittermanProcessor().process([], dict.fromkeys(NAMES, 1.0), moments).moments
    pd.testing.assert_series_equal(at[0.0].mean, prior.mean)
    pd.testing.assert_frame_equal(at[0.0].covariance, prior.covariance)
    pd.testing.assert_series_equal(at[0.5].mean, (at[0.0].mean + at[1.0].mean) / 2.0)
