"""Topics of messages: the protocol of a bus, and a bus within the process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from sddp.errors import DataError, ModelError
from sddp.live.rows import Row


class Message(NamedTuple):
    """A text on a topic.

    Attributes
    ----------
    topic : str
        Words separated by dots: ``events``, ``analytics.portfolio``.
    identifier : str
        A bus delivers one message of an identifier once.
    body : str
        JSON.
    """

    topic: str
    identifier: str
    body: str


class Subscription(Protocol):
    """Messages of a topic for a group: each is handed to one member of the group."""

    def fetch(self, limit: int = 100) -> list[Message]:
        """The next messages, oldest first; an empty list where there are none now."""
        ...

    def acknowledge(self) -> None:
        """Tell that all messages fetched so far are dealt with; others come again."""
        ...


class Bus(Protocol):
    """Where messages go to and come from."""

    def publish(self, messages: Sequence[Message]) -> int:
        """Send messages in order.

        Returns
        -------
        int
            How many of them, counted from the first, the bus has taken for good; fewer than all
            where it is away. Those sent again are not delivered twice.
        """
        ...

    def subscribe(self, topic: str, group: str) -> Subscription:
        """Messages of a topic from the first one that the group has not acknowledged.

        ``*`` stands for one word of a topic, ``>`` at the end for one or more.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def matches(pattern: str, topic: str) -> bool:
    """Whether a topic is one of a pattern.

    >>> matches("ai.*", "ai.rebalance"), matches("ai.*", "ai"), matches(">", "ai.rebalance")
    (True, False, True)
    """
    wanted, words = pattern.split("."), topic.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        if len(words) <= len(wanted):
            return False
        words = words[: len(wanted)]
    return len(words) == len(wanted) and all(
        want in ("*", word) for want, word in zip(wanted, words, strict=True)
    )


@dataclass
class _Group:
    pattern: str
    waiting: deque[Message] = field(default_factory=deque)
    fetched: deque[Message] = field(default_factory=deque)

    def fetch(self, limit: int = 100) -> list[Message]:
        taken = [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]
        self.fetched.extend(taken)
        return taken

    def acknowledge(self) -> None:
        self.fetched.clear()


class InProcessBus:
    """Bus within one process; what a subscriber has to survive a crash is in the state file.

    Parameters
    ----------
    most_waiting : int
        Messages that a group may leave waiting; the oldest are dropped beyond it.

    Raises
    ------
    ModelError
        `most_waiting` is not positive.
    """

    def __init__(self, most_waiting: int = 100_000) -> None:
        if most_waiting < 1:
            raise ModelError(f"most_waiting = {most_waiting}: must be at least 1")
        self.most_waiting = most_waiting
        self._groups: dict[tuple[str, str], _Group] = {}
        # Identifiers in the order of their arrival, to know a repeated one.
        self._seen: dict[str, None] = {}

    def publish(self, messages: Sequence[Message]) -> int:
        """Hand messages to every group of their topics; always all of them."""
        for message in messages:
            if message.identifier in self._seen:
                continue
            self._seen[message.identifier] = None
            if len(self._seen) > self.most_waiting:
                del self._seen[next(iter(self._seen))]
            for group in self._groups.values():
                if matches(group.pattern, message.topic):
                    group.waiting.append(message)
                    if len(group.waiting) > self.most_waiting:
                        group.waiting.popleft()
        return len(messages)

    def subscribe(self, topic: str, group: str) -> Subscription:
        """Messages published from now on; a group that subscribes again gets what it left."""
        known = self._groups.setdefault((topic, group), _Group(topic))
        known.waiting.extendleft(reversed(known.fetched))
        known.fetched.clear()
        return known

    def close(self) -> None:
        """Nothing is held."""


class BusRows:
    """Source of rows that arrive on a topic of a bus, as `Row.content` writes them.

    A row is acknowledged once it is kept; one that comes again is known by its identifier. What is
    no row is handed out as one without a time, which the rules reject.

    Parameters
    ----------
    bus : Bus
    topic, group : str
    idle : float, optional
        Seconds without a row after which the source ends; None waits for ever.
    sleep : callable
        Takes seconds.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        topic: str = "rows",
        group: str = "portfolio",
        idle: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.idle, self.sleep = idle, sleep
        self._subscription = bus.subscribe(topic, group)

    def rows(self, after: int) -> Iterator[Row]:
        """Rows as they arrive; the bus knows which were taken before."""
        heard = time.monotonic()
        while self.idle is None or time.monotonic() - heard < self.idle:
            # One at a time: an acknowledgement is of all that were fetched.
            found = self._subscription.fetch(1)
            if not found:
                self.sleep(PAUSE)
                continue
            (message,) = found
            try:
                yield Row.of(message.body, message.identifier)
            except DataError:
                yield Row(None, {}, identifier=message.identifier)
            heard = time.monotonic()

    def acknowledge(self) -> None:
        """Acknowledge the row handed out last."""
        self._subscription.acknowledge()


# Seconds between two looks at a bus on which nothing waits.
PAUSE = 0.002
