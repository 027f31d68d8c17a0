"""The study of 100 portfolios and five factors in its quick form, and as a stranger misuses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.french import __main__ as command
from experiments.french import inputs, results, rolling
from experiments.french.config import DAILY, QUICK, SINCE_1984, Config
from experiments.french.figures import FIGURES
from experiments.french.policies import COST_FREE, MYOPIC, SDDP
from experiments.french.rolling import CASH, EQUAL, INGREDIENTS, LATE
from sddp.backtest import MultistageStrategy
from sddp.errors import DataError
from tests.reference_data import reference_path

SMALL = replace(Config(), **QUICK)
ROLLING_FIGURES = (
    *("rolling_wealth", "rolling_allocation", "rolling_sharpe", "rolling_differences"),
    *("rolling_ingredients", "rolling_risk_forecasts", "rolling_regimes"),
)
ALL_FIGURES = (*FIGURES, *ROLLING_FIGURES)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a quick run on made-up data; the store lies beside the results."""
    folder = tmp_path_factory.mktemp("french")
    assert command.main(arguments(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def tables(finished) -> dict[str, pd.DataFrame]:
    names = (*results.IN_SAMPLE, *results.ROLLING)
    return {name: results._read(finished / "out", name) for name in names}


def arguments(folder: Path, out: str = "out", *more: str) -> list[str]:
    places = ["--out", str(folder / out), "--store", str(folder / "store")]
    return ["--quick", "--jobs", "1", *places, *more]


# --- the whole of it ---


@pytest.mark.long
def test_a_quick_run_leaves_tables_figures_and_a_record(finished, tables):
    for name in ALL_FIGURES:
        assert (finished / "out" / f"{name}.png").stat().st_size > 10_000, name
    record = json.loads((finished / "out" / "run.json").read_text())
    assert record["status"] == "complete"
    assert set(record["results"]["seconds"]) == {"in-sample", "rolling"}
    assert set(record["inputs_sha256"]) == {"returns", "factors", "bills"}
    for name, table in tables.items():
        assert len(table) > 0, name


def test_nothing_written_names_a_folder(finished):
    for path in (finished / "out").iterdir():
        if path.suffix in {".csv", ".json"}:
            assert str(finished) not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.long
def test_a_second_run_reads_the_store_and_writes_the_same(finished, monkeypatch):
    def reject(*_, **__):
        raise AssertionError("worked out again")

    monkeypatch.setattr(MultistageStrategy, "decide", reject)
    monkeypatch.setattr("sddp.studies.tasks._worked_out", reject)
    assert command.main(arguments(finished, "again")) == 0
    for path in (finished / "out").glob("*.csv"):
        if path.stem in ("training", "speed", "convergence"):
            continue  # the one training whose seconds are told is timed each time
        assert (finished / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.long
def test_figures_are_drawn_again_from_the_tables_alone(finished, monkeypatch):
    drawn = {name: (finished / "out" / f"{name}.png").read_bytes() for name in ALL_FIGURES}
    for name in ALL_FIGURES:
        (finished / "out" / f"{name}.png").unlink()
    monkeypatch.setattr(command, "run_part", None)
    assert command.main(["--replot", "--out", str(finished / "out")]) == 0
    for name in ALL_FIGURES:
        assert (finished / "out" / f"{name}.png").read_bytes() == drawn[name], name


@pytest.mark.long
def test_one_part_can_be_run_and_drawn_by_itself(finished):
    assert command.main(arguments(finished, "part", "--only", "rolling")) == 0
    written = {path.name for path in (finished / "part").iterdir()}
    assert "summary.csv" in written
    assert "gap.csv" not in written
    assert command.main(["--replot", "--out", str(finished / "part")]) == 0


# --- the tables in sample ---


def test_a_training_is_the_beginning_of_a_longer_one(tables):
    bounds = tables["training"]["bound"]
    looked = tables["convergence"].set_index("iteration")["bound"]
    assert list(looked.index) == list(SMALL.steps)
    for iteration, bound in looked.items():
        assert bound == pytest.approx(bounds[iteration], abs=1e-12)
    assert bounds.is_monotonic_decreasing
    assert (tables["convergence"]["cuts"].diff().dropna() > 0).all()


def test_first_decisions_are_whole(tables):
    weights = tables["first_stage"].groupby(["by", "number"])["weight"].sum()
    np.testing.assert_allclose(weights, 1.0, atol=1e-4)
    assert len(weights) == len(SMALL.steps) + SMALL.n_draws


def test_the_frontier_rises_and_sddp_is_compared_with_itself(tables):
    frontier = tables["frontier"]
    assert set(frontier["policy"]) == {SDDP, COST_FREE, MYOPIC}
    own = frontier[frontier["policy"] == SDDP]
    assert (own["below_sddp"].abs() < 1e-12).all()
    for _, rows in own.groupby("in_excess_of_bills"):
        assert rows["bound"].is_monotonic_increasing
    total, excess = (own[own["in_excess_of_bills"] == kind] for kind in (False, True))
    assert (total["bound"].to_numpy() > excess["bound"].to_numpy()).all()


def test_a_tightened_limit_lowers_true_risk(tables):
    gap = tables["gap"].set_index(["n_scenarios", "variant"])
    n = SMALL.n_scenarios
    plain, tight = gap.loc[(n, "Latin hypercube")], gap.loc[(n, "tightened limit")]
    assert tight["true_cvar_over_limit"] <= plain["true_cvar_over_limit"] + 1e-9
    assert plain["upper"] == tight["upper"]
    assert plain["gap"] == pytest.approx(plain["upper"] - plain["wealth"], abs=1e-9)
    assert plain["scaled_gap"] >= plain["gap"] - 1e-9 or plain["share_over_limit"] > 0.0


def test_what_an_ingredient_is_worth_is_the_difference_of_two_rows(tables):
    table = tables["ingredients"]
    np.testing.assert_allclose(table["worth"], table["whole"] - table["wealth"], atol=1e-9)
    regimes = table[table["ingredient"] == "regimes"]
    assert (regimes["n_states"] == 1).all()
    # The made-up market has two regimes of opposite sign: not to know them is dear.
    assert (regimes["worth_low"] > 0.0).all()


def test_longer_horizons_earn_more(tables):
    ends = tables["horizon"][tables["horizon"]["kind"] == "horizon"]
    assert ends.set_index("horizon")["bound"].is_monotonic_increasing
    looks = tables["horizon"][tables["horizon"]["kind"] == "look-ahead"]
    assert looks["below_longest"].iloc[-1] == pytest.approx(0.0, abs=1e-12)
    assert (looks["decisions"] == SMALL.n_decisions).all()


# --- the tables out of sample ---


def test_every_strategy_is_counted(tables):
    summary, config = tables["summary"], SMALL
    expected = {*rolling.cells(config, None)}
    assert set(summary.index) == expected
    assert {LATE, "SDDP, seed 2", *INGREDIENTS.values()} < expected
    assert (tables["deflated"]["n_trials"] == len(expected)).all()
    assert (summary["failures"].dropna() == 0).all()
    assert summary.loc[SDDP, "fits"] == -(-SMALL.n_rows // SMALL.refit_every)


def test_cash_earns_the_bills(tables):
    rf = inputs.made_up(SMALL).rf.iloc[SMALL.n_training :]
    np.testing.assert_allclose(
        tables["wealth"][CASH].iloc[1:], (1.0 + rf).cumprod().to_numpy(), rtol=1e-9
    )


def test_what_goes_missing_is_caught_once_and_sold(tables):
    """Two missing cells in a row; equal weights hold a seventh of all before them."""
    missing = tables["missing"]
    assert (missing["missing_cells"] == 2).all()
    assert (missing["barred_cells"] == 2 + SMALL.minimum_history - 1).all()
    assert missing.loc[EQUAL, "caught"] == 1
    assert missing.loc[EQUAL, "largest_caught"] == pytest.approx(1.0 / 7.0, abs=1e-6)
    assert (missing.drop(index=LATE)["carried"] == 0).all()
    assert missing.loc[CASH, "caught"] == 0


def test_ingredients_out_of_sample_are_differences_turned_round(tables):
    worth = tables["rolling_ingredients"].set_index(["ingredient", "metric"])
    sharpe = tables["summary"]["sharpe"]
    for ingredient, name in INGREDIENTS.items():
        row = worth.loc[(ingredient, "sharpe")]
        assert row["worth"] == pytest.approx(sharpe[SDDP] - sharpe[name], abs=1e-8)


def test_no_decision_forecasts_more_than_the_limit(tables):
    risk = tables["risk"]
    assert (risk["largest_model_cvar"].dropna() <= SMALL.cvar_limit + 1e-6).all()


def test_weights_of_a_date_sum_to_one(tables):
    sums = tables["weights"].groupby(["strategy", "date"])["weight"].sum()
    np.testing.assert_allclose(sums, 1.0, atol=1e-3)
    assert set(tables["weights"]["strategy"]) == set(rolling.DETAIL)


# --- data and settings ---


def write(folder: Path, data: inputs.FrenchData) -> list[str]:
    data.returns.to_csv(folder / "returns.csv", index_label="date")
    factors = data.factors.apply(np.expm1).assign(rf=data.rf)
    factors.to_csv(folder / "factors.csv", index_label="date")
    return ["--returns", str(folder / "returns.csv"), "--factors", str(folder / "factors.csv")]


def test_files_are_read_as_they_were_made(tmp_path):
    made = inputs.made_up(SMALL)
    _, returns, _, factors = write(tmp_path, made)
    config = replace(SMALL, first="1990-01-01")
    read = inputs.read(returns, factors, config)
    pd.testing.assert_frame_equal(read.returns, made.returns, check_freq=False)
    np.testing.assert_allclose(read.factors, made.factors, atol=1e-14)
    short = inputs.read(returns, factors, replace(config, n_rows=7))
    assert len(short.returns) == SMALL.n_training + 7


def test_the_reference_data_are_those_of_their_readme():
    """618 months end in 2014; 161 missing cells from 1963-07 on, none after 2009-06."""
    files = ("data/french/size_bm_100_monthly.csv", "data/french/ff5_monthly.csv")
    data = inputs.read(*(str(reference_path(name)) for name in files), Config())
    assert data.returns.index[Config().n_training - 1] == pd.Timestamp("2014-12-31")
    assert data.returns.shape == (717, 100)
    gone = data.returns.isna()
    assert int(gone.to_numpy().sum()) == 161
    assert not gone.loc["2009-07-01":].to_numpy().any()
    barred = ~inputs.market(data, Config()).at("2023-03-31").quoted
    assert barred.loc["2010-05-31":"2010-06-30"].any(axis=1).tolist() == [True, False]
    first = Config().n_training - 1
    assert data.returns.index[replace(Config(), **SINCE_1984).n_training - 1].year == 1983
    assert data.returns.index[first + 1] == pd.Timestamp("2015-01-31")


def test_daily_settings_change_the_policy_not_the_study():
    config = replace(Config(), **DAILY)
    assert (config.n_decisions, config.cvar_limit, config.transaction_cost) == (21, 0.02, 0.005)
    strategy = rolling.strategies(config, None)[SDDP]
    assert (strategy.n_stages, strategy.refit_every, strategy.mode) == (21, 21, "run-through")
    assert rolling.cells(config, None)[SDDP].lag == 1


# --- misuse ---


def test_without_data_it_says_how_to_get_them(tmp_path, capsys):
    assert command.main(["--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "give --returns FILE --factors FILE" in said
    assert "sddp data fetch french --out FOLDER" in said
    assert not (tmp_path / "out").exists()


def test_too_few_rows_are_said_in_numbers(tmp_path, capsys):
    files = write(tmp_path, inputs.made_up(SMALL))
    assert command.main([*files, "--out", str(tmp_path / "out")]) == 1
    assert "share 152 rows from 1963-07-01 on; the study needs 620" in capsys.readouterr().err


def test_files_of_two_calendars_are_rejected(tmp_path):
    made = inputs.made_up(SMALL)
    holed = replace(made, factors=made.factors.drop(index=made.factors.index[5]))
    _, returns, _, factors = write(tmp_path, replace(holed, rf=made.rf.drop(made.rf.index[5])))
    with pytest.raises(DataError, match="only the returns have a row for 1990-06-30"):
        inputs.read(returns, factors, replace(SMALL, first="1990-01-01"))


def test_replot_of_half_a_study(finished, tmp_path, capsys):
    for name in ("summary.csv", "run.json"):
        (tmp_path / name).write_bytes((finished / "out" / name).read_bytes())
    assert command.main(["--replot", "--out", str(tmp_path)]) == 1
    assert "intervals.csv cannot be read" in capsys.readouterr().err


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_part", interrupted)
    assert command.main(arguments(tmp_path)) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_number_of_rows_is_one(capsys):
    with pytest.raises(SystemExit):
        command.main(["--rows", "0"])
    assert "must be a positive integer" in capsys.readouterr().err
