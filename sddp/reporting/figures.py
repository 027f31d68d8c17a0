"""Figures of a backtest, on `matplotlib.figure.Figure` itself: pyplot's state is never touched."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import TICKUP
from matplotlib.patches import Patch

from sddp.display.fonts import drawable, families, show
from sddp.display.style import featured_styles
from sddp.evaluation import metrics
from sddp.reporting import figure_parts as parts
from sddp.reporting.figure_parts import Entry

# No strategy earns such a ratio over a year; one that holds next to nothing but cash shows any.
LARGEST_SHARPE = 10.0

FORECAST, REALIZED, LIMIT = "#0072B2", "#D55E00", "black"


def wealth_figure(
    wealth: pd.DataFrame, timing: str, featured: Sequence[str] | None = None
) -> Figure:
    """Wealth on a log scale, and below it the fall from the running maximum.

    Parameters
    ----------
    wealth : DataFrame, shape (n_rows, n_strategies)
        Money.
    timing : str
        How decisions were executed, written under the axis.
    featured : sequence of str, optional
        Strategies in color, the others gray; default: all in color.
    """
    figure, (top, bottom) = parts.panels((2.2, 1.0))
    ranking = wealth.iloc[-1]
    entries = parts.draw_lines(top, wealth, ranking, featured)
    parts.draw_lines(bottom, wealth.apply(metrics.drawdowns), ranking, featured)
    top.set_ylabel(f"wealth (from {parts.money(float(wealth.to_numpy()[0, 0]))}, log scale)")
    parts.log_scale(top, wealth)
    bottom.set_ylabel("drawdown")
    parts.percent(bottom)
    parts.title(top, "Wealth and drawdown")
    parts.finish(figure, (top, bottom), timing, entries)
    return figure


def trailing_figure(
    wealth: pd.DataFrame, months: int, timing: str, featured: Sequence[str] | None = None
) -> Figure:
    """Return over the trailing `months`; `wealth` is money, shape (n_rows, n_strategies)."""
    figure, (ax,) = parts.panels((1.0,))
    trailing = metrics.trailing_return(wealth, months=months)
    entries = parts.draw_lines(ax, trailing, wealth.iloc[-1], featured)
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set_ylabel(f"return over {months} months")
    parts.percent(ax)
    parts.title(ax, f"Trailing {months}-month return")
    parts.finish(figure, (ax,), timing, entries)
    return figure


def rolling_figure(
    sharpe: pd.DataFrame,
    volatility: pd.DataFrame,
    months: int,
    timing: str,
    featured: Sequence[str] | None = None,
) -> Figure:
    """Sharpe ratio over the trailing `months`, and below it volatility.

    Parameters
    ----------
    sharpe, volatility : DataFrame, shape (n_rows, n_strategies)
        Annualized; at each row of the window that ends there. NaN draws nothing, and the axis
        ends at Sharpe ratios of 10 and -10.
    months : int
        Length of the window, for the labels.
    timing : str
        How decisions were executed, written under the axis.
    featured : sequence of str, optional
        As in `wealth_figure`.
    """
    figure, (top, bottom) = parts.panels((1.0, 1.0))
    ranking = volatility.iloc[-1]
    entries = parts.draw_lines(top, sharpe, ranking, featured)
    parts.draw_lines(bottom, volatility, ranking, featured)
    top.axhline(0.0, color="black", linewidth=0.8)
    low, high = top.get_ylim()
    top.set_ylim(max(low, -LARGEST_SHARPE), min(high, LARGEST_SHARPE))
    top.set_ylabel("Sharpe ratio")
    bottom.set_ylabel("volatility (a year)")
    bottom.set_ylim(bottom=0.0)
    parts.percent(bottom)
    parts.title(top, f"Sharpe ratio and volatility over the trailing {months} months")
    parts.finish(figure, (top, bottom), timing, entries)
    return figure


def trading_figure(
    turnover: pd.DataFrame,
    costs: pd.DataFrame,
    timing: str,
    featured: Sequence[str] | None = None,
) -> Figure:
    """Cumulative turnover, and below it cumulative costs.

    Parameters
    ----------
    turnover, costs : DataFrame, shape (n_rows, n_strategies)
        Purchases plus sales, and costs, at each row as fractions of wealth.
    timing : str
        How decisions were executed, written under the axis.
    featured : sequence of str, optional
        As in `wealth_figure`.
    """
    figure, (top, bottom) = parts.panels((1.0, 1.0))
    ranking = turnover.sum()
    entries = parts.draw_lines(top, turnover.cumsum(), ranking, featured)
    parts.draw_lines(bottom, costs.cumsum(), ranking, featured)
    top.set_ylabel("turnover so far\n(multiples of wealth)")
    bottom.set_ylabel("costs so far\n(% of wealth)")
    parts.percent(bottom)
    parts.title(top, "Turnover (purchases plus sales) and costs")
    parts.finish(figure, (top, bottom), timing, entries)
    return figure


def allocation_figure(weights: Mapping[str, pd.DataFrame], largest: int = 9) -> Figure:
    """Stacked areas of the weights after trading, one panel for each strategy.

    Parameters
    ----------
    weights : mapping of str to DataFrame, shape (n_rows, 1 + n_assets)
        Fractions of wealth by strategy, of the same positions, cash first.
    largest : int
        Number of assets shown by themselves: those of the largest mean weight in any strategy, in
        the order of the columns. The others are one area.
    """
    tables, colors = parts.asset_areas(weights, largest)
    figure, axes = parts.small_multiples(len(tables), height=1.9, sharey=True)
    entries: list[Entry] = []
    for ax, (name, table) in zip(axes, tables.items(), strict=True):
        entries = parts.draw_areas(ax, table, colors)
        parts.outer_label(ax, "share of wealth")
        _panel_title(ax, str(name) if len(tables) > 1 else f"Allocation: {name}", len(tables))
    # A weight holds from its row to the next one; the last row has no trade and no next one.
    parts.finish(figure, axes, "weights after each row's trades", entries)
    return figure


def regime_figure(beliefs: pd.DataFrame, level: pd.Series[float] | None, name: str) -> Figure:
    """Filtered regime probabilities as stacked areas, and the market above them.

    Parameters
    ----------
    beliefs : DataFrame, shape (n_decisions, n_regimes)
        Probabilities known at each decision, calmest regime first.
    level : Series or None
        Of the market, per row; None leaves the upper panel out.
    name : str
        What `level` is.
    """
    figure, axes = parts.panels((1.4, 1.0) if level is not None else (1.0,))
    if level is not None:
        axes[0].plot(level.index, level, color="black", linewidth=1.1)
        start = f"(from {parts.money(level.iloc[0])}, log scale)"
        label = textwrap.fill(name, parts.LABEL_WIDTH)
        show(axes[0].yaxis.label, f"{label}\n{start}")
        parts.log_scale(axes[0], level.to_frame())
    ramp = list(colormaps["viridis_r"](np.linspace(0.1, 0.9, beliefs.shape[1])))
    names = [str(column) for column in beliefs.columns]
    if len(names) > 1:
        names[0], names[-1] = f"{names[0]} (calmest)", f"{names[-1]} (wildest)"
    entries = parts.draw_areas(axes[-1], beliefs.set_axis(names, axis=1), ramp)
    axes[-1].set_ylabel("probability")
    parts.title(axes[0], "Regimes" if level is None else "Market and regimes")
    note = (
        "filtered on data up to each decision; regimes are estimated anew with each training, "
        "so a number means its rank by volatility then"
    )
    parts.finish(figure, axes, note, entries)
    return figure


def tail_figure(tails: Mapping[str, pd.DataFrame], window: int) -> Figure:
    """One-period CVaR forecast by the model and realized, against the limit, through time.

    Parameters
    ----------
    tails : mapping of str to DataFrame, shape (n_decisions, 4)
        By strategy, at each decision, fractions of wealth: ``model_cvar``; ``cvar_limit`` (NaN
        where there is none); ``realized_cvar``, of the periods that ended by then (NaN before
        there are enough of them); ``violated``, whether the loss of the decision's own period
        was above the model's VaR.
    window : int
        Number of periods that a realized CVaR looks back on.
    """
    # Each is read against its own limit, and limits differ.
    figure, axes = parts.small_multiples(len(tails), height=1.9, sharey=False)
    for ax, (name, table) in zip(axes, tails.items(), strict=True):
        _draw_tail(ax, table)
        _panel_title(ax, name, len(tails))
    entries: list[Entry] = [
        (Patch(color=FORECAST), "model's CVaR of the decision"),
        (Patch(color=REALIZED), f"realized CVaR, last {window} periods"),
        (axes[0].plot([], [], color=LIMIT, linestyle="--")[0], "limit"),
        (
            axes[0].plot([], [], color=REALIZED, marker="|", linestyle="none")[0],
            "period's loss above the model's VaR",
        ),
    ]
    parts.finish(figure, axes, "share of wealth lost in one period of the model", entries)
    return figure


def _draw_tail(ax: Axes, table: pd.DataFrame) -> None:
    ax.step(table.index, table["model_cvar"], where="post", color=FORECAST, lw=0.8)
    ax.plot(table.index, table["realized_cvar"], color=REALIZED, lw=1.3)
    ax.step(table.index, table["cvar_limit"], where="post", color=LIMIT, linestyle="--", lw=1.0)
    violations = table.index[table["violated"]]
    # On the axis itself: when it happened, not how much.
    ax.plot(
        violations,
        np.zeros(len(violations)),
        color=REALIZED,
        marker=TICKUP,
        markersize=6.0,
        markeredgewidth=0.6,
        linestyle="none",
        transform=ax.get_xaxis_transform(),
    )
    parts.outer_label(ax, "one-period CVaR")
    ax.set_ylim(bottom=min(0.0, ax.get_ylim()[0]))
    parts.percent(ax)


def risk_forecast_figure(table: pd.DataFrame, featured: Sequence[str] | None = None) -> Figure:
    """Mean one-period CVaR of the model's decisions and realized CVaR, by strategy.

    Parameters
    ----------
    table : DataFrame, shape (n_strategies, n_columns)
        Index strategy; fractions of wealth: ``model_cvar``, ``realized_cvar``, ``cvar_limit``
        (NaN where there is none), and where they are known ``low`` and ``high`` of the realized
        CVaR's interval.
    featured : sequence of str, optional
        As in `wealth_figure`; default: all realized CVaRs in one color.
    """
    figure, ax, rows = _by_strategy(table.index)
    colors = _colors(table.index, featured, REALIZED)
    if {"low", "high"} <= set(table.columns):
        ax.hlines(rows, table["low"], table["high"], color=colors, lw=1.6)
    ax.scatter(table["realized_cvar"], rows, color=colors, zorder=3.0)
    entries: list[Entry] = [
        (ax.plot([], [], "o", color=REALIZED if featured is None else "0.35")[0], "realized CVaR"),
        (
            ax.plot(
                table["model_cvar"],
                rows,
                "D",
                color=FORECAST if featured is None else "0.35",
                markerfacecolor="none",
            )[0],
            "model's CVaR,\nmean of the decisions",
        ),
        (ax.plot(table["cvar_limit"], rows, "|", color=LIMIT, markersize=16.0)[0], "limit"),
    ]
    ax.set_xlabel("one-period CVaR (share of wealth)")
    ax.set_xlim(left=min(0.0, ax.get_xlim()[0]))
    parts.percent(ax, which="x")
    parts.title(ax, "CVaR forecast and realized")
    parts.legend(figure, entries)
    return figure


def interval_figure(
    table: pd.DataFrame, heading: str, label: str, featured: Sequence[str] | None = None
) -> Figure:
    """A number of each strategy with its interval, and a line at 0.

    Parameters
    ----------
    table : DataFrame, shape (n_strategies, 3)
        Index strategy; ``value``, ``low`` and ``high``. NaN draws nothing.
    heading, label : str
        Title, and what the number is.
    featured : sequence of str, optional
        As in `wealth_figure`.
    """
    figure, ax, rows = _by_strategy(table.index)
    colors = _colors(table.index, featured, FORECAST)
    ax.hlines(rows, table["low"], table["high"], color=colors, lw=1.6)
    ax.scatter(table["value"], rows, color=colors, zorder=3.0)
    ax.axvline(0.0, color="black", linewidth=0.8)
    show(ax.xaxis.label, label)
    parts.title(ax, heading)
    return figure


def _colors(names: pd.Index[str], featured: Sequence[str] | None, alike: str) -> list[str]:
    if featured is None:
        return [alike] * len(names)
    style = featured_styles(names, list(featured))
    return [style[name].color for name in names]


def _by_strategy(names: pd.Index[str]) -> tuple[Figure, Axes, list[int]]:
    """Axes with a row for each strategy, the first one at the top."""
    figure = Figure(figsize=(10.0, 1.4 + 0.33 * len(names)), layout="constrained")
    ax = figure.add_subplot()
    rows = list(range(len(names)))
    labels = [textwrap.fill(str(name), parts.LABEL_WIDTH) for name in names]
    fonts = families("".join(labels))
    ax.set_yticks(rows, [drawable(label) for label in labels], parse_math=False, family=fonts)
    ax.set_ylim(len(names) - 0.5, -0.5)
    parts.plain((ax,))
    return figure, ax, rows


def _panel_title(ax: Axes, text: str, n_panels: int) -> None:
    if n_panels == 1:
        parts.title(ax, text)
    else:
        parts.title(ax, text, width=44, fontsize="medium")
