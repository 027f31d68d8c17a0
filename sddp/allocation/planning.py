"""Model-predictive control: trades planned on conditional means by one linear program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sddp.allocation.model import Terms
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.arrays import Floats
from sddp.errors import InfeasibleState, SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status

# Unit of wealth in the LP, as in the engine's homogeneous problems: tolerances are 1e-12 of it.
UNIT = 2.0**-10
LIMIT_TOLERANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Plan:
    """What is planned for one period.

    Attributes
    ----------
    growth : array, shape (1 + n_assets,)
        Expected gross return until the next period, cash first.
    ahead : OnePeriodDistribution or None
        Outcomes that the CVaR limit is on; None where the period is not limited.
    """

    growth: Floats
    ahead: OnePeriodDistribution | None


def planned_holdings(
    before: Floats, plans: Sequence[Plan], terms: Terms, *, confidence: float, limit: float | None
) -> Floats:
    """Return the holdings after the first of the trades that maximize expected final wealth.

    Expected wealth grows by the conditional means of each period; every planned trade pays its
    cost, and no later one depends on what happens meanwhile. With one period whose growth is
    one plus the sum of expected excess returns to a horizon, this is the portfolio that is held to
    the horizon. The CVaR of each limited period is measured on that period's own outcomes, as a
    fraction of the wealth that is expected at its start; its rows are added as they are broken.

    Parameters
    ----------
    before : array, shape (1 + n_assets,)
        Money before trading, cash first.
    plans : sequence of Plan
        One for each period, the present one first.
    terms : Terms
        Costs and weight limits.
    confidence : float
        0.9 means the worst 10 %.
    limit : float or None
        Largest CVaR of the loss, cost of the trade included.

    Raises
    ------
    InfeasibleState
        No trades keep the limits.
    SolverError
        The program was not solved.
    """
    program = _Program(before / before.sum(), len(plans), terms, [p.growth for p in plans])
    while True:
        status = program.lp.solve()
        if status is Status.INFEASIBLE:
            raise InfeasibleState(f"no planned trades keep cvar_limit = {limit}")
        if status is not Status.OPTIMAL:
            file = program.lp.write("sddp")
            raise SolverError(f"planned trades: {program.lp.status_text()}; written to {file}")
        found = program.lp.primal()
        broken = 0
        for h, plan in enumerate(plans):
            if limit is not None and plan.ahead is not None:
                broken += program.cut_off(found, h, plan.ahead, confidence, limit)
        if not broken:
            held: Floats = np.maximum(found[program.held(0)], 0.0) * before.sum()
            return held


class _Program:
    """Columns of a period: holdings after trading (cash first), purchases, sales; wealth is 1."""

    def __init__(
        self, before: Floats, n_periods: int, terms: Terms, growth: Sequence[Floats]
    ) -> None:
        self.terms, self.n, self.before = terms, len(before) - 1, before
        self.growth = growth
        self.width = 3 * self.n + 1
        self.n_columns = n_periods * self.width
        rows: list[sp.csr_array] = []
        lower: list[Floats] = []
        upper: list[Floats] = []
        for h in range(n_periods):
            matrix, sides = self._balances(h)
            rows.append(matrix)
            lower.append(sides)
            upper.append(sides)
            if terms.weight_limit is not None:
                limits, bound = self._weight_limits(h)
                rows.append(limits)
                lower.append(np.full(len(bound), -np.inf))
                upper.append(bound)
        costs = np.zeros(self.n_columns)
        costs[self.held(n_periods - 1)] = -growth[-1]
        ceiling = np.full(self.n_columns, np.inf)
        ceiling[2 * self.n + 1 : self.width] = before[1:]  # no short sale
        arrays = Arrays(
            costs,
            sp.csr_array(sp.vstack(rows)),
            np.concatenate(lower),
            np.concatenate(upper),
            np.zeros(self.n_columns),
            ceiling,
        )
        self.lp = LinearProgram(arrays, Scaling.uniform(arrays, UNIT))

    def held(self, period: int) -> slice:
        """Columns of the holdings after the trade of a period."""
        return slice(period * self.width, period * self.width + self.n + 1)

    def _place(self, period: int, block: Floats) -> Floats:
        """Coefficients of one period's columns in rows over all columns."""
        rows = np.zeros((len(block), self.n_columns))
        rows[:, period * self.width : (period + 1) * self.width] = block
        return rows

    def _wealth(self, period: int, share: Floats) -> tuple[Floats, Floats]:
        """Rows and constants of shares of the wealth expected before the trade of a period."""
        rows = np.zeros((len(share), self.n_columns))
        if period == 0:
            return rows, share * self.before.sum()
        rows[:, self.held(period - 1)] = np.outer(share, self.growth[period - 1])
        return rows, np.zeros(len(share))

    def _balances(self, period: int) -> tuple[sp.csr_array, Floats]:
        """``holdings - purchases + sales = what arrived``, and cash pays."""
        n, terms = self.n, self.terms
        block = np.zeros((n + 1, self.width))
        block[:, : n + 1] = np.eye(n + 1)
        block[0, n + 1 : 2 * n + 1] = 1.0 + terms.purchase_cost
        block[0, 2 * n + 1 :] = -(1.0 - terms.sale_cost)
        block[1:, n + 1 : 2 * n + 1] = -np.eye(n)
        block[1:, 2 * n + 1 :] = np.eye(n)
        rows = self._place(period, block)
        if period == 0:
            return sp.csr_array(rows), self.before
        rows[:, self.held(period - 1)] = -np.diag(self.growth[period - 1])
        return sp.csr_array(rows), np.zeros(n + 1)

    def _weight_limits(self, period: int) -> tuple[sp.csr_array, Floats]:
        """``holding - share * wealth <= 0`` for the assets that have a limit."""
        assert self.terms.weight_limit is not None
        limited = np.flatnonzero(np.isfinite(self.terms.weight_limit))
        block = np.zeros((len(limited), self.width))
        block[np.arange(len(limited)), 1 + limited] = 1.0
        wealth, constant = self._wealth(period, self.terms.weight_limit[limited])
        return sp.csr_array(self._place(period, block) - wealth), constant

    def cut_off(
        self,
        found: Floats,
        period: int,
        ahead: OnePeriodDistribution,
        confidence: float,
        limit: float,
    ) -> bool:
        """Add the violated tail constraint; False if the solution meets the limit."""
        n, terms, own = self.n, self.terms, found[period * self.width :]
        losses = ahead.losses(float(own[0]), own[1 : n + 1])
        tail = ahead.tail(losses, confidence)
        block = np.concatenate(
            [
                [-ahead.cash_return],
                -ahead.mean_return_under(tail),
                terms.purchase_cost,
                terms.sale_cost,
            ]
        )[None]
        wealth, constant = self._wealth(period, np.full(1, limit))
        row = self._place(period, block) - wealth
        if float((row @ found)[0]) <= constant[0] + LIMIT_TOLERANCE:
            return False
        self.lp.add_rows(row, np.full(1, -np.inf), constant)
        return True
