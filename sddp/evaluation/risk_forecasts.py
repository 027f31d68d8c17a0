"""Tail risk that the models of strategies forecast for one period, beside the realized losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.evaluation import metrics, risk_tests
from sddp.evaluation.risk_forecast_tests import FORECAST_COLUMNS, forecasts_and_losses

# A realised CVaR is shown where at least this many losses make its tail.
TAIL_SIZE = 25

OUTCOME = (
    *("cvar_limit", "binding", "model_cvar", "largest_model_cvar", "realised_cvar"),
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
        maximum over decisions); ``realised_cvar``, of all losses together; ``violations`` (periods
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
        Number of periods a realised CVaR looks back on.

    Returns
    -------
    DataFrame, shape (n_periods, 4)
        As `sddp.reporting.figures.tail_figure` takes it. The realized CVaR at a decision is that
        of the `window` periods before it.
    """
    confidence = float(periods["confidence"].iloc[-1])
    realised = (
        (-periods["loss"])
        .rolling(window)
        .apply(lambda r: metrics.conditional_value_at_risk(r, confidence=confidence), raw=True)
    )
    return pd.DataFrame(
        {
            "model_cvar": periods["model_cvar"],
            "cvar_limit": periods["cvar_limit"].astype(float),
            "realised_cvar": realised.shift(1),
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
        "realised_cvar": metrics.conditional_value_at_risk(-periods["loss"], confidence=confidence),
        "violations": float(violated.sum()) if forecast.any() else np.nan,
        "expected": (1.0 - confidence) * n_forecasts,
        "n_periods": n_forecasts,
    }
