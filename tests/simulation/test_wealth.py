"""Wealth under a law: against the backtest's step, path by path, and in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest.strategies import EqualWeight, EveryPeriods
from sddp.backtest.trading import TransactionCosts, execute, requested_trades, wealth_after_costs
from sddp.errors import DataError, ModelError
from sddp.simulation import (
    CallableLaw,
    FixedWeights,
    NormalLaw,
    StudentLaw,
    simulate_policy,
    simulate_portfolio,
    simulate_strategy,
)

LAW = NormalLaw(
    mean=pd.Series({"a": 0.002, "b": 0.001, "c": 0.0}),
    covariance=np.diag([0.04, 0.02, 0.001]) ** 2,
    returns="simple",
)
WEIGHTS = {"a": 0.5, "b": 0.3}
COSTS = ({"a": 0.001, "b": 0.01, "c": 0.0005}, 0.002)
RULES = {
    "hold": FixedWeights(WEIGHTS),
    "constant mix": FixedWeights(WEIGHTS, every=1),
    "every third": FixedWeights(WEIGHTS, every=3),
    "absolute": FixedWeights(WEIGHTS, threshold=0.02),
    "relative": FixedWeights(WEIGHTS, threshold=0.05, relative=True),
    "both": FixedWeights(WEIGHTS, every=2, threshold=0.01),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("held", [None, {"cash": 0.4, "b": 1.0, "c": 0.1}], ids=["cash", "held"])
@pytest.mark.parametrize("n", [8, pytest.param(50, marks=pytest.mark.long)])
def test_many_at_once_are_the_backtests_own_steps(rule, held, n):
    options = {
        "n_scenarios": n,
        "n_periods": 12,
        "rng": 7,
        "transaction_cost": COSTS,
        "initial_holdings": held,
        "cash_return": 0.0003,
    }
    fast = simulate_portfolio(rule, LAW, paths=True, **options)
    trigger = EveryPeriods(rule.period or 1)
    slow = simulate_strategy(rule, LAW, rebalance=trigger, **options)
    np.testing.assert_allclose(fast.paths, slow.paths, rtol=1e-12)
    np.testing.assert_allclose(fast.costs, slow.costs, atol=1e-12)
    assert fast.costs.max() > 0.0 or held is not None
    np.testing.assert_array_equal(fast.paths[:, -1], fast.terminal)
    assert fast.initial == (1.0 if held is None else 1.5)


def test_rules_trade_when_they_say():
    cost = {
        name: simulate_portfolio(
            rule, LAW, n_scenarios=200, n_periods=12, rng=1, transaction_cost=0.01
        ).costs.mean()
        for name, rule in RULES.items()
    }
    assert cost["hold"] == pytest.approx(0.8 * 0.01 / 1.008, rel=1e-12)
    assert cost["hold"] < cost["absolute"] < cost["constant mix"]
    assert cost["hold"] < cost["every third"] < cost["constant mix"]


def test_gains_by_position_add_up():
    result = simulate_portfolio(
        RULES["absolute"],
        LAW,
        n_scenarios=300,
        n_periods=10,
        rng=3,
        transaction_cost=COSTS,
        cash_return=0.001,
        gains=True,
    )
    np.testing.assert_allclose(result.gains.sum(axis=1), result.terminal - 1.0, atol=1e-13)
    assert (result.gains[:, 0] > 0.0).all()
    # Building costs by asset are charged to the asset.
    still = CallableLaw(lambda n, t, rng: np.zeros((n, t, 3)), LAW.names)
    built = simulate_portfolio(
        RULES["hold"], still, n_scenarios=1, n_periods=1, rng=1, transaction_cost=COSTS, gains=True
    )
    bought = np.array([0.5, 0.3, 0.0]) * built.terminal[0]
    np.testing.assert_allclose(built.gains[0], [0.0, *(-bought * [0.001, 0.01, 0.0005])])


@pytest.mark.parametrize(
    "law",
    [
        LAW,
        StudentLaw(
            mean=np.zeros(3),
            covariance=np.eye(3) * 1e-4,
            degrees_of_freedom=4,
            returns="log",
            sampling="sobol",
            asset_names=["a", "b", "c"],
        ),
    ],
    ids=["normal", "sobol student"],
)
def test_the_numbers_do_not_depend_on_the_number_of_workers(law, monkeypatch):
    monkeypatch.setattr("sddp.simulation.laws.BLOCK_NUMBERS", 256)
    options = {"n_periods": 6, "rng": 5, "transaction_cost": 0.003, "paths": True, "gains": True}
    one, two, more = (
        simulate_portfolio(RULES["relative"], law, n_scenarios=n, n_jobs=j, **options)
        for n, j in ((101, 1), (101, 2), (150, 3))
    )
    for name in ("terminal", "costs", "paths", "gains"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(getattr(one, name), getattr(more, name)[:101])


@pytest.mark.long
def test_strategies_in_processes_and_after_an_interruption(tmp_path, monkeypatch):
    options = {"n_scenarios": 20, "n_periods": 3, "rng": 5, "transaction_cost": 0.003}
    plain = simulate_strategy(EqualWeight(), LAW, **options)
    from sddp.simulation import strategies

    calls, follow = [], strategies._follow

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return follow(*arguments)

    interrupted.__qualname__, interrupted.__module__ = follow.__qualname__, follow.__module__
    interrupted.__name__ = follow.__name__
    monkeypatch.setattr(strategies, "_follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate_strategy(EqualWeight(), LAW, folder=tmp_path, **options)
    assert len(calls) == 3
    resumed = simulate_strategy(EqualWeight(), LAW, folder=tmp_path, **options)
    assert len(calls) == 4  # two tasks were kept, the third is done now
    np.testing.assert_array_equal(resumed.paths, plain.paths)


@pytest.mark.long
def test_strategies_have_the_same_numbers_in_two_processes():
    options = {"n_scenarios": 20, "n_periods": 3, "rng": 5, "transaction_cost": 0.003}
    one, two = (simulate_strategy(EqualWeight(), LAW, n_jobs=j, **options) for j in (1, 2))
    np.testing.assert_array_equal(one.paths, two.paths)


def test_a_strategy_sees_history_and_nothing_after():
    seen = []

    class Watch:
        def decide(self, view, holdings):
            seen.append((len(view.returns), float(view.returns.iloc[-1, 0])))
            return {"a": 1.0}

    history = pd.DataFrame(
        0.01, index=pd.date_range("2020-01-01", periods=5), columns=list(LAW.names)
    )
    watch = Watch()
    result = simulate_strategy(watch, LAW, n_scenarios=1, n_periods=3, rng=2, history=history)
    path = next(LAW.sample(1, 3, rng=2))[0, :, 0]
    assert [n for n, _ in seen] == [5, 6, 7]
    np.testing.assert_allclose([r for _, r in seen], [0.01, *path[:2]])
    np.testing.assert_allclose(result.terminal[0], np.prod(1.0 + path), rtol=1e-12)
    with pytest.raises(DataError, match="history has columns"):
        simulate_strategy(
            watch, LAW, n_scenarios=1, n_periods=3, rng=2, history=history[["a", "b"]]
        )


def test_a_trained_policy_follows_itself():
    class Policy:
        def simulate(self, n_paths, *, rng):
            index = pd.MultiIndex.from_product([range(n_paths), range(3)], names=["path", "stage"])
            wealth = 1.0 + 0.1 * index.get_level_values("stage").to_numpy()
            return pd.DataFrame({"wealth": wealth, "cost": 0.01}, index=index)

    result = simulate_policy(Policy(), n_scenarios=4, rng=1)
    np.testing.assert_allclose(result.returns, 0.2)
    np.testing.assert_allclose(result.costs, 0.03)


def test_a_holding_is_never_worth_less_than_nothing():
    def crash(n, t, rng):
        returns = np.zeros((n, t, 1))
        returns[:, 0], returns[:, 1] = -1.5, -3.0
        return returns

    law = CallableLaw(crash, ["a"])
    options = {"n_scenarios": 3, "n_periods": 2, "rng": 1}
    for rule in (FixedWeights({"a": 0.5}), FixedWeights({"a": 0.5}, every=5)):
        result = simulate_portfolio(rule, law, **options)
        np.testing.assert_allclose(result.terminal, 0.5)
        assert result.n_floored == 6
    slow = simulate_strategy(FixedWeights({"a": 0.5}), law, rebalance=EveryPeriods(5), **options)
    np.testing.assert_allclose(slow.terminal, 0.5)


def test_trading_many_portfolios_is_trading_each():
    rng = np.random.default_rng(3)
    costs = TransactionCosts(rng.uniform(0, 0.02, 4), rng.uniform(0, 0.02, 4))
    held, weights = rng.dirichlet(np.ones(5), 30), rng.dirichlet(np.ones(5), 30)
    quoted = np.array([True, False, True, True])
    for target in (weights[0], weights):
        each = [target] * 30 if target.ndim == 1 else target
        left = wealth_after_costs(held, target, costs)
        requested = requested_trades(held, target, costs)
        done = execute(held, requested, costs, quoted)
        for k in range(30):
            assert left[k] == pytest.approx(wealth_after_costs(held[k], each[k], costs), rel=1e-15)
            one = execute(held[k], requested_trades(held[k], each[k], costs), costs, quoted)
            for mine, theirs in zip(one, done, strict=True):
                np.testing.assert_allclose(mine, theirs[k], atol=1e-15)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: FixedWeights({"a": 0.7, "b": 0.4}), "sum to 1.1"),
        (lambda: FixedWeights({"a": -0.1}), "weight of 'a' is -0.1"),
        (lambda: FixedWeights({"a": 1.0}, every=0), "every=0: must be"),
        (lambda: FixedWeights({"a": 1.0}, threshold=-1.0), "threshold=-1.0: must be"),
        (lambda: run(FixedWeights({"gold": 1.0})), "unknown assets \\['gold'\\]"),
        (lambda: run(RULES["hold"], initial_holdings={"a": -1.0}), "must be money of 0 or more"),
        (lambda: run(RULES["hold"], initial_holdings={}), "must be money of 0 or more"),
        (lambda: run(RULES["hold"], n_scenarios=0), "n_scenarios=0"),
        (lambda: run(RULES["hold"], n_jobs=0), "n_jobs=0"),
        (lambda: run(RULES["hold"], cash_return=np.nan), "cash_return=nan: must be"),
        (lambda: run(RULES["hold"], cash_return=-1.0), "cash_return=-1.0: must be"),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises((DataError, ModelError), match=words):
        act()


def run(rule, **options):
    return simulate_portfolio(rule, LAW, **({"n_scenarios": 2, "n_periods": 1, "rng": 1} | options))
