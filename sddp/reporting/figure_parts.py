"""Shared parts of the figures of a backtest: panels, lines, areas, axes, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sddp.arrays import Ints
from sddp.display.fonts import show
from sddp.display.style import (
    AREA_COLORS,
    CASH_COLOR,
    OTHER_COLOR,
    featured_styles,
    styles,
)
from sddp.labels import label_index

OTHER = "other"

# Below this ratio of highest to lowest level a log axis holds too few powers of ten to read.
NARROW = 8.0

# A longer name takes the room of the lines it names.
LABEL_WIDTH = 26
N_COLUMNS = 2

Entry = tuple[Artist, str]


def panels(heights: Sequence[float]) -> tuple[Figure, list[Axes]]:
    """Figure of panels one below the other, on one axis of dates."""
    figure = Figure(figsize=(10.0, 6.4 if len(heights) > 1 else 4.8), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes: list[Axes] = []
    for row in range(len(heights)):
        axes.append(figure.add_subplot(grid[row], sharex=axes[0] if axes else None))
    for ax in axes:
        ax.label_outer()
    return figure, axes


def small_multiples(n_panels: int, *, height: float, sharey: bool) -> tuple[Figure, list[Axes]]:
    """Figure of equal panels in two columns, on one axis of dates; one alone takes the width."""
    n_columns = min(N_COLUMNS, n_panels)
    n_rows = -(-n_panels // n_columns)
    size = (10.0, max(height * n_rows, 4.2 if n_panels == 1 else 2.0) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharex=True, sharey=sharey, squeeze=False).ravel()
    for unused in axes[n_panels:]:
        unused.remove()
    if n_panels > n_columns and n_panels % n_columns:
        # The panel above the gap is the last of its column and carries its dates.
        axes[n_panels - n_columns].xaxis.set_tick_params(labelbottom=True)
    return figure, list(axes[:n_panels])


def outer_label(ax: Axes, text: str) -> None:
    """Label of the y axis, in the first column only."""
    spec = ax.get_subplotspec()
    if spec is not None and spec.is_first_col():
        ax.set_ylabel(text)


def draw_lines(
    ax: Axes,
    table: pd.DataFrame,
    ranking: pd.Series[float],
    featured: Sequence[str] | None = None,
) -> list[Entry]:
    """One line per column, drawn and listed from the highest in `ranking` to the lowest.

    With some of them `featured` the others are gray, behind them, and one entry of the list.
    """
    shown = list(table.columns) if featured is None else [n for n in featured if n in table.columns]
    style = styles(shown) if featured is None else featured_styles(table.columns, shown)
    entries: list[Entry] = []
    others: list[Artist] = []
    for name in ranking.sort_values(ascending=False, kind="stable").index:
        in_color = name in shown
        (line,) = ax.plot(
            table.index,
            table[name],
            color=style[name].color,
            linestyle=style[name].dash,
            lw=1.1 if featured is None else 1.5 if in_color else 0.7,
            zorder=2.0 if in_color else 1.8,
        )
        line.set_label(str(name))
        if in_color:
            entries.append((line, str(name)))
        else:
            others.append(line)
    if others:
        entries.append((others[0], f"{len(others)} more" if len(others) > 1 else "one more"))
    return entries


def draw_areas(ax: Axes, table: pd.DataFrame, colors: Sequence[Any]) -> list[Entry]:
    """Stacked shares of 1, the first column at the bottom; a row holds until the next one."""
    names = [str(name) for name in table.columns]
    stack = ax.stackplot(
        table.index, table.to_numpy().T, labels=names, colors=colors, step="post", lw=0
    )
    ax.set_ylim(0.0, 1.0)
    percent(ax)
    # Listed from the top of the stack, as one reads it.
    entries: list[Entry] = list(zip(stack, names, strict=True))
    return entries[::-1]


def asset_areas(
    weights: Mapping[Any, pd.DataFrame], largest: int
) -> tuple[dict[Any, pd.DataFrame], list[str]]:
    """Columns to stack, the same ones for every strategy, with their colors.

    Parameters
    ----------
    weights : mapping of str to DataFrame, shape (n_rows, 1 + n_assets)
        Fractions of wealth by strategy, of the same positions, cash first.
    largest : int
        Number of assets shown by themselves, by their largest mean weight in any strategy.

    Returns
    -------
    tables, colors
        Cash first and the sum of the others last.
    """
    means = np.array([table.to_numpy()[:, 1:].mean(axis=0) for table in weights.values()])
    ranked = np.argsort(-means.max(axis=0), kind="stable")
    # One asset alone is named rather than called "other".
    kept = ranked[:largest] if len(ranked) > largest + 1 else ranked
    colors = [CASH_COLOR, *(AREA_COLORS[i % len(AREA_COLORS)] for i in range(len(kept)))]
    if len(kept) < len(ranked):
        colors.append(OTHER_COLOR)
    return {name: _stacked(table, kept) for name, table in weights.items()}, colors


def _stacked(weights: pd.DataFrame, kept: Ints) -> pd.DataFrame:
    """Areas by name: cash, the assets kept in the order of the columns, the sum of the others."""
    labels, values = list(weights.columns), weights.to_numpy()
    shown = [0, *(np.sort(kept) + 1).tolist()]
    rest = np.setdiff1d(np.arange(len(labels)), shown)
    areas, names = values[:, shown], [labels[i] for i in shown]
    if len(rest):
        areas = np.column_stack([areas, values[:, rest].sum(axis=1)])
        names.append(f"{OTHER} ({len(rest)})")
    return pd.DataFrame(areas, index=weights.index, columns=label_index(names))


def log_scale(ax: Axes, levels: pd.DataFrame) -> None:
    """Log axis of money with round labels, however narrow its range."""
    ax.set_yscale("log")
    wide = float(levels.to_numpy().max() / levels.to_numpy().min()) > NARROW
    locator = (
        LogLocator(subs=(1.0, 2.0, 3.0, 5.0)) if wide else MaxNLocator(nbins=7, steps=[1, 2, 5, 10])
    )
    ax.yaxis.set_major_locator(locator)
    ax.yaxis.set_major_formatter(FuncFormatter(money))
    ax.yaxis.set_minor_formatter(NullFormatter())


def money(amount: float, _: int = 0) -> str:
    """Amount with thousands apart, without digits that rounding made."""
    return f"{amount:,.10g}"


def percent(ax: Axes, *, which: str = "y") -> None:
    """Axis of fractions in percent."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    axis.set_major_locator(MaxNLocator(nbins=6))
    axis.set_major_formatter(FuncFormatter(_percent_text))


def _percent_text(fraction: float, _: int) -> str:
    return f"{100.0 * fraction:.6g} %".replace("-", "\N{MINUS SIGN}")


def dates(axes: Sequence[Axes]) -> None:
    """Axis of dates, without room at its ends."""
    for ax in axes:
        locator = mdates.AutoDateLocator()  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_locator(locator)
        formatter = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        ax.xaxis.set_major_formatter(formatter)
        ax.margins(x=0.0)


def plain(axes: Sequence[Axes]) -> None:
    """Light grid behind the data, no frame."""
    for ax in axes:
        ax.grid(visible=True, color="0.88", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)


def title(ax: Axes, text: str, *, width: int = 90, **options: Any) -> None:
    """Title on the left; a name in it is never read as a formula."""
    lines = textwrap.fill(text, width)
    show(ax.set_title("", loc="left", fontweight="bold", **options), lines)


def finish(figure: Figure, axes: Sequence[Axes], note: str, entries: Sequence[Entry]) -> None:
    """Dates, grid, a note below and one legend beside the panels."""
    plain(axes)
    dates(axes)
    show(figure.supxlabel("", fontsize="small", color="0.35"), note)
    legend(figure, entries)


def legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """Legend on the right: handles and names given, so that no name is left out or a formula."""
    handles = [handle for handle, _ in entries]
    names = [textwrap.fill(name, LABEL_WIDTH) for _, name in entries]
    box = figure.legend(
        handles, names, loc="outside right upper", frameon=False, fontsize="small", handlelength=2.6
    )
    for text, name in zip(box.get_texts(), names, strict=True):
        show(text, name)
