"""The distribution of a portfolio's return with and without others who trade."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading import target_weights
from sddp.errors import ModelError
from sddp.labels import ByLabel, label_index
from sddp.rng import Rng, child_seed, root_seed
from sddp.simulation.agents.market import Impact, ImpactMarket, Notion, noisy_means, trading_costs
from sddp.simulation.agents.potential import PotentialGame
from sddp.simulation.laws import ScenarioLaw
from sddp.simulation.measures import compare_risk

# Scenarios whose estimates are held in memory together.
AT_A_TIME = 1_024


@dataclass(frozen=True, eq=False)
class CrowdedOutcomes:
    """Returns of one portfolio in common scenarios.

    Attributes
    ----------
    alone : array, shape (n_scenarios,)
        Without others.
    at_once : array, shape (n_scenarios,)
        With them, marked at prices that their trades have just moved.
    reverted : array, shape (n_scenarios,)
        With them, once the temporary part of the move is gone.
    demand, price_move : array, shape (n_scenarios, n_assets)
    """

    alone: Floats
    at_once: Floats
    reverted: Floats
    demand: Floats
    price_move: Floats

    def compared(self, *, confidence: float = 0.95) -> pd.DataFrame:
        """Extra risk, paired, with standard errors: see `compare_risk`; first is with others."""
        tables = {
            "at once": compare_risk(-self.at_once, -self.alone, confidence=confidence),
            "reverted": compare_risk(-self.reverted, -self.alone, confidence=confidence),
        }
        return pd.concat(tables, names=["marked", "figure"])


def outcomes_with_others(
    weights: ByLabel,
    law: ScenarioLaw,
    market: ImpactMarket,
    *,
    n_scenarios: int,
    noise: float | Floats,
    alikeness: float,
    rng: Rng,
    notion: Notion = "nash",
    foresight: bool = True,
) -> CrowdedOutcomes:
    """Hold a portfolio while others change their minds, and their trades move prices.

    In each scenario the period's returns are drawn, every agent's estimate of the mean is the
    market's plus an error that is correlated between agents, and all trade from their current
    weights to the equilibrium. The portfolio itself does not trade and pays nothing.

    In equilibrium the price falls no further than to where it makes up for the worse estimates,
    however thin the market is. Without foresight all trade at once on the old prices, and then see
    what they have done.

    Parameters
    ----------
    weights : mapping or Series
    law : ScenarioLaw
        Of one period without impact.
    market : ImpactMarket
    n_scenarios : int
    noise : float or array, shape (n_assets,)
        Standard deviation of an agent's error.
    alikeness : float
        Correlation of the errors of two agents.
    rng : int, SeedSequence or Generator
        Markets with the same one see the same scenarios and errors (of their first agents).
    notion : {"price_taking", "nash"}
    foresight : bool
        Whether agents reckon with the price move; without it there is no equilibrium, and no
        notion of one.

    Raises
    ------
    ModelError
        A price would fall below zero; the trade is named.
    """
    if list(law.names) != market.assets:
        raise ModelError(f"market has assets {market.assets}: must be those of law, {law.names}")
    w = target_weights(weights, market.assets)[1:]
    seed = root_seed(rng)
    returns = np.concatenate([r[:, 0] for r in law.sample(n_scenarios, 1, rng=child_seed(seed, 0))])
    believed = market if foresight else replace(market, impact=Impact(alpha=0.0))
    game, truth = PotentialGame(believed, notion), market.moments.mean * 0.0
    demand = np.empty_like(returns)
    for chunk, first in enumerate(range(0, n_scenarios, AT_A_TIME)):
        rows = slice(first, min(first + AT_A_TIME, n_scenarios))
        errors = noisy_means(
            truth,
            noise=noise,
            alikeness=alikeness,
            n_agents=len(market.agents),
            rng=child_seed(child_seed(seed, 1), chunk),
            n_scenarios=rows.stop - rows.start,
        )
        demand[rows] = game.demand(market.means + errors)
    move = market.impact.move(demand, market.assets)
    kept = market.impact.permanent * move
    alone = returns @ w
    return CrowdedOutcomes(
        alone=alone,
        at_once=alone + ((1.0 + returns) * move) @ w,
        reverted=alone + ((1.0 + returns) * kept) @ w,
        demand=demand,
        price_move=move,
    )


def sliced_order(
    order: ByLabel | Floats,
    impact: Impact,
    assets: Sequence[Hashable],
    *,
    n_slices: int,
    delay: int = 0,
    reversion: float = 0.5,
) -> pd.DataFrame:
    """Price path and cost of an order that is cut into equal slices, one a period.

    Parameters
    ----------
    order : mapping or array
        Shares of the market's wealth to buy, by asset.
    impact : Impact
    assets : sequence of labels
    n_slices : int
    delay : int
        Periods before the first slice.
    reversion : float
        Share of the temporary move that is gone after each period, in (0, 1].

    Returns
    -------
    DataFrame
        Index period; a column of relative price move by asset, and ``cost``: what has been paid
        above the first price, as a share of the market's wealth.
    """
    if n_slices < 1 or delay < 0 or not 0.0 < reversion <= 1.0:
        raise ModelError(
            f"n_slices={n_slices}, delay={delay}, reversion={reversion}: must be at least 1, at "
            "least 0, and in (0, 1]"
        )
    total = (
        np.array([float(dict(order.items()).get(name, 0.0)) for name in assets])
        if hasattr(order, "items")
        else np.asarray(order, dtype=float)
    )
    each = total / n_slices
    temporary, permanent = np.zeros(len(total)), np.zeros(len(total))
    cost, rows = 0.0, []
    for period in range(delay + n_slices + 8):
        temporary = temporary * (1.0 - reversion)
        if delay <= period < delay + n_slices:
            move = impact.move(each, assets)
            temporary = temporary + (1.0 - impact.permanent) * move
            permanent = permanent + impact.permanent * move
            cost += float(each @ (temporary + permanent))
        rows.append([*(temporary + permanent), cost])
    columns = label_index([*assets, "cost"])
    return pd.DataFrame(rows, columns=columns, index=pd.RangeIndex(len(rows), name="period"))


def gain_of_knowing_impact(market: ImpactMarket, agent: int = 0) -> float:
    """What an agent gains if it weighs its own impact while all others take prices as given.

    Its utility (mean less price of variance, cost and impact, per unit of its wealth) in the mixed
    market less that where it takes prices too. It may be negative: the others answer.

    Raises
    ------
    ModelError
        `PotentialGame` does not take the market.
    """
    takers, mixed = (
        PotentialGame(market, "price_taking", knowing=knowing).solve().weights
        for knowing in ([], [agent])
    )
    return _utility(market, agent, mixed) - _utility(market, agent, takers)


def _utility(market: ImpactMarket, k: int, weights: Floats) -> float:
    trades = weights - market.current
    move = market.impact.move(market.shares @ trades, market.assets)
    w, risk_aversion = weights[k], market.risk_aversions[k]
    assert risk_aversion is not None
    risk = 0.5 * risk_aversion * float(w @ market.covariances[k] @ w)
    earned = float(market.means[k] @ w) + market.cash_return * (1.0 - float(w.sum()))
    paid = float(trades[k] @ move) + float(trading_costs(market, trades)[k])
    return earned - risk - paid + market.impact.permanent * float(w @ move)
