"""Tables that a model is made from: prices, and factors that its regimes are fitted to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from sddp.errors import DataError


def read_prices(path: str | Path, what: str) -> pd.DataFrame:
    """Price table from a CSV file: first column dates, one column per asset.

    Raises
    ------
    DataError
        The file cannot be read, holds no columns or rows, a date or price is none, or a price is
        missing or not positive; the message names the file, column and date.
    """
    try:
        table = pd.read_csv(path, index_col=0)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{what} {path} cannot be read as CSV: {error}") from error
    if table.shape[0] < 2 or table.shape[1] < 1:
        raise DataError(f"{what} {path} has shape {table.shape}; give a date column and prices")
    try:
        table.index = pd.DatetimeIndex(pd.to_datetime(table.index))
    except (ValueError, TypeError) as error:
        raise DataError(f"{what} {path}: the first column holds no dates: {error}") from error
    for column in table:
        numbers = pd.to_numeric(table[column], errors="coerce")
        bad = ~(np.isfinite(numbers) & (numbers > 0.0))
        if bad.any():
            first = table[column][bad].head(1)
            raise DataError(
                f"{what} {path}: {column} is {str(first.iloc[0])!r} on {first.index[0]:%Y-%m-%d}; "
                "give a positive price in every cell"
            )
        table[column] = numbers
    if not table.index.is_monotonic_increasing or table.index.has_duplicates:
        raise DataError(f"{what} {path}: dates must increase and not repeat")
    return table.astype(float)


def market_factor(prices: pd.DataFrame) -> pd.DataFrame:
    """Level of one factor that stands in where none is given: the equal-weighted market."""
    mean = prices.apply(np.log).diff().fillna(0.0).mean(axis=1)
    return mean.cumsum().apply(np.exp).to_frame("market")


def align(prices: pd.DataFrame, factors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows on which both tables have prices; factors as log returns from row to row.

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
