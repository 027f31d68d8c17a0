"""A market whose participants move prices: impact, agents, and who pays whom.

Agent k has the share ``s_k`` of the market's wealth and changes its weights from ``w0_k`` by
``d_k``. Demand is ``D = sum_k s_k d_k`` and prices move by ``Theta D``, ``Theta = diag(alpha)``:
buying raises the price that buyers pay. The share ``f`` of the move is permanent, and holders gain
it; the rest is temporary: it reverts, and lowers the return that follows. Both texts of the
specification are this one model, seen at the trade and after it. Per unit of its own wealth agent
k pays ``d_k' Theta D`` and its holdings gain ``f w_k' Theta D``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.allocation.model import PerAsset, per_asset
from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.labels import ByLabel, label_index
from sddp.portfolio import MeanVariance, Moments, Optimizer
from sddp.portfolio.inputs import read_moments, read_weights
from sddp.rng import Rng, child_seed, root_seed

Notion: TypeAlias = Literal["price_taking", "nash"]
ImpactLaw: TypeAlias = Literal["linear", "square root"]

# Demand below this share of wealth is what rounding leaves of trades that cancel.
ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Impact:
    """How trades move prices.

    Parameters
    ----------
    alpha : float, or per asset
        Relative price move per unit of the market's wealth that is traded (its square root for
        the square-root law).
    permanent : float
        Share of the move that stays, in [0, 1].
    law : {"linear", "square root"}
        The square-root law is for outcomes of given trades, not for equilibria.

    Raises
    ------
    ModelError
        A number is out of range.
    """

    alpha: PerAsset
    permanent: float = 0.0
    law: ImpactLaw = "linear"

    def __post_init__(self) -> None:
        given: Any = self.alpha
        by_name = isinstance(given, (Mapping, pd.Series))
        values = np.asarray(list(dict(given).values()) if by_name else given, dtype=float)
        if not (np.isfinite(values).all() and (values >= 0.0).all()):
            raise ModelError(f"alpha={self.alpha}: must be finite and at least 0")
        if not 0.0 <= self.permanent <= 1.0:
            raise ModelError(f"permanent={self.permanent}: must be in [0, 1]")
        if self.law not in ("linear", "square root"):
            raise ModelError(f"law={self.law!r}: must be 'linear' or 'square root'")

    @classmethod
    def from_depth(
        cls, depth: ByLabel, *, wealth: float, permanent: float = 0.0, law: ImpactLaw = "linear"
    ) -> Impact:
        """Impact from market depth: the money that moves a price by 1 %.

        Parameters
        ----------
        depth : mapping by asset
            Money per 1 %.
        wealth : float
            Money of all agents together.
        permanent, law
            As in `Impact`.
        """
        given = {name: float(value) for name, value in depth.items()}
        for name, value in given.items():
            if not 0.0 < value < np.inf:
                raise ModelError(f"depth of {name!r}={value}: must be positive money per 1 %")
        if not 0.0 < wealth < np.inf:
            raise ModelError(f"wealth={wealth}: must be positive money")
        power = 1.0 if law == "linear" else 0.5
        alpha = {name: 0.01 * (wealth / value) ** power for name, value in given.items()}
        return cls(alpha=alpha, permanent=permanent, law=law)

    def on(self, assets: Sequence[Hashable]) -> Floats:
        """``alpha`` in the order of the assets."""
        return per_asset(self.alpha, list(assets), "alpha")

    def move(self, demand: Floats, assets: Sequence[Hashable]) -> Floats:
        """Relative price moves.

        Parameters
        ----------
        demand : array, shape (..., n_assets)
            Shares of the market's wealth bought.
        assets : sequence of labels

        Raises
        ------
        ModelError
            A price would fall below zero.
        """
        alpha = self.on(assets)
        if self.law == "linear":
            moves: Floats = alpha * demand
        else:
            moves = alpha * np.sign(demand) * np.sqrt(np.abs(demand))
        below = np.argwhere(moves < -1.0)
        if len(below):
            where = tuple(int(k) for k in below[0])
            raise ModelError(
                f"selling {-demand[where]:.3g} of the market's wealth of {assets[where[-1]]!r} "
                f"would move its price by {100 * moves[where]:.0f} %, below zero; lower the trade "
                "or give a deeper market"
            )
        return moves


@dataclass(frozen=True, kw_only=True)
class Agent:
    """A participant.

    Parameters
    ----------
    name : label
    share : float
        Of the market's wealth.
    optimizer : Optimizer
        Its risk aversion, costs, bounds and constraints. A `MeanVariance` with a number as risk
        aversion, in the text-book form, may take part in every notion of equilibrium; others in
        price-taking iterations.
    current : mapping, Series or array
        Weights before trading.
    moments : Moments, optional
        Its own estimates; by default those of the market.
    threshold : float
        It does not trade unless some weight is to change by more than this.
    """

    name: Hashable
    share: float
    optimizer: Optimizer
    current: ByLabel | Floats | Sequence[float] = field(default_factory=dict)
    moments: Moments | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.share < np.inf:
            raise ModelError(f"share={self.share} of agent {self.name!r}: must be at least 0")
        if not self.threshold >= 0.0:
            raise ModelError(f"threshold={self.threshold} of agent {self.name!r}: must be >= 0")
        if not isinstance(self.optimizer, Optimizer):
            raise ModelError(f"optimizer of agent {self.name!r}: must be an Optimizer")
        if self.optimizer.self_financing:
            raise ModelError(
                f"optimizer of agent {self.name!r}: must have self_financing=False; equilibrium "
                "weights are shares of wealth before costs"
            )


@dataclass(frozen=True, eq=False)
class ImpactMarket:
    """Agents in one market.

    Parameters
    ----------
    moments : Moments
        Of a period's simple returns without impact.
    impact : Impact
    agents : sequence of Agent
        At least one; their shares need not sum to 1 (others may not trade).
    cash_return : float
    """

    moments: Moments
    impact: Impact
    agents: Sequence[Agent]
    cash_return: float = 0.0

    def __post_init__(self) -> None:
        if not self.agents:
            raise ModelError("agents is empty: give at least one")
        names = [agent.name for agent in self.agents]
        if len(set(names)) < len(names):
            raise ModelError(f"agents {names}: must have different names")
        _ = self.alpha, self.means, self.covariances, self.current

    @property
    def assets(self) -> list[Hashable]:
        """Labels of the assets."""
        return list(self.moments.mean.index)

    @cached_property
    def shares(self) -> Floats:
        """Wealth shares, shape (n_agents,)."""
        return np.array([agent.share for agent in self.agents], dtype=float)

    @cached_property
    def alpha(self) -> Floats:
        """Impact by asset."""
        return self.impact.on(self.assets)

    @cached_property
    def current(self) -> Floats:
        """Weights before trading, shape (n_agents, n_assets)."""
        return np.array([read_weights(a.current, self.assets) for a in self.agents])

    @cached_property
    def means(self) -> Floats:
        """Each agent's estimate, shape (n_agents, n_assets)."""
        return np.array([self._read(agent)[0] for agent in self.agents])

    @cached_property
    def covariances(self) -> Floats:
        """Each agent's estimate, shape (n_agents, n_assets, n_assets)."""
        return np.array([self._read(agent)[1] for agent in self.agents])

    @cached_property
    def risk_aversions(self) -> list[float | None]:
        """By agent; None where it is no mean-variance optimizer with a number."""
        return [
            float(a.optimizer.risk_aversion)
            if isinstance(a.optimizer, MeanVariance)
            and isinstance(a.optimizer.risk_aversion, (int, float))
            else None
            for a in self.agents
        ]

    def _read(self, agent: Agent) -> tuple[Floats, Floats]:
        given = self.moments if agent.moments is None else agent.moments
        names, mean, covariance = read_moments(given.mean, given.covariance)
        if names != self.assets:
            raise ModelError(
                f"moments of agent {agent.name!r} are of {names}: must be of {self.assets}"
            )
        return mean, covariance


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Where agents end.

    Attributes
    ----------
    market : ImpactMarket
    notion : {"price_taking", "nash"}
    current, weights : array, shape (n_agents, n_assets)
        Before and after trading.
    status : {"converged", "diverged", "iteration_limit", "single pass"}
    residual : float
        Largest distance of a weight from the best response to the others (of the solver, for the
        quadratic program).
    iterations : int
        Rounds of best responses; of the interior point method for the quadratic program.
    spectral_radius : float or None
        Of the map from trades to best responses without bounds and costs, where an iteration did
        not converge: above 1 plain iteration diverges.
    """

    market: ImpactMarket
    notion: Notion
    current: Floats
    weights: Floats
    status: str
    residual: float
    iterations: int
    spectral_radius: float | None = None

    @property
    def trades(self) -> Floats:
        """Changes of weights, shape (n_agents, n_assets)."""
        trades: Floats = self.weights - self.current
        return trades

    @property
    def demand(self) -> Floats:
        """Shares of the market's wealth bought, shape (n_assets,)."""
        demand: Floats = self.market.shares @ self.trades
        return demand

    @property
    def price_move(self) -> Floats:
        """At the trade; the permanent share of it stays."""
        return self.market.impact.move(self.demand, self.market.assets)

    def table(self) -> pd.DataFrame:
        """Weights by agent (rows) and asset (columns)."""
        return pd.DataFrame(
            self.weights,
            index=label_index([a.name for a in self.market.agents]),
            columns=label_index(self.market.assets),
        )


def noisy_means(
    mean: pd.Series[float],
    *,
    noise: ArrayLike,
    alikeness: float,
    n_agents: int,
    rng: Rng,
    n_scenarios: int | None = None,
) -> Floats:
    """Estimates of several agents: a common truth, and errors that are correlated between them.

    Parameters
    ----------
    mean : Series
    noise : float or array, shape (n_assets,)
        Standard deviation of each agent's error.
    alikeness : float
        Correlation of two agents' errors, in [0, 1].
    n_agents : int
    rng : int, SeedSequence or Generator
        The first agents' estimates do not depend on how many follow.
    n_scenarios : int, optional
        Independent draws; one without a dimension of its own by default.

    Returns
    -------
    array, shape (n_agents, n_assets) or (n_scenarios, n_agents, n_assets)

    Raises
    ------
    ModelError
        `alikeness` lies outside [0, 1], or `noise` is negative or not finite.
    """
    if not 0.0 <= alikeness <= 1.0:
        raise ModelError(f"alikeness={alikeness}: must be a correlation in [0, 1]")
    if not (np.isfinite(noise).all() and np.min(noise) >= 0.0):
        raise ModelError(f"noise={noise!r}: must be finite standard deviations of 0 or more")
    seed, shape = root_seed(rng), (1 if n_scenarios is None else n_scenarios, len(mean))
    drawn = np.stack(
        [
            np.random.default_rng(child_seed(seed, k)).standard_normal(shape)
            for k in range(1 + n_agents)
        ],
        axis=1,
    )
    errors = np.sqrt(alikeness) * drawn[:, :1] + np.sqrt(1.0 - alikeness) * drawn[:, 1:]
    means: Floats = np.asarray(mean, dtype=float) + np.asarray(noise, dtype=float) * errors
    return means[0] if n_scenarios is None else means


@dataclass(frozen=True, eq=False)
class Settlement:
    """Who paid whom in one round of trading, in shares of the market's wealth.

    Attributes
    ----------
    price_move : array, shape (n_assets,)
        At the trade.
    agents_cash : array, shape (n_agents,)
        Change of each agent's cash: purchases at the moved price, and costs.
    providers_cash : float
        Change of the liquidity providers' cash: they are on the other side of every trade.
    costs : float
        Taken by brokers.
    agents_gain : array, shape (n_agents,)
        Change of each agent's wealth, holdings marked after the temporary part has reverted.
    providers_gain : float
    """

    price_move: Floats
    agents_cash: Floats
    providers_cash: float
    costs: float
    agents_gain: Floats
    providers_gain: float


def settle(market: ImpactMarket, weights: Floats, charged: Floats | None = None) -> Settlement:
    """Book the trades from the current weights to others.

    Cash sums to zero over agents, providers and brokers. Wealth sums to the permanent gain of what
    the agents held before, less the costs.

    Parameters
    ----------
    market : ImpactMarket
    weights : array, shape (n_agents, n_assets)
    charged : array, shape (n_agents,), optional
        Costs of each agent per unit of its wealth; by default its optimizer's.
    """
    s, trades = market.shares, weights - market.current
    demand = s @ trades
    move = market.impact.move(demand, market.assets)
    paid = trading_costs(market, trades) if charged is None else charged
    agents_cash = -s * (trades.sum(axis=1) + trades @ move + paid)
    costs = float(s @ paid)
    kept = market.impact.permanent * move
    gain = s * (weights @ kept - trades @ move - paid)
    providers_cash = float(demand.sum() + demand @ move)
    return Settlement(
        price_move=move,
        agents_cash=agents_cash,
        providers_cash=providers_cash,
        costs=costs,
        agents_gain=gain,
        providers_gain=float(demand @ move - demand @ kept),
    )


def trading_costs(market: ImpactMarket, trades: Floats) -> Floats:
    """Proportional costs of trades per unit of each agent's wealth, shape (n_agents,)."""
    bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
    charged = np.empty(len(trades))
    for k, agent in enumerate(market.agents):
        o = agent.optimizer
        buying = per_asset(o.transaction_cost, market.assets, "transaction_cost")
        selling = (
            buying if o.sale_cost is None else per_asset(o.sale_cost, market.assets, "sale_cost")
        )
        charged[k] = buying @ bought[k] + selling @ sold[k]
    return charged


def crowding(market: ImpactMarket, weights: Floats) -> pd.Series[float]:
    """How alike the agents are.

    Returns
    -------
    Series
        ``trade correlation``: mean cosine of the trades of two agents (0 where one does not
        trade); ``overlap``: mean of ``sum_i min(w_ki, w_li)`` over their larger sum;
        ``demand concentration``: Herfindahl index of ``|D|`` over assets (1 / n to 1, 0 without
        trades).
    """
    trades = weights - market.current
    sizes = np.linalg.norm(trades, axis=1)
    unit = trades / np.where(sizes > 0.0, sizes, 1.0)[:, None]
    pairs = np.triu_indices(len(weights), 1)
    demand = np.abs(market.shares @ trades)
    held = np.maximum(weights, 0.0)
    common = np.minimum(held[:, None], held[None]).sum(axis=2)
    larger = np.maximum(held.sum(axis=1)[:, None], held.sum(axis=1)[None])
    overlap = common / np.where(larger > 0.0, larger, 1.0)
    alone = not len(pairs[0])
    total = demand.sum()
    return pd.Series(
        {
            "trade correlation": 1.0 if alone else float((unit @ unit.T)[pairs].mean()),
            "overlap": 1.0 if alone else float(overlap[pairs].mean()),
            "demand concentration": (
                float(((demand / total) ** 2).sum()) if total > ROUNDING else 0.0
            ),
        }
    )


def identical_agents_weights(
    mean: ArrayLike,
    covariance: ArrayLike,
    *,
    alpha: ArrayLike,
    risk_aversion: float,
    current: ArrayLike,
    n_agents: int,
    notion: Notion = "nash",
    wealth_per_agent: float | None = None,
) -> Floats:
    """Weights of identical agents without bounds and costs, all impact temporary, in closed form.

    ``(lambda S + c Theta)^-1 (mu + c Theta w0)``. With one unit of wealth divided among K agents
    ``c = 1 + 1 / K`` under Nash and 1 for price takers; with `wealth_per_agent` s it is
    ``s (K + 1)`` and ``s K``.
    """
    s = 1.0 / n_agents if wealth_per_agent is None else wealth_per_agent
    factor = s * (n_agents + (1 if notion == "nash" else 0))
    theta = factor * np.diag(np.atleast_1d(np.asarray(alpha, dtype=float)))
    left = risk_aversion * np.asarray(covariance, dtype=float) + theta
    right = np.asarray(mean, dtype=float) + theta @ np.asarray(current, dtype=float)
    return np.asarray(np.linalg.solve(left, right), dtype=float)
