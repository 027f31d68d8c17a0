"""The trained bound, the extensive form and an independent linear program agree.

The third is written from plain arrays in `tests.oracles` and solved by scipy. Noise enters
right-hand sides, bounds, costs, the constant and the matrix at once, some of it before the
decision and some after.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import sddp
from tests.engine.instances import Instance, random_instance
from tests.engine.support import (
    BY_NAME,
    CUT_FORMS,
    ROUNDING,
    SOLVER,
    Reaches,
    assert_never_worse,
    train,
)
from tests.oracles import NEUTRAL, Mixture, state_value, tree_value

TAIL: Mixture = ((1.0, 0.35),)
WORST: Mixture = ((1.0, 0.0),)
MIXED: Mixture = ((0.3, 1.0), (0.4, 0.25), (0.3, 0.0))


@dataclass(frozen=True)
class Combination:
    """What is random about an instance is its numbers only."""

    graph: str
    transition: str
    mixture: Mixture | None
    noise: int = 2
    maximises: bool = False
    indexed: bool = True
    root_mixture: Mixture = NEUTRAL

    def instance(self, seed: int) -> Instance:
        """Instance with random numbers."""
        return random_instance(seed, **vars(self))

    def __str__(self) -> str:
        risk = {None: "neutral", TAIL: "tail", WORST: "worst", MIXED: "mixed"}[self.mixture]
        sense = "max" if self.maximises else "min"
        return f"{self.graph}-{self.transition}-{risk}-{self.noise}-{sense}"


COMBINATIONS = (
    Combination("linear", "none", None),
    Combination("linear", "none", MIXED, noise=3, maximises=True, root_mixture=TAIL),
    Combination("linear", "scale", None, noise=1),
    Combination("linear", "scale", TAIL, maximises=True, indexed=False),
    Combination("linear", "dense", MIXED),
    Combination("linear", "sparse", WORST),
    Combination("linear", "shift", None, noise=3, maximises=True),
    Combination("stopping", "none", MIXED, maximises=True),
    Combination("stopping", "scale", None, noise=3),
    Combination("stopping", "dense", WORST),
    Combination("stopping", "sparse", TAIL, indexed=False),
    Combination("markov", "none", TAIL, noise=3, root_mixture=MIXED),
    Combination("markov", "scale", MIXED, maximises=True, root_mixture=WORST),
    Combination("markov", "dense", None),
    Combination("markov", "sparse", MIXED, noise=1),
    Combination("general", "scale", TAIL, noise=3),
    Combination("general", "dense", MIXED, maximises=True),
    Combination("general", "shift", WORST, indexed=False),
)
BY_TEXT = {"ids": str}
# Shifts of a scalar state, a skipped stage and a stop at once: small and everything in it.
SMALL = Combination("general", "sparse", MIXED)


@pytest.mark.long
@pytest.mark.parametrize("combination", COMBINATIONS, **BY_TEXT)
def test_bound_equals_the_extensive_form(combination):
    instance = combination.instance(seed=COMBINATIONS.index(combination))
    exact = instance.sign * tree_value(instance.tree)
    problem = instance.problem()
    options = {"risk": instance.risk(), "root_risk": instance.root_risk()}
    solution = sddp.extensive_form(problem, **options).solve()
    assert solution.value == pytest.approx(exact, rel=SOLVER, abs=SOLVER)
    for cuts in CUT_FORMS:
        stopping = sddp.Iterations(200) | Reaches(exact)
        result = train(problem, stopping, cuts=cuts, **options)
        assert result.bound == pytest.approx(exact, rel=SOLVER, abs=SOLVER), cuts
        assert result.log["warnings"].iloc[-1] == 0
        assert_never_worse(result, problem.sign)


@pytest.mark.parametrize("seed", range(8))
def test_bound_equals_the_extensive_form_for_other_numbers(seed):
    instance = SMALL.instance(100 + seed)
    exact = tree_value(instance.tree)
    stopping = sddp.Iterations(200) | Reaches(exact)
    result = train(instance.problem(), stopping, seed, risk=instance.risk())
    assert result.bound == pytest.approx(exact, rel=SOLVER, abs=SOLVER)


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_training_on_does_not_overshoot(cuts):
    """Cuts stay valid: long after convergence the bound is where it was."""
    instance = SMALL.instance(200)
    exact = tree_value(instance.tree)
    result = train(instance.problem(), 60, cuts=cuts, risk=instance.risk())
    bounds = result.log["bound"].to_numpy()
    assert bounds.max() <= exact + SOLVER * max(1.0, abs(exact))
    assert bounds[-1] == pytest.approx(exact, rel=SOLVER, abs=SOLVER)


@pytest.mark.filterwarnings("ignore::sddp.errors.BoundWarning")  # after 3 iterations
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("iterations", [3, 40])
@pytest.mark.parametrize(
    "combination",
    [Combination("markov", "dense", MIXED), Combination("stopping", "scale", None, maximises=True)],
    **BY_TEXT,
)
def test_values_lie_on_the_right_side_of_the_value_function(combination, iterations, cuts):
    """At random states of every node, few or many iterations in; and so do their tangents."""
    instance = combination.instance(seed=7)
    policy = train(instance.problem(), iterations, cuts=cuts, risk=instance.risk()).policy
    rng = np.random.default_rng(3)
    for name, node in instance.tree.nodes.items():
        for _ in range(2):
            here, there = rng.uniform(0.0, 8.0, (2, 2))
            noise = int(rng.integers(len(node.realizations)))
            decision = policy.decide(name, instance.state(here), noise)
            cost, slope = instance.sign * decision.value, instance.sign * decision.slope
            for point in (here, there):
                exact = state_value(instance.tree, name, point, noise)
                tangent = cost + slope @ (point - here)
                assert tangent <= exact + SOLVER * max(1.0, abs(exact))


def test_values_are_exact_where_nothing_follows():
    instance = SMALL.instance(5)
    policy = train(instance.problem(), 1, risk=instance.risk()).policy
    rng = np.random.default_rng(4)
    for state in rng.uniform(0.0, 8.0, (5, 2)):
        for noise in range(2):
            exact = state_value(instance.tree, 2, state, noise)
            value = policy.value(2, instance.state(state), noise)
            assert value == pytest.approx(exact, rel=SOLVER, abs=SOLVER)


def test_value_without_noise_is_the_mean_over_it():
    instance = SMALL.instance(6)
    policy = train(instance.problem(), 3).policy
    state, p = instance.state(np.array([2.0, 5.0])), instance.tree.nodes[2].probabilities
    values = [policy.value(2, state, noise) for noise in range(2)]
    assert policy.value(2, state) == pytest.approx(p @ values, rel=ROUNDING)
