"""Tables that a model is made from: prices, and factors that its regimes are fitted to."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sddp.data.units import Kind
from sddp.errors import DataError


def market_factor(table: pd.DataFrame, kind: Kind = "prices") -> pd.DataFrame:
    """Level of one factor that stands in where none is given: the equal-weighted market.

    Parameters
    ----------
    table : DataFrame, shape (n_rows, n_assets)
        Levels or simple returns. On each row the mean is over the assets that have a price there
        and had one before; a total loss, whose log return is infinite, is left out.
    kind : {"prices", "returns"}
    """
    if kind == "returns":
        logs = (1.0 + table.where(table > -1.0)).apply(np.log)
    else:
        levels = table.where(table > 0.0)
        logs = levels.ffill().apply(np.log).diff().where(levels.notna())
    mean = logs.mean(axis=1).fillna(0.0)
    return mean.cumsum().apply(np.exp).to_frame("market")


def align(prices: pd.DataFrame, factors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of both tables; factors, given as levels, as log returns from row to row.

    Raises
    ------
    DataError
        The tables share fewer than three dates.
    """
    common = prices.index.intersection(factors.index)
    if len(common) < 3:
        raise DataError("prices and factors share fewer than three dates; check their dates")
    returns = factors.loc[common].apply(np.log).diff().iloc[1:]
    return prices.loc[returns.index], returns


def example_prices(seed: int = 0) -> pd.DataFrame:
    """Made-up daily prices of five funds over five years, in two regimes: calm and turbulent.

    For trying a command without a file: nothing in them is a market's.
    """
    rng = np.random.default_rng(seed)
    n_rows, share = 1304, np.array([1.2, 1.0, 0.8, 0.5, 0.1])
    changes = rng.random(n_rows) < np.array([0.01, 0.04])[:, None]
    turbulent = np.zeros(n_rows, dtype=int)
    for row in range(1, n_rows):
        before = turbulent[row - 1]
        turbulent[row] = 1 - before if changes[before, row] else before
    drift, spread = np.array([0.0006, -0.0008])[turbulent], np.array([0.006, 0.017])[turbulent]
    market = drift + spread * rng.standard_normal(n_rows)
    own = 0.004 * rng.standard_normal((n_rows, len(share))) * share
    steps = market[:, None] * share + own + 0.0001
    dates = pd.bdate_range("2020-01-01", periods=n_rows, name="date")
    names = [f"fund {letter}" for letter in "ABCDE"]
    return pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, names)
