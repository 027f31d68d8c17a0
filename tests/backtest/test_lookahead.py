"""Nothing decided may depend on a later row, bit for bit.

A new strategy joins the list below; it is then run on three altered futures, at every lag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import sddp.backtest
from sddp.backtest import (
    BuyAndHold,
    CalibratedStrategy,
    DynamicRiskParity,
    EqualWeight,
    EveryPeriods,
    HeldToHorizon,
    HoldCash,
    InverseVolatility,
    LimitedStrategy,
    MultistageStrategy,
    OneStageStrategy,
    PredictiveControl,
    ScaledToLimit,
    Strategy,
    backtest,
)

START, LAST_KNOWN = 12, 35


class CachesByDate:
    """Remembers what it computed: a cache must not bring the future back."""

    def __init__(self):
        self.known = {}

    def decide(self, view, holdings):
        for row in range(5, len(view.dates)):
            if view.dates[row] not in self.known:
                momentum = view.returns.iloc[row - 5 : row].mean()
                self.known[view.dates[row]] = momentum.clip(lower=0.0)
        latest = self.known[view.date] * (1.0 + view.factors.iloc[-1, 0] ** 2)
        return latest / max(latest.sum(), 1e-12) * min(1.0, 15.0 / view.volatility_index.iloc[-1])


class FollowsHoldings:
    """Depends on the money held, and so on all that was executed before."""

    def decide(self, view, holdings):
        return (holdings / holdings.sum() + 0.1) / (1.0 + 0.1 * len(holdings))


class Peeks:
    """Looks at tomorrow through a door of its own: the check must catch it."""

    def __init__(self, prices):
        self.prices = prices

    def decide(self, view, holdings):
        tomorrow = self.prices.loc[view.date :].iloc[:2]
        gain = tomorrow.iloc[-1] / tomorrow.iloc[0]
        return pd.Series({gain.fillna(1.0).idxmax(): 1.0})


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "cash": HoldCash,
    "equal": EqualWeight,
    "equal and cash": lambda: EqualWeight(include_cash=True),
    "buy and hold": lambda: BuyAndHold({"gold": 0.5, "euro": 0.3}),
    "inverse volatility": lambda: InverseVolatility(window=10),
    "caches": CachesByDate,
    "holdings": FollowsHoldings,
}


def truncated(data, other):
    return replace(
        data,
        prices=data.prices.iloc[: LAST_KNOWN + 1],
        cash_rate=data.cash_rate.iloc[: LAST_KNOWN + 1],
        factors=data.factors.iloc[: LAST_KNOWN + 1],
        volatility_index=data.volatility_index.iloc[: LAST_KNOWN + 1],
    )


def replaced(data, other):
    def joined(name):
        past, future = getattr(data, name), getattr(other, name)
        return pd.concat([past.iloc[: LAST_KNOWN + 1], future.iloc[LAST_KNOWN + 1 :]])

    names = ("prices", "cash_rate", "factors", "volatility_index")
    return replace(data, **{name: joined(name) for name in names})


def emptied(data, other):
    altered = replaced(data, other)
    prices, index = altered.prices.copy(), altered.volatility_index.copy()
    prices.iloc[LAST_KNOWN + 1 :] = np.nan
    index.iloc[LAST_KNOWN + 1 :] = np.nan
    return replace(altered, prices=prices, volatility_index=index)


FUTURES = {"truncated": truncated, "replaced": replaced, "emptied": emptied}


def decisions(strategy: Strategy, data, lag: int) -> pd.DataFrame:
    report = backtest(
        data.market(missing="carry"),
        {"tested": strategy},
        start=data.prices.index[START],
        transaction_cost=0.002,
        lag=lag,
    )
    return report.ledger("tested").decisions


def assert_no_look_ahead(make: Callable[..., Strategy], data, other, future: str, lag: int) -> None:
    """Decisions up to the last known row are the same bits under another future."""
    altered = FUTURES[future](data, other)
    expected = decisions(make(data), data, lag).iloc[: LAST_KNOWN + 1 - START]
    found = decisions(make(altered), altered, lag).iloc[: LAST_KNOWN + 1 - START]
    # The order of a truncated market's last rows could no longer earn anything.
    lost = lag + 1 if future == "truncated" else 0
    assert len(expected) == len(found) + lost == LAST_KNOWN + 1 - START
    expected = expected.iloc[: len(found)]
    assert found.index.equals(expected.index)
    assert found.to_numpy().tobytes() == expected.to_numpy().tobytes()


# Checked where they are tested, with their estimates and caches: `test_multistage`,
# `test_calibration`, `test_opponents`,
# `test_one_stage`, `test_optimizers`, their variants in `test_study`, and those of the study in
# `tests.experiments.test_brazil`.
ELSEWHERE = {
    *(CalibratedStrategy, HeldToHorizon, PredictiveControl, ScaledToLimit),
    *(MultistageStrategy, OneStageStrategy, DynamicRiskParity),
}


def test_every_strategy_of_the_package_is_checked():
    public = {name: getattr(sddp.backtest, name) for name in sddp.backtest.__all__}
    deciding = {thing for thing in public.values() if hasattr(thing, "decide")} - {
        Strategy,
        LimitedStrategy,
    }
    assert deciding - ELSEWHERE <= {type(make()) for make in STRATEGIES.values()}
    assert deciding > ELSEWHERE


@pytest.mark.long
@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize("future", FUTURES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_decisions_ignore_the_future(name, future, lag, data, other_data):
    assert_no_look_ahead(lambda _: STRATEGIES[name](), data, other_data, future, lag)


@pytest.mark.parametrize("future", ["replaced", "emptied"])
def test_the_check_catches_a_strategy_that_peeks(future, data, other_data):
    with pytest.raises(AssertionError):
        assert_no_look_ahead(lambda known: Peeks(known.prices), data, other_data, future, 1)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_last_known_view_is_enough_for_the_last_decision(name, data, other_data):
    """A truncated market's last row is decided on as in the full one."""
    date = data.prices.index[LAST_KNOWN]
    holdings = pd.Series({"cash": 0.4, "gold": 0.2, "stocks": 0.2, "dollar": 0.1, "euro": 0.1})
    answers = [
        STRATEGIES[name]().decide(known.market().at(date), holdings)
        for known in (data, truncated(data, other_data))
    ]
    assert answers[0].to_numpy().tobytes() == answers[1].to_numpy().tobytes()


def test_dropped_rows_do_not_look_ahead_either(data, other_data):
    prices = data.prices.copy()
    prices.iloc[20, 1] = np.nan
    data = replace(data, prices=prices)
    date = prices.index[LAST_KNOWN]
    views = [
        known.market(missing="drop").at(date)
        for known in (data, *(future(data, other_data) for future in FUTURES.values()))
    ]
    for view in views[1:]:
        for name in ("prices", "returns", "cash_rate", "factors", "volatility_index"):
            bits = [getattr(v, name).to_numpy().tobytes() for v in (views[0], view)]
            assert bits[0] == bits[1], name


def test_a_trigger_does_not_look_ahead(data, other_data):
    altered = replaced(data, other_data)
    tables = [
        backtest(
            known.market(),
            {"tested": InverseVolatility(window=10)},
            start=data.prices.index[START],
            transaction_cost=0.002,
            rebalance=EveryPeriods(4),
        )
        .ledger("tested")
        .decisions.loc[: data.prices.index[LAST_KNOWN]]
        for known in (data, altered)
    ]
    assert tables[0].equals(tables[1])
    assert len(tables[0]) == 6
