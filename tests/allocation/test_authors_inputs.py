"""The authors' tests on 504 months of five assets: `test/inputs.jl` and `test/realsimulate.jl`.

One regime, no cost. Expected values: `reference_values.json` beside the data, the authors' and
those recomputed independently (means over 60 draws of the scenarios).
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from sddp import Iterations
from sddp.allocation.model import AllocationModel
from sddp.allocation.training import train_allocation
from sddp.statistics import Regimes, markov_scenarios
from tests.reference_data import reference_path

DRAWS = 8


@pytest.fixture(scope="module")
def months():
    table = pd.read_csv(reference_path("data/msddp_tests/inputs_logreturns.csv"), index_col=0)
    assert table.shape == (504, 5)
    return table.to_numpy()


@pytest.fixture(scope="module")
def stated():
    return json.loads(reference_path("data/msddp_tests/reference_values.json").read_text())


def one_regime(rows):
    """Mean and covariance with the default prior of hmmlearn, as the authors fitted."""
    centered = rows - rows.mean(axis=0)
    covariance = (centered.T @ centered + 0.01) / len(rows)
    return Regimes(rows.mean(axis=0)[None], covariance[None], np.ones((1, 1)), np.ones(1))


def trained(rows, n_decisions, limit, confidence, seed=0):
    """100 scenarios for all stages; without costs the first cuts are exact."""
    scenarios = markov_scenarios(
        one_regime(rows),
        n_stages=n_decisions,
        n_scenarios=100,
        rng=np.random.default_rng(seed),
        sampling="latin hypercube",
    )
    return train_allocation(
        AllocationModel(cvar_confidence=confidence, cvar_limit=limit),
        scenarios,
        initial_holdings={"cash": 1.0},
        stopping=Iterations(2),
        rng=np.random.default_rng(1),
        progress=False,
    )


def test_a_loose_limit_buys_the_best_asset_at_its_mid_point_mean(months):
    result = trained(months, 9, 0.1, 0.95)
    assert result.bound - 1.0 == pytest.approx(0.0940507, abs=5e-8)
    decision = result.policy.decide(regime=0, holdings={"cash": 1.0})
    np.testing.assert_allclose(decision.holdings, [0, 1, 0, 0, 0, 0], atol=1e-9)


@pytest.mark.long
@pytest.mark.parametrize(("confidence", "case"), [(0.95, 1), (0.9, 2)])
def test_where_the_limit_binds_draws_have_the_stated_mean_and_spread(
    months, stated, confidence, case
):
    authors = stated["inputs"]["authors"][case]["UB"]
    other = stated["inputs"]["independent"][case]
    gains = [trained(months, 9, 0.01, confidence, seed).bound - 1.0 for seed in range(DRAWS)]
    error = other["sd"] * np.sqrt(1.0 / DRAWS + 1.0 / 60.0)
    assert abs(np.mean(gains) - other["mean_over_60_LHS_draws"]) < 3.0 * error
    assert 0.35 < np.std(gains, ddof=1) / other["sd"] < 1.8  # of 8 draws: chi-square, 99 %
    assert abs(authors - np.mean(gains)) < 3.0 * other["sd"]  # theirs is one draw


def test_one_decision_compounds_to_nine(months, stated):
    """Independent returns and no cost: myopic, so that 9 decisions earn what one does, 9 times."""
    once, often = trained(months, 1, 0.01, 0.9).bound, trained(months, 9, 0.01, 0.9).bound
    assert once**9 == pytest.approx(often, abs=1e-9)
    authors = [case["UB"] for case in stated["inputs"]["authors"]]
    assert (1.0 + authors[3]) ** 9 - 1.0 == pytest.approx(authors[2], abs=1e-5)


def test_the_simulation_on_later_months_holds_one_asset(months, stated):
    policy = trained(months[:100], 10, 0.1, 0.95).policy
    for stage in range(10):
        decision = policy.decide(stage=stage, regime=0, holdings={"cash": 1.0})
        np.testing.assert_allclose(decision.weights, [0, 0, 1, 0, 0, 0], atol=1e-9)
    wealth = np.exp(np.cumsum(months[101:, 1]))  # the first month after training is not used
    for months_later in (5, 10, 15, 40):
        name = f"wealth_after_{months_later}"
        found = wealth[months_later - 1]
        assert found == pytest.approx(stated["realsimulate"]["independent"][name], abs=1e-9)
        assert found == pytest.approx(stated["realsimulate"]["authors"][name], abs=1e-4)


@pytest.mark.parametrize("confidence", ["0.95", "0.90"])
@pytest.mark.parametrize("seed", [0, 1])
def test_first_cash_under_a_binding_limit(months, stated, confidence, seed):
    """Asset 2 and cash alone: with mid-point quantiles its CVaR is the same in every draw."""
    policy = trained(months[:100], 10, 0.01, float(confidence), seed).policy
    weights = policy.decide(regime=0, holdings={"cash": 1.0}).weights
    authors = stated["realsimulate"]["authors"][f"gamma0.01_alpha{confidence}_cash_path"][1]
    assert weights["cash"] == pytest.approx(authors, abs=1e-9)
    assert weights["cash"] + weights.iloc[2] == pytest.approx(1.0, abs=1e-9)
    mean = stated["realsimulate"]["independent"][
        f"gamma0.01_alpha{confidence}_first_cash_mean_over_60_LHS_draws"
    ]
    assert weights["cash"] == pytest.approx(mean, abs=5e-4)
