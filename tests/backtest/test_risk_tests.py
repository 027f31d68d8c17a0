from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import beta, binom, norm, t

from sddp.errors import DataError
from sddp.evaluation import metrics, risk_tests

VAR_90, CVAR_90 = norm.ppf(0.9), norm.pdf(norm.ppf(0.9)) / 0.1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(23)


def flags(n_periods: int, *hits: int) -> np.ndarray:
    exceeded = np.zeros(n_periods, dtype=bool)
    exceeded[list(hits)] = True
    return exceeded


def documented() -> np.ndarray:
    """1,043 periods, 57 violations, 4 of them directly after another one (and none at an end)."""
    pairs = [k for start in (10, 20, 30, 40) for k in (start, start + 1)]
    return flags(1043, *pairs, *range(50, 50 + 49 * 2, 2))


# --- the fact that is not tested ---


def test_losses_above_the_cvar_are_four_percent_not_ten(rng):
    """Of a normal law at 0.9: ``1 - Phi(phi(z) / 0.1)``; standard error 0.0004."""
    losses = rng.normal(size=200_000)
    cvar = metrics.conditional_value_at_risk(-losses, confidence=0.9)
    assert 1.0 - norm.cdf(CVAR_90) == pytest.approx(0.0396, abs=1e-4)
    assert (losses > cvar).mean() == pytest.approx(0.0396, abs=0.002)
    assert (losses > metrics.value_at_risk(-losses, confidence=0.9)).mean() == pytest.approx(
        0.1, abs=1e-4
    )


# --- violations of the VaR ---


def test_a_loss_equal_to_the_var_is_no_violation():
    assert risk_tests.violations([0.01, 0.02, 0.03], [0.02, 0.02, 0.02]).tolist() == [0, 0, 1]


def test_the_interval_of_a_share_is_exact():
    exceeded = flags(120, *range(9))
    low, high = risk_tests.violation_interval(exceeded, level=0.9)
    # Clopper and Pearson's ends by the beta distribution.
    assert low == pytest.approx(beta.ppf(0.05, 9, 112))
    assert high == pytest.approx(beta.ppf(0.95, 10, 111))
    assert risk_tests.violation_interval(flags(50), level=0.9) == (
        0.0,
        pytest.approx(1.0 - 0.05 ** (1 / 50)),
    )


def test_coverage_tests_give_the_documented_values():
    """Output of MATLAB's varbacktest (functions pof, cci and cc) for these counts at 0.95."""
    exceeded = documented()
    pairs = list(itertools.pairwise(exceeded))
    assert [pairs.count(pair) for pair in ((0, 0), (1, 0), (0, 1), (1, 1))] == [932, 53, 53, 4]
    frequency = risk_tests.unconditional_coverage(exceeded, confidence=0.95)
    assert frequency == pytest.approx((0.46147, 0.49694), abs=5e-6)
    assert risk_tests.independence(exceeded) == pytest.approx((0.25866, 0.61104), abs=5e-6)
    both = risk_tests.conditional_coverage(exceeded, confidence=0.95)
    assert both == pytest.approx((0.72013, 0.69763), abs=5e-6)


def test_a_share_as_forecast_has_no_proof_against_it():
    frequency = risk_tests.unconditional_coverage(flags(100, *range(5)), confidence=0.95)
    assert frequency == pytest.approx((0.0, 1.0), abs=1e-7)


def test_no_violation_at_all_in_closed_form():
    statistic, p_value = risk_tests.unconditional_coverage(flags(60), confidence=0.95)
    assert statistic == pytest.approx(-2.0 * 60 * math.log(0.95))
    assert p_value == pytest.approx(2.0 * norm.sf(math.sqrt(statistic)))
    assert all(math.isnan(value) for value in risk_tests.independence(flags(60)))
    assert all(math.isnan(v) for v in risk_tests.conditional_coverage(flags(60), confidence=0.95))


@pytest.mark.parametrize("exceeded", [flags(60, 59), np.ones(60, dtype=bool), flags(1)])
def test_independence_needs_periods_after_either(exceeded):
    assert all(math.isnan(value) for value in risk_tests.independence(exceeded))


@pytest.mark.parametrize(("n_periods", "confidence"), [(250, 0.9), (330, 0.9), (3200, 0.95)])
def test_the_frequency_test_has_its_size(n_periods, confidence):
    """Exact, by the binomial law of the number of violations."""
    counts = np.arange(n_periods + 1)
    rejected = [
        risk_tests.unconditional_coverage(flags(n_periods, *range(k)), confidence=confidence)[1]
        < 0.05
        for k in counts
    ]
    size = binom.pmf(counts, n_periods, 1.0 - confidence) @ rejected
    assert 0.04 < size < 0.065


def test_the_independence_tests_have_their_size(rng):
    """1,500 histories of 500 periods: standard error of 0.05 is 0.006."""
    histories = rng.random((1500, 500)) < 0.1
    alone = [risk_tests.independence(history).p_value < 0.05 for history in histories]
    both = [
        risk_tests.conditional_coverage(history, confidence=0.9).p_value < 0.05
        for history in histories
    ]
    assert np.mean(alone) == pytest.approx(0.05, abs=0.018)
    assert np.mean(both) == pytest.approx(0.05, abs=0.018)


def test_clusters_of_violations_are_found():
    clustered = flags(300, *range(100, 115), *range(200, 215))
    scattered = flags(300, *range(5, 300, 10))
    frequency = risk_tests.unconditional_coverage(clustered, confidence=0.9)
    assert frequency.p_value == pytest.approx(1.0)
    assert risk_tests.independence(clustered).p_value < 1e-6
    assert risk_tests.conditional_coverage(clustered, confidence=0.9).p_value < 1e-6
    # Never two in a row is no independence either, but 30 violations tell less.
    assert risk_tests.independence(scattered).p_value > 0.005


# --- the CVaR ---


def shortfall(losses, var, cvar, confidence=0.9, n_draws=2000, seed=0):
    return risk_tests.shortfall_test(
        losses,
        var,
        cvar,
        confidence=confidence,
        rng=np.random.default_rng(seed),
        n_draws=n_draws,
    )


def test_the_statistics_by_hand():
    losses = np.array([0.05, -0.01, 0.02, 0.00, 0.03])
    var, cvar = np.array([0.02, 0.02, 0.03, 0.02, 0.01]), np.array([0.04, 0.03, 0.05, 0.03, 0.02])
    found = shortfall(losses, var, cvar, confidence=0.6)
    # Violations of periods 0 and 4, 1.25 and 1.5 times the CVaR; 2 expected.
    assert found.z1 == pytest.approx(1.0 - 2.75 / 2.0)
    assert found.z2 == pytest.approx(1.0 - 2.75 / 2.0)
    twice = shortfall(np.tile(losses, 2), np.tile(var, 2), np.tile(cvar, 2), confidence=0.8)
    assert twice.z1 == pytest.approx(1.0 - 2.75 / 2.0)
    assert twice.z2 == pytest.approx(1.0 - 5.5 / 2.0)


def critical_z2(n_periods, confidence, var, cvar, quantile, n_draws=60_000):
    """Quantile of the simulated Z2: the value whose p-value is `quantile`."""
    sums, _ = risk_tests._simulated_tails(
        np.full(n_periods, var / cvar), 1.0 - confidence, np.random.default_rng(5), n_draws
    )
    return float(np.quantile(1.0 - sums / (n_periods * (1.0 - confidence)), quantile))


@pytest.mark.parametrize("degrees", [math.inf, 10.0])
def test_the_published_critical_value(degrees):
    """Acerbi and Szekely (2014), table 3: -0.70 at 5 % for 250 periods at 0.975."""
    law = norm() if math.isinf(degrees) else t(degrees)
    var = law.ppf(0.975)
    cvar = law.expect(lambda x: x, lb=var) / 0.025
    assert critical_z2(250, 0.975, var, cvar, 0.05) == pytest.approx(-0.70, abs=0.025)


@pytest.mark.long
def test_the_documented_p_value():
    """MATLAB's esbacktest (unconditionalNormal): 1,966 periods at 0.975, Z2 = -0.38265.

    P-value 0.0054, critical value at 1 % -0.34639. Standard error of the p-value over 60,000
    draws: 0.0003; the excess over the VaR is exponential here and that of a normal law there.
    """
    var, cvar = norm.ppf(0.975), norm.pdf(norm.ppf(0.975)) / 0.025
    assert critical_z2(1966, 0.975, var, cvar, 0.01) == pytest.approx(-0.34639, abs=0.01)
    assert critical_z2(1966, 0.975, var, cvar, 0.0054) == pytest.approx(-0.38265, abs=0.015)


def test_a_right_model_is_seldom_rejected_and_a_rosy_one_always(rng):
    """200 histories: standard error of 0.05 is 0.015."""
    rejected, found = [], []
    for _ in range(200):
        scale = rng.uniform(0.005, 0.02, 300)
        losses = scale * rng.normal(size=300)
        right = shortfall(losses, scale * VAR_90, scale * CVAR_90, n_draws=300)
        rosy = shortfall(losses, 0.7 * scale * VAR_90, 0.7 * scale * CVAR_90, n_draws=300)
        rejected.append([right.z1_p_value < 0.05, right.z2_p_value < 0.05])
        found.append(rosy.z2_p_value < 0.05)
    assert np.mean(rejected, axis=0) == pytest.approx([0.05, 0.05], abs=0.05)
    assert np.mean(found) > 0.95


def test_a_gloomy_model_is_not_rejected(rng):
    losses = rng.normal(size=300)
    found = shortfall(losses, np.full(300, 1.5 * VAR_90), np.full(300, 1.5 * CVAR_90))
    assert found.z2 > 0.0
    assert found.z2_p_value > 0.95


def test_without_a_violation_there_is_no_z1():
    found = shortfall(np.zeros(50), np.full(50, 0.01), np.full(50, 0.02))
    assert math.isnan(found.z1)
    assert math.isnan(found.z1_p_value)
    assert (found.z2, found.z2_p_value) == (1.0, 1.0)


def test_the_same_generator_gives_the_same_p_values(rng):
    case = rng.normal(size=100), np.full(100, VAR_90), np.full(100, CVAR_90)
    assert shortfall(*case) == shortfall(*case)


@pytest.mark.parametrize(
    ("var", "cvar"), [(0.01, 0.0), (0.03, 0.02), (-0.02, -0.01), (0.01, np.nan)]
)
def test_a_cvar_that_is_none_is_rejected(var, cvar):
    with pytest.raises(DataError, match=r"cvar\[1\] = .*leave out periods"):
        shortfall(np.zeros(3), [0.01, var, 0.01], [0.02, cvar, 0.02])


def test_tail_losses_average_to_the_cvar_and_to_more_with_a_wrong_var(rng):
    """Standard error over 200,000 normal losses at 0.9: 0.0035."""
    losses = rng.normal(size=200_000)
    means = [
        risk_tests.tail_losses(losses, np.full(200_000, var), confidence=0.9).mean()
        for var in (0.8 * VAR_90, VAR_90, 1.2 * VAR_90)
    ]
    assert means[1] == pytest.approx(CVAR_90, abs=0.012)
    assert min(means[0], means[2]) > CVAR_90 + 0.02


def test_tail_losses_of_the_sample_var_average_to_the_sample_cvar(rng):
    returns = rng.normal(size=137)
    var = metrics.value_at_risk(returns, confidence=0.9)
    found = risk_tests.tail_losses(-returns, np.full(137, var), confidence=0.9).mean()
    assert found == pytest.approx(metrics.conditional_value_at_risk(returns, confidence=0.9))


def test_a_changing_law_is_not_thrown_together(rng):
    """Calm and wild periods, each with its CVaR: the pooled CVaR lies above their mean."""
    scale = np.where(rng.random(100_000) < 0.5, 0.5, 1.5)
    losses = scale * rng.normal(size=100_000)
    mean = risk_tests.tail_losses(losses, scale * VAR_90, confidence=0.9).mean()
    assert mean == pytest.approx((scale * CVAR_90).mean(), abs=0.03)
    assert metrics.conditional_value_at_risk(-losses, confidence=0.9) > mean + 0.1
