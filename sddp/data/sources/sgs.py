"""Series of the central bank of Brazil's time-series service (SGS).

``GET api.bcb.gov.br/dados/serie/bcdata.sgs.{code}/dados?formato=json&dataInicial=..&dataFinal=..``
answers ``[{"data": "02/01/2008", "valor": "1.7695"}, ...]``. A daily series is given for at most
ten years a request (HTTP 406 beyond, since March 2025), and a window without any value is answered
by HTTP 404 ``Value(s) not found``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sddp.data.sources.download import DownloadError, Fetch, beginning
from sddp.errors import DataError

ADDRESS = (
    "https://api.bcb.gov.br/dados/serie/bcdata.sgs.{code}/dados"
    "?formato=json&dataInicial={first:%d/%m/%Y}&dataFinal={last:%d/%m/%Y}"
)
YEARS = 10
NOTHING = b"Value(s) not found"
# Carnival and the turn of the year close the markets for five days; two weeks is a hole.
LARGEST_GAP = pd.Timedelta(days=14)

Window = tuple[pd.Timestamp, pd.Timestamp]


def windows(start: pd.Timestamp, end: pd.Timestamp) -> Iterator[Window]:
    """First and last days, inclusive, of stretches of ten years that cover `start` to `end`.

    >>> for first, last in windows(pd.Timestamp(2005, 3, 1), pd.Timestamp(2016, 1, 1)):
    ...     print(f"{first:%Y-%m-%d} to {last:%Y-%m-%d}")
    2005-03-01 to 2015-02-28
    2015-03-01 to 2016-01-01
    """
    while start <= end:
        after = start + pd.DateOffset(years=YEARS)
        yield start, min(after - pd.Timedelta(days=1), end)
        start = after


def address(code: int, window: Window) -> str:
    """URL of one window of a series."""
    return ADDRESS.format(code=code, first=window[0], last=window[1])


def download(code: int, stretches: Sequence[Window], get: Fetch) -> pd.Series[float]:
    """Values of a series by date, in the service's unit, over adjoining windows.

    Raises
    ------
    DataError
        The service cannot be reached, answers with anything but values of the window asked for,
        has none at all, or leaves a hole.
    """
    return _joined(code, [_window(code, window, get) for window in stretches])


def read_saved(code: int, folder: Path) -> pd.Series[float]:
    """Values of a series from answers saved by hand as ``sgs_<code>_<anything>.json``.

    Raises
    ------
    DataError
        No such file, or one that is no answer of the service.
    """
    parts = [parse(file.read_bytes(), str(file)) for file in saved_files(code, folder)]
    if not parts:
        raise DataError(f"{folder} holds no file sgs_{code}_*.json; save the service's answers so")
    return _joined(code, parts)


def saved_files(code: int, folder: Path) -> list[Path]:
    """Files of `read_saved`, in the order of their names."""
    return sorted(folder.glob(f"sgs_{code}_*.json"))


def _window(code: int, window: Window, get: Fetch) -> pd.Series[float]:
    url = address(code, window)
    try:
        values = parse(get(url), url)
    except DownloadError as error:
        if error.status == 404 and NOTHING in error.body:
            return _series([], [])
        raise
    outside = (values.index < window[0]) | (values.index > window[1])
    if outside.any():
        raise DataError(
            f"{url} holds a value of {values.index[outside][0]:%Y-%m-%d}, not asked for"
        )
    return values


def parse(content: bytes, where: str) -> pd.Series[float]:
    """Values by date from one JSON answer; a value left empty is left out.

    Raises
    ------
    DataError
        The answer is empty, a web page, no JSON, a message, or a row has no date or number.
    """
    rows = _rows(content, where)
    dates, values = [], []
    for row in rows:
        try:
            day, value = row["data"], row["valor"]
            if value not in (None, ""):
                dates.append(datetime.strptime(day, "%d/%m/%Y"))
                values.append(_number(value))
        except (KeyError, TypeError, ValueError) as error:
            message = f'{where}: row {row!r} is not {{"data": "dd/mm/yyyy", "valor": "number"}}'
            raise DataError(message) from error
    return _series(dates, values)


def _rows(content: bytes, where: str) -> list[Any]:
    text = content.strip()
    if not text:
        raise DataError(f"{where}: the answer is empty; try again later")
    if text.startswith(b"<"):
        page = beginning(text)
        raise DataError(f"{where}: a web page instead of JSON; try again later: {page}")
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: no JSON ({error}): {beginning(text)}") from error
    if not isinstance(rows, list):
        raise DataError(f"{where}: a message instead of values: {beginning(text)}")
    return rows


def _number(text: Any) -> float:
    number = float(text)
    if not np.isfinite(number):
        raise ValueError(f"{text!r} is not finite")
    return number


def _series(dates: list[datetime], values: list[float]) -> pd.Series[float]:
    return pd.Series(values, index=pd.DatetimeIndex(dates), dtype=float)


def _joined(code: int, parts: Sequence[pd.Series[float]]) -> pd.Series[float]:
    whole = pd.concat(parts)
    whole = whole[~pd.MultiIndex.from_arrays([whole.index, whole.to_numpy()]).duplicated()]
    whole = whole.sort_index()
    if whole.empty:
        raise DataError(f"SGS {code} has no value in the time asked for; try other dates")
    repeated = whole.index[whole.index.duplicated()]
    if len(repeated):
        raise DataError(f"SGS {code} has two different values for {repeated[0]:%Y-%m-%d}")
    gaps = np.diff(whole.index.to_numpy())
    if len(gaps) and gaps.max() > LARGEST_GAP:
        at = int(gaps.argmax())
        raise DataError(
            f"SGS {code} has no value between {whole.index[at]:%Y-%m-%d} and "
            f"{whole.index[at + 1]:%Y-%m-%d}; a window seems to be missing"
        )
    return whole
