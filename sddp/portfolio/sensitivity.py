"""Which inputs move the weights: derivatives at the optimum, and changes of one standard error.

Derivatives are those of the conditions for an optimum with their active set held. At a kink, or
where a multiplier is zero, a derivative depends on the side: the active set is that of the optimum
a little further in the direction asked for. Correlations are moved along directions that keep the
matrix positive semidefinite: one asset's towards zero, with its row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.portfolio.inputs import Weights, read_moments, read_weights
from sddp.portfolio.moments import Moments
from sddp.portfolio.optimizer import Terms
from sddp.portfolio.optimizers.mean_variance import MeanVariance
from sddp.portfolio.qp.polish import active_sides, direction
from sddp.portfolio.qp.transaction_cost_qp import (
    TransactionCostQp,
    TransactionCostSolution,
    columns_of,
    row_qp,
    start_at,
)
from sddp.portfolio.risk_aversion import CVaRMatched, VolatilityDriven
from sddp.statistics.tables import TableLike, read_table

# Step to the side on which a derivative is taken, relative to the input.
ASIDE = 1e-6

# Mean length of the blocks of the stationary bootstrap, and draws.
BLOCK, DRAWS = 10.0, 200


class Input(NamedTuple):
    """An input of the problem and how it is moved.

    Attributes
    ----------
    group, name : str, label
    size : float
        Its value, of which 1 % is 1 %; of a mean the mean itself.
    moved : function
        From a change in the input's own unit to the problem.
    """

    group: str
    name: Hashable
    size: float
    moved: Callable[[float], TransactionCostQp]


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Answer of `sensitivity`.

    Attributes
    ----------
    table : DataFrame, indexed by group and input
        ``value`` of the input; ``utility``, derivative of the objective; ``turnover``, sum of the
        absolute derivatives of the weights; ``error``, one standard error (NaN without returns);
        then for a rise by one standard error and by 1 %: ``weights_error`` and ``weights_percent``,
        sum of the absolute changes of the weights, and ``loss_error`` and ``loss_percent``, what
        the objective under the true input loses by them.
    weights : DataFrame, indexed the same, one column per asset
        Derivatives of the weights on the side of a rise.
    """

    table: pd.DataFrame
    weights: pd.DataFrame

    def by_group(self) -> pd.DataFrame:
        """Means over the inputs of a group, largest loss of one standard error first."""
        columns = ["weights_error", "loss_error", "weights_percent", "loss_percent"]
        means = self.table.groupby(level="group")[columns].mean()
        return means.sort_values("loss_error", ascending=False)


def sensitivity(
    optimizer: MeanVariance,
    inputs: Moments,
    *,
    current_weights: Weights,
    cash_return: float = 0.0,
    volatility_index: float | None = None,
    returns: TableLike | None = None,
    rng: int = 0,
) -> Sensitivity:
    """Derivatives and finite changes of weights and utility by every input.

    Parameters
    ----------
    optimizer : MeanVariance
        With a risk aversion that is a number or driven by an index.
    inputs, current_weights, cash_return, volatility_index
        See `Optimizer.solve`.
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
    read = read_moments(inputs.mean, inputs.covariance)
    terms = Terms(optimizer, read.names)
    current = read_weights(current_weights, read.names)
    problem = terms.problem(read.mean, read.covariance, current, cash_return)
    if isinstance(optimizer.risk_aversion, CVaRMatched) or problem.tracking.hard.any():
        raise ModelError(
            "optimizer: sensitivities are of a given risk aversion without hard limits on tracking "
            "error; give the risk aversion found, and a soft limit"
        )
    wanted = optimizer.risk_aversion
    if isinstance(wanted, VolatilityDriven):
        if volatility_index is None:
            raise ModelError(f"{wanted} needs volatility_index; give it in points")
        aversion = wanted.at(volatility_index)
    else:
        aversion = float(wanted)
    problem = replace(problem, risk_aversion=aversion)
    found = terms.optimum(problem)
    known = list(_inputs(problem, read.names, wanted, volatility_index))
    errors = _errors(returns, rng, known) if returns is not None else np.full(len(known), np.nan)
    rows, slopes = [], []
    for item, error in zip(known, errors, strict=True):
        side = ASIDE * (abs(item.size) or 1.0)
        utility, weights = derivative(terms, problem, found, item.moved, side)
        change = _change(terms, problem, found, item, float(error))
        percent = _change(terms, problem, found, item, 0.01 * abs(item.size))
        rows.append(
            {
                "value": item.size,
                "utility": utility,
                "turnover": float(np.abs(weights).sum()),
                "error": float(error),
                "weights_error": change[0],
                "loss_error": change[1],
                "weights_percent": percent[0],
                "loss_percent": percent[1],
            }
        )
        slopes.append(weights)
    index = pd.MultiIndex.from_tuples(
        [(i.group, str(i.name)) for i in known], names=["group", "input"]
    )
    labels = pd.Index([str(name) for name in read.names])
    return Sensitivity(pd.DataFrame(rows, index=index), pd.DataFrame(slopes, index, labels))


def derivative(
    terms: Terms,
    problem: TransactionCostQp,
    found: TransactionCostSolution,
    moved: Callable[[float], TransactionCostQp],
    side: float,
) -> tuple[float, Floats]:
    """Derivative of utility and weights along a path of problems, on the side of `side`.

    Parameters
    ----------
    moved : function
        From a step to the problem, which is polynomial in it, of degree two at most.
    side : float
        Small step; its sign says which side.

    Returns
    -------
    utility : float
    weights : array, shape (n_assets,)
        Per unit of step, in the direction of `side`: at a kink the other side has others.
    """
    columns, scale = columns_of(problem), problem.scale
    qp = row_qp(problem, columns)
    z, duals = start_at(problem, columns, found)
    there = moved(side)
    beyond = terms.optimum(there)
    sides = active_sides(row_qp(there, columns), *start_at(there, columns, beyond))
    ahead, behind = moved(abs(side)), moved(-abs(side))
    one, other = row_qp(ahead, columns), row_qp(behind, columns)
    step = 2.0 * abs(side)

    def slope(name: str, own: bool) -> Floats:
        """Of a part of the program, its objective in the unit of the problem."""
        units = (ahead.scale / scale, behind.scale / scale) if own else (1.0, 1.0)
        left, right = getattr(one, name) * units[0], getattr(other, name) * units[1]
        # Infinite sides stay where they are.
        finite = np.isfinite(left) & np.isfinite(right)
        change: Floats = (np.where(finite, left, 0.0) - np.where(finite, right, 0.0)) / step
        return change

    gradient = slope("gradient", own=True) + slope("hessian", own=True) @ z
    rows = slope("rows", own=False)
    bounds = np.where(sides[0] < 0, slope("lower", own=False), slope("upper", own=False))
    row_sides = np.where(sides[1] < 0, slope("row_lower", own=False), slope("row_upper", own=False))
    dz, _ = direction(qp, *sides, gradient + duals @ rows, bounds, row_sides - rows @ z)
    weights = np.zeros(len(problem.mean))
    np.add.at(weights, columns.asset, columns.sign * dz[: len(columns.asset)])
    utility = (_lagrangian(ahead, found) - _lagrangian(behind, found)) / step
    return utility, weights


def _lagrangian(problem: TransactionCostQp, found: TransactionCostSolution) -> float:
    """Objective of a changed problem at fixed weights, with the price of what the budget misses."""
    missed = problem.cash(found.weights) - found.cash
    return problem.objective(found.weights, found.cash) + found.prices.budget * missed


def _change(
    terms: Terms,
    problem: TransactionCostQp,
    found: TransactionCostSolution,
    item: Input,
    step: float,
) -> tuple[float, float]:
    """Absolute change of the weights by a step of an input, and the utility it costs."""
    if not np.isfinite(step) or step == 0.0:
        return np.nan, np.nan
    other = terms.optimum(item.moved(step))
    lost = problem.objective(found.weights, found.cash)
    lost -= problem.objective(other.weights, problem.cash(other.weights))
    return float(np.abs(other.weights - found.weights).sum()), lost


def _inputs(
    problem: TransactionCostQp,
    names: Sequence[Hashable],
    wanted: Any,
    volatility_index: float | None,
) -> Iterator[Input]:
    p, volatility = problem, np.sqrt(problem.covariance.diagonal())
    unit = np.eye(len(names))
    for i, name in enumerate(names):
        yield Input("mean", name, float(p.mean[i]), _raised(p, unit[i]))
    for i, name in enumerate(names):
        if volatility[i] > 0.0:
            yield Input("volatility", name, float(volatility[i]), _scaled(p, i, volatility[i]))
    for i, name in enumerate(names):
        yield Input("correlation", name, 1.0, _decoupled(p, i))
    aversion = p.risk_aversion
    yield Input("risk aversion", "all", aversion, lambda t: replace(p, risk_aversion=aversion + t))
    if isinstance(wanted, VolatilityDriven) and volatility_index is not None:
        slope = wanted.base * wanted.sensitivity
        yield Input(
            "volatility index",
            "all",
            float(volatility_index),
            lambda t: replace(p, risk_aversion=aversion + t * slope),
        )
    for i, name in enumerate(names):
        cost = float(p.purchase_cost[i] + p.sale_cost[i]) / 2.0
        if cost > 0.0:
            yield Input("cost", name, cost, _dearer(p, i, cost))


def _raised(p: TransactionCostQp, unit: Floats) -> Callable[[float], TransactionCostQp]:
    return lambda step: replace(p, mean=p.mean + step * unit)


def _scaled(
    p: TransactionCostQp, i: int, volatility: float
) -> Callable[[float], TransactionCostQp]:
    def moved(step: float) -> TransactionCostQp:
        factor = np.ones(len(p.mean))
        factor[i] += step / volatility
        return replace(p, covariance=p.covariance * np.outer(factor, factor))

    return moved


def _decoupled(p: TransactionCostQp, i: int) -> Callable[[float], TransactionCostQp]:
    """One asset's correlations times ``1 - step``: a mixture with those of an asset apart."""
    apart = p.covariance.copy()
    apart[i, :] = apart[:, i] = 0.0
    apart[i, i] = p.covariance[i, i]
    return lambda step: replace(p, covariance=p.covariance + step * (apart - p.covariance))


def _dearer(p: TransactionCostQp, i: int, cost: float) -> Callable[[float], TransactionCostQp]:
    def moved(step: float) -> TransactionCostQp:
        factor = np.ones(len(p.mean))
        factor[i] += step / cost
        return replace(p, purchase_cost=p.purchase_cost * factor, sale_cost=p.sale_cost * factor)

    return moved


def _errors(returns: TableLike, rng: int, known: Sequence[Input]) -> Floats:
    """Standard error of each input by the stationary bootstrap; NaN for what is not estimated."""
    values = read_table(returns, "returns").values
    rows, n = values.shape
    generator = np.random.default_rng(rng)
    drawn = []
    for _ in range(DRAWS):
        fresh = np.asarray(generator.random(rows) < 1.0 / BLOCK)
        fresh[0] = True
        starts = generator.integers(0, rows, size=(rows,))
        place = np.arange(rows)
        last = np.flatnonzero(fresh)[np.cumsum(fresh) - 1]
        sample = values[(starts[last] + place - last) % rows]
        correlation = np.atleast_2d(np.corrcoef(sample.T))
        drawn.append([sample.mean(axis=0), sample.std(axis=0, ddof=1), _coupling(correlation)])
    drawn_errors = np.std(np.array(drawn), axis=0, ddof=1)
    # A correlation is moved as a share of itself: its error is put in that unit.
    drawn_errors[2] /= np.maximum(np.abs(_coupling(np.atleast_2d(np.corrcoef(values.T)))), 0.05)
    groups = {"mean": 0, "volatility": 1, "correlation": 2}
    errors, seen = np.full(len(known), np.nan), dict.fromkeys(groups, 0)
    for k, item in enumerate(known):
        if item.group in groups and seen[item.group] < n:
            errors[k] = drawn_errors[groups[item.group], seen[item.group]]
            seen[item.group] += 1
    return errors


def _coupling(correlation: Floats) -> Floats:
    """Mean correlation of each asset with the others."""
    n = len(correlation)
    coupling: Floats = (correlation.sum(axis=0) - 1.0) / max(n - 1, 1)
    return coupling
