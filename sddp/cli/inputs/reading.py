"""Options of how tables are read, for every command that takes a file of prices."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sddp.cli import options as opt

if TYPE_CHECKING:
    from sddp.data import Reading, ReadOptions

# Options by the keyword of the reader that they give; see `sddp.data.ReadOptions`.
TEXTS = {
    "delimiter": ("CHAR", "what separates the cells, one character or 'tab'; found otherwise"),
    "encoding": ("NAME", "such as cp1252; UTF-8 and UTF-16 are found"),
    "sheet": ("NAME", "sheet of an Excel workbook"),
    "date_column": ("NAME", "column of the dates"),
    "date_format": (
        "FORM",
        "dmy, mdy, ymd, yyyymmdd, yyyymm, yymmdd, year, month, quarter, excel, excel1904, unix, "
        "unix-days, or a pattern such as %%d/%%m/%%Y",
    ),
    "time_zone": ("ZONE", "zone to which dates that state theirs are converted"),
    "field": ("NAME", "price to take of open, high, low, close, ... (Adj Close, else Close)"),
    "asset": ("NAME", "name of the asset of a file that holds one (default: the file's)"),
}


def add_reading_options(parser: Any) -> None:
    """Options of the reader; a file that says everything itself needs none."""
    group = parser.add_argument_group("reading of files (what they leave open; the rest is found)")
    group.add_argument(
        "--returns", action="store_true", help="the table holds simple returns, not prices"
    )
    group.add_argument(
        "--percent",
        action=argparse.BooleanOptionalAction,
        help="returns are percent (1.5 is 1.5 %%), or with --no-percent decimals whatever they are",
    )
    group.add_argument("--decimal", choices=(".", ","), help="decimal mark")
    day = group.add_mutually_exclusive_group()
    day.add_argument(
        "--day-first", action="store_true", default=None, help="01/02/2020 is 1 February"
    )
    day.add_argument(
        "--month-first",
        dest="day_first",
        action="store_false",
        default=None,
        help="01/02/2020 is 2 January",
    )
    for name, (metavar, text) in TEXTS.items():
        group.add_argument(f"--{name.replace('_', '-')}", metavar=metavar, help=text)
    group.add_argument(
        "--keep", choices=("first", "last"), help="which of repeated dates or columns counts"
    )
    group.add_argument("--sort", action="store_true", help="sort dates that go up and down")
    group.add_argument(
        "--missing-value",
        dest="missing_values",
        action="append",
        metavar="TEXT",
        help="text of a cell without a number, beside NA, nan, - and the like; may be repeated",
    )


def add_missing_options(parser: Any) -> None:
    """Options of what missing prices and delistings do; see `sddp.backtest.Market`."""
    parser.add_argument(
        "--missing",
        choices=("raise", "carry", "drop"),
        default="raise",
        help="what a missing price does: stops with its place (default), repeats the last price "
        "(the asset is not bought; a price of 0 or a return of -1 is a total loss), or leaves out "
        "the whole row",
    )
    parser.add_argument(
        "--delisting-return",
        type=opt.number,
        metavar="X",
        help="decimal return on the first row after the last price of an asset that ends before "
        "the table does (-0.3 loses 30 %%); without it a holding is sold at its last price",
    )


def reading_options(options: argparse.Namespace) -> ReadOptions:
    """Keywords of the reader."""
    from sddp.data import ReadOptions

    found = {name: getattr(options, name) for name in ReadOptions.__annotations__}
    found["missing_values"] = tuple(found["missing_values"] or ())
    keywords: ReadOptions = {name: value for name, value in found.items() if value is not None}  # type: ignore[assignment]
    return keywords


def read_as_given(path: str, options: argparse.Namespace, argument: str) -> Reading:
    """Prices, or with ``--returns`` returns.

    Raises
    ------
    DataError
        As `sddp.data.read_prices`; or ``--percent`` is given for prices.
    """
    from sddp.data import read_prices, read_returns
    from sddp.errors import DataError

    keywords = reading_options(options)
    if options.returns:
        return read_returns(path, argument=argument, percent=options.percent, **keywords)
    if options.percent is not None:
        raise DataError("--percent: prices have no unit of percent; give --returns with it")
    return read_prices(path, argument=argument, **keywords)
