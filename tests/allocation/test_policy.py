"""What a trained policy answers: decisions, beliefs, simulations, files, refusals.

Oracles: `oracles.solve_tree` (scipy's `linprog`), the accounting identities of a trade,
enumeration of the tree, a second process.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sddp import BoundStalling, CVaR, Iterations, MultiCut
from sddp.allocation.policy import load_allocation_policy
from sddp.errors import InfeasibleState, ModelError, PolicyFileError, SddpError
from tests.allocation.oracles import (
    enumerated_policy_value,
    one_period_cvar,
    outcomes,
    solve_tree,
)
from tests.allocation.problems import TINY, TINY2, medium_case, random_case, varying_case

CONVERGED = BoundStalling(30, 1e-9) | Iterations(400)
REPOSITORY = Path(__file__).resolve().parents[2]
NAMED = varying_case(
    0,
    K=3,
    cost=(0.002, 0.006),
    sale_cost=(0.008, 0.001),
    names={"asset_names": ("gold", "stocks"), "state_names": ("calm", "usual", "storm")},
)
# A limit below the cost: some states are infeasible.
TIGHT = replace(TINY2, holdings=[1.0, 0.0, 0.0], regime=0, limit=0.004)


@functools.cache
def _trained(name):
    cases = {"tiny": TINY, "tiny2": TINY2, "named": NAMED}
    return cases[name].train(stopping=CONVERGED)


def _policy(name):
    return _trained(name).policy


@pytest.fixture(scope="module")
def tight():
    with pytest.warns(UserWarning, match="selling out can cost"):
        return TIGHT.train().policy


def _random_questions(n, seed=0):
    """Stage, belief and holdings of wealth 1 to 100 for `NAMED`."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        amounts = rng.dirichlet(np.ones(3)) * rng.uniform(1.0, 100.0)
        yield int(rng.integers(3)), rng.dirichlet(np.ones(3)), amounts


def _same(one, other):
    """Whether two decisions agree bit for bit."""
    for name in ("trades", "holdings", "weights", "marginal_value"):
        pd.testing.assert_series_equal(getattr(one, name), getattr(other, name), check_exact=True)
    assert (one.cost, one.cvar, one.value) == (other.cost, other.cvar, other.value)


# --- regimes and beliefs -------------------------------------------------------------------------


def test_a_regime_is_named_counted_or_believed_with_certainty():
    policy = _policy("named")
    for stage, _, amounts in _random_questions(6):
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
                _same(policy.decide(stage=stage, regime=regime, holdings=holdings), first)


def test_a_nearly_certain_belief_decides_nearly_alike():
    """Probability 1e-12 elsewhere sends the question the other way through the package."""
    policy = _policy("named")
    for stage, _, amounts in _random_questions(6, seed=1):
        holdings, wealth = NAMED.as_holdings(amounts), amounts.sum()
        for k in range(3):
            belief = np.full(3, 1e-12)
            belief[k] = 1.0 - 2e-12
            known = policy.decide(stage=stage, regime=k, holdings=holdings)
            nearly = policy.decide(stage=stage, regime=belief, holdings=holdings)
            np.testing.assert_allclose(nearly.holdings, known.holdings, atol=1e-6 * wealth)
            assert nearly.value == pytest.approx(known.value, rel=1e-9)
            assert nearly.cvar == pytest.approx(known.cvar, abs=1e-8)


@pytest.mark.parametrize("cvar", ["lazy", "explicit"])
def test_a_belief_in_the_last_stage_is_one_linear_programme(cvar):
    """Objective and CVaR under the mixture's weights: `solve_tree` builds that LP by hand."""
    case = replace(NAMED, limit=0.009)
    policy = case.train(cvar=cvar).policy
    bound_by_risk = 0
    for _, belief, amounts in _random_questions(10, seed=2):
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
    policy = _policy("named")
    belief = np.array([0.4, 0.2, 0.4])
    decision = policy.decide(stage=2, regime=belief, holdings={"gold": 0.5, "stocks": 0.5})
    single = [
        one_period_cvar(NAMED, 2, unit, [0.0, 0.5, 0.5], decision.holdings, decision.cost)
        for unit in np.eye(3)
    ]
    assert abs(decision.cvar - belief @ single) > 1e-4


def test_a_belief_that_misses_one_by_rounding_is_normalised():
    policy, belief = _policy("named"), np.array([0.4, 0.2, 0.4])
    exact = policy.decide(stage=2, regime=belief, holdings={"cash": 1.0})
    rounded = policy.decide(stage=2, regime=belief * (1.0 + 5e-7), holdings={"cash": 1.0})
    assert rounded.value == pytest.approx(exact.value, rel=1e-12)
    assert rounded.cvar == pytest.approx(exact.cvar, abs=1e-12)


def test_a_belief_before_later_stages_uses_their_converged_values():
    """Two stages from the end the cuts near the start's decisions are converged."""
    case = replace(varying_case(1, K=2, T=2), limit=0.03)
    policy = case.train(stopping=CONVERGED).policy
    for belief in ([0.5, 0.5], [0.9, 0.1]):
        exact = solve_tree(case, belief=belief)
        decision = policy.decide(regime=belief, holdings=case.as_holdings(case.holdings))
        assert decision.value >= exact.value - 1e-9  # cuts are optimistic
        assert decision.value == pytest.approx(exact.value, abs=1e-6)


def test_a_belief_respects_a_nested_risk_measure():
    case = random_case(5, T=2, limit=0.05)
    policy = case.train(stopping=CONVERGED, risk=CVaR(confidence=0.4)).policy
    belief = [0.3, 0.7]
    exact = solve_tree(case, stage=1, belief=belief, risk=((1.0, 0.6),))
    decision = policy.decide(stage=1, regime=belief, holdings=case.as_holdings(case.holdings))
    assert decision.value == pytest.approx(exact.value, abs=1e-9)


# --- what a decision says ------------------------------------------------------------------------


def test_a_decision_balances_to_the_last_unit():
    policy, bound_by_risk = _policy("named"), 0
    for stage, belief, amounts in _random_questions(12, seed=3):
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
    for stage, _, amounts in _random_questions(4, seed=4):
        holdings = case.as_holdings(amounts)
        decision = policy.decide(stage=stage, regime=0, holdings=holdings)
        raw = policy.engine.decide((stage, 0), {"holdings": holdings}).variables
        for name in ("gold", "stocks"):
            net = raw[f"purchases[{name}]"] - raw[f"sales[{name}]"]
            assert decision.trades[name] == pytest.approx(net, abs=1e-9 * amounts.sum())
        assert decision.cost == 0.0
        assert decision.holdings.sum() == pytest.approx(amounts.sum(), rel=1e-12)


def test_positions_left_out_are_empty():
    policy = _policy("named")
    full = policy.decide(regime=0, holdings={"cash": 0.0, "gold": 2.0, "stocks": 0.0})
    _same(policy.decide(regime=0, holdings={"gold": 2.0}), full)


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
        _same(policy.decide(**question), before)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"stage": 3}, r"stage = 3 is outside 0\.\.2"),
        ({"stage": -1}, r"stage = -1 is outside 0\.\.2"),
        ({"holdings": {"silver": 1.0}}, r"holdings name 'silver'; positions are \['cash', 'gold'"),
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
        ({"regime": [1.5, -0.5, 0.0]}, r"holds a number that is no probability"),
        ({"regime": [np.nan, 0.5, 0.5]}, r"holds a number that is no probability"),
    ],
    ids=lambda value: repr(value) if isinstance(value, dict) else "",
)
def test_a_question_that_makes_no_sense_is_refused_with_words(question, words):
    """`decide` documents `ModelError` for all of these; the next call works."""
    policy = _policy("named")
    sound = {"stage": 1, "regime": 0, "holdings": {"cash": 1.0}}
    before = policy.decide(**sound)
    with pytest.raises(ModelError, match=words):
        policy.decide(**{**sound, **question})
    _same(policy.decide(**sound), before)


@pytest.mark.parametrize(
    ("stage", "regime"),
    [(1, 1), (1, "state2"), (2, 2), (1, [0.5, 0.2, 0.3])],
    ids=["by number", "by name", "last stage", "belief"],
)
def test_a_state_that_may_be_neither_kept_nor_sold_is_infeasible(tight, stage, regime):
    """All in the first asset: keeping breaks the limit, and so does selling at 1 %.

    Selling everything loses 1 % where 0.4 % is allowed: 0.6 % of wealth short.
    """
    asset = {"asset1": 5.0}
    words = rf"stage {stage}, regime {re_escape(repr(regime))}: .*missed by 0\.006"
    with pytest.raises(InfeasibleState, match=words):
        tight.decide(stage=stage, regime=regime, holdings=asset)
    cash = tight.decide(stage=stage, regime=regime, holdings={"cash": 5.0})
    assert cash.cvar <= TIGHT.limit + 1e-8


def re_escape(text):
    return text.replace("[", r"\[").replace("]", r"\]")


def test_from_states_that_simulation_meets_a_decision_always_exists(tight):
    table = tight.simulate(50, rng=np.random.default_rng(0))
    assert len(table) == 50 * 4


@pytest.mark.parametrize("n_paths", [0, -3])
def test_a_simulation_of_no_path_is_refused(n_paths):
    with pytest.raises(ModelError, match=rf"n_paths = {n_paths}; simulate at least one path"):
        _policy("tiny").simulate(n_paths, rng=np.random.default_rng(0))


# --- simulation ------------------------------------------------------------------------------


def test_a_simulation_is_a_labelled_table():
    table = _policy("named").simulate(3, rng=np.random.default_rng(1))
    assert list(table.columns) == [
        "regime",
        "wealth",
        "cost",
        "holdings[cash]",
        "holdings[gold]",
        "holdings[stocks]",
    ]
    assert table.index.names == ["path", "stage"]
    assert list(table.index) == [(path, stage) for path in range(3) for stage in range(4)]
    assert set(table["regime"]) <= {"calm", "usual", "storm"}
    assert not table.isna().any(axis=None)


def test_equal_random_states_give_equal_tables():
    policy = _policy("named")
    one, again, other = (policy.simulate(20, rng=np.random.default_rng(s)) for s in (4, 4, 5))
    pd.testing.assert_frame_equal(one, again, check_exact=True)
    assert not one["wealth"].equals(other["wealth"])
    rng = np.random.default_rng(4)
    pd.testing.assert_frame_equal(
        policy.simulate(20, rng=rng).loc[:9], policy.simulate(10, rng=np.random.default_rng(4))
    )


def _steps(table, case):
    """Consecutive rows of each path with the scenario that explains the wealth between them."""
    held = [f"holdings[{p}]" for p in case.positions]
    names = list(case.scenarios.state_names)
    for _, path in table.groupby(level="path"):
        for stage in range(case.n_stages):
            now, then = path.iloc[stage], path.iloc[stage + 1]
            after = now[held].to_numpy(dtype=float)
            j = names.index(then["regime"])
            period = case.all_returns[stage, j]
            gross = 1.0 + np.column_stack([np.full(len(period), case.cash[stage]), period])
            arriving = gross * after
            misses = np.abs(arriving.sum(axis=1) - then["wealth"])
            yield stage, now, then, after, j, int(misses.argmin()), arriving, misses.min()


def test_wealth_follows_from_holdings_and_returns():
    table = _policy("named").simulate(40, rng=np.random.default_rng(2))
    held = [f"holdings[{p}]" for p in NAMED.positions]
    regimes = set()
    for stage, now, then, after, j, s, arriving, miss in _steps(table, NAMED):
        assert miss <= 1e-12
        assert now["wealth"] - now["cost"] == pytest.approx(after.sum(), rel=1e-10)
        assert now["cost"] >= 0.0
        regimes.add((stage, j))
        if stage == NAMED.n_stages - 1:
            assert then["cost"] == 0.0
            np.testing.assert_allclose(then[held].to_numpy(dtype=float), arriving[s], rtol=1e-12)
    assert len(regimes) == 9
    first = table.xs(0, level="stage")
    assert (first["regime"] == "calm").all()
    np.testing.assert_allclose(first["wealth"], sum(NAMED.holdings), rtol=1e-14)


def test_every_simulated_decision_is_the_one_decided():
    policy = _policy("named")
    table = policy.simulate(6, rng=np.random.default_rng(3))
    arriving = np.asarray(NAMED.holdings)
    for stage, now, _, after, _, s, arrived, _ in _steps(table, NAMED):
        if stage == 0:
            arriving = np.asarray(NAMED.holdings)
        decision = policy.decide(
            stage=stage, regime=now["regime"], holdings=NAMED.as_holdings(arriving)
        )
        np.testing.assert_allclose(decision.holdings, after, atol=1e-9)
        assert decision.cost == pytest.approx(now["cost"], abs=1e-9)
        arriving = arrived[s]


def test_regimes_and_scenarios_are_drawn_with_their_probabilities():
    """Joint frequencies of the first step within 4.5 standard errors of P p, 9 outcomes."""
    n_paths = 900
    policy = NAMED.train(stopping=Iterations(2)).policy
    table = policy.simulate(n_paths, rng=np.random.default_rng(6))
    counts = np.zeros((3, 3))
    for stage, _, _, _, j, s, _, _ in _steps(table, NAMED):
        if stage == 0:
            counts[j, s] += 1
    expected = NAMED.all_transitions[0, 0][:, None] * NAMED.all_probabilities[0]
    error = np.sqrt(expected * (1.0 - expected) / n_paths)
    assert (np.abs(counts / n_paths - expected) <= 4.5 * error).all()


def test_the_simulated_mean_agrees_with_enumeration():
    """The whole tree of `tiny` has 7 decisions and 36 ends; the policy is asked at each."""
    result = _trained("tiny")
    exact = enumerated_policy_value(TINY, result.policy)
    assert exact == pytest.approx(1.0064683729632389, abs=1e-9)
    assert exact <= result.bound + 1e-9
    wealth = result.policy.simulate(600, rng=np.random.default_rng(7))
    ends = wealth.xs(TINY.n_stages, level="stage")["wealth"]
    error = ends.std(ddof=1) / np.sqrt(len(ends))
    assert abs(ends.mean() - exact) <= 4.0 * error
    spread = _exact_standard_deviation(result.policy)
    assert ends.std(ddof=1) == pytest.approx(spread, rel=0.15)


def _exact_standard_deviation(policy):
    """Of terminal wealth in `tiny`, over its 36 ends."""
    ends, masses = [], []

    def follow(stage, regime, amounts, mass):
        if stage == TINY.n_stages:
            ends.append(amounts.sum())
            masses.append(mass)
            return
        decision = policy.decide(stage=stage, regime=regime, holdings=TINY.as_holdings(amounts))
        for j, p, r in zip(*outcomes(TINY, stage, np.eye(2)[regime]), strict=True):
            follow(stage + 1, int(j), decision.holdings * np.array([1.0, *(1.0 + r)]), mass * p)

    follow(0, TINY.regime, np.array(TINY.holdings), 1.0)
    mean = np.dot(masses, ends)
    return np.sqrt(np.dot(masses, (np.array(ends) - mean) ** 2))


def test_a_liquidated_simulation_ends_in_money():
    case = replace(TINY, terminal_value="liquidated", limit=0.05)
    policy = case.train().policy
    table = policy.simulate(30, rng=np.random.default_rng(8))
    last = table.xs(case.n_stages, level="stage")
    arrived = last[[f"holdings[{p}]" for p in case.positions]].to_numpy()
    np.testing.assert_allclose(last["wealth"], arrived @ case.keeps, rtol=1e-12)
    assert (last["wealth"] < arrived.sum(axis=1)).any()


# --- files -----------------------------------------------------------------------------------

_LOADER = """
import json, sys
from sddp.allocation.policy import load_allocation_policy
from tests.allocation.test_policy import NAMED, digits
policy = load_allocation_policy(sys.argv[1], NAMED.problem())
print(json.dumps(digits(policy)))
"""


def digits(policy):
    """All bits of a policy's answers: decisions, beliefs, bound and a simulation."""
    answers = [policy.bound.hex()]
    for stage, belief, amounts in _random_questions(4, seed=11):
        for regime in (1, belief):
            decision = policy.decide(
                stage=stage, regime=regime, holdings=NAMED.as_holdings(amounts)
            )
            numbers = [*decision.holdings, *decision.marginal_value, decision.value, decision.cvar]
            answers.extend(float(number).hex() for number in numbers)
    table = policy.simulate(3, rng=np.random.default_rng(12))
    return answers + [float(number).hex() for number in table["wealth"]]


def test_a_saved_policy_decides_bit_for_bit_in_a_new_process(tmp_path):
    policy, path = _policy("named"), tmp_path / "policy.json"
    policy.save(path)
    found = subprocess.run(
        [sys.executable, "-c", _LOADER, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == digits(policy)


def test_feasibility_cuts_and_measures_survive_a_file(tight, tmp_path):
    tight.save(tmp_path / "tight.json")
    with pytest.warns(UserWarning, match="selling out can cost"):
        problem = TIGHT.problem()
    loaded = load_allocation_policy(tmp_path / "tight.json", problem)
    asked = {"stage": 0, "regime": 0, "holdings": {"cash": 3.0}}
    _same(loaded.decide(**asked), tight.decide(**asked))
    assert loaded.bound == tight.bound
    for node, memory in tight.engine.snapshot.nodes.items():
        again = loaded.engine.snapshot.nodes[node]
        for cuts, same in zip(
            (*memory.pools, memory.feasibility), (*again.pools, again.feasibility), strict=True
        ):
            np.testing.assert_array_equal(same.slopes, cuts.slopes)
            np.testing.assert_array_equal(same.intercepts, cuts.intercepts)
    found = [len(memory.feasibility.slopes) for memory in tight.engine.snapshot.nodes.values()]
    assert sum(found) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"limit": 0.021},
        {"confidence": 0.85},
        {"cost": (0.002, 0.0061)},
        {"sale_cost": (0.008, 0.0011)},
        {"cash_return": (0.001, 0.001, 0.001)},
        {"caps": 0.9},
        {"penalty": 1.0},
        {"terminal_value": "liquidated"},
        {"returns": varying_case(1, K=3).returns},
        {"transition": varying_case(1, K=3).transition},
        {"probabilities": varying_case(1, K=3).probabilities},
        {"regime": 1},
        {"names": {"asset_names": ("gold", "shares")}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_file_of_another_problem_is_refused(change, tmp_path):
    policy, path = _policy("named"), tmp_path / "policy.json"
    policy.save(path)
    with pytest.raises(PolicyFileError, match=r"policy\.json belongs to another problem"):
        load_allocation_policy(path, replace(NAMED, **change).problem())
    loaded = load_allocation_policy(path, NAMED.problem())
    assert loaded.bound == policy.bound


@pytest.mark.parametrize(
    "change",
    [{"returns": varying_case(1, K=3).returns}, {"cash_return": (0.001, 0.001, 0.001)}],
    ids=lambda change: next(iter(change)),
)
def test_a_file_of_other_returns_is_refused_without_a_limit_too(change, tmp_path):
    """Without a limit nothing but the way from stage to stage holds the returns."""
    case, path = replace(NAMED, limit=None), tmp_path / "policy.json"
    case.train(stopping=Iterations(2)).policy.save(path)
    with pytest.raises(PolicyFileError, match=r"policy\.json belongs to another problem"):
        load_allocation_policy(path, replace(case, **change).problem())


def test_a_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "policy.json"
    with pytest.raises(PolicyFileError, match="cannot be read as a policy file"):
        load_allocation_policy(path, TINY.problem())
    path.write_text('{"format": "something else"}')
    with pytest.raises(PolicyFileError, match="is no sddp-policy file"):
        load_allocation_policy(path, TINY.problem())


# --- training on -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"cuts": MultiCut()}, {"risk": CVaR(0.3)}], ids=repr)
def test_training_goes_on_where_it_stopped(options):
    case = varying_case(3, N=3, caps=0.5)
    short = case.train(stopping=Iterations(1), **options)
    before = short.bound
    on = case.train(start=short.policy, stopping=CONVERGED, seed=2)
    afresh = case.train(stopping=CONVERGED, **options)
    assert on.bound == pytest.approx(afresh.bound, abs=1e-9)
    assert on.bound < before - 1e-6  # there was something left to learn
    assert on.log["bound"].iloc[0] <= before + 1e-9
    assert short.policy.bound == before  # the earlier policy stays as it was
    assert on.stopped_because == "bound stalled"


def test_a_start_from_another_problem_is_refused():
    start = _policy("tiny2")
    with pytest.raises(ModelError, match="start was trained on another problem"):
        replace(TINY2, limit=0.06).train(start=start)
    with pytest.raises(ModelError, match="leave them out"):
        TINY2.train(start=start, cuts=MultiCut())
    with pytest.raises(ModelError, match="leave them out"):
        TINY2.train(start=start, risk=CVaR(0.5))


def test_the_result_of_training_is_in_money():
    case = replace(TINY, holdings=[2e6, 0.0, 0.0])
    result = case.train(stopping=Iterations(4))
    assert list(result.log.index) == [1, 2, 3, 4]
    assert result.log.index.name == "iteration"
    assert {"bound", "simulated", "seconds", "solves"} <= set(result.log.columns)
    assert result.bound == result.policy.bound
    assert result.log["bound"].iloc[-1] == pytest.approx(result.bound, rel=1e-9)
    assert result.log["simulated"].between(1.5e6, 2.5e6).all()
    assert result.stopped_because == "iteration limit"


def test_the_same_seed_trains_the_same_policy():
    one, again = (NAMED.train(seed=9, stopping=Iterations(6)) for _ in range(2))
    np.testing.assert_array_equal(one.log["bound"], again.log["bound"])
    asked = {"regime": [0.2, 0.3, 0.5], "holdings": {"cash": 1.0}}
    _same(one.policy.decide(**asked), again.policy.decide(**asked))


def test_an_unknown_way_to_write_the_limit_is_refused():
    with pytest.raises(ModelError, match="cvar = 'fast'; give 'lazy' or 'explicit'"):
        TINY.train(cvar="fast")
    with pytest.raises(SddpError, match=r"regime 'x' is unknown; known are \['state1'"):
        replace(TINY, regime="x").train()
