from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sddp.backtest import EqualWeight, backtest
from sddp.market import Market

TOLERANCE = 1e-12


class Scripted:
    """Target weights by row, or no trade."""

    def __init__(self, targets):
        self.targets = targets

    def decide(self, view, holdings):
        target = self.targets[len(view.dates) - 1]
        return None if target is None else pd.Series(target, index=view.assets)


@st.composite
def cases(draw):
    """A market, weights for each row, and the terms of trade."""
    n_assets, n_rows = draw(st.integers(1, 4)), draw(st.integers(5, 8))

    def vector(low, high, size):
        return draw(st.lists(st.floats(low, high), min_size=size, max_size=size))

    def target():
        shares = np.array(vector(0.0, 1.0, n_assets + 1)) + 1e-3
        return None if draw(st.integers(0, 4)) == 0 else (shares / shares.sum())[1:]

    steps = np.array(vector(-0.5, 0.5, n_rows * n_assets)).reshape(n_rows, n_assets)
    prices = pd.DataFrame(
        100.0 * np.exp(steps.cumsum(axis=0)),
        index=pd.bdate_range("2020-01-01", periods=n_rows),
        columns=[f"asset{i}" for i in range(n_assets)],
    )
    rates = pd.Series(vector(-0.01, 0.01, n_rows), prices.index)
    costs = tuple(
        dict(zip(prices.columns, vector(0.0, 0.2, n_assets), strict=True)) for _ in ("buy", "sell")
    )
    options = {
        "lag": draw(st.integers(0, 2)),
        "initial_wealth": draw(st.floats(1e-3, 1e9)),
        "transaction_cost": costs,
    }
    return prices, rates, Scripted([target() for _ in range(n_rows)]), options


def exactly(values) -> list[Fraction]:
    return [Fraction(float(value)) for value in values]


@pytest.mark.long
@settings(deadline=None)
@given(cases())
def test_every_step_balances_in_exact_arithmetic(case):
    """Each line follows from the line before, prices and terms, added up without rounding."""
    prices, rates, strategy, options = case
    market = Market(prices, cash_rate=rates)
    report = backtest(market, {"s": strategy}, start=prices.index[0], **options)
    ledger = report.ledger("s")
    buy, sell = (exactly(side.values()) for side in options["transaction_cost"])
    lag = options["lag"]
    held = [Fraction(options["initial_wealth"])] + [Fraction(0)] * prices.shape[1]
    for row in range(len(prices)):
        wealth = sum(held)
        if row > 0:
            growth = [1 + Fraction(float(rates.iloc[row]))] + [
                new / old
                for new, old in zip(
                    exactly(prices.iloc[row]), exactly(prices.iloc[row - 1]), strict=True
                )
            ]
            held = [h * g for h, g in zip(held, growth, strict=True)]
        before, after = (
            exactly(ledger.holdings_before.iloc[row]),
            exactly(ledger.holdings_after.iloc[row]),
        )
        trades, costs = exactly(ledger.executed.iloc[row]), exactly(ledger.costs.iloc[row])
        wealth = max(wealth, sum(held))

        assert all(abs(b - h) <= TOLERANCE * wealth for b, h in zip(before, held, strict=True))
        charged = [b * t if t > 0 else -s * t for t, b, s in zip(trades, buy, sell, strict=True)]
        assert all(abs(c - p) <= TOLERANCE * wealth for c, p in zip(charged, costs, strict=True))
        cash = before[0] - sum(trades) - sum(charged)
        expected = [cash] + [b + t for b, t in zip(before[1:], trades, strict=True)]
        assert all(abs(a - e) <= TOLERANCE * wealth for a, e in zip(after, expected, strict=True))
        assert min(after) >= 0

        decided = row - lag
        target = strategy.targets[decided] if decided >= 0 and row < len(prices) - 1 else None
        if target is None:
            assert not any(trades)
        else:
            weights = np.array([float(a / sum(after)) for a in after[1:]])
            assert weights == pytest.approx(target, abs=1e-12)
        held = after
    assert ledger.imbalance().max() < TOLERANCE


@pytest.fixture
def ledger(market):
    report = backtest(market, {"s": EqualWeight()}, start="2020-01-13", transaction_cost=0.01)
    return report.ledger("s")


@pytest.mark.parametrize(
    "table", ["earned", "holdings_before", "executed", "costs", "holdings_after"]
)
def test_imbalance_sees_one_wrong_number(ledger, table):
    forged = getattr(ledger, table).copy()
    forged.iloc[5, 1] += 1e-9
    imbalance = replace(ledger, **{table: forged}).imbalance()
    assert ledger.imbalance().max() < TOLERANCE
    assert imbalance.iloc[5] > 1e-10


def test_turnover_counts_purchases_and_sales():
    dates = pd.date_range("2020-01-01", periods=4)
    market = Market(pd.DataFrame({"a": [1.0] * 4, "b": [1.0] * 4}, dates))
    swap = Scripted([np.array([1.0, 0.0]), np.array([0.0, 1.0]), np.array([0.5, 0.0])])
    report = backtest(market, {"s": swap}, start=dates[0], transaction_cost=0.0, lag=0)
    assert report.ledger("s").turnover.tolist() == [1.0, 2.0, 1.5, 0.0]


def test_wealth_is_before_and_weights_are_after_trades(ledger):
    assert ledger.wealth.iloc[0] == 1.0
    assert ledger.weights.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert ledger.weights.iloc[1:-1, 1:].to_numpy() == pytest.approx(0.25, abs=1e-12)
    period = ledger.wealth.iloc[1:].to_numpy() - ledger.wealth.iloc[:-1].to_numpy()
    earned, paid = ledger.earned.sum(axis=1).iloc[1:], ledger.costs.sum(axis=1).iloc[:-1]
    assert period == pytest.approx(earned.to_numpy() - paid.to_numpy(), abs=1e-15)


def test_holdings_name_cash_first(ledger):
    assert list(ledger.holdings_before.columns) == ["cash", "gold", "stocks", "dollar", "euro"]
    assert list(ledger.executed.columns) == ["gold", "stocks", "dollar", "euro"]
    assert list(ledger.decisions.columns) == list(ledger.earned.columns)
