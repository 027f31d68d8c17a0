"""Tests between policies, and rules for choosing numbers of scenarios and states.

Policies are compared on the same paths (common random numbers), so all tests are paired. Two
questions are kept apart: "is there a difference?" (a t-test; the paper's authors stop where it
finds none) and "is the difference too small to matter?" (an equivalence test). A test that finds
nothing on few or noisy paths does not show that there is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.evaluation.estimates import Estimate, check_share, finite_vector, mean_interval

Alternative = Literal["two-sided", "less", "greater"]

# Fewer draws do not show how much the scenarios themselves move a policy.
LEAST_DRAWS = 10


@dataclass(frozen=True)
class PairedComparison:
    """Paired t-test of two samples.

    Attributes
    ----------
    difference : Estimate
        Of ``first - second``, two-sided whatever the test's alternative.
    p_value : float
        Probability of a difference as extreme as this if the means were equal.
    """

    difference: Estimate
    p_value: float


def compare_paired(
    first: ArrayLike,
    second: ArrayLike,
    *,
    alternative: Alternative = "two-sided",
    confidence: float = 0.95,
) -> PairedComparison:
    """Test whether two policies have the same mean on the same paths.

    Parameters
    ----------
    first, second : array, shape (n_paths,)
        Terminal wealth, path by path.
    alternative : {"two-sided", "less", "greater"}
        "less": the first has the smaller mean.
    confidence : float
        Of the interval.

    Raises
    ------
    DataError
        Shapes disagree, fewer than 2 paths, or a number is not finite.
    ModelError
        An unknown alternative, or a confidence not between 0 and 1.
    """
    if alternative not in ("two-sided", "less", "greater"):
        raise ModelError(f"alternative = {alternative!r}; give 'two-sided', 'less' or 'greater'")
    a, b = finite_vector(first, "first"), finite_vector(second, "second")
    if a.shape != b.shape:
        raise DataError(f"first has {len(a)} paths and second {len(b)}; compare the same paths")
    differences = a - b
    estimate = mean_interval(differences, confidence=confidence)
    # Two policies can coincide on every path (all in one asset): no test, and no difference.
    same = not differences.any()
    p = 1.0 if same else float(stats.ttest_1samp(differences, 0.0, alternative=alternative).pvalue)
    return PairedComparison(estimate, p)


@dataclass(frozen=True, eq=False)
class Selection:
    """Choice of a rule with the tests behind it.

    Attributes
    ----------
    chosen : int or None
        None: no candidate meets the rule.
    table : DataFrame
        One row per test, indexed by candidate: ``against``, ``mean_difference``, ``low``,
        ``high`` (95 %), ``p_value``, ``accepted``.
    """

    chosen: int | None
    table: pd.DataFrame


def smallest_stable(wealth: Mapping[int, ArrayLike], *, level: float = 0.05) -> Selection:
    """Choose the smallest size from which the next larger one does not differ significantly.

    The rule by which the paper's authors chose the number of scenarios: two-sided paired t-tests
    of terminal wealth between consecutive sizes, on the same paths. It takes the scenarios as
    given: say beside it what `compare_draws` finds over independent draws of them.

    Parameters
    ----------
    wealth : mapping of size to array, shape (n_paths,)
    level : float
        A step counts as no difference where its p-value is at least this.

    Raises
    ------
    DataError
        Fewer than two sizes, or as in `compare_paired`.
    ModelError
        `level` is not between 0 and 1.
    """
    sizes = sorted(wealth)
    if len(sizes) < 2:
        raise DataError(f"wealth has the sizes {sizes}; give at least two")
    tests = {
        s: (bigger, compare_paired(wealth[s], wealth[bigger])) for s, bigger in pairwise(sizes)
    }
    return _selection(tests, level)


def smallest_not_worse(
    wealth: Mapping[int, ArrayLike], reference: ArrayLike, *, level: float = 0.05
) -> Selection:
    """Choose the smallest candidate that is not significantly worse than a reference.

    The rule by which the paper's authors chose the number of Markov states: one-sided paired
    t-tests against the dynamic program, on the same paths.

    Parameters
    ----------
    wealth : mapping of candidate to array, shape (n_paths,)
    reference : array, shape (n_paths,)
    level : float
        A candidate is accepted where its p-value is at least this.

    Raises
    ------
    DataError
        No candidate, or as in `compare_paired`.
    ModelError
        `level` is not between 0 and 1.
    """
    if not wealth:
        raise DataError("wealth is empty; give candidates to choose from")
    tests = {
        k: ("reference", compare_paired(wealth[k], reference, alternative="less"))
        for k in sorted(wealth)
    }
    return _selection(tests, level)


@dataclass(frozen=True)
class DrawComparison:
    """Comparison over independent draws of the scenarios.

    Attributes
    ----------
    difference : Estimate
        Of ``first - second``, given the paths, over draws; its confidence is ``1 - 2 * level``,
        so that it lies within the margin exactly where the test finds equivalence.
    margin : float
        Largest difference that does not matter.
    p_value : float
        The larger one of the two one-sided tests.
    equivalent : bool
        Whether it is below the level.
    """

    difference: Estimate
    margin: float
    p_value: float
    equivalent: bool


def compare_draws(
    first: ArrayLike,
    second: ArrayLike,
    *,
    gain: float,
    share: float = 0.05,
    level: float = 0.05,
) -> DrawComparison:
    """Test that two policies differ by less than a share of the gain (two one-sided t-tests).

    The unit is a draw of the scenarios on which policies were trained, since that is what
    fluctuates from one study to the next: the differences of mean wealth over the paths, one per
    draw. The paths are taken as given; with wealth by conditional expectations they hardly matter.

    Parameters
    ----------
    first : array, shape (n_draws, n_paths)
        Terminal wealth of the policies trained on each draw, at least 10 of them.
    second : array, shape (n_draws, n_paths) or (n_paths,)
        The same of the other size; or one policy that has no draws, on the same paths.
    gain : float
        What is gained at all, e.g. expected terminal wealth less initial wealth.
    share : float
        Of the gain: the margin.
    level : float

    Raises
    ------
    DataError
        Shapes disagree, fewer than 10 draws, or a number is not finite.
    ModelError
        No positive margin, or `level` is not between 0 and 1/2.
    """
    margin = share * gain
    if not (np.isfinite(margin) and margin > 0.0):
        raise ModelError(f"share = {share} of gain = {gain}: must be a positive margin")
    if not 0.0 < level < 0.5:
        raise ModelError(f"level = {level}; give a number between 0 and 1/2")
    differences = _draw_differences(first, second)
    estimate = mean_interval(differences, confidence=1.0 - 2.0 * level)
    if np.ptp(differences) == 0.0:  # every draw gives the same: nothing fluctuates
        p = 0.0 if abs(estimate.mean) < margin else 1.0
    else:
        above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
        p = float(max(above, below))
    return DrawComparison(estimate, margin, p, p < level)


def _selection(tests: Mapping[int, tuple[object, PairedComparison]], level: float) -> Selection:
    """The smallest candidate whose p-value is at least `level`, with all the tests."""
    check_share(level, "level")
    rows = {
        candidate: {
            "against": against,
            "mean_difference": test.difference.mean,
            "low": test.difference.low,
            "high": test.difference.high,
            "p_value": test.p_value,
            "accepted": test.p_value >= level,
        }
        for candidate, (against, test) in tests.items()
    }
    accepted = [candidate for candidate, row in rows.items() if row["accepted"]]
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("candidate")
    return Selection(min(accepted, default=None), table)


def _draw_differences(first: ArrayLike, second: ArrayLike) -> Floats:
    """Difference of mean wealth, draw by draw."""
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 2 or b.shape not in (a.shape, a.shape[1:]):
        raise DataError(
            f"first has shape {a.shape} and second {b.shape}; give (n_draws, n_paths) and the "
            "same or (n_paths,)"
        )
    if len(a) < LEAST_DRAWS:
        raise DataError(f"first has {len(a)} draws; {LEAST_DRAWS} scenario draws are the least")
    return finite_vector((a - b).mean(axis=1), "first - second")
