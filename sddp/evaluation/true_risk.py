"""Risk of decisions under the true law from which their scenarios were sampled.

A limit on CVaR that holds on a sample need not hold under the law behind it. These say by how much
decisions break the true limit, and move them towards cash until they keep it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from sddp.arrays import Floats
from sddp.risk import weighted_cvar
from sddp.rng import Rng
from sddp.simulation.laws import ScenarioLaw

# A decision counts as breaking the limit where it does by more than this share of it.
BREACH = 0.01

# Halvings that find a share of holdings to double precision.
HALVINGS = 52


def over_limit(ratios: Floats) -> dict[str, float]:
    """True one-period CVaR over the limit: mean, 95 % quantile, share of decisions that break it.

    Parameters
    ----------
    ratios : array of any shape
        CVaR with the cost of trading over ``limit * wealth before trading``, one per decision.
    """
    return {
        "true_cvar_over_limit": float(np.mean(ratios)),
        "true_cvar_over_limit_95": float(np.quantile(ratios, 0.95)),
        "share_over_limit": float(np.mean(ratios > 1.0 + BREACH)),
    }


def true_cvar(
    holdings: ArrayLike, law: ScenarioLaw, *, confidence: float, n_scenarios: int, rng: Rng
) -> Floats:
    """CVaR of holdings over one period under a law, costs left out, on common draws.

    Parameters
    ----------
    holdings : array, shape (n, 1 + n_assets)
        Money after trading, cash first; cash earns nothing beside returns in excess of it.
    law : ScenarioLaw
        Of simple returns in excess of cash.
    confidence : float
        0.9 means the mean of the worst 10 %.
    n_scenarios : int
    rng : int, SeedSequence or Generator

    Returns
    -------
    array, shape (n,)
        In money.
    """
    risky = np.atleast_2d(np.asarray(holdings, dtype=float))[:, 1:]
    chunks = law.sample(n_scenarios, 1, rng=rng)
    losses = np.concatenate([-(returns[:, 0] @ risky.T) for returns in chunks])
    return np.array([weighted_cvar(column, confidence=confidence) for column in losses.T])


def towards_cash(
    before: Floats, after: Floats, cvar: Floats, *, limit: float, cost: ArrayLike
) -> Floats:
    """Holdings after trading, moved towards cash until a limit on CVaR holds.

    What is left of the risky holdings is one share of all of them, the largest that will do; the
    trades, and what they cost, are those from the holdings before. Decisions that keep the limit
    stay as they are. Where selling everything would break it too (possible below the cost of a
    sale), everything is sold.

    Parameters
    ----------
    before, after : array, shape (n, 1 + n_assets)
        Money before and after trading, cash first.
    cvar : array, shape (n,)
        CVaR of the loss of `after` over one period in excess of cash, in money, costs left out. It
        is proportional to the risky holdings, so that one number says it for every share.
    limit : float
        Of CVaR and costs together, as a fraction of wealth before trading.
    cost : float or array, shape (n_assets,)
        Of purchases and sales, per unit of money traded.

    Returns
    -------
    array, shape (n, 1 + n_assets)
    """
    wealth = before.sum(axis=1)

    def paid(share: Floats) -> Floats:
        trades = np.abs(share[:, None] * after[:, 1:] - before[:, 1:])
        charged: Floats = (trades * np.asarray(cost, dtype=float)).sum(axis=1)
        return charged

    def holds(share: Floats) -> np.ndarray:
        return np.asarray(share * cvar + paid(share) <= limit * wealth)

    low, high = np.zeros(len(after)), np.ones(len(after))
    kept = holds(high)
    # Risk and cost are convex in the share, so those that hold are an interval from 0 on.
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        fits = holds(middle)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    assets = low[:, None] * after[:, 1:]
    moved = np.column_stack([wealth - paid(low) - assets.sum(axis=1), assets])
    return np.where(kept[:, None], after, moved)
