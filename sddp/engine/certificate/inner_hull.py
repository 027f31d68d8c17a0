"""A node's problem with the cost-to-go replaced by what known points guarantee.

The cost-to-go ``Q`` of a node is convex in the outgoing state. Where it is at most ``q_i`` at
``x'_i``, and rises by at most ``s`` per unit along a direction ``e``, it is at most

    min  sum_i l_i q_i + s.d    with    x' = sum_i l_i x'_i + E d,   sum_i l_i = 1,   l, d >= 0

(Philpott, de Matos and Finardi 2013; Baucke, Downward and Zakeri 2017). In place of the
cost-to-go this gives a linear program whose every feasible point is a decision of the true
problem, and whose value is at least what going on from it costs. Homogeneous problems need no
``sum_i l_i = 1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.certificate.inner_program import InnerProgram, KnownPoints
from sddp.engine.certificate.inner_stage import StageForm
from sddp.engine.stage.stage_data import StageData
from sddp.lp import Effort


class GuaranteedStep(NamedTuple):
    """A feasible decision: its guaranteed value, declared columns and outgoing state."""

    value: float
    columns: Floats
    outgoing: Floats


@dataclass(eq=False)
class InnerHull:
    """Guaranteed values of one node, at any incoming state and noise.

    Parameters
    ----------
    compiled : StageData
    forms : sequence of StageForm
    points : KnownPoints or None
        None where nothing follows.
    homogeneous : bool
    state_units : array, shape (n_components,)
        See `Problem`.
    accuracy : float
        See `LinearProgram`.
    name : str
        For error messages.
    effort : Effort
        Where linear programs are counted.
    """

    compiled: StageData
    forms: Sequence[StageForm]
    points: KnownPoints | None
    homogeneous: bool
    state_units: Floats
    accuracy: float
    name: str
    effort: Effort
    _programs: dict[int, InnerProgram] = field(default_factory=dict, repr=False)

    @property
    def empty(self) -> bool:
        """Whether no point is known, so that nothing is guaranteed from any state."""
        return self.points is not None and len(self.points.values) == 0

    def values(
        self, states: Floats, noises: Ints, groups: Ints, at_most: int | None = None
    ) -> Floats:
        """Guaranteed values at pairs of incoming state and noise; infinite where there is none.

        `states` has shape (n, n_components), `noises` and `groups` (n,): once one of a group has
        no value, the others are not asked for and infinite too. NaN from where `at_most` linear
        programs were solved.
        """
        found = np.full(len(states), np.inf)
        if self.empty:
            return found
        sizes = np.ones(len(states))
        if self.homogeneous:
            sizes = np.abs(states) @ (1.0 / self.state_units)
            found[sizes == 0.0] = 0.0
        for number, form in enumerate(self.forms):
            place = np.full(self.compiled.noise.n_realisations, -1)
            place[form.noises] = np.arange(len(form.noises))
            asked = np.flatnonzero((place[noises] >= 0) & (sizes > 0.0))
            if len(asked):
                scaled = states[asked] / sizes[asked, None]
                local = place[noises[asked]]
                before = self.effort.solves
                answers = self._solver(number).values(scaled, local, groups[asked], at_most)
                found[asked] = sizes[asked] * answers
                if at_most is not None:
                    at_most -= self.effort.solves - before
        return found

    def decide(self, state: Floats, noise: int) -> GuaranteedStep | None:
        """The best guaranteed decision; None where no combination of the points is feasible."""
        if self.empty:
            return None
        size = float(np.abs(state) @ (1.0 / self.state_units)) if self.homogeneous else 1.0
        number = next(i for i, form in enumerate(self.forms) if noise in form.noises)
        form = self.forms[number]
        local = int(np.flatnonzero(form.noises == noise)[0])
        solver = self._solver(number)
        value = solver.solve(state / (size or 1.0), local)
        if not np.isfinite(value):
            return None
        own, outgoing = solver.solution()
        columns = np.zeros(self.compiled.n_columns)
        columns[form.columns] = size * own
        columns[self.compiled.incoming] = state
        if len(outgoing):
            columns[self.compiled.outgoing] = size * outgoing
        return GuaranteedStep(size * value, columns, size * outgoing)

    def forget_bases(self) -> None:
        """Free the memory of known bases once all states have been asked."""
        for solver in self._programs.values():
            solver.forget_bases()

    def _solver(self, number: int) -> InnerProgram:
        if number not in self._programs:
            self._programs[number] = InnerProgram(
                self.compiled,
                self.forms[number],
                self.points,
                homogeneous=self.homogeneous,
                accuracy=self.accuracy,
                name=self.name,
                effort=self.effort,
            )
        return self._programs[number]


def missing_direction(hull: InnerHull, state: Floats, noise: int) -> tuple[str, int | None]:
    """The direction, and its component, that would make a combination feasible at a state.

    That of the least total step along directions without a slope; no component where no step
    along them helps either.
    """
    points = hull.points
    if points is None or len(points.values) == 0:
        return "no point is known", None
    missing_up, missing_down = np.isnan(points.up), np.isnan(points.down)
    free = replace(
        hull,
        forms=[
            replace(f, cost=0.0 * f.cost, cost_out=0.0 * f.cost_out, cost_in=0.0 * f.cost_in)
            for f in hull.forms
        ],
        points=KnownPoints(
            points.states,
            np.zeros(len(points.values)),
            missing_up.astype(float),
            missing_down.astype(float),
        ),
        _programs={},
    )
    step = free.decide(state, noise)
    if step is None:
        return "none of the state's components alone", None
    solver = free._solver(next(i for i, f in enumerate(hull.forms) if noise in f.noises))
    ups, downs = solver.steps()
    up, down = np.where(missing_up, ups, 0.0), np.where(missing_down, downs, 0.0)
    if up.max() >= down.max():
        return "upward", int(up.argmax())
    return "downward", int(down.argmax())
