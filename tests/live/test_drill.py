"""The drill: killed, delayed, corrupted and duplicated, a run ends as an undisturbed one."""

from __future__ import annotations

import pytest

from experiments.live.drill import drill


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
