"""The slide deck's study in its quick form, its parts, and as a stranger would misuse it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.brazil import __main__ as command
from experiments.brazil import figures, inputs, makers, tables, variants
from experiments.brazil.analysis import _cuts, accuracy
from experiments.brazil.common_risk import held_cvar
from experiments.brazil.config import QUICK, Config
from experiments.brazil.groups import groups
from experiments.brazil.makers import MAKERS, Caches
from experiments.brazil.results import run
from experiments.brazil.series import asset_cvar
from experiments.brazil.variants import Variant
from sddp.backtest import MultistageStrategy, TrainingCache, backtest
from sddp.data.sources.brazil_prices import BrazilPrices, read_prices
from sddp.display import png
from sddp.errors import DataError
from sddp.estimation import FitCache, RollingEstimate
from sddp.market import Market
from sddp.studies.record import RunFiles
from tests.reference_data import reference_path

FIGURES = (
    *("cumulative_return", "trailing_return", "allocation", "strategies", "sharpe", "differences"),
    *("risk_forecasts", "limits", "regimes", "lag", "regimes_worth", "subperiods"),
)
SMALL = replace(Config(), **QUICK)
NOWHERE = Caches(FitCache(), TrainingCache())


@pytest.fixture(scope="module", autouse=True)
def _coarse_pictures():
    """Drawing and compressing pixels would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png, "DPI", 30)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """Folder of a quick run on made-up prices; the store lies beside the results."""
    folder = tmp_path_factory.mktemp("brazil")
    assert command.main(arguments(folder)) == 0
    return folder


def arguments(folder: Path, out: str = "out") -> list[str]:
    return ["--quick", "--jobs", "1", "--out", str(folder / out), "--store", str(folder / "store")]


# --- the whole of it ---


@pytest.mark.long
def test_a_quick_run_leaves_tables_figures_and_a_page(finished):
    out = finished / "out"
    for name in FIGURES:
        assert (out / f"{name}.png").stat().st_size > 2_000, name
    found = tables.read(out)
    assert set(found["summary"]["strategy"]) == set(MAKERS)
    assert set(found["summary"]["lag"]) == {0, 1}
    assert found["summary"]["failures"].sum() == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    for name in MAKERS:
        assert name in page
    assert "which could not have been had" in page
    record = json.loads((out / "run.json").read_text())
    assert record["status"] == "complete"
    assert record["results"]["backtests"] == len(found["summary"])
    assert command.config_of(RunFiles(out)) == SMALL


def test_nothing_written_names_a_folder(finished):
    for path in (finished / "out").iterdir():
        if path.suffix in {".csv", ".json", ".html"}:
            assert str(finished) not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.long
def test_a_second_run_reads_the_store_and_writes_the_same(finished, monkeypatch):
    def reject(*_, **__):
        raise AssertionError("decided again")

    monkeypatch.setattr(MultistageStrategy, "decide", reject)
    for drawing in ("write_figures", "_page"):  # other tests draw
        monkeypatch.setattr(command.report, drawing, lambda *_, **__: None)
    assert command.main(arguments(finished, "again")) == 0
    for path in (finished / "out").glob("*.csv"):
        assert (finished / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_sensitivities_add_other_settings(finished):
    assert command.main([*arguments(finished, "more"), "--sensitivities"]) == 0
    found, before = tables.read(finished / "more"), tables.read(finished / "out")
    changed = ["seed", "refit_every", "n_states", "window", "transaction_cost", "lag"]
    usual = {"seed": 1, "refit_every": 4, "n_states": 2, "window": 100, "lag": 1}
    usual["transaction_cost"] = 0.0005
    changes = [
        {name: row[name] for name in changed if row[name] != usual[name]}
        for _, row in found["regimes_worth"].iterrows()
    ]
    assert changes == [
        *({}, {"lag": 0}, {"refit_every": 1}, {"n_states": 3}, {"window": 80}),
        *({"transaction_cost": 0.005}, {"seed": 2}),
    ]
    for name in ("intervals", "risk"):
        groups_of = found[name].groupby(["seed", "refit_every"])["strategy"].unique()
        assert set(groups_of[(2, 4)]) == {"SDDP, receding", "one regime", "myopic"} | {
            "QP, risk-matched"
        }
        assert set(groups_of[(1, 1)]) == {"SDDP, receding", "one regime"}
    assert len(found["accuracy"]) == 8
    names = set(found["summary"]["name"]) - set(before["summary"]["name"])
    assert "SDDP, run-through at 1.5 %, terminal_value = liquidated" in names
    assert "SDDP, receding at 1.5 %, iterations = 4" in names
    assert found["deflated"]["n_trials"].iloc[0] == len(found["summary"])


@pytest.mark.long
def test_figures_are_drawn_again_from_the_tables_alone(finished, monkeypatch):
    drawn = {name: (finished / "out" / f"{name}.png").read_bytes() for name in FIGURES}
    for name in FIGURES:
        (finished / "out" / f"{name}.png").unlink()
    monkeypatch.setattr(command, "run", None)
    assert command.main(["--replot", "--out", str(finished / "out")]) == 0
    for name in FIGURES:
        assert (finished / "out" / f"{name}.png").read_bytes() == drawn[name], name


def test_tables_agree_with_each_other(finished):
    """Cash earns the CDI; what regimes add is the difference of two rows of the summary."""
    found = tables.read(finished / "out")
    wealth = found["wealth"]["cash (CDI)"]
    rows = np.append(np.arange(0, SMALL.n_rows, 5), SMALL.n_rows - 1)
    np.testing.assert_allclose(wealth, 1.0004 ** np.unique(rows), atol=6e-7)
    ratios = found["summary"].set_index("name")["sharpe"]
    worth = found["regimes_worth"].set_index(["lag", "seed"]).loc[(1, 1)]
    expected = ratios["SDDP, receding at 1.5 %"] - ratios["one regime at 1.5 %"]
    assert worth["difference"] == pytest.approx(expected, abs=1e-8)
    assert worth["low"] < worth["difference"] < worth["high"]
    against = found["differences"].set_index(["limit", "lag", "metric", "strategy"])
    row = against.loc[(0.015, 1, "sharpe", "one regime")]
    assert row["value"] == pytest.approx(-worth["difference"], abs=1e-8)
    forecast = found["risk"].set_index(["limit", "lag", "strategy"])["model_cvar"]
    assert forecast.loc[(0.015, 1, "myopic")] <= 0.015 + 1e-9
    assert forecast.loc[(0.1, 1, "myopic")] > 0.015


def test_prices_of_a_file_end_after_the_rows_asked_for(tmp_path):
    made = inputs.made_up(SMALL)
    known = made.at(made.dates[-1])
    table = known.prices.assign(cdi=known.cash_rate)
    table.to_csv(tmp_path / "prices.csv", index_label="date")
    market = inputs.read_market(tmp_path / "prices.csv", SMALL)
    whole = market.at(market.dates[-1])
    assert whole.prices.index.equals(known.prices.index[SMALL.volatility_rows :])
    np.testing.assert_allclose(whole.volatility_index, known.volatility_index.iloc[21:])
    assert inputs.last_row(market, Config()) == market.dates[-1]
    first = market.dates.searchsorted(pd.Timestamp("2008-01-01"))
    assert inputs.last_row(market, replace(SMALL, n_rows=31)) == market.dates[first + 30]
    with pytest.raises(DataError, match=r"the prices end on 2009-12-31, before 2010-06-01"):
        inputs.last_row(market, replace(SMALL, start="2010-06-01"))


# --- what is run ---


def another_future(known: BrazilPrices, other: BrazilPrices, last: int) -> BrazilPrices:
    """The same rows up to one, then the moves of other prices."""
    moves = other.prices.iloc[last + 1 :] / other.prices.iloc[last] * known.prices.iloc[last]
    rates = pd.concat([known.cash_rate.iloc[: last + 1], 2.0 * other.cash_rate.iloc[last + 1 :]])
    return BrazilPrices(pd.concat([known.prices.iloc[: last + 1], moves]), rates)


def rows_of(seed: int) -> BrazilPrices:
    made = inputs.made_up(replace(SMALL, seeds=(seed,)))
    view = made.at(made.dates[-1])
    return BrazilPrices(view.prices, view.cash_rate)


def decided_on(prices: BrazilPrices, last: int, store: Path) -> tuple[dict[str, pd.DataFrame], Any]:
    """Decisions of all strategies, two fits after `last` included, and their final wealth."""
    caches = Caches.of(store)
    limited = [Variant.of(SMALL, name, SMALL.headline) for name in variants.LIMITED]
    chosen = [*limited, *(Variant.of(SMALL, name) for name in variants.UNLIMITED)]
    report = backtest(
        inputs.market(prices, SMALL),
        {v.strategy: MAKERS[v.strategy](v, SMALL, caches) for v in chosen},
        start=SMALL.start,
        end=prices.prices.index[last + 8],
        transaction_cost=0.0005,
        lag=0,  # leaves the least room for an error
    )
    decisions = {name: ledger.decisions for name, ledger in report.ledgers.items()}
    return decisions, report.wealth.iloc[-1]


@pytest.mark.long
def test_no_strategy_of_the_study_looks_ahead(tmp_path):
    """Bit for bit, though fits and policies of the other future lie in the store they share."""
    known = rows_of(1)
    last = int(known.prices.index.searchsorted(pd.Timestamp(SMALL.start))) + 8
    altered = another_future(known, rows_of(2), last)
    decided, wealth = decided_on(known, last, tmp_path / "shared")
    again, other_wealth = decided_on(altered, last, tmp_path / "shared")
    alone, _ = decided_on(altered, last, tmp_path / "own")
    assert set(decided) == set(MAKERS)
    until = known.prices.index[last]
    for name in MAKERS:
        one, two = (tables[name].loc[:until].to_numpy() for tables in (decided, again))
        assert len(one) == 9
        assert one.tobytes() == two.tobytes(), name
        assert again[name].to_numpy().tobytes() == alone[name].to_numpy().tobytes(), name
        assert wealth[name] != other_wealth[name], name  # the future did differ


def test_every_strategy_runs_at_every_limit():
    config = Config()
    chosen = variants.study(config)
    names = [variant.name(config) for variant in chosen]
    assert len(set(names)) == len(names)
    late = [variant for variant in chosen if variant.lag == 1]
    assert {(v.strategy, v.limit) for v in late} == {
        *((name, limit) for name in variants.LIMITED for limit in (0.1, 0.02, 0.015, 0.01)),
        *((name, None) for name in variants.UNLIMITED),
    }
    early = {(v.strategy, v.limit) for v in chosen if v.lag == 0}
    assert early == {(v.strategy, v.limit) for v in late if v.limit in (None, config.headline)}
    assert {*variants.LIMITED, *variants.UNLIMITED} == set(MAKERS)
    others = variants.sensitivities(config)
    more = [variant.name(config) for variant in others]
    assert len({*names, *more}) == len(names) + len(more)
    # Run through and trained every row, every decision is a first one: that is receding.
    every_row = {v.strategy for v in others if v.refit_every == 1 and v.limit == config.headline}
    assert every_row == {*variants.LIMITED} - {"SDDP, run-through"}


def test_a_variant_is_what_its_settings_say():
    variant = Variant.of(
        Config(), "SDDP, run-through", 0.02, seed=3, n_states=2, window=300, transaction_cost=0.001
    )
    assert variant.name(Config()) == (
        "SDDP, run-through at 2 %, seed = 3, n_states = 2, window = 300, transaction_cost = 0.001"
    )
    cell = makers.cell(variant, Config(), NOWHERE)
    strategy = cell.strategy
    assert (cell.transaction_cost, cell.lag) == (0.001, 1)
    assert (strategy.mode, strategy.n_stages, strategy.refit_every) == ("run-through", 10, 10)
    assert (strategy.model.cvar_limit, strategy.model.transaction_cost) == (0.02, 0.001)
    assert strategy.model.cvar_confidence == 0.9
    assert (strategy.estimator.window, strategy.estimator.n_scenarios) == (300, 250)
    assert strategy.estimator.regimes.n_states == 2
    matched = makers.cell(replace(variant, strategy="QP, risk-matched"), Config(), NOWHERE)
    assert matched.strategy.optimizer.risk_aversion.limit == 0.02
    assert matched.strategy.forecaster.estimator.seed == strategy.estimator.seed


def test_all_strategies_are_measured_with_one_risk_forecast(finished):
    """Against the worst outcomes by sorting, for all money in the Ibovespa."""
    results = run(
        SMALL,
        inputs.made_up(SMALL),
        variants.study(SMALL),
        store=finished / "store",
        n_jobs=1,
        progress=False,
    )
    found = groups(results)["headline"]
    assert set(found.result.ledgers) == set(MAKERS)
    measured = held_cvar(results, {"one": found.result})["one"]
    usual = makers.estimator(Variant.of(results.config, ""), results.config, NOWHERE)
    rolling, expected = RollingEstimate(usual, SMALL.refit_every), []
    for date in found.result.cash_rate.index[:-1]:
        view = results.market.at(date)
        seen = rolling.refresh(view).one_period_distribution(view)
        weights = found.result.weights("Ibovespa").loc[date]
        losses = -weights["ibov"] * seen.returns[:, 0] - weights["cash"] * seen.cash_return
        order = np.argsort(-losses)
        before = np.cumsum(seen.probabilities[order]) - seen.probabilities[order]
        tail = np.clip(0.1 - before, 0.0, seen.probabilities[order])
        expected.append(tail @ losses[order] / 0.1)
    assert measured["Ibovespa"] == pytest.approx(np.mean(expected), rel=1e-9)
    assert measured["cash (CDI)"] == pytest.approx(-0.0004, rel=1e-9)


@pytest.mark.long
def test_longer_trainings_are_compared_by_their_bounds(tmp_path):
    """The first iterations are the same, and no later one raises a bound."""
    usual, longer = chosen = variants.lengths(SMALL)
    assert longer == replace(usual, iterations=SMALL.more_iterations)
    results = run(
        SMALL, inputs.made_up(SMALL), list(chosen), store=tmp_path, n_jobs=1, progress=False
    )
    table = accuracy(results)
    assert len(table) == 8  # 32 rows are decided on, and every fourth is trained
    np.testing.assert_allclose(table["cash"], 1.0004**4, rtol=1e-12)
    assert (table["longer"] <= table["bound"] + 1e-12).all()
    assert (table["longer"] < table["bound"]).any()
    gain = table["longer"] - 1.0004**4
    np.testing.assert_allclose(table["gap"] * gain, table["bound"] - table["longer"], atol=1e-12)
    alone = replace(results, variants={usual.name(SMALL): usual})
    assert accuracy(alone).empty


# --- parts ---


def test_halves_share_one_row_and_ten_years_are_ten_years():
    dates = pd.bdate_range("2008-01-02", "2021-06-02")
    cuts = _cuts(dates)
    assert cuts["first half"][1] == cuts["second half"][0]
    assert (cuts["first half"][0], cuts["second half"][1]) == (dates[0], dates[-1])
    assert cuts["first 10 years"] == (dates[0], pd.Timestamp("2018-01-02"))
    assert cuts["last 10 years"] == (pd.Timestamp("2011-06-02"), dates[-1])
    assert list(_cuts(dates[:2000])) == ["first half", "second half"]


def test_realized_volatility_is_in_points_and_knows_no_later_row():
    steps = np.tile([0.01, -0.01], 60)
    prices = pd.Series(100.0 * np.exp(steps.cumsum()), pd.bdate_range("2020-01-01", periods=120))
    index = inputs.realized_volatility(prices, 21)
    np.testing.assert_allclose(index, np.sqrt(235.5), rtol=1e-9)
    other = prices.copy()
    other.iloc[80:] *= 3.0
    changed = inputs.realized_volatility(other, 21)
    pd.testing.assert_series_equal(index.loc[: prices.index[79]], changed.loc[: prices.index[79]])
    assert index.index[0] == prices.index[21]


@pytest.mark.long
def test_the_decks_limit_is_twice_what_the_ibovespa_ever_reached_in_two_years():
    """4.84 % as stated in the project's design notes, from the same rows."""
    prices, cash_rate = read_prices(reference_path("data/brazil/prices.csv"))
    table, through = asset_cvar(Market(prices, cash_rate=cash_rate), 0.9)
    assert round(100.0 * table.loc["ibov", "worst_504"], 2) == 4.84
    assert through.to_numpy().max() <= table["worst_504"].max() + 5e-7  # it has six decimals
    assert table.loc["ibov", "worst_60"] > 0.1


# --- misuse ---


def test_without_prices_it_says_how_to_get_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert "sddp data fetch brazil --out data/brazil/prices.csv" in said
    assert "--prices FILE" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("date,ibov\n2008-01-02,1\n2008-01-03,1\n", "lacks cdi, eur, gold, usd"),
        ("", "none.csv"),
    ],
)
def test_bad_prices(content, words, tmp_path, capsys):
    path = tmp_path / "none.csv"
    if content:
        path.write_text(content)
    assert command.main(["--prices", str(path), "--out", str(tmp_path / "out")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        stop = KeyboardInterrupt()
        stop.add_note("finished windows are kept in the store")
        raise stop

    monkeypatch.setattr(command, "run", interrupted)
    assert command.main(arguments(tmp_path)) == 130
    assert "finished windows are kept in the store" in capsys.readouterr().err
    assert not (tmp_path / "out" / "run.json").exists()


def test_figures_are_those_that_are_named(finished):
    found = figures.draw(tables.read(finished / "out"), SMALL)
    assert tuple(found) == FIGURES
