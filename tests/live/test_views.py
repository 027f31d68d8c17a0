"""Views that arrive while a portfolio runs: decided with, expired, withdrawn, kept on restarts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sddp.backtest import ClassFrequency, EveryPeriods, OneStageStrategy, Signal, TransactionCosts
from sddp.backtest.trading import Envelope
from sddp.backtest.trading.account import Account, Rules
from sddp.estimation import WindowForecaster
from sddp.live import InProcessBus, Live, Message, export, replay
from sddp.portfolio import BlackLitterman, InvestorView, MeanVariance
from tests.live.portfolios import ASSETS, START, account, stream

MARKET = dict.fromkeys(ASSETS, 0.3)
VIEW = {
    "kind": "absolute",
    "assets": {"a": 1.0},
    "magnitude": 0.02,
    "horizon": 24.0,
    "confidence": 0.9,
    "issued_at": "2024-01-01",
    "valid_until": "2024-01-04",
    "source": "desk",
}


def black_litterman(*views):
    model = BlackLitterman(
        market_weights=MARKET, views=views, optimizer=MeanVariance(risk_aversion=20.0)
    )
    return OneStageStrategy(model, WindowForecaster(24))


def portfolio(strategy, trigger=None):
    costs = TransactionCosts(np.full(3, 0.001), np.full(3, 0.001))
    return Account(strategy, ASSETS, Rules(costs, 1, 1.0, trigger or EveryPeriods(2)))


def run(live, messages, rows):
    """Weights decided, by row, and all events."""
    decided, events = {}, []
    for number, row in enumerate(rows):
        for envelope in messages.get(number, ()):
            live.receive(envelope)
        found = live.take(row)
        events += found
        for event in found:
            if type(event).__name__ == "PortfolioOptimized":
                decided[number] = np.array(list(event.weights.values()))
    return decided, events


def told(views, nonce="n1", **more):
    return Envelope("ai.bl_views", {"views": list(views), **more}, nonce)


def test_a_view_that_arrives_is_decided_with_until_it_expires():
    rows = stream(120)
    plain, _ = run(Live(portfolio(black_litterman()), start=START), {}, rows)
    always = InvestorView(**VIEW)
    known, _ = run(Live(portfolio(black_litterman(always)), start=START), {}, rows)
    found, events = run(Live(portfolio(black_litterman()), start=START), {60: [told([VIEW])]}, rows)
    assert sum(type(e).__name__ == "ViewsReceived" for e in events) == 1
    # Two days of the view; weights after them depend on the holdings, and so on the days before.
    assert max(i for i in found if i < 60) == 58
    assert np.array_equal(found[58], plain[58])
    assert found[62][1] > plain[62][1] + 0.1
    assert found[62] == pytest.approx(known[62], abs=0.01)
    late = [i for i in found if rows[i].time.day == 5]
    assert late
    assert all(np.abs(found[i] - plain[i]).max() < 0.02 for i in late[1:])


def test_views_of_a_source_are_replaced_and_withdrawn():
    other = {**VIEW, "source": "model", "assets": {"b": 1.0}}
    live = Live(portfolio(black_litterman()), start=START)
    messages = {
        50: [told([VIEW, other], "n1")],
        52: [told([{**VIEW, "magnitude": 0.01}], "n2", market_weights={**MARKET, "c": 0.4})],
        54: [told([], "n3", source="desk")],
    }
    rows = stream(60)
    held = []
    for number, row in enumerate(rows):
        for envelope in messages.get(number, ()):
            live.receive(envelope)
        live.take(row)
        held.append([(v.source, v.magnitude) for v in live.account.strategy.optimizer.views])
    assert held[50] == [("desk", 0.02), ("model", 0.02)]
    assert held[52] == [("model", 0.02), ("desk", 0.01)]
    assert held[54] == [("model", 0.02)]
    assert live.account.strategy.optimizer.market_weights["c"] == 0.4


def test_views_are_kept_through_a_restart_and_in_the_log(tmp_path):
    other = {**VIEW, "source": "model", "assets": {"b": 1.0, "c": -1.0}, "kind": "relative"}
    messages = {50: [told([VIEW, other], "n1")], 55: [told([VIEW], "n2", market_weights=MARKET)]}
    rows = stream(80)

    def fresh(state=None):
        return Live(portfolio(black_litterman()), start=START, state=state)

    whole, events = run(fresh(), messages, rows)
    parts = {}
    for start, stop in ((0, 52), (52, 56), (56, 80)):
        live = fresh(tmp_path / "state.db")
        moved = {k - start: v for k, v in messages.items() if start <= k < stop}
        decided, _ = run(live, moved, rows[start:stop])
        parts |= {start + k: v for k, v in decided.items()}
        live.close()
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[i], parts[i]) for i in whole)
    export(tmp_path / "state.db", tmp_path / "log.jsonl")
    assert replay(tmp_path / "log.jsonl", fresh()) == len(events)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"views": [{**VIEW, "assets": {"gold": 1.0}}]}, "'gold' is unknown"),
        ({"views": [{**VIEW, "confidence": 2.0}]}, "confidence=2.0"),
        ({"views": [{"kind": "absolute"}]}, "TypeError"),
        ({"views": 3}, "TypeError"),
        ({"views": [], "market_weights": {"a": 1.0}}, "market_weights"),
    ],
)
def test_what_is_no_view_is_rejected_and_changes_nothing(payload, words):
    live = Live(portfolio(black_litterman(InvestorView(**VIEW))), start=START)
    events = run(live, {50: [Envelope("ai.bl_views", payload, "n1")]}, stream(53))[1]
    (rejected,) = [e for e in events if type(e).__name__ == "MessageRejected"]
    assert words in rejected.reason
    assert live.account.strategy.optimizer.views == (InvestorView(**VIEW),)


def test_a_strategy_without_views_rejects_them():
    for strategy in (None, OneStageStrategy(MeanVariance(risk_aversion=5.0), WindowForecaster(24))):
        events = run(Live(account(strategy), start=START), {50: [told([VIEW])]}, stream(53))[1]
        (rejected,) = [e for e in events if type(e).__name__ == "MessageRejected"]
        assert "BlackLitterman" in rejected.reason


def test_views_from_the_bus_fire_a_trigger_that_waits_for_them():
    bus = InProcessBus()
    strategy, trigger = black_litterman(), Signal("ai.bl_views")
    live = Live(portfolio(strategy, trigger), start=START, bus=bus)
    fired = []
    for number, row in enumerate(stream(70)):
        if number == 60:
            body = json.dumps({"payload": {"views": [VIEW]}})
            bus.publish([Message("ai.bl_views", "m1", body)])
        live.poll()
        fired += [number for e in live.take(row) if type(e).__name__ == "TriggerFired"]
    assert fired == [48, 60]


def test_what_is_held_fixed_is_held_beside_views():
    """Before, an optimizer with views could not hold an asset fixed."""
    classes = ClassFrequency({"x": "hourly", "y": "weekly"}, {"a": "x", "b": "x", "c": "y"})
    live = Live(portfolio(black_litterman(), classes), start=START)
    _, events = run(live, {50: [told([VIEW])]}, stream(70))
    trades = [e.trades for e in events if type(e).__name__ == "TradeExecuted"]
    assert "c" in trades[0]
    assert len(trades) > 5
    assert all("c" not in later for later in trades[1:])
