from dataclasses import replace

import numpy as np
import pytest

from sddp.bounds.frictionless import conditional_law, factor_grid, follow, solve_frictionless
from sddp.bounds.martingales import controlled_wealth, return_differences, value_differences
from sddp.errors import DataError, ModelError
from sddp.evaluation.estimates import mean_interval
from sddp.portfolio.optimizers.cvar_limit import LimitedPortfolio
from sddp.statistics.autoregression import ReturnAutoregression
from sddp.statistics.paths import Shocks
from tests.brown_smith import PROCESS
from tests.portfolio.studies import brown_smith, finite
from tests.portfolio.trees import EXAMPLE, frictionless_growth, tree_optimum, with_cost

AT_ZERO = np.zeros(1)


@pytest.mark.parametrize(
    ("limit", "eleven", "twelve"),
    [
        (0.012, 1.01084, 1.0118),
        (0.02, 1.01813, 1.0198),
        (0.05, 1.04591, 1.0502),
        (0.08, 1.07439, 1.0815),
        (0.1, 1.09362, 1.1027),
        (0.2, 1.12174, 1.1336),
    ],
)
def test_the_reference_values_of_the_first_study(limit, eleven, twelve):
    """Recomputed independently for 2^14 quasi-random points, stated to 5e-5 and to four places."""
    policy = brown_smith(limit, n_decisions=12)
    assert policy.growth_at(1, AT_ZERO)[0] == pytest.approx(eleven, abs=5e-5)
    # The last of the four places, and 5e-5 more.
    assert policy.growth_at(0, AT_ZERO)[0] == pytest.approx(twelve, abs=1e-4)


def test_the_first_cash_of_the_first_study():
    cash = [1.0 - brown_smith(limit).weights(0, AT_ZERO).sum() for limit in (0.05, 0.012)]
    assert cash == pytest.approx([0.555, 0.896], abs=0.004)


def test_finite_shocks_have_the_value_of_the_whole_tree():
    free = with_cost(0.0)
    expected = tree_optimum(free)
    assert finite(free).growth_at(0, np.array([free.start]))[0] == pytest.approx(expected, abs=1e-6)
    assert expected > 1.01  # and there is something to gain


def test_growth_and_weights_at_later_stages_are_those_of_exact_recursion():
    free = with_cost(0.0)
    policy = finite(free)
    for history in ((0,), (2,), (1, 0)):
        z = np.array([free.factor(history)])
        growth = policy.growth_at(len(history), z)[0]
        assert growth == pytest.approx(frictionless_growth(free, history), abs=2e-6)


def test_a_return_that_nothing_predicts_gives_a_myopic_policy():
    """Independent returns: the growth of T periods is that of one to the power T."""
    covariance = np.array(PROCESS.covariance)
    covariance[:3, 3] = covariance[3, :3] = 0.0
    constant = replace(PROCESS, return_loadings=np.zeros((3, 1)), covariance=covariance)
    policy = brown_smith(0.05, n_decisions=6, n_points=2**10, process=constant)
    one = policy.growth[5, 0]
    assert one > 1.003
    np.testing.assert_allclose(policy.growth[0], one**6, rtol=1e-10)
    np.testing.assert_allclose(policy.grid_weights, policy.grid_weights[0, 0] * np.ones((6, 29, 1)))


def test_relabelled_assets_have_relabelled_weights():
    order = np.array([2, 0, 1])
    index = np.append(order, 3)
    shocks = PROCESS.shocks(2**10, rng=np.random.default_rng(1))
    turned = ReturnAutoregression(
        PROCESS.return_intercepts[order],
        PROCESS.return_loadings[order],
        PROCESS.factor_intercepts,
        PROCESS.factor_transition,
        PROCESS.covariance[np.ix_(index, index)],
        PROCESS.cash_return,
    )
    settings = {"n_decisions": 3, "cvar_limit": 0.05, "cvar_confidence": 0.9}
    grid = factor_grid(PROCESS, 9)
    one = solve_frictionless(PROCESS, shocks, grid, **settings)
    other = solve_frictionless(
        turned, Shocks(shocks.growth[:, order], shocks.factors), grid, **settings
    )
    np.testing.assert_allclose(other.growth, one.growth, rtol=1e-9)
    np.testing.assert_allclose(other.grid_weights, one.grid_weights[:, :, order], atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 0.02, 0.1])
def test_weights_between_grid_points_and_beyond_keep_the_limit(limit):
    policy = solve_frictionless(
        PROCESS,
        PROCESS.shocks(500, rng=np.random.default_rng(2)),
        factor_grid(PROCESS, 7),  # coarse: two stationary deviations in three steps
        n_decisions=3,
        cvar_limit=limit,
        cvar_confidence=0.9,
    )
    factors = np.linspace(-6.0, 6.0, 101)
    for stage in range(3):
        weights = policy.weights(stage, factors)
        assert weights.min() >= 0.0
        assert weights.sum(axis=1).max() <= 1.0 + 1e-9
        risks = [policy.law_at(z).cvar(w) for z, w in zip(factors, weights, strict=True)]
        assert max(risks) <= limit + 1e-9
    if limit:
        assert max(risks) > 0.9 * limit


def test_weights_between_grid_points_are_nearly_the_best_ones():
    policy = brown_smith(0.05, n_points=2**12)
    for z in (-0.33, 0.05, 0.61):
        best = LimitedPortfolio(policy.law_at(z), 3, 0.05).best(PROCESS.expected_returns([z]))
        expected = PROCESS.expected_returns([z]) @ best
        found = PROCESS.expected_returns([z]) @ policy.weights(10, np.array([z]))[0]
        assert 0.99 * expected < found <= expected + 1e-9


def test_followed_wealth_is_the_product_of_its_returns():
    policy = brown_smith(0.05, n_decisions=3, n_points=2**10)
    paths = PROCESS.simulate(2, 5, rng=np.random.default_rng(3), start=[0.2])
    runs = follow(policy, paths)
    for p in range(2):
        wealth = 1.0
        for t in range(3):
            w = policy.weights(t, paths.factors[p, t])[0]
            np.testing.assert_allclose(runs.holdings[p, t, 1:], wealth * w)
            assert runs.holdings[p, t].sum() == pytest.approx(wealth)
            wealth *= 1.0 + w @ (np.exp(paths.log_returns[p, t]) - 1.00042)
            assert runs.wealth[p, t + 1] == pytest.approx(wealth)


def test_out_of_sample_wealth_is_the_value_of_the_program():
    """Three estimators of one mean; each control takes away variance and no bias."""
    policy = brown_smith(0.05)
    paths = PROCESS.simulate(1000, 11, rng=np.random.default_rng(5), start=[0.0])
    runs = follow(policy, paths)
    differences = (
        return_differences(PROCESS, paths),
        value_differences(policy, paths, PROCESS.quadrature(32)),
    )
    plain = runs.wealth[:, -1]
    samples = [plain, *(controlled_wealth(plain, runs.holdings, d) for d in differences)]
    estimates = [mean_interval(sample) for sample in samples]
    value = policy.growth_at(0, AT_ZERO)[0]
    # Interpolated weights cost 0.05 % of the gain.
    for estimate in estimates:
        assert abs(estimate.mean - value) < 4.0 * estimate.standard_error + 3e-5
    errors = [estimate.standard_error for estimate in estimates]
    assert errors[1] < errors[0] / 8
    assert errors[2] < errors[1] / 100


def test_the_true_risk_of_the_policy_is_the_limit():
    """100,000 fresh draws: CVaR of losses near 5 % is known to about 0.4 % of it."""
    policy = brown_smith(0.05)
    fresh = PROCESS.shocks(100_000, rng=np.random.default_rng(9), sampling="monte carlo")
    risk = conditional_law(PROCESS, fresh, 0.0, 0.9).cvar(policy.weights(0, AT_ZERO)[0])
    assert risk == pytest.approx(0.05, rel=0.015)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shocks": PROCESS.quadrature(4)}, "shocks is a quadrature of means and has no tails"),
        ({"grid": [0.0, 1.0, 1.0, 2.0]}, r"grid has shape \(4,\); give at least 4 ascending"),
        ({"grid": [0.0, 1.0, 2.0]}, r"grid has shape \(3,\)"),
        ({"n_decisions": 0}, "n_decisions = 0; give at least 1"),
        ({"cvar_limit": -0.1}, "cvar_limit = -0.1; give a fraction"),
        ({"cvar_confidence": 90.0}, "cvar_confidence = 90.0; give a number between 0 and 1"),
    ],
)
def test_bad_settings_are_named(change, words):
    settings = {
        "shocks": PROCESS.shocks(64, rng=np.random.default_rng(0)),
        "grid": factor_grid(PROCESS, 5),
        "n_decisions": 2,
        "cvar_limit": 0.05,
        "cvar_confidence": 0.9,
    }
    with pytest.raises(ModelError, match=words):
        solve_frictionless(PROCESS, **(settings | change))
    assert solve_frictionless(PROCESS, **settings).n_decisions == 2


def test_two_factors_and_short_paths_are_rejected():
    both = ReturnAutoregression(
        np.zeros(1), np.ones((1, 2)), np.zeros(2), 0.5 * np.eye(2), np.eye(3)
    )
    with pytest.raises(ModelError, match="process has 2 factors; the grid is for one"):
        factor_grid(both, 5)
    shocks = both.shocks(8, rng=np.random.default_rng(0))
    with pytest.raises(ModelError, match="process has 2 factors; the grid is for one"):
        solve_frictionless(
            both, shocks, np.arange(4.0), n_decisions=1, cvar_limit=0.1, cvar_confidence=0.9
        )
    policy = brown_smith(0.05, n_decisions=3, n_points=64)
    paths = PROCESS.simulate(2, 2, rng=np.random.default_rng(0))
    for ask in (follow, lambda p, x: value_differences(p, x, PROCESS.quadrature(4))):
        with pytest.raises(DataError, match="paths have 2 periods; the policy decides 3 times"):
            ask(policy, paths)


def test_the_example_binds():
    """Dearer trading and a tighter limit both cost something, or the tests above show little."""
    values = [
        tree_optimum(problem) for problem in (with_cost(0.0), EXAMPLE, replace(EXAMPLE, limit=0.03))
    ]
    assert values[0] > values[1] + 1e-3 > values[2] + 2e-3
