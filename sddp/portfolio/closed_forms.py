"""Markowitz portfolios with equations only, in closed form: what the solvers are compared with.

Short sales are unlimited, cash and costs do not exist (`tangency` borrows and lends at the cash
rate). Source: Merton (1972), An analytic derivation of the efficient portfolio frontier.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats
from sddp.errors import ModelError


class TwoFunds(NamedTuple):
    """Every portfolio of least variance is ``base + expected_return * direction``.

    `base` sums to 1 and `direction` to 0; both have shape (n_assets,).
    """

    base: Floats
    direction: Floats

    def at(self, expected_return: float) -> Floats:
        """Weights of least variance with this expected return."""
        weights: Floats = self.base + expected_return * self.direction
        return weights


def minimum_variance(covariance: Floats) -> Floats:
    """Weights of least variance that sum to 1: ``S^-1 1 / (1' S^-1 1)``.

    >>> minimum_variance(np.diag([1.0, 4.0])).tolist()
    [0.8, 0.2]
    """
    inverse = _solved(covariance, np.ones(len(covariance)))
    weights: Floats = inverse / inverse.sum()
    return weights


def tangency(mean: Floats, covariance: Floats, cash_return: float) -> Floats:
    """Weights that sum to 1 of the greatest Sharpe ratio: proportional to ``S^-1 (mean - cash)``.

    Raises
    ------
    ModelError
        The portfolio of least variance does not beat cash: the ratio has no greatest value.
    """
    excess = _solved(covariance, mean - cash_return)
    least = float(minimum_variance(covariance) @ mean)
    if not least > cash_return:
        raise ModelError(
            f"mean: the portfolio of least variance earns {least:g}, not more than cash_return = "
            f"{cash_return:g}; without bounds no portfolio has the greatest Sharpe ratio"
        )
    weights: Floats = excess / excess.sum()
    return weights


def two_funds(mean: Floats, covariance: Floats) -> TwoFunds:
    """The line of all portfolios of least variance, by their expected return.

    Raises
    ------
    ModelError
        All means are equal: there is one such portfolio.
    """
    if np.ptp(mean) == 0.0:
        raise ModelError(f"mean = {mean}: all are equal, so only one expected return can be had")
    conditions = np.stack([np.ones(len(mean)), mean])
    inverse = np.linalg.solve(covariance, conditions.T)
    base, direction = (inverse @ np.linalg.inv(conditions @ inverse)).T
    return TwoFunds(base, direction)


def target_return(mean: Floats, covariance: Floats, expected_return: float) -> Floats:
    """Weights of least variance that sum to 1 and have this expected return."""
    return two_funds(mean, covariance).at(expected_return)


def utility(mean: Floats, covariance: Floats, risk_aversion: float) -> Floats:
    """Weights that sum to 1 of the greatest ``mean'w - risk_aversion / 2 w'S w``."""
    least = minimum_variance(covariance)
    excess = _solved(covariance, mean - float(least @ mean))
    return least + excess / risk_aversion


def _solved(covariance: Floats, right: Floats) -> Floats:
    solution: Floats = np.asarray(np.linalg.solve(covariance, right), dtype=float)
    return solution
