"""What is asked in sample: the cells of each table, and the tables made of their outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd

from experiments.french.config import Config
from experiments.french.policies import (
    COST_FREE,
    COSTS_IGNORED,
    MOST_LIKELY,
    MYOPIC,
    RECEDING,
    SDDP,
    Cell,
)
from experiments.french.tables import Outcome, difference, summary, within
from sddp.evaluation import optimality_gap
from sddp.evaluation.estimates import replicate_interval

Outcomes = Mapping[Cell, Outcome]

FRONTIER = (SDDP, COST_FREE, MYOPIC)

LHS, MATCHED = "Latin hypercube", "moments matched"
SOBOL, TIGHTENED = "scrambled Sobol", "tightened limit"
EXCESS = "in excess of bills"

# One-sided level of the authors' estimate in this study.
AUTHORS_LEVEL = 0.9


# --- the efficient frontier ---


def frontier_cells(config: Config) -> list[Cell]:
    """Policies at all limits; SDDP also where portfolios earn what they earned over bills."""
    plain = [
        Cell.of(config, policy, cvar_limit=limit, n_checked=_checked(config, policy))
        for policy, limit in product(FRONTIER, config.limits)
    ]
    own = [cell for cell in plain if cell.policy == SDDP]
    return plain + [replace(cell, excess=True, n_draws=_draws(config, cell)) for cell in own]


def frontier_table(config: Config, outcomes: Outcomes) -> pd.DataFrame:
    """One row per policy and limit; ``below_sddp`` on the same paths."""
    rows = []
    for cell in frontier_cells(config):
        best = outcomes[_sddp_at(config, cell)]
        row = summary(cell, outcomes[cell]) | difference(best, outcomes[cell], "below_sddp")
        rows.append(row | _scaled(outcomes[cell]))
    return pd.DataFrame(rows)


def _checked(config: Config, policy: str) -> int:
    return config.n_checked if policy == SDDP else 0


def _draws(config: Config, cell: Cell) -> int:
    """Of the frontier over bills: all where the gap asks for them too."""
    return config.n_draws if cell.cvar_limit == config.cvar_limit else config.few_draws


def _sddp_at(config: Config, cell: Cell) -> Cell:
    return replace(cell, policy=SDDP, n_checked=config.n_checked)


def _scaled(outcome: Outcome) -> dict[str, float]:
    return replicate_interval(within(outcome), "scaled_wealth") if "scaled_value" in outcome else {}


# --- the gap to the true problem ---


def gap_cells(config: Config) -> dict[tuple[int, str], Cell]:
    """SDDP by number of scenarios and way of sampling."""
    plain = Cell.of(config, n_checked=config.n_checked)
    found = {(n, LHS): replace(plain, n_scenarios=n) for n in config.gap_numbers}
    n = plain.n_scenarios
    return found | {
        (n, LHS): plain,
        (n, MATCHED): replace(plain, moment_matching=True),
        (n, SOBOL): replace(plain, sampling="sobol"),
        (n, TIGHTENED): replace(plain, tightening=config.tightening),
        (n, EXCESS): replace(plain, excess=True),
    }


def gap_table(config: Config, outcomes: Outcomes) -> pd.DataFrame:
    """One row per setting: gap and true CVaR, of the policy and of the one moved towards cash.

    The upper bound is the mean over the draws of the bounds of the sampled problems; that of the
    tightened limit is taken from the trainings at the limit itself.
    """
    cells, rows = gap_cells(config), []
    for (n_scenarios, name), cell in cells.items():
        outcome = outcomes[cell]
        at_limit = outcomes[cells[n_scenarios, LHS]] if name == TIGHTENED else outcome
        bounds, value = at_limit["bound"], outcome["value"]
        authors = optimality_gap(bounds.ravel(), value.ravel(), confidence=AUTHORS_LEVEL)
        gain = float(bounds.mean()) - 1.0
        row = {
            "n_scenarios": n_scenarios,
            "variant": name,
            **summary(cell, outcome),
            "upper": float(bounds.mean()),
            "upper_deviation": float(bounds.std(ddof=1)),
            "gain": gain,
            **replicate_interval(bounds - value, "gap"),
            **replicate_interval(bounds - within(outcome), "scaled_gap"),
            "first_cvar_over_limit": float(outcome["first_risk"].mean()),
            "authors_gap_upper_limit": authors.upper_limit,
            "authors_share_of_bound": authors.share_of_bound,
        }
        row["gap_share_of_gain"] = row["gap"] / gain
        row["scaled_gap_share_of_gain"] = row["scaled_gap"] / gain
        rows.append(row)
    return pd.DataFrame(rows)


# --- the horizon ---


def horizon_cells(config: Config) -> dict[tuple[str, int, float, float], Cell]:
    """SDDP over so many decisions; and that looks so far ahead, begun anew each month."""
    limit, cost = config.cvar_limit, config.transaction_cost
    settings = [(other, cost) for other in config.horizon_limits]
    settings += [(limit, other) for other in config.horizon_costs if other != cost]
    ends = {
        ("horizon", n, at, paying): Cell.of(
            config,
            cvar_limit=at,
            cost=paying,
            n_decisions=n,
            followed=n,
            n_draws=config.few_draws,
        )
        for n, (at, paying) in product(config.horizons, settings)
    }
    return ends | {
        ("look-ahead", n, limit, cost): Cell.of(config, RECEDING, n_decisions=n)
        for n in config.look_aheads
    }


def horizon_table(config: Config, outcomes: Outcomes) -> pd.DataFrame:
    """Terminal wealth by horizon, limit and cost; and by look-ahead over the study's horizon."""
    rows = []
    for (kind, n, _, _), cell in horizon_cells(config).items():
        row = {"kind": kind, "horizon": n, **summary(cell, outcomes[cell])}
        row["gain_a_decision"] = (row["wealth"] - 1.0) / row["decisions"]
        if kind == "look-ahead":
            whole = outcomes[Cell.of(config, RECEDING, n_decisions=config.look_aheads[-1])]
            row |= difference(whole, outcomes[cell], "below_longest")
        rows.append(row)
    return pd.DataFrame(rows)


# --- what each ingredient is worth ---


def ingredient_cells(config: Config) -> dict[tuple[str, bool], Cell]:
    """The policy without each ingredient, where the regime is not seen; total and over bills."""
    found: dict[tuple[str, bool], Cell] = {}
    for excess in (False, True):
        whole = whole_cell(config, excess)
        without = {
            "regimes": replace(whole, n_states=1),
            "costs in the model": replace(whole, policy=COSTS_IGNORED),
            "horizon": replace(whole, policy=MYOPIC),
            "costs after the present trade": replace(whole, policy=COST_FREE),
            "belief instead of most likely regime": replace(whole, policy=MOST_LIKELY),
        }
        found |= {(name, excess): cell for name, cell in without.items()}
    return found


def whole_cell(config: Config, excess: bool) -> Cell:
    """The policy with all of them."""
    return Cell.of(
        config,
        hidden=True,
        excess=excess,
        n_paths=config.n_hidden,
        n_checked=config.n_checked,
    )


def ingredient_table(config: Config, outcomes: Outcomes) -> pd.DataFrame:
    """What is lost without each ingredient, on the same paths and scenario draws.

    ``worth`` compares the policies as they are, ``worth_within`` both moved towards cash wherever
    they break the true limit: a policy may owe its value to breaking it.
    """
    rows = []
    for (name, excess), cell in ingredient_cells(config).items():
        whole, without = outcomes[whole_cell(config, excess)], outcomes[cell]
        row = {"ingredient": name, **summary(cell, without)}
        row |= {"whole": float(whole["value"].mean())}
        row |= {"whole_true_cvar_over_limit": float(whole["risk"].mean())}
        row |= difference(whole, without, "worth")
        row |= replicate_interval(within(whole) - within(without), "worth_within")
        row["worth_share_of_gain"] = row["worth"] / (row["whole"] - 1.0)
        row["worth_within_share_of_gain"] = row["worth_within"] / (row["whole"] - 1.0)
        rows.append(row)
    return pd.DataFrame(rows)


def all_cells(config: Config) -> list[Cell]:
    """Every policy that a table asks for, once; the long ones first."""
    asked = [
        *frontier_cells(config),
        *gap_cells(config).values(),
        *horizon_cells(config).values(),
        *ingredient_cells(config).values(),
        *(whole_cell(config, excess) for excess in (False, True)),
    ]
    return sorted(dict.fromkeys(asked), key=lambda c: (-c.hidden, -c.n_checked, -c.n_decisions))


def stacked(outcomes: Sequence[Outcome]) -> Outcome:
    """Outcomes of the scenario draws as one, draws in front."""
    return {name: np.stack([found[name] for found in outcomes]) for name in outcomes[0]}
