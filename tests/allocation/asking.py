"""Trained policies to ask, questions to ask them, and what makes two answers the same."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from sddp.allocation.policy import AllocationDecision, AllocationPolicy
from sddp.errors import RecourseWarning
from tests.allocation.problems import TINY, TINY2, Case, random_case, varying_case

# Everything that can be switched on at once, in numbers that differ by stage, asset and side.
RICH = varying_case(
    3,
    N=3,
    cost=(0.002, 0.004, 0.006),
    sale_cost=(0.005, 0.001, 0.003),
    caps=(0.4, 0.5, 0.6),
    limit=0.025,
)
NAMED = varying_case(
    0,
    K=3,
    cost=(0.002, 0.006),
    sale_cost=(0.008, 0.001),
    names={"asset_names": ("gold", "stocks"), "state_names": ("calm", "usual", "storm")},
)
# A limit below the cost: some states are infeasible.
TIGHT = replace(TINY2, holdings=[1.0, 0.0, 0.0], regime=0, limit=0.004)
CASES = {
    "tiny": TINY,
    "tiny2": TINY2,
    "random": random_case(0),
    "rich": RICH,
    "named": NAMED,
    "tight": TIGHT,
}


@functools.cache
def converged(name: str) -> AllocationPolicy:
    """The policy of one of `CASES`, trained once a session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecourseWarning)  # of the tight one
        return CASES[name].train().policy


def decide(
    case: Case, policy: AllocationPolicy, amounts: Any, stage: int = 0, regime: Any = None
) -> AllocationDecision:
    """A decision from amounts, cash first; in the case's first regime unless one is given."""
    regime = case.regime if regime is None else regime
    return policy.decide(stage=stage, regime=regime, holdings=case.as_holdings(amounts))


def value(
    case: Case, policy: AllocationPolicy, amounts: Any, stage: int = 0, regime: int = 0
) -> float:
    """The value function under the policy's cuts."""
    return policy.engine.value((stage, regime), {"holdings": amounts})


def random_states(case: Case, n: int, seed: int = 0) -> Iterator[tuple[np.ndarray, int, int]]:
    """Holdings of wealth 1, none below 2 %, with a stage and a regime each."""
    rng, n_positions = np.random.default_rng(seed), case.n_assets + 1
    for _ in range(n):
        amounts = 0.02 + (1.0 - 0.02 * n_positions) * rng.dirichlet(np.ones(n_positions))
        yield amounts, int(rng.integers(case.n_stages)), int(rng.integers(case.n_states))


def random_questions(n: int, seed: int = 0) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Stage, belief and holdings of wealth 1 to 100, for `NAMED`."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        amounts = rng.dirichlet(np.ones(3)) * rng.uniform(1.0, 100.0)
        yield int(rng.integers(3)), rng.dirichlet(np.ones(3)), amounts


def assert_same(one: AllocationDecision, other: AllocationDecision) -> None:
    """Two decisions agree bit for bit."""
    for name in ("trades", "holdings", "weights", "marginal_value"):
        pd.testing.assert_series_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert (one.cost, one.cvar, one.value) == (other.cost, other.cvar, other.value)


def digits(policy: AllocationPolicy) -> list[str]:
    """All bits of the answers of `NAMED`'s policy: bound, decisions, beliefs, a simulation."""
    numbers = [policy.bound]
    for stage, belief, amounts in random_questions(4, seed=11):
        for regime in (1, belief):
            found = decide(NAMED, policy, amounts, stage, regime)
            numbers.extend([*found.holdings, *found.marginal_value, found.value, found.cvar])
    numbers.extend(policy.simulate(3, rng=np.random.default_rng(12))["wealth"])
    return [float(number).hex() for number in numbers]
