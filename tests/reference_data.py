"""Where the reference data lie that are too large or too foreign for this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def reference_path(relative: str) -> Path:
    """Path of a reference file, e.g. "data/msddp_tests/case1_returns.csv".

    Skips where there is no folder of reference data at all; where there is one but it lacks the
    file, the test fails, so that nothing is passed over unseen.
    """
    given = os.environ.get("SDDP_REFERENCE_DATA")
    root = Path(given) if given else REPOSITORY.parent / "shared"
    if not root.is_dir():
        if os.environ.get("CI") and (REPOSITORY.parent / "shared").is_dir():
            pytest.fail(f"SDDP_REFERENCE_DATA = {given} is no folder, but ../shared is there")
        pytest.skip(f"no reference data at {root}; set SDDP_REFERENCE_DATA to their folder")
    path = root / relative
    if not path.exists():
        pytest.fail(f"{root} holds reference data but not {relative}")
    return path
