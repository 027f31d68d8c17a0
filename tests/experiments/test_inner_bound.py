"""The inner bound's study in its quick form, and its figure drawn again from the table."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from experiments.benchmark_instances import Size
from experiments.inner_bound import main, simulated_values
from sddp import Iterations, train_allocation


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    where = tmp_path_factory.mktemp("study")
    places = ["--out", str(where / "out"), "--store", str(where / "store")]
    assert main(["--quick", "--jobs", "1", *places]) == 0
    return where / "out"


def test_quick_form(finished):
    table = pd.read_csv(finished / "results.csv", index_col=0)
    assert (table["inner"] <= table["outer"] + 1e-9).all()
    # Both are about the policy's own problem: its simulated mean lies in the interval or near it.
    error = table["half_width"] * (table["inner"] - 1.0) / 1.96
    assert (table["simulated"] <= table["outer"] + 4.0 * error).all()
    np.testing.assert_allclose(
        table["gap"], (table["outer"] - table["inner"]) / (table["inner"] - 1.0), atol=1e-7
    )
    run = json.loads((finished / "run.json").read_text())
    assert run["status"] == "complete"
    assert set(run["results"]["narrowest_gap_by_assets"]) == {"2", "4"}


def test_the_figure_needs_no_solving(finished, tmp_path, capsys):
    figure = finished / "inner_bound.png"
    drawn = figure.read_bytes()
    figure.unlink()
    assert main(["--replot", "--out", str(finished)]) == 0
    assert figure.read_bytes() == drawn
    assert main(["--replot", "--out", str(tmp_path / "nothing")]) == 1
    assert "without --replot" in capsys.readouterr().err


def test_expected_gains_have_the_mean_of_terminal_wealth_and_less_noise():
    size = Size(4, 3, 20, 3)
    policy = train_allocation(
        size.model,
        size.scenarios(),
        initial_holdings={"cash": 1.0},
        rng=np.random.default_rng(1),
        stopping=Iterations(5),
        progress=False,
    ).policy
    n = 300
    values = simulated_values(policy, n, np.random.default_rng(2))
    table = policy.simulate(n, rng=np.random.default_rng(2))
    surprise = table["wealth"].groupby(level="path").last().to_numpy() - values
    assert abs(surprise.mean()) < 4.0 * surprise.std() / np.sqrt(n)
    assert values.std() < 0.5 * (surprise + values).std()
