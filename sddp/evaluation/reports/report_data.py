"""The data of a report: everything that its tables, page and figures show, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sddp.backtest.result import BacktestResult
from sddp.errors import DataError, ModelError
from sddp.evaluation import inference, risk_forecasts
from sddp.evaluation.inference import Resampling, Sample
from sddp.evaluation.summary import return_backtest, risk_backtest, sample
from sddp.rng import Rng, generator
from sddp.tables import checked_series, day

# Level of VaR and CVaR where no model has one.
CONFIDENCE = 0.95

# Strategies that lines show in color.
FEATURED = 5


@dataclass(frozen=True, eq=False)
class ReportOptions:
    """Which parts of a backtest a report shows.

    Parameters
    ----------
    detail : sequence of str, optional
        Strategies whose allocation, regimes and risk forecasts are drawn through time;
        default: all.
    featured : sequence of str, optional
        Strategies in color and in the tables of years and falls, the one that the report is about
        first; default: the first five of `detail`, and the reference.
    descriptions : mapping of str to str, optional
        What each strategy is, in a sentence.
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
    featured: Sequence[str] | None = None
    descriptions: Mapping[str, str] = field(default_factory=dict)
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
    return_tests : DataFrame or None
        As `sddp.evaluation.return_backtest`; None where no decision log expects a return.
    """

    intervals: pd.DataFrame
    differences: pd.DataFrame | None
    risk_tests: pd.DataFrame | None
    return_tests: pd.DataFrame | None


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

    @property
    def featured(self) -> list[str]:
        """Strategies in color, the one that the report is about first."""
        chosen = self.options.featured
        if chosen is None:
            first = (self.detail or list(self.result.ledgers))[:FEATURED]
            reference = self.options.reference
            chosen = [*first, *([reference] if reference and reference not in first else [])]
        return list(chosen)

    def description(self, name: str) -> str:
        """What a strategy is: as given, or the first sentence of its documentation."""
        given = self.options.descriptions.get(name)
        documented = (type(self.result.strategies[name]).__doc__ or "").strip()
        return given if given is not None else " ".join(documented.partition("\n\n")[0].split())

    def checks(self) -> pd.DataFrame:
        """Forecast against realized risk, and expected against realized return, by strategy.

        Returns
        -------
        DataFrame, shape (n_strategies, 19)
            Of one period, as fractions of wealth: ``forecast_cvar``, ``realized_cvar`` (given the
            model's VaR) and their ``ratio`` with its interval ``ratio_low`` to ``ratio_high``;
            ``tail_p_value``, of tail losses and their number (`risk_tests.shortfall_test`);
            ``expected`` and ``realized`` returns, their ``difference`` with ``difference_low`` to
            ``difference_high``, and the ``slope`` of realized on expected returns with
            ``slope_low`` to ``slope_high``. Of a calibrated limit: ``calibration``, the last
            multiple of the limit asked, and the sums ``clipped_low`` and ``clipped_high``. NaN
            where there is nothing to compare. Empty without decision logs or draws.
        """
        if self.uncertainty is None or self.uncertainty.risk_tests is None:
            return pd.DataFrame(columns=list(CHECKS))
        table = _risk_checks(self.uncertainty.risk_tests)
        returns = self.uncertainty.return_tests
        if returns is not None:
            table = table.join(returns[list(RETURN_CHECKS)])
        last = {name: log.iloc[-1] for name, log in self.decision_logs.items() if len(log)}
        for column in CALIBRATION:
            table[column] = [float(last[name].get(column, np.nan)) for name in table.index]
        return table.reindex(columns=list(CHECKS))


RISK_CHECKS = (
    *("n_periods", "forecast_cvar", "realized_cvar", "ratio", "ratio_low", "ratio_high"),
    "tail_p_value",
)
RETURN_CHECKS = (
    *("expected", "realized", "difference", "difference_low", "difference_high"),
    *("slope", "slope_low", "slope_high"),
)
CALIBRATION = ("calibration", "clipped_low", "clipped_high")
CHECKS = (*RISK_CHECKS, *RETURN_CHECKS, *CALIBRATION)


def _risk_checks(tests: pd.DataFrame) -> pd.DataFrame:
    forecast = tests["forecast_cvar"]
    return pd.DataFrame(
        {
            "n_periods": tests["n_periods"],
            "forecast_cvar": forecast,
            "realized_cvar": tests["realized_cvar"],
            "ratio": tests["realized_cvar"] / forecast,
            "ratio_low": tests["realized_low"] / forecast,
            "ratio_high": tests["realized_high"] / forecast,
            "tail_p_value": tests["z2_p_value"],
        }
    )


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
    named = (*(options.detail or ()), *(options.featured or ()))
    for name in (*named, options.reference, options.benchmark):
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
    first, second, third, fourth = rng.spawn(4)
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
        return_tests=_return_tests(result, options, fourth) if tested else None,
    )


def _return_tests(
    result: BacktestResult, options: ReportOptions, rng: np.random.Generator
) -> pd.DataFrame | None:
    how = Resampling(rng, options.n_draws, options.level)
    table = return_backtest(result, how, period=options.period)
    return None if table.empty else table


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
