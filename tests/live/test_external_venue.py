"""A venue outside of the process: told after the row is kept; no order lost or repeated."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from sddp.backtest.trading.venue import Fill
from sddp.errors import DataError
from sddp.live import Live, RowSource, export, replay
from tests.live.portfolios import ASSETS, START, STRATEGIES, account, stream


class Exchange:
    """Venue of another process: a file of what it was told, and of what it executed.

    Each instruction is executed in two halves, one for each `poll`.
    """

    simulated = False
    most_open = 1

    def __init__(self, path):
        self.path, self.answered, self.away = path, 0, False

    def lines(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def tell(self, kind, identifier, legs=None):
        if self.away:
            raise ConnectionError("away")
        with self.path.open("a") as file:
            file.write(json.dumps([kind, identifier, legs]) + "\n")

    def submit(self, instruction):
        self.tell("submitted", instruction.identifier, dict(instruction.legs))

    def cancel(self, identifier):
        self.tell("canceled", identifier)

    def poll(self, quotes):
        if self.away:
            raise TimeoutError("away")
        orders = {}
        for kind, identifier, legs in self.lines():
            if kind == "submitted":
                orders.setdefault(identifier, legs)
        halves = [(name, legs, half) for name, legs in orders.items() for half in (1, 2)]
        fills = []
        for name, legs, half in halves[self.answered : self.answered + 1]:
            money = np.array([legs.get(asset, 0.0) for asset in ASSETS]) / 2.0
            fills.append(Fill(name, money, money, 0.001 * np.abs(money), half == 2))
        self.answered += len(fills)
        return fills

    def state(self):
        return {"answered": self.answered}

    def restore(self, state):
        self.answered = state["answered"]


class Tilting:
    """Strategy whose state cannot be stored: its steps are taken again after a restart."""

    n_decisions = 0

    def decide(self, view, holdings):
        self.n_decisions += 1
        return pd.Series({"a": 0.3 + 0.02 * (self.n_decisions % 3), "b": 0.3})


KINDS = {**STRATEGIES, "no state": Tilting}


def portfolio(folder, strategy="mean variance", name="state.db", **options):
    path = folder / "exchange"
    path.touch()
    traded = account(KINDS[strategy](), venue=Exchange(path))
    return Live(traded, start=START, state=folder / name, **options)


def run(folder, rows, strategy="mean variance", stop=None):
    live = portfolio(folder, strategy)
    for _ in live.run(RowSource(lambda after: iter(rows[after:stop]))):
        pass
    live.close()
    return live


def filled(live):
    """Instructions issued, and fills booked of each, by the log."""
    events = [json.loads(body) for *_, body, _ in live]
    issued = [e["instruction"]["identifier"] for e in events if "instruction" in e]
    fills = Counter(e["identifier"] for e in events if e["event"] == "TradeExecuted")
    return issued, fills


def events_of(folder):
    live = portfolio(folder)
    found = live._file.events()
    live.close()
    return found


def test_a_row_is_kept_before_the_venue_is_told(tmp_path):
    rows = stream(60)
    live = portfolio(tmp_path)
    exchange = live._outside._venue
    seen = []

    def look(instruction):
        seen.append(live._file._connection.in_transaction)
        identifiers = live._file._connection.execute("SELECT identifier FROM instructions")
        assert (instruction.identifier,) in identifiers.fetchall()

    exchange.submit = look
    for row in rows:
        live.take(row)
    live.close()
    assert seen == [False]


def test_fills_that_come_later_in_parts_change_the_holdings(tmp_path):
    live = run(tmp_path, stream(80))
    issued, fills = filled(events_of(tmp_path))
    assert len(issued) > 5
    assert all(fills[name] == 2 for name in issued[:-1])
    told = Counter(name for kind, name, _ in live._outside._venue.lines())
    assert set(told) == set(issued)
    export(tmp_path / "state.db", tmp_path / "log.jsonl")
    (tmp_path / "other").mkdir()
    fresh = portfolio(tmp_path / "other")
    before = (tmp_path / "other" / "exchange").read_text()
    fresh._file.close()
    fresh._file = None
    assert replay(tmp_path / "log.jsonl", fresh) > 20
    assert np.array_equal(fresh.account.holdings, live.account.holdings)
    # A replay tells the venue nothing.
    assert (tmp_path / "other" / "exchange").read_text() == before


def test_a_venue_that_is_away_is_told_when_it_is_back(tmp_path):
    live, rows = portfolio(tmp_path), stream(80)
    exchange = live._outside._venue
    for number, row in enumerate(rows):
        exchange.away = 49 <= number < 60
        live.poll()
        live.take(row)
        if number == 59:
            assert exchange.lines()[-1][0] == "submitted"
            assert len(exchange.lines()) <= 1
    live.close()
    issued, fills = filled(events_of(tmp_path))
    assert all(fills[name] == 2 for name in issued[:-1])
    assert [name for _, name, _ in exchange.lines()] == issued


def die_at(place, live, rows):
    """Run, and die at the n-th statement of SQL, or before or after the venue is told."""
    left = itertools.count(1)

    def watch(name):
        if place in (name, next(left)):
            os.kill(os.getpid(), signal.SIGKILL)

    def submit(instruction, told=live._outside._venue.submit):
        watch("before")
        told(instruction)
        watch("after")

    live._file._connection.set_trace_callback(watch)
    live._outside._venue.submit = submit
    for _ in live.run(RowSource(lambda after: iter(rows[after:]))):
        pass
    os._exit(0)


@pytest.mark.parametrize("strategy", ["mean variance", "no state"])
def test_a_process_killed_at_any_statement_loses_and_repeats_no_order(strategy, tmp_path):
    rows = stream(58)
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", rows, strategy)
    expected = (tmp_path / "whole" / "exchange").read_text().splitlines()
    kills = 0
    for place in (9, "before", 4, "after", 17, "before", "before", 13, "after"):
        child = os.fork()
        if child == 0:
            die_at(place, portfolio(tmp_path, strategy), rows)
        kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    run(tmp_path, rows, strategy)
    assert kills == 9
    found = (tmp_path / "exchange").read_text().splitlines()
    # A restart may tell again; the venue knows the identifier.
    assert list(dict.fromkeys(found)) == list(dict.fromkeys(expected))
    live, other = portfolio(tmp_path, strategy), portfolio(tmp_path / "whole", strategy)
    assert [e.body for e in live._file.events()] == [e.body for e in other._file.events()]
    assert np.array_equal(live.account.holdings, other.account.holdings)
    live.close(), other.close()


def test_a_fill_that_is_no_money_is_not_booked(tmp_path):
    live, rows = portfolio(tmp_path), stream(60)
    for row in rows[:50]:
        live.take(row)
    wrong = Fill("x", np.ones(2), np.ones(2), np.ones(2))
    live._outside._venue.poll = lambda quotes: [wrong]
    with pytest.raises(DataError, match=r"fill of 'x'.*3 assets"):
        live.poll()
    live.close()
