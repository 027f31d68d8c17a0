"""Rows of the results in sample: what a policy earns and risks, and by how much two differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.french.policies import Cell
from sddp.arrays import Floats
from sddp.evaluation.estimates import replicate_interval
from sddp.evaluation.true_risk import over_limit

# What became of a cell: arrays of `policies.follow_cell` with the scenario draws in front.
Outcome = Mapping[str, Floats]


def summary(cell: Cell, outcome: Outcome) -> dict[str, Any]:
    """A policy's value with its interval, and the true CVaR of its decisions where checked."""
    row: dict[str, Any] = {
        "policy": cell.policy,
        "cvar_limit": cell.cvar_limit,
        "cost": cell.cost,
        "decisions": cell.followed,
        "n_states": cell.n_states,
        "n_scenarios": cell.n_scenarios,
        "in_excess_of_bills": cell.excess,
        "regime_hidden": cell.hidden,
        "draws": len(outcome["value"]),
        "paths": outcome["value"].size,
        **replicate_interval(outcome["value"], "wealth"),
        **replicate_interval(outcome["wealth"], "plain_simulation"),
        "bound": float(outcome["bound"].mean()),
        "cost_paid": float(outcome["paid"].mean()),
        "first_cash": float(outcome["first"][:, 0].mean()),
    }
    return row | (over_limit(outcome["risk"]) if "risk" in outcome else {})


def difference(first: Outcome, second: Outcome, name: str) -> dict[str, float]:
    """Value of the first policy less that of the second, on the same paths and draws."""
    return replicate_interval(first["value"] - second["value"], name)


def within(outcome: Outcome) -> Floats:
    """Mean value in each draw, moved towards cash until the true limit holds; shape (n_draws, 1).

    What the move costs is known on few paths, on which it hardly differs: it is taken from the mean
    over all of them.
    """
    value, scaled = outcome["value"], outcome["scaled_value"]
    lost = (value[:, : scaled.shape[1]] - scaled).mean(axis=1, keepdims=True)
    left: Floats = value.mean(axis=1, keepdims=True) - lost
    return left
