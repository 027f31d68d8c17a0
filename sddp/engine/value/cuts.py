"""Affine inequalities, of which everything that training finds consists.

A `Cut` bounds a value function from below (engine units: costs) and is exact where it was made;
`Cuts` are many of one function, whose value is their maximum; `LinearConstraints` are rows of a
linear program. A cut is born from a dual, kept in `Cuts`, and written as a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints, read_only
from sddp.errors import ModelError

# A new cut that lifts the others at its own trial point by less than this, relative to the value,
# is rounding.
IMPROVEMENT_TOLERANCE = 1e-13


class Cut(NamedTuple):
    """The affine function ``intercept + slope.x`` of a state x."""

    slope: Floats
    intercept: float


class Cuts:
    """A growing list of cuts of one function.

    Parameters
    ----------
    slopes : array, shape (n_cuts, n_components)
    intercepts : array, shape (n_cuts,)
    """

    def __init__(self, slopes: Floats, intercepts: Floats) -> None:
        self._slopes, self._intercepts, self._n = slopes, intercepts, len(intercepts)

    @classmethod
    def none(cls, n_components: int) -> Cuts:
        """No cut yet."""
        return cls(np.empty((0, n_components)), np.empty(0))

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

    def arguments(self) -> dict[str, Floats]:
        """Arguments of the constructor, for files."""
        return {"slopes": self.slopes, "intercepts": self.intercepts}

    def frozen(self) -> Cuts:
        """A copy that cannot be written to."""
        return Cuts(read_only(self.slopes), read_only(self.intercepts))

    def clear(self) -> None:
        """Remove all cuts."""
        self._n = 0

    def extend(self, others: Cuts) -> None:
        """Append many cuts."""
        for slope, intercept in zip(others.slopes, others.intercepts.tolist(), strict=True):
            self.add(Cut(slope, intercept))

    def add(self, cut: Cut) -> None:
        """Append one cut."""
        if self._n == len(self._intercepts):
            size = max(8, 2 * self._n)
            slopes, intercepts = np.empty((size, self._slopes.shape[1])), np.empty(size)
            slopes[: self._n], intercepts[: self._n] = self.slopes, self.intercepts
            self._slopes, self._intercepts = slopes, intercepts
        self._slopes[self._n], self._intercepts[self._n] = cut
        self._n += 1

    def value(self, state: Floats) -> float:
        """Maximum over the cuts; minus infinity where there is none."""
        if self._n == 0:
            return -np.inf
        return float((self.intercepts + self.slopes @ state).max())

    def add_if_better(self, cut: Cut, state: Floats, money: float) -> bool:
        """Append a cut made at `state` if it lifts the value there; tells whether it did.

        What is small beside `money`, the size of the costs, is no improvement.
        """
        new, old = cut.intercept + float(cut.slope @ state), self.value(state)
        if new <= old + IMPROVEMENT_TOLERANCE * max(money, abs(old)):
            return False
        self.add(cut)
        return True


@dataclass(frozen=True, eq=False)
class LinearConstraints:
    """Rows ``coefficients @ columns >= lower`` of a linear program.

    `recurring` marks rows that would be found again if they were removed.
    """

    coefficients: Floats
    lower: Floats
    recurring: NDArray[np.bool_]

    @classmethod
    def of_cuts(
        cls, cuts: Cuts, n_theta: int, *, recurring: bool, theta: float = 1.0
    ) -> LinearConstraints:
        """``theta * column >= cut``, over the outgoing state and `n_theta` cost-to-go columns.

        The column is the first of the cost-to-go.
        """
        columns = np.zeros((len(cuts), n_theta))
        columns[:, :1] = theta
        coefficients = np.hstack([-cuts.slopes, columns])
        return cls(coefficients, cuts.intercepts.copy(), np.full(len(cuts), recurring))

    @classmethod
    def none(cls, n_columns: int) -> LinearConstraints:
        """No row yet."""
        return cls(np.empty((0, n_columns)), np.empty(0), np.empty(0, dtype=bool))

    def __len__(self) -> int:
        return len(self.lower)

    def and_also(self, others: LinearConstraints) -> LinearConstraints:
        """These rows, and then others."""
        return LinearConstraints(
            np.concatenate([self.coefficients, others.coefficients]),
            np.concatenate([self.lower, others.lower]),
            np.concatenate([self.recurring, others.recurring]),
        )

    def chosen(self, rows: Ints | NDArray[np.bool_]) -> LinearConstraints:
        """Some of the rows, in a given order."""
        return LinearConstraints(self.coefficients[rows], self.lower[rows], self.recurring[rows])

    def canonical(self) -> LinearConstraints:
        """The same rows in an order that does not depend on how they were found."""
        keys = np.column_stack([self.coefficients, self.lower])
        order = np.lexsort(keys.T[::-1]) if len(keys) else np.zeros(0, dtype=np.int64)
        return self.chosen(order)


@dataclass(eq=False)
class ValueFunction:
    """What is known of ``v_m(x, w)`` at one node: cuts for each noise, or for their mean.

    Attributes
    ----------
    weights : array, shape (n_pools,)
        Probability of the noise of each of `pools`; a single 1 where the noise is averaged.
    averaged : bool
        Whether the cuts bound the mean over several noises: only the expectation may look.
    money : float
        Size of the costs.
    pools : list of Cuts
    feasibility : Cuts
        No decision exists from a state at which one of them is positive.
    """

    n_components: int
    weights: Floats
    averaged: bool = False
    money: float = 1.0
    pools: list[Cuts] = field(init=False)
    feasibility: Cuts = field(init=False)

    def __post_init__(self) -> None:
        self.pools = [Cuts.none(self.n_components) for _ in self.weights]
        self.feasibility = Cuts.none(self.n_components)

    @property
    def ready(self) -> bool:
        """Whether a cut is known for every noise."""
        return all(len(pool) for pool in self.pools)

    def add_feasibility_cut(self, cut: Cut) -> None:
        """Add a feasibility cut, unless it is there already (another path found it)."""
        known = self.feasibility
        same = (known.slopes == cut.slope).all(axis=1) & (known.intercepts == cut.intercept)
        if not np.any(same):
            known.add(cut)

    def replace(self, cuts: Cuts, probabilities: Floats) -> None:
        """Hold one cut for each noise realization, or their mean, and nothing else."""
        slopes, intercepts = cuts.slopes, cuts.intercepts
        if self.averaged:
            slopes = (probabilities @ slopes)[None, :]
            intercepts = np.array([probabilities @ intercepts])
        for pool, slope, intercept in zip(self.pools, slopes, intercepts, strict=True):
            pool.clear()
            pool.add(Cut(slope, float(intercept)))

    def add(self, state: Floats, cuts: Cuts, probabilities: Floats) -> None:
        """Add one cut for each noise realization, made at `state`, or their mean."""
        if len(self.pools) == 1:
            slope, intercept = probabilities @ cuts.slopes, float(probabilities @ cuts.intercepts)
            self.pools[0].add_if_better(Cut(slope, intercept), state, self.money)
            return
        if len(self.pools) != len(cuts):
            raise ModelError(f"{len(cuts)} cuts for {len(self.pools)} noise realizations")
        pairs = zip(cuts.slopes, cuts.intercepts.tolist(), strict=True)
        for pool, cut in zip(self.pools, pairs, strict=True):
            pool.add_if_better(Cut(*cut), state, self.money)
