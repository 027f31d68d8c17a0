"""The data report: what a table holds, what is odd about it, what the reader decided and did."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.data.notes import Notes, count
from sddp.data.units import Kind
from sddp.dates import days_between, frequency, periods_per_year

# Equal prices in a row that are worth a look, by frequency (daily stocks rarely have three).
LONGEST_STALE = {"intraday": 20, "daily": 5, "weekly": 4, "monthly": 3}
# A price that is multiplied or divided by this from one row to the next; and by 100, a unit.
JUMP, HUNDRED = 4.0, (60.0, 160.0)
# A distance between rows of so many usual ones, and of at least so many days, is a gap.
GAP_RATIO, LEAST_GAP, LONG_WEEKEND = 2.5, 6.0, 4.5
SHOWN = 5
WIDTH = 88
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:50em;margin:0 auto;padding:1.5em 1em;color:#1a1a1a}"
    "h1{font-size:1.5em;overflow-wrap:anywhere}dt{font-weight:bold;margin-top:.8em}"
    "dd{margin:0 0 0 1em;overflow-wrap:anywhere}.scroll{overflow-x:auto}"
    "table{border-collapse:collapse;font-size:.9em;margin-top:1.5em}"
    "caption{text-align:left;font-weight:bold}"
    "th,td{padding:.2em .8em .2em 0;text-align:right;border-bottom:1px solid #ddd}"
    "th:first-child{text-align:left}td{white-space:nowrap}"
)


@dataclass(frozen=True)
class AssetReport:
    """One column.

    Attributes
    ----------
    name : str
        Text of its label.
    first, last : str or None
        Dates of its first and last number, ISO; None where there is none.
    n_numbers, n_missing : int
        Rows with a number, and rows without one between `first` and `last`.
    late, ended : bool
        Whether it begins after the first or ends before the last row of the table.
    lost : str or None
        Date of a price of 0 or a return of -1: all is lost.
    """

    name: str
    first: str | None
    last: str | None
    n_numbers: int
    n_missing: int
    late: bool
    ended: bool
    lost: str | None


@dataclass(frozen=True)
class DataReport:
    """What a table holds and how it was read; made by the readers of `sddp.data`.

    ``print(report)`` shows a page of text, a notebook shows HTML, `to_dict` is for ``run.json``.

    Attributes
    ----------
    kind : {"prices", "returns", "factors", "numbers"}
    source : dict
        ``name`` as messages call it; for files ``file``, ``format``, ``bytes``, ``sha256``.
    n_rows : int
    first, last : str
        ISO dates.
    frequency : str
        ``daily``, ``weekly``, ``monthly``, ... by the median distance between rows.
    periods_per_year : float
        Rows over calendar years.
    unit : str
    assets : tuple of AssetReport
    gaps : tuple of dict
        ``after``, ``before``, ``days``: stretches without a row, longest first.
    stale : tuple of dict
        ``asset``, ``from``, ``to``, ``rows``: equal prices (zero returns) in a row, longest first.
    jumps : tuple of dict
        ``asset``, ``date``, ``factor``: prices multiplied by 4 or more, or by 1/4 or less.
    guessed, done, cautions : tuple of str
        What was decided from the data (and the option that decides otherwise), what was changed,
        what to know.
    """

    kind: Kind
    source: dict[str, Any]
    n_rows: int
    first: str
    last: str
    frequency: str
    periods_per_year: float
    unit: str
    assets: tuple[AssetReport, ...]
    gaps: tuple[dict[str, Any], ...]
    stale: tuple[dict[str, Any], ...]
    jumps: tuple[dict[str, Any], ...]
    guessed: tuple[str, ...]
    done: tuple[str, ...]
    cautions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types of JSON."""
        told: dict[str, Any] = _listed(asdict(self))
        return told

    def __str__(self) -> str:
        blocks = []
        for title, lines in self._sections():
            body = [
                textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
                for line in lines
            ]
            head = textwrap.fill(title, WIDTH, subsequent_indent="  ")
            blocks.append("\n".join([head, *body]))
        return "\n".join(blocks)

    def to_html(self) -> str:
        """A page of HTML."""
        title = escape(f"Data report: {self.source.get('file') or self.source['name']}")
        return (
            f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>{STYLE}</style>\n<h1>{title}</h1>\n{self._repr_html_()}\n"
            f"{self._asset_table()}\n</html>\n"
        )

    def _asset_table(self) -> str:
        head = ("column", "first number", "last number", "numbers", "missing between")
        rows = [
            f"<tr><th>{escape(a.name)}</th>"
            + "".join(
                f"<td>{escape(str(cell))}</td>"
                for cell in (a.first or "none", a.last or "none", a.n_numbers, a.n_missing)
            )
            + "</tr>"
            for a in self.assets
        ]
        titles = "".join(f"<th>{title}</th>" for title in head)
        return (
            f'<div class="scroll"><table><caption>Columns</caption><tr>{titles}</tr>\n'
            + "\n".join(rows)
            + "</table></div>"
        )

    def _repr_html_(self) -> str:
        parts = [
            f"<dt>{escape(title)}</dt><dd>{'<br>'.join(map(escape, lines))}</dd>"
            for title, lines in self._sections()
        ]
        return f'<dl class="sddp-data-report">{"".join(parts)}</dl>'

    def _sections(self) -> Iterator[tuple[str, list[str]]]:
        """Titles with their lines."""
        yield f"{self.kind.capitalize()}: {self.source['name']}", self._summary()
        odd = list(self._odd_assets())
        if odd:
            yield "Late, ended or with missing cells", odd
        lists = (
            ("Stretches without rows", self.gaps, "{days:.0f} days, {after} to {before}"),
            ("Equal numbers in a row", self.stale, "{asset}: {rows} rows, {from} to {to}"),
            ("Jumps", self.jumps, "{asset}: times {factor:.4g} on {date}{hint}"),
        )
        for title, found, words in lists:
            if found:
                yield title, [words.format_map(item) for item in found[:SHOWN]] + _rest(found)
        for title, texts in (
            ("Decided from the data", self.guessed),
            ("Done", self.done),
            ("Note", self.cautions),
        ):
            if texts:
                yield title, list(texts)

    def _summary(self) -> list[str]:
        lines = []
        if self.source.get("format"):
            lines.append(f"source: {self.source['format']}")
        missing = sum(asset.n_missing for asset in self.assets)
        names = [asset.name for asset in self.assets]
        lines += [
            f"rows: {self.n_rows}, {self.first} to {self.last}",
            f"frequency: {self.frequency}, {self.periods_per_year:.1f} rows a year",
            f"columns: {len(names)} ({_shortened(names)})",
            f"unit: {self.unit}",
            f"missing cells: {missing}" if missing else "missing cells: none",
        ]
        return lines

    def _odd_assets(self) -> Iterator[str]:
        odd = [a for a in self.assets if a.late or a.ended or a.n_missing or a.lost or not a.first]
        for asset in odd[: 2 * SHOWN]:
            if asset.first is None:
                yield f"{asset.name}: no number at all"
                continue
            parts = []
            if asset.late:
                parts.append(f"begins {asset.first}")
            if asset.ended:
                parts.append(f"ends {asset.last}")
            if asset.n_missing:
                parts.append(f"{count(asset.n_missing, 'cell')} missing between")
            if asset.lost:
                parts.append(f"all lost on {asset.lost}")
            yield f"{asset.name}: {', '.join(parts)}"
        yield from _rest(odd, 2 * SHOWN)


def examine(
    table: pd.DataFrame, kind: Kind, unit: str, facts: dict[str, Any], notes: Notes
) -> DataReport:
    """Report of a table that was read.

    Parameters
    ----------
    table : DataFrame
        Levels or decimal returns by date; NaN where missing.
    kind : {"prices", "returns", "factors", "numbers"}
    unit : str
    facts : dict
        About the source.
    notes : Notes
    """
    dates = pd.DatetimeIndex(table.index)
    word = frequency(dates)
    jumps = _jumps(table, kind)
    stale = _stale(table, kind, LONGEST_STALE.get(word, 3))
    assets = tuple(_asset(table.iloc[:, j], kind) for j in range(table.shape[1]))
    _add_cautions(dates, word, notes)
    return DataReport(
        kind=kind,
        source={"name": notes.where, **facts},
        n_rows=len(table),
        first=_iso(dates[0]),
        last=_iso(dates[-1]),
        frequency=word,
        periods_per_year=periods_per_year(dates),
        unit=unit,
        assets=assets,
        gaps=_gaps(dates),
        stale=stale,
        jumps=jumps,
        guessed=tuple(notes.guessed),
        done=tuple(notes.done),
        cautions=tuple(notes.cautions),
    )


def _asset(column: pd.Series[float], kind: Kind) -> AssetReport:
    values = column.to_numpy()
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return AssetReport(str(column.name), None, None, 0, 0, True, True, None)
    first, last = int(known[0]), int(known[-1])
    nothing = {"prices": 0.0, "returns": -1.0}.get(kind, -np.inf)
    lost = np.flatnonzero(values == nothing)
    return AssetReport(
        name=str(column.name),
        first=_iso(column.index[first]),
        last=_iso(column.index[last]),
        n_numbers=len(known),
        n_missing=last - first + 1 - len(known),
        late=first > 0,
        ended=last < len(values) - 1,
        lost=_iso(column.index[lost[0]]) if lost.size else None,
    )


def _gaps(dates: pd.DatetimeIndex) -> tuple[dict[str, Any], ...]:
    days = days_between(dates)
    long = np.flatnonzero(days > max(GAP_RATIO * float(np.median(days)), LEAST_GAP))
    longest = long[np.argsort(-days[long], kind="stable")]
    return tuple(
        {"after": _iso(dates[i]), "before": _iso(dates[i + 1]), "days": float(days[i])}
        for i in longest
    )


def _stale(table: pd.DataFrame, kind: Kind, least: int) -> tuple[dict[str, Any], ...]:
    """Runs of equal prices, or of zero returns, of at least `least` rows."""
    if kind == "numbers":
        return ()
    found = []
    for j, label in enumerate(table.columns):
        known = table.iloc[:, j].dropna()
        values: Floats = known.to_numpy()
        if kind == "prices":
            same = np.concatenate([[False], (values[1:] == values[:-1]) & (values[1:] != 0.0)])
        else:
            same = values == 0.0
        for start, stop in _runs(same):
            begin = start - 1 if kind == "prices" else start
            if stop - begin >= least:
                found.append(
                    {
                        "asset": str(label),
                        "from": _iso(known.index[begin]),
                        "to": _iso(known.index[stop - 1]),
                        "rows": stop - begin,
                    }
                )
    return tuple(sorted(found, key=lambda item: -item["rows"]))


def _runs(mask: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), int(stop)


def _jumps(table: pd.DataFrame, kind: Kind) -> tuple[dict[str, Any], ...]:
    if kind not in ("prices", "returns"):
        return ()
    found = []
    for j, label in enumerate(table.columns):
        known = table.iloc[:, j].dropna()
        known = known[known > 0.0] if kind == "prices" else known
        values: Floats = known.to_numpy()
        factors = values[1:] / values[:-1] if kind == "prices" else 1.0 + values
        dates = known.index[1:] if kind == "prices" else known.index
        size = np.maximum(factors, 1.0 / np.maximum(factors, 1e-300))
        for i in np.flatnonzero((size >= JUMP) & (factors > 0.0)):
            hundred = HUNDRED[0] <= size[i] <= HUNDRED[1]
            found.append(
                {
                    "asset": str(label),
                    "date": _iso(dates[int(i)]),
                    "factor": float(factors[i]),
                    "hint": " (near 100: another unit, such as pence for pounds?)"
                    if hundred
                    else "",
                }
            )
    return tuple(sorted(found, key=lambda item: -abs(np.log(item["factor"]))))


def _add_cautions(dates: pd.DatetimeIndex, word: str, notes: Notes) -> None:
    days = days_between(dates)
    usual = float(np.median(days))
    longest = max(GAP_RATIO * usual, LONG_WEEKEND)
    regular = float(np.mean((days <= longest) & (days >= usual / GAP_RATIO)))
    if regular < 0.9:
        notes.cautions.append(
            f"rows are unevenly spaced: {regular:.0%} of the distances are near {usual:.3g} days"
        )
    if word == "monthly" and (dates.day == 1).mean() > 0.9:
        notes.cautions.append(
            "monthly rows are dated at the first of the month; Yahoo's hold the price at its end, "
            "known a month after the date: join them with other tables accordingly"
        )
    if word == "weekly" and (dates.day_of_week == 0).mean() > 0.9:
        notes.cautions.append(
            "weekly rows are dated on Mondays; Yahoo's hold the price at the week's end, known "
            "days after the date: join them with other tables accordingly"
        )


def _rest(found: Sequence[Any], shown: int = SHOWN) -> list[str]:
    return [f"and {len(found) - shown} more"] if len(found) > shown else []


def _shortened(names: Sequence[str], shown: int = 8) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def _listed(thing: Any) -> Any:
    """Lists for tuples, as JSON has them."""
    if isinstance(thing, dict):
        return {key: _listed(value) for key, value in thing.items()}
    return [_listed(item) for item in thing] if isinstance(thing, list | tuple) else thing


def _iso(date: Any) -> str:
    return str(date).removesuffix(" 00:00:00")
