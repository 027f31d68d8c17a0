"""VaR and ES backtests of the one-period risk that models forecast with their decisions.

A decision log states for each decision the one-period VaR and CVaR of the portfolio it trades
into. `forecasts_and_losses` adds the realized loss of the period, `forecast_tests` runs the tests
of `sddp.evaluation.risk_tests`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.errors import DataError
from sddp.evaluation import metrics, risk_tests
from sddp.evaluation.inference import MINIMUM_PERIODS, Resampling, mean_interval
from sddp.rng import generator
from sddp.tables import day

# One basis point of wealth. The forecast risk of a portfolio almost entirely in cash is near zero;
# whether its loss exceeds the forecast then depends on the drift between decision and execution.
SMALLEST_FORECAST = 1e-4

FORECAST_COLUMNS = ("model_var", "model_cvar", "confidence", "cvar_limit", "limit_binds")


def forecasts_and_losses(
    wealth: pd.Series[float], log: pd.DataFrame, *, lag: int, period: int | None = None
) -> pd.DataFrame:
    """Risk forecast of each decision, and the loss that followed.

    A decision of row t is executed at row ``t + lag``. Its loss is ``1 - W_e / W_s`` with s that
    row, e the row `period` later and W the wealth before the trades of a row: the cost of the
    trade at the start counts, as in the model, that of the next trade does not. With a lag the
    forecast was made at the quotes, holdings and wealth of `lag` rows before, pending orders
    counted as executed.

    Parameters
    ----------
    wealth : Series, shape (n_rows,)
        Money before each row's trades, by date.
    log : DataFrame, shape (n_decisions, n_columns)
        By date of decision: ``model_var``, ``model_cvar``, ``cvar_limit`` (fractions of wealth),
        ``confidence`` and ``limit_binds``. Where the limit is calibrated, ``forecast_var`` and
        ``forecast_cvar``, in units of the limit asked, take the place of the model's (see
        `sddp.backtest.limits.CalibratedLimit`); other columns are ignored.
    lag : int
        Rows between a decision and its execution.
    period : int, optional
        Rows of the period that the model looks at. Default: the fewest between two decisions.

    Returns
    -------
    DataFrame, shape (n_periods, 6)
        Those columns and ``loss``, by date of decision, for the decisions whose period ends
        within the backtest.

    Raises
    ------
    DataError
        A column is missing, a date is no row of the ledger, or decisions are less than a period
        apart, so that losses overlap and belong to several decisions.
    """
    lacking = [name for name in FORECAST_COLUMNS if name not in log.columns]
    if lacking:
        raise DataError(f"decision log: columns {lacking} are missing; it has {list(log.columns)}")
    decided = wealth.index.get_indexer(log.index)
    if (decided < 0).any():
        date = day(log.index[decided < 0][0])
        raise DataError(f"decision log: {date} must be a date of the ledger")
    starts = decided + lag
    gaps = np.diff(starts)
    ends = starts + (int(gaps.min(initial=len(wealth))) if period is None else period)
    if (ends[:-1] > starts[1:]).any():
        early = int(np.argmax(ends[:-1] > starts[1:]))
        raise DataError(
            f"period = {period}, but the decision of {day(log.index[early])} is followed by "
            f"another one {gaps[early]} rows later; decide every {period} rows, or give the "
            "period that the model looks at"
        )
    over = ends < len(wealth)
    levels = wealth.to_numpy()
    losses = 1.0 - levels[ends[over]] / levels[starts[over]]
    told = log.loc[over, list(FORECAST_COLUMNS)]
    if "forecast_cvar" in log.columns:
        told = told.assign(
            model_var=log.loc[over, "forecast_var"], model_cvar=log.loc[over, "forecast_cvar"]
        )
    return told.assign(loss=losses)


def forecast_tests(periods: Mapping[str, pd.DataFrame], how: Resampling) -> pd.DataFrame:
    """Tests of the risk forecasts of some strategies.

    Parameters
    ----------
    periods : mapping of str to DataFrame
        `forecasts_and_losses` by strategy.
    how : Resampling
        For the intervals and the simulated p-values.

    Returns
    -------
    DataFrame, shape (n_strategies, 22)
        ``n_periods`` tested: those with a forecast CVaR of at least a basis point of wealth;
        ``n_untested``; ``confidence``; ``binding``, the share of all decisions at which the
        limit was binding. ``violations`` of the VaR, the number ``expected``, their share with its
        exact interval (``share``, ``share_low``, ``share_high``), and the p-values ``coverage``,
        ``independence`` and ``both`` (`risk_tests`). ``cvar_limit`` and ``forecast_cvar``, means
        over the tested periods; ``realized_cvar`` (mean of `risk_tests.tail_losses`) with its
        bootstrap interval (``realized_low``, ``realized_high``); ``z1``, ``z2`` and their p-values
        ``z1_p_value`` and ``z2_p_value``: small where risk was understated. ``note`` says why
        numbers are NaN.

    Raises
    ------
    DataError
        The forecasts of a strategy have several confidence levels.
    """
    streams = generator(how.rng).spawn(len(periods))
    rows = {
        name: _tests(name, table, how, stream)
        for (name, table), stream in zip(periods.items(), streams, strict=True)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _tests(
    name: str, table: pd.DataFrame, how: Resampling, rng: np.random.Generator
) -> dict[str, Any]:
    confidences = table["confidence"].unique()
    if len(confidences) != 1:
        raise DataError(
            f"strategy {name!r}: forecasts have confidence levels {sorted(confidences)}; "
            "test each level separately"
        )
    tested = table[table["model_cvar"] >= SMALLEST_FORECAST]
    counts = {
        "n_periods": len(tested),
        "n_untested": len(table) - len(tested),
        "confidence": float(confidences[0]),
        "binding": float(table["limit_binds"].mean()),
    }
    few = f"fewer than {MINIMUM_PERIODS} periods with a forecast of {SMALLEST_FORECAST:g} or more"
    if len(tested) < MINIMUM_PERIODS:
        return counts | dict.fromkeys(TESTED, math.nan) | {"note": few}
    values = (*_var_tests(tested, how.level), *_cvar_tests(tested, replace(how, rng=rng)))
    return counts | dict(zip(TESTED, values, strict=True)) | {"note": ""}


TESTED = (
    *("violations", "expected", "share", "share_low", "share_high"),
    *("coverage", "independence", "both"),
    *("cvar_limit", "forecast_cvar", "realized_cvar", "realized_low", "realized_high"),
    *("z1", "z1_p_value", "z2", "z2_p_value"),
)


def _var_tests(tested: pd.DataFrame, level: float) -> tuple[float, ...]:
    confidence = float(tested["confidence"].iloc[0])
    exceeded = risk_tests.violations(tested["loss"], tested["model_var"])
    return (
        float(exceeded.sum()),
        (1.0 - confidence) * len(tested),
        float(exceeded.mean()),
        *risk_tests.violation_interval(exceeded, level=level),
        risk_tests.unconditional_coverage(exceeded, confidence=confidence).p_value,
        risk_tests.independence(exceeded).p_value,
        risk_tests.conditional_coverage(exceeded, confidence=confidence).p_value,
    )


def _cvar_tests(tested: pd.DataFrame, how: Resampling) -> tuple[float, ...]:
    confidence = float(tested["confidence"].iloc[0])
    losses, var = tested["loss"].to_numpy(), tested["model_var"].to_numpy()
    shortfall = risk_tests.shortfall_test(
        losses,
        var,
        tested["model_cvar"].to_numpy(),
        confidence=confidence,
        rng=how.rng,
        n_draws=how.n_draws,
    )
    return (
        float(tested["cvar_limit"].astype(float).mean()),
        float(tested["model_cvar"].mean()),
        *mean_interval(risk_tests.tail_losses(losses, var, confidence=confidence), how=how),
        *shortfall,
    )


# A realized CVaR is shown where at least this many losses make its tail.
TAIL_SIZE = 25

OUTCOME = (
    *("cvar_limit", "binding", "model_cvar", "largest_model_cvar", "realized_cvar"),
    *("violations", "expected", "n_periods"),
)


@runtime_checkable
class LogsDecisions(Protocol):
    """Strategy that records the risk forecast of each decision."""

    def decision_log_table(self) -> pd.DataFrame:
        """One row per decision, by date."""
        ...


def decision_logs(
    strategies: Mapping[str, Any], ledgers: Mapping[str, Ledger]
) -> dict[str, pd.DataFrame]:
    """Decision logs of the strategies that keep one, for the decisions of this backtest only."""
    return {
        name: _own(strategy.decision_log_table(), ledgers[name])
        for name, strategy in strategies.items()
        if isinstance(strategy, LogsDecisions)
    }


def model_confidence(logs: Mapping[str, pd.DataFrame]) -> float:
    """Level of the models' CVaR; the highest one where they differ.

    Raises
    ------
    ValueError
        There is no decision log.
    """
    return max(float(log["confidence"].max()) for log in logs.values())


def forecast_periods(
    ledgers: Mapping[str, Ledger],
    logs: Mapping[str, pd.DataFrame],
    *,
    lag: int,
    period: int | None,
) -> dict[str, pd.DataFrame]:
    """`forecasts_and_losses` of every strategy; the forecasts of one without a log are NaN.

    Its losses are over the periods of the first log, at the highest confidence level. The result
    is empty if there is no log.
    """
    if not logs:
        return {}
    first = next(iter(logs.values()))
    nothing = dict.fromkeys(FORECAST_COLUMNS, np.nan) | {"confidence": model_confidence(logs)}
    return {
        name: forecasts_and_losses(
            ledger.wealth,
            logs.get(name, pd.DataFrame(nothing, index=first.index)),
            lag=lag,
            period=period,
        )
        for name, ledger in ledgers.items()
    }


def forecast_table(periods: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Forecast and realized tail risk of each strategy over the whole run.

    Parameters
    ----------
    periods : mapping of str to DataFrame
        As `forecast_periods`.

    Returns
    -------
    DataFrame, shape (n_strategies, 8)
        Fractions of wealth in one period: ``cvar_limit`` (mean) and ``binding`` (share of
        decisions at which it was binding); ``model_cvar`` and ``largest_model_cvar`` (mean and
        maximum over decisions); ``realized_cvar``, of all losses together; ``violations`` (periods
        with a loss above the model's VaR), their number ``expected``, and ``n_periods``. NaN where
        there is no forecast.
    """
    rows = {name: _outcome(table) for name, table in periods.items()}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=list(OUTCOME))
    return table.rename_axis("strategy")


def tail_table(periods: pd.DataFrame, window: int) -> pd.DataFrame:
    """Forecast and realized tail risk of one strategy through time.

    Parameters
    ----------
    periods : DataFrame
        As `forecast_periods`.
    window : int
        Number of periods a realized CVaR looks back on.

    Returns
    -------
    DataFrame, shape (n_periods, 4)
        As `sddp.reporting.figures.tail_figure` takes it. The realized CVaR at a decision is that
        of the `window` periods before it.
    """
    confidence = float(periods["confidence"].iloc[-1])
    realized = (
        (-periods["loss"])
        .rolling(window)
        .apply(lambda r: metrics.conditional_value_at_risk(r, confidence=confidence), raw=True)
    )
    return pd.DataFrame(
        {
            "model_cvar": periods["model_cvar"],
            "cvar_limit": periods["cvar_limit"].astype(float),
            "realized_cvar": realized.shift(1),
            "violated": risk_tests.violations(periods["loss"], periods["model_var"]),
        }
    )


def tail_window(confidence: float) -> int:
    """Number of periods whose tail at `confidence` holds 25 of them.

    >>> tail_window(0.9)
    250
    """
    return round(TAIL_SIZE / (1.0 - confidence))


def _own(log: pd.DataFrame, ledger: Ledger) -> pd.DataFrame:
    # A strategy may come with the log of an earlier run; its later rows are those of this run.
    last = log[~log.index.duplicated(keep="last")]
    return last.loc[last.index.isin(ledger.decisions.index)]


def _outcome(periods: pd.DataFrame) -> dict[str, float]:
    if periods.empty:
        return dict.fromkeys(OUTCOME, np.nan)
    confidence = float(periods["confidence"].iloc[-1])
    forecast = periods["model_var"].notna()
    violated = risk_tests.violations(periods["loss"], periods["model_var"])
    n_forecasts = float(forecast.sum()) or np.nan
    return {
        "cvar_limit": float(periods["cvar_limit"].astype(float).mean()),
        "binding": float(periods["limit_binds"].astype(float).mean()),
        "model_cvar": float(periods["model_cvar"].mean()),
        "largest_model_cvar": float(periods["model_cvar"].max()),
        "realized_cvar": metrics.conditional_value_at_risk(-periods["loss"], confidence=confidence),
        "violations": float(violated.sum()) if forecast.any() else np.nan,
        "expected": (1.0 - confidence) * n_forecasts,
        "n_periods": n_forecasts,
    }
