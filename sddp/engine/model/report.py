"""What a problem consists of, before anything is solved: sizes, and how far its numbers reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats, Ints
from sddp.engine.model.graph import Graph, NodeName
from sddp.engine.stage.stage_data import StageData
from sddp.lp import Scaling

# The solver's tolerance is 1e-9, and it takes entries up to 1e-9 for rounding: where the numbers
# of one kind, in the best units, span more than this, the small ones are within a digit of it.
WIDEST_SPAN = 1e8

# Kinds of numbers, and the places of a stage in which they stand.
KINDS = {
    "matrix": ("matrix",),
    "objective": ("cost",),
    "bound": ("column_lower", "column_upper"),
    "right-hand side": ("row_lower", "row_upper"),
}

COLUMNS = ("total", "smallest", "smallest_at", "largest", "largest_at", "span", "scaled_span")


@dataclass(frozen=True)
class ReportRow:
    """One quantity of a report.

    Attributes
    ----------
    name : str
    total : float
        Over all nodes; for a kind of numbers, how many of them are neither 0 nor infinite (over
        nodes and realizations of the noise). ``inf`` where it has no end.
    smallest, largest : float
        Of one node; for a kind of numbers, of their absolute values. NaN where there is none.
    smallest_at, largest_at : str
        Where: node and, for a kind of numbers, row, column and noise.
    scaled_span : float
        Largest over smallest in the units in which the solver counts (NaN for sizes).
    """

    name: str
    total: float
    smallest: float = math.nan
    smallest_at: str = ""
    largest: float = math.nan
    largest_at: str = ""
    scaled_span: float = math.nan

    @property
    def span(self) -> float:
        """Largest over smallest, in the user's units; NaN for sizes."""
        return math.nan if math.isnan(self.scaled_span) else self.largest / self.smallest


@dataclass(frozen=True)
class ProblemReport:
    """Sizes of a problem and the reach of its numbers; made by `Problem.report`.

    Print it, show it in a notebook, or take `to_frame`.

    Attributes
    ----------
    rows : tuple of ReportRow
    warnings : tuple of str
        Kinds of numbers that span more than scaling can mend.
    """

    rows: tuple[ReportRow, ...]
    warnings: tuple[str, ...]

    def __getitem__(self, name: str) -> ReportRow:
        """The quantity of a name, such as ``"nodes"`` or ``"matrix"``."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r}: quantities are {[row.name for row in self.rows]}")

    def to_frame(self) -> pd.DataFrame:
        """A row for each quantity, indexed by its name; columns as in `ReportRow`."""
        table = {row.name: [getattr(row, column) for column in COLUMNS] for row in self.rows}
        return pd.DataFrame.from_dict(table, orient="index", columns=list(COLUMNS))

    def __str__(self) -> str:
        texts = [self._texts(row) for row in self.rows]
        widths = [max(len(text[i]) for text in [_HEAD, *texts]) for i in range(len(_HEAD))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(t, widths, strict=True)).rstrip()
                 for t in [_HEAD, *texts]]  # fmt: skip
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(text)}</th>" for text in _HEAD)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(text)}</td>" for text in self._texts(row)) + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p><b>Warning:</b> {escape(text)}</p>" for text in self.warnings)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"

    @staticmethod
    def _texts(row: ReportRow) -> tuple[str, ...]:
        return (
            row.name,
            _text(row.total),
            _text(row.smallest),
            row.smallest_at,
            _text(row.largest),
            row.largest_at,
            _text(row.span),
            _text(row.scaled_span),
        )


_HEAD = ("quantity", "total", "smallest", "at", "largest", "at", "span", "scaled span")


def _text(number: float) -> str:
    if math.isnan(number):
        return ""
    if math.isinf(number):
        return "infinite"
    return f"{number:,.0f}" if number == int(number) and abs(number) < 1e9 else f"{number:.4g}"


def problem_report(
    graph: Graph,
    compiled: Mapping[NodeName, StageData],
    scaling: Callable[[StageData], Scaling],
) -> ProblemReport:
    """See `ProblemReport`; work in proportion to nodes and arcs, each different stage once.

    `scaling` gives the units in which the solver counts a stage.
    """
    users: dict[int, list[NodeName]] = {}
    stages: dict[int, StageData] = {}
    for name, stage in compiled.items():
        users.setdefault(id(stage), []).append(name)
        stages[id(stage)] = stage
    n_arcs = sum(len(graph.children(name)) for name in (graph.root, *graph.nodes))
    first = next(iter(compiled.values()))
    rows = [
        ReportRow("nodes", len(graph.nodes)),
        ReportRow("arcs", n_arcs),
        ReportRow("different stages", len(stages)),
        ReportRow("states", len(first.incoming)),
        _size("columns", {n: c.n_columns for n, c in compiled.items()}),
        _size("rows", {n: len(c.row_names) for n, c in compiled.items()}),
        _size("entries", {n: c.matrix.nnz for n, c in compiled.items()}),
        _size("noises", {n: c.noise.n_realisations for n, c in compiled.items()}),
        _size("arrivals", {n: c.transition.n_realisations for n, c in compiled.items()}),
        ReportRow("paths", _n_paths(graph, compiled)),
    ]
    ranges = {kind: _Range(kind) for kind in KINDS}
    for key, stage in stages.items():
        for numbers in _numbers(stage, scaling(stage)):
            ranges[numbers.kind].take_in(numbers, stage, users[key])
    rows.extend(found.row() for found in ranges.values())
    return ProblemReport(tuple(rows), tuple(w for r in rows if (w := _warning(r)) is not None))


def _size(name: str, by_node: Mapping[NodeName, int]) -> ReportRow:
    least = min(by_node, key=by_node.__getitem__)
    most = max(by_node, key=by_node.__getitem__)
    return ReportRow(
        name,
        sum(by_node.values()),
        by_node[least],
        f"node {least!r}",
        by_node[most],
        f"node {most!r}",
    )


def _n_paths(graph: Graph, compiled: Mapping[NodeName, StageData]) -> float:
    """Number of different ways to the end: nodes, noises, arrivals; infinite with a cycle."""
    order = graph.reverse_topological()
    if order is None:
        return math.inf
    onward: dict[NodeName, int] = {}

    def ways_from(name: NodeName) -> int:
        return sum(
            compiled[child].noise.n_realisations * arrivals(name, child) * onward[child]
            for child, _ in graph.children(name)
        )

    def arrivals(name: NodeName, child: NodeName) -> int:
        return 1 if name == graph.root else compiled[child].transition.n_realisations

    for name in order:
        stops = not graph.children(name) or graph.stop_probability(name) > 0.0
        onward[name] = ways_from(name) + int(stops)
    total = ways_from(graph.root)
    return float(total) if total < 1e300 else math.inf


class _Numbers(NamedTuple):
    """Numbers of one kind: one row for each realization of the noise, or a single row.

    `rows` and `columns` are positions in the stage, None where a number has none; `unit` is what a
    number is multiplied by in the solver's units.
    """

    kind: str
    values: Floats  # (n_realizations, n_numbers)
    rows: Ints | None
    columns: Ints | None
    unit: Floats
    noisy: bool


def _numbers(compiled: StageData, scaling: Scaling) -> Iterator[_Numbers]:
    """Every number of a stage; a declared one that noise replaces is none."""
    given = np.zeros(compiled.n_columns, dtype=bool)
    given[compiled.incoming] = True  # their bounds are no constraints
    matrix = compiled.matrix.tocoo()
    entries = compiled.noise.positions["matrix"].reshape(-1, 2)
    replaced = set(map(tuple, entries.tolist()))
    coordinates = zip(matrix.row.tolist(), matrix.col.tolist(), strict=True)
    kept = np.array([pair not in replaced for pair in coordinates], dtype=bool)
    row, column = matrix.row[kept], matrix.col[kept]
    unit = scaling.rows[row] * scaling.columns[column]
    yield _Numbers("matrix", matrix.data[kept][None, :], row, column, unit, False)
    unit = scaling.rows[entries[:, 0]] * scaling.columns[entries[:, 1]]
    table = compiled.noise.values["matrix"]
    yield _Numbers("matrix", table, entries[:, 0], entries[:, 1], unit, True)
    for kind, places in KINDS.items():
        for place in places if kind != "matrix" else ():
            values, at = getattr(compiled, place), compiled.noise.positions[place]
            of_rows = place.startswith("row")
            units = {
                "cost": scaling.columns / scaling.money,
                "row_lower": scaling.rows,
                "row_upper": scaling.rows,
            }.get(place, 1.0 / scaling.columns)
            steady = np.ones(len(values), dtype=bool)
            steady[at] = False
            if kind == "bound":
                steady &= ~given
            fixed = np.flatnonzero(steady)
            for positions, table, noisy in (
                (fixed, values[fixed][None, :], False),
                (at, compiled.noise.values[place], True),
            ):
                rows, columns = (positions, None) if of_rows else (None, positions)
                yield _Numbers(kind, table, rows, columns, units[positions], noisy)


class _Range:
    """Smallest and largest absolute value of a kind of numbers, and where they stand."""

    def __init__(self, kind: str) -> None:
        self._kind, self._count = kind, 0
        self._ends = [(math.inf, ""), (0.0, "")]
        self._scaled = [math.inf, 0.0]

    def take_in(self, numbers: _Numbers, compiled: StageData, users: Sequence[NodeName]) -> None:
        """Look at numbers of a stage that some nodes share."""
        sizes = np.abs(numbers.values)
        used = np.isfinite(sizes) & (sizes > 0.0)
        n_used = int(used.sum())
        if n_used == 0:
            return
        repeated = 1 if numbers.noisy else compiled.noise.n_realisations
        self._count += n_used * repeated * len(users)
        scaled = (sizes * numbers.unit)[used]
        self._scaled = [
            min(self._scaled[0], float(scaled.min())),
            max(self._scaled[1], float(scaled.max())),
        ]
        least = int(np.where(used, sizes, np.inf).argmin())
        most = int(np.where(used, sizes, -np.inf).argmax())
        for end, at, better in ((0, least, np.less), (1, most, np.greater)):
            value = float(sizes.flat[at])
            if better(value, self._ends[end][0]):
                self._ends[end] = (value, _place(numbers, at, compiled, users))

    def row(self) -> ReportRow:
        """The range as a row of the report."""
        if self._count == 0:
            return ReportRow(self._kind, 0)
        (small, small_at), (large, large_at) = self._ends
        span = self._scaled[1] / self._scaled[0]
        return ReportRow(self._kind, self._count, small, small_at, large, large_at, span)


def _place(numbers: _Numbers, at: int, compiled: StageData, users: Sequence[NodeName]) -> str:
    noise, number = divmod(at, numbers.values.shape[1])
    parts = []
    if numbers.rows is not None:
        parts.append(f"row {compiled.row_names[numbers.rows[number]]}")
    if numbers.columns is not None:
        parts.append(f"column {compiled.column_names[numbers.columns[number]]}")
    others = f" and {len(users) - 1} more" if len(users) > 1 else ""
    parts.append(f"node {users[0]!r}{others}")
    if numbers.noisy:
        parts.append(f"noise {noise}")
    return ", ".join(parts)


def _warning(row: ReportRow) -> str | None:
    if not row.scaled_span > WIDEST_SPAN:
        return None
    return (
        f"{row.name} entries span {row.span:.1e}, from {row.smallest:g} ({row.smallest_at}) to "
        f"{row.largest:g} ({row.largest_at}), and {row.scaled_span:.1e} in the solver's units: "
        f"more than scaling can mend (about {WIDEST_SPAN:.0e}; the solver tolerates 1e-9); "
        "check the units of these numbers, or leave out what is negligible"
    )
