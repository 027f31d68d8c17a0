"""Seeds: calls that draw take an integer, a SeedSequence or a Generator, settings seeds alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp import statistics
from sddp.backtest import BuyAndHold, EqualWeight, backtest
from sddp.bounds.inner import inner_bound
from sddp.errors import ModelError
from sddp.estimation import RegimeEstimator
from sddp.evaluation import inference, sample
from sddp.evaluation.risk_tests import shortfall_test
from sddp.market import Market
from sddp.rng import generator, seed_sequence
from sddp.statistics.resampling import stationary_blocks


@cache
def history() -> pd.DataFrame:
    values = np.random.default_rng(1).normal(0.001, 0.02, (240, 2))
    return pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=240), ["a", "b"])


@cache
def fitted():
    return statistics.GaussianRegimes(2, n_starts=2).fit(history(), rng=1)


@cache
def policy():
    drawn = statistics.markov_scenarios(fitted(), n_stages=2, n_scenarios=6, rng=1)
    model = sddp.AllocationModel(transaction_cost=0.001, cvar_limit=0.03)
    return model, drawn, trained(model, drawn, 1).policy


def trained(model, drawn, rng):
    return sddp.train_allocation(
        model,
        drawn,
        initial_holdings={"cash": 1.0},
        rng=rng,
        stopping=sddp.Iterations(2),
        progress=False,
    )


@cache
def report():
    market = Market.from_returns(np.expm1(history()))
    strategies = {"hold": BuyAndHold({"a": 0.5}), "equal": EqualWeight()}
    return backtest(market, strategies, start=market.dates[20], transaction_cost=0.001)


def autoregression():
    return statistics.ReturnAutoregression([0.0], [[0.5]], [0.0], [[0.2]], 1e-4 * np.eye(2))


MOMENTS = (np.zeros(2), np.eye(2), 8)
LOSSES = np.random.default_rng(2).normal(0.0, 0.02, 60)

# What a call returns, as numbers; `rng` is all that differs.
CALLS = {
    "train_allocation": lambda rng: (
        trained(*policy()[:2], rng).policy.simulate(5, rng=1).to_numpy()[:, 1:].astype(float)
    ),
    "AllocationPolicy.simulate": lambda rng: policy()[2].simulate(9, rng=rng)["wealth"],
    "Policy.simulate": lambda rng: policy()[2].engine.simulate(9, rng=rng)["objective"],
    "inner_bound": lambda rng: inner_bound(policy()[2], rng=rng, n_points=2).points,
    "GaussianRegimes.fit": lambda rng: (
        statistics.GaussianRegimes(2, n_starts=2).fit(history(), rng=rng).means
    ),
    "choose_n_states": lambda rng: statistics.choose_n_states(
        history(), [1, 2], rng=rng, regimes=statistics.GaussianRegimes(n_starts=1)
    )["bic"],
    "markov_scenarios": lambda rng: (
        statistics.markov_scenarios(fitted(), n_stages=1, n_scenarios=5, rng=rng).returns
    ),
    "simulate_regimes": lambda rng: (
        statistics.simulate_regimes(
            fitted(), start=np.array([0.5, 0.5]), n_paths=5, n_periods=3, rng=rng
        ).returns
    ),
    "monte_carlo_normal": lambda rng: statistics.monte_carlo_normal(*MOMENTS, rng=rng),
    "latin_hypercube_normal": lambda rng: statistics.latin_hypercube_normal(*MOMENTS, rng=rng),
    "sobol_normal": lambda rng: statistics.sobol_normal(*MOMENTS, rng=rng),
    "ReturnAutoregression.simulate": lambda rng: autoregression().simulate(4, 3, rng=rng).factors,
    "ReturnAutoregression.shocks": lambda rng: autoregression().shocks(4, rng=rng).factors,
    "intervals": lambda rng: inference.intervals(
        sample(report()), inference.Resampling(rng, n_draws=100), confidence=0.95
    )["low"],
    "differences": lambda rng: inference.differences(
        sample(report()), "hold", inference.Resampling(rng, n_draws=100)
    )["p_value"],
    "Resampling": lambda rng: inference.intervals(
        sample(report()), inference.Resampling(rng, n_draws=100), confidence=0.9
    )["high"],
    "stationary_blocks": lambda rng: np.concatenate(
        [b.starts for b in stationary_blocks(30, block_length=3.0, n_draws=4, rng=rng)]
    ),
    "shortfall_test": lambda rng: [
        shortfall_test(
            LOSSES,
            np.full(60, 0.02),
            np.full(60, 0.03),
            confidence=0.9,
            rng=rng,
            n_draws=500,
        ).z2_p_value
    ],
}


@pytest.mark.long
@pytest.mark.parametrize("name", CALLS)
def test_an_integer_a_seed_sequence_and_a_generator_give_the_same_numbers(name):
    call, seed = CALLS[name], np.random.SeedSequence(5)
    expected = np.asarray(call(np.random.default_rng(5)), dtype=float)
    # The seed is a value: used twice it gives the same numbers, though calls spawn from it.
    for rng in (5, np.int64(5), seed, seed):
        np.testing.assert_array_equal(np.asarray(call(rng), dtype=float), expected)
    assert seed.n_children_spawned == 0


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("rng", [-1, True, 1.5, "5", None])
def test_what_is_no_seed_is_rejected_by_every_call(name, rng):
    with pytest.raises(ModelError, match=rf"^rng = {rng!r}: must be an integer, a SeedSequence or"):
        CALLS[name](rng)


def test_a_generator_draws_on():
    rng = np.random.default_rng(5)
    assert generator(rng) is rng
    first, second = (policy()[2].simulate(9, rng=rng)["wealth"] for _ in range(2))
    assert not first.equals(second)


def test_settings_take_a_seed_and_depend_on_it_as_a_value():
    assert RegimeEstimator(seed=np.random.SeedSequence(4)).seed.entropy == 4
    for seed in (np.random.default_rng(1), None, -2):
        with pytest.raises(ModelError, match=r"^seed = .*: must be an integer or a SeedSequence"):
            RegimeEstimator(seed=seed)
    spawned = np.random.SeedSequence(7).spawn(2)[1]
    copy = seed_sequence(spawned)
    assert copy.spawn_key == spawned.spawn_key
    assert generator(copy).random() == np.random.default_rng(spawned).random()
