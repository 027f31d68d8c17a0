"""The study of agents: its numbers and the benchmark of simulations, small."""

from __future__ import annotations

import pytest

from experiments.agents import study
from experiments.agents.config import QUICK, Config
from experiments.benchmarks import simulation

CONFIG = Config(**QUICK)


def test_the_example_has_the_figures_of_the_specification():
    table, returns, paths = study.example(CONFIG)
    by = table.set_index(["convention", "figure", "law"])["value"]
    error = table.set_index(["convention", "figure", "law"])["standard_error"]
    known = {
        ("30 of 252 days as one period", "VaR 95 %", "normal"): 0.1166,
        ("30 of 252 days as one period", "CVaR 95 %", "normal"): 0.1480,
        ("30 of 365 days as one period", "VaR 95 %", "normal"): 0.0979,
        ("30 of 252 days as one period", "VaR 95 %", "Student-t (4)"): 0.106,
        ("30 compounded days, holdings fixed", "VaR 95 %", "normal"): 0.1099,
        ("30 compounded days, rebalanced daily", "VaR 95 %", "Student-t (4)"): 0.1122,
    }
    for at, value in known.items():
        assert abs(by[at] - value) < 3.0 * error[at] + 1e-3, at
    assert returns.shape == (CONFIG.n_scenarios, 2)
    assert paths.shape == (CONFIG.n_scenarios, 31)
    assert study.contributions()["share"].round(3).tolist() == [0.9, 0.1, 0.0]


def test_agents_who_hold_what_they_want_trade_on_changes_of_mind_only():
    quiet = study.crowd_cell(Config(n_crowd=400, noise=0.0), 2, 0.03, 0.5, 0.0, 30)
    assert quiet["at once"] == pytest.approx(quiet["alone"], abs=1e-6)
    nobody = study.crowd_cell(Config(n_crowd=400), 0, 0.03, 0.5, 0.0, 30)
    assert nobody["alone"] == pytest.approx(quiet["alone"], abs=1e-12)
    loud = study.crowd_cell(Config(n_crowd=400), 2, 0.01, 0.5, 1.0, 30)
    assert loud["at once"] > loud["alone"]


@pytest.mark.parametrize("name", simulation.ASKED)
def test_every_benchmark_of_simulations_runs(name):
    found = simulation.measure(name, 500, 1)
    assert found["seconds"] >= 0.0
    assert found["asked"] == simulation.ASKED[name]
