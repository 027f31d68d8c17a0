"""A bound that a simulation contradicts."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import sddp
from sddp.errors import ConvergenceWarning
from tests.engine.cases import rare, reservoir
from tests.engine.support import train


def simulated(problem: sddp.Problem, n_paths: int, **options) -> list[str]:
    """What a simulation of a trained policy warns of."""
    policy = train(problem, 25, **options).policy
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        policy.simulate(n_paths, rng=np.random.default_rng(1))
    return [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]


def wrongly_bounded() -> sddp.Problem:
    """The value of C9 is 45.8; its cost-to-go is said to be at least 300."""
    stage = reservoir.reservoir_stage()
    return sddp.Problem(sddp.linear_graph(4), lambda node: stage, cost_to_go_bound={0: 300.0})


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::sddp.errors.BoundWarning")
def test_a_bound_above_the_simulated_mean_is_said_with_both_numbers():
    (words,) = simulated(wrongly_bounded(), 60)
    numbers = re.match(r"bound=([\d.]+) and the simulated mean ([\d.]+) \(standard error", words)
    assert float(numbers[1]) >= 300.0
    assert 275 / 6 - 20.0 < float(numbers[2]) < 150.0
    assert simulated(wrongly_bounded(), 20) == []  # too few paths for an error
    tail = sddp.AVaR(0.5)  # a mean does not contradict a bound on a risk measure
    assert simulated(wrongly_bounded(), 60, risk=tail) == []


@pytest.mark.long
def test_a_valid_bound_is_not_contradicted():
    assert simulated(reservoir.c9(), 200) == []


def test_a_mean_without_its_rare_outcome_contradicts_nothing():
    """Nearly all of the value is what the droughts cost, which few paths meet."""
    assert simulated(rare.drought(2, 1e-3), 40) == []
