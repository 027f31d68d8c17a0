"""Elements of a page: sections, tables, pictures, facts, and the format of numbers."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sddp.display.png import png
from sddp.display.vector import narrowed, svg
from sddp.evaluation.reports.findings import KeyFigure
from sddp.tables import day

TEMPLATE = "report.html.j2"

# Bytes: areas of thousands of days are heavier as vectors than as pixels.
HEAVIEST_VECTOR = 400_000
PIXELS = 96  # of CSS, an inch

NBSP, MINUS, ABSENT = "\N{NO-BREAK SPACE}", "\N{MINUS SIGN}", "\N{EN DASH}"


@dataclass
class Picture:
    """A figure with its caption and its text alternative."""

    name: str
    figure: Figure
    caption: str
    alt: str

    def png(self) -> bytes:
        """The figure as PNG."""
        return png(self.figure)

    def sources(self) -> tuple[str, str]:
        """Data URLs of the figure, for wide and for narrow screens; the figure ends as narrow.

        Vectors, but pixels where a figure has so many points that these are lighter.
        """
        wide = self._source()
        self.figure = narrowed(self.figure)
        return wide, self._source()

    def _source(self) -> str:
        drawn = svg(self.figure).encode()
        if len(drawn) <= HEAVIEST_VECTOR:
            return "data:image/svg+xml;base64," + base64.b64encode(drawn).decode("ascii")
        return "data:image/png;base64," + base64.b64encode(self.png()).decode("ascii")


@dataclass(frozen=True)
class Opening:
    """First screen of a page about a backtest, between its finding and its caveats."""

    key_figures: Sequence[KeyFigure]
    sentences: Sequence[str]
    checks: Table | None
    picture: Picture


@dataclass(frozen=True)
class Cell:
    """Text of a table cell with a detail in small print beneath; words are set to the left."""

    text: str
    detail: str = ""
    words: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table; the color of its name in figures, where it has one."""

    name: str
    cells: Sequence[Cell]
    color: str = ""


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
    """A part of the page under one heading: sentences, pictures, tables, facts, then notes."""

    anchor: str
    heading: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()
    facts: Sequence[Facts] = ()
    notes: Sequence[str] = ()
    sentences: Sequence[str] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pictures or self.tables or self.facts)


def render(
    title: str,
    lead: str,
    caveats: Sequence[str],
    sections: Sequence[Section],
    *,
    finding: str = "",
    opening: Opening | None = None,
) -> str:
    """Render a self-contained HTML page; all text is escaped.

    Parameters
    ----------
    title, lead : str
        Heading, and what the page is about.
    caveats : sequence of str
        After the opening.
    sections : sequence of Section
    finding : str
        The most important sentence, above `lead`.
    opening : Opening, optional
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sddp.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["image"] = _image
    environment.filters["typeset"] = typeset
    return environment.get_template(TEMPLATE).render(
        title=title,
        lead=lead,
        caveats=caveats,
        sections=sections,
        finding=finding,
        opening=opening,
    )


def _image(picture: Picture) -> dict[str, Any]:
    """Data URLs of a picture and its size in pixels of CSS."""
    width, height = (round(PIXELS * float(inches)) for inches in picture.figure.get_size_inches())
    wide, narrow = picture.sources()
    return {"src": wide, "narrow": narrow, "width": width, "height": height}


def typeset(text: str) -> str:
    """Text with true minus signs and percent signs that stay with their numbers.

    >>> typeset("from -0.5 % to +1") == f"from {MINUS}0.5{NBSP}% to +1"
    True
    """
    minus = re.sub(r"(?<![\w-])-(?=\d)", MINUS, text)
    return re.sub(r"(?<=\d) %", f"{NBSP}%", minus)


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
