"""Numbers of a table from text: one decimal mark for all cells, decided from all of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.data.notes import Notes, count

# Cells that say that there is no number. They are names where a name is due.
MISSING = frozenset(
    [
        "",
        "na",
        "n/a",
        "n.a.",
        "nan",
        "null",
        "none",
        "nil",
        "-",
        "--",
        "---",
        ".",
        "..",
        "...",
        "#n/a",
        "#na",
        "#n/a n/a",
        "#null!",
        "#div/0!",
        "#value!",
        "#ref!",
        "<na>",
        "nat",
        "missing",
    ]
)

# Blanks, apostrophes and underscores between groups of three digits are no decimal mark anywhere.
GROUPS = "  \u00a0\u2009\u202f'\u2019_"
CURRENCY = re.compile(r"^([+-]?)\s*(?:[$€£¥₹]|R\$|US\$|CHF|EUR|USD|GBP)\s*|\s*[$€£¥₹]$")
EXPONENT = r"(?:[eE][+-]?\d+)?"


def _pattern(mark: str, group: str) -> re.Pattern[str]:
    groups = rf"[{re.escape(group)}{GROUPS}]"
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{groups}\d{{3}})+)"
    return re.compile(rf"[+-]?(?:{whole}(?:[{mark}]\d*)?|[{mark}]\d+){EXPONENT}")


PATTERNS = {".": _pattern(".", ","), ",": _pattern(",", ".")}
# Columns of digits with at most one point, one cell a line; and a cell whose point is no mark of
# thousands.
PLAIN = re.compile(rf"(?:[+-]?\d+(?:\.\d*)?{EXPONENT})?(?:\n(?:[+-]?\d+(?:\.\d*)?{EXPONENT})?)*")
NO_THOUSANDS = re.compile(r"^(?![+-]?[1-9]\d{0,2}\.\d{3}$)[^\n]*\.", re.MULTILINE)
LOOKS_LIKE_THOUSANDS = re.compile(r"^[+-]?[1-9]\d{0,2}\.\d{3}$", re.MULTILINE)
MARKS = {".": "point", ",": "comma"}


@dataclass(frozen=True)
class NumberOptions:
    """How numbers are to be read; see `sddp.data.ReadOptions`."""

    decimal: str | None = None
    missing_values: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """Columns as numbers (NaN where missing), and whether the cells themselves were in percent."""

    columns: list[Floats]
    percent_signs: bool


def parse_numbers(
    columns: Sequence[tuple[str, Sequence[Any]]],
    notes: Notes,
    options: NumberOptions,
    *,
    point_is_decimal: bool,
) -> Numbers:
    """Numbers of the columns of a table.

    Parameters
    ----------
    columns : sequence of pairs
        Words for the column in messages, and its cells: texts, or numbers as they are.
    notes : Notes
    options : NumberOptions
    point_is_decimal : bool
        Whether a single point is the decimal mark even before exactly three digits: in files that
        are separated by commas, and in tables that never were text.

    Raises
    ------
    DataError
        A cell is no number, or the decimal mark is not certain; both readings are shown.
    """
    if options.decimal not in (None, *MARKS):
        raise notes.error(f"decimal={options.decimal!r} (--decimal): must be '.' or ','")
    plain = _plain([cells for _, cells in columns], options, point_is_decimal)
    if plain is not None:
        if point_is_decimal and options.decimal is None:
            _say_points(columns, notes)
        return Numbers(plain, False)
    parts = [_Cells.of(cells, options) for _, cells in columns]
    written = [cells.texts for cells in parts if cells.is_text]
    texts = [str(text) for text in pd.unique(np.concatenate(written))] if written else []
    percent = _percent_signs(parts, notes)
    mark = _mark([text for text in texts if text], notes, options, point_is_decimal)
    values = {text: _number(text, mark) for text in texts}
    found = [
        cells.numbers(name, values, mark, notes)
        for (name, _), cells in zip(columns, parts, strict=True)
    ]
    _report(parts, texts, mark, percent, notes)
    return Numbers(found, percent)


def _plain(
    columns: Sequence[Sequence[Any]], options: NumberOptions, point_is_decimal: bool
) -> list[Floats] | None:
    """Numbers of text columns in which nothing has to be decided; None where something has."""
    if options.decimal == "," or options.missing_values:
        return None
    found, decided = [], point_is_decimal or options.decimal == "."
    points = False
    for cells in columns:
        if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
            return None
        text = "\n".join(cells)
        if not PLAIN.fullmatch(text):
            return None
        points = points or "." in text
        decided = decided or NO_THOUSANDS.search(text) is not None
        found.append(np.array([cell or "nan" for cell in cells], dtype=float))
    too_large = any(np.isinf(numbers).any() for numbers in found)
    return found if (decided or not points) and not too_large else None


def _say_points(columns: Sequence[tuple[str, Sequence[Any]]], notes: Notes) -> None:
    """Say so where points stand before exactly three digits in every cell that has one."""
    texts = ["\n".join(cells) for _, cells in columns]
    shown = next((found for found in map(LOOKS_LIKE_THOUSANDS.search, texts) if found), None)
    if shown is not None and not any(map(NO_THOUSANDS.search, texts)):
        value = float(shown[0])
        notes.guessed.append(f"points are decimal marks: {shown[0]!r} is {value:.15g} (--decimal)")


@dataclass(frozen=True)
class _Cells:
    """Cells of one column: numbers, or texts without currency and percent signs ('' = missing)."""

    raw: Sequence[Any]
    texts: np.ndarray[Any, Any]
    is_text: bool
    n_percent: int = 0
    n_currency: int = 0

    @classmethod
    def of(cls, cells: Sequence[Any], options: NumberOptions) -> _Cells:
        array = np.asarray(cells)
        if array.dtype.kind in "iuf":
            return cls(cells, array.astype(float), is_text=False)
        codes, unique = pd.factorize(pd.Series([_text(cell) for cell in cells], dtype=object))
        plain, percent, currency = [], [], []
        also = {text.strip().lower() for text in options.missing_values}
        for text in unique:
            lower = text.lower()
            bare = "" if lower in MISSING or lower in also else text
            percent.append(bare.endswith("%"))
            bare = bare.removesuffix("%").strip()
            without = CURRENCY.sub(r"\1", bare)
            currency.append(without != bare)
            if without.startswith("(") and without.endswith(")"):
                without = f"-{CURRENCY.sub('', without[1:-1])}"
            plain.append(without.replace("\u2212", "-"))
        signs = (int(np.array(kind, dtype=bool)[codes].sum()) for kind in (percent, currency))
        return cls(cells, np.array(plain, dtype=object)[codes], True, *signs)

    def numbers(
        self, name: str, values: Mapping[str, float | None], mark: str, notes: Notes
    ) -> Floats:
        """The column's numbers."""
        if not self.is_text:
            if np.isinf(self.texts).any():
                row = int(np.argmax(np.isinf(self.texts)))
                raise notes.error(
                    f"{name} is infinite at {notes.place(row)}; correct or empty the cell"
                )
            numbers: Floats = self.texts.astype(float)
            return numbers
        found = [values[text] for text in self.texts]
        if None in found:
            row = found.index(None)
            other = [m for m in MARKS if m != mark and _number(self.texts[row], m) is not None]
            why = f" with a decimal {MARKS[mark]}, which other cells have" if other else ""
            raise notes.error(
                f"{name} is {_text(self.raw[row])!r} at {notes.place(row)}, no number{why}; "
                "correct the cell, leave it empty where there is no value, or name the text by "
                "missing_values (--missing-value)"
            )
        return np.array(found, dtype=float)


def _text(cell: Any) -> str:
    if cell is None or cell is pd.NA or (isinstance(cell, float) and np.isnan(cell)):
        return ""
    return str(cell).strip().strip("\u00a0\u202f").strip()


def _number(text: str, mark: str) -> float | None:
    """Value of a text, NaN of an empty one, None if it is no number."""
    if not text:
        return np.nan
    if not PATTERNS[mark].fullmatch(text):
        return None
    group = "," if mark == "." else "."
    digits = text.translate({ord(c): None for c in (*GROUPS, group)})
    value = float(digits.replace(mark, "."))
    return value if np.isfinite(value) else None


def _mark(
    texts: Sequence[str], notes: Notes, options: NumberOptions, point_is_decimal: bool
) -> str:
    """Decimal mark: the one under which the texts are numbers."""
    if options.decimal is not None:
        return options.decimal
    fitting = {mark: sum(_number(t, mark) is not None for t in texts) for mark in MARKS}
    whole = len(texts)
    if fitting["."] == fitting[","] == whole:
        differing = [t for t in texts if _number(t, ".") != _number(t, ",")]
        points = all("," not in text for text in differing)
        if differing and not (point_is_decimal and points):
            text = differing[0]
            raise notes.error(
                f"the decimal mark is not certain: {text!r} is {_number(text, '.'):.15g} with a "
                f"decimal point and {_number(text, ','):.15g} with a decimal comma, and no cell "
                "decides; give decimal='.' or ',' (--decimal)"
            )
        return "."
    return max(MARKS, key=lambda mark: fitting[mark])


def _percent_signs(parts: Sequence[_Cells], notes: Notes) -> bool:
    signed = sum(cells.n_percent for cells in parts)
    filled = sum(int((cells.texts != "").sum()) for cells in parts if cells.is_text)
    if signed and signed != filled:
        raise notes.error(
            f"{count(signed, 'cell')} of {filled} have a percent sign; give all or none one"
        )
    return signed > 0


def _report(
    parts: Sequence[_Cells], texts: Sequence[str], mark: str, percent: bool, notes: Notes
) -> None:
    if mark == ",":
        notes.guessed.append("numbers have a decimal comma (--decimal)")
    group = "," if mark == "." else "."
    grouped = [t for t in texts if any(c in t for c in (group, *GROUPS))]
    if grouped:
        notes.guessed.append(
            f"thousands are set apart: {grouped[0]!r} is {_number(grouped[0], mark):.15g}"
        )
    signed = sum(cells.n_currency for cells in parts)
    if signed:
        notes.done.append(f"currency signs removed from {count(signed, 'cell')}")
    if percent:
        notes.guessed.append("cells have a percent sign: numbers are percent")
