"""How fast training is: bound against time, where the time goes, how it grows.

``python -m experiments.benchmarks [SECTION ...] [--quick]``. Sections: `base` (several runs
of the paper's size), `sizes` (daily returns; five hundred assets), `steady` (time of late
iterations), `cores` (two processes), `growth`, `bunching`, `simulation` (scenarios, risk figures,
equilibria), `live` (a running portfolio: milliseconds from a row to its events), `one-period`
(optimizers beside PIQP alone, skfolio and PyPortfolioOpt), `instances` (files of the folder that
SDDP_REFERENCE_DATA names). Every measurement has a process of its own, one after the other,
whatever ``--jobs`` says; an interrupted run goes on after the last one that was finished. Run it on
an idle machine: times on a busy one say little.
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
from experiments.benchmarks import bunching, figures, live, one_period, simulation
from experiments.benchmarks.measure import (
    GAP_COLUMNS,
    PARTS,
    Laboratory,
    gaps,
    iteration_growth,
    seconds_to,
    seconds_to_gaps,
    slopes,
    train_file,
    train_size,
)
from sddp.cli.study import Study, StudyRun
from sddp.display.progress import ProgressDisplay
from sddp.engine.training.stopping import Iterations, Seconds
from sddp.studies.record import RunFiles

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

    seed: int = 1
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
    simulation_scale: int = 1
    live_scale: int = 1
    optimizer_sizes: tuple[int, ...] = one_period.SIZES
    repetitions: int = 200
    sections: tuple[str, ...] = ()

    @property
    def seeds(self) -> range:
        """Of the runs."""
        return range(self.seed, self.seed + self.runs)


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
    "simulation_scale": 100,
    "live_scale": 100,
    "optimizer_sizes": (10,),
    "repetitions": 5,
}


def base(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Median times of several runs to gaps of 10, 1 and 0.1 % of the gain."""
    best = lab.measure(train_size, config.base, Seconds(config.best_seconds), 99, 2)
    runs = [
        lab.measure(train_size, config.base, Seconds(config.seconds), seed) for seed in config.seeds
    ]
    lowest = min(run["bound"] for run in (best, *runs))
    lab.record.write_table("base_runs", _table(runs, lowest))
    curves = _curves({f"run {i + 1}": run["log"] for i, run in enumerate(runs)}, lowest)
    lab.record.write_table("base_curves", curves)
    return {"best_known_bound": lowest, **_medians(_table(runs, lowest))}


def sizes(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Other sizes: seconds to the gaps and the gap at the end of one run."""
    rows, found = [], {}
    for size, seconds, best_seconds in config.sizes:
        best = lab.measure(train_size, size, Seconds(best_seconds), 99, 2)
        run = lab.measure(train_size, size, Seconds(seconds), config.seed)
        lowest = min(best["bound"], run["bound"])
        rows.append({"size": str(size), **_table([run], lowest).iloc[0].to_dict()})
        found[str(size)] = {"seconds": run["seconds"], "gap": gaps(run["log"], lowest)[-1]}
    lab.record.write_table("sizes", pd.DataFrame(rows))
    return found


def steady(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Median time of the last tenth of the iterations over that of the second tenth."""
    n = config.steady_iterations
    run = lab.measure(train_size, config.base, Iterations(n), config.seed)
    lab.record.write_table("steady", run["log"])
    ratio = iteration_growth(run["log"], slice(n // 10, n // 5), slice(n - n // 10, n))
    return {"iterations": n, "late_over_early": ratio, "peak_mb": run["peak_mb"]}


def cores(config: Config, lab: Laboratory) -> dict[str, Any]:
    """The same training with one process and with two, and what two cores of this machine give.

    That is the speed-up of two trainings that have nothing to do with each other, side by side
    instead of one after the other.
    """
    stop, same, rows = Iterations(config.core_iterations), True, []
    for seed in config.seeds:
        one, two = (lab.measure(train_size, config.base, stop, seed, n_jobs) for n_jobs in (1, 2))
        apart = lab.side_by_side(2, train_size, config.base, stop, seed, 1)
        same = same and np.array_equal(one["log"]["bound"], two["log"]["bound"])
        rows.append([one["seconds"], two["seconds"], max(run["seconds"] for run in apart)])
    table = pd.DataFrame(rows, columns=["one", "two", "two_trainings_side_by_side"])
    table["speed_up"] = table["one"] / table["two"]
    table["speed_up_of_the_machine"] = 2.0 * table["one"] / table["two_trainings_side_by_side"]
    lab.record.write_table("cores", table)
    return {
        "speed_up": float(table["speed_up"].median()),
        "speed_up_of_the_machine": float(table["speed_up_of_the_machine"].median()),
        "same_bounds_bit_for_bit": same,
    }


def growth(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Seconds an iteration along each size, the others at the base's."""
    rows = []
    for axis, values in config.growth.items():
        for value in values:
            changed: dict[str, Any] = {axis: value}
            run = lab.measure(
                train_size,
                replace(config.base, **changed),
                Iterations(config.growth_iterations),
                config.seed,
            )
            run.pop("log")
            per_iteration = run["seconds"] / run["iterations"]
            rows.append({"axis": axis, "value": value, "per_iteration": per_iteration, **run})
    table = pd.DataFrame(rows)
    lab.record.write_table("growth", table)
    return {"slopes": slopes(table).round(3).to_dict()}


def bunched(config: Config, lab: Laboratory) -> dict[str, Any]:
    """LPs and seconds with bunching and without; without it fewer iterations are enough to see."""
    rows = []
    for which, (stages, noises, iterations), rest in (
        ("reservoir", config.reservoir, ()),
        ("warehouses", config.warehouses, (10, 0)),
    ):
        few = max(min(iterations // 10, 4), 2)
        for n, with_it in ((iterations, True), (few, True), (few, False)):
            size = (stages, noises, *rest)
            rows.append(lab.measure(bunching.measure, which, size, n, with_it))
    table = pd.DataFrame(rows)
    lab.record.write_table("bunching", table)
    return {"rows": table.to_dict("records")}


def instances(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Seconds to bounds that are known of two instance files."""
    folder = Path(os.environ.get("SDDP_REFERENCE_DATA", "")) / "instances"
    rows, shares, missing = [], {}, []
    for name, known in KNOWN_BOUNDS.items():
        if not (folder / f"{name}.json").is_file():
            missing.append(f"{name}.json under $SDDP_REFERENCE_DATA/instances")
            continue
        path, seconds = str(folder / f"{name}.json"), config.instance_seconds
        runs = [lab.measure(train_file, path, seconds, seed) for seed in config.seeds]
        shares[name] = _table(runs, 1.0)[list(PARTS)].median()
        for bound, peer in known:
            times = [seconds_to(run["log"], run["log"]["bound"] <= bound) for run in runs]
            median = float(np.median(times))
            rows.append({"instance": name, "bound": bound, "seconds": median, "SDDP.jl": peer})
    if rows:
        lab.record.write_table("instances", pd.DataFrame(rows))
        lab.record.write_table("parts", _shares(pd.DataFrame(shares).T))
    return {"rows": rows, "missing": missing}


def simulated(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Median CPU seconds of simulations and equilibria, beside those that were asked for."""
    scale = config.simulation_scale
    runs = [
        lab.measure(simulation.measure, name, scale, seed)
        for name in simulation.ASKED
        for seed in config.seeds
    ]
    table = pd.DataFrame(runs).groupby("what", sort=False).median().reset_index()
    lab.record.write_table("simulation", table)
    workers = lab.measure(simulation.two_workers, scale, config.seed)
    return {"rows": table.to_dict("records"), "workers": workers}


def running(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Milliseconds a row of a running portfolio, beside those that were asked for."""
    runs = [lab.measure(live.measure, name, config.live_scale, config.seed) for name in live.ASKED]
    table = pd.DataFrame(runs)
    lab.record.write_table("live", table)
    return {"rows": table.to_dict("records")}


def optimizers(config: Config, lab: Laboratory) -> dict[str, Any]:
    """Median CPU milliseconds of one-period optimizers, as multiples of PIQP alone and of asked."""
    sizes = [
        lab.measure(one_period.measure, n, config.repetitions, config.seed)
        for n in config.optimizer_sizes
    ]
    table = pd.concat([pd.DataFrame(run["rows"]) for run in sizes])
    lab.record.write_table("one_period", table)
    sparse = lab.measure(one_period.sparsity, max(config.optimizer_sizes), config.seed)
    lab.record.write_table("sparse_correlations", pd.DataFrame([sparse]))
    return {"rows": table.to_dict("records"), "sparse_correlations": sparse}


SECTIONS: Mapping[str, Callable[[Config, Laboratory], dict[str, Any]]] = {
    "base": base,
    "instances": instances,
    "cores": cores,
    "steady": steady,
    "bunching": bunched,
    "growth": growth,
    "sizes": sizes,
    "simulation": simulated,
    "live": running,
    "one-period": optimizers,
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


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this study."""
    # Named as in every study: a part alone renews its own tables.
    parser.add_argument(
        "only", nargs="*", type=_section, metavar="SECTION", help=f"of {', '.join(SECTIONS)}"
    )


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"{name!r}: must be one of {', '.join(SECTIONS)}")
    return name


def settings(options: argparse.Namespace) -> Config:
    """What is measured."""
    changes = dict(QUICK) if options.quick else {}
    changes |= {} if options.seed is None else {"seed": options.seed}
    return replace(Config(), **changes, sections=tuple(options.only))


def write(job: StudyRun) -> dict[str, Any]:
    """Run the sections that are asked for; what each found."""
    n_cores = multiprocessing.cpu_count()
    job.finished["machine"] = f"{platform.processor() or platform.machine()}, {n_cores} cores"
    names = job.config.sections or tuple(SECTIONS)
    display = ProgressDisplay(len(names), "section", wanted=job.progress)
    lab = Laboratory(job.task_folder, job.record)
    try:
        for done, name in enumerate(names, start=1):
            job.finished[name] = SECTIONS[name](job.config, lab)
            display.update(done)
    finally:
        display.close()
    return job.finished


def plot(files: RunFiles) -> None:
    """Draw the figures of the tables that a folder holds."""
    tables = {
        name: pd.read_csv(files.out / f"{name}.csv", index_col=0)
        for name in ("base_curves", "growth", "parts")
        if (files.out / f"{name}.csv").exists()
    }
    if "base_curves" in tables:
        size = str(Size(**files.settings["base"]))
        files.write_figure("convergence", figures.convergence_figure(tables["base_curves"], size))
    if "growth" in tables:
        files.write_figure("growth", figures.growth_figure(tables["growth"]))
    if "parts" in tables:
        files.write_figure("parts", figures.parts_figure(tables["parts"]))


STUDY = Study(
    name="benchmarks",
    description=__doc__,
    settings=settings,
    run=write,
    plot=plot,
    add_options=add_options,
    shown={"base_runs": ("seed", "iterations", "seconds", "bound", *GAP_COLUMNS)},
    measures_code=True,
)

main = STUDY.main

if __name__ == "__main__":
    sys.exit(main())
