"""Frictionless stochastic dynamic program on a grid of the predicting factor.

Without costs only wealth W and the factor z matter, and value is W times a growth factor::

    v_T = 1,   v_t(z) = max_w E[ (1 + w.r) v_{t+1}(z') | z ]
               over  w >= 0, sum w <= 1, CVaR[ -w.r | z ] <= limit

with r the returns in excess of cash, which earns nothing here. One small linear program per
stage and grid point; those of one grid point differ in their rewards only. The first study of
Valladao, Silva and Poggi (2019) compares its policies with this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from sddp.arrays import Floats, read_only
from sddp.errors import DataError, ModelError
from sddp.portfolio.optimizers.cvar_limit import LimitedPortfolio, ReturnLaw, check_limit
from sddp.statistics.autoregression import ReturnAutoregression
from sddp.statistics.paths import ReturnPaths, Shocks


@dataclass(frozen=True, eq=False)
class FrictionlessPolicy:
    """Optimal weights and growth of wealth, by stage and factor.

    Attributes
    ----------
    process : ReturnAutoregression
    shocks : Shocks
        The outcomes under which the risk limit holds.
    cvar_confidence, cvar_limit : float
    grid : array, shape (n_grid,)
        Values of the factor, ascending.
    growth : array, shape (n_decisions + 1, n_grid)
        Expected terminal wealth per unit of wealth.
    grid_weights : array, shape (n_decisions, n_grid, n_assets)
        Shares of wealth; what is missing to 1 is cash.
    """

    process: ReturnAutoregression
    shocks: Shocks
    cvar_confidence: float
    cvar_limit: float
    grid: Floats
    growth: Floats
    grid_weights: Floats

    @property
    def n_decisions(self) -> int:
        """Number of decisions."""
        return len(self.grid_weights)

    def growth_at(self, stage: int, factors: Floats) -> Floats:
        """Expected terminal wealth per unit of wealth on reaching a stage, by cubic splines.

        Parameters
        ----------
        stage : int
            0 to `n_decisions`.
        factors : array of any shape
            Values of the one factor.
        """
        return growth_curve(self.grid, self.growth[stage], factors)

    def weights(self, stage: int, factors: Floats) -> Floats:
        """Weights at any values of the factor: feasible there, optimal on the grid.

        What is interpolated is ``w * exp(a_r + b_r z)``, of which CVaR is a convex function that
        does not depend on z. The interpolated weights therefore keep the limit up to the growth of
        their sum over the interpolated sum, and are scaled down by as much. (`law_at` with
        `LimitedPortfolio` solves anew at one value.)

        Parameters
        ----------
        stage : int
            0 to ``n_decisions - 1``.
        factors : array, shape (n,)

        Returns
        -------
        array, shape (n, n_assets)
        """
        on_grid = self.grid_weights[stage]
        exposures = on_grid * self.process.median_growth(self.grid[:, None])
        invested = np.interp(factors, self.grid, on_grid.sum(axis=1))
        between = np.stack([np.interp(factors, self.grid, e) for e in exposures.T], axis=-1)
        weights = between / self.process.median_growth(np.asarray(factors)[:, None])
        return weights * self._feasible_share(weights.sum(axis=1), invested)[:, None]

    def law_at(self, factor: float) -> ReturnLaw:
        """The law of excess returns given the factor, under which the limit holds."""
        return conditional_law(self.process, self.shocks, factor, self.cvar_confidence)

    def check_length(self, paths: ReturnPaths) -> None:
        """Check that paths reach beyond the last decision.

        Raises
        ------
        DataError
            They have fewer periods than the policy has decisions.
        """
        if paths.log_returns.shape[1] < self.n_decisions:
            raise DataError(
                f"paths have {paths.log_returns.shape[1]} periods; the policy decides "
                f"{self.n_decisions} times"
            )

    def _feasible_share(self, sums: Floats, invested: Floats) -> Floats:
        """Largest share of the weights that meets ``sum w <= 1`` and the limit."""
        more = np.maximum(sums - invested, 0.0) * (1.0 + self.process.cash_return)
        limit = np.full(len(sums), self.cvar_limit)
        kept = np.divide(limit, limit + more, out=np.ones(len(sums)), where=more > 0.0)
        share: Floats = kept / np.maximum(sums * kept, 1.0)
        return share


def growth_curve(grid: Floats, growth: Floats, factors: Floats) -> Floats:
    """Growth between and a little beyond the grid points."""
    return np.asarray(CubicSpline(grid, growth)(factors), dtype=float)


def conditional_law(
    process: ReturnAutoregression, shocks: Shocks, factor: float, confidence: float
) -> ReturnLaw:
    """The law of excess returns over one period given the factor."""
    assert shocks.probabilities is not None
    scale = process.median_growth(np.array([factor]))
    return ReturnLaw(
        shocks.growth, shocks.probabilities, scale, 1.0 + process.cash_return, confidence
    )


def solve_frictionless(
    process: ReturnAutoregression,
    shocks: Shocks,
    grid: Sequence[float] | Floats,
    *,
    n_decisions: int,
    cvar_limit: float,
    cvar_confidence: float,
    expectation: Shocks | None = None,
) -> FrictionlessPolicy:
    """Solve the dynamic program backwards.

    Parameters
    ----------
    process : ReturnAutoregression
        With one factor.
    shocks : Shocks
        Outcomes of the risk limit, e.g. ``process.shocks(2**14, rng=rng)``; the same ones at
        every stage and grid point.
    grid : array, shape (n_grid,)
        Values of the factor, ascending, at least 4; see `factor_grid`.
    n_decisions : int
        The paper's code counts dates: its T is one more.
    cvar_limit : float
        Largest CVaR over one period, as a fraction of wealth.
    cvar_confidence : float
        0.9 means the worst 10 %.
    expectation : Shocks, optional
        Outcomes of the expectation where they are others, e.g. ``process.quadrature(32)``. By
        default `shocks`, as in a sampled problem.

    Raises
    ------
    ModelError
        More than one factor, a bad grid, number of decisions, confidence or limit, or `shocks`
        without tails.
    """
    points = read_only(grid)
    _check(process, shocks, points, n_decisions, cvar_confidence)
    check_limit(cvar_limit)
    mean = shocks if expectation is None else expectation
    portfolios = [
        LimitedPortfolio(
            conditional_law(process, shocks, z, cvar_confidence), process.n_assets, cvar_limit
        )
        for z in points
    ]
    growth = np.ones((n_decisions + 1, len(points)))
    weights = np.empty((n_decisions, len(points), process.n_assets))
    for t in reversed(range(n_decisions)):
        cash, assets = expected_growth(process, mean, points, points, growth[t + 1])
        weights[t] = [p.best(r) for p, r in zip(portfolios, assets - cash[:, None], strict=True)]
        growth[t] = cash + np.einsum("gn,gn->g", weights[t], assets - cash[:, None])
    return FrictionlessPolicy(
        process, shocks, cvar_confidence, cvar_limit, points, read_only(growth), read_only(weights)
    )


def expected_growth(
    process: ReturnAutoregression,
    shocks: Shocks,
    factors: Floats,
    grid: Floats,
    growth: Floats,
) -> tuple[Floats, Floats]:
    """Expected later growth of money held in cash and in each asset.

    Parameters
    ----------
    factors : array, shape (n,)
        Where one stands.
    grid, growth : array, shape (n_grid,)
        Growth from the next date on.

    Returns
    -------
    cash : array, shape (n,)
        ``E[v(z') | z]``.
    assets : array, shape (n, n_assets)
        ``E[(1 + r) v(z') | z]``, r the excess returns.
    """
    assert shocks.probabilities is not None
    here = factors[:, None]
    arrival = process.expected_factors(here) + shocks.factors[:, 0]
    later = growth_curve(grid, growth, arrival) * shocks.probabilities
    cash: Floats = later.sum(axis=1)
    assets = process.median_growth(here) * (later @ shocks.growth)
    return cash, assets - process.cash_return * cash[:, None]


def factor_grid(process: ReturnAutoregression, n_points: int, *, deviations: float = 4.0) -> Floats:
    """Evenly spaced values of the factor around its stationary mean.

    Parameters
    ----------
    n_points : int
        An odd number has the mean itself among them.
    deviations : float
        Half of the width, in stationary standard deviations.

    Raises
    ------
    ModelError
        The process has no stationary law, or more than one factor.
    """
    _check_one_factor(process)
    mean, covariance = process.stationary_law()
    width = deviations * float(np.sqrt(covariance[0, 0]))
    return np.linspace(mean[0] - width, mean[0] + width, n_points)


@dataclass(frozen=True, eq=False)
class Runs:
    """A policy followed along paths, without costs.

    Attributes
    ----------
    holdings : array, shape (n_paths, n_decisions, n_assets + 1)
        Money after trading, cash first.
    wealth : array, shape (n_paths, n_decisions + 1)
        From 1 at the first date, in excess of what cash earns.
    """

    holdings: Floats
    wealth: Floats


def follow(policy: FrictionlessPolicy, paths: ReturnPaths) -> Runs:
    """Wealth of one unit of money under a policy.

    Raises
    ------
    DataError
        The paths are shorter than the policy.
    """
    policy.check_length(paths)
    n_paths, _, n = paths.log_returns.shape
    wealth = np.ones((n_paths, policy.n_decisions + 1))
    holdings = np.empty((n_paths, policy.n_decisions, n + 1))
    returns = paths.excess_returns
    for t in range(policy.n_decisions):
        w = policy.weights(t, paths.factors[:, t, 0])
        holdings[:, t, 1:] = w * wealth[:, t, None]
        holdings[:, t, 0] = wealth[:, t] - holdings[:, t, 1:].sum(axis=1)
        gains = np.einsum("pn,pn->p", holdings[:, t, 1:], returns[:, t])
        wealth[:, t + 1] = wealth[:, t] + gains
    return Runs(holdings, wealth)


def _check(
    process: ReturnAutoregression,
    shocks: Shocks,
    grid: Floats,
    n_decisions: int,
    confidence: float,
) -> None:
    _check_one_factor(process)
    if not shocks.has_tails:
        raise ModelError(
            "shocks is a quadrature of means and has no tails; give it as expectation, and points "
            "of process.shocks for the risk limit"
        )
    if grid.ndim != 1 or len(grid) < 4 or not (np.diff(grid) > 0.0).all():
        raise ModelError(f"grid has shape {grid.shape}; give at least 4 ascending values")
    if n_decisions < 1:
        raise ModelError(f"n_decisions = {n_decisions}; give at least 1")
    if not 0.0 < confidence < 1.0:
        raise ModelError(
            f"cvar_confidence = {confidence}; give a number between 0 and 1 "
            "(0.9 = mean of the worst 10 %)"
        )


def _check_one_factor(process: ReturnAutoregression) -> None:
    if process.n_factors != 1:
        raise ModelError(f"process has {process.n_factors} factors; the grid is for one")
