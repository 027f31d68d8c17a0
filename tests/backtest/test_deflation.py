"""The worked example is that of Bailey and Lopez de Prado (2014), section "A numerical example"."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sddp.errors import DataError
from sddp.evaluation.deflated_sharpe import (
    deflated_sharpe,
    expected_maximum_sharpe,
    probabilistic_sharpe,
)
from sddp.evaluation.inference import Sample

# 5 years of 250 daily returns, a ratio of 2.5 a year, ratios of trials with variance 1/2 a year.
N_PERIODS, SHARPE, VARIANCE = 1250, 2.5 / math.sqrt(250), 0.5 / 250


def published(n_trials: int, skewness: float, kurtosis: float) -> float:
    threshold = expected_maximum_sharpe(n_trials, VARIANCE)
    return probabilistic_sharpe(SHARPE, threshold, N_PERIODS, skewness=skewness, kurtosis=kurtosis)


def test_the_published_threshold():
    assert expected_maximum_sharpe(100, VARIANCE) == pytest.approx(0.1132, abs=5e-5)


@pytest.mark.parametrize(
    ("n_trials", "skewness", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_the_published_deflated_ratios(n_trials, skewness, kurtosis, expected):
    assert published(n_trials, skewness, kurtosis) == pytest.approx(expected, abs=5e-5)


def test_the_expected_maximum_of_normal_draws():
    """Asymptotic in the number of trials; standard error of the simulated mean 0.003."""
    draws = np.random.default_rng(1).normal(size=(20_000, 50)) * 2.0
    expected = draws.max(axis=1).mean()
    assert expected_maximum_sharpe(50, 4.0) == pytest.approx(expected, rel=0.015)


def test_one_trial_is_not_deflated():
    assert expected_maximum_sharpe(1, 0.3) == 0.0


def test_the_probability_of_normal_returns_in_closed_form():
    """Lo's standard error: ``sqrt((1 + S^2 / 2) / (n - 1))``."""
    expected = norm.cdf((0.1 - 0.02) / math.sqrt((1.0 + 0.005) / 99))
    assert probabilistic_sharpe(0.1, 0.02, 100, skewness=0.0, kurtosis=3.0) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.fixture
def sample() -> Sample:
    rng = np.random.default_rng(8)
    returns = {"a": rng.standard_t(5, 500) * 0.01 + 0.001, "cash": np.full(500, 0.0001)}
    return Sample(pd.DataFrame(returns), np.full(500, 0.0001), 250.0)


def test_the_table_converts_to_periods_and_back(sample):
    ratios = [0.3, 1.1, -0.2, 0.8]
    table = deflated_sharpe(sample, trial_sharpes=ratios, n_trials=60)
    row = table.loc["a"]
    excess = sample.excess[:, 0]
    deviations = excess - excess.mean()
    moment = {k: (deviations**k).mean() for k in (2, 3, 4)}
    ratio = excess.mean() / excess.std(ddof=1)
    skewness, kurtosis = moment[3] / moment[2] ** 1.5, moment[4] / moment[2] ** 2
    assert row["sharpe"] == pytest.approx(ratio * math.sqrt(250))
    assert row[["skewness", "kurtosis"]].tolist() == pytest.approx([skewness, kurtosis])
    threshold = expected_maximum_sharpe(60, np.var(ratios, ddof=1) / 250)
    assert row["expected_maximum"] == pytest.approx(threshold * math.sqrt(250))
    spread = math.sqrt((1 - skewness * ratio + (kurtosis - 1) / 4 * ratio**2) / 499)
    assert row["probabilistic"] == pytest.approx(norm.cdf(ratio / spread))
    assert row["deflated"] == pytest.approx(norm.cdf((ratio - threshold) / spread))
    assert row[["n_periods", "n_trials"]].tolist() == [500, 60]


def test_more_trials_deflate_more(sample):
    few, many = (
        deflated_sharpe(sample, trial_sharpes=[0.0, 0.5, 1.0], n_trials=n).loc["a", "deflated"]
        for n in (3, 300)
    )
    assert many < few


def test_a_variant_in_cash_counts_as_a_trial_without_a_ratio(sample):
    table = deflated_sharpe(sample, trial_sharpes=[0.2, np.nan, 0.9])
    assert table["n_trials"].tolist() == [3, 3]
    alone = deflated_sharpe(sample, trial_sharpes=[0.2, 0.9], n_trials=3)
    pd.testing.assert_frame_equal(table, alone)
    assert table.loc["cash", ["sharpe", "probabilistic", "deflated"]].isna().all()


def test_few_periods_are_not_deflated(sample):
    short = Sample(sample.returns.iloc[:29], np.full(29, 0.0001), 250.0)
    table = deflated_sharpe(short, trial_sharpes=[0.2, 0.9])
    assert table["deflated"].isna().all()


@pytest.mark.parametrize(
    ("ratios", "n_trials", "words"),
    [
        ([0.5], None, "holds 1 finite ratios of 1"),
        ([0.5, np.nan], None, "holds 1 finite ratios of 2"),
        ([0.5, 0.6, 0.7], 2, "n_trials = 2; give the ratios of all variants tried"),
    ],
)
def test_trials_must_be_known(sample, ratios, n_trials, words):
    with pytest.raises(DataError, match=words):
        deflated_sharpe(sample, trial_sharpes=ratios, n_trials=n_trials)
