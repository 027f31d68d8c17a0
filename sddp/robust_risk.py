"""Risk measures of distributionally robust SDDP: the worst law within a ball around the given one.

Both sets of laws do not depend on the costs, so the measures are positively homogeneous; neither is
a mixture of tail means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.risk import RiskMeasure


@dataclass(frozen=True)
class ModifiedChiSquared(RiskMeasure):
    """The worst probabilities near the given ones: ``sum (q - p)^2 <= radius^2``.

    Distributionally robust SDDP of Philpott, de Matos and Kapelevich (2018), for any p. Outcomes of
    probability 0 may get some.

    Parameters
    ----------
    radius : float
        At least 0, at which it is the expectation.

    >>> q, _ = ModifiedChiSquared(0.25).adjust(np.full(5, 0.2), [-2, -1, -3, -4, -5])
    >>> q.round(6).tolist()
    [0.279057, 0.358114, 0.2, 0.120943, 0.041886]
    """

    radius: float

    def __post_init__(self) -> None:
        _check_radius(self.radius)

    @property
    def positively_homogeneous(self) -> bool:
        """The set of probabilities does not depend on the costs."""
        return True

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        spread = float(np.ptp(z))
        if self.radius == 0.0 or spread == 0.0:
            return p, 0.0
        costs = (z - z.max()) / spread
        # The optimum is the projection of p + a z on the simplex; its distance from p grows in a.
        worst = np.zeros_like(p)
        top = costs == 0.0
        worst[top] = _on_simplex(p[top])
        if np.linalg.norm(worst - p) <= self.radius:
            return worst, 0.0
        low, high = 0.0, 1.0
        while np.linalg.norm(_on_simplex(p + high * costs) - p) < self.radius:
            low, high = high, 2.0 * high
        for _ in range(60):
            middle = 0.5 * (low + high)
            near = np.linalg.norm(_on_simplex(p + middle * costs) - p) < self.radius
            low, high = (middle, high) if near else (low, middle)
        return self._on_boundary(p, costs, _on_simplex(p + low * costs) > 0.0), 0.0

    def _on_boundary(self, p: Floats, z: Floats, positive: NDArray[np.bool_]) -> Floats:
        """The optimum where the outcomes of positive probability are known, in closed form."""
        missing = float(p[~positive].sum())
        count = int(positive.sum())
        own = z[positive] - z[positive].mean()
        left = self.radius**2 - float(p[~positive] @ p[~positive]) - missing**2 / count
        q = np.zeros_like(p)
        step = np.sqrt(max(left, 0.0)) / np.linalg.norm(own) if own.any() else 0.0
        q[positive] = np.maximum(p[positive] + missing / count + step * own, 0.0)
        total: float = q.sum()
        return q / total


@dataclass(frozen=True, eq=False)
class Wasserstein(RiskMeasure):
    """The worst law that moving probability at a bounded cost can reach.

    Probability moves between the outcomes at hand; moving mass m from i to j costs
    ``m * distance(i, j)``, and all of it at most the radius (the Wasserstein ball of order 1 on the
    outcomes). For each i the best use of a budget is the upper concave envelope of the costs over
    the distance; budgets go to the steepest pieces of all envelopes first, so sorting solves it,
    without the linear program of n^2 columns.

    Parameters
    ----------
    radius : float
        At least 0, in the unit of the distance; at 0 it is the expectation.
    distance : array, shape (n_outcomes, n_outcomes), or callable
        Non-negative, with zeros on the diagonal; or ``distance(outcomes)`` that returns such an
        array, for a measure that is given the outcomes, as in training: see `RiskMeasure.adjust`
        and `NoiseDistance`. A policy file can hold an array, or an object of an importable class.

    >>> points = np.array([0.5, 0.3, 0.6, 0.4])
    >>> measure = Wasserstein(0.1, np.abs(points[:, None] - points))
    >>> q, _ = measure.adjust(np.full(4, 0.25), [1.1, 1.2, 0.6, 1.3], "max")
    >>> q.round(6).tolist()
    [0.0, 0.166667, 0.833333, 0.0]
    """

    radius: float
    distance: Any

    def __post_init__(self) -> None:
        _check_radius(self.radius)
        if not callable(self.distance):
            object.__setattr__(self, "distance", _distances(self.distance))

    @property
    def looks_at_outcomes(self) -> bool:
        """Whether the distance is a function of them."""
        return callable(self.distance)

    @property
    def positively_homogeneous(self) -> bool:
        """The set of laws does not depend on the costs."""
        return True

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return self._adjust_outcomes(p, z, None)

    def _adjust_outcomes(self, p: Floats, z: Floats, outcomes: Any) -> tuple[Floats, float]:
        if callable(self.distance):
            if outcomes is None:
                raise ModelError(
                    "distance is a function of the outcomes, which are not given here; give the "
                    "array of their distances"
                )
            distance = _between(self.distance, outcomes)
        else:
            distance = self.distance
        if distance.shape != (len(p), len(p)):
            raise ModelError(
                f"distance has shape {distance.shape}: must be {(len(p), len(p))}, one row and one "
                "column for each outcome"
            )
        return self._transported(p, z, distance), 0.0

    def _transported(self, p: Floats, z: Floats, distance: Floats) -> Floats:
        pieces = [
            (slope, i, start, end)
            for i in np.flatnonzero(p > 0.0)
            for slope, start, end in _envelope(distance[i], z, int(i))
        ]
        pieces.sort(key=lambda piece: -piece[0])
        q, budget = p.copy(), self.radius
        for _, i, start, end in pieces:  # the pieces of one envelope stay in their order
            width = float(p[i] * (distance[i, end] - distance[i, start]))
            share = 1.0 if width <= budget else budget / width
            q[start] -= share * p[i]
            q[end] += share * p[i]
            budget -= share * width
            if share < 1.0:
                break
        q = np.maximum(q, 0.0)
        adjusted: Floats = q / q.sum()
        return adjusted


@dataclass(frozen=True)
class NoiseDistance:
    """Distance between outcomes by their noise, for `Wasserstein`.

    The largest absolute difference of the numbers of the noise, before and after, plus
    `between_nodes` where the nodes differ. An end of the process is as far from a node as a noise
    of zeros at another node.

    Parameters
    ----------
    between_nodes : float
        At least 0, such as the distance between two regimes.

    Raises
    ------
    ModelError
        `between_nodes` is negative or not finite; outcomes of different nodes differ in the number
        of their noises.
    """

    between_nodes: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.between_nodes < np.inf:
            raise ModelError(
                f"between_nodes={self.between_nodes}: must be a finite number of at least 0"
            )

    def __call__(self, outcomes: Sequence[Any]) -> Floats:
        """Distances of all pairs."""
        rows = [np.concatenate([outcome.before, outcome.after]) for outcome in outcomes]
        width = max(len(row) for row in rows)
        if any(len(row) not in (0, width) for row in rows):
            raise ModelError(
                "distance=NoiseDistance(): the nodes that may follow have noises of different "
                "numbers; give a distance of your own"
            )
        table = np.zeros((len(rows), width))
        for i, row in enumerate(rows):
            table[i, : len(row)] = row
        names = {name: k for k, name in enumerate({outcome.node: None for outcome in outcomes})}
        node = np.array([names[outcome.node] for outcome in outcomes])
        found = np.zeros((len(rows), len(rows)))
        for column in table.T:
            np.maximum(found, np.abs(column[:, None] - column), out=found)
        moved: Floats = found + self.between_nodes * (node[:, None] != node)
        return moved


# Distances of the latest lists of outcomes, by identity: a node asks hundreds of times.
_KNOWN: dict[tuple[int, int], tuple[Any, Any, Floats]] = {}
MOST_KNOWN = 64


def _between(distance: Any, outcomes: Any) -> Floats:
    """Checked distances between outcomes, computed once for the same list."""
    key = (id(distance), id(outcomes))
    held = _KNOWN.get(key)
    if held is None or held[0] is not distance or held[1] is not outcomes:
        if len(_KNOWN) >= MOST_KNOWN:
            _KNOWN.clear()
        held = _KNOWN[key] = (distance, outcomes, _distances(distance(outcomes)))
    return held[2]


def _envelope(distance: Floats, z: Floats, own: int) -> list[tuple[float, int, int]]:
    """Pieces ``(slope, from, to)`` of the concave envelope of costs over distance, from `own`."""
    pieces: list[tuple[float, int, int]] = []
    order = np.lexsort((-z, distance))
    # At no distance the dearest outcome costs nothing to reach.
    here = int(order[0]) if distance[order[0]] == 0.0 and z[order[0]] > z[own] else own
    if here != own:
        pieces.append((np.inf, own, here))
    while True:
        further = np.flatnonzero((distance > distance[here]) & (z > z[here]))
        if not len(further):
            return pieces
        slopes = (z[further] - z[here]) / (distance[further] - distance[here])
        # Of equal slopes the furthest: the others lie on the same piece.
        steepest = further[slopes >= slopes.max() * (1.0 - 1e-15)]
        end = int(steepest[np.argmax(distance[steepest])])
        pieces.append((float(slopes.max()), here, end))
        here = end


def _distances(values: Any) -> Floats:
    array: Floats = np.array(values, dtype=float)
    square = array.ndim == 2 and array.shape[0] == array.shape[1]
    if not (square and np.isfinite(array).all() and array.min(initial=0.0) >= 0.0):
        raise ModelError(
            f"distance has shape {array.shape}: must be a square array of finite numbers >= 0"
        )
    if np.diag(array).any():
        raise ModelError("distance of an outcome from itself must be 0")
    return array


def _check_radius(radius: float) -> None:
    if not 0.0 <= radius < np.inf:
        raise ModelError(f"radius={radius}: must be a finite number of at least 0")


def _on_simplex(values: Floats) -> Floats:
    """Nearest probabilities to a vector."""
    ordered = np.sort(values)[::-1]
    excess = (np.cumsum(ordered) - 1.0) / np.arange(1, len(values) + 1)
    count = int(np.flatnonzero(ordered > excess)[-1])
    nearest: Floats = np.maximum(values - excess[count], 0.0)
    return nearest
