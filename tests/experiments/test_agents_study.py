"""The study of agents: its numbers and the benchmark of simulations, small."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from experiments.agents import study
from experiments.agents.config import KNOWN, QUICK, VAR, Config
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


def test_the_known_numbers_and_claims_are_judged():
    known = study.known_numbers(CONFIG)
    assert len(known) == 5 + len(KNOWN)
    assert known["agrees"].all()
    region = pd.DataFrame(
        {
            "at once": [0.12, 0.16, np.nan, 0.2],
            "foresight": [True, False, False, True],
            "permanent": [0.0, 0.0, 1.0, 1.0],
        }
    )
    judged = study.claims(CONFIG, region).set_index("claim")["holds"]
    assert not judged["a 10 % chance of losing 20 %, normal law"]
    assert not judged["fat tails raise the VaR at 95 %"]
    assert judged["fat tails raise the CVaR at 95 %"]
    assert judged["ten agents make it -15 %, without foresight"]
    assert not judged["ten agents make it -15 %, in equilibrium, part of it temporary"]
    assert judged["ten agents make it -15 %, in equilibrium, all impact permanent"]


def cell(count, depth, permanent, alikeness, foresight=True, **config):
    setting = {"agents": count, "alikeness": alikeness, "days": 30, "foresight": foresight}
    config = Config(n_crowd=400, n_foreseen=400, **config)
    (found,) = study.crowd_cells(config, study.moments_of(30), setting, [depth], [permanent])
    return found


def test_moves_are_in_proportion_where_nobody_foresees_them():
    """The scaled outcomes against outcomes in the market itself, and where all impact stays."""
    setting = {"agents": 2, "alikeness": 0.5, "days": 30, "foresight": False}
    config, moments = Config(n_crowd=400, n_foreseen=400), study.moments_of(30)
    rows = study.crowd_cells(config, moments, setting, [0.02, 0.2], [0.0, 0.4])
    for row in rows:
        found = study._among_others(config, moments, row)
        extra = found.compared().xs(VAR, level="figure")["difference"]
        assert row["at once"] == pytest.approx(row["alone"] + extra["at once"], abs=1e-9)
        assert row["reverted"] == pytest.approx(row["alone"] + extra["reverted"], abs=1e-9)
    (whole,) = study.crowd_cells(config, moments, setting | {"foresight": True}, [0.02], [1.0])
    found = study._among_others(config, moments, whole)
    extra = found.compared().xs(VAR, level="figure")["difference"]
    assert whole["at once"] == pytest.approx(whole["alone"] + extra["at once"], abs=1e-9)


def test_agents_who_hold_what_they_want_trade_on_changes_of_mind_only():
    quiet = cell(2, 0.03, 0.5, 0.0, noise=0.0)
    assert quiet["at once"] == pytest.approx(quiet["alone"], abs=1e-6)
    assert quiet["alone"] == pytest.approx(0.1166, abs=5e-5)
    assert cell(0, 0.03, 0.5, 0.0)["alone"] == quiet["alone"]
    loud, blind = (cell(2, 0.03, 0.5, 1.0, foresight) for foresight in (True, False))
    assert loud["alone"] < loud["at once"] < blind["at once"]
    assert np.isnan(cell(2, 0.001, 0.5, 1.0, foresight=False)["at once"])


def test_the_tables_on_agents_hold_what_they_say():
    alike = study.crowding_table(CONFIG).set_index("alikeness")["trade correlation"]
    assert alike[1.0] == pytest.approx(1.0, abs=1e-6)
    assert alike[0.0] < 0.9
    gains = study.knowing(CONFIG)["gain of utility"]
    assert (gains >= -1e-9).all()
    whole, cut = (study.slicing().set_index(["slices", "delay"]).loc[k] for k in ((1, 0), (20, 0)))
    assert whole["cost as a share of the order"] == pytest.approx(0.05)
    assert cut["largest fall"] < whole["largest fall"]


@pytest.mark.parametrize("name", simulation.ASKED)
def test_every_benchmark_of_simulations_runs(name):
    found = simulation.measure(name, 500, 1)
    assert found["seconds"] >= 0.0
    assert found["asked"] == simulation.ASKED[name]


def test_workers_are_compared_on_the_same_scenarios():
    found = simulation.two_workers(500, 1)
    assert found["speed_up"] == pytest.approx(found["one"] / found["two"])
