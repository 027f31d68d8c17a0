"""Figures of simulated outcomes, stress and markets, on `matplotlib.figure.Figure` itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from sddp.arrays import Floats
from sddp.display.fonts import show
from sddp.display.style import COLORS, MARKERS

BANDS = ((0.01, 0.99), (0.05, 0.95), (0.25, 0.75))
# Relative distance of lines that share coordinates on a logarithmic axis.
APART = 0.025
BAND_COLORS = ("#D6E6F2", "#9CC5E0", "#5B9FCB")


def tornado_figure(losses: pd.Series[float], *, base: float, label: str) -> Figure:
    """Bars of a figure under each shock around its value without one, the longest on top.

    Parameters
    ----------
    losses : Series by shock
    base : float
        Value without a shock.
    label : str
        Of the axis.
    """
    order = losses.iloc[np.argsort(np.abs(losses.to_numpy() - base), kind="stable")]
    figure = Figure(figsize=(9.0, 1.2 + 0.42 * len(order)), layout="constrained")
    ax = figure.subplots()
    rows, values = np.arange(len(order)), order.to_numpy()
    colors = [COLORS[1] if value > base else COLORS[2] for value in values]
    ax.barh(rows, values - base, left=base, color=colors, height=0.66)
    for row, value in zip(rows, values, strict=True):
        side = "left" if value >= base else "right"
        ax.annotate(
            f"{100.0 * value:.1f} %",
            (value, row),
            xytext=(4 if value >= base else -4, 0),
            textcoords="offset points",
            va="center",
            ha=side,
            fontsize="small",
        )
    ax.axvline(base, color="black", lw=1.0)
    ax.set_yticks(rows, [str(name) for name in order.index], parse_math=False)
    ax.margins(x=0.12)
    ax.tick_params(axis="y", length=0)
    _percent(ax, "x")
    _plain(ax, grid="x")
    ax.set_xlabel(f"{label}; the line is without a shock, {100.0 * base:.1f} %")
    return figure


def distribution_figure(
    returns: Mapping[str, Floats], marks: Mapping[str, Mapping[str, tuple[float, float]]]
) -> Figure:
    """Histograms of returns, one panel each, with marked returns and their standard errors.

    Parameters
    ----------
    returns : mapping of str to array
    marks : mapping of str to mapping
        By panel and label: the return to mark, and its standard error.
    """
    n = len(returns)
    figure = Figure(figsize=(9.0, 0.9 + 2.3 * n), layout="constrained")
    axes = figure.subplots(n, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    low = min(float(np.quantile(r, 0.0005)) for r in returns.values())
    high = max(float(np.quantile(r, 0.9995)) for r in returns.values())
    bins = np.linspace(low, high, 90)
    for ax, (name, sample) in zip(axes, returns.items(), strict=True):
        weights = np.full(len(sample), 1.0 / len(sample))
        ax.hist(sample, bins=bins, weights=weights, color="#BBD7EA")
        _plain(ax, grid=None)
        for k, (label, (value, error)) in enumerate(marks[name].items()):
            color = COLORS[1 + k % (len(COLORS) - 1)]
            ax.axvspan(value - 1.96 * error, value + 1.96 * error, color=color, alpha=0.35, lw=0)
            text = f"{label}: {100.0 * value:.2f} % (± {196.0 * error:.2f})"
            ax.axvline(value, color=color, lw=1.4, label=text)
        show(ax.set_title("", loc="left", fontsize="medium"), name)
        ax.legend(frameon=False, fontsize="small", loc="upper right")
        _percent(ax, "y")
        ax.set_ylabel("share of scenarios")
    _percent(axes[-1], "x")
    axes[-1].set_xlabel("return over the horizon; bands are 95 % intervals of the marked figures")
    return figure


def wealth_quantiles(paths: Floats) -> pd.DataFrame:
    """Quantiles of wealth by period, as `fan_figure` draws them.

    Parameters
    ----------
    paths : array, shape (n_scenarios, n_periods + 1)

    Returns
    -------
    DataFrame
        One row a period, one column a level.
    """
    levels = sorted({0.5, *(level for band in BANDS for level in band)})
    return pd.DataFrame(np.quantile(paths, levels, axis=0).T, columns=levels)


def fan_figure(quantiles: pd.DataFrame, *, period: str, title: str = "") -> Figure:
    """Quantiles of wealth through time.

    Parameters
    ----------
    quantiles : DataFrame
        Of `wealth_quantiles`.
    period : str
        What a period is called.
    title : str
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    ax = figure.subplots()
    time, by_level = (
        quantiles.index.to_numpy(),
        quantiles.set_axis(quantiles.columns.astype(float), axis=1),
    )
    for (low, high), color in zip(BANDS, BAND_COLORS, strict=True):
        name = f"{100 * low:g} % to {100 * high:g} %"
        ax.fill_between(time, by_level[low], by_level[high], color=color, lw=0, label=name)
    ax.plot(time, by_level[0.5], color="black", lw=1.4, label="median")
    ax.axhline(float(by_level[0.5].iloc[0]), color="black", lw=0.7, ls=":")
    ax.set_xlim(0, time[-1])
    _plain(ax, grid="y")
    ax.set_xlabel(period)
    ax.set_ylabel("wealth, 1 at first")
    show(ax.set_title("", loc="left", fontsize="medium"), title)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def lines_figure(
    lines: Mapping[str, pd.DataFrame],
    *,
    x: str,
    y: str,
    title: str = "",
    log_x: bool = False,
    percent: bool = True,
    known: Mapping[str, float] | None = None,
) -> Figure:
    """Lines with their 95 % intervals.

    Parameters
    ----------
    lines : mapping of str to DataFrame
        Index: the horizontal coordinate; columns ``value`` and, where it is known,
        ``standard_error``.
    x, y : str
        Labels of the axes.
    title : str
    log_x, percent : bool
        Logarithmic horizontal axis (linear below 1 where 0 is on it), marked at the lines' own
        coordinates; vertical axis in percent.
    known : mapping of str to float, optional
        Horizontal lines.
    """
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    ax = figure.subplots()
    for k, (name, table) in enumerate(lines.items()):
        color, at = COLORS[k % len(COLORS)], table.index.to_numpy(dtype=float)
        value = table["value"].to_numpy(dtype=float)
        if log_x and len(lines) > 1:  # intervals stand beside each other
            at = at * (1.0 + APART * (k - (len(lines) - 1) / 2.0))
        if "standard_error" in table:
            reach = 1.96 * table["standard_error"].to_numpy(dtype=float)
            ax.errorbar(at, value, reach, fmt="none", ecolor=color, elinewidth=0.9, capsize=2.5)
        marker = MARKERS[k % len(MARKERS)]
        ax.plot(at, value, color=color, marker=marker, ms=4.0, lw=1.3, label=name)
    for k, (name, level) in enumerate((known or {}).items()):
        ax.axhline(level, color="black", lw=1.0, ls=(":", "--", "-.")[k % 3], label=name)
    if log_x:
        ticks = sorted({float(at) for table in lines.values() for at in table.index})
        ax.set_xscale("symlog" if ticks and ticks[0] == 0.0 else "log")
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.xaxis.minorticks_off()
    if percent:
        _percent(ax, "y")
    _plain(ax, grid="y")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    show(ax.set_title("", loc="left", fontsize="medium"), title)
    if len(lines) > 1 or known:
        ax.legend(frameon=False, fontsize="small")
    return figure


def _percent(ax: Axes, which: str) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100.0 * value, 6):g} %"))


def _plain(ax: Axes, *, grid: Literal["x", "y"] | None) -> None:
    """No frame; lines behind the data to read values by."""
    ax.spines[["top", "right"]].set_visible(False)
    if grid is not None:
        ax.grid(axis=grid, color="#E6E6E6", lw=0.6)
        ax.set_axisbelow(True)
