"""Risk measures as maps from (probabilities, values) to (adjusted probabilities, offset)."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import sddp
from sddp.errors import ModelError
from sddp.risk import ConvexCombination, weighted_cvar
from tests.oracles import tail_mean

LP = 1e-8  # of scipy's HiGHS, relative to values up to 100
EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def eavar(weight: float, tail: float) -> sddp.risk.RiskMeasure:
    """``weight E + (1 - weight) AVaR_tail``."""
    return weight * sddp.Expectation() + (1 - weight) * sddp.AVaR(tail)


P4 = (0.1, 0.2, 0.3, 0.4)
# The table of engine_cases.md: measure, p, z, sense, q.
TABLE = [
    (sddp.WorstCase(), (0.1, 0.2, 0.0, 0.3, 0.4), (5, 4, 6, 2, 1), "min", (1, 0, 0, 0, 0)),
    (sddp.AVaR(0.2), P4, (1, 2, 3, 4), "max", (0.5, 0.5, 0, 0)),
    (sddp.AVaR(0.5), P4, (5, 4, 6, 2), "min", (0.2, 0.2, 0.6, 0)),
    (eavar(0.25, 0.2), P4, (1, 2, 3, 4), "max", (0.4, 0.425, 0.075, 0.1)),
    (eavar(0.5, 0.0), (0.0, 0.2, 0.4, 0.4), (1, 2, 3, 4), "max", (0, 0.6, 0.2, 0.2)),
]


@pytest.mark.parametrize(("measure", "p", "z", "sense", "q"), TABLE)
def test_stated_table(measure, p, z, sense, q):
    adjusted, offset = measure.adjust(p, z, sense)
    assert adjusted == pytest.approx(q, abs=1e-15)
    assert offset == 0.0
    assert measure.evaluate(p, z, sense) == pytest.approx(np.dot(q, z), rel=1e-14)


def test_stated_entropic_row():
    """To half a unit of the last printed digit."""
    q, offset = sddp.Entropic(1.0).adjust(P4, (5, 4, 6, 2), "min")
    assert q == pytest.approx((0.0991105, 0.0729214, 0.8082305, 0.0197377), abs=0.5e-7)
    assert offset == pytest.approx(-0.6671608, abs=0.5e-7)
    assert sddp.Entropic(1.0).evaluate(P4, (5, 4, 6, 2)) == pytest.approx(5.0089352, abs=0.5e-7)


outcomes = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 20), min_size=n, max_size=n).filter(lambda w: sum(w) > 0),
        st.lists(st.integers(-100, 100), min_size=n, max_size=n),
    )
)


def unpack(drawn):
    weights, values = (np.array(part, dtype=float) for part in drawn)
    return weights / weights.sum(), values


@EXAMPLES
@given(drawn=outcomes, tail=st.floats(0.01, 1.0))
def test_fractional_tail_equals_rockafellar_and_uryasev(drawn, tail):
    """Random unequal weights, ties and zeros included, against the linear program."""
    p, z = unpack(drawn)
    assert sddp.AVaR(tail).evaluate(p, z) == pytest.approx(tail_mean(p, z, tail), abs=100 * LP)
    mirrored = -tail_mean(p, -z, tail)
    assert sddp.AVaR(tail).evaluate(p, z, "max") == pytest.approx(mirrored, abs=100 * LP)


@pytest.mark.parametrize("tail", [0.003, 0.02, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_tails_of_many_outcomes(seed, tail):
    """Very unequal weights, some of them 0, and values with ties: the worst have little weight."""
    rng = np.random.default_rng(seed)
    p = rng.pareto(0.7, 400) * (rng.random(400) < 0.8)
    z = rng.normal(size=400).round(1 if seed else 12)
    if seed == 2:
        p[np.argsort(-z)[:80]] *= 1e-6
    p /= p.sum()
    measure = sddp.AVaR(tail)
    assert measure.evaluate(p, z) == pytest.approx(tail_mean(p, z, tail), abs=LP)
    assert measure.evaluate(p, z, "max") == pytest.approx(-tail_mean(p, -z, tail), abs=LP)
    q, _ = measure.adjust(p, z)
    assert q.sum() == pytest.approx(1.0, abs=1e-12)
    assert (q <= p / tail * (1 + 1e-9)).all()


@EXAMPLES
@given(drawn=outcomes, tail=st.floats(0.0, 1.0), g=st.floats(0.01, 3.0))
def test_adjusted_probabilities_support_the_measure(drawn, tail, g):
    """``q.z' + offset <= rho(z')`` at every other z', with equality where q was made."""
    p, z = unpack(drawn)
    others = np.random.default_rng(0).uniform(-100.0, 100.0, (5, len(z)))
    for measure in (
        sddp.Expectation(),
        sddp.AVaR(tail),
        sddp.WorstCase(),
        sddp.Entropic(g),
        eavar(0.3, tail),
        0.5 * sddp.Entropic(g) + 0.5 * sddp.AVaR(tail),
    ):
        q, offset = measure.adjust(p, z)
        assert q.min() >= 0.0
        assert q.sum() == pytest.approx(1.0, abs=1e-12)
        assert (q[p == 0.0] == 0.0).all()
        assert q @ z + offset == pytest.approx(measure.evaluate(p, z), abs=1e-10)
        for other in others:
            assert q @ other + offset <= measure.evaluate(p, other) + 1e-9


@EXAMPLES
@given(drawn=outcomes, tail=st.floats(0.0, 1.0))
def test_a_tail_lies_between_expectation_and_worst_case(drawn, tail):
    p, z = unpack(drawn)
    value = sddp.AVaR(tail).evaluate(p, z)
    assert p @ z - 1e-10 <= value <= z[p > 0].max() + 1e-10


def test_tails_at_the_ends():
    p, z = np.array([0.3, 0.3, 0.4]), np.array([3.0, -1.0, 2.0])
    for measure in (sddp.AVaR(1.0), sddp.CVaR(0.0), sddp.Expectation()):
        assert measure.evaluate(p, z) == pytest.approx(p @ z, rel=1e-15)
    for measure in (sddp.AVaR(0.0), sddp.CVaR(1.0), sddp.WorstCase(), sddp.AVaR(1e-9)):
        assert measure.evaluate(p, z) == pytest.approx(3.0, rel=1e-15)
        assert measure.evaluate(p, z, "max") == pytest.approx(-1.0, rel=1e-15)


@pytest.mark.parametrize("confidence", [0.0, 0.1, 0.5, 0.9, 0.95, 1.0])
def test_confidence_is_one_minus_the_tail(confidence):
    rng = np.random.default_rng(1)
    p, z = rng.dirichlet(np.ones(50)), rng.normal(size=50)
    for sense in ("min", "max"):
        tail = sddp.AVaR(1.0 - confidence).adjust(p, z, sense)[0]
        assert (sddp.CVaR(confidence).adjust(p, z, sense)[0] == tail).all()


def test_outcomes_of_probability_zero_never_count():
    p, z = np.array([0.5, 0.0, 0.5]), np.array([1.0, 1e6, 2.0])
    for measure in (sddp.WorstCase(), sddp.AVaR(0.0), sddp.AVaR(0.3), sddp.Entropic(2.0)):
        q, offset = measure.adjust(p, z)
        assert q[1] == 0.0
        assert measure.evaluate(p, z) <= 2.0
        assert np.isfinite(offset)


# ---------------------------------------------------------------- entropic


@pytest.mark.parametrize("g", [1e-6, 0.01, 1.0, 5.0])
@pytest.mark.parametrize("sense", ["min", "max"])
def test_entropic_by_the_direct_formula(g, sense):
    rng = np.random.default_rng(2)
    p, z = rng.dirichlet(np.ones(6)), rng.normal(size=6)
    sign = 1.0 if sense == "min" else -1.0
    tilted = p * np.exp(sign * g * z)
    q, offset = sddp.Entropic(g).adjust(p, z, sense)
    assert q == pytest.approx(tilted / tilted.sum(), rel=1e-12)
    divergence = np.sum(q * np.log(q / p))
    assert offset == pytest.approx(-sign * divergence / g, rel=1e-6, abs=1e-9)
    value = sign * np.log(tilted.sum()) / g
    assert sddp.Entropic(g).evaluate(p, z, sense) == pytest.approx(value, rel=1e-8)


def test_entropic_of_large_values_does_not_overflow():
    p, z = np.array([0.25, 0.75]), np.array([1e6, 0.0])
    value = sddp.Entropic(1.0).evaluate(p, z)
    assert value == pytest.approx(1e6 + np.log(0.25), rel=1e-12)
    assert sddp.Entropic(1.0).evaluate(p, z, "max") == pytest.approx(-np.log(0.75), rel=1e-9)


@pytest.mark.parametrize("g", [1e-8, 1e-11, 1e-14])
def test_entropic_tends_to_the_expectation(g):
    """mean + g variance / 2 to first order: 1.5 + g / 8 here."""
    value = sddp.Entropic(g).evaluate([0.5, 0.5], [1.0, 2.0])
    assert value == pytest.approx(1.5 + g / 8, abs=1e-9)


# ---------------------------------------------------------------- mixtures


def test_mixtures_are_weighted_sums():
    rng = np.random.default_rng(3)
    p, z = rng.dirichlet(np.ones(7)), rng.normal(size=7)
    parts = (sddp.Expectation(), sddp.AVaR(0.3), sddp.Entropic(0.7))
    weights = (0.2, 0.5, 0.3)
    mixture = 0.2 * parts[0] + parts[1] * 0.5 + 0.3 * parts[2]
    for sense in ("min", "max"):
        q, offset = mixture.adjust(p, z, sense)
        adjusted = [part.adjust(p, z, sense) for part in parts]
        assert q == pytest.approx(sum(w * a for w, (a, _) in zip(weights, adjusted, strict=True)))
        assert offset == pytest.approx(
            sum(w * o for w, (_, o) in zip(weights, adjusted, strict=True))
        )


def test_mixtures_of_mixtures_are_flat():
    inner = 0.5 * sddp.Expectation() + 0.5 * sddp.WorstCase()
    outer = 0.4 * inner + 0.6 * sddp.AVaR(0.2)
    assert isinstance(outer, ConvexCombination)
    assert np.array(outer.tail_mixture()) == pytest.approx(
        np.array([(0.2, 1.0), (0.2, 0.0), (0.6, 0.2)])
    )
    p, z = [0.5, 0.25, 0.25], [1.0, 2.0, 4.0]
    expected = 0.2 * 2.0 + 0.2 * 4.0 + 0.6 * 4.0
    assert outer.evaluate(p, z) == pytest.approx(expected, rel=1e-14)


def test_a_third_and_two_thirds_are_one():
    mixture = 1 / 3 * sddp.Expectation() + 2 / 3 * sddp.WorstCase()
    assert mixture.evaluate([0.5, 0.5], [0.0, 3.0]) == pytest.approx(2.5)
    thirds = sum((sddp.AVaR(t) * (1 / 3) for t in (0.2, 0.3)), 1 / 3 * sddp.WorstCase())
    assert thirds.evaluate([0.5, 0.5], [0.0, 3.0]) == pytest.approx(3.0)


def test_weights_that_do_not_sum_to_one_are_rejected():
    for mixture in (
        0.5 * sddp.Expectation() + 0.4 * sddp.WorstCase(),
        sddp.Expectation() + sddp.WorstCase(),
        2.0 * sddp.WorstCase(),
        float("nan") * sddp.Expectation() + 1.0 * sddp.WorstCase(),
    ):
        with pytest.raises(ModelError, match="they must sum to 1"):
            mixture.evaluate([0.5, 0.5], [1.0, 2.0])
        with pytest.raises(ModelError, match="they must sum to 1"):
            mixture.tail_mixture()
    with pytest.raises(ModelError, match="must not be negative"):
        1.5 * sddp.Expectation() + -0.5 * sddp.WorstCase()


def test_a_mixture_shows_what_it_is():
    text = repr(0.5 * sddp.Expectation() + 0.5 * sddp.CVaR(confidence=0.95))
    assert text == "0.5 * Expectation() + 0.5 * CVaR(confidence=0.95)"


@pytest.mark.parametrize(
    ("measure", "homogeneous"),
    [
        (sddp.Expectation(), True),
        (sddp.CVaR(0.9), True),
        (sddp.WorstCase(), True),
        (eavar(0.5, 0.1), True),
        (sddp.Entropic(1.0), False),
        (0.5 * sddp.Entropic(1.0) + 0.5 * sddp.Expectation(), False),
    ],
)
def test_positive_homogeneity_is_declared_rightly(measure, homogeneous):
    p, z = np.array(P4), np.array([1.0, -2.0, 3.0, 0.5])
    assert measure.positively_homogeneous is homogeneous
    miss = abs(measure.evaluate(p, 3.0 * z) - 3.0 * measure.evaluate(p, z))
    assert bool(miss < 1e-12) is homogeneous


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sddp.AVaR(1.5), "tail = 1.5; the tail mass lies in [0, 1]"),
        (lambda: sddp.AVaR(-0.1), "tail = -0.1"),
        (lambda: sddp.AVaR(float("nan")), "tail = nan"),
        (lambda: sddp.CVaR(95), "confidence = 95; give 0 to 1"),
        (lambda: sddp.CVaR(float("nan")), "confidence = nan"),
        (lambda: sddp.Entropic(0.0), "risk_aversion = 0.0; give a positive number"),
        (lambda: sddp.Entropic(float("inf")), "risk_aversion = inf"),
    ],
)
def test_parameters_are_checked(make, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        make()


def test_an_unknown_sense_is_rejected():
    with pytest.raises((ModelError, ValueError), match="maximize"):
        sddp.WorstCase().evaluate([0.5, 0.5], [1.0, 2.0], "maximize")


def test_measures_compare_by_value_and_are_frozen():
    assert sddp.CVaR(0.9) == sddp.CVaR(0.9) != sddp.CVaR(0.8)
    with pytest.raises(AttributeError):
        sddp.CVaR(0.9).confidence = 0.5


# ---------------------------------------------------------------- weighted_cvar


@EXAMPLES
@given(drawn=outcomes, confidence=st.floats(0.0, 0.99))
def test_weighted_cvar_is_the_linear_program(drawn, confidence):
    p, z = unpack(drawn)
    exact = tail_mean(p, z, 1.0 - confidence)
    assert weighted_cvar(z, p, confidence=confidence) == pytest.approx(exact, abs=100 * LP)


def test_closed_forms_of_equally_likely_losses():
    """Of 1, ..., 10 the worst tenth is 10; the worst quarter (10 + 9 + 8/2) / 2.5."""
    losses = np.arange(1.0, 11.0)
    assert weighted_cvar(losses, confidence=0.9) == pytest.approx(10.0, rel=1e-12)
    assert weighted_cvar(losses, confidence=0.75) == pytest.approx(23 / 2.5, rel=1e-12)
    assert weighted_cvar(losses, confidence=0.0) == pytest.approx(5.5, rel=1e-12)


def test_a_normal_sample_has_the_normal_cvar():
    """phi(z_a) / (1 - a) = 2.0627 at a = 0.95; 200,000 midpoint quantiles are near enough."""
    losses = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    exact = norm.pdf(norm.ppf(0.95)) / 0.05
    assert weighted_cvar(losses, confidence=0.95) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(
    ("losses", "p"),
    [
        ([1.0, 2.0, 3.0], [0.5, 0.5]),
        ([1.0, 2.0], [1.0, 1.0]),
        ([1.0, 2.0], [1.5, -0.5]),
        ([1.0, float("nan")], None),
        ([], None),
    ],
)
def test_losses_and_weights_that_are_no_distribution_are_rejected(losses, p):
    with pytest.raises(sddp.errors.SddpError):
        weighted_cvar(losses, p, confidence=0.5)
