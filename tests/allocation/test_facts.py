"""The facts of section 2 of the design's mathematics, each one a test.

Oracles: closed forms, scipy's `linprog` on trees written independently (`oracles.solve_tree`),
finite differences. "Converged" policies are trained until the bound stands still for 30
iterations, so that invariances are compared at the optimum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp import extensive_form
from sddp.allocation.one_period import one_period_distribution
from tests.allocation.asking import CASES, RICH, converged, decide, random_states, value
from tests.allocation.oracles import (
    LP_OPTIONS,
    cvar_by_lp,
    slope_of,
    solve_tree,
    sorted_cvar,
)
from tests.allocation.problems import TINY2, Case, random_case, varying_case

# Rows are refined to 1e-9 of wealth, and so are values.
VALUE = 1e-9


# --- 1: concave and positively homogeneous ----------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("name", ["tiny2", "rich"])
@pytest.mark.parametrize("factor", [1e-3, 0.5, 1e3, 1e6])
def test_decisions_and_values_scale_with_wealth(name, factor):
    case, policy = CASES[name], converged(name)
    for amounts, stage, regime in random_states(case, 6):
        one = decide(case, policy, amounts, stage, regime)
        many = decide(case, policy, factor * amounts, stage, regime)
        for field in ("holdings", "trades", "cost", "value"):
            np.testing.assert_allclose(
                getattr(many, field), factor * getattr(one, field), rtol=1e-9, atol=1e-9 * factor
            )
        for field in ("weights", "cvar", "marginal_value"):
            np.testing.assert_allclose(getattr(many, field), getattr(one, field), atol=1e-9)


@pytest.mark.parametrize("factor", [1e-3, 1e6])
@pytest.mark.parametrize("case", [TINY2, RICH], ids=["tiny2", "rich"])
def test_the_problem_itself_is_homogeneous(case, factor):
    """On the extensive form, which normalizes nothing."""
    scaled = replace(case, holdings=factor * np.array(case.holdings))
    assert scaled.exact() == pytest.approx(factor * case.exact(), rel=VALUE)


@pytest.mark.long
def test_the_unit_of_wealth_changes_no_decision():
    rich = replace(TINY2, holdings=1e6 * np.array(TINY2.holdings))
    one, many = TINY2.train(), rich.train()
    assert many.bound == pytest.approx(1e6 * one.bound, rel=1e-12)
    np.testing.assert_allclose(
        decide(rich, many.policy, rich.holdings).weights,
        decide(TINY2, one.policy, TINY2.holdings).weights,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", ["tiny2", "rich"])
def test_values_are_linear_along_rays_with_the_slope_as_gradient(name):
    """Euler: a homogeneous value is its gradient times the state, so cuts pass the origin."""
    case, policy = CASES[name], converged(name)
    for amounts, stage, regime in random_states(case, 8, seed=1):
        decision = decide(case, policy, amounts, stage, regime)
        assert decision.marginal_value.to_numpy() @ amounts == pytest.approx(
            decision.value, abs=VALUE
        )
    for memory in policy.engine.checkpoint.nodes.values():
        assert all((cuts.intercepts == 0.0).all() for cuts in memory.pools)


@pytest.mark.parametrize("name", ["tiny2", "rich"])
def test_the_value_function_is_concave(name):
    case, policy = CASES[name], converged(name)
    rng = np.random.default_rng(2)
    for (x, stage, regime), (y, _, _) in zip(
        random_states(case, 10, seed=3), random_states(case, 10, seed=4), strict=True
    ):
        share = rng.uniform()
        mixed = value(case, policy, share * x + (1 - share) * y, stage, regime)
        ends = share * value(case, policy, x, stage, regime) + (1 - share) * value(
            case, policy, y, stage, regime
        )
        assert mixed >= ends - VALUE
        assert (
            mixed
            <= decide(case, policy, x, stage, regime).marginal_value.to_numpy()
            @ (share * x + (1 - share) * y)
            + VALUE
        )  # a slope supports the value from above everywhere


# --- 2: the slope ------------------------------------------------------------------------------

BINDING = {
    "plain": random_case(0),
    "caps": random_case(4, caps=0.4),
    "interest": random_case(0, cash_return=0.003),
    "two costs": random_case(0, cost=(0.002, 0.006), sale_cost=(0.008, 0.001)),
    "tiny2": TINY2,
    "varying": varying_case(0),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BINDING)
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_the_slope_is_balance_dual_plus_limit_times_risk_dual(name, cvar):
    case = BINDING[name]
    policy = case.train(cvar=cvar).policy
    solution = solve_tree(case)
    risk = case.limit * solution.duals["risk"][0]
    assert risk > 1e-3  # the risk row binds, and without its term the slope were wrong
    slope = decide(case, policy, case.holdings).marginal_value
    np.testing.assert_allclose(slope, slope_of(case, solution), atol=1e-8)
    if case.caps is None:  # the paper's own model has no other row that holds the state
        literal = solve_tree(case, literal=True)
        paper = literal.duals["balance"] + case.limit * literal.duals["risk"][0]
        np.testing.assert_allclose(slope, paper, atol=1e-8)


@pytest.mark.long
def test_caps_add_their_own_duals_to_the_slope():
    case = BINDING["caps"]
    solution = solve_tree(case)
    assert case.cap @ solution.duals["cap"] > 1e-3
    slope = decide(case, case.train().policy, case.holdings).marginal_value
    without = solution.duals["balance"] + case.limit * solution.duals["risk"][0]
    assert np.abs(slope - without).max() > 1e-3
    np.testing.assert_allclose(slope, slope_of(case, solution), atol=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("name", ["random", "rich", "tiny2"])
def test_the_slope_equals_finite_differences(name):
    """Differences of step 1e-3: rows are kept to 1e-9, so quotients to about 1e-6."""
    case, policy = CASES[name], converged(name)
    binding = 0
    for amounts, stage, regime in random_states(case, 24, seed=5):
        decision = decide(case, policy, amounts, stage, regime)
        slope = decision.marginal_value.to_numpy()
        right, left = _one_sided(case, policy, amounts, stage, regime)
        assert (slope <= left + 5e-6).all()  # at a kink the slope lies between the two
        assert (slope >= right - 5e-6).all()
        smooth = left - right < 1e-6
        np.testing.assert_allclose(slope[smooth], (left + right)[smooth] / 2.0, atol=5e-6)
        binding += bool(smooth.all() and decision.cvar > case.limit - 1e-8)
    assert binding >= 2  # of the points, with the risk row binding and no kink near


def _one_sided(case, policy, amounts, stage, regime, step=1e-3):
    """Forward and backward difference quotients of the value in each position."""
    here, steps = value(case, policy, amounts, stage, regime), step * np.eye(len(amounts))
    up, down = (
        [value(case, policy, amounts + sign * h, stage, regime) for h in steps]
        for sign in (1.0, -1.0)
    )
    return (np.array(up) - here) / step, (here - np.array(down)) / step


@pytest.mark.long
@pytest.mark.parametrize("caps", [None, 0.4], ids=["no caps", "caps"])
def test_the_slope_equals_scipys_duals_on_the_compiled_arrays(caps):
    """The last stage's own explicit arrays; incoming holdings moved to the right-hand side."""
    case = random_case(0, caps=caps)
    policy = case.train(cvar="explicit").policy
    last, bound_by_risk, capped = case.n_stages - 1, 0, 0
    for amounts, _, regime in random_states(case, 12, seed=6):
        compiled = policy.problem.engine.stages[(last, regime)]
        cost = compiled.cost.copy()
        cost[compiled.outgoing] -= _expected_gross(case, regime)
        worth, slope = _worth_and_slope(compiled, cost, amounts)
        decision = decide(case, policy, amounts, last, regime)
        assert decision.value == pytest.approx(worth, abs=VALUE)
        np.testing.assert_allclose(decision.marginal_value, slope, atol=1e-8)
        bound_by_risk += decision.cvar > case.limit - 1e-8
        capped += bool(decision.holdings[1:].max() > 0.4 - 1e-9)
    assert bound_by_risk >= 2
    assert caps is None or capped >= 2


def _worth_and_slope(compiled, cost, amounts):
    """Optimum of a stage by scipy; duals times the columns of the incoming holdings."""
    matrix, held = compiled.matrix.toarray(), compiled.incoming
    free = np.setdiff1d(np.arange(compiled.n_columns), held)
    fixed = matrix[:, held] @ amounts
    lower, upper = compiled.row_lower - fixed, compiled.row_upper - fixed
    equal = lower == upper
    below, above = np.isfinite(upper) & ~equal, np.isfinite(lower) & ~equal
    result = linprog(
        cost[free],
        A_eq=matrix[equal][:, free],
        b_eq=upper[equal],
        A_ub=np.vstack([matrix[below], -matrix[above]])[:, free],
        b_ub=np.concatenate([upper[below], -lower[above]]),
        bounds=np.column_stack([compiled.column_lower, compiled.column_upper])[free],
        method="highs",
        options=LP_OPTIONS,
    )
    assert result.status == 0, result.message
    duals = np.zeros(len(matrix))
    duals[equal] = result.eqlin.marginals
    duals[below] += result.ineqlin.marginals[: below.sum()]
    duals[above] -= result.ineqlin.marginals[below.sum() :]
    return -result.fun, duals @ matrix[:, held]  # a reward is a negative cost


def _expected_gross(case, regime):
    weights = case.all_transitions[-1][regime][:, None] * case.all_probabilities[-1]
    mean = np.einsum("js,jsn->n", weights, case.all_returns[-1])
    return 1.0 + np.concatenate([[case.cash[-1]], mean])


# --- 4: CVaR with unequal weights has a fractional tail ------------------------------------------


@pytest.mark.parametrize("confidence", [0.05, 0.5, 0.83, 0.9, 0.96])
@pytest.mark.parametrize("belief", [[1.0, 0.0, 0.0], [0.2, 0.5, 0.3]], ids=["known", "belief"])
def test_cvar_with_unequal_weights_has_a_fractional_tail(confidence, belief):
    case = varying_case(8, K=3, S=40, N=3)
    rng = np.random.default_rng(9)
    for stage in range(case.n_stages):
        view = one_period_distribution(
            case.scenarios, stage, np.array(belief), float(case.cash[stage])
        )
        held = rng.dirichlet(np.ones(4))
        found = view.cvar(float(held[0]), held[1:], confidence)
        weights = (np.array(belief) @ case.all_transitions[stage])[:, None]
        weights = (weights * case.all_probabilities[stage]).ravel()
        losses = -case.all_returns[stage].reshape(-1, 3) @ held[1:] - case.cash[stage] * held[0]
        assert found == pytest.approx(cvar_by_lp(losses, weights, confidence), abs=1e-12)
        assert found == pytest.approx(sorted_cvar(losses, weights, confidence), abs=1e-15)
        whole = np.sort(losses)[-round((1.0 - confidence) * len(losses)) :]
        assert abs(found - whole.mean()) > 1e-7  # rounding to whole scenarios is another number


# --- 5: monotone, cash, myopia, relabelling ------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("field", ["cost", "sale_cost"])
def test_dearer_trading_never_raises_the_value(field):
    case = random_case(5)
    values = [replace(case, **{field: c}).train().bound for c in (0.0, 0.001, 0.004, 0.01, 0.02)]
    assert (np.diff(values) <= VALUE).all()
    assert values[-1] < values[0] - 1e-4


@pytest.mark.long
def test_a_looser_limit_never_lowers_the_value():
    case = random_case(5)
    limits = [0.004, 0.01, 0.02, 0.05, 0.2, None]
    values = [replace(case, limit=limit).train().bound for limit in limits]
    assert (np.diff(values) >= -VALUE).all()
    assert values[-1] > values[0] + 1e-4
    assert values[-2] == pytest.approx(values[-1], abs=VALUE)  # 20 % in a month: no limit at all


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::sddp.errors.RecourseWarning")
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_without_a_risk_budget_only_cash_is_held(cvar):
    case = random_case(0, limit=0.0, holdings=[1.0, 0.0, 0.0])
    # No portfolio without loss in the tail: from a positive budget on, cash alone is not best.
    assert replace(case, limit=0.01).train(cvar=cvar).bound > 1.0 + 1e-4
    result = case.train(cvar=cvar)
    assert result.bound == pytest.approx(1.0, abs=VALUE)
    decision = decide(case, result.policy, case.holdings)
    np.testing.assert_allclose(decision.holdings, [1.0, 0.0, 0.0], atol=VALUE)
    assert decision.cost == pytest.approx(0.0, abs=VALUE)


@pytest.mark.filterwarnings("ignore::sddp.errors.RecourseWarning")
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_interest_may_be_put_at_risk_without_a_budget(cvar):
    case = random_case(0, limit=0.0, holdings=[1.0, 0.0, 0.0], cash_return=0.005)
    result = case.train(cvar=cvar)
    decision = decide(case, result.policy, case.holdings)
    assert decision.holdings[1:].sum() > 0.01
    assert decision.cvar == pytest.approx(0.0, abs=1e-8)
    assert result.bound > 1.005**case.n_stages + 1e-5
    assert result.bound == pytest.approx(solve_tree(case).value, abs=VALUE)


@pytest.mark.long
@pytest.mark.parametrize("limit", [0.03, None])
def test_without_costs_and_regimes_any_horizon_decides_alike(limit):
    case = random_case(11, T=1, K=1, S=6, N=3, cost=0.0, limit=limit)
    first = decide(case, case.train().policy, case.holdings)
    growth = solve_tree(case).value
    for n_stages in (2, 3, 4):
        longer = replace(case, n_stages=n_stages)
        result = longer.train()
        assert result.bound == pytest.approx(growth**n_stages, rel=1e-9)
        decision = decide(longer, result.policy, longer.holdings)
        np.testing.assert_allclose(decision.holdings, first.holdings, atol=1e-6)
        if n_stages < 4:
            form = extensive_form(result.policy.problem.engine)
            myopic = form.solve(first_state={"holdings": first.holdings.to_numpy()})
            assert myopic.value == pytest.approx(growth**n_stages, rel=1e-9)


@pytest.mark.long
def test_with_costs_the_horizon_matters():
    """So that the test above does not pass on a package that ignores the future."""
    asset = Case([[[0.03], [-0.02]]], [[1.0]], 1, [1.0, 0.0], cost=0.008, limit=None)
    assert decide(asset, asset.train().policy, [1.0, 0.0]).holdings["asset1"] == 0.0
    longer = replace(asset, n_stages=2)
    held = decide(longer, longer.train().policy, [1.0, 0.0]).holdings["asset1"]
    assert held == pytest.approx(1.0 / 1.008)


@pytest.mark.long
def test_relabelling_the_regimes_changes_nothing():
    case = varying_case(2, K=3)
    order = np.array([2, 0, 1])
    relabelled = replace(
        case,
        returns=case.all_returns[:, order],
        transition=case.all_transitions[:, order][:, :, order],
        probabilities=case.all_probabilities[:, order],
        regime=int(np.flatnonzero(order == case.regime)[0]),
    )
    assert relabelled.exact() == pytest.approx(case.exact(), abs=1e-12)
    one, other = case.train(), relabelled.train()
    assert other.bound == pytest.approx(one.bound, abs=VALUE)
    for new, old in enumerate(order):
        np.testing.assert_allclose(
            decide(relabelled, other.policy, case.holdings, 2, new).holdings,
            decide(case, one.policy, case.holdings, 2, int(old)).holdings,
            atol=1e-9,
        )
