"""Current holdings from a file: CSV or JSON, in money or in shares."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sddp.errors import DataError

Unit = Literal["money", "shares"]
CASH: Final = "cash"

# What a second column may be called in a file, by the unit that it says.
UNIT_OF: Final[Mapping[str, Unit]] = {
    **dict.fromkeys(("money", "value", "amount", "market value"), "money"),
    **dict.fromkeys(("shares", "quantity", "units", "qty"), "shares"),
}


@dataclass(frozen=True)
class Holdings:
    """What is held.

    Attributes
    ----------
    cash : float
        Money.
    amounts : mapping of str to float
        By asset, in `unit`.
    unit : {"money", "shares"}
    source : str
        For messages.
    """

    cash: float
    amounts: Mapping[str, float]
    unit: Unit
    source: str

    def in_money(self, prices: Mapping[str, float], date: str) -> dict[str, float]:
        """Money by position at given prices, cash first.

        Raises
        ------
        DataError
            An asset has no column of prices, or no price.
        """
        unknown = [name for name in self.amounts if name not in prices]
        if unknown:
            known = ", ".join(list(prices)[:20])
            raise DataError(
                f"{self.source}: asset {unknown[0]!r} has no column of prices; known are {known}"
            )
        held = {CASH: self.cash}
        for name, amount in self.amounts.items():
            if amount > 0.0 and not prices[name] > 0.0:
                raise DataError(f"{self.source}: {name!r} has no price on {date}; sell it first")
            held[name] = amount * (prices[name] if self.unit == "shares" else 1.0)
        if not sum(held.values()) > 0.0:
            raise DataError(f"{self.source}: nothing is held; give some cash or assets")
        return held


def read_holdings(path: str, unit: Unit | None, assets: Container[str] = ()) -> Holdings:
    """Holdings from a file.

    CSV: a header, then one line per position; the first column is the asset (``cash`` is money),
    the second one its amount, in the unit that its header says: ``money`` or ``shares``. JSON: an
    object of amounts by asset, or ``{"unit": "shares", "holdings": {...}}``.

    Parameters
    ----------
    path : str
    unit : {"money", "shares"}, optional
        Where the file does not say it.
    assets : container of str
        Names of the assets: ``CASH`` is money too unless an asset is called so.

    Raises
    ------
    DataError
        Names the file, the place and what to write there.
    """
    source = f"--holdings {path}"
    text = _decoded(path, source)
    if text.lstrip().startswith(("{", "[")):
        said, pairs = _from_json(text, source)
    else:
        said, pairs = _from_csv(text, source)
    if unit is not None and said is not None and said != unit:
        raise DataError(f"{source}: is in {said}, and --unit says {unit}; leave one of them out")
    amounts: dict[str, float] = {}
    for written, value in pairs:
        name = CASH if written.lower() == CASH and written not in assets else written
        if name in amounts:
            raise DataError(f"{source}: {name!r} stands there twice; give each position once")
        amounts[name] = _amount(value, f"{source}: the amount of {name!r}")
    cash = amounts.pop(CASH, 0.0)
    final = said or unit
    if final is None:
        if amounts:
            raise DataError(
                f"{source}: does not say whether amounts are money or shares; name the column so, "
                "or give --unit"
            )
        final = "money"
    return Holdings(cash, amounts, final, source)


def _decoded(path: str, source: str) -> str:
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{source}: cannot be read ({reason}); name a CSV or JSON file") from error
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: is not text in UTF-8 ({error}); save it as UTF-8") from error
    if not text.strip():
        raise DataError(f"{source}: is empty; write a header and one line per position")
    return text


def _from_json(text: str, source: str) -> tuple[Unit | None, list[tuple[str, Any]]]:
    try:
        # A key that stands twice would be lost in silence.
        content = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: is no JSON ({error}); write amounts by asset") from error
    if not _is_object(content):
        raise DataError(f"{source}: must be a JSON object of amounts by asset")
    keys = [key for key, _ in content]
    if "holdings" not in keys:
        return None, content
    told = dict(content)
    unit = told.get("unit")
    if unit is not None and unit not in get_args(Unit):
        raise DataError(f"{source}: unit {unit!r} is unknown; write money or shares")
    if not _is_object(told["holdings"]):
        raise DataError(f"{source}: holdings must be an object of amounts by asset")
    return unit, told["holdings"]


def _is_object(content: Any) -> bool:
    """Whether JSON held an object: a list of pairs, as it is read here."""
    return isinstance(content, list) and all(isinstance(item, tuple) for item in content)


def _from_csv(text: str, source: str) -> tuple[Unit | None, list[tuple[str, Any]]]:
    first = text.lstrip().splitlines()[0]
    delimiter = max(";\t,", key=first.count)
    rows = [
        [cell.strip() for cell in row]
        for row in csv.reader(io.StringIO(text.strip()), delimiter=delimiter)
        if any(cell.strip() for cell in row)
    ]
    if any(len(row) < 2 for row in rows):
        short = next(row for row in rows if len(row) < 2)
        raise DataError(f"{source}: the line {short[0]!r} has one cell; write asset and amount")
    header, *body = rows
    unit = UNIT_OF.get(header[1].lower())
    if unit is None and _is_number(header[1]):
        body = rows  # no header
    if not body:
        raise DataError(f"{source}: holds a header alone; write one line per position")
    return unit, [(row[0], row[1]) for row in body]


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", ""))
    except ValueError:
        return False
    return True


def _amount(value: Any, what: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        amount = float(value)
    except (TypeError, ValueError, OverflowError):
        amount = math.nan
    if not (math.isfinite(amount) and amount >= 0.0):
        raise DataError(f"{what} is {value!r}: must be a number >= 0, such as 1250.5")
    return amount
