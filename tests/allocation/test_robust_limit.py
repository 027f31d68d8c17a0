"""The robust limit against the transport linear program of the Wasserstein ball."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import load_allocation_policy
from sddp.allocation.training import train_allocation
from sddp.engine.training.stopping import Iterations
from sddp.errors import BoundWarning, ModelError
from sddp.scenarios import MarkovScenarios

CONFIDENCE = 0.8


def scenarios(seed: int = 1, n_stages: int = 2, spread: float = 0.05) -> MarkovScenarios:
    rng = np.random.default_rng(seed)
    returns = rng.normal(0.01, spread, (2, 12, 3))
    probabilities = rng.dirichlet(np.ones(12), 2)
    return MarkovScenarios(returns, [[0.8, 0.2], [0.3, 0.7]], probabilities, n_stages=n_stages)


def worst_cvar(returns, weights, held, scale, radius, tail) -> float:
    """Largest CVaR of all laws within a transport cost of `radius`, by linear programming.

    Mass may go from each outcome to points further and further down; among them are those that the
    closed form says are reached. The dual of the CVaR is put in: ``max nu.loss``, nu at most the
    mass over the tail probability and 1 in sum.
    """
    shifts = np.unique(np.concatenate([np.linspace(0.0, 4.0, 9) * radius / tail, [radius / tail]]))
    points = [(i, h) for i in range(len(returns)) for h in shifts]
    n = len(points)
    loss = np.array([-(returns[i] - h * scale) @ held for i, h in points])
    # Columns: mass moved to each point of its own outcome, then nu of each point.
    c = np.concatenate([np.zeros(n), -loss])
    mass = np.array([[float(i == k) for i, _ in points] for k in range(len(returns))])
    equal = np.vstack(
        [
            np.hstack([mass, np.zeros_like(mass)]),
            np.concatenate([np.zeros(n), np.ones(n)]),
        ]
    )
    upper = np.vstack(
        [
            np.hstack([-np.eye(n) / tail, np.eye(n)]),
            np.concatenate([[h for _, h in points], np.zeros(n)]),
        ]
    )
    found = linprog(
        c,
        A_ub=upper,
        b_ub=np.append(np.zeros(n), radius),
        A_eq=equal,
        b_eq=np.append(weights, 1.0),
        bounds=(0.0, None),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return float(-found.fun)


@pytest.mark.parametrize("radius", [0.005, 0.02, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_robust_cvar_is_that_of_the_worst_law(seed, radius):
    law = scenarios(seed)
    model = AllocationModel(
        transaction_cost=0.0, cvar_confidence=CONFIDENCE, cvar_limit=0.1, robustness=radius
    )
    held = np.random.default_rng(seed).dirichlet(np.ones(4))
    problem = _problem(model, law)
    belief = np.array([0.3, 0.7])
    own = problem.distribution(0, belief).cvar(held[0], held[1:], CONFIDENCE)
    plain = _problem(replace(model, robustness=0.0), law).distribution(0, belief)
    pooled = law.returns[0].reshape(-1, 3)
    weights = law.probabilities[0].ravel() / 2.0
    scale = np.sqrt(weights @ (pooled - weights @ pooled) ** 2)
    worst = worst_cvar(
        plain.returns, plain.probabilities, held[1:], scale, radius, 1.0 - CONFIDENCE
    )
    assert own == pytest.approx(worst, abs=1e-9)
    added = radius / (1.0 - CONFIDENCE) * (scale @ held[1:])
    assert own - plain.cvar(held[0], held[1:], CONFIDENCE) == pytest.approx(added, abs=1e-12)


def _problem(model, law):
    from sddp.allocation.problem import allocation_problem

    return allocation_problem(model, law, initial_holdings={"cash": 1.0})


def trained(model, law, **options):
    return train_allocation(
        model,
        law,
        initial_holdings={"cash": 1.0},
        rng=1,
        stopping=Iterations(6),
        progress=False,
        **options,
    )


MODEL = AllocationModel(transaction_cost=0.002, cvar_confidence=CONFIDENCE, cvar_limit=0.03)


def test_both_forms_keep_the_same_robust_limit():
    law, model = scenarios(), replace(MODEL, robustness=0.02)
    lazy = trained(model, law)
    explicit = trained(model, law, cvar="explicit")
    assert lazy.bound == pytest.approx(explicit.bound, abs=1e-8)
    assert lazy.bound < trained(MODEL, law).bound - 1e-5
    decision = lazy.policy.decide(regime=0, holdings={"cash": 1.0})
    assert decision.cvar <= 0.03 + 1e-9


def test_radius_0_changes_nothing_bit_for_bit():
    law = scenarios()
    plain, none = trained(MODEL, law), trained(replace(MODEL, robustness=0.0), law)
    assert plain.bound == none.bound
    weights = [
        t.policy.decide(regime=[0.5, 0.5], holdings={"cash": 1.0}).weights for t in (plain, none)
    ]
    assert weights[0].to_numpy().tobytes() == weights[1].to_numpy().tobytes()


def test_a_robust_policy_is_saved_with_its_radius(tmp_path):
    policy = trained(replace(MODEL, robustness=0.02), scenarios()).policy
    policy.save(tmp_path / "policy.json")
    loaded = load_allocation_policy(tmp_path / "policy.json")
    mine, theirs = (p.decide(regime=[0.5, 0.5], holdings={"cash": 1.0}) for p in (policy, loaded))
    assert mine.weights.tolist() == theirs.weights.tolist()
    assert theirs.cvar == mine.cvar


def test_what_is_no_radius_raises():
    for radius in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ModelError, match="robustness="):
            replace(MODEL, robustness=radius)
    with pytest.raises(ModelError, match="must be a number"):
        replace(MODEL, robustness="wide")


def test_returns_below_minus_one_make_it_an_upper_bound():
    with pytest.warns(BoundWarning, match="below -1: the limit is then on an upper bound"):
        replace(MODEL, robustness=1.0).on(scenarios(spread=0.2))
