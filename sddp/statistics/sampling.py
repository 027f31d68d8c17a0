"""Normal samples: Monte Carlo, Latin hypercube, scrambled Sobol; moments matched on request.

A sampling scheme is a function ``(mean, covariance, n, *, rng) -> (n, d) array`` of equiprobable
points. `SCHEMES` names those known here; any other function of this form does as well.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.rng import Rng, generator

# Sums of products round: an eigenvalue this far below 0, relative to the largest, is a zero.
ROUNDING = 1e-10

# Sobol numbers are multiples of 2^-30, the first of them possibly 0, whose quantile is infinite.
SOBOL_BITS = 30


class NormalSampler(Protocol):
    """A scheme that draws n equiprobable points from a normal law."""

    def __call__(
        self, mean: ArrayLike, covariance: ArrayLike, n: int, *, rng: np.random.Generator
    ) -> Floats:
        """Return the points, shape (n, d)."""


def monte_carlo_normal(mean: ArrayLike, covariance: ArrayLike, n: int, *, rng: Rng) -> Floats:
    """Draw independent normal points.

    Parameters
    ----------
    mean : array, shape (d,)
    covariance : array, shape (d, d)
        Symmetric, positive semidefinite.
    n : int
        Number of points.
    rng : int, SeedSequence or Generator

    Returns
    -------
    array, shape (n, d)

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, `covariance` is not symmetric and positive
        semidefinite, or `n` is below 1.
    """
    rng = generator(rng)
    center, root = _location_and_root(mean, covariance, n)
    points: Floats = center + rng.standard_normal((n, len(center))) @ root.T
    return points


def latin_hypercube_normal(
    mean: ArrayLike,
    covariance: ArrayLike,
    n: int,
    *,
    rng: Rng,
    placement: Literal["midpoint", "random"] = "midpoint",
) -> Floats:
    """Draw a Latin hypercube whose ranks are those of a normal draw.

    Each variable takes one value in each of n cells of equal probability; which cells meet is
    decided by the ranks of a Monte Carlo draw from the joint law (Stein 1987, and the paper's own
    code). Marginals are exact quantiles; correlations are those of the draw's ranks.

    Parameters
    ----------
    mean, covariance, n, rng
        As in `monte_carlo_normal`.
    placement : {"midpoint", "random"}
        Value within a cell: the quantile at its middle, ``(i - 1/2) / n``, or at a uniform
        point of it.

    Raises
    ------
    DataError
        As in `monte_carlo_normal`.
    ModelError
        `placement` is another word.
    """
    rng = generator(rng)
    if placement not in ("midpoint", "random"):
        raise ModelError(f"placement = {placement!r}; give 'midpoint' or 'random'")
    draw = monte_carlo_normal(mean, covariance, n, rng=rng)
    ranks = draw.argsort(axis=0).argsort(axis=0)
    within = 0.5 if placement == "midpoint" else rng.uniform(size=draw.shape)
    deviations = np.sqrt(np.diag(np.asarray(covariance, dtype=float)))
    points: Floats = np.asarray(mean, dtype=float) + deviations * ndtri((ranks + within) / n)
    return points


def sobol_normal(mean: ArrayLike, covariance: ArrayLike, n: int, *, rng: Rng) -> Floats:
    """Draw scrambled Sobol points through the normal quantile and the Cholesky factor.

    The first n points of the sequence (Owen's scrambling in scipy); n a power of two is best
    balanced. Variables given first use the best coordinates.

    Parameters
    ----------
    mean, covariance, n, rng
        As in `monte_carlo_normal`.

    Raises
    ------
    DataError
        As in `monte_carlo_normal`, or more variables than scipy's 21,201 directions.
    """
    rng = generator(rng)
    from scipy.stats import qmc  # 0.5 s to import

    center, root = _location_and_root(mean, covariance, n)
    _check_directions(len(center), qmc.Sobol.MAXDIM)
    engine = qmc.Sobol(len(center), scramble=True, bits=SOBOL_BITS, rng=rng)
    # A whole power of two, cut: scipy warns at other counts, for the same points.
    uniform = engine.random_base2(int(n - 1).bit_length())[:n] + 0.5 ** (SOBOL_BITS + 1)
    points: Floats = center + ndtri(uniform) @ root.T
    return points


def _check_directions(n_variables: int, most: int) -> None:
    if n_variables > most:
        raise DataError(f"{n_variables} variables; Sobol numbers have {most} at most")


SCHEMES: dict[str, NormalSampler] = {
    "monte carlo": monte_carlo_normal,
    "latin hypercube": latin_hypercube_normal,
    "sobol": sobol_normal,
}


def scheme(sampling: str | NormalSampler) -> NormalSampler:
    """Return the sampling scheme of that name; a function is returned as it is.

    Raises
    ------
    ModelError
        The name is unknown.
    """
    if not isinstance(sampling, str):
        return sampling
    if sampling not in SCHEMES:
        raise ModelError(f"sampling = {sampling!r}; give one of {list(SCHEMES)} or a function")
    return SCHEMES[sampling]


def match_moments(points: Floats, mean: ArrayLike, covariance: ArrayLike) -> Floats:
    """Shift and rotate points until their mean and covariance are the given ones exactly.

    Moments are those of n equiprobable points (the covariance divides by n). The map is affine
    and the least triangular one, so well placed points hardly move.

    Parameters
    ----------
    points : array, shape (n, d)
    mean : array, shape (d,)
    covariance : array, shape (d, d)

    Returns
    -------
    array, shape (n, d)

    Raises
    ------
    DataError
        There are not more points than variables, the points lie in a plane, or as in
        `monte_carlo_normal`.
    """
    n, d = points.shape
    if n <= d:
        raise DataError(
            f"moment matching of {d} variables needs more than {d} points, not {n}; "
            "draw more scenarios or turn it off"
        )
    center, root = _location_and_root(mean, covariance, n)
    deviations = points - points.mean(axis=0)
    matched: Floats = center + _whitened(deviations) @ root.T
    return matched


def _whitened(deviations: Floats) -> Floats:
    """Return ``deviations @ inv(R)``: R upper triangular, R'R their covariance, diag(R) > 0."""
    n, d = deviations.shape
    upper = np.linalg.qr(deviations / np.sqrt(n)).R
    if np.linalg.matrix_rank(upper) < d:
        raise DataError(
            f"the {n} points lie in a plane and cannot be matched; draw more of them "
            "(and see that the covariance is regular)"
        )
    # Without the signs some axes would be mirrored, and quasi-random points lose their places.
    upper = upper * np.sign(np.diag(upper))[:, None]
    return np.asarray(np.linalg.solve(upper.T, deviations.T).T, dtype=float)


def _location_and_root(mean: ArrayLike, covariance: ArrayLike, n: int) -> tuple[Floats, Floats]:
    center, matrix = np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)
    if center.ndim != 1 or matrix.shape != (len(center), len(center)):
        raise DataError(
            f"mean has shape {center.shape} and covariance {matrix.shape}; give (d,) and (d, d)"
        )
    if not (np.isfinite(center).all() and np.isfinite(matrix).all()):
        raise DataError("mean and covariance must hold finite numbers")
    if n < 1:
        raise DataError(f"n = {n}; draw at least one point")
    return center, _root(matrix)


def _root(covariance: Floats) -> Floats:
    """Return a matrix L with L L' = covariance: the Cholesky factor wherever there is one."""
    if np.abs(covariance - covariance.T).max(initial=0.0) > ROUNDING * np.abs(covariance).max():
        raise DataError("covariance is not symmetric")
    try:
        return np.asarray(np.linalg.cholesky(covariance), dtype=float)
    except np.linalg.LinAlgError:
        return _semidefinite_root(covariance)


def _semidefinite_root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -ROUNDING * values[-1]:
        raise DataError(
            f"covariance is not positive semidefinite: its least eigenvalue is {values[0]:.3g}"
        )
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
