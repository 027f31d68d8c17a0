"""Figures of a backtest, on `matplotlib.figure.Figure` itself: pyplot's state is never touched."""

from __future__ import annotations

from itertools import product

import matplotlib.dates as mdates
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from sddp.backtest import metrics
from sddp.backtest.market import CASH

# Okabe and Ito's colours stay apart for colour-blind readers; yellow is too pale for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", ":")
AREA_COLOURS = (*COLOURS[:6], "#F0E442", "#7B5EA7", "#8C564B", "#A6D854", "#1B4F72", "#F4A6A6")
CASH_COLOUR, OTHER_COLOUR = "#E4E4E4", "#9A9A9A"

# Below this ratio of highest to lowest level a log axis holds too few powers of ten to read.
NARROW = 8.0


def wealth_figure(wealth: pd.DataFrame, timing: str) -> Figure:
    """Wealth on a log scale, and below it the fall from the running maximum.

    Parameters
    ----------
    wealth : DataFrame, shape (n_rows, n_strategies)
        Money.
    timing : str
        How decisions were executed, written under the axis.
    """
    figure, (top, bottom) = _panels((2.2, 1.0))
    for ax, table in ((top, wealth), (bottom, wealth.apply(metrics.drawdowns))):
        _lines(ax, table, wealth)
    top.set_ylabel(f"wealth (from {_money(float(wealth.to_numpy()[0, 0]))}, log scale)")
    _log_scale(top, wealth)
    bottom.set_ylabel("drawdown")
    _percent(bottom)
    _finish(figure, (top, bottom), "Wealth and drawdown", timing)
    return figure


def trailing_figure(wealth: pd.DataFrame, months: int, timing: str) -> Figure:
    """Return over the trailing `months`; `wealth` is money, shape (n_rows, n_strategies)."""
    figure, (ax,) = _panels((1.0,))
    _lines(ax, metrics.trailing_return(wealth, months=months), wealth)
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set_ylabel(f"return over {months} months")
    _percent(ax)
    _finish(figure, (ax,), f"Trailing {months}-month return", timing)
    return figure


def trading_figure(turnover: pd.DataFrame, costs: pd.DataFrame, timing: str) -> Figure:
    """Cumulative turnover, and below it cumulative costs.

    Parameters
    ----------
    turnover, costs : DataFrame, shape (n_rows, n_strategies)
        Purchases plus sales, and costs, at each row as fractions of wealth.
    timing : str
        How decisions were executed, written under the axis.
    """
    figure, (top, bottom) = _panels((1.0, 1.0))
    _lines(top, turnover.cumsum(), turnover.cumsum())
    _lines(bottom, costs.cumsum(), turnover.cumsum())
    top.set_ylabel("turnover so far\n(multiples of wealth)")
    bottom.set_ylabel("costs so far\n(% of wealth)")
    _percent(bottom)
    _finish(figure, (top, bottom), "Turnover (purchases plus sales) and costs", timing)
    return figure


def allocation_figure(weights: pd.DataFrame, name: str, largest: int) -> Figure:
    """Stacked areas of the weights after trading.

    Parameters
    ----------
    weights : DataFrame, shape (n_rows, 1 + n_assets)
        Fractions of wealth, one column named ``cash``.
    name : str
        The strategy, for the title.
    largest : int
        Number of assets shown by themselves: those of the largest mean weight, in the order of
        the columns. The others are one area.
    """
    shown, colours = _areas(weights, largest)
    figure, (ax,) = _panels((1.0,))
    # A weight holds from its row to the next one; the last row has no trade and no next one.
    names = [str(name) for name in shown.columns]
    ax.stackplot(shown.index, shown.to_numpy().T, labels=names, colors=colours, step="post", lw=0)
    ax.set_ylim(0.0, 1.0)
    ax.set_ylabel("share of wealth")
    _percent(ax)
    _finish(figure, (ax,), f"Allocation: {name}", "weights after each row's trades", reverse=True)
    return figure


def regime_figure(beliefs: pd.DataFrame, level: pd.Series[float], name: str) -> Figure:
    """Filtered regime probabilities as stacked areas, and the market above them.

    Parameters
    ----------
    beliefs : DataFrame, shape (n_decisions, n_regimes)
        Probabilities known at each decision, calmest regime first.
    level : Series
        Of the market, per row.
    name : str
        What `level` is.
    """
    figure, (top, bottom) = _panels((1.4, 1.0))
    top.plot(level.index, level, color="black", linewidth=1.1)
    top.set_ylabel(f"{name}\n(start = {level.iloc[0]:.3g}, log scale)")
    _log_scale(top, level.to_frame())
    ramp = colormaps["viridis_r"](np.linspace(0.1, 0.9, beliefs.shape[1]))
    names = [str(column) for column in beliefs.columns]
    names[0], names[-1] = f"{names[0]} (calmest)", f"{names[-1]} (wildest)"
    bottom.stackplot(
        beliefs.index, beliefs.to_numpy().T, labels=names, colors=ramp, step="post", lw=0
    )
    bottom.set_ylim(0.0, 1.0)
    bottom.set_ylabel("probability")
    _percent(bottom)
    note = (
        "filtered on data up to each decision; regimes are estimated anew with each training, "
        "so a number means its rank by volatility then"
    )
    _finish(figure, (bottom, top), "", note, reverse=True)
    top.set_title("Market and regimes", loc="left", fontweight="bold")
    return figure


def _panels(heights: tuple[float, ...]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(10.0, 6.4 if len(heights) > 1 else 4.8), layout="constrained")
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes: list[Axes] = []
    for row in range(len(heights)):
        axes.append(figure.add_subplot(grid[row], sharex=axes[0] if axes else None))
    return figure, axes


def _lines(ax: Axes, table: pd.DataFrame, ranking: pd.DataFrame) -> None:
    """One line per column, drawn and listed from the highest final `ranking` to the lowest."""
    styles = [(colour, dash) for dash, colour in product(DASHES, COLOURS)]
    style = {name: styles[i % len(styles)] for i, name in enumerate(table.columns)}
    for name in ranking.iloc[-1].sort_values(ascending=False, kind="stable").index:
        colour, dash = style[name]
        ax.plot(table.index, table[name], color=colour, linestyle=dash, lw=1.1, label=str(name))


def _areas(weights: pd.DataFrame, largest: int) -> tuple[pd.DataFrame, list[str]]:
    """Columns to stack, cash first and the others last, with their colours."""
    assets = weights.drop(columns=CASH)
    ranked = assets.mean().sort_values(ascending=False, kind="stable").index
    # One asset alone is named rather than called "other".
    kept = ranked[:largest] if len(ranked) > largest + 1 else ranked
    single = assets.loc[:, assets.columns.isin(kept)]
    shown = pd.concat([weights[[CASH]], single], axis=1)
    colours = [CASH_COLOUR, *(AREA_COLOURS[i % len(AREA_COLOURS)] for i in range(len(kept)))]
    rest = assets.drop(columns=kept)
    if rest.shape[1]:
        shown[f"other ({rest.shape[1]})"] = rest.sum(axis=1)
        colours.append(OTHER_COLOUR)
    return shown, colours


def _log_scale(ax: Axes, wealth: pd.DataFrame) -> None:
    ax.set_yscale("log")
    wide = float(wealth.to_numpy().max() / wealth.to_numpy().min()) > NARROW
    locator = (
        LogLocator(subs=(1.0, 2.0, 5.0)) if wide else MaxNLocator(nbins=7, steps=[1, 2, 5, 10])
    )
    ax.yaxis.set_major_locator(locator)
    ax.yaxis.set_major_formatter(FuncFormatter(_money))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _money(amount: float, _: int = 0) -> str:
    return f"{amount:,.10g}"


def _percent_text(fraction: float, _: int) -> str:
    return f"{100.0 * fraction:.6g} %"


def _percent(ax: Axes) -> None:
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.yaxis.set_major_formatter(FuncFormatter(_percent_text))


def _finish(
    figure: Figure, axes: tuple[Axes, ...], title: str, note: str, *, reverse: bool = False
) -> None:
    """Dates, grid, title and one legend beside the axes."""
    for ax in axes:
        ax.grid(visible=True, color="0.88", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.margins(x=0.0)
        ax.spines[["top", "right"]].set_visible(False)
        ax.label_outer()
    locator = mdates.AutoDateLocator()  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_locator(locator)
    formatter = mdates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes[-1].xaxis.set_major_formatter(formatter)
    axes[0].set_title(title, loc="left", fontweight="bold")
    figure.supxlabel(note, fontsize="small", color="0.35")
    handles, labels = axes[0].get_legend_handles_labels()
    order = slice(None, None, -1) if reverse else slice(None)
    figure.legend(
        handles[order], labels[order], loc="outside right upper", frameon=False, fontsize="small"
    )
