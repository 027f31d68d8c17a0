"""Scaling of a decision towards cash until its one-period CVaR meets a limit."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from sddp.allocation.one_period import OnePeriodDistribution
from sddp.arrays import Floats

# Of wealth: what the CVaR of a scaled decision may miss the limit by.
TOLERANCE = 1e-12


class Scaled(NamedTuple):
    """Holdings after trading, cash first, in money, and what they cost and risk.

    `scale` is the share of the risky holdings that was kept; `cvar` the one-period CVaR of the
    loss, cost of trading included, as a fraction of the wealth before trading.
    """

    holdings: Floats
    scale: float
    cost: float
    cvar: float


def scaled_to_limit(
    wanted: Floats,
    before: Floats,
    ahead: OnePeriodDistribution,
    *,
    purchase_cost: Floats,
    sale_cost: Floats,
    confidence: float,
    limit: float,
) -> Scaled:
    """Scale risky holdings towards cash until the one-period CVaR is the limit.

    With the share s kept, the trades from `before` to ``s * wanted`` are paid for, and what is left
    is in cash, which earns interest. The CVaR is convex in s but not proportional to it; the
    largest s up to 1 that keeps the limit is found. Where none does (holdings that may be neither
    kept nor sold within it), the s of least CVaR is taken.

    Parameters
    ----------
    wanted : array, shape (n_assets,)
        Risky holdings after trading, in money.
    before : array, shape (1 + n_assets,)
        Holdings before trading, cash first, in money.
    ahead : OnePeriodDistribution
        Of the assets' returns until the next decision.
    purchase_cost, sale_cost : array, shape (n_assets,)
        Per unit of money traded.
    confidence : float
        0.9 means the worst 10 %.
    limit : float
        Largest CVaR as a fraction of wealth before trading.
    """
    wealth = float(before.sum())

    def at(scale: float) -> Scaled:
        risky = scale * wanted
        trades = risky - before[1:]
        bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
        cost = float(bought @ purchase_cost + sold @ sale_cost)
        cash = float(before[0] - trades.sum() - cost)
        loss = ahead.cvar(cash, risky, confidence) + cost
        return Scaled(np.concatenate([[max(cash, 0.0)], risky]), scale, cost, loss / wealth)

    def excess(scale: float) -> float:
        return at(scale).cvar - limit

    whole = at(1.0)
    if whole.cvar <= limit + TOLERANCE:
        return whole
    low = 0.0
    if excess(low) > 0.0:
        low = float(minimize_scalar(excess, bounds=(0.0, 1.0), method="bounded").x)
        if excess(low) > 0.0:
            return at(low)
    # The root is approached from within the limit.
    scale = float(brentq(excess, low, 1.0, xtol=1e-15, rtol=1e-14))
    while excess(scale) > TOLERANCE and scale > low:
        scale = low + (scale - low) * (1.0 - 1e-12)
    return at(scale)
