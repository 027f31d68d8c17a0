"""Risk aversion that follows an index, realized volatility or regimes; caps and smoothing."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import EveryPeriods, OneStageStrategy, TransactionCosts, backtest
from sddp.backtest.trading import Envelope
from sddp.backtest.trading.account import Account, Rules
from sddp.backtest.trading.step import step
from sddp.errors import DataError, ModelError
from sddp.estimation import (
    IndexedRiskAversion,
    RealizedVolatility,
    RegimeForecaster,
    RegimeRiskAversion,
    WindowForecaster,
)
from sddp.evaluation import metrics
from sddp.market import Market
from sddp.portfolio import BlackLitterman, MeanVariance, RiskBudget, VolatilityDriven
from tests.backtest.test_estimation import two_regimes
from tests.backtest.test_multistage import two_regime_market

DATES = pd.bdate_range("2020-01-01", periods=120)
INDEX = pd.Series(20.0 + 15.0 * np.sin(np.arange(120) / 5.0), DATES)


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(5)
    returns = pd.DataFrame(0.01 * rng.standard_normal((120, 3)) + 0.001, DATES, list("abc"))
    return Market(100.0 * (1.0 + returns).cumprod(), volatility_index=INDEX)


def strategy(rule, optimizer=None):
    model = optimizer or MeanVariance(risk_aversion=1.0)
    return OneStageStrategy(model, WindowForecaster(20), risk_aversion=rule)


def decided(found):
    return found.strategies["s"].decision_log_table()["risk_aversion"]


def test_the_risk_aversion_of_a_decision_is_the_capped_mean_over_its_rows(market):
    rule = IndexedRiskAversion(base=2.0, sensitivity=0.1, least=3.0, most=7.0, half_life=4.0)
    found = backtest(market, {"s": strategy(rule)}, start=DATES[60], transaction_cost=0.0)
    for date, aversion in decided(found).items():
        points = INDEX.loc[:date].to_numpy()[-40:]
        capped = [min(max(2.0 * (1.0 + 0.1 * p), 3.0), 7.0) for p in points]
        weights = [0.5 ** ((len(capped) - 1 - i) / 4.0) for i in range(len(capped))]
        assert aversion == pytest.approx(np.average(capped, weights=weights), rel=1e-13)
    assert decided(found).max() - decided(found).min() > 1.0


def test_without_bounds_and_smoothing_it_is_that_of_the_optimizer(market):
    rule = IndexedRiskAversion(base=2.0, sensitivity=0.1)
    own = MeanVariance(risk_aversion=VolatilityDriven(base=2.0, sensitivity=0.1))
    options = {"start": DATES[60], "transaction_cost": 0.001}
    one = backtest(market, {"s": strategy(rule)}, **options)
    other = backtest(market, {"s": strategy(None, own)}, **options)
    assert one.wealth.equals(other.wealth)


def test_realized_volatility_stands_for_the_index(market):
    known = market.at(DATES[70])
    earned = known.returns.to_numpy()[-30:].mean(axis=1)
    pace = metrics.volatility(earned, 1.0)
    found = RealizedVolatility(30).points(known, 1)
    years = (known.dates[-1] - known.dates[-31]).days / 365.25
    assert found == pytest.approx([100.0 * pace * np.sqrt(30.0 / years)], rel=1e-12)
    rule = IndexedRiskAversion(
        base=1.0, sensitivity=0.2, half_life=2.0, realized=RealizedVolatility(10)
    )
    assert rule.lookback == 30
    window = rule.at(market.at(DATES[70], 31), None)
    assert window == rule.at(known, None)
    with pytest.raises(DataError, match="realized volatility needs 30 returns; 5 are known"):
        RealizedVolatility(30).points(market.at(DATES[5]), 1)


def test_it_is_the_mean_over_regimes_by_the_filtered_probabilities():
    market = two_regime_market()
    estimator = two_regimes(n_scenarios=30)
    rule = RegimeRiskAversion([2.0, 10.0])
    chosen = OneStageStrategy(
        MeanVariance(risk_aversion=1.0), RegimeForecaster(estimator, 100), risk_aversion=rule
    )
    start = market.dates[-8]
    found = backtest(market, {"s": chosen}, start=start, transaction_cost=0.0)
    estimate = estimator.estimate(market.at(start))
    told = decided(found)
    for date, aversion in told.items():
        calm, wild = estimate.belief(market.at(date))
        assert aversion == pytest.approx(2.0 * calm + 10.0 * wild, rel=1e-12)
    assert told.nunique() > 3


def test_an_account_goes_on_with_another_base_after_a_restart(market):
    rule = IndexedRiskAversion(base=2.0, sensitivity=0.1, half_life=3.0)
    costs = TransactionCosts(np.full(3, 0.001), np.full(3, 0.001))

    def fresh():
        return Account(strategy(rule), market.assets, Rules(costs, 1, 1.0, EveryPeriods(1)))

    whole, cut = fresh(), fresh()
    for i, date in enumerate(DATES[60:75]):
        for account in (whole, cut):
            if i == 5:
                account.receive(Envelope("parameters", {"risk_aversion": 6.0}, "n"))
            step(account, market.at(date, account.lookback))
        state = json.loads(json.dumps(cut.state()))
        cut = fresh()
        cut.restore(state, market.at(date))
        assert cut.holdings.tobytes() == whole.holdings.tobytes()
    assert whole.strategy.risk_aversion.base == 6.0
    assert whole.lookback == 30


def test_it_reaches_the_optimizer_behind_views(market):
    model = BlackLitterman(market_weights=dict.fromkeys("abc", 0.3))
    rule = IndexedRiskAversion(base=2.0, sensitivity=0.1)
    found = backtest(market, {"s": strategy(rule, model)}, start=DATES[115], transaction_cost=0.0)
    assert decided(found).to_numpy() == pytest.approx(2.0 + 0.2 * INDEX.loc[decided(found).index])


def test_what_has_no_meaning_is_named(market):
    bare = Market(market.at(DATES[-1]).prices)
    options = {"start": DATES[110], "transaction_cost": 0.0}
    rule = IndexedRiskAversion(base=2.0, sensitivity=0.1)
    with pytest.raises(ModelError, match=r"needs the market's volatility index; give"):
        backtest(bare, {"s": strategy(rule)}, **options)
    with pytest.raises(ModelError, match="the forecast has no regimes"):
        backtest(bare, {"s": strategy(RegimeRiskAversion([1.0]))}, **options)
    with pytest.raises(ModelError, match="RiskBudget: has no risk aversion"):
        backtest(market, {"s": strategy(rule, RiskBudget())}, **options)
    with pytest.raises(ModelError, match=r"one for each of the 3 regimes"):
        RegimeRiskAversion([1.0, 2.0]).of(np.ones(3) / 3.0)
    for wrong in ({"least": 2.0, "most": 1.0}, {"half_life": 0.0}, {"base": -1.0}):
        with pytest.raises(ModelError, match=next(iter(wrong))):
            IndexedRiskAversion(**({"base": 2.0, "sensitivity": 0.1} | wrong))
    with pytest.raises(ModelError, match="levels"):
        RegimeRiskAversion([-1.0])
    with pytest.raises(ModelError, match="window=1"):
        RealizedVolatility(1)
