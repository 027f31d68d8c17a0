"""Which cuts a node looks at in early training: those that have mattered to it lately.

A node compares thousands of outcomes under hundreds of cuts, of which ten or so are the largest
anywhere near its decisions. As long as rows are refined loosely it looks at those and at all
newer ones; every few looks it looks at all cuts, and what turns out to be the largest somewhere
is looked at again. A cut made meanwhile is valid, only weaker where an old cut was missed. At
the final tolerance, at which the last bound is stated and policies answer, all are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sddp.arrays import Ints
from sddp.engine.value.cuts import Cuts


class SelectedCuts(Protocol):
    """The choice at one node; it may remember what it saw."""

    def chosen(self) -> list[Ints] | None:
        """Positions of the cuts to look at, for each of the node's pools; None for all cuts."""
        ...

    def kept(self) -> None:
        """Note that a solution broke no row under the chosen cuts."""
        ...

    def note(self, active: Sequence[Ints]) -> None:
        """Note that all cuts were looked at, and that these are the largest somewhere."""
        ...


class CutSelection(Protocol):
    """Chooses the cuts that are looked at above the final tolerance; see `LazyAggregation`."""

    def start(self, pools: Sequence[tuple[Cuts, int]]) -> SelectedCuts:
        """The choice for one node.

        Parameters
        ----------
        pools : sequence of (Cuts, int)
            Each with the number of realizations under which its cuts are compared; they grow.
        """
        ...


@dataclass(frozen=True)
class RecentlyLargest:
    """Cuts that were the largest somewhere in the last looks at all cuts, and all newer ones.

    Parameters
    ----------
    memory : int
        Looks at all cuts for which one that was the largest is remembered.
    period : int
        Looks that found no row broken, after which all cuts are looked at again.
    fewest_values : int
        Choose from so many values (cuts times realizations) on: a choice costs linear programs
        before it saves time. At the paper's size 0.1 % took 11,035 programs with 60,000 and 12,280
        with 20,000 (`papers/performance.md`).
    """

    memory: int = 10
    period: int = 8
    fewest_values: int = 60_000

    def start(self, pools: Sequence[tuple[Cuts, int]]) -> SelectedCuts:
        """See `CutSelection`."""
        return _Recent(self, pools)


class _Recent:
    def __init__(self, rule: RecentlyLargest, pools: Sequence[tuple[Cuts, int]]) -> None:
        self._rule = rule
        self._pools = [pool for pool, _ in pools]
        self._realisations = [n for _, n in pools]
        self._looks, self._kept = 0, 0
        self._last_look = [np.zeros(0, dtype=np.int64) for _ in pools]
        self._chosen: list[Ints] = []
        self._sizes: list[int] = []

    def chosen(self) -> list[Ints] | None:
        sizes = [len(pool) for pool in self._pools]
        few = self._n_values(sizes) < self._rule.fewest_values
        if self._looks == 0 or few or self._kept >= self._rule.period:
            return None
        if sizes != self._sizes:
            self._chosen = [self._choice(i) for i in range(len(sizes))]
            self._sizes = sizes
        return self._chosen

    def kept(self) -> None:
        self._kept += 1

    def note(self, active: Sequence[Ints]) -> None:
        if self._n_values([len(pool) for pool in self._pools]) < self._rule.fewest_values / 2:
            return  # what mattered will have changed by the time that it is asked for
        self._looks += 1
        self._kept, self._sizes = 0, []
        for i, (pool, largest) in enumerate(zip(self._pools, active, strict=True)):
            known = self._last_look[i]
            self._last_look[i] = np.zeros(len(pool), dtype=np.int64)
            self._last_look[i][: len(known)] = known
            self._last_look[i][largest] = self._looks

    def _n_values(self, sizes: Sequence[int]) -> int:
        """Cuts times realizations, where they are most."""
        return max(n * size for n, size in zip(self._realisations, sizes, strict=True))

    def _choice(self, i: int) -> Ints:
        known = self._last_look[i]
        lately = np.flatnonzero((known > self._looks - self._rule.memory) & (known > 0))
        return np.concatenate([lately, np.arange(len(known), len(self._pools[i]))])
