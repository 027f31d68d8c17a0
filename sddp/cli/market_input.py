"""The market that a command works on: from a file of prices, or made up for trying it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sddp.cli.settings import frequency

if TYPE_CHECKING:
    import pandas as pd

    from sddp.backtest import Market

MADE_UP = "the prices are made up, for trying the command: nothing in them is a market's"


@dataclass(frozen=True, eq=False)
class PriceTables:
    """Prices and what their regimes are fitted to, on the same dates.

    Attributes
    ----------
    prices : DataFrame, shape (n_rows, n_assets)
        Levels, in money.
    factors : DataFrame, shape (n_rows, n_factors)
        Log returns from row to row.
    source : str
        Where they come from.
    caveats : tuple of str
        What a reader must know of them.
    """

    prices: pd.DataFrame
    factors: pd.DataFrame
    source: str
    caveats: tuple[str, ...] = ()

    @property
    def pace(self) -> float:
        """Rows a year."""
        import pandas as pd

        from sddp.backtest.metrics import periods_per_year

        return periods_per_year(pd.DatetimeIndex(self.prices.index))

    @property
    def frequency(self) -> str:
        """How often prices come, in a word."""
        return frequency(self.pace)[0]

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Defaults of the settings for prices that come so often."""
        return frequency(self.pace)[1]

    def market(self, cash_rate: float, missing: str) -> Market:
        """The market of these tables."""
        from typing import cast, get_args

        from sddp.backtest import Market
        from sddp.backtest.market import Missing

        assert missing in get_args(Missing)
        return Market(
            self.prices,
            factors=self.factors,
            cash_rate=cash_rate,
            missing=cast("Missing", missing),
        )

    def described(self) -> dict[str, Any]:
        """For the result and the run record."""
        dates = self.prices.index
        return {
            "source": self.source,
            "rows": len(dates),
            "first": dates[0].isoformat(),
            "last": dates[-1].isoformat(),
            "rows_a_year": round(self.pace, 1),
            "frequency": self.frequency,
            "assets": [str(name) for name in self.prices.columns],
            "factors": [str(name) for name in self.factors.columns],
        }

    def sentence(self) -> str:
        """The same in words."""
        told = self.described()
        return (
            f"Prices: {told['source']}; {told['rows']} rows, {told['first'][:10]} to "
            f"{told['last'][:10]}, {told['frequency']} ({told['rows_a_year']} a year), "
            f"{len(told['assets'])} assets."
        )


@dataclass
class Notes:
    """What was decided for the user, said in the output."""

    lines: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """One more."""
        self.lines.append(text)


def add_price_options(parser: argparse.ArgumentParser) -> None:
    """Options of how tables are read; the file of prices itself is the command's own argument."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--factors",
        metavar="FILE",
        help="levels that the regimes are fitted to, by date like the prices; by default the "
        "equal-weighted mean of the assets",
    )
    group.add_argument(
        "--missing",
        choices=("raise", "carry", "drop"),
        default="raise",
        help="what a missing price does: stops with its place (default), repeats the last price, "
        "or leaves out the whole row",
    )


def read_tables(
    options: argparse.Namespace,
    *,
    name: str = "PRICES",
    otherwise: Callable[[], PriceTables] | None = None,
) -> PriceTables:
    """Tables of the files that the options name.

    Parameters
    ----------
    options : Namespace
        With ``prices`` and those of `add_price_options`.
    name : str
        What the argument of the file of prices is called.
    otherwise : callable, optional
        Gives the tables where no file is named; by default made-up ones.

    Raises
    ------
    DataError
        A file cannot be read, or factors are given without prices.
    """
    from sddp.cli import prices as tables
    from sddp.errors import DataError

    if options.prices is None:
        if options.factors is not None:
            raise DataError(f"--factors {options.factors}: needs {name}; give both")
        return made_up() if otherwise is None else otherwise()
    prices = tables.read_prices(options.prices, name)
    if options.factors is None:
        factors = tables.market_factor(prices)
    else:
        factors = tables.read_prices(options.factors, "--factors")
    return PriceTables(*tables.align(prices, factors), source=str(options.prices))


def made_up() -> PriceTables:
    """Tables for trying a command without a file."""
    from sddp.cli import prices as tables

    prices = tables.example_prices()
    aligned = tables.align(prices, tables.market_factor(prices))
    return PriceTables(*aligned, source="made up", caveats=(MADE_UP,))
