"""CVaR limit as lazy constraints on tails of the one-period distribution.

The CVaR of a decision is the mean loss over its worst tail, and for any other decision the mean
loss over that same tail is a lower bound on its CVaR (Kunzi-Bay and Mayer, 2006). So the row
"mean loss over the present tail <= limit" is valid everywhere and exact here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from sddp.allocation.one_period import OnePeriodDistribution
from sddp.arrays import Floats
from sddp.engine.model.tail_form import TailForm


@dataclass(frozen=True, eq=False)
class TailRows:
    """Row generator of the one-period CVaR limit.

    Its variables are holdings after trading (cash first), purchases, sales, incoming holdings
    (cash first), breach of the limit.

    Parameters
    ----------
    distribution : OnePeriodDistribution
    purchase_cost, sale_cost : array, shape (n_assets,)
    confidence, limit : float
        The mean of the worst ``1 - confidence`` of losses is at most `limit` times wealth.
    """

    distribution: OnePeriodDistribution
    purchase_cost: Floats
    sale_cost: Floats
    confidence: float
    limit: float

    @property
    def pool_key(self) -> Hashable:
        """Key under which stages of the same distribution and limit share constraints."""
        return self.distribution.digest, self.limit

    def violated(self, values: Floats, tolerance: float) -> tuple[Floats, Floats]:
        """See `RowGenerator`; the tolerance is relative to wealth."""
        n = len(self.purchase_cost)
        losses = self.distribution.losses(values[0], values[1 : n + 1])
        tail = self.distribution.tail(losses, self.confidence)
        purchases, sales = values[n + 1 : 2 * n + 1], values[2 * n + 1 : 3 * n + 1]
        cvar = float(tail @ losses + self.purchase_cost @ purchases + self.sale_cost @ sales)
        wealth, breach = float(values[3 * n + 1 : -1].sum()), float(values[-1])
        broken = cvar - breach > self.limit * wealth + tolerance * max(wealth, 0.0)
        rows = self._row(tail)[None, :] if broken else np.zeros((0, len(values)))
        return rows, np.zeros(len(rows))

    def at_combinations(self, outgoing: Floats) -> tuple[Floats, Floats, Floats]:
        """One row, whatever the number of outcomes; see `RowGenerator`.

        CVaR is convex: that of a combination is at most the combination of the points' own.
        """
        n = len(self.purchase_cost)
        cvar = [self.distribution.cvar(float(u[0]), u[1:], self.confidence) for u in outgoing]
        row = self._row(np.zeros(len(self.distribution.probabilities)))
        row[: n + 1] = 0.0
        return np.array(cvar)[None, :], row[None, :], np.zeros(1)

    def tail_form(self) -> TailForm:
        """The same rows as arrays; see `RowGenerator`."""
        n = len(self.purchase_cost)
        law = self.distribution
        returns = law.returns
        cash = np.full((len(returns), 1), law.cash_return)
        fixed = self._row(np.zeros(len(returns)))
        fixed[: n + 1] = 0.0
        size = np.zeros(len(fixed))
        size[3 * n + 1 : -1] = 1.0
        return TailForm(
            -np.hstack([cash, returns]),
            law.probabilities,
            1.0 - self.confidence,
            fixed,
            size,
        )

    def digest(self) -> str:
        """Hash of the outcomes and of the limit."""
        content = hashlib.sha256(self.distribution.digest.encode())
        content.update(self.purchase_cost.tobytes() + self.sale_cost.tobytes())
        content.update(repr((self.confidence, self.limit)).encode())
        return content.hexdigest()

    def _row(self, tail: Floats) -> Floats:
        """``mean loss over the tail - limit * wealth - breach <= 0``."""
        n = len(self.purchase_cost)
        return np.concatenate(
            [
                [-self.distribution.cash_return],
                -self.distribution.mean_return_under(tail),
                self.purchase_cost,
                self.sale_cost,
                np.full(n + 1, -self.limit),
                [-1.0],
            ]
        )
