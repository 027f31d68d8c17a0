"""The text format of Kenneth French's data library: words, then one table under the other.

A table is a header line (``,Mkt-RF,SMB,...``) with rows ``192607,  2.96, -2.56, ...`` below it; the
lines right above the header are its title. Percent; -99.99 and -999 stand for a missing value;
dates are YYYYMM, YYYYMMDD or YYYY. One file may hold value weighted, equal weighted and annual
returns, numbers of firms and more: only the title tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.data.sources.files import DATE, check_dates
from sddp.errors import DataError

MISSING = (-99.99, -999.0)
FREQUENCIES = {4: "annual", 6: "monthly", 8: "daily"}  # digits of the date
ROW = re.compile(r"\s*(\d{8}|\d{6}|\d{4})\s*,")
VINTAGE = re.compile(r"using the (\d{6}) CRSP database")
COPYRIGHT = re.compile(r"^\s*(Copyright .*?)[\s,]*$", re.MULTILINE)

# The exchange was closed for eleven days in March 1933; months are at most 31 days apart.
LARGEST_GAP = {"monthly": pd.Timedelta(days=31), "daily": pd.Timedelta(days=14)}
# Volatilities are 0.5 to 8 in percent, monthly or daily, and 0.005 to 0.08 in decimals.
LEAST_VOLATILITY_IN_PERCENT = 0.1


@dataclass(frozen=True)
class Table:
    """One table of a library file, as text.

    Parameters
    ----------
    title : str
        Lines above the header, joined; for factors the words at the top of the file.
    frequency : {"daily", "monthly", "annual"}
    columns : tuple of str
        Names as the library writes them, blanks around them removed.
    rows : tuple of str
        Lines of the table.
    first_line : int
        Line number of the first row, from 1.
    """

    title: str
    frequency: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    first_line: int


@dataclass(frozen=True)
class LibraryFile:
    """A parsed file: its tables, and the vintage ``202302`` of the CRSP data behind it, if said."""

    tables: tuple[Table, ...]
    vintage: str | None
    copyright: str | None


def parse(text: str, where: str) -> LibraryFile:
    """Split a library file into its tables; numbers are not read yet.

    Raises
    ------
    DataError
        There is no table, a table has no header, or dates of two kinds follow one another.
    """
    lines = [line.rstrip().rstrip(",").rstrip() for line in text.splitlines()]
    kinds = [_kind(line) for line in lines]
    starts = [i for i, kind in enumerate(kinds) if kind and (i == 0 or not kinds[i - 1])]
    tables = tuple(_table(lines, kinds, start, where) for start in starts)
    if not tables:
        raise DataError(f"{where} holds no table: no line begins with a date and a comma")
    vintage, owner = VINTAGE.search(text), COPYRIGHT.search(text)
    return LibraryFile(tables, vintage and vintage[1], owner and owner[1])


def _kind(line: str) -> int:
    """Digits of the date that a row begins with; 0 for any other line."""
    match = ROW.match(line)
    return len(match[1]) if match else 0


def _table(lines: list[str], kinds: list[int], start: int, where: str) -> Table:
    end = start
    while end < len(lines) and kinds[end]:
        if kinds[end] != kinds[start]:
            raise DataError(
                f"{where}, line {end + 1}: {lines[end][:40]!r} follows dates of another kind"
            )
        end += 1
    above = start - 1
    while above >= 0 and not lines[above]:
        above -= 1
    header = lines[above].split(",") if above >= 0 and not kinds[above] else []
    columns = tuple(" ".join(name.split()) for name in header[1:])
    if not columns or not all(columns):
        raise DataError(
            f"{where}, line {start + 1}: no header line ',NAME,NAME,...' above the table"
        )
    title = _title(lines, kinds, above)
    return Table(title, FREQUENCIES[kinds[start]], columns, tuple(lines[start:end]), start + 1)


def _title(lines: list[str], kinds: list[int], header: int) -> str:
    last = header - 1
    while last >= 0 and not lines[last]:
        last -= 1
    first = last
    while first >= 0 and lines[first] and not kinds[first]:
        first -= 1
    return " ".join(" ".join(lines[first + 1 : last + 1]).split())


def returns(table: Table, where: str) -> pd.DataFrame:
    """Decimal returns by date of a monthly or daily table.

    Returns
    -------
    DataFrame, shape (n_periods, n_columns)
        Simple decimal returns over the period that ends at the date (the month's end, or the day);
        NaN where missing. Columns as `column_name` writes them.

    Raises
    ------
    DataError
        A row is broken, a date is none, repeats or is left out, a return is -100 % or less, or the
        numbers are not in percent.
    """
    dates, numbers = _dates(table, where), _numbers(table, where)
    numbers[np.isclose(numbers[..., None], MISSING, rtol=0.0, atol=1e-9).any(axis=-1)] = np.nan
    columns = [column_name(name) for name in table.columns]
    percent = pd.DataFrame(numbers, index=dates, columns=columns)
    _check(percent, table.frequency, where)
    return (percent / 100.0).round(10)


def column_name(name: str) -> str:
    """Name of a column in our files.

    >>> column_name("SMALL LoBM"), column_name("Mkt-RF")
    ('small_lobm', 'mkt_rf')
    """
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _dates(table: Table, where: str) -> pd.DatetimeIndex:
    texts = [row.split(",", 1)[0].strip() for row in table.rows]
    form = "%Y%m" if table.frequency == "monthly" else "%Y%m%d"
    dates = pd.DatetimeIndex(pd.to_datetime(texts, format=form, errors="coerce"), name=DATE)
    if dates.hasnans:
        at = int(np.argmax(dates.isna()))
        raise DataError(f"{where}, line {table.first_line + at}: {texts[at]!r} is no date")
    return dates + pd.offsets.MonthEnd(0) if table.frequency == "monthly" else dates


def _numbers(table: Table, where: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    values = np.empty((len(table.rows), len(table.columns)))
    for i, row in enumerate(table.rows):
        cells = row.split(",")[1:]
        try:
            values[i] = [float(cell) for cell in cells]
        except ValueError as error:
            raise DataError(
                f"{where}, line {table.first_line + i}: not {len(table.columns)} numbers: "
                f"{row[:60]!r} ({error})"
            ) from error
    return values


def _check(percent: pd.DataFrame, frequency: str, where: str) -> None:
    dates = pd.DatetimeIndex(percent.index)
    check_dates(dates, where)
    gaps = np.diff(dates.to_numpy())
    if len(gaps) and gaps.max() > LARGEST_GAP[frequency]:
        at = int(gaps.argmax())
        raise DataError(
            f"{where}: no row between {dates[at]:%Y-%m-%d} and {dates[at + 1]:%Y-%m-%d}; the file "
            "is cut or damaged"
        )
    if (percent <= -100.0).any(axis=None):
        row, column = np.argwhere((percent <= -100.0).to_numpy())[0]
        name, value = percent.columns[column], percent.to_numpy()[row, column]
        raise DataError(f"{where}: {name} is {value} % on {dates[row]:%Y-%m-%d}")
    volatility = float(percent.std().median())
    if volatility < LEAST_VOLATILITY_IN_PERCENT:
        raise DataError(
            f"{where}: the volatility is {volatility:.3g}; the numbers are not in percent"
        )
