"""The data of the study: files of returns and factors, or made-up ones for a quick look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.french.config import Config, Purpose
from sddp.data.sources.french_returns import read_factors, read_returns
from sddp.errors import DataError
from sddp.market import Market
from sddp.studies.streams import stream

FACTORS = ("mkt_rf", "smb", "hml", "rmw", "cma")

HOW_TO_GET = (
    "give --returns FILE --factors FILE. sddp data fetch french --out FOLDER [--daily] downloads "
    "size_bm_100_monthly.csv, ff5_monthly.csv and others from Kenneth French's library (see "
    "data/README.md)"
)


@dataclass(frozen=True, eq=False)
class FrenchData:
    """Rows of the study, oldest first.

    Attributes
    ----------
    returns : DataFrame, shape (n_rows, n_portfolios)
        Total simple returns; NaN where a cell is missing.
    factors : DataFrame, shape (n_rows, n_factors)
        Log returns of the factors.
    rf : Series, shape (n_rows,)
        Simple return of bills.
    """

    returns: pd.DataFrame
    factors: pd.DataFrame
    rf: pd.Series[float]

    def until(self, n_rows: int) -> FrenchData:
        """The first rows."""
        return FrenchData(self.returns[:n_rows], self.factors[:n_rows], self.rf[:n_rows])


def read(returns: str | None, factors: str | None, config: Config) -> FrenchData:
    """The rows that both files have.

    Raises
    ------
    DataError
        A file is not given, or is none of its kind; the rows they share do not follow each other,
        or are fewer than the study needs.
    """
    if returns is None or factors is None:
        raise DataError(f"no data: {HOW_TO_GET}")
    own, (drivers, rf) = read_returns(Path(returns)), read_factors(Path(factors))
    first = pd.Timestamp(config.first)
    own, drivers = own.loc[own.index >= first], drivers.loc[drivers.index >= first]
    common = own.index.intersection(drivers.index)
    _check(own, drivers, common, config)
    last = None if config.n_rows is None else config.n_training + config.n_rows
    rows = common[:last]
    return FrenchData(own.loc[rows], drivers.loc[rows].apply(np.log1p), rf.loc[rows])


def _check(own: pd.DataFrame, drivers: pd.DataFrame, common: pd.Index, config: Config) -> None:
    needed = config.n_training + config.lag + 2
    if len(common) < needed:
        raise DataError(
            f"returns and factors share {len(common)} rows from {config.first} on; the study needs "
            f"{needed}: {config.n_training} to learn from and some to be tried on"
        )
    for name, table in (("returns", own), ("factors", drivers)):
        within = table.index[(table.index >= common[0]) & (table.index <= common[-1])]
        extra = within.difference(common)
        if len(extra):
            raise DataError(
                f"only the {name} have a row for {extra[0]:%Y-%m-%d}; give files of one frequency "
                "and calendar"
            )


def market(data: FrenchData, config: Config) -> Market:
    """Total returns, with bills as cash; a missing cell earns 0."""
    return Market.from_returns(
        data.returns,
        cash_rate=data.rf,
        factors=data.factors,
        missing="carry",
        minimum_history=config.minimum_history,
    )


def made_up(config: Config) -> FrenchData:
    """Six portfolios in two regimes, for a quick look: no market ever looked like that.

    One portfolio is missing for some months of the training, and one when it could be held.
    """
    rng = stream(config.seed, Purpose.FIT, 99)
    n = config.n_training + (config.n_rows or 0)
    dates = pd.date_range("1990-01-31", periods=n, freq="ME", name="date")
    calm = (np.arange(n) // 50) % 2 == 0
    spread = np.where(calm[:, None], 0.02, 0.05)
    factors = spread * rng.standard_normal((n, len(FACTORS)))
    factors[:, 0] += np.where(calm, 0.02, -0.015)
    names = [f"me{i}_bm{j}" for i in (1, 2) for j in (1, 2, 3)]
    loadings = rng.uniform(-0.5, 0.5, (len(names), len(FACTORS)))
    loadings[:, 0] = np.linspace(0.6, 1.4, len(names))
    own = factors @ loadings.T + 0.01 * rng.standard_normal((n, len(names)))
    rf = pd.Series(0.002, dates, name="rf")
    returns = pd.DataFrame(np.expm1(own) + 0.002, dates, names)
    returns.iloc[10:16, 1] = np.nan
    returns.iloc[-20:-18, len(names) - 1] = np.nan
    return FrenchData(returns, pd.DataFrame(factors, dates, list(FACTORS)), rf)
