"""Representations of objects: one line as text, a table of facts in notebooks."""

from __future__ import annotations

import html
from collections.abc import Hashable, Mapping, Sequence

import pandas as pd

# Rows and labels beyond these are counted, not shown.
ROWS = 20
LABELS = 4


class Shown:
    """Base class with a one-line `repr` and notebook tables."""

    def _facts(self) -> dict[str, str]:
        raise NotImplementedError

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {}

    def __repr__(self) -> str:
        facts = ", ".join(f"{name}: {text}" for name, text in self._facts().items())
        return f"{type(self).__name__}({facts})"

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self._facts(), self._tables())


def listed(labels: Sequence[Hashable], shown: int = LABELS) -> str:
    """First labels of a list, and their number.

    >>> listed(["a", "b"]), listed(range(9))
    ('a, b', '0, 1, 2, 3, ... (9)')
    """
    texts = ", ".join(str(label) for label in labels[:shown])
    return texts if len(labels) <= shown else f"{texts}, ... ({len(labels)})"


def number(value: float | None) -> str:
    """Number with six digits; a dash for None or NaN.

    >>> number(1.0 / 3.0), number(None)
    ('0.333333', '-')
    """
    return "-" if value is None else f"{value:.6g}"


def as_html(
    heading: str, facts: Mapping[str, str], tables: Mapping[str, pd.DataFrame] | None = None
) -> str:
    """Heading, facts and tables as HTML; all text is escaped, and no label read as a formula.

    Parameters
    ----------
    heading : str
        What the object is.
    facts : mapping of str to str
    tables : mapping of caption to DataFrame, optional
        Their first rows are shown.
    """
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in facts.items()
    )
    parts = [f"<p><b>{html.escape(heading)}</b></p>", f"<table>{rows}</table>" if rows else ""]
    for caption, table in (tables or {}).items():
        more = f", the first {ROWS} of {len(table)} rows" if len(table) > ROWS else ""
        parts.append(f"<p>{html.escape(caption)}{more}</p>")
        parts.append(_table(table.iloc[:ROWS]))
    # What a notebook would take for a formula between dollar signs stays text in these classes.
    return f"<div class='tex2jax_ignore mathjax_ignore'>{''.join(parts)}</div>"


def _table(table: pd.DataFrame) -> str:
    """HTML table with full labels, which pandas would shorten."""
    head = "".join(f"<th>{html.escape(str(label))}</th>" for label in table.columns)
    body = "".join(
        f"<tr><th style='text-align:left'>{html.escape(str(label))}</th>"
        + "".join(f"<td>{html.escape(_cell(value))}</td>" for value in row)
        + "</tr>"
        for label, row in zip(table.index, table.itertuples(index=False, name=None), strict=True)
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)
