from dataclasses import replace

import numpy as np
import pytest

from sddp.bounds.frictionless import factor_grid, follow, solve_frictionless
from sddp.bounds.information_relaxation import information_relaxation, laws_along
from sddp.bounds.martingales import controlled_wealth, value_differences
from sddp.errors import DataError, InfeasibleProblem, ModelError
from sddp.portfolio.optimizers.cvar_limit import ReturnLaw
from tests.brown_smith import PROCESS
from tests.portfolio.trees import (
    EXAMPLE,
    frictionless_growth,
    ideal_penalties,
    path_optimum,
    tree_optimum,
    with_cost,
)

ALL_PATHS = list(EXAMPLE.histories(EXAMPLE.n_decisions))
PROBABILITIES = np.array([EXAMPLE.probability(path) for path in ALL_PATHS])
IDEAL = np.array([ideal_penalties(EXAMPLE, path) for path in ALL_PATHS])
NONE = np.zeros_like(IDEAL)


def law(problem, z):
    """The law of returns of the finite problem given its factor."""
    returns = problem.returns(z)
    return ReturnLaw(1.0 + returns, problem.probabilities, np.ones(2), 1.0, problem.confidence)


def relaxed(problem, penalties):
    """The relaxation of every path of a finite problem."""
    returns = [
        [problem.returns(problem.factor(path[:t]))[shock] for t, shock in enumerate(path)]
        for path in ALL_PATHS
    ]
    return information_relaxation(
        np.array(returns),
        lambda p, t: law(problem, problem.factor(ALL_PATHS[p][:t])),
        penalties,
        transaction_cost=problem.cost,
        cvar_limit=problem.limit,
    )


@pytest.mark.parametrize("cost", [0.0, 0.006, 0.02])
@pytest.mark.parametrize("penalties", [IDEAL, NONE], ids=["penalty", "none"])
def test_each_path_has_the_optimum_of_its_explicit_program(cost, penalties):
    problem = with_cost(cost)
    expected = [
        path_optimum(problem, path, charge)
        for path, charge in zip(ALL_PATHS, penalties, strict=True)
    ]
    # Rows broken by less than the tolerance are not written.
    np.testing.assert_allclose(relaxed(problem, penalties), expected, atol=1e-5)


@pytest.mark.parametrize("cost", [0.0, 0.006, 0.02])
def test_the_mean_is_a_bound_and_the_penalty_tightens_it(cost):
    problem = with_cost(cost)
    optimum = tree_optimum(problem)
    with_penalty = PROBABILITIES @ relaxed(problem, IDEAL)
    without = PROBABILITIES @ relaxed(problem, None)
    assert optimum - 1e-9 <= with_penalty <= frictionless_growth(problem, ()) + 1e-5
    assert with_penalty < optimum + 0.1 * (without - optimum)


def test_without_costs_the_ideal_penalty_leaves_one_value_on_every_path():
    free = with_cost(0.0)
    np.testing.assert_allclose(relaxed(free, IDEAL), tree_optimum(free), atol=1e-5)


def test_ideal_penalties_have_no_mean_given_the_past():
    """What the oracle's penalties must be, for any holdings that depend on the past only."""
    for t in range(EXAMPLE.n_decisions):
        for past in EXAMPLE.histories(t):
            rows = [path[:t] == past for path in ALL_PATHS]
            mean = PROBABILITIES[rows] @ IDEAL[rows, t]
            np.testing.assert_allclose(mean, 0.0, atol=1e-15)


@pytest.fixture(scope="module")
def study():
    """Policy, paths and differences of the first study, limit 5 %."""
    policy = solve_frictionless(
        PROCESS,
        PROCESS.shocks(2**10, rng=np.random.default_rng(1)),
        factor_grid(PROCESS, 29),
        n_decisions=11,
        cvar_limit=0.05,
        cvar_confidence=0.9,
        expectation=PROCESS.quadrature(32),
    )
    paths = PROCESS.simulate(15, 11, rng=np.random.default_rng(2), start=[0.0])
    return policy, paths, value_differences(policy, paths, PROCESS.quadrature(32))


def bounds(study, cost, penalties, **more):
    """The relaxation of the simulated paths."""
    policy, paths, _ = study
    return information_relaxation(
        paths.excess_returns,
        laws_along(policy, paths),
        penalties,
        transaction_cost=cost,
        cvar_limit=0.05,
        **more,
    )


def test_without_costs_the_bound_is_the_value_of_the_program(study):
    values = bounds(study, 0.0, study[2])
    value = study[0].growth_at(0, np.zeros(1))[0]
    np.testing.assert_allclose(values, value, atol=2e-5)
    assert values.mean() == pytest.approx(value, abs=5e-6)


def test_no_policy_does_better_on_any_path(study):
    """Path by path: penalised wealth with foresight is at least that of an allowed policy."""
    policy, paths, differences = study
    runs = follow(policy, paths)
    own = controlled_wealth(runs.wealth[:, -1], runs.holdings, differences)
    assert (bounds(study, 0.0, differences) >= own - 1e-7).all()
    # Buying half of the allowed first portfolio, and keeping it, with costs.
    cost, bought = 0.005, 0.5 * policy.weights(0, np.zeros(1))[0]
    growth = np.cumprod(1.0 + paths.excess_returns, axis=1)
    before = np.concatenate([np.ones((15, 1, 3)), growth[:, :-1]], axis=1)
    cash = 1.0 - (1.0 + cost) * bought.sum()
    holdings = np.concatenate([np.full((15, 11, 1), cash), bought * before], axis=2)
    risks = [
        policy.law_at(float(paths.factors[p, t, 0])).cvar(holdings[p, t, 1:])
        for p in range(15)
        for t in range(11)
    ]
    allowed = 0.05 * holdings.sum(axis=2).ravel() - cost * bought.sum()
    assert (np.array(risks) <= allowed).all()
    kept = controlled_wealth(cash + growth[:, -1] @ bought, holdings, differences)
    assert (bounds(study, cost, differences) >= kept).all()


def test_a_loose_limit_proves_that_buying_and_holding_is_optimal(study):
    """At a limit of 20 % the policy without costs is nearly always all in the third asset; with
    costs the bound then meets the policy that buys it once."""
    _, paths, _ = study
    policy = solve_frictionless(
        PROCESS,
        PROCESS.shocks(2**10, rng=np.random.default_rng(1)),
        factor_grid(PROCESS, 29),
        n_decisions=11,
        cvar_limit=0.2,
        cvar_confidence=0.9,
        expectation=PROCESS.quadrature(32),
    )
    differences = value_differences(policy, paths, PROCESS.quadrature(32))
    growth = np.cumprod(1.0 + paths.excess_returns[:, :, 2], axis=1)
    holdings = np.zeros((15, 11, 4))
    holdings[:, 0, 3], holdings[:, 1:, 3] = 1.0 / 1.02, growth[:, :-1] / 1.02
    kept = controlled_wealth(growth[:, -1] / 1.02, holdings, differences)
    bound = information_relaxation(
        paths.excess_returns,
        laws_along(policy, paths),
        differences,
        transaction_cost=0.02,
        cvar_limit=0.2,
    )
    assert (bound >= kept - 1e-9).all()
    assert bound.mean() == pytest.approx(kept.mean(), abs=1e-5)


@pytest.mark.long
def test_costs_lower_the_bound_and_free_foresight_lifts_it(study):
    means = [bounds(study, cost, study[2]).mean() for cost in (0.0, 0.005, 0.02)]
    assert means[0] > means[1] + 2e-3 > means[2] + 4e-3
    assert bounds(study, 0.005, None).mean() > means[1] + 0.05


def test_initial_holdings_are_worth_what_they_save(study):
    """Starting in the portfolio itself is better than buying it, and worse than no costs."""
    policy = study[0]
    weights = policy.weights(0, np.zeros(1))[0]
    start = np.append(1.0 - weights.sum(), weights)
    invested = bounds(study, 0.005, study[2], initial_holdings=start).mean()
    bought = bounds(study, 0.005, study[2]).mean()
    assert bought + 0.003 * weights.sum() < invested < policy.growth_at(0, np.zeros(1))[0]


def test_bad_input_is_named(study):
    cases = [
        ({"transaction_cost": -0.1}, ModelError, r"transaction_cost = -0.1; give one decimal"),
        ({"transaction_cost": [0.1, 0.1]}, ModelError, "or 3 of them"),
        ({"cvar_limit": np.nan}, ModelError, "cvar_limit = nan"),
        ({"penalties": np.zeros((15, 11, 3))}, DataError, r"penalties has shape \(15, 11, 3\)"),
        ({"initial_holdings": [1.0]}, DataError, "give 4 amounts >= 0, cash first"),
        ({"initial_holdings": [2.0, -1.0, 0.0, 0.0]}, DataError, "amounts >= 0, cash first"),
        ({"excess_returns": np.zeros((15, 11))}, DataError, r"excess_returns has shape \(15, 11\)"),
        # All in the dearest asset: it breaks the limit and so does the cost of leaving it.
        (
            {"initial_holdings": [0.0, 0.0, 0.0, 1.0], "transaction_cost": 0.08},
            InfeasibleProblem,
            "can neither be kept nor sold under cvar_limit = 0.05",
        ),
    ]
    policy, paths, _ = study
    settings = {
        "excess_returns": paths.excess_returns,
        "laws": laws_along(policy, paths),
        "transaction_cost": 0.005,
        "cvar_limit": 0.05,
    }
    for change, error, words in cases:
        with pytest.raises(error, match=words):
            information_relaxation(**(settings | change))


def test_a_dearer_example_stays_a_bound():
    """Costs per asset, and a limit below the cost of selling out."""
    problem = replace(EXAMPLE, cost=0.05)
    bound = PROBABILITIES @ relaxed(problem, IDEAL)
    assert tree_optimum(problem) - 1e-9 <= bound
