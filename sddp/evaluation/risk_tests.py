"""Tests of one-period risk forecasts: whether losses agree with the VaR and CVaR of a model.

A model that is right is exceeded now and then: its VaR at confidence c in a share 1 - c of periods,
independently of the past, and by an amount that makes the CVaR on average. Each function tests one
of these. What is *not* tested is the share of losses above the CVaR, which depends on the law of
returns (for a normal law at 0.9 it is 4 %, not 10 %).

Losses are fractions of the wealth at the start of the period, the cost of the trade there included;
positive is a loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import xlogy
from scipy.stats import binomtest, chi2

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.rng import Rng, generator

# Draws simulated at a time, times periods: 8 MB an array.
CHUNK_ROWS = 1_000_000

# VaR and CVaR of an outcome without spread are equal up to this, relative.
ROUNDING = 1e-9

Flags = NDArray[np.bool_]


class LikelihoodRatio(NamedTuple):
    """A likelihood-ratio statistic, and the probability of a larger one under the hypothesis."""

    statistic: float
    p_value: float


class ShortfallTest(NamedTuple):
    """Acerbi and Szekely's statistics with their one-sided p-values; see `shortfall_test`."""

    z1: float
    z1_p_value: float
    z2: float
    z2_p_value: float


def violations(losses: ArrayLike, var: ArrayLike) -> Flags:
    """Periods whose loss exceeds the VaR stated for them."""
    flags: Flags = np.asarray(losses, dtype=float) > np.asarray(var, dtype=float)
    return flags


def violation_interval(exceeded: ArrayLike, *, level: float) -> tuple[float, float]:
    """Interval for the probability of a violation: exact binomial (Clopper and Pearson 1934)."""
    flags = np.asarray(exceeded, dtype=bool)
    exact = binomtest(int(flags.sum()), len(flags)).proportion_ci(level, method="exact")
    return float(exact.low), float(exact.high)


def unconditional_coverage(exceeded: ArrayLike, *, confidence: float) -> LikelihoodRatio:
    """Test that violations are as frequent as forecast (Kupiec 1995).

    Hypothesis: independent violations of probability ``1 - confidence``. The alternative is
    another probability, higher or lower. The statistic is asymptotically chi-squared with one
    degree of freedom.

    Parameters
    ----------
    exceeded : array of bool, shape (n_periods,)
        As `violations`.
    confidence : float
        Of the VaR, such as 0.95.
    """
    flags = np.asarray(exceeded, dtype=bool)
    hits, misses = int(flags.sum()), int((~flags).sum())
    seen = _log_likelihood(hits, misses, hits / len(flags))
    return _ratio_test(seen - _log_likelihood(hits, misses, 1.0 - confidence), 1)


def independence(exceeded: ArrayLike) -> LikelihoodRatio:
    """Test that violations are independent from one period to the next (Christoffersen 1998).

    Hypothesis: violations have the same probability after a violation as after none, whatever it
    is. The alternative is a first-order Markov chain. Chi-squared with one degree of freedom; NaN
    where there are violations in none or in all but the last period, which says nothing.
    """
    flags = np.asarray(exceeded, dtype=bool)
    before, after = flags[:-1], flags[1:]
    if before.all() or not before.any():
        return LikelihoodRatio(math.nan, math.nan)
    groups = [after[before], after[~before]]
    separate = sum(_log_likelihood(*_counts(group), float(group.mean())) for group in groups)
    return _ratio_test(separate - _log_likelihood(*_counts(after), float(after.mean())), 1)


def conditional_coverage(exceeded: ArrayLike, *, confidence: float) -> LikelihoodRatio:
    """Joint test of coverage and independence: sum of both statistics, chi-squared(2)."""
    statistic = (
        unconditional_coverage(exceeded, confidence=confidence).statistic
        + independence(exceeded).statistic
    )
    return _ratio_test(statistic / 2.0, 2)


def shortfall_test(
    losses: ArrayLike,
    var: ArrayLike,
    cvar: ArrayLike,
    *,
    confidence: float,
    rng: Rng,
    n_draws: int = 10_000,
) -> ShortfallTest:
    """Test that the CVaR was not understated (Acerbi and Szekely 2014).

    With I marking violations of the VaR and N their number, ``Z1 = 1 - sum(I L / CVaR) / N`` looks
    at how bad violations were, and ``Z2 = 1 - sum(I L / CVaR) / (n (1 - c))`` at how many there
    were as well. Both are 0 on average under the hypothesis that the model is right, and negative
    where it understates risk; the alternative is one-sided. Z1 is NaN without a violation.

    P-values are simulated under a law that has the VaR and CVaR of each period: violations are
    independent with probability ``1 - c``, and exceed the VaR by an exponential amount of mean
    ``CVaR - VaR``. Only two numbers are known of the model's law, and of all laws of the excess
    with that mean the exponential assumes the least (largest entropy). At a nominal 5 %, a right
    model of 330 or 3,200 periods at 0.9 was rejected by Z2 in 5 to 6 % (normal losses to Student's
    t with 4 degrees of freedom; 7 % with 3), by Z1 in 3 % (normal) to 9 % (4) and 14 % (3): the
    heavier the true tail, the less Z1 alone should be trusted.

    Parameters
    ----------
    losses, var, cvar : array, shape (n_periods,)
        CVaR above 0 and not below the VaR.
    confidence : float
        c.
    rng : int, SeedSequence or Generator
    n_draws : int

    Raises
    ------
    DataError
        A CVaR is not positive, or is below the VaR.
    """
    z, v, s = (np.asarray(values, dtype=float) for values in (losses, var, cvar))
    sound = (s > 0.0) & (v <= s * (1.0 + ROUNDING))
    if not sound.all():
        row = int(np.argmin(sound))
        raise DataError(
            f"cvar[{row}] = {s[row]} with var[{row}] = {v[row]}; leave out periods whose CVaR is "
            "not positive, and give a VaR of the same confidence"
        )
    ratios, exceeded = z / s, violations(z, v)
    expected = (1.0 - confidence) * len(z)
    sums, counts = _simulated_tails(v / s, 1.0 - confidence, generator(rng), n_draws)
    total, hits = float(ratios[exceeded].sum()), int(exceeded.sum())
    # A draw without a violation has no Z1 and is left out.
    means = sums[counts > 0] / counts[counts > 0]
    return ShortfallTest(
        z1=1.0 - total / hits if hits else math.nan,
        z1_p_value=_share_above(means, total / hits) if hits else math.nan,
        z2=1.0 - total / expected,
        z2_p_value=_share_above(sums, total),
    )


def tail_losses(losses: ArrayLike, var: ArrayLike, *, confidence: float) -> Floats:
    """``VaR + max(loss - VaR, 0) / (1 - confidence)`` in each period.

    Its mean is the mean of the conditional CVaRs where the VaR is right, and lies above it where
    the VaR is wrong, on whichever side (Rockafellar and Uryasev: CVaR is the minimum over VaR):
    an estimate of the realized CVaR that allows for a law that changes from period to period,
    which the CVaR of all losses thrown together does not.
    """
    v: Floats = np.asarray(var, dtype=float)
    excess: Floats = np.maximum(np.asarray(losses, dtype=float) - v, 0.0)
    return v + excess / (1.0 - confidence)


def _simulated_tails(
    levels: Floats, tail: float, rng: np.random.Generator, n_draws: int
) -> tuple[Floats, Floats]:
    """Sum of ``L / CVaR`` over violations, and their number, by draw; levels are VaR / CVaR."""
    at_a_time = max(CHUNK_ROWS // len(levels), 1)
    sums, counts = [], []
    for done in range(0, n_draws, at_a_time):
        size = min(at_a_time, n_draws - done)
        draws, periods = np.nonzero(rng.random((size, len(levels))) < tail)
        ratios = levels[periods] + (1.0 - levels[periods]) * rng.exponential(size=len(periods))
        sums.append(np.bincount(draws, weights=ratios, minlength=size))
        counts.append(np.bincount(draws, minlength=size).astype(float))
    return np.concatenate(sums), np.concatenate(counts)


def _share_above(drawn: Floats, seen: float) -> float:
    return (1.0 + float((drawn >= seen).sum())) / (len(drawn) + 1.0)


def _counts(flags: Flags) -> tuple[int, int]:
    return int(flags.sum()), int((~flags).sum())


def _log_likelihood(hits: int, misses: int, probability: float) -> float:
    return float(xlogy(hits, probability) + xlogy(misses, 1.0 - probability))


def _ratio_test(log_ratio: float, degrees: int) -> LikelihoodRatio:
    # Twice the logarithm; below 0 it is rounding.
    statistic = 2.0 * log_ratio if math.isnan(log_ratio) else max(2.0 * log_ratio, 0.0)
    return LikelihoodRatio(statistic, float(chi2.sf(statistic, degrees)))
