"""Drill: a running portfolio is killed, and its rows delayed, corrupted and duplicated."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sddp.backtest import EveryPeriods, OneStageStrategy, TransactionCosts
from sddp.backtest.trading.account import Account, Rules
from sddp.estimation import IncrementalForecaster, RollingWindow
from sddp.live import Live, Row, RowRejected, RowRepaired, RowSource
from sddp.portfolio import MeanVariance

ASSETS = ("equity", "bonds", "gold")
HOUR = pd.Timedelta(1, "h")

# What a run of the same inputs has in common with another: all but what was measured or sent.
COMPARED = {
    "inputs": "*",
    "events": "sequence, input, topic, body",
    "instructions": "*",
    "checkpoint": "*",
}


def drill(n_kills: int, folder: Path, *, seed: int = 1, n_rows: int = 80) -> Iterator[str]:
    """Kill, delay, corrupt and duplicate; one line says what happened to each.

    Parameters
    ----------
    n_kills : int
        Children that are killed at random moments.
    folder : Path
        For state files.
    seed : int
    n_rows : int
        Rows of each run.

    Yields
    ------
    str

    Raises
    ------
    AssertionError
        A run ended in another state than the undisturbed one.
    """
    rng = np.random.default_rng(seed)
    rows = _rows(n_rows, rng)
    started = time.perf_counter()
    _run(folder / "undisturbed.db", rows)
    seconds = time.perf_counter() - started
    expected = content(folder / "undisturbed.db")
    yield (
        f"undisturbed: {len(expected['inputs'])} inputs, {len(expected['events'])} events, "
        f"{len(expected['instructions'])} instructions"
    )
    yield _kill(n_kills, folder, rows, expected, rng, seconds)
    for name, disturb in DISTURBANCES.items():
        yield f"{name}: {_disturbed(folder / f'{name}.db', rows, expected, disturb, rng)}"


def content(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What a state file holds, but for what was measured and what was sent."""
    connection = sqlite3.connect(path)
    try:
        return {
            name: connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1").fetchall()
            for name, columns in COMPARED.items()
        }
    finally:
        connection.close()


def _rows(n_rows: int, rng: np.random.Generator) -> list[Row]:
    returns = 0.004 * rng.standard_normal((n_rows, len(ASSETS)))
    levels = 100.0 * np.exp(np.cumsum(returns, axis=0))
    first = pd.Timestamp("2024-01-01", tz="UTC")
    return [
        Row(first + i * HOUR, dict(zip(ASSETS, level, strict=True)), None, None, 1e-6)
        for i, level in enumerate(levels.tolist())
    ]


def _live(path: Path) -> Live:
    forecaster = IncrementalForecaster(RollingWindow(days=1), rebuild_every=20)
    strategy = OneStageStrategy(MeanVariance(risk_aversion=5.0), forecaster)
    costs = TransactionCosts(*(np.full(len(ASSETS), 0.001) for _ in range(2)))
    account = Account(strategy, ASSETS, Rules(costs, 1, 1.0, EveryPeriods(2)))
    return Live(account, start="2024-01-02", state=path)


def _run(path: Path, rows: Sequence[Row]) -> None:
    live = _live(path)
    for _ in live.run(RowSource(lambda after: iter(rows[after:]))):
        pass
    live.close()


def _kill(
    n_kills: int,
    folder: Path,
    rows: Sequence[Row],
    expected: dict[str, Any],
    rng: np.random.Generator,
    seconds: float,
) -> str:
    """Kill children at random moments until enough have died; each file must end as expected."""
    killed, files, path = 0, 0, folder / "killed-0.db"
    while killed < n_kills:
        child = os.fork()
        if child == 0:
            try:
                _run(path, rows)
            finally:
                os._exit(0)
        # From before the file is opened to after the last row, were nothing left of it.
        time.sleep(float(rng.uniform(0.0, 0.7 * seconds)))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            killed += 1
        if path.exists() and _ended(path, len(rows)):
            _run(path, rows)
            assert content(path) == expected, f"{path} differs from the undisturbed run"
            files += 1
            path = folder / f"killed-{files}.db"
    _run(path, rows)
    assert content(path) == expected, f"{path} differs from the undisturbed run"
    return f"killed: {killed} processes at random moments, {files + 1} runs ended in the same state"


def _ended(path: Path, n_rows: int) -> bool:
    connection = sqlite3.connect(path)
    try:
        found = connection.execute("SELECT COUNT(*) FROM inputs").fetchone()[0]
    except sqlite3.OperationalError:  # killed before its tables were made
        return False
    finally:
        connection.close()
    return bool(found == n_rows)


def _disturbed(
    path: Path,
    rows: Sequence[Row],
    expected: dict[str, Any],
    disturb: Callable[[Sequence[Row], int, np.random.Generator], Row],
    rng: np.random.Generator,
) -> str:
    """Bad rows among the clean ones: what they left, and that trading did not notice them."""
    live, remarks, added = _live(path), [], 0
    for i, row in enumerate(rows):
        if 30 < i < len(rows) - 1 and rng.random() < 0.3:
            added += 1
            remarks += live.take(disturb(rows, i, rng))
        remarks += live.take(row)
    live.close()
    events = [body for *_, body in content(path)["events"]]
    traded = [b for b in events if '"event":"Row' not in b]
    assert traded == [body for *_, body in expected["events"]], f"{path}: other trades"
    reasons = [e.reason for e in remarks if isinstance(e, (RowRejected, RowRepaired))]
    told = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}
    return f"{added} rows, of which {told}; all trades are those of the clean rows"


def _delayed(rows: Sequence[Row], i: int, rng: np.random.Generator) -> Row:
    return rows[int(rng.integers(0, i - 1))]


def _corrupted(rows: Sequence[Row], i: int, rng: np.random.Generator) -> Row:
    between = rows[i - 1].time
    assert between is not None
    prices = dict(rows[i - 1].prices)
    if rng.random() < 0.5:
        prices["gold"] *= float(rng.choice([0.01, 100.0]))
    else:
        prices = dict.fromkeys(prices, float(rng.choice([np.nan, -1.0, 0.0])))
    return Row(between + HOUR / 2, prices, None, None, 1e-6)


def _duplicated(rows: Sequence[Row], i: int, rng: np.random.Generator) -> Row:
    return rows[i - 1]


def _contradicted(rows: Sequence[Row], i: int, rng: np.random.Generator) -> Row:
    return Row(rows[i - 1].time, {**rows[i - 1].prices, "gold": 1.0}, None, None, 1e-6)


DISTURBANCES = {
    "delayed": _delayed,
    "corrupted": _corrupted,
    "duplicated": _duplicated,
    "contradicted": _contradicted,
}
