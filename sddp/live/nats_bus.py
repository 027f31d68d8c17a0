"""Bus over a NATS server with JetStream: kept on the server's disk, each effect once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any

from sddp.errors import DataError
from sddp.live.bus import Bus, Message, Subscription

# Everything of one portfolio is in one stream, and so in one order.
SUBJECTS = ("ai.>", "analytics.>", "events", "alerts", "parameters", "breaker.>", "rows")

# Seconds in which the server drops a repeated identifier.
DUPLICATES = 3_600.0

# Messages sent before their receipts are awaited, or fetched at once.
BATCH = 500

# Messages that wait in memory for a subscriber.
AHEAD = 2_000

# Seconds between two attempts.
PAUSE = 0.05


class NatsBus:
    """Connection to one stream of a server, held by a thread of its own: no call waits for it.

    A message is published with its identifier, and the server drops a repeated one; a fetched
    message comes again until it is acknowledged. Both together, with inputs kept by identifier
    (`StateFile`), make the effect of each message happen once.

    Parameters
    ----------
    url : str
        ``nats://127.0.0.1:4222``.
    stream : str
    timeout : float
        Seconds for an answer of the server.

    Raises
    ------
    DataError
        `nats-py` is not installed. A server that is away is no error: see `publish`.
    """

    def __init__(self, url: str, *, stream: str = "portfolio", timeout: float = 2.0) -> None:
        try:
            import nats  # optional, and 0.2 s
        except ImportError as error:
            raise DataError("bus: needs nats-py; pip install sddp-allocation[live]") from error
        self.url, self.stream, self.timeout = url, stream, timeout
        self.failures = (OSError, asyncio.TimeoutError, TimeoutError, nats.errors.Error)
        self.not_found = nats.js.errors.NotFoundError
        self.generation = 0
        self.loop = asyncio.new_event_loop()
        self._nats: Any = nats
        self._client: Any = None
        self._connecting = asyncio.Lock()
        self._tasks: set[Any] = set()
        self._subscriptions: dict[tuple[str, str], _Pull] = {}
        # To be sent in this order; the first of them until its receipt is there.
        self._waiting: deque[Message] = deque()
        self._known: set[str] = set()
        self._stored: set[str] = set()
        # A lost connection shows as a failure of what waits for it; the rest is noise.
        self.loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.begin(self._send_waiting())

    def publish(self, messages: Sequence[Message]) -> int:
        """Give messages to the sending thread; how many, from the first, the server has stored.

        Give those that are not stored yet again, with what follows: they are known, and sent once
        more only where the connection was lost.
        """
        for message in messages:
            if message.identifier not in self._known:
                self._known.add(message.identifier)
                self._waiting.append(message)
        done = 0
        for message in messages:
            if message.identifier not in self._stored:
                break
            done += 1
        for message in messages[:done]:
            self._known.discard(message.identifier)
            self._stored.discard(message.identifier)
        return done

    def subscribe(self, topic: str, group: str) -> Subscription:
        """Messages of a topic for a durable group; an earlier subscription of this bus ends.

        Two that fetch for one group would each hold what the other waits for.
        """
        earlier = self._subscriptions.get((topic, group))
        found = self._subscriptions[topic, group] = _Pull(self, topic, group, earlier)
        return found

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        client = self._client
        return client is not None and bool(client.is_connected)

    def begin(self, work: Awaitable[Any]) -> None:
        """Begin work on the thread of the connection."""

        async def task() -> None:
            me: Any = asyncio.current_task()
            self._tasks.add(me)
            try:
                with contextlib.suppress(*self.failures):
                    await work
            finally:
                self._tasks.discard(me)

        asyncio.run_coroutine_threadsafe(task(), self.loop)

    def close(self) -> None:
        """Close the connection and end the thread; what is not stored yet is not sent."""

        async def end() -> None:
            ours = list(self._tasks)
            for task in ours:
                task.cancel()
            await asyncio.gather(*ours, return_exceptions=True)
            await self._leave()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(end(), self.loop).result(5.0 * self.timeout)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(5.0 * self.timeout)
        if not self._thread.is_alive():
            self.loop.close()

    async def context(self) -> Any:
        """Context of JetStream on a connection, which is made where there is none."""
        async with self._connecting:
            if not self.connected:
                await self._leave()
                self._client = self._nats.NATS()
                await asyncio.wait_for(
                    self._client.connect(
                        self.url,
                        allow_reconnect=False,
                        connect_timeout=self.timeout,
                        max_reconnect_attempts=0,
                        error_cb=_ignore,
                    ),
                    self.timeout,
                )
                await self._client.jetstream(timeout=self.timeout).add_stream(
                    name=self.stream, subjects=list(SUBJECTS), duplicate_window=DUPLICATES
                )
                self.generation += 1
            return self._client.jetstream(timeout=self.timeout)

    async def _leave(self) -> None:
        """Close the connection there is, whatever state it is in."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*self.failures):
                await asyncio.wait_for(client.close(), self.timeout)

    def consumer_config(self, start: int | None) -> Any:
        """Settings of a consumer that begins at a place in the stream, or at its first message."""
        if start is None:
            return None
        policy = self._nats.js.api.DeliverPolicy.BY_START_SEQUENCE
        return self._nats.js.api.ConsumerConfig(deliver_policy=policy, opt_start_seq=start)

    async def _send_waiting(self) -> None:
        while True:
            if not self._waiting:
                await asyncio.sleep(PAUSE / 10.0)
                continue
            try:
                part = [self._waiting[i] for i in range(min(len(self._waiting), BATCH))]
                stored = await self._send(await self.context(), part)
                for _ in range(stored):
                    self._stored.add(self._waiting.popleft().identifier)
                if stored < len(part):
                    # What was sent after the failure may be stored too: it is sent again, in
                    # order, on a new connection, and dropped by the server.
                    async with self._connecting:
                        await self._leave()
            except self.failures:
                await asyncio.sleep(PAUSE)

    async def _send(self, context: Any, messages: Sequence[Message]) -> int:
        """Send messages in order; how many, from the first, have a receipt."""
        tasks = [
            context.publish(m.topic, m.body.encode(), headers={"Nats-Msg-Id": m.identifier})
            for m in messages
        ]
        receipts = await asyncio.gather(*tasks, return_exceptions=True)
        failed = [isinstance(receipt, BaseException) for receipt in receipts]
        return failed.index(True) if any(failed) else len(messages)


class _Pull:
    """Durable pull consumer; messages are fetched ahead by the thread of the connection."""

    def __init__(self, bus: NatsBus, topic: str, group: str, earlier: _Pull | None) -> None:
        self._bus, self._topic, self._group = bus, topic, group
        self._arrived: deque[Any] = deque()
        self._handed_out: list[Any] = []
        self._superseded, self._ended = False, asyncio.Event()
        if earlier is not None:
            earlier._superseded = True
        bus.begin(self._follow(earlier))

    def fetch(self, limit: int = 100) -> list[Message]:
        """The messages that have arrived, without waiting."""
        found = [self._arrived.popleft() for _ in range(min(limit, len(self._arrived)))]
        self._handed_out.extend(found)
        return [
            Message(m.subject, (m.headers or {}).get("Nats-Msg-Id", _place(m)), m.data.decode())
            for m in found
        ]

    def acknowledge(self) -> None:
        """Acknowledge all messages handed out; where the server is away they come again."""
        fetched, self._handed_out = self._handed_out, []
        if fetched:
            self._bus.begin(self._acknowledge(fetched))

    async def _acknowledge(self, fetched: Sequence[Any]) -> None:
        timeout = self._bus.timeout
        await asyncio.gather(*(message.ack_sync(timeout) for message in fetched))

    async def _follow(self, earlier: _Pull | None) -> None:
        try:
            if earlier is not None:
                await earlier._ended.wait()
            await self._fetch_ahead()
        finally:
            self._ended.set()

    async def _fetch_ahead(self) -> None:
        durable = f"{self._group}-{self._topic}".translate(_DURABLE)
        generation = -1
        consumer: Any = None
        while not self._superseded:
            try:
                context = await self._bus.context()
                if generation != self._bus.generation:
                    consumer = await self._consumer(context, durable)
                    self._arrived.clear()
                    generation = self._bus.generation
                if len(self._arrived) < AHEAD:
                    self._arrived.extend(await consumer.fetch(BATCH, timeout=self._bus.timeout))
                else:
                    await asyncio.sleep(PAUSE)
            except TimeoutError:  # nothing has come, or the server does not answer
                await asyncio.sleep(PAUSE)
            except self._bus.failures:  # the server is away, or has no such consumer any more
                generation = -1
                await asyncio.sleep(PAUSE)

    async def _consumer(self, context: Any, durable: str) -> Any:
        """The durable consumer, from the first message that is not acknowledged.

        One that goes on would deliver what was on its way over a lost connection after half a
        minute, and behind what follows it. It is made anew: all comes again at once, in order.
        """
        stream, start = self._bus.stream, None
        with contextlib.suppress(self._bus.not_found):
            start = (await context.consumer_info(stream, durable)).ack_floor.stream_seq + 1
            await context.delete_consumer(stream, durable)
        config = self._bus.consumer_config(start)
        return await context.pull_subscribe(
            self._topic, durable=durable, stream=stream, config=config
        )


_DURABLE = str.maketrans({".": "-", "*": "any", ">": "all"})


def _place(message: Any) -> str:
    """Identifier of a message whose sender gave none: its place in the stream."""
    return f"{message.metadata.stream}/{message.metadata.sequence.stream}"


async def _ignore(error: Exception) -> None:
    """Errors of the connection show as failures of what waits for it."""


def publish_all(bus: Bus, messages: Sequence[Message], seconds: float) -> int:
    """Publish messages and wait, at most so long, until the bus has taken them; how many it has."""
    done, until = 0, time.monotonic() + seconds
    while True:
        done += bus.publish(messages[done : done + 10 * BATCH])
        if done == len(messages) or time.monotonic() > until:
            return done
        time.sleep(PAUSE / 10.0)
