"""All cells of the study in parallel, and the tables made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import product
from typing import Any, TypeVar

import pandas as pd

from experiments.autoregressive import choices, frontier, gap, ingredients, reference
from experiments.autoregressive.cells import (
    Cell,
    World,
    follow_cell,
    out_of_sample,
    relax,
)
from experiments.autoregressive.config import Config, Purpose
from experiments.autoregressive.tail import TrueTail
from sddp.estimation.process_regimes import RegimeModel, fit_regimes, histories
from sddp.statistics import brown_smith
from sddp.statistics.paths import Pairing, ReturnPaths
from sddp.studies.streams import stream
from sddp.studies.tasks import Task, TaskPool

Key = TypeVar("Key")
Results = dict[str, pd.DataFrame]


def run(config: Config, pool: TaskPool) -> Results:
    """Fit, train, follow and test; the tables by name."""
    world = prepare(config, pool)

    def done(unit: str, work: Callable[..., Any], keys: Sequence[Key]) -> dict[Key, Any]:
        tasks = [Task(work, (world, *_parts(key)), [config, key]) for key in keys]
        return dict(zip(keys, pool.run(unit, tasks), strict=True))

    followed = done("policy", follow_cell, all_cells(config))
    kinds = list(dict.fromkeys([*frontier.bound_cells(config), gap.bound_cell(config)]))
    bounds = done("upper bound", relax, kinds)
    limits = sorted({*config.scenario_limits, config.gap_limit})
    draws = list(product(limits, range(config.n_draws)))
    programs = done("sampled program", choices.sampled_programs, draws)
    return {
        "regimes": regime_table(world),
        "reference": reference.reference_table(config, world.sample),
        "policies": reference.policy_table(world, followed),
        "frontier": frontier.table(world, followed, bounds),
        "scenarios": choices.scenario_table(world, programs),
        "states": choices.state_table(world, followed),
        "gap": gap.table(world, followed, bounds, programs),
        "ingredients": ingredients.table(world, followed),
    }


def all_cells(config: Config) -> list[Cell]:
    """Every policy that a table asks for, once; the long ones first, so that no core idles last."""
    asked = {
        *frontier.cells(config),
        *gap.cells(config),
        *ingredients.cells(config).values(),
        *(ingredients.whole_cell(config, g, c) for g, c in config.ingredient_cells),
        *choices.state_cells(config),
        *reference.cells(config),
        *reference.oracle_cells(config),
    }
    return sorted(asked, key=lambda c: (c.thin, -c.n_states * c.n_scenarios, astuple(c)))


def _parts(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def prepare(config: Config, pool: TaskPool) -> World:
    """Paths, regimes and the table of true tails."""
    process = brown_smith()
    past = histories(
        process,
        config.n_histories,
        config.n_history,
        n_discarded=config.n_discarded,
        rng=stream(config.seed, Purpose.HISTORIES),
    )
    numbers = sorted({1, config.n_states, *config.state_numbers})
    keys: list[tuple[int, Any]] = [(n, "same date") for n in numbers]
    keys.append((config.n_states, "predicted"))
    tasks = [Task(_fit, (past, *key, config.seed), [config, key]) for key in keys]
    fits: list[RegimeModel] = pool.run("fit of regimes", tasks)
    tail = TrueTail(
        process,
        config.cvar_confidence,
        config.tail_points,
        rng=stream(config.seed, Purpose.TAIL),
    )
    return World(config, out_of_sample(config), tail, dict(zip(keys, fits, strict=True)))


def _fit(past: ReturnPaths, n_states: int, pairing: Pairing, seed: int) -> RegimeModel:
    return fit_regimes(past, n_states, pairing, rng=stream(seed, Purpose.FIT, n_states))


def regime_table(world: World) -> pd.DataFrame:
    """Means of the fitted regimes per month, and how long they last."""
    rows = []
    for (n_states, pairing), model in world.regimes.items():
        fitted = model.regimes
        for k in range(n_states):
            means = dict(
                zip(("asset1", "asset2", "asset3", "factor"), fitted.means[k], strict=True)
            )
            stay = float(fitted.transition_matrix[k, k])
            rows.append(
                {"n_states": n_states, "pairing": pairing, "regime": k + 1, **means, "stays": stay}
            )
    return pd.DataFrame(rows)
