"""Rows of a stream of market data, and sources of them: files and tables."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from sddp.errors import DataError, ModelError
from sddp.market.market import Market

# Columns of a file that are no prices, by the names they are known under.
INDEX_COLUMNS = ("volatility_index", "vix")
CASH_COLUMNS = ("cash_rate", "tbill", "cash")
ALIASES = frozenset({*INDEX_COLUMNS, *CASH_COLUMNS})


@dataclass(frozen=True)
class Row:
    """What a source tells of one time. Nothing is checked here: see `RowRules`.

    Parameters
    ----------
    time : Timestamp or None
        Of the quotes; without a zone it is taken as UTC.
    prices : mapping of text to float
        By asset, in money; what is left out or NaN is not quoted.
    volumes : mapping of text to float, optional
        Traded in the period up to `time`, in money.
    volatility_index : float, optional
        In points (30 is 30 % a year).
    cash_rate : float, optional
        Decimal return of cash earned since the row before.
    identifier : str, optional
        Of the message that brought the row: a second one of that identifier is dropped.
    """

    time: pd.Timestamp | None
    prices: Mapping[str, float]
    volumes: Mapping[str, float] | None = None
    volatility_index: float | None = None
    cash_rate: float | None = None
    identifier: str | None = None

    def content(self) -> str:
        """The row as JSON: the same text for the same content, floats exact."""
        return self._content

    @cached_property
    def _content(self) -> str:
        document: dict[str, Any] = {
            "time": None if self.time is None or pd.isna(self.time) else self.time.isoformat(),
            "prices": dict(self.prices),
        }
        if self.volumes is not None:
            document["volumes"] = dict(self.volumes)
        for name in ("volatility_index", "cash_rate"):
            if getattr(self, name) is not None:
                document[name] = getattr(self, name)
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def of(cls, content: str, identifier: str | None = None) -> Row:
        """Row of a text that `content` has written.

        Raises
        ------
        DataError
            The text is no row.
        """
        try:
            document = json.loads(content)
            told = document.pop("time")
            moment = None if told is None else pd.Timestamp(told)
            return cls(moment, document.pop("prices"), **document, identifier=identifier)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"content={content[:60]!r}: must be the JSON of a row: {error!r}"
            ) from (error)


class Source(Protocol):
    """Rows in the order in which they arrive."""

    def rows(self, after: int) -> Iterator[Row]:
        """Rows that follow the first `after` ones, which were taken by an earlier run."""
        ...

    def acknowledge(self) -> None:
        """Called once the row handed out last is stored for good."""
        ...


class RowSource:
    """Source of rows that can be made again from the first one.

    Parameters
    ----------
    make : callable
        Gives an iterator from the first row; called with the number of rows to skip.
    """

    def __init__(self, make: Callable[[int], Iterator[Row]]) -> None:
        self._make = make

    def rows(self, after: int) -> Iterator[Row]:
        """Rows that follow the first `after` ones."""
        return self._make(after)

    def acknowledge(self) -> None:
        """Do nothing: the rows can be made again."""


def market_rows(market: Market) -> RowSource:
    """Source of the rows of a market; a carried price is one that is left out."""
    whole = market.at(market.dates[-1])
    prices = whole.prices.where(whole.quoted).to_numpy()
    names = [str(name) for name in whole.assets]
    index = None if whole.volatility_index is None else whole.volatility_index.to_numpy()
    cash = whole.cash_rate.to_numpy()

    def rows(after: int) -> Iterator[Row]:
        for i in range(after, len(prices)):
            levels = {n: p for n, p in zip(names, prices[i].tolist(), strict=True) if p == p}
            level = None if index is None else float(index[i])
            yield Row(whole.dates[i], levels, None, level, float(cash[i]))

    return RowSource(rows)


class CsvReplay:
    """Rows of a file, at the distance of their times divided by a speed.

    The first column holds times, the others prices by asset; columns ``vix`` or
    ``volatility_index``, and ``tbill``, ``cash`` or ``cash_rate``, are the index and the rate of
    cash.

    Parameters
    ----------
    file : Path
    speed : float, optional
        60 replays an hour in a minute; None waits for nothing.
    volumes : Path, optional
        File of the same form: money traded, by time.
    sleep : callable
        Takes seconds.

    Raises
    ------
    DataError
        A file is missing, or has no column but times.
    ModelError
        `speed` is no positive number.
    """

    def __init__(
        self,
        file: Path | str,
        *,
        speed: float | None = None,
        volumes: Path | str | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if speed is not None and not (math.isfinite(speed) and speed > 0.0):
            raise ModelError(
                f"speed = {speed}: must be a positive number (60 replays an hour in a minute), or "
                "None to wait for nothing"
            )
        self.file, self.speed, self.sleep = Path(file), speed, sleep
        self.volumes = None if volumes is None else Path(volumes)
        self.columns = _columns(self.file)

    @property
    def assets(self) -> tuple[str, ...]:
        """Names of the columns that are prices."""
        return tuple(name for name in self.columns[1:] if name.lower() not in ALIASES)

    def rows(self, after: int) -> Iterator[Row]:
        """Rows that follow the first `after` ones; the first of them does not wait."""
        volumes = {} if self.volumes is None else dict(_cells(self.volumes))
        before: pd.Timestamp | None = None
        for number, (told, cells) in enumerate(_cells(self.file)):
            if number < after:
                continue
            moment = _time(told)
            if self.speed is not None and before is not None and moment is not None:
                self.sleep(max((moment - before).total_seconds(), 0.0) / self.speed)
            before = moment if moment is not None else before
            yield Row(
                moment,
                {name: cells[name] for name in self.assets if name in cells},
                volumes.get(told),
                _first(cells, INDEX_COLUMNS),
                _first(cells, CASH_COLUMNS),
            )

    def acknowledge(self) -> None:
        """Do nothing: the file stays."""


def _columns(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            columns = next(csv.reader(lines), [])
    except OSError as error:
        raise DataError(f"file={file}: must be readable: {error}") from error
    if len(columns) < 2:
        raise DataError(f"file={file} has columns {columns}: must hold times and prices")
    return columns


def _cells(file: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Time and numbers of each line of a file; what is no number is NaN, an empty cell left out."""
    columns = [name.lower() if name.lower() in ALIASES else name for name in _columns(file)]
    with file.open(newline="", encoding="utf-8") as lines:
        reader = csv.reader(lines)
        next(reader)
        for cells in reader:
            if cells:
                numbers = zip(columns[1:], cells[1:], strict=False)
                yield cells[0], {name: _number(cell) for name, cell in numbers if cell.strip()}


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _time(told: str) -> pd.Timestamp | None:
    try:
        moment = pd.Timestamp(told)
    except ValueError:
        return None
    return None if pd.isna(moment) else moment


def _first(cells: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((cells[name] for name in names if name in cells), None)
