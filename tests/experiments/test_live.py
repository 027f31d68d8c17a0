"""The command of a running portfolio, small: the loop, a backtest of the same rows, updating."""

from __future__ import annotations

import pandas as pd
import pytest

from experiments.live import study
from experiments.live.config import STRATEGIES, Config, source_of, triggers

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


def test_rules_of_updating_trade_as_often_as_they_say():
    config = Config(rows=70, history=15, strategy="equal-weight")
    market = study.market_of(config)
    names = [str(name) for name in market.assets]
    assert len(triggers(names, index=True)) == len(triggers(names, index=False)) + 1
    found = pd.DataFrame(
        [study.updating(config, market, 0.001, rule) for rule in ("every row", "daily")]
    ).set_index("rule")
    assert found.loc["daily", "rows traded"] < found.loc["every row", "rows traded"]
    assert (found["half of its 95 % interval"] > 0.0).all()
