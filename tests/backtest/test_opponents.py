"""Opponents of the multi-stage policy: what they decide, and under which limit."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    BuyAndHold,
    CalibratedLimit,
    CalibratedStrategy,
    EveryPeriods,
    HeldToHorizon,
    MultistageStrategy,
    OneStageStrategy,
    PredictiveControl,
    ScaledToLimit,
    backtest,
)
from sddp.backtest.limits import LimitedStrategy
from sddp.backtest.simulator import trading_rules
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.step import step
from sddp.errors import ModelError
from sddp.estimation import GivenScenarios, RegimeForecaster
from sddp.evaluation.risk_forecasts import forecasts_and_losses
from sddp.portfolio import BlackLitterman, CVaRLimited, CVaRMatched, MeanVariance
from sddp.risk import weighted_cvar
from sddp.scenarios import MarkovScenarios
from tests.backtest.test_estimation import two_regimes
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead
from tests.backtest.test_multistage import small_estimator, small_strategy, two_regime_market

LIMIT = 0.006
MODEL = AllocationModel(transaction_cost=0.002, cvar_limit=LIMIT)
KINDS = {
    "scaled": ScaledToLimit,
    "held": lambda *a, **o: HeldToHorizon(*a, n_stages=4, **o),
    "planned": lambda *a, **o: PredictiveControl(*a, n_stages=4, **o),
    "planned, each": lambda *a, **o: PredictiveControl(*a, n_stages=4, limited="each", **o),
}


@pytest.fixture(scope="module")
def market():
    return two_regime_market()


def estimator():
    """Scenarios that pay in both regimes, more in the first."""
    return two_regimes(n_scenarios=30, means=Paying())


@dataclass(frozen=True)
class Paying:
    def means(self, inputs):
        return np.array([[0.006, 0.001], [0.001, 0.002]])


ANY_ROW = {
    **KINDS,
    "scaled, with a state": lambda *a, **o: ScaledToLimit(
        *a, strategy=BuyAndHold({"bold": 0.5, "meek": 0.2}), **o
    ),
    "held, run through": lambda *a, **o: HeldToHorizon(
        *a, n_stages=4, mode="run-through", **(o | {"refit_every": 4})
    ),
}


@pytest.mark.parametrize("kind", ANY_ROW)
def test_an_account_goes_on_from_its_state_on_any_row(kind, market):
    rules, dates = trading_rules(
        market,
        start=market.dates[-9],
        end=None,
        transaction_cost=0.002,
        lag=1,
        initial_wealth=1.0,
        rebalance=EveryPeriods(1),
    )

    def fresh():
        return Account(ANY_ROW[kind](MODEL, estimator(), refit_every=3), market.assets, rules)

    whole, cut = fresh(), fresh()
    for date in dates[:7]:
        for account in (whole, cut):
            step(account, market.at(date))
        state = json.loads(json.dumps(cut.state()))
        cut = fresh()
        cut.restore(state, market.at(date))
        assert cut.holdings.tobytes() == whole.holdings.tobytes()
    assert whole.n_instructions > 2


def made(kind: str, **options):
    return KINDS[kind](MODEL, estimator(), **options)


def ran(market, strategy, n_rows=14):
    result = backtest(
        market, {"tested": strategy}, start=market.dates[-n_rows], transaction_cost=0.002
    )
    return result, result.strategies["tested"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_kept_and_the_forecast_is_of_what_is_traded(market, kind):
    result, strategy = ran(market, made(kind, refit_every=5))
    log = strategy.decision_log_table()
    assert log["refit"].tolist() == ([True] + [False] * 4) * 2 + [True, False]
    kept = log[log["failure"] == ""]
    assert (kept["model_cvar"] <= LIMIT + 1e-9).all()
    assert log["limit_binds"].any()
    assert isinstance(strategy, LimitedStrategy)
    # The last decision's CVaR, from its weights and the outcomes of its date alone.
    date, holdings = log.index[-1], result.ledger("tested").holdings_after
    view, estimate = market.at(date), strategy._rolling.estimate
    ahead = estimate.one_period_distribution(view)
    before = holdings.loc[date].to_numpy()
    weights = result.ledger("tested").decisions.loc[date].to_numpy()
    after = weights * _wealth_left(before, weights)
    cost = 0.002 * np.abs(after[1:] - before[1:]).sum()
    losses = (cost - ahead.returns @ after[1:]) / before.sum()
    found = weighted_cvar(losses, ahead.probabilities, confidence=0.9)
    assert log["model_cvar"].iloc[-1] == pytest.approx(found, abs=1e-9)


def _wealth_left(before, weights) -> float:
    low, high = 0.5 * before.sum(), before.sum()
    for _ in range(200):
        middle = (low + high) / 2.0
        cost = 0.002 * np.abs(middle * weights[1:] - before[1:]).sum()
        low, high = (middle, high) if middle + cost < before.sum() else (low, middle)
    return high


def test_equal_weights_are_scaled_until_the_models_cvar_is_the_limit(market):
    _, strategy = ran(market, made("scaled"))
    log = strategy.decision_log_table()
    assert log["model_cvar"].to_numpy() == pytest.approx(LIMIT, abs=1e-9)
    last = strategy.decide(market.at(market.dates[-1]), pd.Series([1.0], index=["cash"]))
    assert last["bold"] == pytest.approx(last["meek"])
    assert 0.0 < last["bold"] < 0.5


def switching(view) -> MarkovScenarios:
    """The bold asset pays now and loses later; the meek one pays the same each period."""
    returns = np.array([[[0.010, 0.0035]], [[-0.005, 0.0035]]])
    chain = [[0.7, 0.3], [0.2, 0.8]]
    return MarkovScenarios(returns, chain, asset_names=list(view.assets), n_stages=1)


def calm(view) -> np.ndarray:
    return np.array([1.0, 0.0])


@pytest.mark.parametrize(("n_stages", "best"), [(1, "bold"), (2, "bold"), (4, "meek")])
def test_held_to_horizon_sums_each_periods_conditional_mean(market, n_stages, best):
    """``sum_h belief P^h means`` of bold: .0055, .00875, .0109, .0124; of meek: .0035 each."""
    own = GivenScenarios(switching, calm)
    loose = AllocationModel(transaction_cost=0.001, cvar_limit=1.0)
    cash = pd.Series([1.0], index=["cash"])
    weights = HeldToHorizon(loose, own, n_stages=n_stages).decide(market.at(market.dates[-1]), cash)
    assert weights[best] == pytest.approx(1.0)


def test_one_period_is_the_myopic_policy(market):
    """With one decision to go the multi-stage policy is the same linear program."""
    settings = {"estimator": estimator(), "model": MODEL}
    myopic = small_strategy(n_stages=1, **settings)
    assert isinstance(myopic, MultistageStrategy)
    tables = [
        ran(market, strategy)[0].ledger("tested").decisions
        for strategy in (
            myopic,
            HeldToHorizon(n_stages=1, **settings, refit_every=5),
            PredictiveControl(n_stages=1, **settings, refit_every=5),
        )
    ]
    for other in tables[1:]:
        np.testing.assert_allclose(other, tables[0], atol=1e-6)


def test_a_horizon_that_draws_near_ends_with_the_next_decision(market):
    strategy = HeldToHorizon(MODEL, estimator(), n_stages=3, mode="run-through", refit_every=3)
    _, near = ran(market, strategy)
    assert near.decision_log_table()["refit"].tolist() == ([True, False, False] * 4)
    view = market.at(market.dates[-1])
    assert near._n_stages >= 1
    near.decide(view, pd.Series([1.0], index=["cash"]))
    assert near._n_stages == 3


@pytest.mark.parametrize("kind", KINDS)
def test_opponents_can_be_calibrated(market, kind):
    strategy = CalibratedStrategy(made(kind, refit_every=5), CalibratedLimit(step=0.05, warm_up=0))
    _, calibrated = ran(market, strategy)
    log = calibrated.decision_log_table()
    assert log["calibration"].nunique() > 3
    kept = log[log["failure"] == ""]
    assert (kept["model_cvar"] <= kept["limit_used"] + 1e-9).all()


@pytest.mark.parametrize("future", ["truncated", "replaced"])
@pytest.mark.parametrize("kind", KINDS)
def test_opponents_know_no_future(kind, future, data, other_data):
    def make(_):
        return KINDS[kind](MODEL, small_estimator(), refit_every=4)

    assert future in FUTURES
    assert_no_look_ahead(make, data, other_data, future, lag=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda e: HeldToHorizon(MODEL, e, n_stages=0), "n_stages=0"),
        (lambda e: HeldToHorizon(MODEL, e, mode="rolling"), "mode='rolling'"),
        (
            lambda e: HeldToHorizon(MODEL, e, 9, n_stages=3, mode="run-through"),
            "refit_every=9: must be at most n_stages=3",
        ),
        (lambda e: PredictiveControl(MODEL, e, limited="all"), "limited='all'"),
        (lambda e: ScaledToLimit(AllocationModel(), e), "model.cvar_limit=None"),
    ],
)
def test_settings_that_make_no_sense_raise(make, message):
    with pytest.raises(ModelError, match=message):
        make(small_estimator())


def one_stage(optimizer) -> OneStageStrategy:
    return OneStageStrategy(optimizer, RegimeForecaster(estimator(), 3), if_infeasible="sell")


def matched() -> MeanVariance:
    return MeanVariance(risk_aversion=CVaRMatched(limit=LIMIT), transaction_cost=0.0002)


LIMITED = {
    **{kind: (lambda kind=kind: made(kind, refit_every=3)) for kind in KINDS},
    "one stage": lambda: one_stage(
        CVaRLimited(limit=LIMIT, confidence=0.9, transaction_cost=0.0002)
    ),
    "one stage, matched": lambda: one_stage(matched()),
    "one stage, views": lambda: one_stage(
        BlackLitterman(market_weights={"bold": 0.5, "meek": 0.5}, optimizer=matched())
    ),
}


@pytest.mark.filterwarnings("ignore::sddp.errors.CalibrationWarning")
@pytest.mark.parametrize("kind", LIMITED)
def test_the_identity_of_calibration_holds_for_one_period_strategies(market, kind):
    """``step * sum x = log(c_0 / c_n) + clipped``, x from the ledger's losses and the forecasts."""
    settings = CalibratedLimit(step=0.2, bounds=(0.5, 1.2), warm_up=0)
    result, strategy = ran(market, CalibratedStrategy(LIMITED[kind](), settings), n_rows=30)
    log = strategy.decision_log_table()
    period, wealth = strategy.strategy.period, result.ledger("tested").wealth
    told = forecasts_and_losses(wealth, log, lag=1, period=period)
    known = told.iloc[: len(log) - period - 1]  # by the last decision
    sizes = known[known["model_cvar"] > 0.0]
    tails = sizes["model_var"] + (sizes["loss"] - sizes["model_var"]).clip(lower=0.0) / 0.1
    total = settings.step * float((tails / sizes["model_cvar"] - 1.0).sum())
    last = log.iloc[-1]
    moved = -np.log(last["calibration"]) + last["clipped_low"] - last["clipped_high"]
    assert moved == pytest.approx(total, abs=1e-10)
    assert log["calibration"].nunique() > 3
    held = log["failure"] == ""
    assert (log["model_cvar"] <= log["limit_used"] + 1e-8)[held].all()
    np.testing.assert_allclose(log["limit_used"], log["calibration"] * LIMIT, rtol=1e-12)
    # Where a limit holds the decision back it is the one used, not the one asked.
    binding = held & log["limit_binds"] & (log["model_cvar"] > 1e-9)
    assert binding.any()
    np.testing.assert_allclose(
        log["model_cvar"][binding], log["limit_used"][binding], rtol=1e-5, atol=1e-9
    )


def test_a_one_stage_strategy_without_a_limit_cannot_be_calibrated():
    free = one_stage(MeanVariance(risk_aversion=2.0))
    assert free.cvar_limit is None
    with pytest.raises(ModelError, match="cvar_limit=None: must be a number to calibrate"):
        CalibratedStrategy(free)
