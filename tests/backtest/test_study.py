"""Studies: the same numbers however they are run, stopped and continued; failures told last."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import pytest

from sddp.backtest import (
    BuyAndHold,
    Cell,
    EqualWeight,
    EveryPeriods,
    HoldCash,
    InverseVolatility,
    Study,
    backtest,
    run_study,
    study,
    variants,
)
from sddp.cache import store
from sddp.cache.fingerprint import NOT_DESCRIBED
from sddp.errors import DataError, ModelError, StudyError
from sddp.estimation import FitCache
from sddp.evaluation import summary
from sddp.market import Market
from tests.backtest.test_lookahead import FUTURES, LAST_KNOWN, START
from tests.backtest.test_multistage import small_estimator, small_strategy, still_market
from tests.backtest.test_multistage import two_regime_market as market_of_two

COST = 0.002


@dataclass
class Falls:
    """Equal weights with a history, until a date on which it falls over: only where asked to."""

    window: int = 4
    on: str | None = field(default=None, metadata=NOT_DESCRIBED)
    how: type[BaseException] = field(default=DataError, metadata=NOT_DESCRIBED)
    decision_log: list[dict[str, Any]] = field(default_factory=list, init=False)
    asked: int = field(default=0, init=False)
    resumed: int = field(default=0, init=False)

    def decide(self, view, holdings):
        if self.on is not None and view.date >= pd.Timestamp(self.on):
            raise self.how("fell over")
        self.asked += 1
        self.decision_log.append({"date": view.date, "asked": self.asked, "held": tuple(holdings)})
        return pd.Series(1.0 / (self.asked + 3.0), index=view.assets)

    def decision_log_table(self) -> pd.DataFrame:
        return pd.DataFrame(self.decision_log).set_index("date")

    def checkpoint(self) -> dict[str, Any] | None:
        return {"asked": self.asked} if self.asked % self.window == 0 else None

    def resume(self, state: Mapping[str, Any], view) -> None:
        self.asked = self.resumed = state["asked"]
        assert view.date == self.decision_log[-1]["date"]


def numbers(ended: Study) -> dict[str, list[bytes]]:
    """All bits of what cells did and wrote down, but not how long it took."""
    found = {}
    for name, ledger in ended.ledgers.items():
        tables = [getattr(ledger, table) for table in ledger.__dataclass_fields__]
        found[name] = [table.to_numpy().tobytes() for table in tables]
        strategy = ended.strategies[name]
        if hasattr(strategy, "decision_log_table"):
            decision_log = strategy.decision_log_table().drop(columns="seconds", errors="ignore")
            found[name] += [repr(decision_log.to_dict("split")).encode()]
    return found


def cells(folder: Path | None = None, **changes) -> dict[str, Cell]:
    estimator = small_estimator(cache=FitCache(folder))
    base = small_strategy(**({"estimator": estimator, "refit_every": 3} | changes))
    chosen = {name: variants(base)[name] for name in ("SDDP", "cost-free future")}
    others = {"equal": EqualWeight(), "hold": BuyAndHold({"bold": 0.4})}
    trigger = EveryPeriods(4)
    grid = {name: Cell(s, COST, rebalance=trigger) for name, s in (chosen | others).items()}
    return grid | {"SDDP, dear": replace(grid["SDDP"], transaction_cost=0.01)}


OPTIONS: dict[str, Any] = {"start": "2021-09-01", "end": "2021-11-30", "progress": False}


@pytest.fixture(scope="module")
def market():
    return market_of_two()


@pytest.fixture(scope="module")
def alone(market) -> Study:
    """In one process, without a store."""
    return run_study(market, cells(), **OPTIONS)


# --- the same numbers ---


@pytest.mark.long
def test_a_cell_is_a_backtest(market, alone):
    for name, cell in cells().items():
        report = backtest(
            market,
            {name: cell.strategy},
            start=OPTIONS["start"],
            end=OPTIONS["end"],
            transaction_cost=cell.transaction_cost,
            rebalance=cell.rebalance,
        )
        assert report.wealth[name].equals(alone.result().wealth[name])
        assert report.ledger(name).decisions.equals(alone.ledgers[name].decisions)
        assert report.cash_rate.equals(alone.cash_rate)
    assert alone.result(["SDDP"]).timing == report.timing
    assert (alone.ledgers["SDDP, dear"].costs.to_numpy().sum()) > 0.0
    assert alone.seconds["SDDP"] > 0.0


@pytest.mark.long
def test_parallel_equals_serial_and_a_finished_study_is_only_read(
    market, alone, tmp_path, monkeypatch
):
    kept = run_study(market, cells(tmp_path), n_jobs=2, store=tmp_path, **OPTIONS)
    assert numbers(kept) == numbers(alone)
    monkeypatch.setattr(study, "simulate", None)
    read = run_study(market, cells(), store=tmp_path, **OPTIONS)
    assert numbers(read) == numbers(alone)
    assert read.seconds == kept.seconds
    tables = [s.strategies["SDDP"].decision_log_table() for s in (kept, read)]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    assert summary(read.result()).shape[0] == 5


@pytest.mark.long
def test_on_a_dask_cluster_of_two_workers(market, alone, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
    quick = {name: cells(tmp_path)[name] for name in ("SDDP", "equal")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the cluster's own sockets and ports
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            distributed.Client(cluster),
            joblib.parallel_config(backend="dask"),
        ):
            ended = run_study(market, quick, store=tmp_path, **OPTIONS)
    assert numbers(ended) == {name: numbers(alone)[name] for name in quick}


# --- stopped and continued ---


@pytest.mark.parametrize("how", [DataError, KeyboardInterrupt])
@pytest.mark.parametrize("on", ["2021-09-02", "2021-09-10", "2021-11-22"])
@pytest.mark.parametrize("lag", [0, 1, 3])
def test_a_stopped_run_goes_on_from_the_last_window(market, lag, on, how, tmp_path):
    whole = run_study(market, {"s": Cell(Falls(), COST, lag=lag)}, **OPTIONS)
    stops = {"s": Cell(Falls(on=on, how=how), COST, lag=lag)}
    expected = pytest.raises(KeyboardInterrupt) if how is KeyboardInterrupt else nullcontext()
    with expected:
        run_study(market, stops, store=tmp_path, **OPTIONS)
    done = len(pd.bdate_range("2021-09-01", on)) - 1
    folder = next((tmp_path / "cells").iterdir())
    assert len(list(folder.glob("rows-*"))) == done // 4
    resumed = run_study(market, {"s": Cell(Falls(), COST, lag=lag)}, store=tmp_path, **OPTIONS)
    assert numbers(resumed) == numbers(whole)
    assert not list(folder.glob("rows-*"))


def test_ctrl_c_says_what_is_kept(market, tmp_path):
    grid = {"s": Cell(Falls(on="2021-10-01", how=KeyboardInterrupt), COST)}
    with pytest.raises(KeyboardInterrupt) as caught:
        run_study(market, grid, store=tmp_path, **OPTIONS)
    assert caught.value.__notes__ == [
        "the study was interrupted; finished windows are kept in "
        f"{tmp_path}; run it again to go on from there"
    ]
    with pytest.raises(KeyboardInterrupt) as caught:
        run_study(market, grid, **OPTIONS)
    assert "give a store" in caught.value.__notes__[0]


KILLED = """
import os, signal, sys
import numpy as np
from sddp.backtest import run, run_study
from tests.backtest.test_study import OPTIONS, cells, market_of_two

n_windows, part = 0, run.Run.part
def killed(self, start, state):
    global n_windows
    n_windows += state is not None
    if n_windows == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return part(self, start, state)
run.Run.part = killed
run_study(market_of_two(), cells(sys.argv[1]), store=sys.argv[1], **OPTIONS)
"""


@pytest.mark.long
def test_a_killed_study_goes_on_bit_by_bit(market, alone, tmp_path):
    """SIGKILL in the second cell, once two of its windows are kept."""
    per_cell = 5 + 1  # windows, and the whole run at its end
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(per_cell + 3)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -9, ended.stderr
    files = sorted(path.name[:4] for path in (tmp_path / "cells").rglob("*.npz"))
    assert files == ["rows", "rows", "whol"]
    resumed = run_study(market, cells(tmp_path), store=tmp_path, **OPTIONS)
    assert numbers(resumed) == numbers(alone)


@pytest.mark.long
def test_a_policy_that_must_be_kept_is_found_again_after_a_cut(tmp_path):
    """The run is cut just before a refit that fails: the policy of the window before goes on."""
    market = still_market()
    options = OPTIONS | {"start": market.dates[-51], "end": None}
    kept = small_strategy(refit_every=2, on_failure="keep")
    grid = {"s": Cell(kept, COST, rebalance=EveryPeriods(5))}
    whole = run_study(market, grid, **options)
    assert whole.strategies["s"].decision_log_table()["failure"].ne("").sum() == 1
    run_study(market, grid, store=tmp_path, **options)
    [folder] = (tmp_path / "cells").iterdir()
    for stop in (6, 26, 30):
        cut_after(folder, grid, market, options, stop)
        resumed = run_study(market, grid, store=tmp_path, **options)
        assert numbers(resumed) == numbers(whole)


def cut_after(folder: Path, grid, market, options, row: int) -> None:
    """Leave the windows up to a row, as a run that was stopped there would."""
    (folder / "whole.npz").unlink()

    @dataclass
    class Stop(Exception):
        pass

    simulate = study.simulate

    def stopping(run, market, *, after_row):
        def then(run):
            after_row(run)
            if run.row > row:
                raise Stop

        simulate(run, market, after_row=then)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "simulate", stopping)
        ended = run_study(market, grid, store=folder.parents[1], **options)
    assert [failure.reason.split(":")[0] for failure in ended.failures] == ["Stop"]
    assert list(folder.glob("rows-*")) or row < 6


def test_a_damaged_window_is_computed_again_and_told(market, tmp_path):
    grid = {"s": Cell(Falls(on="2021-10-20"), COST)}
    run_study(market, grid, store=tmp_path, **OPTIONS)
    paths = sorted((tmp_path / "cells").rglob("rows-*"))
    paths[1].write_bytes(paths[1].read_bytes()[:-30])
    ended = run_study(market, {"s": Cell(Falls(), COST)}, store=tmp_path, **OPTIONS)
    assert numbers(ended) == numbers(run_study(market, {"s": Cell(Falls(), COST)}, **OPTIONS))
    [text] = ended.warnings["s"]
    assert text.startswith("StoreWarning: ")
    assert paths[1].name in text


# --- what entries stand for ---


@pytest.mark.long
def test_entries_are_of_one_config_one_data_and_one_version(market, tmp_path, monkeypatch):
    def n_cells() -> int:
        return len(list((tmp_path / "cells").iterdir()))

    cell, known = Cell(InverseVolatility(20), COST), market.at("2021-12-20")
    base = {"store": tmp_path} | OPTIONS
    run_study(market, {"a": cell}, **base)
    run_study(market, {"another name": cell}, **base)
    assert n_cells() == 1
    changes = [
        (market, replace(cell, strategy=InverseVolatility(21)), base),
        (market, replace(cell, transaction_cost=0.003), base),
        (market, replace(cell, lag=2), base),
        (market, replace(cell, rebalance=EveryPeriods(2)), base),
        (market, cell, base | {"initial_wealth": 2.0}),
        (market, cell, base | {"end": "2021-11-29"}),
        (Market(known.prices, factors=known.factors), cell, base | {"end": "2021-11-29"}),
    ]
    for market_, cell_, options in changes:
        run_study(market_, {"a": cell_}, **options)
    assert n_cells() == 7  # rows after the end are not looked at
    for name in ("prices", "factors", "cash_rate"):
        tables = {n: getattr(known, n).copy() for n in ("prices", "factors", "cash_rate")}
        tables[name].iloc[3] += 1e-9
        run_study(Market(**tables), {"a": cell}, **base)
    assert n_cells() == 10
    monkeypatch.setattr(store, "RESULTS_VERSION", store.RESULTS_VERSION + 1)
    run_study(market, {"a": cell}, **base)
    assert n_cells() == 11


def test_a_cell_is_labeled_with_its_config(market, tmp_path):
    ended = run_study(market, {"a": Cell(InverseVolatility(20), COST)}, store=tmp_path, **OPTIONS)
    [label] = (tmp_path / "cells").rglob("config.json")
    assert json.loads(label.read_text()) == ended.configs["a"]
    assert ended.configs["a"]["strategy"]["window"] == 20
    assert ended.configs["a"]["costs"] == {"buy": [COST] * 2, "sell": [COST] * 2}


def test_a_used_strategy_starts_afresh(market):
    used = BuyAndHold({"bold": 0.4})
    used._bought = True
    ended = run_study(market, {"hold": Cell(used, COST)}, **OPTIONS)
    assert ended.ledgers["hold"].executed["bold"].iloc[1] > 0.0


@pytest.mark.long
@pytest.mark.parametrize("future", ["truncated", "replaced"])
def test_a_store_that_knows_the_future_does_not_tell(future, data, other_data, tmp_path):
    """Every strategy, with one store for both markets; see `test_lookahead`."""
    base = small_strategy(
        estimator=small_estimator(cache=FitCache(tmp_path)),
        refit_every=8,
        seed=small_estimator().seed,
    )
    strategies = variants(base) | {
        "equal": EqualWeight(),
        "hold": BuyAndHold({"gold": 0.4}),
        "inverse": InverseVolatility(10),
        "cash": HoldCash(),
        "history": Falls(),
    }
    grid = {name: Cell(strategy, COST) for name, strategy in strategies.items()}
    dates = data.prices.index
    start, until, end = dates[START], dates[LAST_KNOWN - 2], dates[LAST_KNOWN + 4]
    known, altered = (
        run_study(d.market(), grid, start=start, end=end, store=tmp_path, progress=False)
        for d in (data, FUTURES[future](data, other_data))
    )
    for name in grid:
        expected, found = (s.ledgers[name].decisions.loc[:until] for s in (known, altered))
        assert len(expected) == LAST_KNOWN - 1 - START
        assert found.to_numpy().tobytes() == expected.to_numpy().tobytes()


# --- failures ---


def test_a_failing_cell_does_not_lose_the_others(market, capsys):
    grid = {
        "bad": Cell(Falls(on="2021-09-20"), COST),
        "good": Cell(EqualWeight(), COST),
        "worse": Cell(small_strategy(estimator=small_estimator(window=400)), COST),
    }
    ended = run_study(market, grid, **(OPTIONS | {"progress": True}))
    assert list(ended.ledgers) == ["good"]
    assert ended.result().wealth.shape[1] == 1
    words = (
        r"2 of 3 cells failed; the others are kept:\n  bad on 2021-09-20: DataError: fell over\n"
    )
    with pytest.raises(StudyError, match=words + r"  worse on 2021-09-01: .* needs 400 rows"):
        ended.check()
    with pytest.raises(StudyError, match="cell 'bad' failed: bad on 2021-09-20"):
        ended.result(["good", "bad"])
    assert "raise self.how" in ended.failures[0].trace
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "bad: failed on 2021-09-20: DataError: fell over (1 of 3)"
    assert told[1] == "good: finished (2 of 3)"
    alone = run_study(market, {"good": grid["good"]}, **OPTIONS)
    alone.check()


def test_a_report_has_one_lag(market):
    grid = {f"lag {lag}": Cell(EqualWeight(), COST, lag=lag) for lag in (0, 1)}
    ended = run_study(market, grid, **OPTIONS)
    with pytest.raises(ModelError, match=r"the lags \[0, 1\]; choose those of one lag"):
        ended.result()
    assert "not executable" in ended.result(["lag 0"]).timing
    with pytest.raises(
        StudyError, match=r"cell 'lag 2' is unknown; known are \['lag 0', 'lag 1'\]"
    ):
        ended.result(["lag 2"])


def test_warnings_are_kept_with_the_cell(market, tmp_path):
    model = small_strategy().model
    frugal = small_strategy(model=replace(model, transaction_cost=0.05), refit_every=3)
    grid = {"s": Cell(frugal, COST, rebalance=EveryPeriods(20))}
    for _ in range(2):
        ended = run_study(market, grid, store=tmp_path, **OPTIONS)
        assert ended.warnings["s"][0].startswith("RecourseWarning: cvar_limit = 0.006 is below")


class Plain:
    def decide(self, view, holdings):
        return None


@pytest.mark.parametrize(
    ("grid", "error", "words"),
    [
        ({}, ModelError, "strategies is empty"),
        ({"a": Cell(Plain(), COST)}, ModelError, "Plain cannot be described"),
        ({"a": Cell(EqualWeight(), 0.5)}, DataError, "the buy cost 0.5 lies outside"),
        ({"a": Cell(EqualWeight(), COST, lag=-1)}, ModelError, "lag = -1"),
    ],
)
def test_bad_arguments_are_rejected_before_anything_runs(market, grid, error, words):
    with pytest.raises(error, match=words):
        run_study(market, grid, **OPTIONS)
