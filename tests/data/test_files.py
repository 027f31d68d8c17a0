"""Tables on disk: round trip, checksums, nothing half-written, and bad files refused."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sddp.data.sources.files import make_room, read_table, sidecar, write_table
from sddp.errors import DataError

TABLE = pd.DataFrame(
    {"a": [1.0, 1 / 3, 2.5], "b": [0.1, np.nan, -4e-9]},
    index=pd.DatetimeIndex(["2008-01-02", "2008-01-03", "2008-01-07"], name="date"),
)


def test_round_trip_is_exact(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, TABLE, {"unit": "one"})
    pd.testing.assert_frame_equal(read_table(path, missing=True), TABLE)
    assert path.read_text().splitlines()[:3] == [
        "date,a,b",
        "2008-01-02,1.0,0.1",
        "2008-01-03,0.3333333333333333,",
    ]


def test_the_sidecar_describes_the_file(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, TABLE, {"unit": "one"})
    about = json.loads((tmp_path / "table.csv.json").read_text())
    assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (about["file"], about["rows"], about["unit"]) == ("table.csv", 3, "one")
    assert (about["first"], about["last"]) == ("2008-01-02", "2008-01-07")
    assert about["written_utc"].endswith("+00:00")


def test_a_file_changed_behind_its_sidecar_is_rejected(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, TABLE, {})
    path.write_text(path.read_text().replace("2.5", "2.6"))
    with pytest.raises(DataError, match=r"SHA-256 differs"):
        read_table(path, missing=True)
    sidecar(path).unlink()
    assert read_table(path, missing=True)["a"].iloc[-1] == 2.6


@pytest.mark.parametrize("content", ["{}", "[1]", "no json"])
def test_a_broken_sidecar_is_named(tmp_path, content):
    path = tmp_path / "table.csv"
    write_table(path, TABLE, {})
    sidecar(path).write_text(content)
    with pytest.raises(DataError, match=r"table\.csv\.json is no sidecar"):
        read_table(path, missing=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("date\n2008-01-02\n", "no delimiter found"),
        ("date,a\n", "there are no rows below the header"),
        ("date,a\n02/01/2008,1\n03/01/2008,1\n", "'02/01/2008' (line 2) is 2008-01-02 (day first"),
        ("date,a\n2008-01-02,1\n,1\n2008-01-04,1\n", "line 3 has no date"),
        ("date,a\n2008-01-02,1\n2008-01-02,2\n", "several rows for 2008-01-02"),
        ("date,a,b\n2008-01-02,1,x\n2008-01-03,1,2\n", "b is 'x' at line 2"),
        ("date,a,b\n2008-01-02,1,\n2008-01-03,1,2\n", "b is empty on 2008-01-02; give a number in"),
        ("date,a\n2008-01-02,inf\n2008-01-03,1\n", "a is 'inf'"),
        ("date,a\n2008-01-02,nan\n2008-01-03,1\n", "a is empty on 2008-01-02"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, text, words):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_table(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: the file cannot be read"):
        read_table(tmp_path / "none.csv")


def test_a_place_that_cannot_be_written_to_is_found_out_first(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to"):
        make_room(tmp_path / "file" / "table.csv")
    with pytest.raises(DataError, match="it is a folder"):
        make_room(tmp_path)
    make_room(tmp_path / "new" / "folder" / "table.csv")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


@pytest.mark.parametrize("stop", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, stop):
    path = tmp_path / "table.csv"
    write_table(path, TABLE, {})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    write = Path.write_bytes

    def fail(self, content):
        if self.name == ".table.csv.json.part":
            write(self, content[:10])
            raise stop
        return write(self, content)

    monkeypatch.setattr(Path, "write_bytes", fail)
    expected = DataError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write_table(path, TABLE * 2.0, {})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_files_are_readable_by_others(tmp_path):
    mask = os.umask(0o022)
    try:
        write_table(tmp_path / "table.csv", TABLE, {})
    finally:
        os.umask(mask)
    assert (tmp_path / "table.csv").stat().st_mode & 0o777 == 0o644
