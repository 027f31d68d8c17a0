"""Calibrated limits: the identity, the reaction, the timing of losses, and no look-ahead."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest

from sddp.allocation.model import AllocationModel
from sddp.backtest import (
    CalibratedLimit,
    CalibratedStrategy,
    Cell,
    EqualWeight,
    EveryPeriods,
    MultistageStrategy,
    backtest,
    run_study,
)
from sddp.backtest.limits import Calibration
from sddp.backtest.run import Run, simulate
from sddp.backtest.simulator import trading_rules
from sddp.backtest.trading.account import Account
from sddp.backtest.trading.step import step
from sddp.errors import CalibrationWarning, ModelError
from sddp.evaluation.risk_forecasts import forecasts_and_losses
from sddp.market import Market
from sddp.risk import weighted_cvar
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead
from tests.backtest.test_multistage import small_strategy, two_regime_market

CONFIDENCE = 0.9


def series(kind: int, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Loss, VaR and CVaR of some periods: random ones, and ones made to do harm."""
    n = int(rng.integers(1, 400))
    var = rng.uniform(-0.01, 0.03, n)
    cvar = np.maximum(var, 0.0) + rng.uniform(1e-4, 0.03, n)
    if kind % 4 == 0:  # whatever happens
        losses = rng.standard_t(3, n) * 0.02
    elif kind % 4 == 1:  # disaster, then bliss, again and again: both bounds are hit
        losses = np.where((np.arange(n) // 40) % 2 == 0, 0.3, -0.3)
    elif kind % 4 == 2:  # the loss waits until c is large
        losses = np.where(np.arange(n) % 97 > 90, 0.9, -0.05)
    else:  # tiny forecasts: huge steps
        losses, cvar = rng.uniform(-0.1, 0.15, n), np.full(n, 5e-3)
    return list(zip(losses.tolist(), var.tolist(), cvar.tolist(), strict=True))


@pytest.mark.parametrize("kind", range(4))
def test_the_identity_holds_for_every_series(kind):
    """``step * sum x = log(c_0 / c_n) + clipped low - clipped high``, x summed by itself."""
    clipped = 0
    for seed in range(250):
        rng = np.random.default_rng([kind, seed])
        settings = CalibratedLimit(step=float(rng.choice([0.005, 0.02, 0.05])), warm_up=0)
        state, excesses = Calibration(settings), []
        for loss, var, cvar in series(kind, rng):
            tail = var + max(loss - var, 0.0) / (1.0 - CONFIDENCE)
            excesses.append(tail / cvar - 1.0)
            state.update(loss, var, cvar, CONFIDENCE)
        total = settings.step * math.fsum(excesses)
        known = -state.log_scale + state.clipped_low - state.clipped_high
        assert known == pytest.approx(total, abs=1e-10, rel=0.0)
        untouched = state.clipped_low == 0.0 == state.clipped_high
        clipped += not untouched
        if untouched:
            low, high = settings.bounds
            bound = math.log(high / low) / (settings.step * len(excesses))
            assert abs(np.mean(excesses)) <= bound + 1e-12
    assert clipped > (100 if kind else 0)


@pytest.mark.parametrize("wrong", [1.3, 0.8, 1.0])
def test_a_model_that_is_wrong_by_a_factor_is_found_out(wrong):
    """Losses are `wrong` times what the model says: c goes to one over it, and stays."""
    model = np.sort(np.random.default_rng(3).standard_normal(1000)) * 0.01
    var = float(np.quantile(model, CONFIDENCE, method="higher"))
    cvar = weighted_cvar(model, confidence=CONFIDENCE)
    state = Calibration(CalibratedLimit(step=0.002, warm_up=0))
    # Evenly spread order, so that every stretch of periods holds its share of the tail.
    order = (np.arange(1000) * 619) % 1000
    seen = []
    for t in range(12_000):
        c = state.scale  # the portfolio is c times the one that has the limit
        loss = wrong * c * model[order[t % 1000]]
        state.update(loss, c * var / c, c * cvar / c, CONFIDENCE)
        seen.append(state.scale)
    assert np.mean(seen[-2000:]) == pytest.approx(1.0 / wrong, abs=1e-2)


def test_the_models_own_figures_would_run_into_a_bound():
    """Without the division by c the ratio does not depend on c: why the forecast is divided."""
    state = Calibration(CalibratedLimit(step=0.02, warm_up=0))
    for _ in range(2000):
        c = state.scale
        state.update(1.3 * c * 0.02, c * 0.01, c * 0.02, 0.0)
    assert state.scale == pytest.approx(0.3)


def test_a_forecast_of_nothing_changes_nothing():
    state = Calibration(CalibratedLimit(warm_up=0))
    for cvar in (0.0, -0.001, math.nan):
        assert math.isnan(state.update(0.1, 0.0, cvar, CONFIDENCE))
    assert (state.scale, state.n_known) == (1.0, 0)


def test_the_warm_up_does_not_move_the_limit():
    state = Calibration(CalibratedLimit(warm_up=3))
    for _ in range(3):
        state.update(0.5, 0.01, 0.02, CONFIDENCE)
    assert state.scale == 1.0
    state.update(0.5, 0.01, 0.02, CONFIDENCE)
    assert state.scale < 1.0


# --- in a backtest ---


@dataclass
class Sized:
    """Holds one asset in proportion to the limit: a LimitedStrategy without a model."""

    limit: float = 0.02
    rows: int = 1
    decision_log: list = field(default_factory=list, init=False)

    @property
    def cvar_limit(self):
        return self.limit

    @property
    def period(self):
        return self.rows

    def decide(self, view, holdings):
        return self.decide_within(view, holdings, self.limit)

    def decide_within(self, view, holdings, limit):
        share = min(limit / 0.03, 1.0)
        facts = {"model_var": 0.02 * share, "model_cvar": 0.03 * share, "confidence": CONFIDENCE}
        used = {"cvar_limit": self.limit, "limit_binds": True}
        self.decision_log.append({"date": view.date} | facts | used)
        return pd.Series({view.assets[0]: share})


def wild_market(n_rows: int = 160) -> Market:
    rng = np.random.default_rng(6)
    dates = pd.bdate_range("2021-01-04", periods=n_rows)
    logs = rng.normal(0.0, 0.03, (n_rows, 2)).cumsum(axis=0)
    return Market(pd.DataFrame(100.0 * np.exp(logs), dates, ["bold", "meek"]))


@pytest.mark.filterwarnings("ignore::sddp.errors.CalibrationWarning")
@pytest.mark.parametrize(("lag", "every", "period"), [(0, 1, 1), (1, 1, 1), (2, 1, 1), (1, 5, 5)])
def test_each_decision_has_learned_from_the_losses_known_by_then(lag, every, period):
    """c is found again from the ledger's wealth, loss by loss, each a period after its trade."""
    market, settings = wild_market(), CalibratedLimit(step=0.02, warm_up=1)
    strategy = CalibratedStrategy(Sized(rows=period), settings)
    result = backtest(
        market,
        {"c": strategy},
        start=market.dates[5],
        transaction_cost=0.002,
        lag=lag,
        rebalance=EveryPeriods(every),
    )
    log = result.strategies["c"].decision_log_table()
    wealth = result.ledger("c").wealth
    told = forecasts_and_losses(wealth, log, lag=lag, period=period)
    rows = wealth.index.get_indexer(log.index)
    for i, row in enumerate(rows):
        state = Calibration(settings)
        for k in range(i):
            if rows[k] + lag + period <= row:
                entry = told.iloc[k]
                state.update(entry["loss"], entry["model_var"], entry["model_cvar"], CONFIDENCE)
        assert log["calibration"].iloc[i] == pytest.approx(state.scale, abs=1e-12)
    assert log["calibration"].nunique() > 10
    np.testing.assert_allclose(log["model_cvar"], log["forecast_cvar"] * log["calibration"])


def test_the_limit_that_cannot_be_had_is_said():
    market = wild_market()
    settings = CalibratedLimit(step=1.0, bounds=(0.9, 1.1))
    with pytest.warns(CalibrationWarning, match=r"0.9 times the limit 0.02"):
        backtest(
            market,
            {"c": CalibratedStrategy(Sized(), settings)},
            start=market.dates[5],
            transaction_cost=0.0,
        )


def calibrated(**changes) -> CalibratedStrategy:
    return CalibratedStrategy(small_strategy(**changes), CalibratedLimit(step=0.3, warm_up=0))


def run_on(market: Market, strategy, every: int = 1, n_rows: int = 40):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return backtest(
            market,
            {"c": strategy},
            start=market.dates[-n_rows],
            transaction_cost=0.002,
            rebalance=EveryPeriods(every),
        )


def test_decisions_of_a_multistage_policy_keep_to_the_limit_used():
    result = run_on(two_regime_market(), calibrated(refit_every=4))
    log = result.strategies["c"].decision_log_table()
    assert log["calibration"].nunique() > 5
    held = log["failure"] == ""
    assert (log["model_cvar"] <= log["limit_used"] + 1e-9)[held].all()
    below = log["limit_used"] < 0.999 * log["cvar_limit"]
    assert (below & ~log["refit"]).any()
    refits = log[log["refit"]]
    np.testing.assert_allclose(refits["limit_used"], refits["calibration"] * refits["cvar_limit"])
    # Between refits the limit of the training is not exceeded.
    trained = log["limit_used"].where(log["refit"]).ffill()
    assert (log["limit_used"] <= trained + 1e-15).all()


def test_without_calibration_nothing_is_scaled():
    """A limit of its own size is the strategy's: bit for bit."""
    market = two_regime_market()
    plain = run_on(market, small_strategy()).ledger("c").decisions
    still = CalibratedStrategy(small_strategy(), CalibratedLimit(step=1e-300))
    assert run_on(market, still).ledger("c").decisions.equals(plain)


@pytest.mark.filterwarnings("ignore::sddp.errors.CalibrationWarning")
@pytest.mark.parametrize("future", FUTURES)
def test_calibrated_decisions_know_no_future(future, data, other_data):
    def make(known) -> CalibratedStrategy:
        return calibrated(on_failure="keep")

    for lag in (0, 1):
        assert_no_look_ahead(make, data, other_data, future, lag)


def test_a_run_that_is_cut_goes_on_to_the_same_bits():
    market = two_regime_market()
    rules, dates = trading_rules(
        market,
        start=market.dates[-30],
        end=None,
        transaction_cost=0.002,
        lag=1,
        initial_wealth=1.0,
        rebalance=EveryPeriods(1),
    )
    whole, parts, kept = Run(calibrated(), market.assets, rules, dates), [], [0]

    def keep(run: Run) -> None:
        state = run.checkpoint()
        if state is not None and len(parts) < 3:
            parts.append(run.part(kept[0], state))
            kept[0] = run.row

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        simulate(whole, market, after_row=keep)
        assert len(parts) == 3
        again = Run(calibrated(), market.assets, rules, dates)
        again.resume(parts, market.at(dates[parts[-1].facts["stop"] - 1]))
        simulate(again, market, after_row=lambda run: None)
    mine, theirs = (r.account.strategy.decision_log_table() for r in (whole, again))
    assert mine.drop(columns="seconds").equals(theirs.drop(columns="seconds"))
    assert whole.ledger().wealth.tolist() == again.ledger().wealth.tolist()


@pytest.mark.parametrize("refit_every", [1, 3])
def test_an_account_goes_on_from_its_state_within_a_window(refit_every):
    """The state goes through JSON on every row; a fresh account has the same holdings."""
    market = two_regime_market()
    rules, dates = trading_rules(
        market,
        start=market.dates[-12],
        end=None,
        transaction_cost=0.002,
        lag=1,
        initial_wealth=1.0,
        rebalance=EveryPeriods(1),
    )
    whole, cut = (
        Account(calibrated(refit_every=refit_every), market.assets, rules) for _ in range(2)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for date in dates[:7]:
            step(whole, market.at(date))
            step(cut, market.at(date))
            state = json.loads(json.dumps(cut.state()))
            cut = Account(calibrated(refit_every=refit_every), market.assets, rules)
            cut.restore(state, market.at(date))
            assert cut.holdings.tobytes() == whole.holdings.tobytes()
    assert whole.strategy.decision_log[-1]["calibration"] != 1.0


@pytest.mark.long
def test_a_study_finds_a_calibrated_run_again(tmp_path):
    market = two_regime_market()
    cells = {"c": Cell(calibrated(), transaction_cost=0.002)}
    settings = {"start": market.dates[-12], "store": tmp_path, "progress": False}
    first, second = (run_study(market, cells, **settings) for _ in range(2))
    assert first.ledgers["c"].wealth.equals(second.ledgers["c"].wealth)
    logs = [study.strategies["c"].decision_log_table() for study in (first, second)]
    assert logs[0]["calibration"].equals(logs[1]["calibration"])


# --- what is not possible ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0.0}, "step=0.0: must be above 0"),
        ({"step": 1.5}, "step=1.5"),
        ({"bounds": (1.1, 1.5)}, "hold 1 between them"),
        ({"bounds": (0.0, 1.5)}, "two positive numbers"),
        ({"warm_up": -1}, "warm_up=-1"),
    ],
)
def test_settings_that_make_no_sense_raise(settings, message):
    with pytest.raises(ModelError, match=message):
        CalibratedLimit(**settings)


def test_strategies_that_cannot_be_calibrated_raise():
    with pytest.raises(ModelError, match="must have cvar_limit"):
        CalibratedStrategy(EqualWeight())
    unlimited = small_strategy(model=AllocationModel(transaction_cost=0.002))
    with pytest.raises(ModelError, match="cvar_limit=None"):
        CalibratedStrategy(unlimited)
    assert isinstance(unlimited, MultistageStrategy)


@dataclass
class Silent(Sized):
    def decide_within(self, view, holdings, limit):
        return pd.Series({view.assets[0]: 0.5})


def test_a_strategy_without_a_forecast_raises():
    market = wild_market()
    with pytest.raises(ModelError, match="Silent wrote no risk forecast"):
        backtest(
            market,
            {"c": CalibratedStrategy(Silent())},
            start=market.dates[5],
            transaction_cost=0.0,
        )
