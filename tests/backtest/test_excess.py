"""Assets modeled in excess of cash, and assets that go missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from sddp.allocation.model import AllocationModel
from sddp.backtest import MultistageStrategy, OneStageStrategy, backtest
from sddp.backtest.limits.positions import money_of_known
from sddp.engine.training.stopping import Iterations
from sddp.errors import ModelError
from sddp.estimation import ExcessRegimeEstimator, RegimeEstimator, RegimeForecaster
from sddp.market import Market
from sddp.portfolio import MeanVariance
from sddp.statistics import GaussianRegimes

N_ROWS = 160
DATES = pd.date_range("2001-01-31", periods=N_ROWS, freq="ME")
ONE = GaussianRegimes(n_states=1, n_starts=1, min_count=5)
TWO = GaussianRegimes(n_states=2, n_starts=2, min_count=5)


def made(rate: pd.Series | float = 0.0, *, holes: bool = False, **options) -> Market:
    """Three assets that follow one factor of two regimes; holes in the best of them."""
    rng = np.random.default_rng(4)
    wild = (np.arange(N_ROWS) // 40) % 2 == 1
    factor = np.where(wild, -0.01, 0.015) + np.where(wild, 0.05, 0.02) * rng.standard_normal(N_ROWS)
    logs = factor[:, None] * np.array([0.5, 0.9, 1.0]) + 0.004 * rng.standard_normal((N_ROWS, 3))
    logs[:, 2] += 0.01
    cash = pd.Series(rate, DATES, dtype=float)
    returns = pd.DataFrame(np.exp(logs), DATES, ["a", "b", "c"]).mul(1.0 + cash, axis=0) - 1.0
    if holes:
        returns.iloc[[20, 21, 120, 121], 2] = np.nan
    factors = pd.DataFrame({"market": factor}, DATES)
    return Market.from_returns(returns, cash_rate=cash, factors=factors, missing="carry", **options)


def estimator(kind=RegimeEstimator, **changes):
    settings = {
        "seed": 3,
        "window": 60,
        "expanding": True,
        "regimes": ONE,
        "n_scenarios": 40,
    }
    return kind(**(settings | changes))


# --- in excess of cash ---


def test_scenarios_are_those_of_excess_returns_with_todays_rate_on_top():
    """A market whose rates fell from 2 % to 0.1 % a month, and one in excess of them."""
    rate = pd.Series(np.linspace(0.02, 0.001, N_ROWS), DATES)
    estimate = estimator(ExcessRegimeEstimator).estimate(made(rate).at(DATES[-1]))
    over_cash = estimator().estimate(made().at(DATES[-1])).scenarios.returns
    expected = (1.0 + over_cash) * 1.001 - 1.0
    np.testing.assert_allclose(estimate.scenarios.returns, expected, atol=1e-12)
    assert estimate.cash_return == pytest.approx(0.001)
    # Total returns hold the rates of their time: a premium over cash that there is not.
    total = estimator().estimate(made(rate).at(DATES[-1])).scenarios.returns
    assert (total.mean(axis=(0, 1, 2)) > expected.mean(axis=(0, 1, 2)) + 0.008).all()


def test_the_one_period_distribution_has_the_rate_that_its_scenarios_were_made_with():
    rate = pd.Series(np.linspace(0.02, 0.001, N_ROWS), DATES)
    market = made(rate)
    for kind, expected in ((ExcessRegimeEstimator, rate.iloc[100]), (RegimeEstimator, 0.001)):
        estimate = estimator(kind).estimate(market.at(DATES[100]))
        assert estimate.one_period_distribution(market.at(DATES[-1])).cash_return == pytest.approx(
            expected
        )


def test_the_most_likely_regime_is_taken_for_certain():
    market = made()
    settings = {"regimes": TWO, "window": 100}
    soft = estimator(ExcessRegimeEstimator, **settings).estimate(market.at(DATES[130]))
    hard = estimator(ExcessRegimeEstimator, most_likely=True, **settings)
    hard = hard.estimate(market.at(DATES[130]))
    for row in (131, 140, 150, 159):
        view = market.at(DATES[row])
        belief = soft.belief(view)
        expected = np.zeros(2)
        expected[belief.argmax()] = 1.0
        np.testing.assert_array_equal(hard.belief(view), expected)
    assert belief.min() > 0.0


# --- assets that go missing ---


def test_minimum_history_bars_the_rows_after_a_gap():
    known = made(holes=True, minimum_history=4).at(DATES[-1]).quoted["c"]
    assert np.flatnonzero(~known).tolist() == [20, 21, 22, 23, 24, 120, 121, 122, 123, 124]
    plain = made(holes=True).at(DATES[-1]).quoted["c"]
    assert np.flatnonzero(~plain).tolist() == [20, 21, 120, 121]
    # Nothing is missed before the first row.
    assert made(minimum_history=12).at(DATES[0]).quoted.to_numpy().all()


@pytest.mark.parametrize("minimum_history", [0, 1.5, True])
def test_minimum_history_is_a_number_of_rows(minimum_history):
    with pytest.raises(ModelError, match=r"minimum_history = .*; give a whole number of rows"):
        made(minimum_history=minimum_history)


def test_minimum_history_knows_no_later_row():
    late = made(holes=True, minimum_history=4)
    for row in (19, 20, 123, 130):
        early = late.at(DATES[row]).quoted
        pd.testing.assert_frame_equal(early, late.at(DATES[-1]).quoted.iloc[: row + 1])


def test_rows_without_a_quote_are_left_out_of_the_regression():
    market = made(holes=True, minimum_history=4)
    view = market.at(DATES[110])
    estimate = estimator(n_scenarios=4096).estimate(view)
    known = view.quoted["c"]
    line = linregress(view.factors["market"][known], np.log1p(view.returns["c"][known]))
    mean = estimate.regimes.means[0, 0]
    logs = np.log1p(estimate.scenarios.returns[0, 0, :, 2])
    assert logs.mean() == pytest.approx(line.intercept + line.slope * mean, abs=2e-4)
    with_zeros = linregress(view.factors["market"], np.log1p(view.returns["c"]))
    off = with_zeros.intercept + with_zeros.slope * mean
    assert abs(logs.mean() - off) > 2e-4


def test_assets_not_quoted_today_are_in_no_scenario():
    market = made(holes=True, minimum_history=4)
    at = {row: estimator().estimate(market.at(DATES[row])) for row in (119, 122, 125)}
    assert at[119].scenarios.asset_names == at[125].scenarios.asset_names == ("a", "b", "c")
    assert at[122].scenarios.asset_names == ("a", "b")


def strategy(**changes) -> MultistageStrategy:
    settings = {
        "model": AllocationModel(
            transaction_cost={"a": 0.001, "b": 0.001, "c": 0.002}, cvar_limit=0.1
        ),
        "seed": 3,
        "estimator": estimator(),
        "n_stages": 2,
        "stopping": Iterations(2),
        "refit_every": 5,
    }
    return MultistageStrategy(**(settings | changes))


def weights_of(tested, start: int) -> pd.DataFrame:
    report = backtest(
        made(holes=True, minimum_history=4),
        {"tested": tested},
        start=DATES[start],
        end=DATES[130],
        transaction_cost=0.001,
        lag=0,
    )
    return report.weights("tested")


# Fits on rows 118 and 123 (trained without c from there), and on 121 and 126 (the first fit of
# the run lies within the gap).
@pytest.mark.parametrize("start", [118, 121])
@pytest.mark.parametrize("per_asset", [True, False])
def test_a_policy_sells_what_goes_missing_and_buys_it_when_it_has_settled(start, per_asset):
    model = strategy().model if per_asset else replace(strategy().model, transaction_cost=0.001)
    held = weights_of(strategy(model=model), start)["c"]
    barred = held.loc[DATES[120] : DATES[124]]
    assert (barred == 0.0).all()
    assert held.loc[DATES[128] :].min() > 0.5
    if start == 118:
        assert held.loc[DATES[119]] > 0.5


def test_what_the_policy_does_not_know_is_cash_less_the_cost_of_its_sale():
    market = made(holes=True, minimum_history=4)
    tested = strategy()
    tested.decide(market.at(DATES[122]), pd.Series({"cash": 1.0, "a": 0.0, "b": 0.0, "c": 0.0}))
    held = pd.Series({"cash": 0.2, "a": 0.3, "b": 0.0, "c": 0.5})
    money = money_of_known(held, tested.policy.problem.asset_names, tested.model)
    assert money == pytest.approx({"cash": 0.2 + 0.5 * 0.998, "a": 0.3, "b": 0.0})


def test_one_stage_leaves_missing_assets_alone_too():
    quadratic = OneStageStrategy(
        MeanVariance(risk_aversion=2.0, transaction_cost=0.001), RegimeForecaster(estimator(), 5)
    )
    held = weights_of(quadratic, 118)["c"]
    assert (held.loc[DATES[120] : DATES[124]] == 0.0).all()
    assert held.loc[DATES[119]] > 0.1
    assert held.loc[DATES[128] :].min() > 0.1
