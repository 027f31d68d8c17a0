"""Prices for the experiments: a user's CSV file, or data that ship inside a package."""

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


def stock_prices() -> pd.DataFrame:
    """Daily adjusted closes of 20 US stocks, 1990-2022 (money), from the package skfolio.

    Raises
    ------
    DataError
        skfolio is not installed.
    """
    return _skfolio("load_sp500_dataset")


def factor_fund_prices() -> pd.DataFrame:
    """Daily adjusted closes of 5 factor funds, 2014-2022 (money), from the package skfolio."""
    return _skfolio("load_factors_dataset")


def _skfolio(loader: str) -> pd.DataFrame:
    try:
        from skfolio import datasets
    except ImportError as error:
        raise DataError(
            "the case study's prices ship inside skfolio, which is not installed; run "
            "pip install 'sddp-allocation[case-study]', or give --prices FILE.csv"
        ) from error
    table: pd.DataFrame = getattr(datasets, loader)()
    table.index = pd.DatetimeIndex(table.index)
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
