"""Figures of the benchmarks, drawn from their tables."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from experiments.benchmarks.measure import GAPS, PARTS, slopes
from sddp.display.style import COLORS


def convergence_figure(curves: pd.DataFrame, title: str) -> Figure:
    """Gap to the best known bound against training time, one line a run."""
    figure = Figure(figsize=(8.0, 4.8), layout="constrained")
    ax = figure.subplots()
    for i, (label, curve) in enumerate(curves.groupby("run", sort=False)):
        shown = curve[curve["gap"] > 0.0]
        color = COLORS[i % len(COLORS)]
        ax.loglog(shown["seconds"], shown["gap"], lw=1.2, color=color, label=str(label))
    for gap in GAPS:
        ax.axhline(gap, color="0.75", linewidth=0.8, linestyle="--")
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    ax.set_xlabel("training time (s, wall clock)")
    ax.set_ylabel("gap to the best known bound\n(share of the gain)")
    ax.set_title(title, loc="left", fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize="small")
    return figure


def parts_figure(shares: pd.DataFrame) -> Figure:
    """Share of training time by part, one bar an instance."""
    figure = Figure(figsize=(8.0, 0.6 * len(shares) + 1.4), layout="constrained")
    ax = figure.subplots()
    left = pd.Series(0.0, index=shares.index)
    for part, color in zip(PARTS, COLORS, strict=False):
        ax.barh(shares.index, shares[part], left=left, color=color, label=part, height=0.6)
        left += shares[part]
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlim(0.0, 1.0)
    ax.invert_yaxis()
    ax.set_xlabel("share of training time")
    ax.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(PARTS), frameon=False, fontsize="small")
    return figure


def growth_figure(growth: pd.DataFrame) -> Figure:
    """Time per iteration against each size, log-log, with the fitted slope."""
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    fitted = slopes(growth)
    panels = figure.subplots(2, 2, sharey=True).flat
    for ax, (axis, rows) in zip(panels, growth.groupby("axis", sort=False), strict=True):
        ax.loglog(rows["value"], rows["per_iteration"], marker="o", color=COLORS[0])
        ax.set_xticks(rows["value"], [f"{value:g}" for value in rows["value"]], minor=False)
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
        ax.minorticks_off()
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.set_xlabel(str(axis).replace("n_", "number of "))
        ax.set_ylabel("seconds an iteration")
        ax.set_title(f"slope {fitted[axis]:.2f}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    return figure
