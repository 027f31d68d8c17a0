"""Means with their intervals, and the gap between a bound and a policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError


@dataclass(frozen=True)
class Estimate:
    """A mean with its two-sided interval."""

    mean: float
    standard_error: float
    low: float
    high: float


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean of independent values with Student's interval.

    Parameters
    ----------
    values : array, shape (n,)
    confidence : float

    Raises
    ------
    DataError
        Fewer than 2 values, or one is not finite.
    ModelError
        `confidence` is not between 0 and 1.

    >>> mean_interval([1.0, 2.0, 3.0])
    Estimate(mean=2.0, standard_error=0.577..., low=-0.484..., high=4.484...)
    """
    sample = finite_vector(values, "values")
    check_share(confidence, "confidence")
    mean, error = float(sample.mean()), float(sample.std(ddof=1) / np.sqrt(len(sample)))
    reach = float(stats.t.ppf((1.0 + confidence) / 2.0, len(sample) - 1)) * error
    return Estimate(mean, error, mean - reach, mean + reach)


def replicate_interval(values: ArrayLike, name: str) -> dict[str, float]:
    """Mean with its 95 % interval over replicates, as columns of a table.

    Parameters
    ----------
    values : array, shape (n_replicates, n_paths)
        A replicate (a scenario draw and its paths) is independent of the others: the interval holds
        for other scenarios as well as for other paths.
    name : str

    Returns
    -------
    dict
        ``name``, ``name_low`` and ``name_high``.
    """
    found = mean_interval(np.asarray(values, dtype=float).mean(axis=1))
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


@dataclass(frozen=True)
class GapEstimate:
    """Distance of a policy from the true optimum, by simulation.

    Attributes
    ----------
    gap : float
        Mean bound less mean value of the policy.
    standard_error : float
    upper_limit : float
        One-sided.
    share_of_bound : float
        `upper_limit` in terms of the mean bound, as the paper's authors report it.
    share_of_gain : float
        `upper_limit` in terms of what the mean bound gains over the initial wealth.
    """

    gap: float
    standard_error: float
    upper_limit: float
    share_of_bound: float
    share_of_gain: float


def optimality_gap(
    bounds: ArrayLike,
    values: ArrayLike,
    *,
    confidence: float = 0.99,
    initial_wealth: float = 1.0,
) -> GapEstimate:
    """Estimate the gap to the true problem as the paper's authors do.

    ``mean(bounds) - mean(values) + z * sqrt(var(bounds)/M + var(values)/n)`` with the normal
    quantile z.

    It is an approximate interval and no bound. With few draws the normal quantile is too small.
    The mean of optimal values of sampled problems is too high for the objective, but their limit
    on CVaR is sampled too: it may bind less or more than the true one, and a policy may owe its
    value to breaking it. Report the true CVaR of the decisions beside the gap. And bounds must
    belong to the process that made the paths, not to a model fitted to it.

    Parameters
    ----------
    bounds : array, shape (M,)
        Optimal values, or upper bounds, of problems on independent scenario draws.
    values : array, shape (n,)
        Of one policy on independent paths.
    confidence : float
        One-sided.
    initial_wealth : float

    Raises
    ------
    DataError
        Fewer than 2 of either, a number is not finite, or the bounds do not exceed the initial
        wealth.
    ModelError
        `confidence` is not between 0 and 1.
    """
    check_share(confidence, "confidence")
    upper, lower = (
        mean_interval(finite_vector(bounds, "bounds")),
        mean_interval(finite_vector(values, "values")),
    )
    if upper.mean <= initial_wealth:
        raise DataError(
            f"the mean of bounds is {upper.mean}, not above initial_wealth = {initial_wealth}: "
            "there is no gain to compare with"
        )
    gap = upper.mean - lower.mean
    error = float(np.hypot(upper.standard_error, lower.standard_error))
    limit = gap + float(stats.norm.ppf(confidence)) * error
    return GapEstimate(gap, error, limit, limit / upper.mean, limit / (upper.mean - initial_wealth))


def finite_vector(values: ArrayLike, name: str) -> Floats:
    """At least 2 finite numbers; `name` is what messages call them."""
    array: Floats = np.asarray(values, dtype=float)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise DataError(f"{name} has shape {array.shape}; give at least 2 finite numbers")
    return array


def check_share(value: float, name: str) -> None:
    """Check that a number lies between 0 and 1."""
    if not 0.0 < value < 1.0:
        raise ModelError(f"{name} = {value}; give a number between 0 and 1")
