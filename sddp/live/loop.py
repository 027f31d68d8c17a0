"""The loop of a portfolio that runs: input, rules, view, step, transaction, bus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

import sddp
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.events import (
    MEASURED,
    Event,
    MessageRejected,
    RebalanceInstructionIssued,
    canonical,
)
from sddp.backtest.trading.external_venue import ExternalVenue
from sddp.backtest.trading.messages import Envelope
from sddp.backtest.trading.step import step
from sddp.cache.fingerprint import describe
from sddp.cache.store import RESULTS_VERSION
from sddp.errors import DataError, ModelError
from sddp.live.bus import Bus, Message, Subscription
from sddp.live.observers import Observer, ProcessedRow
from sddp.live.rows import Row, Source
from sddp.live.rules import RowRules, StreamRules
from sddp.live.state import Input, LoggedEvent, StateFile, messages_of
from sddp.live.window import RowWindow

# Topics that a portfolio reads.
INBOUND = ("ai.>", "parameters", "breaker.>")

# Events that are sent at once.
BATCH = 1_000

# Of the JSON of a message: payload, nonce, signature.
ENVELOPE_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class OutboxOverflow(Event):
    """More events waited for the bus than allowed: the oldest are in the log only.

    Parameters
    ----------
    first, last : int
        Sequences of the events that are not sent.
    """

    first: int
    last: int


class Live:
    """A portfolio that takes one input after the other, each as a whole or not at all.

    The account is one of `sddp.backtest.trading`, and `step` is the function that `backtest` calls:
    over the same rows both do the same, bit for bit. Trading is on paper unless the account's venue
    is another.

    Every input (a row, a message, fills of a venue) is one transaction of the state file: the
    input, its events, its instructions and the state after it. A process that is killed is followed
    by one that goes on after the last input that was kept. An account whose strategy keeps no state
    goes on by taking all steps of the file again.

    A venue outside of the process is told of an instruction once its row is kept, and after a
    restart again of what it may not have been told: see `Venue`.

    Parameters
    ----------
    account : Account
        Fresh; what the file holds is restored into it.
    start : Timestamp, optional
        First row on which the account acts (UTC, no zone); rows before it are history.
    state : Path, optional
        Of the state file; None keeps nothing.
    rules : RowRules
    bus : Bus, optional
        Events are published on it, and messages taken from it.
    observers : sequence of Observer
        In a fixed order: their states are kept by it.
    name : str
        Of the portfolio: identifiers of its messages begin with it.
    most_waiting : int
        Events that may wait for the bus; beyond it the oldest are skipped, with an
        `OutboxOverflow`.

    Raises
    ------
    DataError
        As `StateFile`.
    """

    def __init__(
        self,
        account: Account,
        *,
        start: pd.Timestamp | str | None = None,
        state: Path | str | None = None,
        rules: RowRules = RowRules(),  # noqa: B008 - frozen
        bus: Bus | None = None,
        observers: Sequence[Observer] = (),
        name: str = "portfolio",
        most_waiting: int = 100_000,
    ) -> None:
        self.account, self.bus, self.observers, self.name = account, bus, tuple(observers), name
        self.start = None if start is None else pd.Timestamp(start)
        self.most_waiting = most_waiting
        assets = [str(asset) for asset in account.assets]
        self._rules = StreamRules(assets, rules)
        self._window = RowWindow(assets, account.lookback)
        self.n_inputs, self.n_rows, self.n_events = 0, 0, 0
        self.settings = self._described(rules)
        self._outside: ExternalVenue | None = None
        if not getattr(account.venue, "simulated", False):  # who does not say so is outside
            self._outside = ExternalVenue(account.venue, len(assets))
            account.venue = self._outside
        self._unsent: list[LoggedEvent] = []
        self._sent, self._broken = 0, False
        self._keeps_state = _keeps_state(account)
        self._file = None if state is None else StateFile(state, self.settings)
        if self._file is not None:
            try:
                self._resume(self._file)
            except BaseException:
                self._file.close()
                raise
        self._inbound: list[Subscription] = (
            [] if bus is None else [bus.subscribe(topic, name) for topic in INBOUND]
        )

    def take(self, row: Row) -> list[Event]:
        """Take a row: its events, after they are kept; none for a message that was taken before.

        Raises
        ------
        DataError
            The state cannot be written; the object cannot be used any more.
        """
        return self._transact("row", row.identifier, row.content, lambda: self._row(row))

    def receive(self, envelope: Envelope) -> list[Event]:
        """Take a message; it is acted on with the next row."""
        document = {
            "payload": dict(envelope.payload),
            "nonce": envelope.nonce,
            "signature": envelope.signature,
        }
        return self._message(Message(envelope.topic, envelope.nonce, json.dumps(document)), None)

    def run(self, source: Source) -> Iterator[list[Event]]:
        """Take all rows of a source, and the messages that arrive between them.

        Each list holds the events of one row, after they are kept and given to the bus. Stop
        between two of them: nothing is half done.
        """
        for row in source.rows(self.n_rows):
            self.poll()
            events = self.take(row)
            source.acknowledge()
            self.publish()
            yield events

    def poll(self) -> None:
        """Take the messages that wait on the bus, and what the venue has executed."""
        if self._outside is not None and self._window.n_rows:
            self._outside.send()
            told = self._outside.arrived(self.account.quotes(self._window.view()))
            if told is not None:
                self._transact("fills", None, lambda: json.dumps(told), lambda: self._filled(told))
        for subscription in self._inbound:
            for message in subscription.fetch():
                self._message(message, message.identifier)
            subscription.acknowledge()

    def publish(self) -> None:
        """Give the bus the events that it does not have yet; it may take them later."""
        if self.bus is None:
            return
        done = self.bus.publish(messages_of(self._unsent[:BATCH], self.name))
        if done:
            self._sent = self._unsent[done - 1].sequence
            del self._unsent[:done]
        if len(self._unsent) > self.most_waiting:
            # Half of the bound is given up at once, or each row would tell of an overflow.
            n_skipped = len(self._unsent) - self.most_waiting // 2
            skipped = [self._unsent[0].sequence, self._unsent[n_skipped - 1].sequence]
            del self._unsent[:n_skipped]
            self._transact(
                "overflow",
                None,
                lambda: json.dumps(skipped),
                lambda: [self._overflow(*skipped)],
            )

    def close(self, seconds: float = 2.0) -> None:
        """Send what waits, for at most so long, and close the state file."""
        until = time.monotonic() + seconds
        while self.bus is not None and self._unsent and time.monotonic() < until:
            self.publish()
            time.sleep(0.001)
        if self._file is not None:
            if not self._broken:
                with self._file.transaction():
                    self._file.write_sent(self._sent)
            self._file.close()
            self._file = None
        self._broken = True

    def _transact(
        self,
        kind: str,
        identifier: str | None,
        body: Callable[[], str],
        work: Callable[[], list[Event]],
    ) -> list[Event]:
        """One input: work, and everything kept, or nothing."""
        if self._broken:
            raise ModelError(
                "live: was closed, or an input failed; make another one from the state file"
            )
        if identifier is not None and self._file is not None and self._file.knows(identifier):
            return []
        self._broken = True
        events = work()
        number = self.n_inputs + 1
        # Nobody reads the log of a portfolio without a file and a bus.
        told = events if self._file is not None or self.bus is not None else []
        logged = _logged(told, number, self.n_events)
        if self._file is not None:
            with self._file.transaction():
                self._file.add_input(Input(number, kind, identifier, body()))
                self._file.add_events(logged)
                for event in events:
                    if isinstance(event, RebalanceInstructionIssued):
                        self._file.add_instruction(
                            event.instruction["identifier"], number, canonical(event)
                        )
                if self._keeps_state:
                    self._file.write_checkpoint(number, self._state())
                if self.bus is not None:
                    self._file.write_sent(self._sent)
        self.n_inputs = number
        self.n_rows += kind == "row"
        self.n_events += len(events)
        if self.bus is not None:
            self._unsent += logged
        self._broken = False
        if self._outside is not None:
            self._outside.send()
        return events

    def _again(self, entry: Input) -> list[Event]:
        """Events of an input that is taken from a log; nothing is kept."""
        if entry.kind == "row":
            return self._row(Row.of(entry.body, entry.identifier))
        if entry.kind == "message":
            return self._deliver(Message(*json.loads(entry.body)))
        if entry.kind == "fills":
            return self._filled(json.loads(entry.body))
        return [self._overflow(*json.loads(entry.body))]

    def _row(self, row: Row) -> list[Event]:
        started = time.perf_counter()
        accepted, events = self._rules.apply(row)
        for one in accepted:
            self._window.append(one)
            if self.start is not None and one.time < self.start:
                continue
            view = self._window.view()
            done = step(self.account, view)
            # A log that grows with every decision: the events hold what was decided.
            getattr(self.account.strategy, "decision_log", []).clear()
            processed = ProcessedRow(self.account, view, done, time.perf_counter() - started)
            events += done
            for observer in self.observers:
                events += observer.observe(processed)
        return events

    def _message(self, message: Message, identifier: str | None) -> list[Event]:
        return self._transact(
            "message", identifier, lambda: json.dumps(list(message)), lambda: self._deliver(message)
        )

    def _deliver(self, message: Message) -> list[Event]:
        """Hand a message to the account; one that cannot be read stays in the log, with a remark.

        The account itself rejects what its verifier does not accept, and a repeated nonce.
        """
        try:
            self.account.receive(_envelope(message))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            said = MessageRejected(
                time=self._time,
                topic=message.topic,
                nonce=message.identifier,
                reason=f"cannot be read, and is parked: {error!r}",
            )
            return [said]
        return []

    def _filled(self, told: Mapping[str, Any]) -> list[Event]:
        """Hand the venue's fills to the account, which books them with the next row."""
        assert self._outside is not None
        self._outside.receive(told)
        return []

    def _overflow(self, first: int, last: int) -> OutboxOverflow:
        return OutboxOverflow(time=self._time, first=first, last=last)

    @property
    def _time(self) -> pd.Timestamp:
        """Of the last accepted row."""
        return pd.Timestamp(0) if self._rules.time is None else self._rules.time

    def _state(self) -> dict[str, Any]:
        return {
            "account": self.account.state(),
            "observers": {type(each).__qualname__: each.state() for each in self.observers},
        }

    def _described(self, rules: RowRules) -> dict[str, Any]:
        """What a state file must agree with."""
        return {
            "code version": [sddp.__version__, RESULTS_VERSION],
            "assets": [str(asset) for asset in self.account.assets],
            "strategy": _describe(self.account.strategy),
            "trading rules": _describe(self.account.rules),
            "venue": type(self.account.venue).__qualname__,
            "row rules": describe(rules),
            "start": None if self.start is None else self.start.isoformat(),
            "name": self.name,
            "observers": sorted(type(each).__qualname__ for each in self.observers if each.state()),
        }

    def _resume(self, file: StateFile) -> None:
        """Go on after the last input of the file.

        Rows go through the rules and into the window again. The account is restored; one whose
        strategy keeps no state takes all steps again, and must come to the same events.
        """
        at, state = file.checkpoint()
        if state is None:
            replayed(self, file.inputs(), file.events())
            if self._outside is not None:
                self._outside.keep_open([order.identifier for order in self.account.orders])
        else:
            # To restore a strategy takes rows that are older than those of its views.
            self._window.lookback = None
            for entry in file.inputs():
                if entry.kind == "row":
                    for accepted in self._rules.apply(Row.of(entry.body))[0]:
                        self._window.append(accepted)
            if self._window.n_rows:
                self.account.restore(state["account"], self._window.view())
            for observer in self.observers:
                observer.restore(state["observers"][type(observer).__qualname__])
            self._window.lookback = self.account.lookback
        self.n_inputs, self.n_rows, self.n_events = file.last()
        assert state is None or at == self.n_inputs
        self._sent = file.sent()
        self._unsent = [] if self.bus is None else file.events(self._sent)


def replayed(live: Live, inputs: Iterable[Input], events: Iterable[LoggedEvent]) -> int:
    """Take the inputs of a log again, and compare all events with those of the log.

    Returns
    -------
    int
        Events compared.

    Raises
    ------
    DataError
        An event is not that of the log.
    """
    logged, compared = iter(events), 0
    for entry in inputs:
        for found in _logged(live._again(entry), entry.number, compared):
            kept = next(logged, None)
            if kept is None or (kept.body, kept.number, kept.topic) != (
                (found.body, found.number, found.topic)
            ):
                raise DataError(
                    f"event {found.sequence} of input {entry.number}: the log holds "
                    f"{None if kept is None else kept.body}, and taken again it is {found.body}; "
                    "other code, settings or numbers of the machine"
                )
            compared += 1
    if (left := next(logged, None)) is not None:
        raise DataError(
            f"event {left.sequence}: the log holds {left.body}, and taken again there is none"
        )
    return compared


def replay(log: Path | str, live: Live) -> int:
    """Take all inputs of a log again with a fresh portfolio, and prove that its events are equal.

    Parameters
    ----------
    log : Path
        Of the JSON lines that `export` has written.
    live : Live
        Fresh, without a state file, of the settings of the log.

    Returns
    -------
    int
        Events that are equal, byte for byte.

    Raises
    ------
    DataError
        The settings or an event differ, or the file is no log.
    """
    inputs: list[Input] = []
    events: list[LoggedEvent] = []
    try:
        with Path(log).open(encoding="utf-8") as lines:
            settings = json.loads(next(lines))["settings"]
            for line in lines:
                entry = json.loads(line)
                if "input" in entry:
                    inputs.append(Input(*entry.values()))
                else:
                    body = json.dumps(entry["body"], sort_keys=True, separators=(",", ":"))
                    place = (entry["event"], inputs[-1].number, entry["topic"])
                    events.append(LoggedEvent(*place, body, None))
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise DataError(f"log={log}: must be JSON lines that export has written: {error!r}") from (
            error
        )
    ours = json.loads(json.dumps(live.settings))
    differing = sorted(k for k in settings.keys() | ours if settings.get(k) != ours.get(k))
    if differing or live.n_inputs:
        raise DataError(
            f"log={log}: is of a portfolio of other {', '.join(differing) or 'age'}; replay it "
            "with a fresh one of its settings"
        )
    return replayed(live, inputs, events)


def _logged(events: Sequence[Event], number: int, before: int) -> list[LoggedEvent]:
    return [
        LoggedEvent(
            before + i, number, getattr(type(event), "topic", "events"), canonical(event), measured
        )
        for i, event in enumerate(events, start=1)
        for measured in (_measured(event),)
    ]


def _measured(event: Event) -> str | None:
    """The event with what was measured, where it holds such a thing."""
    if any(f.metadata == MEASURED for f in fields(event)):
        return canonical(event, measured=True)
    return None


def _envelope(message: Message) -> Envelope:
    document = json.loads(message.body)
    payload, nonce = document["payload"], document.get("nonce")
    if not isinstance(payload, dict):
        raise TypeError("the payload is no mapping")
    if document.get("version", ENVELOPE_VERSION) != ENVELOPE_VERSION:
        raise ValueError(f"version {document['version']} is unknown")
    nonce = message.identifier if nonce is None else str(nonce)
    return Envelope(message.topic, payload, nonce, document.get("signature"))


def _keeps_state(account: Account) -> bool:
    try:
        account.state()
    except ModelError:
        return False
    return True


def _describe(thing: Any) -> Any:
    """Description of settings; of what has none, its class."""
    try:
        return describe(thing)
    except ModelError:
        return {"class": type(thing).__qualname__}
