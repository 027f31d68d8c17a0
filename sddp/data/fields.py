"""Which columns are assets: files of one asset's open, high, low, close; several header rows; long.

The price taken, where a file holds several, is ``Adj Close`` (splits and dividends inside) if there
is one, else the close; ``field`` takes another.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.data.layout import Column, Layout
from sddp.data.notes import Notes, some

ADJUSTED = frozenset({"adj close", "adjclose", "adj. close", "adjusted close", "close adj"})
CLOSE = frozenset(
    {
        "close",
        "price",
        "last",
        "px last",
        "close price",
        "closing price",
        "close/last",
        "last price",
    }
)
RANGE = frozenset({"open", "high", "low"})
FIELDS = (
    ADJUSTED
    | CLOSE
    | RANGE
    | frozenset(
        [
            "volume",
            "vol",
            "vol.",
            "dividends",
            "dividend",
            "repaired?",
            "change",
            "vwap",
            "turnover",
            "trades",
            "amount",
            "openint",
            "tickvol",
            "spread",
        ]
    )
    | {"stock splits", "capital gains", "change %", "adj open", "adj high", "adj low", "adj volume"}
)
# Columns that name the asset of each row; where there are several, the first of this order.
LABEL_WORDS = (
    *("ticker", "tickers", "symbol", "symbols", "tic", "ric", "permno", "isin", "cusip", "sedol"),
    *("code", "asset", "instrument", "security", "stock", "id", "variable", "series", "name"),
)

SAMPLE = 500  # cells that tell a column of text from one of numbers


@dataclass(frozen=True)
class FieldOptions:
    """What to take of a file that holds more than one table; see `sddp.data.ReadOptions`."""

    field: str | None = None
    asset: str | None = None


@dataclass(frozen=True)
class Selection:
    """Columns of numbers by asset; in a long table one column, and the asset of each row.

    Attributes
    ----------
    columns : list of Column
    assets : list or None
        In a long table the label of each row.
    """

    columns: list[Column]
    assets: list[Hashable] | None = None


def normal(name: Hashable) -> str:
    """A field's name in lower case with single blanks: ``Adj_Close`` is ``adj close``."""
    return " ".join(re.sub(r"[_<>]+", " ", str(name)).lower().split())


def select(
    layout: Layout, stem: str, levels: bool, repeated: bool, notes: Notes, options: FieldOptions
) -> Selection:
    """Columns to be read as assets.

    Parameters
    ----------
    layout : Layout
    stem : str
        Name of the file, which names the asset of a file that holds a single one.
    levels : bool
        Whether prices are wanted: of other tables a column called Close is a column.
    repeated : bool
        Whether dates repeat.
    notes : Notes
    options : FieldOptions

    Raises
    ------
    DataError
        There are several candidates, or ``field`` or ``asset`` do not fit the table.
    """
    columns = layout.columns
    if len(columns[0].names) > 1:
        return Selection(_one_level(columns, levels, notes, options))
    long = _label_column(columns, repeated)
    if long is not None:
        others = [column for column in columns if column is not columns[long]]
        chosen = _value_column(others, notes, options)
        notes.guessed.append(
            f"long format: assets in column {columns[long].names[-1]!r}, values in "
            f"{chosen.names[-1]!r} (--field)"
        )
        if options.asset is not None:
            raise notes.error("asset (--asset): the file names its assets; leave the option out")
        return Selection([chosen], [_label(cell) for cell in columns[long].cells])
    if (levels and _single_asset(columns)) or options.field is not None:
        chosen = _field(columns, notes, options)
        name = options.asset or stem or str(chosen.names[-1])
        notes.guessed.append(
            f"one asset, {name!r}, from column {chosen.names[-1]!r} (--field, --asset)"
        )
        return Selection([replace(chosen, label=name)])
    if options.asset is not None:
        if len(columns) != 1:
            raise notes.error(
                f"asset={options.asset!r} (--asset): the file holds {len(columns)} columns; the "
                "option names the only asset of a file"
            )
        return Selection([replace(columns[0], label=options.asset)])
    alike = [c.label for c in columns if normal(c.label) in FIELDS] if levels else []
    if alike:
        notes.cautions.append(f"columns named like fields are read as assets: {some(alike)}")
    return Selection(columns)


def _label(cell: Any) -> Hashable:
    return cell.strip() if isinstance(cell, str) else cell


def _one_level(
    columns: list[Column], levels: bool, notes: Notes, options: FieldOptions
) -> list[Column]:
    """Columns of one field out of several header rows, one of which names fields."""
    depth, is_frame = len(columns[0].names), isinstance(columns[0].label, tuple)
    kinds = [
        k for k in range(depth) if all(normal(column.names[k]) in FIELDS for column in columns)
    ]
    wanted = options.field
    if wanted is not None and not kinds:
        kinds = [k for k in range(depth) if any(column.names[k] == wanted for column in columns)]
    if len(kinds) != 1 or depth != 2:
        if is_frame and wanted is None:
            return columns
        rows = "; ".join(some([c.names[k] for c in columns], 3) for k in range(depth))
        raise notes.error(
            f"the header has {depth} rows ({rows}), of which not exactly one names fields such as "
            "Close; keep one header row (a row of numbers needs its date)"
        )
    level = kinds[0]
    found = {normal(column.names[level]): column.names[level] for column in columns}
    by_name = [Column((name,), ()) for name in found.values()]
    chosen = _field(by_name, notes, options).names[0]
    notes.guessed.append(f"of the fields {some(found.values(), 8)}, {chosen!r} is read (--field)")
    if levels and normal(chosen) in CLOSE:
        notes.cautions.append(
            f"{chosen!r} holds dividends only if the download adjusted it (yfinance does so by "
            "default)"
        )
    kept = [column for column in columns if column.names[level] == chosen]
    return [replace(column, label=column.names[1 - level]) for column in kept]


def _single_asset(columns: Sequence[Column]) -> bool:
    """Whether the columns are fields of one asset, not assets of such names (LOW, OPEN)."""
    names = {normal(column.names[-1]) for column in columns}
    has_close = bool(names & (CLOSE | ADJUSTED))
    if has_close and names >= RANGE:
        return True
    return bool(names & ({"close"} | ADJUSTED)) and names <= FIELDS


def _field(columns: Sequence[Column], notes: Notes, options: FieldOptions) -> Column:
    """The column of the price: the option's, the adjusted close, or the close."""
    names = [column.names[-1] for column in columns]
    if options.field is not None:
        found = [c for c in columns if str(c.names[-1]) == options.field]
        found = found or [c for c in columns if normal(c.names[-1]) == normal(options.field)]
        if len(found) != 1:
            raise notes.error(
                f"field={options.field!r} (--field): {'no' if not found else 'more than one'} "
                f"column of this name; there are {some(map(str, names), 8)}"
            )
        return found[0]
    for kind in (ADJUSTED, CLOSE):
        found = [column for column in columns if normal(column.names[-1]) in kind]
        if len(found) == 1:
            return found[0]
        if found:
            several = some([column.names[-1] for column in found])
            raise notes.error(
                f"several columns may hold the price: {several}; choose by field (--field)"
            )
    raise notes.error(
        f"no column is a close ({some(map(str, names), 8)}); choose by field (--field)"
    )


def _label_column(columns: Sequence[Column], repeated: bool) -> int | None:
    """Position of the column that names the asset of each row; None in a wide table."""
    texts = [j for j, column in enumerate(columns) if not _numeric(column.cells)]
    order = {word: i for i, word in enumerate(LABEL_WORDS)}
    named = [j for j, column in enumerate(columns) if normal(column.names[-1]) in order]
    named.sort(key=lambda j: order[normal(columns[j].names[-1])])
    for j in named:
        if j in texts or (repeated and len(columns) > 1 and _whole(columns[j].cells)):
            return j
    return texts[0] if repeated and len(texts) == 1 and len(columns) > 1 else None


def _numeric(cells: Sequence[Any]) -> bool:
    """Whether most cells begin like numbers, or the column is one of numbers."""
    array = np.asarray(cells)
    if array.dtype.kind in "iuf":
        return True
    some_cells = list(cells)[:: max(1, len(cells) // SAMPLE)]
    texts = [str(cell) for cell in pd.unique(pd.Series(some_cells, dtype=object))]
    filled = [text for text in texts if text.strip()]
    digits = [text for text in filled if re.match(r"[-+($€£¥]*\s*[\d.,]", text)]
    return 2 * len(digits) > len(filled)


def _whole(cells: Sequence[Any]) -> bool:
    return all(re.fullmatch(r"\d+(\.0)?", str(cell)) for cell in cells)


def _value_column(columns: list[Column], notes: Notes, options: FieldOptions) -> Column:
    """Column of numbers of a long table."""
    numeric = [column for column in columns if _numeric(column.cells)]
    if options.field is None and len(numeric) == 1:
        return numeric[0]
    if not numeric:
        raise notes.error("the long table has no column of numbers; give one")
    return _field(columns if options.field is not None else numeric, notes, options)
