"""The transaction-cost QP with hard limits on tracking error: the prices at which they are kept.

At its multiplier a limit is a quadratic charge, so the optimum is that of a quadratic program. For
one limit the multiplier is found by a search in one dimension over warm solves; for several by
Clarabel. Either way the answer is the quadratic program's, checked with the limits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.errors import SolverError
from sddp.portfolio.qp.cones import solve_cones
from sddp.portfolio.qp.problem import TransactionCostQp, TransactionCostSolution, kkt_residual
from sddp.portfolio.qp.root_search import FACTOR, crossing
from sddp.portfolio.qp.transaction_cost_qp import KKT_TOLERANCE, solve_transaction_cost_qp

# A limit missed by less than this, relative to itself, is kept.
ROUNDING = 1e-12

# The search for one multiplier gives up after a factor 8^8 and leaves it to Clarabel. From that of
# another problem it starts with steps of this factor.
STEPS, NEARBY = 8, 1.1

# A multiplier this much smaller than the largest is none; steps of the refinement's differences.
SMALL = 1e-6
REFINEMENTS = 6


def optimum(
    problem: TransactionCostQp, near: TransactionCostSolution | None = None
) -> TransactionCostSolution:
    """Solve, limits on tracking error included; see `solve_transaction_cost_qp`.

    Raises
    ------
    ModelError
        The problem is not concave.
    SolverError
        The optimality conditions are missed, or no portfolio keeps the limits.
    """
    t = problem.tracking
    hard = np.flatnonzero(t.hard)
    if not len(hard):
        return solve_transaction_cost_qp(problem, near)
    loose = solve_transaction_cost_qp(_priced(problem, np.where(t.hard, 0.0, t.prices)), near)
    over = t.errors(loose.weights, problem.covariance)[hard] > t.limits[hard] * (1.0 + ROUNDING)
    if not over.any():
        return loose
    found = None
    if len(hard) == 1:
        found = _by_search(problem, int(hard[0]), loose, near)
    if found is None:
        found = _by_cones(problem, loose)
    return found._replace(kkt_residual=missed(problem, found))


def missed(problem: TransactionCostQp, found: TransactionCostSolution) -> float:
    """Largest error in the optimality conditions, limits on tracking error included."""
    at = replace(problem.tracking, prices=found.prices.tracking)
    misses = at.misses(found.weights, problem.covariance, problem.scale)
    return max(found.kkt_residual, float(misses.max(initial=0.0)))


def _by_search(
    problem: TransactionCostQp,
    place: int,
    loose: TransactionCostSolution,
    near: TransactionCostSolution | None,
) -> TransactionCostSolution | None:
    t = problem.tracking
    solved: dict[float, TransactionCostSolution] = {}
    last = loose

    def over(price: float) -> float:
        nonlocal last
        prices = t.prices.copy()
        prices[place] = price
        last = solved[price] = solve_transaction_cost_qp(_priced(problem, prices), last)
        missed = float(t.errors(last.weights, problem.covariance)[place] / t.limits[place] - 1.0)
        return 0.0 if abs(missed) <= ROUNDING else missed

    start = float(near.prices.tracking[place]) if near is not None else 0.0
    largest = float(problem.covariance.diagonal().max())
    try:
        first = NEARBY if start else FACTOR
        found = crossing(over, start or problem.scale / largest, "multiplier", STEPS, first)
    except SolverError:
        return None
    one, other = solved[found.low], solved[found.high]
    mixed = _mixed(problem, one, other, place)
    return mixed if missed(problem, mixed) <= KKT_TOLERANCE else None


def _mixed(
    problem: TransactionCostQp,
    one: TransactionCostSolution,
    other: TransactionCostSolution,
    place: int,
) -> TransactionCostSolution:
    """The mixture of two optima that meets the limit: where S is flat the optimum jumps."""
    if np.abs(one.weights - other.weights).max() <= ROUNDING:
        return other
    t, p = problem.tracking, problem
    off, step = other.weights - t.benchmarks[place], one.weights - other.weights
    a, b = float(step @ p.covariance @ step), float(off @ p.covariance @ step)
    c = float(off @ p.covariance @ off) - float(t.limits[place]) ** 2
    share = (-b + np.sqrt(max(b * b - a * c, 0.0))) / a if a > 0.0 else 0.0
    weights = other.weights + min(max(share, 0.0), 1.0) * step
    cash = min(max(p.cash(weights), p.cash_lower), p.cash_upper)
    at = _priced(p, other.prices.tracking)
    residual = kkt_residual(at, weights, cash, other.prices)
    return TransactionCostSolution(weights, cash, other.prices, residual)


def _by_cones(
    problem: TransactionCostQp, loose: TransactionCostSolution
) -> TransactionCostSolution:
    """At Clarabel's multipliers, refined by Newton's method on the limits that hold."""
    t = problem.tracking
    prices = np.where(t.hard, 0.0, t.prices)
    found = loose._replace(prices=loose.prices._replace(tracking=prices))
    cones = solve_cones(_priced(problem, prices)).prices
    holds = np.flatnonzero(t.hard & (cones > SMALL * float(cones.max(initial=0.0))))
    prices[holds] = cones[holds]
    for _ in range(REFINEMENTS):
        found = solve_transaction_cost_qp(_priced(problem, prices), found)
        over = _over(problem, found, holds)
        if np.abs(over).max(initial=0.0) <= ROUNDING:
            break
        slopes = np.zeros((len(holds), len(holds)))
        for column, place in enumerate(holds):
            moved = prices.copy()
            moved[place] *= 1.0 + SMALL
            other = solve_transaction_cost_qp(_priced(problem, moved), found)
            slopes[:, column] = (_over(problem, other, holds) - over) / (moved - prices)[place]
        prices = prices.copy()
        prices[holds] -= np.linalg.lstsq(slopes, over)[0]
        prices = np.maximum(prices, 0.0)
    if missed(problem, found) > KKT_TOLERANCE:
        raise SolverError(
            f"limits on tracking error are missed by {missed(problem, found):.1e} at the "
            "multipliers that Clarabel found; look for limits that can hardly be kept together"
        )
    return found


def _over(problem: TransactionCostQp, found: TransactionCostSolution, places: Ints) -> Floats:
    """How far limits are exceeded, relative to themselves."""
    t = problem.tracking
    over: Floats = t.errors(found.weights, problem.covariance)[places] / t.limits[places] - 1.0
    return over


def _priced(problem: TransactionCostQp, prices: Floats) -> TransactionCostQp:
    return replace(problem, tracking=replace(problem.tracking, prices=prices))
