"""Numbers about return series and policies: metrics, intervals, tests and comparisons."""

from sddp.evaluation.comparison import (
    compare_draws,
    compare_paired,
    smallest_not_worse,
    smallest_stable,
)
from sddp.evaluation.estimates import mean_interval, optimality_gap

__all__ = [
    "compare_draws",
    "compare_paired",
    "mean_interval",
    "optimality_gap",
    "smallest_not_worse",
    "smallest_stable",
]
