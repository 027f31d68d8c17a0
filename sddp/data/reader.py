"""`read_prices`, `read_returns` and the others: one reader for all tables from outside."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypedDict, Unpack

import pandas as pd

from sddp.data.assemble import AssembleOptions, Keep, assemble
from sddp.data.dates import DateOptions, parse_dates
from sddp.data.fields import FieldOptions, select
from sddp.data.layout import lay_out
from sddp.data.notes import Notes
from sddp.data.numbers import NumberOptions, parse_numbers
from sddp.data.report import DataReport, examine
from sddp.data.source import Source, SourceOptions, load
from sddp.data.units import Kind, to_decimals


class Reading(NamedTuple):
    """A table and the report about it.

    Attributes
    ----------
    table : DataFrame, shape (n_rows, n_assets)
        Floats by date (sorted, unique, without time zone; named ``date``); NaN where there is no
        number. Labels of a file's columns are text; those of a DataFrame stay as they are.
    report : DataReport
    """

    table: pd.DataFrame
    report: DataReport


class ReadOptions(TypedDict, total=False):
    """What the data may leave open; each has a command-line option of the same name.

    Attributes
    ----------
    delimiter : str
        One character, or ``tab``; found from the lines otherwise.
    decimal : {".", ","}
        Decimal mark.
    encoding : str
        Such as ``cp1252``; UTF-8 and UTF-16 are found.
    sheet : str
        Of an Excel workbook.
    date_column : str
        Name of the column of dates.
    date_format : str
        ``dmy``, ``mdy``, ``ymd``, ``yyyymmdd``, ``yyyymm``, ``yymmdd``, ``year``, ``month``,
        ``quarter``, ``excel``, ``excel1904``, ``unix``, ``unix-days``, or a pattern such as
        ``%d/%m/%Y``.
    day_first : bool
        Whether ``01/02/2020`` is the first of February.
    time_zone : str
        Zone to which dates that state theirs are converted; without it they keep their local time.
    field : str
        The price to take where a file holds open, high, low, close, ...
    asset : str
        Name of the only asset of a file; the file's own name otherwise.
    keep : {"first", "last"}
        Which of repeated dates or columns counts.
    sort : bool
        Whether to sort dates that go up and down.
    missing_values : tuple of str
        Texts of cells without a number, beside an empty cell, ``NA``, ``nan``, ``-`` and the like.
    """

    delimiter: str | None
    decimal: str | None
    encoding: str | None
    sheet: str | None
    date_column: str | None
    date_format: str | None
    day_first: bool | None
    time_zone: str | None
    field: str | None
    asset: str | None
    keep: Keep | None
    sort: bool
    missing_values: tuple[str, ...]


def read_prices(
    source: Source, *, argument: str = "prices", **options: Unpack[ReadOptions]
) -> Reading:
    r"""Read price levels: CSV in most dialects, Excel, Parquet, or a DataFrame.

    Rows are dates and columns assets; the files of the usual Python download (two and three header
    rows, or one asset with open, high, low, close) and long tables (date, asset, price) are known.
    Nothing ambiguous is guessed, and what is decided from the data stands in the report.

    Parameters
    ----------
    source : path, binary file or DataFrame
    argument : str
        What messages call the table.
    **options
        See `ReadOptions`.

    Returns
    -------
    Reading
        Table of levels in the file's own money, 0 or more. A price of 0 stays in: `Market` says
        what it does.

    Raises
    ------
    DataError
        The file cannot be read, something is ambiguous, or the numbers cannot be prices; the
        message names the place, what was found, and the option that helps.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO(b"Date;A;B\n31.01.2020;1,5;2\n29.02.2020;1,6;2,1\n")
    >>> prices, report = read_prices(file)
    >>> prices["A"].tolist(), report.frequency
    ([1.5, 1.6], 'monthly')
    >>> print(*report.guessed, sep="\n")
    dates are day first (--date-format dmy)
    numbers have a decimal comma (--decimal)
    """
    return _read(source, "prices", argument, None, options)


def read_returns(
    source: Source,
    *,
    argument: str = "returns",
    percent: bool | None = None,
    **options: Unpack[ReadOptions],
) -> Reading:
    """Read simple returns, earned from the previous row to the row's date.

    Parameters
    ----------
    source, argument, **options
        As `read_prices`.
    percent : bool, optional
        Whether the numbers are percent. By default they are decimals (0.01 is 1 %) unless each cell
        has a percent sign; a standard deviation that decimals do not have is refused, unless
        ``percent=False`` states that they are decimals.

    Returns
    -------
    Reading
        Decimal returns of at least -1; a return of -1 (all is lost) stays in: `Market` says what
        it does.

    Raises
    ------
    DataError
        As `read_prices`; and the numbers cannot be returns in the unit stated.
    """
    return _read(source, "returns", argument, percent, options)


def read_factors(
    source: Source,
    *,
    argument: str = "factors",
    percent: bool | None = None,
    **options: Unpack[ReadOptions],
) -> Reading:
    """Read returns of factors, such as long-short portfolios, which may lie below -1.

    Parameters, result and errors are those of `read_returns`. Levels of factors (funds, indices)
    are prices: `read_prices` reads them.
    """
    return _read(source, "factors", argument, percent, options)


def read_numbers(
    source: Source, *, argument: str = "numbers", **options: Unpack[ReadOptions]
) -> Reading:
    """Read numbers by date of which nothing is assumed: cash rates, a volatility index.

    Parameters, result and errors are those of `read_prices`, but that any number may stand anywhere
    and rows without a number stay.
    """
    return _read(source, "numbers", argument, None, options)


def _read(
    source: Source, kind: Kind, argument: str, percent: bool | None, options: ReadOptions
) -> Reading:
    unknown = options.keys() - ReadOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown option {sorted(unknown)[0]!r}; see sddp.data.ReadOptions")
    where = f"{argument} {source}" if isinstance(source, str | os.PathLike) else argument
    notes = Notes(where)

    def chosen(kind: Any) -> Any:
        names = kind.__dataclass_fields__
        return kind(**{name: options[name] for name in names if options.get(name) is not None})  # type: ignore[literal-required]

    loaded = load(source, notes, chosen(SourceOptions))
    layout = lay_out(loaded.content, notes, options.get("date_column"))
    dates = parse_dates(layout.dates, notes, chosen(DateOptions))
    repeated = bool(dates.has_duplicates)
    selection = select(layout, loaded.name, kind == "prices", repeated, notes, chosen(FieldOptions))
    numbers = parse_numbers(
        [(str(column.label), column.cells) for column in selection.columns],
        notes,
        chosen(NumberOptions),
        point_is_decimal=loaded.comma_separated or isinstance(loaded.content, pd.DataFrame),
    )
    labels = [column.label for column in selection.columns]
    table = assemble(
        dates,
        labels,
        numbers.columns,
        selection.assets,
        notes,
        chosen(AssembleOptions),
        drop_empty=kind == "prices",
    )
    table, unit = to_decimals(table, kind, percent, numbers.percent_signs, notes)
    table.index.name = "date"
    return Reading(table, examine(table, kind, unit, loaded.facts, notes))
