"""The cost-to-go of a node, and what a way to write it into a linear program must do.

``Q_n(x') = rho_n`` over all outcomes ``(m, e, w)``: next node, noise that carries the state
there, noise seen there. An outcome is worth what the next node's cuts say at its incoming state.
`cut_forms` holds three ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.model.graph import NodeName
from sddp.engine.stage.transition import StateMap
from sddp.engine.value.cuts import Cut, Cuts, LinearConstraints, ValueFunction
from sddp.engine.value.outcomes import Outcome
from sddp.errors import ModelError
from sddp.risk import Expectation, RiskMeasure


@dataclass(frozen=True, eq=False)
class Child:
    """A node that may follow, with what is known of it."""

    name: NodeName
    probability: float
    transition: StateMap
    value_function: ValueFunction

    def weights(self) -> Floats:
        """Probability of each outcome here, shape (n_pools, n_realisations)."""
        joint = np.outer(self.value_function.weights, self.transition.probabilities)
        return self.probability * joint


class Evaluation(NamedTuple):
    """The cost-to-go of one decision.

    `values` are those of the outcomes, `q` and `offset` what the risk measure makes of their
    probabilities; `active` holds, for each pool of each child, the cut that is largest in each
    realisation.
    """

    value: float
    values: Floats
    q: Floats
    offset: float
    active: list[Ints]


class Outcomes:
    """Everything that can happen between a node's decision and the next one.

    Parameters
    ----------
    children : sequence of Child
    stop_probability : float
        One more outcome, of value 0.
    risk : RiskMeasure
    seen : sequence of Outcome, optional
        For measures that look at them, in the order of `weights`.
    """

    def __init__(
        self,
        children: Sequence[Child],
        stop_probability: float,
        risk: RiskMeasure,
        seen: Sequence[Outcome] | None = None,
    ) -> None:
        self.children, self.seen = tuple(children), seen
        means = [child.name for child in children if child.value_function.averaged]
        if means and not isinstance(risk, Expectation):
            raise ModelError(
                f"risk={risk!r}: the cuts of node {means[0]!r} bound the mean over its noise, for "
                "every decision before it was trained by the expectation, and a risk measure needs "
                "each realization; train with a risk measure at a node before it "
                "(train(..., risk={node: measure})), or leave risk out"
            )
        self.stop_probability = stop_probability
        self.risk = risk
        parts = [child.weights().ravel() for child in self.children]
        if stop_probability > 0.0:
            parts.append(np.array([stop_probability]))
        self.weights = np.concatenate(parts)
        self.n_components = self.children[0].value_function.n_components
        self.pools = [
            (child, pool) for child in self.children for pool in child.value_function.pools
        ]
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether every outcome has a cut; it keeps it then."""
        self._ready = self._ready or all(child.value_function.ready for child in self.children)
        return self._ready

    def adjusted(self, values: Floats) -> tuple[Floats, float]:
        """Adjusted probabilities and offset at the values of all outcomes."""
        if type(self.risk) is Expectation:
            return self.weights, 0.0
        return self.risk.adjust(self.weights, values, "min", self.seen)

    def evaluate(self, outgoing: Floats, chosen: Sequence[Ints] | None = None) -> Evaluation:
        """The cost-to-go at `outgoing` under the present cuts, or those chosen from each pool."""
        parts: list[Floats] = []
        active: list[Ints] = []
        for i, (child, pool) in enumerate(self.pools):
            slopes, intercepts = pool.slopes, pool.intercepts
            if chosen is not None:
                slopes, intercepts = np.take(slopes, chosen[i], axis=0), intercepts[chosen[i]]
            largest, best = child.transition.largest(slopes, intercepts, outgoing)
            parts.append(largest)
            active.append(best if chosen is None else chosen[i][best])
        if self.stop_probability > 0.0:
            parts.append(np.zeros(1))
        values = np.concatenate(parts)
        q, offset = self.adjusted(values)
        return Evaluation(float(q @ values) + offset, values, q, offset, active)

    def values(self, outgoing: Floats) -> Floats:
        """The cost-to-go at many states, shape (n, n_components), under the present cuts."""
        if any(child.transition.n_realisations > 1 for child in self.children):
            return np.array([self.evaluate(state).value for state in outgoing])
        parts = [
            (pool.intercepts + child.transition.arrive(outgoing, 0) @ pool.slopes.T).max(axis=1)
            for child, pool in self.pools
        ]
        if self.stop_probability > 0.0:
            parts.append(np.zeros(len(outgoing)))
        table = np.array(parts)
        if type(self.risk) is Expectation:
            expected: Floats = self.weights @ table
            return expected
        return np.array(
            [self.risk.evaluate(self.weights, row, "min", self.seen) for row in table.T]
        )

    @property
    def has_feasibility_cuts(self) -> bool:
        """Whether any child knows states from which it has no decision."""
        return any(len(child.value_function.feasibility) for child in self.children)

    def support(self, evaluation: Evaluation) -> Cut:
        """The supporting cut where the cost-to-go was evaluated: exact there."""
        return self._aggregate(evaluation.q, evaluation.offset, evaluation.active)

    def first_supports(self, n_supports: int) -> Cuts:
        """Cuts of the cost-to-go from the oldest cuts: the first of every outcome, the second, ...

        Valid under every risk measure, for the adjusted probabilities at some values of the
        outcomes support it at all others.
        """
        at = np.ones(self.n_components)
        tables = [
            child.transition.values(pool.slopes, pool.intercepts, at) for child, pool in self.pools
        ]
        found = Cuts.none(self.n_components)
        for number in range(n_supports):
            found.add(self._support_of_cuts(tables, number))
        return found

    def _support_of_cuts(self, tables: Sequence[Floats], number: int) -> Cut:
        """The cut of this number in every outcome; `tables` holds (realisation, cut) values."""
        active = [np.full(len(t), min(number, t.shape[1] - 1)) for t in tables]
        values = [t[:, chosen[0]] for t, chosen in zip(tables, active, strict=True)]
        if self.stop_probability > 0.0:
            values.append(np.zeros(1))
        return self._aggregate(*self.adjusted(np.concatenate(values)), active)

    def broken_feasibility_cuts(self, outgoing: Floats, tolerance: float) -> Cuts:
        """Feasibility cuts of the children that `outgoing` breaks in some realization.

        As cuts ``intercept + slope.x' <= 0`` of the outgoing state.
        """
        found = Cuts.none(self.n_components)
        for child in self.children:
            known = child.value_function.feasibility
            if len(known) == 0:
                continue
            table = child.transition.values(known.slopes, known.intercepts, outgoing)
            worst = table.argmax(axis=0)
            for cut in np.flatnonzero(table[worst, np.arange(len(known))] > tolerance):
                chosen = np.full(child.transition.n_realisations, cut)
                single = np.zeros(child.transition.n_realisations)
                single[worst[cut]] = 1.0
                found.add(_composed(child.transition, known, chosen, single))
        return found

    def _aggregate(self, q: Floats, offset: float, active: list[Ints]) -> Cut:
        slope = np.zeros(self.n_components)
        constant, start = offset, 0
        for (child, pool), chosen in zip(self.pools, active, strict=True):
            weights = q[start : start + child.transition.n_realisations]
            part = _composed(child.transition, pool, chosen, weights)
            slope += part.slope
            constant += part.intercept
            start += child.transition.n_realisations
        return Cut(slope, constant)


def _composed(transition: StateMap, pool: Cuts, chosen: Ints, weights: Floats) -> Cut:
    """Weighted sum over realisations of the chosen cuts, as a function of the outgoing state."""
    return Cut(
        transition.weighted_slope(pool.slopes, chosen, weights),
        transition.weighted_constant(pool.slopes, pool.intercepts, chosen, weights),
    )


class CostToGo:
    """The cost-to-go columns of one node's linear program; column 0 is the one in the objective.

    Rows are over the outgoing state and these columns. To write a cut form, subclass this and
    return it from `CutForm.attach`; what is not overridden writes no row.
    """

    n_columns: int = 1
    money: float = 1.0  # size of the costs: tolerances are relative to it at least

    # Whether the backward pass solves the children at the state of every realization of their
    # transitions, and asks for the `aggregate` of what it finds.
    every_realisation: bool = False

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.cuts = Cuts.none(outcomes.n_components)  # of the cost-to-go: what `aggregate` found

    def new_rows(self) -> LinearConstraints | None:
        """Rows found since the last call that belong into the program whatever its solution."""
        return None

    def violated(
        self, outgoing: Floats, theta: Floats, tolerance: float
    ) -> LinearConstraints | None:
        """Rows that a solution breaks by more than `tolerance` relative to the value."""
        return None

    def keeps(self, outgoing: Floats, theta: Floats, tolerance: float) -> NDArray[np.bool_]:
        """Whether each of many solutions breaks no row: the vector form of `violated`."""
        broken = [self.violated(x, t, tolerance) for x, t in zip(outgoing, theta, strict=True)]
        return np.array([rows is None for rows in broken], dtype=bool)

    def aggregate(self, values: Floats, slopes: Floats, outgoing: Floats) -> Cut | None:
        """A cut of the cost-to-go from the values and slopes of all outcomes at `outgoing`."""
        return None

    def restore(self) -> None:
        """Note that the program was rebuilt with all rows written so far."""
        return

    def select_cuts(self, final: float) -> None:
        """Above this tolerance look at the cuts that matter, and at all now and then only."""
        return


class CutForm(Protocol):
    """How the cost-to-go is written; choose with ``train(..., cuts=...)``."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """The cost-to-go columns of one node."""
        ...
