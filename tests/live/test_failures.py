"""Strategies that fail: the previous target stays, an event says so, and the portfolio goes on."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import CircuitBreaker, EveryPeriods, TransactionCosts
from sddp.backtest.trading.account import Account, Rules
from sddp.backtest.trading.time_limit import time_limit
from sddp.errors import ModelError
from sddp.live import Live, export, replay
from tests.live.portfolios import ASSETS, START, stream


@dataclass(frozen=True)
class Failing:
    """Equal weights, but for the rows of some hours."""

    how: str

    def decide(self, view, holdings):
        weights = pd.Series(1.0 / 3.0, index=list(ASSETS))
        if view.date.hour not in (5, 6, 7):
            return weights
        if self.how == "raises":
            raise ArithmeticError("no answer")
        while self.how == "hangs":
            pass
        if self.how == "names":
            return pd.Series({"gold": 1.0})
        return weights * {"nan": np.nan, "infinite": np.inf, "short": -1.0}[self.how]


def portfolio(how, **more):
    costs = TransactionCosts(np.full(3, 0.001), np.full(3, 0.001))
    rules = replace(Rules(costs, 1, 1.0, EveryPeriods(1)), keep_on_failure=True, **more)
    return Account(Failing(how), ASSETS, rules)


@pytest.mark.parametrize("how", ["raises", "names", "nan", "infinite", "short"])
def test_a_strategy_that_fails_keeps_its_previous_target(how, tmp_path):
    live = Live(portfolio(how), start=START, state=tmp_path / "state.db")
    events = [event for row in stream(72) for event in live.take(row)]
    live.close()
    failed = [e for e in events if type(e).__name__ == "OptimizationFailed"]
    assert [e.time.hour for e in failed] == [5, 6, 7]
    optimized = [e.time.hour for e in events if type(e).__name__ == "PortfolioOptimized"]
    assert optimized == [h for h in range(24) if h not in (5, 6, 7)]
    # The same again from the log.
    export(tmp_path / "state.db", tmp_path / "log.jsonl")
    assert replay(tmp_path / "log.jsonl", Live(portfolio(how), start=START)) == len(events)


def test_failures_in_a_row_halt_trading_until_somebody_releases_it(tmp_path):
    live = Live(portfolio("raises", breaker=CircuitBreaker(failures=2)), start=START)
    events = [event for row in stream(96) for event in live.take(row)]
    names = [type(event).__name__ for event in events]
    assert names.count("TradingHalted") == 1
    halted = next(e.time for e in events if type(e).__name__ == "TradingHalted")
    assert not [
        e
        for e in events
        if type(e).__name__ in ("TradeExecuted", "RebalanceInstructionIssued") and e.time >= halted
    ]


def test_a_strategy_that_hangs_is_stopped_at_its_time_limit(tmp_path):
    live = Live(portfolio("hangs", seconds=0.2), start=START, state=tmp_path / "state.db")
    events = [event for row in stream(72) for event in live.take(row)]
    failed = [e for e in events if type(e).__name__ == "OptimizationFailed"]
    assert {5, 6, 7} <= {e.time.hour for e in failed}
    assert "TimeoutError: the strategy took longer than its time limit of 0.2 s" in failed[0].reason
    assert signal.getsignal(signal.SIGALRM) == signal.SIG_DFL
    live.close()
    with pytest.raises(ModelError, match="seconds=0"):
        portfolio("hangs", seconds=0)


def test_no_limit_is_kept_off_the_main_thread():
    done = []

    def decide():
        with time_limit(0.001):
            time.sleep(0.05)
        done.append(True)

    thread = threading.Thread(target=decide)
    thread.start()
    thread.join()
    assert done == [True]
