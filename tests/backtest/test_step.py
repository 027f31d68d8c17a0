"""`step`: the only place where a portfolio is traded, in a backtest and elsewhere."""

from __future__ import annotations

import ast
import json
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import (
    BuyAndHold,
    CircuitBreaker,
    Drift,
    DynamicRiskParity,
    EqualWeight,
    EveryPeriods,
    InverseVolatility,
    OneStageStrategy,
    backtest,
)
from sddp.backtest.simulator import trading_rules
from sddp.backtest.trading import Envelope, canonical
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.events import (
    InstructionRejected,
    MessageRejected,
    OptimizationFailed,
    ParametersChanged,
    PortfolioOptimized,
    RebalanceInstructionIssued,
    TradeExecuted,
    TradingHalted,
    TriggerFired,
)
from sddp.backtest.trading.step import step
from sddp.backtest.trading.venue import Fill, PaperVenue
from sddp.errors import DataError, ModelError
from sddp.estimation import WindowForecaster
from sddp.market import Market
from sddp.portfolio import ConstraintSet, MeanVariance, PositionLimit, RiskBudget

ROOT = Path(__file__).resolve().parents[2]
N_ROWS = 60
DATES = pd.bdate_range("2020-01-01", periods=N_ROWS)


def market_of(n_assets: int = 3, **options) -> Market:
    rng = np.random.default_rng(5)
    steps = rng.normal(5e-4, 0.02, (N_ROWS, n_assets)).cumsum(axis=0)
    prices = pd.DataFrame(100.0 * np.exp(steps), DATES, columns=list("abcdefgh")[:n_assets])
    return Market(prices, cash_rate=1e-4, **options)


def optimizing(**options) -> OneStageStrategy:
    model = MeanVariance(risk_aversion=4.0, transaction_cost=0.001)
    return OneStageStrategy(model, WindowForecaster(20), **options)


def account_of(strategy, market, *, start=25, venue=None, **changes) -> tuple[Account, list]:
    options = {"lag": 1, "rebalance": EveryPeriods(1), "breaker": None} | changes
    kept = options.pop("keep_on_failure", False)
    rules, dates = trading_rules(
        market,
        start=DATES[start],
        end=None,
        transaction_cost=0.001,
        initial_wealth=1000.0,
        **options,
    )
    rules = replace(rules, keep_on_failure=kept)
    return Account(strategy, market.assets, rules, venue), list(dates)


# --- one step, and nothing else ---


def calls(path: Path) -> set[str]:
    """Names of what is called, with the name of the object whose method it is."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            owner = getattr(called, "value", None)
            found.add(getattr(called, "attr", getattr(called, "id", "")))
            found.add(f"{getattr(owner, 'attr', getattr(owner, 'id', ''))}.{_last(called)}")
    return found


def _last(called: ast.expr) -> str:
    return getattr(called, "attr", "")


def test_nothing_but_step_trades():
    """Instructions are submitted, fills booked and triggers asked in one module."""
    sources = {p.relative_to(ROOT).as_posix(): p for p in (ROOT / "sddp").rglob("*.py")}
    doing = {
        name: {module for module, path in sources.items() if name in calls(path)}
        for name in ("venue.submit", "venue.poll", "holdings_after", "fires")
    }
    home = "sddp/backtest/trading"
    assert doing["venue.submit"] == doing["venue.poll"] == {f"{home}/step.py"}
    assert doing["holdings_after"] == {f"{home}/step.py", f"{home}/venue.py"}
    executing = {m for m, path in sources.items() if "requested_trades" in calls(path)}
    # Simulations trade many paths at once, in arrays.
    assert {m for m in executing if not m.startswith("sddp/simulation/")} == {
        f"{home}/{name}.py" for name in ("account", "execution", "venue")
    }
    triggers = {m for m in doing["fires"] if m.startswith("sddp/backtest/triggers/")}
    assert doing["fires"] - triggers == {f"{home}/step.py"}


def test_only_drivers_call_step():
    """The backtest's run, the loop over a stream, and the accounts that shadow a strategy."""
    importing = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "sddp").rglob("*.py")
        if "sddp.backtest.trading.step import" in path.read_text(encoding="utf-8")
        and "step" in calls(path)
    }
    drivers = {m for m in importing if not m.startswith("sddp/live/")}
    assert drivers == {"sddp/backtest/run.py", "sddp/backtest/checks/shadow.py"}


# --- events ---


@pytest.mark.parametrize("lag", [0, 1])
def test_events_of_a_row_in_their_order(lag):
    market = market_of()
    account, dates = account_of(EqualWeight(), market, lag=lag)
    first = step(account, market.at(dates[0]))
    kinds = [TriggerFired, PortfolioOptimized, RebalanceInstructionIssued]
    assert [type(e) for e in first] == [*kinds, TradeExecuted][: 4 if lag == 0 else 3]
    assert first[0].reason == "first row"
    second = step(account, market.at(dates[1]))
    if lag == 1:
        assert isinstance(second[0], TradeExecuted)
        assert second[0].identifier == first[2].instruction["identifier"]
        executed = account.entry.executed
        assert second[0].trades == dict(zip("abc", executed.tolist(), strict=True))


def test_a_decision_says_what_decided():
    market = market_of()
    limits = ConstraintSet((PositionLimit(name="a", assets=("a",), upper=0.4),), version="2.1.0")
    model = MeanVariance(risk_aversion=4.0, transaction_cost=0.001, constraints=limits)
    account, dates = account_of(OneStageStrategy(model, WindowForecaster(20)), market)
    step(account, market.at(dates[0]))
    decision = account.decision
    assert (decision.optimizer, decision.constraint_set) == ("MeanVariance", "2.1.0")
    assert decision.reasons == ("first row",)
    assert decision.seconds > 0.0
    assert decision.iterations > 0


def test_a_backtest_keeps_its_events_and_they_add_up():
    market = market_of()
    strategies = {"e": EqualWeight(), "o": optimizing()}
    options = {"start": DATES[25], "transaction_cost": 0.001, "rebalance": EveryPeriods(3)}
    found = backtest(market, strategies, keep_events=True, **options)
    assert backtest(market, strategies, **options).events == {}
    for name, ledger in found.ledgers.items():
        fills = [e for e in found.events[name] if isinstance(e, TradeExecuted)]
        assert sum(sum(e.costs.values()) for e in fills) == pytest.approx(
            ledger.costs.to_numpy().sum(), rel=1e-12
        )
        decided = [e for e in found.events[name] if isinstance(e, PortfolioOptimized)]
        assert [e.time for e in decided] == list(ledger.decisions.index)
        for event in found.events[name]:
            json.loads(canonical(event))


# --- state ---


@pytest.mark.parametrize(
    "strategy",
    [
        EqualWeight(),
        BuyAndHold({"a": 0.5, "b": 0.2}),
        InverseVolatility(10),
        optimizing(),
        DynamicRiskParity(RiskBudget(), WindowForecaster(10, refit_every=3), band=0.1),
    ],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("lag", [0, 1, 2])
def test_an_account_goes_on_from_its_state_on_any_row(strategy, lag):
    market = market_of()
    options = {"lag": lag, "rebalance": EveryPeriods(3) | Drift(absolute=0.02)}
    whole, dates = account_of(strategy, market, **options)
    told = [canonical(e) for date in dates for e in step(whole, market.at(date, whole.lookback))]
    for cut in (1, 2, 3, 4, 11):
        one, _ = account_of(strategy, market, **options)
        two, _ = account_of(strategy, market, **options)
        found = [canonical(e) for d in dates[:cut] for e in step(one, market.at(d, one.lookback))]
        state = json.loads(json.dumps(one.state()))
        two.restore(state, market.at(dates[cut - 1]))
        found += [canonical(e) for d in dates[cut:] for e in step(two, market.at(d, two.lookback))]
        assert found == told
        assert two.holdings.tobytes() == whole.holdings.tobytes()


def test_a_strategy_that_cannot_hand_out_its_state_is_named():
    @dataclass
    class Counting:
        n: int = 0

        def decide(self, view, holdings):
            self.n += 1
            return {}

    account, _ = account_of(Counting(), market_of())
    with pytest.raises(ModelError, match=r"strategy=.*Counting.* must be a frozen dataclass"):
        account.state()


# --- venues ---


class SlowVenue:
    """Fills half of an instruction two rows later, and the rest never, or when asked to."""

    most_open = 1

    def __init__(self, assets, share=0.5, complete=False):
        self.paper, self.share, self.complete = PaperVenue(assets, 2), share, complete
        self.canceled = []

    def submit(self, instruction):
        self.paper.submit(instruction)

    def poll(self, quotes):
        return [
            Fill(f.identifier, f.requested, f.executed * self.share, f.costs, self.complete)
            for f in self.paper.poll(quotes)
        ]

    def cancel(self, identifier):
        self.canceled.append(identifier)

    def state(self):
        return self.paper.state()

    def restore(self, state):
        self.paper.restore(state)


def test_holdings_change_when_fills_come_and_one_instruction_is_open():
    market = market_of()
    venue = SlowVenue(market.assets)
    account, dates = account_of(EqualWeight(), market, venue=venue)
    events = [step(account, market.at(date)) for date in dates[:6]]
    issued = [e for row in events for e in row if isinstance(e, RebalanceInstructionIssued)]
    assert len(issued) == 1
    assert account.holdings[0] < 1000.0
    held = account.holdings[1:].sum() / account.holdings.sum()
    assert 0.45 < held < 0.55
    assert [type(e) for e in events[2]] == [TradeExecuted]
    assert not events[2][0].complete


def test_a_share_of_the_volume_is_traded_until_all_is():
    volumes = pd.DataFrame(200.0, DATES, columns=list("abc"))
    market = market_of(volumes=volumes)
    venue = PaperVenue(market.assets, 1, participation=0.5)
    account, dates = account_of(BuyAndHold({"a": 0.25}), market, venue=venue)
    executed = []
    for date in dates[:6]:
        step(account, market.at(date))
        executed.append(account.entry.executed[0])
    assert executed[:4] == pytest.approx([0.0, 100.0, 100.0, executed[3]])
    assert 0.0 < executed[3] < 100.0
    assert executed[4:] == [0.0, 0.0]
    assert account.orders == []
    account, dates = account_of(EqualWeight(), market_of(), venue=PaperVenue(market.assets, 0, 0.5))
    with pytest.raises(ModelError, match=r"participation=0.5: needs volumes"):
        step(account, market_of().at(dates[0]))


def test_costs_of_the_row_are_charged():
    costs = pd.DataFrame(0.001, DATES, columns=list("abc"))
    costs.iloc[30:] = 0.01
    market = market_of(costs=costs)
    found = backtest(market, {"e": EqualWeight()}, start=DATES[25], transaction_cost=0.0)
    ledger = found.ledger("e")
    rates = ledger.costs.to_numpy() / np.abs(ledger.executed.to_numpy()).clip(1e-300)
    traded = np.abs(ledger.executed.to_numpy()).min(axis=1) > 0.0
    rows = np.arange(25, N_ROWS)
    assert rates[traded & (rows < 30)] == pytest.approx(0.001)
    assert rates[traded & (rows >= 30)] == pytest.approx(0.01)


def test_an_optimizer_keeps_the_limits_of_the_row():
    limits = pd.DataFrame(1.0, DATES, columns=list("abc"))
    limits.iloc[30:] = [0.1, 0.2, 0.3]
    strategy = optimizing()
    free = backtest(market_of(), {"o": strategy}, start=DATES[25], transaction_cost=0.0)
    held = backtest(market_of(limits=limits), {"o": strategy}, start=DATES[25], transaction_cost=0)
    one, other = free.ledger("o").decisions, held.ledger("o").decisions
    assert one.iloc[:5].equals(other.iloc[:5])
    assert (one.iloc[5:, 1:] > [0.1, 0.2, 0.3]).to_numpy().any()
    assert (other.iloc[5:, 1:] <= np.array([0.1, 0.2, 0.3]) * 1.01 + 1e-9).to_numpy().all()


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"volumes": pd.DataFrame(-1.0, DATES, columns=list("abc"))}, "volumes = -1 at a on"),
        ({"costs": pd.DataFrame(0.5, DATES, columns=list("abc"))}, r"costs = 0.5 at a on"),
        ({"limits": pd.DataFrame(2.0, DATES, columns=list("abc"))}, "limits = 2 at a on"),
        ({"costs": pd.DataFrame(0.1, DATES, columns=list("abd"))}, "costs: has the columns"),
        ({"limits": pd.DataFrame(0.1, DATES[1:], columns=list("abc"))}, "same dates"),
    ],
)
def test_tables_by_asset_are_checked(table, match):
    with pytest.raises(DataError, match=match):
        market_of(**table)


# --- messages ---


def test_parameters_are_exchanged_between_two_rows_and_replayed():
    market = market_of()
    limits = ConstraintSet((PositionLimit(name="a", assets=("a",), upper=0.1),), version="3.0.0")
    messages = [
        (DATES[30], Envelope("parameters", {"risk_aversion": 50.0}, "n1")),
        (DATES[35], Envelope("parameters", {"constraint_set": limits.to_json()}, "n2")),
        (DATES[40], Envelope("parameters", {"optimizer": "MINIMUM_VARIANCE"}, "n3")),
        (DATES[40], Envelope("parameters", {"optimizer": "MINIMUM_VARIANCE"}, "n3")),
        (DATES[41], Envelope("parameters", {"speed": 1.0}, "n4")),
    ]
    options = {"start": DATES[25], "transaction_cost": 0.0, "keep_events": True}
    found = backtest(market, {"o": optimizing()}, messages=messages, **options)
    changed = [e for e in found.events["o"] if isinstance(e, ParametersChanged)]
    assert [(e.time, e.nonce) for e in changed] == [
        (DATES[30], "n1"),
        (DATES[35], "n2"),
        (DATES[40], "n3"),
    ]
    rejected = [e for e in found.events["o"] if isinstance(e, MessageRejected)]
    assert [(e.nonce, "speed" in e.reason) for e in rejected] == [("n3", False), ("n4", True)]
    assert rejected[0].reason == "the nonce was used before"
    decided = {e.time: e for e in found.events["o"] if isinstance(e, PortfolioOptimized)}
    assert decided[DATES[34]].constraint_set == "1.0.0"
    assert decided[DATES[36]].constraint_set == "3.0.0"
    assert decided[DATES[39]].optimizer == "MeanVariance"
    assert decided[DATES[40]].optimizer == "MinimumVariance"
    assert decided[DATES[36]].weights["a"] <= 0.1 + 1e-9
    # The event itself, sent again, has the same effect.
    again = [(e.time, _as_message(e)) for e in changed]
    replayed = backtest(market, {"o": optimizing()}, messages=again, **options)
    assert replayed.ledger("o").decisions.equals(found.ledger("o").decisions)


def _as_message(event: ParametersChanged) -> Envelope:
    names = ("optimizer", "risk_aversion", "constraint_set")
    return Envelope("parameters", {n: getattr(event, n) for n in names}, event.nonce)


def test_exchanged_parameters_survive_a_restart():
    market = market_of()
    one, dates = account_of(optimizing(), market)
    one.receive(Envelope("parameters", {"risk_aversion": 50.0}, "n"))
    step(one, market.at(dates[0]))
    two, _ = account_of(optimizing(), market)
    two.restore(one.state(), market.at(dates[0]))
    assert two.strategy.optimizer.risk_aversion == 50.0
    assert [canonical(e) for e in step(one, market.at(dates[1]))] == [
        canonical(e) for e in step(two, market.at(dates[1]))
    ]


def test_a_verifier_decides_who_may_send():
    @dataclass(frozen=True)
    class Signed:
        def rejection(self, envelope):
            return None if envelope.signature == "good" else "no signature"

    market = market_of()
    account, dates = account_of(optimizing(), market)
    account.rules = replace(account.rules, verifier=Signed())
    account.receive(Envelope("parameters", {"risk_aversion": 50.0}, "n1"))
    account.receive(Envelope("parameters", {"risk_aversion": 60.0}, "n2", "good"))
    events = step(account, market.at(dates[0]))
    assert [(e.nonce, e.reason) for e in events if isinstance(e, MessageRejected)] == [
        ("n1", "no signature")
    ]
    assert account.strategy.optimizer.risk_aversion == 60.0


# --- failures ---


@dataclass(frozen=True)
class Failing:
    """Equal weights, but on some rows it raises or answers nonsense."""

    def decide(self, view, holdings):
        kind = (view.row - 25) % 4
        if kind == 1:
            raise ValueError("no answer")
        if kind == 2:
            return {"a": float("nan")}
        if kind == 3:
            return {"nobody": 1.0}
        return {"a": 0.5}


def test_a_strategy_that_fails_keeps_its_target_where_that_is_asked_for():
    market = market_of()
    account, dates = account_of(Failing(), market, keep_on_failure=True)
    events = [e for date in dates[:5] for e in step(account, market.at(date))]
    failed = [e.reason for e in events if isinstance(e, OptimizationFailed)]
    assert [reason.split(":")[0] for reason in failed] == ["ValueError", "ModelError", "ModelError"]
    assert len([e for e in events if isinstance(e, PortfolioOptimized)]) == 2
    with pytest.raises(ValueError, match="no answer"):
        backtest(market, {"f": Failing()}, start=DATES[25], transaction_cost=0.0)


def test_failures_in_a_row_halt_trading():
    @dataclass(frozen=True)
    class Fails:
        def decide(self, view, holdings):
            if view.row > 26:
                raise ValueError("no answer")
            return {"a": 0.5}

    market = market_of()
    account, dates = account_of(
        Fails(), market, keep_on_failure=True, breaker=CircuitBreaker(failures=2)
    )
    events = [e for date in dates[:10] for e in step(account, market.at(date))]
    halts = [e for e in events if isinstance(e, TradingHalted)]
    assert [(e.time, e.figures["failures"]) for e in halts] == [(dates[5], 3.0)]
    assert len([e for e in events if isinstance(e, OptimizationFailed)]) == 3


def test_a_halt_cancels_what_is_open():
    market = market_of()
    venue = SlowVenue(market.assets)
    account, dates = account_of(
        EqualWeight(), market, venue=venue, breaker=CircuitBreaker(volatility=1e-6)
    )
    account.breaker_state = None
    account.rules = replace(account.rules, breaker=None)
    [*_, issued] = step(account, market.at(dates[0]))
    account.rules = replace(account.rules, breaker=CircuitBreaker(volatility=0.0, drawdown=0.0))
    account.holdings[1] += 10.0
    events = step(account, market.at(dates[1]))
    rejected = [e for e in events if isinstance(e, InstructionRejected)]
    assert [e.identifier for e in rejected] == venue.canceled
    assert venue.canceled == [issued.instruction["identifier"]]


# --- views ---


@pytest.mark.parametrize("first_return", [False, True])
def test_a_window_has_the_last_rows_and_shares_their_memory(first_return):
    whole = market_of()
    market = whole
    if first_return:
        market = Market.from_returns(whole.at(DATES[-1]).prices.pct_change().iloc[1:])
    date = market.dates[40]
    full, part = market.at(date), market.at(date, 10)
    assert (part.row, part.skipped, len(part.dates), len(part.returns)) == (40, 31, 10, 10)
    for name in ("prices", "returns", "quoted", "log_returns"):
        one, other = getattr(full, name).iloc[-10:], getattr(part, name)
        assert one.equals(other), name
        assert np.shares_memory(one.to_numpy(), other.to_numpy()), name
        assert not other.to_numpy().flags.writeable
    assert full.cash_rate.iloc[-10:].equals(part.cash_rate)
    early = market.at(market.dates[4], 10)
    assert (early.row, early.skipped, len(early.dates)) == (4, 0, 5)
    assert part.until(market.dates[38]).dates.equals(part.dates[:8])


class Rows:
    """Market that counts the rows handed out."""

    def __init__(self, market):
        self.market, self.rows = market, []

    def at(self, date, lookback=None):
        view = self.market.at(date, lookback)
        self.rows.append(len(view.dates))
        return view


def test_a_strategy_that_declares_its_lookback_sees_a_window():
    market = market_of()
    account, _ = account_of(InverseVolatility(10), market)
    assert account.lookback == 10
    account, _ = account_of(InverseVolatility(10), market, breaker=CircuitBreaker(stale=14))
    assert account.lookback == 15

    @dataclass(frozen=True)
    class Unbounded:
        def decide(self, view, holdings):
            assert len(view.dates) == view.row + 1
            return {}

    backtest(market, {"u": Unbounded()}, start=DATES[5], transaction_cost=0.0)


@pytest.mark.parametrize("lookback", [None, 50])
def test_a_view_takes_the_same_memory_however_many_rows_there_are(lookback):
    """Nothing is copied: ten times the rows, the same memory, and so the same time."""
    dates = pd.date_range("2000-01-01", periods=20_000, freq="h")
    market = Market(pd.DataFrame(np.linspace(1.0, 2.0, 200_000).reshape(-1, 10), dates))
    market.at(dates[0])  # what is computed once

    def memory(row: int) -> int:
        tracemalloc.start()
        view = market.at(dates[row], lookback)
        assert len(view.log_returns) == min(row, lookback or row)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    memory(500)
    few, many = memory(1_000), memory(19_000)
    assert many < 1.2 * few < 100_000
