"""Our numbers beside the reference numbers; policies beside the oracle where trading is free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from experiments.autoregressive.cells import (
    MOST_LIKELY,
    MYOPIC,
    ONE_STEP,
    ORACLE,
    SDDP,
    Cell,
    Outcome,
    World,
)
from experiments.autoregressive.config import N_NODES, Config, Purpose
from experiments.autoregressive.process import (
    DEVIATION,
    FIRST_CASH,
    MEAN_CASH,
    REFERENCES,
    SIMULATED,
    START,
    TERMINAL,
    Reference,
)
from experiments.autoregressive.sample import Sample
from experiments.autoregressive.tables import difference, frame, summary
from sddp.bounds.frictionless import FrictionlessPolicy, factor_grid, follow, solve_frictionless
from sddp.statistics import brown_smith
from sddp.studies.streams import stream

# The authors' T of 12 dates, and 12 decisions.
ELEVEN, TWELVE = 11, 12

# Standard errors on both sides that a simulated number may be off by.
DEVIATIONS = 3.0


def reference_table(config: Config, sample: Sample) -> pd.DataFrame:
    """One row per reference number: ours, and whether they agree within the stated errors."""
    oracles = {limit: _oracle(config, limit) for limit in config.reference_limits}
    known = [r for r in REFERENCES if r.cvar_limit in oracles]
    return pd.DataFrame([_row(r, oracles[r.cvar_limit], sample) for r in known])


def _oracle(config: Config, limit: float) -> FrictionlessPolicy:
    """The program of 12 decisions; its later ones are the program of fewer."""
    process = brown_smith()
    return solve_frictionless(
        process,
        process.shocks(config.oracle_points, rng=stream(config.seed, Purpose.ORACLE)),
        factor_grid(process, config.n_grid),
        n_decisions=TWELVE,
        cvar_limit=limit,
        cvar_confidence=config.cvar_confidence,
        expectation=process.quadrature(N_NODES),
    )


def _row(reference: Reference, oracle: FrictionlessPolicy, sample: Sample) -> dict[str, object]:
    ours, error = _ours(reference, oracle, sample)
    room = reference.tolerance + DEVIATIONS * float(np.hypot(reference.standard_error, error))
    return {
        "quantity": reference.quantity,
        "cvar_limit": reference.cvar_limit,
        "decisions": reference.n_decisions,
        "reference": reference.value,
        "ours": ours,
        "our_standard_error": error,
        "difference": ours - reference.value,
        "allowed": room,
        "agrees": abs(ours - reference.value) <= room,
        "source": reference.source,
    }


def _ours(reference: Reference, oracle: FrictionlessPolicy, sample: Sample) -> tuple[float, float]:
    """Our number and its standard error, 0 where nothing is simulated."""
    stage = TWELVE - reference.n_decisions
    if reference.quantity == TERMINAL:
        return float(oracle.growth_at(stage, START)[0]), 0.0
    if reference.quantity == FIRST_CASH:
        return 1.0 - float(oracle.weights(stage, START).sum()), 0.0
    later = replace(oracle, growth=oracle.growth[stage:], grid_weights=oracle.grid_weights[stage:])
    runs = follow(later, sample.paths)
    wealth, cash = runs.wealth[:, -1], (runs.holdings[:, :, 0] / runs.wealth[:, :-1]).mean(axis=1)
    root = np.sqrt(len(wealth))
    known = {
        SIMULATED: (wealth.mean(), wealth.std(ddof=1) / root),
        DEVIATION: (wealth.std(ddof=1), wealth.std(ddof=1) / (np.sqrt(2.0) * root)),
        MEAN_CASH: (cash.mean(), cash.std(ddof=1) / root),
    }
    ours, error = known[reference.quantity]
    return float(ours), float(error)


def cells(config: Config) -> list[Cell]:
    """Policies where trading is free, and what is left when regimes are known, and many."""
    limits, sizes = config.reference_limits, (config.n_states, config.n_scenarios)
    fitted = [
        Cell(policy, limit, 0.0, *sizes, scaled=policy == SDDP)
        for limit in limits
        for policy in (SDDP, MOST_LIKELY, MYOPIC, ONE_STEP)
    ]
    many = max(config.state_numbers), 2 * config.n_scenarios
    return fitted + [
        Cell(SDDP, config.gap_limit, 0.0, *chosen, moment_matching=True, known=True, scaled=True)
        for chosen in (sizes, many)
    ]


def policy_table(world: World, outcomes: Mapping[Cell, Outcome]) -> pd.DataFrame:
    """Policies less the oracle, limit by limit, on the same paths."""
    rows = []
    for cell in cells(world.config):
        best = outcomes[replace(CELL_OF_ORACLE, cvar_limit=cell.cvar_limit)]
        sample, outcome = world.sample_of(cell), outcomes[cell]
        oracle = float(best.value.mean())
        row = summary(world, cell, outcome) | {"known_regimes": cell.known}
        row |= {"oracle": oracle, "gain": oracle - 1.0}
        row |= difference(sample, outcome.value, best.value, "over_oracle")
        if outcome.scaled_value is not None:
            row |= difference(sample, outcome.scaled_value, best.value, "scaled_over_oracle")
        rows.append(row)
    return frame(rows)


CELL_OF_ORACLE = Cell(ORACLE, 0.0, 0.0, thin=True)


def oracle_cells(config: Config) -> list[Cell]:
    """The oracle at every limit that is compared without costs."""
    asked = [(limit, True) for limit in (*config.reference_limits, config.gap_limit)]
    asked += [(limit, False) for limit in config.state_limits]
    return [replace(CELL_OF_ORACLE, cvar_limit=limit, thin=thin) for limit, thin in asked]
