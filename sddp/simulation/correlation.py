"""The nearest correlation matrix: alternating projections with Dykstra's correction.

N. J. Higham, "Computing the nearest correlation matrix: a problem from finance", IMA Journal of
Numerical Analysis 22 (2002).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, SolverError
from sddp.threads import one_blas_thread

# What an eigenvalue, a diagonal and the symmetry of a given matrix may miss by.
ROUNDING = 1e-12
MOST_ITERATIONS = 20_000
# Given entries that the result misses by more than this contradict each other.
CONTRADICTION = 1e-6


@dataclass(frozen=True, eq=False)
class NearestCorrelation:
    """A correlation matrix near to another.

    Attributes
    ----------
    matrix : array, shape (n, n)
        Unit diagonal, no eigenvalue below -1e-12.
    distance : float
        Frobenius norm of the difference from the given matrix.
    iterations : int
        0 where the given matrix was a correlation matrix already, which is then returned.
    """

    matrix: Floats
    distance: float
    iterations: int


def nearest_correlation(
    matrix: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    fixed: ArrayLike | None = None,
    names: Sequence[Hashable] | None = None,
    tolerance: float = 1e-11,
) -> NearestCorrelation:
    """Correlation matrix of least distance from a symmetric one.

    Parameters
    ----------
    matrix : array, shape (n, n)
        Symmetric; entries off the diagonal in [-1, 1] where they are `fixed`.
    weights : array, shape (n,), optional
        Positive; entry (i, j) counts ``weights[i] * weights[j]`` in the squared distance, so that
        a large weight protects the correlations of an asset.
    fixed : array of bool, shape (n, n), optional
        Entries that stay as they are, while all others move as little as possible.
    names : sequence of labels, optional
        Of the assets, for messages.
    tolerance : float
        Largest change of an entry in an iteration at the end.

    Raises
    ------
    DataError
        The matrix is not square, symmetric and finite.
    ModelError
        A fixed entry lies outside [-1, 1], or fixed entries contradict each other: no correlation
        matrix has them all.
    SolverError
        The iteration has not come to rest.
    """
    a = np.asarray(matrix, dtype=float)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not np.isfinite(a).all():
        raise DataError(f"matrix has shape {a.shape}: must be square and finite")
    if np.abs(a - a.T).max(initial=0.0) > ROUNDING:
        raise DataError("matrix: must be symmetric; give (C + C.T) / 2")
    n = len(a)
    labels: list[Hashable] = [*range(n)] if names is None else list(names)
    held = np.zeros((n, n), dtype=bool) if fixed is None else np.asarray(fixed, dtype=bool)
    held = (held | held.T) & ~np.eye(n, dtype=bool)
    wrong = np.argwhere(held & (np.abs(a) > 1.0))
    if len(wrong):
        i, j = (int(k) for k in wrong[0])
        raise ModelError(
            f"correlation of {labels[i]!r} and {labels[j]!r} = {a[i, j]:g}: must be in [-1, 1]"
        )
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if w.shape != (n,) or not (np.isfinite(w) & (w > 0.0)).all():
        raise ModelError(f"weights={w}: must be {n} positive numbers")
    with one_blas_thread():
        if _is_correlation(a):
            return NearestCorrelation(a.copy(), 0.0, 0)
        x, gap, iterations = _dykstra(a, np.sqrt(np.outer(w, w)), held, tolerance)
        _check_contradiction(x, a, held, gap, labels)
        found = _cleaned(x)
    return NearestCorrelation(found, float(np.linalg.norm(found - a)), iterations)


def nearest_covariance(covariance: ArrayLike) -> tuple[pd.DataFrame | Floats, float]:
    """Covariance with the same variances and the nearest correlations.

    Parameters
    ----------
    covariance : array or DataFrame, shape (n, n)

    Returns
    -------
    covariance : as given
    distance : float
        Frobenius norm of the change of the correlations.

    Raises
    ------
    DataError
        A variance is negative, or as in `nearest_correlation`.
    """
    c = np.asarray(covariance, dtype=float)
    if c.ndim != 2 or c.shape[0] != c.shape[1] or c.diagonal().min() < 0.0:
        raise DataError(f"covariance has shape {c.shape}: must be square, no variance negative")
    deviations, correlations = correlation_of(c)
    found = nearest_correlation(correlations)
    near: Floats = found.matrix * np.outer(deviations, deviations)
    np.fill_diagonal(near, c.diagonal())
    if isinstance(covariance, pd.DataFrame):
        return pd.DataFrame(near, index=covariance.index, columns=covariance.columns), (
            found.distance
        )
    return near, found.distance


def correlation_of(covariance: Floats) -> tuple[Floats, Floats]:
    """Volatilities and correlations; an asset without volatility has none with others."""
    deviations = np.sqrt(covariance.diagonal())
    safe = np.where(deviations > 0.0, deviations, 1.0)
    correlations: Floats = covariance / np.outer(safe, safe)
    np.fill_diagonal(correlations, 1.0)
    return deviations, correlations


def _is_correlation(a: Floats) -> bool:
    if np.abs(a.diagonal() - 1.0).max() > ROUNDING:
        return False
    return bool(np.linalg.eigvalsh(a)[0] >= -ROUNDING)


def _dykstra(
    a: Floats, scale: Floats, held: NDArray[np.bool_], tolerance: float
) -> tuple[Floats, float, int]:
    """Algorithm 3.3 of the paper; the fixed entries are set with the diagonal.

    Both belong to an affine set, whose projection needs no correction. In the weighted norm the
    projection onto it is the same, since diagonal weights do not mix entries.
    """
    y, correction, before = a.copy(), np.zeros_like(a), a
    gap = np.inf
    for iteration in range(1, MOST_ITERATIONS + 1):
        r = y - correction
        x = _positive_part(r * scale) / scale
        correction = x - r
        y = np.where(held, a, x)
        np.fill_diagonal(y, 1.0)
        moved, gap = float(np.abs(y - before).max()), float(np.abs(y - x).max())
        before = y
        if moved < tolerance and (gap < 100.0 * tolerance or held.any()):
            return x, gap, iteration
    if held.any() and gap > CONTRADICTION:
        return x, gap, MOST_ITERATIONS
    raise SolverError(
        f"nearest_correlation has not come to rest after {MOST_ITERATIONS} iterations: the last "
        f"moved an entry by {moved:.1e}; give a larger tolerance"
    )


def _positive_part(symmetric: Floats) -> Floats:
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2.0)
    part: Floats = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return part


def _check_contradiction(
    x: Floats, a: Floats, held: NDArray[np.bool_], gap: float, labels: list[Hashable]
) -> None:
    if not held.any() or gap < CONTRADICTION:
        return
    off = np.where(held, np.abs(x - a), 0.0)
    i, j = (int(k) for k in np.unravel_index(off.argmax(), off.shape))
    nearest = x[i, j] / np.sqrt(x[i, i] * x[j, j])
    raise ModelError(
        f"correlations: no correlation matrix has all the given ones together; the nearest has "
        f"{nearest:.3g} for {labels[i]!r} and {labels[j]!r} instead of {a[i, j]:g}; move them "
        "towards each other"
    )


def _cleaned(x: Floats) -> Floats:
    """Unit diagonal to the last bit by a congruence, which keeps eigenvalues from going negative.

    A matrix on the boundary has eigenvalues of 0 that round to either side.
    """
    size = np.sqrt(x.diagonal())
    found: Floats = x / np.outer(size, size)
    found = (found + found.T) / 2.0
    np.fill_diagonal(found, 1.0)
    return found
