"""Figures of simulated outcomes, stress and markets, on `matplotlib.figure.Figure` itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sddp.arrays import Floats
from sddp.display.fonts import show
from sddp.display.style import COLORS, MARKERS

BANDS = ((0.01, 0.99), (0.05, 0.95), (0.25, 0.75))


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
    _percent(ax, "x")
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
    axes = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    low = min(float(np.quantile(r, 0.0005)) for r in returns.values())
    high = max(float(np.quantile(r, 0.9995)) for r in returns.values())
    bins = np.linspace(low, high, 90)
    for ax, (name, sample) in zip(axes, returns.items(), strict=True):
        weights = np.full(len(sample), 1.0 / len(sample))
        ax.hist(sample, bins=bins, weights=weights, color="#BBD7EA")
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


def fan_figure(paths: Floats, *, period: str) -> Figure:
    """Quantiles of wealth through time.

    Parameters
    ----------
    paths : array, shape (n_scenarios, n_periods + 1)
    period : str
        What a period is called.
    """
    figure = Figure(figsize=(9.0, 4.6), layout="constrained")
    ax = figure.subplots()
    time = np.arange(paths.shape[1])
    for k, (low, high) in enumerate(BANDS):
        edges = np.quantile(paths, [low, high], axis=0)
        name = f"{100 * low:g} % to {100 * high:g} %"
        ax.fill_between(time, *edges, color=COLORS[0], alpha=0.18 + 0.12 * k, lw=0, label=name)
    ax.plot(time, np.median(paths, axis=0), color="black", lw=1.4, label="median")
    ax.axhline(float(paths[:, 0].mean()), color="black", lw=0.7, ls=":")
    ax.set_xlim(0, time[-1])
    ax.set_xlabel(period)
    ax.set_ylabel("wealth")
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def lines_figure(
    lines: Mapping[str, pd.DataFrame],
    *,
    x: str,
    y: str,
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
    log_x, percent : bool
        Logarithmic horizontal axis (linear below 1 where 0 is on it); vertical axis in percent.
    known : mapping of str to float, optional
        Horizontal lines.
    """
    figure = Figure(figsize=(9.0, 4.8), layout="constrained")
    ax = figure.subplots()
    for k, (name, table) in enumerate(lines.items()):
        color, at = COLORS[k % len(COLORS)], table.index.to_numpy(dtype=float)
        value = table["value"].to_numpy(dtype=float)
        marker = MARKERS[k % len(MARKERS)]
        ax.plot(at, value, color=color, marker=marker, ms=4.0, lw=1.3, label=name)
        if "standard_error" in table:
            reach = 1.96 * table["standard_error"].to_numpy(dtype=float)
            ax.fill_between(at, value - reach, value + reach, color=color, alpha=0.18, lw=0)
    for k, (name, level) in enumerate((known or {}).items()):
        ax.axhline(level, color="black", lw=1.0, ls=(":", "--", "-.")[k % 3], label=name)
    if log_x:
        ax.set_xscale("symlog" if any(t.index.min() == 0 for t in lines.values()) else "log")
    if percent:
        _percent(ax, "y")
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.legend(frameon=False, fontsize="small")
    return figure


def _percent(ax: Axes, which: str) -> None:
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
