"""What an allocation may be given besides one cost and one limit, and what it then is worth.

Caps, soft limits, two costs, liquidation, interest, laws that differ by stage or vanish, nested
measures of wealth, and the smallest problems. Oracles: closed forms and scipy's `linprog` on
trees written independently (`oracles.solve_tree`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sddp import AverageCut, CVaR, Entropic, Expectation, Iterations, LazyAggregation, MultiCut
from sddp.allocation.training import train_allocation
from sddp.errors import ModelError
from tests.allocation.asking import decide, random_states
from tests.allocation.oracles import one_period_cvar, solve_tree
from tests.allocation.problems import TINY2, Case, random_case, varying_case

# Rows are refined to 1e-9 of wealth, and so are values.
VALUE = 1e-9


# --- caps, soft limits, two costs, terminal value, interest --------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("caps", [0.3, (0.1, 0.6)])
def test_caps_are_kept_at_every_wealth(caps):
    case = random_case(5, caps=caps, holdings=[1.0, 0.0, 0.0], limit=0.05)
    result = case.train()
    assert result.bound == pytest.approx(solve_tree(case).value, abs=VALUE)
    assert result.bound < replace(case, caps=None).train().bound - 1e-5
    met = 0
    for factor in (1e-3, 1.0, 1e6):
        for amounts, stage, regime in random_states(case, 4, seed=7):
            decision = decide(case, result.policy, factor * amounts, stage, regime)
            share = decision.holdings.to_numpy()[1:] / factor
            assert (share <= case.cap + 1e-9).all()
            met += bool((share > case.cap - 1e-9).any())
    assert met >= 3


@pytest.mark.long
def test_a_cap_on_the_whole_and_a_cap_of_nothing():
    case = random_case(5, limit=0.05)
    assert replace(case, caps=1.0).train().bound == pytest.approx(case.train().bound, abs=VALUE)
    nothing = replace(case, caps=0.0, holdings=[1.0, 0.0, 0.0]).train()
    assert nothing.bound == pytest.approx(1.0, abs=VALUE)


@pytest.mark.long
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_a_soft_limit_lies_between_the_hard_one_and_none(cvar):
    case = random_case(0)
    hard, free = solve_tree(case).value, solve_tree(replace(case, limit=None)).value
    assert free > hard + 1e-3
    penalties = (1e-7, 0.05, 0.3, 1.0, 50.0)
    soft = []
    for penalty in penalties:
        softened = replace(case, penalty=penalty)
        soft.append(softened.train(cvar=cvar).bound)
        # A penalty of 1e-7 stretches the units of the stage: there the last digit is lost.
        close = VALUE if penalty > 1e-6 else 3.0 * VALUE
        assert soft[-1] == pytest.approx(solve_tree(softened).value, abs=close)
    assert (np.diff(soft) <= VALUE).all()
    assert soft[0] == pytest.approx(free, abs=1e-6)
    assert soft[-1] == pytest.approx(hard, abs=VALUE)


@pytest.mark.long
def test_a_soft_limit_is_feasible_where_the_hard_one_is_not():
    case = replace(TINY2, limit=0.0, penalty=0.5)
    result = case.train()
    assert result.bound == pytest.approx(solve_tree(case).value, abs=VALUE)
    decision = decide(case, result.policy, case.holdings)
    assert decision.cvar > 1e-3  # computed from the scenarios, so the breach shows
    assert decision.cvar == pytest.approx(
        one_period_cvar(case, 0, [0.0, 1.0, 0.0], case.holdings, decision.holdings, decision.cost),
        abs=1e-12,
    )


@pytest.mark.long
def test_selling_may_cost_something_else_than_buying():
    case = random_case(0, cost=0.004, sale_cost=0.015)
    result = case.train()
    assert result.bound == pytest.approx(solve_tree(case).value, abs=VALUE)
    swapped = replace(case, cost=0.015, sale_cost=0.004).train()
    assert abs(swapped.bound - result.bound) > 1e-4
    # One decision from cash never sells.
    once = replace(case, n_stages=1, holdings=[1.0, 0.0, 0.0])
    assert replace(once, sale_cost=0.0).train().bound == pytest.approx(
        once.train().bound, abs=1e-12
    )


@pytest.mark.long
def test_terminal_wealth_is_marked_or_liquidated():
    """One asset, one regime, one decision: 1.05 / 1.01 marked, times 0.98 after the sale."""
    case = Case([[[0.05]]], [[1.0]], 1, [1.0, 0.0], cost=0.01, sale_cost=0.02)
    assert case.train().bound == pytest.approx(1.05 / 1.01, rel=1e-12)
    sold = replace(case, terminal_value="liquidated")
    assert sold.train().bound == pytest.approx(1.05 / 1.01 * 0.98, rel=1e-12)
    dear = replace(sold, sale_cost=0.045)  # 1.05 / 1.01 * 0.955 < 1: better not to buy
    assert dear.train().bound == pytest.approx(1.0, rel=1e-12)
    tree = replace(random_case(5), terminal_value="liquidated", limit=0.05)
    liquidated = tree.train().bound
    assert liquidated == pytest.approx(solve_tree(tree).value, abs=VALUE)
    marked = replace(tree, terminal_value="marked").train().bound
    assert liquidated < marked - 1e-4


def test_cash_earns_another_rate_at_each_stage():
    """An asset that always loses: cash compounds."""
    case = Case([[[-0.01]]], [[1.0]], 3, [1.0, 0.0], cash_return=(0.001, 0.02, -0.005), limit=0.1)
    result = case.train()
    assert result.bound == pytest.approx(1.001 * 1.02 * 0.995, rel=1e-12)
    table = result.policy.simulate(1, rng=np.random.default_rng(1))
    np.testing.assert_allclose(table["wealth"], np.cumprod([1.0, 1.001, 1.02, 0.995]), rtol=1e-12)


# --- returns, weights and transitions that differ by stage or vanish -----------------------------


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_everything_may_differ_by_stage(seed, cvar):
    case = varying_case(seed)
    exact = solve_tree(case).value
    assert case.train(cvar=cvar).bound == pytest.approx(exact, abs=VALUE)
    assert case.exact() == pytest.approx(exact, abs=VALUE)


@pytest.mark.long
@pytest.mark.parametrize("what", ["returns", "transition", "probabilities", "cash_return"])
def test_each_part_may_differ_by_stage_alone(what):
    """Stated for one law at all stages, `MarkovScenarios` shares a model between stages."""
    for seed in range(3):
        varied = {what: getattr(varying_case(seed), what)}
        case = random_case(seed, **varied)
        exact = solve_tree(case).value
        assert case.exact() == pytest.approx(exact, abs=VALUE)
        assert case.train().bound == pytest.approx(exact, abs=VALUE)


@pytest.mark.long
def test_one_law_stated_once_or_stage_by_stage_is_the_same():
    once = random_case(0)
    spread = replace(
        once,
        returns=once.all_returns,
        transition=once.all_transitions,
        probabilities=once.all_probabilities,
    )
    assert spread.exact() == pytest.approx(once.exact(), abs=1e-14)
    a, b = once.train(), spread.train()
    assert a.bound == pytest.approx(b.bound, abs=VALUE)


@pytest.mark.long
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_regimes_that_cannot_be_reached_do_not_matter(cvar):
    case = random_case(0, K=3, transition=[[0.7, 0.3, 0.0], [0.4, 0.6, 0.0], [0.2, 0.2, 0.6]])
    wild = np.array(case.returns)
    wild[2] = [[-1.0, 3.0], [5.0, -1.0], [-1.0, -1.0]]
    for returns in (case.returns, wild):
        bound = replace(case, returns=returns).train(cvar=cvar).bound
        assert bound == pytest.approx(solve_tree(case).value, abs=VALUE)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::sddp.errors.RecourseWarning")
@pytest.mark.parametrize("cuts", [LazyAggregation(), MultiCut(), AverageCut(), None], ids=repr)
def test_scenarios_of_probability_zero_do_not_matter(cuts):
    """Below the cost of selling, where states that may not be entered restrict decisions.

    `None` asks the extensive form.
    """
    case = random_case(21, cost=0.01, limit=0.004, holdings=[1.0, 0.0, 0.0])
    returns, weights = np.array(case.returns), np.array(case.probabilities)
    returns[:, 0], weights[:, 0] = [-0.9, 2.0], 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    with_it = replace(case, returns=returns, probabilities=weights)
    without = replace(case, returns=returns[:, 1:], probabilities=weights[:, 1:])
    exact = solve_tree(without).value
    if cuts is None:
        assert without.exact() == pytest.approx(exact, abs=VALUE)
        assert with_it.exact() == pytest.approx(exact, abs=VALUE)
        return
    for problem in (without, with_it):
        bound = problem.train(cuts=cuts).bound
        assert bound == pytest.approx(exact, abs=VALUE)


# --- risk measures of terminal wealth --------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("measure", "mixture"),
    [
        (CVaR(confidence=0.4), ((1.0, 0.6),)),
        (0.7 * Expectation() + 0.3 * CVaR(confidence=0.8), ((0.7, 1.0), (0.3, 0.2))),
    ],
    ids=["cvar", "mixture"],
)
def test_a_nested_measure_of_wealth_equals_the_extensive_form(measure, mixture):
    case = random_case(5, limit=0.05)
    exact = solve_tree(case, risk=mixture).value
    assert exact < solve_tree(case).value - 1e-4
    assert case.exact(risk=measure) == pytest.approx(exact, abs=VALUE)
    result = case.train(risk=measure)
    assert result.bound == pytest.approx(exact, abs=VALUE)


def test_a_measure_that_does_not_scale_with_wealth_is_rejected():
    case = random_case(0)
    for measure in (Entropic(1.0), 0.5 * Entropic(1.0) + 0.5 * Expectation()):
        with pytest.raises(ModelError, match=r"Entropic.*not positively homogeneous.*use CVaR"):
            case.train(risk=measure)
    assert np.isfinite(case.train(stopping=Iterations(1), risk=CVaR(0.5)).bound)


# --- the smallest problems, by hand ------------------------------------------------------------


@pytest.mark.parametrize("limit", [0.0, 0.1, None])
@pytest.mark.parametrize(("gain", "worth"), [(0.05, 1.05), (-0.05, 1.0), (0.0, 1.0)])
def test_one_asset_one_regime_one_scenario_one_decision(gain, worth, limit):
    """A sure gain is taken, a sure loss is not."""
    case = Case([[[gain]]], [[1.0]], 1, [1.0, 0.0], limit=limit)
    for cvar in ("lazy", "explicit"):
        result = case.train(cvar=cvar)
        assert result.bound == pytest.approx(worth, rel=1e-12)
    assert result.policy.simulate(2, rng=np.random.default_rng(0))["wealth"].iloc[
        -1
    ] == pytest.approx(worth, rel=1e-12)


@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_the_limit_alone_sizes_a_fair_bet(cvar):
    """Up 10 %, down 5 %: the worst tenth loses 5 % of the holding, so it is limit / 0.05."""
    case = Case([[[0.10], [-0.05]]], [[1.0]], 1, [1.0, 0.0], limit=0.02)
    held = 0.02 / 0.05
    result = case.train(cvar=cvar)
    assert result.bound == pytest.approx(1.0 + held * 0.025, rel=1e-12)
    longer = replace(case, n_stages=4).train(cvar=cvar)
    assert longer.bound == pytest.approx((1.0 + held * 0.025) ** 4, rel=1e-12)
    # The cost of buying is part of the loss: held (0.05 + 0.01) = limit.
    dear = replace(case, cost=0.01).train(cvar=cvar)
    held = 0.02 / 0.06
    assert dear.bound == pytest.approx(1.0 + held * (0.025 - 0.01), rel=1e-12)
    decision = decide(case, dear.policy, [1.0, 0.0])
    assert decision.holdings["asset1"] == pytest.approx(held, rel=1e-9)
    assert decision.cvar == pytest.approx(0.02, abs=1e-9)


def test_the_mean_lies_inside_what_training_may_be_asked():
    """`train_allocation` is the same function with names given to everything."""
    case = replace(
        random_case(0),
        names={"asset_names": ("gold", "stocks"), "state_names": ("calm", "storm")},
    )
    result = train_allocation(
        case.model,
        case.scenarios,
        initial_holdings=case.as_holdings(case.holdings),
        initial_regime="storm",
        rng=np.random.default_rng(1),
        progress=False,
    )
    assert result.bound == pytest.approx(solve_tree(replace(case, regime=1)).value, abs=VALUE)
