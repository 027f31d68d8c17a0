"""Ex-ante CVaR of what every strategy held, on one set of scenarios: the same yardstick for all."""

from __future__ import annotations

import numpy as np
import pandas as pd

from experiments.brazil.makers import estimator
from experiments.brazil.results import Results
from experiments.brazil.variants import Variant
from sddp.allocation.one_period import OnePeriodDistribution
from sddp.arrays import Floats
from sddp.backtest import BacktestResult
from sddp.estimation import RollingEstimate

# Rows between two measurements, as far as the schedule of fits allows.
STEP = 5


def held_cvar(results: Results, reports: dict[str, BacktestResult]) -> dict[str, pd.Series[float]]:
    """Mean one-period CVaR of the holdings after trading, as a fraction of wealth.

    Measured on every fifth row with the regimes, scenarios and belief that the models of the study
    have on that row (first seed), also for strategies that know none of these. With a lag, what is
    held on a row was decided rows before. No cost of trading is in it.

    Parameters
    ----------
    results : Results
    reports : mapping of str to BacktestResult

    Returns
    -------
    dict of Series, by report
        Indexed by strategy.
    """
    config = results.config
    usual = Variant.of(config, "")
    step = int(np.gcd(STEP, config.refit_every))
    rolling = RollingEstimate(estimator(usual, config, results.caches), config.refit_every // step)
    dates = pd.DatetimeIndex(next(iter(reports.values())).cash_rate.index)[:-1:step]
    held = {key: _weights(report, dates) for key, report in reports.items()}
    rows: dict[str, list[list[float]]] = {key: [] for key in reports}
    for row, date in enumerate(dates):
        view = results.market.at(date)
        ahead = rolling.refresh(view).one_period_distribution(view)
        for key, weights in held.items():
            rows[key].append([_cvar(ahead, of_one, config.confidence) for of_one in weights[row]])
    return {
        key: pd.DataFrame(values, columns=list(reports[key].ledgers)).mean()
        for key, values in rows.items()
    }


def _weights(report: BacktestResult, dates: pd.DatetimeIndex) -> Floats:
    """Shares of wealth, cash first, shape (n_dates, n_strategies, 1 + n_assets)."""
    held = [report.weights(name).loc[dates].to_numpy() for name in report.ledgers]
    return np.stack(held, axis=1)


def _cvar(ahead: OnePeriodDistribution, weights: Floats, confidence: float) -> float:
    return ahead.cvar(float(weights[0]), weights[1:], confidence)
