"""Gaussian market regimes in a Markov chain: the model, and its fit to log returns."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.arrays import Floats, Ints, read_only
from sddp.display.shown import Shown, listed
from sddp.errors import DataError, FitWarning, ModelError
from sddp.labels import Labels, checked_labels, label_index
from sddp.rng import Rng, generator
from sddp.statistics.hidden_markov.fitting import (
    Climb,
    Criteria,
    FitProblem,
    search_starts,
    standardize,
)
from sddp.statistics.hidden_markov.hmm import (
    EMSettings,
    Parameters,
    count_parameters,
    filtered_probabilities,
    last_filtered_probabilities,
    log_densities,
    viterbi_path,
)
from sddp.statistics.tables import (
    Table,
    TableLike,
    check_columns,
    check_positive_definite,
    finite_array,
    read_table,
    sequence_lengths,
    split,
)
from sddp.threads import one_blas_thread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A regime with fewer rows than this, or than two per variable, has no covariance worth the name.
FEWEST_ROWS = 20

# Rows nearer to a sum of 1 than this are rounded numbers and are rescaled.
ROW_SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False, repr=False)
class Regimes(Shown):
    """Hidden Markov chain of regimes, each of which emits normal log returns.

    Row t of a table of observations is emitted by the regime of period t: a log return earned
    over ``(t-1, t]`` and known at t. The regime then moves, and emits row t+1. So the law of the
    next row given ``p = filter(observations)[-1]`` is the mixture ``p @ transition_matrix`` of the
    regimes' normals.

    Parameters
    ----------
    means : array, shape (K, d)
        Mean log return per period of each variable in each regime.
    covariances : array, shape (K, d, d)
        Covariance of the log returns per period; positive definite.
    transition_matrix : array, shape (K, K)
        Probability of the next regime; row = from, column = to.
    start_probabilities : array, shape (K,)
        Law of the regime of the first row of each sequence.
    variable_names : sequence of hashable, optional
        Labels of the d variables.

    Raises
    ------
    DataError
        Shapes disagree, a number is not finite, probabilities are negative or do not sum to 1, or
        a covariance is not symmetric and positive definite.
    """

    means: Floats
    covariances: Floats
    transition_matrix: Floats
    start_probabilities: Floats
    variable_names: Sequence[Hashable] | None = None

    def __post_init__(self) -> None:
        means = read_only(self.means)
        if means.ndim != 2 or means.size == 0:
            raise DataError(f"means has shape {means.shape}; give (n_states, n_variables)")
        k, d = means.shape
        shapes = {
            "means": (k, d),
            "covariances": (k, d, d),
            "transition_matrix": (k, k),
            "start_probabilities": (k,),
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, finite_array(getattr(self, name), shape, name))
        for name in ("transition_matrix", "start_probabilities"):
            object.__setattr__(self, name, _probabilities(getattr(self, name), name))
        check_positive_definite(self.covariances)
        object.__setattr__(self, "variable_names", _names(self.variable_names, d))

    @property
    def n_states(self) -> int:
        """Number of regimes."""
        return int(self.means.shape[0])

    @property
    def n_variables(self) -> int:
        """Number of variables a regime emits."""
        return int(self.means.shape[1])

    def filter(self, observations: TableLike, *, lengths: ArrayLike | None = None) -> Floats:
        """Regime probabilities using data up to each row only.

        Parameters
        ----------
        observations : DataFrame or array, shape (n, d)
            Log returns per period, oldest first. Before the first row the law of the regime is
            `start_probabilities`; on another window than that of the fit, a few rows forget it.
        lengths : sequence of int, optional
            Row counts of independent sequences stacked in `observations`; one sequence by default.

        Returns
        -------
        array, shape (n, K)
            Row t: law of the regime that emitted row t, known when row t is. Later rows do not
            move it by a bit, whether they change or are missing.

        Raises
        ------
        DataError
            `observations` is not a finite table of the variables of the fit, or `lengths` does not
            sum to its rows.
        """
        return np.concatenate([row for row, _ in self._forward(observations, lengths)])

    def belief(self, observations: TableLike) -> Floats:
        """Regime probabilities given all rows of one sequence, shape (K,): the last of `filter`.

        The same numbers but for rounding, sooner; arguments and errors as there.
        """
        (densities,) = self._densities(observations, None)
        chain = self.start_probabilities, self.transition_matrix
        return last_filtered_probabilities(densities, *chain)

    def score(self, observations: TableLike, *, lengths: ArrayLike | None = None) -> float:
        """Log-likelihood of `observations`; arguments and errors as in `filter`."""
        return float(sum(value for _, value in self._forward(observations, lengths)))

    def viterbi(self, observations: TableLike, *, lengths: ArrayLike | None = None) -> Ints:
        """Most likely sequence of regimes, shape (n,); arguments and errors as in `filter`.

        Every entry uses all rows, earlier and later: its *last* one is the only one known at the
        time (the paper's own code takes that one as the current regime).
        """
        chain = self.start_probabilities, self.transition_matrix
        paths = [viterbi_path(rows, *chain) for rows in self._densities(observations, lengths)]
        return np.concatenate(paths)

    def _forward(
        self, observations: TableLike, lengths: ArrayLike | None
    ) -> list[tuple[Floats, float]]:
        chain = self.start_probabilities, self.transition_matrix
        densities = self._densities(observations, lengths)
        return [filtered_probabilities(rows, *chain) for rows in densities]

    def _densities(self, observations: TableLike, lengths: ArrayLike | None) -> list[Floats]:
        table = read_table(observations, "observations")
        check_columns(table, self.variable_names, self.n_variables, "observations")
        densities = log_densities(table.values, self.means, self.covariances)
        return list(split(densities, sequence_lengths(lengths, len(densities))))

    def plot(self, observations: TableLike) -> Figure:
        """Filtered probabilities through time, `filter` of a DataFrame or array, as areas."""
        from sddp.display.figures import regime_figure

        probabilities = self.filter(observations)
        rows = observations.index if isinstance(observations, pd.DataFrame) else None
        return regime_figure(probabilities, rows)

    def _facts(self) -> dict[str, str]:
        return {
            "regimes": str(self.n_states),
            "variables": listed(self.variable_names or range(self.n_variables)),
            "staying": ", ".join(f"{p:.1%}" for p in np.diag(self.transition_matrix)),
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        names = label_index(self.variable_names or range(self.n_variables))
        parts = {}
        for k in range(self.n_states):
            parts[f"mean, regime {k + 1}"] = self.means[k]
            parts[f"volatility, regime {k + 1}"] = np.sqrt(np.diag(self.covariances[k]))
        regimes = [f"regime {k + 1}" for k in range(self.n_states)]
        return {
            "Log returns of a period": pd.DataFrame(parts, index=names),
            "Probability of the next regime": pd.DataFrame(
                self.transition_matrix, index=regimes, columns=regimes
            ),
        }


@dataclass(frozen=True, eq=False, repr=False)
class FittedRegimes(Regimes):
    """Regimes estimated from data, calmest first, with the record of the fit.

    Parameters
    ----------
    log_likelihood : float
        Of the data under these parameters, in the units of the data.
    penalized_log_likelihood : float
        The same plus the log prior of the covariances (0 where they equal the pooled one).
    n_observations : int
        Rows of data.
    requested_n_states : int
        `n_states` is smaller where every start with more regimes was discarded.
    expected_counts : array, shape (K,)
        Expected number of rows each regime emitted.
    converged : bool
        Whether EM met its tolerance before its limit of iterations.
    history : array, shape (n_iterations,)
        Penalized log-likelihood before each EM step of the chosen start; it never falls.
    fit_log : DataFrame
        One row per start: `n_states`, `start`, `kind`, `iterations`, `converged`,
        `log_likelihood`, `penalized_log_likelihood`, `least_count`, `least_eigenvalue_ratio` (NaN
        where EM broke down), `discarded` (the reason, or empty) and `chosen`.
    overlap : int
        Rows of the data that say what one independent row says.
    """

    _: KW_ONLY
    log_likelihood: float
    penalized_log_likelihood: float
    n_observations: int
    requested_n_states: int
    expected_counts: Floats
    converged: bool
    history: Floats
    fit_log: pd.DataFrame
    overlap: int = 1

    @property
    def bic(self) -> float:
        """Bayesian information criterion of the fit (smaller is better; Schwarz 1978).

        On independent rows: a likelihood of rows that overlap counts each of them `overlap` times.
        """
        n_parameters = count_parameters(self.n_states, self.n_variables)
        penalty = n_parameters * float(np.log(self.n_observations / self.overlap))
        return -2.0 * self.log_likelihood / self.overlap + penalty

    def _facts(self) -> dict[str, str]:
        return super()._facts() | {
            "rows": str(self.n_observations),
            "log-likelihood": f"{self.log_likelihood:.6g}",
            "converged": "yes" if self.converged else "no",
        }


@dataclass(frozen=True)
class GaussianRegimes:
    """Settings of the fit: hidden Markov model with full covariances, EM from several starts.

    EM runs on standardized data. A weak prior, ``prior_observations`` rows of ``prior_scale``
    times the pooled covariance C of all rows, keeps covariances regular: the covariance of a
    regime with n_k expected rows and sample covariance S_k is
    ``(w C + n_k S_k) / (w + n_k)`` with ``w = prior_observations``. Means and chain carry no
    prior. A start is discarded where it ends in a regime with too few rows or too small a
    variance; among the others the best penalized likelihood is kept. Where every start is
    discarded, one regime fewer is tried, with a `FitWarning`.

    Parameters
    ----------
    n_states : int
        Number of regimes K.
    n_starts : int
        Starts of EM for each number of regimes tried.
    prior_observations : float
        Strength of the prior in independent rows; 0 is maximum likelihood.
    prior_scale : float
        The prior covariance as a multiple of the pooled one.
    min_count : float, optional
        Least expected number of independent rows of a regime; ``max(2 d, 20)`` by default.
    min_eigenvalue_ratio : float
        Least variance that a regime may give to any combination of the variables, relative to its
        variance over all rows.
    tolerance : float
        EM stops when a step adds less than this to the penalized log-likelihood.
    max_iterations : int
        EM steps per start.

    Raises
    ------
    ModelError
        A setting is outside its range.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> calm, wild = rng.normal(0.01, 0.02, (2000, 1)), rng.normal(-0.02, 0.08, (1000, 1))
    >>> fitted = GaussianRegimes(n_states=2).fit(np.vstack([calm, wild]), rng=rng)
    >>> np.sqrt(fitted.covariances).round(2).ravel().tolist()
    [0.02, 0.08]
    >>> fitted.filter(np.vstack([calm, wild]))[-1].round(2).tolist()
    [0.0, 1.0]
    """

    n_states: int = 3
    _: KW_ONLY
    n_starts: int = 20
    prior_observations: float = 5.0
    prior_scale: float = 1.0
    min_count: float | None = None
    min_eigenvalue_ratio: float = 1e-2
    tolerance: float = 1e-6
    max_iterations: int = 2000

    def __post_init__(self) -> None:
        for name in ("n_states", "n_starts", "max_iterations"):
            _require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("prior_scale", "tolerance"):
            _require(name, getattr(self, name), getattr(self, name) > 0.0, "a positive number")
        weight, ratio = self.prior_observations, self.min_eigenvalue_ratio
        _require("prior_observations", weight, weight >= 0.0, "rows, or 0 for no prior")
        _require("min_eigenvalue_ratio", ratio, 0.0 <= ratio < 1.0, "a number in [0, 1)")

    def fit(
        self,
        log_returns: TableLike,
        *,
        lengths: ArrayLike | None = None,
        start: Regimes | None = None,
        overlap: int = 1,
        rng: Rng,
    ) -> FittedRegimes:
        """Estimate the regimes.

        Parameters
        ----------
        log_returns : DataFrame or array, shape (n, d)
            Log returns per period, oldest first; row t is earned over ``(t-1, t]``. Pairing row t
            of one variable with row t+1 of another changes what a regime means: it then emits
            returns that are not known yet, and `filter` may not be used on the last row.
        lengths : sequence of int, optional
            Row counts of independent sequences stacked in `log_returns`; one by default.
        start : Regimes, optional
            Earlier parameters, used as the first of the `n_starts` starts wherever as many
            regimes are fitted as they have.
        overlap : int
            Rows that say what one independent row says: 5 where weekly returns start on every day.
            The least count of a regime, the prior and BIC are in independent rows.
        rng : int, SeedSequence or Generator
            Draws the starts. More starts leave the earlier ones as they were.

        Returns
        -------
        FittedRegimes
            In the units of the data, regimes in ascending order of volatility: the sum over the
            variables of the regime's variance relative to the variance of all rows (the relation
            makes the order independent of units).

        Raises
        ------
        DataError
            `log_returns` is not a finite table, has too few rows for the number of regimes, a
            column that never changes or that others determine; or `start` has other variables.

        Warns
        -----
        FitWarning
            Fewer regimes than asked for were fitted, or EM hit its limit of iterations.
        """
        fitted = self.fit_quietly(
            log_returns, lengths=lengths, start=start, overlap=overlap, rng=rng
        )
        if fitted.n_states < self.n_states:
            warnings.warn(_reduction(fitted), FitWarning, stacklevel=2)
        if not fitted.converged:
            warnings.warn(_unconverged(self.max_iterations), FitWarning, stacklevel=2)
        return fitted

    def fit_quietly(
        self,
        log_returns: TableLike,
        *,
        lengths: ArrayLike | None = None,
        start: Regimes | None = None,
        overlap: int = 1,
        rng: Rng,
    ) -> FittedRegimes:
        """`fit` without its warnings, for callers that read `n_states` and `converged`."""
        rng = generator(rng)
        _require("overlap", overlap, overlap >= 1, "at least 1")
        table = read_table(log_returns, "log_returns")
        if start is not None:
            check_columns(table, start.variable_names, start.n_variables, "log_returns")
        with one_blas_thread():
            counts = sequence_lengths(lengths, len(table.values))
            problem = self._problem(table, counts, start, overlap)
            best, fit_log = search_starts(problem, self.n_states, rng)
        return _fitted(best, fit_log, problem, table.names, self.n_states)

    def _problem(
        self, table: Table, lengths: Ints, start: Regimes | None, overlap: int
    ) -> FitProblem:
        data = standardize(table, lengths)
        settings = EMSettings(
            prior_covariance=self.prior_scale * data.correlation,
            prior_observations=self.prior_observations * overlap,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        count = self.min_count
        if count is None:
            count = max(2 * table.values.shape[1], FEWEST_ROWS)
        criteria = Criteria(count * overlap, self.min_eigenvalue_ratio)
        return FitProblem(data, settings, criteria, self.n_starts, _parameters(start), overlap)


def _fitted(
    best: Climb,
    fit_log: pd.DataFrame,
    problem: FitProblem,
    names: Labels | None,
    requested: int,
) -> FittedRegimes:
    data, result = problem.data, best.result
    parameters = result.parameters.in_units(data.location, data.scale)
    return FittedRegimes(
        means=parameters.means,
        covariances=parameters.covariances,
        transition_matrix=parameters.transition_matrix,
        start_probabilities=parameters.start_probabilities,
        variable_names=names,
        log_likelihood=best.log_likelihood,
        penalized_log_likelihood=best.penalized_log_likelihood,
        n_observations=len(data.values),
        requested_n_states=requested,
        expected_counts=read_only(result.expected_counts),
        converged=result.converged,
        history=read_only(result.history + data.log_jacobian),
        fit_log=fit_log,
        overlap=problem.overlap,
    )


def _parameters(start: Regimes | None) -> Parameters | None:
    if start is None:
        return None
    return Parameters(
        start.start_probabilities, start.transition_matrix, start.means, start.covariances
    )


def _reduction(fitted: FittedRegimes) -> str:
    first = fitted.fit_log["discarded"].iloc[0]
    return (
        f"n_states = {fitted.requested_n_states}, but {fitted.n_states} regimes were fitted: every "
        f"start with more was discarded (the first: {first}; see fit_log); give more rows, a "
        "larger prior_observations or n_starts, or fewer states"
    )


def _unconverged(max_iterations: int) -> str:
    return (
        f"EM stopped at max_iterations = {max_iterations} before its gain fell below the "
        "tolerance; raise either"
    )


def _require(name: str, value: object, valid: bool, wanted: str) -> None:
    if not valid:
        raise ModelError(f"{name} = {value}; give {wanted}")


def _probabilities(values: Floats, name: str) -> Floats:
    sums = values.sum(axis=-1, keepdims=True)
    if values.min() < 0.0 or np.abs(sums - 1.0).max() > ROW_SUM_TOLERANCE:
        raise DataError(f"{name} = {values.tolist()}; give rows of probabilities that sum to 1")
    return read_only(values / sums)


def _names(names: Sequence[Hashable] | None, length: int) -> Labels | None:
    if names is None:
        return None
    labels = checked_labels(names, "variable_names")
    if len(labels) != length:
        raise DataError(f"variable_names={labels}: must be {length} different names")
    return labels
