"""Today's orders: money adds up, lots are whole, a saved policy decides the same."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.alternatives import nearest_decision
from sddp.backtest.today import TrainedModel, decide_today
from sddp.errors import DataError, ModelError
from sddp.market import Market
from tests.backtest.test_multistage import small_strategy, two_regime_market

HELD = pd.Series({"cash": 1_000.0, "bold": 4_000.0, "meek": 5_000.0})


@pytest.fixture(scope="module")
def view():
    market = two_regime_market()
    return market.at(market.dates[-1])


@pytest.fixture(scope="module")
def model(view):
    return TrainedModel.of(small_strategy(), view)


def test_money_adds_up(model, view):
    decision = decide_today(model, view, HELD)
    orders = decision.orders
    assert decision.wealth == pytest.approx(10_000.0)
    after = decision.cash_after + orders["after"].sum()
    assert after + decision.cost == pytest.approx(decision.wealth, rel=1e-12)
    np.testing.assert_allclose(orders["held"] + orders["trade"], orders["after"], atol=1e-9)
    np.testing.assert_allclose(orders["trade_shares"] * orders["price"], orders["trade"])
    np.testing.assert_allclose(orders["cost"], 0.002 * orders["trade"].abs(), rtol=1e-12)
    direct = model.policy.decide(regime=model.belief(view), holdings=HELD)
    np.testing.assert_allclose(orders["trade"], direct.trades, atol=1e-5)
    assert decision.cvar_after == pytest.approx(direct.cvar, rel=1e-9)
    assert decision.expected_gain == pytest.approx(direct.value - 10_000.0)
    assert decision.belief.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("lot", [1.0, 7.0, 1e6])
def test_lots_are_whole_and_cash_suffices(model, view, lot):
    for held in (HELD, pd.Series({"cash": 10_000.0}), pd.Series({"bold": 10_000.0})):
        decision = decide_today(model, view, held, lot=lot)
        lots, kept = decision.orders["lots"], decision.orders["after"] > 0.0
        np.testing.assert_allclose(lots[kept], lots[kept].round(), atol=1e-9)
        assert decision.cash_after >= 0.0
        exact = decide_today(model, view, held)
        assert (decision.orders["trade"].abs() <= exact.orders["trade"].abs() + 1e-6).all()


def test_a_saved_model_decides_the_same_bit_for_bit(model, view, tmp_path):
    model.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    one, two = (decide_today(m, view, HELD) for m in (model, loaded))
    assert one.orders.equals(two.orders)
    assert (one.value, one.limit_price, one.given_up) == (two.value, two.limit_price, two.given_up)


def test_no_model_in_a_folder(tmp_path):
    with pytest.raises(DataError, match="sddp train"):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"gold": 1.0}, "'gold'"),
        ({"bold": -1.0}, "'bold' are -1.0"),
        ({"bold": np.nan}, "nan"),
        ({}, "nothing to invest"),
    ],
)
def test_holdings_that_are_none(model, view, held, words):
    with pytest.raises(ModelError, match=words):
        decide_today(model, view, pd.Series(held, dtype=float))


def test_an_asset_that_the_policy_does_not_know_is_sold(view):
    """It was not quoted when the policy was trained."""
    prices = view.prices.copy()
    steps = np.random.default_rng(4).normal(0.0, 0.02, len(prices))
    prices["late"] = 50.0 * np.exp(steps.cumsum())
    prices.iloc[-1, prices.columns.get_loc("late")] = np.nan
    factor = view.log_returns.mean(axis=1).reindex(prices.index, fill_value=0.0).to_frame("all")
    market = Market(prices, cash_rate=view.cash_rate, factors=factor, missing="carry")
    today = market.at(market.dates[-1])
    model = TrainedModel.of(small_strategy(), today)
    held = pd.Series({"cash": 10.0, "late": 90.0})
    decision = decide_today(model, today, held)
    assert decision.orders.loc["late", "after"] == 0.0
    assert decision.orders.loc["late", "trade"] == -90.0
    assert any("late" in note for note in decision.notes)
    spent = decision.cash_after + decision.orders["after"].sum() + decision.cost
    assert spent == pytest.approx(100.0)


def test_nearly_best_orders_trade_least():
    """The orders of `nearest_decision`, near to what is held, on a date when buying pays."""
    market, held = two_regime_market(), {"cash": 10_000.0}
    view = market.at(market.dates[-10])
    model = TrainedModel.of(small_strategy(), view)
    best = decide_today(model, view, held)
    near = decide_today(model, view, held, within=0.2)
    direct = nearest_decision(
        model.policy, within=0.2, nearest=held, regime=model.belief(view), holdings=held
    )
    np.testing.assert_allclose(near.orders["trade"], direct.trades, atol=1e-5)
    assert near.orders["trade"].abs().sum() < best.orders["trade"].abs().sum() - 1.0
    gain = best.value - near.cash_value
    assert near.best_value == pytest.approx(best.value, rel=1e-9)
    assert near.value == pytest.approx(near.cash_value + 0.8 * gain, rel=1e-7)
    assert near.cvar_after == pytest.approx(direct.cvar, rel=1e-9)
    assert best.within is None
    with pytest.raises(ModelError, match=r"within=1\.5"):
        decide_today(model, view, held, within=1.5)
