"""The multi-stage policy as a strategy: periods, refits, beliefs, and no look-ahead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.backtest import Estimation, EveryPeriods, Market, MultistageStrategy, backtest
from sddp.backtest.multistage import periods
from sddp.engine.stopping import Iterations
from sddp.errors import DataError, ModelError
from sddp.statistics import GaussianRegimes
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead

LIMIT = 0.006


def small_strategy(**changes) -> MultistageStrategy:
    settings = {
        "model": AllocationModel(transaction_cost=0.002, cvar_limit=LIMIT),
        "rng": np.random.default_rng(3),
        "n_stages": 2,
        "estimation": Estimation(
            window=12,
            regimes=GaussianRegimes(n_states=1, n_starts=1, min_count=5),
            n_scenarios=20,
        ),
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


def test_a_window_longer_than_history_is_refused_by_name_and_date():
    table = pd.DataFrame({"r": np.ones(5)}, pd.bdate_range("2021-01-04", periods=5))
    with pytest.raises(DataError, match=r"needs 6 rows .* only 5 are known on 2021-01-08"):
        periods(table, window=6, period=1)


def test_an_impossible_window_is_refused():
    with pytest.raises(ModelError, match="window = 4, period = 5"):
        Estimation(window=4, period=5)


def test_the_policy_is_trained_anew_on_schedule():
    strategy = small_strategy(refit_every=3)
    _, ran = run(strategy, two_regime_market(), n_decisions=7)
    assert ran.journal_table()["refit"].tolist() == [True, False, False] * 2 + [True]
    assert strategy.journal == []  # the run works on its own copy


def test_the_risk_limit_holds_in_the_model_and_is_said_to_bind():
    _, ran = run(small_strategy(), two_regime_market(n_rows=195), n_decisions=6)
    journal = ran.journal_table()
    assert journal["limit_binds"].any()
    assert journal["model_cvar"].max() <= LIMIT + 1e-9
    binding = journal["model_cvar"] >= LIMIT - 1e-6
    assert journal["limit_binds"].tolist() == binding.tolist()


def test_beliefs_follow_the_market():
    """195 to 259 are wild rows: the filter must see it on the last decisions."""
    estimation = Estimation(
        window=120, regimes=GaussianRegimes(n_states=2, n_starts=3), n_scenarios=30
    )
    strategy = small_strategy(estimation=estimation)
    _, ran = run(strategy, two_regime_market(), n_decisions=4)
    journal = ran.journal_table()
    assert (journal["regime 2"] > 0.75).all()
    assert (journal[["regime 1", "regime 2"]].sum(axis=1) - 1.0).abs().max() < 1e-9


def test_same_generator_same_decisions_and_another_one_differs():
    market = two_regime_market(n_rows=195)  # ends calm: there is something to hold
    weights = [
        run(small_strategy(rng=np.random.default_rng(seed)), market, 4)[0].weights("tested")
        for seed in (3, 3, 4)
    ]
    assert weights[0].equals(weights[1])
    assert not weights[0].equals(weights[2])


def test_without_factors_the_assets_have_the_regimes():
    whole = two_regime_market()
    view = whole.at(whole.dates[-1])
    _, ran = run(small_strategy(), Market(view.prices), n_decisions=2)
    assert ran.result.policy.problem.asset_names == ("bold", "meek")


def test_cash_earns_todays_rate_over_a_period():
    market = two_regime_market()
    view = market.at(market.dates[-1])
    market = Market(view.prices, cash_rate=0.0003, factors=view.factors)
    estimation = replace(small_strategy().estimation, window=80, period=5)
    _, ran = run(small_strategy(estimation=estimation), market, n_decisions=1)
    cash_return = ran.result.policy.problem.terms.cash_return
    np.testing.assert_allclose(cash_return, 1.0003**5 - 1.0, rtol=1e-14)


# Not "emptied": a price that is carried from the last known row on never changes again, and the
# estimation refuses such an asset. "truncated" leaves out the same rows.
@pytest.mark.parametrize("future", sorted({*FUTURES} - {"emptied"}))
def test_decisions_ignore_the_future(future, data, other_data):
    assert_no_look_ahead(lambda _: small_strategy(), data, other_data, future, lag=1)
