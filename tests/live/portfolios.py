"""Small portfolios for tests of the loop."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sddp.backtest import BuyAndHold, EqualWeight, EveryPeriods, OneStageStrategy, TransactionCosts
from sddp.backtest.trading.account import Account, Rules
from sddp.estimation import IncrementalForecaster, RollingWindow
from sddp.live import Row
from sddp.portfolio import MeanVariance

ASSETS = ("a", "b", "c")
START = pd.Timestamp("2024-01-03")


def stream(n_rows=120, seed=1):
    rng = np.random.default_rng(seed)
    levels = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal((n_rows, 3)), axis=0))
    dates = pd.date_range("2024-01-01", periods=n_rows, freq="h", tz="UTC")
    return [
        Row(date, dict(zip(ASSETS, level, strict=True)), None, 20.0, 1e-5)
        for date, level in zip(dates, levels.tolist(), strict=True)
    ]


def mean_variance():
    forecaster = IncrementalForecaster(RollingWindow(days=1), rebuild_every=10)
    return OneStageStrategy(MeanVariance(risk_aversion=5.0), forecaster)


def account(strategy=None, trigger=None, lag=1, venue=None):
    costs = TransactionCosts(np.full(3, 0.001), np.full(3, 0.001))
    trigger = EveryPeriods(3) if trigger is None else trigger
    return Account(strategy or EqualWeight(), ASSETS, Rules(costs, lag, 1.0, trigger), venue)


STRATEGIES = {
    "equal weight": EqualWeight,
    "buy and hold": lambda: BuyAndHold({"a": 0.5, "b": 0.3}),
    "mean variance": mean_variance,
}
