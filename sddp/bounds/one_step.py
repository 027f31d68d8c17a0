"""One decision with costs under the exact law given the factor: rules that multi-stage must beat.

The future is worth 1 per unit of wealth (one-step), or what the dynamic program without costs
makes of it. Both see costs in the present trade and in the present limit.
"""

from __future__ import annotations

from collections import deque

import numpy as np
import scipy.sparse as sp

from sddp.allocation.model import Terms
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.allocation.planning import Plan, planned_holdings
from sddp.arrays import Floats
from sddp.bounds.frictionless import FrictionlessPolicy, conditional_law, expected_growth
from sddp.errors import SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status
from sddp.portfolio.optimizers.cvar_limit import LIMIT_TOLERANCE, UNIT, ReturnLaw
from sddp.statistics import ReturnAutoregression, Shocks

# Tails found lately, of which most solutions need one or two.
REMEMBERED = 8

Rewards = tuple[Floats, Floats]


def myopic_rewards(process: ReturnAutoregression, factors: Floats) -> Rewards:
    """Expected wealth after one period per unit of money in cash and in each asset."""
    return np.ones(len(factors)), 1.0 + process.expected_returns(factors[:, None])


def cost_free_rewards(
    program: FrictionlessPolicy, expectation: Shocks, stage: int, factors: Floats
) -> Rewards:
    """Expected terminal wealth of the same money if all later trading were free."""
    later = program.growth[stage + 1]
    return expected_growth(program.process, expectation, factors, program.grid, later)


def held_rewards(process: ReturnAutoregression, factors: Floats, n_left: int) -> Rewards:
    """What money is worth that is held for the periods left: 1 plus its summed excess returns.

    Conditional means given the factor today, not compounded.
    """
    total: Floats = 1.0 + expected_ahead(process, factors, n_left).sum(axis=0)
    return np.ones(len(factors)), total


def expected_ahead(process: ReturnAutoregression, factors: Floats, n_periods: int) -> Floats:
    """Expected excess returns of each coming period, given the factor today.

    Of the period h they are those of ``E[exp(a + b z + e)]`` with z the factor of h - 1 periods
    later, normal around its own mean.

    Returns
    -------
    array, shape (n_periods, n, n_assets)
    """
    means = np.empty((n_periods, len(factors), process.n_assets))
    expected, variance = np.asarray(factors, dtype=float)[:, None], np.zeros((1, 1))
    transition = process.factor_transition
    noise = process.covariance[process.n_assets :, process.n_assets :]
    loadings = process.return_loadings
    for h in range(n_periods):
        spread = np.einsum("nf,fg,ng->n", loadings, variance, loadings)
        gross = 1.0 + process.cash_return + process.expected_returns(expected)
        means[h] = gross * np.exp(spread / 2.0) - 1.0 - process.cash_return
        expected = process.expected_factors(expected)
        variance = transition @ variance @ transition.T + noise
    return means


def planned(
    before: Floats, factors: Floats, program: FrictionlessPolicy, cost: float, n_left: int
) -> Floats:
    """Holdings after the first of trades planned on conditional means, path by path.

    Model-predictive control: every planned trade pays its cost, the limit of the program is on the
    first period. Parameters and result as in `best_holdings`.
    """
    process, shocks = program.process, program.shocks
    assert shocks.probabilities is not None
    n = process.n_assets
    costs: Floats = np.full(n, cost)
    terms = Terms(costs, costs, np.zeros(n_left), None)
    means = expected_ahead(process, factors, n_left)
    growth = np.concatenate([np.ones((n_left, len(factors), 1)), 1.0 + means], axis=2)
    after = np.empty_like(before)
    for p, factor in enumerate(factors):
        returns, _ = process.outcomes(np.array([factor]), shocks)
        ahead = OnePeriodDistribution(returns, shocks.probabilities, 0.0)
        plans = [Plan(growth[h, p], ahead if h == 0 else None) for h in range(n_left)]
        after[p] = planned_holdings(
            before[p], plans, terms, confidence=program.cvar_confidence, limit=program.cvar_limit
        )
    return after


def best_holdings(
    before: Floats,
    factors: Floats,
    rewards: Rewards,
    program: FrictionlessPolicy,
    cost: float,
) -> Floats:
    """Holdings after trading of largest reward under the limit of a program, path by path.

    Parameters
    ----------
    before : array, shape (n, 1 + n_assets)
        Money, cash first.
    factors : array, shape (n,)
    rewards : (n,) array of cash and (n, n_assets) array of assets
    program : FrictionlessPolicy
        Whose law of returns and limit hold.
    cost : float

    Returns
    -------
    array, shape (n, 1 + n_assets)
    """
    process, shocks = program.process, program.shocks
    tails: deque[Floats] = deque(maxlen=REMEMBERED)
    after = np.empty_like(before)
    for p in np.argsort(factors, kind="stable"):  # tails of one factor are nearly those of the next
        law = conditional_law(process, shocks, float(factors[p]), program.cvar_confidence)
        trade = _Trade(before[p], law, program.cvar_limit, cost)
        after[p] = trade.best(float(rewards[0][p]), rewards[1][p], tails)
    return after


class _Trade:
    """Purchases and sales of one decision as columns; wealth 1 inside.

    A tail is kept as the mean growth ``g`` of the assets over it, without the scale of the factor
    at which it was found: its row holds at any other factor too.
    """

    def __init__(self, before: Floats, law: ReturnLaw, limit: float, cost: float) -> None:
        self.wealth = float(before.sum())
        self.before = before / self.wealth
        self.law, self.limit, self.cost = law, limit, cost

    def best(self, cash: float, assets: Floats, tails: deque[Floats]) -> Floats:
        """Holdings after trading, in money."""
        n, cost = len(assets), self.cost
        gains = np.concatenate([assets - cash * (1.0 + cost), cash * (1.0 - cost) - assets])
        budget = np.concatenate([np.full(n, 1.0 + cost), np.full(n, cost - 1.0)])
        rows, sides = [budget], [self.before[0]]
        for growth in tails:
            row, side = self._row(self.law.scale * growth - self.law.cash_growth)
            rows.append(row)
            sides.append(side)
        upper = np.concatenate([np.full(n, np.inf), self.before[1:]])
        free = np.full(len(rows), -np.inf)
        matrix = sp.csr_array(np.array(rows))
        arrays = Arrays(-gains, matrix, free, np.array(sides), np.zeros(2 * n), upper)
        return self.wealth * self._solved(
            LinearProgram(arrays, Scaling.uniform(arrays, UNIT)), tails
        )

    def _solved(self, lp: LinearProgram, tails: deque[Floats]) -> Floats:
        """Solve, adding the tails that solutions break."""
        last = np.full(lp.n_columns, np.nan)
        while True:
            if lp.solve() is not Status.OPTIMAL:
                raise SolverError(f"one step: {lp.status_text()}; written to {lp.write('sddp')}")
            trades = np.maximum(lp.primal(), 0.0)
            after = self._after(trades)
            mean = self.law.tail_mean(after[1:])
            row, side = self._row(mean)
            if float(row @ trades) <= side + LIMIT_TOLERANCE:
                return after
            if np.array_equal(row, last):
                raise SolverError(f"one step: a row is broken; written to {lp.write('sddp')}")
            lp.add_rows(row[None, :], np.full(1, -np.inf), np.full(1, side))
            tails.append((mean + self.law.cash_growth) / self.law.scale)
            last = row

    def _row(self, mean: Floats) -> tuple[Floats, float]:
        """``loss over a tail + costs <= limit`` as a row of purchases and sales."""
        row = np.concatenate([self.cost - mean, self.cost + mean])
        return row, self.limit + float(mean @ self.before[1:])

    def _after(self, trades: Floats) -> Floats:
        n = len(self.before) - 1
        assets = np.maximum(self.before[1:] + trades[:n] - trades[n:], 0.0)
        paid = self.cost * float(np.abs(assets - self.before[1:]).sum())
        cash = max(1.0 - paid - float(assets.sum()), 0.0)
        return np.concatenate([[cash], assets])
