"""State of a running portfolio in one SQLite file, a transaction for each input."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from sddp.errors import DataError
from sddp.files import written_whole
from sddp.live.bus import Message

# Raised with every change of the tables; files of another version are not read.
SCHEMA_VERSION = 1

# Seconds that a statement waits for readers.
PATIENCE = 5.0

TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE inputs (number INTEGER PRIMARY KEY, kind TEXT NOT NULL, identifier TEXT UNIQUE, "
    "body TEXT NOT NULL)",
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, input INTEGER NOT NULL, "
    "topic TEXT NOT NULL, body TEXT NOT NULL, measured TEXT)",
    "CREATE TABLE instructions (identifier TEXT PRIMARY KEY, input INTEGER NOT NULL, "
    "body TEXT NOT NULL)",
    "CREATE TABLE checkpoint (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, "
    "body TEXT NOT NULL)",
    "CREATE TABLE sent (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL)",
)


class Input(NamedTuple):
    """What came in, as text.

    Attributes
    ----------
    number : int
        From 1, in the order of arrival.
    kind : str
        ``row``, ``message``, ``fills`` of a venue outside of the process, or ``overflow``: events
        that the bus will not get.
    identifier : str or None
        Of the message that brought it.
    body : str
        JSON.
    """

    number: int
    kind: str
    identifier: str | None
    body: str


class LoggedEvent(NamedTuple):
    """An event as it is kept.

    Attributes
    ----------
    sequence : int
        From 1.
    number : int
        Of the input that it follows from.
    topic : str
    body : str
        Canonical JSON.
    measured : str or None
        JSON with what was measured, where that is more; it differs between two runs of the same
        inputs and is no part of a comparison.
    """

    sequence: int
    number: int
    topic: str
    body: str
    measured: str | None


class StateFile:
    """One file, held by one process.

    SQLite's write-ahead log with ``synchronous=FULL``: a transaction is on the disk when `commit`
    returns, or is not there at all.

    Parameters
    ----------
    path : Path
        Made where it does not exist; its folder must. Beside it lie ``-wal`` and ``-shm`` files of
        SQLite, and ``.lock`` with number and start time of the process that holds it.
    settings : mapping
        Description of the portfolio as in JSON; a file of other settings is not used.

    Raises
    ------
    DataError
        The file is held by another process, is damaged or no state file, of another schema version
        or other settings, or cannot be written to.
    """

    def __init__(self, path: Path | str, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self._lock = _lock(self.path)
        try:
            self._connection = sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
            try:
                self._open(settings)
            except BaseException:
                self._connection.close()
                raise
        except sqlite3.Error as error:
            os.close(self._lock)
            raise DataError(f"state={self.path}: must be a writable state file: {error}") from error
        except BaseException:
            os.close(self._lock)
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside.

        Raises
        ------
        DataError
            The disk is full or read-only; nothing of the transaction is kept.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise DataError(
                    f"state={self.path}: cannot be written: {error}; nothing of this input is "
                    "kept, and nothing was sent; make room and start again"
                ) from error
            raise

    def knows(self, identifier: str) -> bool:
        """Whether an input of that identifier was taken."""
        found = self._connection.execute(
            "SELECT 1 FROM inputs WHERE identifier = ?", (identifier,)
        ).fetchone()
        return found is not None

    def add_input(self, entry: Input) -> None:
        """Keep an input."""
        self._connection.execute("INSERT INTO inputs VALUES (?, ?, ?, ?)", entry)

    def add_events(self, events: Sequence[LoggedEvent]) -> None:
        """Keep events."""
        self._connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?)", events)

    def add_instruction(self, identifier: str, number: int, body: str) -> None:
        """Keep an instruction; a second one of an identifier is an error."""
        self._connection.execute(
            "INSERT INTO instructions VALUES (?, ?, ?)", (identifier, number, body)
        )

    def write_checkpoint(self, number: int, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint: the state after an input."""
        self._connection.execute(
            "INSERT OR REPLACE INTO checkpoint VALUES (1, ?, ?)",
            (number, json.dumps(state, separators=(",", ":"))),
        )

    def write_sent(self, sequence: int) -> None:
        """Keep up to which event the bus has all."""
        self._connection.execute("INSERT OR REPLACE INTO sent VALUES (1, ?)", (sequence,))

    def checkpoint(self) -> tuple[int, dict[str, Any] | None]:
        """Number of the input after which the checkpoint was taken, and the state; 0, None."""
        found = self._connection.execute("SELECT number, body FROM checkpoint").fetchone()
        return (0, None) if found is None else (found[0], json.loads(found[1]))

    def sent(self) -> int:
        """Up to which event the bus had all when this was last written."""
        found = self._connection.execute("SELECT sequence FROM sent").fetchone()
        return 0 if found is None else int(found[0])

    def inputs(self, after: int = 0) -> Iterator[Input]:
        """Inputs after a number, in order."""
        rows = self._connection.execute("SELECT * FROM inputs WHERE number > ?", (after,))
        return (Input(*row) for row in rows)

    def events(self, after: int = 0, limit: int = -1) -> list[LoggedEvent]:
        """Events after a sequence, in order."""
        rows = self._connection.execute(
            "SELECT * FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
        )
        return [LoggedEvent(*row) for row in rows]

    def last(self) -> tuple[int, int, int]:
        """Number of the last input, of row inputs, and the sequence of the last event."""
        number, rows = self._connection.execute(
            "SELECT COALESCE(MAX(number), 0), COALESCE(SUM(kind = 'row'), 0) FROM inputs"
        ).fetchone()
        sequence = self._connection.execute("SELECT COALESCE(MAX(sequence), 0) FROM events")
        return number, rows, sequence.fetchone()[0]

    def close(self) -> None:
        """Close the file, and let other processes have it."""
        self._connection.close()
        os.close(self._lock)

    def _open(self, settings: Mapping[str, Any]) -> None:
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        tables = self._connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if tables and version != SCHEMA_VERSION:
            raise DataError(
                f"state={self.path}: has schema version {version}, this code reads "
                f"{SCHEMA_VERSION}; go on with the code that wrote it, or begin a new file"
            )
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        told = json.dumps(settings, sort_keys=True)
        if not tables:
            with self.transaction():
                for statement in TABLES:
                    self._connection.execute(statement)
                self._connection.execute("INSERT INTO meta VALUES ('settings', ?)", (told,))
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        kept = read_settings(self._connection)
        ours = json.loads(told)
        differing = sorted(k for k in kept.keys() | ours if kept.get(k) != ours.get(k))
        if differing:
            raise DataError(
                f"state={self.path}: belongs to a portfolio of other {', '.join(differing)}; start "
                "it with the settings it was begun with, or begin a new file"
            )


def read_settings(connection: sqlite3.Connection) -> dict[str, Any]:
    """Settings of the portfolio that a file belongs to."""
    found = connection.execute("SELECT value FROM meta WHERE key = 'settings'").fetchone()
    settings: dict[str, Any] = json.loads(found[0])
    return settings


def export(path: Path | str, to: Path | str) -> int:
    """Write the log of a state file as JSON lines: settings, then each input and its events.

    The file may be held by a running process. Instructions are among the events. What was written
    before is replaced in one step.

    Returns
    -------
    int
        Lines written.
    """
    connection = sqlite3.connect(f"file:{Path(path)}?mode=ro", uri=True, timeout=PATIENCE)
    lines = 1
    with (
        contextlib.closing(connection),
        written_whole(Path(to)) as part,
        part.open("w", encoding="utf-8") as file,
    ):
        connection.execute("BEGIN")
        told = {"settings": read_settings(connection), "schema": SCHEMA_VERSION}
        file.write(json.dumps(told, sort_keys=True) + "\n")
        events = iter(connection.execute("SELECT * FROM events ORDER BY sequence"))
        waiting = next(events, None)
        for number, kind, identifier, body in connection.execute("SELECT * FROM inputs"):
            entry = {"input": number, "kind": kind, "identifier": identifier, "body": body}
            file.write(json.dumps(entry) + "\n")
            lines += 1
            while waiting is not None and waiting[1] == number:
                file.write(json.dumps({"event": waiting[0], "topic": waiting[2]})[:-1])
                file.write(f', "body": {waiting[3]}}}\n')
                lines += 1
                waiting = next(events, None)
    return lines


def messages_of(events: Sequence[LoggedEvent], name: str) -> list[Message]:
    """Events as messages; an event has the same identifier each time."""
    return [
        Message(event.topic, f"{name}/{event.sequence}", event.measured or event.body)
        for event in events
    ]


def _lock(path: Path) -> int:
    """Hold the lock beside a file until its descriptor is closed, or the process ends."""
    import fcntl  # not on Windows, where nothing of this room runs

    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(f"state={path}: must lie in a writable folder: {error}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise DataError(
            f"state={path}: is held by {holder}; stop that one, or give this one a file of its own"
        ) from error
    started = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"process {os.getpid()}, started {started}\n".encode(), 0)
    return lock
