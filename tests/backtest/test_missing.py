"""Late starts, gaps, delistings and total losses by the stated rule of `Market`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import EqualWeight, backtest
from sddp.errors import DataError
from sddp.market import Market
from sddp.market.departures import ended

DATES = pd.date_range("2020-01-01", periods=6)
NAN = np.nan


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=DATES)


def last(market: Market):
    return market.at(DATES[-1])


LOST = frame(a=[10.0, 12.0, 0.0, NAN, NAN, NAN], b=[1.0, 1.0, 2.0, 2.0, 2.0, 2.0])


def test_a_price_of_0_is_a_total_loss():
    for prices in (LOST, LOST.fillna(0.0)):
        view = last(Market(prices, missing="carry"))
        np.testing.assert_allclose(view.returns["a"], [0.2, -1.0, 0.0, 0.0, 0.0], atol=1e-15)
        assert view.quoted["a"].tolist() == [True, True, False, False, False, False]
        assert view.prices["a"].tolist() == [10.0, 12.0, 0.0, 0.0, 0.0, 0.0]


def test_a_total_loss_is_no_gap_that_drops_rows():
    view = last(Market(LOST, missing="drop"))
    assert len(view.dates) == 6
    np.testing.assert_allclose(view.returns["a"], [0.2, -1.0, 0.0, 0.0, 0.0], atol=1e-15)


def test_a_price_of_0_is_rejected_unless_a_rule_is_chosen():
    with pytest.raises(DataError, match=r"prices = 0 at a on 2020-01-03; .*--missing carry"):
        Market(LOST)


def test_a_price_after_a_total_loss_is_rejected():
    prices = frame(a=[10.0, 0.0, 11.0, 12.0, 12.0, 12.0])
    with pytest.raises(DataError, match=r"a on 2020-01-02, but 11 on 2020-01-03.*--missing-value"):
        Market(prices, missing="carry")
    with pytest.raises(DataError, match="no price before it"):
        Market(frame(a=[0.0] * 6, b=[1.0] * 6), missing="carry")


def test_a_return_of_minus_1_is_a_total_loss():
    returns = frame(a=[0.1, -1.0, NAN, NAN, NAN, NAN], b=[0.0] * 6)
    view = last(Market.from_returns(returns, missing="carry"))
    np.testing.assert_allclose(view.returns["a"], [0.1, -1.0, 0.0, 0.0, 0.0, 0.0], atol=1e-15)
    assert view.quoted["a"].tolist() == [True, *[False] * 5]
    with pytest.raises(DataError, match=r"returns = 0.2 at a on 2020-01-03; it follows a return"):
        Market.from_returns(frame(a=[0.1, -1.0, 0.2, 0.0, 0.0, 0.0]), missing="carry")
    with pytest.raises(DataError, match=r"returns = -1.1 at a .* outside \[-1, 10\]"):
        Market.from_returns(frame(a=[0.1, -1.1, 0.2, 0.0, 0.0, 0.0]), missing="carry")


ENDS = frame(a=[10.0, 12.0, 12.0, NAN, NAN, NAN], b=[1.0, 1.0, 2.0, 2.0, 2.0, NAN])


def test_a_delisting_earns_its_stated_return_once():
    view = last(Market(ENDS.fillna({"b": 2.0}), departures={"a": ("2020-01-04", -0.25)}))
    np.testing.assert_allclose(view.returns["a"], [0.2, 0.0, -0.25, 0.0, 0.0], atol=1e-15)
    assert view.quoted["a"].tolist() == [True] * 3 + [False] * 3
    assert view.prices["a"].tolist() == [10.0, 12.0, 12.0, 9.0, 9.0, 9.0]


def test_ends_of_a_table_are_departures_of_one_return():
    found = ended(ENDS, -0.3)
    assert found == {"a": (DATES[3], -0.3), "b": (DATES[5], -0.3)}
    assert ended(LOST.fillna(0.0), -0.3) == {}
    assert ended(frame(a=[NAN] * 6), -0.3) == {}
    view = last(Market(ENDS, departures=found))
    assert view.returns["b"].iloc[-1] == pytest.approx(-0.3)


def test_a_total_loss_outweighs_the_return_of_its_delisting():
    view = last(Market(LOST, missing="carry", departures=ended(LOST, -0.3)))
    assert view.returns["a"].tolist()[1:3] == [-1.0, 0.0]
    assert not view.quoted["a"].iloc[2]


def test_a_delisting_may_lie_on_a_day_without_a_row_or_after_the_last():
    prices = ENDS.fillna({"b": 2.0}).drop(DATES[3])
    view = Market(prices, departures={"a": ("2020-01-04", -0.25)}).at(DATES[-1])
    assert view.returns["a"].loc[DATES[4]] == pytest.approx(-0.25)
    whole = frame(a=[1.0] * 6)
    assert (
        Market(whole, departures={"a": ("2021-01-01", -0.25)}).at(DATES[-1]).quoted.all(axis=None)
    )


@pytest.mark.parametrize(
    ("departures", "words"),
    [
        ({"c": (DATES[3], -0.3)}, "departures.*'c'.*no such asset"),
        ({"a": (DATES[2], -0.3)}, "there is a price on 2020-01-03"),
        ({"a": (DATES[3], -1.3)}, "the return must be a decimal between -1"),
        ({"a": (DATES[3], 30.0)}, "the return must be a decimal between -1"),
        ({"a": (DATES[3], NAN)}, "the return must be a decimal between -1"),
    ],
)
def test_departures_that_do_not_fit_are_rejected(departures, words):
    with pytest.raises(DataError, match=words):
        Market(ENDS, missing="carry", departures=departures)


def test_late_starts_and_assets_never_listed_are_carried_as_not_there():
    prices = frame(a=[NAN, NAN, 5.0, 6.0, 6.0, 6.0], b=[NAN] * 6, c=[1.0] * 6)
    view = last(Market(prices, missing="carry"))
    assert view.quoted.sum().tolist() == [4, 0, 6]
    assert view.returns["b"].isna().all()
    report = backtest(
        Market(prices, missing="carry"),
        {"1/N": EqualWeight()},
        start=DATES[0],
        transaction_cost=0.0,
    )
    assert (report.weights("1/N")["b"] == 0.0).all()


def test_a_strategy_loses_what_it_holds_and_does_not_buy_what_is_gone():
    """Half in each asset; ``a`` loses all: by hand."""
    report = backtest(
        Market(LOST, missing="carry"),
        {"1/N": EqualWeight()},
        start=DATES[0],
        transaction_cost=0.0,
        lag=0,
    )
    # Half of 1 in a gains 20 %: 1.1; then half of it is lost while b doubles: 0.55 * 2.
    np.testing.assert_allclose(report.wealth["1/N"], [1.0, 1.1, 1.1, 1.1, 1.1, 1.1])
    assert report.weights("1/N")["a"].tolist()[2:] == [0.0] * 4


def test_what_is_known_before_a_departure_does_not_depend_on_it():
    departures = {"a": (DATES[3], -0.25)}
    whole = Market(ENDS, missing="carry", departures=departures)
    cut = Market(ENDS.iloc[:3], missing="carry", departures=departures)
    plain = Market(ENDS, missing="carry")
    for other in (cut, plain):
        seen, expected = other.at(DATES[2]), whole.at(DATES[2])
        pd.testing.assert_frame_equal(seen.prices, expected.prices)
        pd.testing.assert_frame_equal(seen.returns, expected.returns)
        pd.testing.assert_frame_equal(seen.quoted, expected.quoted)


# --- dates with a time zone, and periods ---


@pytest.mark.parametrize(
    "index",
    [DATES.tz_localize("America/New_York"), pd.period_range("2020-01-01", periods=6, freq="D")],
    ids=["zone", "periods"],
)
def test_dates_of_every_kind_are_plain_inside(index):
    prices = pd.DataFrame({"a": np.arange(1.0, 7.0), "b": 1.0}, index)
    factors = pd.DataFrame({"f": np.zeros(6)}, index)
    market = Market(prices, factors=factors, cash_rate=pd.Series(0.001, index))
    assert market.dates.equals(DATES)
    assert market.at("2020-01-03").date == DATES[2]
    assert market.at(index[2]).date == DATES[2]
    for start in ("2020-01-02", index[1]):
        report = backtest(market, {"1/N": EqualWeight()}, start=start, transaction_cost=0.0)
        assert report.wealth.index[0] == DATES[1]


def test_months_are_dated_at_their_last_day():
    prices = pd.DataFrame({"a": [1.0, 2.0]}, pd.period_range("2020-01", periods=2, freq="M"))
    assert Market(prices).dates.tolist() == [pd.Timestamp("2020-01-31"), pd.Timestamp("2020-02-29")]
