"""Settings of the command, and the rows, strategies and triggers that it knows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.backtest import EqualWeight, EveryPeriods, InverseVolatility, OneStageStrategy, Strategy
from sddp.backtest.triggers import Calendar, ClassFrequency, Drift, RiskSpike, Trigger
from sddp.estimation import IncrementalForecaster, RollingWindow
from sddp.live import CsvReplay, Row, RowSource
from sddp.portfolio import MeanVariance

# Columns of the data sets that are claims on something real; all others are digital.
REAL_WORLD = ("paxg", "vnq", "gld", "eur", "gbp", "bonds", "gold")
ASSETS = ("coin", "token", "bonds", "gold")
VOLATILITIES = np.array([0.60, 0.80, 0.06, 0.15])
HOURS_A_YEAR, HOURS_A_MONTH = 365 * 24, 30 * 24


@dataclass(frozen=True)
class Config:
    """What the numbers depend on.

    `rows` are taken of the file, or drawn where there is none; the first `history` of them are
    known before the portfolio acts.
    """

    seed: int = 1
    replay: str | None = None
    rows: int | None = None
    history: int = 100
    strategy: str = "mean-variance"
    cost: float = 0.001
    costs: tuple[float, ...] = (0.001, 0.01)
    kills: int = 0


def mean_variance(cost: float) -> Strategy:
    """Mean-variance on the moments of the last thirty days, with the costs that are charged."""
    model = MeanVariance(risk_aversion=4.0, transaction_cost=cost)
    return OneStageStrategy(model, IncrementalForecaster(RollingWindow(days=30.0)))


STRATEGIES: dict[str, Callable[[float], Strategy]] = {
    "mean-variance": mean_variance,
    "equal-weight": lambda _: EqualWeight(),
    "inverse-volatility": lambda _: InverseVolatility(14),
}


def triggers(assets: Sequence[str], *, index: bool) -> dict[str, Trigger]:
    """When to update: by the clock, by events, and the specification's two proposals."""
    classes: dict[Hashable, str] = {
        name: "real world" if name in REAL_WORLD else "digital" for name in assets
    }
    unless = "weekly unless volatility > 20 %"
    frequencies = {"digital": "hourly", "real world": unless}
    used = {name: frequencies[name] for name in set(classes.values())}
    found: dict[str, Trigger] = {
        "every row": EveryPeriods(1),
        "daily": Calendar("0 0 * * *"),
        "weekly": Calendar("0 0 * * 1"),
        "drift of 5 %": Drift(absolute=0.05),
        "proposal: classes at frequencies of their own": ClassFrequency(used, classes),
    }
    daily = Calendar("0 0 * * *")
    if index:
        found["proposal: daily, each row while the index is above 25"] = daily | RiskSpike(
            index=25.0
        )
    else:
        # Without an index the volatility of what is held stands for it.
        spike = RiskSpike(volatility=0.25, window=HOURS_A_MONTH)
        found["proposal: daily, each row while volatility is above 25 %"] = daily | spike
    return found


def starts(assets: Sequence[str]) -> dict[str, dict[Hashable, float] | None]:
    """What is held before the first row: cash, equal weights, or most of it in one asset."""
    given = dict.fromkeys(assets, 0.3 / max(len(assets) - 1, 1)) | {assets[0]: 0.7}
    return {
        "cash": None,
        "equal weights": {name: 1.0 / len(assets) for name in assets},
        f"70 % {assets[0]}": {name: given[name] for name in assets},
    }


def drawn_rows(n_rows: int, seed: int) -> RowSource:
    """Hourly rows of four assets that follow a random walk, with a volatility index."""
    rng = np.random.default_rng(seed)
    index = 20.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, n_rows)))
    moves = rng.standard_t(5.0, (n_rows, len(ASSETS))) * VOLATILITIES / np.sqrt(HOURS_A_YEAR)
    prices = 100.0 * np.exp(np.cumsum(moves * (index / 20.0)[:, None], axis=0))
    first, hour = pd.Timestamp("2024-01-01"), pd.Timedelta(1, "h")
    rows = [
        Row(first + i * hour, dict(zip(ASSETS, levels, strict=True)), None, float(index[i]), 2e-6)
        for i, levels in enumerate(prices.tolist())
    ]
    return RowSource(lambda after: iter(rows[after:]))


def source_of(config: Config, speed: float | None) -> tuple[RowSource, tuple[str, ...]]:
    """Rows of the run, and the assets in them."""
    if config.replay is None:
        return drawn_rows(config.rows or 2_000, config.seed), ASSETS
    replayed = CsvReplay(config.replay, speed=speed)
    if config.rows is None:
        return RowSource(replayed.rows), replayed.assets
    most = config.rows

    def first(after: int) -> Iterator[Row]:
        for _, row in zip(range(max(most - after, 0)), replayed.rows(after), strict=False):
            yield row

    return RowSource(first), replayed.assets
