"""What a one-period problem answers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.display.shown import Shown
from sddp.labels import CASH, label_index
from sddp.portfolio.constraints.constraint_rows import ConstraintRows
from sddp.portfolio.inputs import read_outcomes
from sddp.portfolio.moments import Outcomes
from sddp.portfolio.qp.problem import NEGLIGIBLE, TransactionCostQp, TransactionCostSolution
from sddp.risk import tail_probabilities, weighted_cvar

# Tail weights below this are what rounding leaves of the next outcome.
ROUNDING = 1e-12

# `PortfolioResult.constraints` where there are none.
NO_CONSTRAINTS = pd.DataFrame(
    {"breach": np.zeros(0), "multiplier": np.zeros(0)},
    index=pd.Index([], dtype=str, name="constraint"),
)


@dataclass(frozen=True, eq=False)
class Duals:
    """Multipliers, in units of the objective (return per period) per unit of wealth.

    At the optimum, for every asset and for cash (which has neither risk nor costs)::

        mean - risk_aversion * (covariance @ holdings) - budget = marginal_cost - lower + upper

    Attributes
    ----------
    budget : float
        Rise of the objective per unit of additional wealth. In the self-financing form the
        additional unit itself is not counted: terminal wealth is worth ``1 + budget``.
    lower, upper : Series by position, cash first
        Rise of the objective per unit by which the bound is relaxed; at least 0, and 0 where the
        bound is slack.
    marginal_cost : Series by asset
        What the last unit of trade costs the objective: the purchase cost of what is bought,
        minus the sale cost of what is sold, and between the two for what is not traded, where it
        is the gain that trading does not bring in. In the self-financing form both costs count
        ``1 + budget`` times. A bound's multiplier is only what is left beyond this range.
    """

    budget: float
    lower: pd.Series[float]
    upper: pd.Series[float]
    marginal_cost: pd.Series[float]


@dataclass(frozen=True, eq=False, repr=False)
class PortfolioResult(Shown):
    """An optimal one-period portfolio. Amounts are fractions of the wealth before trading.

    Attributes
    ----------
    weights : Series by position, cash first
        Holdings as shares of their own sum: target weights of the wealth after costs, which is
        what a strategy of `sddp.backtest` answers with.
    holdings : Series by position, cash first
        After trading. They sum to ``1 - cost`` in the self-financing form, to 1 in the text-book
        form.
    trades : Series by asset
        Holdings less current weights; positive buys. Exactly 0 for what is not traded.
    cost : float
        Cost of the trades.
    objective : float
        Of the optimizer that was asked; of `MeanVariance` it is
        ``expected_return - risk_aversion / 2 * variance``.
    expected_return : float
        ``mean @ holdings`` (cash included) less the cost of trading. In the self-financing form it
        is the expected growth of wealth.
    variance : float
        Of the period's return.
    risk_contributions : Series by asset
        ``u_i (covariance u)_i / volatility``: they sum to the volatility of the period's return.
    risk_aversion : float or None
        At which `MeanVariance` has this answer: given, driven by an index, matched to a CVaR, or
        found. None where the answer is no mean-variance portfolio.
    duals : Duals or None
        None where the optimizer has none in these terms.
    residual : float
        Largest error in the optimizer's conditions for an optimum, as a share of wealth; at most
        1e-8, usually 1e-16. Where there are duals it is `kkt_residual` of
        `sddp.portfolio.qp.problem`.
    cash_return : float
        As given.
    constraints : DataFrame by name of constraint
        ``breach``, the largest of a soft constraint, in its own unit (of a score: times the weight
        that it is an average over), 0 where it is kept; ``multiplier``, the rise of the objective
        per unit by which the constraint is relaxed, NaN where there are no duals.
    iterations : int
        Of the interior-point method in the last problem solved; 0 where it was not needed.
    """

    weights: pd.Series[float]
    holdings: pd.Series[float]
    trades: pd.Series[float]
    cost: float
    objective: float
    expected_return: float
    variance: float
    risk_contributions: pd.Series[float]
    risk_aversion: float | None
    duals: Duals | None
    residual: float
    cash_return: float
    constraints: pd.DataFrame
    iterations: int = 0

    def cvar(self, outcomes: Outcomes, *, confidence: float) -> float:
        """CVaR of one period's loss, the cost of trading included.

        Parameters
        ----------
        outcomes : Outcomes
            Returns of the assets (columns in their order, or a DataFrame) and probabilities.
        confidence : float
            0.9 means the mean of the worst 10 %.

        Returns
        -------
        float
            Fraction of the wealth before trading; the tail is fractional.
        """
        losses, probabilities = self._losses(outcomes)
        return weighted_cvar(losses, probabilities, confidence=confidence)

    def var(self, outcomes: Outcomes, *, confidence: float) -> float:
        """Least loss in the tail whose mean is `cvar`."""
        losses, probabilities = self._losses(outcomes)
        tail = tail_probabilities(probabilities, losses, 1.0 - confidence)
        return float(losses[tail > ROUNDING].min())

    def tail(self, outcomes: Outcomes, *, confidence: float) -> tuple[float, float]:
        """`var` and `cvar` together."""
        losses, probabilities = self._losses(outcomes)
        tail = tail_probabilities(probabilities, losses, 1.0 - confidence)
        return float(losses[tail > ROUNDING].min()), float(tail @ losses)

    def risk_table(self, portfolio_value: float = 1.0) -> pd.DataFrame:
        """Risk contributions in three units.

        Parameters
        ----------
        portfolio_value : float
            Wealth before trading, in money.

        Returns
        -------
        DataFrame by asset
            ``volatility``, signed: negative where the asset hedges the others; ``share`` of the
            portfolio's volatility, NaN where it has none; ``money``, one standard deviation of the
            period's result. Their sums are the volatility, 1, and the volatility in money.
        """
        volatility = math.sqrt(self.variance)
        contributions = self.risk_contributions
        shares = contributions / volatility if volatility else contributions * np.nan
        columns = {"volatility": contributions, "share": shares}
        return pd.DataFrame(columns | {"money": portfolio_value * contributions})

    def _losses(self, outcomes: Outcomes) -> tuple[Floats, Floats]:
        law = read_outcomes(outcomes, self.trades.index.tolist())
        held: Floats = np.asarray(self.holdings, dtype=float)
        losses = losses_of(law.returns, held[1:], self.cash_return * held[0] - self.cost)
        return losses, law.probabilities

    def _facts(self) -> dict[str, str]:
        facts = {
            "expected return": f"{self.expected_return:.3%}",
            "volatility": f"{np.sqrt(self.variance):.3%}",
            "cash": f"{self.weights.iloc[0]:.1%}",
            "cost": f"{self.cost:.3%}",
        }
        if self.risk_aversion is not None:
            facts["risk aversion"] = f"{self.risk_aversion:.4g}"
        return facts

    def _tables(self) -> dict[str, pd.DataFrame]:
        table = pd.DataFrame({"weight": self.weights, "holdings": self.holdings})
        order = np.argsort(-self.holdings.to_numpy(), kind="stable")
        return {"Largest holdings": table.iloc[order]}


def losses_of(returns: Floats, weights: Floats, certain: float) -> Floats:
    """Loss in each outcome, as a fraction of wealth; `certain` is earned in all of them."""
    losses: Floats = -(returns @ weights) - certain
    return losses


class Solved(NamedTuple):
    """What a kernel found, on arrays.

    Attributes
    ----------
    names : sequence of labels
        Of the assets.
    problem : TransactionCostQp
        Costs, bounds and moments; its risk aversion is the result's, where `has_duals`.
    solution : TransactionCostSolution
        Its multipliers mean something where `has_duals`.
    objective : float
        The optimizer's own.
    has_duals : bool
        Whether the solution is the optimum of `problem`.
    rows : ConstraintRows
        Constraints as read.
    """

    names: Sequence[Hashable]
    problem: TransactionCostQp
    solution: TransactionCostSolution
    objective: float
    has_duals: bool
    rows: ConstraintRows


def result_of(solved: Solved) -> PortfolioResult:
    """Label a solution."""
    names, problem, solution = solved.names, solved.problem, solved.solution
    positions, assets = label_index([CASH, *names]), label_index(names)
    weights, cash = solution.weights, solution.cash
    held = np.concatenate([[cash], weights])
    cost, marginal = problem.cost(weights), problem.covariance @ weights
    variance = max(float(weights @ marginal), 0.0)
    contributions = weights * marginal / math.sqrt(variance) if variance else 0.0 * weights
    return PortfolioResult(
        weights=pd.Series(held / held.sum(), index=positions),
        holdings=pd.Series(held, index=positions),
        trades=pd.Series(weights - problem.current, index=assets),
        cost=cost,
        objective=solved.objective,
        expected_return=float(problem.mean @ weights) + problem.cash_return * cash - cost,
        variance=variance,
        risk_contributions=pd.Series(contributions, index=assets),
        risk_aversion=problem.risk_aversion if solved.has_duals else None,
        duals=_duals(problem, solution, assets, positions) if solved.has_duals else None,
        residual=solution.kkt_residual,
        cash_return=problem.cash_return,
        constraints=_constraints(solved),
        iterations=solution.iterations,
    )


def _constraints(solved: Solved) -> pd.DataFrame:
    rows, problem, found = solved.rows, solved.problem, solved.solution
    if not rows.constraints:
        return NO_CONSTRAINTS.copy()
    multipliers = np.full(len(rows.constraints), np.nan)
    if solved.has_duals:
        pull, _ = _pull(problem, found)
        multipliers = rows.multipliers(problem, found, pull)
    columns = {"breach": rows.breaches(problem, found), "multiplier": multipliers}
    names = pd.Index([c.name for c in rows.constraints], dtype=str, name="constraint")
    return pd.DataFrame(columns, index=names)


def _duals(
    problem: TransactionCostQp,
    solution: TransactionCostSolution,
    assets: pd.Index[Any],
    positions: pd.Index[Any],
) -> Duals:
    p = problem
    pull, marginal = _pull(p, solution)
    held = np.concatenate([[solution.cash], solution.weights])
    at_lower = held - np.concatenate([[p.cash_lower], p.lower]) <= NEGLIGIBLE
    at_upper = np.concatenate([[p.cash_upper], p.upper]) - held <= NEGLIGIBLE
    return Duals(
        budget=solution.prices.budget,
        lower=pd.Series(np.where(at_lower, np.maximum(-pull, 0.0), 0.0), index=positions),
        upper=pd.Series(np.where(at_upper, np.maximum(pull, 0.0), 0.0), index=positions),
        marginal_cost=pd.Series(marginal, index=assets),
    )


def _pull(problem: TransactionCostQp, solution: TransactionCostSolution) -> tuple[Floats, Floats]:
    """What cash and each asset still want beyond the marginal cost of trading, and that cost."""
    p, prices = problem, solution.prices
    slopes = p.slopes(solution.weights, prices)
    trades = solution.weights - p.current
    marginal = _marginal_cost(trades, slopes, *p.trading_prices(prices))
    return np.concatenate([[p.cash_slope(prices)], slopes - marginal]), marginal


def _marginal_cost(trades: Floats, slopes: Floats, buying: Floats, selling: Floats) -> Floats:
    inside = np.minimum(np.maximum(slopes, -selling), buying)
    traded: Floats = np.where(trades > 0.0, buying, -selling)
    return np.where(np.abs(trades) <= NEGLIGIBLE, inside, traded)
