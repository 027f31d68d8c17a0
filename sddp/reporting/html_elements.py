"""Elements of a page: sections, tables, pictures, facts, and the format of numbers."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from sddp.display.png import png
from sddp.tables import day

TEMPLATE = "report.html.j2"

NBSP, MINUS, ABSENT = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass(frozen=True)
class Picture:
    """A figure with its caption and its text alternative."""

    name: str
    figure: Figure
    caption: str
    alt: str

    def png(self) -> bytes:
        """The figure as PNG."""
        return png(self.figure)


@dataclass(frozen=True)
class Cell:
    """Text of a table cell with a detail in small print beneath."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    name: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Table:
    """A table of text; `header` names the column of the rows' names first."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Facts:
    """List of names and values under a heading."""

    heading: str
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A part of the page under one heading: pictures, then tables, then facts, then notes."""

    anchor: str
    heading: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[Facts] = ()
    notes: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables or self.facts)


def render(title: str, lead: str, caveats: Sequence[str], sections: Sequence[Section]) -> str:
    """Render a self-contained HTML page; all text is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sddp.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["image"] = _image
    return environment.get_template(TEMPLATE).render(
        title=title, lead=lead, caveats=caveats, sections=sections
    )


def _image(picture: Picture) -> dict[str, Any]:
    """Data URL and size in pixels of a picture."""
    drawn = picture.png()
    # matplotlib rounds a size that falls between two pixels by its version: ask the file.
    width, height = Image.open(io.BytesIO(drawn)).size
    source = "data:image/png;base64," + base64.b64encode(drawn).decode("ascii")
    return {"src": source, "width": width, "height": height}


def number(value: float, digits: int) -> str:
    """Decimal number with a true minus sign; a dash where there is none.

    >>> number(-0.0004, 2)
    '0.00'
    """
    if not math.isfinite(value):
        return ABSENT
    rounded = round(float(value), digits) + 0.0  # -0.0 + 0.0 is 0.0
    return f"{rounded:,.{digits}f}".replace("-", MINUS)


def percent(fraction: float, digits: int) -> str:
    """Fraction in percent, with its sign."""
    text = number(100.0 * fraction, digits)
    return text if text == ABSENT else f"{text}{NBSP}%"


def money(amount: float) -> str:
    """Money: three decimals near 1, none where there are many."""
    return number(amount, 3 if abs(amount) < 100.0 else 0)


def interval(ends: tuple[float, float], text: Callable[[float], str]) -> str:
    """An interval in words: ``0.12 to 0.94``."""
    low, high = (text(end) for end in ends)
    return "" if ABSENT in (low, high) else f"{low} to {high}"


def p_value(probability: float) -> str:
    """Probability of a test, to three decimals."""
    return "< 0.001" if probability < 0.0005 else number(probability, 3)


def facts(heading: str, content: Mapping[str, Any]) -> list[Facts]:
    """A mapping as lists of facts: the plain values first, then each inner mapping by its name.

    Parameters
    ----------
    heading : str
        Of the plain values.
    content : mapping
        Of values, sequences and mappings, as they come out of JSON.
    """
    inner = {name: value for name, value in content.items() if isinstance(value, Mapping)}
    pairs = [(str(name), plain(value)) for name, value in content.items() if name not in inner]
    lists = [Facts(heading, pairs)] if pairs else []
    for name, value in inner.items():
        lists += [
            Facts(f"{name}: {part.heading}" if part.heading else str(name), part.pairs)
            for part in facts("", value)
        ]
    return lists


def plain(value: Any) -> str:
    """A value in words, a line for each item of a sequence."""
    if value is None or value is pd.NaT:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return f"{value:.10g}"
    if isinstance(value, pd.Timestamp):
        return day(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        return "\n".join(plain(item) for item in value) or "none"
    return str(value)
