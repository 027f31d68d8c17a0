"""Figures of scenarios, regimes, trainings and policies, on `matplotlib.figure.Figure` itself.

They take arrays and labels; who has them calls these functions in a method ``plot()``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from sddp.arrays import Floats
from sddp.display.fonts import drawable, families, show

BLUE, PALE = "#0072B2", "#BBD7EA"

# More assets than these are not read in one figure.
ASSETS = 16

# Quantiles of the outcomes that a line spans.
LOW, HIGH = 0.05, 0.95


def scenario_figure(
    returns: Floats, probabilities: Floats, assets: Sequence[Hashable], regimes: Sequence[str]
) -> Figure:
    """Returns of a period by asset and regime: from the 5 % to the 95 % quantile, and the mean.

    Parameters
    ----------
    returns : array, shape (n_states, n_scenarios, n_assets)
    probabilities : array, shape (n_states, n_scenarios)
    assets, regimes : sequence
        Labels. The first 16 assets are shown.
    """
    shown = list(assets[:ASSETS])
    step = 0.8 / len(regimes)
    figure, ax = _one_panel(height=1.6 + 0.2 * len(shown) * max(2, len(regimes)))
    for j, color in enumerate(_ramp(len(regimes))):
        rows = np.arange(len(shown)) - 0.4 + step * (j + 0.5)
        weights, values = probabilities[j], returns[j][:, : len(shown)]
        low, high = (_quantiles(values, weights, q) for q in (LOW, HIGH))
        ax.hlines(rows, low, high, color=color, lw=2.0)
        ax.plot(weights @ values, rows, "o", color=color, markersize=4.5, label=regimes[j])
    ax.axvline(0.0, color="black", lw=0.8)
    fonts = families("".join(str(label) for label in shown))
    texts = [drawable(str(label)) for label in shown]
    ax.set_yticks(range(len(shown)), texts, parse_math=False, family=fonts)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_xlabel("return of a period: mean, and 5 % to 95 % of outcomes")
    left_out = f" (the first {ASSETS} of {len(assets)} assets)" if len(assets) > ASSETS else ""
    show(ax.set_title("", loc="left", fontweight="bold"), f"Scenarios by regime{left_out}")
    _legend(figure, ax, regimes)
    return figure


def regime_figure(probabilities: Floats, index: Any) -> Figure:
    """Probabilities of the regimes through time as stacked areas, the calmest at the bottom.

    Parameters
    ----------
    probabilities : array, shape (n, n_states)
    index : sequence of length n, or None
        Dates; row numbers for None.
    """
    index = range(len(probabilities)) if index is None else index
    figure, ax = _one_panel(height=3.6)
    names = [f"regime {k + 1}" for k in range(probabilities.shape[1])]
    ramp = _ramp(len(names))
    ax.stackplot(index, probabilities.T, labels=names, colors=ramp, step="post", lw=0)
    ax.set_ylim(0.0, 1.0)
    ax.margins(x=0.0)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_ylabel("probability")
    ax.set_xlabel("filtered on the rows up to each one")
    show(ax.set_title("", loc="left", fontweight="bold"), "Regimes")
    _legend(figure, ax, names, stacked=True)
    return figure


def wealth_figure(wealth: Floats, bound: float) -> Figure:
    """Simulated wealth by stage: mean, and where 50 % and 90 % of the paths lie.

    Parameters
    ----------
    wealth : array, shape (n_paths, n_stages + 1)
        On arrival at each stage; the last column is terminal wealth.
    bound : float
        On the mean of terminal wealth.
    """
    figure, ax = _one_panel()
    stages = np.arange(wealth.shape[1])
    for low, high, alpha in ((0.05, 0.95, 0.25), (0.25, 0.75, 0.45)):
        band = np.quantile(wealth, [low, high], axis=0)
        text = f"{high - low:.0%} of the paths"
        ax.fill_between(stages, band[0], band[1], color=BLUE, alpha=alpha, lw=0, label=text)
    ax.plot(stages, wealth.mean(axis=0), color=BLUE, lw=1.8, label="mean")
    ax.plot(stages[-1], bound, "v", color="black", label="upper bound on the mean")
    ax.set_xlabel(f"stage ({len(wealth)} paths, in sample)")
    ax.set_ylabel("wealth (money)")
    ax.margins(x=0.02)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    show(ax.set_title("", loc="left", fontweight="bold"), "Wealth under the policy")
    return figure


def value_lines_figure(shares: Floats, values: Mapping[str, Floats], asset: Hashable) -> Figure:
    """Value function along one asset, by regime.

    Parameters
    ----------
    shares : array, shape (n,)
        Of wealth held in the asset on arrival, the rest in cash.
    values : mapping from regime to array, shape (n,)
        Expected terminal wealth per unit of wealth; NaN where no decision is feasible.
    asset : hashable
    """
    figure, ax = _one_panel()
    for color, (name, line) in zip(_ramp(len(values)), values.items(), strict=True):
        ax.plot(shares, line, color=color, lw=1.8, label=name)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    show(ax.xaxis.label, f"share of wealth in {asset!s} on arrival, the rest in cash")
    ax.set_ylabel("expected terminal wealth\nper unit of wealth")
    ax.ticklabel_format(axis="y", useOffset=False)
    show(ax.set_title("", loc="left", fontweight="bold"), "Value function")
    _legend(figure, ax, list(values))
    return figure


def value_map_figure(
    shares: Floats, values: Floats, assets: Sequence[Hashable], regime: str
) -> Figure:
    """Value function over two assets, in one regime.

    Parameters
    ----------
    shares : array, shape (n,)
        Of wealth held in either asset on arrival, the rest in cash.
    values : array, shape (n, n)
        By share of the second and of the first asset; NaN where they exceed wealth or no decision
        is feasible.
    assets : sequence of two labels
    regime : str
    """
    figure, ax = _one_panel()
    areas = ax.contourf(shares, shares, np.ma.masked_invalid(values), levels=12, cmap="viridis")
    bar = figure.colorbar(areas, ax=ax, format="%.5g")
    bar.set_label("expected terminal wealth per unit of wealth")
    for axis, asset in ((ax.xaxis, assets[0]), (ax.yaxis, assets[1])):
        axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        show(axis.label, f"share in {asset!s} on arrival")
    title = f"Value function, regime {regime} (the rest in cash)"
    show(ax.set_title("", loc="left", fontweight="bold"), title)
    return figure


def _one_panel(height: float = 4.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, height), layout="constrained")
    ax = figure.subplots()
    ax.grid(visible=True, color="0.9", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    return figure, ax


def _ramp(n: int) -> list[Any]:
    """Colors from the calmest to the wildest regime, as in the figures of a backtest."""
    return list(colormaps["viridis_r"](np.linspace(0.15, 0.9, n)))


def _legend(figure: Figure, ax: Axes, names: Sequence[str], *, stacked: bool = False) -> None:
    handles, _ = ax.get_legend_handles_labels()
    order = slice(None, None, -1 if stacked else 1)
    box = figure.legend(
        handles[order], list(names)[order], loc="outside right upper", frameon=False
    )
    for text, name in zip(box.get_texts(), list(names)[order], strict=True):
        show(text, name)


def _quantiles(values: Floats, weights: Floats, level: float) -> Floats:
    """Weighted quantile of each column: the least value with at least so much weight up to it."""
    order = np.argsort(values, axis=0, kind="stable")
    cumulated = np.cumsum(weights[order], axis=0)
    rows = np.argmax(cumulated >= level - 1e-12, axis=0)
    found: Floats = np.take_along_axis(values, order, axis=0)[rows, np.arange(values.shape[1])]
    return found
