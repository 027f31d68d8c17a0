"""The study in sample: all its tasks in parallel, kept as they go, and the tables made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from experiments.french import questions, training
from experiments.french.config import Config, Purpose
from experiments.french.inputs import FACTORS, FrenchData
from experiments.french.law import fit_laws
from experiments.french.policies import Cell, World, follow_cell
from experiments.french.tables import Outcome
from sddp.cache.fingerprint import content_hash
from sddp.statistics import GaussianRegimes, choose_n_states
from sddp.studies.streams import stream
from sddp.studies.tasks import Task, TaskPool

Arrays = dict[str, NDArray[Any]]
Results = dict[str, pd.DataFrame]

STATE_COLUMNS = ("held_out_per_row", "held_out_log_likelihood", "bic", "fewest_fitted")


def run(config: Config, data: FrenchData, pool: TaskPool) -> Results:
    """Fit, train, follow and test; the tables by name."""
    world = World(config, fit_laws(data, config))
    # First, and by itself: its seconds are told.
    log = training.training_log(world)
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


def _looks(world: World, data: FrenchData, pool: TaskPool) -> dict[int, Arrays]:
    steps = sorted(world.config.steps, reverse=True)
    about = _about(data, world.config)
    tasks = [Task(training.look, (world, n), [about, n]) for n in steps]
    found = dict(zip(steps, pool.run("training looked at", tasks), strict=True))
    return {n: found[n] for n in sorted(steps)}


def _outcomes(world: World, data: FrenchData, pool: TaskPool) -> dict[Cell, Outcome]:
    config, cells = world.config, questions.all_cells(world.config)
    asked = [(cell, draw) for cell in cells for draw in range(cell.n_draws)]
    about = _about(data, config)
    tasks = [Task(follow_cell, (world, cell, draw), [about, cell, draw]) for cell, draw in asked]
    found: dict[Cell, list[Arrays]] = {cell: [] for cell in cells}
    for (cell, _), arrays in zip(asked, pool.run("policy followed", tasks), strict=True):
        found[cell].append(arrays)
    return {cell: questions.stacked(draws) for cell, draws in found.items()}


def states_table(data: FrenchData, config: Config, pool: TaskPool) -> pd.DataFrame:
    """Choice of the number of regimes, with several streams of random starts."""
    known = data.until(config.n_training).factors
    about = _about(data, config)
    tasks = [
        Task(choose_states, (known, config, repeat), [about, repeat])
        for repeat in range(config.state_repeats)
    ]
    tables = [
        pd.DataFrame(arrays, index=pd.Index(config.states, name="n_states")).assign(repeat=k + 1)
        for k, arrays in enumerate(pool.run("number of regimes", tasks))
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
