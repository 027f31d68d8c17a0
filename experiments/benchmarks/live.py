"""How fast a running portfolio is: milliseconds from a row to its events, and what it grows by."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest import (
    Drift,
    EqualWeight,
    EveryPeriods,
    OneStageStrategy,
    Strategy,
    TransactionCosts,
    Trigger,
    backtest,
)
from sddp.backtest.trading.account import Account, Rules
from sddp.estimation import IncrementalForecaster, RollingWindow
from sddp.live import InProcessBus, Live, Message, Row
from sddp.market import Market
from sddp.portfolio import MeanVariance

# Rows of a window of 30 days, before which nothing is decided.
HISTORY = 720


class Case(NamedTuple):
    """One measurement: size, rows measured, and the milliseconds a row that were asked for."""

    n_assets: int
    n_rows: int
    optimizes: bool
    on_disk: bool
    asked: float


# Of 24,000 hourly rows in 90 s live and 60 s in a backtest, the share of one row.
CASES = {
    "50 assets, optimized, without a disk": Case(50, 1_000, True, False, 2.0),
    "50 assets, optimized, with a disk": Case(50, 1_000, True, True, 5.0),
    "50 assets, nothing fires, without a disk": Case(50, 4_000, False, False, 0.3),
    "500 assets, optimized, with a disk": Case(500, 60, True, True, 200.0),
    "9 assets, optimized, with a disk": Case(9, 2_000, True, True, 3.75),
    "9 assets, nothing fires, many rows": Case(9, 100_000, False, False, 0.3),
}
BACKTEST = "9 assets, optimized, backtest"
BUS = "message on the bus within the process"
ASKED = {name: case.asked for name, case in CASES.items()} | {BACKTEST: 2.5, BUS: 0.05}


def measure(name: str, scale: int, seed: int) -> dict[str, Any]:
    """Milliseconds a row (median and 95 %), beside those asked for and the bare QP's.

    `cpu_ms` is the mean of the process's CPU time, `times_bare_qp` that in multiples of the bare
    QP's. The numbers of rows are divided by `scale`. `late_over_early` is the median of the last
    tenth of the rows over that of the first; `growth_mb` what the process grew by after it.
    """
    if name == BUS:
        return _bus(200_000 // scale)
    history = max(HISTORY // scale, 20)
    if name == BACKTEST:
        return _backtest(max(2_000 // scale, 20), history, seed)
    case = CASES[name]
    n_rows = max(case.n_rows // scale, 20)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.db" if case.on_disk else None
        live = _portfolio(case, state, history)
        times, tenth, peak, cpu = np.empty(n_rows), max(n_rows // 10, 1), 0.0, 0.0
        for i, row in enumerate(_rows(history + n_rows, case.n_assets, seed), start=-history):
            if i == 0:
                cpu = time.process_time()
            started = time.perf_counter()
            live.take(row)
            if i >= 0:
                times[i] = time.perf_counter() - started
            if i == tenth:
                peak = _peak()
        cpu = time.process_time() - cpu
        live.close()
    qp = _bare_qp(case.n_assets, seed, 200 // min(scale, 20)) if case.optimizes else None
    found = _told(name, times, cpu, qp)
    late = float(np.median(times[-tenth:]) / np.median(times[:tenth]))
    return found | {"late_over_early": late, "growth_mb": _peak() - peak}


def _told(name: str, times: Floats, cpu: float, qp: float | None) -> dict[str, Any]:
    median = 1e3 * float(np.median(times))
    return {
        "what": name,
        "median_ms": median,
        "p95_ms": 1e3 * float(np.quantile(times, 0.95)),
        "cpu_ms": 1e3 * cpu / len(times),
        "asked_ms": ASKED[name],
        "times_bare_qp": None if qp is None else 1e3 * cpu / len(times) / qp,
        "late_over_early": None,
        "growth_mb": None,
    }


def _portfolio(case: Case, state: Path | None, history: int) -> Live:
    strategy: Strategy = EqualWeight()
    trigger: Trigger = Drift(absolute=0.9)
    if case.optimizes:
        strategy, trigger = _strategy(), EveryPeriods(1)
    costs = TransactionCosts(*(np.full(case.n_assets, 0.001) for _ in range(2)))
    account = Account(strategy, _names(case.n_assets), Rules(costs, 1, 1.0, trigger))
    start = pd.Timestamp("2020-01-01") + history * pd.Timedelta(1, "h")
    return Live(account, start=start, state=state)


def _strategy() -> Strategy:
    forecaster = IncrementalForecaster(RollingWindow(days=30, most_rows=HISTORY))
    return OneStageStrategy(MeanVariance(risk_aversion=5.0, transaction_cost=0.001), forecaster)


def _names(n_assets: int) -> list[str]:
    return [f"asset{i + 1}" for i in range(n_assets)]


def _levels(n_rows: int, n_assets: int, seed: int) -> Iterator[list[float]]:
    rng, logs = np.random.default_rng(seed), np.zeros(n_assets)
    for _ in range(n_rows):
        logs += 0.004 * rng.standard_normal(n_assets)
        yield (100.0 * np.exp(logs)).tolist()


def _rows(n_rows: int, n_assets: int, seed: int) -> Iterator[Row]:
    names, first = _names(n_assets), pd.Timestamp("2020-01-01", tz="UTC")
    for i, levels in enumerate(_levels(n_rows, n_assets, seed)):
        prices = dict(zip(names, levels, strict=True))
        yield Row(first + i * pd.Timedelta(1, "h"), prices, None, 20.0, 1e-6)


def _bare_qp(n_assets: int, seed: int, n_solves: int = 200) -> float:
    """CPU milliseconds of the optimizer's kernel alone, on arrays; the mean of many."""
    rng = np.random.default_rng(seed)
    returns = 0.004 * rng.standard_normal((HISTORY, n_assets))
    model = MeanVariance(risk_aversion=5.0, transaction_cost=0.001)
    kernel = model.prepare(_names(n_assets))
    mean, covariance = returns.mean(axis=0), np.cov(returns.T)
    current = np.full(n_assets, 1.0 / n_assets)
    n_solves = n_solves // 8 if n_assets > 100 else n_solves
    means = mean + 1e-5 * rng.standard_normal((n_solves, n_assets))
    started = time.process_time()
    for mean in means:
        kernel.solve(mean, covariance, current)
    return 1e3 * (time.process_time() - started) / n_solves


def _backtest(n_rows: int, history: int, seed: int) -> dict[str, Any]:
    dates = pd.date_range("2020-01-01", periods=history + n_rows, freq="h")
    levels = pd.DataFrame(list(_levels(len(dates), 9, seed)), dates, _names(9))
    times, cpu = [time.perf_counter()], time.process_time()
    backtest(
        Market(levels, cash_rate=1e-6),
        {"s": _strategy()},
        start=dates[history],
        transaction_cost=0.001,
        progress=lambda *_: times.append(time.perf_counter()),
    )
    cpu = time.process_time() - cpu
    return _told(BACKTEST, np.diff(times), cpu, _bare_qp(9, seed))


def _bus(n_messages: int) -> dict[str, Any]:
    bus, times = InProcessBus(), []
    reader = bus.subscribe("events", "reader")
    cpu = time.process_time()
    for i in range(0, n_messages, 10):
        messages = [Message("events", f"m/{j}", "{}") for j in range(i, i + 10)]
        started = time.perf_counter()
        bus.publish(messages)
        reader.fetch()
        reader.acknowledge()
        times.append((time.perf_counter() - started) / 10.0)
    cpu = (time.process_time() - cpu) / 10.0
    return _told(BUS, np.array(times), cpu, None)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
