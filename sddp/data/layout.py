"""Where things stand in a table: its header, the column of dates, the columns of numbers."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd

from sddp.data.date_forms import looks_written
from sddp.data.notes import Notes, count, some
from sddp.data.source import Grid

DATE_WORDS = frozenset(
    [
        "date",
        "dates",
        "datetime",
        "date/time",
        "time",
        "timestamp",
        "day",
        "month",
        "period",
        "year",
        "caldt",
        "trade_date",
        "tradedate",
        "trading_date",
        "as_of_date",
        "datum",
        "data",
        "fecha",
    ]
) | {"trade date", "trading date", "as of date", "valuation date"}

DEEPEST_HEADER = 6  # rows looked at for the word "date"
SAMPLE = 300  # rows looked at for dates


@dataclass(frozen=True)
class Column:
    """One column: what stands above it, from top to bottom, and its cells.

    Attributes
    ----------
    names : tuple of Hashable
        One for each header row; texts, or the levels of a DataFrame's label.
    cells : sequence
        Texts, or numbers or dates of a DataFrame.
    label : Hashable
        Of a DataFrame's column; for files the text of the only name.
    """

    names: tuple[Hashable, ...]
    cells: Sequence[Any]
    label: Hashable = ""


@dataclass(frozen=True)
class Layout:
    """A table whose column of dates is known.

    Attributes
    ----------
    dates : sequence
        Cells of the column of dates.
    columns : list of Column
        The others, without row numbers and columns in which nothing stands.
    """

    dates: Sequence[Any]
    columns: list[Column]


def lay_out(content: Grid | pd.DataFrame, notes: Notes, date_column: str | None) -> Layout:
    """Find header and dates of a table.

    Raises
    ------
    DataError
        There is no header or no row, a row is longer or shorter than the header, a column has no
        name, or the column of dates is not certain.
    """
    if isinstance(content, pd.DataFrame):
        return _of_frame(content, notes, date_column)
    return _of_grid(content, notes, date_column)


def _of_grid(grid: Grid, notes: Notes, date_column: str | None) -> Layout:
    rows, lines = grid.rows, grid.lines
    width = max(len(row) for row in rows[-max(1, (2 * len(rows)) // 3) :])
    at = _date_position(rows, width, notes, date_column)
    n_header = next(
        (i for i, row in enumerate(rows) if at < len(row) and may_be_date(row[at])), len(rows)
    )
    if n_header == 0:
        raise notes.error(
            f"there is no header: line {lines[0]} begins with {some(rows[0])!r}; add a line with "
            "'date' and the names of the assets"
        )
    body, places = rows[n_header:], lines[n_header:]
    if not body:
        body, places, n_header = rows[1:], lines[1:], 1  # no date at all: `dates` says so
    if not body:
        raise notes.error("there are no rows below the header; give at least two")
    body, places = _without_footer(body, places, at, width, notes)
    body, n_header_cells = _rectangular(body, places, rows[:n_header], notes)
    notes.place = lambda i: f"line {places[i]}"
    header = [row + [""] * (n_header_cells - len(row)) for row in rows[:n_header]]
    cells = [list(column) for column in zip(*body, strict=True)]
    names = _header(header, lines, at, cells, notes)
    columns = [Column(tuple(names[j]), cells[j]) for j in range(len(cells)) if j != at]
    columns = _without_row_numbers(columns, at > 0, notes)
    filled = [column for column in columns if any(column.names) or any(column.cells)]
    if len(filled) < len(columns):
        notes.done.append(f"{count(len(columns) - len(filled), 'empty column')} left out")
    _check_names(filled, notes)
    return Layout(cells[at], [replace(c, label=c.names[-1]) for c in filled])


def may_be_date(text: str) -> bool:
    """Whether a cell in a column of dates may be one: written out, or digits enough for a year."""
    if re.fullmatch(r"\d{4,19}(\.\d*)?", text):
        return True
    return looks_written(re.split(r"[T ,]+\d{1,2}:\d\d", text)[0]) or looks_written(
        re.sub(r"^[A-Za-z]{3,9}[., ]+", "", text)
    )


def _date_position(rows: list[list[str]], width: int, notes: Notes, date_column: str | None) -> int:
    """Position of the column of dates."""
    tail = rows[-max(1, (2 * len(rows)) // 3) :]
    tail = tail[:: max(1, len(tail) // SAMPLE)]
    top = rows[:DEEPEST_HEADER]
    if date_column is not None:
        found = [j for row in top for j, cell in enumerate(row) if cell == date_column]
        if not found:
            known = some([cell for cell in top[0] if cell], 8)
            raise notes.error(
                f"date_column={date_column!r} (--date-column): no such column; there are {known}"
            )
        return found[0]

    def written(j: int) -> float:
        return float(np.mean([j < len(row) and looks_written(_day(row[j])) for row in tail]))

    def dated(j: int) -> float:
        return float(np.mean([j < len(row) and may_be_date(row[j]) for row in tail]))

    named = sorted(
        {
            j
            for row in top
            for j, cell in enumerate(row[:width])
            if cell.strip("<>").lower() in DATE_WORDS
        }
    )
    likely = [j for j in named if dated(j) > 0.5]
    if len(likely) > 1 and 0 in likely:
        sure = [j for j in likely if written(j) > 0.5]
        likely = [0] if written(0) <= 0.5 and not sure else sure or [0]
    if len(likely) > 1:
        words = some([next(row[j] for row in top if j < len(row) and row[j]) for j in likely])
        raise notes.error(
            f"several columns hold dates: {words}; choose by date_column (--date-column)"
        )
    if likely:
        return likely[0]
    texts = [j for j in range(width) if written(j) > 0.5]
    return 0 if dated(0) > 0.5 or len(texts) != 1 else texts[0]


def _day(text: str) -> str:
    return re.split(r"[T ,]+\d{1,2}:\d\d", text)[0]


def _without_footer(
    body: list[list[str]], places: list[int], at: int, width: int, notes: Notes
) -> tuple[list[list[str]], list[int]]:
    """Rows without words below the table: lines with one cell that is no date."""
    end = len(body)
    while (
        end > 1
        and sum(map(bool, body[end - 1])) == 1
        and not may_be_date(body[end - 1][at:][0] if at < len(body[end - 1]) else "")
    ):
        end -= 1
    if end < len(body):
        text = next(cell for cell in body[end] if cell)
        notes.done.append(
            f"{count(len(body) - end, 'line')} below the table left out (line {places[end]}: "
            f"{text[:40]!r})"
        )
    return body[:end], places[:end]


def _rectangular(
    body: list[list[str]], places: list[int], header: list[list[str]], notes: Notes
) -> tuple[list[list[str]], int]:
    """Rows of the header's width; a delimiter at the end of every line opens an empty column."""
    width = max(len(row) for row in header)
    longest = max(len(row) for row in body)
    if longest == width + 1 and all(len(row) == longest and not row[-1] for row in body):
        return [row[:-1] for row in body], width
    for row, line in zip(body, places, strict=True):
        if len(row) != width:
            hint = "; a decimal comma must stand in quotes where commas separate the cells"
            raise notes.error(
                f"line {line} has {count(len(row), 'cell')}, the header {width}; is the file cut "
                f"or a delimiter lacking?{hint if len(row) > width else ''}"
            )
    return body, width


def _header(
    header: list[list[str]],
    lines: list[int],
    at: int,
    cells: list[list[str]],
    notes: Notes,
) -> list[list[str]]:
    """Names above each column, from top to bottom, without title lines and the index's name."""
    counted = [j for j in range(len(cells)) if j != at and any(cells[j])]
    filled = [sum(bool(row[j]) for j in counted) for row in header]
    full = [i for i, n in enumerate(filled) if n == len(counted) > 0]
    if not full:
        full = [int(np.argmax(filled))]
    first = full[0]
    # A spreadsheet merges equal cells of an upper row: `Close` stands over the first of its block.
    if first > 0 and filled[first - 1] > 1 and len(header[first - 1]) == len(header[first]):
        above = header[first - 1]
        first -= 1
        header[first] = _filled_forward(above, at, counted)
        full = [first, *full]
    titles = [i for i in range(first) if any(header[i])]
    if titles:
        text = next(cell for cell in header[titles[0]] if cell)
        notes.done.append(
            f"{count(len(titles), 'line')} above the header left out (line {lines[titles[0]]}: "
            f"{text[:40]!r})"
        )
    for i in range(first, len(header)):
        if i not in full and filled[i]:
            blank = next(j for j in counted if not header[i][j])
            raise notes.error(
                f"line {lines[i]}: column {blank + 1} has no name; name it or remove it"
            )
    return [[header[i][j] for i in full] for j in range(len(cells))]


def _filled_forward(row: list[str], at: int, counted: list[int]) -> list[str]:
    found, last = list(row), ""
    for j in range(len(row)):
        if j != at and j in counted:
            last = row[j] or last
            found[j] = last
    return found


def _without_row_numbers(columns: list[Column], before_dates: bool, notes: Notes) -> list[Column]:
    if not columns or not before_dates:
        return columns
    name, cells = str(columns[0].names[-1]).lower(), columns[0].cells
    numbered = (
        all(re.fullmatch(r"\d+", str(cell)) for cell in cells)
        and (np.diff([int(cell) for cell in cells]) == 1).all()
    )
    words = ("", "index", "level_0", "id", "no", "no.", "nr", "#", "row", "n")
    if numbered and (name in words or name.startswith("unnamed:")):
        notes.done.append(f"column of row numbers ({columns[0].names[-1]!r}) left out")
        return columns[1:]
    return columns


def _check_names(columns: list[Column], notes: Notes) -> None:
    if not columns:
        raise notes.error("there is no column beside the dates; give one for each asset")
    for column in columns:
        if not all(column.names):
            first = next((cell for cell in column.cells if cell), "")
            raise notes.error(f"the column with {first!r} has no name; name it or remove it")


def _of_frame(frame: pd.DataFrame, notes: Notes, date_column: str | None) -> Layout:
    """A DataFrame: dates in the index, or in a column if the index only counts."""
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise notes.error(
            f"the table has shape {frame.shape}; give at least one row and one column"
        )
    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index()
    labels = list(frame.columns)

    def words(label: Hashable) -> set[str]:
        levels = label if isinstance(label, tuple) else (label,)
        return {str(level).strip("<>").lower() for level in levels if level != ""}

    def dated(j: int) -> bool:
        kind = frame.iloc[:, j].dtype
        return pd.api.types.is_datetime64_any_dtype(kind) or isinstance(kind, pd.PeriodDtype)

    if date_column is not None:
        chosen = [j for j, label in enumerate(labels) if label == date_column]
        if not chosen:
            raise notes.error(
                f"date_column={date_column!r}: no such column; there are {some(labels, 8)}"
            )
    elif _counts(frame.index):
        chosen = [j for j, label in enumerate(labels) if words(label) & DATE_WORDS]
        chosen = [j for j in chosen if dated(j)] or chosen
        chosen = chosen or [j for j in range(len(labels)) if dated(j)]
        if len(chosen) > 1:
            found = some([labels[j] for j in chosen])
            raise notes.error(f"several columns hold dates: {found}; choose by date_column")
    else:
        chosen = []
    at = chosen[0] if chosen else None
    dates: Any = frame.index if at is None else pd.Index(frame.iloc[:, at])
    columns = [
        Column(label if isinstance(label, tuple) else (label,), _values(frame.iloc[:, j]), label)
        for j, label in enumerate(labels)
        if j != at
    ]
    if not columns:
        raise notes.error("there is no column beside the dates; give one for each asset")
    return Layout(dates, columns)


def _counts(index: pd.Index[Any]) -> bool:
    """Whether an index only numbers the rows."""
    return isinstance(index, pd.RangeIndex) or (
        pd.api.types.is_integer_dtype(index.dtype) and list(index) == list(range(len(index)))
    )


def _values(column: pd.Series[Any]) -> Sequence[Any]:
    kind = column.dtype
    if pd.api.types.is_bool_dtype(kind):
        return [str(value) for value in column]
    if pd.api.types.is_numeric_dtype(kind):
        values: Any = column.to_numpy(dtype=float, na_value=np.nan)
        return cast(Sequence[Any], values)
    return list(column)
