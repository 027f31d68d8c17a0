"""What each trigger brought about, by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from sddp.backtest import EqualWeight, EveryPeriods, RiskSpike, backtest
from sddp.errors import DataError
from sddp.evaluation import trigger_table
from sddp.market import Market

DATES = pd.bdate_range("2020-01-01", periods=7)


def market() -> Market:
    prices = pd.DataFrame({"a": [1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], "b": 1.0}, DATES)
    index = pd.Series([20.0, 20.0, 20.0, 30.0, 20.0, 20.0, 20.0], DATES)
    return Market(prices, volatility_index=index)


def test_the_table_by_hand():
    """Halves; a doubles on row 2; the spike of row 3 sells a sixth of the wealth into b."""
    options = {"start": DATES[0], "transaction_cost": 0.0, "lag": 0, "keep_events": True}
    found = backtest(market(), {"s": EqualWeight()}, rebalance=RiskSpike(index=25), **options)
    table = trigger_table(found, "s", market())
    assert list(table.index) == ["first row", "RiskSpike(volatility=None, index=25, window=30)"]
    assert table["firings"].tolist() == [1, 1]
    assert table["trades"].tolist() == [2, 2]
    assert table["turnover"].tolist() == pytest.approx([1.0, 1.0 / 3.0])
    # Against cash the halves gain 50 % until row 3; after it nothing moves.
    assert table["benefit"].tolist() == pytest.approx([0.5, 0.0])
    assert table["cost"].tolist() == [0.0, 0.0]


def test_costs_are_those_of_the_ledger_and_lower_the_benefit():
    options = {"start": DATES[0], "transaction_cost": 0.01, "lag": 0, "keep_events": True}
    found = backtest(market(), {"s": EqualWeight()}, rebalance=EveryPeriods(1), **options)
    table, ledger = trigger_table(found, "s", market()), found.ledger("s")
    costs = ledger.costs.sum(axis=1) / ledger.wealth
    assert table["cost"].sum() == pytest.approx(costs.sum(), rel=1e-12)
    assert table.loc["first row", "benefit"] == pytest.approx(-costs.iloc[0], rel=1e-9)
    # Sold on row 2 after the rise, in vain: the benefit of these firings is their cost.
    assert table.loc["EveryPeriods(n_periods=1)", "benefit"] < 0.5


def test_events_are_needed():
    found = backtest(market(), {"s": EqualWeight()}, start=DATES[0], transaction_cost=0.0)
    with pytest.raises(DataError, match=r"events of 's': were not kept"):
        trigger_table(found, "s", market())
    with pytest.raises(DataError, match="strategy 't' is unknown"):
        trigger_table(found, "t", market())
