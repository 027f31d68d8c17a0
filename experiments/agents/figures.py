"""Figures of the study, from its tables."""

from __future__ import annotations

import pandas as pd

from experiments.agents.config import CLAIM
from sddp.display.simulation_figures import (
    distribution_figure,
    fan_figure,
    lines_figure,
    tornado_figure,
)
from sddp.studies.record import RunFiles


def plot(files: RunFiles) -> None:
    """Draw all figures of a finished run."""
    _example(files)
    _crowds(files)


def _table(files: RunFiles, name: str, index: int | None = 0) -> pd.DataFrame:
    return pd.read_csv(files.out / f"{name}.csv", index_col=index)


def _example(files: RunFiles) -> None:
    returns, risk = _table(files, "returns"), _table(files, "example", None)
    marks = {}
    for panel in returns.columns:
        law, how = panel.split(", ", 1)
        rows = risk[(risk["law"] == law) & (risk["convention"] == how)].set_index("figure")
        marks[panel] = {
            f"minus {name}": (-rows["value"][name], rows["standard_error"][name])
            for name in ("VaR 95 %", "CVaR 95 %")
        }
    samples = {str(name): returns[name].to_numpy() for name in returns}
    files.write_figure("distribution", distribution_figure(samples, marks))
    files.write_figure("wealth", fan_figure(_table(files, "paths").to_numpy(), period="day"))
    stress = _table(files, "stress")
    losses = stress["loss and CVaR"]
    files.write_figure(
        "tornado",
        tornado_figure(
            losses.drop("no shock"), base=float(losses["no shock"]), label="loss and CVaR"
        ),
    )


def _crowds(files: RunFiles) -> None:
    crowds = _table(files, "crowds", None)
    lines = {
        f"alikeness {alike:g}": rows.set_index("agents").rename(columns={"at once": "value"})
        for alike, rows in crowds.groupby("alikeness")
    }
    figure = lines_figure(lines, x="number of agents", y="95 % VaR, marked at once", log_x=True)
    files.write_figure("agents", figure)
    cascade = _table(files, "cascade").rename(columns={"multiplier": "value"})
    files.write_figure(
        "cascade",
        lines_figure(
            {"final loss over first loss": cascade},
            x="depth, in multiples of the base",
            y="multiplier",
            log_x=True,
            percent=False,
        ),
    )
    paths = _table(files, "impact_paths")
    moves = {str(name): paths[[name]].rename(columns={name: "value"}) for name in paths}
    files.write_figure(
        "impact_paths", lines_figure(moves, x="period", y="relative price move of real estate")
    )
    region = _table(files, "region", None)
    days, permanent = region["days"].max(), region["permanent"].min()
    cells = region[(region["days"] == days) & (region["permanent"] == permanent)]
    for name, foresight in (("region", False), ("region_in_equilibrium", True)):
        by_depth = {
            f"alikeness {alike:g}": rows.dropna()
            .set_index("depth")
            .rename(columns={"at once": "value"})
            for alike, rows in cells[cells["foresight"] == foresight].groupby("alikeness")
        }
        figure = lines_figure(
            by_depth,
            x="money that moves real estate by 1 %, in shares of the agents' wealth",
            y=f"95 % VaR over {days} days, marked at once",
            log_x=True,
            known={"the specification's -15 %": -CLAIM},
        )
        files.write_figure(name, figure)
