"""A replacement of each seam, as a user would write it: outside of the package, importable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import sddp
from sddp.engine.training.interrupt import Interrupt
from sddp.engine.training.stopping import Progress, StoppingRule
from sddp.engine.training.workers import PathResult, PathTask, Replica, Replicas
from sddp.engine.value.cost_to_go import CostToGo, Outcomes
from sddp.engine.value.cuts import Cuts, LinearConstraints


@dataclass(frozen=True)
class HalfWorst(sddp.risk.RiskMeasure):
    """Half of the mean and half of the worst outcome."""

    share: float = 0.5

    def _adjust_costs(self, p: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, float]:
        q = (1.0 - self.share) * p
        q[int(np.where(p > 0.0, z, -np.inf).argmax())] += self.share
        return q, 0.0

    def tail_mixture(self) -> tuple[tuple[float, float], ...]:
        """See `RiskMeasure`."""
        return ((1.0 - self.share, 1.0), (self.share, 0.0))


@dataclass(frozen=True)
class AlwaysNoise:
    """Paths of the problem, each noise one position further than the last."""

    step: int = 1

    def sample(
        self, problem: sddp.Problem, number: int, rng: np.random.Generator
    ) -> list[sddp.Step]:
        """See `SamplingScheme`."""
        path = sddp.InSample().sample(problem, number, rng)
        sizes = [problem.stages[step.node].noise.n_realisations for step in path]
        return [
            sddp.Step(step.node, (number * self.step + i) % n, step.arrival)
            for i, (step, n) in enumerate(zip(path, sizes, strict=True))
        ]


@dataclass(frozen=True)
class Enough(StoppingRule):
    """Stop after a number of linear programs."""

    solves: int = 200

    def reason(self, progress: Progress) -> str | None:
        """See `StoppingRule`."""
        return "enough programs" if progress.log[-1].solves >= self.solves else None


@dataclass(frozen=True)
class EveryRow:
    """One column; a row wherever the cost-to-go is missed at all, never removed."""

    room: float = 0.0

    def attach(self, outcomes: Outcomes) -> CostToGo:
        """See `CutForm`."""
        return _EveryRow(outcomes, self.room)


class _EveryRow(CostToGo):
    def __init__(self, outcomes: Outcomes, room: float) -> None:
        super().__init__(outcomes)
        self._room = room

    def violated(
        self, outgoing: np.ndarray, theta: np.ndarray, tolerance: float
    ) -> LinearConstraints | None:
        if not self.outcomes.ready:
            return None
        found = self.outcomes.evaluate(outgoing)
        if theta[0] >= found.value - (self._room + 1e-10) * max(self.money, abs(found.value)):
            return None
        slope, intercept = self.outcomes.support(found)
        cut = Cuts(slope[None, :], np.array([intercept]))
        return LinearConstraints.of_cuts(cut, self.n_columns, recurring=False)


@dataclass(frozen=True)
class Midpoints:
    """Half-way between the last two decisions of a node, for some iterations."""

    iterations: int = 5

    def point(
        self,
        problem: sddp.Problem,
        node: object,
        outgoing: np.ndarray,
        iteration: int,
        memory: dict[Any, Any],
    ) -> np.ndarray:
        """See `TrialPoints`."""
        before, memory[node] = memory.get(node, outgoing), outgoing
        return (before + outgoing) / 2.0 if iteration <= self.iterations else outgoing


@dataclass(frozen=True)
class Newest:
    """The newest cuts of each pool, but every other time all of them."""

    n: int = 3

    def start(self, pools: Sequence[tuple[Cuts, int]]) -> _Newest:
        """See `CutSelection`."""
        return _Newest(self.n, [cuts for cuts, _ in pools])


class _Newest:
    def __init__(self, n: int, pools: list[Cuts]) -> None:
        self._n, self._pools, self._kept = n, pools, True

    def chosen(self) -> list[np.ndarray] | None:
        if self._kept:
            return None
        return [np.arange(max(0, len(cuts) - self._n), len(cuts)) for cuts in self._pools]

    def kept(self) -> None:
        self._kept = True

    def note(self, active: Sequence[np.ndarray]) -> None:
        self._kept = False


@dataclass(frozen=True)
class Halving:
    """A tolerance that halves, whatever the bound does."""

    start: float = 1e-3
    final: float = 1e-9

    def next(self, tolerance: float, moves: Sequence[float]) -> float:
        """See `ToleranceSchedule`."""
        return max(self.final, tolerance / 2.0)

    def of_bound(self, tolerance: float) -> float:
        """See `ToleranceSchedule`."""
        return tolerance


@dataclass(frozen=True)
class Growing:
    """One path more every few iterations."""

    most: int = 3
    every: int = 4

    def n_paths(self, iteration: int) -> int:
        """See `PathSchedule`."""
        return min(self.most, 1 + iteration // self.every)


@dataclass(frozen=True)
class Backwards:
    """Follow the paths of an iteration in this process, the last one first."""

    reverse: bool = True

    def start(self, here: Replicas, build: Callable[[int], Replica]) -> _Backwards:
        """See `Workers`."""
        return _Backwards(here)


@dataclass
class _Backwards:
    here: Replicas
    n_runs: int = field(default=0)

    def run(self, tasks: Sequence[PathTask], interrupt: Interrupt) -> list[PathResult]:
        self.n_runs += 1
        return self.here.run(tasks[::-1], interrupt)[::-1]

    def close(self) -> None:
        pass
