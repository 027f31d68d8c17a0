"""Which cuts a node looks at in early training: those that have mattered to it lately.

A node compares thousands of outcomes under hundreds of cuts, of which ten or so are the largest
anywhere near its decisions. As long as rows are refined loosely it looks at those and at all
newer ones; every few looks it looks at all cuts, and what turns out to be the largest somewhere
is looked at again. A cut made meanwhile is valid, only weaker where an old cut was missed. At
the final tolerance, at which the last bound is stated and policies answer, all are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sddp.arrays import Ints
from sddp.engine.value.cuts import CutPool

# Looks at all cuts for which one that was the largest somewhere is remembered.
MEMORY = 10

# Looks that found no row broken, after which all cuts are looked at again.
PERIOD = 8

# Fewer values (cuts times realisations) than this cost no more than a choice among them.
FEWEST_VALUES = 60_000


class CutSelection:
    """A choice from some pools, in their order.

    Parameters
    ----------
    pools : sequence of (CutPool, int)
        With the number of realisations under which each is looked at.
    """

    def __init__(self, pools: Sequence[tuple[CutPool, int]]) -> None:
        self._pools = [pool for pool, _ in pools]
        self._realisations = [n for _, n in pools]
        self._looks, self._kept = 0, 0
        self._last_look = [np.zeros(0, dtype=np.int64) for _ in pools]
        self._chosen: list[Ints] = []
        self._sizes: list[int] = []

    def chosen(self) -> list[Ints] | None:
        """Positions in each pool; None for all cuts."""
        sizes = [len(pool) for pool in self._pools]
        if self._looks == 0 or self._n_values(sizes) < FEWEST_VALUES or self._kept >= PERIOD:
            return None
        if sizes != self._sizes:
            self._chosen = [self._choice(i) for i in range(len(sizes))]
            self._sizes = sizes
        return self._chosen

    def kept(self) -> None:
        """A solution broke no row under the chosen cuts."""
        self._kept += 1

    def note(self, active: Sequence[Ints]) -> None:
        """All cuts were looked at, and these are the largest; remembered once that may matter."""
        if self._n_values([len(pool) for pool in self._pools]) < FEWEST_VALUES / 2:
            return  # what mattered will have changed by the time that it is asked for
        self._looks += 1
        self._kept, self._sizes = 0, []
        for i, (pool, largest) in enumerate(zip(self._pools, active, strict=True)):
            known = self._last_look[i]
            self._last_look[i] = np.zeros(len(pool), dtype=np.int64)
            self._last_look[i][: len(known)] = known
            self._last_look[i][largest] = self._looks

    def _n_values(self, sizes: Sequence[int]) -> int:
        """Cuts times realisations, where they are most."""
        return max(n * size for n, size in zip(self._realisations, sizes, strict=True))

    def _choice(self, i: int) -> Ints:
        known = self._last_look[i]
        lately = np.flatnonzero((known > self._looks - MEMORY) & (known > 0))
        return np.concatenate([lately, np.arange(len(known), len(self._pools[i]))])
