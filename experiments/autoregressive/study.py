"""All cells of the study in parallel, and the tables made of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from itertools import product
from typing import Any, TypeVar

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from experiments.autoregressive import choices, frontier, gap, ingredients, reference
from experiments.autoregressive.cells import (
    Cell,
    World,
    follow_cell,
    out_of_sample,
    relax,
)
from experiments.autoregressive.config import Config, Purpose
from experiments.autoregressive.process import brown_smith
from experiments.autoregressive.regimes import RegimeModel, fit_regimes, histories
from experiments.autoregressive.tail import TrueTail
from sddp.studies.streams import stream

Answer = TypeVar("Answer")
Key = TypeVar("Key")
Results = dict[str, pd.DataFrame]

FITS, BOUNDS, CELLS, PROGRAMMES = "regimes", "upper bounds", "policies", "sampled programmes"


def run(config: Config) -> Results:
    """Fit, train, follow and test; the tables by name."""
    world = prepare(config)
    cells = all_cells(config)
    followed = keyed(cells, spread(config, CELLS, follow_cell, [(world, c) for c in cells]))
    kinds = list(dict.fromkeys([*frontier.bound_cells(config), gap.bound_cell(config)]))
    bounds = keyed(kinds, spread(config, BOUNDS, relax, [(world, *kind) for kind in kinds]))
    limits = sorted({*config.scenario_limits, config.gap_limit})
    draws = list(product(limits, range(config.n_draws)))
    solve = choices.sampled_programmes
    programmes = keyed(draws, spread(config, PROGRAMMES, solve, [(world, *d) for d in draws]))
    return {
        "regimes": regime_table(world),
        "reference": reference.reference_table(config, world.sample),
        "policies": reference.policy_table(world, followed),
        "frontier": frontier.table(world, followed, bounds),
        "scenarios": choices.scenario_table(world, programmes),
        "states": choices.state_table(world, followed),
        "gap": gap.table(world, followed, bounds, programmes),
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


def keyed(keys: Sequence[Key], answers: Sequence[Answer]) -> dict[Key, Answer]:
    """Answers by what was asked."""
    return dict(zip(keys, answers, strict=True))


def prepare(config: Config) -> World:
    """Paths, regimes and the table of true tails."""
    process = brown_smith()
    past = histories(process, config)
    numbers = sorted({1, config.n_states, *config.state_numbers})
    keys: list[tuple[int, Any]] = [(n, "same date") for n in numbers]
    keys.append((config.n_states, "predicted"))
    fits: list[RegimeModel] = spread(
        config, FITS, fit_regimes, [(past, *key, config.seed) for key in keys]
    )
    tail = TrueTail(
        process,
        config.cvar_confidence,
        config.tail_points,
        rng=stream(config.seed, Purpose.TAIL),
    )
    return World(config, out_of_sample(config), tail, keyed(keys, fits))


def spread(
    config: Config,
    what: str,
    work: Callable[..., Answer],
    arguments: Sequence[tuple[Any, ...]],
) -> list[Answer]:
    """Answers in the order of the arguments, in parallel, with a line that says how far it is.

    What takes a cell's random numbers is its own place in the study, so the answers do not depend
    on the number of jobs.
    """
    jobs = (delayed(work)(*given) for given in arguments)
    answers: Iterable[Answer] = Parallel(n_jobs=config.n_jobs, return_as="generator")(jobs)
    shown = tqdm(answers, desc=what, total=len(arguments), file=sys.stderr, mininterval=1.0)
    return list(shown)


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
