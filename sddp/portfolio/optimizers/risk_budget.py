"""`RiskBudget`: equal risk contributions, or given shares of risk by asset or by group."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, SolverError
from sddp.labels import ByLabel, numbers_by_label, places_of
from sddp.portfolio.optimizer import NOTHING_MORE, Known, Optimizer, Terms
from sddp.portfolio.optimizers.risk_parity import Algorithm, deviation, risk_budget_weights
from sddp.portfolio.qp.problem import NEGLIGIBLE, Prices, TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.transaction_cost_qp import KKT_TOLERANCE
from sddp.portfolio.result import Solved

BUDGET_TOLERANCE = 1e-9

# Steps of the search under bounds, and the change of weights that ends it.
STEPS, STANDSTILL = 200, 1e-9


@dataclass(frozen=True, kw_only=True)
class RiskBudget(Optimizer):
    """Weights whose risk contributions are given shares of the volatility; equal ones by default.

    Without bounds and constraints that bind, the answer is exact and there is one (Maillard,
    Roncalli and Teiletche, 2010): the residual is ``max |RC_i / b_i - 1|``, at most 1e-12 (1e-9 by
    the other algorithms). Where bounds, constraints or weighed costs forbid it, the answer is a
    local minimum of ::

        sum_i (RC_i / b_i - 1)^2 + cost_weight * cost

    over what is allowed, the best from several starts; this problem is not convex, so a better
    portfolio may exist. ``RC_i`` are shares of the variance. The result's `objective` is the
    largest relative deviation of a contribution from its budget, its `residual` how far the last
    step moved the weights.

    Parameters
    ----------
    budgets : mapping or Series by asset or by group, optional
        Positive shares that sum to 1. Equal ones by default.
    groups : mapping from name to sequence of labels, optional
        Every asset in one group; the group's budget is shared equally by its members.
    algorithm : {"newton", "successive_qp", "naive"}
        Of the exact answer, see `risk_budget_weights`.
    volatility : float, optional
        Of the period: the answer is mixed with cash down to it. Without loans it cannot be raised.
    cost_weight : float
        What a unit of cost counts beside the squared relative deviations; 0 does not weigh it.
    transaction_cost, sale_cost, min_weights, max_weights, constraints
        See `Optimizer`. Only the text-book form, fully invested but for `volatility`.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    budgets: ByLabel | None = None
    groups: Mapping[str, Sequence[Hashable]] | None = None
    algorithm: Algorithm = "newton"
    volatility: float | None = None
    cost_weight: float = 0.0
    max_cash: float = 0.0
    self_financing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.algorithm not in get_args(Algorithm):
            known = ", ".join(get_args(Algorithm))
            raise ModelError(f"algorithm={self.algorithm!r}: must be one of {known}")
        if self.volatility is not None and not 0.0 < self.volatility < math.inf:
            raise ModelError(f"volatility={self.volatility}: must be positive, or None")
        if not 0.0 <= self.cost_weight < math.inf:
            raise ModelError(f"cost_weight={self.cost_weight}: must be at least 0")
        if self.self_financing or self.max_cash or self.min_cash:
            raise ModelError(
                "self_financing, max_cash, min_cash: risk budgets are of the text-book form and "
                "fully invested; leave them out, and give volatility for a mixture with cash"
            )
        if self.budgets is not None:
            values = np.array([value for _, value in self.budgets.items()], dtype=float)
            if not (np.isfinite(values).all() and (values > 0.0).all()):
                raise ModelError(
                    f"budgets={dict(self.budgets.items())}: must be positive; leave out an asset "
                    "that is to carry no risk"
                )
            if abs(float(values.sum()) - 1.0) > BUDGET_TOLERANCE:
                raise ModelError(f"budgets sum to {values.sum():.9g}: must sum to 1")

    def prepare(self, assets: Sequence[Hashable]) -> RiskBudgetKernel:
        """See `Optimizer.prepare`."""
        terms = Terms(self, assets)
        return RiskBudgetKernel(self, terms, self._shares(terms.names))

    def _shares(self, names: Sequence[Hashable]) -> Floats:
        """Budget of each asset."""
        if self.groups is None:
            if self.budgets is None:
                return np.full(len(names), 1.0 / len(names))
            return numbers_by_label(self.budgets, names, "budgets")
        groups = list(self.groups)
        equal = dict.fromkeys(groups, 1.0 / len(groups))
        budgets = numbers_by_label(self.budgets or equal, groups, "budgets")
        shares = np.zeros(len(names))
        for group, budget in zip(groups, budgets, strict=True):
            members = list(self.groups[group])
            try:
                places = places_of(members, names)
            except KeyError as error:
                raise ModelError(
                    f"groups: {group} has {error.args[0]!r}, which is no asset"
                ) from error
            if not members or shares[places].any() or len(set(places)) < len(places):
                raise ModelError(f"groups: {group}={members}: give members, each in one group only")
            shares[places] = budget / len(members)
        if (shares == 0.0).any():
            raise ModelError(f"groups: {names[int(np.argmin(shares))]!r} is in none; add it to one")
        return shares


class RiskBudgetKernel:
    """See `Kernel`."""

    def __init__(self, model: RiskBudget, terms: Terms, shares: Floats) -> None:
        self._model, self._terms = model, terms
        # What may not be held carries no risk: the others share its budget.
        self._held = np.flatnonzero(terms.upper > 0.0)
        if not len(self._held):
            raise ModelError("max_weights: no asset may be held, so that none can carry risk")
        self._shares = shares[self._held] / shares[self._held].sum()

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the largest relative deviation from a budget.

        Raises
        ------
        DataError
            An asset has no risk.
        ModelError
            A target volatility under constraints that bind.
        """
        held = self._held
        still = held[covariance.diagonal()[held] <= 0.0]
        if len(still):
            raise DataError(
                f"covariance: {self._terms.names[still[0]]!r} has no risk, so that no weight gives "
                "it a share of the volatility; leave it out"
            )
        model, terms = self._model, self._terms
        problem = terms.problem(mean, covariance, current, known.cash_return)
        weights = np.zeros(len(covariance))
        of_held = covariance[held[:, None], held]
        weights[held] = risk_budget_weights(of_held, self._shares, model.algorithm)
        residual = self._deviation(covariance, weights)
        if model.volatility is not None:
            reached = math.sqrt(float(weights @ covariance @ weights))
            weights = weights * min(1.0, model.volatility / reached)
            problem = replace(problem, cash_upper=1.0)
        if not _allowed(problem, weights) or (model.cost_weight > 0.0 and problem.cost(weights)):
            if model.volatility is not None:
                raise ModelError(
                    "volatility: not offered where bounds, constraints or weighed costs forbid the "
                    "exact budgets; leave it out"
                )
            weights, residual = self._nearest(problem, weights)
        objective = self._deviation(covariance, weights)
        nothing = Prices(0.0, np.zeros(len(problem.rows)), problem.tracking.prices)
        found = TransactionCostSolution(weights, problem.cash(weights), nothing, residual)
        return Solved(terms.names, problem, found, objective, has_duals=False, rows=terms.rows)

    def _deviation(self, covariance: Floats, weights: Floats) -> float:
        held = self._held
        return deviation(covariance[held[:, None], held], weights[held], self._shares)

    def _nearest(self, problem: TransactionCostQp, exact: Floats) -> tuple[Floats, float]:
        """Best local minimum from the exact weights, the current ones, equal and inverse risk."""
        n = len(exact)
        inverse = np.zeros(n)
        inverse[self._held] = 1.0 / np.sqrt(problem.covariance.diagonal()[self._held])
        starts = [exact, problem.current, np.full(n, 1.0 / n), inverse / inverse.sum()]
        found = [self._descend(problem, start) for start in starts]
        settled = [pair for pair in found if pair[1] <= KKT_TOLERANCE]
        if not settled:
            raise SolverError(
                f"the search for risk budgets under constraints did not settle: the last step was "
                f"{min(miss for _, miss in found):.1e}; relax bounds that nearly contradict"
            )
        return min(settled, key=lambda pair: self._loss(problem, pair[0]))

    def _loss(self, problem: TransactionCostQp, weights: Floats) -> float:
        errors, _ = self._errors(problem, weights)
        rows = problem.rows
        charged = rows.charge(rows.levels(weights, problem.cash(weights), problem.current))
        paid = self._model.cost_weight * problem.cost(weights)
        return float(errors @ errors) + paid + charged

    def _errors(self, problem: TransactionCostQp, weights: Floats) -> tuple[Floats, Floats]:
        """``RC_i / b_i - 1`` and its derivatives by the weights."""
        marginal = problem.covariance @ weights
        variance = float(weights @ marginal)
        shares = weights * marginal / variance
        slopes = (np.diag(marginal) + weights[:, None] * problem.covariance) / variance
        slopes -= 2.0 * np.outer(shares, marginal) / variance
        held, budgets = self._held, self._shares
        return shares[held] / budgets - 1.0, slopes[held] / budgets[:, None]

    def _descend(self, problem: TransactionCostQp, start: Floats) -> tuple[Floats, float]:
        """Gauss-Newton steps by the transaction-cost QP, damped until the loss falls."""
        weights = self._step(problem, np.eye(len(start)), start)
        damping, loss, moved = 1.0, self._loss(problem, weights), np.inf
        for _ in range(STEPS):
            errors, slopes = self._errors(problem, weights)
            quadratic = 2.0 * slopes.T @ slopes + damping * np.eye(len(weights))
            following = self._step(
                problem, quadratic, weights, quadratic @ weights - 2.0 * slopes.T @ errors
            )
            moved = float(np.abs(following - weights).max())
            if moved <= STANDSTILL:
                break
            reached = self._loss(problem, following)
            if reached < loss:
                weights, loss, damping = following, reached, max(damping / 4.0, 1e-9)
            else:
                damping *= 8.0
        return weights, moved

    def _step(
        self,
        problem: TransactionCostQp,
        quadratic: Floats,
        at: Floats,
        linear: Floats | None = None,
    ) -> Floats:
        numbers: dict[str, Any] = {
            "covariance": quadratic,
            "mean": quadratic @ at if linear is None else linear,
            "risk_aversion": 1.0,
            "cost_weight": self._model.cost_weight,
        }
        return self._terms.optimum(replace(problem, **numbers)).weights


def _allowed(problem: TransactionCostQp, weights: Floats) -> bool:
    """Whether bounds, hard and soft rows and benchmarks are kept."""
    p, cash = problem, problem.cash(weights)
    inside = (weights >= p.lower - NEGLIGIBLE) & (weights <= p.upper + NEGLIGIBLE)
    kept = p.rows.breaches(p.rows.levels(weights, cash, p.current)) <= NEGLIGIBLE * p.rows.sizes
    near = p.tracking.errors(weights, p.covariance) <= p.tracking.limits + NEGLIGIBLE
    return bool(inside.all() and kept.all() and near.all() and not p.tracking.prices.any())
