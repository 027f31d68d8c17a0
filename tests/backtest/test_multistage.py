"""The multi-stage policy as a strategy: periods, refits, beliefs, and no look-ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq, linprog

from sddp.allocation.model import AllocationModel
from sddp.allocation.one_period import one_period_distribution
from sddp.backtest import (
    EveryPeriods,
    MultistageStrategy,
    OneStageStrategy,
    TrainingCache,
    backtest,
    myopic,
    variants,
)
from sddp.engine.training.stopping import Iterations
from sddp.errors import DataError, InfeasibleProblem, InfeasibleState, ModelError
from sddp.estimation import FitCache, RegimeEstimator
from sddp.estimation.regimes import periods
from sddp.market import Market
from sddp.portfolio import CVaRLimited
from sddp.statistics import GaussianRegimes
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead

LIMIT = 0.006


def small_estimator(**changes) -> RegimeEstimator:
    settings = {
        "seed": 3,
        "window": 12,
        "regimes": GaussianRegimes(n_states=1, n_starts=1, min_count=5),
        "n_scenarios": 20,
    }
    return RegimeEstimator(**(settings | changes))


def small_strategy(**changes) -> MultistageStrategy:
    settings = {
        "model": AllocationModel(transaction_cost=0.002, cvar_limit=LIMIT),
        "seed": 3,
        "n_stages": 2,
        "estimator": small_estimator(),
        "stopping": Iterations(2),
        "refit_every": 5,
    }
    return MultistageStrategy(**(settings | changes))


def two_regime_market(n_rows: int = 260) -> Market:
    """A calm drift up and a wild drift down, 65 rows each in turn."""
    rng = np.random.default_rng(8)
    wild = (np.arange(n_rows) // 65) % 2 == 1
    mean, spread = np.where(wild, -0.004, 0.002), np.where(wild, 0.03, 0.006)
    factor = mean + spread * rng.standard_normal(n_rows)
    noise = 0.002 * rng.standard_normal((n_rows, 2))
    log_returns = factor[:, None] * np.array([1.0, 0.4]) + noise
    dates = pd.bdate_range("2021-01-04", periods=n_rows)
    prices = pd.DataFrame(100.0 * np.exp(log_returns.cumsum(axis=0)), dates, ["bold", "meek"])
    return Market(prices, factors=pd.DataFrame({"market": factor}, dates))


def seeded(seed: int) -> MultistageStrategy:
    return small_strategy(seed=seed, estimator=small_estimator(seed=seed))


def run(strategy: MultistageStrategy, market: Market, n_decisions: int, every: int = 5):
    start = market.dates[-1 - every * n_decisions - 1]
    report = backtest(
        market,
        {"tested": strategy},
        start=start,
        transaction_cost=0.002,
        rebalance=EveryPeriods(every),
    )
    return report, report.strategies["tested"]


def test_periods_are_cut_in_all_ways_with_the_latest_first():
    table = pd.DataFrame({"r": np.arange(1.0, 9.0)}, pd.bdate_range("2021-01-04", periods=8))
    sums, lengths = periods(table, window=7, period=3)
    # Rows 2..8 are the window; ending today: 3+4+5, 6+7+8; one earlier: 2+3+4, 5+6+7; two: 4+5+6.
    assert lengths.tolist() == [2, 2, 1]
    assert sums["r"].tolist() == [12.0, 21.0, 9.0, 18.0, 15.0]
    assert sums.index[1] == table.index[-1]


def test_a_window_longer_than_history_is_rejected_by_name_and_date():
    table = pd.DataFrame({"r": np.ones(5)}, pd.bdate_range("2021-01-04", periods=5))
    with pytest.raises(DataError, match=r"needs 6 rows .* only 5 are known on 2021-01-08"):
        periods(table, window=6, period=1)


def test_an_impossible_window_is_rejected():
    with pytest.raises(ModelError, match="window = 4, period = 5"):
        small_estimator(window=4, period=5)


def test_the_policy_is_trained_anew_on_schedule():
    strategy = small_strategy(refit_every=3)
    _, ran = run(strategy, two_regime_market(), n_decisions=7)
    assert ran.decision_log_table()["refit"].tolist() == [True, False, False] * 2 + [True]
    assert strategy.decision_log == []  # the run works on its own copy


def test_the_risk_limit_holds_in_the_model_and_is_said_to_bind():
    _, ran = run(small_strategy(), two_regime_market(n_rows=195), n_decisions=6)
    decision_log = ran.decision_log_table()
    assert decision_log["limit_binds"].any()
    assert decision_log["model_cvar"].max() <= LIMIT + 1e-9
    binding = decision_log["model_cvar"] >= LIMIT - 1e-6
    assert decision_log["limit_binds"].tolist() == binding.tolist()


def test_beliefs_follow_the_market():
    """195 to 259 are wild rows: the filter must see it on the last decisions."""
    regimes = GaussianRegimes(n_states=2, n_starts=3)
    strategy = small_strategy(estimator=small_estimator(window=120, regimes=regimes))
    _, ran = run(strategy, two_regime_market(), n_decisions=4)
    decision_log = ran.decision_log_table()
    assert (decision_log["regime 2"] > 0.75).all()
    assert (decision_log[["regime 1", "regime 2"]].sum(axis=1) - 1.0).abs().max() < 1e-9


def test_same_seed_same_decisions_and_another_one_differs():
    market = two_regime_market(n_rows=195)  # ends calm: there is something to hold
    weights = [run(seeded(seed), market, 4)[0].weights("tested") for seed in (3, 3, 4)]
    assert weights[0].equals(weights[1])
    assert not weights[0].equals(weights[2])


def test_a_training_is_the_same_whatever_was_trained_before():
    views = [wide_view(row) for row in (180, 190)]
    held = pd.Series([0.4, 0.2, 0.4], ["cash", "bold", "meek"])
    logs = []
    for asked in (views, views[1:]):
        estimator = small_estimator(
            window=120, carry=False, regimes=GaussianRegimes(n_states=2, n_starts=3)
        )
        strategy = small_strategy(
            estimator=estimator, n_stages=4, stopping=Iterations(6), refit_every=1
        )
        for view in asked:
            strategy.decide(view, held)
        logs.append(strategy.result.log[["bound", "simulated"]])
    assert logs[0].equals(logs[1])
    assert logs[0]["simulated"].nunique() > 2  # the paths that are drawn do differ


def test_without_factors_the_assets_have_the_regimes():
    whole = two_regime_market()
    view = whole.at(whole.dates[-1])
    _, ran = run(small_strategy(), Market(view.prices), n_decisions=2)
    assert ran.result.policy.problem.asset_names == ("bold", "meek")


def test_cash_earns_todays_rate_over_a_period():
    market = two_regime_market()
    view = market.at(market.dates[-1])
    market = Market(view.prices, cash_rate=0.0003, factors=view.factors)
    estimator = small_estimator(window=80, period=5)
    _, ran = run(small_strategy(estimator=estimator), market, n_decisions=1)
    cash_return = ran.result.policy.problem.terms.cash_return
    np.testing.assert_allclose(cash_return, 1.0003**5 - 1.0, rtol=1e-14)


# --- variants, against other solvers ---


DEAR = 0.004


def wide_view(row: int = -1):
    """What is known at the end, in the wild regime."""
    market = two_regime_market()
    return market.at(market.dates[row])


def varied(**changes) -> dict[str, MultistageStrategy | OneStageStrategy]:
    regimes = GaussianRegimes(n_states=2, n_starts=3)
    estimator = small_estimator(window=120, regimes=regimes, n_scenarios=25)
    model = AllocationModel(transaction_cost=DEAR, cvar_limit=LIMIT)
    settings = {"model": model, "estimator": estimator, "n_stages": 4, "stopping": Iterations(8)}
    return variants(small_strategy(**(settings | changes)))


def best_one_step(ahead, worth, cost, limit, before, confidence=0.9) -> float:
    """Optimum of the one-step problem by HiGHS through scipy, in Rockafellar and Uryasev's form.

    Variables: cash, holdings u, purchases b, sales d, z, y per outcome.
    """
    n, s = len(before) - 1, len(ahead.probabilities)
    gross = 1.0 + np.column_stack([np.full(s, ahead.cash_return), ahead.returns])
    reward = (ahead.probabilities * worth) @ gross
    tail = ahead.probabilities / (1.0 - confidence)
    one = np.eye(n)
    balance = np.block(
        [
            [
                np.ones((1, 1)),
                np.zeros((1, n)),
                np.full((1, n), 1 + cost),
                np.full((1, n), cost - 1),
            ],
            [np.zeros((n, 1)), one, -one, one],
        ]
    )
    balance = np.hstack([balance, np.zeros((n + 1, 1 + s))])
    risk = np.concatenate([np.zeros(1 + n), np.full(2 * n, cost), [1.0], tail])
    excess = np.hstack(
        [1.0 - gross, np.zeros((s, 2 * n)), -np.ones((s, 1)), -np.eye(s)]
    )  # loss - z - y <= 0
    solved = linprog(
        -np.concatenate([reward, np.zeros(2 * n + 1 + s)]),
        A_ub=np.vstack([risk, excess]),
        b_ub=np.concatenate([[limit * sum(before)], np.zeros(s)]),
        A_eq=balance,
        b_eq=before,
        bounds=[(0, None)] * (1 + 3 * n) + [(None, None)] + [(0, None)] * s,
    )
    assert solved.status == 0
    return -solved.fun


def traded(weights: pd.Series, before: list[float], cost: float) -> np.ndarray:
    """Holdings whose shares are the weights, after paying for the trades."""

    def excess(after: float) -> float:
        return (
            after + cost * np.abs(weights.to_numpy()[1:] * after - before[1:]).sum() - sum(before)
        )

    return weights.to_numpy() * brentq(excess, 0.5 * sum(before), sum(before), xtol=1e-15)


@pytest.mark.parametrize(("before", "row"), [([1.0, 0.0, 0.0], 192), ([0.2, 0.1, 0.5], -1)])
def test_one_step_decisions_are_those_of_a_linear_program(before, row):
    """Myopic: wealth is worth 1. Cost-free future: v_1 in the regime that one arrives in."""
    view, strategies = wide_view(row), varied()
    estimate = strategies["SDDP"].estimator.estimate(view)
    ahead = estimate.one_period_distribution(view)
    v = np.ones(2)
    for _ in range(3):  # three more decisions follow the first, free of cost
        seen = [one_period_distribution(estimate.scenarios, 0, belief, 0.0) for belief in np.eye(2)]
        v = np.array([best_one_step(s, np.repeat(v, 25), 0.0, LIMIT, [1.0, 0, 0]) for s in seen])
    values = {"myopic": np.ones(2), "cost-free future": v, "SDDP": v}
    short = {}
    for name, value in values.items():
        worth = np.repeat(value, 25)
        weights = strategies[name].decide(view, pd.Series(before, ["cash", "bold", "meek"]))
        gross = 1.0 + np.column_stack([np.zeros(50), ahead.returns])
        reached = (ahead.probabilities * worth) @ gross @ traded(weights, before, DEAR)
        short[name] = best_one_step(ahead, worth, DEAR, LIMIT, before) - reached
    assert abs(short["myopic"]) < 1e-8
    assert abs(short["cost-free future"]) < 1e-8
    if row == 192:  # it pays to buy for several periods though not for one
        assert short["SDDP"] > 1e-5
    assert v.max() - v.min() > 1e-4  # or the two would be one policy


def test_the_last_stage_of_a_policy_run_through_is_myopic():
    view, later = (two_regime_market().at(f"2021-12-{day}") for day in (30, 31))
    held = pd.Series([0.4, 0.2, 0.4], ["cash", "bold", "meek"])
    decided = {}
    for name, strategy in varied(n_stages=2, mode="run-through", refit_every=2).items():
        strategy.decide(view, held)
        decided[name] = strategy.decide(later, held)
        if name != "myopic":
            assert [note["stage"] for note in strategy.decision_log] == [0, 1]
    pd.testing.assert_series_equal(decided["SDDP"], decided["myopic"], atol=1e-7, rtol=0.0)
    pd.testing.assert_series_equal(
        decided["cost-free future"], decided["myopic"], atol=1e-7, rtol=0
    )


def test_run_through_counts_the_stages_and_starts_over_with_each_refit():
    market = two_regime_market()
    tables = {}
    for mode in ("receding", "run-through"):
        strategy = small_strategy(mode=mode, n_stages=3, refit_every=3)
        tables[mode] = run(strategy, market, n_decisions=7)[1].decision_log_table()
    assert tables["run-through"]["stage"].tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert tables["receding"]["stage"].tolist() == [0] * 7
    assert tables["receding"]["refit"].equals(tables["run-through"]["refit"])


def test_variants_differ_in_one_ingredient_and_share_the_fits_they_can():
    strategies = varied()
    base = strategies["SDDP"]
    assert strategies["one regime"].estimator.regimes.n_states == 1
    free = strategies["costs ignored"].model
    assert (free.transaction_cost, free.sale_cost, free.cvar_limit) == (0.0, None, LIMIT)
    assert strategies["myopic"].optimizer == CVaRLimited(
        limit=LIMIT, confidence=0.9, transaction_cost=DEAR
    )
    sources = {name: s.forecaster if name == "myopic" else s for name, s in strategies.items()}
    assert len({id(s.estimator.cache) for s in sources.values()}) == 1
    view, held = wide_view(), pd.Series([1.0, 0.0, 0.0], ["cash", "bold", "meek"])
    for strategy in strategies.values():
        strategy.decide(view, held)
    fits = {name: s._rolling.estimate.fit for name, s in sources.items()}
    assert all((fit is fits["SDDP"]) == (name != "one regime") for name, fit in fits.items())
    assert base.decision_log[0]["model_cvar"] <= LIMIT + 1e-9


@pytest.mark.parametrize(
    "terms",
    [
        {"cvar_limit": LIMIT},
        {"cvar_limit": 2.0 * LIMIT, "cvar_limit_scale": 0.5, "cvar_confidence": 0.8},
        {"cvar_limit": LIMIT, "weight_limit": {"meek": 0.2}, "sale_cost": 0.001},
        {"cvar_limit": None},
    ],
)
def test_the_myopic_program_is_the_policy_of_one_stage(terms):
    """The one-period program against the engine's: two codes, the same decisions and forecasts."""
    model = AllocationModel(transaction_cost=DEAR, **terms)
    policy = varied(model=model, n_stages=1)["SDDP"]
    program = myopic(policy)
    view = wide_view()
    for held in ([1.0, 0.0, 0.0], [0.2, 0.1, 0.5]):
        before = pd.Series(held, ["cash", "bold", "meek"])
        decided = [s.decide(view, before) for s in (policy, program)]
        pd.testing.assert_series_equal(*decided, atol=1e-7, rtol=0.0, check_names=False)
    columns = ["model_mean", "model_cvar", "model_var", "cash"]
    tables = [[[n[c] for c in columns] for n in s.decision_log] for s in (policy, program)]
    np.testing.assert_allclose(*tables, atol=1e-7)


@pytest.mark.parametrize(
    "terms", [{"cvar_penalty": 2.0}, {"robustness": 0.01}, {"terminal_value": "liquidated"}]
)
def test_terms_beyond_the_one_period_program_keep_a_policy_of_one_stage(terms):
    model = AllocationModel(transaction_cost=DEAR, cvar_limit=LIMIT, **terms)
    found = myopic(small_strategy(model=model, refit_every=2, mode="run-through"))
    assert isinstance(found, MultistageStrategy)
    assert (found.n_stages, found.mode, found.model) == (1, "receding", model)


@pytest.mark.long
def test_without_costs_the_cost_free_value_function_is_what_training_finds():
    untrained = varied()["costs ignored"]
    trained = replace(untrained, future="trained")
    for mode in ("receding", "run-through"):
        wealth = {}
        for name, strategy in (("untrained", untrained), ("trained", trained)):
            asked = replace(strategy, mode=mode, n_stages=3, refit_every=3)
            report, _ = run(asked, two_regime_market(n_rows=195), n_decisions=7)
            wealth[name] = report.wealth["tested"]
        np.testing.assert_allclose(wealth["untrained"], wealth["trained"], rtol=1e-9)


def test_ignored_costs_are_paid():
    strategy = variants(small_strategy())["costs ignored"]
    report, _ = run(strategy, two_regime_market(n_rows=195), n_decisions=4)
    ledger = report.ledger("tested")
    assert ledger.costs.to_numpy().sum() > 0.0
    np.testing.assert_allclose(ledger.costs, 0.002 * ledger.executed.abs(), rtol=1e-12)


# --- what is written down ---


def test_the_decision_log_holds_the_risk_forecast_of_the_next_period():
    """VaR and CVaR by sorting the outcomes, cost of the trade included, per wealth before it."""
    view, strategy = wide_view(), varied()["SDDP"]
    before = np.array([2.0, 1.0, 5.0])
    weights = strategy.decide(view, pd.Series(before, ["cash", "bold", "meek"]))
    note = strategy.decision_log_table().iloc[0]
    ahead = strategy._rolling.estimate.one_period_distribution(view)
    held = traded(weights, list(before), DEAR)
    losses = 8.0 - held.sum() - ahead.returns @ held[1:]
    order = np.argsort(-losses)
    filled, total = 0.0, 0.0
    for outcome in order:
        share = min(ahead.probabilities[outcome], 0.1 - filled)
        filled, total = filled + share, total + share * losses[outcome]
        if filled >= 0.1 - 1e-15:
            break
    assert note["model_var"] == pytest.approx(losses[outcome] / 8.0, abs=1e-10)
    assert note["model_cvar"] == pytest.approx(total / 0.1 / 8.0, abs=1e-10)
    assert (note["confidence"], note["cvar_limit"]) == (0.9, LIMIT)
    assert note["cash"] == weights["cash"]
    assert note["seconds"] > 0.0
    assert note["failure"] == ""
    assert note["bound"] > 0.99  # from what was held, which costs something to sell


def test_without_a_limit_none_is_written():
    strategy = small_strategy(model=AllocationModel(transaction_cost=0.002))
    strategy.decide(wide_view(), pd.Series([1.0, 0.0, 0.0], ["cash", "bold", "meek"]))
    assert np.isnan(strategy.decision_log[0]["cvar_limit"])
    assert not strategy.decision_log[0]["limit_binds"]


# --- failures ---


def still_market() -> Market:
    """One asset is not moved for 20 rows: windows of 12 inside carry no fit."""
    view = wide_view()
    prices = view.prices.copy()
    prices.iloc[220:240, 1] = prices.iloc[219, 1]
    return Market(prices)


def test_a_failed_refit_names_strategy_and_date_or_keeps_the_last_policy():
    market, words = still_market(), "column 'meek' never changes"
    with pytest.raises(DataError, match=words) as caught:
        run(small_strategy(refit_every=2), market, n_decisions=10)
    assert caught.value.__notes__ == ["(strategy 'tested', 2021-12-02)"]
    kept = small_strategy(refit_every=2, on_failure="keep", mode="run-through")
    _, ran = run(kept, market, n_decisions=10)
    decision_log = ran.decision_log_table()
    failed = decision_log["failure"].str.contains(words)
    assert failed.tolist() == [False] * 6 + [True] + [False] * 3
    assert decision_log["refit"].tolist() == [True, False] * 5
    assert decision_log["stage"].tolist() == [0, 1] * 5
    assert decision_log["bound"].iloc[6] == decision_log["bound"].iloc[5]
    assert decision_log["bound"].iloc[8] != decision_log["bound"].iloc[5]


def test_there_is_nothing_to_keep_at_first():
    with pytest.raises(DataError, match="never changes"):
        run(small_strategy(on_failure="keep"), still_market(), n_decisions=5)


@pytest.mark.filterwarnings("ignore:cvar_limit = 0.0005 is below:sddp.errors.RecourseWarning")
def test_a_refit_that_ends_infeasible_leaves_estimate_and_policy_as_they_were():
    """Cash loses more than the limit on one day, and nothing else loses less."""
    view = wide_view()
    rate = pd.Series(0.0, view.dates)
    rate.iloc[218] = -0.01
    market = Market(view.prices, cash_rate=rate)
    model = AllocationModel(transaction_cost=0.002, cvar_limit=0.0005)
    with pytest.raises(InfeasibleProblem):
        run(small_strategy(model=model, refit_every=2), market, n_decisions=10)
    kept = small_strategy(model=model, on_failure="keep", refit_every=1)
    cash = pd.Series({"cash": 1.0, "bold": 0.0, "meek": 0.0})
    for row, fails in ((217, False), (218, True), (219, False)):
        before, policy = kept._rolling.estimate, kept.policy
        kept.decide(market.at(market.dates[row]), cash)
        assert kept.decision_log[-1]["failure"].startswith("InfeasibleProblem: ") == fails
        assert (kept._rolling.estimate is before) == (kept.policy is policy) == fails
    assert kept._rolling.estimate.start is before.fit


@pytest.mark.filterwarnings("ignore:cvar_limit = 0.001 is below:sddp.errors.RecourseWarning")
def test_where_no_trade_keeps_the_limit_everything_is_sold():
    model = AllocationModel(transaction_cost=0.05, cvar_limit=0.001)
    held = pd.Series([0.0, 1.0, 0.0], ["cash", "bold", "meek"])
    with pytest.raises(InfeasibleState):
        small_strategy(model=model).decide(wide_view(), held)
    strategy = small_strategy(model=model, on_failure="keep")
    assert strategy.decide(wide_view(), held).to_dict() == {"cash": 1.0}
    note = strategy.decision_log_table().iloc[0]
    assert "no decision from this state keeps all constraints" in note["failure"]
    assert np.isnan(note["model_cvar"])
    assert note["limit_binds"]


def start_of(strategy: MultistageStrategy) -> list[float]:
    return strategy.policy.problem.engine.initial_state((0, strategy_regime(strategy))).tolist()


def strategy_regime(strategy: MultistageStrategy) -> int:
    return int(np.argmax(strategy.decision_log[-1]["belief"]))


def test_trainings_start_from_what_is_held_or_from_cash():
    view, held = wide_view(), pd.Series([1.0, 5.0, 4.0], ["cash", "bold", "meek"])
    for start, wanted in (("holdings", [0.1, 0.5, 0.4]), ("cash", [1.0, 0.0, 0.0])):
        strategy = small_strategy(n_stages=3, train_from=start)
        weights = strategy.decide(view, held)
        np.testing.assert_allclose(start_of(strategy), wanted, rtol=1e-12)
        again = small_strategy(n_stages=3, train_from=start)
        again.restore_policy(strategy.final_state(), view)
        log = strategy.decision_log[-1]
        assert again.policy.bound == strategy.policy.bound == log["bound"]
        assert again.decide(view, held).equals(weights)


def test_cuts_are_good_where_trainings_start():
    """Values under the cuts are upper bounds: from cash no training comes near to it elsewhere."""
    view, held = wide_view(190), pd.Series([0.0, 0.2, 0.8], ["cash", "bold", "meek"])
    values = {}
    for start, iterations in (("holdings", 3), ("holdings", 40), ("cash", 40)):
        strategy = small_strategy(
            n_stages=4, train_from=start, stopping=Iterations(iterations), refit_every=1
        )
        strategy.decide(view, held)
        regime = strategy_regime(strategy)
        values[start, iterations] = strategy.policy.decide(regime=regime, holdings=held).value
    assert values["holdings", 3] == pytest.approx(values["holdings", 40], abs=1e-9)
    assert values["cash", 40] > values["holdings", 40] + 1e-3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "through"}, "mode = 'through'; known are receding, run-through"),
        ({"future": "free"}, "future = 'free'; known are trained, cost-free"),
        ({"train_from": "gold"}, "train_from = 'gold'; known are holdings, cash"),
        ({"on_failure": "skip"}, "on_failure = 'skip'; known are raise, keep"),
        ({"mode": "run-through"}, r"refit_every = 5 runs through more than the n_stages = 2"),
        ({"refit_every": 0}, "refit_every = 0; give 1 or more"),
        ({"seed": np.random.default_rng(1)}, "seed = Generator.*: must be an integer"),
    ],
)
def test_settings_that_make_no_sense_are_rejected(changes, words):
    with pytest.raises(ModelError, match=words):
        small_strategy(**changes)


# --- no look-ahead ---


# Not "emptied": a price that is carried from the last known row on never changes again, and the
# estimation refuses such an asset. "truncated" leaves out the same rows. The variants follow in
# `test_study`, with a store that knows the other future.
@pytest.mark.long
@pytest.mark.parametrize("future", sorted({*FUTURES} - {"emptied"}))
def test_decisions_ignore_the_future(future, data, other_data, tmp_path):
    """With caches on disk that both markets use."""

    def make(_) -> MultistageStrategy:
        return small_strategy(
            estimator=small_estimator(cache=FitCache(tmp_path)),
            trainings=TrainingCache(tmp_path),
        )

    assert_no_look_ahead(make, data, other_data, future, lag=1)


@pytest.mark.long
def test_run_through_ignores_the_future(data, other_data):
    strategy = small_strategy(mode="run-through", n_stages=4, refit_every=4)
    assert_no_look_ahead(lambda _: strategy, data, other_data, "replaced", lag=1)
