"""Normal and Student-t laws of returns, with variance reduction."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import gammaln, ndtri

from sddp.arrays import Floats, read_only
from sddp.errors import DataError, ModelError
from sddp.labels import CASH, checked_labels
from sddp.portfolio.inputs import read_moments
from sddp.portfolio.moments import asset_labels
from sddp.rng import child_seed, root_seed
from sddp.simulation.laws import DrawBlock, ScenarioLaw
from sddp.statistics.sampling import SOBOL_BITS
from sddp.statistics.tables import TableLike, read_table
from sddp.threads import one_blas_thread

Kind: TypeAlias = Literal["simple", "log"]
Sampling: TypeAlias = Literal["independent", "antithetic", "sobol"]

# Above it a Student law is normal to what returns can tell.
MOST_DEGREES = 300.0


@dataclass(frozen=True, eq=False, kw_only=True)
class NormalLaw(ScenarioLaw):
    """Independent periods with normal returns.

    Parameters
    ----------
    mean : array, shape (n_assets,), or Series
        Per period (`per_period` makes it from an annual one).
    covariance : array, shape (n_assets, n_assets), or DataFrame
    returns : {"simple", "log"}
        What is normal: the simple return itself, or ``log(1 + r)``. Moments are of that.
    sampling : {"independent", "antithetic", "sobol"}
        "antithetic": scenarios come in pairs, one mirrored at the mean. "sobol": scrambled Sobol
        points, whose first coordinates are the principal components of the sum over all periods,
        the largest first.
    asset_names : sequence of labels, optional
        By default the index of `mean`.

    Raises
    ------
    DataError
        Shapes or labels disagree, or the covariance is not positive semidefinite.
    ModelError
        `returns` or `sampling` is another word.
    """

    mean: ArrayLike
    covariance: ArrayLike
    returns: Kind
    sampling: Sampling = "independent"
    asset_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        _read(self, self.covariance, "covariance")

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`.

        Raises
        ------
        DataError
            More coordinates than scipy has directions of Sobol numbers, 21,201.
        """
        root = principal_root(np.asarray(self.covariance))
        standard = standard_normal(len(root), n_periods, size, seed, self.sampling)

        def draw(number: int) -> Floats:
            return _located(standard(number), np.asarray(self.mean), root, self.returns)

        return draw


@dataclass(frozen=True, eq=False, kw_only=True)
class StudentLaw(ScenarioLaw):
    """Independent periods with multivariate Student-t returns.

    All assets of a period share one mixing variable: they crash together. The **covariance** is
    matched, so that the scale is ``covariance * (nu - 2) / nu``; a matched 95 % VaR is therefore
    smaller than the normal one, and the tails beyond about 99 % are longer.

    Parameters
    ----------
    mean : array, shape (n_assets,), or Series
        Per period.
    covariance : array, shape (n_assets, n_assets), optional
        Needs more than 2 degrees of freedom.
    scale : array, shape (n_assets, n_assets), optional
        Scale matrix, instead of a covariance.
    degrees_of_freedom : float
    returns, sampling, asset_names
        As in `NormalLaw`. Of Sobol points the mixing variable is drawn independently.

    Raises
    ------
    DataError
        As in `NormalLaw`.
    ModelError
        Both or neither of covariance and scale are given, or too few degrees of freedom.
    """

    mean: ArrayLike
    covariance: ArrayLike | None = None
    scale: ArrayLike | None = None
    degrees_of_freedom: float
    returns: Kind
    sampling: Sampling = "independent"
    asset_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        nu = self.degrees_of_freedom
        if (self.covariance is None) == (self.scale is None):
            raise ModelError("covariance, scale: exactly one of them must be given")
        least = 0.0 if self.covariance is None else 2.0
        if not least < nu < np.inf:
            raise ModelError(
                f"degrees_of_freedom={nu}: must be above {least:g}"
                + (
                    ", or there is no covariance to match; give scale= instead"
                    if self.scale is None
                    else ""
                )
            )
        if self.covariance is None:
            assert self.scale is not None
            _read(self, self.scale, "scale")
        else:
            _read(self, self.covariance, "covariance")
            matched = np.asarray(self.covariance) * ((nu - 2.0) / nu)
            object.__setattr__(self, "scale", read_only(matched))

    @classmethod
    def fit(cls, observations: TableLike, *, returns: Kind) -> StudentLaw:
        """Sample mean and covariance, degrees of freedom of greatest likelihood beside them.

        Parameters
        ----------
        observations : DataFrame or array, shape (n_rows, n_assets)
            Simple decimal returns per period.
        returns : {"simple", "log"}
            What is Student-t.

        Raises
        ------
        DataError
            Fewer rows than twice the assets, or their covariance is singular.
        """
        from scipy.optimize import minimize_scalar

        table = read_table(observations, "observations")
        x = np.log1p(table.values) if returns == "log" else table.values
        n, d = x.shape
        if n <= 2 * d:
            raise DataError(f"observations has {n} rows: must be more than {2 * d}")
        mean, covariance = x.mean(axis=0), np.atleast_2d(np.cov(x.T))
        if np.linalg.matrix_rank(covariance) < d:
            raise DataError("observations: covariance is singular; leave out a column")
        half = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
        squares = (half**2).sum(axis=0)

        def negative(log_excess: float) -> float:
            nu = 2.0 + np.exp(log_excess)
            one = gammaln((nu + d) / 2.0) - gammaln(nu / 2.0) - 0.5 * d * np.log(np.pi * (nu - 2.0))
            return -float(n * one - 0.5 * (nu + d) * np.log1p(squares / (nu - 2.0)).sum())

        found = minimize_scalar(negative, bounds=(np.log(0.05), np.log(MOST_DEGREES)))
        nu = 2.0 + float(np.exp(found.x))
        names = table.names
        return cls(
            mean=mean,
            covariance=covariance,
            degrees_of_freedom=nu,
            returns=returns,
            asset_names=names,
        )

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`."""
        root = principal_root(np.asarray(self.scale))
        standard = standard_normal(len(root), n_periods, size, seed, self.sampling)
        nu = self.degrees_of_freedom

        def draw(number: int) -> Floats:
            # A stream beside that of the normal numbers.
            rng = np.random.default_rng(child_seed(child_seed(seed, number), 0))
            if self.sampling == "antithetic":
                mixing = np.repeat(rng.chisquare(nu, (size // 2, n_periods)), 2, axis=0)
            else:
                mixing = rng.chisquare(nu, (size, n_periods))
            heavy = standard(number)
            heavy *= np.sqrt(nu / mixing)[:, :, None]
            return _located(heavy, np.asarray(self.mean), root, self.returns)

        return draw


def _read(law: NormalLaw | StudentLaw, matrix: ArrayLike, name: str) -> None:
    """Check the fields of a law and write them back as arrays."""
    if law.returns not in get_args(Kind):
        raise ModelError(f"returns={law.returns!r}: must be 'simple' or 'log'")
    if law.sampling not in get_args(Sampling):
        raise ModelError(f"sampling={law.sampling!r}: must be one of {get_args(Sampling)}")
    try:
        names, mean, covariance = read_moments(law.mean, matrix)
    except DataError as error:
        if "eigenvalue" in str(error):
            raise DataError(
                f"{error}; or take sddp.simulation.nearest_covariance of it, which says how far "
                "it moves"
            ) from error
        raise
    if law.asset_names is not None or not isinstance(law.mean, pd.Series):
        given = law.asset_names if law.asset_names is not None else names
        names = asset_labels(given, len(mean))
    labels = checked_labels(names, "asset_names", reserved=CASH)
    if len(labels) != len(mean):
        raise DataError(f"asset_names={list(labels)}: must be {len(mean)} labels")
    object.__setattr__(law, "mean", read_only(mean))
    object.__setattr__(law, name, read_only(covariance))
    object.__setattr__(law, "asset_names", labels)


def principal_root(covariance: Floats) -> Floats:
    """Matrix L with ``L L' = covariance``, its columns the principal components, largest first."""
    with one_blas_thread():
        values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0.0))
    return root


def standard_normal(
    n_assets: int, n_periods: int, size: int, seed: np.random.SeedSequence, sampling: Sampling
) -> Callable[[int], Floats]:
    """Draws of standard normal numbers by block, shape (size, n_periods, n_assets)."""
    shape = (size, n_periods, n_assets)
    if sampling == "sobol":
        return _sobol(shape, seed)

    def independent(number: int) -> Floats:
        return np.random.default_rng(child_seed(seed, number)).standard_normal(shape)

    def antithetic(number: int) -> Floats:
        rng = np.random.default_rng(child_seed(seed, number))
        half = rng.standard_normal((size // 2, *shape[1:]))
        return np.stack([half, -half], axis=1).reshape(shape)

    return antithetic if sampling == "antithetic" else independent


def _sobol(shape: tuple[int, int, int], seed: np.random.SeedSequence) -> Callable[[int], Floats]:
    from scipy.fft import idct
    from scipy.stats import qmc  # 0.5 s to import

    size, n_periods, n_assets = shape
    most = qmc.Sobol.MAXDIM
    if n_periods * n_assets > most:
        raise DataError(
            f"sampling='sobol': {n_periods} periods of {n_assets} assets are "
            f"{n_periods * n_assets} coordinates, must be at most {most}; use 'antithetic'"
        )
    # A copy of the seed: scipy spawns from it, and the next engine must find it unused.
    rng = np.random.default_rng(root_seed(seed))
    engine = qmc.Sobol(n_periods * n_assets, scramble=True, bits=SOBOL_BITS, rng=rng)

    def draw(number: int) -> Floats:
        wanted = number * size
        if engine.num_generated > wanted:
            engine.reset()
        if engine.num_generated < wanted:
            engine.fast_forward(wanted - engine.num_generated)
        uniform = engine.random(size) + 0.5 ** (SOBOL_BITS + 1)
        # Coordinates are (mode, component): the cosine transform is orthogonal, its mode 0 the
        # sum over the periods, so the first coordinates are the components of that sum.
        modes = ndtri(uniform).reshape(size, n_periods, n_assets)
        return np.asarray(idct(modes, axis=1, norm="ortho"), dtype=float)

    return draw


def _located(standard: Floats, mean: Floats, root: Floats, returns: Kind) -> Floats:
    """Simple returns from standard numbers, which are overwritten where that saves memory."""
    size, n_periods, n = standard.shape
    with one_blas_thread():
        located = standard.reshape(-1, n) @ root.T
    located += mean
    if returns == "log":
        np.expm1(located, out=located)
    return located.reshape(size, n_periods, n)
