"""Fit of a hidden Markov model from several starts of EM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.arrays import Floats, Ints
from sddp.errors import DataError
from sddp.statistics.hidden_markov.hmm import (
    DegenerateStart,
    EMResult,
    EMSettings,
    Parameters,
    count_parameters,
    covariance_penalty,
    filtered_probabilities,
    least_eigenvalue_ratio,
    log_densities,
)
from sddp.statistics.hidden_markov.starts import KINDS, softened
from sddp.statistics.tables import Table, split

# Correlations whose least eigenvalue is smaller than this cannot be told from linear dependence.
SINGULAR = 1e-10

LOG_COLUMNS = [
    "n_states",
    "start",
    "kind",
    "iterations",
    "converged",
    "log_likelihood",
    "penalized_log_likelihood",
    "least_count",
    "least_eigenvalue_ratio",
    "discarded",
    "chosen",
]


@dataclass(frozen=True, eq=False)
class Standardized:
    """Observations with mean 0 and variance 1 in every column.

    Parameters
    ----------
    values : array, shape (n, d)
    location, scale : array, shape (d,)
        The observations are ``location + scale * values``.
    lengths : array of int
        Row counts of the independent sequences.
    """

    values: Floats
    location: Floats
    scale: Floats
    lengths: Ints

    @property
    def correlation(self) -> Floats:
        """Correlation matrix of all rows, shape (d, d): the pooled covariance here."""
        correlation: Floats = self.values.T @ self.values / len(self.values)
        return correlation

    @property
    def log_jacobian(self) -> float:
        """What to add to a log-likelihood of `values` to get that of the observations."""
        return -len(self.values) * float(np.log(self.scale).sum())

    def log_likelihood(self, parameters: Parameters) -> float:
        """Log-likelihood of the observations; `parameters` are those of `values`."""
        chain = parameters.start_probabilities, parameters.transition_matrix
        densities = log_densities(self.values, parameters.means, parameters.covariances)
        sequences = split(densities, self.lengths)
        return self.log_jacobian + sum(filtered_probabilities(s, *chain)[1] for s in sequences)


def standardize(table: Table, lengths: Ints) -> Standardized:
    """Standardize the columns of a table.

    Raises
    ------
    DataError
        A column never changes, or is a linear combination of others.
    """
    location, scale = table.values.mean(axis=0), table.values.std(axis=0)
    spread = np.ptp(table.values, axis=0)
    if not spread.all():
        column = table.column(int(np.argmin(spread)))
        raise DataError(f"log_returns: column {column} never changes; leave it out")
    standardized = Standardized((table.values - location) / scale, location, scale, lengths)
    _check_dependence(standardized.correlation, table)
    return standardized


def _check_dependence(correlation: Floats, table: Table) -> None:
    values, vectors = np.linalg.eigh(correlation)
    if values[0] < SINGULAR:
        involved = [table.column(int(i)) for i in np.flatnonzero(np.abs(vectors[:, 0]) > 1e-3)]
        raise DataError(
            f"log_returns: the columns {', '.join(involved)} are linearly dependent over "
            f"{len(table.values)} rows; leave one out or give more rows"
        )


@dataclass(frozen=True, eq=False)
class Criteria:
    """Criteria by which a start is discarded as degenerate.

    Parameters
    ----------
    min_count : float
        Least expected number of rows of a regime.
    min_eigenvalue_ratio : float
        Least generalized eigenvalue of a regime's covariance against the pooled one.
    """

    min_count: float
    min_eigenvalue_ratio: float

    def complaint(self, count: float, ratio: float) -> str:
        """Reason to discard a start; empty if it is usable."""
        if count < self.min_count:
            return f"a regime of {count:.1f} expected rows, fewer than {self.min_count:g}"
        if ratio < self.min_eigenvalue_ratio:
            return (
                f"a variance at {ratio:.1e} of the pooled one, below {self.min_eigenvalue_ratio:g}"
            )
        return ""


@dataclass(frozen=True, eq=False)
class Climb:
    """Result of one start with sorted regimes, likelihoods in the units of the observations."""

    n_states: int
    start: int
    result: EMResult
    log_likelihood: float
    penalty: float
    least_eigenvalue_ratio: float
    discarded: str

    @property
    def penalized_log_likelihood(self) -> float:
        """Penalized log-likelihood, which EM maximizes and by which a start is chosen."""
        return self.log_likelihood + self.penalty

    def log_row(self) -> dict[str, object]:
        """Row of the fit log for this start."""
        return {
            "iterations": len(self.result.history),
            "converged": self.result.converged,
            "log_likelihood": self.log_likelihood,
            "penalized_log_likelihood": self.penalized_log_likelihood,
            "least_count": float(self.result.expected_counts.min()),
            "least_eigenvalue_ratio": self.least_eigenvalue_ratio,
            "discarded": self.discarded,
        }


@dataclass(frozen=True, eq=False)
class FitProblem:
    """Data and settings of one fit.

    Parameters
    ----------
    data : Standardized
    settings : EMSettings
    criteria : Criteria
    n_starts : int
        Starts of EM for each number of regimes.
    earlier : Parameters or None
        Parameters of an earlier fit, in the units of the observations: one of the starts.
    overlap : int
        Rows that say what one independent row says; `criteria` and `settings` count rows.
    """

    data: Standardized
    settings: EMSettings
    criteria: Criteria
    n_starts: int
    earlier: Parameters | None
    overlap: int = 1

    def require_rows(self, n_states: int) -> None:
        """Check that there are enough rows for the number of regimes.

        Raises
        ------
        DataError
            Fewer independent rows than the least count of every regime, or than parameters to
            fit; names the number of regimes that they carry.
        """
        n_rows, n_variables = self.data.values.shape
        needed = self._rows_needed(n_states)
        if n_rows < needed:
            carried = [k for k in range(1, n_states) if n_rows >= self._rows_needed(k)]
            states = (
                f"fewer states (n_states = {carried[-1]} would do)" if carried else "no regimes"
            )
            kind = (
                "" if self.overlap == 1 else f", as many as {n_rows / self.overlap:g} independent"
            )
            raise DataError(
                f"log_returns has {n_rows} rows{kind}; {n_states} regimes of {n_variables} "
                f"variables need at least {needed}: give more rows or {states}"
            )

    def _rows_needed(self, n_states: int) -> int:
        n_variables = self.data.values.shape[1]
        parameters = self.overlap * count_parameters(n_states, n_variables) / n_variables
        return int(np.ceil(max(n_states * self.criteria.min_count, parameters)))


def search_starts(
    problem: FitProblem, n_states: int, rng: np.random.Generator
) -> tuple[Climb, pd.DataFrame]:
    """Find the best usable start, with fewer regimes where none is usable.

    Returns
    -------
    best : Climb
        The one of highest penalized likelihood among those that meet the criteria.
    fit_log : DataFrame
        Every start of every number of regimes tried, in order.

    Raises
    ------
    DataError
        Too few rows, or even one regime does not meet the criteria.
    """
    problem.require_rows(n_states)
    rows: list[dict[str, object]] = []
    for k in range(n_states, 0, -1):
        outcomes = list(_outcomes(problem, k, rng.spawn(1)[0]))
        rows += [row for row, _ in outcomes]
        usable = [climb for _, climb in outcomes if climb is not None]
        if usable:
            best = max(usable, key=lambda climb: climb.penalized_log_likelihood)
            return best, _fit_log(rows, best)
    raise DataError(f"not even one regime fits log_returns: {rows[-1]['discarded']}")


def _outcomes(
    problem: FitProblem, n_states: int, rng: np.random.Generator
) -> Iterator[tuple[dict[str, object], Climb | None]]:
    """Yield each start's row of the log, and its climb where that is usable."""
    # hmmlearn takes 0.6 s to import, which only a fit needs.
    from sddp.statistics.hidden_markov.em import run_em

    for number, stream in enumerate(rng.spawn(problem.n_starts)):
        kind, start = _start(problem, n_states, number, stream)
        label = {"n_states": n_states, "start": number, "kind": kind}
        try:
            result = run_em(problem.data.values, problem.data.lengths, start, problem.settings)
        except DegenerateStart as reason:
            yield label | {"converged": False, "discarded": str(reason)}, None
        else:
            climb = _judged(problem, number, result)
            yield label | climb.log_row(), None if climb.discarded else climb


def _start(
    problem: FitProblem, n_states: int, number: int, rng: np.random.Generator
) -> tuple[str, Parameters]:
    earlier, data = problem.earlier, problem.data
    if number == 0 and earlier is not None and len(earlier.means) == n_states:
        return "earlier fit", softened(earlier).in_units(
            -data.location / data.scale, 1.0 / data.scale
        )
    kind = KINDS[number % len(KINDS)]
    return kind.__name__.replace("_", " "), kind(data.values, n_states, rng)


def _judged(problem: FitProblem, number: int, result: EMResult) -> Climb:
    covariances, pooled = result.parameters.covariances, problem.data.correlation
    ratio = least_eigenvalue_ratio(covariances, pooled)
    settings = problem.settings
    return Climb(
        n_states=len(covariances),
        start=number,
        result=_calmest_first(result),
        log_likelihood=problem.data.log_likelihood(result.parameters),
        penalty=covariance_penalty(
            covariances, settings.prior_covariance, settings.prior_observations
        ),
        least_eigenvalue_ratio=ratio,
        discarded=problem.criteria.complaint(float(result.expected_counts.min()), ratio),
    )


def _calmest_first(result: EMResult) -> EMResult:
    # On standardized data the trace is the sum of variances relative to those of all rows.
    volatility = np.trace(result.parameters.covariances, axis1=1, axis2=2)
    order = np.argsort(volatility, kind="stable")
    return EMResult(
        result.parameters.permuted(order),
        result.expected_counts[order],
        result.history,
        result.converged,
    )


def _fit_log(rows: list[dict[str, object]], best: Climb) -> pd.DataFrame:
    log = pd.DataFrame(rows).reindex(columns=LOG_COLUMNS)
    log["chosen"] = (log["n_states"] == best.n_states) & (log["start"] == best.start)
    return log
