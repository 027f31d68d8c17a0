"""Checked tables of observations from a DataFrame or array."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.arrays import Floats, Ints, read_only
from sddp.errors import DataError
from sddp.labels import Labels, checked_labels, same_labels

TableLike = pd.DataFrame | ArrayLike


@dataclass(frozen=True, eq=False)
class Table:
    """Finite observations with their labels.

    Parameters
    ----------
    values : array, shape (n_rows, n_columns)
        The observations.
    names : tuple of labels or None
        Column names of the DataFrame the values came from, None for a bare array.
    rows : pandas.Index or None
        Its row labels.
    """

    values: Floats
    names: Labels | None
    rows: pd.Index | None

    def column(self, position: int) -> str:
        """Name of a column in messages."""
        return repr(self.names[position]) if self.names else str(position)

    def row(self, position: int) -> str:
        """Name of a row in messages."""
        return str(position if self.rows is None else self.rows[position])


def read_table(data: TableLike, argument: str, *, gaps: bool = False) -> Table:
    """Check a table of observations; `argument` is its name in messages, `gaps` allows NaN.

    Raises
    ------
    DataError
        `data` is not two-dimensional, holds no row or column, or an entry that is not a finite
        number, or its columns have labels that cannot be told apart (see `checked_labels`).
    """
    names = checked_labels(data.columns, argument) if isinstance(data, pd.DataFrame) else None
    table = Table(_two_dimensional(data, argument), names, _row_labels(data))
    good = np.isfinite(table.values)
    if gaps:
        good |= np.isnan(table.values)
    if not good.all():
        bad = np.argwhere(~good)
        row, column = (int(i) for i in bad[0])
        raise DataError(
            f"{argument} holds {table.values[row, column]} in column {table.column(column)}, "
            f"row {table.row(row)} ({len(bad)} such entries); drop or fill them first"
        )
    return table


def check_columns(
    table: Table, names: Sequence[Hashable] | None, n_columns: int, argument: str
) -> None:
    """Check that the columns are those of an earlier fit.

    Raises
    ------
    DataError
        The number of columns differs, or both sides are named and the names or order differ.
    """
    if table.values.shape[1] != n_columns:
        raise DataError(
            f"{argument} has {table.values.shape[1]} columns; the fit has {n_columns} variables"
        )
    if names and table.names and not same_labels(names, table.names):
        raise DataError(
            f"{argument} has the columns {list(table.names)}; "
            f"the fit has {list(names)}: select them in this order"
        )


def sequence_lengths(lengths: ArrayLike | None, n_rows: int) -> Ints:
    """Row counts of the independent sequences stacked in one table.

    Raises
    ------
    DataError
        A length is not a positive integer, or they do not sum to the number of rows.
    """
    counts = np.atleast_1d(np.asarray(n_rows if lengths is None else lengths))
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or counts.min() < 1:
        raise DataError(f"lengths = {lengths!r}; give the positive row count of each sequence")
    if counts.sum() != n_rows:
        raise DataError(f"lengths sums to {counts.sum()}; log_returns has {n_rows} rows")
    return counts.astype(np.int64)


def split(values: Floats, lengths: Ints) -> Iterator[Floats]:
    """Cut stacked rows into the independent sequences."""
    yield from np.split(values, np.cumsum(lengths)[:-1])


def _two_dimensional(data: TableLike, argument: str) -> Floats:
    try:
        values: Floats = np.array(data, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(f"{argument} holds something that is not a number: {error}") from error
    if values.ndim != 2:
        raise DataError(
            f"{argument} has shape {values.shape}; give rows x variables "
            "(one variable: `.to_frame()` of a Series, `.reshape(-1, 1)` of an array)"
        )
    if values.size == 0:
        raise DataError(f"{argument} has shape {values.shape}; it needs rows and columns")
    return values


def _row_labels(data: TableLike) -> pd.Index | None:
    return data.index if isinstance(data, pd.DataFrame) else None


def finite_array(values: ArrayLike, shape: tuple[int, ...], name: str) -> Floats:
    """Read-only array of finite numbers of a given shape."""
    array = read_only(values)
    if array.shape != shape:
        raise DataError(f"{name} has shape {array.shape}; means asks for {shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name} must hold finite numbers")
    return array


def check_positive_definite(covariances: Floats) -> None:
    """Check that covariances are symmetric and positive definite."""
    for k, covariance in enumerate(covariances):
        asymmetry = np.abs(covariance - covariance.T).max()
        if asymmetry > 1e-10 * np.abs(covariance).max() or np.linalg.eigvalsh(covariance)[0] <= 0.0:
            raise DataError(f"covariances[{k}] is not symmetric and positive definite")
