"""Solutions of a node's LP: one, or one for each realisation of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.subproblem.feasibility import FeasibilityCut


@dataclass(frozen=True, eq=False)
class StageSolution:
    """Solution of a node's LP at one incoming state and noise, in engine units (costs).

    Attributes
    ----------
    value : float
        Stage cost plus cost-to-go, by the multipliers: a lower bound that the solution attains.
    theta : float
        The cost-to-go column.
    columns : array
        Values of the declared columns.
    outgoing : array
        State handed on (empty where nothing is).
    slope, intercept : array, float
        ``intercept + slope.x`` is a lower bound on the value at every incoming state x.
    """

    value: float
    theta: float
    columns: Floats
    outgoing: Floats
    slope: Floats
    intercept: float


@dataclass(frozen=True, eq=False)
class Bunch:
    """Solutions that share a basis, and so a slope; an entry, or a row, for each realisation."""

    noises: Ints
    values: Floats
    intercepts: Floats
    thetas: Floats
    columns: Floats
    outgoing: Floats


class NoiseSolutions(Sequence["StageSolution | FeasibilityCut"]):
    """Solutions for all realisations of the noise, kept as arrays: there may be thousands.

    Attributes
    ----------
    values, intercepts : array, shape (n_realisations,)
    slopes : array, shape (n_realisations, n_components)
    refused : dict
        Feasibility cut of each realisation that has no solution; its values mean nothing.
    """

    def __init__(self, n_realisations: int, n_columns: int, n_components: int, n_out: int) -> None:
        self.values, self._thetas = np.zeros(n_realisations), np.zeros(n_realisations)
        self.slopes, self.intercepts = np.zeros((n_realisations, n_components)), self.values.copy()
        self._columns = np.zeros((n_realisations, n_columns))
        self._outgoing = np.zeros((n_realisations, n_out))
        self.refused: dict[int, FeasibilityCut] = {}

    def put(self, noise: int, solution: StageSolution | FeasibilityCut) -> None:
        """Store what came of one realisation."""
        if isinstance(solution, FeasibilityCut):
            self.refused[noise] = solution
            return
        self.values[noise], self._thetas[noise] = solution.value, solution.theta
        self._columns[noise], self._outgoing[noise] = solution.columns, solution.outgoing
        self.slopes[noise], self.intercepts[noise] = solution.slope, solution.intercept

    def put_bunch(self, bunch: Bunch, slope: Floats) -> None:
        """Store what one basis answered."""
        self.values[bunch.noises], self._thetas[bunch.noises] = bunch.values, bunch.thetas
        self._columns[bunch.noises], self._outgoing[bunch.noises] = bunch.columns, bunch.outgoing
        self.slopes[bunch.noises], self.intercepts[bunch.noises] = slope, bunch.intercepts

    @property
    def outgoing(self) -> Floats:
        """States handed on, shape (n_realisations, n_components)."""
        return self._outgoing

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, noise: int) -> StageSolution | FeasibilityCut: ...
    @overload
    def __getitem__(self, noise: slice) -> list[StageSolution | FeasibilityCut]: ...
    def __getitem__(
        self, noise: int | slice
    ) -> StageSolution | FeasibilityCut | list[StageSolution | FeasibilityCut]:
        if isinstance(noise, slice):
            return [self[i] for i in range(*noise.indices(len(self)))]
        at = range(len(self))[noise]
        if at in self.refused:
            return self.refused[at]
        return StageSolution(
            float(self.values[at]),
            float(self._thetas[at]),
            self._columns[at],
            self._outgoing[at],
            self.slopes[at],
            float(self.intercepts[at]),
        )
