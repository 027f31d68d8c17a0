"""Online mean-variance: a proximal step per period instead of an optimum."""

from __future__ import annotations

import math

import numpy as np

from sddp.arrays import Floats
from sddp.errors import ModelError, SolverError

# Steps of the search for the budget's multiplier; each is a Newton step or a halving.
SEARCH_STEPS = 60
BUDGET_TOLERANCE = 1e-14


class OnlineMeanVariance:
    """Follows the fully invested mean-variance portfolio of a stream of moments, step by step.

    A step climbs ``mean'w - (risk_aversion / 2) w' covariance w`` from the present weights with the
    step size ``1 / (risk_aversion * norm)``, where ``norm``, the largest absolute row sum of the
    covariance, is at least its largest eigenvalue: such a step never lowers the objective. Then
    trades are soft-thresholded by their costs and the weights projected onto the simplex, both at
    once: the proximal map of costs on ``w >= 0, sum w = 1``, found from one multiplier.

    It returns no verified optimum: for a single decision take `MeanVariance`.

    Parameters
    ----------
    risk_aversion : float
        Positive.
    purchase_cost, sale_cost : float or array, shape (n_assets,)
        Per unit of money traded.
    n_steps : int
        Steps per period.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    def __init__(
        self,
        *,
        risk_aversion: float,
        purchase_cost: float | Floats = 0.0,
        sale_cost: float | Floats = 0.0,
        n_steps: int = 1,
    ) -> None:
        if not 0.0 < risk_aversion < math.inf:
            raise ModelError(f"risk_aversion={risk_aversion}: must be positive")
        if n_steps < 1:
            raise ModelError(f"n_steps={n_steps}: must be at least 1")
        for name, cost in (("purchase_cost", purchase_cost), ("sale_cost", sale_cost)):
            if not (np.asarray(cost) >= 0.0).all() or not (np.asarray(cost) < 1.0).all():
                raise ModelError(f"{name}={cost}: must be in [0, 1); 0.001 is 0.1 %")
        self._aversion, self._n_steps = risk_aversion, n_steps
        self._buy, self._sell = purchase_cost, sale_cost

    def step(self, mean: Floats, covariance: Floats, current: Floats) -> Floats:
        """Weights of the next period, which sum to 1.

        Parameters
        ----------
        mean, current : array, shape (n_assets,)
            `current` are weights before trading that sum to 1.
        covariance : array, shape (n_assets, n_assets)

        Raises
        ------
        SolverError
            Inputs are not finite.
        """
        curvature = self._aversion * float(np.abs(covariance).sum(axis=1).max())
        size = 1.0 / curvature if curvature > 0.0 else 1.0
        weights = current
        for _ in range(self._n_steps):
            ascent = weights + size * (mean - self._aversion * (covariance @ weights))
            weights = proximal(ascent, current, size * self._buy, size * self._sell)
        return weights


def proximal(
    target: Floats, current: Floats, buying: float | Floats, selling: float | Floats
) -> Floats:
    """Weights on the simplex nearest to a target, with linear costs of trades.

    ``argmin |w - target|^2 / 2 + buying (w - current)^+ + selling (current - w)^+`` over
    ``w >= 0, sum w = 1``: soft-thresholded trades at the multiplier of the budget, to which the sum
    of the weights is piecewise linear; Newton's method on it, halving where it leaves its bracket.

    Parameters
    ----------
    target, current : array, shape (n,)
    buying, selling : float or array, shape (n,)

    Raises
    ------
    SolverError
        The multiplier was not found: numbers that are not finite.
    """
    low = float((target - current - buying).min()) - 1.0
    high = float((target + selling).max())
    price = 0.0 if low < 0.0 < high else (low + high) / 2.0
    for _ in range(SEARCH_STEPS):
        trade = target - price - current
        free = np.maximum(trade - buying, 0.0) - np.maximum(-trade - selling, 0.0)
        weights: Floats = np.maximum(current + free, 0.0)
        missed = float(weights.sum()) - 1.0
        if abs(missed) <= BUDGET_TOLERANCE * len(target):
            return weights
        low, high = (price, high) if missed > 0.0 else (low, price)
        moving = int(np.count_nonzero((free != 0.0) & (weights > 0.0)))
        price = price + missed / moving if moving else low
        if not low < price < high:
            price = (low + high) / 2.0
    raise SolverError("online step: no multiplier of the budget; the inputs must be finite")
