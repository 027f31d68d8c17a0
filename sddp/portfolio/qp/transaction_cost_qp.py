"""The one-period problem on plain arrays: a concave quadratic with a kink at the current weights.

With ``t = w - current`` and ``cost(t) = sum_i purchase_cost_i max(t_i, 0) + sale_cost_i
max(-t_i, 0)``, all weights being fractions of the wealth before trading::

    max  mean'w + cash_return cash - cost_weight cost(t) - (risk_aversion / 2) w' covariance w
         - charge
    subject to  sum w + cash + cost(t) = 1       (self-financing)
            or  sum w + cash           = 1       (text-book: costs in the objective only)
                lower <= w <= upper,  cash_lower <= cash <= cash_upper
                further rows in w, cash, purchases and sales (`sddp.portfolio.qp.rows`)
                sqrt((w - b)' covariance (w - b)) <= limit for some benchmarks b

where `charge` is what breaches of soft rows, and soft benchmarks, cost. Nothing is smoothed.
Purchases and sales are columns of their own, cash is eliminated through the budget. From the active
set of a solution nearby, if one is given, Newton's method (`sddp.portfolio.qp.polish`) mostly needs
a step or two; otherwise PIQP's interior point method finds which bounds, rows and kinks hold, and
Newton's method on that set brings the answer to machine precision: what is not traded is not
traded by a bit. Every answer is checked against the optimality conditions before it is returned.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import piqp

from sddp.arrays import Floats, Ints
from sddp.errors import ModelError, SolverError
from sddp.portfolio.qp.polish import RowQp, polish
from sddp.portfolio.qp.rows import Rows, Tracking

# Weights that miss the optimality conditions by more than this share of wealth are not handed out.
KKT_TOLERANCE = 1e-8

# Tolerances of the interior point method, and whether the first active set takes its word for the
# rows. It works on a problem of ordinary size (see `TransactionCostQp.scale`), so that an absolute
# tolerance means the same in all units. At 1e-10 it left the active set of a few random problems
# in a thousand in doubt, at 1e-12 of hardly any, for one iteration more. The other attempts are
# for hostile numbers, such as weights of 1e-8 beside a bound, where the first is not exact.
ATTEMPTS = ((1e-12, True), (1e-12, False), (1e-15, True))

# Room to trade, a distance to a bound, a trade or an error below this share of wealth is rounding.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class TransactionCostQp:
    """Numbers of the problem at the top of this module, not checked again.

    Attributes
    ----------
    mean : array, shape (n,)
        Expected simple return per period of the risky assets.
    covariance : array, shape (n, n)
        Symmetric and positive semidefinite.
    risk_aversion : float
        At least 0.
    current : array, shape (n,)
        Weights before trading; the rest of 1 is cash.
    purchase_cost, sale_cost : array, shape (n,)
        Per unit of money traded, in [0, 1).
    lower, upper : array, shape (n,)
    cash_return, cash_lower, cash_upper : float
        No cash at all where both bounds are 0.
    self_financing : bool
    rows : Rows
    tracking : Tracking
    cost_weight : float
        1 where the objective is a return; at least 0.
    """

    mean: Floats
    covariance: Floats
    risk_aversion: float
    current: Floats
    purchase_cost: Floats
    sale_cost: Floats
    lower: Floats
    upper: Floats
    cash_return: float
    cash_lower: float
    cash_upper: float
    self_financing: bool
    rows: Rows
    tracking: Tracking
    cost_weight: float = 1.0

    @cached_property
    def reference_return(self) -> float:
        """Return that others are measured against: of cash, or the middle where there is none."""
        if self.cash_upper > self.cash_lower:
            return self.cash_return
        return float(self.mean.min() + self.mean.max()) / 2.0

    @cached_property
    def scale(self) -> float:
        """Size of the objective's slopes: dividing by it makes answers independent of units."""
        spread = float(np.abs(self.mean - self.reference_return).max())
        aversion = self.risk_aversion + float(self.tracking.prices.sum())
        curvature = aversion * float(self.covariance.diagonal().max())
        costs = self.cost_weight * float(max(self.purchase_cost.max(), self.sale_cost.max()))
        return max(spread, curvature) or costs or 1.0

    def cost(self, weights: Floats) -> float:
        """Cost of trading from the current weights to others, as a fraction of wealth."""
        trades = weights - self.current
        bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
        return float(self.purchase_cost @ bought + self.sale_cost @ sold)

    def cash(self, weights: Floats) -> float:
        """Cash that the budget leaves beside given weights."""
        paid = self.cost(weights) if self.self_financing else 0.0
        return 1.0 - float(weights.sum()) - paid

    def objective(self, weights: Floats, cash: float) -> float:
        """Value of the objective."""
        earned = float(self.mean @ weights) + self.cash_return * cash
        earned -= self.cost_weight * self.cost(weights)
        if self.rows.soft.any():
            earned -= self.rows.charge(self.rows.levels(weights, cash, self.current))
        if len(self.tracking):
            earned -= self.tracking.charge(weights, self.covariance)
        return earned - 0.5 * self.risk_aversion * float(weights @ self.covariance @ weights)

    def money_price(self, budget_dual: float) -> float:
        """What a unit of cost takes from the objective: itself, and its place in the budget."""
        return self.cost_weight + budget_dual if self.self_financing else self.cost_weight

    def slopes(self, weights: Floats, prices: Prices) -> Floats:
        """Derivative of the objective less the prices of budget, rows and tracking; no trading."""
        marginal_risk: Floats = self.covariance @ weights
        slopes = self.mean - self.risk_aversion * marginal_risk - prices.budget
        if len(prices.rows):
            slopes -= prices.rows @ self.rows.weights
        if len(prices.tracking):
            off = prices.tracking @ (weights - self.tracking.benchmarks)
            slopes -= self.covariance @ off
        return slopes

    def cash_slope(self, prices: Prices) -> float:
        """The same of cash."""
        return self.cash_return - prices.budget - float(prices.rows @ self.rows.cash)

    def trading_prices(self, prices: Prices) -> tuple[Floats, Floats]:
        """What a unit bought, and a unit sold, takes from the objective: by costs and by rows."""
        price = self.money_price(prices.budget)
        buying, selling = price * self.purchase_cost, price * self.sale_cost
        if len(prices.rows):
            buying = buying + prices.rows @ self.rows.bought
            selling = selling + prices.rows @ self.rows.sold
        return buying, selling


class Prices(NamedTuple):
    """Multipliers: by how much the objective rises if something is relaxed by one unit.

    Attributes
    ----------
    budget : float
        Per unit of wealth.
    rows : array, shape (k,)
        Per unit by which a row's upper side is raised; negative: by which its lower is lowered.
    tracking : array, shape (q,)
        Per unit of half the tracking variance.
    """

    budget: float
    rows: Floats
    tracking: Floats

    def times(self, factor: float) -> Prices:
        """Of an objective that many times as large."""
        return Prices(factor * self.budget, factor * self.rows, factor * self.tracking)


class TransactionCostSolution(NamedTuple):
    """Optimal weights, the cash beside them, multipliers, and the error in the conditions.

    `kkt_residual` is the largest error in the optimality conditions, see the function.
    `iterations` are those of the interior-point method; 0 where none was needed or they are not
    known.
    """

    weights: Floats
    cash: float
    prices: Prices
    kkt_residual: float
    iterations: int = 0


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
        return np.concatenate([np.clip(trades, self.lower, self.upper), breaches[self.slack_row]])


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


def kkt_residual(problem: TransactionCostQp, weights: Floats, cash: float, prices: Prices) -> float:
    """Largest violation of the optimality conditions, as a share of wealth.

    With ``g`` the slopes divided by the problem's scale, optimal weights are those that a step
    along ``g``, followed by the proximal map of costs and bounds, leaves where they are. The
    distance moved, the same distance of cash and of each row, and the budget's error, are what is
    compared; the largest is returned: 0 exactly at an optimum. Whether hard benchmarks are kept is
    not looked at: `Tracking.misses` does.
    """
    p, unit = problem, problem.scale
    buying, selling = p.trading_prices(prices)
    step = weights + p.slopes(weights, prices) / unit - p.current
    bought = np.maximum(step - buying / unit, 0.0)
    sold = np.maximum(-step - selling / unit, 0.0)
    nearest = np.minimum(np.maximum(p.current + bought - sold, p.lower), p.upper)
    stepped_cash = cash + p.cash_slope(prices) / unit
    errors = [
        float(np.abs(weights - nearest).max()),
        abs(cash - min(max(stepped_cash, p.cash_lower), p.cash_upper)),
        abs(p.cash(weights) - cash),
    ]
    if len(p.rows):
        levels = p.rows.levels(weights, cash, p.current)
        errors.append(float(p.rows.misses(levels, prices.rows, unit).max()))
    # A comparison with NaN is false: such an answer would pass for the best.
    return max(errors) if np.isfinite(errors).all() else np.inf


def columns_of(problem: TransactionCostQp) -> Columns:
    """Up from the base at the purchase cost, down at the sale cost.

    A current weight outside of its bounds has its base at the nearest one, from where it can only
    move further away from where it was.
    """
    p, rows = problem, problem.rows
    base = np.minimum(np.maximum(p.current, p.lower), p.upper)
    up, down = p.upper - base, base - p.lower
    kink = (p.purchase_cost + p.sale_cost != 0.0) | rows.on_trades
    both = np.flatnonzero(~kink & (up + down > NEGLIGIBLE))
    buys = np.flatnonzero(kink & (up > NEGLIGIBLE))
    sells = np.flatnonzero(kink & (down > NEGLIGIBLE))
    slack = np.isfinite(np.array([rows.upper, rows.lower])) & rows.soft
    side, slack_row = np.nonzero(slack)
    return Columns(
        base=base,
        asset=np.concatenate([both, buys, sells]),
        sign=np.repeat([1.0, 1.0, -1.0], [len(both), len(buys), len(sells)]),
        cost=np.concatenate([np.zeros(len(both)), p.purchase_cost[buys], p.sale_cost[sells]]),
        lower=np.concatenate([-down[both], np.zeros(len(buys) + len(sells))]),
        upper=np.concatenate([up[both], up[buys], down[sells]]),
        slack_row=slack_row,
        slack_side=np.where(side == 0, 1.0, -1.0),
    )


def row_qp(problem: TransactionCostQp, columns: Columns) -> RowQp:
    """The problem in moves, to be minimised, on its own scale; cash is what the budget leaves.

    The first row is that of cash, the others are those of the problem divided by their sizes.
    """
    p, c, rows = problem, columns, problem.rows
    asset, sign, m = c.asset, c.sign, len(c.asset)
    reference, followed = p.reference_return, p.tracking.prices
    slope = p.slopes(c.base, Prices(reference, np.zeros(0), followed))[asset] * sign
    moves_cash = -(sign + c.cost if p.self_financing else sign)
    cash, paid = p.cash(c.base), p.money_price(reference)
    gradient = (paid * c.cost - slope) / p.scale
    hessian = p.covariance[asset[:, None], asset]
    hessian *= (p.risk_aversion + followed.sum()) / p.scale * sign
    hessian *= sign[:, None]
    row, low, high = -moves_cash[None], cash - p.cash_upper, cash - p.cash_lower
    if not len(rows):
        sides = np.array([low]), np.array([high])
        return RowQp(hessian, gradient, c.lower, c.upper, row, *sides)
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
    # Where it broke down, Newton's method begins from nothing; the conditions are checked anyway.
    iterations = int(found.info.iter)
    return np.nan_to_num(found.x), np.nan_to_num(duals), str(status.name), iterations


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
    p, reached = problem, columns.weights(z)
    still = np.abs(reached - p.current) <= NEGLIGIBLE
    inside = np.minimum(np.maximum(np.where(still, p.current, reached), p.lower), p.upper)
    cash = min(max(p.cash(inside), p.cash_lower), p.cash_upper)
    row_duals = duals[1:] * p.scale / p.rows.sizes if len(duals) > 1 else np.zeros(0)
    budget = p.reference_return + p.scale * float(duals[0]) - float(row_duals @ p.rows.cash)
    prices = Prices(budget, row_duals, p.tracking.prices)
    return TransactionCostSolution(inside, cash, prices, kkt_residual(p, inside, cash, prices))


def start_at(
    problem: TransactionCostQp, columns: Columns, near: TransactionCostSolution
) -> tuple[Floats, Floats]:
    """Columns and duals of the rows at a solution of another problem of the same form."""
    p, rows, prices = problem, problem.rows, near.prices
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
