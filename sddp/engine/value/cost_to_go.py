"""The cost-to-go of a node, and three ways to write it into the node's linear programme.

``Q_n(x') = rho_n`` over all outcomes ``(m, e, w)``: next node, noise that carries the state
there, noise seen there. An outcome is worth what the next node's cuts say at its incoming state.

- `LazyAggregation`: one column; the row that is tight at the LP's solution is added when that
  solution falls short of ``Q_n``, and the LP solved again. As strong as one column per outcome,
  as small as one for all.
- `MultiCut`: one column per outcome, each cut as one row per outcome.
- `AverageCut`: one column; every outcome is solved, and one averaged row added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.model.graph import NodeName
from sddp.engine.model.transition import StateMap
from sddp.engine.value.cut_selection import CutSelection
from sddp.engine.value.cuts import CutPool, Cuts, ValueFunction
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


@dataclass(frozen=True, eq=False)
class Support:
    """An affine lower bound ``constant + slope.x'`` on the cost-to-go, tight where it was made."""

    slope: Floats
    constant: float


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


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows ``state @ x' + theta @ columns >= lower`` of the cost-to-go columns."""

    state: Floats
    theta: Floats
    lower: Floats


class Outcomes:
    """Everything that can happen between a node's decision and the next one.

    Parameters
    ----------
    children : sequence of Child
    stop_probability : float
        One more outcome, of value 0.
    risk : RiskMeasure
    """

    def __init__(
        self, children: Sequence[Child], stop_probability: float, risk: RiskMeasure
    ) -> None:
        self.children = tuple(children)
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
        return self.risk.adjust(self.weights, values, "min")

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
        return np.array([self.risk.evaluate(self.weights, values) for values in table.T])

    @property
    def refuses_some(self) -> bool:
        """Whether any child knows states from which it has no decision."""
        return any(len(child.value_function.feasibility) for child in self.children)

    def support(self, evaluation: Evaluation) -> Support:
        """The supporting row where the cost-to-go was evaluated: exact there."""
        return self._aggregate(evaluation.q, evaluation.offset, evaluation.active)

    def first_supports(self, n_supports: int) -> list[Support]:
        """Affine lower bounds from the oldest cuts: the first of every outcome, the second, ...

        Valid under every risk measure, for the adjusted probabilities at some values of the
        outcomes support it at all others.
        """
        at = np.ones(self.n_components)
        tables = [
            child.transition.values(pool.slopes, pool.intercepts, at) for child, pool in self.pools
        ]
        return [self._support_of_cuts(tables, number) for number in range(n_supports)]

    def _support_of_cuts(self, tables: Sequence[Floats], number: int) -> Support:
        """The cut of this number in every outcome; `tables` holds (realisation, cut) values."""
        active = [np.full(len(t), min(number, t.shape[1] - 1)) for t in tables]
        values = [t[:, chosen[0]] for t, chosen in zip(tables, active, strict=True)]
        if self.stop_probability > 0.0:
            values.append(np.zeros(1))
        return self._aggregate(*self.adjusted(np.concatenate(values)), active)

    def infeasible_rows(self, outgoing: Floats, tolerance: float) -> list[Support]:
        """Feasibility cuts of the children that `outgoing` breaks in some realisation."""
        found = []
        for child in self.children:
            pool = child.value_function.feasibility
            if len(pool) == 0:
                continue
            table = child.transition.values(pool.slopes, pool.intercepts, outgoing)
            worst = table.argmax(axis=0)
            for cut in np.flatnonzero(table[worst, np.arange(len(pool))] > tolerance):
                chosen = np.full(child.transition.n_realisations, cut)
                single = np.zeros(child.transition.n_realisations)
                single[worst[cut]] = 1.0
                found.append(_composed(child.transition, pool, chosen, single))
        return found

    def _aggregate(self, q: Floats, offset: float, active: list[Ints]) -> Support:
        slope = np.zeros(self.n_components)
        constant, start = offset, 0
        for (child, pool), chosen in zip(self.pools, active, strict=True):
            weights = q[start : start + child.transition.n_realisations]
            part = _composed(child.transition, pool, chosen, weights)
            slope += part.slope
            constant += part.constant
            start += child.transition.n_realisations
        return Support(slope, constant)


def _composed(transition: StateMap, pool: CutPool, chosen: Ints, weights: Floats) -> Support:
    """Weighted sum over realisations of the chosen cuts, as a function of the outgoing state."""
    return Support(
        transition.weighted_slope(pool.slopes, chosen, weights),
        transition.weighted_constant(pool.slopes, pool.intercepts, chosen, weights),
    )


class CostToGo:
    """The cost-to-go columns of one node's LP; column 0 is the one in the objective."""

    n_columns: int = 1
    solves_every_realisation: bool = False
    money: float = 1.0  # size of the costs: tolerances are relative to it at least

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self.averages = CutPool(outcomes.n_components)  # filled by `AverageCut` only

    def new_rows(self) -> Rows | None:
        """Rows learnt since the last call that belong into the LP whatever its solution."""
        return None

    def violated(self, outgoing: Floats, theta: Floats, tolerance: float) -> Rows | None:
        """Rows that the LP's solution breaks by more than `tolerance` relative to the value."""
        return None

    def keeps(self, outgoing: Floats, theta: Floats, tolerance: float) -> NDArray[np.bool_]:
        """Whether each of many solutions breaks no row: the vector form of `violated`."""
        broken = [self.violated(x, t, tolerance) for x, t in zip(outgoing, theta, strict=True)]
        return np.array([rows is None for rows in broken], dtype=bool)

    def restore(self, averages: Cuts) -> None:
        """The LP was rebuilt with all rows written so far: rewrite none."""
        return

    def select_cuts(self, final: float) -> None:
        """Above this tolerance look at the cuts that matter, and at all now and then only."""
        return


class _Lazy(CostToGo):
    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes)
        self._selection: CutSelection | None = None
        self._final = np.inf

    def select_cuts(self, final: float) -> None:
        pools = [(pool, child.transition.n_realisations) for child, pool in self.outcomes.pools]
        self._selection, self._final = CutSelection(pools), final

    def violated(self, outgoing: Floats, theta: Floats, tolerance: float) -> Rows | None:
        if not self.outcomes.ready:
            return None
        selection = self._selection if tolerance > self._final else None
        chosen = selection.chosen() if selection else None
        found = self.outcomes.evaluate(outgoing, chosen)
        if selection and chosen is None:
            selection.note(found.active)
        if theta[0] >= found.value - tolerance * max(self.money, abs(found.value)):
            if selection and chosen is not None:
                selection.kept()
            return None
        support = self.outcomes.support(found)
        return Rows(-support.slope[None, :], np.ones((1, 1)), np.array([support.constant]))

    def keeps(self, outgoing: Floats, theta: Floats, tolerance: float) -> NDArray[np.bool_]:
        if not self.outcomes.ready or len(outgoing) == 0:
            return np.ones(len(outgoing), dtype=bool)
        values = self.outcomes.values(outgoing)
        kept: NDArray[np.bool_] = theta[:, 0] >= values - tolerance * np.maximum(
            self.money, np.abs(values)
        )
        return kept


class _Average(CostToGo):
    solves_every_realisation = True

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes)
        self._written = 0

    def new_rows(self) -> Rows | None:
        pool, fresh = self.averages, slice(self._written, len(self.averages))
        self._written = len(pool)
        n_rows = len(pool.intercepts[fresh])
        if n_rows == 0:
            return None
        return Rows(-pool.slopes[fresh], np.ones((n_rows, 1)), pool.intercepts[fresh].copy())

    def restore(self, averages: Cuts) -> None:
        self.averages.extend(averages.slopes, averages.intercepts)
        self._written = len(self.averages)


class _Multi(CostToGo):
    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes)
        self.n_columns = 1 + len(outcomes.weights)
        self._written = [[0] * len(child.value_function.pools) for child in self.outcomes.children]
        self._linked = False

    def new_rows(self) -> Rows | None:
        blocks = list(self._cut_rows())
        if not self._linked and type(self.outcomes.risk) is Expectation:
            self._linked = True
            blocks.append(self._risk_row(self.outcomes.weights, 0.0))
        if not blocks:
            return None
        return Rows(
            np.vstack([b.state for b in blocks]),
            np.vstack([b.theta for b in blocks]),
            np.concatenate([b.lower for b in blocks]),
        )

    def restore(self, averages: Cuts) -> None:
        self._linked = True
        self._written = [
            [len(pool) for pool in child.value_function.pools] for child in self.outcomes.children
        ]

    def violated(self, outgoing: Floats, theta: Floats, tolerance: float) -> Rows | None:
        """Under a risk measure: its supporting row at the columns' values."""
        if type(self.outcomes.risk) is Expectation or not self.outcomes.ready:
            return None
        values = theta[1:].copy()
        if self.outcomes.stop_probability > 0.0:
            values[-1] = 0.0
        q, offset = self.outcomes.adjusted(values)
        value = float(q @ values) + offset
        if theta[0] >= value - tolerance * max(self.money, abs(value)):
            return None
        return self._risk_row(q, offset)

    def _risk_row(self, q: Floats, offset: float) -> Rows:
        theta = np.concatenate([[1.0], -q])
        if self.outcomes.stop_probability > 0.0:
            theta[-1] = 0.0
        state = np.zeros((1, self.outcomes.n_components))
        return Rows(state, theta[None, :], np.array([offset]))

    def _cut_rows(self) -> list[Rows]:
        blocks: list[Rows] = []
        column = 1
        for child, written in zip(self.outcomes.children, self._written, strict=True):
            n = child.transition.n_realisations
            for w, pool in enumerate(child.value_function.pools):
                fresh = range(written[w], len(pool))
                blocks.extend(self._outcome_rows(child, pool, cut, column) for cut in fresh)
                written[w] = len(pool)
                column += n
        return blocks

    def _outcome_rows(self, child: Child, pool: CutPool, cut: int, column: int) -> Rows:
        n = child.transition.n_realisations
        slope, intercept = pool.slopes[cut], float(pool.intercepts[cut])
        constants = np.full(n, intercept)
        if child.transition.shift is not None:
            constants += child.transition.shift @ slope
        theta = np.zeros((n, self.n_columns))
        theta[:, column : column + n] = np.eye(n)
        return Rows(-child.transition.pull_back(slope), theta, constants)


class CutForm(Protocol):
    """How the cost-to-go is written; choose with ``train(..., cuts=...)``."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """The cost-to-go columns of one node."""
        ...


@dataclass(frozen=True)
class LazyAggregation:
    """One column and only the rows that matter (the default)."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Lazy(outcomes)


@dataclass(frozen=True)
class MultiCut:
    """One column per outcome."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Multi(outcomes)


@dataclass(frozen=True)
class AverageCut:
    """One column; every outcome is solved for each averaged cut."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Average(outcomes)
