"""How many scenarios, by the dynamic program; how many regimes, by the multi-stage policy.

Both as the paper's authors chose, without costs: scenarios where the next larger number makes no
difference that a paired t-test sees, regimes where a one-sided one does not find the policy worse
than the dynamic program. Beside them, over independent draws of the scenarios, the difference
with its interval and whether it is certainly below 5 % of the gain: a test that finds nothing
may only be too noisy, and one precise enough always finds something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from experiments.autoregressive.cells import (
    SDDP,
    Cell,
    Outcome,
    World,
    program,
    sampled_program,
)
from experiments.autoregressive.config import N_NODES, Config, Purpose
from experiments.autoregressive.process import START
from experiments.autoregressive.reference import CELL_OF_ORACLE
from sddp.arrays import Floats
from sddp.bounds.frictionless import follow
from sddp.bounds.martingales import controlled_wealth, value_differences
from sddp.evaluation import compare_draws, smallest_not_worse, smallest_stable
from sddp.evaluation.comparison import Selection
from sddp.statistics import brown_smith
from sddp.studies.streams import stream

# Of the gain: differences below it do not matter.
SHARE = 0.05


@dataclass(frozen=True, eq=False)
class SampledPrograms:
    """Programs on the scenarios of one draw, by number of scenarios.

    Attributes
    ----------
    wealth, values : mapping to array, shape (n_paths,)
        Terminal wealth; the same with the control variate.
    growth : mapping to float
        Optimal values of the sampled problems.
    """

    wealth: Mapping[int, Floats]
    values: Mapping[int, Floats]
    growth: Mapping[int, float]


def sampled_programs(world: World, limit: float, draw: int) -> SampledPrograms:
    """Solve the program on one draw of each number of scenarios and follow it on all paths."""
    process, paths = brown_smith(), world.sample.paths
    expected = value_differences(program(world.config, limit), paths, process.quadrature(N_NODES))
    wealth, values, growth = {}, {}, {}
    for n in sorted({*world.config.scenario_numbers, *world.config.gap_numbers}):
        rng = stream(world.config.seed, Purpose.SHOCKS, draw)
        shocks = process.shocks(n, rng=rng, sampling="latin hypercube")
        sampled = sampled_program(world.config, limit, shocks)
        runs = follow(sampled, paths)
        wealth[n] = runs.wealth[:, -1]
        values[n] = controlled_wealth(wealth[n], runs.holdings, expected)
        growth[n] = float(sampled.growth_at(0, START)[0])
    return SampledPrograms(wealth, values, growth)


def state_cells(config: Config) -> list[Cell]:
    """The policy without costs for each number of regimes, on all paths."""
    return [
        Cell(SDDP, limit, 0.0, n, config.n_scenarios, thin=False, scaled=True)
        for limit in config.state_limits
        for n in config.state_numbers
    ]


def scenario_table(
    world: World, programs: Mapping[tuple[float, int], SampledPrograms]
) -> pd.DataFrame:
    """Tests between successive numbers of scenarios, limit by limit.

    The authors' rule on the first draw, on terminal wealth as they had it (``wealth_``) and with
    the control variate (``value_``); how many draws would choose each number by the former; and
    over draws the ``step`` to the next number.
    """
    config, tables = world.config, []
    numbers = config.scenario_numbers
    for limit in config.scenario_limits:
        draws = [programs[limit, m] for m in range(config.n_draws)]
        rules = [smallest_stable({n: draw.wealth[n] for n in numbers}) for draw in draws]
        precise = smallest_stable({n: draws[0].values[n] for n in numbers})
        stacked = {n: np.array([draw.values[n] for draw in draws]) for n in numbers}
        pairs = {n: (stacked[n], stacked[more]) for n, more in pairwise(numbers)}
        gain = _gain(world, limit)
        rows = _rule(rules[0], "wealth").join(_rule(precise, "value"))
        rows = rows.join(_equivalence(pairs, gain, "step"))
        chosen_by = [sum(rule.chosen == n for rule in rules) for n in pairs]
        rows = rows.assign(draws_that_choose_it=chosen_by)
        tables.append(rows.assign(cvar_limit=limit, gain=gain, margin=SHARE * gain))
    return pd.concat(tables).reset_index()


def state_table(world: World, outcomes: Mapping[Cell, Outcome]) -> pd.DataFrame:
    """Tests of numbers of regimes against the dynamic program, limit by limit.

    The authors' rule on terminal wealth (``wealth_``), with the control variate (``value_``), and
    for the policy moved towards cash on the first paths of each block (``within_``): one that
    breaks the true limit may beat the oracle. Over draws, ``over_oracle`` and
    ``scaled_over_oracle``.
    """
    tables = []
    for limit in world.config.state_limits:
        best = outcomes[replace(CELL_OF_ORACLE, cvar_limit=limit, thin=False)]
        few = best.value[world.sample.first(world.config.n_thin)]
        cells = [cell for cell in state_cells(world.config) if cell.cvar_limit == limit]
        found = {cell.n_states: outcomes[cell] for cell in cells}
        wealth = {n: o.wealth for n, o in found.items()}
        value = {n: o.value for n, o in found.items()}
        within = {n: o.scaled_value for n, o in found.items() if o.scaled_value is not None}
        rules = {
            "wealth": smallest_not_worse(wealth, best.wealth),
            "value": smallest_not_worse(value, best.value),
            "within": smallest_not_worse(within, few),
        }
        rows = pd.concat([_rule(rule, name) for name, rule in rules.items()], axis=1)
        gain, blocks = _gain(world, limit), world.sample.by_draw
        pairs = {n: (blocks(v), blocks(best.value)) for n, v in value.items()}
        moved = {n: (blocks(v), blocks(few)) for n, v in within.items()}
        rows = rows.join(_equivalence(pairs, gain, "over_oracle"))
        rows = rows.join(_equivalence(moved, gain, "scaled_over_oracle"))
        risks = pd.Series({n: float(o.risk.mean()) for n, o in found.items()})
        rows = rows.assign(true_cvar_over_limit=risks)
        tables.append(rows.assign(cvar_limit=limit, gain=gain, margin=SHARE * gain))
    return pd.concat(tables).reset_index()


def _gain(world: World, limit: float) -> float:
    return float(program(world.config, limit).growth_at(0, START)[0]) - 1.0


def _rule(rule: Selection, name: str) -> pd.DataFrame:
    """A rule's tests and choice under a name; the mean difference with its 95 % interval."""
    tests = rule.table[["mean_difference", "low", "high", "p_value"]]
    return tests.assign(chosen=rule.chosen).add_prefix(f"{name}_")


def _equivalence(
    pairs: Mapping[int, tuple[Floats, Floats]], gain: float, name: str
) -> pd.DataFrame:
    """Differences over draws with their 90 % intervals, and the equivalence tests."""
    rows = {}
    for n, (first, second) in pairs.items():
        test = compare_draws(first, second, gain=gain, share=SHARE)
        rows[n] = {
            name: test.difference.mean,
            f"{name}_low": test.difference.low,
            f"{name}_high": test.difference.high,
            f"{name}_equivalence_p_value": test.p_value,
            f"{name}_equivalent": test.equivalent,
        }
    return pd.DataFrame.from_dict(rows, orient="index")
