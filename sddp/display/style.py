"""One look for all figures: colors, markers and dashes; a strategy has one color everywhere.

Okabe and Ito's colors stay apart for color-blind readers; yellow is too pale for a line.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"),
    *("#7B5EA7", "#8C564B", "#8A8A8A"),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":", "-.")
AREA_COLORS = (*COLORS[:6], "#F0E442", *COLORS[7:9], "#A6D854", "#1B4F72", "#F4A6A6")
CASH_COLOR, OTHER_COLOR = "#E4E4E4", "#9A9A9A"
# Of strategies that stand behind those a figure is about.
GRAY = "#B4B4B4"

# Color and marker by the beginning of a strategy's name; the longest beginning decides.
STRATEGIES = {
    "SDDP": ("#0072B2", "o"),
    "SDDP, receding": ("#0072B2", "o"),
    "SDDP, run-through": ("#1B4F72", "p"),
    "SDDP, begun anew": ("#1B4F72", "p"),
    "SDDP within": ("#56B4E9", "v"),
    "SDDP in the most likely regime": ("#A6761D", "X"),
    "SDDP that ignores costs": ("#CC79A7", "D"),
    "costs ignored": ("#CC79A7", "D"),
    "one regime": ("#E69F00", "P"),
    "myopic": ("#009E73", "^"),
    "held to the horizon": ("#D55E00", "s"),
    "predictive control": ("#7B5EA7", "h"),
    "equal weights at the limit": ("#CC79A7", "d"),
    "one-step": ("#009E73", "^"),
    "one-step, cost-free future": ("#D55E00", "s"),
    "one step, cost-free future": ("#D55E00", "s"),
    "cost-free future": ("#D55E00", "s"),
    "program without costs": ("#CC79A7", "D"),
    "QP": ("#7B5EA7", "h"),
    "QP, risk-matched": ("#4D2C7A", "h"),
    "equal weights": ("#8A8A8A", "d"),
    "1/N": ("#8A8A8A", "d"),
    "cash": ("#000000", "_"),
    "upper bound": ("#4D4D4D", "_"),
}


@dataclass(frozen=True)
class Style:
    """How a series is drawn; `shift` moves it along x, of series that nearly coincide."""

    color: str
    marker: str = "o"
    dash: str = "-"
    shift: float = 0.0


def styles(names: Iterable[Any]) -> dict[Any, Style]:
    """Style by name, all different.

    A known strategy has its color in every figure; a second one of that color has another dash.
    Other names take the colors that are left, in the order of the names.
    """
    found: dict[Any, Style] = {}
    asked = list(names)
    for name in asked:
        if (known := _known(name)) is not None:
            found[name] = _dashed(Style(*known), found)
    taken = {style.color for style in found.values()}
    left = cycle([color for color in COLORS if color not in taken] or COLORS)
    markers = cycle(MARKERS)
    for name in asked:
        if name not in found:
            found[name] = _dashed(Style(next(left), next(markers)), found)
    return {name: found[name] for name in asked}


def featured_styles(names: Iterable[Any], featured: Sequence[Any]) -> dict[Any, Style]:
    """Style by name: some strategies in color, each in one of its own, and the others gray.

    The colors are those of `styles`; where one is gray, or another featured strategy has it, the
    next one that is left takes its place.
    """
    known, chosen, taken = styles(featured), {}, {"#000000", GRAY}
    for name in featured:
        color = known[name].color
        if color in taken or color == "#8A8A8A":
            color = next((c for c in COLORS if c not in taken and c != "#8A8A8A"), color)
        taken.add(color)
        chosen[name] = replace(known[name], color=color, dash="-")
    return {name: chosen.get(name, Style(GRAY)) for name in names}


def draw_interval_line(
    ax: Axes,
    x: pd.Series[float],
    table: pd.DataFrame,
    label: str,
    style: Style,
) -> None:
    """Draw a line through means with the interval of each.

    Parameters
    ----------
    ax : Axes
    x : Series
    table : DataFrame, shape (n, 3)
        Mean, low and high end.
    label : str
    style : Style
    """
    mean, low, high = (table.iloc[:, k] for k in range(3))
    ax.errorbar(
        x + style.shift,
        mean,
        yerr=[mean - low, high - mean],
        label=label,
        color=style.color,
        marker=style.marker,
        markersize=4.0,
        linewidth=1.2,
        capsize=3.0,
        linestyle=style.dash,
    )
    ax.spines[["top", "right"]].set_visible(False)


def _known(name: Hashable) -> tuple[str, str] | None:
    beginnings = [key for key in STRATEGIES if str(name).startswith(key)]
    return STRATEGIES[max(beginnings, key=len)] if beginnings else None


def _dashed(style: Style, others: dict[Any, Style]) -> Style:
    """The style with the first dash that no other style of its color has."""
    used = {other.dash for other in others.values() if other.color == style.color}
    free = [dash for dash in DASHES if dash not in used]
    return replace(style, dash=free[0]) if free else style
