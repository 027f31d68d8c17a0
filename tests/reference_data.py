"""Where the reference data lie that are too large or too foreign for this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def reference_path(relative: str) -> Path:
    """Path of a reference file, e.g. "data/msddp_tests/case1_returns.csv"; skips without it."""
    root = os.environ.get("SDDP_REFERENCE_DATA")
    path = (Path(root) if root else REPOSITORY.parent / "shared") / relative
    if not path.exists():
        pytest.skip(f"reference data {path} is missing; set SDDP_REFERENCE_DATA to its root")
    return path
