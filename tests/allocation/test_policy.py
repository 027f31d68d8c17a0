"""What a trained policy decides: by regime and by belief, in balance, or not at all.

Oracles: `oracles.solve_tree` (scipy's `linprog`) and the accounting identities of a trade.
Simulations and files are in `test_policy_runs.py`.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

from sddp import CVaR, Iterations
from sddp.errors import InfeasibleState, ModelError
from tests.allocation.asking import NAMED, TIGHT, assert_same, converged, digits, random_questions
from tests.allocation.oracles import one_period_cvar, solve_tree
from tests.allocation.problems import medium_case, random_case, varying_case

# --- regimes and beliefs -------------------------------------------------------------------------


def test_a_regime_is_named_counted_or_believed_with_certainty():
    policy = converged("named")
    for stage, _, amounts in random_questions(6):
        holdings = NAMED.as_holdings(amounts)
        for k, name in enumerate(("calm", "usual", "storm")):
            first = policy.decide(stage=stage, regime=k, holdings=holdings)
            for regime in (
                np.int64(k),
                name,
                np.eye(3)[k],
                np.eye(3)[k].tolist(),
                {name: 1.0},
            ):
                assert_same(policy.decide(stage=stage, regime=regime, holdings=holdings), first)


def test_a_nearly_certain_belief_decides_nearly_alike():
    """Probability 1e-12 elsewhere sends the question the other way through the package."""
    policy = converged("named")
    for stage, _, amounts in random_questions(6, seed=1):
        holdings, wealth = NAMED.as_holdings(amounts), amounts.sum()
        for k in range(3):
            belief = np.full(3, 1e-12)
            belief[k] = 1.0 - 2e-12
            known = policy.decide(stage=stage, regime=k, holdings=holdings)
            nearly = policy.decide(stage=stage, regime=belief, holdings=holdings)
            np.testing.assert_allclose(nearly.holdings, known.holdings, atol=1e-6 * wealth)
            assert nearly.value == pytest.approx(known.value, rel=1e-9)
            assert nearly.cvar == pytest.approx(known.cvar, abs=1e-8)


@pytest.mark.long
@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_a_belief_in_the_last_stage_is_one_linear_program(cvar):
    """Objective and CVaR under the mixture's weights: `solve_tree` builds that LP by hand."""
    case = replace(NAMED, limit=0.009)
    policy = case.train(cvar=cvar).policy
    bound_by_risk = 0
    for _, belief, amounts in random_questions(10, seed=2):
        holdings, wealth = case.as_holdings(amounts), amounts.sum()
        decision = policy.decide(stage=2, regime=belief, holdings=holdings)
        exact = solve_tree(case, stage=2, belief=belief, holdings=amounts)
        assert decision.value == pytest.approx(exact.value, rel=1e-9)
        np.testing.assert_allclose(decision.holdings, exact.after, atol=1e-6 * wealth)
        cvar_found = one_period_cvar(case, 2, belief, amounts, decision.holdings, decision.cost)
        assert decision.cvar == pytest.approx(cvar_found, abs=1e-10)
        if exact.duals["risk"][0] > 1e-6:
            assert decision.cvar == pytest.approx(case.limit, abs=1e-8)
            bound_by_risk += 1
    assert bound_by_risk >= 3


def test_the_cvar_of_a_belief_is_no_average_of_cvars():
    policy = converged("named")
    belief = np.array([0.4, 0.2, 0.4])
    decision = policy.decide(stage=2, regime=belief, holdings={"gold": 0.5, "stocks": 0.5})
    single = [
        one_period_cvar(NAMED, 2, unit, [0.0, 0.5, 0.5], decision.holdings, decision.cost)
        for unit in np.eye(3)
    ]
    assert abs(decision.cvar - belief @ single) > 1e-4


def test_a_belief_that_misses_one_by_rounding_is_normalized():
    policy, belief = converged("named"), np.array([0.4, 0.2, 0.4])
    exact = policy.decide(stage=2, regime=belief, holdings={"cash": 1.0})
    rounded = policy.decide(stage=2, regime=belief * (1.0 + 5e-7), holdings={"cash": 1.0})
    assert rounded.value == pytest.approx(exact.value, rel=1e-12)
    assert rounded.cvar == pytest.approx(exact.cvar, abs=1e-12)


def test_a_belief_before_later_stages_uses_their_converged_values():
    """Two stages from the end the cuts near the start's decisions are converged."""
    case = replace(varying_case(1, K=2, T=2), limit=0.03)
    policy = case.train().policy
    for belief in ([0.5, 0.5], [0.9, 0.1]):
        exact = solve_tree(case, belief=belief)
        decision = policy.decide(regime=belief, holdings=case.as_holdings(case.holdings))
        assert decision.value >= exact.value - 1e-9  # cuts are optimistic
        assert decision.value == pytest.approx(exact.value, abs=1e-6)


def test_a_belief_respects_a_nested_risk_measure():
    case = random_case(5, T=2, limit=0.05)
    policy = case.train(risk=CVaR(confidence=0.4)).policy
    belief = [0.3, 0.7]
    exact = solve_tree(case, stage=1, belief=belief, risk=((1.0, 0.6),))
    decision = policy.decide(stage=1, regime=belief, holdings=case.as_holdings(case.holdings))
    assert decision.value == pytest.approx(exact.value, abs=1e-9)


# --- what a decision says ------------------------------------------------------------------------


def test_a_decision_balances_to_the_last_unit():
    policy, bound_by_risk = converged("named"), 0
    for stage, belief, amounts in random_questions(12, seed=3):
        for regime in (0, belief):
            decision = policy.decide(
                stage=stage, regime=regime, holdings=NAMED.as_holdings(amounts)
            )
            wealth, trades = amounts.sum(), decision.trades.to_numpy()
            assert list(decision.trades.index) == ["gold", "stocks"]
            assert list(decision.holdings.index) == ["cash", "gold", "stocks"]
            np.testing.assert_allclose(
                decision.holdings.to_numpy()[1:], amounts[1:] + trades, atol=1e-12 * wealth
            )
            bought, sold = np.maximum(trades, 0.0), np.maximum(-trades, 0.0)
            cost = bought @ NAMED.purchase + sold @ NAMED.sale
            assert decision.cost == pytest.approx(cost, abs=1e-12 * wealth)
            assert decision.holdings.sum() == pytest.approx(wealth - cost, rel=1e-10)
            assert decision.holdings.min() >= 0.0
            np.testing.assert_allclose(
                decision.weights, decision.holdings / decision.holdings.sum(), rtol=1e-14
            )
            known = np.eye(3)[0] if isinstance(regime, int) else belief
            found = one_period_cvar(NAMED, stage, known, amounts, decision.holdings, decision.cost)
            assert decision.cvar == pytest.approx(found, abs=1e-10)
            assert decision.cvar <= NAMED.limit + 1e-8
            bound_by_risk += decision.cvar > NAMED.limit - 1e-8
    assert bound_by_risk >= 5


def test_trades_are_net_where_buying_and_selling_cost_nothing():
    """At no cost an LP may buy and sell the same asset; a decision never says so."""
    case = replace(NAMED, cost=0.0, sale_cost=None)
    policy = case.train(stopping=Iterations(5)).policy
    for stage, _, amounts in random_questions(4, seed=4):
        holdings = case.as_holdings(amounts)
        decision = policy.decide(stage=stage, regime=0, holdings=holdings)
        raw = policy.engine.decide((stage, 0), {"holdings": amounts}).variables
        for i, name in enumerate(("gold", "stocks"), start=1):
            net = raw[f"purchases[{i}]"] - raw[f"sales[{i}]"]
            assert decision.trades[name] == pytest.approx(net, abs=1e-9 * amounts.sum())
        assert decision.cost == 0.0
        assert decision.holdings.sum() == pytest.approx(amounts.sum(), rel=1e-12)


def test_positions_left_out_are_empty():
    policy = converged("named")
    full = policy.decide(regime=0, holdings={"cash": 0.0, "gold": 2.0, "stocks": 0.0})
    assert_same(policy.decide(regime=0, holdings={"gold": 2.0}), full)


def test_a_decision_does_not_depend_on_what_was_asked_before():
    """Early in training many decisions are nearly optimal, and a warm start would pick one."""
    case = medium_case(T=4)
    policy = case.train(stopping=Iterations(4)).policy
    questions = [
        {"stage": stage, "regime": regime, "holdings": case.as_holdings(amounts)}
        for stage, regime, amounts in zip(
            (0, 1, 2, 3, 1, 2),
            (0, 1, 2, [0.2, 0.3, 0.5], 1, 2),
            np.random.default_rng(5).dirichlet(np.ones(7), 6),
            strict=True,
        )
    ]
    first = [policy.decide(**question) for question in questions]
    policy.simulate(5, rng=np.random.default_rng(0))
    for question, before in reversed(list(zip(questions, first, strict=True))):
        assert_same(policy.decide(**question), before)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"stage": 3}, r"stage = 3 is outside 0\.\.2"),
        ({"stage": -1}, r"stage = -1 is outside 0\.\.2"),
        (
            {"holdings": {"silver": 1.0}},
            r"holdings: unknown assets \['silver'\].*are \['cash', 'gold'",
        ),
        ({"holdings": {"cash": 2.0, "gold": -0.5}}, r"holdings of 'gold' are -0\.5; give money"),
        ({"holdings": {"cash": np.nan}}, r"holdings of 'cash' are nan; give money"),
        ({"holdings": {"cash": np.inf}}, r"holdings of 'cash' are inf; give money"),
        ({"holdings": {}}, r"holdings are all 0; there is nothing to invest"),
        ({"holdings": {"cash": 0.0}}, r"holdings are all 0; there is nothing to invest"),
        ({"regime": "panic"}, r"'panic'.*known are \['calm', 'usual', 'storm'\]"),
        ({"regime": {"panic": 1.0}}, r"'panic'.*known are \['calm', 'usual', 'storm'\]"),
        ({"regime": 3}, r"regime 3 is outside 0\.\.2"),
        ({"regime": -1}, r"regime -1 is outside 0\.\.2"),
        ({"regime": [0.5, 0.5]}, r"belief has shape \(2,\); give 3 numbers"),
        ({"regime": [0.5, 0.4, 0.0]}, r"belief sums to .*0\.9.*must sum to 1"),
        ({"regime": {"calm": 0.5}}, r"belief sums to .*0\.5.*must sum to 1"),
        ({"regime": [1.5, -0.5, 0.0]}, r"must contain numbers between 0 and 1"),
        ({"regime": [np.nan, 0.5, 0.5]}, r"must contain numbers between 0 and 1"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_a_question_that_makes_no_sense_is_rejected_with_words(question, words):
    """`decide` documents `ModelError` for all of these; the next call works."""
    policy = converged("named")
    sound = {"stage": 1, "regime": 0, "holdings": {"cash": 1.0}}
    before = policy.decide(**sound)
    with pytest.raises(ModelError, match=words):
        policy.decide(**{**sound, **question})
    assert_same(policy.decide(**sound), before)


@pytest.mark.parametrize(
    ("stage", "regime"),
    [(1, 1), (1, "state2"), (2, 2), (1, [0.5, 0.2, 0.3])],
    ids=["by number", "by name", "last stage", "belief"],
)
def test_a_state_that_may_be_neither_kept_nor_sold_is_infeasible(stage, regime):
    """All in the first asset: keeping breaks the limit, and so does selling at 1 %.

    Selling everything loses 1 % where 0.4 % is allowed: 0.6 % of wealth short.
    """
    tight, asset = converged("tight"), {"asset1": 5.0}
    words = rf"stage {stage}, regime {re.escape(repr(regime))}: .*missed by 0\.006"
    with pytest.raises(InfeasibleState, match=words):
        tight.decide(stage=stage, regime=regime, holdings=asset)
    cash = tight.decide(stage=stage, regime=regime, holdings={"cash": 5.0})
    assert cash.cvar <= TIGHT.limit + 1e-8


def test_from_states_that_simulation_meets_a_decision_always_exists():
    table = converged("tight").simulate(50, rng=np.random.default_rng(0))
    assert len(table) == 50 * 4


def test_a_policy_can_be_sent_to_another_process():
    """Pickled, as `joblib` and `multiprocessing` do; its answers stay the same bit for bit."""
    policy = converged("named")
    assert digits(pickle.loads(pickle.dumps(policy))) == digits(policy)
