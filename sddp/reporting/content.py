"""What a report's page and figures are made of: what was asked for, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sddp.errors import DataError, ModelError
from sddp.evaluation import inference
from sddp.evaluation import risk_forecasts as promises
from sddp.evaluation.inference import Resampling, Sample
from sddp.rng import Rng, generator
from sddp.tables import checked_series, day

if TYPE_CHECKING:
    from sddp.backtest.report import BacktestReport

# Level of VaR and CVaR where no model has one.
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Contents:
    """What of a report is shown.

    Parameters
    ----------
    detail : sequence of str, optional
        Strategies whose allocation, regimes and promises are drawn through time; default: all.
    reference : str, optional
        Strategy from which the differences of the others are shown (with intervals).
    benchmark : str, optional
        Strategy for beta, alpha and tracking error.
    market : Series, optional
        Level of the market drawn beside the regimes, by date; its name is its label.
    trailing_months, rolling_months : int
        Windows of the trailing return, and of the rolling Sharpe ratio and volatility.
    period : int, optional
        Rows of the period that models look at, see `promise_tests.promised_periods`.
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
    """How sure numbers are; tables as the methods of `BacktestReport` of the name return them.

    Attributes
    ----------
    intervals : DataFrame
    differences : DataFrame or None
        None without a reference.
    risk_tests : DataFrame or None
        None where no strategy keeps a journal.
    """

    intervals: pd.DataFrame
    differences: pd.DataFrame | None
    risk_tests: pd.DataFrame | None


@dataclass(frozen=True, eq=False)
class Evidence:
    """A report with what follows from it.

    Attributes
    ----------
    report : BacktestReport
    contents : Contents
    confidence : float
        Level of VaR and CVaR: the models', if there are any.
    journals : mapping of str to DataFrame
        Of the strategies that keep one.
    periods : mapping of str to DataFrame
        Promise and loss of each period by strategy (`promises.promises`); empty without journals.
    promised : DataFrame
        `promises.promise_table` of them, with the interval of the realised CVaR (``low``,
        ``high``) where draws were asked for.
    uncertainty : Uncertainty or None
        None where no draws were asked for.
    """

    report: BacktestReport
    contents: Contents
    confidence: float
    journals: Mapping[str, pd.DataFrame]
    periods: Mapping[str, pd.DataFrame]
    promised: pd.DataFrame
    uncertainty: Uncertainty | None

    @property
    def detail(self) -> list[str]:
        """Strategies shown through time."""
        chosen = self.contents.detail
        return list(self.report.ledgers if chosen is None else chosen)


def gather(report: BacktestReport, contents: Contents, rng: Rng | None) -> Evidence:
    """Everything a page shows; without `rng` no intervals and no tests.

    Raises
    ------
    DataError
        A strategy named in `contents` is unknown, or its market has no row of the run; as
        `BacktestReport.risk_tests`.
    ModelError
        A reference without `rng`; as `inference.Resampling`.
    """
    _check(report, contents, rng)
    journals = promises.journals(report.strategies, report.ledgers)
    confidence = promises.model_confidence(journals) if journals else CONFIDENCE
    periods = promises.promises(report.ledgers, journals, lag=report.lag, period=contents.period)
    promised, uncertainty = promises.promise_table(periods), None
    if rng is not None:
        first, tail_rng = generator(rng).spawn(2)
        uncertainty = _uncertainty(report, contents, confidence, bool(journals), first)
        promised = promised.join(_tail_intervals(periods, contents, tail_rng))
    return Evidence(report, contents, confidence, journals, periods, promised, uncertainty)


def _check(report: BacktestReport, contents: Contents, rng: Rng | None) -> None:
    for name in (*(contents.detail or ()), contents.reference, contents.benchmark):
        if name is not None:
            report.ledger(name)
    dates, market = report.cash_rate.index, contents.market
    if market is not None and market.loc[dates[0] : dates[-1]].empty:
        raise DataError(
            f"market has no row from {day(dates[0])} to {day(dates[-1])}; give its levels then"
        )
    if rng is None and contents.reference is not None:
        raise ModelError(
            f"reference = {contents.reference!r} without rng; give one, such as rng=1: "
            "differences are shown with intervals only"
        )


def _uncertainty(
    report: BacktestReport,
    contents: Contents,
    confidence: float,
    promised: bool,
    rng: np.random.Generator,
) -> Uncertainty:
    # One stream each: what is left out of a page does not move the rest.
    first, second, third = rng.spawn(3)
    n_draws, level, reference = contents.n_draws, contents.level, contents.reference
    return Uncertainty(
        intervals=report.intervals(rng=first, level=level, n_draws=n_draws, confidence=confidence),
        differences=(
            report.differences(reference, rng=second, level=level, n_draws=n_draws)
            if reference is not None
            else None
        ),
        risk_tests=(
            report.risk_tests(rng=third, level=level, n_draws=n_draws, period=contents.period)
            if promised
            else None
        ),
    )


def _tail_intervals(
    periods: Mapping[str, pd.DataFrame], contents: Contents, rng: np.random.Generator
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
        _tail_interval(pd.DataFrame(returns), confidence, contents, stream)
        for ((confidence, _), returns), stream in zip(
            groups.items(), rng.spawn(len(groups)), strict=True
        )
    ]
    return pd.concat(found) if found else pd.DataFrame(columns=["low", "high"])


def _tail_interval(
    returns: pd.DataFrame, confidence: float, contents: Contents, rng: np.random.Generator
) -> pd.DataFrame:
    # The CVaR knows neither cash nor the year.
    sample = Sample(returns, np.zeros(len(returns)), periods_per_year=1.0)
    how = Resampling(rng, contents.n_draws, contents.level)
    table = inference.intervals(sample, how, confidence=confidence)
    return table[table["metric"] == "cvar"].set_index("strategy")[["low", "high"]]
