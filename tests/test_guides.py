"""The guides of docs/howto: a module outside of the package and a script, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GUIDES = sorted((ROOT / "docs" / "howto").glob("[!i]*.md"))
FILE = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_there_is_a_guide_for_each_seam():
    assert {guide.stem for guide in GUIDES} >= {
        *("risk_measure", "stopping_rule", "trial_points", "strategy", "study")
    }


@pytest.mark.long
@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_guide_works_from_an_empty_folder(guide, tmp_path):
    files = dict(FILE.findall(guide.read_text(encoding="utf-8")))
    assert len(files) == 2
    assert "use.py" in files
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
