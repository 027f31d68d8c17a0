"""Tables about a backtest: metrics, the sample for intervals, tests of its risk forecasts."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sddp.backtest.ledger import Ledger
from sddp.backtest.result import BacktestResult
from sddp.dates import periods_per_year
from sddp.evaluation import metrics
from sddp.evaluation.inference import Resampling, Sample
from sddp.evaluation.return_forecasts import expected_and_earned, return_tests
from sddp.evaluation.risk_forecasts import (
    LogsDecisions,
    decision_logs,
    forecast_tests,
    forecasts_and_losses,
)
from sddp.labels import CASH


def sample(result: BacktestResult) -> Sample:
    """Returns of all strategies and of cash: what intervals and tests are computed from."""
    dates = pd.DatetimeIndex(result.cash_rate.index)
    return Sample(result.returns, result.cash_returns, periods_per_year(dates))


def summary(
    result: BacktestResult, *, confidence: float = 0.95, benchmark: str | None = None
) -> pd.DataFrame:
    """Metrics by strategy, as defined in `sddp.evaluation.metrics`.

    Parameters
    ----------
    result : BacktestResult
    confidence : float
        Level of `value_at_risk` and `cvar`, losses of one period: 0.9 is the worst 10 %.
    benchmark : str, optional
        Strategy with which the others are compared.

    Returns
    -------
    DataFrame, shape (n_strategies, n_metrics)
        Decimal fractions. `annualized_return`, `volatility`, `turnover` (purchases plus sales
        over wealth) and `cost_drag` (costs over wealth) are per year; `costs_paid` and
        `final_wealth` are money; `average_cash` is the mean share of cash after trading;
        `execution` says how decisions were traded. With a benchmark also `beta`, `alpha`,
        `tracking_error` and `information_ratio`.

    Raises
    ------
    DataError
        There is no strategy named `benchmark`.
    """
    rows = {name: _metrics(result, ledger, confidence) for name, ledger in result.ledgers.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    return table if benchmark is None else table.join(_against(result, benchmark))


def risk_backtest(
    result: BacktestResult, how: Resampling, *, period: int | None = None
) -> pd.DataFrame:
    """Tests of the one-period risk forecasts of the strategies that keep a decision log.

    Parameters
    ----------
    result : BacktestResult
    how : Resampling
        For the intervals and the simulated p-values.
    period : int, optional
        Rows of the period of the models, see `forecasts_and_losses`.

    Returns
    -------
    DataFrame
        As `forecast_tests`; empty if no strategy keeps a decision log.

    Raises
    ------
    DataError
        As `forecasts_and_losses` and `forecast_tests`.
    """
    periods = {
        name: forecasts_and_losses(result.ledgers[name].wealth, log, lag=result.lag, period=period)
        for name, log in decision_logs(result.strategies, result.ledgers).items()
    }
    return forecast_tests(periods, how)


def model_work(strategy: object) -> dict[str, float]:
    """How much work the decisions of a strategy with a model were; empty for another one.

    Returns
    -------
    dict
        ``n_decisions``; ``fits``; ``failures``; ``limit_binds``, the share of decisions at which
        the CVaR limit was binding; ``slowest_decision``, in seconds.
    """
    if not isinstance(strategy, LogsDecisions):
        return {}
    log = strategy.decision_log_table()
    return {
        "n_decisions": len(log),
        "fits": int(log["refit"].sum()),
        "failures": int((log["failure"] != "").sum()),
        "limit_binds": float(log["limit_binds"].astype(float).mean()),
        "slowest_decision": float(log["seconds"].max()),
    }


def return_backtest(
    result: BacktestResult, how: Resampling, *, period: int | None = None
) -> pd.DataFrame:
    """Tests of the one-period returns that the models expected.

    Parameters as `risk_backtest`; strategies whose decision log holds no ``model_mean`` are left
    out.

    Returns
    -------
    DataFrame
        As `sddp.evaluation.return_forecasts.return_tests`.
    """
    logs = decision_logs(result.strategies, result.ledgers)
    periods = {
        name: expected_and_earned(result.ledgers[name].wealth, log, lag=result.lag, period=period)
        for name, log in logs.items()
        if "model_mean" in log.columns
    }
    return return_tests(periods, how)


def _against(result: BacktestResult, benchmark: str) -> pd.DataFrame:
    result.ledger(benchmark)
    series = sample(result)
    base, cash, ppy = series.returns[benchmark], series.cash_returns, series.periods_per_year
    rows = {
        name: {
            "beta": metrics.beta(returns, base, cash),
            "alpha": metrics.alpha(returns, base, cash, ppy),
            "tracking_error": metrics.tracking_error(returns, base, ppy),
            "information_ratio": metrics.information_ratio(returns, base, ppy),
        }
        for name, returns in series.returns.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _metrics(result: BacktestResult, ledger: Ledger, confidence: float) -> dict[str, Any]:
    wealth = ledger.wealth
    returns = metrics.simple_returns(wealth)
    cash_returns = result.cash_returns.to_numpy()
    per_year = periods_per_year(pd.DatetimeIndex(wealth.index))
    fall = metrics.maximum_drawdown(wealth)
    costs = ledger.costs.sum(axis=1)
    return {
        "annualized_return": metrics.annualized_return(wealth),
        "volatility": metrics.volatility(returns, per_year),
        "sharpe": metrics.sharpe_ratio(returns, cash_returns, per_year),
        "sortino": metrics.sortino_ratio(returns, per_year),
        "calmar": metrics.calmar_ratio(wealth),
        "maximum_drawdown": fall.depth,
        "drawdown_peak": fall.peak,
        "drawdown_trough": fall.trough,
        "drawdown_recovery": fall.recovery,
        "value_at_risk": metrics.value_at_risk(returns, confidence=confidence),
        "cvar": metrics.conditional_value_at_risk(returns, confidence=confidence),
        "confidence": confidence,
        "hit_rate": metrics.hit_rate(returns),
        "turnover": metrics.per_year(ledger.turnover),
        "costs_paid": float(costs.sum()),
        "cost_drag": metrics.per_year(costs / wealth),
        "average_cash": float(ledger.weights[CASH].iloc[:-1].mean()),
        "final_wealth": float(wealth.iloc[-1]),
        "execution": result.timing,
    }
