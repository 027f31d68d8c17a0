from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sddp.backtest import EveryPeriods, HoldCash, backtest
from sddp.errors import DataError
from sddp.evaluation import risk_backtest, risk_tests
from sddp.evaluation.inference import Resampling, mean_interval
from sddp.evaluation.risk_forecasts import forecast_tests, forecasts_and_losses
from sddp.market import Market

CONFIDENCE, SPREAD, COST = 0.9, 0.01, 0.002
VAR = norm.ppf(CONFIDENCE) * SPREAD
CVAR = norm.pdf(norm.ppf(CONFIDENCE)) / (1.0 - CONFIDENCE) * SPREAD


@dataclass
class Forecasting:
    """Holds a share of the one asset and forecasts the risk of a normal law."""

    share: float = 1.0
    optimism: float = 1.0
    decision_log: list[dict] = field(default_factory=list)

    def decide(self, view, holdings):
        self.decision_log.append(
            {
                "date": view.date,
                "model_var": self.share * self.optimism * VAR,
                "model_cvar": self.share * self.optimism * CVAR,
                "confidence": CONFIDENCE,
                "cvar_limit": 0.02,
                "limit_binds": len(self.decision_log) % 4 == 0,
            }
        )
        return pd.Series({"stock": self.share})

    def decision_log_table(self):
        return pd.DataFrame(self.decision_log).set_index("date")


@pytest.fixture
def market() -> Market:
    steps = np.random.default_rng(2).normal(0.0, SPREAD, 400)
    dates = pd.bdate_range("2019-01-01", periods=400)
    return Market(pd.DataFrame({"stock": 100.0 * np.cumprod(1.0 + steps)}, dates))


def run(market, strategies, *, every=1, lag=1, cost=COST):
    return backtest(
        market,
        strategies,
        start=market.dates[10],
        transaction_cost=cost,
        lag=lag,
        rebalance=EveryPeriods(every),
    )


def aligned(report, name="s", period=None):
    decision_log = report.strategies[name].decision_log_table()
    return forecasts_and_losses(
        report.ledger(name).wealth, decision_log, lag=report.lag, period=period
    )


def how(seed=0, **options) -> Resampling:
    return Resampling(np.random.default_rng(seed), **({"n_draws": 400} | options))


# --- forecast and loss, side by side ---


@pytest.mark.parametrize(("every", "lag"), [(1, 0), (1, 1), (5, 1), (5, 3), (1, 2)])
def test_the_loss_is_of_the_period_after_execution(market, every, lag):
    report = run(market, {"s": Forecasting()}, every=every, lag=lag)
    table = aligned(report)
    prices = market.at(market.dates[-1]).prices["stock"].to_numpy()
    decided = market.dates.get_indexer(table.index)
    growth = prices[decided + lag + every] / prices[decided + lag]
    # The first period starts with the purchase, all others hold what was held.
    paid = np.where(np.arange(len(table)) == 0, 1.0 / (1.0 + COST), 1.0)
    assert table["loss"].to_numpy() == pytest.approx(1.0 - growth * paid, abs=1e-12)
    assert (np.diff(decided) == every).all()
    # The last rows hold no whole period.
    n_decisions = len(report.ledger("s").decisions)
    assert 0 <= n_decisions - len(table) <= 1


def test_the_cost_of_the_trade_at_the_start_counts_and_that_at_the_end_does_not():
    dates = pd.date_range("2020-01-01", periods=6)
    market = Market(pd.DataFrame({"stock": [1.0] * 6}, dates))

    @dataclass
    class Swinging(Forecasting):
        def decide(self, view, holdings):
            weights = super().decide(view, holdings)
            return weights if len(self.decision_log) % 2 else weights * 0.0

    report = backtest(market, {"s": Swinging()}, start=dates[0], transaction_cost=COST, lag=1)
    bought, sold = 1.0 - 1.0 / (1.0 + COST), COST
    expected = [bought, sold, bought, sold]
    assert aligned(report)["loss"].tolist() == pytest.approx(expected, abs=1e-12)


def test_forecasts_are_taken_over_as_they_are(market):
    table = aligned(run(market, {"s": Forecasting(share=0.5)}))
    assert table["model_cvar"].unique() == pytest.approx([0.5 * CVAR])
    assert list(table.columns) == [
        *("model_var", "model_cvar", "confidence", "cvar_limit", "limit_binds", "loss")
    ]


def test_overlapping_losses_are_rejected(market):
    report = run(market, {"s": Forecasting()})
    with pytest.raises(DataError, match="period = 5, but the decision of 2019-01-15 is followed"):
        aligned(report, period=5)
    assert len(aligned(report, period=1)) == len(aligned(report))


def test_a_decision_log_must_be_of_this_backtest(market):
    report = run(market, {"s": Forecasting()})
    decision_log = report.strategies["s"].decision_log_table()
    with pytest.raises(DataError, match=r"decision log: columns \['model_var'\] are missing"):
        forecasts_and_losses(
            report.ledger("s").wealth, decision_log.drop(columns="model_var"), lag=1
        )
    stray = decision_log.rename(index={decision_log.index[3]: pd.Timestamp("1999-01-01")})
    with pytest.raises(DataError, match="decision log: 1999-01-01 must be a date of the ledger"):
        forecasts_and_losses(report.ledger("s").wealth, stray, lag=1)


def test_one_decision_has_no_period_unless_it_is_given(market):
    report = run(market, {"s": Forecasting()}, every=1000)
    assert aligned(report).empty
    assert len(aligned(report, period=20)) == 1


# --- the tests ---


def test_the_table_holds_the_tests(market):
    table = aligned(run(market, {"s": Forecasting()}))
    row = forecast_tests({"s": table}, how(n_draws=4000)).loc["s"]
    exceeded = table["loss"] > VAR
    assert row["n_periods"] == len(table)
    assert row["violations"] == exceeded.sum()
    assert row["expected"] == pytest.approx(0.1 * len(table))
    low, high = risk_tests.violation_interval(exceeded, level=0.95)
    assert row[["share", "share_low", "share_high"]].tolist() == [exceeded.mean(), low, high]
    frequency = risk_tests.unconditional_coverage(exceeded, confidence=CONFIDENCE)
    both = risk_tests.conditional_coverage(exceeded, confidence=CONFIDENCE)
    assert row["coverage"] == frequency.p_value
    assert row["independence"] == risk_tests.independence(exceeded).p_value
    assert row["both"] == both.p_value
    assert row["cvar_limit"] == pytest.approx(0.02)
    assert row["forecast_cvar"] == pytest.approx(CVAR)
    assert row["binding"] == pytest.approx(table["limit_binds"].mean())
    tail = risk_tests.tail_losses(table["loss"], table["model_var"], confidence=CONFIDENCE)
    expected = mean_interval(tail, how=how(9, n_draws=4000))
    found = row[["realized_cvar", "realized_low", "realized_high"]].tolist()
    assert found == pytest.approx(expected, rel=0.03)
    ratios = table["loss"][exceeded] / CVAR
    assert row["z1"] == pytest.approx(1.0 - ratios.mean())
    assert row["z2"] == pytest.approx(1.0 - ratios.sum() / row["expected"])
    assert row["note"] == ""


@pytest.mark.long
def test_a_true_forecast_stands_and_a_rosy_one_falls(market):
    report = run(market, {"true": Forecasting(), "rosy": Forecasting(optimism=0.6)})
    table = forecast_tests({name: aligned(report, name) for name in ("true", "rosy")}, how())
    p_values = ["coverage", "independence", "both", "z1_p_value", "z2_p_value"]
    assert (table.loc["true", p_values].astype(float) > 0.05).all()
    assert table.loc["true", "realized_low"] < CVAR < table.loc["true", "realized_high"]
    assert (table.loc["rosy", ["coverage", "both", "z2_p_value"]].astype(float) < 0.01).all()
    assert table.loc["rosy", "realized_low"] > 0.6 * CVAR


def test_forecasts_of_next_to_nothing_are_not_tested(market):
    table = aligned(run(market, {"s": Forecasting()}))
    table.iloc[:50, table.columns.get_loc("model_cvar")] = 0.5e-4
    table.iloc[50:60, table.columns.get_loc("model_cvar")] = np.nan
    row = forecast_tests({"s": table}, how()).loc["s"]
    assert (row["n_periods"], row["n_untested"]) == (len(table) - 60, 60)
    assert row["violations"] == (table["loss"] > VAR).iloc[60:].sum()


def test_too_few_forecasts_say_so(market):
    table = aligned(run(market, {"s": Forecasting()}))
    calm = table.assign(model_cvar=0.0)
    found = forecast_tests({"short": table.iloc[:20], "calm": calm}, how())
    assert found["n_periods"].tolist() == [20, 0]
    assert found[["violations", "coverage", "realized_cvar", "z2"]].isna().all(axis=None)
    assert found["note"].str.startswith("fewer than 30 periods with a forecast").all()
    assert found["binding"].notna().all()


def test_mixed_confidences_are_rejected(market):
    table = aligned(run(market, {"s": Forecasting()}))
    table.iloc[0, table.columns.get_loc("confidence")] = 0.95
    with pytest.raises(
        DataError, match=r"strategy 's': forecasts have confidence levels \[.*0\.9.*0\.95"
    ):
        forecast_tests({"s": table}, how())


# --- the report ---


@pytest.mark.long
def test_a_report_tests_the_strategies_that_keep_a_decision_log(market):
    report = run(market, {"s": Forecasting(), "cash": HoldCash(), "half": Forecasting(share=0.5)})
    one, other = (risk_backtest(report, Resampling(4, 300)) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)
    assert one.index.tolist() == ["s", "half"]
    assert one.loc["half", "violations"] == (aligned(report, "half")["loss"] > 0.5 * VAR).sum()
    with pytest.raises(DataError, match="period = 3"):
        risk_backtest(report, Resampling(4), period=3)


def test_without_a_decision_log_there_is_nothing_to_test(market):
    report = run(market, {"cash": HoldCash()})
    assert risk_backtest(report, Resampling(4)).empty
