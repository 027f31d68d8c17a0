"""Prices that ship inside a package: twenty US stocks and five factor funds."""

from __future__ import annotations

import pandas as pd

from sddp.errors import DataError


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
            "the stocks' prices ship inside skfolio, which is not installed; run "
            "pip install 'sddp-allocation[stocks]'"
        ) from error
    table: pd.DataFrame = getattr(datasets, loader)()
    table.index = pd.DatetimeIndex(table.index)
    return table.astype(float)
