"""Out-of-sample paths in blocks, one block for each scenario draw, and policies followed along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.statistics import ReturnPaths, mean_interval
from sddp.statistics.estimates import Estimate

# (stage, holdings before trading) -> holdings after it, both (n_paths, 1 + n_assets), cash first.
Rule: TypeAlias = Callable[[int, Floats], Floats]


@dataclass(frozen=True, eq=False)
class Sample:
    """Paths and the scenario draw whose policy follows each.

    A draw and its block of paths are a replicate, independent of the others: intervals over
    replicates hold for other scenarios as well as for other paths.

    Attributes
    ----------
    paths : ReturnPaths
    n_draws : int
        Blocks of equal length, in the order of the paths.
    """

    paths: ReturnPaths
    n_draws: int

    @property
    def n_paths(self) -> int:
        """Number of paths."""
        return len(self.paths.factors)

    @property
    def draws(self) -> Ints:
        """The draw of each path, shape (n_paths,)."""
        return np.repeat(np.arange(self.n_draws), self.n_paths // self.n_draws)

    def first(self, per_draw: int) -> Ints:
        """Positions of the first paths of each block."""
        length = self.n_paths // self.n_draws
        return np.flatnonzero(np.arange(self.n_paths) % length < per_draw)

    def thinned(self, per_draw: int) -> Sample:
        """The first paths of each block only."""
        chosen, paths = self.first(per_draw), self.paths
        part = ReturnPaths(paths.log_returns[chosen], paths.factors[chosen], paths.cash_return)
        return Sample(part, self.n_draws)

    def by_draw(self, values: Floats) -> Floats:
        """Values of paths as shape (n_draws, paths of a block)."""
        return values.reshape(self.n_draws, -1)

    def interval(self, values: Floats, confidence: float = 0.95) -> Estimate:
        """Mean over paths with Student's interval over replicates."""
        return mean_interval(self.by_draw(values).mean(axis=1), confidence=confidence)


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


def walk(rule: Rule, paths: ReturnPaths, n_decisions: int) -> Walk:
    """Follow a rule from one unit of cash."""
    growth = 1.0 + paths.excess_returns
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
