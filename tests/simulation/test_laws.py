"""Laws of returns: the same numbers however they are drawn, and the moments that were asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sddp.errors import DataError, ModelError
from sddp.rng import child_seed, root_seed
from sddp.scenarios import MarkovScenarios
from sddp.simulation import (
    BootstrapLaw,
    CallableLaw,
    MarkovLaw,
    NormalLaw,
    RegimeLaw,
    StudentLaw,
    per_period,
)
from sddp.statistics import Regimes

MEAN = np.array([0.01, -0.002, 0.0])
ROOT = np.array([[0.05, 0.0, 0.0], [0.02, 0.03, 0.0], [-0.01, 0.01, 0.02]])
COVARIANCE = ROOT @ ROOT.T
REGIMES = Regimes(
    means=np.array([[0.01, 0.0], [-0.03, 0.02]]),
    covariances=np.array([[[4e-4, 1e-4], [1e-4, 3e-4]], [[2.5e-3, -5e-4], [-5e-4, 1e-3]]]),
    transition_matrix=np.array([[0.9, 0.1], [0.3, 0.7]]),
    start_probabilities=np.array([0.5, 0.5]),
)
HISTORY = pd.DataFrame(
    np.random.default_rng(5).standard_normal((60, 2)) * 0.01, columns=["gold", "land"]
)
CHAIN = MarkovScenarios(
    np.array([[[0.1, 0.0], [-0.1, 0.2]], [[0.0, 0.3], [0.4, -0.2]]]),
    [[0.8, 0.2], [0.5, 0.5]],
    probabilities=[[0.25, 0.75], [0.5, 0.5]],
    n_stages=4,
)


def uniform(n_scenarios, n_periods, rng):
    return rng.uniform(-0.1, 0.1, (n_scenarios, n_periods, 2))


def normal(**changes):
    return NormalLaw(**({"mean": MEAN, "covariance": COVARIANCE, "returns": "simple"} | changes))


def student(**changes):
    given = {"mean": MEAN, "covariance": COVARIANCE, "returns": "simple", "degrees_of_freedom": 5}
    return StudentLaw(**(given | changes))


LAWS = {
    "normal": normal(),
    "log-normal": normal(returns="log"),
    "antithetic": normal(sampling="antithetic"),
    "sobol": normal(sampling="sobol"),
    "student": student(),
    "antithetic student": student(sampling="antithetic"),
    "sobol student": student(sampling="sobol"),
    "regimes": RegimeLaw(REGIMES, [0.2, 0.8]),
    "bootstrap": BootstrapLaw(HISTORY, block_length=5.0),
    "chain": MarkovLaw(CHAIN, [0.5, 0.5]),
    "callable": CallableLaw(uniform, ["a", "b"]),
}


def drawn(law, n_scenarios, n_periods, **options):
    return np.concatenate(list(law.sample(n_scenarios, n_periods, **options)))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS.keys())
def test_the_numbers_do_not_depend_on_chunks_order_or_sample_size(law, monkeypatch):
    monkeypatch.setattr("sddp.simulation.laws.BLOCK_NUMBERS", 64)
    whole = drawn(law, 101, 4, rng=3)
    assert whole.shape == (101, 4, len(law.names))
    assert np.isfinite(whole).all()
    for size in (1, 100, 101, 7):
        chunks = list(law.sample(101, 4, rng=3, chunk_size=size))
        assert {len(chunk) for chunk in chunks[:-1]} <= {size}
        np.testing.assert_array_equal(np.concatenate(chunks), whole)
    np.testing.assert_array_equal(drawn(law, 30, 4, rng=3), whole[:30])
    size = law.block_size(4)
    assert size < 30
    draw = law.blocks(4, size, root_seed(3))
    for number in (2, 0, 1):  # another worker, another order
        np.testing.assert_array_equal(draw(number), whole[number * size : (number + 1) * size])
    assert not np.array_equal(whole, drawn(law, 101, 4, rng=4))


def test_a_generator_draws_on():
    law, rng = LAWS["normal"], np.random.default_rng(1)
    first, second = drawn(law, 8, 1, rng=rng), drawn(law, 8, 1, rng=rng)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, drawn(law, 8, 1, rng=np.random.default_rng(1)))
    children = np.random.SeedSequence(7).spawn(5)
    for k, child in enumerate(children):
        mine = child_seed(root_seed(7), k)
        np.testing.assert_array_equal(mine.generate_state(4), child.generate_state(4))


@pytest.mark.parametrize("name", ["normal", "antithetic", "sobol", "student", "sobol student"])
def test_moments_are_those_given(name):
    """The scale for the covariance of a Student law would be wrong by 5/3."""
    sample = drawn(LAWS[name], 60_000, 2, rng=11).reshape(-1, 3)
    error = np.sqrt(np.diag(COVARIANCE) / len(sample))
    assert (np.abs(sample.mean(axis=0) - MEAN) < 4.0 * error).all()
    np.testing.assert_allclose(np.cov(sample.T), COVARIANCE, atol=1e-4, rtol=0.05)


def test_log_returns_are_normal_where_that_is_said():
    sample = np.log1p(drawn(LAWS["log-normal"], 40_000, 1, rng=2)[:, 0])
    assert (np.abs(sample.mean(axis=0) - MEAN) < 4.0 * sample.std(axis=0) / 200.0).all()
    assert stats.kstest((sample[:, 0] - MEAN[0]) / 0.05, "norm").pvalue > 1e-3


def test_student_returns_of_a_scale_are_student():
    law = student(covariance=None, scale=COVARIANCE, degrees_of_freedom=1.5)
    sample = drawn(law, 20_000, 1, rng=2)[:, 0, 0]
    assert stats.kstest((sample - MEAN[0]) / 0.05, "t", args=(1.5,)).pvalue > 1e-3


def test_all_assets_of_a_period_share_the_mixing_variable():
    law = student(covariance=np.diag([1e-4] * 3), degrees_of_freedom=4)
    squares = drawn(law, 20_000, 2, rng=3)[:, :, :2] ** 2
    together = np.corrcoef(squares[:, 0, 0], squares[:, 0, 1])[0, 1]
    apart = np.corrcoef(squares[:, 0, 0], squares[:, 1, 1])[0, 1]
    assert together > 0.1 > abs(apart) + 0.05


def test_degrees_of_freedom_are_found_again():
    sample = drawn(student(degrees_of_freedom=5.0), 6_000, 1, rng=9)[:, 0]
    fitted = StudentLaw.fit(pd.DataFrame(sample, columns=list("abc")), returns="simple")
    assert fitted.names == ("a", "b", "c")
    assert 4.2 < fitted.degrees_of_freedom < 5.8
    normals = drawn(normal(), 6_000, 1, rng=9)[:, 0]
    assert StudentLaw.fit(normals, returns="simple").degrees_of_freedom > 40.0


@pytest.mark.parametrize(("sampling", "at_most"), [("antithetic", 1e-14), ("sobol", 2e-4)])
def test_variance_reduction_reduces_the_variance_of_a_mean(sampling, at_most):
    """The plain error of the mean of 4,096 sums over four periods is 1.6e-3."""
    means = [
        drawn(normal(sampling=sampling), 4_096, 4, rng=seed)[:, :, 0].sum(axis=1).mean()
        for seed in range(5)
    ]
    assert np.std(means) < at_most
    assert abs(np.mean(means) - 4 * MEAN[0]) < 3e-4


def test_the_first_sobol_coordinates_are_the_principal_components_of_the_sum(monkeypatch):
    class Uniform:
        """In place of Sobol numbers: only the first coordinate leaves its middle."""

        MAXDIM, num_generated = 100, 0

        def __init__(self, d, **_):
            self.d = d

        def random(self, n):
            points = np.full((n, self.d), 0.5)
            points[:, 0] = np.linspace(0.1, 0.9, n)
            return points - 0.5**31

    monkeypatch.setattr("scipy.stats.qmc.Sobol", Uniform)
    moved = normal(mean=np.zeros(3), sampling="sobol").blocks(4, 8, root_seed(1))(0)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[:, :1], moved.shape), atol=1e-15)
    direction = moved[-1, 0] / np.linalg.norm(moved[-1, 0])
    first = np.linalg.eigh(COVARIANCE)[1][:, -1]
    assert abs(direction @ first) == pytest.approx(1.0, abs=1e-12)


def test_regimes_begin_from_the_belief():
    law = RegimeLaw(REGIMES, [0.0, 1.0])
    first = np.log1p(drawn(law, 40_000, 2, rng=8)[:, 0])
    expected = 0.3 * REGIMES.means[0] + 0.7 * REGIMES.means[1]
    assert (np.abs(first.mean(axis=0) - expected) < 4.0 * first.std(axis=0) / 200.0).all()


def test_the_bootstrap_draws_whole_rows_in_blocks():
    law = LAWS["bootstrap"]
    sample = drawn(law, 500, 30, rng=1)
    rows = {tuple(row): i for i, row in enumerate(HISTORY.to_numpy())}
    at = np.array([[rows[tuple(row)] for row in scenario] for scenario in sample])
    follows = (np.diff(at, axis=1) % 60) == 1
    # A block goes on with probability 4/5, and a new one begins at the next row by chance.
    expected = 0.8 + 0.2 / 60
    assert abs(follows.mean() - expected) < 4.0 * np.sqrt(expected * 0.2 / follows.size)
    assert law.names == ("gold", "land")
    assert BootstrapLaw(HISTORY).block_length >= 1.0


def test_the_chain_has_its_probabilities():
    sample = drawn(MarkovLaw(CHAIN, 0), 40_000, 6, rng=4)
    first = sample[:, 0]
    share = {
        r: (first == np.array(r)).all(axis=1).mean()
        for r in [(0.1, 0.0), (-0.1, 0.2), (0.0, 0.3), (0.4, -0.2)]
    }
    for r, p in zip(share, (0.8 * 0.25, 0.8 * 0.75, 0.1, 0.1), strict=True):
        assert abs(share[r] - p) < 4.0 * np.sqrt(p * (1 - p) / 40_000)
    stationary = np.array([5 / 7, 2 / 7])
    last = (sample[:, -1, 0] == 0.1).mean()
    assert abs(last - 0.25 * stationary[0]) < 0.01


def test_time_scaling_needs_a_day_count():
    moments = per_period(pd.Series({"a": 0.08}), [[0.16]], periods_per_year=252 / 30)
    assert moments.mean["a"] == pytest.approx(0.08 * 30 / 252)
    assert moments.covariance.loc["a", "a"] == pytest.approx(0.16 * 30 / 252)
    with pytest.raises(TypeError):
        per_period([0.08], [[0.16]])
    with pytest.raises(ModelError, match="periods_per_year=0"):
        per_period([0.08], [[0.16]], periods_per_year=0)


def wrong_shape(n_scenarios, n_periods, rng):
    return np.zeros((n_scenarios, n_periods))


def not_finite(n_scenarios, n_periods, rng):
    return np.full((n_scenarios, n_periods, 2), np.nan)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: drawn(LAWS["normal"], 0, 1, rng=1), "n_scenarios=0: must be"),
        (lambda: drawn(LAWS["normal"], 1, 0, rng=1), "n_periods=0: must be"),
        (lambda: drawn(LAWS["normal"], 1, 1, rng=1, chunk_size=0), "chunk_size=0: must be"),
        (lambda: drawn(CallableLaw(wrong_shape, ["a", "b"]), 4, 1, rng=1), "wrong_shape returned"),
        (lambda: drawn(CallableLaw(not_finite, ["a", "b"]), 4, 1, rng=1), "returned nan for scen"),
        (lambda: normal(covariance=np.diag([1.0, 1.0, -1.0])), "nearest_covariance"),
        (lambda: normal(returns="percent"), "returns='percent'"),
        (lambda: normal(sampling="magic"), "sampling='magic'"),
        (lambda: normal(asset_names=["a"]), "must be 3 labels"),
        (lambda: student(degrees_of_freedom=2.0), "must be above 2, or there is no covariance"),
        (lambda: student(scale=COVARIANCE), "exactly one of them"),
        (lambda: drawn(normal(sampling="sobol"), 1, 8_000, rng=1), "must be at most 21201"),
        (lambda: BootstrapLaw(HISTORY, block_length=0.5), "block_length=0.5: must be at least 1"),
        (lambda: RegimeLaw(REGIMES, [0.5, 0.6]), "belief"),
        (lambda: StudentLaw.fit(np.zeros((4, 3)), returns="simple"), "must be more than 6"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()


def test_one_asset_and_no_volatility():
    still = NormalLaw(mean=[0.02], covariance=[[0.0]], returns="simple")
    np.testing.assert_array_equal(drawn(still, 5, 3, rng=1), np.full((5, 3, 1), 0.02))
