"""The main job killed or interrupted at random moments: nothing finished is repeated, same bits."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli import small

# Ten windows of two seeds: enough to be stopped in the middle of.
JOB = (
    *("backtest", "prices.csv", "--window", "82", "--period", "2", "--stages", "3"),
    *("--states", "2", "--starts", "2", "--scenarios", "40", "--iterations", "6"),
    *("--refit-every", "2", "--seeds", "2", "--paths", "20"),
)
OUT, STORE = "results/backtest", "results/store"


def start(where: Path, arguments: Sequence[str] = JOB) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sddp", *arguments],
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        cwd=where,
        env=small.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(where: Path) -> dict[Path, tuple[int, int]]:
    """Finished work by file: a file that is written again is another one.

    The log of a training is written before its policy, without which it says nothing.
    """
    files = [path for path in (where / STORE).rglob("*") if path.is_file()]
    return {
        path: (found.st_ino, found.st_mtime_ns)
        for path in files
        if not path.name.startswith(".")
        and (path.parts[-3] != "policies" or path.with_suffix(".json") in files)
        and (found := path.stat())
    }


def numbers(where: Path) -> dict[str, bytes]:
    """All tables, to the byte, but for how long training took; and the headline numbers."""
    found = {path.name: path.read_bytes() for path in (where / OUT).glob("*.csv")}
    lines = found["training.csv"].decode().splitlines()
    place = lines[0].split(",").index("seconds")
    cells = [line.split(",") for line in lines]
    found["training.csv"] = json.dumps([row[:place] + row[place + 1 :] for row in cells]).encode()
    record = json.loads((where / OUT / "run.json").read_text())
    found["results"] = json.dumps(record["results"]).encode()
    return found


def is_window(path: Path) -> bool:
    """Windows of a run go once the whole of it is kept."""
    return re.fullmatch(r"rows-\d+-\d+\.npz", path.name) is not None


def interrupt_at_random(where: Path, signals: Sequence[int], rng: random.Random, seconds: float):
    """Stop the job by one signal after the other at random moments; the number that stopped it.

    After each one, what was finished before is still there and was not written again.
    """
    known: dict[Path, tuple[int, int]] = {}
    n_stopped = 0
    for sent in signals:
        process = start(where)
        while process.poll() is None and not (where / STORE).exists():
            time.sleep(0.05)
        time.sleep(rng.uniform(0.0, seconds) + (0.5 * seconds if known else 0.0))
        process.send_signal(sent)
        out, err = process.communicate(timeout=120)
        if process.returncode == 0:  # it was done before
            break
        n_stopped += 1
        assert process.returncode == (-9 if sent == signal.SIGKILL else 130), err
        assert out == ""
        assert "Traceback" not in err
        assert not (where / OUT).exists()
        now = finished(where)
        for path, seen in known.items():
            assert now.get(path, seen if is_window(path) else None) == seen, path
        known = now
    process = start(where)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    now = finished(where)
    for path, seen in known.items():
        assert now.get(path, seen if is_window(path) else None) == seen, path
    return n_stopped


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, bytes], float]:
    where = tmp_path_factory.mktemp("undisturbed")
    small.prices(where / "prices.csv", n_rows=120, n_assets=4)
    process = start(where)
    while process.poll() is None and not (where / STORE).exists():
        time.sleep(0.05)
    began = time.monotonic()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return numbers(where), time.monotonic() - began


@pytest.mark.long
def test_the_main_job_goes_on_from_a_kill_and_from_ctrl_c(undisturbed, tmp_path):
    expected, seconds = undisturbed
    small.prices(tmp_path / "prices.csv", n_rows=120, n_assets=4)
    signals = (signal.SIGINT, signal.SIGKILL)
    assert interrupt_at_random(tmp_path, signals, random.Random(1), 0.3 * seconds) >= 1
    assert numbers(tmp_path) == expected


@pytest.mark.slow
def test_the_main_job_at_ten_random_moments(undisturbed, tmp_path_factory):
    expected, seconds = undisturbed
    n_stopped, seed = 0, 0
    while n_stopped < 10:
        where = tmp_path_factory.mktemp("stopped")
        small.prices(where / "prices.csv", n_rows=120, n_assets=4)
        rng = random.Random(seed)
        kinds = (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGINT)
        n_stopped += interrupt_at_random(where, kinds[seed % 2 :], rng, 0.3 * seconds)
        assert numbers(where) == expected
        seed += 1


# More than one part of fifty iterations.
TRAININGS = {
    "train": (
        *("train", "prices.csv", "--window", "82", "--period", "2", "--stages", "4", "--quiet"),
        *("--states", "2", "--starts", "1", "--scenarios", "60", "--iterations", "130"),
    ),
    "solve": ("solve", "instance.json", "--iterations", "130", "--quiet"),
}


@pytest.mark.long
@pytest.mark.parametrize("command", TRAININGS)
def test_a_training_goes_on_from_a_kill_and_from_ctrl_c(command, tmp_path):
    """From its last checkpoint, to the same numbers."""
    answers = {}
    for name in ("undisturbed", "stopped"):
        where = tmp_path / name
        where.mkdir()
        small.prices(where / "prices.csv", n_rows=120, n_assets=4)
        instance(where / "instance.json")
        if name == "stopped":
            stop_after_a_part(where, TRAININGS[command], signal.SIGKILL)
            stop_after_a_part(where, TRAININGS[command], signal.SIGINT)
        process = start(where, TRAININGS[command])
        out, err = process.communicate(timeout=300)
        assert (process.returncode, err) == (0, "")
        answers[name] = json.loads(out)
        assert not list((where / STORE).rglob("checkpoint.json"))
    one, other = answers["undisturbed"], answers["stopped"]
    assert one.get("iterations") == other.get("iterations") == 130
    assert without_seconds(one) == without_seconds(other)


def stop_after_a_part(where: Path, arguments: Sequence[str], sent: int) -> None:
    """Once it has written a checkpoint that was not there before."""

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in (where / STORE).rglob("checkpoint.json")]

    before = written()
    process = start(where, arguments)
    while process.poll() is None and written() == before:
        time.sleep(0.01)
    process.send_signal(sent)
    out, err = process.communicate(timeout=120)
    if sent == signal.SIGKILL:
        assert (process.returncode, out) == (-9, "")
    elif arguments[0] == "solve":  # which gives what it has learned
        assert (process.returncode, json.loads(out)["status"]) == (0, "interrupted")
    else:
        assert (process.returncode, out) == (130, ""), err
        assert "from its last checkpoint" in err
    assert len(written()) == 1


def without_seconds(answer):
    if isinstance(answer, dict):
        return {k: without_seconds(v) for k, v in answer.items() if k != "seconds"}
    return [without_seconds(v) for v in answer] if isinstance(answer, list) else answer


def instance(path: Path) -> None:
    """Large enough that a hundred iterations take a second."""
    rng = random.Random(3)
    returns = [[[rng.gauss(0.01, 0.04) for _ in range(4)] for _ in range(60)] for _ in range(2)]
    content = {"N": 4, "K": 2, "S": 60, "T": 5, "alpha": 0.9, "gamma": 0.03, "tau": 0.002}
    content |= {"P": [[0.9, 0.1], [0.2, 0.8]], "k0": 0, "x0": [1.0, 0.0, 0.0, 0.0, 0.0]}
    path.write_text(json.dumps(content | {"r": returns}))
