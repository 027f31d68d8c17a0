"""Estimators of expected returns: sample, pooled, shrunk, implied by weights, or given.

Regimes pay as a model of risk and cost as a source of means: EM selects regimes so that their means
differ. So means are an input of their own. An estimator of means reads what the window says and
answers with one mean per regime and asset; each regime's scenarios are then shifted by the
difference, which leaves their covariance and their dependence on factors as they are.

All means here are of simple returns per period in excess of cash.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.labels import ByLabel
from sddp.rng import Rng, generator
from sddp.statistics import GaussianRegimes, Regimes, simulate_regimes

# An excess return per period of more than this is a percentage, or a mistake.
LARGEST_MEAN = 0.5


@dataclass(frozen=True, eq=False)
class MeanInputs:
    """Sample means of a window; excess returns are simple, per period, over cash.

    Attributes
    ----------
    names : sequence of labels
        The assets.
    pooled : array, shape (n_assets,)
        Mean excess return over all rows of the window.
    by_regime : array, shape (n_regimes, n_assets)
        Mean excess return in each regime, as fitted.
    shares : array, shape (n_regimes,)
        Share of the window's rows that each regime emitted; they sum to 1.
    covariance : array, shape (n_assets, n_assets)
        Pooled covariance of excess returns: within regimes, and between their means.
    n_independent : float
        Rows of the window that do not overlap: its length in periods.
    distances : array, shape (n_regimes,)
        ``T^2`` of each regime's mean from the pooled one, see `mean_distances`.
    date : Timestamp or None
        Of the estimate: nothing later is known.
    """

    names: Sequence[Hashable]
    pooled: Floats
    by_regime: Floats
    shares: Floats
    covariance: Floats
    n_independent: float
    distances: Floats
    date: pd.Timestamp | None = None


class MeanEstimator(Protocol):
    """Estimator of the means that an optimizer uses, from those of a window."""

    def means(self, inputs: MeanInputs) -> Floats:
        """Mean excess return per period, shape (n_regimes, n_assets)."""
        ...


@dataclass(frozen=True)
class SampleMeans:
    """The fitted means as they are."""

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`."""
        return inputs.by_regime


@dataclass(frozen=True)
class PooledMeans:
    """The window's mean in every regime: regimes differ in risk only."""

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`."""
        return np.tile(inputs.pooled, (len(inputs.by_regime), 1))


@dataclass(frozen=True)
class BayesStein:
    """Means shrunk towards that of the minimum-variance portfolio (Jorion 1986), and to each other.

    The pooled mean is shrunk by Jorion's empirical Bayes weight, on independent rows. The distance
    ``T^2`` of a regime's mean from the pooled one is compared with its mean under the null that all
    regimes have one mean: a regime keeps the share ``max(0, 1 - null / T^2)`` of its difference.
    The usual null of a chi-squared law does not hold, as EM selects regimes to differ: on data with
    equal means it would keep 0.75 to 0.91 of the differences.

    Parameters
    ----------
    null_distances : sequence of float, optional
        Mean of ``T^2`` of each regime, calmest first, under the null: `null_mean_distances`, once a
        study. An estimate with another number of regimes keeps no differences between them.
        Needed where there are several regimes.

    Raises
    ------
    ModelError
        A null distance is not positive and finite.

    References
    ----------
    P. Jorion, "Bayes-Stein estimation for portfolio analysis", Journal of Financial and
    Quantitative Analysis 21 (1986).
    """

    null_distances: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.null_distances is None:
            return
        numbers = tuple(float(distance) for distance in self.null_distances)
        if not numbers or not all(0.0 < number < np.inf for number in numbers):
            raise ModelError(
                f"null_distances={self.null_distances}: must be one positive number per regime; "
                "compute them by null_mean_distances"
            )
        object.__setattr__(self, "null_distances", numbers)

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`.

        Raises
        ------
        ModelError
            There are several regimes and no null distances.
        DataError
            There are not more independent rows than assets and 2.
        """
        shrunk = jorion_means(inputs.pooled, inputs.covariance, inputs.n_independent)
        center = inputs.shares @ inputs.by_regime
        kept = self.kept(inputs.distances)
        means: Floats = shrunk + kept[:, None] * (inputs.by_regime - center)
        return means

    def kept(self, distances: Floats) -> Floats:
        """Share of its difference from the pooled mean that each regime keeps."""
        if len(distances) == 1:
            return np.zeros(1)
        if self.null_distances is None:
            raise ModelError(
                f"null_distances=None: must be given for {len(distances)} regimes; compute them "
                "once a study by null_mean_distances"
            )
        if len(self.null_distances) != len(distances):
            return np.zeros(len(distances))
        null = np.array(self.null_distances)
        return np.maximum(0.0, 1.0 - null / np.maximum(distances, 1e-300))


@dataclass(frozen=True)
class EquilibriumMeans:
    """Means that make given weights optimal: ``premium * S w / (w'S w)``, the same in all regimes.

    S is the pooled covariance of simple excess returns, the differences between regimes in it
    (Sharpe's reverse optimization, as in Black and Litterman 1992).

    Parameters
    ----------
    weights : mapping or Series by asset, optional
        Non-negative; scaled to sum to 1 over the assets at hand, those left out get 0. Default:
        equal weights.
    premium : float, optional
        Excess return of the weights per period. Default: that of the window, at least 0.

    Raises
    ------
    ModelError
        A weight is negative or not finite, or the premium is not finite or above 0.5 (a percentage
        is not a decimal).
    """

    weights: ByLabel | None = None
    premium: float | None = None

    def __post_init__(self) -> None:
        if self.premium is not None:
            _check_decimal("premium", float(self.premium))
        if self.weights is None:
            return
        weights = {label: float(weight) for label, weight in self.weights.items()}
        for label, weight in weights.items():
            if not 0.0 <= weight < np.inf:
                raise ModelError(f"weights of {label!r} = {weight}: must be 0 or more")
        object.__setattr__(self, "weights", weights)

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`.

        Raises
        ------
        ModelError
            None of the assets has a positive weight.
        """
        weights = self._of(inputs.names)
        premium = self.premium
        if premium is None:
            premium = max(float(weights @ inputs.pooled), 0.0)
        exposure = inputs.covariance @ weights
        implied: Floats = premium * exposure / float(weights @ exposure)
        return np.tile(implied, (len(inputs.by_regime), 1))

    def _of(self, names: Sequence[Hashable]) -> Floats:
        if self.weights is None:
            return np.full(len(names), 1.0 / len(names))
        given = dict(self.weights.items())
        weights: Floats = np.array([given.get(name, 0.0) for name in names])
        if not weights.sum() > 0.0:
            raise ModelError(
                f"weights={given}: none of the assets {list(names)} has a positive "
                "weight; give weights by the labels of the market"
            )
        scaled: Floats = weights / weights.sum()
        return scaled


@dataclass(frozen=True)
class GivenMeans:
    """Means given by the user, the same in every regime and on every date.

    Parameters
    ----------
    values : mapping or Series by asset
        Mean simple return per period in excess of cash, decimal; it must name every asset.

    Raises
    ------
    ModelError
        A mean is not finite, or above 0.5 in size: give decimals, not percent.
    """

    values: ByLabel

    def __post_init__(self) -> None:
        values = {label: float(mean) for label, mean in self.values.items()}
        for label, mean in values.items():
            _check_decimal(f"mean of {label!r}", mean)
        object.__setattr__(self, "values", values)

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`.

        Raises
        ------
        ModelError
            An asset at hand has no mean.
        """
        given = dict(self.values.items())
        missing = [name for name in inputs.names if name not in given]
        if missing:
            raise ModelError(f"values lack {missing}; give a mean of every asset")
        own: Floats = np.array([given[name] for name in inputs.names])
        return np.tile(own, (len(inputs.by_regime), 1))


def checked_means(estimator: MeanEstimator, inputs: MeanInputs) -> Floats:
    """Means of an estimator, checked for shape and finiteness.

    Raises
    ------
    DataError
        They have another shape than ``(n_regimes, n_assets)``, or one is not finite.
    """
    means = np.asarray(estimator.means(inputs), dtype=float)
    if means.shape != inputs.by_regime.shape:
        raise DataError(
            f"means of {estimator!r} have shape {means.shape}: must be "
            f"{inputs.by_regime.shape}, one row per regime and one column per asset"
        )
    if not np.isfinite(means).all():
        bad = inputs.names[int(np.argwhere(~np.isfinite(means))[0][1])]
        raise DataError(f"means of {estimator!r}: that of {bad!r} is not finite; give numbers")
    return means


def jorion_means(mean: Floats, covariance: Floats, n_rows: float) -> Floats:
    """Bayes-Stein means of Jorion (1986).

    Parameters
    ----------
    mean : array, shape (n_assets,)
        Sample means of excess returns.
    covariance : array, shape (n_assets, n_assets)
        Sample covariance.
    n_rows : float
        Independent rows that both come from.

    Raises
    ------
    DataError
        There are not more independent rows than assets and 2.
    """
    n_assets = len(mean)
    if n_rows <= n_assets + 2:
        raise DataError(
            f"the window has {n_rows:g} independent rows; Bayes-Stein means of {n_assets} assets "
            f"need more than {n_assets + 2}: give more rows"
        )
    scaled = covariance * (n_rows - 1.0) / (n_rows - n_assets - 2.0)
    inverse = np.linalg.pinv(scaled, hermitian=True)
    ones = np.ones(n_assets)
    target = float(ones @ inverse @ mean) / float(ones @ inverse @ ones)
    deviation = mean - target
    distance = float(deviation @ inverse @ deviation)
    weight = (n_assets + 2.0) / (n_assets + 2.0 + n_rows * distance)
    shrunk: Floats = (1.0 - weight) * mean + weight * target
    return shrunk


def mean_distances(regimes: Regimes, shares: Floats, n_rows: float) -> Floats:
    """``T^2`` of each regime's mean from the pooled one, shape (n_regimes,).

    ``n_k (m_k - m)' C_k^-1 (m_k - m)`` with ``n_k = shares_k n_rows`` independent rows, in the
    variables that the regimes were fitted to.
    """
    deviations = regimes.means - shares @ regimes.means
    solved = np.linalg.solve(regimes.covariances, deviations[:, :, None])[:, :, 0]
    distances: Floats = shares * n_rows * (deviations * solved).sum(axis=1)
    return distances


def null_mean_distances(
    fitted: Regimes,
    settings: GaussianRegimes,
    *,
    shares: Floats,
    n_rows: int,
    rng: Rng,
    n_refits: int = 50,
) -> tuple[float, ...]:
    """Mean ``T^2`` of each regime where all regimes have one mean: the null of `BayesStein`.

    The fitted model with its means set equal is drawn from, and as many regimes are fitted to each
    draw as to the data. Once a study is enough: about 8 CPU seconds for 50 refits.

    Parameters
    ----------
    fitted : Regimes
        Of a window of the study.
    settings : GaussianRegimes
        Those of the study's fits.
    shares : array, shape (n_regimes,)
        Share of the window's rows that each regime emitted.
    n_rows : int
        Independent rows of a window.
    rng : int, SeedSequence or Generator
    n_refits : int

    Returns
    -------
    tuple of float, calmest regime first

    Raises
    ------
    ModelError
        `n_refits` is below 1.
    DataError
        No draw carried a fit with as many regimes.
    """
    if n_refits < 1:
        raise ModelError(f"n_refits={n_refits}: must be a positive integer")
    pooled = np.asarray(shares, dtype=float) @ fitted.means
    null = Regimes(
        means=np.tile(pooled, (fitted.n_states, 1)),
        covariances=fitted.covariances,
        transition_matrix=fitted.transition_matrix,
        start_probabilities=np.asarray(shares, dtype=float),
    )
    found = []
    law = null.start_probabilities
    for stream in generator(rng).spawn(n_refits):
        drawn = simulate_regimes(null, start=law, n_paths=1, n_periods=n_rows, rng=stream)
        table = drawn.factors[0]
        refit = settings.fit_quietly(table, rng=stream)
        if refit.n_states == fitted.n_states:
            own = refit.filter(table).mean(axis=0)
            found.append(mean_distances(refit, own, float(n_rows)))
    if not found:
        raise DataError(
            f"none of {n_refits} draws of {n_rows} rows carried {fitted.n_states} regimes; give "
            "fewer regimes or a longer window"
        )
    return tuple(float(number) for number in np.mean(found, axis=0))


def covariance_of(returns: Floats, shares: Floats) -> Floats:
    """Pooled covariance of equiprobable scenarios by regime, differences of means included.

    Parameters
    ----------
    returns : array, shape (n_regimes, n_scenarios, n_assets)
    shares : array, shape (n_regimes,)
    """
    centred = returns - shares @ returns.mean(axis=1)
    covariance: Floats = np.einsum("k,ksi,ksj->ij", shares / returns.shape[1], centred, centred)
    return covariance


def mean_excess(assets: pd.DataFrame, cash: pd.Series[float]) -> Floats:
    """Mean simple return over cash of each asset, on the rows on which it has one.

    Raises
    ------
    DataError
        An asset has no return at all.
    """
    excess = assets.to_numpy() - cash.to_numpy()[:, None]
    counts = np.isfinite(excess).sum(axis=0)
    if (counts == 0).any():
        name = assets.columns[int(np.argmin(counts))]
        raise DataError(f"{name!r} has no return in the window; leave it out")
    means: Floats = np.nansum(excess, axis=0) / counts
    return means


def _check_decimal(what: str, value: float) -> None:
    if not abs(value) <= LARGEST_MEAN:
        raise ModelError(
            f"{what} = {value}: must be a decimal excess return per period of at most "
            f"{LARGEST_MEAN} in size; give 0.01 for 1 %"
        )
