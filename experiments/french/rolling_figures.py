"""Figures of the study out of sample, from its tables alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.french.rolling import (
    CASH,
    DETAIL,
    EQUAL,
    MATCHED,
    MYOPIC,
    ONE_REGIME,
    RECEDING,
    SDDP,
    TOTAL,
)
from sddp.reporting import figure_parts as parts
from sddp.reporting import figures

Tables = Mapping[str, pd.DataFrame]

LARGEST = 9

# Through time; the others would hide each other.
LINES = (SDDP, RECEDING, TOTAL, ONE_REGIME, MYOPIC, MATCHED, EQUAL, CASH)


def draw(tables: Tables) -> dict[str, Figure]:
    """All figures, by the name of their file."""
    summary, wealth = tables["summary"], tables["wealth"]
    timing = f"{summary['execution'].iloc[0].split(':')[0]}, net of costs, total returns"
    sharpe = _metric(tables["intervals"], "sharpe")
    apart = _metric(tables["differences"], "sharpe")
    beliefs = tables["beliefs"]
    known = tables["risk"].dropna(subset=["cvar_limit"])
    return {
        "rolling_wealth": figures.wealth_figure(wealth[list(LINES)], timing),
        "rolling_allocation": figures.allocation_figure(_weights(tables["weights"]), LARGEST),
        "rolling_sharpe": figures.interval_figure(
            sharpe, "Sharpe ratio with its 95 % interval", "Sharpe ratio, a year"
        ),
        "rolling_differences": figures.interval_figure(
            apart, f"Sharpe ratio less that of {SDDP}, 95 %", "difference of Sharpe ratios, a year"
        ),
        "rolling_ingredients": ingredients_figure(tables["rolling_ingredients"]),
        "rolling_risk_forecasts": figures.risk_forecast_figure(known),
        "rolling_regimes": figures.regime_figure(
            beliefs.filter(like="regime"), beliefs["market"], "Market in excess of bills"
        ),
    }


def ingredients_figure(table: pd.DataFrame) -> Figure:
    """What the policy has over the one without each ingredient, out of sample."""
    figure = Figure(figsize=(11.0, 4.0), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric, label, scale in zip(
        axes,
        ("mean_excess_return", "sharpe"),
        ("mean excess return (points of % a year)", "Sharpe ratio, a year"),
        (100.0, 1.0),
        strict=True,
    ):
        rows = table[table["metric"] == metric]
        places = np.arange(len(rows))
        ax.hlines(places, scale * rows["low"], scale * rows["high"], color=figures.FORECAST, lw=1.6)
        ax.plot(scale * rows["worth"], places, "o", color=figures.FORECAST)
        ax.axvline(0.0, color="black", linewidth=0.8)
        ax.set_xlabel(label)
        ax.set_yticks(places, [str(name) for name in rows["ingredient"]])
    axes[0].set_ylim(len(places) - 0.5, -0.5)
    parts.plain(axes)
    parts.title(axes[0], "Worth of each ingredient out of sample, with its 95 % interval")
    return figure


def _metric(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    return table[table["metric"] == metric].set_index("strategy")


def _weights(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Weights by strategy, one column for each position that any of them ever held."""
    shown = table[table["strategy"].isin(DETAIL)]
    positions = ["cash", *sorted(set(shown["position"]) - {"cash"})]
    dates = pd.DatetimeIndex(sorted(shown["date"].unique()))
    wide = {
        str(name): rows.pivot(index="date", columns="position", values="weight")
        for name, rows in shown.groupby("strategy")
    }
    return {name: wide[name].reindex(index=dates, columns=positions).fillna(0.0) for name in DETAIL}
