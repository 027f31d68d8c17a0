"""The benchmark harness in its quick form, its seeded instances, and what it reads off a log."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sddp
from experiments.benchmark_instances import Size
from experiments.benchmarks import live
from experiments.benchmarks.__main__ import STUDY, main
from experiments.benchmarks.bunching import measure, reservoir, warehouses
from experiments.benchmarks.measure import (
    PARTS,
    iteration_growth,
    seconds_to_gaps,
    slopes,
)


@pytest.mark.long
def test_quick_form_of_the_base(tmp_path, capsys):
    assert (
        main(
            [
                "--quick",
                "base",
                "cores",
                "--out",
                str(tmp_path),
                "--store",
                str(tmp_path.parent / "store"),
            ]
        )
        == 0
    )
    assert "seconds_to_1.0%_of_gain" in capsys.readouterr().err
    curves = pd.read_csv(tmp_path / "base_curves.csv", index_col=0)
    assert (curves["gap"] >= 0.0).all()
    for _, curve in curves.groupby("run"):
        assert (curve["bound"].diff().dropna() <= 1e-12).all()
    runs = pd.read_csv(tmp_path / "base_runs.csv", index_col=0)
    np.testing.assert_allclose(runs[list(PARTS)].sum(axis=1), runs["seconds"])
    results = json.loads((tmp_path / "run.json").read_text())["results"]
    assert results["cores"]["same_bounds_bit_for_bit"] is True
    assert (tmp_path / "convergence.png").stat().st_size > 10_000


def test_bunching_changes_the_number_of_solves_and_nothing_else():
    with_it, without = (measure("warehouses", (3, 12, 3, 0), 5, b) for b in (True, False))
    assert with_it["bound"] == pytest.approx(without["bound"], rel=1e-9)
    assert with_it["LPs"] < without["LPs"]
    assert without["read off a basis"] == 0


@pytest.fixture(autouse=True)
def _bunching_stays_on(monkeypatch):
    """`measure` switches it off for its own process; here for one test."""
    monkeypatch.setattr("sddp.engine.subproblem.subproblem.FEWEST_BUNCHED", 6)


@pytest.mark.long
def test_the_bunching_problems_against_their_extensive_forms():
    for problem in (reservoir(3, 8), warehouses(3, 7, 2, seed=0)):
        result = sddp.train(
            problem,
            rng=np.random.default_rng(0),
            stopping=sddp.Iterations(120),
            stage_solver="highs",
            progress=False,
        )
        assert result.work.bunched > 0
        value = sddp.extensive_form(problem).solve().value
        assert result.bound == pytest.approx(value, rel=1e-8)


def test_instances_are_seeded_and_scaled():
    monthly, again = Size(4, 2, 300, 2).scenarios(), Size(4, 2, 300, 2).scenarios()
    np.testing.assert_array_equal(monthly.returns, again.returns)
    daily = Size(4, 2, 300, 2, scale="daily").scenarios()
    ratio = monthly.returns[0].std(axis=1) / daily.returns[0].std(axis=1)
    # Spreads scale with the root of time: 21 trading days a month.
    np.testing.assert_allclose(ratio, np.sqrt(21.0), rtol=0.05)
    np.testing.assert_allclose(monthly.transition_matrix.sum(axis=-1), 1.0, rtol=1e-14)


def test_what_is_read_off_a_log():
    log = pd.DataFrame({"seconds": [1.0, 2.0, 4.0, 8.0], "bound": [1.3, 1.21, 1.201, 1.2]})
    reached = seconds_to_gaps(log, best=1.2)
    assert list(reached.values()) == [2.0, 4.0, 8.0]
    assert list(seconds_to_gaps(log.iloc[:2], best=1.2).values()) == [2.0, np.inf, np.inf]
    assert iteration_growth(log, slice(0, 1), slice(3, 4)) == 4.0


def test_slopes_of_a_power_law():
    rows = [{"axis": "n", "value": v, "per_iteration": 3.0 * v**1.5} for v in (1, 2, 4, 8)]
    assert slopes(pd.DataFrame(rows))["n"] == pytest.approx(1.5)


@pytest.mark.parametrize(
    "name", [live.BUS, "9 assets, nothing fires, many rows", "9 assets, optimized, with a disk"]
)
def test_a_running_portfolio_is_measured(name):
    found = live.measure(name, 5_000, 1)
    assert 0.0 < found["median_ms"] <= found["p95_ms"]
    assert found["asked_ms"] == live.ASKED[name]
    assert (found["times_bare_qp"] is not None) == ("optimized" in name)
    if name != live.BUS:
        assert found["late_over_early"] > 0.0


def test_a_section_alone_keeps_the_tables_of_the_others(tmp_path):
    def write(job):
        job.record.write_table("-".join(job.config.sections) or "all", pd.DataFrame({"x": [1.0]}))
        return {}

    study = replace(STUDY, run=write, plot=None)
    places = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store"), "--quiet"]
    assert study.main(places) == 0
    assert study.main(["bunching", *places]) == 0
    assert {file.name for file in (tmp_path / "out").glob("*.csv")} == {"all.csv", "bunching.csv"}
    assert study.main(places) == 0
    assert {file.name for file in (tmp_path / "out").glob("*.csv")} == {"all.csv"}
