"""Reading of what a one-period problem is given: names, moments, weights, bounds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.allocation.model import PerAsset, per_asset
from sddp.arrays import Floats, checked_probabilities
from sddp.errors import DataError, InfeasibleProblem, ModelError
from sddp.labels import CASH, ByLabel, checked_labels, places_of
from sddp.portfolio.moments import Outcomes, asset_labels
from sddp.portfolio.qp.problem import NEGLIGIBLE, TransactionCostQp
from sddp.statistics.tables import read_table

Weights: TypeAlias = "Sequence[float] | Floats | ByLabel"

# A covariance of fewer rows than assets has eigenvalues of 0 up to rounding, which is below this
# share of its largest variance; so is the rounding that makes it asymmetric.
ROUNDING = 1e-10

# Weights come from solvers and from prices; what they miss 1 by is cash.
WEIGHT_TOLERANCE = 1e-8


class ReadMoments(NamedTuple):
    """Checked moments and the assets they are of."""

    names: list[Hashable]
    mean: Floats
    covariance: Floats


def read_moments(mean: ArrayLike, covariance: ArrayLike) -> ReadMoments:
    """Mean and covariance as arrays, in the order of the mean's names.

    Raises
    ------
    DataError
        Shapes or names disagree, a number is not finite, or the covariance is not symmetric or
        has a negative eigenvalue (named).
    """
    names = _asset_names(mean, covariance)
    if isinstance(covariance, pd.DataFrame) and not _in_order(covariance, mean):
        _check_same_names(covariance.index, names, "rows")
        _check_same_names(covariance.columns, names, "columns")
        order = (places_of(names, axis.tolist()) for axis in (covariance.index, covariance.columns))
        covariance = covariance.to_numpy()[np.ix_(*order)]
    # Conversions that pandas leaves to numpy take five times as long.
    if isinstance(covariance, pd.DataFrame):
        covariance = covariance.to_numpy()
    if isinstance(mean, pd.Series):
        mean = mean.to_numpy()
    values = _finite(mean, (len(names),), "mean")
    matrix = _finite(covariance, (len(names), len(names)), "covariance")
    return ReadMoments(names, values, _positive_semidefinite(matrix, names, _rounding(covariance)))


def read_per_asset(
    values: PerAsset, names: Sequence[Hashable], what: str, default: float | None = None
) -> Floats:
    """One number per asset, from a number, an array, or a mapping by name.

    Parameters
    ----------
    default : float, optional
        For assets that a mapping leaves out; without it the mapping must name all.

    Raises
    ------
    ModelError
        Unknown or missing names, wrong length, or a number that is not finite.
    """
    return per_asset(values, names, what, default=default)


def read_weights(weights: Weights, names: Sequence[Hashable]) -> Floats:
    """Current weights of the assets; cash is what is missing to 1.

    Raises
    ------
    ModelError
        An unknown name, a wrong length, a number that is not finite, or a sum with cash other
        than 1.
    """
    if not isinstance(weights, (Mapping, pd.Series)):
        return per_asset(weights, names, "current_weights")
    given = per_asset(weights, [CASH, *names], "current_weights", default=0.0)
    risky = given[1:]
    named = CASH in weights.keys()  # noqa: SIM118 - a Series would look among its values
    total = float(risky.sum()) + (float(given[0]) if named else 1.0 - float(risky.sum()))
    if not abs(total - 1.0) <= WEIGHT_TOLERANCE:
        raise ModelError(
            f"current_weights sum to {total:.9g} with cash; give shares of wealth that sum to 1"
        )
    return risky


class Law(NamedTuple):
    """Checked outcomes: returns, shape (n_outcomes, n_assets), and their probabilities."""

    returns: Floats
    probabilities: Floats


def read_outcomes(outcomes: Outcomes, names: Sequence[Hashable]) -> Law:
    """Outcomes as arrays, columns in the order of the assets.

    Raises
    ------
    DataError
        Columns are not those of the assets, or a number is not finite.
    ModelError
        The probabilities are none.
    """
    returns, probabilities = outcomes
    if isinstance(returns, pd.DataFrame):
        labels, values = returns.columns.tolist(), returns.to_numpy()
        if labels != list(names):
            _check_same_names(returns.columns, names, "columns of outcomes")
            values = values[:, places_of(names, labels)]
        # In rows, as those who give an array mostly do: the same numbers to the bit.
        returns = np.ascontiguousarray(values)
    table = read_table(returns, "returns of outcomes")
    if table.values.shape[1] != len(names):
        raise DataError(
            f"returns of outcomes has {table.values.shape[1]} columns; there are {len(names)} "
            f"assets {list(names)}"
        )
    return Law(table.values, checked_probabilities(probabilities, len(table.values), "outcomes"))


def check_feasible(problem: TransactionCostQp, names: Sequence[Hashable]) -> None:
    """Refuse bounds that no portfolio keeps.

    Cash falls as any weight rises, costs included, so the two corners of the bounds tell all.

    Raises
    ------
    InfeasibleProblem
        Names the bound and by how much it is missed.
    """
    p = problem
    crossed = p.lower > p.upper
    if crossed.any():
        i = int(crossed.argmax())
        raise InfeasibleProblem(
            f"min_weights of {names[i]!r} is {p.lower[i]:g}, {p.lower[i] - p.upper[i]:g} above "
            f"its max_weights {p.upper[i]:g}"
        )
    most = p.cash(p.lower)
    if most < p.cash_lower - NEGLIGIBLE:
        raise InfeasibleProblem(
            f"with every asset at its min_weights, {most:g} of wealth is left as cash, costs "
            f"paid: {p.cash_lower - most:g} less than min_cash = {p.cash_lower:g}; lower "
            "min_weights or min_cash"
        )
    # Costs take from cash: without them it is the most.
    least = 1.0 - float(p.upper.sum())
    if least > p.cash_upper and (least := p.cash(p.upper)) > p.cash_upper + NEGLIGIBLE:
        raise InfeasibleProblem(
            f"with every asset at its max_weights, {least:g} of wealth is left as cash: "
            f"{least - p.cash_upper:g} more than max_cash = {p.cash_upper:g}; raise max_weights "
            "or max_cash"
        )


def leaves_something(problem: TransactionCostQp) -> bool:
    """Whether the bounds of assets and cash leave a portfolio; rows are not looked at."""
    p = problem
    if (p.lower > p.upper).any() or p.cash_lower > p.cash_upper:
        return False
    return p.cash(p.lower) >= p.cash_lower - NEGLIGIBLE and (
        p.cash(p.upper) <= p.cash_upper + NEGLIGIBLE
    )


def _asset_names(mean: ArrayLike, covariance: ArrayLike) -> list[Hashable]:
    if isinstance(mean, pd.Series):
        names = mean.index.tolist()
    elif isinstance(covariance, pd.DataFrame):
        names = list(covariance.columns)
    else:
        names = asset_labels(None, np.size(mean))
    if not names:
        raise DataError("mean is empty; give one expected return per asset")
    return list(checked_labels(names, "mean", reserved=CASH))


def _in_order(covariance: pd.DataFrame, mean: ArrayLike) -> bool:
    """Whether rows and columns are named as the mean, in its order."""
    if not isinstance(mean, pd.Series):
        return False
    axes = (covariance.index, covariance.columns)
    return all(axis is mean.index or axis.equals(mean.index) for axis in axes)


def _check_same_names(given: pd.Index[Any], names: Sequence[Hashable], what: str) -> None:
    # An index of text takes six times as long to be iterated over as its list.
    labels = given.tolist()
    wanted, found = set(names), set(labels)
    unknown = [name for name in labels if name not in wanted]
    missing = [name for name in names if name not in found]
    if unknown or missing or len(labels) != len(names):
        raise DataError(
            f"the {what} do not match the assets: unknown {unknown}, missing {missing}; give "
            "one for each asset of mean"
        )


def _finite(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    array: Floats = np.asarray(values, dtype=float)
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}; it needs {shape}")
    if not np.isfinite(array).all():
        where = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise DataError(f"{name}{where} = {array[tuple(where)]} is not finite; estimate it anew")
    return array


def _rounding(covariance: ArrayLike) -> float:
    """What sums of products may miss by, relative to the largest: more in single precision."""
    kind = np.asarray(covariance).dtype
    return max(ROUNDING, 8.0 * float(np.finfo(kind).eps)) if kind.kind == "f" else ROUNDING


def _positive_semidefinite(matrix: Floats, names: Sequence[Hashable], rounding: float) -> Floats:
    largest = float(np.abs(matrix).max())
    difference = np.abs(matrix - matrix.T)
    if difference.max() > rounding * largest:
        i, j = (int(k) for k in np.unravel_index(difference.argmax(), matrix.shape))
        raise DataError(
            f"covariance of {names[i]!r} and {names[j]!r} is {float(matrix[i, j])!r} one way and "
            f"{float(matrix[j, i])!r} the other; give a symmetric matrix, such as (C + C.T) / 2"
        )
    symmetric: Floats = (matrix + matrix.T) / 2.0
    try:
        # Ten times faster than eigenvalues, and enough where it succeeds.
        np.linalg.cholesky(symmetric + rounding * largest * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        _check_negative_eigenvalue(symmetric, rounding * largest)
    return symmetric


def _check_negative_eigenvalue(matrix: Floats, rounding: float) -> None:
    least = float(np.linalg.eigvalsh(matrix)[0])
    if least < -rounding:
        raise DataError(
            f"covariance has the eigenvalue {least:g}: it is no covariance, and the problem not "
            "concave; estimate it from complete rows, or shrink it (LedoitWolfMoments)"
        )
