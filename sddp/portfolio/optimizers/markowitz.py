"""Portfolios on the efficient frontier other than by risk aversion, with costs and constraints.

Each is the mean-variance problem at a risk aversion that is found: the answer is checked by that
problem's conditions, and its multipliers are those of `MeanVariance` there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sddp.arrays import Floats
from sddp.errors import InfeasibleProblem, ModelError, NothingBeatsCash, SolverError
from sddp.portfolio.optimizer import NOTHING_MORE, Known, Optimizer, Terms
from sddp.portfolio.qp.problem import (
    NEGLIGIBLE,
    Prices,
    TransactionCostQp,
    TransactionCostSolution,
    kkt_residual,
)
from sddp.portfolio.qp.root_search import crossing
from sddp.portfolio.qp.rows import Rows
from sddp.portfolio.qp.transaction_cost_qp import KKT_TOLERANCE
from sddp.portfolio.result import Solved

# A variance below this share of an asset's is what rounding leaves of none.
RISKLESS = 1e-20


@dataclass(frozen=True, kw_only=True)
class MinimumVariance(Optimizer):
    """The portfolio of least variance, costs not weighed: ``min u' covariance u, sum u = 1``.

    Costs of getting there are reported, not minimized (`TargetReturn` and `MeanVariance` weigh
    them), so only the text-book form is offered. Without `max_cash` the answer is fully invested.

    Parameters
    ----------
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash
        See `Optimizer`.

    Raises
    ------
    ModelError
        A parameter is out of range, or `self_financing` is asked for.
    """

    max_cash: float = 0.0
    self_financing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.self_financing:
            raise ModelError(
                "self_financing=True: wasting wealth would lower the variance; leave it out, or "
                "use TargetReturn, which weighs costs"
            )

    def prepare(self, assets: Sequence[Hashable]) -> MinimumVarianceKernel:
        """See `Optimizer.prepare`."""
        return MinimumVarianceKernel(Terms(self, assets))


class MinimumVarianceKernel:
    """See `Kernel`."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the variance."""
        problem = self._terms.problem(mean, covariance, current, known.cash_return)
        found = self._terms.optimum(without_return(problem))
        variance = float(found.weights @ covariance @ found.weights)
        return Solved(
            self._terms.names, problem, found, variance, has_duals=False, rows=self._terms.rows
        )


@dataclass(frozen=True, kw_only=True)
class TargetReturn(Optimizer):
    """Least variance with an expected return, net of costs, of at least `target`.

    Parameters
    ----------
    target : float
        Per period: ``mean'u + cash_return u_cash - cost >= target``.
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, self_financing
        See `Optimizer`. The text-book form is the default.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    target: float
    self_financing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.target):
            raise ModelError(f"target = {self.target}: must be a decimal return; 0.01 is 1 %")

    def prepare(self, assets: Sequence[Hashable]) -> TargetReturnKernel:
        """See `Optimizer.prepare`."""
        return TargetReturnKernel(Terms(self, assets), self.target)


class TargetReturnKernel:
    """See `Kernel`."""

    def __init__(self, terms: Terms, target: float) -> None:
        self._terms, self._target = terms, target

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the variance.

        Raises
        ------
        InfeasibleProblem
            The greatest expected return is below the target.
        """
        problem = self._terms.problem(mean, covariance, current, known.cash_return)
        row = Rows.of(
            mean[None],
            cash=np.array([known.cash_return]),
            bought=-problem.purchase_cost[None],
            sold=-problem.sale_cost[None],
            lower=np.array([self._target]),
        )
        least = without_return(problem)
        try:
            found = self._terms.optimum(replace(least, rows=Rows.joined([least.rows, row])))
        except SolverError:
            self._check_reachable(problem)
            raise
        price = -float(found.prices.rows[-1])
        prices = found.prices._replace(rows=found.prices.rows[:-1])
        variance = float(found.weights @ covariance @ found.weights)
        if price <= 0.0:
            return Solved(
                self._terms.names, problem, found, variance, has_duals=False, rows=self._terms.rows
            )
        # The price of return, in variance, is one over the risk aversion at which it is optimal.
        rows = replace(problem.rows, penalty=problem.rows.penalty / price)
        at = replace(problem, risk_aversion=1.0 / price, rows=rows)
        checked = _checked(at, found.weights, prices.times(1.0 / price))
        return Solved(
            self._terms.names, at, checked, variance, has_duals=True, rows=self._terms.rows
        )

    def _check_reachable(self, problem: TransactionCostQp) -> None:
        best = self._terms.optimum(replace(problem, risk_aversion=0.0))
        greatest = net_return(problem, best.weights)
        if greatest < self._target + KKT_TOLERANCE:
            raise InfeasibleProblem(
                f"target = {self._target:g}: the greatest expected return net of costs is "
                f"{greatest:g}, {self._target - greatest:g} less; lower the target or the bounds"
            )


@dataclass(frozen=True, kw_only=True)
class TargetVolatility(Optimizer):
    """Greatest expected return net of costs with a volatility of at most `target`.

    Parameters
    ----------
    target : float
        Standard deviation of the period's return, positive.
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, self_financing
        See `Optimizer`.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    target: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.target < math.inf:
            raise ModelError(f"target = {self.target}: must be a positive standard deviation")

    def prepare(self, assets: Sequence[Hashable]) -> TargetVolatilityKernel:
        """See `Optimizer.prepare`."""
        return TargetVolatilityKernel(Terms(self, assets), self.target)


class TargetVolatilityKernel:
    """See `Kernel`."""

    def __init__(self, terms: Terms, target: float) -> None:
        self._search, self._target = FrontierSearch(terms), target

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the expected return net of costs.

        Raises
        ------
        InfeasibleProblem
            The least volatility is above the target.
        """
        terms = self._search.terms
        problem = terms.problem(mean, covariance, current, known.cash_return)

        def above(found: TransactionCostSolution, _: float) -> float:
            return math.sqrt(_variance(problem, found.weights)) / self._target - 1.0

        boldest = terms.optimum(replace(problem, risk_aversion=0.0))
        if above(boldest, 0.0) <= 0.0:
            return _solved(terms, problem, boldest)
        least = terms.optimum(without_return(replace(problem, self_financing=False)))
        lowest = math.sqrt(_variance(problem, least.weights))
        if lowest > self._target * (1.0 + KKT_TOLERANCE):
            raise InfeasibleProblem(
                f"target = {self._target:g}: the least volatility is {lowest:g}, "
                f"{lowest - self._target:g} more; raise the target or allow more cash"
            )
        return _solved(terms, *self._search.root(problem, above))


@dataclass(frozen=True, kw_only=True)
class MaximumSharpe(Optimizer):
    """Greatest ratio of expected excess return, net of costs, to volatility.

    With ``e`` the excess return and ``v`` the variance, the optimum is the mean-variance
    portfolio at risk aversion ``e / v``: the conditions of both are the same (so are those of the
    form of Charnes and Cooper, 1962, in which the ratio is a quadratic program; the tests solve
    that form). Where cash may be held, the mixtures with cash of one portfolio share the ratio;
    without `max_cash` the answer is fully invested.

    Parameters
    ----------
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, self_financing
        See `Optimizer`. The text-book form is the default.
    """

    max_cash: float = 0.0
    self_financing: bool = False

    def prepare(self, assets: Sequence[Hashable]) -> MaximumSharpeKernel:
        """See `Optimizer.prepare`."""
        return MaximumSharpeKernel(Terms(self, assets))


class MaximumSharpeKernel:
    """See `Kernel`."""

    def __init__(self, terms: Terms) -> None:
        self._search = FrontierSearch(terms)

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`; the objective is the ratio.

        Raises
        ------
        NothingBeatsCash
            No portfolio beats cash.
        ModelError
            One without risk beats cash.
        """
        terms, cash_return = self._search.terms, known.cash_return
        problem = terms.problem(mean, covariance, current, cash_return)
        largest = float(covariance.diagonal().max())

        def excess(found: TransactionCostSolution) -> float:
            return net_return(problem, found.weights) - cash_return

        def above(found: TransactionCostSolution, risk_aversion: float) -> float:
            e, v = excess(found), _variance(problem, found.weights)
            if e <= 0.0:
                return -1.0
            if v <= RISKLESS * largest:
                raise ModelError(
                    f"covariance: a portfolio without risk beats cash_return = {cash_return:g} by "
                    f"{e:g}, so that no Sharpe ratio is the greatest; use TargetVolatility"
                )
            return 1.0 - risk_aversion * v / e

        best = excess(terms.optimum(replace(problem, risk_aversion=0.0)))
        if best <= 0.0:
            raise NothingBeatsCash(
                f"mean: no portfolio beats cash_return = {cash_return:g}, the best is {-best:g} "
                "below it net of costs, so that no Sharpe ratio is positive; hold cash, or use "
                "MinimumVariance"
            )
        at, found = self._search.root(problem, above)
        volatility = math.sqrt(_variance(problem, found.weights))
        return _solved(terms, at, found, excess(found) / volatility)


class FrontierSearch:
    """Searches the efficient frontier for a risk aversion."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    def root(
        self,
        problem: TransactionCostQp,
        above: Callable[[TransactionCostSolution, float], float],
    ) -> tuple[TransactionCostQp, TransactionCostSolution]:
        """The problem and solution at which a function that falls with risk aversion is zero.

        Where solutions jump there (a covariance that is not positive definite), the mixture of
        both sides is taken that brings it to zero: both are optimal, so every mixture is. Where it
        is negative at every risk aversion, the limit of the solutions at smaller ones is returned.

        Raises
        ------
        ModelError, SolverError
        """
        solved: dict[float, TransactionCostSolution] = {}

        def value(risk_aversion: float) -> float:
            found = self.terms.optimum(replace(problem, risk_aversion=risk_aversion))
            solved[risk_aversion] = found
            return above(found, risk_aversion)

        largest = float(problem.covariance.diagonal().max())
        start = problem.scale / largest if largest > 0.0 else 1.0
        try:
            found = crossing(value, start, "risk aversion")
        except SolverError:
            least = min(solved)
            if above(solved[least], least) > 0.0:
                raise
            # Of those of greatest return the one of least risk: a larger aversion finds it best.
            earned = {at: net_return(problem, found.weights) for at, found in solved.items()}
            enough = max(earned.values()) - NEGLIGIBLE * problem.scale
            best = max(at for at, value in earned.items() if value >= enough)
            return replace(problem, risk_aversion=best), solved[best]
        at = replace(problem, risk_aversion=found.high)
        one, other = solved[found.low], solved[found.high]
        share = self._share(lambda s: above(_mixed(at, one, other, s), found.high))
        return at, _checked(at, _mixed(at, one, other, share).weights, other.prices)

    def _share(self, value: Callable[[float], float]) -> float:
        """Share of the bolder of two solutions at which a function is zero."""
        from scipy.optimize import brentq  # 0.3 s to import

        if not value(0.0) < 0.0 < value(1.0):
            return 0.0
        share: float = brentq(value, 0.0, 1.0, xtol=1e-15)
        return share


def without_return(problem: TransactionCostQp) -> TransactionCostQp:
    """The same weights and rows, with half the variance alone to be made small."""
    nothing = np.zeros(len(problem.mean))
    return replace(problem, mean=nothing, cash_return=0.0, risk_aversion=1.0, cost_weight=0.0)


def net_return(problem: TransactionCostQp, weights: Floats) -> float:
    """Expected return of the period, costs of trading and charges of soft constraints paid."""
    return replace(problem, risk_aversion=0.0).objective(weights, problem.cash(weights))


def _variance(problem: TransactionCostQp, weights: Floats) -> float:
    return float(weights @ problem.covariance @ weights)


def _without_duals(
    terms: Terms, problem: TransactionCostQp, found: TransactionCostSolution, objective: float
) -> Solved:
    return Solved(terms.names, problem, found, objective, has_duals=False, rows=terms.rows)


def _mixed(
    problem: TransactionCostQp,
    one: TransactionCostSolution,
    other: TransactionCostSolution,
    share: float,
) -> TransactionCostSolution:
    weights = share * one.weights + (1.0 - share) * other.weights
    return other._replace(weights=weights, cash=problem.cash(weights))


def _checked(
    problem: TransactionCostQp, weights: Floats, prices: Prices
) -> TransactionCostSolution:
    """A solution with its residual at the problem's risk aversion.

    Raises
    ------
    SolverError
        It misses the conditions by more than `KKT_TOLERANCE`.
    """
    cash = min(max(problem.cash(weights), problem.cash_lower), problem.cash_upper)
    residual = kkt_residual(problem, weights, cash, prices)
    if not residual <= KKT_TOLERANCE:
        raise SolverError(
            f"the portfolio found at risk_aversion = {problem.risk_aversion:g} misses its "
            f"optimality conditions by {residual:.1e}; look for moments of very different size"
        )
    return TransactionCostSolution(weights, cash, prices, residual)


def _solved(
    terms: Terms,
    problem: TransactionCostQp,
    found: TransactionCostSolution,
    objective: float | None = None,
) -> Solved:
    value = net_return(problem, found.weights) if objective is None else objective
    return Solved(terms.names, problem, found, value, has_duals=True, rows=terms.rows)
