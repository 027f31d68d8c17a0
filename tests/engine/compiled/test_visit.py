"""The compiled visit against HiGHS: the same value, and a cut that is valid everywhere."""

from __future__ import annotations

import numpy as np
import pytest

import sddp
from tests.allocation.problems import medium_case, random_case
from tests.engine.compiled.replay import Replay, with_noise_in_sides
from tests.engine.instances import TRANSITIONS, random_instance

# Each solver refines rows to 1e-9, and HiGHS keeps them to 1e-9 times their multipliers.
AGREEMENT = 4e-9


def replay_allocation(replay: Replay, n_visits: int, seed: int) -> None:
    problem, rng = replay.network.problem, np.random.default_rng(seed)
    names = [n for n in problem.graph.nodes if problem.graph.children(n)]
    share = rng.choice([0.2, 1.0, 5.0], n_visits)
    for i in range(n_visits):
        x, other = rng.dirichlet(np.full(problem.n_components, share[i]), 2)
        replay.visit(names[rng.integers(len(names))], 0, x, other)


def replay_general(replay: Replay, n_visits: int, seed: int) -> None:
    problem, rng = replay.network.problem, np.random.default_rng(seed)
    names = list(problem.graph.nodes)
    for _ in range(n_visits):
        name = names[rng.integers(len(names))]
        noise = int(rng.integers(problem.stages[name].noise.n_realisations))
        x, other = rng.uniform(0.0, 4.0, (2, problem.n_components))
        replay.visit(name, noise, x, other)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_visits_of_small_allocations_agree(seed):
    case = random_case(seed, T=4, K=2, S=7, N=3)
    replay = Replay.of(case.problem().engine)
    replay_allocation(replay, 60, seed)
    assert replay.unsettled == 0
    assert replay.worst <= AGREEMENT
    assert replay.highest <= AGREEMENT


@pytest.mark.slow
def test_three_hundred_visits_at_medium_size_agree():
    replay = Replay.of(medium_case().problem().engine)
    replay_allocation(replay, 300, 1)
    assert replay.unsettled == 0
    assert replay.worst <= AGREEMENT
    assert replay.highest <= AGREEMENT


@pytest.mark.long
@pytest.mark.parametrize("transition", TRANSITIONS)
@pytest.mark.parametrize("graph", ["linear", "markov"])
def test_visits_of_general_stages_agree(transition, graph):
    measure = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(tail=0.4)
    for seed in range(3):
        instance = random_instance(seed, graph=graph, transition=transition, noise=1)
        replay = Replay.of(instance.problem(), measure)
        replay_general(replay, 25, seed)
        assert replay.worst <= AGREEMENT, seed
        assert replay.highest <= AGREEMENT, seed
        assert replay.unsettled == 0, seed


@pytest.mark.long
@pytest.mark.parametrize("measure", [None, sddp.CVaR(confidence=0.5), sddp.risk.Entropic(0.1)])
def test_visits_under_noise_in_sides_and_bounds_agree(measure):
    for seed in range(6):
        replay = Replay.of(with_noise_in_sides(seed, transition="shift").problem(), measure)
        replay_general(replay, 40, seed)
        assert replay.worst <= AGREEMENT, seed
        assert replay.highest <= AGREEMENT, seed
        assert replay.unsettled == 0, seed
