"""Weights whose risk contributions are given shares of the volatility: three algorithms, arrays.

With ``b`` the budgets (positive, sum 1), the long-only weights with ``w_i (S w)_i = b_i w'S w``
exist once, up to their sum (Maillard, Roncalli and Teiletche, 2010; Spinu, 2013): they are the
minimizer of ``y'S y / 2 - sum_i b_i log y_i``, which is convex. All work on the correlation matrix
``C``: ``x = y * volatility`` has the same contributions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from scipy.linalg.lapack import dposv

from sddp.arrays import Floats
from sddp.errors import ModelError, SolverError
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.qp.rows import Rows, Tracking
from sddp.portfolio.qp.transaction_cost_qp import solve_transaction_cost_qp

Algorithm = Literal["newton", "successive_qp", "naive"]

# Largest relative error of a contribution by Newton's method; what the others stop at.
TOLERANCE, FIRST_ORDER = 1e-12, 1e-10

# Where linearized contributions take over from descent: far away they have false minima.
NEAR = 0.1
MOST_STEPS = {"newton": 100, "successive_qp": 200, "naive": 20_000}


def risk_budget_weights(
    covariance: Floats, budgets: Floats, algorithm: Algorithm = "newton"
) -> Floats:
    """Weights that sum to 1 with the given shares of risk.

    Parameters
    ----------
    covariance : array, shape (n, n)
        Positive semidefinite, with positive variances.
    budgets : array, shape (n,)
        Positive, sum 1.
    algorithm : {"newton", "successive_qp", "naive"}
        Damped Newton on the barrier; Gauss-Newton on the contributions with the transaction-cost
        QP as inner step; gradient descent on logarithms of weights, which needs no projection.

    Raises
    ------
    ModelError
        The algorithm is unknown.
    SolverError
        The contributions are missed.
    """
    if algorithm not in get_args(Algorithm):
        raise ModelError(f"algorithm={algorithm!r}: must be one of {', '.join(MOST_STEPS)}")
    volatility = np.sqrt(covariance.diagonal())
    correlation = covariance / np.outer(volatility, volatility)
    x = _METHODS[algorithm](correlation, budgets)
    miss = deviation(correlation, x, budgets)
    allowed = TOLERANCE if algorithm == "newton" else 10.0 * FIRST_ORDER
    if not miss <= allowed:
        raise SolverError(
            f"risk budgets are missed by {miss:.1e} ({algorithm}); look for assets that hedge each "
            "other perfectly, or for budgets of very different size"
        )
    held = x / volatility
    weights: Floats = held / held.sum()
    return weights


def deviation(covariance: Floats, weights: Floats, budgets: Floats) -> float:
    """Largest relative error of a contribution, ``max |RC_i / b_i - 1|`` with shares RC_i."""
    contributions = weights * (covariance @ weights)
    total = float(contributions.sum())
    return float(np.abs(contributions / (total * budgets) - 1.0).max()) if total > 0.0 else np.inf


def _newton(correlation: Floats, budgets: Floats) -> Floats:
    x = _start(correlation, budgets)
    marginal = correlation @ x
    for _ in range(MOST_STEPS["newton"]):
        miss = float(np.abs(x * marginal / budgets - 1.0).max())
        hessian = correlation + np.diag(budgets / x**2)
        _, step, failed = dposv(hessian, budgets / x - marginal)
        if failed:
            break
        share = _damping(correlation, budgets, x, step)
        following = x + share * step
        moved = correlation @ following
        better = float(np.abs(following * moved / budgets - 1.0).max())
        if miss <= TOLERANCE / 10.0 or (miss <= TOLERANCE and better >= miss):
            break
        x, marginal = following, moved
    return x


def _damping(correlation: Floats, budgets: Floats, x: Floats, step: Floats) -> float:
    """Share of a Newton step that keeps weights positive and lowers the barrier function."""
    falling = step < 0.0
    room = float((-x[falling] / step[falling]).min(initial=np.inf))
    share = min(1.0, 0.95 * room)
    curved, slope = float(step @ correlation @ step), float((correlation @ x) @ step)
    ratio = step / x
    while share > 1e-10:
        change = share * slope + 0.5 * share**2 * curved - float(budgets @ np.log1p(share * ratio))
        if change <= 1e-16:
            break
        share *= 0.5
    return share


def _start(correlation: Floats, budgets: Floats) -> Floats:
    """Exact for equal correlations and equal budgets; scaled to the minimum along its ray."""
    x = np.sqrt(budgets)
    x = budgets / (correlation @ x) * np.sqrt(x)
    x = np.where(x > 0.0, x, np.sqrt(budgets))
    scaled: Floats = x / np.sqrt(float(x @ correlation @ x))
    return scaled


def _naive(correlation: Floats, budgets: Floats) -> Floats:
    return _descent(correlation, budgets, FIRST_ORDER)


def _descent(correlation: Floats, budgets: Floats, tolerance: float) -> Floats:
    """Descent along the gradient in logarithms, with steps of Barzilai and Borwein (1988)."""
    logs = np.log(_start(correlation, budgets))

    def gradient(at: Floats) -> Floats:
        x = np.exp(at)
        slope: Floats = x * (correlation @ x) - budgets
        return slope

    slope, step = gradient(logs), 1.0
    for _ in range(MOST_STEPS["naive"]):
        if float(np.abs(slope / budgets).max()) <= tolerance:
            break
        # No weight changes by more than a factor e at once.
        move = -min(step, 1.0 / float(np.abs(slope).max())) * slope
        following = gradient(logs + move)
        change = following - slope
        curvature = float(move @ change)
        step = float(move @ move) / curvature if curvature > 0.0 else 1.0
        logs, slope = logs + move, following
    x: Floats = np.exp(logs)
    return x


def _successive_qp(correlation: Floats, budgets: Floats) -> Floats:
    """Linearize relative errors of the contributions, minimize their square on the simplex, repeat.

    Descent brings the start near: far away the square has false minima.
    """
    n = len(budgets)
    x = _descent(correlation, budgets, NEAR)
    x /= x.sum()
    problem = _simplex(n)

    def errors(at: Floats) -> Floats:
        contributions = at * (correlation @ at)
        error: Floats = contributions / (budgets * float(contributions.sum())) - 1.0
        return error

    damping = 1.0
    for _ in range(MOST_STEPS["successive_qp"]):
        error, marginal = errors(x), correlation @ x
        size, variance = float(np.linalg.norm(error)), float(x @ marginal)
        if float(np.abs(error).max()) <= FIRST_ORDER or damping > 1e6:
            break
        slopes = np.diag(marginal) + x[:, None] * correlation
        slopes -= 2.0 * np.outer(x * marginal, marginal) / variance
        slopes /= budgets[:, None] * variance
        # From here: min |error + slopes d|^2 / 2, held near by as much as the error is large.
        quadratic = slopes.T @ slopes + damping * size * np.eye(n)
        linear = quadratic @ x - slopes.T @ error
        step = replace(problem, covariance=quadratic, mean=linear, current=x, lower=x / 10.0)
        following = solve_transaction_cost_qp(step).weights
        if np.linalg.norm(errors(following)) < size:
            x, damping = following, damping / 10.0
        else:
            damping *= 10.0
    return x


def _simplex(n: int) -> TransactionCostQp:
    """A quadratic program over weights that are at least 0 and sum to 1, without costs."""
    nothing = np.zeros(n)
    return TransactionCostQp(
        mean=nothing,
        covariance=np.eye(n),
        risk_aversion=1.0,
        current=nothing,
        purchase_cost=nothing,
        sale_cost=nothing,
        lower=nothing,
        upper=np.ones(n),
        cash_return=0.0,
        cash_lower=0.0,
        cash_upper=0.0,
        self_financing=False,
        rows=Rows.none(n),
        tracking=Tracking.none(n),
    )


_METHODS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "newton": _newton,
    "successive_qp": _successive_qp,
    "naive": _naive,
}
