"""One training looked at as it goes: its bound, and what its policy is worth in sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from experiments.french.config import Purpose
from experiments.french.policies import Cell, World, trained
from sddp.allocation.policy import AllocationPolicy
from sddp.arrays import Floats
from sddp.evaluation import mean_interval
from sddp.evaluation.rollout import RegimeControl, Rollout
from sddp.labels import CASH
from sddp.studies.streams import stream

# Of the gain, per cent, that a bound may be above the last one, where times to it are told.
GAPS = (1.0, 0.1)


def training_log(world: World) -> pd.DataFrame:
    """The longest training, alone on its core: bound, seconds and programs by iteration."""
    log = trained(world, Cell.of(world.config), 0, max(world.config.steps)).log
    return log[["bound", "simulated", "seconds", "solves"]]


def look(world: World, iterations: int) -> dict[str, Floats]:
    """What a training knows after some iterations: it is the beginning of every longer one.

    Returns
    -------
    dict of arrays
        ``bound``, shape (1,); ``cuts``, shape (1,): mean number at a stage and regime; ``first``,
        shape (1 + n_assets,): weights after the first decision; ``value``, shape (step_paths,):
        terminal wealth on simulated paths of the scenarios, with its control variate.
    """
    config = world.config
    policy = trained(world, Cell.of(config), 0, iterations).policy
    first = policy.decide(
        stage=0, regime=world.laws[config.n_states, False].first, holdings={CASH: 1.0}
    )
    nodes = policy.engine.checkpoint.nodes
    pools = [
        len(pool.slopes)
        for stage in range(1, config.n_decisions)
        for regime in range(config.n_states)
        for pool in nodes[stage, regime].pools
    ]
    return {
        "bound": np.array([policy.bound]),
        "cuts": np.array([np.mean(pools)]),
        "first": first.weights.to_numpy(),
        "value": in_sample(policy, config.step_paths, stream(config.seed, Purpose.SIMULATION)),
    }


def in_sample(policy: AllocationPolicy, n_paths: int, rng: np.random.Generator) -> Floats:
    """Terminal wealth on paths of the policy's own scenarios, with its control variate."""
    problem = policy.problem
    scenarios, names = problem.scenarios, list(problem.scenarios.state_names or ())
    table = policy.simulate(n_paths, rng=rng)
    shape = (n_paths, problem.n_stages + 1)
    regimes = np.array([names.index(name) for name in table["regime"]]).reshape(shape)
    held = table[[f"holdings[{position}]" for position in problem.positions]].to_numpy()
    run = Rollout(held.reshape(*shape, -1)[:, :-1], table["wealth"].to_numpy().reshape(shape))
    assert scenarios.probabilities is not None
    mean = np.einsum("js,jsn->jn", scenarios.probabilities[0], scenarios.returns[0])
    gross = np.column_stack([np.ones(len(mean)), 1.0 + mean])
    beliefs = np.eye(scenarios.n_states)[regimes[:, :-1]]
    return RegimeControl(beliefs, scenarios.transition_matrix[0], gross, problem.growth).value(run)


def convergence_table(
    world: World, looks: dict[int, dict[str, Floats]], log: pd.DataFrame
) -> pd.DataFrame:
    """Bound and policy value after some iterations, against cuts and seconds."""
    rows = []
    for iterations, found in looks.items():
        value = mean_interval(found["value"])
        rows.append(
            {
                "iteration": iterations,
                "decisions": world.config.n_decisions,
                "cuts": float(found["cuts"][0]),
                "seconds": float(log["seconds"].loc[iterations]),
                "bound": float(found["bound"][0]),
                "value": value.mean,
                "value_low": value.low,
                "value_high": value.high,
                "paths": len(found["value"]),
            }
        )
    return pd.DataFrame(rows)


def speed_table(world: World, log: pd.DataFrame, tasks: Mapping[str, float]) -> pd.DataFrame:
    """Seconds of one training, alone on a core, and of all tasks in sample on one core."""
    last, used = float(log["bound"].iloc[-1]), world.config.iterations
    rows: list[dict[str, Any]] = []
    for gap in GAPS:
        near = log["bound"] - last <= gap / 100.0 * (last - 1.0)
        reached = int(log.index[near][0])
        what = f"bound within {gap:g} % of the gain of that after {len(log)} iterations"
        rows.append({"what": what, "iterations": reached, "seconds": log["seconds"].loc[reached]})
    if used in log.index:
        what = "training as the studies use it"
        rows.append({"what": what, "iterations": used, "seconds": log["seconds"].loc[used]})
    rows += [{"what": f"{unit}, all", "seconds": seconds} for unit, seconds in tasks.items()]
    return pd.DataFrame(rows)


def first_stage_table(
    world: World, looks: dict[int, dict[str, Floats]], draws: list[Floats]
) -> pd.DataFrame:
    """Weights after the first decision by iteration and over draws: those above 1e-6."""
    names = (CASH, *(world.laws[world.config.n_states, False].assets.asset_names or ()))
    series = [("iteration", n, found["first"]) for n, found in looks.items()]
    series += [("draw", m + 1, first) for m, first in enumerate(draws)]
    rows = [
        {"by": by, "number": number, "position": name, "weight": float(weight)}
        for by, number, weights in series
        for name, weight in zip(names, weights, strict=True)
        if weight > 1e-6
    ]
    return pd.DataFrame(rows)
