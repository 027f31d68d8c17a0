"""Compiled code is kept on disk, and is made anew where any source of it has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sddp

SCRIPT = """
import json, sys
import numpy as np
from numba.core import event
from sddp.engine.compiled.outcomes import tail_weights

with event.install_recorder("numba:compile") as compiled:
    order, weight = np.zeros(3, dtype=np.int64), np.zeros(64)
    n = tail_weights(np.full(3, 1 / 3), 0, 3, np.array([1.0, 3.0, 2.0]), 0.5, order, weight)
print(len(compiled.buffer), float(weight[:n] @ np.array([1.0, 3.0, 2.0])[order[:n]]))
"""


def run(folder: Path, cache: Path) -> tuple[int, float]:
    """Compilations and the mean over the tail, in a process of its own."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        cwd=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    events, mean = done.stdout.split()
    return int(events), float(mean)


@pytest.mark.long
def test_a_second_process_compiles_nothing_unless_any_kernel_changed(tmp_path):
    folder, cache = tmp_path / "package", tmp_path / "cache"
    cache.mkdir()
    shutil.copytree(Path(sddp.__file__).parent, folder / "sddp")
    first, mean = run(folder, cache)
    assert first > 0
    assert mean == pytest.approx((3.0 / 3.0 + 2.0 * (0.5 - 1.0 / 3.0)) / 0.5)
    assert run(folder, cache)[0] == 0
    other = folder / "sddp" / "engine" / "compiled" / "simplex.py"
    other.write_text(other.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert run(folder, cache)[0] > 0


def test_importing_the_package_and_training_by_highs_leave_numba_alone():
    script = "import sys, sddp; sddp.train; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
