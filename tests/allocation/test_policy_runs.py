"""Following a policy along paths, keeping it in a file, and training it further.

Oracles: the accounting of wealth from holdings and returns, enumeration of the whole tree, the
probabilities themselves, a second process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp import AllocationModel, CVaR, Iterations, MarkovScenarios, MultiCut, train_allocation
from sddp.allocation.policy import AllocationPolicy, load_allocation_policy
from sddp.errors import ModelError, PolicyFileError, SddpError
from tests.allocation.asking import NAMED, TIGHT, assert_same, converged, digits
from tests.allocation.oracles import enumerated_policy_value, outcomes
from tests.allocation.problems import TINY, TINY2, varying_case
from tests.tickers import LABELS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("n_paths", [0, -3])
def test_a_simulation_of_no_path_is_rejected(n_paths):
    with pytest.raises(ModelError, match=rf"n_paths = {n_paths}; simulate at least one path"):
        converged("tiny").simulate(n_paths, rng=np.random.default_rng(0))


# --- simulation ------------------------------------------------------------------------------


def test_a_simulation_is_a_labeled_table():
    table = converged("named").simulate(3, rng=np.random.default_rng(1))
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
    policy = converged("named")
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
    table = converged("named").simulate(40, rng=np.random.default_rng(2))
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
    policy = converged("named")
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


@pytest.mark.long
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


@pytest.mark.long
def test_the_simulated_mean_agrees_with_enumeration():
    """The whole tree of `tiny` has 7 decisions and 36 ends; the policy is asked at each."""
    policy = converged("tiny")
    exact = enumerated_policy_value(TINY, policy)
    assert exact == pytest.approx(1.0064683729632389, abs=1e-9)
    assert exact <= policy.bound + 1e-9
    wealth = policy.simulate(600, rng=np.random.default_rng(7))
    ends = wealth.xs(TINY.n_stages, level="stage")["wealth"]
    error = ends.std(ddof=1) / np.sqrt(len(ends))
    assert abs(ends.mean() - exact) <= 4.0 * error
    spread = _exact_standard_deviation(policy)
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
from tests.allocation.asking import NAMED, digits
for problem in (NAMED.problem(), None):
    print(json.dumps(digits(load_allocation_policy(sys.argv[1], problem))))
"""


@pytest.mark.long
def test_a_saved_policy_decides_bit_for_bit_in_a_new_process(tmp_path):
    policy, path = converged("named"), tmp_path / "policy.json"
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
    expected = digits(policy)
    assert [json.loads(line) for line in found.stdout.splitlines()] == [expected, expected]


@pytest.mark.parametrize("name", ["named", "stationary"])
def test_a_file_opens_by_itself(name, tmp_path):
    """With its scenarios, names and limits; decisions under beliefs and simulations included."""
    path = tmp_path / "policy.json"
    if name == "named":
        policy = converged("named")
    else:
        rng = np.random.default_rng(3)
        chain = [[0.7, 0.3], [0.15, 0.85]]
        scenarios = MarkovScenarios(rng.normal(0.005, 0.05, (2, 20, 3)), chain, n_stages=3)
        policy = train_allocation(
            AllocationModel(transaction_cost=0.005, cvar_limit=0.05),
            scenarios,
            initial_holdings={"cash": 1.0},
            rng=np.random.default_rng(0),
            stopping=Iterations(12),
            progress=False,
        ).policy
    policy.save(path)
    loaded = AllocationPolicy.load(path)
    scenarios, found = policy.problem.scenarios, loaded.problem.scenarios
    assert found.stationary == scenarios.stationary
    assert (found.asset_names, found.state_names) == (scenarios.asset_names, scenarios.state_names)
    assert found.probabilities.tobytes() == scenarios.probabilities.tobytes()
    assert loaded.problem.model == policy.problem.model
    belief = np.full(scenarios.n_states, 1.0 / scenarios.n_states)
    for regime in (0, belief):
        asked = {"stage": 1, "regime": regime, "holdings": {"cash": 3.0}}
        assert_same(loaded.decide(**asked), policy.decide(**asked))
    tables = [p.simulate(5, rng=np.random.default_rng(0)) for p in (policy, loaded)]
    assert tables[0].equals(tables[1])
    engine = sddp.load_policy(path)
    assert engine.bound == policy.bound
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_labels_of_every_kind_survive_a_file(tmp_path):
    names = tuple(label for k, label in enumerate(LABELS) if not isinstance(label, str) or k < 5)
    returns = np.random.default_rng(0).normal(0.01, 0.05, (1, 10, len(names)))
    scenarios = MarkovScenarios(returns, [[1.0]], asset_names=names, n_stages=2)
    policy = train_allocation(
        AllocationModel(transaction_cost=0.005, cvar_limit=0.05),
        scenarios,
        initial_holdings={"cash": 1.0},
        rng=np.random.default_rng(0),
        stopping=Iterations(2),
        progress=False,
    ).policy
    policy.save(tmp_path / "policy.json")
    loaded = AllocationPolicy.load(tmp_path / "policy.json")
    assert loaded.problem.scenarios.asset_names == names
    assert [*map(type, loaded.problem.scenarios.asset_names)] == [*map(type, names)]
    asked = {"stage": 0, "regime": 0, "holdings": {names[0]: 1.0}}
    assert_same(loaded.decide(**asked), policy.decide(**asked))


def test_a_file_of_the_engine_is_no_allocation_policy(tmp_path):
    path = tmp_path / "policy.json"
    converged("named").engine.save(path)
    with pytest.raises(PolicyFileError, match=r"use sddp\.load_policy"):
        AllocationPolicy.load(path)


def test_other_names_are_another_problem(tmp_path):
    policy, path = converged("named"), tmp_path / "policy.json"
    policy.save(path)
    scenarios = replace(policy.problem.scenarios, state_names=("x", "y", "z"))
    other = replace(policy.problem, scenarios=scenarios)
    with pytest.raises(PolicyFileError, match=r"its state_names are .* the given problem's"):
        load_allocation_policy(path, other)


def test_feasibility_cuts_and_measures_survive_a_file(tmp_path):
    tight = converged("tight")
    tight.save(tmp_path / "tight.json")
    with pytest.warns(UserWarning, match="selling out can cost"):
        problem = TIGHT.problem()
    loaded = load_allocation_policy(tmp_path / "tight.json", problem)
    asked = {"stage": 0, "regime": 0, "holdings": {"cash": 3.0}}
    assert_same(loaded.decide(**asked), tight.decide(**asked))
    assert loaded.bound == tight.bound
    for node, memory in tight.engine.checkpoint.nodes.items():
        again = loaded.engine.checkpoint.nodes[node]
        for cuts, same in zip(
            (*memory.pools, memory.feasibility), (*again.pools, again.feasibility), strict=True
        ):
            np.testing.assert_array_equal(same.slopes, cuts.slopes)
            np.testing.assert_array_equal(same.intercepts, cuts.intercepts)
    found = [len(memory.feasibility.slopes) for memory in tight.engine.checkpoint.nodes.values()]
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
def test_a_file_of_another_problem_is_rejected(change, tmp_path):
    policy, path = converged("named"), tmp_path / "policy.json"
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
def test_a_file_of_other_returns_is_rejected_without_a_limit_too(change, tmp_path):
    """Without a limit nothing but the way from stage to stage holds the returns."""
    case, path = replace(NAMED, limit=None), tmp_path / "policy.json"
    case.train(stopping=Iterations(2)).policy.save(path)
    with pytest.raises(PolicyFileError, match=r"policy\.json belongs to another problem"):
        load_allocation_policy(path, replace(case, **change).problem())


def test_a_file_that_is_none_is_rejected(tmp_path):
    path = tmp_path / "policy.json"
    with pytest.raises(PolicyFileError, match="cannot be read as a policy file"):
        load_allocation_policy(path, TINY.problem())
    path.write_text('{"format": "something else"}')
    with pytest.raises(PolicyFileError, match="is no sddp-policy file"):
        load_allocation_policy(path, TINY.problem())


# --- training on -----------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("options", [{}, {"cuts": MultiCut()}, {"risk": CVaR(0.3)}], ids=repr)
def test_training_goes_on_where_it_stopped(options):
    case = varying_case(3, N=3, caps=0.5)
    short = case.train(stopping=Iterations(1), n_paths=1, **options)
    before = short.bound
    on = case.train(start=short.policy, seed=2)
    afresh = case.train(**options)
    assert on.bound == pytest.approx(afresh.bound, abs=1e-9)
    assert on.bound < before - 1e-7  # there was something left to learn
    assert on.log["bound"].iloc[0] <= before + 1e-9
    assert short.policy.bound == before  # the earlier policy stays as it was
    assert on.stopped_because == "bound stalled; not certified"


def test_training_goes_on_from_the_holdings_of_the_problem_given():
    """Nothing learned depends on first holdings: a policy goes on from tomorrow's."""
    start = converged("tiny")
    other = replace(TINY, holdings=tuple(2.0 * h + 0.1 for h in TINY.holdings))
    on, afresh = other.train(start=start), other.train()
    assert on.bound == pytest.approx(afresh.bound, rel=1e-9)
    assert on.policy.bound == on.bound
    assert on.log["bound"].iloc[0] == pytest.approx(afresh.bound, rel=1e-9)


def test_a_start_from_another_problem_is_rejected():
    start = converged("tiny2")
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
    assert_same(one.policy.decide(**asked), again.policy.decide(**asked))


def test_an_unknown_way_to_write_the_limit_is_rejected():
    with pytest.raises(ModelError, match="cvar = 'fast'; give 'lazy' or 'explicit'"):
        TINY.train(cvar="fast")
    with pytest.raises(SddpError, match=r"regime 'x' is unknown; known are \['state1'"):
        replace(TINY, regime="x").train()
