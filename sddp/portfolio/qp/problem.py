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
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.portfolio.qp.rows import Rows, Tracking

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

    @cached_property
    def has_kink(self) -> NDArray[np.bool_]:
        """Which assets have costs, or trades in a row."""
        kink: NDArray[np.bool_] = (self.purchase_cost + self.sale_cost != 0.0) | self.rows.on_trades
        return kink

    def cost(self, weights: Floats) -> float:
        """Cost of trading from the current weights to others, as a fraction of wealth."""
        trades = weights - self.current
        if self.purchase_cost is self.sale_cost:
            return float(self.purchase_cost @ np.abs(trades))
        bought = np.maximum(trades, 0.0)
        return float(self.purchase_cost @ bought + self.sale_cost @ (bought - trades))

    def cash(self, weights: Floats) -> float:
        """Cash that the budget leaves beside given weights."""
        paid = self.cost(weights) if self.self_financing else 0.0
        return 1.0 - float(weights.sum()) - paid

    def objective(self, weights: Floats, cash: float) -> float:
        """Value of the objective."""
        earned = float(self.mean @ weights) + self.cash_return * cash
        earned -= self.cost_weight * self.cost(weights)
        if len(self.rows) and self.rows.soft.any():
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
        buying = price * self.purchase_cost
        selling = buying if self.purchase_cost is self.sale_cost else price * self.sale_cost
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


def kkt_residual(
    problem: TransactionCostQp,
    weights: Floats,
    cash: float,
    prices: Prices,
    left: float | None = None,
) -> float:
    """Largest violation of the optimality conditions, as a share of wealth.

    With ``g`` the slopes divided by the problem's scale, optimal weights are those that a step
    along ``g``, followed by the proximal map of costs and bounds, leaves where they are. The
    distance moved, the same distance of cash and of each row, and the budget's error, are what is
    compared; the largest is returned: 0 exactly at an optimum. Whether hard benchmarks are kept is
    not looked at: `Tracking.misses` does. `left` is the cash that the budget leaves, if known.
    """
    p, unit = problem, problem.scale
    buying, selling = p.trading_prices(prices)
    step = weights + p.slopes(weights, prices) / unit - p.current
    bought = np.maximum(step - buying / unit, 0.0)
    sold = np.minimum(step + selling / unit, 0.0)
    nearest = np.minimum(np.maximum(p.current + bought + sold, p.lower), p.upper)
    stepped_cash = cash + p.cash_slope(prices) / unit
    errors = [
        float(np.abs(weights - nearest).max()),
        abs(cash - min(max(stepped_cash, p.cash_lower), p.cash_upper)),
        abs((p.cash(weights) if left is None else left) - cash),
    ]
    if len(p.rows):
        levels = p.rows.levels(weights, cash, p.current)
        errors.append(float(p.rows.misses(levels, prices.rows, unit).max()))
    # A comparison with NaN is false: such an answer would pass for the best.
    return max(errors) if math.isfinite(sum(errors)) else math.inf


def solution_at(
    problem: TransactionCostQp, weights: Floats, prices: Prices
) -> TransactionCostSolution:
    """The solution at weights and prices, without what rounding trades or leaves outside bounds."""
    p = problem
    still = np.abs(weights - p.current) <= NEGLIGIBLE
    inside = np.minimum(np.maximum(np.where(still, p.current, weights), p.lower), p.upper)
    left = p.cash(inside)
    cash = min(max(left, p.cash_lower), p.cash_upper)
    return TransactionCostSolution(
        inside, cash, prices, kkt_residual(p, inside, cash, prices, left)
    )
