"""Why constraints of one period cannot be kept together, and the least relaxation that helps.

A phase-one linear program gives every constraint (and every bound of the optimizer) one relaxation
for its lower and one for its upper side, and minimizes their sum, each divided by the constraint's
size. Weights and cash of at least 0 (or of at least the optimizer's bounds, where these allow less)
are given: short positions and loans are no remedy. A deletion filter (Chinneck and Dravnieks, 1991)
then leaves out one constraint after the other and keeps out what the contradiction does not need.
Limits on tracking error are cones: where the linear constraints can be kept, or once they are
relaxed, they are judged by the least excess over them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.errors import InfeasibleConstraints, SolverError
from sddp.lp import Arrays, LinearProgram, Status, fitted_scaling
from sddp.portfolio.constraints.constraint import Constraint
from sddp.portfolio.constraints.constraint_rows import ConstraintRows
from sddp.portfolio.constraints.members import EsgFloor, Liquidity, TrackingError
from sddp.portfolio.qp.cones import least_excess
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.qp.rows import Rows, Tracking

# A total relaxation below this is the solver's accuracy.
TOLERANCE = 1e-8

# Rows of a cone program are relaxed by this more than they must be: Clarabel calls a set that is a
# point infeasible.
ROOM = 1e-7

# Weights without bounds stay inside this in the cone program, which wants a box.
WIDE = 10.0


@dataclass(frozen=True, eq=False)
class Item:
    """Something that may be left out: a constraint, or a bound of the optimizer.

    Attributes
    ----------
    name, unit, words : str
    rows : Rows
    per_unit : array, shape (k,)
        By how much a unit of relaxation moves each row's side.
    size : float
    tracker : TrackingError or None
    is_score : bool
        Whether relaxations are of a score times the weight it is an average over.
    """

    name: str
    unit: str
    words: str
    rows: Rows
    per_unit: Floats
    size: float
    tracker: TrackingError | None = None
    is_score: bool = False


class Relaxation(NamedTuple):
    """Least relaxation: lower and upper side of each item, in row units, and where it leads."""

    total: float
    sides: Floats
    weights: Floats


def explain(
    problem: TransactionCostQp, rows: ConstraintRows, names: Sequence[Hashable]
) -> InfeasibleConstraints | None:
    """The error that says what cannot be kept together; None where all can.

    Parameters
    ----------
    problem : TransactionCostQp
        With the optimizer's own bounds, constraints not applied.
    rows : ConstraintRows
    names : sequence of labels
        Of the assets.
    """
    items = [*_bounds(problem, names), *_items(rows, len(names))]
    system = _System(problem, items)
    least = system.relax(range(len(items)))
    if not system.conflicts(range(len(items))):
        return None
    kept = list(range(len(items)))
    for at in range(len(items)):
        without = [i for i in kept if i != at]
        if system.conflicts(without):
            kept = without
    conflict = [items[i] for i in kept]
    amounts = system.amounts(least)
    return _error(conflict, amounts)


def _error(
    conflict: Sequence[Item], amounts: dict[str, tuple[float, float, str]]
) -> InfeasibleConstraints:
    named = "; ".join(f"{item.name} ({item.words})" for item in conflict)
    steps = []
    for name, (low, high, unit) in amounts.items():
        if low > 0.0:
            steps.append(f"lower the lower side of {name} by {low:.6g} {unit}")
        if high > 0.0:
            steps.append(f"raise the upper side of {name} by {high:.6g} {unit}")
    return InfeasibleConstraints(
        f"no portfolio keeps these together: {named}. Without any one of them the others can be "
        f"kept. Least relaxation of all constraints that helps: {', '.join(steps)}",
        tuple(item.name for item in conflict),
        {name: (low, high) for name, (low, high, _) in amounts.items()},
    )


class _System:
    """The phase-one program; items are switched on and off by their costs."""

    def __init__(self, problem: TransactionCostQp, items: Sequence[Item]) -> None:
        self._p, self._items, self._n = problem, items, len(problem.mean)
        self._owner: Ints = np.repeat(np.arange(len(items)), [len(i.rows) for i in items])
        self._rows = Rows.joined([item.rows for item in items])
        self._per_unit = np.concatenate([item.per_unit for item in items])
        self._first = 3 * self._n + 1
        arrays = self._arrays()
        self._lp = LinearProgram(arrays, fitted_scaling(arrays))

    def _arrays(self) -> Arrays:
        """Columns: weights, purchases, sales, cash; relaxations of lower, then of upper sides."""
        p, n, m, rows = self._p, self._n, len(self._items), self._rows
        k, width = len(rows), 3 * n + 1 + 2 * m
        eye = np.eye(n)
        moves = np.hstack([eye, -eye, eye, np.zeros((n, 1 + 2 * m))])
        paid = float(p.self_financing)
        costs = [
            np.ones(n),
            paid * p.purchase_cost,
            paid * p.sale_cost,
            np.ones(1),
            np.zeros(2 * m),
        ]
        body = np.hstack([rows.weights, rows.bought, rows.sold, rows.cash[:, None]])
        relax = np.zeros((k, m))
        relax[np.arange(k), self._owner] = self._per_unit
        none = np.zeros((k, m))
        above, below = np.isfinite(rows.upper), np.isfinite(rows.lower)
        matrix = [
            moves,
            np.concatenate(costs)[None],
            np.hstack([body, relax, none])[below],
            np.hstack([body, none, -relax])[above],
        ]
        sides = np.append(p.current, 1.0)
        lower = [sides, rows.lower[below], np.full(int(above.sum()), -np.inf)]
        upper = [sides, np.full(int(below.sum()), np.inf), rows.upper[above]]
        least, most = np.zeros(width), np.full(width, np.inf)
        least[:n], least[3 * n] = np.minimum(p.lower, 0.0), min(p.cash_lower, 0.0)
        # Nobody trades more than this of an asset, unless to waste wealth on costs.
        most[n : 2 * n] = np.maximum(p.upper - p.current, 1.0)
        most[2 * n : 3 * n] = np.maximum(p.current - p.lower, 1.0)
        return Arrays(
            np.zeros(width),
            sp.csr_array(np.vstack(matrix)),
            np.concatenate(lower),
            np.concatenate(upper),
            least,
            most,
        )

    def relax(self, wanted: Iterable[int]) -> Relaxation:
        """Least relaxation of some items; the others are not asked for."""
        m, sizes = len(self._items), np.array([item.size for item in self._items])
        costs = np.zeros(m)
        chosen = list(wanted)
        costs[chosen] = 1.0 / sizes[chosen]
        columns = np.arange(self._first, self._first + 2 * m, dtype=np.int32)
        self._lp.set_costs(columns, np.tile(costs, 2))
        if self._lp.solve() is not Status.OPTIMAL:
            file = self._lp.write("sddp-constraints")
            raise SolverError(
                f"phase one of the constraints: {self._lp.status_text()}; written to {file}"
            )
        values, n = self._lp.primal(), self._n
        sides = np.maximum(values[self._first :].reshape(2, m), 0.0)
        sides[:, costs == 0.0] = 0.0
        total = float((sides * costs).sum())
        return Relaxation(total, sides, values[:n])

    def conflicts(self, wanted: Sequence[int]) -> bool:
        """Whether some items cannot be kept together."""
        least = self.relax(wanted)
        if least.total > TOLERANCE:
            return True
        return float(self.excess(wanted, least)[0].max(initial=0.0)) > TOLERANCE

    def excess(self, wanted: Iterable[int], least: Relaxation) -> tuple[Floats, Floats]:
        """By how much the limits on tracking error must be missed, a year, once rows are relaxed.

        Returns
        -------
        excess : array, shape (n_items,)
            0 for items that are none.
        weights : array, shape (n_assets,)
            Where it is so.
        """
        chosen = list(wanted)
        found = np.zeros(len(self._items))
        trackers = [i for i in chosen if self._items[i].tracker is not None]
        if not trackers:
            return found, least.weights
        given = [self._items[i].tracker for i in trackers]
        yearly = np.sqrt([t.periods_per_year for t in given if t is not None])
        benchmarks = np.array([self._benchmark(i) for i in trackers])
        limits = np.array([t.per_period for t in given if t is not None])
        program = replace(
            self._relaxed(chosen, least),
            tracking=Tracking(benchmarks, limits, np.zeros(len(limits))),
        )
        solved = least_excess(program)
        found[trackers] = solved.excess * yearly
        return found, solved.weights

    def amounts(self, least: Relaxation) -> dict[str, tuple[float, float, str]]:
        """Lower and upper relaxation of what must be relaxed, in users' units."""
        excess, weights = self.excess(range(len(self._items)), least)
        amounts = {}
        for i, item in enumerate(self._items):
            low, high = (float(side) for side in least.sides[:, i])
            unit = item.unit
            if item.is_score and low > TOLERANCE:
                over = self._scored(item, weights)
                low, unit = (low / over, unit) if over > ROOM else (low, f"{unit} times weight")
            high = max(high, float(excess[i]))
            if max(low, high) > TOLERANCE:
                low, high = (side if side > TOLERANCE else 0.0 for side in (low, high))
                amounts[item.name] = low, high, unit
        return amounts

    def _scored(self, item: Item, weights: Floats) -> float:
        """Weight that a score is an average over."""
        if item.rows.cash.any():
            return float(weights.sum()) + self._p.cash(weights)
        return float(weights.sum())

    def _benchmark(self, i: int) -> Floats:
        benchmark: Floats = self._items[i].rows.weights[0]
        return benchmark

    def _relaxed(self, chosen: Sequence[int], least: Relaxation) -> TransactionCostQp:
        """A problem with the chosen rows, relaxed, and nothing else but a wide box."""
        n = self._n
        pick = np.isin(self._owner, chosen)
        at = self._owner[pick]
        moved = self._per_unit[pick] * (least.sides[:, at] + ROOM)
        rows = self._rows.chosen(np.flatnonzero(pick))
        rows = replace(rows, lower=rows.lower - moved[0], upper=rows.upper + moved[1])
        return replace(
            self._p,
            lower=np.minimum(self._p.lower, 0.0),
            upper=np.full(n, WIDE),
            cash_lower=min(self._p.cash_lower, 0.0),
            cash_upper=WIDE * n,
            rows=rows,
            risk_aversion=0.0,
        )


def _bounds(problem: TransactionCostQp, names: Sequence[Hashable]) -> list[Item]:
    """Bounds of the optimizer itself, where they ask for more than long-only weights do."""
    p, n = problem, len(names)
    eye, one, cash = np.eye(n), np.zeros((1, n)), np.ones(1)
    items = []
    if (p.lower > 0.0).any():
        rows = Rows.of(eye, lower=p.lower)
        items.append(_bound("min_weights", rows, "weights at least min_weights"))
    if (p.upper < 1.0).any():
        rows = Rows.of(eye, upper=p.upper)
        items.append(_bound("max_weights", rows, "weights at most max_weights"))
    if p.cash_lower > 0.0:
        rows = Rows.of(one, cash=cash, lower=np.array([p.cash_lower]))
        items.append(_bound("min_cash", rows, f"cash at least {p.cash_lower:g}"))
    if p.cash_upper < 1.0:
        rows = Rows.of(one, cash=cash, upper=np.array([p.cash_upper]))
        items.append(_bound("max_cash", rows, f"cash at most {p.cash_upper:g}"))
    return items


def _bound(name: str, rows: Rows, words: str) -> Item:
    return Item(name, "of wealth", words, rows, np.ones(len(rows)), 1.0)


def _items(rows: ConstraintRows, n_assets: int) -> list[Item]:
    """Hard constraints; a benchmark's weights stand in a row without sides."""
    items = []
    trackers = iter(rows.benchmarks)
    for i, constraint in enumerate(rows.constraints):
        own = rows.all_rows.chosen(np.flatnonzero(rows.owner == i))
        tracker = constraint if isinstance(constraint, TrackingError) else None
        if tracker is not None:
            own = Rows.of(next(trackers)[None])
        if constraint.penalty is None:
            items.append(_item(constraint, own, tracker))
    return items


def _item(constraint: Constraint, rows: Rows, tracker: TrackingError | None) -> Item:
    per_unit, unit = np.ones(len(rows)), constraint.unit
    if isinstance(constraint, Liquidity):
        per_unit, unit = rows.upper / constraint.share, "of daily volume"
    return Item(
        constraint.name,
        unit,
        constraint.describe(),
        rows,
        per_unit,
        constraint.size,
        tracker,
        isinstance(constraint, EsgFloor),
    )
