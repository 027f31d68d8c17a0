"""Labels of assets and other columns: any hashable value that equals itself.

Inside the package a label is a position: arrays hold the numbers, and the labels come back where
results leave. A label is never parsed out of a string. In files it is its text, ``str(label)``,
so two labels of one table may neither be equal nor have the same text.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError, SddpError

# The riskless position. No asset may have this text as its label.
CASH = "cash"

Labels: TypeAlias = tuple[Hashable, ...]

# Numbers by label: a mapping, or a Series (whose index holds the labels).
ByLabel: TypeAlias = "Mapping[Any, float] | pd.Series[float]"

# Metadata of a dataclass field that holds labels: what is said of them is their type and text.
HOLDS_LABELS: Final = {"labels": True}

# A message that lists a thousand labels is not read.
SHOWN = 5


def checked_labels(labels: Iterable[Any], what: str, *, reserved: str | None = None) -> Labels:
    """Labels as they are given, once they can be told apart in Python and in files.

    Parameters
    ----------
    labels : iterable
        Such as the columns of a DataFrame; a MultiIndex gives its tuples.
    what : str
        What messages call them.
    reserved : str, optional
        A text that no label may have.

    Raises
    ------
    DataError
        A label is not hashable or does not equal itself (NaN, NaT), two labels are equal
        (``1``, ``1.0`` and ``True`` are) or have the same text (``7203`` and ``"7203"``), or one
        has the reserved text.
    """
    given = tuple(labels)
    distinct = set(given) if all(type(label) is str for label in given) else set()
    if distinct and len(distinct) == len(given) and reserved not in distinct:
        # What nearly all tables have passes the checks of all kinds.
        return given
    given = tuple(_plain(label) for label in given)
    positions: dict[Hashable, int] = {}
    texts: dict[str, int] = {}
    for i, label in enumerate(given):
        _check_one(label, i, what)
        for known, key, same in (
            (positions, label, "are equal"),
            (texts, str(label), f"have the same text {str(label)!r}"),
        ):
            j = known.setdefault(key, i)
            if j != i:
                raise DataError(
                    f"{what}: label {given[j]!r} at position {j} and label {label!r} at position "
                    f"{i} {same}; tables and files cannot tell them apart, rename one"
                )
    if reserved is not None and reserved in texts:
        raise DataError(
            f"{what}: label {given[texts[reserved]]!r} at position {texts[reserved]} names the "
            "riskless position; rename the asset, or give the return of cash apart"
        )
    return given


def label_index(labels: Iterable[Hashable], name: Hashable = None) -> pd.Index[Any]:
    """Index that holds labels as they are: no tuple is split, no None becomes NaN.

    Labels that are all text get the index that pandas gives to text.
    """
    given = tuple(labels)
    if all(isinstance(label, str) for label in given):
        return _text_index(given) if name is None else pd.Index(list(given), name=name)
    # Filled one by one: numpy would make a table of tuples of one length.
    values = np.empty(len(given), dtype=object)
    for i, label in enumerate(given):
        values[i] = label
    return pd.Index(values, dtype=object, name=name, tupleize_cols=False)


@lru_cache(maxsize=256)
def _text_index(labels: tuple[Hashable, ...]) -> pd.Index[Any]:
    """Index of texts: an index never changes, and loops ask for the same one again and again."""
    return pd.Index(list(labels))


def same_labels(left: Sequence[Hashable], right: Sequence[Hashable]) -> bool:
    """Whether labels agree in order by their texts: those that come out of a file are text."""
    return [str(label) for label in left] == [str(label) for label in right]


def with_text_labels(table: pd.DataFrame) -> pd.DataFrame:
    """The table as a file shows it: every label of a column as its text.

    The levels of a MultiIndex stay: a file has a row for each.

    Raises
    ------
    DataError
        Two labels have the same text.
    """
    if isinstance(table.columns, pd.MultiIndex):
        return table
    texts = [str(label) for label in checked_labels(table.columns, "columns")]
    return table.set_axis(texts, axis="columns")


def places_of(wanted: Iterable[Any], labels: Sequence[Hashable]) -> list[int]:
    """Positions of some labels among others.

    Raises
    ------
    KeyError
        With the first label that is unknown.
    """
    positions = {label: i for i, label in enumerate(labels)}
    return [positions[label] for label in wanted]


def numbers_by_label(
    values: ByLabel,
    labels: Sequence[Hashable],
    what: str,
    *,
    default: float | None = None,
    error: type[SddpError] = ModelError,
) -> Floats:
    """Numbers in the order of `labels`, from a mapping or Series by label.

    Parameters
    ----------
    values : mapping or Series
    labels : sequence
    what : str
        What messages call `values`.
    default : float, optional
        For labels that are left out; without it none may be.
    error : type of exception
        Of what is raised.

    Raises
    ------
    SddpError
        A label is unknown, repeated or left out, or a value is not a number.
    """
    given = list(values.items())
    positions = {label: i for i, label in enumerate(labels)}
    found = np.full(len(labels), np.nan if default is None else default)
    seen: set[Hashable] = set()
    unknown = [label for label, _ in given if label not in positions]
    left_out = set(positions).difference(label for label, _ in given if label in positions)
    missing = [label for label in labels if label in left_out] if default is None else []
    if unknown or missing:
        raise error(
            f"{what}: unknown assets {_listed(unknown)}, missing assets {_listed(missing)}; "
            f"known are {_listed(labels)}"
        )
    for label, value in given:
        if label in seen:
            raise error(f"{what}: label {label!r} appears twice; give one number for each")
        seen.add(label)
        try:
            found[positions[label]] = float(value)
        except (TypeError, ValueError) as reason:
            raise error(f"{what} of {label!r} = {value!r}: must be a number") from reason
    return found


def _plain(label: Any) -> Any:
    """Numbers and texts of numpy as those of Python, which they equal."""
    return label.item() if isinstance(label, (np.number, np.bool_, np.str_)) else label


def _check_one(label: Any, position: int, what: str) -> None:
    try:
        hash(label)
    except TypeError as error:
        raise DataError(
            f"{what}: label {label!r} at position {position} is not hashable; use text, a number, "
            "a date or a tuple of these"
        ) from error
    if not _equals_itself(label):
        raise DataError(
            f"{what}: label {label!r} at position {position} does not equal itself (a missing "
            "value is not a label; pandas turns None among texts into NaN); rename the column"
        )


def _equals_itself(label: Any) -> bool:
    if isinstance(label, tuple):
        return all(_equals_itself(part) for part in label)  # Python compares parts by identity
    try:
        return bool(label == label)
    except (TypeError, ValueError):  # pandas.NA
        return False


def _listed(labels: Sequence[Hashable]) -> str:
    shown = ", ".join(repr(label) for label in labels[:SHOWN])
    rest = len(labels) - SHOWN
    return f"[{shown}{f', ... and {rest} more' if rest > 0 else ''}]"
