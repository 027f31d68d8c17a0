"""When to stop training. Rules are small objects; combine them with ``|`` and ``&``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from sddp.arrays import Floats
from sddp.engine.certificate.certificate import Certificate
from sddp.errors import ModelError

# The reason of `BoundStalling`.
STALLED = "bound stalled"


@dataclass(frozen=True)
class LogEntry:
    """One iteration, in the user's units.

    Attributes
    ----------
    iteration : int
        From 1.
    bound : float
        Best bound so far, optimistic for the user: the value under the cuts by rows refined to a
        tenth of `tolerance`, in the last iteration as far as training goes.
    simulated : float
        Mean total of the iteration's forward paths: a few draws, not all with the nominal
        probabilities, under cuts that have changed since; no estimate of the policy's value.
    seconds : float
        Since training began.
    solves : int
        Linear programs solved since training began.
    tolerance : float
        To which rows were refined in this iteration, relative.
    warnings : int
        Numerical warnings since training began.
    unvisited_mass : float
        At the decisions of the iteration's paths, and before the first: the largest probability,
        as the risk measure adjusts it, of outcomes (node, noise, arrival) that no path of this
        training has followed. What happens there rests on cuts made elsewhere.
    fallbacks : int
        Compiled visits since training began that were not settled and went to HiGHS; 0 where HiGHS
        solves the stages.
    """

    iteration: int
    bound: float
    simulated: float
    seconds: float
    solves: int
    tolerance: float
    warnings: int
    unvisited_mass: float = 1.0
    fallbacks: int = 0


@dataclass(frozen=True, eq=False)
class Progress:
    """What a stopping rule may look at.

    Attributes
    ----------
    log : sequence of LogEntry
    final_tolerance : float
        Rows are refined no further than this.
    maximises : bool
    scale : float
        Size of the numbers, by which moves and tolerances are measured: that of the initial
        state where the problem is homogeneous (its wealth), else of the largest bound or
        simulated total so far.
    simulate : callable from (n_paths, seed) to array (n_paths,)
        Totals of simulated paths under the present cuts, user's units; same seed, same paths.
    memory : dict
        What a rule remembers until its next call in the same training.
    refine : callable
        Asks for the final tolerance from the next iteration on.
    certify : callable from bool to Certificate, or None
        What is certified by a tenth of the linear programs of training, at most; with True, after
        a last sweep as well, for a training that ends. None where no certificate can be had.
    reference : float or None
        Value over which the gain counts.
    """

    log: Sequence[LogEntry]
    final_tolerance: float
    maximises: bool
    scale: float
    simulate: Callable[[int, int], Floats]
    memory: dict[StoppingRule, Any] = field(default_factory=dict)
    refine: Callable[[], None] = lambda: None
    certify: Callable[[bool], Certificate] | None = None
    reference: float | None = None


class StoppingRule(ABC):
    """Decides after each iteration."""

    @abstractmethod
    def reason(self, progress: Progress) -> str | None:
        """Why to stop now, or None to go on."""

    def __or__(self, other: StoppingRule) -> StoppingRule:
        return AnyOf((self, other))

    def __and__(self, other: StoppingRule) -> StoppingRule:
        return AllOf((self, other))


@dataclass(frozen=True)
class AnyOf(StoppingRule):
    """Stop as soon as one rule says so."""

    rules: tuple[StoppingRule, ...]

    def reason(self, progress: Progress) -> str | None:
        """The first reason."""
        reasons = (rule.reason(progress) for rule in self.rules)
        return next((reason for reason in reasons if reason), None)


@dataclass(frozen=True)
class AllOf(StoppingRule):
    """Stop when all rules say so."""

    rules: tuple[StoppingRule, ...]

    def reason(self, progress: Progress) -> str | None:
        """All reasons."""
        reasons = [rule.reason(progress) for rule in self.rules]
        return " and ".join(r for r in reasons if r) if all(reasons) else None


@dataclass(frozen=True)
class Iterations(StoppingRule):
    """Stop after a number of iterations of this training."""

    limit: int

    def __post_init__(self) -> None:
        _require("limit", self.limit, self.limit >= 1, "at least one iteration")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        return "iteration limit" if len(progress.log) >= self.limit else None


@dataclass(frozen=True)
class Seconds(StoppingRule):
    """Stop after a time; checked between iterations."""

    limit: float

    def __post_init__(self) -> None:
        _require("limit", self.limit, self.limit >= 0.0, "seconds >= 0")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        return "time limit" if progress.log[-1].seconds >= self.limit else None


@dataclass(frozen=True)
class BoundStalling(StoppingRule):
    """Stop when the bound has moved little over some iterations at the final tolerance.

    Where it moves little before, the final tolerance is asked for.

    **A stalled bound need not have converged**: each iteration samples a path, and a window in
    which the paths miss what matters (a rare branch; under a risk measure the bad ones) looks
    the same. Let the window grow with the number of outcomes, and compare with a longer one.

    Parameters
    ----------
    iterations : int
        Length of the window.
    tolerance : float
        Largest move, relative to `Progress.scale`.
    """

    iterations: int = 10
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _require("iterations", self.iterations, self.iterations >= 1, "at least one iteration")
        _require("tolerance", self.tolerance, self.tolerance >= 0.0, "a number >= 0")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        window = progress.log[-self.iterations - 1 :]
        moved = abs(window[-1].bound - window[0].bound)
        if len(window) <= self.iterations or moved > self.tolerance * progress.scale:
            return None
        if window[1].tolerance > progress.final_tolerance:
            progress.refine()
            return None
        return STALLED


# `Gap` without a certificate.
NOT_CERTIFIED = f"{STALLED}; not certified"


@dataclass(frozen=True)
class Gap(StoppingRule):
    """Stop when the optimum is certified to lie near the bound, or the bound has stalled.

    Relative sizes are `Certificate.relative_gap`: to the gain over a reference where `train` was
    given one, else to the value. Where the certified gap stays wider although the bound moves no
    more, training ends too, and its reason gives the gap that was certified. Where no certificate
    can be had (cycles; no combination of known points is feasible) only a longer stall ends it.

    Parameters
    ----------
    relative : float
        Gap at which to stop.
    iterations, tolerance :
        The bound has stalled when it moved by less than `tolerance`, relative to the gain, over
        so many iterations.
    uncertified : BoundStalling
        The stall that ends a training without a certificate.
    """

    relative: float = 1e-3
    iterations: int = 10
    tolerance: float = 1e-4
    uncertified: BoundStalling = field(default_factory=lambda: BoundStalling(30, 1e-7))

    def __post_init__(self) -> None:
        _require("relative", self.relative, self.relative > 0.0, "a positive number")
        _require("iterations", self.iterations, self.iterations >= 1, "at least one iteration")
        _require("tolerance", self.tolerance, self.tolerance >= 0.0, "a number >= 0")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        found = progress.certify(False) if progress.certify else None
        if progress.certify is None or found is None:
            return self._without(progress)
        if self._reached(found):
            return _certified(found.relative_gap)
        if not self._stalled(progress, found):
            return None
        found = progress.certify(True)
        if found.gap is None:
            return self._without(progress)
        if self._reached(found):
            return _certified(found.relative_gap)
        if found.relative_gap is None:
            return f"bound stalled; gap certified: {found.gap:.2g}"
        return f"bound stalled; {_certified(found.relative_gap)}"

    def _reached(self, found: Certificate) -> bool:
        return found.relative_gap is not None and found.relative_gap <= self.relative

    def _stalled(self, progress: Progress, found: Certificate) -> bool:
        window = progress.log[-self.iterations - 1 :]
        if len(window) <= self.iterations:
            return False
        reference = progress.reference or 0.0
        size = max(abs(entry.bound - reference) for entry in (window[0], window[-1]))
        if found.value is not None:
            size = max(size, abs(found.value - reference))
        least = self.tolerance * size
        if abs(window[-1].bound - window[0].bound) > least:
            return False
        # Rows refined to a tolerance no finer than the moves could hide them.
        if window[1].tolerance * progress.scale > max(
            least / 10.0, progress.final_tolerance * progress.scale
        ):
            progress.refine()
            return False
        return True

    def _without(self, progress: Progress) -> str | None:
        return NOT_CERTIFIED if self.uncertified.reason(progress) else None


@dataclass(frozen=True)
class PolicyStability(StoppingRule):
    """Stop when simulated totals along fixed paths no longer move.

    Parameters
    ----------
    n_paths : int
        Fixed paths, re-simulated every `period` iterations.
    period : int
    tolerance : float
        Largest change of any path's total, relative to `Progress.scale`.
    seed : int
        Fixes the paths.
    """

    n_paths: int = 50
    period: int = 10
    tolerance: float = 1e-6
    seed: int = 0

    def __post_init__(self) -> None:
        _require("n_paths", self.n_paths, self.n_paths >= 1, "at least one path")
        _require("period", self.period, self.period >= 1, "at least one iteration")
        _require("tolerance", self.tolerance, self.tolerance >= 0.0, "a number >= 0")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        if len(progress.log) % self.period:
            return None
        before = progress.memory.get(self)
        totals = progress.memory[self] = progress.simulate(self.n_paths, self.seed)
        if before is None:
            return None
        change = float(np.abs(totals - before).max())
        still = change <= self.tolerance * progress.scale
        return "policy stable" if still else None


@dataclass(frozen=True)
class Statistical(StoppingRule):
    """Stop when the bound lies inside a confidence interval of the simulated mean.

    The rule of Pereira and Pinto (1991), and the paper's. **It stops too early**: noise makes
    the interval wide, and the fewer the paths the sooner it stops. It means nothing under a
    risk-averse policy, whose simulated mean the bound does not bound. Use it to compare with
    published work; `BoundStalling` and `PolicyStability` are better.

    Parameters
    ----------
    n_paths : int
    period : int
        Checked every `period` iterations.
    confidence : float
        Two-sided level of the interval.
    """

    n_paths: int = 100
    period: int = 10
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _require("n_paths", self.n_paths, self.n_paths >= 2, "two paths or more")
        _require("period", self.period, self.period >= 1, "at least one iteration")
        _require("confidence", self.confidence, 0.0 < self.confidence < 1.0, "between 0 and 1")

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        if len(progress.log) % self.period:
            return None
        totals = progress.simulate(self.n_paths, len(progress.log))
        half = ndtri(0.5 + self.confidence / 2.0) * totals.std(ddof=1) / np.sqrt(len(totals))
        gap = progress.log[-1].bound - totals.mean()
        gap = gap if progress.maximises else -gap
        return "bound inside the confidence interval" if gap <= half else None


def _certified(relative: float | None) -> str:
    assert relative is not None
    return f"gap certified: {100.0 * relative:.2g} %"


def _require(name: str, value: float, valid: bool, wanted: str) -> None:
    if not valid:
        raise ModelError(f"{name} = {value}; give {wanted}")
