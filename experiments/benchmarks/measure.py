"""One training in a process of its own, and what is read off it.

Gaps are relative to the gain: ``(bound - best) / (best - 1)`` for wealth 1, `best` being the
lowest bound that any run of the instance reached: a gap is what is left to the best known bound,
not to the optimum. Seconds are wall-clock and begin after the problem is compiled.
"""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from experiments.benchmark_instances import Size
from sddp.allocation.instances import read_instance
from sddp.allocation.problem import allocation_problem
from sddp.arrays import Floats
from sddp.engine.model.problem import Problem
from sddp.engine.training.stopping import Seconds, StoppingRule
from sddp.engine.training.train import train
from sddp.studies.record import Run
from sddp.studies.tasks import Task, TaskPool

GAPS = (0.1, 0.01, 0.001)
LOGGED = ("seconds", "bound", "solves", "tolerance")
GAP_COLUMNS = tuple(f"seconds_to_{limit:.1%}_of_gain" for limit in GAPS)
PARTS = ("linear programs", "cost-to-go", "CVaR", "other")


class Laboratory:
    """Where measurements are made, one after the other, each in a new process.

    Parameters
    ----------
    folder : path
        Finished measurements of this run are kept in it.
    record : Run
        Takes the tables.
    """

    def __init__(self, folder: Path, record: Run) -> None:
        self.record = record
        self._pool = TaskPool(folder, progress=False)

    def measure(self, task: Callable[..., Any], *arguments: Any) -> Any:
        """Result of a task in a new process: its memory and its caches are its own."""
        return self.side_by_side(1, task, *arguments)[0]

    def side_by_side(self, n: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Results of the same task in several new processes at once."""
        about = [n, task, *arguments]
        (results,) = self._pool.run("measurement", [Task(in_processes, tuple(about), about)])
        for result in results:
            if "log" in result:
                index = pd.RangeIndex(1, result["iterations"] + 1, name="iteration")
                result["log"] = pd.DataFrame(result["log"], index)
        return list(results)


def in_processes(n: int, task: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Results of the same task in several new processes at once."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n, mp_context=context) as pool:  # they may have some of their own
        return [run.result() for run in [pool.submit(task, *arguments) for _ in range(n)]]


def train_size(size: Size, stopping: StoppingRule, seed: int, n_jobs: int = 1) -> dict[str, Any]:
    """Train a seeded instance from cash; see `timed_training`."""
    started = time.perf_counter()
    problem = allocation_problem(size.model, size.scenarios(), initial_holdings={"cash": 1.0})
    built = time.perf_counter() - started
    measured = timed_training(problem.engine, stopping, seed, n_jobs)
    return {**asdict(size), "build_seconds": built, **measured}


def train_file(path: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train the problem of an instance file; see `timed_training`."""
    instance = read_instance(path)
    problem = allocation_problem(
        instance.model,
        instance.scenarios,
        initial_holdings=instance.initial_holdings,
        initial_regime=instance.initial_regime,
    )
    return timed_training(problem.engine, Seconds(seconds), seed)


def timed_training(
    problem: Problem, stopping: StoppingRule, seed: int, n_jobs: int = 1
) -> dict[str, Any]:
    """Log, seconds by part, and effort of one training."""
    rng = np.random.default_rng(seed)
    result = train(problem, rng=rng, stopping=stopping, n_jobs=n_jobs, progress=False)
    work, total = result.work, float(result.log["seconds"].iloc[-1])
    known = (work.lp.seconds, work.cost_to_go_seconds, work.generator_seconds)
    return {
        "log": {name: result.log[name].to_numpy() for name in LOGGED},
        "seed": seed,
        "n_jobs": n_jobs,
        "iterations": len(result.log),
        "seconds": total,
        **dict(zip(PARTS, (*known, total - sum(known)), strict=True)),
        "lps_per_iteration": work.lp.solves / len(result.log),
        "pivots_per_lp": work.lp.pivots / work.lp.solves,
        "bunched": work.bunched,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
        "bound": result.bound,
    }


def gaps(log: pd.DataFrame, best: float) -> Floats:
    """Gap to the best known bound after each iteration, as a fraction of the gain."""
    gap: Floats = (log["bound"].to_numpy() - best) / (best - 1.0)
    return gap


def seconds_to(log: pd.DataFrame, reached: ArrayLike) -> float:
    """When a condition first held; infinite where it never did."""
    at = np.flatnonzero(reached)
    return float(log["seconds"].iloc[at[0]]) if len(at) else np.inf


def seconds_to_gaps(log: pd.DataFrame, best: float) -> dict[str, float]:
    """Seconds to each of `GAPS`."""
    gap = gaps(log, best)
    reached = [seconds_to(log, gap <= limit) for limit in GAPS]
    return dict(zip(GAP_COLUMNS, reached, strict=True))


def iteration_growth(log: pd.DataFrame, early: slice, late: slice) -> float:
    """Median time of the late iterations over that of the early ones."""
    each = np.diff(log["seconds"].to_numpy(), prepend=0.0)
    return float(np.median(each[late]) / np.median(each[early]))


def slopes(growth: pd.DataFrame) -> pd.Series[float]:
    """Log-log slope of the time per iteration along each axis."""
    return pd.Series(
        {
            axis: float(np.polyfit(np.log(rows["value"]), np.log(rows["per_iteration"]), 1)[0])
            for axis, rows in growth.groupby("axis", sort=False)
        },
        name="slope",
    )
