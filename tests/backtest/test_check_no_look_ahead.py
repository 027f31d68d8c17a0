"""The check for users' own strategies: what passes, and what it catches."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import EqualWeight, InverseVolatility, check_no_look_ahead
from sddp.errors import DataError, ModelError
from tests.backtest.test_lookahead import CachesByDate, Peeks
from tests.backtest.test_multistage import small_strategy

SETTINGS = {"transaction_cost": 0.002}


@pytest.fixture
def dates(market):
    return {"start": market.dates[12], "last_known": market.dates[35]}


@pytest.mark.parametrize(
    "strategy",
    [EqualWeight(), InverseVolatility(10), CachesByDate(), small_strategy(on_failure="keep")],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("lag", [0, 2])
def test_strategies_that_know_the_past_alone_pass(market, dates, strategy, lag):
    check_no_look_ahead(strategy, market, lag=lag, **dates, **SETTINGS)


def test_a_strategy_made_from_the_future_is_caught(market, data, dates):
    def peeking(known) -> Peeks:
        return Peeks(known.at(known.dates[-1]).prices)

    with pytest.raises(ModelError, match=r"future \w+: on 20.* looks ahead"):
        check_no_look_ahead(peeking, market, **dates, **SETTINGS)


class KnowsTheEnd:
    """Has learned the market's length: it sells in time."""

    def __init__(self, n_rows: int) -> None:
        self.n_rows = n_rows

    def decide(self, view, holdings):
        share = 0.5 if len(view.dates) < self.n_rows - 26 else 0.1
        return pd.Series({view.assets[0]: share})


def test_the_length_of_the_market_is_future_too(market, dates):
    with pytest.raises(ModelError, match="future truncated"):
        check_no_look_ahead(lambda known: KnowsTheEnd(len(known.dates)), market, **dates)


def test_dates_that_check_nothing_raise(market, dates):
    with pytest.raises(DataError, match="must be before the market's last date"):
        check_no_look_ahead(
            EqualWeight(), market, start=dates["start"], last_known=market.dates[-1]
        )
    with pytest.raises(DataError, match="no decision is taken up to it"):
        check_no_look_ahead(
            EqualWeight(), market, start=dates["last_known"], last_known=dates["start"]
        )


def test_a_market_with_gaps_is_altered_into_a_valid_one(data, dates):
    prices = data.prices.copy()
    prices.iloc[5, 1] = np.nan
    prices.iloc[20:22, 0] = np.nan
    gaps = type(data)(prices, data.cash_rate, data.factors, data.volatility_index)
    check_no_look_ahead(EqualWeight(), gaps.market(missing="carry"), **dates, **SETTINGS)
