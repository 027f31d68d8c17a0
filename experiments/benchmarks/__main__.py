"""How fast training is: bound against time, where the time goes, how it grows.

``python -m experiments.benchmarks [--quick] [--only SECTION ...] [--out DIR]``. Sections: `base`
(several runs of the paper's size), `sizes` (daily returns; five hundred assets), `steady` (time of
late iterations), `cores` (two processes), `growth`, `bunching`, `instances` (files of the folder
that SDDP_REFERENCE_DATA names). Every measurement has a process of its own, one after the other.
Run it on an idle machine: times on a busy one say little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.benchmark_instances import Size
from experiments.benchmarks import bunching, figures
from experiments.benchmarks.measure import (
    PARTS,
    afresh,
    gaps,
    iteration_growth,
    seconds_to,
    seconds_to_gaps,
    side_by_side,
    slopes,
    train_file,
    train_size,
)
from sddp.cli.exit_codes import guarded
from sddp.engine.training.stopping import Iterations, Seconds
from sddp.studies.record import Run

PAPER = Size(100, 3, 1_000, 12)

GROWTH: Mapping[str, tuple[int, ...]] = {
    "n_assets": (25, 50, 100, 200),
    "n_scenarios": (250, 500, 1_000, 2_000),
    "n_states": (1, 2, 3, 5),
    "n_stages": (6, 12, 24),
}

# Bounds that SDDP.jl 1.14 with HiGHS reached on two instance files, and its seconds.
KNOWN_BOUNDS: Mapping[str, tuple[tuple[float, float | None], ...]] = {
    "small": ((1.007344319, 13.9), (1.007342441, 28.5), (1.0073420, None)),
    "medium": ((1.037500605, 21.0), (1.037373289, 55.1), (1.03732, None)),
}


@dataclass(frozen=True)
class Config:
    """Which instances, and for how long each is trained."""

    out: str = "results/benchmarks"
    base: Size = PAPER
    runs: int = 5
    seconds: float = 15.0
    best_seconds: float = 150.0
    sizes: tuple[tuple[Size, float, float], ...] = (
        (Size(100, 3, 1_000, 12, cvar_limit=0.015, transaction_cost=0.001, scale="daily"), 15, 60),
        (Size(500, 5, 1_000, 24), 60, 240),
    )
    steady_iterations: int = 200
    core_iterations: int = 40
    growth: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: dict(GROWTH))
    growth_iterations: int = 15
    reservoir: tuple[int, int, int] = (50, 1_000, 120)  # stages, noises, iterations
    warehouses: tuple[int, int, int] = (12, 200, 30)
    instance_seconds: float = 8.0
    only: tuple[str, ...] = ()


QUICK: Mapping[str, Any] = {
    "base": Size(5, 2, 40, 3),
    "runs": 2,
    "seconds": 0.4,
    "best_seconds": 0.8,
    "sizes": (),
    "steady_iterations": 30,
    "core_iterations": 12,
    "growth": {"n_assets": (3, 6), "n_scenarios": (20, 40), "n_states": (1, 2), "n_stages": (2, 3)},
    "growth_iterations": 4,
    "reservoir": (4, 30, 6),
    "warehouses": (3, 10, 4),
    "instance_seconds": 0.2,
}


def base(config: Config, record: Run) -> dict[str, Any]:
    """Median times of several runs to gaps of 10, 1 and 0.1 % of the gain."""
    best = afresh(train_size, config.base, Seconds(config.best_seconds), 99, 2)
    runs = [
        afresh(train_size, config.base, Seconds(config.seconds), seed)
        for seed in range(1, config.runs + 1)
    ]
    lowest = min(run["bound"] for run in (best, *runs))
    record.write_table("base_runs", _table(runs, lowest))
    curves = _curves({f"run {i + 1}": run["log"] for i, run in enumerate(runs)}, lowest)
    record.write_table("base_curves", curves)
    record.write_figure("convergence", figures.convergence_figure(curves, str(config.base)))
    return {"best_known_bound": lowest, **_medians(_table(runs, lowest))}


def sizes(config: Config, record: Run) -> dict[str, Any]:
    """Other sizes: seconds to the gaps and the gap at the end of one run."""
    rows, found = [], {}
    for size, seconds, best_seconds in config.sizes:
        best = afresh(train_size, size, Seconds(best_seconds), 99, 2)
        run = afresh(train_size, size, Seconds(seconds), 1)
        lowest = min(best["bound"], run["bound"])
        rows.append({"size": str(size), **_table([run], lowest).iloc[0].to_dict()})
        found[str(size)] = {"seconds": run["seconds"], "gap": gaps(run["log"], lowest)[-1]}
    record.write_table("sizes", pd.DataFrame(rows))
    return found


def steady(config: Config, record: Run) -> dict[str, Any]:
    """Median time of the last tenth of the iterations over that of the second tenth."""
    n = config.steady_iterations
    run = afresh(train_size, config.base, Iterations(n), 1)
    record.write_table("steady", run["log"])
    ratio = iteration_growth(run["log"], slice(n // 10, n // 5), slice(n - n // 10, n))
    return {"iterations": n, "late_over_early": ratio, "peak_mb": run["peak_mb"]}


def cores(config: Config, record: Run) -> dict[str, Any]:
    """The same training with one process and with two, and what two cores of this machine give.

    That is the speed-up of two trainings that have nothing to do with each other, side by side
    instead of one after the other.
    """
    stop, same, rows = Iterations(config.core_iterations), True, []
    for seed in range(1, config.runs + 1):
        one, two = (afresh(train_size, config.base, stop, seed, n_jobs) for n_jobs in (1, 2))
        apart = side_by_side(2, train_size, config.base, stop, seed, 1)
        same = same and np.array_equal(one["log"]["bound"], two["log"]["bound"])
        rows.append([one["seconds"], two["seconds"], max(run["seconds"] for run in apart)])
    table = pd.DataFrame(rows, columns=["one", "two", "two_trainings_side_by_side"])
    table["speed_up"] = table["one"] / table["two"]
    table["speed_up_of_the_machine"] = 2.0 * table["one"] / table["two_trainings_side_by_side"]
    record.write_table("cores", table)
    return {
        "speed_up": float(table["speed_up"].median()),
        "speed_up_of_the_machine": float(table["speed_up_of_the_machine"].median()),
        "same_bounds_bit_for_bit": same,
    }


def growth(config: Config, record: Run) -> dict[str, Any]:
    """Seconds an iteration along each size, the others at the base's."""
    rows = []
    for axis, values in config.growth.items():
        for value in values:
            changed: dict[str, Any] = {axis: value}
            run = afresh(
                train_size, replace(config.base, **changed), Iterations(config.growth_iterations), 1
            )
            run.pop("log")
            per_iteration = run["seconds"] / run["iterations"]
            rows.append({"axis": axis, "value": value, "per_iteration": per_iteration, **run})
            print(f"{axis} = {value}: {per_iteration:.3f} s an iteration", file=sys.stderr)
    table = pd.DataFrame(rows)
    record.write_table("growth", table)
    record.write_figure("growth", figures.growth_figure(table))
    return {"slopes": slopes(table).round(3).to_dict()}


def bunched(config: Config, record: Run) -> dict[str, Any]:
    """LPs and seconds with bunching and without; without it fewer iterations are enough to see."""
    rows = []
    for which, (stages, noises, iterations), rest in (
        ("reservoir", config.reservoir, ()),
        ("warehouses", config.warehouses, (10, 0)),
    ):
        few = max(min(iterations // 10, 4), 2)
        for n, with_it in ((iterations, True), (few, True), (few, False)):
            size = (stages, noises, *rest)
            rows.append(afresh(bunching.measure, which, size, n, with_it))
    table = pd.DataFrame(rows)
    record.write_table("bunching", table)
    return {"rows": table.to_dict("records")}


def instances(config: Config, record: Run) -> dict[str, Any]:
    """Seconds to bounds that are known of two instance files."""
    folder = Path(os.environ.get("SDDP_REFERENCE_DATA", "")) / "instances"
    rows, shares = [], {}
    for name, known in KNOWN_BOUNDS.items():
        if not (folder / f"{name}.json").is_file():
            print(f"{name}: no {name}.json under $SDDP_REFERENCE_DATA/instances", file=sys.stderr)
            continue
        path, seconds = str(folder / f"{name}.json"), config.instance_seconds
        runs = [afresh(train_file, path, seconds, seed) for seed in range(1, config.runs + 1)]
        shares[name] = _table(runs, 1.0)[list(PARTS)].median()
        for bound, peer in known:
            times = [seconds_to(run["log"], run["log"]["bound"] <= bound) for run in runs]
            median = float(np.median(times))
            rows.append({"instance": name, "bound": bound, "seconds": median, "SDDP.jl": peer})
    if rows:
        record.write_table("instances", pd.DataFrame(rows))
        record.write_figure("parts", figures.parts_figure(_shares(pd.DataFrame(shares).T)))
    return {"rows": rows}


SECTIONS: Mapping[str, Callable[[Config, Run], dict[str, Any]]] = {
    "base": base,
    "instances": instances,
    "cores": cores,
    "steady": steady,
    "bunching": bunched,
    "growth": growth,
    "sizes": sizes,
}


def _table(runs: list[dict[str, Any]], best: float) -> pd.DataFrame:
    rows = []
    for run in runs:
        reached = seconds_to_gaps(run["log"], best) if best > 1.0 else {}
        rows.append({k: v for k, v in run.items() if k != "log"} | reached)
    return pd.DataFrame(rows)


def _medians(runs: pd.DataFrame) -> dict[str, float]:
    return {str(k): float(v) for k, v in runs.select_dtypes("number").median().items()}


def _curves(logs: Mapping[str, pd.DataFrame], best: float) -> pd.DataFrame:
    parts = [log.assign(run=name, gap=gaps(log, best)) for name, log in logs.items()]
    return pd.concat(parts).reset_index()


def _shares(seconds: pd.DataFrame) -> pd.DataFrame:
    return seconds.div(seconds.sum(axis=1), axis=0)


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 on success, see `sddp.cli.exit_codes` otherwise."""
    config = _config(arguments)
    return guarded(lambda: write(config), interrupted="nothing was written")


def write(config: Config) -> None:
    """Run the sections that are asked for, and write all of them."""
    results = {}
    with Run(config.out, config, keep=bool(config.only)) as record:
        for name in config.only or SECTIONS:
            results[name] = SECTIONS[name](config, record)
            print(f"{name}: {results[name]}")
        n_cores = multiprocessing.cpu_count()
        machine = f"{platform.processor() or platform.machine()}, {n_cores} cores"
        record.finish("complete", {"machine": machine, **results})
    print(machine)


def _config(arguments: list[str] | None) -> Config:
    default = Config()
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small instances, some seconds")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=[], metavar="SECTION")
    parser.add_argument("--out", help=f"folder for results ({default.out})")
    options = parser.parse_args(arguments)
    config = replace(default, **(QUICK if options.quick else {}), only=tuple(options.only))
    out = options.out or (f"{default.out}_quick" if options.quick else default.out)
    return replace(config, out=out)


if __name__ == "__main__":
    sys.exit(main())
