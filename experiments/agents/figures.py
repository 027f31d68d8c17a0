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
    _region(files)


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
    title = "Quantiles of wealth under the normal law, holdings fixed, no costs"
    files.write_figure("wealth", fan_figure(_table(files, "wealth"), period="day", title=title))
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
    days, depth = crowds["days"].iloc[0], crowds["depth"].iloc[0]
    var = f"95 % VaR over {days} days, marked at once"
    lines = {
        f"alikeness {alike:g}": _values(rows, "agents", "at once")
        for alike, rows in crowds.groupby("alikeness")
    }
    title = f"More agents add less, unless their estimates are alike (depth {depth:g})"
    figure = lines_figure(lines, x="number of agents", y=var, title=title, log_x=True)
    files.write_figure("agents", figure)
    cascade = _values(_table(files, "cascade", None), "depth", "multiplier")
    files.write_figure(
        "cascade",
        lines_figure(
            {"multiplier": cascade},
            x="depth, in multiples of the base",
            y="final loss over first loss",
            title="Forced sales of agents with debt, after bitcoin -5 % and real estate -10 %",
            log_x=True,
            percent=False,
        ),
    )
    paths = _table(files, "impact_paths")
    moves = {str(name): paths[[name]].rename(columns={name: "value"}) for name in paths}
    files.write_figure(
        "impact_paths",
        lines_figure(
            moves,
            x="period",
            y="relative price move of real estate",
            title="A tenth of the market's wealth is sold; 30 % of the move is permanent",
        ),
    )


def _region(files: RunFiles) -> None:
    region, settings = _table(files, "region", None), files.settings
    cells = region[region["days"] == region["days"].max()]
    blind = cells[~cells["foresight"] & (cells["permanent"] == cells["permanent"].min())]
    alike = cells["alikeness"].max()
    foreseen = cells[cells["foresight"] & (cells["alikeness"] == alike)]
    for name, rows, by, title in (
        ("region", blind, "alikeness", "{} agents who trade on the old prices, by alikeness"),
        (
            "region_in_equilibrium",
            foreseen,
            "permanent",
            "{} agents in equilibrium, estimates alike, by the permanent share of the move",
        ),
    ):
        figure = lines_figure(
            {
                f"{100 * key:g} % permanent" if by == "permanent" else f"{by} {key:g}": _values(
                    own.dropna(), "depth", "at once"
                )
                for key, own in rows.groupby(by)
            },
            x="depth: money that moves real estate by 1 %, in shares of the agents' wealth",
            y=f"95 % VaR over {cells['days'].iloc[0]} days, marked at once",
            title=title.format(settings["n_agents"]),
            log_x=True,
            known={"the specification's 15 %": -CLAIM},
        )
        files.write_figure(name, figure)


def _values(table: pd.DataFrame, index: str, value: str) -> pd.DataFrame:
    """A line of `lines_figure`."""
    return table.set_index(index).rename(columns={value: "value"})
