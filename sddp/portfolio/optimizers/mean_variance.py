"""`MeanVariance`: one period, mean against variance, with proportional costs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.portfolio.inputs import Law
from sddp.portfolio.optimizer import NOTHING_MORE, Known, Optimizer, Terms
from sddp.portfolio.optimizers.cvar_matching import match_cvar
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.result import Solved, losses_of
from sddp.portfolio.risk_aversion import (
    CVaRMatched,
    RiskAversion,
    VolatilityDriven,
    check_risk_aversion,
)
from sddp.risk import weighted_cvar


@dataclass(frozen=True, kw_only=True)
class MeanVariance(Optimizer):
    """The one-period mean-variance problem with proportional costs of trading.

    With ``u`` the holdings after trading (cash too, which earns `cash_return` and has no
    variance) and ``x`` the current weights, all as fractions of the wealth before trading::

        max  mean'u - cost(u - x) - (risk_aversion / 2) u' covariance u
        cost(t) = sum_i transaction_cost_i max(t_i, 0) + sale_cost_i max(-t_i, 0)

    Self-financing (default), the objective is the expected growth of wealth less the price of its
    variance.

    Parameters
    ----------
    risk_aversion : float, VolatilityDriven or CVaRMatched
        At least 0, in the convention above (`sddp.portfolio.risk_aversion` has a table of
        others). 0 asks for the greatest mean net of costs, whatever the risk.
    transaction_cost, sale_cost, min_weights, max_weights, min_cash, max_cash, self_financing
        See `Optimizer`.

    Raises
    ------
    ModelError
        A parameter is out of range.

    Examples
    --------
    >>> model = MeanVariance(risk_aversion=5.0, transaction_cost=0.01)
    >>> from sddp.portfolio import Moments
    >>> inputs = Moments.of([0.05], [[0.04]])
    >>> result = model.solve(inputs, current_weights=[0.0], cash_return=0.01)
    >>> float(result.holdings["asset1"].round(6))  # (0.05 - 0.01 - 1.01 * 0.01) / (5 * 0.04)
    0.1495
    """

    risk_aversion: RiskAversion

    def __post_init__(self) -> None:
        check_risk_aversion(self.risk_aversion)
        super().__post_init__()

    @property
    def reads_outcomes(self) -> bool:
        """Whether a CVaR is matched."""
        return isinstance(self.risk_aversion, CVaRMatched)

    def prepare(self, assets: Sequence[Hashable]) -> MeanVarianceKernel:
        """See `Optimizer.prepare`."""
        return MeanVarianceKernel(self, assets)


class MeanVarianceKernel:
    """See `Kernel`."""

    def __init__(self, model: MeanVariance, assets: Sequence[Hashable]) -> None:
        self._terms, self._wanted = Terms(model, assets), model.risk_aversion

    def solve(
        self, mean: Floats, covariance: Floats, current: Floats, known: Known = NOTHING_MORE
    ) -> Solved:
        """See `Kernel.solve`."""
        wanted = self._wanted
        if isinstance(wanted, CVaRMatched):
            if known.law is None:
                raise ModelError(f"{wanted} needs outcomes; give a pair (returns, probabilities)")
            problem = self._terms.problem(mean, covariance, current, known.cash_return)
            return self._terms.solved(self._matched(problem, wanted, known.law))
        if isinstance(wanted, VolatilityDriven):
            if known.volatility_index is None:
                raise ModelError(f"{wanted} needs volatility_index; give it in points")
            aversion = wanted.at(known.volatility_index)
        else:
            aversion = float(wanted)
        problem = self._terms.problem(mean, covariance, current, known.cash_return, aversion)
        return self._terms.solved(problem)

    def _matched(
        self, problem: TransactionCostQp, wanted: CVaRMatched, law: Law
    ) -> TransactionCostQp:
        """The problem at the risk aversion that the CVaR limit asks for."""

        def cvar_at(risk_aversion: float) -> float:
            solution = self._terms.optimum(replace(problem, risk_aversion=risk_aversion))
            certain = problem.cash_return * solution.cash - problem.cost(solution.weights)
            losses = losses_of(law.returns, solution.weights, certain)
            return weighted_cvar(losses, law.probabilities, confidence=wanted.confidence)

        # The risk aversion at which the largest mean is worth as much as the largest variance.
        largest = float(problem.covariance.diagonal().max())
        unit = problem.scale / largest if largest > 0.0 else 1.0
        return replace(problem, risk_aversion=match_cvar(cvar_at, wanted.limit, unit))
