"""Factors and portfolios of Kenneth French's data library.

``sddp data fetch french --out FOLDER`` writes one CSV of simple decimal returns for each data set
(`DATASETS`), value weighted, dated at month end, with a sidecar that holds source, vintage,
checksums and the number of missing cells. `sddp.data.sources.french_returns` reads the files.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sddp.data.sources import french_format
from sddp.data.sources.download import Fetch, beginning, fetch
from sddp.data.sources.files import digest, make_room, write_table
from sddp.errors import DataError

_log = logging.getLogger("sddp")

LIBRARY = "https://mba.tuck.dartmouth.edu/pages/faculty/ken.french/ftp/"
FACTORS = ("mkt_rf", "smb", "hml", "rmw", "cma", "rf")


@dataclass(frozen=True)
class Dataset:
    """One file of the library and the table wanted out of it.

    Parameters
    ----------
    name : str
        Of our file, without ``.csv``.
    archive : str
        Zip file of the library.
    frequency : {"monthly", "daily"}
    n_columns : int
    """

    name: str
    archive: str
    frequency: str
    n_columns: int

    @property
    def url(self) -> str:
        """Address of the zip file."""
        return LIBRARY + self.archive

    @property
    def title(self) -> str | None:
        """Title of the table; None for factors, whose table has none."""
        if self.name.startswith("ff5"):
            return None
        return f"Average Value Weighted Returns -- {self.frequency.capitalize()}"


DATASETS = (
    Dataset("ff5_monthly", "F-F_Research_Data_5_Factors_2x3_CSV.zip", "monthly", 6),
    Dataset("size_bm_25_monthly", "25_Portfolios_5x5_CSV.zip", "monthly", 25),
    Dataset("size_bm_100_monthly", "100_Portfolios_10x10_CSV.zip", "monthly", 100),
    Dataset("size_op_100_monthly", "100_Portfolios_ME_OP_10x10_CSV.zip", "monthly", 100),
    Dataset("ff5_daily", "F-F_Research_Data_5_Factors_2x3_daily_CSV.zip", "daily", 6),
    Dataset("size_bm_25_daily", "25_Portfolios_5x5_Daily_CSV.zip", "daily", 25),
)

BY_HAND = f"""\
By hand: save the zip files in one folder, by their own names, and run again with --saved FOLDER.
  {f"{chr(10)}  ".join(dataset.url for dataset in DATASETS)}"""


def extract(dataset: Dataset, archive: bytes, where: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Decimal returns of a data set, and what its sidecar says, from the library's zip file.

    Raises
    ------
    DataError
        It is no zip file of one CSV, holds no such table or more than one, or the table is broken.
    """
    file = french_format.parse(unpacked(archive, where), where)
    table = chosen(dataset, file, where)
    values = french_format.returns(table, where)
    return values, {
        "what": table.title if dataset.title else "factors and one-month bill rate (rf)",
        "unit": f"simple decimal return, {dataset.frequency}",
        "source": dataset.url,
        "source_sha256": digest(archive),
        "vintage": file.vintage,
        "copyright": file.copyright,
        "missing_cells": int(values.isna().to_numpy().sum()),
        "tables_in_source": [table.title for table in file.tables],
    }


def unpacked(archive: bytes, where: str) -> str:
    """Text of the one CSV file in a zip file.

    Raises
    ------
    DataError
        It is none (such as a web page that says the server is busy), or holds several.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as contents:
            names = [name for name in contents.namelist() if name.lower().endswith(".csv")]
            if len(names) != 1:
                raise DataError(f"{where} holds {names or 'no CSV file'}; one CSV file is needed")
            return _text(contents.read(names[0]))
    except zipfile.BadZipFile as error:
        raise DataError(f"{where} is no zip file ({error}): {beginning(archive)}") from error


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def chosen(dataset: Dataset, file: french_format.LibraryFile, where: str) -> french_format.Table:
    """The table of a data set.

    Raises
    ------
    DataError
        No table or several fit its title and frequency, or its columns are others.
    """
    fitting = [table for table in file.tables if _fits(dataset, table)]
    if len(fitting) != 1:
        wanted = dataset.title or "table of factors"
        titles = "; ".join(f"{table.title!r} ({table.frequency})" for table in file.tables)
        raise DataError(f"{where} holds {len(fitting)} times {wanted!r}; its tables are {titles}")
    table = fitting[0]
    if len(table.columns) != dataset.n_columns:
        raise DataError(
            f"{where}: {table.title!r} has {len(table.columns)} columns, not {dataset.n_columns}"
        )
    return table


def _fits(dataset: Dataset, table: french_format.Table) -> bool:
    if table.frequency != dataset.frequency:
        return False
    if dataset.title is None:
        return tuple(map(french_format.column_name, table.columns)) == FACTORS
    return table.title.lower() == dataset.title.lower()


def collect(
    datasets: tuple[Dataset, ...], get: Fetch
) -> Iterator[tuple[Dataset, pd.DataFrame, dict[str, Any]]]:
    """Download and parse one data set after the other.

    Raises
    ------
    DataError
        One cannot be had or fails a check.
    """
    for dataset in datasets:
        _log.info("%s: %s ...", dataset.name, dataset.url)
        values, about = extract(dataset, get(dataset.url), dataset.archive)
        if about["vintage"] is None:
            _log.warning("%s does not say its CRSP vintage", dataset.archive)
        _log.info(
            f"{dataset.name}: {len(values)} rows, {values.index[0]:%Y-%m-%d} to "
            f"{values.index[-1]:%Y-%m-%d}, vintage {about['vintage']}, "
            f"{about['missing_cells']} cells missing",
        )
        yield dataset, values, about


def saved(folder: Path) -> Fetch:
    """A `Fetch` that takes the library's zip files from a folder."""

    def get(url: str) -> bytes:
        path = folder / url.rsplit("/", 1)[-1]
        try:
            return path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{path} cannot be read ({error.strerror}); save {url} there"
            ) from error

    return get


def save(
    out: Path, *, daily: bool = False, saved_in: Path | None = None, get: Fetch = fetch
) -> dict[str, Any]:
    """Download the data sets and write their files; returns what was written.

    Parameters
    ----------
    out : Path
        Folder.
    daily : bool
        Whether to fetch the daily data sets too.
    saved_in : Path, optional
        Folder with the library's zip files instead of the network.
    get : callable

    Raises
    ------
    DataError
        As `collect`; or the folder cannot be written to, which is found out first.
    """
    make_room(out / "ff5_monthly.csv")
    datasets = tuple(d for d in DATASETS if daily or d.frequency == "monthly")
    # All of them before the first is written: the files of a folder have one vintage.
    found = list(collect(datasets, get if saved_in is None else saved(saved_in)))
    for dataset, values, about in found:
        write_table(out / f"{dataset.name}.csv", values, about)
    return {
        "files": [str(out / f"{dataset.name}.csv") for dataset, _, _ in found],
        "vintages": {dataset.name: about["vintage"] for dataset, _, about in found},
    }
