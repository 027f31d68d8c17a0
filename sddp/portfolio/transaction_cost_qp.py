"""The one-period problem on plain arrays: a concave quadratic with a kink at the current weights.

With ``t = w - current`` and ``cost(t) = sum_i purchase_cost_i max(t_i, 0) + sale_cost_i
max(-t_i, 0)``, all weights being fractions of the wealth before trading::

    max  mean'w + cash_return cash - cost(t) - (risk_aversion / 2) w' covariance w
    subject to  sum w + cash + cost(t) = 1       (self-financing)
            or  sum w + cash           = 1       (text-book: costs in the objective only)
                lower <= w <= upper,  cash_lower <= cash <= cash_upper

Nothing is smoothed. Purchases and sales are columns of their own, cash is eliminated through the
budget. PIQP's interior point method finds which bounds and kinks hold, and Newton's method on that
set (`sddp.portfolio.polish`) brings the answer to machine precision: what is not traded is not
traded by a bit. Every answer is checked against the optimality conditions before it is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import piqp

from sddp.arrays import Floats, Ints
from sddp.errors import ModelError, SolverError
from sddp.portfolio.polish import BoxQp, polish

# Weights that miss the optimality conditions by more than this share of wealth are not handed out.
KKT_TOLERANCE = 1e-8

# Tolerances of the interior point method, and whether the first active set takes its word for the
# row. It works on a problem of ordinary size (see `KinkedQp.scale`), so that an absolute tolerance
# means the same in all units. At 1e-10 it left the active set of a few random problems in a
# thousand in doubt, at 1e-12 of hardly any, for one iteration more. The other attempts are for
# hostile numbers, such as weights of 1e-8 beside a bound, and are made where one is not exact.
ATTEMPTS = ((1e-12, True), (1e-12, False), (1e-15, True))

# Room to trade, a distance to a bound, a trade or an error below this share of wealth is rounding.
NEGLIGIBLE = 1e-12


@dataclass(frozen=True, eq=False)
class KinkedQp:
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
        curvature = self.risk_aversion * float(self.covariance.diagonal().max())
        costs = float(max(self.purchase_cost.max(), self.sale_cost.max()))
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
        earned = float(self.mean @ weights) + self.cash_return * cash - self.cost(weights)
        return earned - 0.5 * self.risk_aversion * float(weights @ self.covariance @ weights)

    def money_price(self, budget_dual: float) -> float:
        """What a unit of cost takes from the objective: itself, and its place in the budget."""
        return 1.0 + budget_dual if self.self_financing else 1.0

    def slopes(self, weights: Floats, budget_dual: float) -> Floats:
        """Derivative of the objective less the price of the budget, without trading costs."""
        marginal_risk: Floats = self.covariance @ weights
        return self.mean - self.risk_aversion * marginal_risk - budget_dual


class KinkedSolution(NamedTuple):
    """Optimal weights, the cash beside them, and the dual of the budget.

    `kkt_residual` is the largest error in the optimality conditions, see `kkt_residual`.
    """

    weights: Floats
    cash: float
    budget_dual: float
    kkt_residual: float


class Columns(NamedTuple):
    """Moves from a base point inside the bounds; each asset has none, one or two.

    Purchases have `sign` 1 and sales -1; an asset without costs has one column for both.
    `base` has one weight per asset, the other arrays one entry per column.
    """

    base: Floats
    asset: Ints
    sign: Floats
    cost: Floats
    lower: Floats
    upper: Floats

    def weights(self, moves: Floats) -> Floats:
        """Weights that moves lead to."""
        weights = self.base.copy()
        np.add.at(weights, self.asset, self.sign * moves)
        return weights


def solve_kinked_qp(problem: KinkedQp) -> KinkedSolution:
    """Solve to `KKT_TOLERANCE` or say why not.

    Bounds are assumed to leave a feasible point.

    Raises
    ------
    ModelError
        In the self-financing form wealth is worth less than nothing: the problem is not concave.
    SolverError
        The optimality conditions are missed.
    """
    columns = _columns(problem)
    qp = _box_qp(problem, columns)
    best, status = KinkedSolution(columns.base, 0.0, 0.0, np.inf), ""
    for tolerance, trusts_row in ATTEMPTS:
        moves, row_dual, status = _interior_point(qp, tolerance)
        starts = [(moves, row_dual), *polish(qp, moves, row_dual if trusts_row else 0.0)]
        found = [_solution(problem, columns, *start) for start in starts]
        best = min(best, *found, key=lambda solution: solution.kkt_residual)
        if best.kkt_residual <= NEGLIGIBLE:
            break
    _refuse_money_burning(problem, best.budget_dual)
    if not best.kkt_residual <= KKT_TOLERANCE:
        raise SolverError(
            f"the mean-variance problem with risk_aversion = {problem.risk_aversion:g} misses its "
            f"optimality conditions by {best.kkt_residual:.1e} (PIQP: {status}); look for numbers "
            "of very different size in mean, covariance, costs and bounds"
        )
    return best


def kkt_residual(problem: KinkedQp, weights: Floats, cash: float, budget_dual: float) -> float:
    """Largest violation of the optimality conditions, as a share of wealth.

    With ``g`` the slopes divided by the problem's scale, optimal weights are those that a step
    along ``g``, followed by the proximal map of costs and bounds, leaves where they are. The
    distance moved, and the budget's error, are what is returned: 0 exactly at an optimum.
    """
    p, unit = problem, problem.scale
    price = p.money_price(budget_dual) / unit
    step = weights + p.slopes(weights, budget_dual) / unit - p.current
    bought = np.maximum(step - price * p.purchase_cost, 0.0)
    sold = np.maximum(-step - price * p.sale_cost, 0.0)
    nearest = np.clip(p.current + bought - sold, p.lower, p.upper)
    stepped_cash = cash + (p.cash_return - budget_dual) / unit
    errors = (
        float(np.abs(weights - nearest).max()),
        abs(cash - min(max(stepped_cash, p.cash_lower), p.cash_upper)),
        abs(p.cash(weights) - cash),
    )
    return max(errors)


def _columns(problem: KinkedQp) -> Columns:
    """Up from the base at the purchase cost, down at the sale cost.

    A current weight outside of its bounds has its base at the nearest one, from where it can only
    move further away from where it was.
    """
    p = problem
    base = np.clip(p.current, p.lower, p.upper)
    up, down = p.upper - base, base - p.lower
    costless = p.purchase_cost + p.sale_cost == 0.0
    both = np.flatnonzero(costless & (up + down > NEGLIGIBLE))
    buys = np.flatnonzero(~costless & (up > NEGLIGIBLE))
    sells = np.flatnonzero(~costless & (down > NEGLIGIBLE))
    return Columns(
        base=base,
        asset=np.concatenate([both, buys, sells]),
        sign=np.repeat([1.0, 1.0, -1.0], [len(both), len(buys), len(sells)]),
        cost=np.concatenate([np.zeros(len(both)), p.purchase_cost[buys], p.sale_cost[sells]]),
        lower=np.concatenate([-down[both], np.zeros(len(buys) + len(sells))]),
        upper=np.concatenate([up[both], up[buys], down[sells]]),
    )


def _box_qp(problem: KinkedQp, columns: Columns) -> BoxQp:
    """The problem in moves, to be minimised, on its own scale; cash is what the row leaves."""
    p, asset, sign = problem, columns.asset, columns.sign
    reference = p.reference_return
    slope = p.slopes(columns.base, reference)[asset] * sign
    price = p.money_price(reference)
    curvature = p.risk_aversion / p.scale * p.covariance[np.ix_(asset, asset)]
    cash = p.cash(columns.base)
    return BoxQp(
        hessian=curvature * np.outer(sign, sign),
        gradient=(price * columns.cost - slope) / p.scale,
        lower=columns.lower,
        upper=columns.upper,
        row=sign + columns.cost if p.self_financing else sign,
        row_lower=cash - p.cash_upper,
        row_upper=cash - p.cash_lower,
    )


def _interior_point(qp: BoxQp, tolerance: float) -> tuple[Floats, float, str]:
    """Moves, dual of the row, and PIQP's word on them."""
    if not len(qp.gradient):
        return np.zeros(0), 0.0, "nothing can be traded"
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_duality_gap_abs = tolerance
    solver.settings.eps_rel = solver.settings.eps_duality_gap_rel = 0.0
    row, bounds = qp.row[None], {"x_l": qp.lower, "x_u": qp.upper}
    hessian = np.asfortranarray(qp.hessian)
    if qp.row_lower == qp.row_upper:
        target = np.array([qp.row_upper])
        solver.setup(P=hessian, c=qp.gradient, A=np.asfortranarray(row), b=target, **bounds)
    else:
        limits = {"h_l": np.array([qp.row_lower]), "h_u": np.array([qp.row_upper])}
        solver.setup(P=hessian, c=qp.gradient, G=np.asfortranarray(row), **limits, **bounds)
    status = solver.solve()
    found = solver.result
    dual = found.y if qp.row_lower == qp.row_upper else found.z_u - found.z_l
    # Where it broke down, Newton's method begins from nothing; the conditions are checked anyway.
    return np.nan_to_num(found.x), float(np.nan_to_num(dual[0])), str(status.name)


def _solution(
    problem: KinkedQp, columns: Columns, moves: Floats, row_dual: float
) -> KinkedSolution:
    reached = columns.weights(moves)
    still = np.abs(reached - problem.current) <= NEGLIGIBLE
    inside = np.clip(np.where(still, problem.current, reached), problem.lower, problem.upper)
    cash = min(max(problem.cash(inside), problem.cash_lower), problem.cash_upper)
    budget_dual = problem.reference_return + problem.scale * row_dual
    residual = kkt_residual(problem, inside, cash, budget_dual)
    return KinkedSolution(inside, cash, budget_dual, residual)


def _refuse_money_burning(problem: KinkedQp, budget_dual: float) -> None:
    """Below a price of 0, selling and buying back would raise the objective by losing money."""
    price = problem.money_price(budget_dual)
    if price < 0.0 and (problem.purchase_cost + problem.sale_cost).any():
        raise ModelError(
            f"risk_aversion = {problem.risk_aversion:g}: one more unit of wealth would change the "
            f"objective by {price:g}, so that wasting money on costs would pay and the "
            "self-financing problem is not concave; allow cash, lower risk_aversion, or take the "
            "text-book form (self_financing=False)"
        )
