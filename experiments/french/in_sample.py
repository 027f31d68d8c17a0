"""The study in sample: all its tasks in parallel, kept as they go, and the tables made of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from experiments.french import questions, training
from experiments.french.config import Config, Purpose
from experiments.french.inputs import FACTORS, FrenchData
from experiments.french.law import fit_laws
from experiments.french.policies import Cell, World, follow_cell
from experiments.french.tables import Outcome
from sddp.cache.fingerprint import content_hash, describe
from sddp.cache.store import Record, read_record, store_key, write_record
from sddp.statistics import GaussianRegimes, choose_n_states
from sddp.studies.streams import stream
from sddp.threads import one_blas_thread

Arrays = dict[str, NDArray[Any]]
Results = dict[str, pd.DataFrame]

STATE_COLUMNS = ("held_out_per_row", "held_out_log_likelihood", "bic", "fewest_fitted")


def run(config: Config, data: FrenchData, *, store: str | Path, n_jobs: int) -> Results:
    """Fit, train, follow and test; the tables by name. What is in the store is not done again."""
    world = World(config, fit_laws(data, config))
    # First, and by itself: its seconds are told.
    log = training.training_log(world)
    pool = Pool(Path(store) / "french", n_jobs)
    states = states_table(data, config, pool)
    looks = _looks(world, data, pool)
    outcomes = _outcomes(world, data, pool)
    plain = outcomes[questions.gap_cells(config)[config.n_scenarios, questions.LHS]]
    first = list(plain["first"])
    return {
        "law": law_table(world),
        "states": states,
        "training": log,
        "speed": training.speed_table(world, log, pool.seconds),
        "convergence": training.convergence_table(world, looks, log),
        "first_stage": training.first_stage_table(world, looks, first),
        "frontier": questions.frontier_table(config, outcomes),
        "gap": questions.gap_table(config, outcomes),
        "horizon": questions.horizon_table(config, outcomes),
        "ingredients": questions.ingredient_table(config, outcomes),
    }


def _looks(world: World, data: FrenchData, pool: Pool) -> dict[int, Arrays]:
    steps = sorted(world.config.steps, reverse=True)
    about = _about(data, world.config)
    tasks = [(["look", about, n], training.look, (world, n)) for n in steps]
    found = dict(zip(steps, pool.spread("trainings looked at", tasks), strict=True))
    return {n: found[n] for n in sorted(steps)}


def _outcomes(world: World, data: FrenchData, pool: Pool) -> dict[Cell, Outcome]:
    config, cells = world.config, questions.all_cells(world.config)
    asked = [(cell, draw) for cell in cells for draw in range(cell.n_draws)]
    about = _about(data, config)
    tasks = [
        (["cell", about, cell, draw], follow_cell, (world, cell, draw)) for cell, draw in asked
    ]
    found: dict[Cell, list[Arrays]] = {cell: [] for cell in cells}
    for (cell, _), arrays in zip(asked, pool.spread("policies followed", tasks), strict=True):
        found[cell].append(arrays)
    return {cell: questions.stacked(draws) for cell, draws in found.items()}


def states_table(data: FrenchData, config: Config, pool: Pool) -> pd.DataFrame:
    """Choice of the number of regimes, with several streams of random starts."""
    known = data.until(config.n_training).factors
    about = _about(data, config)
    tasks = [
        (["states", about, repeat], choose_states, (known, config, repeat))
        for repeat in range(config.state_repeats)
    ]
    tables = [
        pd.DataFrame(arrays, index=pd.Index(config.states, name="n_states")).assign(repeat=k + 1)
        for k, arrays in enumerate(pool.spread("numbers of regimes", tasks))
    ]
    return pd.concat(tables).reset_index()


def choose_states(known: pd.DataFrame, config: Config, repeat: int) -> Arrays:
    """One choice by held-out likelihood in expanding windows, as the authors made it."""
    table = choose_n_states(
        known,
        config.states,
        rng=stream(config.seed, Purpose.STATES, repeat),
        regimes=GaussianRegimes(n_starts=config.state_starts),
    )
    return {name: table[name].to_numpy() for name in (*STATE_COLUMNS, "chosen")}


def law_table(world: World) -> pd.DataFrame:
    """Regimes of the factors a month: means and deviations, how long they last, what they pay."""
    law, over_cash = (world.laws[world.config.n_states, excess] for excess in (False, True))
    rows = []
    for k, (mean, covariance) in enumerate(
        zip(law.regimes.means, law.regimes.covariances, strict=True)
    ):
        deviations = np.sqrt(np.diag(covariance))
        rows.append(
            {
                "regime": k + 1,
                "present": float(law.start[k]),
                "stays": float(law.regimes.transition_matrix[k, k]),
                **{f"{name}_mean": float(m) for name, m in zip(FACTORS, mean, strict=False)},
                **{f"{name}_sd": float(d) for name, d in zip(FACTORS, deviations, strict=False)},
                "portfolio_mean": float(law.gross[k, 1:].mean() - 1.0),
                "portfolio_mean_over_bills": float(over_cash.gross[k, 1:].mean() - 1.0),
            }
        )
    return pd.DataFrame(rows).assign(
        least_r_squared=float(law.assets.r_squared.min()),
        mean_r_squared=float(law.assets.r_squared.mean()),
    )


Task = tuple[list[Any], Callable[..., Arrays], tuple[Any, ...]]


def _about(data: FrenchData, config: Config) -> list[Any]:
    """What the numbers in sample depend on, beside what is asked."""
    known = data.until(config.n_training)
    settings = (
        *("seed", "n_decisions", "n_states", "n_starts", "n_scenarios", "sampling"),
        *("transaction_cost", "cvar_confidence", "cvar_limit", "iterations", "n_paths", "n_tail"),
        *("step_paths", "states", "state_starts"),
    )
    return [content_hash(known.returns, known.factors, known.rf)] + [
        getattr(config, name) for name in settings
    ]


@dataclass
class Pool:
    """Where tasks are done: in parallel, and each only once.

    Attributes
    ----------
    folder : Path
        Of the answers that are kept.
    n_jobs : int
    seconds : dict of str to float
        By kind of task: what the answers took, whenever they were worked out.
    """

    folder: Path
    n_jobs: int
    seconds: dict[str, float] = field(default_factory=dict)

    def spread(self, what: str, tasks: Sequence[Task]) -> list[Arrays]:
        """Answers in the order of the tasks, with a line that says how far it is."""
        jobs = (joblib.delayed(_kept)(self.folder, *task) for task in tasks)
        answers: Iterable[Record] = joblib.Parallel(n_jobs=self.n_jobs, return_as="generator")(jobs)
        shown = tqdm(answers, desc=what, total=len(tasks), file=sys.stderr, mininterval=5.0)
        records = list(shown)
        self.seconds[what] = sum(record.facts["seconds"] for record in records)
        return [record.arrays for record in records]


def _kept(
    folder: Path, about: list[Any], work: Callable[..., Arrays], arguments: tuple[Any, ...]
) -> Record:
    """The answer to a task, looked up or worked out and kept."""
    key = store_key(describe(about))
    path = folder / key[:2] / f"{key}.npz"
    record = read_record(path)
    if record is None:
        started = time.perf_counter()
        with one_blas_thread():
            arrays = work(*arguments)
        record = Record(arrays, {"seconds": time.perf_counter() - started})
        write_record(path, record)
    return record
