"""The documentation builds without a warning and without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
needs_sphinx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("sphinx", "myst_parser", "numpydoc")),
    reason="needs the extra 'docs'",
)


@needs_sphinx
@pytest.mark.slow
def test_the_documentation_builds_without_a_warning_and_without_a_network(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link)\b[^>]*(?:src|href)=\"(https?:[^\"]*)\"",
            page.read_text(encoding="utf-8"),
        )
        assert loaded == [], page.name
    assert "<math" in (tmp_path / "howto" / "risk_measure.html").read_text(encoding="utf-8")


def test_every_decision_is_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "index.md").read_text(encoding="utf-8")
    for path in folder.glob("[0-9]*.md"):
        assert f"\n{path.stem}\n" in index
        text = path.read_text(encoding="utf-8")
        assert "## Context" in text
        assert "## Decision" in text
