"""The study of one autoregressive factor in its quick form."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.autoregressive import reference
from experiments.autoregressive.__main__ import TABLES, main
from experiments.autoregressive.cells import ONE_STEP, ORACLE, out_of_sample
from experiments.autoregressive.config import Config
from experiments.autoregressive.figures import FIGURES
from experiments.autoregressive.process import START
from sddp.statistics import brown_smith
from tests.brown_smith import PROCESS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of one quick run."""
    out = tmp_path_factory.mktemp("study") / "out"
    assert (
        main(["--quick", "--jobs", "1", "--out", str(out), "--store", str(out.parent / "store")])
        == 0
    )
    return out


@pytest.fixture(scope="module")
def tables(folder):
    return {name: pd.read_csv(folder / f"{name}.csv", index_col=0) for name in TABLES}


def test_the_constants_are_those_of_the_authors_code():
    ours = brown_smith()
    for name in ("return_intercepts", "return_loadings", "factor_transition", "covariance"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(PROCESS, name))
    assert ours.cash_return == PROCESS.cash_return == 0.00042
    assert (START == 0.0).all()


def test_reference_numbers_are_met():
    """Numbers of the design notes, at the limits where the program is cheapest to solve."""
    config = replace(Config(), reference_limits=(0.012, 0.1), oracle_points=2**13)
    table = reference.reference_table(config, out_of_sample(config)).set_index("quantity")
    assert table["agrees"].all(), table[["reference", "ours", "allowed"]]
    terminal = table.loc["expected terminal wealth"]
    assert terminal["allowed"].max() <= 1e-4
    assert set(terminal["decisions"]) == {11, 12}
    assert len(table) == 8


def test_a_number_that_is_off_does_not_agree(monkeypatch):
    wrong = reference.Reference("expected terminal wealth", 0.1, 11, 1.0940, 1e-4, "made up")
    monkeypatch.setattr(reference, "REFERENCES", (wrong,))
    config = replace(Config(), reference_limits=(0.1,), oracle_points=2**10, n_paths=10)
    assert not reference.reference_table(config, out_of_sample(config))["agrees"].any()


@pytest.mark.long
def test_quick_run_leaves_tables_figures_and_a_record(folder, tables):
    for name in FIGURES:
        assert (folder / f"{name}.png").stat().st_size > 10_000
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["results"]["reference_numbers_met"] == record["results"]["reference_numbers"] == 3
    for table in tables.values():
        assert len(table) > 0


def test_free_trading_follows_the_oracle(tables):
    """The one-step policy knows the true law: without costs it is the oracle but for hedging."""
    rows = tables["policies"].set_index("policy")
    assert abs(rows.loc[ONE_STEP, "over_oracle"]) < 5e-5
    assert rows.loc[ONE_STEP, "true_cvar_over_limit"] == pytest.approx(1.0, abs=5e-3)
    sddp = rows.loc["SDDP"]
    assert sddp["known_regimes"].sum() == 2
    assert (sddp["over_oracle"].abs() < 0.1 * sddp["gain"]).all()
    assert (sddp["scaled_over_oracle_low"] < 1e-5).all()


def test_no_policy_within_the_true_limit_beats_the_bound(tables):
    frontier, gap = tables["frontier"], tables["gap"]
    kept = frontier[frontier["policy"].isin(["SDDP within the true limit", ONE_STEP])]
    # The law behind the bound has 512 points in this run.
    assert (kept["below_bound"] > -2e-5).all()
    assert (gap["scaled_gap"] > -2e-5).all()
    loose = frontier[frontier["policy"] == "upper bound without penalty"].set_index("cvar_limit")
    tight = frontier[frontier["policy"] == "upper bound"].set_index("cvar_limit")
    assert (loose["wealth"] > tight["wealth"]).all()


def test_costs_lower_the_frontier_and_limits_lift_it(tables):
    frontier = tables["frontier"].set_index(["policy", "cvar_limit"])["wealth"].sort_index()
    free = tables["policies"].set_index(["policy", "cvar_limit"])["oracle"].sort_index()
    assert frontier["SDDP", 0.05] < free["SDDP", 0.05].max() - 1e-3
    assert frontier["SDDP", 0.1] > frontier["SDDP", 0.05] + 5e-3
    assert frontier["SDDP", 0.1] > frontier[ORACLE, 0.1] + 1e-3  # it ignores costs and pays them


def test_a_tightened_limit_is_kept_and_costs_gain(tables):
    gap = tables["gap"].set_index(["cost", "variant"])
    for cost in (0.0, 0.005):
        plain, tight = gap.loc[(cost, "Latin hypercube")], gap.loc[(cost, "tightened limit")]
        ratio = tight["true_cvar_over_limit"] / plain["true_cvar_over_limit"]
        assert ratio == pytest.approx(0.95, abs=0.01)
        assert tight["gap"] > plain["gap"]


@pytest.mark.long
def test_figures_are_redrawn_from_tables_alone(folder, monkeypatch):
    before = {name: (folder / f"{name}.png").read_bytes() for name in FIGURES}
    for name in FIGURES:
        (folder / f"{name}.png").unlink()
    monkeypatch.setattr("experiments.autoregressive.__main__.run", None)
    assert main(["--replot", "--out", str(folder)]) == 0
    assert {name: (folder / f"{name}.png").read_bytes() for name in FIGURES} == before


def test_replot_without_tables_says_so(tmp_path, capsys):
    assert main(["--replot", "--out", str(tmp_path)]) == 1
    assert "holds no finished run" in capsys.readouterr().err
    (tmp_path / "run.json").write_text("{}")
    assert main(["--replot", "--out", str(tmp_path)]) == 1
    assert "regimes.csv cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_no_job_is_rejected(capsys):
    with pytest.raises(SystemExit):
        main(["--jobs", "0"])
    assert "must be a positive integer" in capsys.readouterr().err
