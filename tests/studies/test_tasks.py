"""Tasks are done once, in any order and number of processes, with the same answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sddp.plain import NotPlain
from sddp.studies.tasks import Task, TaskPool

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Answer:
    """Of a task."""

    numbers: np.ndarray
    table: pd.DataFrame
    by_pair: dict[tuple[int, str], float]


def work(seed: int) -> Answer:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"a": rng.normal(size=3), "b": ["x", "y", None]}, [4, 5, 6])
    return Answer(rng.normal(size=(2, 3)), table.rename_axis("row"), {(seed, "k"): np.inf})


def rejected(_: int) -> None:
    raise AssertionError("worked out again")


def tasks(n: int) -> list[Task]:
    return [Task(work, (seed,), seed) for seed in range(n)]


def same(one: Answer, other: Answer) -> None:
    np.testing.assert_array_equal(one.numbers, other.numbers)
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    assert one.by_pair == other.by_pair


def test_answers_come_back_whole_and_in_order(tmp_path):
    kept = TaskPool(tmp_path, progress=False).run("task", tasks(3))
    for seed, answer in enumerate(kept):
        same(answer, work(seed))
    again = TaskPool(tmp_path, progress=False)
    found = again.run("task", tasks(3)[::-1])
    for seed, answer in zip((2, 1, 0), found, strict=True):
        same(answer, work(seed))
    assert again.seconds["task"] > 0.0


def test_what_is_kept_is_not_worked_out_again(tmp_path, monkeypatch):
    TaskPool(tmp_path, progress=False).run("task", tasks(2))
    monkeypatch.setattr("sddp.studies.tasks._worked_out", rejected)
    TaskPool(tmp_path, progress=False).run("task", tasks(2))
    with pytest.raises(AssertionError, match="worked out again"):
        TaskPool(tmp_path, progress=False).run("task", tasks(3))


def test_nothing_is_kept_without_a_folder(tmp_path):
    (answer,) = TaskPool(progress=False).run("task", tasks(1))
    same(answer, work(0))
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_answers_do_not_depend_on_the_number_of_processes(tmp_path):
    serial = TaskPool(progress=False).run("task", tasks(3))
    parallel = TaskPool(tmp_path, 2, progress=False).run("task", tasks(3))
    for one, other in zip(serial, parallel, strict=True):
        same(one, other)


def test_what_cannot_be_kept_is_said(tmp_path):
    with pytest.raises(NotPlain, match=r"answer of socket_of\[0\] = "):
        TaskPool(tmp_path, progress=False).run("task", [Task(socket_of, (1,), 1)])


def socket_of(_: int) -> list[object]:
    import socket

    return [socket.socket]


STUDY = """
import sys, time
from sddp.cli.study import Study
from sddp.studies.tasks import Task
import pandas as pd

def slow(k):
    time.sleep(0.3)
    with open("done.txt", "a") as file:
        file.write(f"{k}\\n")
    return k / 3

def write(job):
    for part in (0, 1):
        keys = range(4 * part, 4 * part + 4)
        numbers = job.tasks.run("number", [Task(slow, (k,), k) for k in keys])
        job.record.write_table(f"part{part}", pd.DataFrame({"x": numbers}))
        job.finished[f"part{part}"] = sum(numbers)
    return job.finished

study = Study("own", "A study.", lambda options: {"seed": options.seed}, write)
if __name__ == "__main__":
    sys.exit(study.main())
"""


def started(where: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "own_study", "--jobs", "1", *arguments],
        cwd=where,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{where}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_a_study_goes_on_from_a_kill_and_from_ctrl_c(tmp_path):
    (tmp_path / "own_study.py").write_text(STUDY)
    done = tmp_path / "done.txt"
    for sent, n in ((signal.SIGKILL, 2), (signal.SIGINT, 5)):
        process = started(tmp_path)
        while process.poll() is None and not (
            done.exists() and len(done.read_text().splitlines()) >= n
        ):
            time.sleep(0.02)
        time.sleep(0.15)  # the answer that was just worked out is written by then
        process.send_signal(sent)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (-9 if sent == signal.SIGKILL else 130), err
        assert out == ""
        assert not (tmp_path / "results" / "own").exists()
    assert "the tables so far are in" in err
    aside = tmp_path / "results" / "own_interrupted"
    record = json.loads((aside / "run.json").read_text())
    assert (record["status"], record["files"]) == ("interrupted", ["part0.csv"])
    process = started(tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["part0"] + answer["part1"] == pytest.approx(28 / 3)
    assert pd.read_csv(tmp_path / "results" / "own" / "part1.csv")["x"].tolist() == [
        pytest.approx(k / 3, abs=0.0, rel=1e-9) for k in range(4, 8)
    ]
    # Finished tasks are not repeated; the one at work when the signal came may be.
    counts = pd.Series(done.read_text().split()).value_counts()
    assert counts.sum() <= 8 + 2
