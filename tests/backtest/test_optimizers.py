"""Every optimizer as a strategy: it runs, keeps its constraints, and does not look ahead."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import DynamicRiskParity, OneStageStrategy, backtest
from sddp.errors import ModelError, NothingBeatsCash
from sddp.estimation.forecasts import WindowForecaster
from sddp.market import Market
from sddp.portfolio import (
    ConstraintSet,
    OptimizerType,
    PositionLimit,
    RiskBudget,
    optimizer,
)
from tests.backtest.test_lookahead import FUTURES, assert_no_look_ahead

DATE = "2020-03-06"
ASSETS = ["gold", "stocks", "dollar", "euro"]
CAP = {"constraints": ConstraintSet((PositionLimit(name="cap", upper=0.6),))}
PARAMETERS: dict[OptimizerType, dict] = {
    OptimizerType.MARKOWITZ: {"risk_aversion": 4.0, **CAP},
    OptimizerType.BLACK_LITTERMAN: {"market_weights": dict.fromkeys(ASSETS, 0.25)},
    OptimizerType.ERC: {},
    OptimizerType.MINIMUM_VARIANCE: CAP,
    OptimizerType.MAXIMUM_SHARPE: {"transaction_cost": 1e-5, **CAP},
    OptimizerType.TARGET_RETURN: {"target": -0.01, **CAP},
    OptimizerType.TARGET_VOLATILITY: {"target": 0.002, **CAP},
    OptimizerType.STANDARD_DEVIATION: {"return_weight": 0.1, **CAP},
    OptimizerType.MINIMUM_CVAR: {"confidence": 0.8, **CAP},
    OptimizerType.CVAR_LIMITED: {"limit": 0.01, "confidence": 0.8, **CAP},
    OptimizerType.MAXIMUM_RETURN_TO_CVAR: {"confidence": 0.8, **CAP},
}
# Where the window's means are all below cash these two say so.
NEED_A_RISE = {OptimizerType.MAXIMUM_SHARPE, OptimizerType.MAXIMUM_RETURN_TO_CVAR}


class Rising:
    """A window forecaster whose means and outcomes are half a percent higher, with a crash."""

    def __init__(self) -> None:
        self._inner = WindowForecaster(10)
        self.due = True

    def forecast(self, view):
        found = self._inner.forecast(view)
        returns = found.outcomes.returns + 0.005
        crash = pd.DataFrame(-0.1, index=returns.index[-1:], columns=returns.columns)
        returns = pd.concat([returns, crash])
        moments = type(found.moments)(found.moments.mean + 0.005, found.moments.covariance)
        return type(found)(moments, type(found.outcomes)(returns), found.cash_return)

    def checkpoint(self):
        return {}

    def resume(self, state, view):
        pass


def strategy(kind: OptimizerType) -> OneStageStrategy:
    forecaster = Rising() if kind in NEED_A_RISE else WindowForecaster(10)
    return OneStageStrategy(optimizer(kind, **PARAMETERS[kind]), forecaster)


def test_every_type_has_parameters_here():
    assert set(PARAMETERS) == set(OptimizerType)


@pytest.mark.parametrize("kind", OptimizerType, ids=lambda k: k.name)
def test_every_optimizer_runs_as_a_strategy(kind, data):
    result = backtest(
        data.market(), {"tested": strategy(kind)}, start=DATE, transaction_cost=0.002, lag=1
    )
    decided = result.ledger("tested").decisions.dropna()
    assert len(decided) > 5
    assert decided.to_numpy().min() >= -1e-9
    if "constraints" in PARAMETERS[kind]:
        assert decided[ASSETS].to_numpy().max() <= 0.6 + 1e-9


@pytest.mark.long
@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize("kind", list(OptimizerType), ids=lambda k: k.name)
def test_no_optimizer_looks_ahead(kind, future, data, other_data):
    assert_no_look_ahead(lambda *_: strategy(kind), data, other_data, future, 1)


@pytest.mark.parametrize("kind", sorted(NEED_A_RISE, key=lambda k: k.name), ids=lambda k: k.name)
def test_where_nothing_beats_cash_a_ratio_sells_or_raises(kind, data):
    """Every price falls by another 5 % a row."""
    falling = Market(data.prices.mul(0.95 ** np.arange(len(data.prices)), axis=0))

    def trade(**options):
        chosen = optimizer(kind, **PARAMETERS[kind])
        tested = OneStageStrategy(chosen, WindowForecaster(10), **options)
        return backtest(falling, {"tested": tested}, start=DATE, transaction_cost=0.002)

    sold = trade(if_infeasible="sell")
    assert (sold.ledger("tested").decisions.dropna()["cash"] == 1.0).all()
    log = sold.strategies["tested"].decision_log_table()
    assert log["failure"].str.contains("no portfolio beats cash_return = 0").all()
    with pytest.raises(NothingBeatsCash, match="hold cash"):
        trade()


def parity(**options) -> DynamicRiskParity:
    return DynamicRiskParity(RiskBudget(), WindowForecaster(10), **options)


@pytest.mark.parametrize("future", FUTURES)
def test_dynamic_risk_parity_does_not_look_ahead(future, data, other_data):
    assert_no_look_ahead(lambda *_: parity(), data, other_data, future, 1)


def shares_of(view, weights) -> np.ndarray:
    covariance = WindowForecaster(10).forecast(view).moments.covariance.to_numpy()
    contributions = weights * (covariance @ weights)
    return 4.0 * contributions / contributions.sum()


@pytest.mark.parametrize("back_to", ["edge", "center"])
def test_the_band_decides_whether_and_how_far_to_trade(back_to, market):
    view = market.at(DATE)
    tested = parity(back_to=back_to, band=0.05)
    cash = pd.Series({"cash": 100.0} | dict.fromkeys(ASSETS, 0.0))[
        ["cash", *market.at(DATE).assets]
    ]
    weights = tested.decide(view, cash)
    shares = shares_of(view, weights.to_numpy())
    if back_to == "center":
        assert shares == pytest.approx(np.ones(4), abs=1e-10)
    else:
        assert np.abs(shares - 1.0).max() <= 0.05 + 1e-9
    # All cash is invested, whichever way; the edge is one of contributions.
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-12)
    held = pd.Series({"cash": 0.0} | dict(weights * 100.0)) / float(weights.sum())
    assert tested.decide(view, held * 1.0) is None
    # Inside the band nothing is traded; a tenth more of one asset leaves it.
    held.iloc[1] *= 1.3
    assert tested.decide(view, held) is not None
    log = tested.decision_log_table()
    assert log["traded"].tolist() == [True, False, True]
    assert log["deviation"].iloc[1] <= 0.05 + 1e-9 < log["deviation"].iloc[2]


def test_above_its_limit_the_volatility_is_brought_down(market):
    view = market.at(DATE)
    covariance = WindowForecaster(10).forecast(view).moments.covariance.to_numpy()
    held = pd.Series({"cash": 0.0} | dict.fromkeys(view.assets, 25.0))
    tested = parity(volatility_limit=0.001)
    weights = tested.decide(view, held).to_numpy()
    assert np.sqrt(weights @ covariance @ weights) == pytest.approx(0.001, rel=1e-9)
    with pytest.raises(ModelError, match="band=5"):
        parity(band=5)
    with pytest.raises(ModelError, match="back_to"):
        parity(back_to="home")
