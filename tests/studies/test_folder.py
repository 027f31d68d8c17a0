"""A folder of results is the old run's or the new one's, and loses no file of the user's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sddp.errors import DataError
from sddp.studies import folder as folders
from sddp.studies.folder import ResultFolder
from sddp.studies.record import Run

TABLE = pd.DataFrame({"a": [1.0]})


def write(out: Path, *names: str) -> None:
    with Run(out, {}) as run:
        for name in names:
            run.write_table(name, TABLE)
        run.finish("complete", {})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_run_takes_the_place_of_the_old_one_and_keeps_what_is_the_users(tmp_path):
    out = tmp_path / "deep" / "out"
    write(out, "first", "both")
    (out / "notes.txt").write_text("mine")
    (out / "folder").mkdir()
    write(out, "second", "both")
    assert names(out) == ["both.csv", "folder", "notes.txt", "run.json", "second.csv"]
    assert json.loads((out / "run.json").read_text())["files"] == ["both.csv", "second.csv"]
    assert names(out.parent) == ["out"]


def test_a_folder_that_no_run_has_written_loses_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo.png").write_text("mine")
    write(tmp_path / "out", "table")
    assert names(tmp_path / "out") == ["photo.png", "run.json", "table.csv"]


def test_a_run_that_fails_leaves_the_old_folder(tmp_path):
    write(tmp_path / "out", "first")

    def interrupted() -> None:
        with Run(tmp_path / "out", {}) as run:
            run.write_table("second", TABLE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names(tmp_path / "out") == ["first.csv", "run.json"]
    assert names(tmp_path) == ["out"]


def test_a_run_may_renew_a_part(tmp_path):
    write(tmp_path / "out", "first", "second")
    with Run(tmp_path / "out", {}, keep=True) as run:
        run.write_table("second", TABLE)
        run.finish("complete", {})
    assert names(tmp_path / "out") == ["first.csv", "run.json", "second.csv"]


KILLED = """
import os, signal, sys
from sddp.studies import folder
from tests.studies.test_folder import write
from pathlib import Path
rename, n = os.rename, int(sys.argv[2])
def killed(old, new):
    global n
    n -= 1
    if n < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    rename(old, new)
folder.os.rename = killed
write(Path(sys.argv[1]), "second")
"""


@pytest.mark.long
@pytest.mark.parametrize("n_renames", [0, 1, 2])
def test_killed_while_it_is_replaced(tmp_path, n_renames):
    """The next run finds whole results, and what the user had put there."""
    out = tmp_path / "out"
    write(out, "first")
    (out / "notes.txt").write_text("mine")
    arguments = [sys.executable, "-c", KILLED, str(out), str(n_renames)]
    root = Path(__file__).parents[2]
    assert subprocess.run(arguments, cwd=root, check=False).returncode == -9
    with ResultFolder(out):
        pass
    found = names(out)
    assert found in (
        ["first.csv", "notes.txt", "run.json"],
        ["notes.txt", "run.json", "second.csv"],
    )
    assert names(tmp_path) == ["out"]


def test_places_that_cannot_be_replaced_are_said_before_anything_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    for place in ("file", "file/out", ".", "..", "a\0b", "x" * 300):
        with pytest.raises(DataError, match=r"^--out .*: cannot be written to .*; name a new"):
            Run(place, {})
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="ermission"):
        Run(tmp_path / "out", {})


def test_a_folder_that_cannot_be_moved_leaves_the_new_results(tmp_path, monkeypatch):
    def full(old: str, new: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "rename", full)
    with pytest.raises(DataError, match=r"No space left.*the new results are in (\S+)") as caught:
        write(tmp_path / "out", "table")
    left = Path(str(caught.value).split()[-1])
    assert names(left) == ["run.json", "table.csv"]
