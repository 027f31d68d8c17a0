"""Moments updated row by row against batch estimates, skfolio's partial fits, and restarts."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import OneStageStrategy, backtest
from sddp.errors import DataError, ModelError
from sddp.estimation import (
    ExponentialDecay,
    IncrementalForecaster,
    RollingWindow,
    WeightedSums,
    WindowForecaster,
)
from sddp.market import Market
from sddp.portfolio import ExponentialMoments, MeanVariance, SampleMoments


def hourly(n_rows, n_assets=4, seed=1):
    rng = np.random.default_rng(seed)
    returns = 0.01 * rng.standard_t(4, size=(n_rows, n_assets)) + 0.0002
    dates = pd.date_range("2024-01-01", periods=n_rows, freq="h")
    names = [f"a{i}" for i in range(n_assets)]
    return pd.DataFrame(100.0 * np.cumprod(1.0 + returns, axis=0), dates, names)


def rolled(levels, window, rebuild=None):
    """Sums over the last rows of a long table, by adding and dropping alone."""
    sums = WeightedSums(levels[:window], np.ones(window))
    for row in range(window, len(levels)):
        sums.add(levels[row])
        sums.drop(levels[row - window])
        if rebuild and row % rebuild == 0:
            sums = WeightedSums(levels[row + 1 - window : row + 1], np.ones(window))
    return sums


@pytest.mark.parametrize("rebuild", [None, 1_000])
def test_levels_near_a_thousand_with_unit_spread_lose_no_digits(rebuild):
    levels = 1_000.0 + np.random.default_rng(2).standard_normal((20_000, 5))
    sums = rolled(levels, 480, rebuild)
    assert sums.mean == pytest.approx(levels[-480:].mean(axis=0), rel=1e-12)
    assert sums.covariance == pytest.approx(np.cov(levels[-480:].T), rel=1e-10, abs=1e-10)
    # Sums of squares about 0, the form that loses them, after as many rows.
    squares = np.cumsum(levels[:, 0] ** 2)[-1] - np.cumsum(levels[:, 0] ** 2)[-481]
    total = np.cumsum(levels[:, 0])[-1] - np.cumsum(levels[:, 0])[-481]
    lost = (squares - total**2 / 480) / 479
    assert abs(lost - np.var(levels[-480:, 0], ddof=1)) > 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("rebuild", [None, 1_000])
def test_a_million_rows_end_at_the_batch_estimate(rebuild):
    levels = 1_000.0 + np.random.default_rng(3).standard_t(4, size=(1_000_000, 3))
    sums = rolled(levels, 720, rebuild)
    batch = np.cov(levels[-720:].T)
    assert np.abs(sums.covariance - batch).max() < 1e-10 * np.abs(batch).max()


def test_a_covariance_is_symmetric_to_the_last_bit():
    sums = rolled(np.random.default_rng(4).standard_normal((300, 7)), 50)
    assert np.array_equal(sums.covariance, sums.covariance.T)


@pytest.mark.parametrize("rebuild_every", [None, 1, 7, 1_000])
def test_a_rolling_forecast_is_the_batch_estimate_on_the_days(rebuild_every):
    market = Market(hourly(400), cash_rate=0.0001)
    forecaster = IncrementalForecaster(RollingWindow(days=5), rebuild_every=rebuild_every)
    for date in market.dates[150::3]:
        view = market.at(date)
        found = forecaster.forecast(view)
        batch = SampleMoments().estimate(view.returns.iloc[-120:])
        np.testing.assert_allclose(found.moments.mean, batch.mean, atol=1e-16)
        np.testing.assert_allclose(found.moments.covariance, batch.covariance, rtol=1e-10)
        np.testing.assert_array_equal(found.outcomes.returns, view.returns.iloc[-120:])
        assert found.cash_return == pytest.approx(0.0001)
    assert forecaster.drift < 1e-10
    assert (forecaster.drift > 0.0) == (rebuild_every in (1, 7))


def test_days_count_by_date_where_rows_are_missing():
    prices = hourly(400)
    kept = prices.iloc[np.sort(np.random.default_rng(5).choice(400, 250, replace=False))]
    market, forecaster = Market(kept), IncrementalForecaster(RollingWindow(days=3))
    for date in market.dates[80:]:
        view = market.at(date)
        recent = view.returns[view.returns.index > date - pd.Timedelta(days=3)]
        batch = SampleMoments().estimate(recent)
        found = forecaster.forecast(view).moments
        np.testing.assert_allclose(found.covariance, batch.covariance, rtol=1e-10)


def test_decaying_weights_are_those_of_the_batch_estimate_and_of_skfolio():
    from skfolio.moments import EWCovariance, EWMu

    market = Market(hourly(150))
    forecaster = IncrementalForecaster(ExponentialDecay(20.0), rebuild_every=None)
    forecaster.forecast(market.at(market.dates[15]))
    view = market.at(market.dates[-1])
    found = forecaster.forecast(view)
    batch = ExponentialMoments(half_life=20.0).estimate(view.returns)
    np.testing.assert_allclose(found.moments.mean, batch.mean, rtol=1e-10)
    np.testing.assert_allclose(found.moments.covariance, batch.covariance, rtol=1e-10)
    # skfolio's recursion, fed row by row, is about 0: E[rr'] = covariance of weights + mm'.
    theirs, means = EWCovariance(half_life=20.0), EWMu(half_life=20.0)
    for row in range(len(view.returns)):
        theirs.partial_fit(view.returns.iloc[[row]])
        means.partial_fit(view.returns.iloc[[row]])
    sums = forecaster._sums
    spread = sums.covariance * (1.0 - sums.squares / sums.weight**2)
    second = spread + np.outer(sums.mean, sums.mean)
    np.testing.assert_allclose(second, theirs.covariance_, rtol=1e-8)
    np.testing.assert_allclose(sums.mean, means.mu_, rtol=1e-8)


def test_decaying_weights_measure_risk_on_weighted_outcomes():
    market = Market(hourly(200))
    found = IncrementalForecaster(ExponentialDecay(10.0)).forecast(market.at(market.dates[-1]))
    returns, weights = found.outcomes
    np.testing.assert_allclose(weights @ np.asarray(returns), found.moments.mean, rtol=1e-10)


def test_an_asset_joins_once_it_has_a_return_on_every_row_in_use():
    prices = hourly(300)
    prices.iloc[:150, 2] = np.nan
    market = Market(prices, missing="carry")
    forecaster = IncrementalForecaster(RollingWindow(days=2))
    seen = [list(forecaster.forecast(market.at(d)).moments.mean.index) for d in market.dates[100:]]
    first = next(i for i, names in enumerate(seen) if len(names) == 4)
    # Its first return is that of row 151, which is the oldest of 48 rows on row 198.
    assert market.dates[100 + first] == market.dates[198]
    view = market.at(market.dates[-1])
    batch = SampleMoments().estimate(view.returns.iloc[-48:])
    np.testing.assert_allclose(forecaster.forecast(view).moments.covariance, batch.covariance)


@pytest.mark.parametrize("weights", [RollingWindow(days=4), ExponentialDecay(15.0)])
@pytest.mark.parametrize("cut", [160, 173, 250])
def test_a_resumed_forecaster_goes_on_to_the_same_bits(weights, cut):
    market = Market(hourly(320))
    whole, before = (IncrementalForecaster(weights, rebuild_every=50) for _ in range(2))
    after = IncrementalForecaster(weights, rebuild_every=50)
    for date in market.dates[120:cut]:
        whole.forecast(market.at(date))
        before.forecast(market.at(date))
    state = json.loads(json.dumps(before.checkpoint()))
    after.resume(state, market.at(market.dates[cut - 1]))
    for date in market.dates[cut:]:
        one, two = whole.forecast(market.at(date)), after.forecast(market.at(date))
        assert one.moments.mean.equals(two.moments.mean)
        assert one.moments.covariance.equals(two.moments.covariance)
    assert whole.checkpoint() == after.checkpoint()


@pytest.mark.parametrize(
    "weights", [RollingWindow(days=30, most_rows=60), ExponentialDecay(1.0)], ids=str
)
def test_rows_beyond_the_lookback_are_not_needed(weights):
    prices = hourly(230)
    market = Market(prices)
    whole, part = (IncrementalForecaster(weights, rebuild_every=40) for _ in range(2))
    assert part.lookback == 101
    for row in range(120, 230):
        view = market.at(market.dates[row])
        cut = Market(prices.iloc[row + 1 - part.lookback : row + 1])
        short = cut.at(cut.dates[-1])
        one, two = whole.forecast(view), part.forecast(short)
        assert one.moments.covariance.equals(two.moments.covariance)
    assert IncrementalForecaster(RollingWindow(days=30)).lookback is None


def test_it_forecasts_for_a_backtest():
    market = Market(hourly(110))

    def run(forecaster):
        strategy = OneStageStrategy(MeanVariance(risk_aversion=5.0), forecaster)
        return backtest(market, {"s": strategy}, start="2024-01-04", transaction_cost=0.001)

    ours, window = run(IncrementalForecaster(RollingWindow(days=2))), run(WindowForecaster(48))
    np.testing.assert_allclose(ours.wealth, window.wealth, rtol=1e-9)


def test_what_makes_no_sense_is_said():
    with pytest.raises(ModelError, match="days = 0"):
        RollingWindow(days=0)
    with pytest.raises(ModelError, match="half_life = -1"):
        ExponentialDecay(-1.0)
    with pytest.raises(ModelError, match="fewest = 1"):
        IncrementalForecaster(fewest=1)
    with pytest.raises(DataError, match="needs 10 rows of returns, but only 4"):
        IncrementalForecaster().forecast(Market(hourly(5)).at("2024-01-02"))
    never = Market(hourly(30).assign(a0=np.nan)[["a0"]], missing="carry")
    with pytest.raises(DataError, match="no asset has a return"):
        IncrementalForecaster().forecast(never.at("2024-01-03"))
