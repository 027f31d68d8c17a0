"""The benchmark harness in its quick form, and its seeded instances."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from experiments.benchmark_instances import Size
from experiments.benchmarks import PARTS, main, slopes


def test_quick_form(tmp_path, capsys):
    assert main(["--quick", "--seconds", "0.3", "--out", str(tmp_path)]) == 0
    assert "seconds_to_1.0%_of_gain" in capsys.readouterr().out
    curve = pd.read_csv(tmp_path / "convergence.csv", index_col=0)
    assert (curve["gap"] >= 0.0).all()
    assert (curve["bound"].diff().dropna() <= 1e-12).all()
    results = json.loads((tmp_path / "run.json").read_text())["results"]
    assert sum(results[part] for part in PARTS) == pytest.approx(results["seconds"])
    assert (tmp_path / "convergence.png").stat().st_size > 10_000


def test_instances_are_seeded_and_scaled():
    monthly, again = Size(4, 2, 300, 2).scenarios(), Size(4, 2, 300, 2).scenarios()
    np.testing.assert_array_equal(monthly.returns, again.returns)
    daily = Size(4, 2, 300, 2, scale="daily").scenarios()
    ratio = monthly.returns[0].std(axis=1) / daily.returns[0].std(axis=1)
    # Spreads scale with the root of time: 21 trading days a month.
    np.testing.assert_allclose(ratio, np.sqrt(21.0), rtol=0.05)
    np.testing.assert_allclose(monthly.transition_matrix.sum(axis=-1), 1.0, rtol=1e-14)


def test_slopes_of_a_power_law():
    rows = [{"axis": "n", "value": v, "per_iteration": 3.0 * v**1.5} for v in (1, 2, 4, 8)]
    assert slopes(pd.DataFrame(rows))["n"] == pytest.approx(1.5)
