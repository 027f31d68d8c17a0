"""Out-of-sample paths in blocks, one block for each scenario draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.evaluation.estimates import replicate_interval
from sddp.statistics import ReturnPaths


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

    def interval(self, values: Floats, name: str) -> dict[str, float]:
        """Mean over paths with its interval over replicates, see `replicate_interval`."""
        return replicate_interval(self.by_draw(values), name)
