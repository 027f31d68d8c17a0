"""Figures of the study, from its tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.one_period.inputs import DIGITAL, EQUAL, ERC, INVERSE, SDDP
from sddp.display.style import COLORS
from sddp.reporting.figures import interval_figure, wealth_figure
from sddp.studies.record import RunFiles

SHOWN: tuple[str, ...] = (
    *(SDDP, "mean-variance", "minimum variance", "maximum Sharpe", "Black-Litterman"),
    *(ERC, "CVaR-limited", EQUAL, INVERSE),
)
LARGEST = 18


def plot(files: RunFiles) -> None:
    """Draw all figures of a finished run."""
    for case, wealth in _table(files, "wealth").groupby("case"):
        name = "digital" if case == DIGITAL else "stocks"
        wealth.index = pd.DatetimeIndex(wealth.index)
        lines = wealth[list(SHOWN)].astype(float)
        files.write_figure(f"wealth_{name}", wealth_figure(lines, f"{case}; weekly, net of costs"))
        intervals = _table(files, "intervals")
        rows = intervals[(intervals["case"] == case) & (intervals["metric"] == "sharpe")]
        figure = interval_figure(
            rows[["value", "low", "high"]].sort_values("value", ascending=False),
            f"{case}: Sharpe ratio with 95 % interval, net of costs",
            "Sharpe ratio",
        )
        files.write_figure(f"sharpe_{name}", figure)
        moved = _table(files, "tornado")
        files.write_figure(f"tornado_{name}", tornado(moved[moved["case"] == case], str(case)))
    if (files.out / "shock.csv").exists():
        files.write_figure("shock", shock_figure(_table(files, "shock")))


def _table(files: RunFiles, name: str) -> pd.DataFrame:
    return pd.read_csv(files.out / f"{name}.csv", index_col=0)


def tornado(table: pd.DataFrame, case: str) -> Figure:
    """Weights moved by a fall (left) and a rise (right) of each input by one standard error."""
    known = table.dropna(subset=["weights_error", "weights_error_fall"])
    size = known["weights_error"] + known["weights_error_fall"]
    order = known.iloc[np.argsort(size.to_numpy(), kind="stable")[-LARGEST:]]
    figure = Figure(figsize=(9.0, 1.4 + 0.3 * len(order)), layout="constrained")
    ax, rows = figure.subplots(), np.arange(len(order))
    ax.barh(rows, -order["weights_error_fall"], color=COLORS[1], height=0.7, label="fall")
    ax.barh(rows, order["weights_error"], color=COLORS[0], height=0.7, label="rise")
    labels = [f"{group}, {row}" for group, row in zip(order.index, order["input"], strict=True)]
    ax.set_yticks(rows, labels, parse_math=False)
    ax.axvline(0.0, color="black", lw=1.0)
    ax.xaxis.set_major_formatter(lambda x, _: f"{abs(x):g}")
    ax.set_xlabel("sum of absolute changes of the weights, input moved by one standard error")
    ax.set_title(case)
    ax.legend(loc="lower right")
    return figure


def shock_figure(table: pd.DataFrame) -> Figure:
    """Loss through time under the fall of real estate with all correlations at 0.9."""
    figure = Figure(figsize=(10.0, 6.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True)
    for ax, column, title in (
        (top, "loss", "Real estate falls by 30 %: loss by real estate alone"),
        (bottom, "comoving loss", "With what follows, correlations 0.9, by a normal law"),
    ):
        for k, name in enumerate(SHOWN):
            rows = table.loc[[name]]
            dash = "-" if k < len(COLORS) - 3 else "--"
            ax.plot(
                pd.DatetimeIndex(rows["date"]),
                rows[column],
                color=COLORS[k % len(COLORS)],
                linestyle=dash,
                lw=1.2,
                label=name,
            )
        ax.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
        ax.set_ylabel("loss, share of wealth")
        ax.set_title(title)
        ax.grid(alpha=0.3)
    handles, names = top.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure
