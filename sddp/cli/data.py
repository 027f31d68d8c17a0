"""``sddp data``: look at a table before it is used, and fetch public data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sddp.cli import options as opt
from sddp.cli.exit_codes import say
from sddp.cli.inputs.reading import add_reading_options, read_as_given
from sddp.cli.output import Result, shown_log

# Files that continue the series that the central bank of Brazil has ended; see its module.
CONTINUED = {"ibov": "index points", "gold": "BRL per gram"}
BRAZIL_START = "1999-12-30"


def add_parser(commands: Any) -> None:
    """Declare the commands."""
    data = commands.add_parser(
        "data",
        help="check a table of prices or returns, fetch public data",
        allow_abbrev=False,
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_check(data)
    fetch = data.add_parser(
        "fetch", help="download public data to CSV files", allow_abbrev=False
    ).add_subparsers(title="sources", metavar="SOURCE", required=True)
    _add_brazil(fetch)
    _add_french(fetch)


def _add_check(data: Any) -> None:
    parser = opt.command(
        data,
        "check",
        run=check,
        summary="what a file of prices or returns holds, and how it is read",
        description="Read a table as every command reads it and report: rows, span, frequency, "
        "assets, gaps, equal numbers in a row, jumps, what was decided from the data (with the "
        "option that decides otherwise) and what was done. What is ambiguous is refused with the "
        "readings and the option that chooses.",
        examples=(
            "sddp data check prices.csv",
            "sddp data check returns.csv --returns --percent",
            "sddp data check AAPL.csv --field Close --html report.html",
        ),
    )
    parser.add_argument("file", metavar="FILE", help="table: CSV, Excel or Parquet")
    parser.add_argument("--html", metavar="FILE", help="also write the report to an HTML file")
    add_reading_options(parser)


def check(options: argparse.Namespace) -> Result:
    """Report on a table."""
    from sddp.files import written_whole

    _, report = read_as_given(options.file, options, "FILE")
    if options.html is not None:
        with written_whole(Path(options.html)) as beside:
            beside.write_text(report.to_html(), encoding="utf-8")
    return Result(report.to_dict(), str(report))


def _add_brazil(fetch: Any) -> None:
    parser = opt.command(
        fetch,
        "brazil",
        run=fetch_brazil,
        summary="Ibovespa, gold, dollar, euro and the overnight rate (central bank of Brazil)",
        description="Download daily series of the central bank of Brazil to one CSV file with a "
        "sidecar FILE.json that names sources, units and what was left out. The Ibovespa and gold "
        "end on 2019-09-30 there: --ibov and --gold continue them from files of your own.",
        examples=(
            "sddp data fetch brazil --out data/brazil/prices.csv",
            "sddp data fetch brazil --out prices.csv --start 2008-01-01 --ibov ibov.csv",
        ),
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="CSV file to write")
    parser.add_argument(
        "--start",
        type=opt.date,
        default=BRAZIL_START,
        metavar="DATE",
        help=f"first day (default {BRAZIL_START})",
    )
    parser.add_argument("--end", type=opt.date, metavar="DATE", help="last day (default today)")
    parser.add_argument("--saved", metavar="FOLDER", help="answers of the service saved by hand")
    for name, unit in CONTINUED.items():
        parser.add_argument(
            f"--{name}", metavar="FILE", help=f"CSV with date and {name} ({unit}), continues it"
        )


def fetch_brazil(options: argparse.Namespace) -> Result:
    """Download the series of the central bank of Brazil."""
    import pandas as pd

    from sddp.data.sources import brazil, download
    from sddp.errors import DataError

    start = pd.Timestamp(options.start)
    end = pd.Timestamp.now().normalize() if options.end is None else pd.Timestamp(options.end)
    if start >= end:
        raise DataError(f"--start {start:%Y-%m-%d}: must lie before --end {end:%Y-%m-%d}")
    given = {name: getattr(options, name) for name in CONTINUED}
    request = brazil.Request(
        out=Path(options.out),
        start=start,
        end=end,
        continuations={name: Path(file) for name, file in given.items() if file is not None},
        saved=None if options.saved is None else Path(options.saved),
    )
    found = _fetched(options, lambda: brazil.save(request, download.fetch), brazil.BY_HAND)
    text = (
        f"{options.out}: {found['rows']} rows, {found['first']} to {found['last']}, "
        f"{found['dropped_days']} days left out"
    )
    return Result(found, text)


def _add_french(fetch: Any) -> None:
    parser = opt.command(
        fetch,
        "french",
        run=fetch_french,
        summary="factors and portfolios of Kenneth French's data library",
        description="Download five factors and portfolios sorted by size, value and profitability "
        "to CSV files of decimal returns, each with a sidecar that names source and vintage.",
        examples=("sddp data fetch french --out french", "sddp data fetch french --out f --daily"),
    )
    parser.add_argument("--out", required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument("--daily", action="store_true", help="the daily data sets too")
    parser.add_argument("--saved", metavar="FOLDER", help="folder with the library's zip files")


def fetch_french(options: argparse.Namespace) -> Result:
    """Download data sets of Kenneth French's library."""
    from sddp.data.sources import download, french

    saved = None if options.saved is None else Path(options.saved)
    found = _fetched(
        options,
        lambda: french.save(
            Path(options.out), daily=options.daily, saved_in=saved, get=download.fetch
        ),
        french.BY_HAND,
    )
    return Result(found, "\n".join(found["files"]))


def _fetched(
    options: argparse.Namespace, work: Callable[[], dict[str, Any]], by_hand: str
) -> dict[str, Any]:
    """What was written; where the service cannot be used, say how to get the data by hand."""
    from sddp.data.sources.download import DownloadError

    try:
        with shown_log(quiet=options.quiet):
            return work()
    except DownloadError:
        say(by_hand)
        raise
    except KeyboardInterrupt as interrupt:
        interrupt.add_note("no file is half-written")
        raise
