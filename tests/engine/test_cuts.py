"""Pools of cuts, and cuts made from stage solutions."""

from __future__ import annotations

import numpy as np
import pytest

import sddp
from sddp.engine.subproblem.solutions import StageSolution
from sddp.engine.value.cuts import Cut, Cuts, ValueFunction
from sddp.errors import ModelError
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, solve_noises, untrained


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_is_tight_where_it_was_made_and_below_everywhere_else(seed):
    """Of the stage problem with its cost-to-go as it stands, solved anew at the other points."""
    instance = random_instance(seed, graph="markov", transition="scale", noise=2)
    network = untrained(instance.problem())
    rng = np.random.default_rng(seed)
    for name in ("c", "a"):
        p = network.problem.stages[name].noise.probabilities
        here = rng.uniform(0.0, 6.0, 2)
        solutions = solve_noises(network, name, here, SOLVER)
        network.add_cuts(name, here, solutions)
        (pool,) = network.value_functions[name].pools
        value = p @ [solution.value for solution in solutions]
        assert pool.value(here) == pytest.approx(value, rel=SOLVER, abs=SOLVER)
        for there in rng.uniform(0.0, 6.0, (5, 2)):
            others = solve_noises(network, name, there, SOLVER)
            assert all(isinstance(solution, StageSolution) for solution in others)
            value = p @ [solution.value for solution in others]
            assert pool.value(there) <= value + SOLVER * max(1.0, abs(value))


def test_a_risk_averse_parent_keeps_one_pool_for_each_noise():
    instance = random_instance(0, noise=2, mixture=((1.0, 0.2),))
    risk = {0: sddp.Expectation(), 1: sddp.AVaR(0.2)}
    network = untrained(instance.problem(), risk)
    assert {name: len(v.pools) for name, v in network.value_functions.items()} == {0: 1, 1: 1, 2: 2}


def test_pool_value_is_the_maximum_of_its_cuts():
    pool = Cuts.none(2)
    assert pool.value(np.zeros(2)) == -np.inf
    rng = np.random.default_rng(0)
    slopes, intercepts = rng.normal(size=(20, 2)), rng.normal(size=20)
    pool.extend(Cuts(slopes, intercepts))
    state = rng.normal(size=2)
    assert len(pool) == 20  # beyond the first allocation
    assert pool.value(state) == (intercepts + slopes @ state).max()


def test_a_cut_that_lifts_nothing_is_not_kept():
    pool = Cuts.none(1)
    assert pool.add_if_better(Cut(np.array([1.0]), 0.0), np.array([2.0]), 1.0)
    assert not pool.add_if_better(Cut(np.array([1.0]), 0.0), np.array([5.0]), 1.0)
    assert not pool.add_if_better(Cut(np.array([0.0]), 1.9), np.array([2.0]), 1.0)
    assert pool.add_if_better(Cut(np.array([0.0]), 1.9), np.array([1.0]), 1.0)
    assert len(pool) == 2


def test_cuts_must_match_the_noise():
    function = ValueFunction(1, np.array([0.5, 0.5]))
    with pytest.raises(ModelError, match="3 cuts for 2 noise realizations"):
        function.add(np.zeros(1), Cuts(np.zeros((3, 1)), np.zeros(3)), np.full(3, 1 / 3))
