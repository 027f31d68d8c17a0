"""The data of a report: everything that its page and figures show, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.backtest.result import BacktestResult
from sddp.errors import DataError, ModelError
from sddp.evaluation import inference, risk_forecasts
from sddp.evaluation.inference import Resampling, Sample
from sddp.evaluation.summary import risk_backtest, sample
from sddp.rng import Rng, generator
from sddp.tables import checked_series, day

# Level of VaR and CVaR where no model has one.
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class ReportOptions:
    """Which parts of a backtest a report shows.

    Parameters
    ----------
    detail : sequence of str, optional
        Strategies whose allocation, regimes and risk forecasts are drawn through time;
        default: all.
    reference : str, optional
        Strategy from which the differences of the others are shown (with intervals).
    benchmark : str, optional
        Strategy for beta, alpha and tracking error.
    market : Series, optional
        Level of the market drawn beside the regimes, by date; its name is its label.
    trailing_months, rolling_months : int
        Windows of the trailing return, and of the rolling Sharpe ratio and volatility.
    period : int, optional
        Rows of the period that models look at, see
        `sddp.evaluation.risk_forecasts.forecasts_and_losses`.
    largest : int
        Assets shown by themselves in an allocation.
    level : float
        Of intervals.
    n_draws : int
        Of the bootstrap.

    Raises
    ------
    DataError
        `market` is no series of positive numbers by date.
    """

    detail: Sequence[str] | None = None
    reference: str | None = None
    benchmark: str | None = None
    market: pd.Series[float] | None = None
    trailing_months: int = 6
    rolling_months: int = 12
    period: int | None = None
    largest: int = 9
    level: float = 0.95
    n_draws: int = 5000

    def __post_init__(self) -> None:
        if self.market is None:
            return
        level = checked_series(self.market, "market")
        if not (level > 0.0).all():
            date = level.index[~(level > 0.0)][0]
            raise DataError(f"market = {level[date]} on {day(date)}; give positive levels")


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Tables of intervals and tests.

    Attributes
    ----------
    intervals : DataFrame
        As `sddp.evaluation.intervals`.
    differences : DataFrame or None
        As `sddp.evaluation.differences`; None without a reference.
    risk_tests : DataFrame or None
        As `sddp.evaluation.risk_backtest`; None where no strategy keeps a decision log.
    """

    intervals: pd.DataFrame
    differences: pd.DataFrame | None
    risk_tests: pd.DataFrame | None


@dataclass(frozen=True, eq=False)
class ReportData:
    """A backtest with what follows from it.

    Attributes
    ----------
    result : BacktestResult
    options : ReportOptions
    confidence : float
        Level of VaR and CVaR: the models', if there are any.
    decision_logs : mapping of str to DataFrame
        Of the strategies that keep one.
    periods : mapping of str to DataFrame
        Forecast and loss of each period by strategy (`risk_forecasts.forecast_periods`); empty
        without decision logs.
    forecasts : DataFrame
        `risk_forecasts.forecast_table` of them, with the interval of the realized CVaR (``low``,
        ``high``) where draws were asked for.
    uncertainty : Uncertainty or None
        None where no draws were asked for.
    """

    result: BacktestResult
    options: ReportOptions
    confidence: float
    decision_logs: Mapping[str, pd.DataFrame]
    periods: Mapping[str, pd.DataFrame]
    forecasts: pd.DataFrame
    uncertainty: Uncertainty | None

    @property
    def detail(self) -> list[str]:
        """Strategies shown through time."""
        chosen = self.options.detail
        return list(self.result.ledgers if chosen is None else chosen)


def collect(result: BacktestResult, options: ReportOptions, rng: Rng | None) -> ReportData:
    """Compute everything a report shows; without `rng` no intervals and no tests.

    Raises
    ------
    DataError
        A strategy named in `options` is unknown, or its market has no row of the run; as
        `sddp.evaluation.risk_backtest`.
    ModelError
        A reference without `rng`; as `inference.Resampling`.
    """
    _check(result, options, rng)
    decision_logs = risk_forecasts.decision_logs(result.strategies, result.ledgers)
    confidence = risk_forecasts.model_confidence(decision_logs) if decision_logs else CONFIDENCE
    periods = risk_forecasts.forecast_periods(
        result.ledgers, decision_logs, lag=result.lag, period=options.period
    )
    forecasts, uncertainty = risk_forecasts.forecast_table(periods), None
    if rng is not None:
        first, tail_rng = generator(rng).spawn(2)
        uncertainty = _uncertainty(result, options, confidence, bool(decision_logs), first)
        forecasts = forecasts.join(_tail_intervals(periods, options, tail_rng))
    return ReportData(result, options, confidence, decision_logs, periods, forecasts, uncertainty)


def _check(result: BacktestResult, options: ReportOptions, rng: Rng | None) -> None:
    for name in (*(options.detail or ()), options.reference, options.benchmark):
        if name is not None:
            result.ledger(name)
    dates, market = result.cash_rate.index, options.market
    if market is not None and market.loc[dates[0] : dates[-1]].empty:
        raise DataError(
            f"market has no row from {day(dates[0])} to {day(dates[-1])}; give its levels then"
        )
    if rng is None and options.reference is not None:
        raise ModelError(
            f"reference = {options.reference!r} without rng; give one, such as rng=1: "
            "differences are shown with intervals only"
        )


def _uncertainty(
    result: BacktestResult,
    options: ReportOptions,
    confidence: float,
    tested: bool,
    rng: np.random.Generator,
) -> Uncertainty:
    # One stream each: what is left out of a page does not move the rest.
    first, second, third = rng.spawn(3)
    n_draws, level, reference = options.n_draws, options.level, options.reference
    series = sample(result)
    return Uncertainty(
        intervals=inference.intervals(
            series, Resampling(first, n_draws, level), confidence=confidence
        ),
        differences=(
            inference.differences(series, reference, Resampling(second, n_draws, level))
            if reference is not None
            else None
        ),
        risk_tests=(
            risk_backtest(result, Resampling(third, n_draws, level), period=options.period)
            if tested
            else None
        ),
    )


def _tail_intervals(
    periods: Mapping[str, pd.DataFrame], options: ReportOptions, rng: np.random.Generator
) -> pd.DataFrame:
    """Interval of the CVaR of each strategy's losses, all periods together.

    Strategies with the same periods and level are resampled together.
    """
    groups: dict[tuple[float, bytes], dict[str, pd.Series[float]]] = {}
    for name, table in periods.items():
        if len(table):
            dates = pd.DatetimeIndex(table.index).asi8.tobytes()
            key = (float(table["confidence"].iloc[-1]), dates)
            groups.setdefault(key, {})[name] = -table["loss"]
    found = [
        _tail_interval(pd.DataFrame(returns), confidence, options, stream)
        for ((confidence, _), returns), stream in zip(
            groups.items(), rng.spawn(len(groups)), strict=True
        )
    ]
    return pd.concat(found) if found else pd.DataFrame(columns=["low", "high"])


def _tail_interval(
    returns: pd.DataFrame, confidence: float, options: ReportOptions, rng: np.random.Generator
) -> pd.DataFrame:
    # The CVaR knows neither cash nor the year.
    series = Sample(returns, np.zeros(len(returns)), periods_per_year=1.0)
    how = Resampling(rng, options.n_draws, options.level)
    table = inference.intervals(series, how, confidence=confidence)
    return table[table["metric"] == "cvar"].set_index("strategy")[["low", "high"]]
