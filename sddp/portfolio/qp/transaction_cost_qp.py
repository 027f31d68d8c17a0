"""Solve the problem of `sddp.portfolio.qp.problem`, exactly.

From a solution nearby, if one is given, Newton's method mostly needs a step or two
(`sddp.portfolio.qp.newton` on the weights; with rows `sddp.portfolio.qp.polish` on the moves).
Otherwise purchases and sales are columns of their own, cash is eliminated through the budget,
PIQP's interior point method finds which bounds, rows and kinks hold, and Newton's method on that
set brings the answer to machine precision: what is not traded is not traded by a bit. Every answer
is checked against the optimality conditions before it is returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import piqp

from sddp.arrays import Floats, Ints
from sddp.errors import ModelError, SolverError
from sddp.portfolio.qp.newton import newton
from sddp.portfolio.qp.polish import RowQp, polish
from sddp.portfolio.qp.problem import (
    NEGLIGIBLE,
    Prices,
    TransactionCostQp,
    TransactionCostSolution,
    solution_at,
)

# Weights that miss the optimality conditions by more than this share of wealth are not handed out.
KKT_TOLERANCE = 1e-8

# Tolerances of the interior point method, and whether the first active set takes its word for the
# rows. It works on a problem of ordinary size (see `TransactionCostQp.scale`), so that an absolute
# tolerance means the same in all units. At 1e-10 it left the active set of a few random problems
# in a thousand in doubt, at 1e-12 of hardly any, for one iteration more. The other attempts are
# for hostile numbers, such as weights of 1e-8 beside a bound, where the first is not exact.
ATTEMPTS = ((1e-12, True), (1e-12, False), (1e-15, True))


class Columns(NamedTuple):
    """Moves from a base point inside the bounds; each asset has none, one or two.

    Purchases have `sign` 1 and sales -1; an asset without a kink has one column for both.
    `base` has one weight per asset, the others one entry per column. Behind the moves the program
    has one column for each finite side of a soft row, the breach: `slack_row` is its row and
    `slack_side` 1 for the upper side, -1 for the lower.
    """

    base: Floats
    asset: Ints
    sign: Floats
    cost: Floats
    lower: Floats
    upper: Floats
    slack_row: Ints
    slack_side: Floats

    def weights(self, z: Floats) -> Floats:
        """Weights that moves lead to."""
        weights = self.base.copy()
        np.add.at(weights, self.asset, self.sign * z[: len(self.asset)])
        return weights

    def moves(self, weights: Floats, breaches: Floats) -> Floats:
        """The columns at given weights and breaches of the rows."""
        trades = (weights - self.base)[self.asset] * self.sign
        moves = np.minimum(np.maximum(trades, self.lower), self.upper)
        if not len(self.slack_row):
            return moves
        return np.concatenate([moves, breaches[self.slack_row]])


def solve_transaction_cost_qp(
    problem: TransactionCostQp, near: TransactionCostSolution | None = None
) -> TransactionCostSolution:
    """Solve to `KKT_TOLERANCE` or say why not; benchmarks at their given prices.

    Bounds and rows are assumed to leave a feasible point. Benchmarks are soft, or hard with a
    price already found (`sddp.portfolio.tracking` finds it).

    Parameters
    ----------
    problem : TransactionCostQp
    near : TransactionCostSolution, optional
        Of a problem of the same form with other numbers; only the speed depends on it.

    Raises
    ------
    ModelError
        In the self-financing form wealth is worth less than nothing: the problem is not concave.
    SolverError
        The optimality conditions are missed.
    """
    if near is not None and not len(problem.rows):
        found = newton(problem, near)
        if found is not None and found.kkt_residual <= NEGLIGIBLE:
            _check_money_burning(problem, found.prices.budget)
            return found
    columns = columns_of(problem)
    qp = row_qp(problem, columns)
    nothing = Prices(0.0, np.zeros(len(problem.rows)), problem.tracking.prices)
    best = TransactionCostSolution(columns.base, 0.0, nothing, np.inf)
    status, iterations = "not asked", 0
    if near is not None:
        best = _best(problem, columns, polish(qp, *start_at(problem, columns, near)), best)
    if best.kkt_residual > NEGLIGIBLE:
        for tolerance, trusts_rows in ATTEMPTS:
            z, duals, status, made = _interior_point(qp, tolerance)
            iterations += made
            best = _best(problem, columns, iter([(z, duals)]), best)
            polished = polish(qp, z, duals if trusts_rows else np.zeros_like(duals))
            best = _best(problem, columns, polished, best)
            if best.kkt_residual <= NEGLIGIBLE:
                break
    _check_money_burning(problem, best.prices.budget)
    if not best.kkt_residual <= KKT_TOLERANCE:
        raise SolverError(
            f"the mean-variance problem with risk_aversion = {problem.risk_aversion:g} misses its "
            f"optimality conditions by {best.kkt_residual:.1e} (PIQP: {status}); look for numbers "
            "of very different size in mean, covariance, costs and bounds"
        )
    return best._replace(iterations=iterations) if iterations else best


def columns_of(problem: TransactionCostQp) -> Columns:
    """Up from the base at the purchase cost, down at the sale cost.

    A current weight outside of its bounds has its base at the nearest one, from where it can only
    move further away from where it was.
    """
    p, rows = problem, problem.rows
    base = np.minimum(np.maximum(p.current, p.lower), p.upper)
    up, down = p.upper - base, base - p.lower
    kink = p.has_kink
    both = (~kink & (up + down > NEGLIGIBLE)).nonzero()[0]
    buys = (kink & (up > NEGLIGIBLE)).nonzero()[0]
    sells = (kink & (down > NEGLIGIBLE)).nonzero()[0]
    asset = np.concatenate([both, buys, sells])
    sign, cost, lower = np.ones(len(asset)), np.zeros(len(asset)), np.zeros(len(asset))
    m, k = len(both), len(both) + len(buys)
    sign[k:] = -1.0
    cost[m:k], cost[k:] = p.purchase_cost[buys], p.sale_cost[sells]
    lower[:m] = -down[both]
    upper = up[asset]
    upper[k:] = down[sells]
    slack_row, slack_side = rows.slacks
    return Columns(base, asset, sign, cost, lower, upper, slack_row, slack_side)


def row_qp(problem: TransactionCostQp, columns: Columns) -> RowQp:
    """The problem in moves, to be minimised, on its own scale; cash is what the budget leaves.

    The first row is that of cash, the others are those of the problem divided by their sizes.
    """
    p, c, rows = problem, columns, problem.rows
    asset, sign, m = c.asset, c.sign, len(c.asset)
    reference, followed = p.reference_return, p.tracking.prices
    slope = p.slopes(c.base, Prices(reference, followed[:0], followed))[asset] * sign
    spent = sign + c.cost if p.self_financing else sign
    cash, paid = p.cash(c.base), p.money_price(reference)
    gradient = (paid * c.cost - slope) / p.scale
    aversion = p.risk_aversion + float(followed.sum()) if len(followed) else p.risk_aversion
    hessian = p.covariance[asset[:, None], asset]
    hessian *= aversion / p.scale * sign
    hessian *= sign[:, None]
    row, low, high = spent[None], cash - p.cash_upper, cash - p.cash_lower
    if not len(rows):
        sides = np.array([low]), np.array([high])
        return RowQp(hessian, gradient, c.lower, c.upper, row, *sides)
    moves_cash = -spent
    size = rows.sizes
    by_trade = np.where(sign > 0.0, rows.bought[:, asset], rows.sold[:, asset])
    matrix = rows.weights[:, asset] * sign + by_trade + np.outer(rows.cash, moves_cash)
    start = rows.levels(c.base, cash, p.current)
    # A move of an asset whose base is a bound starts with what is already traded.
    q = len(c.slack_row)
    breach = np.zeros((len(rows), q))
    breach[c.slack_row, np.arange(q)] = -c.slack_side
    grown = np.zeros((m + q, m + q))
    grown[:m, :m] = hessian
    return RowQp(
        hessian=grown,
        gradient=np.concatenate([gradient, (rows.penalty * size)[c.slack_row] / p.scale]),
        lower=np.concatenate([c.lower, np.zeros(q)]),
        upper=np.concatenate([c.upper, np.full(q, np.inf)]),
        rows=np.vstack(
            [np.append(row, np.zeros(q)), np.hstack([matrix / size[:, None], breach])],
        ),
        row_lower=np.append(low, (rows.lower - start) / size),
        row_upper=np.append(high, (rows.upper - start) / size),
    )


def _interior_point(qp: RowQp, tolerance: float) -> tuple[Floats, Floats, str, int]:
    """Columns, duals of the rows, PIQP's word on them, and its iterations."""
    if not len(qp.gradient):
        return np.zeros(0), np.zeros(len(qp.row_lower)), "nothing can be traded", 0
    solver = piqp.DenseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_duality_gap_abs = tolerance
    settings.eps_rel = settings.eps_duality_gap_rel = 0.0
    equal = qp.row_lower == qp.row_upper
    given = {"P": np.asfortranarray(qp.hessian), "c": qp.gradient, "x_l": qp.lower, "x_u": qp.upper}
    if equal.any():
        given |= {"A": np.asfortranarray(qp.rows[equal]), "b": qp.row_upper[equal]}
    if not equal.all():
        given |= {"G": np.asfortranarray(qp.rows[~equal])}
        given |= {"h_l": qp.row_lower[~equal], "h_u": qp.row_upper[~equal]}
    solver.setup(**given)
    status = solver.solve()
    found = solver.result
    duals = np.zeros(len(equal))
    duals[equal] = found.y
    duals[~equal] = found.z_u - found.z_l
    z, iterations = np.array(found.x), int(found.info.iter)
    if not (np.isfinite(z).all() and np.isfinite(duals).all()):
        # It broke down: Newton's method begins from nothing, and the conditions are checked.
        z, duals = np.nan_to_num(z), np.nan_to_num(duals)
    return z, duals, str(status.name), iterations


def _best(
    problem: TransactionCostQp,
    columns: Columns,
    candidates: Iterable[tuple[Floats, Floats]],
    best: TransactionCostSolution,
) -> TransactionCostSolution:
    """The candidate that misses the conditions least; the first that is exact ends the search."""
    for z, duals in candidates:
        solution = _solution_at(problem, columns, z, duals)
        if solution.kkt_residual < best.kkt_residual:
            best = solution
        if best.kkt_residual <= NEGLIGIBLE:
            break
    return best


def _solution_at(
    problem: TransactionCostQp, columns: Columns, z: Floats, duals: Floats
) -> TransactionCostSolution:
    p = problem
    budget, row_duals = p.reference_return + p.scale * float(duals[0]), duals[1:]
    if len(row_duals):
        row_duals = row_duals * p.scale / p.rows.sizes
        budget -= float(row_duals @ p.rows.cash)
    return solution_at(p, columns.weights(z), Prices(budget, row_duals, p.tracking.prices))


def start_at(
    problem: TransactionCostQp, columns: Columns, near: TransactionCostSolution
) -> tuple[Floats, Floats]:
    """Columns and duals of the rows at a solution of another problem of the same form."""
    p, rows, prices = problem, problem.rows, near.prices
    if not len(rows):
        first = (prices.budget - p.reference_return) / p.scale
        return columns.moves(near.weights, prices.rows), np.array([first])
    breaches = np.zeros(len(rows))
    if len(columns.slack_row):
        breaches = rows.breaches(rows.levels(near.weights, near.cash, p.current)) / rows.sizes
    first = prices.budget - p.reference_return + float(prices.rows @ rows.cash)
    duals = np.append(first, prices.rows * rows.sizes) / p.scale
    return columns.moves(near.weights, breaches), duals


def _check_money_burning(problem: TransactionCostQp, budget_dual: float) -> None:
    """Below a price of 0, selling and buying back would raise the objective by losing money."""
    price = problem.money_price(budget_dual)
    if price < 0.0 and (problem.purchase_cost + problem.sale_cost).any():
        raise ModelError(
            f"risk_aversion = {problem.risk_aversion:g}: one more unit of wealth would change the "
            f"objective by {price:g}, so that wasting money on costs would pay and the "
            "self-financing problem is not concave; allow cash, lower risk_aversion, or take the "
            "text-book form (self_financing=False)"
        )
