"""Problems small enough for a pencil."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from sddp.portfolio import MeanVariance, Moments
from tests.portfolio.oracles import kkt_errors
from tests.portfolio.problems import answer, random_numbers, risky

MEAN, VARIANCE, CASH_RETURN = 0.012, 0.0025, 0.002


def one_asset(current: float, **changes):
    settings = {
        "risk_aversion": 8.0,
        "transaction_cost": 0.004,
        "sale_cost": 0.003,
        "self_financing": False,
    }
    return MeanVariance(**(settings | changes)).solve(
        Moments([MEAN], [[VARIANCE]]), current_weights=[current], cash_return=CASH_RETURN
    )


def test_two_assets_without_cash_or_costs():
    """``w_1 = (S_22 - S_12 + (mu_1 - mu_2) / lambda) / (S_11 + S_22 - 2 S_12)``."""
    mean, covariance = np.array([0.010, 0.006]), np.array([[0.0036, 0.0006], [0.0006, 0.0016]])
    expected = (0.0016 - 0.0006 + 0.004 / 4.0) / (0.0036 + 0.0016 - 0.0012)
    result = MeanVariance(risk_aversion=4.0, max_cash=0.0).solve(
        Moments(mean, covariance), current_weights=[0.5, 0.5]
    )
    assert result.holdings["asset1"] == pytest.approx(expected, abs=1e-12)
    assert result.holdings["cash"] == 0.0


@pytest.mark.parametrize("self_financing", [True, False])
def test_no_trade_zone_of_one_asset(self_financing):
    """Buy up to one edge, sell down to the other, between them nothing.

    A unit of cost paid from holdings costs the interest on it as well.
    """
    paid = 1.0 + self_financing * CASH_RETURN
    low = (MEAN - CASH_RETURN - paid * 0.004) / (8.0 * VARIANCE)
    high = (MEAN - CASH_RETURN + paid * 0.003) / (8.0 * VARIANCE)
    for current, target in ((0.0, low), (low - 0.01, low), (high + 0.01, high), (0.9, high)):
        result = one_asset(current, self_financing=self_financing)
        assert result.holdings["asset1"] == pytest.approx(target, abs=1e-12)
    for current in (low + 1e-9, (low + high) / 2.0, high - 1e-9):
        result = one_asset(current, self_financing=self_financing)
        assert result.trades["asset1"] == 0.0
        assert result.cost == 0.0


@pytest.mark.parametrize("dust", [10.0**-k for k in range(5, 16)])
@pytest.mark.parametrize("risk_aversion", [0.0, 1e-5, 8.0])
def test_dust_is_left_where_selling_it_costs_more_than_it_loses(dust, risk_aversion):
    """A weight that is nearly on its bound, and cash that is nearly at its own."""
    result = one_asset(
        dust, risk_aversion=risk_aversion, transaction_cost=0.02, sale_cost=0.02, max_weights=2.0
    )
    assert result.trades["asset1"] == 0.0
    assert result.residual < 1e-12
    full = one_asset(1.0 - dust, risk_aversion=0.0, transaction_cost=0.02)
    assert abs(full.trades["asset1"]) < 1e-12


def test_the_kinks_dual_is_the_gain_that_is_left_alone():
    buying, holding, selling = one_asset(0.1), one_asset(0.5), one_asset(0.9)
    assert buying.duals.marginal_cost["asset1"] == 0.004
    assert selling.duals.marginal_cost["asset1"] == -0.003
    gain = MEAN - CASH_RETURN - 8.0 * VARIANCE * 0.5
    assert -0.003 < gain < 0.004
    assert holding.duals.marginal_cost["asset1"] == pytest.approx(gain, abs=1e-15)


def test_uncorrelated_assets_are_decided_one_by_one():
    """With cash to spare and a diagonal covariance each asset has its own no-trade zone."""
    rng = np.random.default_rng(5)
    n, variances = 40, rng.uniform(0.001, 0.004, 40)
    mean, current = rng.normal(0.002, 0.001, n), rng.uniform(0.0, 0.01, n)
    result = MeanVariance(
        risk_aversion=50.0, transaction_cost=0.0007, sale_cost=0.0004, self_financing=False
    ).solve(Moments(mean, np.diag(variances)), current_weights=current, cash_return=0.001)
    low = (mean - 0.001 - 0.0007) / (50.0 * variances)
    high = (mean - 0.001 + 0.0004) / (50.0 * variances)
    expected = np.maximum(np.clip(current, low, high), 0.0)
    assert result.holdings["cash"] > 0.0
    assert risky(result) == pytest.approx(expected, abs=1e-12)
    untouched = (current > low) & (current < high)
    assert 0 < untouched.sum() < n
    assert (result.trades.to_numpy()[untouched] == 0.0).all()


def test_no_appetite_for_risk_gives_the_least_variance():
    """``S^-1 1 / (1' S^-1 1)`` where that holds nothing short."""
    covariance = np.array([[0.004, 0.001, 0.0], [0.001, 0.003, 0.0005], [0.0, 0.0005, 0.002]])
    inverse = np.linalg.solve(covariance, np.ones(3))
    result = MeanVariance(risk_aversion=1e9, max_cash=0.0).solve(
        Moments([0.05, 0.01, -0.02], covariance), current_weights=[1.0, 0.0, 0.0]
    )
    assert risky(result) == pytest.approx(inverse / inverse.sum(), abs=1e-7)


def test_no_fear_of_risk_takes_the_best_after_costs():
    model = MeanVariance(risk_aversion=0.0, transaction_cost=[0.03, 0.0, 0.0], self_financing=False)
    result = model.solve(Moments([0.05, 0.04, 0.01], np.eye(3)), current_weights=[0.0, 0.0, 1.0])
    assert risky(result) == pytest.approx([0.0, 1.0, 0.0], abs=1e-14)
    assert result.duals.upper["asset2"] + result.duals.budget == pytest.approx(0.04, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cash", [True, False])
def test_self_financing_holdings_and_costs_add_up(seed, cash):
    result = answer(random_numbers(seed, 12, cash=cash, self_financing=True))
    assert result.cost > 1e-4
    assert result.holdings.sum() + result.cost == pytest.approx(1.0, abs=1e-14)
    assert result.weights.sum() == pytest.approx(1.0, abs=1e-14)
    assert result.weights.to_numpy() == pytest.approx(
        result.holdings.to_numpy() / (1.0 - result.cost), abs=1e-14
    )


def test_text_book_holdings_do_not_pay():
    result = answer(random_numbers(2, 12, self_financing=False))
    assert result.cost > 1e-4
    assert result.holdings.sum() == pytest.approx(1.0, abs=1e-14)
    assert result.weights.to_numpy() == pytest.approx(result.holdings.to_numpy(), abs=1e-14)


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1e3, 1e6])
@pytest.mark.parametrize("seed", range(4))
def test_units_of_return_do_not_move_the_text_book_weights(seed, unit):
    """Everything but the weights in another unit; costs such that they stay below 1 in both."""
    numbers = random_numbers(seed, 10, self_financing=False)
    small = min(1.0, 1.0 / unit)
    numbers = numbers.with_(buy=numbers.buy * small, sell=numbers.sell * small)
    names = ("mean", "covariance", "buy", "sell", "cash_return")
    other = numbers.with_(**{name: getattr(numbers, name) * unit for name in names})
    assert risky(answer(other)) == pytest.approx(risky(answer(numbers)), abs=1e-9)
    assert answer(other).objective == pytest.approx(unit * answer(numbers).objective, rel=1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
@pytest.mark.parametrize("seed", range(4))
def test_units_of_risk_do_not_move_the_self_financing_weights(seed, unit):
    numbers = random_numbers(seed, 10, self_financing=True)
    other = numbers.with_(
        covariance=numbers.covariance * unit, risk_aversion=numbers.risk_aversion / unit
    )
    assert risky(answer(other)) == pytest.approx(risky(answer(numbers)), abs=1e-9)


def test_daily_numbers_are_solved_as_exactly_as_monthly_ones():
    """Means of 1e-4, variances of 1e-6 and costs of 5e-4: as a daily backtest has them."""
    numbers = random_numbers(3, 10, self_financing=True)
    daily = numbers.with_(
        mean=numbers.mean / 21.0,
        covariance=numbers.covariance / 500.0,
        buy=numbers.buy / 20.0,
        sell=numbers.sell / 20.0,
        cash_return=numbers.cash_return / 21.0,
    )
    result = answer(daily)
    assert result.residual < 1e-12
    errors = kkt_errors(daily, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-10, errors


@pytest.mark.parametrize(
    ("bound", "change", "position"),
    [("upper", {"max_weights": {"a": 0.3}}, "a"), ("lower", {"min_weights": {"b": 0.3}}, "b")],
)
def test_a_bounds_dual_is_what_relaxing_it_brings(bound, change, position):
    def value(by: float) -> tuple[float, float]:
        (name, limits), *_ = change.items()
        moved = {key: limit + by for key, limit in limits.items()}
        result = MeanVariance(risk_aversion=3.0, transaction_cost=0.002, **{name: moved}).solve(
            Moments(mean, covariance), current_weights={"a": 0.1, "b": 0.1}
        )
        return result.objective, getattr(result.duals, bound)[position]

    mean = pd.Series({"a": 0.02, "b": -0.01})
    covariance = pd.DataFrame([[0.002, 0.0], [0.0, 0.002]], mean.index, mean.index)
    step = 1e-5
    sign = 1.0 if bound == "upper" else -1.0
    slope = sign * (value(step)[0] - value(-step)[0]) / (2.0 * step)
    assert value(0.0)[1] > 0.005
    assert value(0.0)[1] == pytest.approx(slope, rel=1e-6)


def test_a_weight_outside_its_bounds_is_brought_inside_and_pays():
    model = MeanVariance(risk_aversion=5.0, transaction_cost=0.01, max_weights=0.4)
    result = model.solve(Moments([0.03, 0.0], np.eye(2) * 0.01), current_weights=[0.7, 0.3])
    assert result.holdings["asset1"] == 0.4
    assert result.trades["asset1"] == pytest.approx(-0.3, abs=1e-15)
    assert result.cost == pytest.approx(0.01 * np.abs(result.trades).sum(), abs=1e-15)


def test_holdings_that_are_prescribed_are_taken():
    """Nothing is left to decide, and nothing is left to solve."""
    model = MeanVariance(
        risk_aversion=5.0, transaction_cost=0.01, min_weights=[0.2, 0.3], max_weights=[0.2, 0.3]
    )
    result = model.solve(Moments([0.03, 0.0], np.eye(2) * 0.01), current_weights=[0.0, 0.0])
    assert risky(result).tolist() == [0.2, 0.3]
    assert result.holdings["cash"] == pytest.approx(0.5 - 0.005, abs=1e-15)


def test_a_bound_that_leaves_one_point_is_solved():
    model = MeanVariance(risk_aversion=5.0, max_weights=0.5, max_cash=0.0)
    result = model.solve(Moments([0.03, 0.0], np.eye(2) * 0.01), current_weights=[0.1, 0.9])
    assert risky(result) == pytest.approx([0.5, 0.5], abs=1e-12)


def test_short_sales_and_loans_where_they_are_allowed():
    """Unbounded, without costs: ``w = S^-1 (mu - r) / lambda``."""
    mean, covariance = np.array([0.02, -0.01]), np.array([[0.004, 0.001], [0.001, 0.003]])
    model = MeanVariance(
        risk_aversion=1.5, min_weights=-9.0, max_weights=9.0, min_cash=-9.0, max_cash=9.0
    )
    result = model.solve(Moments(mean, covariance), current_weights=[0.0, 0.0], cash_return=0.001)
    expected = np.linalg.solve(covariance, mean - 0.001) / 1.5
    assert expected.max() > 1.0
    assert expected.min() < 0.0
    assert risky(result) == pytest.approx(expected, abs=1e-11)
