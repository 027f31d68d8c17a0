"""One period under a limit on CVaR: the best weights for given rewards, exactly.

The CVaR of a portfolio is its mean loss over its own worst tail, and for any other portfolio the
mean loss over that tail is a lower bound on its CVaR (Kunzi-Bay and Mayer, 2006). So the limit
is a linear programme over the weights alone, with one row for each tail that a solution breaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status
from sddp.risk import tail_probabilities

# Unit of wealth in the LPs, as in the engine's homogeneous problems: tolerances are 1e-12 of it.
UNIT = 2.0**-10
# Of wealth: a breach below this is the solver's own accuracy.
LIMIT_TOLERANCE = 1e-10


class TailMeans(Protocol):
    """What a limit on CVaR must know of a law of returns."""

    def tail_mean(self, weights: Floats) -> Floats:
        """Mean return of each asset over the worst outcomes of a portfolio, shape (n_assets,)."""


@dataclass(frozen=True, eq=False)
class ReturnLaw:
    """Finitely many excess returns ``scale * growth - cash_growth`` and the tail that is meant.

    Laws that differ in scale only, as those of an autoregressive process do at different values
    of its factors, share one array of growth.

    Parameters
    ----------
    growth : array, shape (n_outcomes, n_assets)
    probabilities : array, shape (n_outcomes,)
    scale : array, shape (n_assets,)
    cash_growth : float
        One plus the simple return of cash (1 where `growth` is gross and cash earns nothing).
    confidence : float
        0.9 means the worst 10 %.
    """

    growth: Floats
    probabilities: Floats
    scale: Floats
    cash_growth: float
    confidence: float

    def tail_mean(self, weights: Floats) -> Floats:
        """See `TailMeans`; weights are shares of wealth or money, cash left out."""
        losses = -(self.growth @ (self.scale * weights))
        tail = tail_probabilities(self.probabilities, losses, 1.0 - self.confidence)
        worst = np.flatnonzero(tail)
        mean: Floats = self.scale * (tail[worst] @ self.growth[worst])
        return mean - self.cash_growth

    def cvar(self, weights: Floats) -> float:
        """CVaR of the loss in excess of cash, in the unit of `weights`."""
        return -float(self.tail_mean(weights) @ weights)


class LimitedPortfolio:
    """``max rewards.w`` over ``w >= 0, sum w <= 1, CVaR(-r.w) <= limit``; what is left is cash.

    Returns are in excess of cash. (Where cash earns c and the limit is on the loss of all wealth,
    give returns less c and the limit plus c.) The linear programme is kept: other rewards restart
    from the last basis and from the tails already found.

    Parameters
    ----------
    law : TailMeans
    n_assets : int
    limit : float
        Largest acceptable CVaR as a fraction of wealth.

    Raises
    ------
    ModelError
        `limit` is negative or not finite.
    """

    def __init__(self, law: TailMeans, n_assets: int, limit: float) -> None:
        self._law, self._limit = law, check_limit(limit)
        self._columns = np.arange(n_assets, dtype=np.int32)
        free, one = np.full(1, -np.inf), np.ones(1)
        budget = sp.csr_array(np.ones((1, n_assets)))
        lower, upper = np.zeros(n_assets), np.ones(n_assets)
        arrays = Arrays(np.zeros(n_assets), budget, free, one, lower, upper)
        self._lp = LinearProgram(arrays, Scaling.uniform(arrays, UNIT))

    def best(self, rewards: Floats) -> Floats:
        """Weights of largest reward, shape (n_assets,).

        Parameters
        ----------
        rewards : array, shape (n_assets,)
            Per unit of wealth moved from cash to the asset.

        Raises
        ------
        DataError
            A reward is not finite.
        SolverError
            The linear programme was not solved to optimality.
        """
        if not np.isfinite(rewards).all():
            raise DataError(f"rewards = {rewards} holds a number that is not finite")
        self._lp.set_costs(self._columns, -np.asarray(rewards, dtype=float))
        last = np.full(len(rewards), np.nan)
        while True:
            if self._lp.solve() is not Status.OPTIMAL:
                raise self._failure(self._lp.status_text())
            weights = np.maximum(self._lp.primal(), 0.0)
            row = -self._law.tail_mean(weights)
            if float(row @ weights) <= self._limit + LIMIT_TOLERANCE:
                return weights
            if np.array_equal(row, last):
                raise self._failure("a row just added is broken")
            self._lp.add_rows(row[None, :], np.full(1, -np.inf), np.full(1, self._limit))
            last = row

    def _failure(self, reason: str) -> SolverError:
        file = self._lp.write("sddp")
        return SolverError(
            f"portfolio under a CVaR limit of {self._limit}: {reason}; written to {file}"
        )


def check_limit(limit: float) -> float:
    """Return the limit; refuse what is none on CVaR.

    Raises
    ------
    ModelError
        Negative or not finite.
    """
    if not (np.isfinite(limit) and limit >= 0.0):
        raise ModelError(f"cvar_limit = {limit}; give a fraction of wealth >= 0")
    return limit
