"""The loop: through restarts and kills to the same bits, each effect once."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sqlite3

import numpy as np
import pytest

from sddp.backtest.trading import Envelope
from sddp.errors import DataError, ModelError
from sddp.live import InProcessBus, Live, Message, RowSource, export, replay
from tests.live.portfolios import START, STRATEGIES, account, mean_variance, stream


def source(rows):
    return RowSource(lambda after: iter(rows[after:]))


def content(path):
    """All that a state file holds, but for what was measured and what was sent."""
    connection = sqlite3.connect(path)
    tables = {
        "inputs": "*",
        "events": "sequence, input, topic, body",
        "instructions": "*",
        "checkpoint": "*",
        "meta": "*",
    }
    found = {
        name: connection.execute(f"SELECT {columns} FROM {name} ORDER BY 1").fetchall()
        for name, columns in tables.items()
    }
    connection.close()
    return found


def run(path, rows, strategy="equal weight", stop=None, **options):
    live = Live(account(STRATEGIES[strategy]()), start=START, state=path, **options)
    for _ in live.run(source(rows[:stop])):
        pass
    holdings = np.array(live.account.holdings)
    live.close()
    return holdings


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_restart_goes_on_to_the_same_bits(strategy, tmp_path):
    rows = stream()
    rows.insert(70, rows[60])
    whole = run(tmp_path / "whole.db", rows, strategy)
    for stop in (10, 48, 60, 61, 62, 63, 71, 100, None):
        parts = run(tmp_path / "parts.db", rows, strategy, stop)
    assert np.array_equal(whole, parts)
    assert content(tmp_path / "whole.db") == content(tmp_path / "parts.db")
    assert len(content(tmp_path / "whole.db")["events"]) > 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_log_is_replayed_to_equal_events(strategy, tmp_path):
    run(tmp_path / "state.db", stream(), strategy)
    export(tmp_path / "state.db", tmp_path / "log.jsonl")
    n_events = len(content(tmp_path / "state.db")["events"])
    fresh = Live(account(STRATEGIES[strategy]()), start=START)
    assert replay(tmp_path / "log.jsonl", fresh) == n_events
    # A log that was changed is found out, and so is another portfolio.
    text = (tmp_path / "log.jsonl").read_text()
    changed = tmp_path / "changed.jsonl"
    at = text.index('\\"a\\":', len(text) // 2) + 6
    changed.write_text(text[:at] + "1" + text[at:])
    with pytest.raises(DataError, match="taken again"):
        replay(changed, Live(account(STRATEGIES[strategy]()), start=START))
    with pytest.raises(DataError, match="portfolio of other start"):
        replay(tmp_path / "log.jsonl", Live(account(STRATEGIES[strategy]())))
    with pytest.raises(DataError, match="must be JSON lines"):
        replay(tmp_path / "state.db", fresh)


def killed_at(path, rows, statement, strategy):
    """Run in a child that is killed before its n-th statement; False where it came to the end."""
    child = os.fork()
    if child == 0:
        try:
            count = 0

            def watch(_text):
                nonlocal count
                count += 1
                if count == statement:
                    os.kill(os.getpid(), signal.SIGKILL)

            live = Live(account(STRATEGIES[strategy]()), start=START, state=path)
            live._file._connection.set_trace_callback(watch)
            for _ in live.run(source(rows)):
                pass
            live.close()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("strategy", ["equal weight", "mean variance"])
def test_a_process_killed_between_any_two_statements_is_followed_to_the_same_bits(
    strategy, tmp_path
):
    rows = stream(66)
    run(tmp_path / "before.db", rows, strategy, stop=50)
    run(tmp_path / "whole.db", rows, strategy)
    expected = content(tmp_path / "whole.db")
    kills = 0
    # Each child is killed at a later statement of what is left to do; each goes on where the last
    # one ended.
    for first in range(1, 12):
        path, statement = tmp_path / f"{first}.db", first
        shutil.copy(tmp_path / "before.db", path)
        while killed_at(path, rows, statement, strategy):
            kills += 1
            statement += 17
        assert content(path) == expected
    assert kills > 25


def test_messages_are_taken_once_and_acted_on_with_the_next_row(tmp_path):
    bus, rows = InProcessBus(), stream(60)
    live = Live(account(mean_variance()), start=START, state=tmp_path / "state.db", bus=bus)
    told = bus.subscribe("events", "reader")
    command = Message("parameters", "m1", json.dumps({"payload": {"risk_aversion": 3.0}}))
    odd = Message("ai.rebalance", "m2", "no JSON")
    newer = Message("ai.rebalance", "m3", json.dumps({"payload": {}, "version": 2}))
    bus.publish([command, odd, newer])
    rejected = [e for events in live.run(source(rows)) for e in events]
    assert rejected
    kept = [row[1:] for row in content(tmp_path / "state.db")["inputs"] if row[1] == "message"]
    assert [row[1] for row in kept] == ["m2", "m3", "m1"]
    live.close()
    logged = [body for *_, body in content(tmp_path / "state.db")["events"]]
    assert sum("is parked" in body for body in logged) == 2
    assert sum("ParametersChanged" in body for body in logged) == 1
    # All events are on the bus, in order; a message that comes again is known.
    published = [json.loads(message.body) for message in told.fetch(1_000)]
    assert [event["event"] for event in published] == [json.loads(b)["event"] for b in logged]
    bus = InProcessBus()
    live = Live(account(mean_variance()), start=START, state=tmp_path / "state.db", bus=bus)
    bus.publish([command])
    live.poll()
    assert live.n_inputs == len(content(tmp_path / "state.db")["inputs"])
    live.close()


class Away(InProcessBus):
    """Bus that takes nothing while it is away, and half of what it is given else."""

    away = True

    def publish(self, messages):
        return 0 if self.away else super().publish(messages[: (len(messages) + 1) // 2])


def test_a_bus_that_is_away_gets_everything_in_order_when_it_is_back(tmp_path):
    bus, rows = Away(), stream(100)
    told = bus.subscribe(">", "reader")
    live = Live(account(), start=START, state=tmp_path / "state.db", bus=bus)
    for number, _ in enumerate(live.run(source(rows))):
        bus.away = number < 80
    live.close()
    logged = [body for *_, body in content(tmp_path / "state.db")["events"]]
    assert [json.loads(m.body)["event"] for m in told.fetch(1_000)] == [
        json.loads(body)["event"] for body in logged
    ]


def test_what_waits_is_sent_after_a_restart(tmp_path):
    rows = stream(100)
    live = Live(account(), start=START, state=tmp_path / "state.db", bus=Away())
    for _ in live.run(source(rows)):
        pass
    live.close(seconds=0.0)
    bus = InProcessBus()
    told = bus.subscribe(">", "reader")
    Live(account(), start=START, state=tmp_path / "state.db", bus=bus).close()
    found = told.fetch(1_000)
    assert len(found) == len(content(tmp_path / "state.db")["events"])
    assert found[3].identifier == "portfolio/4"


def test_the_oldest_events_are_skipped_beyond_the_bound_and_that_is_told(tmp_path):
    live = Live(account(), start=START, state=tmp_path / "s.db", bus=Away(), most_waiting=10)
    for _ in live.run(source(stream(100))):
        assert len(live._unsent) <= 10
    live.close(0.0)
    export(tmp_path / "s.db", tmp_path / "log.jsonl")
    told = [json.loads(b) for *_, b in content(tmp_path / "s.db")["events"] if "Overflow" in b]
    assert told[0]["first"] == 1
    assert all(one["last"] < two["first"] for one, two in itertools.pairwise(told))
    assert replay(tmp_path / "log.jsonl", Live(account(), start=START)) > 20


def test_a_state_file_of_another_portfolio_is_not_used(tmp_path):
    run(tmp_path / "state.db", stream(60))
    for change, options in (
        ("strategy", {"account": account(STRATEGIES["mean variance"]())}),
        ("trading rules", {"account": account(lag=2)}),
        ("name", {"account": account(), "name": "other"}),
        ("start", {"account": account(), "start": None}),
    ):
        with pytest.raises(DataError, match=f"other .*{change}"):
            Live(**({"start": START, "state": tmp_path / "state.db"} | options))
    # The file is free again.
    run(tmp_path / "state.db", stream(60))


def test_an_input_that_cannot_be_kept_ends_the_run_and_leaves_nothing(tmp_path):
    rows = stream(60)
    live = Live(account(), start=START, state=tmp_path / "state.db")
    for row in rows[:55]:
        live.take(row)
    live._file._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(DataError, match="nothing of this input is kept"):
        live.take(rows[55])
    with pytest.raises(ModelError, match="an input failed"):
        live.take(rows[56])
    live.close()
    run(tmp_path / "whole.db", rows)
    run(tmp_path / "state.db", rows)
    assert content(tmp_path / "whole.db") == content(tmp_path / "state.db")


def test_a_source_is_told_once_a_row_is_kept(tmp_path):
    path = tmp_path / "state.db"

    class Careful(RowSource):
        told = 0

        def acknowledge(self):
            connection = sqlite3.connect(path)
            Careful.told += 1
            assert connection.execute("SELECT MAX(number) FROM inputs").fetchone() == (self.told,)
            connection.close()

    rows = stream(20)
    live = Live(account(), start=START, state=path)
    assert len(list(live.run(Careful(lambda after: iter(rows[after:]))))) == 20
    assert Careful.told == 20
    live.close()


class Counting:
    """Observer that counts rows."""

    def __init__(self):
        self.rows = 0

    def observe(self, done):
        self.rows += 1
        assert done.view.date >= START
        assert done.seconds > 0.0
        return ()

    def state(self):
        return {"rows": self.rows}

    def restore(self, state):
        self.rows = state["rows"]


def test_observers_see_each_row_once_through_restarts(tmp_path):
    for stop in (50, 60, None):
        watcher = Counting()
        run(tmp_path / "state.db", stream(80), stop=stop, observers=[watcher])
    assert watcher.rows == 80 - 48
    with pytest.raises(DataError, match="other observers"):
        Live(account(), start=START, state=tmp_path / "state.db")


def test_messages_of_the_api_are_inputs_too(tmp_path):
    live = Live(account(mean_variance()), start=START, state=tmp_path / "state.db")
    live.receive(Envelope("parameters", {"risk_aversion": 2.0}, "n1"))
    live.receive(Envelope("parameters", {"risk_aversion": -2.0}, "n2"))
    events = [e for row in stream(60) for e in live.take(row)]
    names = [type(e).__name__ for e in events]
    assert (names.count("ParametersChanged"), names.count("MessageRejected")) == (1, 1)
    live.close()
    export(tmp_path / "state.db", tmp_path / "log.jsonl")
    fresh = Live(account(mean_variance()), start=START)
    assert replay(tmp_path / "log.jsonl", fresh) == len(events)


def test_without_a_state_file_nothing_is_kept():
    live = Live(account(), start=START)
    events = [e for row in stream(60) for e in live.take(row)]
    assert events
    live.close()
    with pytest.raises(ModelError, match="was closed"):
        live.take(stream(61)[-1])
