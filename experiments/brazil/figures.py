"""The study's figures, drawn from its tables alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.brazil.config import Config
from experiments.brazil.variants import (
    CASH,
    EQUAL,
    IBOV,
    LIMITED,
    MATCHED,
    MYOPIC,
    NO_COSTS,
    ONE_REGIME,
    RECEDING,
    RUN_THROUGH,
    Variant,
    at_limit,
    percent,
)
from sddp.display.style import COLORS
from sddp.reporting import figure_parts as parts
from sddp.reporting import figures

Tables = Mapping[str, pd.DataFrame]

SETTINGS = [field.name for field in fields(Variant) if field.name not in ("strategy", "limit")]
INTERVAL = "with its 95 % interval"

# One of each kind: a run through ten stages hardly differs from beginning anew, nor does the
# cost-free future from one stage.
COMPARED = (RECEDING, MYOPIC, NO_COSTS, ONE_REGIME, MATCHED)

TRAILING_MONTHS = 6
LARGEST = 9
ROW_HEIGHT = 0.24


def draw(tables: Tables, config: Config) -> dict[str, Figure]:
    """All figures, by the name of their file."""
    timing = f"lag {config.lag}, net of costs; drawn at every fifth row"
    deck = [at_limit(RUN_THROUGH, limit) for limit in config.limits]
    wealth = tables["wealth"]
    shown = wealth[[*deck, EQUAL, IBOV, CASH]]
    headline = [at_limit(name, config.headline) for name in COMPARED]
    weights = dict(iter(tables["weights"].groupby("strategy")))
    ratios, apart = _sharpe(tables["intervals"], config), _sharpe(tables["differences"], config)
    beliefs = tables["beliefs"]
    return {
        "cumulative_return": figures.wealth_figure(shown, timing),
        "trailing_return": figures.trailing_figure(shown, TRAILING_MONTHS, timing),
        "allocation": figures.allocation_figure(
            {name: weights[name].drop(columns="strategy") for name in deck}, LARGEST
        ),
        "strategies": figures.wealth_figure(wealth[[*headline, EQUAL, CASH]], timing),
        "sharpe": figures.interval_figure(
            ratios,
            f"Sharpe ratio at a limit of {percent(config.headline)}",
            f"Sharpe ratio, a year, {INTERVAL}",
        ),
        "differences": figures.interval_figure(
            apart,
            f"Sharpe ratio less that of {apart['reference'].iloc[0]}",
            f"difference of Sharpe ratios, a year, {INTERVAL}",
        ),
        "risk_forecasts": figures.risk_forecast_figure(_forecasts(tables["risk"], config)),
        "limits": _limits(tables["rolling_cvar"], config.limits),
        "regimes": figures.regime_figure(
            beliefs.filter(like="regime"), beliefs["ibov"], "Ibovespa, points"
        ),
        "lag": _lag(tables["summary"], config),
        "regimes_worth": _worth(tables["regimes_worth"], config),
        "subperiods": _subperiods(tables["subperiods"], config),
    }


def usual(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Rows with the study's own settings, as far as the table tells them; of any limit."""
    told = [name for name in SETTINGS if name in table]
    own = pd.Series({name: getattr(config, name) for name in told})
    return table[(table[told] == own).all(axis=1)]


def _sharpe(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    return _headline(table[table["metric"] == "sharpe"], config)


def _headline(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """By strategy, at the headline's limit or without one."""
    own = usual(table, config)
    return own[own["limit"].isna() | (own["limit"] == config.headline)].set_index("strategy")


def _forecasts(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    own = usual(table, config)
    chosen = own[own["strategy"].isin(LIMITED)]
    names = [
        at_limit(name, limit)
        for name, limit in zip(chosen["strategy"], chosen["limit"], strict=True)
    ]
    forecasts: pd.DataFrame = chosen.set_index(pd.Index(names))
    return forecasts.sort_values(by="limit", ascending=False, kind="stable")


def _limits(rolling: pd.DataFrame, limits: tuple[float, ...]) -> Figure:
    """CVaR of each asset alone over two years, beside the limits."""
    figure, (ax,) = parts.panels((1.0,))
    entries = parts.draw_lines(ax, rolling, rolling.iloc[-1])
    for limit in limits:
        line = ax.axhline(limit, color="black", linestyle="--", linewidth=0.9)
        ax.annotate(
            percent(limit),
            (1.0, limit),
            xycoords=ax.get_yaxis_transform(),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    entries.append((line, "limits"))
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("one-day CVaR over 504 rows")
    parts.percent(ax)
    parts.title(ax, "What a limit has to hold back: one-day CVaR of each asset alone")
    parts.finish(figure, (ax,), "share of the money held in the asset; every fifth row", entries)
    return figure


def _lag(summary: pd.DataFrame, config: Config) -> Figure:
    """Sharpe ratio traded a row later, and at the very quotes decided on."""
    late, early = f"lag {config.lag}", "lag 0"
    ratios = {
        name: _headline(summary, replace(config, lag=lag))["sharpe"]
        for name, lag in ((late, config.lag), (early, 0))
    }
    table = pd.DataFrame(ratios).dropna().sort_values(by=late)
    figure, ax = _rows([str(name) for name in table.index])
    rows = np.arange(len(table))
    ax.hlines(rows, table[early], table[late], color="0.75", lw=1.2, zorder=1)
    (dots,) = ax.plot(table[late], rows, "o", color=figures.FORECAST)
    (rings,) = ax.plot(table[early], rows, "o", color=figures.REALIZED, markerfacecolor="white")
    entries: list[parts.Entry] = [(dots, late), (rings, f"{early}: not executable")]
    ax.set_xlabel("Sharpe ratio, a year")
    ax.axvline(0.0, color="black", linewidth=0.8)
    parts.title(ax, "What a day of delay is worth")
    parts.plain((ax,))
    parts.legend(figure, entries)
    return figure


def _worth(table: pd.DataFrame, config: Config) -> Figure:
    """Sharpe ratio with regimes less without, at every setting and seed."""
    settings = list(table.columns[: list(table.columns).index("with_regimes")])
    changed = [column for column in settings if column not in ("limit", "seed")]
    labels = table.apply(lambda row: _setting(row[changed], config), axis=1)
    names = list(dict.fromkeys(labels))
    seeds = sorted(table["seed"].unique())
    figure, ax = _rows(names, height=ROW_HEIGHT * max(len(seeds), 1))
    entries: list[parts.Entry] = []
    for rank, seed in enumerate(seeds):
        of_seed = table["seed"] == seed
        rows = np.array([names.index(name) for name in labels[of_seed]])
        rows = rows + 0.22 * (rank - (len(seeds) - 1) / 2.0)
        color = COLORS[rank]
        ax.hlines(rows, table["low"][of_seed], table["high"][of_seed], color=color, lw=1.4)
        (dots,) = ax.plot(table["difference"][of_seed], rows, "o", color=color, markersize=4.0)
        entries.append((dots, f"seed {seed}, {INTERVAL}"))
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlabel("Sharpe ratio with regimes less with one regime, a year")
    parts.title(ax, f"What regimes add, at a limit of {percent(config.headline)}")
    parts.plain((ax,))
    parts.legend(figure, entries)
    return figure


def _setting(row: pd.Series[float], config: Config) -> str:
    """What differs from the study's own settings, in words."""
    words = {
        "lag": f"lag {row['lag']:g}: not executable",
        "n_states": f"{row['n_states']:g} regimes",
        "window": f"window of {row['window']:g} rows",
        "transaction_cost": f"cost {percent(row['transaction_cost'])}",
        "refit_every": "trained every row",
    }
    changed = [text for name, text in words.items() if row[name] != getattr(config, name)]
    return ", ".join(changed) or "the study's settings"


def _subperiods(table: pd.DataFrame, config: Config) -> Figure:
    """Sharpe ratio of every strategy in each part of the time."""
    chosen = table[(table["metric"] == "sharpe") & (table["what"] == "value")]
    names = list(dict.fromkeys(chosen["strategy"]))
    periods = list(dict.fromkeys(chosen["period"]))
    figure = Figure(figsize=(11.0, 1.6 + 0.27 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(periods), sharex=True, sharey=True)
    for ax, period in zip(axes, periods, strict=True):
        part = chosen[chosen["period"] == period].set_index("strategy").loc[names]
        rows = range(len(names))
        ax.hlines(rows, part["low"], part["high"], color=figures.FORECAST, lw=1.4)
        ax.plot(part["value"], rows, "o", color=figures.FORECAST, markersize=4.0)
        ax.axvline(0.0, color="black", linewidth=0.8)
        ends = f"{part['first'].iloc[0]:%Y-%m} to {part['last'].iloc[0]:%Y-%m}"
        ax.set_title(f"{period}\n{ends}", fontsize="medium")
        ax.set_yticks(rows, names, parse_math=False)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    parts.plain(axes)
    figure.suptitle(
        f"Sharpe ratio in parts of the time, at a limit of {percent(config.headline)}",
        fontweight="bold",
    )
    figure.supxlabel(f"Sharpe ratio, a year, {INTERVAL}", fontsize="medium")
    return figure


def _rows(names: list[str], *, height: float = 0.33) -> tuple[Figure, Axes]:
    """Axes with a row for each name, the first one at the top."""
    figure = Figure(figsize=(10.0, 1.4 + height * len(names)), layout="constrained")
    ax = figure.add_subplot()
    ax.set_yticks(range(len(names)), names, parse_math=False)
    ax.set_ylim(len(names) - 0.5, -0.5)
    return figure, ax
