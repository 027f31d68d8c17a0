"""Risk measures as maps from (probabilities, values) to (adjusted probabilities, offset).

Every measure here is convex, so ``rho(Z) = max_q q.Z + offset(q)`` over a set of adjusted
probabilities; a measure returns the maximizer at the given values. That pair is all the engine
needs: ``q.Z' + offset`` supports ``rho`` from below at every other ``Z'`` (for costs).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from sddp.arrays import Floats, Ints, checked_probabilities
from sddp.errors import ModelError

Sense = Literal["min", "max"]

# Weights of a convex combination are typed by people: 1/3 + 2/3 must pass, 0.9 must not.
WEIGHT_TOLERANCE = 1e-9


class RiskMeasure(ABC):
    """A convex risk measure over finitely many outcomes.

    Combine with ``+`` and ``*``: ``0.5 * Expectation() + 0.5 * CVaR(confidence=0.95)``.
    To add one, subclass and write `_adjust_costs`; `tail_mixture` only if it is one. A measure that
    looks at the outcomes themselves, and not at their values alone, writes `_adjust_outcomes`.
    """

    def adjust(
        self,
        probabilities: ArrayLike,
        values: ArrayLike,
        sense: Sense = "min",
        outcomes: Any = None,
    ) -> tuple[Floats, float]:
        """Adjusted probabilities ``q`` and offset, with ``rho(values) = q.values + offset``.

        Parameters
        ----------
        probabilities, values : array, shape (n_outcomes,)
        sense : {"min", "max"}
            ``"min"``: values are costs, large is bad. ``"max"``: rewards, small is bad.
        outcomes : sequence of n_outcomes, optional
            What happens, for measures that compare outcomes. The engine gives, where
            `looks_at_outcomes`, named tuples ``(node, before, after)``: the next node, the noise
            seen there before its decision, and the noise after the present one.
        """
        p, z = np.asarray(probabilities, dtype=float), np.asarray(values, dtype=float)
        if sense == "min":
            return self._adjust_outcomes(p, z, outcomes)
        if sense != "max":
            raise ModelError(f"sense = {sense!r}; give 'min' for costs or 'max' for rewards")
        q, offset = self._adjust_outcomes(p, -z, outcomes)
        return q, -offset

    def evaluate(
        self,
        probabilities: ArrayLike,
        values: ArrayLike,
        sense: Sense = "min",
        outcomes: Any = None,
    ) -> float:
        """Value of the measure.

        >>> AVaR(tail=0.2).evaluate([0.1, 0.2, 0.3, 0.4], [1, 2, 3, 4], "max")
        1.5
        """
        q, offset = self.adjust(probabilities, values, sense, outcomes)
        return float(q @ np.asarray(values, dtype=float)) + offset

    @abstractmethod
    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        """`adjust` for costs: large ``z`` is bad."""

    def _adjust_outcomes(self, p: Floats, z: Floats, outcomes: Any) -> tuple[Floats, float]:
        """`adjust` for costs of these outcomes; most measures do not look at them."""
        return self._adjust_costs(p, z)

    @property
    def looks_at_outcomes(self) -> bool:
        """Whether the engine gives `adjust` the outcomes: where `_adjust_outcomes` is written."""
        return type(self)._adjust_outcomes is not RiskMeasure._adjust_outcomes

    def tail_mixture(self) -> tuple[tuple[float, float], ...] | None:
        """``(weight, tail mass)`` pairs where the measure is a mixture of tail means.

        Expectation is the tail of mass 1, the worst case that of mass 0. `None` where it is no
        such mixture; the extensive form then has no linear program.
        """
        return None

    @property
    def positively_homogeneous(self) -> bool:
        """Whether ``rho(c Z) = c rho(Z)`` for ``c > 0``, as for every mixture of tails."""
        return self.tail_mixture() is not None

    def __mul__(self, weight: float) -> ConvexCombination:
        return ConvexCombination(((float(weight), self),))

    __rmul__ = __mul__

    def __add__(self, other: RiskMeasure) -> ConvexCombination:
        return ConvexCombination((*_terms(self), *_terms(other)))


def _terms(measure: RiskMeasure) -> tuple[tuple[float, RiskMeasure], ...]:
    return measure.terms if isinstance(measure, ConvexCombination) else ((1.0, measure),)


@dataclass(frozen=True)
class Expectation(RiskMeasure):
    """The risk-neutral measure."""

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return p, 0.0

    def tail_mixture(self) -> tuple[tuple[float, float], ...]:
        """The whole distribution is the tail."""
        return ((1.0, 1.0),)


@dataclass(frozen=True)
class AVaR(RiskMeasure):
    """Mean of the worst `tail` share of probability (average value-at-risk).

    Parameters
    ----------
    tail : float
        Tail mass in [0, 1]: 0.1 is the mean of the worst 10 %; 1 the expectation; 0 the worst
        outcome of positive probability.
    """

    tail: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.tail <= 1.0:
            raise ModelError(f"tail = {self.tail}; the tail mass lies in [0, 1]")

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return tail_probabilities(p, z, self.tail), 0.0

    def tail_mixture(self) -> tuple[tuple[float, float], ...]:
        """One tail."""
        return ((1.0, self.tail),)


@dataclass(frozen=True)
class CVaR(RiskMeasure):
    """Mean of the worst ``1 - confidence`` of probability (conditional value-at-risk).

    Parameters
    ----------
    confidence : float
        In [0, 1]: 0.95 is the mean of the worst 5 %.
    """

    confidence: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.confidence <= 1.0:
            raise ModelError(f"confidence = {self.confidence}; give 0 to 1 (0.95 = worst 5 %)")

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return tail_probabilities(p, z, 1.0 - self.confidence), 0.0

    def tail_mixture(self) -> tuple[tuple[float, float], ...]:
        """One tail."""
        return ((1.0, 1.0 - self.confidence),)


@dataclass(frozen=True)
class WorstCase(RiskMeasure):
    """The worst outcome of positive probability."""

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return tail_probabilities(p, z, 0.0), 0.0

    def tail_mixture(self) -> tuple[tuple[float, float], ...]:
        """The tail shrunk to one point."""
        return ((1.0, 0.0),)


@dataclass(frozen=True)
class Entropic(RiskMeasure):
    """``log E exp(g Z) / g`` for costs: convex, but not positively homogeneous.

    Parameters
    ----------
    risk_aversion : float
        ``g > 0``, in one over the unit of the objective.
    """

    risk_aversion: float

    def __post_init__(self) -> None:
        if not (self.risk_aversion > 0.0 and np.isfinite(self.risk_aversion)):
            raise ModelError(f"risk_aversion = {self.risk_aversion}; give a positive number")

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        g = self.risk_aversion
        worst = z[p > 0.0].max()
        exponent = np.minimum(g * (z - worst), 0.0)
        tilted = p * np.exp(exponent)
        q = tilted / tilted.sum()
        # log(sum p exp) with the 1 taken out, which a small risk aversion would drown in.
        value = worst + float(np.log1p(p @ np.expm1(exponent))) / g
        # Equals -KL(q || p)/g without the logarithm of a zero probability.
        return q, value - float(q @ z)


@dataclass(frozen=True)
class ConvexCombination(RiskMeasure):
    """Weighted sum of measures; the weights are positive and sum to 1.

    Made with ``+`` and ``*``; the sum of the weights is checked when the measure is first used.
    """

    terms: tuple[tuple[float, RiskMeasure], ...]

    def __post_init__(self) -> None:
        if any(weight < 0.0 for weight, _ in self.terms):
            raise ModelError(f"weights of {self} must not be negative")

    def _adjust_costs(self, p: Floats, z: Floats) -> tuple[Floats, float]:
        return self._adjust_outcomes(p, z, None)

    def _adjust_outcomes(self, p: Floats, z: Floats, outcomes: Any) -> tuple[Floats, float]:
        self._check_weights()
        parts = [
            (weight, *measure._adjust_outcomes(p, z, outcomes)) for weight, measure in self.terms
        ]
        q = np.sum([weight * q for weight, q, _ in parts], axis=0)
        return q, sum(weight * offset for weight, _, offset in parts)

    def tail_mixture(self) -> tuple[tuple[float, float], ...] | None:
        """The mixture of the parts' mixtures."""
        self._check_weights()
        pairs: list[tuple[float, float]] = []
        for weight, measure in self.terms:
            mixture = measure.tail_mixture()
            if mixture is None:
                return None
            pairs.extend((weight * inner, tail) for inner, tail in mixture)
        return tuple(pairs)

    @property
    def positively_homogeneous(self) -> bool:
        """Whether all parts are."""
        return all(measure.positively_homogeneous for _, measure in self.terms)

    @property
    def looks_at_outcomes(self) -> bool:
        """Whether any part does."""
        return any(measure.looks_at_outcomes for _, measure in self.terms)

    def __mul__(self, weight: float) -> ConvexCombination:
        return ConvexCombination(tuple((weight * inner, term) for inner, term in self.terms))

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return " + ".join(f"{weight!r} * {measure!r}" for weight, measure in self.terms)

    def _check_weights(self) -> None:
        total = sum(weight for weight, _ in self.terms)
        if not abs(total - 1.0) <= WEIGHT_TOLERANCE:
            raise ModelError(f"the weights of {self} sum to {total}; they must sum to 1")


def tail_probabilities(probabilities: Floats, costs: Floats, tail: float) -> Floats:
    """Weights, summing to 1, of the mean of the largest `costs` with mass `tail`.

    The last outcome of the tail is taken in part where whole ones do not fill it
    (Rockafellar and Uryasev, 2002, section 4). Outcomes of probability 0 never enter.

    >>> tail_probabilities(np.array([.1, .2, .3, .4]), np.array([5., 4., 6., 2.]), 0.5).round(3)
    array([0.2, 0.2, 0.6, 0. ])
    """
    if tail <= 0.0:
        weights = np.zeros_like(costs)
        weights[int(np.argmax(np.where(probabilities > 0.0, costs, -np.inf)))] = 1.0
        return weights
    order = _worst_first(probabilities, costs, tail)
    sorted_p = probabilities[order]
    before = np.cumsum(sorted_p) - sorted_p
    weights = np.zeros_like(costs)
    weights[order] = np.clip(tail - before, 0.0, sorted_p)
    total: float = weights.sum()
    return weights / total


def _worst_first(probabilities: Floats, costs: Floats, tail: float) -> Ints:
    """Outcomes from the worst on, at least as many as fill the tail.

    Sorting them all is the dearest step of a CVaR of thousands of outcomes: a few more than the
    tail would hold if all were equally probable are picked out first.
    """
    n_picked = int(1.5 * tail * len(costs)) + 8
    if n_picked < len(costs):
        picked = np.argpartition(-costs, n_picked)[:n_picked]
        if probabilities[picked].sum() >= tail:
            return picked[np.argsort(-costs[picked])]
    return np.argsort(-costs)


def weighted_cvar(
    losses: ArrayLike, probabilities: ArrayLike | None = None, *, confidence: float
) -> float:
    """CVaR of a discrete loss: mean of the worst ``1 - confidence`` of probability.

    Parameters
    ----------
    losses : array, shape (n_outcomes,)
        Large is bad; a negative result is a gain even in the tail.
    probabilities : array, shape (n_outcomes,), optional
        Equiprobable by default.
    confidence : float
        0.9 means the worst 10 %.

    Raises
    ------
    ModelError
        There is no loss, one is not finite, or the probabilities are none.

    >>> weighted_cvar([0.0, 0.0, 1.0, 3.0], confidence=0.5)
    2.0
    """
    z: Floats = np.asarray(losses, dtype=float)
    if z.ndim != 1 or z.size == 0 or not np.isfinite(z).all():
        raise ModelError(f"losses has shape {z.shape}; give a vector of finite numbers")
    p = checked_probabilities(probabilities, len(z), "probabilities of losses")
    return CVaR(confidence=confidence).evaluate(p, z)


def as_risk_measure(value: RiskMeasure | None) -> RiskMeasure:
    """`Expectation` for None; anything that is no risk measure is refused."""
    if value is None:
        return Expectation()
    if not isinstance(value, RiskMeasure):
        raise ModelError(f"risk = {value!r} is no RiskMeasure; use Expectation(), CVaR(...), ...")
    return value
