"""One step of trading, in money: costs, the trades a target asks for, and their execution.

Holdings have cash first, then the assets: a vector, or many of them along leading axes. The
backtest, simulations, and anyone who trades step by step use these same functions.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats, read_only
from sddp.errors import DataError, ModelError
from sddp.labels import CASH, ByLabel, label_index, numbers_by_label

Cost: TypeAlias = "float | ByLabel"

# Dearer than any market; 0.5 meant as half a percent is not taken for half the money.
LARGEST_COST = 0.2

# Weights come from solvers whose rows and bounds hold to 1e-9.
WEIGHT_TOLERANCE = 1e-8

# Newton's step, relative to wealth, below which only rounding is left.
ROUNDING = 1e-15


@dataclass(frozen=True, eq=False)
class TransactionCosts:
    """Proportional costs.

    Parameters
    ----------
    buy, sell : array, shape (n_assets,)
        Cost as a fraction of the money traded (0.0005 = 0.05 %), by side.

    Raises
    ------
    DataError
        A cost is not finite, negative, or above 20 %.
    """

    buy: Floats
    sell: Floats

    def __post_init__(self) -> None:
        for side, costs in (("buy", self.buy), ("sell", self.sell)):
            wrong = np.flatnonzero(
                ~((np.asarray(costs) >= 0) & (np.asarray(costs) <= LARGEST_COST))
            )
            if wrong.size:
                raise DataError(
                    f"the {side} cost {np.asarray(costs)[wrong[0]]} lies outside 0 to "
                    f"{LARGEST_COST}; give a decimal fraction (0.0005 = 0.05 %)"
                )
            object.__setattr__(self, side, read_only(costs))

    @classmethod
    def of(
        cls, transaction_cost: Cost | tuple[Cost, Cost], assets: Sequence[Hashable]
    ) -> TransactionCosts:
        """Costs from one number, a mapping or Series by asset, or a pair (buy, sell) of either.

        Raises
        ------
        DataError
            As the constructor, and for a mapping that lacks an asset or names an unknown one.
        """
        pair = transaction_cost if isinstance(transaction_cost, tuple) else (transaction_cost,) * 2
        if len(pair) != 2:
            raise DataError(f"transaction_cost = {pair}; a tuple is a pair (buy, sell)")
        return cls(*(_by_asset(side, assets) for side in pair))

    def charged(self, trades: Floats) -> Floats:
        """Money charged for each of `trades` (money; positive buys)."""
        return self.buy * np.maximum(trades, 0.0) + self.sell * np.maximum(-trades, 0.0)


class Execution(NamedTuple):
    """Executed trades, costs and holdings after them, in money.

    `trades` and `costs` are by asset, shape (..., n_assets); positive trades buy. `holdings`, shape
    (..., 1 + n_assets), are those afterwards, cash first.
    """

    trades: Floats
    costs: Floats
    holdings: Floats


def target_weights(answer: Any, assets: Sequence[Hashable]) -> Floats:
    """Target weights as a vector with cash first, summing to 1.

    Parameters
    ----------
    answer : Series or mapping
        Weight by asset. Assets left out get 0, cash the rest; where ``cash`` is named, all must
        sum to 1. What misses by less than 1e-8 is mended.

    Raises
    ------
    ModelError
        An unknown or repeated name, a weight that is not finite or negative (no short sales), or
        a sum above 1 (no borrowing).
    """
    if not isinstance(answer, (Mapping, pd.Series)):
        raise ModelError(
            f"the weights are of type {type(answer).__name__}: must be a Series or mapping by asset"
        )
    positions = [CASH, *assets]
    if isinstance(answer, pd.Series) and answer.index is label_index(positions):
        given: Floats = answer.to_numpy(dtype=float)
    else:
        given = numbers_by_label(answer, positions, "weights", default=0.0)
    if not (given >= -WEIGHT_TOLERANCE).all() or not np.isfinite(given).all():
        wrong = ~(np.isfinite(given) & (given >= -WEIGHT_TOLERANCE))
        i = int(wrong.argmax())
        raise ModelError(f"the weight of {positions[i]!r} is {float(given[i])}; give 0 or more")
    risky = given[1:]
    cash = 1.0 - float(risky.sum())
    stated = float(given[0]) if CASH in answer.keys() else cash  # noqa: SIM118 - or its values
    if cash < -WEIGHT_TOLERANCE or abs(stated - cash) > WEIGHT_TOLERANCE:
        total = float(given.sum())
        raise ModelError(f"the weights sum to {total:.9g}; assets and cash must sum to 1")
    risky = np.maximum(risky, 0.0)
    risky = risky / max(risky.sum(), 1.0)
    return np.concatenate([[max(1.0 - risky.sum(), 0.0)], risky])


def requested_trades(
    holdings: Floats,
    weights: Floats,
    costs: TransactionCosts,
    fixed: NDArray[np.bool_] | None = None,
) -> Floats:
    """Trades that leave `weights` of the wealth after their own costs.

    Parameters
    ----------
    holdings : array, shape (..., 1 + n_assets)
        Money before trading, cash first; of one portfolio or of many.
    weights : array, shape (1 + n_assets,) or that of `holdings`
        Non-negative, summing to 1.
    costs : TransactionCosts
    fixed : array of bool, shape (n_assets,), optional
        Assets that are not traded, of one portfolio: their trades are exactly 0, and the weights of
        the others and of cash share what the others and cash are worth after costs.

    Returns
    -------
    array, shape (..., n_assets)
        Money; positive buys.
    """
    if fixed is not None and fixed.any():
        return _trades_beside(holdings, weights, costs, ~fixed)
    left = np.asarray(wealth_after_costs(holdings, weights, costs))
    trades: Floats = weights[..., 1:] * left[..., None] - holdings[..., 1:]
    return trades


def _trades_beside(
    holdings: Floats, weights: Floats, costs: TransactionCosts, free: NDArray[np.bool_]
) -> Floats:
    """Trades of the free assets of one portfolio, and zeros."""
    places = np.concatenate([[True], free])
    shares, trades = weights[places], np.zeros(len(free))
    total = float(shares.sum())
    # Where the target is nothing but what is held fixed, all else is sold.
    shares = shares / total if total > 0.0 else np.eye(1, len(shares))[0]
    trades[free] = requested_trades(
        holdings[places], shares, TransactionCosts(costs.buy[free], costs.sell[free])
    )
    return trades


def wealth_after_costs(holdings: Floats, weights: Floats, costs: TransactionCosts) -> Floats:
    """Wealth left when `weights` of it are held: ``v + cost(weights v - holdings) = wealth``.

    The left side is convex, increasing and piecewise linear in ``v``, and too large at the wealth
    before costs: Newton's method from there ends at the root, one kink per asset at most.

    Parameters
    ----------
    holdings, weights, costs
        As in `requested_trades`.

    Returns
    -------
    array, shape of `holdings` without its last axis; a number for one portfolio
    """
    risky, held = weights[..., 1:], holdings[..., 1:]
    wealth = np.asarray(holdings.sum(axis=-1))
    after, moving = wealth.copy(), np.ones(wealth.shape, dtype=bool)
    for _ in range(holdings.shape[-1] + 1):
        trades = risky * after[..., None] - held
        excess = after + costs.charged(trades).sum(axis=-1) - wealth
        rates = np.where(trades > 0.0, costs.buy, -costs.sell)
        slope = 1.0 + (rates @ risky if risky.ndim == 1 else (rates * risky).sum(axis=-1))
        step = excess / slope
        # A portfolio that has arrived stays: its wealth does not depend on its company.
        after = np.where(moving, after - step, after)
        moving &= step > ROUNDING * wealth
        if not moving.any():
            break
    return after[()]


def execute(
    holdings: Floats, requested: Floats, costs: TransactionCosts, quoted: NDArray[np.bool_]
) -> Execution:
    """Sell first, then scale all purchases by one factor so that cash does not go below 0.

    Parameters
    ----------
    holdings : array, shape (..., 1 + n_assets)
        Money before trading, cash first; of one portfolio or of many.
    requested : array, shape (..., n_assets)
        Trades in money; positive buys. No more is sold than is held.
    costs : TransactionCosts
        Charged here and nowhere else.
    quoted : array of bool, shape (n_assets,)
        Assets without a quote are not bought; they may be sold at their carried value.

    Returns
    -------
    Execution
    """
    sales = np.minimum(np.maximum(-requested, 0.0), holdings[..., 1:])
    purchases = np.where(quoted, np.maximum(requested, 0.0), 0.0)
    cash = holdings[..., 0] + ((1.0 - costs.sell) * sales).sum(axis=-1)
    bill = np.asarray(((1.0 + costs.buy) * purchases).sum(axis=-1))
    factor = np.divide(cash, bill, out=np.ones_like(bill), where=bill > cash)
    trades = purchases * factor[..., None] - sales
    charged = costs.charged(trades)
    # The factor leaves cash at 0 up to rounding, which may fall on the wrong side of it.
    left = np.maximum(holdings[..., 0] - trades.sum(axis=-1) - charged.sum(axis=-1), 0.0)
    after = np.concatenate([np.asarray(left)[..., None], holdings[..., 1:] + trades], axis=-1)
    return Execution(trades, charged, after)


def _by_asset(cost: Cost, assets: Sequence[Hashable]) -> Floats:
    if not isinstance(cost, (Mapping, pd.Series)):
        return np.full(len(assets), float(cost))
    return numbers_by_label(cost, assets, "transaction_cost", error=DataError)
