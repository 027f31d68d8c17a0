"""Mean and covariance of simple returns: from a window of history, or from regimes.

All are per period of the rows given, of simple decimal returns, which is what a one-period
portfolio earns: ``w'r`` is its return for simple returns only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.allocation.one_period import one_period_distribution
from sddp.arrays import Floats, checked_probabilities
from sddp.display.shown import Shown, listed
from sddp.errors import DataError, ModelError
from sddp.labels import label_index, places_of
from sddp.scenarios import MarkovScenarios
from sddp.statistics import FittedFactorModel, Regimes, asset_moments
from sddp.statistics.tables import TableLike, read_table


@dataclass(frozen=True, eq=False, repr=False)
class Moments(Shown):
    """Mean and covariance by asset.

    Parameters
    ----------
    mean : Series, shape (n_assets,)
        Expected simple return per period.
    covariance : DataFrame, shape (n_assets, n_assets)
        Of simple returns per period.
    """

    mean: pd.Series[float]
    covariance: pd.DataFrame

    @classmethod
    def of(
        cls,
        mean: ArrayLike,
        covariance: ArrayLike,
        names: Sequence[Hashable] | pd.Index[Any] | None = None,
    ) -> Moments:
        """Moments from arrays; assets are called ``asset1``, ... where they have no names."""
        labels = (
            names
            if isinstance(names, pd.Index)
            else label_index(asset_labels(names, np.size(mean)))
        )
        return cls(
            pd.Series(np.asarray(mean, dtype=float), index=labels),
            pd.DataFrame(np.asarray(covariance, dtype=float), index=labels, columns=labels),
        )

    def of_assets(self, names: Sequence[Hashable]) -> Moments:
        """Those of some assets, in their order."""
        places = places_of(names, list(self.mean.index))
        return Moments(self.mean.iloc[places], self.covariance.iloc[places, places])

    def _facts(self) -> dict[str, str]:
        return {"assets": listed(list(self.mean.index))}

    def _tables(self) -> dict[str, pd.DataFrame]:
        table = {"mean": self.mean, "volatility": np.sqrt(np.diag(self.covariance))}
        return {"Simple returns of a period": pd.DataFrame(table, index=self.mean.index)}


class Outcomes(NamedTuple):
    """A discrete law of one period's returns.

    Attributes
    ----------
    returns : array, shape (n_outcomes, n_assets)
        Simple decimal returns of the risky assets, in their order.
    probabilities : array, shape (n_outcomes,), or None
        Equal ones for None.
    """

    returns: ArrayLike
    probabilities: ArrayLike | None = None


class MomentEstimator(Protocol):
    """From a window of simple returns to moments of the next period."""

    def estimate(self, returns: TableLike) -> Moments:
        """Moments per period.

        Parameters
        ----------
        returns : DataFrame or array, shape (n, n_assets)
            Simple decimal returns, oldest first.

        Raises
        ------
        DataError
            `returns` is not a finite table of at least two rows.
        """
        ...


@dataclass(frozen=True)
class SampleMoments:
    """Mean and unbiased covariance (over ``n - 1``), every row alike."""

    def estimate(self, returns: TableLike) -> Moments:
        """See `MomentEstimator.estimate`."""
        values, names = _window(returns)
        return Moments.of(values.mean(axis=0), np.atleast_2d(np.cov(values.T)), names)


@dataclass(frozen=True, kw_only=True)
class ExponentialMoments:
    """Mean and covariance under weights that halve every `half_life` rows into the past.

    With weights ``p`` that sum to 1 the covariance is ``sum p (r - m)(r - m)' / (1 - sum p^2)``,
    unbiased for independent rows; equal weights would give the sample covariance.

    Parameters
    ----------
    half_life : float
        In rows.

    Raises
    ------
    ModelError
        `half_life` is no positive number.
    """

    half_life: float

    def __post_init__(self) -> None:
        check_half_life(self.half_life)

    def estimate(self, returns: TableLike) -> Moments:
        """See `MomentEstimator.estimate`."""
        values, names = _window(returns)
        weights = decaying_weights(len(values), self.half_life)
        weights /= weights.sum()
        mean, covariance = _weighted(values, weights)
        return Moments.of(mean, covariance / (1.0 - weights @ weights), names)


@dataclass(frozen=True)
class LedoitWolfMoments:
    """Sample mean, and the covariance of Ledoit and Wolf (2004), by scikit-learn.

    The sample covariance (over ``n``) is shrunk towards a multiple of the identity as far as
    minimises the expected squared error; it is positive definite also for fewer rows than assets.
    """

    def estimate(self, returns: TableLike) -> Moments:
        """See `MomentEstimator.estimate`."""
        from sklearn.covariance import ledoit_wolf  # 0.7 s to import

        return _shrunk(returns, ledoit_wolf)


@dataclass(frozen=True)
class OasMoments:
    """Sample mean, and the oracle approximating shrinkage of Chen et al. (2010), by scikit-learn.

    As `LedoitWolfMoments`, with the share that is best where returns are normal.
    """

    def estimate(self, returns: TableLike) -> Moments:
        """See `MomentEstimator.estimate`."""
        from sklearn.covariance import oas  # 0.7 s to import

        return _shrunk(returns, oas)


@dataclass(frozen=True)
class ConstantCorrelationMoments:
    """Sample mean, and the covariance shrunk towards one correlation for all pairs.

    Variances stay those of the sample (over ``n``); correlations move towards their mean as far as
    minimizes the expected squared error of the covariance (Ledoit and Wolf, 2004, "Honey, I shrunk
    the sample covariance matrix").
    """

    def estimate(self, returns: TableLike) -> Moments:
        """See `MomentEstimator.estimate`.

        Raises
        ------
        DataError
            Also where an asset's returns do not vary: it has no correlation.
        """
        values, names = _window(returns)
        n_rows, n = values.shape
        centred = values - values.mean(axis=0)
        sample = centred.T @ centred / n_rows
        deviation = np.sqrt(sample.diagonal())
        still = values.max(axis=0) == values.min(axis=0)
        if still.any():
            label = asset_labels(names, n)[int(still.argmax())]
            raise DataError(
                f"returns of {label!r} do not vary: leave it out, it has no correlation"
            )
        common = float((sample / np.outer(deviation, deviation)).sum() - n) / max(n * (n - 1), 1)
        target = common * np.outer(deviation, deviation)
        np.fill_diagonal(target, sample.diagonal())
        squares = centred**2
        errors = squares.T @ squares / n_rows - sample**2
        # Covariances of the errors of the sample with those of the target.
        cross = (centred**3).T @ centred / n_rows - sample.diagonal()[:, None] * sample
        np.fill_diagonal(cross, 0.0)
        shared = float(
            errors.trace() + common * (cross * np.outer(1.0 / deviation, deviation)).sum()
        )
        distance = float(((sample - target) ** 2).sum())
        share = (float(errors.sum()) - shared) / distance / n_rows if distance > 0.0 else 0.0
        share = min(max(share, 0.0), 1.0)
        covariance = share * target + (1.0 - share) * sample
        return Moments.of(values.mean(axis=0), covariance, names)


def outcome_moments(outcomes: Outcomes, names: Sequence[Hashable] | None = None) -> Moments:
    """Exact moments of a discrete law; nothing is corrected for being a sample.

    Raises
    ------
    DataError
        The returns are not a finite table.
    ModelError
        The probabilities are none.
    """
    table = read_table(outcomes.returns, "returns of outcomes")
    weights = checked_probabilities(outcomes.probabilities, len(table.values), "outcomes")
    return Moments.of(*_weighted(table.values, weights), names or table.names)


def scenario_outcomes(scenarios: MarkovScenarios, belief: ArrayLike, *, stage: int = 0) -> Outcomes:
    """Law of the period after a stage: outcomes ``(j, s)`` with weights ``(belief P)_j p_js``.

    It is what a multi-stage policy sees of its next period, so that a one-period model on it
    differs from the policy by its horizon and not by its inputs.

    Parameters
    ----------
    scenarios : MarkovScenarios
    belief : array, shape (n_states,)
        Probabilities of today's regime, such as ``regimes.filter(log_returns)[-1]``.
    stage : int

    Raises
    ------
    ModelError
        The belief is no law of the scenarios' regimes.
    """
    now = _belief(belief, scenarios.n_states)
    seen = one_period_distribution(scenarios, stage, now, 0.0, in_limit=False)
    return Outcomes(seen.returns, seen.probabilities)


def regime_moments(
    regimes: Regimes, belief: ArrayLike, assets: FittedFactorModel | None = None
) -> Moments:
    """Moments of the next period's simple returns under a belief over today's regime.

    The law is the mixture of the regimes' log-normals with weights ``belief P``, here in closed
    form; scenarios drawn from the same regimes have these moments up to sampling.

    Parameters
    ----------
    regimes : Regimes
        Of the assets' log returns, or of the factors where `assets` is given.
    belief : array, shape (n_states,)
        Probabilities of today's regime.
    assets : FittedFactorModel, optional
        Turns factors into assets.

    Raises
    ------
    ModelError
        The belief is no law of the regimes.
    """
    weights = _belief(belief, regimes.n_states) @ regimes.transition_matrix
    laws = [
        _log_normal(*asset_moments(mean, covariance, assets))
        for mean, covariance in zip(regimes.means, regimes.covariances, strict=True)
    ]
    mean, between = _weighted(np.array([mean for mean, _ in laws]), weights)
    within = np.tensordot(weights, np.array([covariance for _, covariance in laws]), axes=1)
    names = regimes.variable_names if assets is None else assets.asset_names
    return Moments.of(mean, within + between, names)


def asset_labels(names: Sequence[Hashable] | None, n_assets: int) -> list[Hashable]:
    """The names, or ``asset1``, ... where there are none."""
    return [f"asset{i + 1}" for i in range(n_assets)] if names is None else list(names)


def _log_normal(mean: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Moments of ``exp(z) - 1`` where ``z`` is normal."""
    growth = np.exp(mean + covariance.diagonal() / 2.0)
    return growth - 1.0, np.outer(growth, growth) * np.expm1(covariance)


def check_half_life(half_life: float) -> None:
    """Check that a half-life in rows is a positive number.

    Raises
    ------
    ModelError
        It is not.
    """
    if not 0.0 < half_life < np.inf:
        raise ModelError(f"half_life = {half_life}; give a positive number of rows")


def decaying_weights(n_rows: int, half_life: float) -> Floats:
    """Weights that halve every `half_life` rows into the past, 1 for the last; shape (n_rows,)."""
    weights: Floats = np.exp2(-np.arange(n_rows)[::-1] / half_life)
    return weights


def _shrunk(returns: TableLike, estimate: Callable[[Floats], tuple[ArrayLike, float]]) -> Moments:
    """Sample mean, and the covariance that a function of scikit-learn shrinks."""
    values, names = _window(returns)
    covariance, _ = estimate(values)
    return Moments.of(values.mean(axis=0), np.asarray(covariance, dtype=float), names)


def _weighted(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    mean = weights @ values
    centred = values - mean
    covariance = (weights[:, None] * centred).T @ centred
    return mean, (covariance + covariance.T) / 2.0


def _belief(belief: ArrayLike, n_states: int) -> Floats:
    return checked_probabilities(belief, n_states, "belief over regimes")


def _window(returns: TableLike) -> tuple[Floats, Sequence[Hashable] | None]:
    table = read_table(returns, "returns")
    if len(table.values) < 2:
        raise DataError(f"returns has {len(table.values)} row; a covariance needs at least 2")
    if table.values.min() < -1.0:
        raise DataError(
            f"returns holds {table.values.min():g}, a loss of more than everything; give simple "
            "decimal returns (0.01 = 1 %), not log returns or percent"
        )
    return table.values, list(returns.columns) if isinstance(returns, pd.DataFrame) else None
