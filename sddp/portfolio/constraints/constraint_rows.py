"""A `ConstraintSet` over given assets, as what the solvers take: bounds, rows and benchmarks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.portfolio.constraints.constraint import Constraint
from sddp.portfolio.constraints.constraint_set import ConstraintSet
from sddp.portfolio.constraints.members import TrackingError
from sddp.portfolio.qp.problem import NEGLIGIBLE, TransactionCostQp, TransactionCostSolution
from sddp.portfolio.qp.rows import Rows, Tracking


class ConstraintRows:
    """Constraints read once for some assets.

    A hard row on one weight, on cash alone or on one asset's trade becomes a bound.

    Parameters
    ----------
    constraints : ConstraintSet
    assets : sequence of labels

    Attributes
    ----------
    constraints : sequence of Constraint
    all_rows : Rows
        Of every constraint, one after the other.
    owner : integer array
        Position of the constraint that each of these rows is of.
    none : Rows
        No rows for these assets.
    """

    def __init__(self, constraints: ConstraintSet, assets: Sequence[Hashable]) -> None:
        self.constraints: Sequence[Constraint] = constraints.constraints
        parts = [c.rows(assets) for c in self.constraints]
        self.none = Rows.none(len(assets))
        self.all_rows = Rows.joined(parts) if parts else self.none
        lengths = [len(part) for part in parts]
        self.owner = np.repeat(np.arange(len(parts)), lengths).astype(np.int64)
        self.trackers = [c for c in self.constraints if isinstance(c, TrackingError)]
        self._tracking = self._tracking_of(assets)
        self._sort_rows()

    @property
    def benchmarks(self) -> Floats:
        """Weights of the benchmarks of limits on tracking error, shape (q, n_assets)."""
        return self._tracking.benchmarks

    @property
    def names_of_rows(self) -> Sequence[str]:
        """Name of the constraint of each row that becomes no bound."""
        return [self.constraints[k].name for k in self.owner[self._rest]]

    def apply(self, problem: TransactionCostQp) -> TransactionCostQp:
        """The problem with its bounds tightened, and the other rows and benchmarks added."""
        rows, lower, upper = self.all_rows, problem.lower, problem.upper
        if not len(self.owner):
            return replace(problem, tracking=self._tracking)
        lower, upper = lower.copy(), upper.copy()
        for at, of in zip(self._on_weight, self._asset_of_weight, strict=True):
            factor = rows.weights[at, of]
            sides = sorted((rows.lower[at] / factor, rows.upper[at] / factor))
            lower[of], upper[of] = max(lower[of], sides[0]), min(upper[of], sides[1])
        for at, of in zip(self._on_trade, self._asset_of_trade, strict=True):
            now, limit = problem.current[of], rows.upper[at]
            lower[of], upper[of] = max(lower[of], now - limit), min(upper[of], now + limit)
        cash = self._on_cash
        low = max([problem.cash_lower, *rows.lower[cash].tolist()])
        high = min([problem.cash_upper, *rows.upper[cash].tolist()])
        # Sides that differ by rounding are one.
        lower, upper = _joined(lower, upper)
        return replace(
            problem,
            lower=lower,
            upper=upper,
            cash_lower=low,
            cash_upper=high,
            rows=self._rest_rows,
            tracking=self._tracking,
        )

    def multipliers(
        self, problem: TransactionCostQp, found: TransactionCostSolution, pull: Floats
    ) -> Floats:
        """By how much the objective would rise per unit by which each constraint is relaxed.

        Parameters
        ----------
        problem : TransactionCostQp
        found : TransactionCostSolution
        pull : array, shape (1 + n_assets,)
            What cash and each weight still want: positive where an upper bound holds them.
        """
        values = np.zeros(len(self.constraints))
        np.add.at(values, self.owner[self._rest], np.abs(found.prices.rows))
        rows, now, held = self.all_rows, problem.current, found.weights
        for at, of in zip(self._on_weight, self._asset_of_weight, strict=True):
            side = rows.upper[at] if pull[1 + of] > 0.0 else rows.lower[at]
            if abs(held[of] * rows.weights[at, of] - side) <= NEGLIGIBLE:
                values[self.owner[at]] += abs(pull[1 + of])
        for at, of in zip(self._on_trade, self._asset_of_trade, strict=True):
            if abs(abs(held[of] - now[of]) - rows.upper[at]) <= NEGLIGIBLE:
                values[self.owner[at]] += abs(pull[1 + of])
        for at in self._on_cash:
            if (
                min(abs(found.cash - rows.upper[at]), abs(found.cash - rows.lower[at]))
                <= NEGLIGIBLE
            ):
                values[self.owner[at]] += abs(pull[0])
        if len(self.trackers):
            errors = problem.tracking.errors(held, problem.covariance)
            places = [i for i, c in enumerate(self.constraints) if isinstance(c, TrackingError)]
            yearly = np.sqrt([c.periods_per_year for c in self.trackers])
            values[places] += found.prices.tracking * errors / yearly * problem.tracking.hard
        return values

    def breaches(self, problem: TransactionCostQp, found: TransactionCostSolution) -> Floats:
        """Largest breach of each constraint, in the unit of its rows (a year for benchmarks)."""
        values = np.zeros(len(self.constraints))
        levels = self.all_rows.levels(found.weights, found.cash, problem.current)
        np.maximum.at(values, self.owner, self.all_rows.breaches(levels))
        errors = problem.tracking.errors(found.weights, problem.covariance)
        tracked = iter(errors)
        for i, constraint in enumerate(self.constraints):
            if isinstance(constraint, TrackingError):
                yearly = float(next(tracked)) * constraint.periods_per_year**0.5
                values[i] = max(yearly - constraint.limit, 0.0)
        values[values <= NEGLIGIBLE] = 0.0
        return values

    def _sort_rows(self) -> None:
        rows = self.all_rows
        if not len(rows):
            nothing: Ints = np.zeros(0, dtype=np.int64)
            self._on_weight = self._on_trade = self._on_cash = nothing
            self._asset_of_weight = self._asset_of_trade = self._rest = nothing
            self._rest_rows = rows
            return
        hard = ~rows.soft
        of_weights = (rows.weights != 0.0).sum(axis=1)
        of_trades = ((rows.bought != 0.0) | (rows.sold != 0.0)).sum(axis=1)
        on_cash = rows.cash != 0.0
        alone = hard & (of_weights == 1) & (of_trades == 0) & ~on_cash
        cash = hard & (of_weights == 0) & (of_trades == 0) & on_cash & (rows.cash == 1.0)
        trade = hard & (of_weights == 0) & (of_trades == 1) & ~on_cash
        trade &= ((rows.bought == rows.sold) & np.isin(rows.bought, (0.0, 1.0))).all(axis=1)
        self._on_weight, self._on_trade = np.flatnonzero(alone), np.flatnonzero(trade)
        self._on_cash = np.flatnonzero(cash)
        self._asset_of_weight = np.argmax(rows.weights[self._on_weight] != 0.0, axis=1)
        self._asset_of_trade = np.argmax(rows.bought[self._on_trade] != 0.0, axis=1)
        self._rest = np.flatnonzero(~(alone | cash | trade))
        self._rest_rows = rows.chosen(self._rest)

    def _tracking_of(self, assets: Sequence[Hashable]) -> Tracking:
        none = Tracking.none(len(assets))
        if not self.trackers:
            return none
        return Tracking(
            np.array([c.weights(assets) for c in self.trackers]),
            np.array([c.per_period if c.penalty is None else np.inf for c in self.trackers]),
            np.array([c.penalty or 0.0 for c in self.trackers]),
        )


def _joined(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    crossed = (lower > upper) & (lower - upper <= NEGLIGIBLE)
    middle = (lower + upper) / 2.0
    return np.where(crossed, middle, lower), np.where(crossed, middle, upper)
