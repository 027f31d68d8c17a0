"""The figure of the study, from its table of differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.horizon.config import PAPER_HALF_LIFE
from sddp.display.style import styles
from sddp.studies.record import RunFiles


def plot(files: RunFiles) -> None:
    """Draw the figure of a finished run."""
    table = pd.read_csv(files.out / "differences.csv", index_col=0)
    files.write_figure("differences", differences_figure(table))


def differences_figure(table: pd.DataFrame) -> Figure:
    """Multi-stage less each rule of one decision, by setting, with intervals over replicates.

    Right of the line the horizon pays over that rule; the best rule of a setting is filled.
    """
    labels = table.apply(label, axis=1)
    settings = list(dict.fromkeys(labels))
    rules = list(dict.fromkeys(table["less"]))
    looks = styles(rules)
    figure = Figure(figsize=(9.0, 0.55 * len(settings) + 1.4), layout="constrained")
    ax = figure.subplots()
    for k, rule in enumerate(rules):
        own, at = table[table["less"] == rule], labels[table["less"] == rule]
        y = np.array([settings.index(name) for name in at]) + 0.22 * (k - (len(rules) - 1) / 2)
        middle = own["difference"]
        reach = [middle - own["difference_low"], own["difference_high"] - middle]
        look = looks[rule]
        ax.errorbar(middle, y, xerr=reach, fmt="none", ecolor=look.color, capsize=2.5)
        faces = [look.color if best else "white" for best in own["best_rule"]]
        ax.scatter(
            middle,
            y,
            c=faces,
            edgecolors=look.color,
            marker=look.marker,
            zorder=3,
            s=28,
            label=rule,
        )
    ax.axvline(0.0, color="#4D4D4D", linewidth=0.8)
    ax.set_yticks(range(len(settings)), settings)
    ax.invert_yaxis()
    ax.set_xlabel("multi-stage less the rule, points of wealth at the horizon (%)")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8, title="filled: the best rule there", title_fontsize=8)
    return figure


def label(row: pd.Series[Any]) -> str:
    """A setting in words, by what differs from the paper's."""
    parts = [f"cost {100.0 * row['cost']:g} %"]
    if row["half_life"] != PAPER_HALF_LIFE:
        parts.append(f"half-life {row['half_life']:g} months")
    if row["months"]:
        parts.append(f"estimated from {row['months']:g} months")
    if row["start"] != "cash":
        parts.append("invested at first")
    return ", ".join(parts)
