"""Solutions of a node's LP: one, or one for each realisation of the noise; and what they took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.value.cuts import Cut, Cuts
from sddp.lp import Effort


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
    cut : Cut
        ``intercept + slope.x`` is a lower bound on the value at every incoming state x.
    """

    value: float
    theta: float
    columns: Floats
    outgoing: Floats
    cut: Cut


class NoiseSolutions(Sequence["StageSolution | Infeasibility"]):
    """Solutions for all realisations of the noise, kept as arrays: there may be thousands.

    Attributes
    ----------
    values, intercepts : array, shape (n_realisations,)
    slopes : array, shape (n_realisations, n_components)
    infeasible : dict
        What is found at each realisation that has no solution; its values mean nothing.
    """

    def __init__(self, n_realisations: int, n_columns: int, n_components: int, n_out: int) -> None:
        self.values, self._thetas = np.zeros(n_realisations), np.zeros(n_realisations)
        self.slopes, self.intercepts = np.zeros((n_realisations, n_components)), self.values.copy()
        self._columns = np.zeros((n_realisations, n_columns))
        self._outgoing = np.zeros((n_realisations, n_out))
        self.infeasible: dict[int, Infeasibility] = {}

    def put(self, noise: int, solution: StageSolution | Infeasibility) -> None:
        """Store the solution, or the infeasibility, of one realisation."""
        if isinstance(solution, Infeasibility):
            self.infeasible[noise] = solution
            return
        self.values[noise], self._thetas[noise] = solution.value, solution.theta
        self._columns[noise], self._outgoing[noise] = solution.columns, solution.outgoing
        self.slopes[noise], self.intercepts[noise] = solution.cut

    def put_many(
        self,
        noises: Ints,
        values: Floats,
        cuts: Cuts,
        thetas: Floats,
        columns: Floats,
        outgoing: Floats,
    ) -> None:
        """Store solutions at several realisations, an entry or a row for each."""
        self.values[noises], self._thetas[noises] = values, thetas
        self._columns[noises], self._outgoing[noises] = columns, outgoing
        self.slopes[noises], self.intercepts[noises] = cuts.slopes, cuts.intercepts

    @property
    def outgoing(self) -> Floats:
        """States handed on, shape (n_realisations, n_components)."""
        return self._outgoing

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, noise: int) -> StageSolution | Infeasibility: ...
    @overload
    def __getitem__(self, noise: slice) -> list[StageSolution | Infeasibility]: ...
    def __getitem__(
        self, noise: int | slice
    ) -> StageSolution | Infeasibility | list[StageSolution | Infeasibility]:
        if isinstance(noise, slice):
            return [self[i] for i in range(*noise.indices(len(self)))]
        at = range(len(self))[noise]
        if at in self.infeasible:
            return self.infeasible[at]
        return StageSolution(
            float(self.values[at]),
            float(self._thetas[at]),
            self._columns[at],
            self._outgoing[at],
            Cut(self.slopes[at], float(self.intercepts[at])),
        )


@dataclass
class Work:
    """Counters shared by all nodes of a training or policy.

    Attributes
    ----------
    lp : Effort
        Solves, simplex pivots and seconds of the linear programs (of compiled visits no seconds).
    cost_to_go_seconds, generator_seconds : float
        Time spent on evaluating the cost-to-go, and on the row generators.
    bunched : int
        Solutions read off the basis of another one instead of a solve.
    warnings : int
        Solutions accepted although a row was broken within the LP's own tolerance.
    fallbacks, judged : int
        Compiled visits that were not settled and went to HiGHS; those that were solved by both and
        compared. 0 where HiGHS solves the stages.
    """

    lp: Effort = field(default_factory=Effort)
    cost_to_go_seconds: float = 0.0
    generator_seconds: float = 0.0
    bunched: int = 0
    warnings: int = 0
    fallbacks: int = 0
    judged: int = 0

    @classmethod
    def total(cls, parts: Sequence[Work]) -> Work:
        """The sum of several."""
        total = cls()
        for part in parts:
            total.lp.add(part.lp)
            total.cost_to_go_seconds += part.cost_to_go_seconds
            total.generator_seconds += part.generator_seconds
            total.bunched += part.bunched
            total.warnings += part.warnings
            total.fallbacks += part.fallbacks
            total.judged += part.judged
        return total
