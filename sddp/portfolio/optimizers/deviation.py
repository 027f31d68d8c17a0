"""`StandardDeviation`: expected return against volatility instead of variance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sddp.arrays import Floats
from sddp.errors import ModelError, SolverError
from sddp.portfolio.optimizer import NOTHING_MORE, Known, Optimizer, Terms
from sddp.portfolio.qp.cones import solve_cones
from sddp.portfolio.qp.problem import TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.root_search import crossing
from sddp.portfolio.qp.transaction_cost_qp import KKT_TOLERANCE
from sddp.portfolio.result import Solved

# Refinement of Clarabel's volatility: relative change that ends it, and the most steps.
STANDSTILL, STEPS = 1e-13, 200


@dataclass(frozen=True, kw_only=True)
class StandardDeviation(Optimizer):
    """``min sqrt(u' covariance u) - return_weight mean'u + cost(u - x), sum u = 1``.

    A larger `return_weight` is bolder. It is the mean-variance problem at risk aversion
    ``1 / (return_weight s)`` and costs divided by `return_weight`, where ``s`` is the volatility of
    the solution: one number to search for (``"search"``). ``"cone"`` solves the cone program by
    Clarabel. Each is the other's check.

    It does not equalize risk contributions: its conditions make marginal risk less
    ``return_weight`` times the mean equal among what is held, not weight times marginal risk
    (`RiskBudget` does that).

    Parameters
    ----------
    return_weight : float
        Positive.
    method : {"search", "cone"}
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, constraints
        See `Optimizer`. Only the text-book form, by default without cash.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    return_weight: float
    method: Literal["search", "cone"] = "search"
    max_cash: float = 0.0
    self_financing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.return_weight < math.inf:
            raise ModelError(f"return_weight={self.return_weight}: must be positive")
        if self.method not in ("search", "cone"):
            raise ModelError(f"method={self.method!r}: must be 'search' or 'cone'")
        if self.self_financing:
            raise ModelError(
                "self_financing=True: costs are weighed against volatility; leave it out"
            )

    def prepare(self, assets: Sequence[Hashable]) -> StandardDeviationKernel:
        """See `Optimizer.prepare`."""
        return StandardDeviationKernel(self, Terms(self, assets))


class StandardDeviationKernel:
    """See `Kernel`."""

    def __init__(self, model: StandardDeviation, terms: Terms) -> None:
        self._model, self._terms = model, terms

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the negative of what is minimized.

        Raises
        ------
        SolverError
            The portfolio has no risk, where the volatility has no derivative.
        """
        weight, terms = self._model.return_weight, self._terms
        problem = terms.problem(mean, covariance, current, known.cash_return)
        # In units of return: volatility, costs and charges are divided by the weight of the return.
        rows = replace(problem.rows, penalty=problem.rows.penalty / weight)
        tracking = replace(problem.tracking, prices=problem.tracking.prices / weight)
        problem = replace(problem, cost_weight=1.0 / weight, rows=rows, tracking=tracking)
        # Without any risk it is a linear program, which needs no search.
        cone = self._model.method == "cone" and float(covariance.diagonal().max()) > 0.0
        by = self._by_cone if cone else self._by_search
        at, found = by(problem)
        volatility = math.sqrt(float(found.weights @ covariance @ found.weights))
        value = replace(at, risk_aversion=0.0).objective(found.weights, found.cash)
        objective = weight * value - volatility
        return Solved(terms.names, at, found, objective, has_duals=True, rows=terms.rows)

    def _by_search(
        self, problem: TransactionCostQp
    ) -> tuple[TransactionCostQp, TransactionCostSolution]:
        solved: dict[float, TransactionCostSolution] = {}

        def below(risk_aversion: float) -> float:
            solved[risk_aversion] = self._terms.optimum(
                replace(problem, risk_aversion=risk_aversion)
            )
            return 1.0 - risk_aversion * self._implied(problem, solved[risk_aversion])

        largest = math.sqrt(float(problem.covariance.diagonal().max()))
        if largest == 0.0:
            return problem, self._terms.optimum(problem)
        start = 1.0 / (self._model.return_weight * largest)
        found = crossing(below, start, "risk aversion").high
        return replace(problem, risk_aversion=found), solved[found]

    def _by_cone(
        self, problem: TransactionCostQp
    ) -> tuple[TransactionCostQp, TransactionCostSolution]:
        cones = solve_cones(problem, deviation=1.0 / self._model.return_weight).weights
        implied, steps = self._volatility(problem, cones), 0
        while True:
            # One over risk aversion is the volatility, times the weight: the map contracts.
            at = replace(problem, risk_aversion=1.0 / (self._model.return_weight * implied))
            found = self._terms.optimum(at)
            reached, steps = self._volatility(problem, found.weights), steps + 1
            if abs(reached / implied - 1.0) <= STANDSTILL or steps == STEPS:
                break
            implied = reached
        lost = self._value(problem, found.weights) - self._value(problem, cones)
        if not (abs(lost) <= KKT_TOLERANCE and abs(reached / implied - 1.0) <= KKT_TOLERANCE):
            raise SolverError(
                f"the cone program and the quadratic program at its volatility differ by "
                f"{lost:.1e} in the objective; use method='search'"
            )
        return at, found

    def _value(self, problem: TransactionCostQp, weights: Floats) -> float:
        """The objective in units of return."""
        value = replace(problem, risk_aversion=0.0).objective(weights, problem.cash(weights))
        return value - self._volatility(problem, weights) / self._model.return_weight

    def _volatility(self, problem: TransactionCostQp, weights: Floats) -> float:
        variance = float(weights @ problem.covariance @ weights)
        if variance <= 0.0:
            raise SolverError("the portfolio has no risk: volatility has no derivative there")
        return math.sqrt(variance)

    def _implied(self, problem: TransactionCostQp, found: TransactionCostSolution) -> float:
        """``return_weight * volatility``: one over the risk aversion at a solution."""
        variance = float(found.weights @ problem.covariance @ found.weights)
        return self._model.return_weight * math.sqrt(max(variance, 0.0))
