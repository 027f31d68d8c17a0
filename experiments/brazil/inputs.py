"""The market of the study: a file of prices, or a made-up one for a quick look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.brazil.config import Config
from sddp.data.sources.brazil_prices import ASSETS, BrazilPrices, read_prices
from sddp.errors import DataError
from sddp.market import Market

# Where a file is looked for, from the working folder, if none is given.
PLACES = ("data/brazil/prices.csv", "data/prices.csv")

HOW_TO_GET = (
    f"sddp data fetch brazil --out {PLACES[0]}\n"
    "downloads it from the central bank of Brazil (see data/README.md; the Ibovespa "
    "and gold end in September 2019 there); any CSV file with the columns date, ibov, gold, usd, "
    "eur, cdi can be given as --prices FILE"
)

# A market day of the study's data comes 235.5 times a year.
ROWS_PER_YEAR = 235.5


def find_prices(given: str | None) -> Path:
    """Path of the file of prices.

    Raises
    ------
    DataError
        None is given and none lies where it is looked for; the message says how to get one.
    """
    if given is not None:
        return Path(given)
    for place in PLACES:
        if Path(place).is_file():
            return Path(place)
    raise DataError(f"no prices at {', '.join(PLACES)}; {HOW_TO_GET}")


def market(known: BrazilPrices, config: Config) -> Market:
    """Prices, the CDI as cash rate, and a volatility index in points.

    Brazil had no volatility index: that of the Ibovespa realized over the last rows stands in.
    The first rows, which have none, are left out.
    """
    index = realized_volatility(known.prices["ibov"], config.volatility_rows)
    rows = index.index
    return Market(known.prices.loc[rows], cash_rate=known.cash_rate[rows], volatility_index=index)


def read_market(path: Path, config: Config) -> Market:
    """The market of a file; errors as `sddp.data.sources.brazil_prices.read_prices`."""
    return market(read_prices(path), config)


def realized_volatility(prices: pd.Series[float], n_rows: int) -> pd.Series[float]:
    """Volatility over the last rows, in points: 30 is 30 % a year; rows without it are left out.

    Root of the mean square of log returns, which are known at the row.
    """
    squares = prices.apply(np.log).diff() ** 2
    variance = squares.rolling(n_rows).mean().dropna() * ROWS_PER_YEAR
    return 100.0 * variance**0.5


def made_up(config: Config) -> Market:
    """Two regimes of 60 rows in turn, for a quick look: no market ever looked like that."""
    rng = np.random.default_rng(config.seed)
    dates = pd.bdate_range("2006-06-01", "2009-12-31", name="date")
    n_rows = len(dates)
    calm = (np.arange(n_rows) // 60) % 2 == 0
    mean = np.where(calm[:, None], [0.0012, 0.0004, -0.0002, -0.0002], [-0.002, 0.001, 0.001, 0.0])
    spread = np.where(calm[:, None], [0.012, 0.009, 0.006, 0.007], [0.03, 0.015, 0.014, 0.013])
    steps = mean + spread * rng.standard_normal((n_rows, len(ASSETS)))
    steps[:, [1, 3]] += steps[:, [2]]  # in reais, gold and the euro move with the dollar
    prices = pd.DataFrame(100.0 * np.exp(steps.cumsum(axis=0)), dates, list(ASSETS))
    cdi = pd.Series(0.0004, dates, name="cdi")
    return market(BrazilPrices(prices, cdi), config)


def last_row(known: Market, config: Config) -> pd.Timestamp:
    """Date on which the run ends.

    Raises
    ------
    DataError
        No row from the start on.
    """
    rows = known.dates[known.dates >= pd.Timestamp(config.start)]
    if not len(rows):
        raise DataError(f"the prices end on {known.dates[-1]:%Y-%m-%d}, before {config.start}")
    last: pd.Timestamp = rows[: config.n_rows][-1]
    return last
