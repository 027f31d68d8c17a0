from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sddp.errors import DataError, ModelError
from sddp.evaluation import bootstrap_statistics as estimators
from sddp.evaluation import metrics
from sddp.evaluation.inference import (
    MINIMUM_PERIODS,
    Resampling,
    Sample,
    differences,
    intervals,
    mean_interval,
)
from sddp.statistics.resampling import Blocks, stationary_blocks

PPY = 252.0


def how(seed: int = 0, **options) -> Resampling:
    return Resampling(np.random.default_rng(seed), **({"n_draws": 500} | options))


def sample_of(cash: float = 0.0, **columns) -> Sample:
    table = pd.DataFrame(columns)
    return Sample(table, np.full(len(table), cash), PPY)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(17)


@pytest.fixture
def returns(rng) -> dict[str, np.ndarray]:
    market = rng.standard_t(5, 600) * 0.008 + 0.0004
    noise = rng.normal(size=(2, 600)) * 0.005
    return {"a": market + noise[0], "b": 0.5 * market + noise[1], "c": market}


def row(table: pd.DataFrame, strategy: str, metric: str) -> pd.Series:
    return table.set_index(["strategy", "metric"]).loc[(strategy, metric)]


# --- the statistics ---


def statistics_of(rows: np.ndarray) -> dict[str, float]:
    """The same statistics by another hand, of the rows themselves."""
    return {
        "mean": rows.mean(),
        "log_deviation": math.log(rows.std(ddof=1)),
        "sharpe": rows.mean() / rows.std(ddof=1),
        "tail_mean": metrics.conditional_value_at_risk(-rows, confidence=0.9),
    }


ESTIMATORS = {
    "mean": estimators.mean,
    "log_deviation": estimators.log_deviation,
    "sharpe": estimators.sharpe,
    "tail_mean": estimators.tail_mean(0.9),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_draw_has_the_statistic_of_its_rows(rng, name):
    table = rng.normal(0.3, 1.0, size=(41, 2))
    (blocks,) = stationary_blocks(41, block_length=3.0, n_draws=15, rng=rng)
    values = ESTIMATORS[name](table, blocks).values
    for draw, rows in enumerate(blocks.rows()):
        expected = [statistics_of(column[rows])[name] for column in table.T]
        assert values[draw] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_influence_is_the_derivative_in_the_weight_of_a_row(rng, name):
    """Row t counted twice: the statistic moves by a (n + 1)-th of its influence, to first order."""
    rows = rng.normal(0.3, 1.0, size=4001)
    estimate = ESTIMATORS[name](rows[:, None], Blocks.of_sample(4001))
    base, influence = estimate.values[0, 0], estimate.influence[:, 0]
    assert abs(influence.mean()) < 1e-3 * influence.std()
    seen = [4001 * (statistics_of(np.append(rows, rows[t]))[name] - base) for t in range(60)]
    assert seen == pytest.approx(influence[:60], abs=0.03 * influence.std())


def test_the_block_influences_of_a_draw_cancel(rng):
    table = rng.normal(0.3, 1.0, size=(200, 2))
    (blocks,) = stationary_blocks(200, block_length=3.0, n_draws=15, rng=rng)
    for estimator in ESTIMATORS.values():
        influence = estimator(table, blocks).influence
        assert blocks.per_draw(influence) == pytest.approx(np.zeros((15, 2)), abs=1e-9)


# --- intervals ---


def test_values_are_those_of_the_metrics(returns):
    sample = sample_of(cash=0.0001, **returns)
    table = intervals(sample, how(), confidence=0.9)
    assert table["strategy"].tolist() == [name for name in "abc" for _ in range(4)]
    r = returns["b"]
    wealth = np.prod(1.0 + r)
    assert row(table, "b", "annualized_return")["value"] == pytest.approx(
        wealth ** (PPY / len(r)) - 1.0
    )
    for metric, expected in {
        "volatility": metrics.volatility(r, PPY),
        "sharpe": metrics.sharpe_ratio(r, np.full(600, 0.0001), PPY),
        "cvar": metrics.conditional_value_at_risk(r, confidence=0.9),
    }.items():
        assert row(table, "b", metric)["value"] == pytest.approx(expected, rel=1e-12)
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    assert (table["note"] == "").all()


@pytest.mark.long
def test_the_interval_of_a_sharpe_ratio_of_independent_normal_returns(rng):
    """Lo (2002): standard error ``sqrt((1 + S^2 / 2) / n)`` per period."""
    r = rng.normal(0.0005, 0.01, 4000)
    table = intervals(sample_of(s=r), how(n_draws=2000, block_length=1.0), confidence=0.95)
    found = row(table, "s", "sharpe")
    ratio = r.mean() / r.std(ddof=1)
    half = norm.ppf(0.975) * math.sqrt((1.0 + ratio**2 / 2.0) / 4000 * PPY)
    assert found["high"] - found["value"] == pytest.approx(half, rel=0.05)
    # And of the standard deviation: 1 / sqrt(2 n), relative.
    volatility = row(table, "s", "volatility")
    expected = norm.ppf(0.975) / math.sqrt(8000)
    assert math.log(volatility["high"] / volatility["value"]) == pytest.approx(expected, rel=0.06)


def autoregressions(phi: float, n_rows: int, n_series: int, rng) -> np.ndarray:
    series = np.empty((n_rows, n_series))
    series[0] = rng.normal(size=n_series)
    for t in range(1, n_rows):
        series[t] = phi * series[t - 1] + math.sqrt(1.0 - phi**2) * rng.normal(size=n_series)
    return series


@pytest.mark.long
def test_intervals_cover(rng):
    """250 series of 400 rows, AR(1) with 0.3: standard error of a coverage of 0.94 is 0.015.

    1,200 such series gave 0.93 to 0.94 (0.95 to 0.96 of independent rows): dependence costs a
    little in so few rows.
    """
    series = 0.01 * autoregressions(0.3, 400, 250, rng) + 0.001
    law = norm(0.001, 0.01)
    truth = {
        "annualized_return": math.expm1(PPY * law.expect(math.log1p, lb=-0.1, ub=0.1)),
        "volatility": 0.01 * math.sqrt(PPY),
        "sharpe": 0.1 * math.sqrt(PPY),
        "cvar": -0.001 + 0.01 * norm.pdf(norm.ppf(0.9)) / 0.1,
    }
    covered = []
    for column in series.T:
        table = intervals(sample_of(s=column), Resampling(rng, 300), confidence=0.9)
        expected = table["metric"].map(truth)
        covered.append((table["low"] <= expected) & (expected <= table["high"]))
    shares = np.mean(covered, axis=0)
    assert (np.abs(shares - 0.94) < 3.0 * 0.015).all(), dict(zip(truth, shares, strict=True))


def test_one_series_has_the_interval_of_the_table(returns):
    """The same statistic, blocks and draws by the other door."""
    options = {"n_draws": 1000, "block_length": 3.0}
    table = intervals(sample_of(**returns), how(**options), confidence=0.9)
    found = mean_interval(-returns["a"], estimator=estimators.tail_mean(0.9), how=how(1, **options))
    expected = row(table, "a", "cvar")[["value", "low", "high"]].tolist()
    assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.long
def test_independent_draws_of_dependent_rows_do_not_cover(rng):
    """Variance of the mean of an AR(1) with 0.7 is 5.7 times that of independent rows."""
    series = autoregressions(0.7, 400, 150, rng)
    covered = {length: [] for length in (1.0, None)}
    for column in series.T:
        for length, hits in covered.items():
            _, low, high = mean_interval(column, how=Resampling(rng, 200, block_length=length))
            hits.append(low <= 0.0 <= high)
    assert np.mean(covered[1.0]) < 0.7
    assert np.mean(covered[None]) > 0.86


def test_tails_are_drawn_in_the_blocks_of_the_volatility(rng):
    """Calm and wild spells of 50 periods: the squares show them, the few tail losses hardly do."""
    spells = np.repeat(np.where(np.arange(20) % 2, 0.02, 0.005), 50)
    table = intervals(sample_of(s=spells * rng.normal(size=1000)), how(), confidence=0.95)
    lengths = table.set_index("metric")["block_length"]
    assert lengths["cvar"] == lengths["volatility"] > 20.0
    assert lengths["sharpe"] < 10.0


@pytest.mark.long
def test_higher_levels_are_wider(returns):
    narrow, wide = (
        intervals(sample_of(**returns), how(level=level), confidence=0.95) for level in (0.8, 0.99)
    )
    assert (wide["low"] < narrow["low"]).all()
    assert (wide["high"] > narrow["high"]).all()


@pytest.mark.long
def test_the_same_generator_gives_the_same_numbers(returns):
    sample = sample_of(**returns)
    one, other = (intervals(sample, how(5), confidence=0.95) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)
    assert not intervals(sample, how(6), confidence=0.95).equals(one)


# --- differences ---


def test_differences_are_of_the_values(returns):
    sample = sample_of(cash=0.0001, **returns)
    table = differences(sample, "c", how())
    assert table["strategy"].tolist() == ["a", "a", "b", "b"]
    cash = np.full(600, 0.0001)
    ratios = {name: metrics.sharpe_ratio(r, cash, PPY) for name, r in returns.items()}
    found = row(table, "a", "sharpe")
    assert found["value"] == pytest.approx(ratios["a"] - ratios["c"])
    mean = row(table, "b", "mean_excess_return")
    assert mean["value"] == pytest.approx((returns["b"] - returns["c"]).mean() * PPY)
    assert (table["reference"] == "c").all()


@pytest.mark.long
def test_a_p_value_agrees_with_the_interval(returns):
    sample = sample_of(**(returns | {"d": returns["c"] + 0.0007}))
    for level in (0.5, 0.9, 0.99):
        table = differences(sample, "c", how(level=level, n_draws=999))
        excludes = (table["low"] > 0.0) | (table["high"] < 0.0)
        assert (excludes == (table["p_value"] <= 1.0 - level + 1e-12)).all()


def test_strategies_are_compared_on_the_same_rows(rng):
    """Two strategies that share all but a little differ by that little, with certainty."""
    market = rng.normal(0.0, 0.01, 500)
    sample = sample_of(a=market, b=market + 0.0002 + rng.normal(0.0, 1e-4, 500))
    mean = row(differences(sample, "a", how()), "b", "mean_excess_return")
    error = 1e-4 / math.sqrt(500) * PPY
    assert mean["high"] - mean["value"] == pytest.approx(1.96 * error, rel=0.2)
    assert mean["p_value"] == pytest.approx(1.0 / 501.0)


@pytest.mark.long
def test_p_values_are_uniform_where_there_is_no_difference(rng):
    """200 pairs: standard error of a share of 0.1 is 0.02."""
    p_values = []
    for _ in range(200):
        pair = rng.normal(0.05, 1.0, (150, 2)) * 0.01
        table = differences(sample_of(a=pair[:, 0], b=pair[:, 1]), "a", how(n_draws=199))
        p_values.append(row(table, "b", "sharpe")["p_value"])
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.065)


@pytest.mark.long
def test_adjusted_p_values_count_the_comparisons(returns, rng):
    alone = differences(sample_of(a=returns["a"], c=returns["c"]), "c", how())
    assert (alone["p_value"] == alone["adjusted_p_value"]).all()
    others = {f"n{k}": returns["c"] + rng.normal(0.0, 0.004, 600) for k in range(8)}
    others["clear"] = returns["c"] + 0.001 + rng.normal(0.0, 0.004, 600)
    table = differences(sample_of(c=returns["c"], **others), "c", how(n_draws=999))
    for _, part in table.groupby("metric"):
        assert (part["adjusted_p_value"] >= part["p_value"]).all()
        ordered = part.sort_values("p_value")["adjusted_p_value"]
        assert ordered.is_monotonic_increasing
        assert part["adjusted_p_value"].iloc[-1] < 0.05
        # Eight without merit: Bonferroni's bound of the smallest is its upper end.
        assert (part["adjusted_p_value"] <= np.minimum(9.0 * part["p_value"], 1.0) + 0.01).all()


@pytest.mark.long
def test_the_clearest_of_independent_differences_is_adjusted_as_sidak_has_it(returns, rng):
    """``1 - (1 - p)^8`` for eight; standard error over 2,000 draws 0.011, besides that of p."""
    others = {f"n{k}": returns["c"] + rng.normal(0.0, 0.004, 600) for k in range(8)}
    table = differences(sample_of(c=returns["c"], **others), "c", how(n_draws=2000))
    mean = table[table["metric"] == "mean_excess_return"]
    clearest = mean.loc[mean["p_value"].idxmin()]
    expected = 1.0 - (1.0 - clearest["p_value"]) ** 8
    assert clearest["adjusted_p_value"] == pytest.approx(expected, abs=0.06)
    assert expected - clearest["p_value"] > 0.2


# --- nothing to tell ---


def test_two_identical_strategies_do_not_differ_at_all(returns):
    table = differences(sample_of(a=returns["a"], twin=returns["a"]), "a", how())
    assert (table[["value", "low", "high"]] == 0.0).all(axis=None)
    assert (table["p_value"] == 1.0).all()
    assert (table["adjusted_p_value"] == 1.0).all()


def test_the_rounding_of_quotients_is_no_spread(returns, rng):
    """Returns of cash as a ledger has them: quotients of wealth, some 2e-16 apart."""
    quotients = 1.0001 + np.spacing(1.0) * rng.integers(2, size=600) - 1.0
    assert quotients.std() > 0.0
    sample = sample_of(cash=0.0001, a=returns["a"], cash_only=quotients)
    table = intervals(sample, how(), confidence=0.95)
    assert row(table, "cash_only", "sharpe")["note"] == "returns do not vary"
    assert row(table, "cash_only", "volatility")["value"] == 0.0
    tail = row(table, "cash_only", "cvar")
    assert tail["low"] == pytest.approx(tail["high"], abs=1e-15) == pytest.approx(-0.0001)
    compared = differences(sample, "a", how())
    assert row(compared, "cash_only", "sharpe")["note"] == "returns do not vary"
    assert np.isfinite(row(compared, "cash_only", "mean_excess_return")["p_value"])


@pytest.mark.long
def test_a_cash_rate_that_hardly_moves_does_not_set_the_blocks_of_others(returns):
    steps = np.repeat([0.0001, 0.0002, 0.0003, 0.0002], 150)
    risky = {name: returns[name] for name in "abc"}
    with_cash = sample_of(**risky, cash_only=steps)
    table, alone = (
        intervals(sample, how(), confidence=0.95) for sample in (with_cash, sample_of(**risky))
    )
    growth = row(table, "a", "annualized_return")
    assert growth["block_length"] < 15.0
    width = growth["high"] - growth["low"]
    bounds = row(alone, "a", "annualized_return")
    assert width == pytest.approx(bounds["high"] - bounds["low"], rel=0.2)
    # The worst days of cash are one level of its rate: nothing to scatter.
    tail = row(table, "cash_only", "cvar")
    assert tail[["low", "high"]].isna().all() or tail["high"] - tail["low"] < 1e-3


def test_a_twin_does_not_disturb_the_others(returns):
    sample = sample_of(a=returns["a"], twin=returns["a"], b=returns["b"])
    table = differences(sample, "a", how())
    assert 0.0 < row(table, "b", "sharpe")["p_value"] < 1.0
    assert np.isfinite(table["low"]).all()


def test_holding_cash_has_no_sharpe_ratio(returns):
    sample = sample_of(cash=0.0001, a=returns["a"], cash_only=np.full(600, 0.0001))
    table = intervals(sample, how(), confidence=0.95)
    sharpe = row(table, "cash_only", "sharpe")
    assert sharpe[["value", "low", "high"]].isna().all()
    assert sharpe["note"] == "returns do not vary"
    assert row(table, "cash_only", "volatility")["value"] == 0.0
    earned = row(table, "cash_only", "annualized_return")
    assert earned["low"] == pytest.approx(earned["high"]) == pytest.approx(1.0001**252 - 1.0)
    assert np.isfinite(row(table, "a", "sharpe")["low"])
    compared = row(differences(sample, "a", how()), "cash_only", "sharpe")
    assert np.isnan(compared["p_value"])
    assert np.isnan(compared["adjusted_p_value"])


def test_a_strategy_that_hardly_ever_trades_has_no_interval(rng):
    """A third of the draws miss its two days of trading and speak for nothing."""
    quiet = np.zeros(200)
    quiet[[50, 51]] = 0.02, 0.01
    table = intervals(sample_of(s=quiet, t=rng.normal(0.0, 0.01, 200)), how(), confidence=0.95)
    sharpe = row(table, "s", "sharpe")
    assert sharpe[["low", "high"]].isna().all()
    assert sharpe["note"] == "hangs on too few periods"
    assert np.isfinite(row(table, "t", "sharpe")["high"])


@pytest.mark.parametrize("n_periods", [1, 2, 9, MINIMUM_PERIODS - 1])
def test_few_periods_have_no_interval(rng, n_periods):
    r = rng.normal(0.0, 0.01, (n_periods, 2))
    sample = sample_of(a=r[:, 0], b=r[:, 1])
    table = intervals(sample, how(), confidence=0.95)
    assert table[["low", "high"]].isna().all(axis=None)
    assert (table["note"][table["metric"] != "cvar"] == "fewer than 30 periods").all()
    assert row(table, "a", "cvar")["note"] == "fewer than 100 periods"
    expected = metrics.conditional_value_at_risk(r[:, 0], confidence=0.95)
    assert row(table, "a", "cvar")["value"] == pytest.approx(expected)
    compared = differences(sample, "a", how())
    assert compared[["low", "high", "p_value", "adjusted_p_value"]].isna().all(axis=None)


def test_just_enough_periods(rng):
    r = rng.normal(0.0, 0.01, MINIMUM_PERIODS)
    table = intervals(sample_of(a=r), how(), confidence=0.8)
    assert np.isfinite(table[["low", "high"]]).all(axis=None)
    assert (table["note"] == "").all()


# --- refusals ---


def test_missing_returns_are_named(returns):
    table = pd.DataFrame(returns, pd.date_range("2020-01-01", periods=600))
    table.loc["2020-01-03", "b"] = np.nan
    with pytest.raises(DataError, match="returns are missing at b on 2020-01-03"):
        Sample(table, np.zeros(600), PPY)


def test_a_return_that_loses_everything_is_no_return():
    with pytest.raises(DataError, match="returns are -1 or less at a on 1"):
        sample_of(a=np.array([0.1, -1.0]))


def test_cash_must_have_the_same_periods(returns):
    with pytest.raises(DataError, match=r"cash_returns has shape \(599,\)"):
        Sample(pd.DataFrame(returns), np.zeros(599), PPY)
    with pytest.raises(DataError, match="with 1 gaps"):
        Sample(pd.DataFrame(returns), np.append(np.zeros(599), np.nan), PPY)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": 95.0}, r"level = 95\.0; give a probability"),
        ({"n_draws": 10}, "n_draws = 10; give at least 100"),
        ({"block_length": 0.5}, r"block_length = 0\.5; give 1 period or more"),
        ({"block_length": math.nan}, "block_length = nan"),
    ],
)
def test_settings_that_make_no_sense(options, words):
    with pytest.raises(ModelError, match=words):
        how(**options)


def test_a_confidence_is_a_fraction(returns):
    with pytest.raises(ModelError, match=r"confidence = 95\.0; give 0 to 1"):
        intervals(sample_of(**returns), how(), confidence=95.0)


def test_a_reference_must_be_there_and_have_company(returns):
    with pytest.raises(
        DataError, match=r"reference = 'QP'; give one of at least two strategies: \['a', "
    ):
        differences(sample_of(**returns), "QP", how())
    with pytest.raises(DataError, match="reference = 'a'"):
        differences(sample_of(a=returns["a"]), "a", how())
