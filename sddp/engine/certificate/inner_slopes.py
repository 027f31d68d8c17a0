"""How much a cost-to-go can rise per unit of a state component: slopes by recession.

A decision stays feasible when a direction ``y`` of its stage's recession cone is added to it. If
``y`` takes in the direction ``d`` of the incoming state, then for every state ``x`` and ``t >= 0``

    V(x + t d, w) <= V(x, w) + t (cost.y + slopes of the successors at y's outgoing part),

so the least such repair cost, a linear program, is a slope for all states. A direction that no
``y`` takes in gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.engine.certificate.inner_stage import StageForm, stacked
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.transition import StateMap
from sddp.engine.value.outcomes import outcomes_after_node
from sddp.lp import Arrays, Effort, LinearProgram, Status, fitted_scaling
from sddp.risk import RiskMeasure

# A solution that breaks a row by more than this, relative to the row's terms, is none.
LARGEST_BREACH = 1e-9


class Slopes:
    """Slopes of a problem's nodes, computed from the last ones back.

    Parameters
    ----------
    problem : Problem
    risk : mapping from node name to RiskMeasure
    forms : callable from node name to sequence of StageForm
    effort : Effort
    """

    def __init__(
        self,
        problem: Problem,
        risk: Mapping[NodeName, RiskMeasure],
        forms: Callable[[NodeName], Sequence[StageForm]],
        effort: Effort,
    ) -> None:
        self._problem, self._risk, self._forms, self._effort = problem, risk, forms, effort
        self._known: dict[NodeName, tuple[Floats, Floats]] = {}
        self._repairs: dict[tuple[NodeName, bytes], Floats] = {}

    def n_programs(self) -> int:
        """Linear programs that are left to solve, at most one for each direction and form."""
        if self._problem.homogeneous:
            return 0
        graph, d = self._problem.graph, self._problem.n_components
        left = [n for n in graph.nodes if graph.children(n) and n not in self._known]
        return 2 * d * sum(len(self._forms(child)) for n in left for child, _ in graph.children(n))

    def of(self, name: NodeName) -> tuple[Floats, Floats]:
        """Largest rise per unit of each component added, and taken away; NaN where unknown.

        All nodes that follow must have been asked before.
        """
        if name not in self._known:
            d = self._problem.n_components
            slopes = np.full((2, d), np.nan)
            if not self._problem.homogeneous:
                for i, sign in enumerate((1.0, -1.0)):
                    for j in range(d):
                        slopes[i, j] = self._slope(name, sign * np.eye(d)[j])
            self._known[name] = slopes[0], slopes[1]
        return self._known[name]

    def _slope(self, name: NodeName, direction: Floats) -> float:
        """Of the cost-to-go after a node's decision."""
        graph, stages = self._problem.graph, self._problem.stages
        weights, slopes = [], []
        for child, probability in graph.children(name):
            transition, noise = stages[child].transition, stages[child].noise
            moved = [self._repair(child, arrived) for arrived in _moved(transition, direction)]
            found = np.array(moved).T  # noise seen, then noise on the way
            if np.isnan(found).any():
                return np.nan
            joint = np.outer(noise.probabilities, transition.probabilities)
            weights.append(probability * joint.ravel())
            slopes.append(found.ravel())
        if graph.stop_probability(name) > 0.0:
            weights.append(np.array([graph.stop_probability(name)]))
            slopes.append(np.zeros(1))
        risk, each = self._risk[name], np.concatenate(slopes)
        if risk.positively_homogeneous:  # and so subadditive: rho(Z + t D) <= rho(Z) + t rho(D)
            seen = outcomes_after_node(risk, self._problem, name)
            return risk.evaluate(np.concatenate(weights), each, "min", seen)
        return float(each.max())

    def _repair(self, name: NodeName, direction: Floats) -> Floats:
        """Rise of a node's value along a direction of its incoming state, for each noise."""
        stage = self._problem.stages[name]
        n_noises, size = stage.noise.n_realisations, float(np.abs(direction).sum())
        if size == 0.0:
            return np.zeros(n_noises)
        if stage.rows is not None:
            return np.full(n_noises, np.nan)
        unit = direction / size
        key = (name, unit.tobytes())
        if key not in self._repairs:
            found = np.full(n_noises, np.nan)
            for form in self._forms(name):
                repair = self._least_repair(form, unit, self._known.get(name))
                if repair is None:
                    break
                found[form.noises] = repair
            self._repairs[key] = found
        return size * self._repairs[key]

    def _least_repair(
        self, form: StageForm, direction: Floats, slopes: tuple[Floats, Floats] | None
    ) -> float | None:
        """Least cost of a recession direction that takes in `direction`; None without any."""
        arrays, constant = _recession(form, direction, slopes)
        program = LinearProgram(arrays, fitted_scaling(arrays), self._effort)
        if program.solve() is not Status.OPTIMAL:
            return None
        y = np.clip(program.primal(), arrays.column_lower, arrays.column_upper)
        activity = arrays.matrix @ y
        missing = np.maximum(arrays.row_lower - activity, activity - arrays.row_upper)
        missing = np.maximum(missing, 0.0)
        terms = 1.0 + abs(arrays.matrix) @ np.abs(y)
        if np.any(missing > LARGEST_BREACH * terms):
            return None
        paid = float(np.abs(program.row_duals()) @ missing) if len(missing) else 0.0
        return float(arrays.cost @ y) + constant + paid


def _moved(transition: StateMap, direction: Floats) -> list[Floats]:
    """Where a direction of the outgoing state points on arrival, for each realization."""
    shift = transition.shift
    arrived = [transition.arrive(direction, e) for e in range(transition.n_realisations)]
    return [a if shift is None else a - shift[e] for e, a in enumerate(arrived)]


def _recession(
    form: StageForm, direction: Floats, slopes: tuple[Floats, Floats] | None
) -> tuple[Arrays, float]:
    """Columns ``[own | ups | downs]``; bounds and sides that exist become 0."""
    n_own, n_out = len(form.columns), form.out.shape[1]
    up, down = slopes if slopes is not None and n_out else (np.zeros(0), np.zeros(0))
    ups, downs = np.flatnonzero(~np.isnan(up)), np.flatnonzero(~np.isnan(down))
    eye = np.eye(n_out)
    spread = np.hstack([eye[:, ups], -eye[:, downs]])
    none = sp.csr_array((n_out, n_own))
    matrix = stacked([(form.own, form.out @ spread), (none, spread)])
    moved = np.concatenate([form.into @ direction, np.zeros(n_out)])
    lower = _cone(np.concatenate([form.row_lower[0], form.out_lower[0]])) - moved
    upper = _cone(np.concatenate([form.row_upper[0], form.out_upper[0]])) - moved
    n_extra = len(ups) + len(downs)
    return Arrays(
        cost=np.concatenate(
            [form.cost, up[ups] + form.cost_out[ups], down[downs] - form.cost_out[downs]]
        ),
        matrix=matrix,
        row_lower=lower,
        row_upper=upper,
        column_lower=np.concatenate(
            [_cone(form.lower[0]) + form.lower_in @ direction, np.zeros(n_extra)]
        ),
        column_upper=np.concatenate(
            [_cone(form.upper[0]) + form.upper_in @ direction, np.full(n_extra, np.inf)]
        ),
    ), float(form.cost_in @ direction)


def _cone(sides: Floats) -> Floats:
    return np.where(np.isfinite(sides), 0.0, sides)
