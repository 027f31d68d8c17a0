"""Three ways to write the cost-to-go of a node into its linear program.

- `LazyAggregation`: one column; the row that is tight at the solution is added when that solution
  falls short of the cost-to-go, and the program solved again. As strong as one column for each
  outcome, as small as one for all.
- `MultiCut`: one column for each outcome, and each cut as one row for each outcome.
- `AverageCut`: one column; every outcome is solved, and one averaged row added.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.engine.value.cost_to_go import Child, CostToGo, Outcomes
from sddp.engine.value.cut_selection import CutSelection, RecentlyLargest, SelectedCuts
from sddp.engine.value.cuts import Cut, Cuts, LinearConstraints
from sddp.risk import Expectation


@dataclass(frozen=True)
class LazyAggregation:
    """One column and only the rows that matter (the default).

    Parameters
    ----------
    selection : CutSelection or None
        Which cuts are looked at above the final tolerance; None for all.
    """

    selection: CutSelection | None = field(default_factory=RecentlyLargest)

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Lazy(outcomes, self.selection)


class _Lazy(CostToGo):
    def __init__(self, outcomes: Outcomes, rule: CutSelection | None) -> None:
        super().__init__(outcomes)
        self._rule, self._final = rule, np.inf
        self._selection: SelectedCuts | None = None

    def select_cuts(self, final: float) -> None:
        pools = [(pool, child.transition.n_realisations) for child, pool in self.outcomes.pools]
        self._selection, self._final = self._rule.start(pools) if self._rule else None, final

    def violated(
        self, outgoing: Floats, theta: Floats, tolerance: float
    ) -> LinearConstraints | None:
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
        slope, intercept = self.outcomes.support(found)
        cut = Cuts(slope[None, :], np.array([intercept]))
        return LinearConstraints.of_cuts(cut, 1, recurring=True)

    def keeps(self, outgoing: Floats, theta: Floats, tolerance: float) -> NDArray[np.bool_]:
        if not self.outcomes.ready or len(outgoing) == 0:
            return np.ones(len(outgoing), dtype=bool)
        values = self.outcomes.values(outgoing)
        kept: NDArray[np.bool_] = theta[:, 0] >= values - tolerance * np.maximum(
            self.money, np.abs(values)
        )
        return kept


@dataclass(frozen=True)
class MultiCut:
    """One column per outcome."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Multi(outcomes)


class _Multi(CostToGo):
    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes)
        self.n_columns = 1 + len(outcomes.weights)
        self._written = [[0] * len(child.value_function.pools) for child in outcomes.children]
        self._linked = False

    def new_rows(self) -> LinearConstraints | None:
        blocks = list(self._cut_rows())
        if not self._linked and type(self.outcomes.risk) is Expectation:
            self._linked = True
            blocks.append(self._risk_row(self.outcomes.weights, 0.0))
        if not blocks:
            return None
        coefficients = np.vstack([b for b, _ in blocks])
        lower = np.concatenate([lower for _, lower in blocks])
        return LinearConstraints(coefficients, lower, np.zeros(len(lower), dtype=bool))

    def restore(self) -> None:
        self._linked = True
        self._written = [
            [len(pool) for pool in child.value_function.pools] for child in self.outcomes.children
        ]

    def violated(
        self, outgoing: Floats, theta: Floats, tolerance: float
    ) -> LinearConstraints | None:
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
        return LinearConstraints(*self._risk_row(q, offset), np.ones(1, dtype=bool))

    def _risk_row(self, q: Floats, offset: float) -> tuple[Floats, Floats]:
        theta = np.concatenate([[1.0], -q])
        if self.outcomes.stop_probability > 0.0:
            theta[-1] = 0.0
        state = np.zeros((1, self.outcomes.n_components))
        return np.hstack([state, theta[None, :]]), np.array([offset])

    def _cut_rows(self) -> list[tuple[Floats, Floats]]:
        blocks: list[tuple[Floats, Floats]] = []
        column = 1
        for child, written in zip(self.outcomes.children, self._written, strict=True):
            n = child.transition.n_realisations
            for w, pool in enumerate(child.value_function.pools):
                fresh = range(written[w], len(pool))
                blocks.extend(self._outcome_rows(child, pool, cut, column) for cut in fresh)
                written[w] = len(pool)
                column += n
        return blocks

    def _outcome_rows(
        self, child: Child, pool: Cuts, cut: int, column: int
    ) -> tuple[Floats, Floats]:
        n = child.transition.n_realisations
        slope, intercept = pool.slopes[cut], float(pool.intercepts[cut])
        constants = np.full(n, intercept)
        if child.transition.shift is not None:
            constants += child.transition.shift @ slope
        theta = np.zeros((n, self.n_columns))
        theta[:, column : column + n] = np.eye(n)
        return np.hstack([-child.transition.pull_back(slope), theta]), constants


@dataclass(frozen=True)
class AverageCut:
    """One column; every outcome is solved for each averaged cut."""

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _Average(outcomes)


class _Average(CostToGo):
    every_realisation = True

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes)
        self._written = 0

    def new_rows(self) -> LinearConstraints | None:
        fresh = slice(self._written, len(self.cuts))
        self._written = len(self.cuts)
        cuts = Cuts(self.cuts.slopes[fresh], self.cuts.intercepts[fresh])
        return LinearConstraints.of_cuts(cuts, 1, recurring=False) if len(cuts) else None

    def aggregate(self, values: Floats, slopes: Floats, outgoing: Floats) -> Cut:
        """The cut under the probabilities as the risk measure adjusts them at these values."""
        if self.outcomes.stop_probability > 0.0:
            values = np.append(values, 0.0)
        q, offset = self.outcomes.adjusted(values)
        slope = q[: len(slopes)] @ slopes
        return Cut(slope, float(q @ values) + offset - float(slope @ outgoing))

    def restore(self) -> None:
        self._written = len(self.cuts)
