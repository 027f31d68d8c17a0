"""Herding: one shock hits all, limits force sales, sales move prices, which force more sales.

The cascade is iterated to rest or to default. All impact of forced sales counts at once, the
temporary part too: while everybody sells, nothing reverts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.labels import label_index
from sddp.simulation.agents.market import Impact

Limit: TypeAlias = Literal["none", "leverage", "risk"]

# Changes of prices below this are rest.
REST = 1e-14
MOST_ROUNDS = 10_000


@dataclass(frozen=True, eq=False, kw_only=True)
class Crowd:
    """Investors with debts and limits. Money is in shares of all their assets before the shock.

    Parameters
    ----------
    assets : sequence of labels
    holdings : array, shape (n_agents, n_assets)
        Money held in each asset before the shock.
    debt : array, shape (n_agents,)
        Money owed; at most the holdings. Cash is negative debt.
    limit : {"none", "leverage", "risk"}
        "leverage": holdings over equity may be at most `level` (a margin of 1 / level). "risk":
        `unit_risk` of the holdings, per unit of equity, may be at most `level`: with unit CVaRs or
        volatilities by asset this is a limit on a (comonotone) CVaR or volatility.
    level : float or array, shape (n_agents,)
    unit_risk : array, shape (n_assets,), optional
        Risk of one unit of money in each asset.
    impact : Impact
        ``alpha`` per unit of all assets.

    Raises
    ------
    ModelError
        Shapes disagree, something is negative, or an agent is in default or beyond its limit
        before anything has happened.
    """

    assets: Sequence[Hashable]
    holdings: Floats
    debt: Floats
    impact: Impact
    limit: Limit = "none"
    level: float | Floats = np.inf
    unit_risk: Floats | None = None

    def __post_init__(self) -> None:
        h, d = np.asarray(self.holdings, dtype=float), np.asarray(self.debt, dtype=float)
        if h.ndim != 2 or h.shape[1] != len(self.assets) or d.shape != (len(h),) or not len(h):
            raise ModelError(f"holdings {h.shape}, debt {d.shape}: must be (n, assets) and (n,)")
        if not (np.isfinite(h).all() and h.min() >= 0.0 and np.isfinite(d).all()):
            raise ModelError("holdings, debt: must be finite, holdings at least 0")
        if self.limit not in get_args(Limit):
            raise ModelError(f"limit={self.limit!r}: must be one of {get_args(Limit)}")
        if self.limit == "risk" and self.unit_risk is None:
            raise ModelError("unit_risk: must be given with limit='risk'")
        if (h.sum(axis=1) - d <= 0.0).any():
            raise ModelError(
                f"debt of agent {int(np.argmax(d - h.sum(axis=1)))}: must be below its holdings"
            )
        over = self.excess(h, d) > REST
        if over.any():
            raise ModelError(f"level: agent {int(over.argmax())} is beyond it before any shock")

    @property
    def unit(self) -> Floats:
        """What a unit of each asset counts against the limit."""
        if self.limit == "risk":
            return np.asarray(self.unit_risk, dtype=float)
        return np.ones(len(self.assets))

    def excess(self, holdings: Floats, debt: Floats) -> Floats:
        """Measure of the holdings beyond what the equity allows; 0 without a limit."""
        measure = holdings @ self.unit
        if self.limit == "none":
            return np.zeros_like(measure)
        equity = holdings.sum(axis=-1) - debt
        allowed = np.asarray(self.level, dtype=float) * np.maximum(equity, 0.0)
        excess: Floats = np.maximum(measure - allowed, 0.0)
        return excess


@dataclass(frozen=True, eq=False)
class Cascade:
    """What became of a shock.

    Attributes
    ----------
    prices : array, shape (n_rounds + 1, n_assets)
        Relative prices: after the shock, then after each round of sales.
    sold : array, shape (n_agents, n_assets)
        Units sold, worth 1 each before the shock.
    equity : array, shape (n_agents,)
        At the end; defaulted agents have 0, what is missing is the lenders' loss.
    defaulted : array of bool, shape (n_agents,)
    first_loss, final_loss : float
        Of all agents and lenders: from the shock alone, and in the end.
    providers_gain : float
        Of those who bought, marked at the last prices.
    lenders_loss : float
    rounds : int
    at_rest : bool
        False where the rounds ended first.
    conservation : float
        Largest error of a round's books, in shares of all assets.
    """

    prices: Floats
    sold: Floats
    equity: Floats
    defaulted: NDArray[np.bool_]
    first_loss: float
    final_loss: float
    providers_gain: float
    lenders_loss: float
    rounds: int
    at_rest: bool
    conservation: float

    @property
    def multiplier(self) -> float:
        """Final loss over first loss: 1 where nobody had to sell."""
        return self.final_loss / self.first_loss if self.first_loss else 1.0


def run_cascade(crowd: Crowd, shock: Floats) -> Cascade:
    """Follow a shock to rest.

    Each round, an agent beyond its limit sells what brings it back at the prices of that round,
    pro rata of its holdings, and repays debt with the proceeds. All sales of a round move the
    prices together, and everybody sells at the price before and after the move on average. An
    agent whose equity is gone is in default: all it holds is sold, and its lenders bear what is
    missing. No holding, and no money of an agent, is ever negative.

    Parameters
    ----------
    crowd : Crowd
    shock : array, shape (n_assets,)
        Simple returns.

    Raises
    ------
    ModelError
        A price would fall below zero; the trade is named.
    """
    r = np.asarray(shock, dtype=float)
    if r.shape != (len(crowd.assets),) or not (np.isfinite(r).all() and r.min() >= -1.0):
        raise ModelError(f"shock={r}: must be {len(crowd.assets)} returns of at least -1")
    units = np.array(crowd.holdings, dtype=float)
    debt, price = np.array(crowd.debt, dtype=float), 1.0 + r
    start = float(units.sum() - debt.sum())
    prices, sold = [price], np.zeros_like(units)
    bought, paid, error = np.zeros(len(r)), 0.0, 0.0
    out, lost, at_rest = np.zeros(len(units), dtype=bool), 0.0, False
    for _ in range(MOST_ROUNDS):
        sales = _forced(crowd, units, debt, price, out)
        total = sales.sum(axis=0)
        after = _moved(crowd, price, (1.0 + r), sold.sum(axis=0) + total)
        middle = (price + after) / 2.0
        before = _money(units, debt, price, bought, paid)
        proceeds = sales @ middle
        units, debt, sold = units - sales, debt - proceeds, sold + sales
        bought, paid = bought + total, paid + float(total @ middle)
        # Prices move the value of what is held; the trades themselves create no money.
        moved = float((units.sum(axis=0) + bought) @ (after - price))
        now = _money(units, debt, after, bought, paid)
        error = max(error, abs(now - before - moved))
        step, price = float(np.abs(after - price).max()), after
        prices.append(price)
        gone = ~out & (units.sum(axis=1) <= 0.0) & (debt > 0.0)
        lost, out = lost + float(debt[gone].sum()), out | gone
        debt[gone] = 0.0
        if step <= REST and not gone.any():
            at_rest = True
            break
    equity = units @ price - debt
    final_loss = start - float(equity.sum()) + lost
    # Without forced sales lenders bear what is missing too.
    lost += float(np.maximum(-equity, 0.0).sum())
    equity = np.maximum(equity, 0.0)
    at_first = np.asarray(crowd.holdings) @ (1.0 + r) - np.asarray(crowd.debt)
    return Cascade(
        prices=np.array(prices),
        sold=sold,
        equity=equity,
        defaulted=out,
        first_loss=start - float(at_first.sum()),
        final_loss=final_loss,
        providers_gain=float(bought @ price) - paid,
        lenders_loss=lost,
        rounds=len(prices) - 1,
        at_rest=at_rest,
        conservation=error,
    )


def cascade_table(crowd: Crowd, shock: Floats, depths: Sequence[float]) -> pd.DataFrame:
    """Multiplier, defaults and losses against depth.

    Parameters
    ----------
    crowd : Crowd
    shock : array, shape (n_assets,)
    depths : sequence of float
        Multiples of the crowd's own depth: alpha is divided by each.

    Returns
    -------
    DataFrame
        Index ``depth``; columns ``multiplier``, ``final loss``, ``defaults``, ``rounds``.
    """
    rows = []
    for depth in depths:
        if not depth > 0.0:
            raise ModelError(f"depth={depth}: must be positive")
        alpha = crowd.impact.on(crowd.assets) / depth
        impact = replace(crowd.impact, alpha=alpha)
        found = run_cascade(replace(crowd, impact=impact), shock)
        rows.append((found.multiplier, found.final_loss, int(found.defaulted.sum()), found.rounds))
    columns = ["multiplier", "final loss", "defaults", "rounds"]
    return pd.DataFrame(rows, index=label_index(depths, "depth"), columns=columns)


def _forced(
    crowd: Crowd, units: Floats, debt: Floats, price: Floats, out: NDArray[np.bool_]
) -> Floats:
    """Units that have to be sold at the present prices."""
    held = units * price
    equity = held.sum(axis=1) - debt
    measure = held @ crowd.unit
    excess = crowd.excess(held, debt)
    share = np.divide(excess, measure, out=np.zeros_like(excess), where=measure > 0.0)
    if crowd.limit != "none":
        # Insolvent: everything. Without a limit nobody is forced to anything.
        share = np.where(equity <= 0.0, 1.0, share)
    sales: Floats = np.where(out, 0.0, np.minimum(share, 1.0))[:, None] * units
    return sales


def _moved(crowd: Crowd, price: Floats, start: Floats, sold: Floats) -> Floats:
    """Prices once `sold` units have been sold in all, from those after the shock."""
    if not sold.any():
        return price
    moved: Floats = start * (1.0 + crowd.impact.move(-sold, list(crowd.assets)))
    return moved


def _money(units: Floats, debt: Floats, price: Floats, bought: Floats, paid: float) -> float:
    """Wealth of agents and of those who bought from them."""
    return float((units @ price).sum() - debt.sum() + bought @ price - paid)
