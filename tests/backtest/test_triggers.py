"""Triggers, each on a path by hand with known firings."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import (
    Calendar,
    CircuitBreaker,
    ClassFrequency,
    ConstraintBreached,
    Decision,
    Drift,
    EqualWeight,
    EveryPeriods,
    MinimumTrade,
    OneStageStrategy,
    RiskSpike,
    Signal,
    UtilityGain,
    backtest,
)
from sddp.backtest.trading import Envelope
from sddp.backtest.trading.decisions import Proposal, Question
from sddp.backtest.trading.events import (
    ConstraintBreached as BreachEvent,
)
from sddp.backtest.trading.events import (
    MessageRejected,
    TradeExecuted,
    TradingHalted,
    TradingReleased,
    TriggerFired,
)
from sddp.errors import ModelError
from sddp.estimation import WindowForecaster
from sddp.labels import CASH
from sddp.market import Market
from sddp.portfolio import ConstraintSet, GroupLimit, MeanVariance, TrackingError, Turnover

pytest.importorskip("apscheduler", reason="calendars need the extra live")

HOURS = pd.date_range("2024-01-01", periods=24 * 15, freq="h").append(
    pd.DatetimeIndex(["2024-02-01 00:00"])
)


def flat_market(dates, n_assets=2, **options) -> Market:
    return Market(pd.DataFrame(100.0, dates, columns=list("abcd")[:n_assets]), **options)


def moving_market(n_rows=80, n_assets=4, seed=3, freq="B", **options) -> Market:
    rng = np.random.default_rng(seed)
    dates = pd.date_range("2020-01-01", periods=n_rows, freq=freq)
    steps = rng.normal(4e-4, 0.015, (n_rows, n_assets)).cumsum(axis=0)
    return Market(
        pd.DataFrame(100 * np.exp(steps), dates, columns=list("abcd")[:n_assets]), **options
    )


def question_of(market, date, weights=None, last=None, row=1, **more) -> Question:
    view = market.at(date)
    names = [CASH, *view.assets]
    held = pd.Series(weights or {}, dtype=float).reindex(names, fill_value=0.0)
    held[CASH] = 1.0 - held[1:].sum()
    target = None if last is None else pd.Series(last, dtype=float).reindex(names, fill_value=0.0)
    if target is not None:
        target[CASH] = 1.0 - target[1:].sum()
    decision = Decision(market.dates[0], target)
    return Question(view, row, list(view.assets), 1000.0 * held.to_numpy(), decision, **more)


def firings(trigger, market, dates, **more) -> list:
    """Rows on which a trigger fires; its state goes through JSON between two rows."""
    state, found = None, []
    for row, date in enumerate(dates):
        question = question_of(market, date, row=row, **more)
        fired, state = trigger.fires(question, state)
        state = json.loads(json.dumps(state))
        if fired is not None:
            found.append(date)
    return found


def optimizing(**options) -> OneStageStrategy:
    settings = {"risk_aversion": 60.0, "transaction_cost": 0.002} | options
    return OneStageStrategy(MeanVariance(**settings), WindowForecaster(30))


OPTIONS = {"start": "2020-03-02", "transaction_cost": 0.002, "keep_events": True}


def events_of(result, kind) -> list:
    return [e for e in result.events["s"] if isinstance(e, kind)]


# --- the calendar ---


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("0 0 1 * *", ["2024-02-01 00:00"]),
        ("30 9 * 1 0", ["2024-01-07 10:00", "2024-01-14 10:00"]),
        ("0 9 * 1 7", ["2024-01-07 09:00", "2024-01-14 09:00"]),
        ("0 9 * 1 1", ["2024-01-01 09:00", "2024-01-08 09:00", "2024-01-15 09:00"]),
        ("0 9 * 1 fri-sat", ["2024-01-05 09:00", "2024-01-06 09:00", "2024-01-12 09:00"]),
        ("0 9 * 1 5-7", ["2024-01-05 09:00", "2024-01-06 09:00", "2024-01-07 09:00"]),
        ("0 0 * * */3", ["2024-01-03 00:00", "2024-01-06 00:00", "2024-01-07 00:00"]),
        # Where both days are restricted, either one counts.
        ("0 12 3 1 1", ["2024-01-01 12:00", "2024-01-03 12:00", "2024-01-08 12:00"]),
        ("15 */12 2-3 1 *", ["2024-01-02 01:00", "2024-01-02 13:00", "2024-01-03 01:00"]),
    ],
)
def test_a_calendar_fires_on_the_first_row_at_or_after_each_time(words, expected):
    found = firings(Calendar(words), flat_market(HOURS), HOURS)
    assert found[: len(expected)] == [pd.Timestamp(time) for time in expected]


def test_weekday_numbers_are_those_of_cron():
    """1 January 2023 was a Sunday, and so was every seventh day after it."""
    start = pd.Timestamp("2022-12-31 12:00")
    for number, day in enumerate(("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")):
        assert Calendar(f"0 0 * * {number}").after(start).strftime("%a") == day


def test_times_that_pass_between_two_rows_are_one_firing():
    rows = pd.DatetimeIndex(["2024-01-01", "2024-01-01 12:00", "2024-01-09", "2024-01-09 06:00"])
    assert firings(Calendar("0 0 * * *"), flat_market(rows), rows) == [rows[2]]


def test_the_time_zone_of_the_words_counts():
    """Midnight in New York is 5:00 in UTC in winter and 4:00 in summer."""
    trigger = Calendar("0 0 * * *", zone="America/New_York")
    assert trigger.after(pd.Timestamp("2024-01-15 03:00", tz="UTC")).hour == 5
    assert trigger.after(pd.Timestamp("2024-07-15 02:00", tz="UTC")).hour == 4
    # A time without a zone is local time of the zone: the day after, at midnight there.
    assert trigger.after(pd.Timestamp("2024-01-15 03:00")) == pd.Timestamp("2024-01-16 05:00+00:00")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("0 0 31 2 *", "never occur"),
        ("0 0 1 *", "must be five words"),
        ("0 0 * * 8", "the day of the week '8'"),
        ("0 0 * * sat-mon", "the day of the week 'sat-mon'"),
        ("61 0 * * *", "61 0"),
        ("0 0 * * */0", "the day of the week"),
    ],
)
def test_words_that_are_no_cron_line_are_an_error(words, match):
    with pytest.raises(ModelError, match=match):
        Calendar(words)
    with pytest.raises(ModelError, match="zone='Nowhere'"):
        Calendar("0 0 * * *", zone="Nowhere")


# --- drift, risk, signals, constraints ---


def test_drift_from_the_last_target():
    market = moving_market()
    date, target = market.dates[5], {"a": 0.5, "b": 0.1}

    def fires(trigger, **weights):
        return trigger.fires(question_of(market, date, weights, target), None)[0]

    assert fires(Drift(absolute=0.05), a=0.54, b=0.1) is None
    assert fires(Drift(absolute=0.05), a=0.56, b=0.1).figures["absolute"] == pytest.approx(0.06)
    # Cash counts: 0.04 less of it, though each asset is within 0.03.
    assert fires(Drift(absolute=0.03), a=0.52, b=0.12).figures["absolute"] == pytest.approx(0.04)
    assert fires(Drift(relative=0.25), a=0.5, b=0.124) is None
    assert fires(Drift(relative=0.25), a=0.5, b=0.13).figures["relative"] == pytest.approx(0.3)
    # A decision to trade nothing leaves the target before it.
    trigger = Drift(absolute=0.05)
    _, state = trigger.fires(question_of(market, date, {"a": 0.5, "b": 0.1}, target), None)
    assert trigger.fires(question_of(market, date, {"a": 0.6, "b": 0.1}), state)[0] is not None


def test_a_backtest_trades_back_where_the_drift_is_too_large():
    market = moving_market()
    found = backtest(market, {"s": EqualWeight()}, rebalance=Drift(absolute=0.01), **OPTIONS)
    ledger = found.ledger("s")
    fired = [e.time for e in events_of(found, TriggerFired)]
    off = (ledger.weights.iloc[:, 1:] - 0.25).abs().max(axis=1)
    off = np.maximum(off, ledger.weights["cash"].abs())
    # After the row's trades: the orders of the last decision are then executed.
    expected = off[off > 0.01].index
    assert fired == [ledger.weights.index[0], *expected[(expected > fired[0])][: len(fired) - 1]]
    assert len(fired) > 3


def test_a_spike_of_volatility_by_hand():
    """Returns of +-0.5 % a day for 30 rows, then of +-3 %: 8 % and 50 % a year."""
    dates = pd.bdate_range("2021-01-04", periods=61)
    sizes = np.repeat([0.0, 0.005, 0.03], [1, 30, 30])
    returns = sizes * np.where(np.arange(61) % 2 == 0, 1.0, -1.0)
    market = Market(pd.DataFrame({"a": 100 * np.cumprod(1 + returns)}, dates))
    trigger = RiskSpike(volatility=0.2, window=10)
    found = firings(trigger, market, dates, weights={"a": 1.0})
    known = pd.Series(returns, dates)
    yearly = np.sqrt(
        [
            known[max(1, i - 9) : i + 1].var()
            * (min(i, 10))
            / ((dates[i] - dates[max(i - 10, 0)]).days / 365.25)
            if i > 1
            else 0.0
            for i in range(61)
        ]
    )
    assert found == list(dates[yearly > 0.2])
    assert found[0] == dates[32]  # two returns of 3 % among ten
    assert firings(trigger, market, dates, weights={"a": 0.2}) == []


def test_a_spike_of_the_index():
    index = pd.Series([20.0, 25.0, 25.1, 40.0, 24.0], pd.bdate_range("2021-01-04", periods=5))
    market = flat_market(index.index, volatility_index=index)
    assert firings(RiskSpike(index=25), market, index.index) == list(index.index[2:4])
    with pytest.raises(ModelError, match="needs the market's volatility index"):
        firings(RiskSpike(index=25), flat_market(index.index), index.index)


def test_a_signal_fires_once_on_the_first_row_at_or_after_it():
    market = moving_market()
    dates = market.dates[market.dates >= OPTIONS["start"]]
    sent = [
        (dates[5] + pd.Timedelta(hours=1), Envelope("ai.rebalance", {"strength": 1}, "n1")),
        (dates[9], Envelope("ai.rebalance", {}, "n2")),
        (dates[9], Envelope("ai.rebalance", {}, "n3")),
        (dates[12], Envelope("another", {}, "n4")),
    ]
    found = backtest(market, {"s": EqualWeight()}, rebalance=Signal(), messages=sent, **OPTIONS)
    fired = events_of(found, TriggerFired)
    assert [e.time for e in fired] == [dates[0], dates[6], dates[9]]
    assert fired[2].reason == "ai.rebalance: n2, n3"


def test_a_breached_constraint_fires_with_its_event():
    limits = ConstraintSet(
        (
            GroupLimit(name="two", assets=("a", "b"), upper=0.6),
            Turnover(name="calm", limit=0.1),
        ),
        version="1.4.0",
    )
    market = moving_market()
    trigger = ConstraintBreached(limits)
    inside = question_of(market, market.dates[5], {"a": 0.3, "b": 0.3})
    assert trigger.fires(inside, None)[0] is None
    outside = question_of(market, market.dates[5], {"a": 0.4, "b": 0.3})
    fired, _ = trigger.fires(outside, None)
    assert fired.figures["two"] == pytest.approx(0.1)
    [(version, breach)] = fired.breaches
    assert (version, breach.name) == ("1.4.0", "two")
    strategy = EqualWeight()
    tight = ConstraintSet((GroupLimit(name="two", assets=("a", "b"), upper=0.49),), "1.5.0")
    found = backtest(market, {"s": strategy}, rebalance=ConstraintBreached(tight), **OPTIONS)
    [first, *_] = events_of(found, BreachEvent)
    assert (first.constraint, first.constraint_set) == ("two", "1.5.0")


def test_a_tracking_error_needs_a_window():
    off = TrackingError(name="near", benchmark={"a": 1.0}, limit=0.01, periods_per_year=252.0)
    limits = ConstraintSet((off,))
    market = moving_market()
    question = question_of(market, market.dates[70], {"a": 0.5})
    with pytest.raises(ModelError, match="covariance=None"):
        ConstraintBreached(limits).fires(question, None)
    fired, _ = ConstraintBreached(limits, window=60).fires(question, None)
    returns = market.at(market.dates[70]).returns["a"].iloc[-60:]
    expected = 0.5 * returns.std() * np.sqrt(252.0) - 0.01
    assert fired.figures["near"] == pytest.approx(expected, rel=1e-9)


# --- combinations ---


def test_combinations_fire_where_both_one_or_none_do():
    market = flat_market(HOURS)
    six, monday = Calendar("0 */6 * * *"), Calendar("0 * * * 1")
    hours = HOURS[: 24 * 8]
    one, other = (set(firings(t, market, hours)) for t in (six, monday))
    assert set(firings(six & monday, market, hours)) == one & other
    assert set(firings(six | monday, market, hours)) == one | other
    assert set(firings(~six, market, hours)) == set(hours) - one
    assert set(firings(~(six | monday), market, hours)) == set(hours) - one - other
    assert one & other
    assert (one | other) != set(hours)


def test_a_combination_says_which_triggers_fired():
    market = moving_market()
    both = EveryPeriods(5) & ~Drift(absolute=0.5)
    found = backtest(market, {"s": EqualWeight()}, rebalance=both, **OPTIONS)
    event = events_of(found, TriggerFired)[1]
    parts = "EveryPeriods(n_periods=5) & Not(trigger=Drift(absolute=0.5, relative=None))"
    assert event.trigger == parts
    assert event.reason.startswith("5 rows since the last decision and not Drift")


# --- trades and their worth ---


def trades_of(result) -> np.ndarray:
    """Trades as fractions of wealth, row by row."""
    ledger = result.ledger("s")
    return ledger.executed.to_numpy() / ledger.wealth.to_numpy()[:, None]


def test_small_trades_are_dropped_and_the_rest_decided_again():
    """At a lag of 0 every trade is the one decided: none but the first is below 1 %."""
    market = moving_market()
    options = OPTIONS | {"lag": 0, "transaction_cost": 0.0}
    strategy = optimizing(transaction_cost=0.0)
    trigger = EveryPeriods(1) & MinimumTrade(0.01)
    found = backtest(market, {"s": strategy}, rebalance=trigger, **options)
    free = backtest(market, {"s": strategy}, **options)
    sizes = np.abs(trades_of(found)[1:])
    assert sizes[sizes > 0.0].min() >= 0.01
    assert (sizes == 0.0).any(axis=1).any()
    assert ((np.abs(trades_of(free)) > 1e-6) & (np.abs(trades_of(free)) < 0.01)).any()
    # On a row where some are dropped, the rest is the optimum beside what is held.
    ledger = found.ledger("s")
    row = next(i for i, s in enumerate(sizes, 1) if (s > 0).any() and (s == 0).any())
    view = market.at(ledger.wealth.index[row])
    before = ledger.holdings_before.iloc[row]
    still = frozenset(np.array(list(view.assets))[sizes[row - 1] == 0.0])
    asked = optimizing(transaction_cost=0.0).decide_fixed(view, before, still)
    after = ledger.holdings_after.iloc[row]
    assert (after / after.sum()).to_numpy() == pytest.approx(asked.to_numpy(), abs=1e-9)


def test_what_becomes_small_beside_what_is_held_is_dropped_too():
    """The rest is decided again until no trade is small: here twice."""
    market = moving_market()
    answers = {"abcd": [50.0, -30.0, 20.0, 5.0], "abc": [60.0, -30.0, 8.0, 0.0]}
    answers["ab"] = [70.0, -30.0, 0.0, 0.0]
    asked = []

    def propose(free):
        asked.append("".join(sorted(free)))
        trades = np.array(answers[asked[-1]])
        fixed = np.array([name not in free for name in "abcd"])
        return Proposal(None, fixed, trades, 0.0, 1000.0, None, 0.0)

    question = question_of(market, market.dates[60], {"a": 0.5, "b": 0.5}, propose=propose)
    fired, _ = MinimumTrade(0.01).fires(question, None)
    assert asked == ["abcd", "abc", "ab"]
    assert fired.tradable == frozenset("ab")
    assert fired.figures == {"smallest": 0.03, "held_fixed": 2.0}


def test_what_gains_less_than_it_costs_is_not_traded():
    """Utilities from the ledger: no trade at a loss, whatever the optimizer believes of costs."""
    market = moving_market()
    options = OPTIONS | {"lag": 0, "transaction_cost": 0.004}
    blind = optimizing(transaction_cost=0.0)
    found = backtest(market, {"s": blind}, rebalance=UtilityGain(horizon=20), **options)
    ledger = found.ledger("s")
    traded = np.flatnonzero(ledger.executed.abs().sum(axis=1).to_numpy() > 0.0)[1:]
    assert 0 < len(traded) < len(ledger.wealth) - 5
    for row in traded:
        forecast = WindowForecaster(30).forecast(market.at(ledger.wealth.index[row]))
        mean, cov = forecast.moments.mean.to_numpy(), forecast.moments.covariance.to_numpy()
        before, after = (
            h.iloc[row].to_numpy()[1:] / ledger.wealth.iloc[row]
            for h in (ledger.holdings_before, ledger.holdings_after)
        )
        gain = mean @ (after - before) - 30.0 * (after @ cov @ after - before @ cov @ before)
        cost = ledger.costs.iloc[row].sum() / ledger.wealth.iloc[row]
        assert 20 * gain >= cost * (1 - 1e-9)


def test_the_first_trade_is_made_and_a_dear_one_is_not():
    market = moving_market()
    strategy = optimizing(transaction_cost=0.0)
    dear = UtilityGain(at_least=1e6)
    found = backtest(market, {"s": strategy}, rebalance=dear, **OPTIONS)
    assert len(found.ledger("s").decisions) == 1
    with pytest.raises(ModelError, match="states no expected utility"):
        backtest(market, {"s": EqualWeight()}, rebalance=UtilityGain(), **OPTIONS)


def test_the_strategy_is_asked_only_where_the_cheap_trigger_fires():
    market = moving_market()
    strategy = optimizing()
    mondays = Calendar("0 0 * * 1")
    for trigger in (mondays & UtilityGain(), UtilityGain() & mondays):
        found = backtest(market, {"s": strategy}, rebalance=trigger, **OPTIONS)
        asked = [note["date"] for note in found.strategies["s"].decision_log]
        assert {date.strftime("%a") for date in asked[1:]} == {"Mon"}
        assert set(found.ledger("s").decisions.index) <= set(asked)


# --- classes of assets ---

WORDS = {"digital": "hourly", "real_world": "weekly unless volatility > 20 %"}
CLASSES = {"a": "digital", "b": "digital", "c": "real_world", "d": "real_world"}


@pytest.mark.parametrize("strategy", [EqualWeight(), optimizing()], ids=["equal", "optimized"])
@pytest.mark.parametrize("lag", [0, 1])
def test_a_class_that_may_not_trade_is_held_fixed_exactly(strategy, lag):
    market = moving_market(160, freq="h")
    # Four assets of 1.5 % an hour each: the volatility a year is far above 20 %.
    calm = ClassFrequency(WORDS | {"real_world": "weekly"}, CLASSES)
    options = {"start": market.dates[40], "transaction_cost": 0.002, "lag": lag}
    found = backtest(market, {"s": strategy}, rebalance=calm, **options)
    executed = found.ledger("s").executed
    mondays = (executed.index.day_of_week == 0) & (executed.index.hour == lag)
    mondays[: lag + 1] = True  # the first decision is about all
    assert (executed.loc[~mondays, ["c", "d"]] == 0.0).all(axis=None)
    assert (executed.loc[~mondays, ["a", "b"]] != 0.0).any(axis=1).mean() > 0.5
    assert (executed.loc[mondays, ["c", "d"]] != 0.0).any(axis=None)
    assert found.ledger("s").imbalance().max() < 1e-12
    wild = backtest(market, {"s": strategy}, rebalance=ClassFrequency(WORDS, CLASSES), **options)
    assert (wild.ledger("s").executed.loc[~mondays, ["c", "d"]] != 0.0).any(axis=1).mean() > 0.3


def test_an_optimizer_decides_beside_what_is_held_fixed():
    """Another solver's answer: the free weights are the best among many at random."""
    market = moving_market()
    view = market.at(market.dates[60])
    held = pd.Series([0.1, 0.2, 0.3, 0.3, 0.1], [CASH, *"abcd"])
    strategy = optimizing(transaction_cost=0.0)
    weights = strategy.decide_fixed(view, 1000 * held, frozenset("cd"))
    assert weights[["c", "d"]].to_numpy() == pytest.approx([0.3, 0.1], abs=1e-12)
    moments = WindowForecaster(30).forecast(view).moments
    mean, cov = moments.mean.to_numpy(), moments.covariance.to_numpy()

    def utility(w):
        return mean @ w - 30.0 * w @ cov @ w

    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 4000)[:, :2] * 0.6
    others = max(utility(np.array([a, b, 0.3, 0.1])) for a, b in shares)
    assert utility(weights.to_numpy()[1:]) >= others - 1e-12


@pytest.mark.parametrize(
    ("frequencies", "classes", "match"),
    [
        ({"x": "sometimes"}, {"a": "x"}, "must be five words"),
        ({"x": "daily unless volatility > much"}, {"a": "x"}, "must end in a volatility"),
        ({"x": "daily"}, {"a": "y"}, r"classes\['a'\]='y'"),
    ],
)
def test_frequencies_are_checked(frequencies, classes, match):
    with pytest.raises(ModelError, match=match):
        ClassFrequency(frequencies, classes)
    market = moving_market()
    few = ClassFrequency({"x": "daily"}, {"a": "x"})
    with pytest.raises(ModelError, match="classes: lack 'b'"):
        few.fires(question_of(market, market.dates[5]), None)


# --- the breaker ---


def falling_market() -> Market:
    """100, then 20 rows down by 1 % each, then still."""
    dates = pd.bdate_range("2020-01-01", periods=60)
    levels = 100.0 * np.concatenate([np.ones(10), 0.99 ** np.arange(1, 21), np.full(30, 0.99**20)])
    return Market(pd.DataFrame({"a": levels, "b": np.ones(60)}, dates))


def halted(market, breaker, messages=(), **options):
    settings = {"start": market.dates[2], "transaction_cost": 0.0, "lag": 0} | options
    strategy = {"s": EqualWeight()}
    return backtest(
        market, strategy, breaker=breaker, messages=messages, keep_events=True, **settings
    )


def test_a_drawdown_halts_trading_until_a_named_act():
    market = falling_market()
    dates = market.dates
    breaker = CircuitBreaker(drawdown=0.04)
    found = halted(market, breaker)
    # Half of the wealth falls by 1 % a row: 0.5 % a row, above 4 % after nine such rows.
    wealth = found.wealth["s"]
    expected = wealth.index[wealth.to_numpy() / np.maximum.accumulate(wealth) < 0.96][0]
    [halt] = events_of(found, TradingHalted)
    assert halt.time == expected
    assert halt.figures["drawdown"] > 0.04
    after = found.ledger("s").executed.loc[expected:]
    assert (after == 0.0).all(axis=None)
    assert not [e for e in events_of(found, TriggerFired) if e.time >= expected]

    def act(date, nonce, **payload):
        return (date, Envelope("breaker.release", payload, nonce))

    acts = [
        act(dates[32], "n1", by="", reason="again"),
        act(dates[33], "n2", by="A. Name", reason="the fall is over"),
        act(dates[34], "n3", by="A. Name", reason="once more"),
    ]
    found = halted(market, breaker, acts)
    [released] = events_of(found, TradingReleased)
    assert (released.time, released.by) == (dates[33], "A. Name")
    reasons = [e.reason for e in events_of(found, MessageRejected)]
    assert ["by=''" in reasons[0], reasons[1]] == [True, "trading is not halted"]
    assert [e.time for e in events_of(found, TriggerFired)][-1] > dates[33]


def test_a_release_waits_until_volatility_has_fallen():
    market = falling_market()
    breaker = CircuitBreaker(volatility=0.03, window=10, release_at=0.5)
    acts = [
        (date, Envelope("breaker.release", {"by": "A", "reason": "r"}, f"n{i}"))
        for i, date in enumerate(market.dates[25:55])
    ]
    found = halted(market, breaker, acts)
    halts, releases = events_of(found, TradingHalted), events_of(found, TradingReleased)
    assert len(halts) == len(releases) + (len(halts) > len(releases))
    rejected = [e for e in events_of(found, MessageRejected) if "not released" in e.reason]
    assert rejected
    for event in releases:
        past = found.wealth["s"].pct_change().loc[: event.time].iloc[-10:]
        assert past.std() * np.sqrt(260.0) < 0.02


def test_a_halted_account_never_trades_whatever_arrives():
    market = moving_market()
    dates = market.dates
    messages = [
        (date, Envelope(topic, payload, f"{topic} {i}"))
        for i, date in enumerate(dates[50:])
        for topic, payload in (
            ("ai.rebalance", {}),
            ("parameters", {"risk_aversion": 1.0}),
            ("breaker.release", {"by": "", "reason": ""}),
        )
    ]
    everything = Signal() | EveryPeriods(1) | Drift(absolute=1e-6) | Calendar("* * * * *")
    breaker = CircuitBreaker(value_at_risk=1e-6, window=20)
    for lag in (0, 1, 2):
        found = backtest(
            market,
            {"s": optimizing()},
            rebalance=everything,
            breaker=breaker,
            messages=messages,
            **(OPTIONS | {"lag": lag}),
        )
        [halt] = events_of(found, TradingHalted)
        assert not [e for e in events_of(found, TradeExecuted) if e.time >= halt.time]
        assert (found.ledger("s").executed.loc[halt.time :] == 0.0).all(axis=None)


def test_stale_quotes_of_what_is_held_halt_trading():
    dates = pd.bdate_range("2020-01-01", periods=30)
    prices = pd.DataFrame({"a": 1.0, "b": 2.0, "c": 3.0}, dates)
    prices.loc[dates[10:20], "b"] = np.nan
    market = Market(prices, missing="carry")
    found = halted(market, CircuitBreaker(stale=3), rebalance=EveryPeriods(100))
    [halt] = events_of(found, TradingHalted)
    assert (halt.time, halt.figures) == (dates[13], {"stale": 4.0})


def test_value_at_risk_is_the_loss_that_few_rows_exceed():
    market = moving_market(n_assets=1)
    view = market.at(market.dates[70])
    figures = CircuitBreaker(value_at_risk=1.0, window=40, confidence=0.9).figures(
        view, np.array([0.0, 10.0]), None
    )
    losses = np.sort(-view.returns["a"].to_numpy()[-40:])
    assert figures["value_at_risk"] == losses[35]
    assert (losses > losses[35]).sum() == 4


def test_a_breaker_is_checked():
    for given, match in (
        ({}, "give one of the limits"),
        ({"drawdown": -0.1}, "drawdown=-0.1"),
        ({"drawdown": 0.1, "window": 1}, "window=1"),
        ({"drawdown": 0.1, "release_at": 0.0}, "release_at=0.0"),
    ):
        with pytest.raises(ModelError, match=match):
            CircuitBreaker(**given)


# --- all of them ---

SETS = ConstraintSet((GroupLimit(name="two", assets=tuple("abcd"), upper=0.02),), version="1.0.0")
TRIGGERS = {
    "calendar": Calendar("0 0 * * 1"),
    "drift": Drift(absolute=0.001),
    "spike": RiskSpike(volatility=0.02, window=10),
    "signal": Signal(),
    "breach": ConstraintBreached(SETS),
    "class": ClassFrequency({"x": "weekly", "y": "daily"}, dict(zip("abcd", "xxyy", strict=True))),
    "mixed": (Calendar("0 0 1 * *") | Drift(relative=0.1)) & ~RiskSpike(volatility=0.5, window=5),
    "small": EveryPeriods(3) & MinimumTrade(0.02),
    "gain": EveryPeriods(3) & UtilityGain(horizon=5.0),
}


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_window_of_the_lookback_is_enough(name):
    """The answers are the same on all rows and on the rows that the trigger says it reads."""
    market, trigger = moving_market(), TRIGGERS[name]
    messages = [(market.dates[70], Envelope("ai.rebalance", {}, "n"))]
    options = OPTIONS | {"rebalance": trigger, "messages": messages}
    found = backtest(market, {"s": optimizing()}, **options)

    class Whole(type(trigger)):
        lookback = None

    whole = object.__new__(Whole)
    whole.__dict__.update(trigger.__dict__)
    again = backtest(market, {"s": optimizing()}, **(options | {"rebalance": whole}))
    assert found.ledger("s").executed.equals(again.ledger("s").executed)
    assert len(events_of(found, TriggerFired)) > 1


@pytest.mark.long
def test_no_trigger_looks_ahead():
    """Other later rows, the same answers: for each of the triggers together in one run."""
    market = moving_market()
    known = market.dates[60]
    view = market.at(market.dates[-1])
    other = view.prices.copy()
    other.iloc[61:] = other.iloc[61:].to_numpy()[::-1]
    altered = Market(other)
    for trigger in TRIGGERS.values():
        options = OPTIONS | {"rebalance": trigger}
        one, two = (
            backtest(m, {"s": optimizing()}, **options).events["s"] for m in (market, altered)
        )
        pairs = [[replace_seconds(e) for e in told if e.time <= known] for told in (one, two)]
        assert pairs[0] == pairs[1]
        assert all(a.time <= b.time for a, b in pairwise(one))


def replace_seconds(event):
    return replace(event, seconds=0.0) if hasattr(event, "seconds") else event
