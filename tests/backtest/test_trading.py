from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from sddp.backtest import TransactionCosts
from sddp.backtest.trading import execute, requested_trades, target_weights, wealth_after_costs
from sddp.errors import DataError, ModelError

ASSETS = ["a", "b", "c"]
ALL_QUOTED = np.ones(3, dtype=bool)

amounts = st.floats(0.0, 1e6)
costs_of_three = st.lists(st.floats(0.0, 0.2), min_size=3, max_size=3)


def weights_of(shares: list[float]) -> np.ndarray:
    return np.array(shares) / sum(shares)


holdings_of_four = st.lists(amounts, min_size=4, max_size=4).filter(lambda h: sum(h) > 1.0)
weights_of_four = (
    st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4)
    .filter(lambda shares: sum(shares) > 0.01)
    .map(weights_of)
)


# --- costs ---


def test_costs_come_as_a_number_a_mapping_or_a_pair():
    by_asset = {"a": 0.01, "b": 0.02, "c": 0.03}
    assert TransactionCosts.of(0.01, ASSETS).sell.tolist() == [0.01] * 3
    assert TransactionCosts.of(by_asset, ASSETS).buy.tolist() == [0.01, 0.02, 0.03]
    pair = TransactionCosts.of((0.005, by_asset), ASSETS)
    assert pair.buy.tolist() == [0.005] * 3
    assert pair.sell.tolist() == [0.01, 0.02, 0.03]


def test_each_side_pays_its_own_cost():
    costs = TransactionCosts.of((0.01, 0.03), ASSETS)
    assert costs.charged(np.array([100.0, -100.0, 0.0])) == pytest.approx([1.0, 3.0, 0.0])


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (0.5, "the buy cost 0.5 lies outside 0 to 0.2; give a decimal fraction"),
        ((0.0, -0.1), "the sell cost -0.1 lies outside"),
        (float("nan"), "the buy cost nan"),
        ({"a": 0.1, "d": 0.1}, r"unknown assets \['d'\], missing assets \['b', 'c'\]"),
        ((0.1, 0.1, 0.1), "a tuple is a pair"),
    ],
)
def test_bad_costs_are_rejected_in_words(cost, words):
    with pytest.raises(DataError, match=words):
        TransactionCosts.of(cost, ASSETS)
    assert TransactionCosts.of(0.2, ASSETS).buy.max() == 0.2


# --- target weights ---


@pytest.mark.parametrize("named", [{}, {"cash": 0.3}])
def test_cash_is_the_rest_named_or_not(named):
    weights = target_weights(pd.Series({"c": 0.5, "a": 0.2, **named}), ASSETS)
    assert weights == pytest.approx([0.3, 0.2, 0.0, 0.5], abs=1e-16)


def test_a_solvers_rounding_is_mended():
    weights = target_weights(pd.Series({"a": 1.0 + 5e-9, "b": -5e-9}), ASSETS)
    assert weights.tolist() == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"a": 0.5, "d": 0.5}, r"unknown assets \['d'\].*; known are \['cash', 'a', 'b', 'c'\]"),
        ({"a": -0.1}, "the weight of 'a' is -0.1; give 0 or more"),
        ({"a": np.nan}, "the weight of 'a' is nan"),
        ({"a": 0.5, "cash": np.nan}, "the weight of 'cash' is nan"),
        ({"a": 0.7, "b": 0.4}, "the weights sum to 1.1; assets and cash must sum to 1"),
        ({"a": 0.7, "cash": 0.2}, "the weights sum to 0.9;"),
        (pd.Series([0.1, 0.2], ["a", "a"]), "label 'a' appears twice"),
        (np.array([0.2, 0.2, 0.6]), r"of type ndarray: must be a Series or mapping"),
    ],
)
def test_bad_weights_are_rejected_in_words(answer, words):
    with pytest.raises(ModelError, match=words):
        target_weights(answer, ASSETS)
    assert target_weights({"a": 1.0}, ASSETS).tolist() == [0.0, 1.0, 0.0, 0.0]


# --- trades that reach the target ---


def test_the_cost_of_the_trade_is_paid_out_of_wealth():
    # From 100 in cash to half in one asset at 1 %: v + 0.01 v / 2 = 100.
    costs = TransactionCosts.of(0.01, ["a"])
    weights = np.array([0.5, 0.5])
    holdings = np.array([100.0, 0.0])
    assert wealth_after_costs(holdings, weights, costs) == pytest.approx(100 / 1.005, rel=1e-15)
    assert requested_trades(holdings, weights, costs) == pytest.approx([50 / 1.005], rel=1e-15)


def test_swapping_two_assets_pays_both_sides():
    # 100 of a into b: 100 - 2 (sale) = 98 = 1.01 v.
    costs = TransactionCosts.of((0.01, 0.02), ["a", "b"])
    holdings, weights = np.array([0.0, 100.0, 0.0]), np.array([0.0, 0.0, 1.0])
    assert requested_trades(holdings, weights, costs) == pytest.approx([-100.0, 98 / 1.01])


@settings(deadline=None)
@given(holdings_of_four, weights_of_four, costs_of_three, costs_of_three)
def test_wealth_after_costs_is_the_root_that_bisection_finds(holdings, weights, buy, sell):
    costs = TransactionCosts(np.array(buy), np.array(sell))
    held, wealth = np.array(holdings), sum(holdings)

    def excess(after: float) -> float:
        return after + costs.charged(weights[1:] * after - held[1:]).sum() - wealth

    root = brentq(excess, 0.5 * wealth, 1.01 * wealth, xtol=1e-13 * wealth, rtol=1e-14)
    assert wealth_after_costs(held, weights, costs) == pytest.approx(root, rel=1e-12)


@settings(deadline=None)
@given(holdings_of_four, weights_of_four, costs_of_three, costs_of_three)
def test_executing_the_request_reaches_the_target(holdings, weights, buy, sell):
    costs = TransactionCosts(np.array(buy), np.array(sell))
    held = np.array(holdings)
    requested = requested_trades(held, weights, costs)
    after = execute(held, requested, costs, ALL_QUOTED).holdings
    assert after / after.sum() == pytest.approx(weights, abs=1e-12)


# --- execution ---


@settings(deadline=None)
@given(
    holdings_of_four,
    st.lists(st.floats(-2e6, 2e6), min_size=3, max_size=3),
    costs_of_three,
    costs_of_three,
)
def test_execution_sells_first_scales_purchases_alike_and_balances(holdings, wanted, buy, sell):
    costs = TransactionCosts(np.array(buy), np.array(sell))
    held, requested = np.array(holdings), np.array(wanted)
    trades, charged, after = execute(held, requested, costs, ALL_QUOTED)
    wealth = held.sum()

    assert (after >= 0.0).all()
    sells, buys = requested < 0.0, requested > 0.0
    assert trades[sells] == pytest.approx(np.maximum(requested, -held[1:])[sells], rel=1e-15)
    if (requested[buys] > 1e-6).all():  # smaller ones lose their ratio to rounding
        factors = trades[buys] / requested[buys]
        assert factors == pytest.approx(factors[:1].repeat(factors.size), rel=1e-12)
        assert (factors <= 1.0).all()
        if (factors < 1.0 - 1e-12).any():
            assert after[0] == pytest.approx(0.0, abs=1e-12 * wealth)
    assert after[1:] == pytest.approx(held[1:] + trades, abs=1e-12 * wealth)
    assert after.sum() + charged.sum() == pytest.approx(wealth, rel=1e-12)
    by_hand = [b * t if t > 0 else -s * t for t, b, s in zip(trades, buy, sell, strict=True)]
    assert charged == pytest.approx(by_hand)


def test_purchases_beyond_the_cash_share_what_is_there():
    # 100 in cash, 10 sold for 9: 109 buys 1.1 x (300 + 100) only in part.
    costs = TransactionCosts.of(0.1, ASSETS)
    held = np.array([100.0, 10.0, 0.0, 0.0])
    trades, charged, after = execute(held, np.array([-10.0, 300.0, 100.0]), costs, ALL_QUOTED)
    factor = 109.0 / 440.0
    assert trades == pytest.approx([-10.0, 300.0 * factor, 100.0 * factor])
    assert charged.sum() == pytest.approx(1.0 + 40.0 * factor)
    assert after == pytest.approx([0.0, 0.0, 300.0 * factor, 100.0 * factor], abs=1e-12)


def test_an_asset_without_a_quote_is_sold_but_not_bought():
    held = np.array([0.0, 50.0, 50.0, 0.0])
    quoted = np.array([False, True, False])
    costs = TransactionCosts.of(0.0, ASSETS)
    trades, _, after = execute(held, np.array([-50.0, 10.0, 40.0]), costs, quoted)
    assert trades.tolist() == [-50.0, 10.0, 0.0]
    assert after.tolist() == [40.0, 0.0, 60.0, 0.0]
