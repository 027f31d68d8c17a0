"""A table of numbers by date and asset from parsed columns: sorted, unique, without empty rows."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.data.notes import Notes, count, some

Keep = Literal["first", "last"]


@dataclass(frozen=True)
class AssembleOptions:
    """What to do with repeated and unordered rows; see `sddp.data.ReadOptions`."""

    keep: Keep | None = None
    sort: bool = False


def assemble(
    dates: pd.DatetimeIndex,
    labels: Sequence[Hashable],
    columns: Sequence[Floats],
    assets: Sequence[Hashable] | None,
    notes: Notes,
    options: AssembleOptions,
    *,
    drop_empty: bool,
) -> pd.DataFrame:
    """Table of dates by assets.

    Parameters
    ----------
    dates : DatetimeIndex, shape (n_rows,)
        As they stand in the source.
    labels : sequence
        Names of the columns.
    columns : sequence of arrays, shape (n_rows,)
    assets : sequence or None
        In a long table the asset of each row; it has one column.
    notes : Notes
    options : AssembleOptions
    drop_empty : bool
        Whether rows without any number are left out: of prices, whose next change spans them.

    Raises
    ------
    DataError
        A column, a date, or in a long table a pair of both, is repeated and ``keep`` does not say
        which counts; dates go up and down; fewer than two rows hold a number.
    """
    if options.keep not in (None, *get_args(Keep)):
        raise notes.error(f"keep={options.keep!r} (--keep): must be 'first' or 'last'")
    if assets is None:
        table = _wide(dates, labels, columns, notes, options)
    else:
        table = _long(dates, assets, columns[0], notes, options)
    empty = table.isna().all(axis=1)
    if drop_empty and empty.any():
        first = table.index[empty][0]
        notes.done.append(
            f"{count(int(empty.sum()), 'row')} without any number left out ({_day(first)})"
        )
        table = table[~empty]
    if len(table) < 2:
        raise notes.error(
            f"the table has {count(len(table), 'row')} with numbers; give at least two"
        )
    return table


def _wide(
    dates: pd.DatetimeIndex,
    labels: Sequence[Hashable],
    columns: Sequence[Floats],
    notes: Notes,
    options: AssembleOptions,
) -> pd.DataFrame:
    kept = _distinct_columns(labels, columns, notes, options)
    values = np.column_stack([columns[j] for j in kept])
    named = pd.Index([labels[j] for j in kept], tupleize_cols=False)
    table = pd.DataFrame(values, index=dates, columns=named)
    table = _sorted(table, notes, options)
    repeated = table.index.duplicated(keep=False)
    if repeated.any():
        day = table.index[repeated][0]
        table = table[~_repeats(table.index, _day(day), _compared(table, day), notes, options)]
    return table


def _distinct_columns(
    labels: Sequence[Hashable],
    columns: Sequence[Floats],
    notes: Notes,
    options: AssembleOptions,
) -> list[int]:
    """Positions of the columns to keep."""
    places: dict[Hashable, list[int]] = {}
    for j, label in enumerate(labels):
        places.setdefault(label, []).append(j)
    twice = {label: found for label, found in places.items() if len(found) > 1}
    if twice and options.keep is None:
        label, found = next(iter(twice.items()))
        equal = all(np.array_equal(columns[found[0]], columns[j], equal_nan=True) for j in found)
        same = "the same" if equal else "other"
        raise notes.error(
            f"{len(found)} columns are named {label!r} (with {same} "
            f"numbers); rename them, or give keep='first' or 'last' (--keep)"
        )
    if twice:
        notes.done.append(f"of repeated columns the {options.keep} kept: {some(twice)}")
    side = -1 if options.keep == "last" else 0
    return sorted(found[side] for found in places.values())


def _sorted(table: pd.DataFrame, notes: Notes, options: AssembleOptions) -> pd.DataFrame:
    """Rows in the order of time; the first of equal dates stays first."""
    dates = pd.DatetimeIndex(table.index)
    if dates.is_monotonic_increasing:
        return table
    if dates.is_monotonic_decreasing:
        notes.done.append("rows were newest first: turned round")
        # Among equal dates "first" stays what stands first in the file.
        return table.sort_index(kind="stable")
    back = int(np.argmax(np.diff(dates.asi8) < 0)) + 1
    if not options.sort:
        raise notes.error(
            f"dates go up and down: {_day(dates[back])} ({notes.place(back)}) follows "
            f"{_day(dates[back - 1])}; correct them, or give sort=True (--sort)"
        )
    moved = int((np.diff(dates.asi8) < 0).sum())
    notes.done.append(f"rows sorted by date (they went back {count(moved, 'time')})")
    return table.sort_index(kind="stable")


def _compared(table: pd.DataFrame, day: pd.Timestamp) -> str:
    rows = table.loc[[day]]
    return "the same" if len(rows.drop_duplicates()) == 1 else "other"


def _repeats(
    index: pd.Index[Any],
    words: str,
    same: str,
    notes: Notes,
    options: AssembleOptions,
) -> NDArray[np.bool_]:
    """Mask of the rows that repeat another and are not kept."""
    if options.keep is None:
        days = int(index[index.duplicated()].nunique())
        more = f" and {count(days - 1, 'more case')}" if days > 1 else ""
        raise notes.error(
            f"there are several rows for {words} (with {same} numbers){more}; remove "
            "all but one, or give keep='first' or 'last' (--keep)"
        )
    mask = index.duplicated(keep=options.keep)
    notes.done.append(f"{count(int(mask.sum()), 'repeated row')} left out, the {options.keep} kept")
    return np.asarray(mask)


def _long(
    dates: pd.DatetimeIndex,
    assets: Sequence[Hashable],
    values: Floats,
    notes: Notes,
    options: AssembleOptions,
) -> pd.DataFrame:
    nameless = [i for i, asset in enumerate(assets) if _is_nothing(asset)]
    if nameless:
        raise notes.error(f"{notes.place(nameless[0])} names no asset; give one or remove the row")
    pairs = pd.MultiIndex.from_arrays([dates, pd.Index(assets, tupleize_cols=False)])
    series = pd.Series(values, index=pairs)
    twice = pairs.duplicated()
    if twice.any():
        day, asset = pairs[twice][0]
        same = series[pairs == pairs[twice][0]].nunique(dropna=False) == 1
        words = f"{asset} on {_day(day)}"
        series = series[~_repeats(pairs, words, "the same" if same else "other", notes, options)]
    order = list(dict.fromkeys(assets))
    return series.unstack()[order].sort_index().rename_axis(index="date", columns=None)


def _is_nothing(asset: Any) -> bool:
    return asset == "" if isinstance(asset, str) else bool(np.all(pd.isna(asset)))


def _day(date: object) -> str:
    return str(date).removesuffix(" 00:00:00")
