"""Newton's method on the weights of a transaction-cost QP without rows.

A step along the slopes followed by the proximal map of costs and bounds leaves an optimum where it
is (see `kkt_residual`). Away from one the map says which weights are at a bound, which are not
traded, and which way the others are: where that stands the conditions are linear equations. This is
the semismooth Newton method of that map. It is many times faster than a program in purchases and
sales, and gives up where the equations have no solution.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dgesv

from sddp.arrays import Floats, Ints
from sddp.portfolio.qp.problem import (
    NEGLIGIBLE,
    Prices,
    TransactionCostQp,
    TransactionCostSolution,
    solution_at,
)

# From a good start one or two settle.
STEPS = 6


def newton(
    problem: TransactionCostQp, near: TransactionCostSolution
) -> TransactionCostSolution | None:
    """The optimum to rounding; None where a few steps from `near` do not lead there.

    Parameters
    ----------
    problem : TransactionCostQp
        Without rows; benchmarks at their prices.
    near : TransactionCostSolution
        Of a problem with as many assets.
    """
    p, unit = problem, problem.scale
    buying, selling = p.purchase_cost / unit, p.sale_cost / unit
    weights, cash, budget = near.weights, near.cash, near.prices.budget
    mean, aversion = _with_benchmarks(p)
    for _ in range(STEPS):
        price = p.money_price(budget)
        slopes = mean - aversion * (p.covariance @ weights) - budget
        step = weights - p.current + slopes / unit
        trade = np.maximum(step - price * buying, 0.0) + np.minimum(step + price * selling, 0.0)
        target = p.current + trade
        nearest = np.minimum(np.maximum(target, p.lower), p.upper)
        stepped = cash + (p.cash_return - budget) / unit
        nearest_cash = min(max(stepped, p.cash_lower), p.cash_upper)
        missed = float(np.abs(weights - nearest).max())
        missed = max(missed, abs(cash - nearest_cash), abs(p.cash(weights) - cash))
        if missed <= NEGLIGIBLE:
            return solution_at(p, weights, Prices(budget, near.prices.rows, p.tracking.prices))
        # Neither at a bound nor at the kink, where there is one.
        free = ((nearest == target) & ((trade != 0.0) | ~p.has_kink)).nonzero()[0]
        side = np.where(trade[free] > 0.0, p.purchase_cost[free], -p.sale_cost[free])
        fixed_cash = None if p.cash_lower < stepped < p.cash_upper else nearest_cash
        found = _solved(p, mean, aversion, nearest, free, side, fixed_cash)
        if found is None:
            break
        weights, budget = found
        cash = fixed_cash if fixed_cash is not None else p.cash(weights)
    return None


def _with_benchmarks(p: TransactionCostQp) -> tuple[Floats, float]:
    """Mean and risk aversion with the charges for tracking in them, which are quadratic."""
    prices = p.tracking.prices
    if not len(prices):
        return p.mean, p.risk_aversion
    mean: Floats = p.mean + p.covariance @ (prices @ p.tracking.benchmarks)
    return mean, p.risk_aversion + float(prices.sum())


def _solved(
    p: TransactionCostQp,
    mean: Floats,
    aversion: float,
    nearest: Floats,
    free: Ints,
    side: Floats,
    fixed_cash: float | None,
) -> tuple[Floats, float] | None:
    """Weights and multiplier of the budget where free weights are traded at the cost `side`."""
    n, unit = len(free), p.scale
    weights = nearest.copy()
    weights[free] = p.current[free]
    slopes = (mean - aversion * (p.covariance @ weights))[free] - p.cost_weight * side
    spent = 1.0 + side if p.self_financing else np.ones(n)
    matrix, right = np.zeros((n + 1, n + 1)), np.empty(n + 1)
    matrix[:n, :n] = p.covariance[free[:, None], free]
    matrix[:n, :n] *= aversion / unit
    matrix[:n, n], right[:n] = spent, slopes / unit
    if fixed_cash is None:
        matrix[n, n], right[n] = 1.0, p.cash_return / unit
    else:
        matrix[n, :n], right[n] = spent, p.cash(weights) - fixed_cash
    *_, solved, singular = dgesv(matrix, right)
    if singular:
        return None
    weights[free] += solved[:n]
    return weights, unit * float(solved[n])
