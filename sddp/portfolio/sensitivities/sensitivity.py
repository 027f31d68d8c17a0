"""Which inputs move the weights: derivatives at the optimum, and changes of one standard error.

Derivatives are those of the conditions for an optimum with their active set held. At a kink, or
where a multiplier is zero, a derivative depends on the side: the active set is that of the optimum
a little further in the direction asked for. Correlations are moved along directions that keep the
matrix positive semidefinite: one asset's towards zero, with its row and column.
"""

from __future__ import annotations

import datetime
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import InfeasibleProblem, ModelError, SolverError
from sddp.portfolio.inputs import Weights, read_moments, read_weights
from sddp.portfolio.moments import Moments, Outcomes
from sddp.portfolio.optimizer import Terms
from sddp.portfolio.optimizers.black_litterman import BlackLitterman
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.qp.problem import TransactionCostQp, TransactionCostSolution
from sddp.portfolio.risk_aversion import CVaRMatched, VolatilityDriven
from sddp.portfolio.sensitivities.derivatives import bound_derivative, derivative, optimum_at
from sddp.portfolio.sensitivities.moved_inputs import (
    Input,
    MovedViews,
    bounds_of_problem,
    inputs_of_problem,
)
from sddp.portfolio.sensitivities.sampling_errors import sampling_errors
from sddp.statistics.tables import TableLike

# Step to the side on which a derivative is taken, relative to the input.
ASIDE = 1e-6

CHANGES = ("weights_error", "loss_error", "weights_percent", "loss_percent")


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Answer of `sensitivity`.

    Attributes
    ----------
    table : DataFrame, indexed by group and input
        ``value`` of the input; ``utility``, derivative of the objective; ``turnover``, sum of the
        absolute derivatives of the weights; ``error``, one standard error (NaN where it is not
        known); then for a rise by one standard error and by 1 %: ``weights_error`` and
        ``weights_percent``, sum of the absolute changes of the weights, and ``loss_error`` and
        ``loss_percent``, what the objective under the true input loses by them. The same on the
        side of a fall ends in ``_fall``. NaN where no portfolio is feasible on a side.
    weights, weights_fall : DataFrame, indexed the same, one column per asset
        Derivatives of the weights on the side of a rise, and of a fall; they differ at kinks.
    """

    table: pd.DataFrame
    weights: pd.DataFrame
    weights_fall: pd.DataFrame

    def by_group(self) -> pd.DataFrame:
        """Means over the inputs of a group and both sides, largest loss of one error first."""
        both = {name: (self.table[name] + self.table[f"{name}_fall"]).div(2.0) for name in CHANGES}
        means = pd.DataFrame(both).groupby(level="group").mean()
        return means.sort_values("loss_error", ascending=False)


class _Case(NamedTuple):
    """The problem and its optimum."""

    terms: Terms
    problem: TransactionCostQp
    found: TransactionCostSolution


def sensitivity(
    optimizer: MeanVariance | BlackLitterman,
    inputs: Moments,
    *,
    current_weights: Weights,
    cash_return: float = 0.0,
    volatility_index: float | None = None,
    index_error: float | None = None,
    outcomes: Outcomes | None = None,
    as_of: datetime.date | str | None = None,
    returns: TableLike | None = None,
    rng: int = 0,
) -> Sensitivity:
    """Derivatives and finite changes of weights and utility by every input.

    The inputs are means, volatilities, correlations, risk aversion, the volatility index, costs,
    and every bound and limit; of Black-Litterman also each view's return and standard error, and
    the moments are those of the posterior.

    Parameters
    ----------
    optimizer : MeanVariance or BlackLitterman
        With a risk aversion that is a number or driven by an index.
    inputs, current_weights, cash_return, volatility_index, outcomes, as_of
        See `Optimizer.solve`.
    index_error : float, optional
        Change of the volatility index, in points, that counts as one standard error of it.
    returns : DataFrame or array, shape (n_rows, n_assets), optional
        The window that the moments come from: standard errors by the stationary bootstrap
        (Politis and Romano, 1994; mean block of 10 rows).
    rng : int
        Of the bootstrap.

    Raises
    ------
    ModelError
        The risk aversion is matched to a CVaR, or hard limits on tracking error are set.
    DataError, InfeasibleProblem, SolverError
        See `Optimizer.solve`.
    """
    views: MovedViews | None = None
    model = optimizer.inner if isinstance(optimizer, BlackLitterman) else optimizer
    if not isinstance(model, MeanVariance):
        raise ModelError(f"optimizer: its optimizer is {model!r}; must be a MeanVariance")
    read = read_moments(inputs.mean, inputs.covariance)
    if isinstance(optimizer, BlackLitterman):
        found = optimizer.posterior(inputs, cash_return=cash_return, outcomes=outcomes, as_of=as_of)
        views = MovedViews(optimizer, found, read.covariance, cash_return)
        read = read_moments(found.moments.mean, found.moments.covariance)
    terms = Terms(model, read.names)
    current = read_weights(current_weights, read.names)
    problem = terms.problem(read.mean, read.covariance, current, cash_return)
    if isinstance(model.risk_aversion, CVaRMatched) or problem.tracking.hard.any():
        raise ModelError(
            "optimizer: sensitivities are of a given risk aversion without hard limits on tracking "
            "error; give the risk aversion found, and a soft limit"
        )
    aversion = _aversion(model.risk_aversion, volatility_index)
    problem = replace(problem, risk_aversion=aversion)
    case = _Case(terms, problem, terms.optimum(problem))
    index_step = np.nan if index_error is None else float(index_error)
    known = [
        *(views.inputs(problem) if views is not None else ()),
        *inputs_of_problem(problem, read.names, model.risk_aversion, volatility_index, index_step),
        *bounds_of_problem(problem, read.names, terms.rows),
    ]
    errors = _errors(known, read.names, returns, rng)
    return _measured(case, known, errors)


def _aversion(wanted: float | VolatilityDriven, volatility_index: float | None) -> float:
    if not isinstance(wanted, VolatilityDriven):
        return float(wanted)
    if volatility_index is None:
        raise ModelError(f"{wanted} needs volatility_index; give it in points")
    return wanted.at(volatility_index)


def _errors(
    known: Sequence[Input], names: Sequence[Hashable], returns: TableLike | None, rng: int
) -> list[float]:
    """Standard error of each input, NaN for what is not estimated."""
    if returns is None:
        return [item.error for item in known]
    estimated = sampling_errors(returns, rng)
    places = {name: i for i, name in enumerate(names)}
    return [
        float(estimated[item.group][places[item.name]]) if item.group in estimated else item.error
        for item in known
    ]


def _measured(case: _Case, known: Sequence[Input], errors: Sequence[float]) -> Sensitivity:
    rows: list[dict[str, float]] = []
    rises: list[Floats] = []
    falls: list[Floats] = []
    for item, error in zip(known, errors, strict=True):
        row = {"value": item.size, "error": error}
        slope = bound_derivative if item.is_bound else derivative
        for sign, end, slopes in ((1.0, "", rises), (-1.0, "_fall", falls)):
            aside = sign * ASIDE * (abs(item.size) or 1.0)
            utility, weights = slope(*case, item.moved, aside)
            changes = [
                *_change(case, item, sign * error),
                *_change(case, item, sign * 0.01 * abs(item.size)),
            ]
            row |= {f"utility{end}": utility, f"turnover{end}": float(np.abs(weights).sum())}
            row |= {f"{name}{end}": v for name, v in zip(CHANGES, changes, strict=True)}
            slopes.append(weights)
        rows.append(row)
    index = pd.MultiIndex.from_tuples(
        [(i.group, str(i.name)) for i in known], names=["group", "input"]
    )
    labels = pd.Index([str(name) for name in case.terms.names])
    return Sensitivity(
        pd.DataFrame(rows, index=index),
        pd.DataFrame(rises, index, labels),
        pd.DataFrame(falls, index, labels),
    )


def _change(case: _Case, item: Input, step: float) -> tuple[float, float]:
    """Absolute change of the weights by a step of an input, and the utility it costs.

    A bound is known without error: there what is lost or won is the utility itself.
    """
    terms, problem, found = case
    if not np.isfinite(step) or step == 0.0:
        return np.nan, np.nan
    try:
        other = optimum_at(terms, item.moved(step))
    except (InfeasibleProblem, SolverError):
        if not item.is_bound:
            raise
        return np.nan, np.nan
    lost = problem.objective(found.weights, found.cash)
    lost -= problem.objective(other.weights, problem.cash(other.weights))
    return float(np.abs(other.weights - found.weights).sum()), lost
