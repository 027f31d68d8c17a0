"""Figures of the study in sample, from its tables alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from experiments.french.policies import COST_FREE, MYOPIC, SDDP
from experiments.french.questions import EXCESS, LHS
from sddp.display.style import (
    AREA_COLORS,
    CASH_COLOR,
    COLORS,
    MARKERS,
    OTHER_COLOR,
    Style,
    draw_interval_line,
    styles,
)
from sddp.reporting.figure_parts import plain, title

Tables = Mapping[str, pd.DataFrame]

PERCENT = 100.0

# Positions shown by themselves; the others are one area.
LARGEST = 11


FRONTIER_STYLES = styles((SDDP, COST_FREE, MYOPIC))


def convergence_figure(tables: Tables) -> Figure:
    """Bound and policy value against cuts and against seconds."""
    table = tables["convergence"]
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, x, label in zip(
        axes,
        ("cuts", "seconds"),
        ("cuts at each stage and regime", "seconds on one core"),
        strict=True,
    ):
        gain = PERCENT * (table[["bound", "value", "value_low", "value_high"]] - 1.0)
        ax.plot(table[x], gain["bound"], color=COLORS[1], marker="s", ms=4, label="upper bound")
        errors = [gain["value"] - gain["value_low"], gain["value_high"] - gain["value"]]
        ax.errorbar(
            table[x],
            gain["value"],
            yerr=errors,
            color=COLORS[0],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=1.2,
            label="policy, simulated in sample, 95 % interval",
        )
        ax.set_xlabel(label)
    axes[0].set_ylabel(f"expected gain over {_decisions(table)} (% of wealth)")
    axes[1].set_xscale("log")
    axes[1].xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes[1].xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
    axes[1].xaxis.set_minor_formatter(NullFormatter())
    plain(axes)
    title(axes[0], "Convergence of one training")
    axes[0].legend(frameon=False, loc="best")
    return figure


def first_stage_figure(tables: Tables) -> Figure:
    """Weights after the first decision: by iteration, and over independent scenario draws."""
    table = tables["first_stage"]
    shown, colors = _grouped(table)
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.4, 1.0))
    by_iteration = _stack(table, "iteration", shown)
    left.stackplot(
        by_iteration.index, PERCENT * by_iteration.to_numpy().T, colors=colors, labels=shown, lw=0
    )
    left.set_xlim(by_iteration.index[0], by_iteration.index[-1])
    left.set_xlabel("iterations of training")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_draw = _stack(table, "draw", shown)
    bottom = np.zeros(len(by_draw))
    for name, color in zip(shown, colors, strict=True):
        right.bar(by_draw.index, PERCENT * by_draw[name], bottom=bottom, color=color, width=0.8)
        bottom += PERCENT * by_draw[name].to_numpy()
    right.set_xticks(list(by_draw.index))
    right.set_xlabel("independent scenario draw")
    left.set_ylabel("weight after the first decision (%)")
    left.set_ylim(0.0, 100.0)
    plain((left, right))
    title(left, "First decision by iteration")
    title(right, "and by scenario draw")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside right center", frameon=False, fontsize=8.5
    )
    return figure


def frontier_figure(tables: Tables) -> Figure:
    """Expected gain against the limit, and what other policies lose."""
    table = tables["frontier"]
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    plain_rows = table[~table["in_excess_of_bills"]]
    for name, style in FRONTIER_STYLES.items():
        rows = plain_rows[plain_rows["policy"] == name]
        _series(left, rows, "wealth", name, style, minus=1.0)
        if name != SDDP:
            _series(right, rows, "below_sddp", name, style)
    own = plain_rows[plain_rows["policy"] == SDDP]
    left.plot(
        PERCENT * own["cvar_limit"],
        PERCENT * (own["bound"] - 1.0),
        color="0.3",
        linestyle="--",
        marker="_",
        label="mean upper bound of the sampled problems",
    )
    excess = table[table["in_excess_of_bills"]]
    _series(left, excess, "wealth", f"SDDP, {EXCESS}", Style(COLORS[3], "D", "-."), minus=1.0)
    right.axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    for ax in (left, right):
        ax.set_xlabel("limit on one-month CVaR (% of wealth)")
    left.set_ylabel(f"expected gain over {_decisions(table)} (%)")
    right.set_ylabel("below SDDP (% of initial wealth)")
    plain((left, right))
    title(left, f"Efficient frontier, cost {PERCENT * own['cost'].iloc[0]:g} %")
    title(right, "What is lost against SDDP")
    left.legend(frameon=False, fontsize=8.5, loc="lower right")
    right.legend(frameon=False, fontsize=8.5, loc="best")
    return figure


def gap_figure(tables: Tables) -> Figure:
    """Gap to the true problem and true CVaR of the decisions, setting by setting."""
    table = tables["gap"].sort_values(by=["n_scenarios"], kind="stable")
    labels = [
        f"S = {n}" + ("" if name == LHS else f", {name}")
        for n, name in zip(table["n_scenarios"], table["variant"], strict=True)
    ]
    figure = Figure(figsize=(11.0, 0.5 * len(table) + 2.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(table))
    scale = PERCENT / table["gain"]
    for shift, name, color, label in (
        (-0.12, "gap", COLORS[0], "as trained"),
        (0.12, "scaled_gap", COLORS[1], "moved towards cash until the true limit holds"),
    ):
        mean, low, high = (scale * table[f"{name}{end}"] for end in ("", "_low", "_high"))
        _intervals(left, rows + shift, (mean, low, high), color, label)
    left.axvline(0.0, color="0.3", linewidth=0.8)
    left.set_xlabel("gap to the true problem (% of its gain)")
    over = PERCENT * (table["true_cvar_over_limit"] - 1.0)
    high = PERCENT * (table["true_cvar_over_limit_95"] - 1.0)
    right.hlines(rows, over, high, color=COLORS[2], lw=1.4)
    right.plot(over, rows, "o", ms=5, color=COLORS[2], label="mean of the decisions")
    right.plot(high, rows, "|", ms=9, color=COLORS[2], label="95 % quantile")
    right.axvline(0.0, color="0.3", linewidth=0.8)
    right.set_xlabel("true CVaR over the limit (%)")
    left.set_yticks(rows, labels)
    left.set_ylim(len(rows) - 0.5, -0.5)
    plain((left, right))
    draws = int(table["draws"].iloc[0])
    title(left, f"Bound less policy value, {draws} draws, 95 %", width=40)
    title(right, "True risk of the decisions")
    pairs = [ax.get_legend_handles_labels() for ax in (left, right)]
    figure.legend(
        [handle for handles, _ in pairs for handle in handles],
        [label for _, labels in pairs for label in labels],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8.5,
    )
    return figure


def horizon_figure(tables: Tables) -> Figure:
    """Terminal wealth by horizon for limits and for costs, and what a short look ahead loses."""
    table = tables["horizon"]
    ends, looks = (table[table["kind"] == kind] for kind in ("horizon", "look-ahead"))
    limit, cost = looks["cvar_limit"].iloc[0], looks["cost"].iloc[0]
    figure = Figure(figsize=(11.5, 4.2), layout="constrained")
    axes = figure.subplots(1, 3)
    by_limit = [
        (value, ends[ends["cost"] == cost]) for value in sorted(ends["cvar_limit"].unique())
    ]
    _horizons(axes[0], by_limit, "cvar_limit", "limit")
    by_cost = [
        (value, ends[ends["cvar_limit"] == limit]) for value in sorted(ends["cost"].unique())
    ]
    _horizons(axes[1], by_cost, "cost", "cost")
    axes[1].sharey(axes[0])
    mean, low, high = (PERCENT * looks[f"below_longest{end}"] for end in ("", "_low", "_high"))
    axes[2].errorbar(
        looks["horizon"], mean, yerr=[mean - low, high - mean], color=COLORS[0], marker="o", ms=4,
        capsize=3,
    )  # fmt: skip
    axes[2].axhline(0.0, color="0.6", linewidth=0.8, zorder=0)
    axes[0].set_ylabel("expected gain (% of wealth)")
    axes[2].set_ylabel(f"lost over {_decisions(looks)},\nbegun anew each month (% of wealth)")
    axes[0].set_xlabel("decisions (T = 1 + decisions)")
    axes[1].set_xlabel("decisions (T = 1 + decisions)")
    axes[2].set_xlabel("decisions looked ahead")
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(axes)
    title(axes[0], f"Gain by horizon, cost {PERCENT * cost:g} %", width=34)
    title(axes[1], f"Gain by horizon, limit {PERCENT * limit:g} %", width=34)
    title(axes[2], "Shorter looks ahead", width=34)
    for ax in axes[:2]:
        ax.legend(frameon=False, fontsize=8.5, loc="upper left")
    return figure


def states_figure(tables: Tables) -> Figure:
    """Held-out likelihood by number of regimes, and BIC."""
    table = tables["states"]
    figure = Figure(figsize=(10.0, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for column, ax, label in (
        ("held_out_per_row", left, "held-out log-likelihood a month"),
        ("bic", right, "BIC of all rows (smaller is better)"),
    ):
        by_number = table.groupby("n_states")[column]
        ax.plot(by_number.mean(), color=COLORS[0], marker="o", label="mean")
        ax.vlines(
            by_number.min().index, by_number.min(), by_number.max(), color=COLORS[0], lw=3,
            alpha=0.4, label="range over repeats",
        )  # fmt: skip
        ax.set_xlabel("regimes")
        ax.set_ylabel(label)
        ax.set_xticks(sorted(table["n_states"].unique()))
    plain((left, right))
    repeats = int(table["repeat"].max())
    title(left, f"Expanding windows, {repeats} repeats of the random starts")
    left.legend(frameon=False, loc="lower right")
    return figure


def ingredients_figure(tables: Tables) -> Figure:
    """What the policy loses without each ingredient in simulation."""
    table = tables["ingredients"]
    figure = Figure(figsize=(11.0, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, excess, name in zip(axes, (False, True), ("total returns", EXCESS), strict=True):
        rows = table[table["in_excess_of_bills"] == excess]
        places = np.arange(len(rows))
        for shift, column, color, label in (
            (-0.14, "worth", COLORS[0], "as they are"),
            (
                0.14,
                "worth_within",
                COLORS[1],
                "both moved towards cash until the true limit holds",
            ),
        ):
            scale = PERCENT / (rows["whole"] - 1.0)
            mean, low, high = (scale * rows[f"{column}{end}"] for end in ("", "_low", "_high"))
            _intervals(ax, places + shift, (mean, low, high), color, label)
        ax.axvline(0.0, color="0.3", linewidth=0.8)
        ax.set_yticks(places, [str(i) for i in rows["ingredient"]])
        ax.set_xlabel("worth (% of the gain)")
        title(ax, f"Portfolios: {name}")
    axes[0].set_ylim(len(places) - 0.5, -0.5)
    plain(axes)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


FIGURES: Mapping[str, Callable[[Tables], Figure]] = {
    "convergence": convergence_figure,
    "first_stage": first_stage_figure,
    "frontier": frontier_figure,
    "gap": gap_figure,
    "horizon": horizon_figure,
    "states": states_figure,
    "ingredients": ingredients_figure,
}


def _intervals(
    ax: Axes,
    places: ArrayLike,
    estimates: tuple[pd.Series[float], pd.Series[float], pd.Series[float]],
    color: str,
    label: str,
) -> None:
    """Mean, low and high ends, lying, one row an estimate."""
    mean, low, high = estimates
    ax.errorbar(
        mean, places, xerr=[mean - low, high - mean], fmt="o", ms=4.5, capsize=3,
        color=color, label=label,
    )  # fmt: skip


def _series(
    ax: Axes, rows: pd.DataFrame, y: str, label: str, style: Style, *, minus: float = 0.0
) -> None:
    """A line against the limit with the intervals of its points, in per cent."""
    table = PERCENT * (rows[[y, f"{y}_low", f"{y}_high"]] - minus)
    draw_interval_line(ax, PERCENT * rows["cvar_limit"], table, label, style)


def _horizons(
    ax: Axes, parts: Sequence[tuple[float, pd.DataFrame]], column: str, word: str
) -> None:
    for (value, rows), color, marker in zip(parts, COLORS, MARKERS, strict=False):
        own = rows[rows[column] == value].sort_values(by="horizon")
        table = PERCENT * (own[["wealth", "wealth_low", "wealth_high"]] - 1.0)
        label = f"{word} {PERCENT * value:g} %"
        draw_interval_line(ax, own["horizon"], table, label, Style(color, marker))


def _grouped(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Positions in the order they are stacked, cash first and the rest last, with colors."""
    last = table["number"][table["by"] == "iteration"].max()
    final = table[(table["by"] == "draw") | (table["number"] == last)]
    means = final.groupby("position")["weight"].sum()
    ranked = [str(n) for n in means.sort_values(ascending=False).index if n != "cash"]
    kept = ranked[:LARGEST]
    shown = ["cash", *kept]
    colors = [CASH_COLOR, *(AREA_COLORS[i % len(AREA_COLORS)] for i in range(len(kept)))]
    others = set(table["position"].unique()) - set(shown)
    if others:
        shown.append(f"{len(others)} others")
        colors.append(OTHER_COLOR)
    return shown, colors


def _stack(table: pd.DataFrame, by: str, shown: list[str]) -> pd.DataFrame:
    """Weights by number, one column for each position shown."""
    wide = table[table["by"] == by].pivot(index="number", columns="position", values="weight")
    wide = wide.fillna(0.0)
    named = [name for name in shown if name in wide.columns]
    stacked = wide.reindex(columns=shown, fill_value=0.0)
    if shown[-1].endswith(" others"):
        stacked[shown[-1]] = wide.drop(columns=named).sum(axis=1)
    return stacked


def _decisions(table: pd.DataFrame) -> str:
    return f"{int(table['decisions'].iloc[0])} decisions"
