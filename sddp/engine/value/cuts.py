"""Value functions as maxima of cuts (of minima, where the user maximises)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sddp.arrays import Floats
from sddp.errors import ModelError

# A new cut that lifts the pool at its own trial point by less than this, relative to the value,
# is rounding.
IMPROVEMENT_TOLERANCE = 1e-13


@dataclass(frozen=True, eq=False)
class Cuts:
    """Slopes (n_cuts, n_components) and intercepts (n_cuts,) of one pool."""

    slopes: Floats
    intercepts: Floats


class CutPool:
    """Growing list of cuts ``intercept + slope.x``; its value is their maximum.

    What is small beside `money`, the size of the costs, is no improvement.
    """

    def __init__(self, n_components: int, money: float = 1.0) -> None:
        self._slopes = np.empty((8, n_components))
        self._intercepts = np.empty(8)
        self._n = 0
        self._money = money

    def __len__(self) -> int:
        return self._n

    @property
    def slopes(self) -> Floats:
        """Shape (n_cuts, n_components)."""
        return self._slopes[: self._n]

    @property
    def intercepts(self) -> Floats:
        """Shape (n_cuts,)."""
        return self._intercepts[: self._n]

    def clear(self) -> None:
        """Forget all cuts."""
        self._n = 0

    def extend(self, slopes: Floats, intercepts: Floats) -> None:
        """Append many cuts."""
        for slope, intercept in zip(slopes, intercepts, strict=True):
            self.add(slope, float(intercept))

    def add(self, slope: Floats, intercept: float) -> None:
        """Append one cut."""
        if self._n == len(self._intercepts):
            self._slopes = np.concatenate([self._slopes, np.empty_like(self._slopes)])
            self._intercepts = np.concatenate([self._intercepts, np.empty_like(self._intercepts)])
        self._slopes[self._n] = slope
        self._intercepts[self._n] = intercept
        self._n += 1

    def value(self, state: Floats) -> float:
        """Maximum over the cuts; minus infinity for an empty pool."""
        if self._n == 0:
            return -np.inf
        return float((self.intercepts + self.slopes @ state).max())

    def add_if_better(self, slope: Floats, intercept: float, state: Floats) -> bool:
        """Append a cut made at `state` if it lifts the pool there; tells whether it did."""
        new, old = intercept + float(slope @ state), self.value(state)
        if new <= old + IMPROVEMENT_TOLERANCE * max(self._money, abs(old)):
            return False
        self.add(slope, intercept)
        return True


@dataclass(eq=False)
class ValueFunction:
    """What is known of ``v_m(x, w)`` at one node: a pool per noise, or one for their mean.

    Attributes
    ----------
    weights : array, shape (n_pools,)
        Probability of each pool's noise; a single 1 where the noise is averaged.
    averaged : bool
        Whether the one pool bounds the mean over several noises: only the expectation may look.
    money : float
        Size of the costs.
    pools : list of CutPool
    feasibility : CutPool
        A state is refused where the maximum of these cuts is positive.
    """

    n_components: int
    weights: Floats
    averaged: bool = False
    money: float = 1.0
    pools: list[CutPool] = field(init=False)
    feasibility: CutPool = field(init=False)

    def __post_init__(self) -> None:
        self.pools = [CutPool(self.n_components, self.money) for _ in self.weights]
        self.feasibility = CutPool(self.n_components)

    @property
    def ready(self) -> bool:
        """Whether every pool holds a cut."""
        return all(len(pool) for pool in self.pools)

    def refuse(self, slope: Floats, intercept: float) -> None:
        """Take in a feasibility cut, unless it is there already (another path found it)."""
        pool = self.feasibility
        if not np.any((pool.slopes == slope).all(axis=1) & (pool.intercepts == intercept)):
            pool.add(slope, intercept)

    def replace(self, slopes: Floats, intercepts: Floats, probabilities: Floats) -> None:
        """Hold one cut per noise realisation, or their mean, and nothing else."""
        if self.averaged:
            slopes = (probabilities @ slopes)[None, :]
            intercepts = np.array([probabilities @ intercepts])
        for pool, slope, intercept in zip(self.pools, slopes, intercepts, strict=True):
            pool.clear()
            pool.add(slope, float(intercept))

    def learn(
        self, state: Floats, slopes: Floats, intercepts: Floats, probabilities: Floats
    ) -> None:
        """Take in one cut per noise realisation, made at `state`; averaged where that is enough."""
        if len(self.pools) == 1:
            self.pools[0].add_if_better(
                probabilities @ slopes, float(probabilities @ intercepts), state
            )
            return
        if len(self.pools) != len(slopes):
            raise ModelError(f"{len(slopes)} cuts for {len(self.pools)} noise realisations")
        for pool, slope, intercept in zip(self.pools, slopes, intercepts, strict=True):
            pool.add_if_better(slope, float(intercept), state)
