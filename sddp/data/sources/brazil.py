"""Ibovespa, gold, dollar, euro and the overnight rate of Brazil, from the central bank's service.

``sddp data fetch brazil --out prices.csv`` writes ``date, ibov, gold, usd, eur, cdi`` and a sidecar
``prices.csv.json`` with sources, units, checksum and the days left out. The Ibovespa and gold end
on 2019-09-30 in the service: files of one's own continue them.
`sddp.data.sources.brazil_prices.read_prices` reads the file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sddp.data.sources import sgs
from sddp.data.sources.brazil_prices import ASSETS, CASH, check_prices
from sddp.data.sources.brazil_rows import assemble, continued, corrected, decimal_cdi
from sddp.data.sources.download import Fetch, fetch
from sddp.data.sources.files import digest, make_room, write_table
from sddp.errors import DataError

_log = logging.getLogger("sddp")

# The first common day only starts the clock of cash: the first row is in January 2000.
START = "1999-12-30"
LARGEST_SPREAD = 0.01


@dataclass(frozen=True)
class Column:
    """One column of the file and where it comes from.

    Parameters
    ----------
    name : str
    code : int
        Of the series in SGS.
    unit, quote : str
        Quote: which price of the day, and when it is fixed.
    sale : int, optional
        Code of the same rate's other side, by which the side is confirmed.
    ended : str, optional
        Day of the last value where the series is discontinued.
    """

    name: str
    code: int
    unit: str
    quote: str
    sale: int | None = None
    ended: str | None = None


PTAX = "PTAX purchase rate, fixed about 13h Brasilia time"
COLUMNS = (
    Column("ibov", 7, "index points", "close, about 17-18h Brasilia time", ended="2019-09-30"),
    Column("gold", 4, "BRL per gram", "BM&F spot market, close", ended="2019-09-30"),
    Column("usd", 10813, "BRL per USD", PTAX, sale=1),
    Column("eur", 21620, "BRL per EUR", PTAX, sale=21619),
    Column(
        CASH, 12, "decimal", "overnight interbank rate, earned from the previous row to this one"
    ),
)
ENDED = tuple(column for column in COLUMNS if column.ended is not None)

CODES = sorted({*(c.code for c in COLUMNS), *(c.sale for c in COLUMNS if c.sale is not None)})
EXAMPLE = sgs.address(10813, (pd.Timestamp(2000, 1, 1), pd.Timestamp(2009, 12, 31)))
BY_HAND = f"""\
By hand: open the address below in a browser, for each of the codes {", ".join(map(str, CODES))} and
each ten years, save the answers as sgs_<code>_<first year>.json in one folder, leave out those that
say "not found", and run again with --saved FOLDER.
  {EXAMPLE}"""


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Parameters
    ----------
    out : Path
        CSV file to write.
    start, end : Timestamp
        First and last day.
    continuations : mapping of str to Path
        Files that continue `ENDED` series, by column.
    saved : Path, optional
        Folder with answers of the service that were saved by hand.
    """

    out: Path
    start: pd.Timestamp
    end: pd.Timestamp
    continuations: Mapping[str, Path]
    saved: Path | None

    def series(self, code: int, get: Fetch) -> pd.Series[float]:
        """Values of a series between `start` and `end`, from the service or from saved answers."""
        if self.saved is not None:
            return sgs.read_saved(code, self.saved).loc[self.start : self.end]
        _log.info("asking for SGS %d ...", code)
        return sgs.download(code, list(sgs.windows(self.start, self.end)), get)

    def source(self, code: int) -> dict[str, Any]:
        """Where the values came from: addresses, or files and their checksums."""
        if self.saved is not None:
            files = sgs.saved_files(code, self.saved)
            return {"files": {file.name: digest(file.read_bytes()) for file in files}}
        return {"urls": [sgs.address(code, w) for w in sgs.windows(self.start, self.end)]}


def collect(request: Request, get: Fetch) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Table and sidecar of a request.

    Raises
    ------
    DataError
        A series cannot be had or fails a check.
    """
    series, about = {}, {}
    for column in COLUMNS:
        values = request.series(column.code, get)
        about[column.name] = _about(column, values) | request.source(column.code)
        if column.sale is not None:
            about[column.name]["side"] = _side(column, values, request.series(column.sale, get))
        series[column.name], changes = _finished(column, values, request)
        about[column.name] |= changes
    table, dropped = assemble({name: series[name] for name in ASSETS}, series[CASH])
    check_prices(table[list(ASSETS)], table[CASH], "the downloaded table")
    return table, {
        "rows_are": f"days on which {', '.join(ASSETS)} all have a value",
        "columns": about,
        "dropped_days": len(dropped),
        "dropped": dropped,
    }


def _about(column: Column, values: pd.Series[float]) -> dict[str, Any]:
    first, last = f"{values.index[0]:%Y-%m-%d}", f"{values.index[-1]:%Y-%m-%d}"
    _log.info("%s: %d values, %s to %s", column.name, len(values), first, last)
    described = {key: value for key, value in asdict(column).items() if value is not None}
    source = f"Banco Central do Brasil, SGS {column.code}"
    return described | {"source": source, "values": len(values), "first": first, "last": last}


def _side(column: Column, purchase: pd.Series[float], sale: pd.Series[float]) -> str:
    """Confirm by the other side: what a bank pays lies below what it asks."""
    spread = float((sale / purchase - 1.0).median())
    if not 0.0 < spread < LARGEST_SPREAD:
        raise DataError(
            f"SGS {column.sale} lies {spread:.3%} above SGS {column.code} ({column.name}); a sale "
            f"rate lies 0 to {LARGEST_SPREAD:.0%} above the purchase rate; have the codes changed?"
        )
    return f"purchase: the sale rate, SGS {column.sale}, lies {spread:.3%} above it (median)"


def _finished(
    column: Column, values: pd.Series[float], request: Request
) -> tuple[pd.Series[float], dict[str, Any]]:
    """Values in the file's unit, without slips, and continued; and what was changed."""
    if column.name == CASH:
        return decimal_cdi(values), {"converted": "from percent a day"}
    changes: dict[str, Any] = {}
    if column.name == "ibov":
        values, changes["corrected"] = corrected(values)
    path = request.continuations.get(column.name)
    if path is not None:
        values, ratio = continued(values, path, column.name)
        values = values.loc[: request.end]
        changes["continued"] = {
            "file": path.name,
            "sha256": digest(path.read_bytes()),
            "divided_by": ratio,
        }
    elif column.ended is not None and request.end > pd.Timestamp(column.ended):
        _log.warning(
            f"SGS {column.code} ({column.name}) was discontinued on {column.ended} and rows end "
            f"there; --{column.name} FILE.csv continues it (date, {column.name}: {column.unit})",
        )
    return values, changes


def save(request: Request, get: Fetch = fetch) -> dict[str, Any]:
    """Download or assemble, and write the CSV file with its sidecar; returns what was written.

    Raises
    ------
    DataError
        As `collect`; or the place cannot be written to, which is found out first.
    """
    make_room(request.out)
    table, about = collect(request, get)
    write_table(request.out, table, about)
    return {
        "files": [str(request.out)],
        "rows": len(table),
        "first": f"{table.index[0]:%Y-%m-%d}",
        "last": f"{table.index[-1]:%Y-%m-%d}",
        "dropped_days": about["dropped_days"],
    }
