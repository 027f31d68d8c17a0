"""How accurately rows are refined, and how many paths an iteration follows, as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Protocol, runtime_checkable

import numpy as np

from sddp.errors import ModelError


class ToleranceSchedule(Protocol):
    """Tolerances to which rows are refined, relative to the value."""

    @property
    def start(self) -> float:
        """That of the first iteration."""
        ...

    @property
    def final(self) -> float:
        """That of the last bound, of decisions and simulations; none is below it."""
        ...

    def next(self, tolerance: float, moves: Sequence[float]) -> float:
        """That of the next iteration, from this one's and the bound's relative moves so far."""
        ...

    def of_bound(self, tolerance: float) -> float:
        """That of the bound of an iteration whose passes use `tolerance`."""
        ...


@dataclass(frozen=True)
class Tolerances:
    """A tolerance that follows the bound.

    Cuts from a loosely refined LP are valid, only weaker, and early ones are superseded anyway.
    The tolerance is `share` of the largest of the bound's last few relative moves, never above
    `start` or the tolerance before, never below `final` or (unless a stopping rule asks for
    `final`) the tolerance before divided by `largest_step`. The bound of an iteration is refined
    `largest_step` times as far; that of the last one, a policy's bound, its decisions and
    simulations always use `final`.

    Parameters
    ----------
    start, share, final : float
    largest_step : float
        A bound that rests for an iteration or two may move on, so the tolerance falls by so much
        at a time. The bound is refined so much further than the rows that cuts are made of: what
        is missing from it is then small beside its moves, which the tolerance follows, and the
        first decision that it was found by is good enough for the next iteration.
    recent : int
        Moves that are looked at: one path may move the bound hardly at all by chance.
    """

    start: float = 1e-4
    share: float = 0.3
    final: float = 1e-9
    largest_step: float = 10.0
    recent: int = 3

    def __post_init__(self) -> None:
        for name, value in (("start", self.start), ("share", self.share), ("final", self.final)):
            if not (isinstance(value, Real) and np.isfinite(value) and value >= 0.0):
                raise ModelError(
                    f"Tolerances: {name} = {value!r}: must be a finite number >= 0, relative to "
                    "the value"
                )
        if not self.largest_step >= 1.0 or self.recent < 1:
            raise ModelError(
                f"Tolerances: largest_step = {self.largest_step!r}, recent = {self.recent!r}: must "
                "be at least 1"
            )

    def next(self, tolerance: float, moves: Sequence[float]) -> float:
        """See `ToleranceSchedule`."""
        wanted = max(self.share * max(moves[-self.recent :]), tolerance / self.largest_step)
        return max(self.final, min(tolerance, wanted))

    def of_bound(self, tolerance: float) -> float:
        """See `ToleranceSchedule`."""
        return max(self.final, tolerance / self.largest_step)


@runtime_checkable
class PathSchedule(Protocol):
    """How many forward paths each iteration follows."""

    @property
    def most(self) -> int:
        """The largest number that `n_paths` returns."""
        ...

    def n_paths(self, iteration: int) -> int:
        """Paths of an iteration (from 1)."""
        ...


@dataclass(frozen=True)
class SinglePathFirst:
    """One path in the first iterations, then always as many.

    Parameters
    ----------
    most : int
        Paths of each later iteration.
    single : int
        Iterations with one path: with so few cuts a second one would find the same. With ten
        instead of five, 1 % of the gain took 1,300 instead of 1,730 linear programs (medians of
        five seeds; `papers/performance.md`).
    """

    most: int = 2
    single: int = 10

    def __post_init__(self) -> None:
        for name, value, least in (("n_paths", self.most, 1), ("single", self.single, 0)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
                raise ModelError(f"{name} = {value!r}; give a whole number of at least {least}")

    def n_paths(self, iteration: int) -> int:
        """See `PathSchedule`."""
        return int(self.most) if iteration > self.single else 1
