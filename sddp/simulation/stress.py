"""Stress: shocks as data, what they do to moments, costs and portfolios, and reverse stress."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.backtest.trading import Cost, TransactionCosts, target_weights
from sddp.errors import DataError, ModelError
from sddp.labels import ByLabel, numbers_by_label
from sddp.portfolio.inputs import read_moments
from sddp.portfolio.moments import Moments
from sddp.simulation.correlation import correlation_of, nearest_correlation
from sddp.simulation.laws import DrawBlock, ScenarioLaw
from sddp.tables import checked_table

Groups = Mapping[Hashable, Sequence[Hashable]]

# First and last date of episodes that a file of prices may hold.
EPISODES: Mapping[str, tuple[str, str]] = {
    "March 2020": ("2020-02-19", "2020-03-16"),
    "crypto crash of 2022 (May and June)": ("2022-05-04", "2022-06-17"),
    "failure of FTX, November 2022": ("2022-11-04", "2022-11-09"),
    "USDC loses its peg, March 2023": ("2023-03-09", "2023-03-11"),
}


@dataclass(frozen=True)
class Shock:
    """What happens at once.

    Names are those of assets or of groups; a group stands for each of its assets.

    Parameters
    ----------
    name : str
    returns : mapping
        Simple return at the moment of the shock.
    volatilities : mapping
        New volatilities per period afterwards.
    correlations : float, or mapping of pairs
        New correlations afterwards: of the named pairs, or one for all pairs.
    cost_factor : float
        Multiplies costs of trading.
    limit_factor : float
        Multiplies the amounts that can be traded in a period.
    period : int
        Before which period of a simulation it happens.

    Raises
    ------
    ModelError
        A return is below -1, a volatility negative, a correlation outside [-1, 1], or a factor
        not positive.
    """

    name: str
    returns: ByLabel = field(default_factory=dict)
    volatilities: ByLabel = field(default_factory=dict)
    correlations: float | Mapping[tuple[Hashable, Hashable], float] = field(default_factory=dict)
    cost_factor: float = 1.0
    limit_factor: float = 1.0
    period: int = 0

    def __post_init__(self) -> None:
        pairs = self.correlations
        values = pairs.values() if isinstance(pairs, Mapping) else [pairs]
        checks = (
            ("returns", dict(self.returns).values(), -1.0, math.inf),
            ("volatilities", dict(self.volatilities).values(), 0.0, math.inf),
            ("correlations", values, -1.0, 1.0),
            ("cost_factor", [self.cost_factor], 0.0, math.inf),
            ("limit_factor", [self.limit_factor], 1e-12, math.inf),
            ("period", [self.period], 0, math.inf),
        )
        for what, numbers, low, high in checks:
            for number in numbers:
                if not low <= number <= high or math.isinf(number):
                    raise ModelError(
                        f"{self.name}: {what}={number}: must be finite, in [{low:g}, {high:g}]"
                    )


def replayed(prices: pd.DataFrame, episode: str) -> Shock:
    """The returns of an episode, as they were.

    Parameters
    ----------
    prices : DataFrame
        Rows are dates, columns assets.
    episode : str
        One of `EPISODES`. The dates that the data have inside of it are in the shock's name.

    Raises
    ------
    DataError
        The prices do not reach over it.
    """
    if episode not in EPISODES:
        raise ModelError(f"episode={episode!r}: must be one of {list(EPISODES)}")
    first, last = (pd.Timestamp(date) for date in EPISODES[episode])
    table = checked_table(prices, "prices")
    rows = table.loc[first:last]
    if table.index[0] > first or table.index[-1] < last or len(rows) < 2:
        raise DataError(
            f"prices from {table.index[0]:%Y-%m-%d} to {table.index[-1]:%Y-%m-%d}: must reach over "
            f"{episode}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
        )
    change = rows.iloc[-1] / rows.iloc[0] - 1.0
    dates = f"{rows.index[0]:%Y-%m-%d} to {rows.index[-1]:%Y-%m-%d}"
    return Shock(f"{episode} ({dates})", returns=dict(change.items()))


def standard_shocks(
    groups: Groups, *, prices: pd.DataFrame | None = None, swing: float = 0.2
) -> list[Shock]:
    """Shocks that every portfolio of digital and real assets should see.

    Parameters
    ----------
    groups : mapping
        Assets by kind: ``"real estate"``, ``"stablecoin"``, ``"crypto"``; shocks of kinds that
        are left out are left out.
    prices : DataFrame, optional
        Adds the episodes that they reach over.
    swing : float
        Size of the ups and downs of everything risky.
    """
    risky = [kind for kind in groups if kind != "stablecoin"]
    shocks = []
    if "real estate" in groups:
        fall = {"real estate": -0.3}
        shocks.append(Shock("real estate -30 %, correlations 0.9", fall, correlations=0.9))
    if "stablecoin" in groups:
        # The lowest hourly close of USDC against USDT was 0.913, on 11 March 2023.
        shocks.append(Shock("stablecoin loses its peg, -9 %", {"stablecoin": -0.09}))
    if "crypto" in groups:
        shocks.append(Shock("crypto -50 %", {"crypto": -0.5}))
    for sign in (-1.0, 1.0):
        moved = dict.fromkeys(risky, sign * swing)
        shocks.append(Shock(f"{100 * sign * swing:+.0f} % swing", moved))
    shocks.append(Shock("costs times 5, limits to a fifth", cost_factor=5.0, limit_factor=0.2))
    for episode in EPISODES if prices is not None else ():
        try:
            shocks.append(replayed(prices, episode))  # type: ignore[arg-type]
        except DataError:
            continue
    return shocks


def shock_returns(shock: Shock, assets: Sequence[Hashable], groups: Groups | None = None) -> Floats:
    """Return of each asset at the moment of a shock; 0 where none is stated."""
    return numbers_by_label(
        _spread(shock.returns, assets, groups, shock.name), assets, shock.name, default=0.0
    )


def stressed_moments(moments: Moments, shock: Shock, groups: Groups | None = None) -> Moments:
    """Moments after a shock: its volatilities and correlations; means stay.

    Stated correlations are reached exactly and all others move as little as possible (the nearest
    correlation matrix); where one correlation is stated for all pairs, pairs with an asset
    without volatility are left out.

    Raises
    ------
    ModelError
        Stated correlations contradict each other, or a name is unknown.
    """
    names, mean, covariance = read_moments(moments.mean, moments.covariance)
    before, correlations = correlation_of(covariance)
    volatilities = before.copy()
    new = _spread(shock.volatilities, names, groups, shock.name)
    for name, value in new.items():
        volatilities[names.index(name)] = value
    fixed = np.zeros_like(correlations, dtype=bool)
    for i, j, value in _pairs(shock, names, groups):
        correlations[i, j] = correlations[j, i] = value
        fixed[i, j] = fixed[j, i] = True
    found = nearest_correlation(correlations, fixed=fixed, names=names).matrix
    after = found * np.outer(volatilities, volatilities)
    np.fill_diagonal(after, volatilities**2)
    return Moments.of(mean, after, names)


@dataclass(frozen=True, eq=False)
class ConditionalMoments:
    """Moments of the assets that are not shocked, given those that are (normal law).

    Attributes
    ----------
    mean : Series
        Of all assets; of the shocked ones, the shock.
    covariance : DataFrame
        Of all assets; 0 of the shocked ones.
    """

    mean: pd.Series[float]
    covariance: pd.DataFrame


def conditional_moments(moments: Moments, shocked: ByLabel) -> ConditionalMoments:
    """What a normal law expects of the rest when some returns are known.

    ``m_2 + S_21 S_11^-1 (x - m_1)`` and ``S_22 - S_21 S_11^-1 S_12``. Where shocked assets
    have no variance, the least-norm solution is taken.

    Raises
    ------
    ModelError
        A name is unknown, or nothing is shocked.
    """
    names, mean, covariance = read_moments(moments.mean, moments.covariance)
    given = numbers_by_label(shocked, names, "shocked", default=math.nan)
    known = np.isfinite(given)
    if not known.any():
        raise ModelError("shocked={}: must name at least one asset")
    inner = covariance[np.ix_(known, known)]
    across = covariance[np.ix_(~known, known)]
    slopes = across @ np.linalg.pinv(inner, hermitian=True)
    center, spread = given.copy(), np.zeros_like(covariance)
    center[~known] = mean[~known] + slopes @ (given[known] - mean[known])
    rest = covariance[np.ix_(~known, ~known)] - slopes @ across.T
    spread[np.ix_(~known, ~known)] = (rest + rest.T) / 2.0
    conditional = Moments.of(center, spread, names)
    return ConditionalMoments(conditional.mean, conditional.covariance)


@dataclass(frozen=True, eq=False)
class ReverseStress:
    """The likeliest scenario that loses a given amount (normal law).

    Attributes
    ----------
    returns : Series
        By asset.
    distance : float
        Mahalanobis distance from the mean, in standard deviations.
    probability : float
        Of a loss at least as large.
    """

    returns: pd.Series[float]
    distance: float
    probability: float


def reverse_stress(weights: ByLabel, moments: Moments, *, loss: float) -> ReverseStress:
    """Find the returns of greatest density among those with ``-w'r = loss``.

    They are ``m - S w (loss + w'm) / (w'S w)``.

    Raises
    ------
    ModelError
        The portfolio has no risk, or `loss` is not finite.
    """
    if not math.isfinite(loss):
        raise ModelError(f"loss={loss}: must be a finite share of wealth (0.15 is 15 %)")
    names, mean, covariance = read_moments(moments.mean, moments.covariance)
    w = target_weights(weights, names)[1:]
    marginal = covariance @ w
    variance = float(w @ marginal)
    if variance <= 0.0:
        raise ModelError("weights: the portfolio has no risk, so no scenario loses anything else")
    excess = loss + float(w @ mean)
    returns = mean - marginal * (excess / variance)
    distance = excess / math.sqrt(variance)
    series = Moments.of(returns, covariance, names).mean
    return ReverseStress(series, abs(distance), 1.0 - NormalDist().cdf(distance))


def stress_table(
    weights: ByLabel,
    moments: Moments,
    shocks: Sequence[Shock],
    *,
    groups: Groups | None = None,
    transaction_cost: Cost | tuple[Cost, Cost] = 0.0,
    tradable: ByLabel | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What each shock does to a portfolio.

    Parameters
    ----------
    weights : mapping or Series
        By asset; the rest is cash.
    moments : Moments
        Per period, before the shock.
    shocks : sequence of Shock
    groups : mapping of group to assets, optional
    transaction_cost : float, mapping by asset, or pair (buy, sell) of either
    tradable : mapping, optional
        Largest trade in a period by asset, as a share of wealth; not limited where it is left out.
    confidence : float
        Of the normal VaR and CVaR of a period after the shock.

    Returns
    -------
    DataFrame
        One row a shock, the first without any: ``instantaneous loss``; ``conditional loss`` (with
        what the normal law expects of the assets that are not shocked, none below -1);
        ``volatility``, ``VaR``, ``CVaR`` of the period after it; ``loss and CVaR`` together;
        ``cost of selling all``; ``periods to sell all``.
    """
    names = list(moments.mean.index)
    w = target_weights(weights, names)[1:]
    costs = TransactionCosts.of(transaction_cost, names)
    most = numbers_by_label(tradable or {}, names, "tradable", default=math.inf)
    z = NormalDist().inv_cdf(confidence)
    shortfall = NormalDist().pdf(z) / (1.0 - confidence)
    rows = {}
    for shock in (Shock("no shock"), *shocks):
        jump = shock_returns(shock, names, groups)
        shocked = _spread(shock.returns, names, groups, shock.name)
        expected = conditional_moments(moments, shocked).mean if shocked else 0.0 * moments.mean
        # The normal law has no floor, prices have: nothing loses more than all of itself.
        following = np.maximum(np.asarray(expected, dtype=float), -1.0)
        after = stressed_moments(moments, shock, groups)
        held = w * (1.0 + jump)
        mean = float(held @ np.asarray(after.mean))
        volatility = math.sqrt(max(float(held @ after.covariance.to_numpy() @ held), 0.0))
        loss = 0.0 - float(w @ jump)
        rows[shock.name] = {
            "instantaneous loss": loss,
            "conditional loss": 0.0 - float(w @ following),
            "volatility": volatility,
            "VaR": z * volatility - mean,
            "CVaR": shortfall * volatility - mean,
            "loss and CVaR": loss + shortfall * volatility - mean,
            "cost of selling all": shock.cost_factor * float(costs.sell @ held),
            "periods to sell all": float((held / (most * shock.limit_factor)).max()),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@dataclass(frozen=True, eq=False)
class ShockedLaw(ScenarioLaw):
    """A law of returns with a shock in it.

    Before period ``shock.period`` the shock's returns are earned on top of that period's, and from
    then on deviations from the mean are mapped linearly so that volatilities and correlations are
    the stressed ones.

    Parameters
    ----------
    law : ScenarioLaw
    shock : Shock
    moments : Moments
        Of one period of `law`, for the map.
    groups : mapping of group to assets, optional
    """

    law: ScenarioLaw
    shock: Shock
    moments: Moments
    groups: Groups | None = None

    @property
    def asset_names(self) -> tuple[Hashable, ...]:  # type: ignore[override]
        """Those of the law."""
        return self.law.names

    def blocks(self, n_periods: int, size: int, seed: np.random.SeedSequence) -> DrawBlock:
        """See `ScenarioLaw.blocks`."""
        shock, names = self.shock, list(self.law.names)
        if shock.period >= n_periods:
            raise ModelError(f"period={shock.period}: must be below n_periods={n_periods}")
        mean = np.asarray(self.moments.mean, dtype=float)
        change = None
        if shock.volatilities or not isinstance(shock.correlations, Mapping) or shock.correlations:
            after = stressed_moments(self.moments, shock, self.groups)
            matrices = (m.covariance.to_numpy(dtype=float) for m in (self.moments, after))
            change = _map_between(*matrices)
        jump = shock_returns(shock, names, self.groups)
        draw = self.law.blocks(n_periods, size, seed)

        def shocked(number: int) -> Floats:
            returns = draw(number)
            later = returns[:, shock.period :]
            if change is not None:
                later[...] = mean + (later - mean) @ change.T
            later[:, 0] += jump * (1.0 + later[:, 0])
            return returns

        return shocked


def _map_between(before: Floats, after: Floats) -> Floats:
    """Symmetric-root map A with ``A before A' = after``."""
    change: Floats = _root(after) @ np.linalg.pinv(_root(before), hermitian=True)
    return change


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _spread(
    values: ByLabel, names: Sequence[Hashable], groups: Groups | None, what: str
) -> dict[Hashable, float]:
    """Numbers by asset from numbers by asset or group."""
    found: dict[Hashable, float] = {}
    for key, value in values.items():
        for name in _members(key, names, groups, what):
            found[name] = float(value)
    return found


def _members(
    key: Hashable, names: Sequence[Hashable], groups: Groups | None, what: str
) -> list[Hashable]:
    known = {} if groups is None else groups
    members = [key] if key in names else list(known.get(key, ()))
    unknown = [name for name in members if name not in names]
    if not members or unknown:
        raise ModelError(
            f"{what}: {(unknown or [key])[0]!r} is unknown; known are the assets {list(names)} and "
            f"the groups {list(known)}"
        )
    return members


def _pairs(
    shock: Shock, names: Sequence[Hashable], groups: Groups | None
) -> list[tuple[int, int, float]]:
    """Positions and value of each stated correlation."""
    if not isinstance(shock.correlations, Mapping):
        n = len(names)
        return [(i, j, float(shock.correlations)) for i in range(n) for j in range(i)]
    found: dict[tuple[int, int], float] = {}
    for (one, other), value in shock.correlations.items():
        for a in _members(one, names, groups, shock.name):
            for b in _members(other, names, groups, shock.name):
                i, j = sorted((list(names).index(a), list(names).index(b)))
                if i == j:
                    continue
                if found.setdefault((i, j), float(value)) != float(value):
                    raise ModelError(
                        f"{shock.name}: correlation of {a!r} and {b!r} is stated twice, "
                        f"{found[i, j]:g} and {value:g}; state it once"
                    )
    return [(i, j, value) for (i, j), value in found.items()]
