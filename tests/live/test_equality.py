"""Live trading does what a backtest of the same rows does, bit for bit, through restarts."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import (
    BuyAndHold,
    Calendar,
    CircuitBreaker,
    ClassFrequency,
    ConstraintBreached,
    Drift,
    DynamicRiskParity,
    Envelope,
    EqualWeight,
    EveryPeriods,
    InverseVolatility,
    MinimumTrade,
    OneStageStrategy,
    RiskSpike,
    Signal,
    UtilityGain,
    backtest,
)
from sddp.backtest.simulator import trading_rules
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.events import canonical
from sddp.estimation import (
    ExponentialDecay,
    IncrementalForecaster,
    RollingWindow,
    WindowForecaster,
)
from sddp.live import Live, RowRejected, RowRepaired, market_rows
from sddp.market import Market
from sddp.portfolio import ConstraintSet, GroupLimit, MeanVariance, RiskBudget
from tests.reference_data import reference_path

CLASSES = {"a": "digital", "b": "digital", "c": "real_world"}
LEAST = ConstraintSet((GroupLimit(name="share of a", assets=("a",), upper=0.35),))

STRATEGIES = {
    "equal": EqualWeight,
    "hold": lambda: BuyAndHold({"a": 0.5, "b": 0.3}),
    "volatility": lambda: InverseVolatility(20),
    "rolling": lambda: OneStageStrategy(
        MeanVariance(risk_aversion=4.0, transaction_cost=0.001),
        IncrementalForecaster(RollingWindow(days=2), rebuild_every=17),
    ),
    "decaying": lambda: OneStageStrategy(
        MeanVariance(risk_aversion=4.0, transaction_cost=0.001),
        IncrementalForecaster(ExponentialDecay(10.0), rebuild_every=17),
    ),
    "window": lambda: OneStageStrategy(
        RiskBudget(transaction_cost=0.001), WindowForecaster(30, refit_every=4)
    ),
    "dynamic": lambda: DynamicRiskParity(RiskBudget(), WindowForecaster(30), band=0.05),
}
# Triggers that ask for the solution of an optimizer, and strategies that have one.
ASKING, SOLVING = ("gain", "minimum"), ("rolling", "decaying")

TRIGGERS = {
    "every": EveryPeriods(3),
    "calendar": Calendar("0 */6 * * *"),
    "drift": Drift(absolute=0.02),
    "spike": RiskSpike(volatility=0.2, index=25.0) & EveryPeriods(2),
    "signal": Signal() | EveryPeriods(20),
    "gain": UtilityGain(at_least=1.0),
    "breach": ConstraintBreached(LEAST),
    "minimum": MinimumTrade(0.01) & EveryPeriods(2),
    "class": ClassFrequency(
        {"digital": "hourly", "real_world": "weekly unless volatility > 20 %"}, CLASSES
    ),
    "not": ~Drift(absolute=0.05) & EveryPeriods(4),
}

MESSAGE = Envelope("ai.rebalance", {"reason": "asked"}, "n1")


def hourly(n_rows=90, seed=11):
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(4, size=(n_rows, 3)) * [0.004, 0.004, 0.001]
    levels = 100.0 * np.exp(np.cumsum(returns, axis=0))
    levels[50:53, 1] = np.nan
    dates = pd.date_range("2024-03-01", periods=n_rows, freq="h")
    index = pd.Series(25.0 + 5.0 * np.sin(np.arange(n_rows)), dates)
    return Market(
        pd.DataFrame(levels, dates, list("abc")),
        cash_rate=pd.Series(rng.uniform(0, 1e-5, n_rows), dates),
        volatility_index=index,
        missing="carry",
    )


def compare(market, start, strategy, trigger, folder, lag=1, breaker=None, cuts=(60, 75)):
    """Events and holdings of a live portfolio, stopped and started at some rows, and a backtest."""
    when = market.dates[start + 8]
    options = {
        "start": market.dates[start],
        "transaction_cost": (0.001, 0.002),
        "lag": lag,
        "rebalance": trigger,
        "breaker": breaker,
    }
    known = backtest(
        market, {"s": strategy}, messages=[(when, MESSAGE)], keep_events=True, **options
    )
    rules, dates = trading_rules(market, end=None, initial_wealth=1.0, **options)
    events, rows = [], list(market_rows(market).rows(0))
    holdings = np.full((len(rows), 1 + len(market.assets)), np.nan)
    bounds = [0, *cuts, len(rows)]
    for begin, stop in itertools.pairwise(bounds):
        account = Account(strategy, market.assets, rules)
        live = Live(account, start=dates[0], state=folder / "state.db")
        assert live.n_rows == begin
        for i in range(begin, stop):
            if rows[i].time == when:
                live.receive(MESSAGE)
            events += live.take(rows[i])
            holdings[i] = account.holdings
        live.close()
    # On its last rows a backtest decides nothing: it would earn nothing.
    last = dates[-(lag + 2)]
    of_rows = (RowRejected, RowRepaired)
    ours = [canonical(e) for e in events if e.time <= last and not isinstance(e, of_rows)]
    theirs = [canonical(e) for e in known.events["s"] if e.time <= last]
    assert ours == theirs
    after = known.ledgers["s"].holdings_after.to_numpy()[: -(lag + 1)]
    assert np.array_equal(holdings[start : len(rows) - lag - 1], after)
    return len(theirs)


def pairs():
    """Every strategy with every trigger; those beyond one of each are slow."""
    names = [(s, t) for s in STRATEGIES for t in TRIGGERS if t not in ASKING or s in SOLVING]
    fast = set(zip(itertools.cycle(SOLVING), TRIGGERS, strict=False))
    fast |= {(strategy, "drift") for strategy in STRATEGIES}
    return [pytest.param(*n, marks=() if n in fast else pytest.mark.slow) for n in names]


@pytest.mark.parametrize(("strategy", "trigger"), pairs())
def test_events_and_holdings_are_those_of_a_backtest(strategy, trigger, tmp_path):
    chosen = STRATEGIES[strategy]()
    assert compare(hourly(), 50, chosen, TRIGGERS[trigger], tmp_path) > 2


@pytest.mark.parametrize("lag", [0, 2])
def test_at_other_lags_and_under_a_breaker(lag, tmp_path):
    breaker = CircuitBreaker(drawdown=0.002)
    strategy = STRATEGIES["rolling"]()
    compare(hourly(), 50, strategy, EveryPeriods(1), tmp_path, lag, breaker)


# Of the real data, what runs with the other tests: the last rows, each kind of trigger once.
FAST = {("rolling", "class"), ("window", "calendar"), ("equal", "drift"), ("decaying", "spike")}


def real_pairs():
    names = [(s, t) for s in STRATEGIES for t in TRIGGERS if t not in ASKING]
    return [pytest.param(*n, marks=() if n in FAST else pytest.mark.slow) for n in names]


@pytest.mark.parametrize(("strategy", "trigger"), real_pairs())
@pytest.mark.parametrize("data", ["digital_rwa", "hourly"])
def test_on_real_data(data, strategy, trigger, tmp_path):
    table = pd.read_csv(reference_path(f"data/{data}/prices.csv"), index_col=0, parse_dates=True)
    fast = (strategy, trigger) in FAST
    table = table.iloc[-160 if fast else -400 :]
    names = {"digital_rwa": ["btc", "paxg", "vnq"], "hourly": ["btc", "paxg", "eur"]}[data]
    prices = table[names].set_axis(list("abc"), axis=1)
    other = {"digital_rwa": {"cash_rate": table.get("tbill"), "volatility_index": table.get("vix")}}
    market = Market(prices, missing="carry", **other.get(data, {}))
    chosen = STRATEGIES[strategy]()
    if data == "digital_rwa" and strategy == "rolling":
        chosen = OneStageStrategy(
            MeanVariance(risk_aversion=4.0), IncrementalForecaster(RollingWindow(days=45))
        )
    fires = TRIGGERS[trigger]
    if data == "hourly" and trigger == "spike":
        fires = RiskSpike(volatility=0.2) & EveryPeriods(2)  # the file holds no volatility index
    cuts = (130, 131) if fast else (130, 131, 300)
    assert compare(market, 100, chosen, fires, tmp_path, cuts=cuts) > 2
