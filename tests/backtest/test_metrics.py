from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest

from sddp.backtest import metrics
from sddp.errors import DataError


def wealth_of(*levels: float) -> pd.Series:
    return pd.Series(levels, pd.date_range("2020-01-01", periods=len(levels)))


@pytest.fixture
def returns() -> np.ndarray:
    return np.random.default_rng(5).standard_t(4, 503) * 0.01 + 0.0004


@pytest.fixture
def wealth(returns) -> pd.Series:
    levels = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    return pd.Series(levels, pd.bdate_range("2015-01-01", periods=504))


# --- years ---


def test_periods_per_year_come_from_the_dates():
    monthly = pd.date_range("2000-01-31", "2020-01-31", freq="ME")
    assert metrics.periods_per_year(monthly) == pytest.approx(12.0, rel=1e-3)
    # The Brazilian set: 5,042 rows from 2000-01-04 to 2021-06-02.
    brazil = pd.DatetimeIndex(np.linspace(946944000, 1622592000, 5042) * 1e9)
    assert metrics.periods_per_year(brazil) == pytest.approx(235.5, abs=0.05)
    with pytest.raises(DataError, match="1 dates hold no period"):
        metrics.periods_per_year(brazil[:1])


def test_annualised_return_doubles_in_a_year():
    wealth = pd.Series([1.0, 1.1, 2.0], pd.to_datetime(["2020-01-01", "2020-05-01", "2022-01-01"]))
    years = (366 + 365) / 365.25
    assert metrics.annualised_return(wealth) == pytest.approx(2.0 ** (1 / years) - 1.0)


def test_simple_returns():
    assert metrics.simple_returns([1.0, 1.5, 0.75]) == pytest.approx([0.5, -0.5])


def test_per_year_sums_over_calendar_years():
    amounts = pd.Series(0.01, pd.date_range("2000-01-01", "2004-01-01", freq="D"))
    assert metrics.per_year(amounts) == pytest.approx(0.01 * len(amounts) / 4.0)


# --- ratios, against another hand ---


def test_volatility_and_sharpe_against_the_statistics_module(returns):
    cash = np.linspace(0.0001, 0.0003, returns.size)
    assert metrics.volatility(returns, 235.5) == pytest.approx(
        statistics.stdev(returns.tolist()) * math.sqrt(235.5), rel=1e-12
    )
    excess = (returns - cash).tolist()
    expected = statistics.fmean(excess) / statistics.stdev(excess) * math.sqrt(235.5)
    assert metrics.sharpe_ratio(returns, cash, 235.5) == pytest.approx(expected, rel=1e-12)


def test_sortino_in_closed_form():
    # Mean 0.02, downside deviation sqrt((0.01^2 + 0.02^2) / 4).
    expected = 0.02 / math.sqrt(0.0005 / 4) * math.sqrt(12)
    assert metrics.sortino_ratio([0.08, -0.01, 0.03, -0.02], 12.0) == pytest.approx(expected)
    shifted = metrics.sortino_ratio([0.09, 0.0, 0.04, -0.01], 12.0, minimum_return=0.01)
    assert shifted == pytest.approx(expected)


def test_ratios_agree_with_skfolio(returns):
    measures = pytest.importorskip("skfolio.measures")
    assert metrics.volatility(returns, 1.0) == pytest.approx(
        measures.standard_deviation(returns), rel=1e-12
    )
    for confidence in (0.9, 0.95, 0.99, 0.937):
        assert metrics.value_at_risk(returns, confidence=confidence) == pytest.approx(
            measures.value_at_risk(returns, beta=confidence), rel=1e-12
        )
        assert metrics.conditional_value_at_risk(returns, confidence=confidence) == pytest.approx(
            measures.cvar(returns, beta=confidence), rel=1e-12
        )


def test_a_ratio_to_nothing_is_not_a_number():
    constant = np.full(10, 0.001) + 1e-17
    assert math.isnan(metrics.sharpe_ratio(constant, np.full(10, 0.001), 252.0))
    assert math.isnan(metrics.sortino_ratio(constant, 252.0))
    assert math.isnan(metrics.calmar_ratio(wealth_of(1.0, 1.1, 1.2)))
    assert math.isnan(metrics.volatility([0.1], 252.0))


def test_calmar_divides_by_the_deepest_fall(wealth):
    expected = metrics.annualised_return(wealth) / -metrics.maximum_drawdown(wealth).depth
    assert metrics.calmar_ratio(wealth) == pytest.approx(expected)


# --- drawdown ---


def test_drawdown_with_its_dates():
    fall = metrics.maximum_drawdown(wealth_of(1.0, 2.0, 2.0, 1.5, 1.0, 1.2, 2.0, 3.0, 2.7))
    assert fall.depth == pytest.approx(-0.5)
    assert [date.day for date in fall[1:]] == [3, 5, 7]


def test_a_fall_that_has_not_recovered():
    fall = metrics.maximum_drawdown(wealth_of(1.0, 0.8, 0.9))
    assert fall.depth == pytest.approx(-0.2)
    assert (fall.peak.day, fall.trough.day, fall.recovery) == (1, 2, pd.NaT)


def test_no_fall_at_all():
    assert metrics.maximum_drawdown(wealth_of(1.0, 1.0, 1.2)).depth == 0.0


def test_drawdown_against_all_pairs(wealth):
    w = wealth.to_numpy()
    expected = min(w[j] / w[i] - 1.0 for i in range(len(w)) for j in range(i, len(w)))
    fall = metrics.maximum_drawdown(wealth)
    assert fall.depth == pytest.approx(expected, rel=1e-14)
    assert wealth[fall.trough] / wealth[fall.peak] - 1.0 == pytest.approx(expected, rel=1e-14)
    assert metrics.drawdowns(wealth).min() == fall.depth


# --- tails ---


def test_tails_by_hand():
    returns = np.array([-0.10, -0.04, -0.02, *[0.01] * 7])
    # The worst 15 % of ten periods: the worst one and half of the second.
    assert metrics.conditional_value_at_risk(returns, confidence=0.85) == pytest.approx(
        (0.10 + 0.5 * 0.04) / 1.5
    )
    assert metrics.value_at_risk(returns, confidence=0.85) == 0.04
    assert metrics.value_at_risk(returns, confidence=0.9) == 0.10
    assert metrics.value_at_risk(returns, confidence=0.999) == 0.10
    assert metrics.conditional_value_at_risk([0.01, 0.03], confidence=0.5) == -0.01


def test_five_percent_of_a_hundred_are_five():
    losses = np.arange(100.0)
    assert metrics.value_at_risk(-losses, confidence=0.95) == 95.0
    assert metrics.conditional_value_at_risk(-losses, confidence=0.95) == pytest.approx(97.0)


def test_tails_of_a_normal_law():
    """Standard error of the 95 % CVaR of a normal law: about 2.3 / sqrt(n)."""
    draws = np.random.default_rng(3).normal(size=200_000)
    var = metrics.value_at_risk(draws, confidence=0.95)
    cvar = metrics.conditional_value_at_risk(draws, confidence=0.95)
    assert var == pytest.approx(1.644854, abs=0.02)
    assert cvar == pytest.approx(2.062713, abs=0.02)


# --- others ---


def test_hit_rate_counts_gains():
    assert metrics.hit_rate([0.1, 0.0, -0.1, 0.2]) == 0.5


def test_trailing_return_looks_back_by_calendar_months():
    dates = pd.to_datetime(["2020-01-30", "2020-02-15", "2020-02-29", "2020-04-10", "2020-04-30"])
    wealth = pd.DataFrame({"s": [1.0, 2.0, 3.0, 6.0, 9.0]}, dates)
    trailing = metrics.trailing_return(wealth, months=2)
    # 2020-04-10 looks back to 2020-02-10, where 2020-01-30 is the last row; 04-30 to 02-29.
    assert trailing["s"].tolist() == pytest.approx([5.0, 2.0])
    assert trailing.index.equals(dates[3:])
