"""`MeanVariance`: one period, mean against variance, with proportional costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from sddp.allocation.model import PerAsset, check_parameters, per_asset
from sddp.errors import DataError, ModelError
from sddp.portfolio.cvar_matching import match_cvar
from sddp.portfolio.inputs import (
    Law,
    ReadMoments,
    Weights,
    check_feasible,
    read_moments,
    read_outcomes,
    read_per_asset,
    read_weights,
)
from sddp.portfolio.moments import Outcomes
from sddp.portfolio.result import MeanVarianceResult, losses_of, result_of
from sddp.portfolio.risk_aversion import (
    CVaRMatched,
    RiskAversion,
    VolatilityDriven,
    check_risk_aversion,
)
from sddp.portfolio.transaction_cost_qp import KinkedQp, solve_kinked_qp
from sddp.risk import weighted_cvar


@dataclass(frozen=True, kw_only=True)
class MeanVariance:
    """The one-period mean-variance problem with proportional costs of trading.

    With ``u`` the holdings after trading (cash too, which earns `cash_return` and has no
    variance) and ``x`` the current weights, all as fractions of the wealth before trading::

        max  mean'u - cost(u - x) - (risk_aversion / 2) u' covariance u
        cost(t) = sum_i transaction_cost_i max(t_i, 0) + sale_cost_i max(-t_i, 0)

    Self-financing form (default): ``sum u + cost(u - x) = 1``. The holdings pay for the trades;
    the objective is the expected growth of wealth less the price of its variance, and
    ``u / sum u`` are the target weights of wealth after costs. A backtest that charges the same
    costs then trades exactly ``u - x``.

    Text-book form: ``sum u = 1``. Costs are weighed in the objective, but nobody pays them:
    ``u`` itself are the target weights. What they leave after costs are paid is smaller by a
    factor ``1 - cost``, so a backtest trades slightly less of everything than this form assumes.

    Parameters
    ----------
    risk_aversion : float, VolatilityDriven or CVaRMatched
        At least 0, in the convention above (`sddp.portfolio.risk_aversion` has a table of
        others). 0 asks for the greatest mean net of costs, whatever the risk.
    transaction_cost : float, or per asset
        Of a purchase (and of a sale, unless `sale_cost` is given) per unit of money traded.
        Per asset: a mapping by name (all of them) or an array in the assets' order.
    sale_cost : float, or per asset, optional
        Of a sale, where it differs.
    min_weights, max_weights : float, or per asset
        Bounds of the holdings ``u``. What a mapping leaves out keeps 0 and 1: no short sales.
    min_cash, max_cash : float
        Bounds of the cash. ``max_cash=0`` takes cash out of the problem.
    self_financing : bool
        Which form.

    Raises
    ------
    ModelError
        A parameter is out of range.

    Examples
    --------
    >>> model = MeanVariance(risk_aversion=5.0, transaction_cost=0.01)
    >>> result = model.solve([0.05], [[0.04]], current_weights=[0.0], cash_return=0.01)
    >>> float(result.holdings["asset1"].round(6))  # (0.05 - 0.01 - 1.01 * 0.01) / (5 * 0.04)
    0.1495
    """

    risk_aversion: RiskAversion
    transaction_cost: PerAsset = 0.0
    sale_cost: PerAsset | None = None
    min_weights: PerAsset = 0.0
    max_weights: PerAsset = 1.0
    min_cash: float = 0.0
    max_cash: float = 1.0
    self_financing: bool = True

    def __post_init__(self) -> None:
        check_risk_aversion(self.risk_aversion)
        check_parameters(self, ("transaction_cost", "sale_cost"))
        low, high = self.min_cash, self.max_cash
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ModelError(f"min_cash = {low}, max_cash = {high}; give two ordered numbers")

    def solve(
        self,
        mean: ArrayLike,
        covariance: ArrayLike,
        *,
        current_weights: Weights,
        cash_return: float = 0.0,
        volatility_index: float | None = None,
        outcomes: Outcomes | None = None,
    ) -> MeanVarianceResult:
        """Optimal holdings.

        Parameters
        ----------
        mean : Series or array, shape (n_assets,)
            Expected simple return of the risky assets over the period. Its index names them.
        covariance : DataFrame or array, shape (n_assets, n_assets)
            Of the simple returns; positive semidefinite. A DataFrame is put into the mean's order.
        current_weights : mapping or Series by name, or array
            Shares of wealth before trading. Assets left out are 0; cash is the rest of 1, and
            where ``"cash"`` is named all must sum to 1. An array holds the risky assets.
        cash_return : float
            Simple return of cash over the period, known in advance.
        volatility_index : float, optional
            In points; what a `VolatilityDriven` risk aversion needs. Others do not read it.
        outcomes : Outcomes, or pair (returns, probabilities), optional
            Law of the period's returns on which a `CVaRMatched` risk aversion measures. Others do
            not read it.

        Returns
        -------
        MeanVarianceResult

        Raises
        ------
        DataError
            The moments or outcomes do not fit together, or the covariance has a negative
            eigenvalue.
        ModelError
            An unknown name, a cost out of range, something the risk aversion needs is missing, or
            risk aversion so high that wasting wealth would pay (self-financing form).
        InfeasibleProblem
            No holdings keep the bounds, or none of this model keeps the CVaR limit.
        SolverError
            The optimality conditions are missed by more than 1e-8.
        """
        moments = read_moments(mean, covariance)
        if not math.isfinite(cash_return):
            raise DataError(f"cash_return = {cash_return}; give a decimal return of the period")
        problem = self._problem(moments, current_weights, float(cash_return))
        check_feasible(problem, moments.names)
        wanted = self.risk_aversion
        if isinstance(wanted, CVaRMatched):
            if outcomes is None:
                raise ModelError(f"{wanted} needs outcomes; give a pair (returns, probabilities)")
            problem = _matched(problem, wanted, read_outcomes(outcomes, moments.names))
        elif isinstance(wanted, VolatilityDriven):
            if volatility_index is None:
                raise ModelError(f"{wanted} needs volatility_index; give it in points")
            problem = replace(problem, risk_aversion=wanted.at(volatility_index))
        else:
            problem = replace(problem, risk_aversion=float(wanted))
        return result_of(problem, solve_kinked_qp(problem), moments.names)

    def _problem(self, moments: ReadMoments, current: Weights, cash_return: float) -> KinkedQp:
        """The problem on arrays, without risk aversion."""
        names = moments.names
        purchase = per_asset(self.transaction_cost, names, "transaction_cost")
        sale = self.sale_cost
        return KinkedQp(
            mean=moments.mean,
            covariance=moments.covariance,
            risk_aversion=0.0,
            current=read_weights(current, names),
            purchase_cost=purchase,
            sale_cost=purchase if sale is None else per_asset(sale, names, "sale_cost"),
            lower=read_per_asset(self.min_weights, names, "min_weights", default=0.0),
            upper=read_per_asset(self.max_weights, names, "max_weights", default=1.0),
            cash_return=cash_return,
            cash_lower=float(self.min_cash),
            cash_upper=float(self.max_cash),
            self_financing=self.self_financing,
        )


def _matched(problem: KinkedQp, wanted: CVaRMatched, law: Law) -> KinkedQp:
    """The problem at the risk aversion that the CVaR limit asks for."""

    def cvar_at(risk_aversion: float) -> float:
        solution = solve_kinked_qp(replace(problem, risk_aversion=risk_aversion))
        certain = problem.cash_return * solution.cash - problem.cost(solution.weights)
        losses = losses_of(law.returns, solution.weights, certain)
        return weighted_cvar(losses, law.probabilities, confidence=wanted.confidence)

    # The risk aversion at which the largest mean is worth as much as the largest variance.
    largest = float(problem.covariance.diagonal().max())
    unit = problem.scale / largest if largest > 0.0 else 1.0
    return replace(problem, risk_aversion=match_cvar(cvar_at, wanted.limit, unit))
