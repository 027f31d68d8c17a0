"""Figures of a running portfolio against the metrics of the evaluation; alerts; restarts."""

from __future__ import annotations

import json
import logging
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sddp.backtest.trading.events import (
    PortfolioOptimized,
    RebalanceInstructionIssued,
    TradeExecuted,
    TradingHalted,
    TradingReleased,
    TriggerFired,
    canonical,
    event_of,
)
from sddp.dates import periods_per_year
from sddp.errors import ModelError
from sddp.evaluation import metrics
from sddp.live.alerts import Alert, AlertRule, Alerts, JsonLines
from sddp.live.analytics import Analytics
from sddp.live.observers import ProcessedRow
from sddp.market.market import Market
from sddp.simulation import volatility_contributions

N, ASSETS = 120, ["coin", "land"]


@pytest.fixture(scope="module")
def market():
    rng = np.random.default_rng(4)
    dates = pd.bdate_range("2021-01-04", periods=N)
    returns = rng.normal(0.0005, [0.03, 0.01], (N, 2))
    prices = pd.DataFrame(100.0 * np.cumprod(1.0 + returns, axis=0), index=dates, columns=ASSETS)
    return Market(prices, cash_rate=0.0001)


def processed(market, weights=(0.2, 0.5, 0.3), events=None):
    """Rows of an account that drifts from its weights; `events` by row."""
    holdings = np.array(weights) * 1_000.0
    for row, date in enumerate(market.dates):
        view = market.at(date)
        if row:
            rates = np.append(view.cash_rate.iloc[-1], view.returns.iloc[-1])
            holdings = holdings * (1.0 + rates)
        account = SimpleNamespace(assets=ASSETS, holdings=holdings.copy(), decision=None)
        told = (events or {}).get(row, lambda date: [])(date)
        yield ProcessedRow(account, view, told, seconds=0.001 * (1 + row % 10))


def test_figures_are_those_of_the_evaluation(market):
    """On the last 60 returns, to 1e-12; contributions add up to the volatility of the weights."""
    analytics = Analytics(window=60, groups={"coin": "digital", "land": "real"})
    wealth = []
    for done in processed(market):
        (figures,) = analytics.observe(done)
        wealth.append(done.account.holdings.sum())
    view = market.at(market.dates[-1])
    own = np.diff(wealth)[-60:] / np.array(wealth)[-61:-1]
    cash = view.cash_rate.to_numpy()[-60:]
    equal = view.returns.to_numpy()[-60:].mean(axis=1)
    pace = periods_per_year(pd.DatetimeIndex(view.returns.index[-60:]))
    wanted = {
        "sharpe": metrics.sharpe_ratio(own, cash, pace),
        "sortino": metrics.sortino_ratio(own, pace),
        "beta": metrics.beta(own, equal, cash),
        "tracking_error": metrics.tracking_error(own, equal, pace),
        "volatility": metrics.volatility(own, pace),
        "drawdown": -metrics.drawdowns(pd.Series(wealth)).iloc[-1],
        "wealth": wealth[-1],
    }
    for name, value in wanted.items():
        assert getattr(figures, name) == pytest.approx(value, rel=1e-12, abs=1e-12), name
    held = pd.Series({k: figures.weights[k] for k in ASSETS})
    whole = volatility_contributions(held, pace * view.returns.iloc[-60:].cov())["contribution"]
    np.testing.assert_allclose(list(figures.contributions.values()), whole, rtol=1e-12)
    assert figures.group_contributions == pytest.approx(
        {"digital": whole["coin"], "real": whole["land"]}
    )
    assert math.fsum(figures.weights.values()) == pytest.approx(1.0)
    assert figures.run_time["max"] == 0.01


def order(date):
    instruction = {"identifier": "a", "legs": {"coin": 50.0, "land": -50.0}}
    return [
        TriggerFired(time=date, trigger="Drift", reason="away", figures={}),
        PortfolioOptimized(
            time=date,
            optimizer="MeanVariance",
            constraint_set=None,
            weights=None,
            reasons=(),
            iterations=7,
        ),
        RebalanceInstructionIssued(time=date, instruction=instruction),
    ]


def fill(date):
    trades, costs = {"coin": 50.0, "land": -50.0}, {"coin": 0.5, "land": 0.25}
    return [TradeExecuted(time=date, identifier="a", trades=trades, costs=costs, complete=True)]


def test_slippage_settlement_costs_and_counts(market):
    """Bought at a price that has moved by m, 1 - 1 / (1 + m) of the money is slippage."""
    analytics = Analytics()
    events = {
        10: order,
        12: fill,
        20: lambda date: [TradingHalted(time=date, reason="too wild", figures={})],
        30: lambda date: [TradingReleased(time=date, by="Ada", reason="calm again")],
    }
    found = [analytics.observe(done)[0] for done in processed(market, events=events)]
    prices = market.at(market.dates[-1]).prices.to_numpy()
    moved = prices[12] / prices[10] - 1.0
    slipped = 50.0 * (1 - 1 / (1 + moved[0])) - 50.0 * (1 - 1 / (1 + moved[1]))
    assert found[-1].slippage == pytest.approx(1e4 * slipped / 100.0, rel=1e-9)
    assert math.isnan(found[11].slippage)
    assert found[-1].settlement == 2.0
    assert found[-1].cost == 0.75
    assert found[-1].triggers == {"Drift": 1}
    assert found[-1].iterations == {"p50": 7.0, "p95": 7.0, "max": 7.0}
    assert [bool(figures.halted) for figures in (found[19], found[20], found[29])] == [0, 1, 1]
    assert not found[30].halted


def test_a_restart_goes_on_to_the_same_bits(market):
    rows = list(processed(market, events={10: order, 12: fill}))
    through, first, second = (Analytics(window=30) for _ in range(3))
    texts = [canonical(e) for done in rows for e in through.observe(done)]
    before = [canonical(e) for done in rows[:11] for e in first.observe(done)]
    second.restore(json.loads(json.dumps(first.state())))
    after = [canonical(e) for done in rows[11:] for e in second.observe(done)]
    assert before + after == texts
    assert canonical(event_of(texts[-1])) == texts[-1]


def test_only_every_so_many_rows_answer_but_all_count(market):
    often, seldom = Analytics(), Analytics(every=7)
    answers = {}
    for done in processed(market):
        (figures,) = often.observe(done)
        for rare in seldom.observe(done):
            answers[rare.row] = canonical(rare) == canonical(figures)
    assert list(answers) == list(range(7, N + 1, 7))
    assert all(answers.values())


def test_quotes_that_are_missing_are_counted():
    dates = pd.bdate_range("2021-01-04", periods=5)
    prices = pd.DataFrame({"coin": [1.0, np.nan, np.nan, 2.0, 2.0], "land": 1.0}, index=dates)
    analytics = Analytics()
    market = Market(prices, missing="carry")
    found = [analytics.observe(done)[0].stale for done in processed(market)]
    assert found == [{}, {"coin": 1}, {"coin": 2}, {}, {}]


def test_an_alert_is_raised_once_and_ends_once(market, caplog):
    """With a margin it stands until the figure is well inside of its limit."""
    analytics = Analytics(window=20)
    rule = AlertRule(name="fall", figure="drawdown", above=0.03, margin=0.01)
    alerts = Alerts(analytics, [rule])
    raised, falls = [], []
    with caplog.at_level(logging.INFO, "sddp.live.alerts"):
        for done in processed(market, weights=(0.0, 0.0, 1.0)):
            (figures,) = analytics.observe(done)
            falls.append(figures.drawdown)
            raised += [(figures.row, alert.raised) for alert in alerts.observe(done)]
    standing, wanted = False, []
    for row, depth in enumerate(falls, start=1):
        if (not standing and depth > 0.03) or (standing and depth <= 0.02):
            standing = not standing
            wanted.append((row, standing))
    assert len(wanted) > 1
    assert raised == wanted
    assert len(caplog.records) == len(wanted)
    line = json.loads(JsonLines().format(caplog.records[0]))
    assert line["rule"] == "fall"
    assert line["level"] == "WARNING"
    assert Alert.topic == "alerts"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Analytics(window=1),
        lambda: Analytics(rows_per_year=0.0),
        lambda: AlertRule(name="x", figure="nothing", above=1.0),
        lambda: AlertRule(name="x", figure="wealth"),
        lambda: AlertRule(name="x", figure="wealth", above=1.0, below=0.0),
        lambda: Alerts(Analytics(), [AlertRule(name="x", figure="wealth", above=1.0)] * 2),
    ],
)
def test_bad_input_is_named(make):
    with pytest.raises(ModelError):
        make()
