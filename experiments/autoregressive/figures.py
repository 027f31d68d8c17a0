"""Figures of the study, drawn from its tables alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from experiments.autoregressive.cells import (
    ONE_STEP,
    ONE_STEP_FUTURE,
    ORACLE,
    SDDP,
)
from experiments.autoregressive.frontier import BOUND, WITHIN
from experiments.autoregressive.gap import VARIANTS
from sddp.display.style import COLORS, MARKERS, Style, draw_interval_line, styles

Tables = Mapping[str, pd.DataFrame]

PERCENT = 100.0

# Width of a column of a legend.
INCHES = 2.8

# By which series that nearly coincide are drawn apart, in units of the axis.
DODGE = 0.08

# Below this share of the limit on average it hardly matters.
BINDING = 0.9


FRONTIER_STYLES = styles((SDDP, WITHIN, ONE_STEP_FUTURE, ONE_STEP, ORACLE, BOUND))


def frontier_figure(tables: Tables) -> Figure:
    """Expected gain against the limit, and how far below the upper bound it is."""
    table = tables["frontier"]
    costs = sorted(table["cost"].unique())
    figure = Figure(figsize=(3.2 * len(costs) + 1.2, 7.0), layout="constrained")
    axes = figure.subplots(2, len(costs), sharex=True, sharey="row", squeeze=False)
    for (upper, lower), cost in zip(axes.T, costs, strict=True):
        for name in FRONTIER_STYLES:
            rows = table[(table["cost"] == cost) & (table["policy"] == name)]
            _series(upper, rows, "cvar_limit", "wealth", name, minus=1.0)
            if name != BOUND:
                _series(lower, rows, "cvar_limit", "below_bound", name)
        lower.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
        upper.set_title(f"cost {_percent(cost)} of what is traded", loc="left")
        lower.set_xlabel("limit on one-month CVaR (% of wealth)")
    axes[0, 0].set_ylabel(f"expected gain over {_horizon(table)} (%)")
    axes[1, 0].set_ylabel("below the upper bound\n(% of initial wealth, log beyond 0.01)")
    axes[1, 0].set_yscale("symlog", linthresh=0.01)
    _plain_ticks(axes[1, 0].yaxis, (-0.1, -0.01, 0.0, 0.01, 0.1, 1.0, 10.0))
    _headline(figure, "95 % intervals over ten scenario draws, each with paths of its own")
    _legend(figure, axes[0, 0])
    return figure


def policies_figure(tables: Tables) -> Figure:
    """Policies less the oracle where trading is free, and what they risk."""
    table = tables["policies"]
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes = table["n_states"].map("{:.0f}".format) + table["n_scenarios"].map(", S = {:.0f}".format)
    sizes += table["known_regimes"].map({True: ", known regimes", False: ""})
    table = table[table["true_cvar_over_limit"] > BINDING].assign(
        series=table["policy"].where(table["policy"] != SDDP, SDDP + ", K = " + sizes)
    )
    names = [*dict.fromkeys(table["series"])]
    for i, name in enumerate(names):
        rows = table[table["series"] == name]
        style = Style(COLORS[i], MARKERS[i], shift=DODGE * (i - len(names) / 2.0))
        _series(left, rows, "cvar_limit", "over_oracle", name, of_gain=True, style=style)
        right.plot(
            PERCENT * rows["cvar_limit"] + style.shift,
            PERCENT * (rows["true_cvar_over_limit"] - 1.0),
            color=COLORS[i],
            marker=MARKERS[i],
            markersize=4.0,
            linewidth=1.2,
            label=name,
        )
    right.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("value less that of the oracle (% of the oracle's gain)")
    right.set_ylabel("true CVaR of the decisions over the limit (%)")
    left.set_title(f"No trading costs, {_horizon(table)}", loc="left")
    right.set_title("Where the limit binds: mean over decisions", loc="left")
    for ax in (left, right):
        ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_xlabel("limit on one-month CVaR (% of wealth)")
    _legend(figure, right)
    return figure


def gap_figure(tables: Tables) -> Figure:
    """Gap to the true optimum and true CVaR against the number of scenarios."""
    table = tables["gap"]
    free = table[table["cost"] == 0.0]
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].sharey(axes[1])
    for i, (name, color, marker) in enumerate(zip(VARIANTS, COLORS, MARKERS, strict=False)):
        rows = free[free["variant"] == name]
        style = Style(color, marker, shift=10.0 * (i - 1.5))
        _series(axes[0], rows, "n_scenarios", "gap", name, of_gain=True, style=style)
        _series(axes[1], rows, "n_scenarios", "scaled_gap", name, of_gain=True, style=style)
        over = PERCENT * (rows["true_cvar_over_limit"] - 1.0)
        high = PERCENT * (rows["true_cvar_over_limit_95"] - 1.0)
        axes[2].plot(rows["n_scenarios"], over, color=color, marker=marker, label=name)
        axes[2].plot(rows["n_scenarios"], high, color=color, linestyle=":")
    axes[2].spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("gap to the true optimum (% of its gain)")
    axes[2].set_ylabel("true CVaR over the limit (%)")
    axes[0].set_title("As trained", loc="left")
    axes[1].set_title("Moved towards cash until the\ntrue limit holds", loc="left")
    axes[2].set_title("Risk as trained: mean, and 95 %\nquantile (dotted)", loc="left")
    for ax in axes:
        ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
        ax.set_xlabel("scenarios in each regime")
    limit = float(free["cvar_limit"].iloc[0])
    _headline(
        figure,
        f"Ten scenario draws, limit {_percent(limit)}, no costs, {_horizon(free)}; 95 % intervals",
    )
    _legend(figure, axes[2])
    return figure


def choices_figure(tables: Tables) -> Figure:
    """Steps between numbers of scenarios, and numbers of regimes against the oracle."""
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    limits = sorted(set(tables["scenarios"]["cvar_limit"]) | set(tables["states"]["cvar_limit"]))
    by_limit = dict(zip(limits, map(Style, COLORS, MARKERS), strict=False))
    for i, (limit, rows) in enumerate(_by_limit(tables["scenarios"])):
        label, style = f"limit {_percent(limit)}", replace(by_limit[limit], shift=25.0 * (i - 2))
        _series(left, rows, "candidate", "step", label, of_gain=True, style=style)
    for i, (limit, rows) in enumerate(_by_limit(tables["states"])):
        label, style = f"limit {_percent(limit)}", replace(by_limit[limit], shift=DODGE * (i - 0.5))
        _series(right, rows, "candidate", "over_oracle", label, of_gain=True, style=style)
        moved, dotted = f"{label}, within the true limit", replace(style, dash=":")
        _series(right, rows, "candidate", "scaled_over_oracle", moved, of_gain=True, style=dotted)
        margin = float((PERCENT * rows["margin"] / rows["gain"]).iloc[0])
    for ax in (left, right):
        for edge in (-margin, margin):
            ax.axhline(edge, color="0.4", linewidth=0.9, linestyle="--")
        ax.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
        ax.legend(
            frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2
        )
    left.set_xlabel("scenarios of the dynamic program")
    left.set_ylabel("value less that of the next larger number\n(% of the gain)")
    left.set_title("Number of scenarios", loc="left")
    right.set_xlabel("regimes")
    right.set_ylabel("value less that of the oracle\n(% of the gain)")
    right.set_title("Number of regimes", loc="left")
    right.set_xticks(sorted(tables["states"]["candidate"].unique()))
    _headline(
        figure,
        "No trading costs; 90 % intervals over ten scenario draws; "
        "dashed: the equivalence test passes where an interval lies between",
    )
    return figure


def ingredients_figure(tables: Tables) -> Figure:
    """What the policy loses without each ingredient."""
    table = tables["ingredients"]
    settings = table[["cvar_limit", "cost"]].drop_duplicates().to_numpy().tolist()
    figure = Figure(figsize=(4.2 * len(settings) + 1.6, 4.0), layout="constrained")
    axes = figure.subplots(1, len(settings), sharey=True, squeeze=False)[0]
    kinds = (("worth", "o", "as trained"), ("worth_within", "s", "both within the true limit"))
    for ax, (limit, cost) in zip(axes, settings, strict=True):
        rows = table[(table["cvar_limit"] == limit) & (table["cost"] == cost)]
        scale, places = PERCENT / rows["gain"], np.arange(len(rows))
        for i, (name, marker, label) in enumerate(kinds):
            mean, low, high = (scale * rows[name + end] for end in ("", "_low", "_high"))
            ax.errorbar(
                mean,
                places + 0.24 * (i - 0.5),
                xerr=[mean - low, high - mean],
                fmt=marker,
                markersize=4.5,
                color=COLORS[i],
                capsize=3,
                label=label,
            )
        ax.set_yticks(places, rows["ingredient"])
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.axvline(0.0, color="0.3", linewidth=0.8)
        ax.set_xscale("symlog", linthresh=1.0)
        ax.margins(x=0.08)
        _plain_ticks(ax.xaxis, (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0))
        ax.set_xlabel("worth (% of the gain, linear within 1 %)")
        ax.set_title(f"limit {_percent(limit)}, cost {_percent(cost)}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    _legend(figure, axes[0])
    _headline(
        figure, f"What is lost without each, {_horizon(table)}; 95 % intervals over ten draws"
    )
    return figure


FIGURES: Mapping[str, Callable[[Tables], Figure]] = {
    "frontier": frontier_figure,
    "policies": policies_figure,
    "gap": gap_figure,
    "choices": choices_figure,
    "ingredients": ingredients_figure,
}


def _series(
    ax: Axes,
    rows: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    *,
    minus: float = 0.0,
    of_gain: bool = False,
    style: Style | None = None,
) -> None:
    """A line with the intervals of its points, in per cent (of the gain where asked for)."""
    scale = PERCENT / rows["gain"] if of_gain else pd.Series(PERCENT, rows.index)
    drawn = style or FRONTIER_STYLES[label]
    x_values = PERCENT * rows[x] if x == "cvar_limit" else rows[x]
    table = (rows[[y, f"{y}_low", f"{y}_high"]] - minus).mul(scale, axis=0)
    draw_interval_line(ax, x_values, table, label, drawn)


def _plain_ticks(axis: Axis, ticks: Sequence[float]) -> None:
    """Numbers instead of powers of ten, as far as the axis reaches."""
    low, high = axis.get_view_interval()
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, labels=[f"{tick:g}" for tick in shown])
    axis.set_ticks([], minor=True)


def _percent(share: float) -> str:
    return f"{PERCENT * share:g} %"


def _by_limit(table: pd.DataFrame) -> list[tuple[float, pd.DataFrame]]:
    limits = sorted(table["cvar_limit"].unique())
    return [(float(limit), table[table["cvar_limit"] == limit]) for limit in limits]


def _horizon(table: pd.DataFrame) -> str:
    return f"{int(table['decisions'].iloc[0])} decisions"


def _headline(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)


def _legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    columns = min(len(labels), max(1, int(figure.get_figwidth() / INCHES)))
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
