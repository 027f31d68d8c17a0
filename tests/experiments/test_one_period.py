"""The study of one-period optimizers on made-up prices: its tables and its verdicts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from experiments.one_period import study
from experiments.one_period.inputs import QUICK, Case, Config, bands, optimizers, strategies
from sddp.market import Market
from sddp.portfolio import OptimizerType
from sddp.portfolio.registry import CLASSES

NAMES = ["btc", "eth", "paxg", "usdc", "vnq", "gld"]


@pytest.fixture(scope="module")
def case() -> Case:
    rng = np.random.default_rng(2)
    dates = pd.date_range("2020-01-01", periods=130, freq="B")
    size = np.array([0.04, 0.05, 0.01, 0.001, 0.012, 0.01])
    returns = rng.normal(0.001, 1.0, (130, 6)) * size + 0.3 * size * rng.normal(size=(130, 1))
    prices = pd.DataFrame(np.cumprod(1.0 + returns, axis=0), index=dates, columns=NAMES)
    vix = pd.Series(20.0 + rng.normal(size=130), index=dates)
    market = Market(prices, cash_rate=1e-4, volatility_index=vix)
    return Case("made up", market, 0.001, 1, dates[91], dates[-1], 90)


CONFIG_WITHOUT_WINDOW = {k: v for k, v in QUICK.items() if k != "window"}
CONFIG = replace(Config(), window=90, **{**CONFIG_WITHOUT_WINDOW, "n_decisions_online": 30})


def test_every_class_of_optimizer_takes_part(case, tmp_path):
    made = {type(o) for o in optimizers(case, CONFIG).values()}
    assert made == {CLASSES[kind] for kind in OptimizerType}
    assert {"SDDP", "equal weights", "inverse volatility"} <= set(
        strategies(case, CONFIG, tmp_path)
    )


def test_sensitivities_have_all_groups_and_a_verdict(case):
    moved = study.sensitivities(case, CONFIG)
    groups = {"mean", "volatility", "correlation", "risk aversion", "volatility index", "cost"}
    assert groups | {"bound"} == set(moved.index)
    # One asset is held: a part in a hundred of a mean moves nothing, a standard error does.
    assert moved.loc["mean", "weights_error"] > 0.1
    assert moved.loc["mean", "weights_percent"] == pytest.approx(0.0, abs=1e-12)
    assert moved.loc["bound", "weights_percent"] > 1e-3


def test_claims_are_judged_by_their_numbers():
    groups = ["correlation", "volatility", "mean", "volatility index", "risk aversion", "cost"]
    falling = pd.DataFrame({"loss_percent": [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]}, index=groups)
    falling["loss_error"] = [1.0, 2.0, 3.0, np.nan, np.nan, np.nan]
    bound = pd.DataFrame({"loss_percent": 9.0, "loss_error": np.nan}, index=["bound"])
    moved = pd.concat([falling, bound])
    assert study.claim_on_costs(moved)
    assert study.claim_on_order(moved) == {"one standard error": False, "1 %": True}
    moved.loc["cost", "loss_percent"] = 4.5
    assert not study.claim_on_costs(moved)


def test_the_online_solver_keeps_its_constraints_and_more_steps_lose_less(case):
    table = study.online(case, CONFIG)
    assert table["constraint_error"].max() < 1e-12
    assert table["regret"]["exact"] == 0.0
    assert table["regret"]["online, 25 steps"] < table["regret"]["online, 1 steps"]


def test_the_fall_of_real_estate_is_that_of_its_holding(case, tmp_path):
    chosen = {"equal": strategies(case, CONFIG, tmp_path)["equal weights"]}
    result = study._backtests(case, CONFIG, chosen, tmp_path, 1, False)
    table = study.shock_through_time(case, CONFIG, result)
    held = result.ledgers["equal"].weights.loc[table["date"], "vnq"].to_numpy()
    assert table["loss"].to_numpy() == pytest.approx(0.3 * held, abs=1e-12)
    assert (table["comoving loss"] > table["loss"]).all()


def test_bands_are_those_asked_for(case):
    assert study.WITHOUT_BAND in bands(case, CONFIG)
    assert study.WITH_BAND in bands(case, CONFIG)
