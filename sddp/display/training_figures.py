"""Figures of a training: its bound, and the distribution of terminal wealth."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sddp.arrays import Floats
from sddp.risk import weighted_cvar

BLUE, RED = "#0072B2", "#D55E00"


def bound_figure(
    log: pd.DataFrame, *, known: float | None = None, initial_wealth: float | None = None
) -> Figure:
    """Bound on the optimal value by iteration, and how far it still moved.

    Parameters
    ----------
    log : DataFrame
        Of a training result; index iteration, columns ``bound`` and ``seconds``.
    known : float, optional
        A value that is known to be attained, such as the inner bound of a certificate.
    initial_wealth : float, optional
        Money; values are then money too, and shown as growth over it.
    """
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    size = 1.0 if initial_wealth is None else initial_wealth
    less = 0.0 if initial_wealth is None else 1.0
    values = log["bound"] / size - less
    left.plot(log.index, values, color=BLUE, marker="o", markersize=3.0, lw=1.2, label="bound")
    if known is not None:
        attained = known / size - less
        left.axhline(attained, color="black", linestyle=":", lw=1.2, label="known to be attained")
        left.legend(frameon=False, fontsize="small")
    moved = values.diff().abs().iloc[1:]
    shown = moved[moved > 0.0]
    right.semilogy(shown.index, shown, color=BLUE, marker="o", markersize=3.0, lw=0.8)
    if initial_wealth is None:
        left.ticklabel_format(axis="y", useOffset=False)
        left.set_ylabel("bound on the optimal value")
        right.set_ylabel("move of the bound in the iteration")
    else:
        left.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        left.set_ylabel("upper bound on expected growth")
        right.set_ylabel("move of the bound in the iteration\n(fraction of initial wealth)")
    left.set_title("Bound by iteration", loc="left", fontweight="bold")
    right.set_title(f"{len(log)} iterations in {log['seconds'].iloc[-1]:.1f} s", loc="left")
    for ax in (left, right):
        ax.set_xlabel("iteration")
        _plain(ax)
    return figure


def terminal_wealth_figure(
    wealth: Floats, initial_wealth: float, bound: float, confidence: float, horizon: str
) -> Figure:
    """Distribution of simulated terminal wealth, with its mean, CVaR and the bound.

    Parameters
    ----------
    wealth : array, shape (n_paths,)
        Money at the end of each path.
    initial_wealth, bound : float
        Money.
    confidence : float
        0.9 marks the mean of the worst 10 % of outcomes.
    horizon : str
        For the axis, such as ``"12 weeks"``.
    """
    growth = np.asarray(wealth) / initial_wealth - 1.0
    tail_mean = -weighted_cvar(-growth, confidence=confidence)
    error = growth.std(ddof=1) / np.sqrt(len(growth))
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    ax = figure.subplots()
    bins = np.linspace(growth.min(), growth.max(), 41)
    ax.hist(growth, bins=bins.tolist(), color="#BBD7EA", edgecolor="white", linewidth=0.5)
    lines = (
        (growth.mean(), BLUE, "-", f"mean {growth.mean():.2%} (standard error {error:.2%})"),
        (tail_mean, RED, "--", f"mean of the worst {1.0 - confidence:.0%}: {tail_mean:.2%}"),
        (
            bound / initial_wealth - 1.0,
            "black",
            ":",
            f"upper bound on the mean {bound / initial_wealth - 1.0:.2%}",
        ),
    )
    for position, color, style, label in lines:
        ax.axvline(position, color=color, linestyle=style, linewidth=1.6, label=label)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.set_xlabel(f"growth of wealth over {horizon}, in the model (in sample)")
    ax.set_ylabel(f"paths (of {len(growth)})")
    ax.set_title("Terminal wealth under the policy", loc="left", fontweight="bold")
    ax.legend(frameon=False, fontsize="small")
    _plain(ax)
    return figure


def _plain(ax: Axes) -> None:
    ax.grid(visible=True, color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
