"""Payments, floors, limits by stage and a costly exit: against the extensive form and by hand."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest

from sddp.allocation.alternatives import nearest_decision
from sddp.allocation.model import AllocationModel
from sddp.allocation.policy import AllocationPolicy
from sddp.allocation.problem import allocation_problem
from sddp.allocation.training import train_allocation
from sddp.backtest import MultistageStrategy
from sddp.engine.policy.extensive_form import extensive_form
from sddp.engine.training.stopping import Iterations
from sddp.errors import ModelError
from sddp.evaluation.rollouts.dues import follow_with_dues, planned_rule, policy_rule
from sddp.scenarios import MarkovScenarios

HELD = {"cash": 0.6, "asset1": 0.4}
MODEL = AllocationModel(transaction_cost=0.01, cvar_limit=0.08)
pytestmark = pytest.mark.filterwarnings("ignore::sddp.errors.RecourseWarning")


def scenarios(n_stages: int = 3) -> MarkovScenarios:
    rng = np.random.default_rng(2)
    returns = rng.normal([0.03, 0.01], [0.12, 0.05], (2, 4, 2))
    return MarkovScenarios(returns, [[0.7, 0.3], [0.4, 0.6]], n_stages=n_stages)


def trained(model: AllocationModel, iterations: int = 100, n_stages: int = 3, held=HELD):
    return train_allocation(
        model,
        scenarios(n_stages),
        initial_holdings=held,
        rng=1,
        stopping=Iterations(iterations),
        progress=False,
    )


DUES = {
    "payments in money": {"payment": [0.0, 0.3, 0.4, 0.5]},
    "payments as shares": {"payment_share": [0.0, 0.1, 0.0, 0.2]},
    "a floor": {"wealth_floor": [0.0, 1.0, 1.02, 1.05]},
    "a limit that tightens": {"cvar_limit_scale": [1.0, 0.5, 0.2]},
    "an exit that costs": {"terminal_value": "liquidated"},
    "all of them": {
        "payment": [0.0, 0.2, 0.1, 0.3],
        "payment_share": [0.0, 0.05, 0.0, 0.0],
        "wealth_floor": [0.0, 0.9, 0.6, 0.3],
        "cvar_limit_scale": [1.0, 0.7, 0.5],
        "terminal_value": "liquidated",
        "shortfall_price": 3.0,
    },
}


@functools.cache
def solved(kind: str):
    return trained(replace(MODEL, **DUES[kind]))


@pytest.mark.parametrize("kind", DUES)
def test_trained_values_are_those_of_the_extensive_form(kind):
    """One linear program over the tree of 4 returns and 2 regimes a period."""
    model = replace(MODEL, **DUES[kind])
    problem = allocation_problem(model, scenarios(), initial_holdings=HELD, cvar="explicit")
    exact = extensive_form(problem.engine).solve().value
    result = solved(kind)
    assert result.bound == pytest.approx(exact, abs=1e-8)
    plain = trained(MODEL, 20).bound
    assert result.bound < plain - 1e-3  # it matters here
    assert problem.engine.homogeneous == (not model.in_money)


@pytest.mark.long
@pytest.mark.parametrize("kind", DUES)
def test_a_policy_attains_its_value_along_paths(kind):
    """The mean of simulated values, shortfall at its price, is the bound up to its error."""
    result = solved(kind)
    run = follow_with_dues(policy_rule(result.policy), result.policy.problem, n_paths=60, rng=3)
    error = run.value.std(ddof=1) / np.sqrt(len(run.value))
    assert abs(run.value.mean() - result.bound) < 4.0 * error + 1e-9
    for rule in (
        planned_rule(result.policy.problem, held=True),
        planned_rule(result.policy.problem, held=False),
        planned_rule(result.policy.problem, held=True, n_ahead=1),
    ):
        other = follow_with_dues(rule, result.policy.problem, n_paths=60, rng=3)
        apart = other.value - run.value
        assert apart.mean() < 4.0 * apart.std(ddof=1) / np.sqrt(60.0) + 1e-9


def test_simulated_tables_hold_the_shortfall():
    """In sample: terminal wealth less the price of the shortfall has the bound as its mean."""
    model = replace(MODEL, payment=[0.0, 0.5, 0.5, 0.3])
    policy = trained(model).policy
    table = policy.simulate(400, rng=1)
    end = table["wealth"].groupby(level="path").last()
    short = table["shortfall"].groupby(level="path").sum()
    value = end - model.shortfall_price * short
    assert abs(value.mean() - policy.bound) < 4.0 * value.std() / 20.0
    assert policy.shortfall_probability(400, rng=1) == pytest.approx((short > 1e-9).mean())
    assert 0.0 < (short > 1e-9).mean() < 1.0
    assert "shortfall" not in trained(MODEL, 2).policy.simulate(2, rng=1)


def test_cash_that_pays_is_worth_what_is_left():
    """No risk allowed: interest 1 %, a tenth paid at the second stage, 0.2 at the horizon."""
    model = AllocationModel(
        transaction_cost=0.5,
        cash_return=0.01,
        payment=[0.0, 0.0, 0.0, 0.2],
        payment_share=[0.0, 0.1, 0.0, 0.0],
        weight_limit=0.0,
    )
    result = trained(model, 5, held={"cash": 1.0})
    left = 1.01 * 0.9 * 1.01 * 1.01 - 0.2
    assert result.bound == pytest.approx(left, rel=1e-12)
    assert result.policy.problem.cash_value == pytest.approx(left, rel=1e-12)
    poor = trained(replace(model, payment=[0.0, 3.0, 0.0, 0.0]), 5, held={"cash": 1.0})
    assert poor.policy.shortfall_probability(5, rng=1) == 1.0


def test_shares_keep_decisions_proportional_and_money_does_not():
    share, money = (
        trained(replace(MODEL, **DUES[kind])).policy for kind in ("payments as shares", "a floor")
    )
    large = {name: 7.0 * amount for name, amount in HELD.items()}
    for policy, alike in ((share, True), (money, False)):
        one, seven = (policy.decide(regime=0, holdings=held) for held in (HELD, large))
        assert np.allclose(one.weights, seven.weights, atol=1e-7) == alike


def test_each_decision_keeps_the_limit_of_its_stage():
    policy = solved("a limit that tightens").policy
    for stage, limit in enumerate((0.08, 0.04, 0.016)):
        decision = policy.decide(stage=stage, regime=0, holdings={"cash": 1.0})
        assert decision.cvar <= limit + 1e-9
        if stage == 2:  # nothing follows: the limit alone holds it back
            assert decision.cvar == pytest.approx(limit, abs=1e-9)


@pytest.mark.parametrize("dues", [{"payment": 0.1}, {"wealth_floor": 0.9}], ids=str)
def test_a_wrong_declaration_of_homogeneity_is_caught(dues, monkeypatch):
    """The engine's check of a cone looks at the rows themselves."""
    model = replace(MODEL, **dues)
    problem = allocation_problem(model, scenarios(), initial_holdings=HELD)
    assert not any(stage.homogeneous for stage in problem.engine.stages.values())
    monkeypatch.setattr(AllocationModel, "in_money", property(lambda self: False))
    with pytest.raises(ModelError, match="homogeneous=True"):
        allocation_problem(model, scenarios(), initial_holdings=HELD)


def test_policies_with_dues_are_saved(tmp_path):
    policy = trained(replace(MODEL, **DUES["all of them"]), 20).policy
    policy.save(tmp_path / "policy.json")
    loaded = AllocationPolicy.load(tmp_path / "policy.json")
    assert loaded.problem.model == policy.problem.model
    assert loaded.bound == policy.bound


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"payment": -0.1}, "payment = -0.1: must be money of at least 0"),
        ({"payment_share": 1.0}, "payment_share = 1: must be a share of wealth"),
        ({"wealth_floor": float("nan")}, "wealth_floor = nan"),
        ({"cvar_limit_scale": [1.0, -1.0, 1.0]}, r"cvar_limit_scale\[1\] = -1"),
        ({"shortfall_price": 0.5}, "shortfall_price=0.5: must be at least 1"),
    ],
)
def test_dues_that_make_no_sense(changes, words):
    with pytest.raises(ModelError, match=words):
        replace(MODEL, **changes)


def test_dues_by_stage_have_one_more_number_than_decisions():
    with pytest.raises(ModelError, match="payment"):
        allocation_problem(
            replace(MODEL, payment=[0.1, 0.1, 0.1]), scenarios(), initial_holdings=HELD
        )


def test_backtests_and_nearest_decisions_pay_nothing():
    model = replace(MODEL, payment_share=0.01)
    with pytest.raises(ModelError, match="accounts of a backtest do not pay"):
        MultistageStrategy(model=model, seed=1, estimator=None)
    policy = trained(model, 2).policy
    with pytest.raises(ModelError, match="payments or a floor"):
        nearest_decision(policy, within=0.1, nearest=HELD, regime=0, holdings=HELD)
