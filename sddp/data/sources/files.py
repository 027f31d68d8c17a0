"""Files of downloads: written whole or not at all, with a sidecar that says their source."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sddp.data.reader import Reading, read_numbers
from sddp.errors import DataError

DATE = "date"


def sidecar(path: Path) -> Path:
    """Where the description of a table lies: ``prices.csv`` -> ``prices.csv.json``."""
    return path.with_name(f"{path.name}.json")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def make_room(path: Path) -> None:
    """Make the folder of a file and see that it can be written to, before work is spent on it.

    Raises
    ------
    DataError
        It cannot, or the path is a folder.
    """
    probe = _part(path)
    try:
        if path.is_dir():
            raise IsADirectoryError("it is a folder; name a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataError(f"{path} cannot be written to: {error}") from error


def write_table(path: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write a CSV and its sidecar; neither is ever seen half-written.

    Parameters
    ----------
    path : Path
    table : DataFrame
        Index of dates, written as the ISO column ``date``; NaN becomes an empty cell.
    about : mapping
        What the sidecar says beside file name, SHA-256, time of writing, rows and range.

    Raises
    ------
    DataError
        The folder cannot be written to.
    """
    content = table.to_csv(index_label=DATE, date_format="%Y-%m-%d").encode()
    description = {
        "file": path.name,
        "sha256": digest(content),
        "written_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": len(table),
        "first": f"{table.index[0]:%Y-%m-%d}",
        "last": f"{table.index[-1]:%Y-%m-%d}",
        **about,
    }
    text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
    _replace({path: content, sidecar(path): text.encode()})


def _replace(contents: Mapping[Path, bytes]) -> None:
    """Write all beside their places first, so that what can fail fails before anything changes."""
    try:
        for path, content in contents.items():
            _part(path).write_bytes(content)
        for path in contents:
            os.replace(_part(path), path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}") from error
    finally:
        for path in contents:
            if _part(path).parent.is_dir():
                _part(path).unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def read_table(
    path: str | Path, *, missing: bool = False, read: Callable[..., Reading] = read_numbers
) -> pd.DataFrame:
    """Table of a file that `write_table` wrote, or one like it.

    Where a sidecar lies beside the file its SHA-256 must be the file's.

    Parameters
    ----------
    path : path
    missing : bool
        Whether empty cells are allowed; they become NaN.
    read : callable
        Reader of `sddp.data`.

    Raises
    ------
    DataError
        Another checksum, an empty cell that is not allowed, or the reader refuses the file.
    """
    path = Path(path)
    if path.is_file():
        _check_sidecar(path, path.read_bytes())
    table = read(path, argument="file").table
    empty = table.isna()
    if empty.to_numpy().any() and not missing:
        row, column = (int(found[0]) for found in np.nonzero(empty.to_numpy()))
        raise DataError(
            f"file {path}: {list(table.columns)[column]} is empty on {table.index[row]:%Y-%m-%d}; "
            "give a number in every cell"
        )
    return table


def _check_sidecar(path: Path, content: bytes) -> None:
    beside = sidecar(path)
    if not beside.is_file():
        return
    try:
        expected = json.loads(beside.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{beside} is no sidecar with a 'sha256': {error!r}") from error
    if expected != digest(content):
        raise DataError(
            f"{path} is not the file that {beside.name} describes: its SHA-256 differs; write it "
            "again, or remove the sidecar if the change was meant"
        )


def check_dates(dates: pd.DatetimeIndex, where: str) -> None:
    """Refuse dates that repeat or go back.

    Raises
    ------
    DataError
        With the first one out of place.
    """
    late = np.flatnonzero(np.diff(dates.to_numpy()) <= np.timedelta64(0, "D"))
    if late.size:
        raise DataError(
            f"{where}: {dates[late[0] + 1]:%Y-%m-%d} follows {dates[late[0]]:%Y-%m-%d}; "
            "dates must increase and not repeat"
        )
