"""Joint distribution of regime and returns between a decision and the next one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sddp.arrays import Floats
from sddp.risk import tail_probabilities
from sddp.scenarios import MarkovScenarios

# Probabilities below this are rounding.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class OnePeriodDistribution:
    """All outcomes ``(j, s)`` of one period, seen from a regime or from a belief over regimes.

    Attributes
    ----------
    returns : array, shape (n_outcomes, n_assets)
        Simple decimal returns of the risky assets.
    probabilities : array, shape (n_outcomes,)
        ``(belief P)_j p_js``; outcomes of probability 0 are left out.
    cash_return : float
    """

    returns: Floats
    probabilities: Floats
    cash_return: float
    _by_asset: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_asset", np.ascontiguousarray(self.returns.T))

    @cached_property
    def digest(self) -> str:
        """Hash of the content."""
        content = hashlib.sha256()
        for array in (self.returns, self.probabilities):
            content.update(np.ascontiguousarray(array).data)
        content.update(repr((self.returns.shape, float(self.cash_return))).encode())
        return content.hexdigest()

    def losses(self, cash: float, assets: Floats) -> Floats:
        """Loss of holdings in each outcome, in money; costs of trading are not in it."""
        held = np.flatnonzero(assets)
        earned: Floats = np.dot(assets[held], np.take(self._by_asset, held, axis=0))
        return -earned - self.cash_return * cash

    def tail(self, losses: Floats, confidence: float) -> Floats:
        """Weights of the worst ``1 - confidence`` of outcomes, summing to 1."""
        return tail_probabilities(self.probabilities, losses, 1.0 - confidence)

    def cvar(self, cash: float, assets: Floats, confidence: float) -> float:
        """CVaR of the loss of holdings, in money."""
        losses = self.losses(cash, assets)
        return float(self.tail(losses, confidence) @ losses)

    def value_at_risk(self, cash: float, assets: Floats, confidence: float) -> float:
        """VaR of the loss of holdings, in money: the least loss of the tail of `cvar`."""
        losses = self.losses(cash, assets)
        return float(losses[self.tail(losses, confidence) > ROUNDING].min())

    def mean_gain(self, cash: float, assets: Floats) -> float:
        """Expected return of holdings, in money; costs of trading are not in it."""
        return float(self.cash_return * cash + self.mean_return_under(self.probabilities) @ assets)

    def mean_return_under(self, weights: Floats) -> Floats:
        """Mean return of each asset under given weights of the outcomes."""
        tail = np.flatnonzero(weights)
        mean: Floats = np.dot(weights[tail], np.take(self.returns, tail, axis=0))
        return mean


def one_period_distribution(
    scenarios: MarkovScenarios,
    stage: int,
    belief: Floats,
    cash_return: float,
    *,
    in_limit: bool = True,
    margin: Floats | None = None,
) -> OnePeriodDistribution:
    """Outcomes of the period after a stage.

    Parameters
    ----------
    scenarios : MarkovScenarios
    stage : int
        Decision from which one looks out.
    belief : array, shape (n_states,)
        Probabilities of the present regime; a unit vector where it is known.
    cash_return : float
    in_limit : bool
        As a risk limit sees them: with `MarkovScenarios.limit_shift`.
    margin : array, shape (n_assets,), optional
        Taken off every return: `Terms.margin` of a robust limit.
    """
    arrival = belief @ scenarios.transition_matrix[stage]
    possible = np.flatnonzero(arrival > 0.0)
    assert scenarios.probabilities is not None
    weights = arrival[possible, None] * scenarios.probabilities[stage, possible]
    returns = scenarios.returns[stage, possible]
    if in_limit and scenarios.limit_shift is not None:
        returns = returns + scenarios.limit_shift[possible, None]
    if margin is not None:
        returns = returns - margin
    returns = returns.reshape(-1, scenarios.n_assets)
    keep = weights.ravel() > 0.0
    return OnePeriodDistribution(returns[keep], weights.ravel()[keep], cash_return)
