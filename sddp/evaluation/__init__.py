"""Numbers about return series and policies: metrics, intervals, tests and comparisons."""

from sddp.evaluation.comparison import (
    compare_draws,
    compare_paired,
    smallest_not_worse,
    smallest_stable,
)
from sddp.evaluation.deflated_sharpe import deflated_sharpe
from sddp.evaluation.estimates import mean_interval, optimality_gap
from sddp.evaluation.inference import Resampling, Sample, differences, intervals
from sddp.evaluation.reports.trigger_table import trigger_table
from sddp.evaluation.summary import return_backtest, risk_backtest, sample, summary

__all__ = [
    "Resampling",
    "Sample",
    "compare_draws",
    "compare_paired",
    "deflated_sharpe",
    "differences",
    "intervals",
    "mean_interval",
    "optimality_gap",
    "return_backtest",
    "risk_backtest",
    "sample",
    "smallest_not_worse",
    "smallest_stable",
    "summary",
    "trigger_table",
]
