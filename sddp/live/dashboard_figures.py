"""Figures of the page of a running portfolio, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sddp.display.style import COLORS

# Inches: 440 pixels of a browser, so that text is as large on a telephone as it is set here.
WIDTH = 4.6
# Bars and areas beyond these are summed up as others.
MOST_NAMES = 9


def svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes for the same figure."""
    target = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sddp", "svg.fonttype": "path"}):
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def wealth_svg(times: Sequence[pd.Timestamp], wealth: Sequence[float]) -> bytes:
    """Wealth, and its fall below the highest so far."""
    figure, (above, below) = _panels(2, 3.6)
    w, at = np.asarray(wealth, dtype=float), pd.DatetimeIndex(list(times)).to_numpy()
    above.plot(at, w, color=COLORS[0], lw=1.3)
    above.set_ylabel("wealth")
    falls = w / np.maximum.accumulate(w) - 1.0
    below.fill_between(at, falls, 0.0, color=COLORS[1], alpha=0.5, lw=0)
    below.set_ylabel("drawdown")
    below.yaxis.set_major_formatter(PercentFormatter(1.0))
    _dates(below)
    return svg(figure)


def weights_svg(weights: Mapping[str, float], target: Mapping[str, float]) -> bytes:
    """Weights of the largest positions as bars, targets as marks on them."""
    shown = _largest(weights)
    figure, (ax,) = _panels(1, 0.8 + 0.3 * len(shown))
    rows = np.arange(len(shown))
    ax.barh(rows, list(shown.values()), color=COLORS[0], height=0.6, label="held")
    known = [(row, target[name]) for row, name in enumerate(shown) if name in target]
    if known:
        at, marks = zip(*known, strict=True)
        ax.plot(marks, at, ls="none", marker="|", ms=14, mew=2.5, color="black", label="target")
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    _names(ax, list(shown))
    return svg(figure)


def contributions_svg(parts: Mapping[str, float], groups: Mapping[str, float]) -> bytes:
    """Contributions to volatility, by asset and by group."""
    assets, kinds = _largest(parts), _largest(groups)
    figure = Figure(figsize=(WIDTH, 1.2 + 0.28 * (len(assets) + len(kinds))), layout="constrained")
    axes = figure.subplots(2, 1, sharex=True, height_ratios=[len(assets) + 1, len(kinds) + 1])
    for ax, shown, color in zip(axes, (assets, kinds), COLORS[1:3], strict=True):
        ax.barh(np.arange(len(shown)), list(shown.values()), color=color, height=0.6)
        _names(ax, list(shown))
    axes[0].set_ylabel("assets")
    axes[1].set_ylabel("groups")
    return svg(figure)


def latency_svg(rows: Sequence[int], seconds: Sequence[float]) -> bytes:
    """Milliseconds of each row."""
    figure, (ax,) = _panels(1, 2.2)
    ax.plot(list(rows), 1e3 * np.asarray(seconds, dtype=float), ".", ms=2.5, color=COLORS[2])
    ax.set_yscale("log")
    ax.set_ylabel("ms a row")
    ax.set_xlabel("row")
    return svg(figure)


def _panels(n: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _dates(ax: Axes) -> None:
    locator = mdates.AutoDateLocator(minticks=2, maxticks=5)  # type: ignore[no-untyped-call]
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(mdates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _names(ax: Axes, names: Sequence[str]) -> None:
    shown = [name if len(name) <= 24 else name[:23] + "\N{HORIZONTAL ELLIPSIS}" for name in names]
    ax.set_yticks(range(len(shown)), shown, parse_math=False)
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))


def _largest(values: Mapping[str, float]) -> dict[str, float]:
    """The values of largest size, NaN left out, and the sum of all others."""
    known = {name: value for name, value in values.items() if value == value}
    order = sorted(known, key=lambda name: -abs(known[name]))
    if len(order) <= MOST_NAMES + 1:
        return {name: known[name] for name in order}
    kept = {name: known[name] for name in order[:MOST_NAMES]}
    rest = order[MOST_NAMES:]
    return kept | {f"{len(rest)} others": sum(known[name] for name in rest)}
