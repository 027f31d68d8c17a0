from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.errors import DataError
from sddp.market import Market

DATES = pd.date_range("2020-01-01", periods=4)


def frame(**columns) -> pd.DataFrame:
    return pd.DataFrame(columns, index=DATES)


def with_gap() -> pd.DataFrame:
    return frame(a=[10.0, np.nan, 12.0, 6.0], b=[1.0, 2.0, 4.0, 8.0])


# --- what a view holds ---


def test_a_view_holds_the_rows_up_to_its_date(data, market):
    view = market.at(data.prices.index[9])
    assert view.date == data.prices.index[9]
    assert view.prices.equals(data.prices.iloc[:10])
    assert view.cash_rate.to_numpy().tolist() == data.cash_rate.iloc[:10].tolist()
    assert view.factors.equals(data.factors.iloc[:10])
    assert view.volatility_index.to_numpy().tolist() == data.volatility_index.iloc[:10].tolist()
    assert view.quoted.all(axis=None)
    assert view.quoted.shape == (10, 4)


def test_returns_are_earned_up_to_their_row():
    view = Market(frame(a=[10.0, 11.0, 22.0, 11.0])).at("2020-01-03")
    assert view.returns["a"].to_numpy() == pytest.approx([0.1, 1.0])
    assert view.returns.index.equals(DATES[1:3])
    assert view.log_returns["a"].to_numpy() == pytest.approx(np.log([1.1, 2.0]))
    assert view.log_returns.index.equals(DATES[1:3])


def test_a_date_between_rows_sees_the_row_before_it(data, market):
    saturday = pd.Timestamp("2020-01-11")
    assert market.at(saturday).date == pd.Timestamp("2020-01-10")
    assert market.at("2030-01-01").prices.shape == data.prices.shape


def test_a_date_before_the_first_row_is_rejected(market):
    with pytest.raises(DataError, match="2019-12-31 lies before the first row 2020-01-01"):
        market.at("2019-12-31")
    assert market.at("2020-01-01").prices.shape == (1, 4)


def test_without_extras_a_view_says_so():
    view = Market(frame(a=[1.0, 2.0, 3.0, 4.0]), cash_rate=0.001).at("2020-01-02")
    assert view.factors is None
    assert view.volatility_index is None
    assert view.cash_rate.tolist() == [0.001, 0.001]


# --- views are the only door and cannot be written to ---


def test_writing_to_a_view_raises(data, market):
    view = market.at(data.prices.index[9])
    for table in (view.prices, view.returns, view.log_returns, view.factors):
        with pytest.raises(ValueError, match="read-only"):
            table.iloc[0, 0] = 1.0
        with pytest.raises(ValueError, match="read-only"):
            table.to_numpy()[0, 0] = 1.0
    for series in (view.cash_rate, view.volatility_index):
        with pytest.raises(ValueError, match="read-only"):
            series.iloc[0] = 1.0
    with pytest.raises(AttributeError):
        view.prices = data.prices


def test_tables_that_were_put_together_from_columns_are_windows_too(data):
    """Of several blocks, as pandas keeps columns that came one by one."""
    parts = {}
    for name, table in (("prices", data.prices), ("factors", data.factors)):
        parts[name] = pd.concat([table[[column]] for column in table], axis=1)
        parts[name].insert(0, "late", np.linspace(1.0, 2.0, len(table)))
    market = Market(parts["prices"], factors=parts["factors"])
    date = data.prices.index[9]
    view = market.at(date)
    assert view.factors.equals(parts["factors"].loc[:date])
    assert view.prices.equals(parts["prices"].loc[:date])
    for table in (view.prices, view.factors):
        assert np.shares_memory(table.to_numpy(), table.iloc[:3].to_numpy())


def test_a_new_column_stays_in_its_own_view(data, market):
    date = data.prices.index[9]
    table = market.at(date).prices
    table["mine"] = 1.0
    assert list(market.at(date).prices.columns) == list(data.prices.columns)


def test_the_market_keeps_its_own_copy(data):
    prices = data.prices.copy()
    market = Market(prices)
    prices.iloc[0, 0] = 1.0
    assert market.at("2021-01-01").prices.equals(data.prices)


def test_a_view_is_a_read_only_window_on_the_arrays_of_the_market(data, market):
    date = data.prices.index[9]
    view, whole = market.at(date), market.at(data.prices.index[-1])
    assert view.log_returns.shape == (9, 4)
    for name in ("prices", "returns", "quoted", "cash_rate", "factors", "volatility_index"):
        part, full = getattr(view, name), getattr(whole, name)
        assert part.index[-1] == date
        assert np.shares_memory(part.to_numpy(), full.to_numpy()), name
        with pytest.raises(ValueError, match="read-only"):
            part.to_numpy()[:] = 0
    other = view.until(data.prices.index[4])
    assert np.shares_memory(other.prices.to_numpy(), whole.prices.to_numpy())


# --- missing prices ---


def test_a_missing_price_is_named_by_asset_and_date():
    with pytest.raises(DataError, match=r"prices is missing at a on 2020-01-02; .*--missing"):
        Market(with_gap())
    assert Market(with_gap(), missing="carry").at(DATES[3]).prices.shape == (4, 2)


def test_a_long_list_of_gaps_is_cut():
    with pytest.raises(DataError, match="a on 2020-01-03 and 3 more"):
        Market(frame(a=[np.nan] * 4, b=[np.nan] * 4))


def test_carry_repeats_the_last_price_and_says_so():
    view = Market(with_gap(), missing="carry").at(DATES[3])
    assert view.prices["a"].tolist() == [10.0, 10.0, 12.0, 6.0]
    assert view.returns["a"].to_numpy() == pytest.approx([0.0, 0.2, -0.5])
    assert view.quoted["a"].tolist() == [True, False, True, True]


def test_carry_never_looks_ahead_for_a_first_quote():
    view = Market(frame(a=[np.nan, np.nan, 5.0, 6.0]), missing="carry").at(DATES[3])
    assert view.prices["a"].isna().tolist() == [True, True, False, False]
    assert view.returns["a"].isna().tolist() == [True, True, False]


def test_drop_leaves_rows_out_and_cash_compounds_over_them():
    rate = pd.Series([np.nan, 0.01, 0.02, 0.003], DATES)
    view = Market(with_gap(), cash_rate=rate, missing="drop").at(DATES[3])
    assert view.dates.tolist() == [DATES[0], DATES[2], DATES[3]]
    assert view.cash_rate.to_numpy() == pytest.approx([0.0, 1.01 * 1.02 - 1.0, 0.003], abs=1e-15)
    assert view.returns["b"].to_numpy() == pytest.approx([3.0, 1.0])
    assert view.quoted.all(axis=None)


def test_cash_after_the_last_kept_row_is_not_compounded_into_it():
    prices = frame(a=[1.0, np.nan, 2.0, np.nan])
    view = Market(prices, cash_rate=0.01, missing="drop").at(DATES[3])
    assert view.cash_rate.to_numpy() == pytest.approx([0.01, 0.0201])


def test_a_gap_in_every_row_cannot_be_dropped():
    with pytest.raises(DataError, match='"drop" leaves no row'):
        Market(frame(a=[np.nan, 1.0, np.nan, 1.0], b=[1.0, np.nan, 1.0, np.nan]), missing="drop")


def test_a_return_is_not_carried():
    prices = frame(a=[1.0, 2.0, 3.0, 4.0])
    factors = frame(market=[0.1, np.nan, 0.2, 0.1])
    with pytest.raises(DataError, match="factors is missing at market on 2020-01-02"):
        Market(prices, factors=factors, missing="carry")
    index = pd.Series([20.0, np.nan, 30.0, 20.0], DATES)
    view = Market(prices, volatility_index=index, missing="carry").at(DATES[3])
    assert view.volatility_index.tolist() == [20.0, 20.0, 30.0, 20.0]
    view = Market(prices, factors=factors, missing="drop").at(DATES[3])
    assert view.factors["market"].tolist() == [0.1, 0.2, 0.1]


def test_an_unknown_policy_is_rejected():
    with pytest.raises(DataError, match="missing = 'interpolate'; known are raise, carry, drop"):
        Market(with_gap(), missing="interpolate")


# --- other refusals, each followed by a call that works ---


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        ([[1.0]], "prices is a list; give a DataFrame"),
        (pd.DataFrame(index=DATES), r"shape \(4, 0\)"),
        (pd.DataFrame({"a": [1.0, 2.0]}), "not dates; use pd.to_datetime"),
        (frame(a=[1.0, 2.0, 3.0, 4.0]).iloc[[0, 2, 1]], "go back at 2020-01-02"),
        (frame(a=[1.0, 2.0, 3.0, 4.0]).iloc[[0, 1, 1]], "two rows for 2020-01-02"),
        (frame(a=["x", "y", "z", "w"]), "column 'a' of prices is of type .*, not numbers"),
        (frame(a=[True, False, True, True]), "column 'a' of prices is of type bool"),
        (frame(a=[1.0, 0.0, 3.0, 4.0]), "prices = 0 at a on 2020-01-02; it must be positive"),
        (frame(a=[1.0, 2.0, -3.0, 4.0]), "prices = -3 at a on 2020-01-03.*Market.from_returns"),
        (frame(a=[1.0, np.inf, 3.0, 4.0]), "prices is infinite at a on 2020-01-02"),
        (frame(cash=[1.0, 2.0, 3.0, 4.0]), "label 'cash' at position 0 names the riskless"),
        (
            pd.DataFrame([[1.0, 2.0]], DATES[:1], ["a", "a"]),
            "label 'a' at position 0 and label 'a'",
        ),
        (pd.DataFrame({"a": [1.0, 2.0]}, [DATES[0], pd.NaT]), "missing date"),
    ],
)
def test_bad_prices_are_rejected_in_words(prices, words):
    with pytest.raises(DataError, match=words):
        Market(prices)
    assert Market(frame(a=[1.0, 2.0, 3.0, 4.0])).assets.tolist() == ["a"]


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (5.2, "cash_rate = 5.2 at .*decimal return.*divide percent by 100"),
        (-0.3, "cash_rate = -0.3 at"),
        (np.nan, "cash_rate is missing at cash_rate on 2020-01-01"),
        (pd.Series([0.0, 0.0, 0.25, 0.0], DATES), "cash_rate = 0.25 at cash_rate on 2020-01-03"),
        (pd.Series([0.0, np.nan, 0.0, 0.0], DATES), "cash_rate is missing at .* 2020-01-02"),
        # The CDI of 2010 in percent a day, and that of a year taken for a day's.
        (0.0375, r"cash_rate = 0.0375 .median of 4 rows, 365.2 of them a year. would .*percent by"),
        (pd.Series([0.0, 0.0975, 0.0975, 0.0], DATES), "would make .* an annual rate by the per"),
        (pd.Series([0.0] * 3, DATES[1:]), "1 dates are lacking .first 2020-01-01"),
        (pd.Series([0.0] * 5, pd.date_range("2020-01-01", periods=5)), "1 are no rows of prices"),
    ],
)
def test_bad_cash_rates_are_rejected_in_words(rate, words):
    prices = frame(a=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(DataError, match=words):
        Market(prices, cash_rate=rate)
    assert Market(prices, cash_rate=-0.001).at(DATES[0]).cash_rate.iloc[0] == -0.001


def test_extras_must_have_the_dates_of_the_prices(data):
    with pytest.raises(DataError, match="factors and prices must have the same dates: 1 dates"):
        Market(data.prices, factors=data.factors.iloc[1:])
    with pytest.raises(DataError, match="volatility_index and prices must have the same dates"):
        Market(data.prices, volatility_index=data.volatility_index.iloc[1:])
    with pytest.raises(DataError, match="volatility_index is a DataFrame; give a Series"):
        Market(data.prices, volatility_index=data.factors)


# --- markets of returns ---


def test_a_market_of_returns_knows_its_first_return():
    returns = frame(a=[0.1, -0.5, 0.2, 0.0])
    view = Market.from_returns(returns).at(DATES[1])
    assert view.returns["a"].to_numpy() == pytest.approx([0.1, -0.5], abs=1e-15)
    assert view.prices["a"].to_numpy() == pytest.approx([1.1, 0.55])
    assert view.returns.index.equals(DATES[:2])


def test_a_missing_return_is_carried_at_zero():
    returns = frame(a=[0.1, np.nan, 0.2, 0.0], b=[0.0, 0.1, 0.1, 0.1])
    view = Market.from_returns(returns, missing="carry").at(DATES[3])
    assert view.returns["a"].to_numpy() == pytest.approx([0.1, 0.0, 0.2, 0.0], abs=1e-15)
    assert view.quoted["a"].tolist() == [True, False, True, True]


def test_dropped_rows_of_returns_compound():
    returns = frame(a=[0.1, np.nan, 0.2, 0.0], b=[0.0, 0.1, 0.1, 0.1])
    view = Market.from_returns(returns, missing="drop").at(DATES[3])
    assert view.returns["b"].to_numpy() == pytest.approx([0.0, 0.21, 0.1], abs=1e-15)


@pytest.mark.parametrize(
    ("returns", "words"),
    [
        ([0.01, -1.7, 0.3, 0.1], "returns = -1.7 at a on 2020-01-02; it lies outside"),
        ([100.0, 101.0, 102.0, 103.0], "returns = 100 at .*give simple decimal returns"),
    ],
)
def test_percent_or_prices_are_not_taken_for_returns(returns, words):
    with pytest.raises(DataError, match=words):
        Market.from_returns(frame(a=returns))
    assert Market.from_returns(frame(a=[0.01] * 4)).at(DATES[0]).returns.shape == (1, 1)


def test_markets_and_views_have_short_names(market):
    assert repr(market) == "Market(2020-01-01 to 2020-03-24, 60 rows, 4 assets)"
    assert repr(market.at("2020-01-02")) == "View(2020-01-02, 2 rows, 4 assets)"
