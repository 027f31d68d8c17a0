"""The README's code runs, prints what the README says, and its test command is the one CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", README, flags=re.DOTALL)


def test_every_code_block_states_its_output():
    assert len(EXAMPLES) == README.count("```python") == 2


@pytest.mark.long
@pytest.mark.parametrize(("code", "printed"), EXAMPLES, ids=["allocation", "reservoir"])
def test_code_prints_what_the_readme_says(code: str, printed: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed


def test_ci_finds_the_test_command():
    pattern = r"^ *(python -m pip install .*\[test\].* pytest.*)$"
    assert re.findall(pattern, README, flags=re.MULTILINE) == [
        'python -m pip install -c .ci/constraints.txt ".[test]" && python -m pytest -n auto'
    ]
