from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from sddp.market import Market


@dataclass(frozen=True)
class Data:
    """What a market is made of, before it is one."""

    prices: pd.DataFrame
    cash_rate: pd.Series
    factors: pd.DataFrame
    volatility_index: pd.Series

    def market(self, **options) -> Market:
        return Market(
            self.prices,
            cash_rate=self.cash_rate,
            factors=self.factors,
            volatility_index=self.volatility_index,
            **options,
        )


def random_data(rng: np.random.Generator, n_rows: int = 60) -> Data:
    dates = pd.bdate_range("2020-01-01", periods=n_rows)
    assets = ["gold", "stocks", "dollar", "euro"]
    steps = rng.normal(0.0005, 0.02, (n_rows, len(assets)))
    return Data(
        prices=pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, assets),
        cash_rate=pd.Series(rng.uniform(0.0, 0.001, n_rows), dates),
        factors=pd.DataFrame(rng.normal(size=(n_rows, 2)), dates, ["market", "size"]),
        volatility_index=pd.Series(rng.uniform(10.0, 40.0, n_rows), dates),
    )


@pytest.fixture
def data() -> Data:
    return random_data(np.random.default_rng(20))


@pytest.fixture
def other_data() -> Data:
    """Other valid numbers on the same dates."""
    return random_data(np.random.default_rng(21))


@pytest.fixture
def market(data: Data) -> Market:
    return data.market()
