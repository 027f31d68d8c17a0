from __future__ import annotations

import math
import statistics

import empyrical
import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from sddp.dates import periods_per_year
from sddp.evaluation import metrics


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


def test_annualized_return_doubles_in_a_year():
    wealth = pd.Series([1.0, 1.1, 2.0], pd.to_datetime(["2020-01-01", "2020-05-01", "2022-01-01"]))
    years = (366 + 365) / 365.25
    assert metrics.annualized_return(wealth) == pytest.approx(2.0 ** (1 / years) - 1.0)


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
    falls = measures.get_drawdowns(returns, compounded=True)
    levels = np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    wealth = pd.Series(levels, pd.bdate_range("2015-01-01", periods=levels.size))
    assert metrics.maximum_drawdown(wealth).depth == pytest.approx(falls.min(), rel=1e-12)
    ratio = measures.mean(returns - 0.0001) / measures.standard_deviation(returns - 0.0001)
    cash = np.full(returns.size, 0.0001)
    assert metrics.sharpe_ratio(returns, cash, 1.0) == pytest.approx(ratio, rel=1e-10)


def test_a_ratio_to_nothing_is_not_a_number():
    constant = np.full(10, 0.001) + 1e-17
    assert math.isnan(metrics.sharpe_ratio(constant, np.full(10, 0.001), 252.0))
    assert math.isnan(metrics.sortino_ratio(constant, 252.0))
    assert math.isnan(metrics.calmar_ratio(wealth_of(1.0, 1.1, 1.2)))
    assert math.isnan(metrics.volatility([0.1], 252.0))


def test_calmar_divides_by_the_deepest_fall(wealth):
    expected = metrics.annualized_return(wealth) / -metrics.maximum_drawdown(wealth).depth
    assert metrics.calmar_ratio(wealth) == pytest.approx(expected)


# --- against a benchmark ---


@pytest.fixture
def benchmark(returns) -> np.ndarray:
    return 0.6 * returns + np.random.default_rng(6).normal(0.0001, 0.004, returns.size)


def test_beta_and_alpha_are_those_of_the_regression(returns, benchmark):
    cash = np.linspace(0.0001, 0.0003, returns.size)
    line = linregress(benchmark - cash, returns - cash)
    assert metrics.beta(returns, benchmark, cash) == pytest.approx(line.slope, rel=1e-10)
    alpha = metrics.alpha(returns, benchmark, cash, 235.5)
    assert alpha == pytest.approx(line.intercept * 235.5, rel=1e-9)


def test_measures_against_a_benchmark_agree_with_empyrical(returns, benchmark):
    cash = np.full(returns.size, 0.0001)
    assert metrics.beta(returns, benchmark, cash) == pytest.approx(
        empyrical.beta(returns, benchmark, risk_free=0.0001), rel=1e-10
    )
    # It compounds: (1 + alpha)^periods - 1.
    compounded = empyrical.alpha(returns, benchmark, risk_free=0.0001, annualization=1.0)
    assert metrics.alpha(returns, benchmark, cash, 252.0) == pytest.approx(
        compounded * 252.0, rel=1e-8
    )
    # Its excess Sharpe ratio is per period.
    assert metrics.information_ratio(returns, benchmark, 252.0) == pytest.approx(
        empyrical.excess_sharpe(returns, benchmark) * math.sqrt(252.0), rel=1e-10
    )
    assert metrics.tracking_error(returns, benchmark, 252.0) == pytest.approx(
        empyrical.annual_volatility(returns - benchmark, annualization=252.0), rel=1e-10
    )


def test_the_other_measures_agree_with_empyrical(returns, wealth):
    table = pd.Series(returns, wealth.index[1:])
    assert metrics.sortino_ratio(returns, 252.0) == pytest.approx(
        empyrical.sortino_ratio(returns, annualization=252.0), rel=1e-10
    )
    assert metrics.sharpe_ratio(returns, np.full(returns.size, 0.0001), 252.0) == pytest.approx(
        empyrical.sharpe_ratio(returns, risk_free=0.0001, annualization=252.0), rel=1e-10
    )
    fall = metrics.maximum_drawdown(wealth).depth
    assert fall == pytest.approx(empyrical.max_drawdown(table), rel=1e-10)
    per_year = periods_per_year(wealth.index)
    assert metrics.annualized_return(wealth) == pytest.approx(
        empyrical.annual_return(returns, annualization=per_year), rel=1e-10
    )
    assert metrics.calmar_ratio(wealth) == pytest.approx(
        empyrical.calmar_ratio(table, annualization=per_year), rel=1e-10
    )


def test_a_benchmark_against_itself(benchmark):
    cash = np.full(benchmark.size, 0.0001)
    assert metrics.beta(benchmark, benchmark, cash) == pytest.approx(1.0)
    assert metrics.alpha(benchmark, benchmark, cash, 252.0) == pytest.approx(0.0, abs=1e-15)
    assert metrics.tracking_error(benchmark, benchmark, 252.0) == 0.0
    assert math.isnan(metrics.information_ratio(benchmark, benchmark, 252.0))


def test_two_points_make_no_line(returns, benchmark):
    cash = np.zeros(3)
    assert math.isnan(metrics.beta(returns[:2], benchmark[:2], cash[:2]))
    assert math.isnan(metrics.alpha(returns[:2], benchmark[:2], cash[:2], 252.0))
    assert math.isfinite(metrics.beta(returns[:3], benchmark[:3], cash))


def test_cash_is_no_benchmark(returns):
    cash = np.full(returns.size, 0.0001)
    assert math.isnan(metrics.beta(returns, cash, cash))
    assert metrics.information_ratio(returns, cash, 252.0) == metrics.sharpe_ratio(
        returns, cash, 252.0
    )


# --- missing returns ---


def test_what_a_missing_return_enters_is_not_a_number(returns, benchmark):
    cash = np.zeros(returns.size)
    gap = returns.copy()
    gap[7] = np.nan
    assert math.isnan(metrics.volatility(gap, 252.0))
    assert math.isnan(metrics.sharpe_ratio(gap, cash, 252.0))
    assert math.isnan(metrics.sortino_ratio(gap, 252.0))
    assert math.isnan(metrics.beta(gap, benchmark, cash))
    assert math.isnan(metrics.beta(benchmark, gap, cash))
    assert math.isnan(metrics.value_at_risk(gap, confidence=0.95))
    assert math.isnan(metrics.conditional_value_at_risk(gap, confidence=0.95))
    assert math.isnan(metrics.hit_rate(gap))


# --- rolling ---


@pytest.fixture
def table(wealth, returns, benchmark) -> pd.DataFrame:
    return pd.DataFrame({"s": returns, "t": benchmark}, wealth.index[1:])


def test_rolling_measures_are_those_of_the_trailing_months(table, benchmark):
    cash = pd.Series(np.linspace(0.0, 0.0002, len(table)), table.index)
    base = pd.Series(benchmark, table.index)
    rolled = {
        "volatility": metrics.rolling_volatility(table, months=3),
        "sharpe": metrics.rolling_sharpe(table, cash, months=3),
        "beta": metrics.rolling_beta(table, base, cash, months=3),
        "cvar": metrics.rolling_cvar(table, months=3, confidence=0.9),
    }
    per_year = periods_per_year(table.index)
    first = table.index[table.index >= table.index[0] + pd.DateOffset(months=3)]
    for found in rolled.values():
        assert found.index.equals(first)
        assert list(found.columns) == ["s", "t"]
    for date in first[[0, 57, -1]]:
        window = (table.index > date - pd.DateOffset(months=3)) & (table.index <= date)
        r, b, c = table["s"][window], base[window], cash[window]
        assert 60 <= len(r) <= 67
        excess = r - c
        assert rolled["volatility"].loc[date, "s"] == pytest.approx(r.std() * per_year**0.5)
        ratio = excess.mean() / excess.std() * per_year**0.5
        assert rolled["sharpe"].loc[date, "s"] == pytest.approx(ratio)
        assert rolled["beta"].loc[date, "s"] == pytest.approx(excess.cov(b - c) / (b - c).var())
        cvar = metrics.conditional_value_at_risk(r, confidence=0.9)
        assert rolled["cvar"].loc[date, "s"] == cvar
    assert rolled["beta"]["t"].to_numpy() == pytest.approx(1.0)


def test_a_rolling_measure_looks_at_no_other_row(table):
    later = table.copy()
    later.iloc[300:] -= 0.05
    one, other = (metrics.rolling_cvar(t, months=2, confidence=0.9) for t in (table, later))
    until = table.index[299]
    pd.testing.assert_frame_equal(one[:until], other[:until])
    assert (one[table.index[300] :] < other[table.index[300] :]).all(axis=None)


def test_a_history_shorter_than_the_window_has_no_rolling_measure(table):
    rolled = metrics.rolling_volatility(table.iloc[:40], months=6)
    assert rolled.shape == (0, 2)


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


def test_the_deepest_falls_do_not_overlap():
    levels = [1.0, 0.9, 1.0, 1.2, 0.6, 0.9, 1.2, 1.1, 1.3, 1.04]
    wealth = pd.Series(levels, pd.date_range("2020-01-31", periods=10, freq="ME"))
    falls = metrics.deepest_falls(wealth, 9)
    np.testing.assert_allclose([f.depth for f in falls], [-0.5, -0.2, -0.1, 1.1 / 1.2 - 1.0])
    months = [(f.peak.month, f.trough.month) for f in falls]
    assert months == [(4, 5), (9, 10), (1, 2), (7, 8)]
    assert falls[0].recovery == pd.Timestamp("2020-07-31")
    assert pd.isna(falls[1].recovery)
    assert metrics.deepest_falls(wealth, 1) == falls[:1]
    assert metrics.deepest_falls(wealth.cummax(), 3) == []


def test_calendar_years_chain_to_the_whole_return():
    dates = pd.DatetimeIndex(["2019-12-31", "2020-06-30", "2020-12-31", "2021-03-31"])
    wealth = pd.DataFrame({"s": [1.0, 1.1, 1.2, 0.9]}, dates)
    found = metrics.calendar_returns(wealth)
    assert list(found.index) == [2020, 2021]
    np.testing.assert_allclose(found["s"], [0.2, 0.9 / 1.2 - 1.0])
    inside = metrics.calendar_returns(wealth.iloc[1:])
    np.testing.assert_allclose(inside["s"], [1.2 / 1.1 - 1.0, -0.25])
