"""Linear constraints of a one-period problem beyond bounds and budget, hard or soft, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints


@dataclass(frozen=True, eq=False)
class Rows:
    """``lower <= A w + a cash + B bought + C sold <= upper``, each row hard or at a price.

    Attributes
    ----------
    weights : array, shape (k, n)
    cash : array, shape (k,)
    bought, sold : array, shape (k, n)
        Of purchases ``max(w - current, 0)`` and sales ``max(current - w, 0)``. A row stays convex
        where they are at least 0 and `lower` is infinite, or at most 0 and `upper` is.
    lower, upper : array, shape (k,)
    penalty : array, shape (k,)
        Taken from the objective per unit of breach; infinite for a hard row.
    """

    weights: Floats
    cash: Floats
    bought: Floats
    sold: Floats
    lower: Floats
    upper: Floats
    penalty: Floats

    @classmethod
    def none(cls, n_assets: int) -> Rows:
        """No rows."""
        return cls.of(np.zeros((0, n_assets)))

    @classmethod
    def of(
        cls,
        weights: Floats,
        *,
        cash: Floats | None = None,
        bought: Floats | None = None,
        sold: Floats | None = None,
        lower: Floats | None = None,
        upper: Floats | None = None,
        penalty: Floats | None = None,
    ) -> Rows:
        """Rows whose other parts are zero, or without a side, or hard, where they are left out."""
        k, n = weights.shape

        def filled(values: Floats | None, value: float, shape: tuple[int, ...]) -> Floats:
            return np.full(shape, value) if values is None else np.asarray(values, dtype=float)

        return cls(
            weights,
            filled(cash, 0.0, (k,)),
            filled(bought, 0.0, (k, n)),
            filled(sold, 0.0, (k, n)),
            filled(lower, -np.inf, (k,)),
            filled(upper, np.inf, (k,)),
            filled(penalty, np.inf, (k,)),
        )

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """All rows of some, one after the other."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def chosen(self, positions: Ints) -> Rows:
        """Some of the rows."""
        return Rows(*(getattr(self, f.name)[positions] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.lower)

    @cached_property
    def sizes(self) -> Floats:
        """Largest coefficient of each row: breaches are compared in this unit."""
        if not len(self):
            return np.zeros(0)
        parts = (self.weights, self.cash[:, None], self.bought, self.sold)
        size: Floats = np.abs(np.hstack(parts)).max(axis=1)
        return np.where(size > 0.0, size, 1.0)

    @cached_property
    def soft(self) -> NDArray[np.bool_]:
        """Which rows have a price instead of being hard."""
        return np.isfinite(self.penalty)

    @cached_property
    def on_trades(self) -> NDArray[np.bool_]:
        """Which assets' trades appear in a row."""
        trades: NDArray[np.bool_] = (self.bought != 0.0).any(axis=0) | (self.sold != 0.0).any(
            axis=0
        )
        return trades

    @cached_property
    def slacks(self) -> tuple[Ints, Floats]:
        """Row of each finite side of a soft row, upper sides first, and 1 for these, else -1."""
        if not len(self):
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        slack = np.isfinite(np.array([self.upper, self.lower])) & self.soft
        side, row = slack.nonzero()
        return row, np.where(side == 0, 1.0, -1.0)

    def levels(self, weights: Floats, cash: float, current: Floats) -> Floats:
        """Values of the rows."""
        trades = weights - current
        bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
        levels: Floats = (
            self.weights @ weights + self.cash * cash + self.bought @ bought + self.sold @ sold
        )
        return levels

    def breaches(self, levels: Floats) -> Floats:
        """How far values are outside the sides; 0 where they are inside."""
        breach: Floats = np.maximum(np.maximum(levels - self.upper, self.lower - levels), 0.0)
        return breach

    def charge(self, levels: Floats) -> float:
        """What the breaches of soft rows take from the objective."""
        soft = np.flatnonzero(self.soft)
        return float(self.penalty[soft] @ self.breaches(levels)[soft])

    def misses(self, levels: Floats, duals: Floats, unit: float) -> Floats:
        """Error of each row in the optimality conditions, in units of its largest coefficient.

        A row's price is where it should be if a step along it, followed by the proximal map of
        the row's sides and penalty, comes back to its value.
        """
        size = self.sizes
        at, step = levels / size, duals * size / unit
        low, high, price = self.lower / size, self.upper / size, self.penalty * size / unit
        stepped = at + step
        above = np.maximum(high, stepped - price)
        below = np.minimum(low, stepped + price)
        nearest = np.where(stepped > high, above, np.where(stepped < low, below, stepped))
        misses: Floats = np.abs(at - nearest)
        return misses


@dataclass(frozen=True, eq=False)
class Tracking:
    """Benchmarks that the holdings stay near to, by the volatility of the difference.

    Attributes
    ----------
    benchmarks : array, shape (q, n)
        Weights of the risky assets.
    limits : array, shape (q,)
        Largest volatility of the difference per period; infinite where it is charged instead.
    prices : array, shape (q,)
        What half the variance of the difference costs the objective: given for soft benchmarks,
        the multiplier for hard ones.
    """

    benchmarks: Floats
    limits: Floats
    prices: Floats

    @classmethod
    def none(cls, n_assets: int) -> Tracking:
        """No benchmark."""
        return cls(np.zeros((0, n_assets)), np.zeros(0), np.zeros(0))

    def __len__(self) -> int:
        return len(self.limits)

    @cached_property
    def hard(self) -> NDArray[np.bool_]:
        """Which benchmarks have a limit."""
        return np.isfinite(self.limits)

    def errors(self, weights: Floats, covariance: Floats) -> Floats:
        """Volatility of the difference from each benchmark."""
        off = weights - self.benchmarks
        variance = np.einsum("qi,ij,qj->q", off, covariance, off)
        errors: Floats = np.sqrt(np.maximum(variance, 0.0))
        return errors

    def charge(self, weights: Floats, covariance: Floats) -> float:
        """What the differences from soft benchmarks take from the objective."""
        errors = self.errors(weights, covariance)[~self.hard]
        return 0.5 * float(self.prices[~self.hard] @ errors**2)

    def misses(self, weights: Floats, covariance: Floats, unit: float) -> Floats:
        """Error of each hard benchmark in the optimality conditions, in units of weight.

        Either the limit is met exactly, or its multiplier is zero and it is kept.
        """
        volatility = float(np.sqrt(covariance.diagonal().max())) or 1.0
        slack = (self.limits - self.errors(weights, covariance)) / volatility
        price = self.prices * volatility**2 / unit
        misses: Floats = np.abs(np.minimum(slack, price))[self.hard]
        return misses
