"""How narrow a certified interval gets: inner bound against size and number of portfolios.

``python -m experiments.inner_bound [--quick] [--replot]``. A policy is trained
on seeded instances; the cuts bound the optimum from above and `inner_bound` from below, several
times with other random numbers. Widths are relative to the gain over cash; the outer bound's own
distance from the optimum is in them. Beside each stands what simulation gives: the 95 % half-width
of the policy's mean (by conditionally expected gains, as the paper's authors estimate it), and the
paths it would take to reach the width of the interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, ScalarFormatter

from experiments.benchmark_instances import Size
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.training import train_allocation
from sddp.arrays import Floats
from sddp.bounds.inner import inner_bound
from sddp.cli.study import Study, StudyRun
from sddp.display.style import COLORS
from sddp.engine.training.stopping import BoundStalling, Iterations
from sddp.errors import DataError
from sddp.studies.record import RunFiles
from sddp.studies.tasks import Task, TaskPool

Z_95 = 1.959963984540054

# The interval itself is exact to the rounding of its linear programs only.
LEAST_GAP = 1e-9

BASE, LARGE = Size(10, 3, 100, 12), Size(100, 3, 1_000, 12)

ASSETS, LARGE_PART = "assets", "large"


@dataclass(frozen=True)
class Config:
    """Instances (all in 3 regimes), draws a stage and regime, and iterations of each training."""

    assets: tuple[int, ...] = (3, 5, 10, 25)
    stages: tuple[int, ...] = (6, 24)
    costs: tuple[float, ...] = (0.001, 0.005)
    base: Size = BASE
    points: tuple[int, ...] = (10, 20, 40)
    few_points: tuple[int, ...] = (20,)
    large: Size | None = LARGE
    large_points: tuple[int, ...] = (10,)
    iterations: int = 100
    draw_seeds: tuple[int, ...] = (1, 2)
    n_paths: int = 500
    seed: int = 1


QUICK: Mapping[str, Any] = {
    "assets": (2, 4),
    "stages": (2,),
    "costs": (0.001,),
    "base": Size(4, 3, 20, 3),
    "points": (2, 10),
    "few_points": (4,),
    "large": None,
    "iterations": 10,
    "n_paths": 40,
}


def run(config: Config, pool: TaskPool) -> pd.DataFrame:
    """One row for each instance and number of draws."""
    cases = _cases(config)
    tasks = [
        Task(measure, (size, points, config), [size, points, config]) for _, size, points in cases
    ]
    found = zip(cases, pool.run("instance", tasks), strict=True)
    return pd.DataFrame([{"part": part, **row} for (part, *_), rows in found for row in rows])


def _cases(config: Config) -> list[tuple[str, Size, tuple[int, ...]]]:
    base, few = config.base, config.few_points
    cases = [(ASSETS, replace(base, n_assets=n), config.points) for n in config.assets]
    cases += [("stages", replace(base, n_stages=t), few) for t in config.stages]
    cases += [("costs", replace(base, transaction_cost=c), few) for c in config.costs]
    if config.large is not None:
        cases.append((LARGE_PART, config.large, config.large_points))
    return cases


def measure(size: Size, points: tuple[int, ...], config: Config) -> list[dict[str, Any]]:
    """Train one instance, bound it with different numbers of draws, and simulate it once."""
    started = time.perf_counter()
    result = train_allocation(
        size.model,
        size.scenarios(),
        initial_holdings={"cash": 1.0},
        rng=np.random.default_rng(config.seed),
        stopping=BoundStalling(10, 1e-6) | Iterations(config.iterations),
        progress=False,
    )
    trained = time.perf_counter() - started
    policy, n = result.policy, config.n_paths
    values = simulated_values(policy, n, np.random.default_rng(config.seed))
    half_width = Z_95 * float(values.std(ddof=1)) / np.sqrt(n)
    rows = []
    for seed, draws in product(config.draw_seeds, points):
        bound = inner_bound(policy, rng=np.random.default_rng(seed), n_points=draws)
        gain = bound.value - bound.cash
        rows.append(
            {
                "n_assets": size.n_assets,
                "n_scenarios": size.n_scenarios,
                "n_stages": size.n_stages,
                "cost": size.transaction_cost,
                "draws": draws,
                "seed": seed,
                "portfolios": max(bound.points),
                "inner": bound.value,
                "outer": bound.outer,
                "gap": bound.gap,
                "seconds": bound.seconds,
                "solves": bound.n_solves,
                "iterations": len(result.log),
                "train_seconds": trained,
                "simulated": float(values.mean()),
                "n_paths": n,
                "half_width": half_width / gain,
                "paths_needed": n * (half_width / gain / max(bound.gap, LEAST_GAP)) ** 2,
            }
        )
    return rows


def simulated_values(policy: AllocationPolicy, n_paths: int, rng: np.random.Generator) -> Floats:
    """Initial wealth plus the conditionally expected gains of the decisions, path by path.

    Of the same mean as terminal wealth, with a much smaller variance. For scenarios that are
    equiprobable and have one law for all stages.
    """
    scenarios = policy.problem.scenarios
    expected = scenarios.transition_matrix[0] @ scenarios.returns[0].mean(axis=1)
    table = policy.simulate(n_paths, rng=rng)
    table = table[table.index.get_level_values("stage") < policy.problem.n_stages]
    regimes = [scenarios.state_index(name) for name in table["regime"]]
    held = table[[f"holdings[{name}]" for name in policy.problem.asset_names]].to_numpy()
    gains = (expected[regimes] * held).sum(axis=1) - table["cost"].to_numpy()
    values: Floats = 1.0 + gains.reshape(n_paths, -1).sum(axis=1)
    return values


def plot(results: pd.DataFrame) -> Figure:
    """Width of the interval by draws (left) and by number of assets (right)."""
    figure = Figure(figsize=(10.0, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    table = results[results["part"] == ASSETS]
    for (n, rows), color in zip(table.groupby("n_assets"), COLORS, strict=False):
        _widths(left, rows, "draws", f"{n} assets", color, "o")
    left.set_xlabel("decisions drawn for each stage and regime")
    left.set_ylabel("width of the interval, share of the gain over cash")
    ends = (table["draws"].min(), table["draws"].max())
    for draws, color in zip(ends, COLORS, strict=False):
        rows = table[table["draws"] == draws]
        _widths(right, rows, "n_assets", f"{draws} draws", color, "s")
    large = results[results["part"] == LARGE_PART]
    if len(large):
        label = f"{large['draws'].iloc[0]} draws, {large['n_scenarios'].iloc[0]} scenarios"
        _widths(right, large, "n_assets", label, COLORS[2], "*")
    once = results[results["part"].isin([ASSETS, LARGE_PART])].drop_duplicates("n_assets")
    label = f"95 % half-width of a mean over {once['n_paths'].iloc[0]} paths"
    right.plot(once["n_assets"], once["half_width"], color="0.4", linestyle="--", label=label)
    right.set_xlabel("risky assets")
    for ax, ticks in ((left, table["draws"]), (right, once["n_assets"])):
        _logarithmic(ax, sorted(ticks.unique()))
    left.set_title("More portfolios", loc="left", fontweight="bold")
    right.set_title("More assets", loc="left", fontweight="bold")
    return figure


def _widths(ax: Axes, rows: pd.DataFrame, x: str, label: str, color: str, marker: str) -> None:
    """Median over the random numbers, with the least and the largest."""
    gap = rows.groupby(x)["gap"].agg(["min", "median", "max"])
    reach = [gap["median"] - gap["min"], gap["max"] - gap["median"]]
    ax.errorbar(
        gap.index, gap["median"], yerr=reach, color=color, marker=marker, capsize=3, label=label
    )


def _logarithmic(ax: Axes, ticks: list[int]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ticks)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100.0 * value:g} %"))
    ax.grid(color="0.9", linewidth=0.6)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)


SHOWN = (
    *("part", "n_assets", "n_scenarios", "n_stages", "cost", "draws", "seed", "gap", "seconds"),
    *("half_width", "paths_needed"),
)


def settings(options: argparse.Namespace) -> Config:
    """What the numbers depend on."""
    config = replace(Config(), **(QUICK if options.quick else {}))
    return config if options.seed is None else replace(config, seed=options.seed)


def write(job: StudyRun) -> dict[str, Any]:
    """Run the study and write its table; the headline results."""
    results = run(job.config, job.tasks)
    job.record.write_table("results", results)
    return {"narrowest_gap_by_assets": results.groupby("n_assets")["gap"].min().to_dict()}


def redraw(files: RunFiles) -> None:
    """Draw the figure of a finished run from its table.

    Raises
    ------
    DataError
        The table is missing or is none.
    """
    try:
        results = pd.read_csv(files.out / "results.csv", index_col=0)
    except (OSError, ValueError) as error:
        raise DataError(
            f"--replot: {files.out} holds no results: {error}; run without it"
        ) from error
    files.write_figure("inner_bound", plot(results))


STUDY = Study(
    name="inner_bound",
    description=__doc__,
    settings=settings,
    run=write,
    plot=redraw,
    shown={"results": SHOWN},
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
