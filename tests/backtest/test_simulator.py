from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import BuyAndHold, EqualWeight, EveryPeriods, HoldCash, backtest, print_progress
from sddp.errors import DataError, ModelError
from sddp.market import Market

DATES = pd.date_range("2020-01-01", periods=5)


class Plan:
    """Answers with the next entry of a list each time it is asked, and notes what it was told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.told = []

    def decide(self, view, holdings):
        self.told.append((view.date, holdings.to_dict()))
        answer = self.answers.pop(0)
        return None if answer is None else pd.Series(answer, dtype=float)


class Shared:
    """Keeps the original after a deep copy, so that a test can read what happened."""

    def __init__(self, strategy):
        self.strategy = strategy

    def __deepcopy__(self, memo):
        return self

    def decide(self, view, holdings):
        return self.strategy.decide(view, holdings)


def one_asset(*prices: float) -> pd.DataFrame:
    return pd.DataFrame({"a": prices}, index=DATES[: len(prices)])


def run(market, strategy, **options):
    options = {"start": market.dates[0], "transaction_cost": 0.0} | options
    return backtest(market, {"s": strategy}, **options)


# --- facts ---


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_hold_cash_earns_the_cash_rate(data, market, lag):
    report = run(market, HoldCash(), start="2020-01-13", transaction_cost=0.01, lag=lag)
    growth = (1.0 + data.cash_rate.loc["2020-01-14":]).cumprod()
    assert report.wealth["s"].iloc[0] == 1.0
    assert report.wealth["s"].iloc[1:].to_numpy() == pytest.approx(growth.to_numpy(), rel=1e-13)
    assert report.ledger("s").costs.to_numpy().sum() == 0.0


def test_buy_and_hold_equals_price_ratios(data, market):
    report = run(market, BuyAndHold({"gold": 1.0}), start="2020-01-13", lag=0)
    gold = data.prices["gold"].loc["2020-01-13":]
    assert report.wealth["s"].to_numpy() == pytest.approx((gold / gold.iloc[0]).to_numpy())


def test_buy_and_hold_of_two_assets_with_lag_and_cost(data, market):
    weights = {"gold": 0.5, "euro": 0.3}
    report = run(market, BuyAndHold(weights), start="2020-01-13", transaction_cost=0.01)
    bought = data.prices.index.get_loc("2020-01-14")
    ratio = data.prices.iloc[bought:] / data.prices.iloc[bought]
    cash = (1.0 + data.cash_rate.iloc[bought + 1 :]).cumprod().reindex(ratio.index, fill_value=1.0)
    invested = (1.0 + data.cash_rate.iloc[bought]) / (1.0 + 0.01 * 0.8)
    expected = invested * (0.5 * ratio["gold"] + 0.3 * ratio["euro"] + 0.2 * cash)
    after = report.ledger("s").holdings_after.sum(axis=1).iloc[1:]
    assert after.to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)


def test_equal_weights_compound_the_mean_return(data, market):
    report = run(market, EqualWeight(), start="2020-01-13", lag=0)
    mean = data.prices.pct_change().loc["2020-01-14":].mean(axis=1)
    assert report.returns["s"].to_numpy() == pytest.approx(mean.to_numpy(), abs=1e-14)


# --- timing, by hand ---


def test_lag_one_by_hand():
    """100 -> 110 -> 121 -> 60.5: decided on row 0, bought on row 1, sold on row 2."""
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5), cash_rate=0.01)
    report = run(market, Plan({"a": 1.0}, {"a": 0.0}), initial_wealth=1000.0)
    # Row 1: cash earned 1 %, all buys at 110. Row 2: +10 %, all sold. Row 3: cash earns 1 %.
    assert report.wealth["s"].tolist() == pytest.approx([1000.0, 1010.0, 1111.0, 1122.11])
    executed = report.ledger("s").executed["a"]
    assert executed.tolist() == pytest.approx([0.0, 1010.0, -1111.0, 0.0])


def test_lag_zero_by_hand():
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5), cash_rate=0.01)
    report = run(market, Plan({"a": 1.0}, {"a": 0.0}, {"a": 0.0}), initial_wealth=1000.0, lag=0)
    # Row 0: bought at 100. Row 1: +10 %, sold at 110. Then two periods of cash.
    assert report.wealth["s"].tolist() == pytest.approx([1000.0, 1100.0, 1111.0, 1122.11])


def test_lag_two_by_hand():
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5, 121.0))
    plan = Plan({"a": 1.0}, None, {"a": 1.0})
    report = run(market, plan, initial_wealth=1000.0, lag=2)
    # Bought on row 2 at 121; the decisions of rows 2 and later would be executed too late.
    assert report.wealth["s"].tolist() == pytest.approx([1000.0, 1000.0, 1000.0, 500.0, 1000.0])
    assert len(report.ledger("s").decisions) == 2


def test_costs_by_hand_are_charged_once_and_fall_into_the_period_that_follows():
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5))
    plan = Plan({"a": 1.0}, {"a": 0.0}, None)
    report = run(market, plan, initial_wealth=1010.0, lag=0, transaction_cost=(0.01, 0.02))
    # 1010 buys 1000 at 1 %; worth 1100 on row 1, sold at 2 % for 1078.
    assert report.wealth["s"].tolist() == pytest.approx([1010.0, 1100.0, 1078.0, 1078.0])
    assert report.ledger("s").costs["a"].tolist() == pytest.approx([10.0, 22.0, 0.0, 0.0])


def test_costs_go_by_asset(data, market):
    cost = {"gold": 0.0, "stocks": 0.01, "dollar": 0.02, "euro": 0.03}
    ledger = run(market, EqualWeight(), transaction_cost=cost).ledger("s")
    assert (ledger.executed.abs() * pd.Series(cost)).equals(ledger.costs)
    assert (ledger.costs[["stocks", "dollar", "euro"]].iloc[1:-1] > 0.0).all(axis=None)


def test_a_strategy_is_told_the_money_it_holds():
    plan = Plan({"a": 0.5}, None, None)
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5, 60.5))
    run(market, Shared(plan), initial_wealth=1000.0)
    assert plan.told[0] == (DATES[0], {"cash": 1000.0, "a": 0.0})
    assert plan.told[1] == (DATES[1], {"cash": 500.0, "a": 500.0})  # after the trade of row 1
    assert plan.told[2][1] == pytest.approx({"cash": 500.0, "a": 550.0})


def test_at_lag_zero_a_strategy_is_told_what_it_holds_before_trading():
    plan = Plan({"a": 0.5}, {"a": 0.0}, None)
    run(Market(one_asset(100.0, 110.0, 121.0, 60.5)), Shared(plan), lag=0)
    assert plan.told[1][1] == pytest.approx({"cash": 0.5, "a": 0.55})


def test_a_strategy_is_told_of_orders_on_the_way_as_if_they_were_executed():
    """Two rows from decision to execution, 1 % to buy: 1010 ordered is 1000 held."""
    plan = Plan({"a": 1.0}, {"a": 0.5}, None, None)
    market = Market(one_asset(100.0, 110.0, 121.0, 60.5, 60.5))
    ledger = run(
        market, Shared(plan), initial_wealth=1010.0, lag=2, transaction_cost=(0.01, 0.0)
    ).ledger("s")
    assert plan.told[0][1] == pytest.approx({"cash": 1010.0, "a": 0.0})
    assert plan.told[1][1] == pytest.approx({"cash": 0.0, "a": 1000.0})
    left = ledger.holdings_after.loc[DATES[1]].to_dict()
    assert left == {"cash": 1010.0, "a": 0.0}  # on row 1 nothing is traded yet
    # Bought on row 2; by row 3 it is worth half, and half of that is sold.
    assert ledger.executed["a"].tolist() == pytest.approx([0.0, 0.0, 1000.0, -250.0, 0.0])


def test_whoever_keeps_what_is_held_trades_once_whatever_the_lag():
    class Keep:
        bought = False

        def decide(self, view, holdings):
            weights = holdings / holdings.sum() if self.bought else pd.Series({"a": 0.4})
            self.bought = True
            return weights.drop("cash", errors="ignore")

    prices = [100.0, 104.0, 99.0, 107.0, 108.0, 103.0, 111.0]
    table = pd.DataFrame({"a": prices}, index=pd.date_range("2020-01-01", periods=7))
    for lag in (1, 2, 3):
        ledger = run(Market(table), Keep(), lag=lag).ledger("s")
        bought = ledger.executed["a"].abs()
        assert bought.iloc[lag] == pytest.approx(0.4)
        # Weights drift between an order and its execution: that much is traded back.
        assert bought.drop(bought.index[lag]).max() < 0.03


def test_an_order_on_the_way_is_shown_although_its_asset_has_no_quote_today():
    plan = Plan({"a": 0.5}, None, None)
    prices = pd.DataFrame({"a": [1.0, np.nan, 1.0, 1.0, 1.0], "b": 1.0}, index=DATES)
    run(Market(prices, missing="carry"), Shared(plan), lag=2)
    assert plan.told[1][1] == pytest.approx({"cash": 0.5, "a": 0.5, "b": 0.0})


def test_no_answer_is_no_trade():
    plan = Plan({"a": 0.5}, None, None)
    ledger = run(Market(one_asset(1.0, 2.0, 4.0, 8.0, 16.0)), plan).ledger("s")
    assert ledger.executed["a"].tolist() == [0.0, 0.5, 0.0, 0.0, 0.0]
    assert ledger.decisions["a"].tolist() == pytest.approx([0.5, np.nan, np.nan], nan_ok=True)
    assert ledger.weights["a"].tolist() == pytest.approx([0.0, 1 / 2, 2 / 3, 4 / 5, 8 / 9])


# --- windows, triggers, fresh starts ---


def test_the_first_decision_is_on_the_first_row_from_start_on(market):
    report = run(market, EqualWeight(), start="2020-01-11", end="2020-01-18", lag=2)
    assert report.wealth.index[0] == pd.Timestamp("2020-01-13")
    assert report.wealth.index[-1] == pd.Timestamp("2020-01-17")
    assert list(report.ledger("s").decisions.index.day) == [13, 14]
    assert list(report.ledger("s").executed.abs().sum(axis=1) > 0) == [
        False,
        False,
        True,
        True,
        False,
    ]


def test_every_n_periods_from_the_first_decision_on(data, market):
    report = run(market, EqualWeight(), rebalance=EveryPeriods(7))
    assert report.ledger("s").decisions.index.equals(data.prices.index[:58:7])


def test_a_run_starts_fresh_and_leaves_the_strategy_as_it_was(market):
    strategy = BuyAndHold({"gold": 1.0})
    first, second = (run(market, strategy) for _ in range(2))
    assert first.wealth.equals(second.wealth)
    assert first.wealth["s"].iloc[-1] != 1.0
    assert strategy.decide(market.at("2020-01-06"), pd.Series({"cash": 1.0})) is not None


@pytest.mark.parametrize("lag", [0, 1])
def test_strategies_do_not_disturb_each_other_or_the_simulator(market, lag):
    class Vandal:
        def decide(self, view, holdings):
            holdings[:] = 0.0
            for table in (view.prices, view.quoted):
                table["new"] = False
                table["gold"] = False
            return pd.Series({"gold": 1.0})

    both = {"vandal": Vandal(), "equal": EqualWeight()}
    options = {"start": "2020-01-13", "transaction_cost": 0.001, "lag": lag}
    alone = backtest(market, {"equal": EqualWeight()}, **options)
    beside = backtest(market, both, **options)
    assert alone.wealth["equal"].equals(beside.wealth["equal"])
    gold = backtest(market, {"gold": BuyAndHold({"gold": 1.0})}, **options)
    assert beside.wealth["vandal"].to_numpy() == pytest.approx(gold.wealth["gold"].to_numpy())


def test_progress_counts_rows(market, capsys):
    seen = []
    run(market, HoldCash(), progress=lambda *state: seen.append(state))
    assert seen[0] == ("s", 1, 60)
    assert seen[-1] == ("s", 60, 60)
    run(market, HoldCash(), progress=print_progress)
    assert capsys.readouterr().err.endswith("s: 60 of 60 rows\n")


# --- missing quotes ---


def test_an_asset_that_goes_missing_is_carried_at_zero_and_sold_next(data):
    prices = data.prices.copy()
    prices.loc["2020-02-03":, "gold"] = np.nan
    report = run(Market(prices, missing="carry"), EqualWeight(), start="2020-01-20")
    ledger = report.ledger("s")
    assert ledger.weights["gold"].loc["2020-02-03"] > 0.2
    assert ledger.earned["gold"].loc["2020-02-03"] == 0.0
    assert (ledger.weights["gold"].loc["2020-02-04":] == 0.0).all()
    # Decided while quoted, executed when no longer: the purchase is requested, not made.
    assert ledger.requested["gold"].loc["2020-02-03"] > 0.0
    assert ledger.executed["gold"].loc["2020-02-03"] == 0.0
    assert ledger.imbalance().max() < 1e-12


def test_an_asset_not_yet_quoted_is_not_bought(data):
    prices = data.prices.copy()
    prices.loc[:"2020-02-03", "gold"] = np.nan
    ledger = run(Market(prices, missing="carry"), BuyAndHold({"gold": 0.5, "euro": 0.5})).ledger(
        "s"
    )
    assert (ledger.executed["gold"] == 0.0).all()
    assert ledger.requested["gold"].iloc[1] == pytest.approx(0.5)
    assert np.isfinite(ledger.wealth).all()
    assert ledger.weights["cash"].iloc[1] == pytest.approx(0.5)


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"lag": -1}, ModelError, "lag = -1; give 0, 1"),
        ({"lag": 1.0}, ModelError, "lag = 1.0; give 0, 1"),
        ({"initial_wealth": 0.0}, ModelError, "initial_wealth = 0.0; give a positive"),
        ({"initial_wealth": np.inf}, ModelError, "initial_wealth = inf"),
        ({"start": "2020-03-23"}, DataError, "leave 2 of the rows .* at least 3 are needed"),
        ({"end": "2019-01-01"}, DataError, "end = 2019-01-01 leave 0 of the rows 2020-01-01"),
        ({"transaction_cost": 0.5}, DataError, "the buy cost 0.5 lies outside"),
    ],
)
def test_bad_arguments_are_rejected_in_words(market, options, error, words):
    with pytest.raises(error, match=words):
        run(market, HoldCash(), **options)
    assert run(market, HoldCash()).lag == 1


@pytest.mark.parametrize(
    ("strategies", "words"),
    [
        ({}, "strategies is empty"),
        ({7203: EqualWeight()}, r"strategies name 7203: must be text; give str\(7203\)"),
        ({"s": EqualWeight}, r"strategies\['s'\] = .* must be an object with decide"),
        ({"s": "1/N"}, r"strategies\['s'\] = '1/N'"),
    ],
)
def test_what_is_no_strategy_is_rejected(market, strategies, words):
    with pytest.raises(ModelError, match=words):
        backtest(market, strategies, start="2020-01-13", transaction_cost=0.0)


def test_a_failing_strategy_is_named_with_its_date(market):
    plan = Plan({"gold": 0.5}, {"gold": 1.5})
    with pytest.raises(ModelError, match=r"the weights sum to 1\.5; ") as caught:
        run(market, plan, start="2020-01-13")
    assert caught.value.__notes__ == ["(strategy 's', 2020-01-14)"]
    assert run(market, HoldCash()).wealth.shape == (60, 1)
