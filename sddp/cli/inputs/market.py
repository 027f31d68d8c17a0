"""The market that a command works on: from a file of prices, or made up for trying it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sddp.cli.inputs.reading import (
    add_missing_options,
    add_reading_options,
    read_as_given,
    reading_options,
)
from sddp.cli.settings import defaults_for

if TYPE_CHECKING:
    import pandas as pd

    from sddp.data import DataReport, Reading
    from sddp.data.units import Kind
    from sddp.market import Market

MADE_UP = "the prices are made up, for trying the command: nothing in them is a market's"


@dataclass(frozen=True, eq=False)
class PriceTables:
    """Prices and what their regimes are fitted to, on the same dates.

    Attributes
    ----------
    prices : DataFrame, shape (n_rows, n_assets)
        Levels, in money, or simple returns.
    factors : DataFrame, shape (n_rows, n_factors)
        Log returns from row to row.
    source : str
        Where they come from.
    caveats : tuple of str
        What a reader must know of them.
    kind : {"prices", "returns"}
        What `prices` holds: levels, or simple returns.
    reports : mapping of str to DataReport
        On each file read.
    delisting_return : float, optional
        Of assets that end before the table does.
    cash : Series, shape (n_rows,), optional
        Decimal return of cash from the row before to each row; None where one rate holds.
    own_defaults : mapping
        Defaults of settings that belong to these tables, before those of their frequency.
    """

    prices: pd.DataFrame
    factors: pd.DataFrame
    source: str
    caveats: tuple[str, ...] = ()
    kind: Kind = "prices"
    reports: Mapping[str, DataReport] = field(default_factory=dict)
    delisting_return: float | None = None
    cash: pd.Series[float] | None = None
    own_defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pace(self) -> float:
        """Rows a year."""
        from sddp.dates import periods_per_year

        return periods_per_year(self.dates)

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Of the rows."""
        import pandas as pd

        return pd.DatetimeIndex(self.prices.index)

    @property
    def frequency(self) -> str:
        """How often prices come, in a word."""
        from sddp.dates import frequency

        return frequency(self.dates)

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Defaults of the settings for these tables, or for prices that come so often."""
        return defaults_for(self.dates) | dict(self.own_defaults)

    def market(self, cash_rate: float, missing: str) -> Market:
        """The market of these tables; `cash_rate` counts where they have no cash of their own."""
        from typing import cast, get_args

        from sddp.market import Market
        from sddp.market.departures import ended
        from sddp.market.market import Missing

        assert missing in get_args(Missing)
        make = Market.from_returns if self.kind == "returns" else Market
        earned = self.delisting_return
        return make(
            self.prices,
            factors=self.factors,
            cash_rate=cash_rate if self.cash is None else self.cash,
            missing=cast("Missing", missing),
            departures=None if earned is None else ended(self.prices, earned),
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
            "data": {name: report.to_dict() for name, report in self.reports.items()},
        }

    @property
    def cautions(self) -> list[str]:
        """What a reader of results must know of the tables, in sentences."""
        found = [*self.caveats, *(text for r in self.reports.values() for text in r.cautions)]
        return [f"{text[:1].upper()}{text[1:]}." for text in found]

    def notes(self) -> Notes:
        """What the tables are, and what was decided when they were read."""
        lines = [self.sentence()]
        for name, report in self.reports.items():
            told = (("read", report.guessed), ("done", report.done), ("note", report.cautions))
            lines += [f"{name}, {kind}: {text}." for kind, texts in told for text in texts]
        return Notes([*lines, *(f"Note: {caveat}." for caveat in self.caveats)])

    def sentence(self) -> str:
        """What they are, in words."""
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
        "--factor-returns",
        action="store_true",
        help="the file of --factors holds simple returns, not levels",
    )
    group.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        help="leave a column of the prices out; may be given several times",
    )
    add_missing_options(group)
    add_reading_options(parser)


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
    from sddp.cli.inputs import prices as tables
    from sddp.errors import DataError

    if options.prices is None:
        if options.factors is not None:
            raise DataError(f"--factors {options.factors}: needs {name}; give both")
        return made_up() if otherwise is None else otherwise()
    prices, report = read_as_given(options.prices, options, name)
    prices = _without(prices, options.without)
    reports = {"prices": report}
    if options.factors is None:
        levels = tables.market_factor(prices, report.kind)
    else:
        levels, reports["factors"] = _factors(options)
    return PriceTables(
        *tables.align(prices, levels),
        source=str(options.prices),
        caveats=_flattering(prices, options),
        kind=report.kind,
        reports=reports,
        delisting_return=options.delisting_return,
    )


def _flattering(prices: pd.DataFrame, options: argparse.Namespace) -> tuple[str, ...]:
    """What a delisting without its return does to a backtest."""
    from sddp.data.notes import some
    from sddp.market.departures import ended

    gone = [str(name) for name in ended(prices, 0.0)]
    if not gone or options.missing != "carry" or options.delisting_return is not None:
        return ()
    return (
        f"prices of {some(gone)} end before the table does: a holding is sold at the last price, "
        "which flatters if it was delisted (--delisting-return)",
    )


def _without(prices: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    from sddp.errors import DataError

    unknown = [name for name in names if name not in prices.columns]
    if unknown:
        known = ", ".join(map(str, prices.columns[:20]))
        raise DataError(f"--without {unknown[0]}: is no column of the prices; known are {known}")
    left = prices.drop(columns=names)
    if left.empty:
        raise DataError("--without: leaves no column of the prices; leave some in")
    return left


def _factors(options: argparse.Namespace) -> Reading:
    """Levels of factors; of returns, those that they lead to from 1."""
    from sddp.data import Reading, read_factors, read_prices

    how = reading_options(options)
    how["asset"] = how["sheet"] = None  # of the file of prices
    if not options.factor_returns:
        return read_prices(options.factors, argument="--factors", **how)
    table, report = read_factors(
        options.factors, argument="--factors", percent=options.percent, **how
    )
    return Reading((1.0 + table).cumprod(), report)


def made_up() -> PriceTables:
    """Tables for trying a command without a file."""
    from sddp.cli.inputs import prices as tables

    prices = tables.example_prices()
    aligned = tables.align(prices, tables.market_factor(prices))
    return PriceTables(*aligned, source="made up", caveats=(MADE_UP,))
