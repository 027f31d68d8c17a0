"""Portfolios whose risk is the CVaR over outcomes: least, limited, or in a ratio with return.

The linear program of Rockafellar and Uryasev (2000) has a row and a column for each outcome; at its
optimum only those of the tail count. It starts with the tail of the current weights and adds the
tail of each solution, until a solution's tail is known: then its CVaR is its own, and it is the
optimum of the whole program. Losses are of the period, fractional in the tail, costs of trading
included.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.errors import InfeasibleProblem, ModelError, NothingBeatsCash, SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status
from sddp.portfolio.inputs import Law
from sddp.portfolio.optimizer import NOTHING_MORE, Known, Optimizer, Terms
from sddp.portfolio.optimizers.cvar_limit import LIMIT_TOLERANCE, UNIT, check_limit
from sddp.portfolio.qp.problem import NEGLIGIBLE, Prices, TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.rows import Rows
from sddp.portfolio.result import Solved, losses_of
from sddp.risk import tail_probabilities

# Ratio steps (Dinkelbach, 1967) converge faster than linearly.
STEPS = 50


@dataclass(frozen=True, kw_only=True)
class ScenarioOptimizer(Optimizer):
    """Base: risk is measured on the outcomes that `solve` is given.

    Parameters
    ----------
    confidence : float
        0.9 means the mean of the worst 10 %.
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, self_financing
        See `Optimizer`.
    constraints : ConstraintSet
        Without `TrackingError`, which is no row of a linear program.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    confidence: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.confidence < 1.0:
            raise ModelError(f"confidence={self.confidence}: must be between 0 and 1, as 0.95")


@dataclass(frozen=True, kw_only=True)
class MinimumCVaR(ScenarioOptimizer):
    """Least CVaR; by default fully invested in the text-book form."""

    max_cash: float = 0.0
    self_financing: bool = False

    def prepare(self, assets: Sequence[Hashable]) -> MinimumCVaRKernel:
        """See `Optimizer.prepare`."""
        return MinimumCVaRKernel(self, Terms(self, assets))


@dataclass(frozen=True, kw_only=True)
class CVaRLimited(ScenarioOptimizer):
    """Greatest expected return net of costs with a CVaR of at most `limit`.

    It is the decision of the multi-stage model with one stage.

    Parameters
    ----------
    limit : float
        Fraction of the wealth before trading.
    """

    limit: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limit(self.limit)

    def prepare(self, assets: Sequence[Hashable]) -> CVaRLimitedKernel:
        """See `Optimizer.prepare`."""
        return CVaRLimitedKernel(self, Terms(self, assets), self.limit)


@dataclass(frozen=True, kw_only=True)
class MaximumReturnToCVaR(ScenarioOptimizer):
    """Greatest ratio of expected return in excess of cash, net of costs, to CVaR."""

    max_cash: float = 0.0
    self_financing: bool = False

    def prepare(self, assets: Sequence[Hashable]) -> ReturnToCVaRKernel:
        """See `Optimizer.prepare`."""
        return ReturnToCVaRKernel(self, Terms(self, assets))


class _Kernel:
    def __init__(self, model: ScenarioOptimizer, terms: Terms) -> None:
        self._model, self._terms = model, terms

    def _program(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known
    ) -> _TailProgram:
        if known.law is None:
            raise ModelError(
                f"{type(self._model).__name__} needs outcomes; give returns of the period"
            )
        problem = self._terms.problem(mean, covariance, current, known.cash_return)
        if len(problem.tracking):
            raise ModelError(
                "constraints: TrackingError is a cone, not a row of a linear program; leave it out "
                "or use MeanVariance"
            )
        return _TailProgram(problem, known.law, self._model.confidence, self._terms)


class MinimumCVaRKernel(_Kernel):
    """See `Kernel`."""

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the CVaR and the charges of soft constraints."""
        program = self._program(mean, covariance, current, known)
        found = program.solve(return_weight=0.0, risk_weight=1.0, limit=np.inf)
        return program.solved(found, program.value)


class CVaRLimitedKernel(_Kernel):
    """See `Kernel`."""

    def __init__(self, model: ScenarioOptimizer, terms: Terms, limit: float) -> None:
        super().__init__(model, terms)
        self._limit = limit

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the expected return net of costs and charges.

        Raises
        ------
        InfeasibleProblem
            The least CVaR is above the limit.
        """
        program = self._program(mean, covariance, current, known)
        found = program.solve(return_weight=1.0, risk_weight=0.0, limit=self._limit)
        return program.solved(found, -program.value)


class ReturnToCVaRKernel(_Kernel):
    """See `Kernel`."""

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the ratio.

        Raises
        ------
        NothingBeatsCash
            No portfolio beats cash.
        ModelError
            One that beats cash has no positive CVaR.
        """
        program = self._program(mean, covariance, current, known)
        found = program.solve(return_weight=1.0, risk_weight=0.0, limit=np.inf)
        excess = program.excess_return(found)
        if excess <= 0.0:
            raise NothingBeatsCash(
                f"mean: no portfolio beats cash_return = {known.cash_return:g} net of costs, the "
                f"best is {-excess:g} below; hold cash, or use MinimumCVaR"
            )
        ratio = 0.0
        for _ in range(STEPS):
            risk, excess = program.cvar(found), program.excess_return(found)
            if risk <= 0.0:
                raise ModelError(
                    f"outcomes: a portfolio with excess return {excess:g} has a CVaR of {risk:g}: "
                    "the ratio has no greatest value; use CVaRLimited"
                )
            reached, ratio = ratio, excess / risk
            if ratio <= reached * (1.0 + NEGLIGIBLE):
                break
            found = program.solve(return_weight=1.0, risk_weight=ratio, limit=np.inf)
        return program.solved(found, ratio)


class _TailProgram:
    """The program: weights, purchases, sales, cash, breaches of soft rows, and the tail."""

    def __init__(
        self, problem: TransactionCostQp, law: Law, confidence: float, terms: Terms
    ) -> None:
        self._p, self._law, self._terms = problem, law, terms
        self._tail, self._n = 1.0 - confidence, len(problem.mean)
        self._by_asset = np.ascontiguousarray(law.returns.T)
        rows, n = problem.rows, self._n
        finite = np.isfinite(np.array([rows.upper, rows.lower]))
        side, self._slack_row = np.nonzero(finite & rows.soft)
        self._slack_side = np.where(side == 0, 1.0, -1.0)
        # Behind trades, cash, breaches: value at risk, CVaR, then a column an outcome known.
        self._width = 3 * n + 3 + len(self._slack_row)
        arrays = self._arrays(rows)
        self._lp = LinearProgram(arrays, Scaling.uniform(arrays, UNIT))
        self._cvar_row, self._known = len(arrays.row_lower) - 1, np.zeros(0, dtype=np.int64)
        self.value = np.nan

    def solve(
        self, *, return_weight: float, risk_weight: float, limit: float
    ) -> TransactionCostSolution:
        """``min risk_weight CVaR - return_weight net return + charges``, CVaR at most a limit."""
        p, n = self._p, self._n
        cost = np.zeros(self._width)
        cost[:n], cost[3 * n] = -return_weight * p.mean, -return_weight * p.cash_return
        cost[n : 2 * n] = return_weight * p.purchase_cost
        cost[2 * n : 3 * n] = return_weight * p.sale_cost
        cost[3 * n + 1 : -2] = p.rows.penalty[self._slack_row]
        cost[-1] = risk_weight
        lp, last = self._lp, np.array([self._width - 1], dtype=np.int32)
        lp.set_costs(np.arange(self._width, dtype=np.int32), cost)
        lp.set_column_bounds(last, np.array([-np.inf]), np.array([limit]))
        counts = risk_weight > 0.0 or np.isfinite(limit)
        if counts and not len(self._known):
            self._activate(self._tail_of(self._losses(*self._nearest())))
        while True:
            if (status := lp.solve()) is not Status.OPTIMAL:
                raise self._failure(status, limit)
            z = lp.primal()
            if not counts:
                break
            paid = float(p.purchase_cost @ z[n : 2 * n] + p.sale_cost @ z[2 * n : 3 * n])
            tail = self._tail_of(self._losses(z[:n], float(z[3 * n]), paid))
            fresh = np.setdiff1d(tail, self._known)
            if not len(fresh):
                break
            self._activate(fresh)
        self.value = lp.objective()
        return self._solution(z)

    def _nearest(self) -> tuple[Floats, float, float]:
        """Current weights, as far as the bounds allow."""
        p = self._p
        weights = np.clip(p.current, p.lower, p.upper)
        return weights, p.cash(weights), p.cost(weights)

    def _tail_of(self, losses: Floats) -> Ints:
        return np.flatnonzero(tail_probabilities(self._law.probabilities, losses, self._tail))

    def _activate(self, outcomes: Ints) -> None:
        """Add excess losses of some outcomes beyond the value at risk."""
        n, k, lp = self._n, len(outcomes), self._lp
        entries = np.zeros((k, lp.n_rows))
        entries[:, self._cvar_row] = self._law.probabilities[outcomes] / self._tail
        lp.add_columns(np.zeros(k), np.zeros(k), np.full(k, np.inf), entries)
        rows = np.zeros((k, self._width))
        rows[:, :n], rows[:, -2] = -self._law.returns[outcomes], -1.0
        others = sp.csr_array((k, lp.n_columns - k - self._width))
        matrix = sp.hstack([sp.csr_array(rows), others, -sp.eye_array(k)], format="csr")
        lp.add_rows(matrix, np.full(k, -np.inf), np.zeros(k))
        self._known = np.concatenate([self._known, outcomes])

    def solved(self, found: TransactionCostSolution, objective: float) -> Solved:
        """What the result is made of."""
        terms = self._terms
        return Solved(terms.names, self._p, found, objective, has_duals=False, rows=terms.rows)

    def cvar(self, found: TransactionCostSolution) -> float:
        """CVaR of the period's loss, costs included."""
        losses = self._losses(found.weights, found.cash, self._p.cost(found.weights))
        tail = tail_probabilities(self._law.probabilities, losses, self._tail)
        return float(tail @ losses)

    def excess_return(self, found: TransactionCostSolution) -> float:
        """Expected return net of costs and charges, less that of cash."""
        return self._p.objective(found.weights, found.cash) - self._p.cash_return

    def _losses(self, weights: Floats, cash: float, cost: float) -> Floats:
        held = np.flatnonzero(weights)
        if len(held) == self._n:
            return losses_of(self._law.returns, weights, self._p.cash_return * cash - cost)
        earned = weights[held] @ self._by_asset[held]
        losses: Floats = cost - self._p.cash_return * cash - earned
        return losses

    def _arrays(self, rows: Rows) -> Arrays:
        p, n, q = self._p, self._n, len(self._slack_row)
        eye, paid = np.eye(n), float(p.self_financing)
        moves = np.hstack([eye, -eye, eye, np.zeros((n, 3 + q))])
        budget = np.concatenate(
            [np.ones(n), paid * p.purchase_cost, paid * p.sale_cost, [1.0], np.zeros(q + 2)]
        )
        breach = np.zeros((len(rows), q))
        breach[self._slack_row, np.arange(q)] = -self._slack_side
        parts = [rows.weights, rows.bought, rows.sold, rows.cash[:, None], breach]
        body = np.hstack([*parts, np.zeros((len(rows), 2))])
        # Value at risk plus mean excess (columns to come) is at most the CVaR. What is certain,
        # costs and interest, moves the CVaR alone: rows of outcomes are about assets' returns only.
        risk = np.zeros((1, self._width))
        risk[0, n : 2 * n], risk[0, 2 * n : 3 * n] = p.purchase_cost, p.sale_cost
        risk[0, 3 * n], risk[0, -2:] = -p.cash_return, (1.0, -1.0)
        sides = np.append(p.current, 1.0)
        lower, upper = np.zeros(self._width), np.full(self._width, np.inf)
        lower[:n], upper[:n] = p.lower, p.upper
        lower[3 * n], upper[3 * n] = p.cash_lower, p.cash_upper
        lower[-2:] = -np.inf
        # Trades to and fro would be without a bound where they cost nothing.
        upper[n : 2 * n] = np.maximum(p.upper - p.current, 0.0)
        upper[2 * n : 3 * n] = np.maximum(p.current - p.lower, 0.0)
        return Arrays(
            np.zeros(self._width),
            sp.csr_array(np.vstack([moves, budget[None], body, risk])),
            np.concatenate([sides, rows.lower, [-np.inf]]),
            np.concatenate([sides, rows.upper, [0.0]]),
            lower,
            upper,
        )

    def _solution(self, z: Floats) -> TransactionCostSolution:
        p, n = self._p, self._n
        weights = np.clip(z[:n], p.lower, p.upper)
        still = np.abs(weights - p.current) <= LIMIT_TOLERANCE
        weights = np.where(still, np.clip(p.current, p.lower, p.upper), weights)
        cash = min(max(p.cash(weights), p.cash_lower), p.cash_upper)
        missed = abs(p.cash(weights) - cash)
        prices = Prices(0.0, np.zeros(len(p.rows)), p.tracking.prices)
        found = TransactionCostSolution(weights, cash, prices, missed)
        if not found.kkt_residual <= 1e-8:
            raise SolverError(
                f"the CVaR program misses its budget by {missed:.1e}: purchases and sales of one "
                "asset waste wealth; allow cash, or take the text-book form"
            )
        return found

    def _failure(self, status: Status, limit: float) -> Exception:
        if status is Status.INFEASIBLE:
            if math.isfinite(limit):
                # Without the limit, constraints that contradict each other raise their own error.
                least = self.solve(return_weight=0.0, risk_weight=1.0, limit=np.inf)
                return InfeasibleProblem(
                    f"limit={limit:g}: the least CVaR is {self.cvar(least):g}; raise the limit, "
                    "allow more cash, or lower the costs of getting there"
                )
            self._terms.check_conflict()
        file = self._lp.write("sddp")
        return SolverError(f"CVaR program: {self._lp.status_text()}; written to {file}")
