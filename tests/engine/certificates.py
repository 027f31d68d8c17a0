"""Certificates of random problems against exact values: ``python -m tests.engine.certificates``.

Random instances of the random-tree tests (linear, stopping, Markovian and general graphs; noise
before and after decisions; nested measures; both senses), trained for a few iterations only. The
exact value, from plain arrays and scipy, must lie between the outer and the inner bound.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np

from sddp.engine.certificate.inner_bound import InnerBound
from sddp.engine.certificate.inner_points import visited_states
from tests.engine.support import train
from tests.engine.test_random_trees import COMBINATIONS
from tests.oracles import tree_value

# The LP solver's tolerance over three stages, relative.
ROUNDING = 1e-8


@dataclass(frozen=True)
class Interval:
    """Outer bound, exact value and inner bound as costs, and what they may miss by rounding."""

    name: str
    outer: float
    exact: float
    inner: float
    room: float

    @property
    def valid(self) -> bool:
        """Whether the exact value lies between the bounds."""
        return self.outer - self.room <= self.exact <= self.inner + self.room

    @property
    def width(self) -> float:
        """Relative to the larger of 1 and the exact value."""
        return (self.inner - self.outer) / max(1.0, abs(self.exact))


def interval(seed: int, iterations: int, draws: int) -> Interval:
    """Bounds of one random problem; the inner one is infinite where nothing is guaranteed."""
    combination = COMBINATIONS[seed % len(COMBINATIONS)]
    instance = combination.instance(1_000 + seed)
    exact = tree_value(instance.tree)
    problem, root_risk = instance.problem(), instance.root_risk()
    result = train(problem, iterations, seed, risk=instance.risk(), root_risk=root_risk)
    risk = result.policy.checkpoint.risk
    inner = InnerBound(problem, risk, root_risk)
    inner.sweep(visited_states(result.policy, risk, draws, np.random.default_rng(seed)))
    room = ROUNDING * max(1.0, abs(exact))
    return Interval(str(combination), instance.sign * result.bound, exact, inner.cost, room)


def main() -> int:
    """Check many; 1 where one is not valid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    found = [interval(i, options.iterations, options.draws) for i in range(options.problems)]
    wrong = [one for one in found if not one.valid]
    for one in wrong:
        print(f"WRONG {one}")
    widths = [one.width for one in found if np.isfinite(one.inner)]
    print(
        f"{len(found)} problems, {len(wrong)} wrong, {len(found) - len(widths)} without an inner "
        f"bound; widths: median {np.median(widths):.1e}, 90 % below "
        f"{np.quantile(widths, 0.9):.1e}, largest {max(widths):.1e}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
