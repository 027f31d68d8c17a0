import numpy as np
import pytest
from scipy import stats

from sddp.errors import DataError, ModelError
from sddp.evaluation.comparison import (
    compare_draws,
    compare_paired,
    smallest_not_worse,
    smallest_stable,
)
from sddp.evaluation.estimates import mean_interval, optimality_gap

# Gosset (1908), hours of sleep gained on two drugs; t = -4.0621, p = 0.00283 with 9 degrees.
FIRST_DRUG = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SECOND_DRUG = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])


def test_the_paired_test_is_students():
    test = compare_paired(FIRST_DRUG, SECOND_DRUG)
    assert test.p_value == pytest.approx(0.00283, abs=5e-6)
    assert test.difference.mean == pytest.approx(-1.58)
    # t.test(extra ~ group, data = sleep, paired = TRUE) of R's documentation.
    assert test.difference.low == pytest.approx(-2.4598858, abs=1e-7)
    assert test.difference.high == pytest.approx(-0.7001142, abs=1e-7)


def test_one_sided_tests_are_halves_of_the_two_sided_one():
    less = compare_paired(FIRST_DRUG, SECOND_DRUG, alternative="less").p_value
    greater = compare_paired(FIRST_DRUG, SECOND_DRUG, alternative="greater").p_value
    assert less == pytest.approx(0.00283289 / 2, rel=1e-5)
    assert less + greater == pytest.approx(1.0)


def test_equal_policies_do_not_differ():
    test = compare_paired(FIRST_DRUG, FIRST_DRUG, alternative="less")
    assert (test.p_value, test.difference.mean, test.difference.high) == (1.0, 0.0, 0.0)


def test_a_mean_and_its_interval():
    estimate = mean_interval(FIRST_DRUG - SECOND_DRUG, confidence=0.9)
    low, high = stats.ttest_rel(FIRST_DRUG, SECOND_DRUG).confidence_interval(0.9)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.standard_error == pytest.approx(stats.sem(FIRST_DRUG - SECOND_DRUG))


def stepwise(steps, n_paths=400):
    """Wealth by size: each step adds a mean of that many standard errors, nearly exactly."""
    noise = np.random.default_rng(0).normal(size=n_paths)
    noise = 0.01 * (noise - noise.mean()) / noise.std(ddof=1)
    wealth = {250: 1.0 + np.random.default_rng(1).normal(0.0, 0.1, n_paths)}
    for i, step in enumerate(steps):
        wealth[250 * (i + 2)] = wealth[250 * (i + 1)] + noise + step * 0.01 / np.sqrt(n_paths)
    return wealth


def test_the_smallest_stable_size_is_the_first_whose_next_step_is_not_seen():
    selection = smallest_stable(stepwise([5.0, -3.0, 1.0, 4.0]))
    assert selection.chosen == 750
    table = selection.table
    assert list(table.index) == [250, 500, 750, 1000]
    assert list(table["against"]) == [500, 750, 1000, 1250]
    assert list(table["accepted"]) == [False, False, True, False]
    # t = -(steps) with 399 degrees of freedom.
    expected = 2.0 * stats.t.sf([5.0, 3.0, 1.0, 4.0], 399)
    np.testing.assert_allclose(table["p_value"], expected, rtol=1e-8)
    np.testing.assert_allclose(table["mean_difference"] / 0.0005, [-5.0, 3.0, -1.0, -4.0])
    assert (table["low"] < table["mean_difference"]).all()


def test_no_size_is_stable_where_every_step_is_seen():
    assert smallest_stable(stepwise([5.0, 5.0])).chosen is None
    assert smallest_stable(stepwise([1.9])).chosen == 250
    assert smallest_stable(stepwise([1.9]), level=0.1).chosen is None


def test_the_smallest_candidate_that_is_not_found_worse():
    wealth = stepwise([4.0, 2.0, 3.0])  # 750 is 3, 1000 is 0 below the reference
    states = {k: wealth[250 * (k + 1)] for k in (0, 1, 2)}
    selection = smallest_not_worse({3: states[2], 1: states[0]}, wealth[1000])
    assert list(selection.table.index) == [1, 3]
    assert selection.chosen is None
    accepted = smallest_not_worse({7: wealth[1000], 1: states[0], 2: wealth[1000]}, states[2])
    assert accepted.chosen == 2  # better than the reference, and the smaller of two
    # 1.7 standard errors below: found by a one-sided test only.
    below = stepwise([1.7])
    assert smallest_not_worse({1: below[250]}, below[500]).chosen is None
    assert compare_paired(below[250], below[500]).p_value > 0.05


def test_equivalence_is_two_one_sided_tests_over_draws():
    rng = np.random.default_rng(3)
    paths = rng.normal(1.0, 0.1, 50)
    shifts = np.array([1.0, -0.5, 0.8, 0.2, -0.1, 0.4, 0.9, -0.3, 0.6, 0.1, 0.3, -0.2]) * 1e-3
    first, second = paths + shifts[:, None], np.tile(paths, (12, 1))
    test = compare_draws(first, second, gain=0.04, share=0.025)
    mean, error = shifts.mean(), shifts.std(ddof=1) / np.sqrt(12)
    assert test.margin == pytest.approx(1e-3)
    assert test.p_value == pytest.approx(stats.t.sf((1e-3 - mean) / error, 11), rel=1e-9)
    assert test.equivalent
    assert (test.difference.low, test.difference.high) == pytest.approx(
        stats.t.interval(0.9, 11, mean, error)
    )
    # A single policy without draws on the same paths is the same comparison.
    assert compare_draws(first, paths, gain=0.04, share=0.025).p_value == pytest.approx(
        test.p_value
    )


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_difference_beyond_the_margin_on_either_side_is_not_equivalent(sign):
    rng = np.random.default_rng(4)
    draws = 1.0 + sign * 2e-3 + rng.normal(0.0, 1e-5, (10, 1)) + np.zeros((10, 5))
    test = compare_draws(draws, np.ones(5), gain=0.02)
    assert test.p_value > 0.999
    assert not test.equivalent
    within = compare_draws(draws, np.ones(5), gain=0.2)
    assert within.equivalent
    # The interval lies within the margin exactly where the test says so.
    assert max(abs(within.difference.low), abs(within.difference.high)) < within.margin


def test_many_noisy_draws_are_not_equivalent_though_no_difference_is_seen():
    """The case in which the authors' rule would stop."""
    noisy = np.random.default_rng(5).normal(1.0, 0.05, (10, 20))
    assert smallest_stable({1: noisy[0], 2: noisy[1]}).chosen == 1
    assert not compare_draws(noisy, np.ones(20), gain=0.02).equivalent


def test_draws_that_all_agree_need_no_test():
    same = np.ones((10, 4))
    assert compare_draws(same, np.ones(4), gain=0.1).equivalent
    assert not compare_draws(same + 0.25, np.ones(4), gain=0.1).equivalent


def test_the_gap_is_the_authors_formula():
    bounds = np.array([1.10, 1.12, 1.11, 1.13])
    values = np.array([1.05, 1.15, 0.95, 1.20, 1.10, 1.09])
    gap = optimality_gap(bounds, values)
    # quantile(Normal(), 0.99) * sqrt(var(UBs)/length(UBs) + var(LBs)/length(LBs)), Julia's var.
    error = np.sqrt(bounds.var(ddof=1) / 4 + values.var(ddof=1) / 6)
    assert gap.gap == pytest.approx(1.115 - 1.09)
    assert gap.standard_error == pytest.approx(error)
    assert gap.upper_limit == pytest.approx(0.025 + 2.3263478740408408 * error)
    assert gap.share_of_bound == pytest.approx(gap.upper_limit / 1.115)
    assert gap.share_of_gain == pytest.approx(gap.upper_limit / 0.115)
    money = optimality_gap(1e6 * bounds, 1e6 * values, initial_wealth=1e6, confidence=0.9)
    assert money.upper_limit == pytest.approx(1e6 * (0.025 + 1.2815515655446004 * error))
    assert money.share_of_gain == pytest.approx(money.upper_limit / 0.115e6)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda a: compare_paired(a, a[1:]), DataError, "first has 10 paths and second 9"),
        (lambda a: compare_paired(a, a + np.nan), DataError, "second has shape"),
        (lambda a: compare_paired(a, a, alternative="smaller"), ModelError, "'smaller'"),
        (lambda a: mean_interval(a[:1]), DataError, "at least 2 finite numbers"),
        (lambda a: mean_interval(a, confidence=95), ModelError, "confidence = 95; give a number"),
        (lambda a: smallest_stable({5: a}), DataError, r"sizes \[5\]; give at least two"),
        (lambda a: smallest_stable({1: a, 2: a}, level=0.0), ModelError, "level = 0.0"),
        (lambda a: smallest_not_worse({}, a), DataError, "wealth is empty"),
        (
            lambda a: compare_draws(np.ones((9, 10)), a, gain=0.1),
            DataError,
            "first has 9 draws; 10",
        ),
        (lambda a: compare_draws(a, a, gain=0.1), DataError, r"first has shape \(10,\)"),
        (lambda a: compare_draws(a, a, gain=0.0), ModelError, "must be a positive margin"),
        (lambda a: compare_draws(a, a, gain=1.0, level=0.5), ModelError, "level = 0.5"),
        (lambda a: optimality_gap(a * 0, a), DataError, "not above initial_wealth = 1.0"),
        (lambda a: optimality_gap(a, a, confidence=1.0), ModelError, "confidence = 1.0"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call(FIRST_DRUG)
