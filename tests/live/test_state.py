"""The state file: all or nothing, one process, its own settings."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys

import pytest

from sddp.errors import DataError
from sddp.live import StateFile, export
from sddp.live.state import Input, LoggedEvent

SETTINGS = {"strategy": {"class": "EqualWeight"}, "lag": 1}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def filled(path, n=3):
    state = StateFile(path, SETTINGS)
    for i in range(1, n + 1):
        with state.transaction():
            state.add_input(Input(i, "row", f"m{i}", f'{{"i":{i}}}'))
            state.add_events([LoggedEvent(i, i, "events", f'{{"event":"E","i":{i}}}', None)])
            state.write_checkpoint(i, {"x": 0.1 * i, "nan": float("nan")})
            state.write_sent(i - 1)
    return state


def write(state, checkpoint):
    with state.transaction():
        state.add_input(Input(4, "row", None, "x"))
        state.write_checkpoint(4, checkpoint)


def instruct_again(state):
    with state.transaction():
        state.add_input(Input(4, "row", None, "x"))
        state.add_instruction("2024-01-01/1", 4, "{}")


def test_what_is_written_is_there_after_a_start(path):
    filled(path).close()
    state = StateFile(path, dict(reversed(SETTINGS.items())))
    assert state.last() == (3, 3, 3)
    number, kept = state.checkpoint()
    assert (number, kept["x"], kept["nan"] != kept["nan"]) == (3, 0.1 * 3, True)
    assert state.sent() == 2
    assert [entry.body for entry in state.inputs(1)] == ['{"i":2}', '{"i":3}']
    assert [event.sequence for event in state.events(1, limit=1)] == [2]
    assert state.knows("m2")
    assert not state.knows("m4")
    state.close()


def test_a_transaction_that_fails_leaves_nothing(path):
    state = filled(path)
    with pytest.raises(TypeError):
        write(state, {"no JSON": object()})
    assert state.last() == (3, 3, 3)
    assert state.checkpoint()[0] == 3
    # An instruction of a known identifier takes its whole transaction with it.
    with state.transaction():
        state.add_instruction("2024-01-01/1", 3, "{}")
    with pytest.raises(DataError, match="UNIQUE constraint"):
        instruct_again(state)
    assert state.last() == (3, 3, 3)
    state.close()


def test_a_full_disk_stops_before_anything_is_kept(path):
    state = filled(path)
    pages = state._connection.execute("PRAGMA page_count").fetchone()[0]
    state._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DataError, match="full; nothing of this input is kept"), state.transaction():
        state.add_input(Input(4, "row", None, "x" * 100_000))
    assert state.last() == (3, 3, 3)
    state._connection.execute("PRAGMA query_only = 1")
    with pytest.raises(DataError, match="nothing of this input is kept"), state.transaction():
        state.add_input(Input(4, "row", None, "x"))
    state.close()


def test_it_is_on_the_disk_when_a_transaction_ends(path):
    state = filled(path)
    assert state._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert state._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    state.close()


def test_a_second_process_is_told_who_holds_the_file(path):
    code = (
        "import sys\nfrom sddp.errors import DataError\nfrom sddp.live import StateFile\n"
        f"try:\n    StateFile(sys.argv[1], {SETTINGS!r})\nexcept DataError as e:\n    print(e)"
    )
    state = filled(path)
    said = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert f"is held by process {os.getpid()}, started 2" in said
    with pytest.raises(DataError, match="is held by process"):
        StateFile(path, SETTINGS)
    state.close()
    StateFile(path, SETTINGS).close()


def test_a_file_of_another_portfolio_or_schema_is_not_used(path, tmp_path):
    filled(path).close()
    with pytest.raises(DataError, match="other lag, strategy;"):
        StateFile(path, {"strategy": {"class": "HoldCash"}})
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DataError, match="schema version 7, this code reads 1; go on with the code"):
        StateFile(path, SETTINGS)
    text = tmp_path / "notes.txt"
    text.write_text("no database, but long enough to be looked at " * 50)
    with pytest.raises(DataError, match="must be a writable state file"):
        StateFile(text, SETTINGS)
    with pytest.raises(DataError, match="must lie in a writable folder"):
        StateFile(tmp_path / "none" / "state.db", SETTINGS)


def test_the_log_is_written_as_json_lines(path, tmp_path):
    state = filled(path)
    with state.transaction():
        state.add_input(Input(4, "parked", None, 'no "JSON'))
    assert export(path, tmp_path / "log.jsonl") == 8  # while the file is held
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[0] == {"settings": SETTINGS, "schema": 1}
    assert lines[1] == {"input": 1, "kind": "row", "identifier": "m1", "body": '{"i":1}'}
    assert lines[2] == {"event": 1, "topic": "events", "body": {"event": "E", "i": 1}}
    assert lines[-1]["body"] == 'no "JSON'
    state.close()
