"""The command of a running portfolio, small: the loop, a backtest of the same rows, updating."""

from __future__ import annotations

import pytest

from experiments.live import study
from experiments.live.config import STRATEGIES, Config, source_of
from sddp.errors import DataError
from sddp.live import RowRejected, RowRepaired

pytest.importorskip("apscheduler")
pytest.importorskip("starlette")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loop_does_what_a_backtest_does_and_shows_it(strategy, tmp_path):
    config = Config(rows=40, history=15, strategy=strategy)
    market = study.market_of(config)
    connections = study.Connections(state=str(tmp_path / "state.db"))
    ran = study.run_loop(config, market, connections)
    assert len(ran.figures) == 25
    compared = study.equal_to_backtest(config, market, ran)
    assert compared["equal"].all()
    assert ran.latency().loc["row to events", "rows"] == 25
    assert ran.counts().set_index("event")["count"]["PortfolioAnalytics"] == 25
    page = ran.page.write(tmp_path / "page.html").read_text()
    assert strategy in page
    # A file that holds the whole run has nothing left to do.
    assert study.run_loop(config, market, connections).figures == []


def test_a_replayed_file_has_the_rows_of_the_file(tmp_path):
    file = tmp_path / "prices.csv"
    file.write_text("date,a,vix\n2024-01-01,1.0,20\n2024-01-02,1.5,30\n2024-01-03,1.2,20\n")
    source, assets = source_of(Config(replay=str(file), rows=2), None)
    assert assets == ("a",)
    assert [row.prices["a"] for row in source.rows(0)] == [1.0, 1.5]
    assert [row.prices["a"] for row in source.rows(1)] == [1.5]


def test_a_dirty_file_is_replayed_by_the_rules(tmp_path):
    rows = [
        f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00,{100 + i % 7},{50 + i % 3}" for i in range(60)
    ]
    rows[40] = "garbage,1,2"
    rows[45] = rows[44]
    rows[50] = rows[50].rsplit(",", 1)[0] + ",-1"
    rows[52] = rows[20]
    file = tmp_path / "dirty.csv"
    file.write_text("time,a,b\n" + "\n".join(rows) + "\n")
    config = Config(replay=str(file), history=15, strategy="equal-weight")
    market = study.market_of(config)
    state = study.Connections(state=str(tmp_path / "state.db"))
    ran = study.run_loop(config, market, state)
    assert study.equal_to_backtest(config, market, ran)["equal"].all()
    reasons = [e.reason for e in ran.events if isinstance(e, (RowRejected, RowRepaired))]
    assert {"no time", "duplicate", "not positive", "late"} <= set(reasons)
    # One that goes on compares the rows that it took: none here.
    assert study.equal_to_backtest(config, market, study.run_loop(config, market, state))[
        "equal"
    ].all()
    file.write_text("time,a,b\nx,1,2\n")
    with pytest.raises(DataError, match="0 rows can be used"):
        study.market_of(config)


def test_rules_of_updating_trade_as_often_as_they_say():
    config = Config(rows=70, history=15, strategy="equal-weight")
    market = study.market_of(config)
    tables = study.updating_tables(config, market)
    found = tables["updating"].set_index(["start", "cost", "rule"]).sort_index()
    assert len(found) == 3 * 2 * 6
    for start in ("cash", "equal weights", "70 % coin"):
        one = found.loc[start, 0.001]
        assert one.loc["daily", "rows traded"] < one.loc["every row", "rows traded"]
        assert one.loc["every row", "less every row"] == 0.0
        assert (one["its half-width"] > 0.0).all()
        assert one.loc["weekly", "half-width"] > 0.0
    # From equal weights nothing is left to trade on the first row.
    first = found["turnover"]
    assert first["cash", 0.001, "weekly"] > first["equal weights", 0.001, "weekly"] + 0.9
    fired = tables["triggers"].set_index("rule")["firings"]
    assert fired.loc["every row"].sum() > 40


def test_the_log_is_exported_by_the_wall_clock_and_at_the_end(tmp_path):
    config = Config(rows=30, history=15, strategy="equal-weight")
    market = study.market_of(config)
    state, log = str(tmp_path / "state.db"), tmp_path / "log.jsonl"
    study.run_loop(config, market, study.Connections(state=state, export=str(log)))
    whole = log.read_text()
    assert sum('"kind": "row"' in line for line in whole.splitlines()) == 30
    log.unlink()
    with study.exported(state, str(log), "0 2 * * 7") as scheduler:
        (job,) = scheduler.get_jobs()
        assert (job.next_run_time.hour, job.next_run_time.isoweekday()) == (2, 7)
        job.func(*job.args)
    assert log.read_text() == whole
