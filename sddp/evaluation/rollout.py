"""Policies followed along simulated paths, many at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sddp.arrays import Floats
from sddp.rng import Rng
from sddp.simulation.laws import ScenarioLaw

# (stage, holdings before trading) -> holdings after it, both (n_paths, 1 + n_assets), cash first.
Rule: TypeAlias = Callable[[int, Floats], Floats]


@dataclass(frozen=True, eq=False)
class Walk:
    """A policy followed along paths.

    Attributes
    ----------
    holdings : array, shape (n_paths, n_decisions, 1 + n_assets)
        After trading, cash first.
    wealth : array, shape (n_paths, n_decisions + 1)
        Before trading, from 1 in cash; in excess of what cash earns. The last is marked at quoted
        values: nothing is sold at the end.
    """

    holdings: Floats
    wealth: Floats

    @property
    def terminal(self) -> Floats:
        """Terminal wealth, shape (n_paths,)."""
        return self.wealth[:, -1]

    @property
    def paid(self) -> Floats:
        """Costs of trading, shape (n_paths, n_decisions)."""
        paid: Floats = self.wealth[:, :-1] - self.holdings.sum(axis=2)
        return paid


def walk(rule: Rule, returns: Floats, n_decisions: int) -> Walk:
    """Follow a rule from one unit of cash.

    Parameters
    ----------
    rule : function
    returns : array, shape (n_paths, at least n_decisions, n_assets)
        Simple returns in excess of cash.
    n_decisions : int
    """
    growth = 1.0 + returns
    n_paths, _, n = growth.shape
    before = np.zeros((n_paths, n + 1))
    before[:, 0] = 1.0
    holdings, wealth = np.empty((n_paths, n_decisions, n + 1)), np.ones((n_paths, n_decisions + 1))
    for t in range(n_decisions):
        holdings[:, t] = rule(t, before)
        before = holdings[:, t].copy()
        before[:, 1:] *= growth[:, t]
        wealth[:, t + 1] = before.sum(axis=1)
    return Walk(holdings, wealth)


def walk_under(rule: Rule, law: ScenarioLaw, *, n_paths: int, n_decisions: int, rng: Rng) -> Walk:
    """Follow a rule from one unit of cash under a law of returns.

    Parameters
    ----------
    rule : function
    law : ScenarioLaw
        Of simple returns in excess of cash.
    n_paths, n_decisions : int
    rng : int, SeedSequence or Generator
        Rules that are followed with the same one meet the same returns.
    """
    chunks = law.sample(n_paths, n_decisions, rng=rng)
    parts = [walk(rule, returns, n_decisions) for returns in chunks]
    return Walk(
        np.concatenate([part.holdings for part in parts]),
        np.concatenate([part.wealth for part in parts]),
    )
