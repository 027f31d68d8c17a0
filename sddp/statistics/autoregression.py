"""Predictive autoregression: ``log return = a_r + B_r z + e_r``, ``z' = a_z + B_z z + e_z``.

The process of Brown and Smith (2011) and of the paper's first study. Timing: ``z_t`` is known
when date t decides; the return it predicts is earned over ``(t, t+1]`` and known at ``t+1``,
together with ``z_{t+1}``. Simple returns are in excess of cash, ``exp(log return) - 1 - r_f``, as
in the paper's own code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_discrete_lyapunov

from sddp.arrays import Floats, read_only
from sddp.errors import DataError, ModelError
from sddp.rng import Rng, generator
from sddp.statistics.factors import FactorModel
from sddp.statistics.paths import ReturnPaths, Shocks
from sddp.statistics.sampling import NormalSampler, match_moments, monte_carlo_normal, scheme

# As in `sampling`: an eigenvalue this far below 0, relative to the largest, is a zero.
ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class ReturnAutoregression:
    """Joint law of log returns and the factors that predict them.

    Parameters
    ----------
    return_intercepts : array, shape (n_assets,)
        ``a_r``, log return per period.
    return_loadings : array, shape (n_assets, n_factors)
        ``B_r``, log return per unit of factor.
    factor_intercepts : array, shape (n_factors,)
        ``a_z``.
    factor_transition : array, shape (n_factors, n_factors)
        ``B_z``.
    covariance : array, shape (n_assets + n_factors, n_assets + n_factors)
        Covariance of the shocks of one period, assets first; independent between periods.
    cash_return : float
        ``r_f``, simple decimal return of cash per period.

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, or `covariance` is not symmetric and positive
        semidefinite.

    Examples
    --------
    >>> process = ReturnAutoregression([0.01], [[0.5]], [0.0], [[0.9]], np.diag([0.04, 1.0]))
    >>> process.expected_returns(np.array([0.2])).round(6)  # exp(0.01 + 0.5 * 0.2 + 0.02) - 1
    array([0.138828])
    """

    return_intercepts: Floats
    return_loadings: Floats
    factor_intercepts: Floats
    factor_transition: Floats
    covariance: Floats
    cash_return: float = 0.0

    def __post_init__(self) -> None:
        loadings = read_only(self.return_loadings)
        if loadings.ndim != 2 or loadings.size == 0:
            raise DataError(f"return_loadings has shape {loadings.shape}; give (assets, factors)")
        n, d = loadings.shape
        shapes = {
            "return_intercepts": (n,),
            "return_loadings": (n, d),
            "factor_intercepts": (d,),
            "factor_transition": (d, d),
            "covariance": (n + d, n + d),
        }
        for name, shape in shapes.items():
            array = read_only(getattr(self, name))
            if array.shape != shape or not np.isfinite(array).all():
                raise DataError(f"{name} must hold finite numbers of shape {shape}")
            object.__setattr__(self, name, array)
        _check_covariance(self.covariance)
        if not -1.0 < self.cash_return < np.inf:
            raise DataError(f"cash_return = {self.cash_return}; cash cannot lose everything")

    @property
    def n_assets(self) -> int:
        """Number of assets."""
        return int(self.return_loadings.shape[0])

    @property
    def n_factors(self) -> int:
        """Number of factors."""
        return int(self.return_loadings.shape[1])

    def median_growth(self, factors: Floats) -> Floats:
        """``exp(a_r + B_r z)`` for factors of shape (..., n_factors): shape (..., n_assets)."""
        growth: Floats = np.exp(self.return_intercepts + factors @ self.return_loadings.T)
        return growth

    def expected_factors(self, factors: Floats) -> Floats:
        """``E[z' | z]`` for factors of shape (..., n_factors)."""
        mean: Floats = self.factor_intercepts + factors @ self.factor_transition.T
        return mean

    def expected_returns(self, factors: Floats) -> Floats:
        """Expected simple excess returns given the factors, shape (..., n_assets)."""
        variances = np.diag(self.covariance)[: self.n_assets]
        mean: Floats = self.median_growth(factors) * np.exp(variances / 2.0)
        return mean - 1.0 - self.cash_return

    def outcomes(self, factors: Floats, shocks: Shocks) -> tuple[Floats, Floats]:
        """Scenarios of one period given the factors, one per shock.

        Returns
        -------
        excess_returns : array, shape (n_points, n_assets)
        next_factors : array, shape (n_points, n_factors)
        """
        returns = self.median_growth(factors) * shocks.growth - 1.0 - self.cash_return
        return returns, self.expected_factors(factors) + shocks.factors

    def stationary_law(self) -> tuple[Floats, Floats]:
        """Mean and covariance of the factors in the long run.

        Raises
        ------
        ModelError
            There is none: an eigenvalue of `factor_transition` is 1 or more in size.
        """
        radius = np.abs(np.linalg.eigvals(self.factor_transition)).max()
        if radius >= 1.0:
            raise ModelError(
                f"factor_transition has an eigenvalue of size {radius:g}: the factors have no "
                "stationary law; give the factors to start from"
            )
        towards = np.eye(self.n_factors) - self.factor_transition
        mean = np.linalg.solve(towards, self.factor_intercepts)
        covariance = solve_discrete_lyapunov(self.factor_transition, self._factor_covariance)
        return np.asarray(mean, dtype=float), np.asarray(covariance, dtype=float)

    def simulate(
        self,
        n_paths: int,
        n_periods: int,
        *,
        rng: Rng,
        start: ArrayLike | None = None,
    ) -> ReturnPaths:
        """Draw independent paths from the exact law.

        Parameters
        ----------
        n_paths, n_periods : int
        rng : int, SeedSequence or Generator
            More paths leave the earlier ones as they were.
        start : array, shape (n_factors,) or (n_paths, n_factors), optional
            Factors at date 0; by default drawn from their stationary law.

        Raises
        ------
        DataError
            A count is below 1 or `start` has another shape.
        ModelError
            No `start` and no stationary law.
        """
        if n_paths < 1 or n_periods < 1:
            raise DataError(f"n_paths = {n_paths}, n_periods = {n_periods}; give at least 1")
        first, shocks = generator(rng).spawn(2)
        factors = np.empty((n_paths, n_periods + 1, self.n_factors))
        factors[:, 0] = self._start(n_paths, start, first)
        size = self.n_assets + self.n_factors
        e = monte_carlo_normal(np.zeros(size), self.covariance, n_paths * n_periods, rng=shocks)
        e = e.reshape(n_paths, n_periods, size)
        for t in range(n_periods):
            factors[:, t + 1] = self.expected_factors(factors[:, t]) + e[:, t, self.n_assets :]
        predicted = self.return_intercepts + factors[:, :-1] @ self.return_loadings.T
        return ReturnPaths(predicted + e[:, :, : self.n_assets], factors, self.cash_return)

    def shocks(
        self,
        n_points: int,
        *,
        rng: Rng,
        sampling: str | NormalSampler = "sobol",
        moment_matching: bool = False,
    ) -> Shocks:
        """Draw equiprobable shocks of one period.

        Used at every value of the factors they are common random numbers: what is computed from
        them is as smooth in the factors as the law is.

        Parameters
        ----------
        n_points : int
        rng : int, SeedSequence or Generator
        sampling : {"sobol", "latin hypercube", "monte carlo"} or function
        moment_matching : bool
            Give the points exactly mean 0 and the covariance of the law.
        """
        mean = np.zeros(self.n_assets + self.n_factors)
        points = scheme(sampling)(mean, self.covariance, n_points, rng=generator(rng))
        if moment_matching:
            points = match_moments(points, mean, self.covariance)
        return Shocks(np.exp(points[:, : self.n_assets]), points[:, self.n_assets :])

    def quadrature(self, n_nodes: int) -> Shocks:
        """Gauss-Hermite nodes for ``E[g(z')]`` and ``E[(1 + r) g(z')]``, no random number in them.

        At each node of ``e_z`` stands the mean of ``exp(e_r)`` given it, so that the expectations
        are as exact as the quadrature of a smooth ``g``. With several factors the nodes are a
        product grid of ``n_nodes ** n_factors``.

        Raises
        ------
        DataError
            `n_nodes` is below 1.
        """
        if n_nodes < 1:
            raise DataError(f"n_nodes = {n_nodes}; give at least 1")
        nodes, weights = np.polynomial.hermite_e.hermegauss(n_nodes)
        grid = np.stack(np.meshgrid(*[nodes] * self.n_factors, indexing="ij"), axis=-1)
        masses = np.stack(np.meshgrid(*[weights] * self.n_factors, indexing="ij"), axis=-1)
        probabilities = masses.prod(axis=-1).ravel()
        values, vectors = np.linalg.eigh(self._factor_covariance)
        factors = grid.reshape(-1, self.n_factors) * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
        probabilities /= probabilities.sum()
        return Shocks(self._mean_growth_given(factors), factors, probabilities, has_tails=False)

    @property
    def _factor_covariance(self) -> Floats:
        n = self.n_assets
        return np.asarray(self.covariance[n:, n:])

    def _mean_growth_given(self, factor_shocks: Floats) -> Floats:
        """``E[exp(e_r) | e_z]``: ``e_r`` given ``e_z`` is normal with a linear mean."""
        n = self.n_assets
        across = self.covariance[:n, n:]
        slopes = across @ np.linalg.pinv(self._factor_covariance, hermitian=True)
        variances = np.diag(self.covariance)[:n] - np.einsum("ij,ij->i", slopes, across)
        growth: Floats = np.exp(factor_shocks @ slopes.T + variances / 2.0)
        return growth

    def _start(self, n_paths: int, start: ArrayLike | None, rng: np.random.Generator) -> Floats:
        if start is None:
            return monte_carlo_normal(*self.stationary_law(), n_paths, rng=rng)
        given = np.asarray(start, dtype=float)
        if given.shape not in ((self.n_factors,), (n_paths, self.n_factors)):
            raise DataError(
                f"start has shape {given.shape}; give ({self.n_factors},) "
                f"or ({n_paths}, {self.n_factors})"
            )
        return np.asarray(np.broadcast_to(given, (n_paths, self.n_factors)))


def brown_smith() -> ReturnAutoregression:
    """Monthly returns of three assets predicted by one factor (Brown and Smith 2011).

    The constants are those of ``parametersAR.jl`` in the code of Valladao, Silva and Poggi (2019),
    github.com/Thuener/MSDDP at commit 94c3cd1.
    """
    covariance = [
        [0.002894, 0.003532, 0.003910, -0.000115],
        [0.003532, 0.004886, 0.005712, -0.000144],
        [0.003910, 0.005712, 0.007259, -0.000163],
        [-0.000115, -0.000144, -0.000163, 0.0529],
    ]
    return ReturnAutoregression(
        return_intercepts=np.array([0.0053, 0.0067, 0.0072]),
        return_loadings=np.array([[0.0028], [0.0049], [0.0061]]),
        factor_intercepts=np.array([0.0]),
        factor_transition=np.array([[0.97]]),
        covariance=np.array(covariance),
        cash_return=0.00042,
    )


def fit_autoregression(paths: ReturnPaths) -> ReturnAutoregression:
    """Fit the process by least squares on pooled paths.

    All equations have the same regressors, ``1`` and ``z_t``, so that least squares one by one is
    the conditional maximum likelihood of the coefficients given the first factors; the covariance
    is the unbiased one, its sums of squares over ``n - n_factors - 1`` (maximum likelihood divides
    by n).

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, there are too few periods, or the factors are
        linearly dependent.
    """
    returns, factors = np.asarray(paths.log_returns), np.asarray(paths.factors)
    if returns.ndim != 3 or factors.ndim != 3:
        raise DataError(
            f"log_returns has shape {returns.shape} and factors {factors.shape}; "
            "give (paths, periods, assets) and (paths, periods + 1, factors)"
        )
    n_paths, n_periods, n_assets = returns.shape
    d = factors.shape[2]
    if factors.shape[:2] != (n_paths, n_periods + 1):
        raise DataError(
            f"log_returns has {n_paths} paths of {n_periods} periods; factors needs shape "
            f"({n_paths}, {n_periods + 1}, n_factors), not {factors.shape}"
        )
    responses = np.concatenate([returns, factors[:, 1:]], axis=2).reshape(-1, n_assets + d)
    regression = FactorModel(residual_covariance="full").fit(
        responses, factors[:, :-1].reshape(-1, d)
    )
    return ReturnAutoregression(
        return_intercepts=regression.intercepts[:n_assets],
        return_loadings=regression.loadings[:n_assets],
        factor_intercepts=regression.intercepts[n_assets:],
        factor_transition=regression.loadings[n_assets:],
        covariance=regression.residual_covariance,
        cash_return=paths.cash_return,
    )


def _check_covariance(covariance: Floats) -> None:
    size = np.abs(covariance).max()
    if np.abs(covariance - covariance.T).max() > ROUNDING * size:
        raise DataError("covariance is not symmetric")
    least = np.linalg.eigvalsh(covariance)[0]
    if least < -ROUNDING * size:
        raise DataError(
            f"covariance is not positive semidefinite: its least eigenvalue is {least:.3g}"
        )
