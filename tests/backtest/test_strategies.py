from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import (
    BuyAndHold,
    Decision,
    EqualWeight,
    EveryPeriods,
    HoldCash,
    InverseVolatility,
)
from sddp.backtest.trading.decisions import Question
from sddp.errors import DataError, ModelError
from sddp.market import Market

ALL_CASH = pd.Series({"cash": 1.0})


def test_equal_weights_with_and_without_cash(market):
    view = market.at("2020-02-03")
    assert EqualWeight().decide(view, ALL_CASH).tolist() == [0.25] * 4
    assert EqualWeight(include_cash=True).decide(view, ALL_CASH).tolist() == [0.2] * 4


def test_equal_weights_go_to_quoted_assets_only(data):
    prices = data.prices.copy()
    prices.loc["2020-02-03":, "gold"] = np.nan
    prices.loc[:"2020-02-03", "euro"] = np.nan
    view = Market(prices, missing="carry").at("2020-02-03")
    weights = EqualWeight().decide(view, ALL_CASH)
    assert weights.to_dict() == {"gold": 0.0, "stocks": 0.5, "dollar": 0.5, "euro": 0.0}


def test_equal_weights_of_nothing_are_cash(data):
    prices = data.prices.copy()
    prices.iloc[3] = np.nan
    view = Market(prices, missing="carry").at(prices.index[3])
    assert EqualWeight().decide(view, ALL_CASH).sum() == 0.0


def test_hold_cash_holds_cash(market):
    assert HoldCash().decide(market.at("2020-02-03"), ALL_CASH).to_dict() == {"cash": 1.0}


def test_buy_and_hold_buys_once(market):
    strategy, view = BuyAndHold({"gold": 0.6}), market.at("2020-02-03")
    assert strategy.decide(view, ALL_CASH).to_dict() == {"gold": 0.6}
    assert strategy.decide(view, ALL_CASH) is None


@pytest.mark.parametrize("weights", [{"gold": -0.1}, {"gold": 0.7, "euro": 0.7}])
def test_buy_and_hold_rejects_bad_weights_at_once(weights):
    with pytest.raises(ModelError, match="weight"):
        BuyAndHold(weights)


def test_inverse_volatility_weighs_by_the_window(data, market):
    view = market.at("2020-02-28")
    returns = data.prices.pct_change().loc[:"2020-02-28"].to_numpy()[-20:]
    inverse = 1.0 / np.sqrt(((returns - returns.mean(axis=0)) ** 2).sum(axis=0) / 19.0)
    weights = InverseVolatility(window=20).decide(view, ALL_CASH)
    assert weights.to_numpy() == pytest.approx(inverse / inverse.sum(), rel=1e-12)


def test_inverse_volatility_leaves_out_what_has_no_volatility(data):
    prices = data.prices.copy()
    prices["gold"] = 100.0
    prices.loc[:"2020-02-03", "euro"] = np.nan
    prices.loc["2020-02-28":, "dollar"] = np.nan
    market = Market(prices, missing="carry")
    weights = InverseVolatility(window=20).decide(market.at("2020-02-28"), ALL_CASH)
    assert weights.to_dict() == {"stocks": 1.0}
    flat = Market(prices[["gold"]]).at("2020-02-28")
    assert InverseVolatility(window=20).decide(flat, ALL_CASH).empty


def test_inverse_volatility_says_when_it_knows_too_little(market):
    with pytest.raises(DataError, match="needs 20 returns; 2 are known on 2020-01-03"):
        InverseVolatility(window=20).decide(market.at("2020-01-03"), ALL_CASH)


@pytest.mark.parametrize("window", [1, 2.0, True, -3])
def test_a_window_is_a_whole_number(window):
    with pytest.raises(ModelError, match=f"window = {window!r}; give a whole number"):
        InverseVolatility(window=window)


def test_every_periods_counts_rows_since_the_last_decision(market):
    last = Decision(pd.Timestamp("2020-01-03"), None, row=2)
    view = market.at("2020-01-06")
    fired = [
        EveryPeriods(2).fires(Question(view, row, view.assets, ALL_CASH, last), None)[0]
        for row in (3, 4, 5)
    ]
    assert [f is not None for f in fired] == [False, True, True]
    with pytest.raises(ModelError, match="n_periods = 0; give a whole number of at least 1"):
        EveryPeriods(0)
