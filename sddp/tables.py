"""Checks of input tables, and read-only tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.dates import plain_dates
from sddp.errors import DataError
from sddp.labels import Labels, checked_labels, label_index

# A message that lists a thousand cells is not read.
SHOWN = 5


def checked_table(values: object, name: str, *, reserved: str | None = None) -> pd.DataFrame:
    """Copy of a table of numbers (rows = dates, columns = assets or factors); may hold NaN.

    Time zones and periods become plain dates by the rule of `sddp.dates.plain_dates`. The columns
    become a plain index: of a MultiIndex, one of its tuples. No label may have the text `reserved`.

    Raises
    ------
    DataError
        `values` is no DataFrame or is empty; dates are not a DatetimeIndex, not sorted or not
        unique; labels of columns cannot be told apart (see `sddp.labels.checked_labels`); a
        column is not numeric; a number is infinite.
    """
    if not isinstance(values, pd.DataFrame):
        raise DataError(f"{name} is a {type(values).__name__}; give a DataFrame, rows = dates")
    if values.size == 0:
        raise DataError(f"{name} has shape {values.shape}; give at least one row and one column")
    dates = plain_dates(values.index)
    check_dates(dates, name)
    labels = checked_labels(values.columns, name, reserved=reserved)
    _check_numbers(values, labels, name)
    table = values.astype(float).set_axis(dates, axis=0)
    if type(values.columns) not in (pd.Index, pd.RangeIndex):
        table.columns = label_index(labels)
    infinite = table.abs() == np.inf
    if infinite.to_numpy().any():
        raise DataError(f"{name} is infinite at {cells(infinite)}; remove or correct it")
    return table


def checked_series(values: object, name: str) -> pd.Series[float]:
    """`checked_table` of one column."""
    if not isinstance(values, pd.Series):
        raise DataError(f"{name} is a {type(values).__name__}; give a Series indexed by date")
    return checked_table(values.to_frame(name), name).iloc[:, 0]


def check_dates(dates: pd.Index[Any], name: str) -> None:
    """Check that an index holds sorted, unique dates.

    Raises
    ------
    DataError
        With the first date that is out of place.
    """
    if not isinstance(dates, pd.DatetimeIndex):
        raise DataError(
            f"the index of {name} is a {type(dates).__name__}, not dates; use pd.to_datetime, or "
            "read the table with sddp.data.read_prices"
        )
    if dates.hasnans:
        raise DataError(f"the index of {name} holds a missing date (NaT); remove that row")
    repeated = dates[dates.duplicated()]
    if len(repeated):
        raise DataError(f"{name} has two rows for {day(repeated[0])}; keep one row for each date")
    if not dates.is_monotonic_increasing:
        late = int(np.argmax(np.diff(dates.asi8) < 0)) + 1
        raise DataError(f"the dates of {name} go back at {day(dates[late])}; use sort_index()")


def check_same_dates(values: pd.DataFrame | pd.Series[float], dates: Any, name: str) -> None:
    """Check that the rows of a table are those of the prices.

    Raises
    ------
    DataError
        With the number of dates on either side only and the first of each.
    """
    extra, lacking = values.index.difference(dates), dates.difference(values.index)
    if len(extra) or len(lacking):
        found = [
            f"{len(some)} {what} (first {day(some[0])})"
            for some, what in ((lacking, "dates are lacking"), (extra, "are no rows of prices"))
            if len(some)
        ]
        raise DataError(
            f"{name} and prices must have the same dates: {' and '.join(found)}; align them first"
        )


def window(values: NDArray[Any], index: Any, columns: Any) -> pd.DataFrame:
    """DataFrame on `values`, which must be read-only, without a copy."""
    assert not values.flags.writeable
    return pd.DataFrame(values, index=index, columns=columns, copy=False)


def cells(mask: pd.DataFrame) -> str:
    """First true cells of `mask` in words: ``gold on 2008-01-02, ... and 7 more``."""
    rows, columns = np.nonzero(mask.to_numpy())
    named = [
        f"{mask.columns[j]} on {day(mask.index[i])}"
        for i, j in zip(rows[:SHOWN], columns[:SHOWN], strict=True)
    ]
    rest = len(rows) - len(named)
    return ", ".join(named) + (f" and {rest} more" if rest else "")


def day(date: object) -> str:
    """Date as text, without the time at midnight."""
    return str(date).removesuffix(" 00:00:00")


def _check_numbers(table: pd.DataFrame, labels: Labels, name: str) -> None:
    for column, dtype in zip(labels, table.dtypes, strict=True):
        if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
            raise DataError(
                f"column {column!r} of {name} is of type {dtype}, not numbers; "
                "convert it with pd.to_numeric or drop it"
            )


def locked(values: NDArray[Any]) -> NDArray[Any]:
    """Read-only copy, in the layout of the original."""
    copy = np.array(values)
    copy.flags.writeable = False
    return copy
