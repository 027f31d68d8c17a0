"""How fast training is: bound against time, where the time goes, how it grows.

``python -m experiments.benchmarks [--quick] [--out DIR] [--seconds S]``. Every instance is trained
in a process of its own, one after the other, so that peak memory and caches are its own. Gaps are
relative to the gain: ``(bound - best) / (best - cash)``, `best` being the lowest bound that any run
of the instance reached, so a gap is what is left to the best known bound, not to the optimum.
Seconds are wall-clock on one core, without compilation; run it on an idle machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from experiments.benchmark_instances import Size
from experiments.record import Run
from sddp.allocation.problem import allocation_problem
from sddp.engine.stopping import Seconds
from sddp.engine.training import train
from sddp.errors import SddpError

PAPER = Size(100, 3, 1_000, 12)
GAPS = (0.1, 0.01, 0.001)
PARTS = ("linear programmes", "cost-to-go", "CVaR", "other")
GROWTH: dict[str, tuple[int, ...]] = {
    "n_assets": (25, 50, 100, 200),
    "n_scenarios": (250, 500, 1_000, 2_000),
    "n_states": (1, 2, 3, 5),
    "n_stages": (6, 12, 24),
}


@dataclass(frozen=True)
class Config:
    """Which instances, and for how long each is trained."""

    out: str = "results/benchmarks"
    base: Size = PAPER
    seconds: float = 20.0
    best_seconds: float = 120.0
    growth_seconds: float = 8.0
    growth: bool = True
    seed: int = 1


QUICK: dict[str, Any] = {
    "base": Size(5, 2, 40, 3),
    "seconds": 1.0,
    "best_seconds": 2.0,
    "growth": False,
}


def measure(size: Size, seconds: float, seed: int) -> dict[str, Any]:
    """Train one instance in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_train, (size, seconds, seed))


def _train(size: Size, seconds: float, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    problem = allocation_problem(size.model, size.scenarios(), initial_holdings={"cash": 1.0})
    built = time.perf_counter() - started
    result = train(
        problem.engine, rng=np.random.default_rng(seed), stopping=Seconds(seconds), progress=False
    )
    work, total = result.work, float(result.log["seconds"].iloc[-1])
    known = (work.lp.seconds, work.cost_to_go_seconds, work.generator_seconds)
    return {
        **asdict(size),
        "log": result.log[["seconds", "bound", "solves"]],
        "build_seconds": built,
        "iterations": len(result.log),
        "seconds": total,
        **dict(zip(PARTS, (*known, total - sum(known)), strict=True)),
        "lps_per_iteration": work.lp.solves / len(result.log),
        "pivots_per_lp": work.lp.pivots / work.lp.solves,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "bound": result.bound,
    }


def run(config: Config) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Summary of the base instance, its convergence, and growth one size at a time."""
    best = measure(config.base, config.best_seconds, config.seed + 1)
    timed = measure(config.base, config.seconds, config.seed)
    lowest = min(best["bound"], timed["bound"])
    curve = timed.pop("log").assign(gap=lambda log: (log["bound"] - lowest) / (lowest - 1.0))
    for gap in GAPS:
        reached = curve.loc[curve["gap"] <= gap, "seconds"]
        timed[f"seconds_to_{gap:.1%}_of_gain"] = reached.min() if len(reached) else np.nan
    timed["best_known_bound"] = lowest
    summary = pd.DataFrame([timed]).T.rename(columns={0: str(config.base)})
    return summary, curve, _growth(config) if config.growth else pd.DataFrame()


def _growth(config: Config) -> pd.DataFrame:
    rows = []
    for name, values in GROWTH.items():
        for value in values:
            changed: dict[str, Any] = {name: value}
            size = replace(config.base, **changed)
            row = measure(size, config.growth_seconds, config.seed)
            row.pop("log")
            per_iteration = row["seconds"] / row["iterations"]
            rows.append({"axis": name, "value": value, "per_iteration": per_iteration, **row})
            print(f"{name} = {value}: {per_iteration:.3f} s an iteration", file=sys.stderr)
    return pd.DataFrame(rows)


def slopes(growth: pd.DataFrame) -> pd.Series[float]:
    """Log-log slope of the time per iteration along each axis."""
    return pd.Series(
        {
            axis: float(np.polyfit(np.log(rows["value"]), np.log(rows["per_iteration"]), 1)[0])
            for axis, rows in growth.groupby("axis", sort=False)
        },
        name="slope",
    )


def convergence_figure(curve: pd.DataFrame, title: str) -> Figure:
    """Gap to the best known bound against training time."""
    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    ax = figure.subplots()
    shown = curve[curve["gap"] > 0.0]
    ax.loglog(shown["seconds"], shown["gap"], marker="o", markersize=3.0, color="#0072B2")
    for gap in GAPS:
        ax.axhline(gap, color="0.75", linewidth=0.8, linestyle="--")
    ax.set_xlabel("training time (s, one core)")
    ax.set_ylabel("gap to the best known bound\n(fraction of the gain)")
    ax.set_title(title, loc="left", fontweight="bold")
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def growth_figure(growth: pd.DataFrame) -> Figure:
    """Time per iteration against each size, log-log, with the fitted slope."""
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    fitted = slopes(growth)
    for ax, (axis, rows) in zip(
        figure.subplots(2, 2).flat, growth.groupby("axis", sort=False), strict=True
    ):
        ax.loglog(rows["value"], rows["per_iteration"], marker="o", color="#0072B2")
        ax.set_xticks(rows["value"], [f"{value}" for value in rows["value"]], minor=False)
        ax.minorticks_off()
        ax.set_xlabel(str(axis))
        ax.set_ylabel("seconds an iteration")
        ax.set_title(f"slope {fitted[axis]:.2f}", loc="left")
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, 1 with the reason on standard error otherwise."""
    config = _config(arguments)
    try:
        record = Run(config.out, config)
        summary, curve, growth = run(config)
    except SddpError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    record.write_table("summary", summary)
    record.write_table("convergence", curve)
    record.write_figure("convergence", convergence_figure(curve, str(config.base)))
    if len(growth):
        record.write_table("growth", growth)
        record.write_figure("growth", growth_figure(growth))
        print(slopes(growth).to_string())
    record.finish("complete", {str(key): value for key, value in summary.iloc[:, 0].items()})
    print(f"{platform.processor() or platform.machine()}, {multiprocessing.cpu_count()} cores")
    print(summary.to_string())
    return 0


def _config(arguments: list[str] | None) -> Config:
    default = Config()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small instance, some seconds")
    parser.add_argument("--out", help=f"folder for results ({default.out})")
    parser.add_argument("--seconds", type=float, help="training time of the timed run")
    parser.add_argument("--no-growth", action="store_true", help="the base instance only")
    options = parser.parse_args(arguments)
    config = replace(default, **(QUICK if options.quick else {}))
    out = options.out or (f"{default.out}_quick" if options.quick else default.out)
    if options.no_growth:
        config = replace(config, growth=False)
    return replace(config, out=out, seconds=options.seconds or config.seconds)


if __name__ == "__main__":
    sys.exit(main())
