"""The drill: killed, delayed, corrupted and duplicated, a run ends as an undisturbed one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.live.drill import _rows, _run, content, drill

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("n_kills", [15, pytest.param(1_000, marks=pytest.mark.slow)])
def test_a_run_ends_as_an_undisturbed_one(n_kills, tmp_path):
    said = list(drill(n_kills, tmp_path, n_rows=40 if n_kills < 100 else 80))
    assert said[1].startswith(f"killed: {n_kills} processes")
    assert [line.split(":")[0] for line in said[2:]] == [
        "delayed",
        "corrupted",
        "duplicated",
        "contradicted",
    ]
    assert all("all trades are those of the clean rows" in line for line in said[2:])


@pytest.mark.long
def test_three_processes_are_killed_one_after_the_other(tmp_path):
    path, rows = tmp_path / "state.db", _rows(60, np.random.default_rng(1))
    _run(tmp_path / "undisturbed.db", rows)
    code = (
        "import sys, numpy as np\nfrom pathlib import Path\n"
        "from experiments.live.drill import _live, _rows\n"
        "live = _live(Path(sys.argv[1]))\n"
        "for row in _rows(60, np.random.default_rng(1))[live.n_rows:]:\n"
        "    live.take(row)\n"
        "    print(live.n_rows, flush=True)\n"
    )
    for kept in (10, 31, 47):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, cwd=ROOT, text=True
        )
        for line in process.stdout:
            if int(line) >= kept:
                process.kill()
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
        assert len(content(path)["inputs"]) >= kept
    _run(path, rows)
    assert content(path) == content(tmp_path / "undisturbed.db")
