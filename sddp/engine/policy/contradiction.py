"""A bound and a simulation that contradict each other: one of them is wrong, and both are said."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd

from sddp.engine.model.problem import Problem
from sddp.errors import ConvergenceWarning

# Standard errors of the simulated mean within which a bound is not contradicted.
N_ERRORS = 4.0

# What the solver's tolerances may add up to, relative to the totals.
ROUNDING = 1e-6

# With fewer paths the standard error is itself unknown.
FEWEST_PATHS = 30

# Below this share of what it would be if all were alike, a probability is rare: a mean and its
# standard error say nothing about an outcome that no path took.
RARE_SHARE = 0.1


def warn_of_contradiction(problem: Problem, bound: float, table: pd.DataFrame) -> None:
    """Compare a valid bound on the mean with paths simulated with the nominal probabilities.

    `table` is that of `simulate`. Nothing is said where a rare outcome is missing from it.

    Warns
    -----
    ConvergenceWarning
        The simulated mean is better than the bound by more than its error.
    """
    totals: Any = table.groupby(level="path")["objective"].sum().to_numpy()
    if len(totals) < FEWEST_PATHS:
        return
    mean, error = float(totals.mean()), float(totals.std(ddof=1) / np.sqrt(len(totals)))
    size = max(abs(bound), float(np.abs(totals).max()))
    excess = problem.sign * (bound - mean)
    if excess <= N_ERRORS * error + ROUNDING * size or _misses_rare(problem, table):
        return
    warnings.warn(
        f"bound={bound:.8g} and the simulated mean {mean:.8g} (standard error {error:.2g}, "
        f"{len(totals)} paths) contradict each other: no policy's mean is better than a valid "
        "bound; check cost_to_go_bound and the initial cuts, which training takes as given, then "
        "the numerical warnings of training",
        ConvergenceWarning,
        stacklevel=3,
    )


def _misses_rare(problem: Problem, table: pd.DataFrame) -> bool:
    """Whether some rare outcome may be missing (the table does not tell arrivals apart)."""
    seen = set(zip(table["node"], table["noise"], strict=True))
    nodes = {node for node, _ in seen}
    for name, stage in problem.stages.items():
        if not problem.graph.reaches(name):
            continue
        noise, arrivals = stage.noise.probabilities, stage.transition.probabilities
        rare = np.flatnonzero(noise < RARE_SHARE / len(noise)).tolist()
        if name not in nodes or any((name, w) not in seen for w in rare):
            return True
        if (arrivals < RARE_SHARE / len(arrivals)).any():
            return True
    return False
