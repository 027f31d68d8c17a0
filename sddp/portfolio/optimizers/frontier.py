"""The efficient frontier from the current portfolio, with costs, as its corner portfolios.

With ``t = 1 / risk_aversion`` the optimum is piecewise linear in ``t``: between two corners the
active set stands. The critical-line method (Markowitz 1956) follows the line of one active set to
where the next bound, row or kink joins or leaves. It was preferred to a sweep over a grid: it is
exact between the points, it returns the corners, and it needs one solve for each. Beyond each
corner the new active set is read off where the old line leads and checked; where it does not stand
it is solved for by the transaction-cost QP, so that ties, degenerate corners and singular
covariances need no rules of their own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from sddp.arrays import Floats, Ints
from sddp.display.shown import Shown
from sddp.errors import SolverError
from sddp.labels import CASH, label_index
from sddp.portfolio.inputs import Weights, read_moments, read_weights
from sddp.portfolio.moments import Moments
from sddp.portfolio.optimizer import Optimizer, Terms
from sddp.portfolio.qp.polish import RowQp, active_set_step, active_sides, direction
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.qp.transaction_cost_qp import Columns, columns_of, row_qp, start_at

# How far beyond a corner the next active set is looked for, relative to the corner's place.
BEYOND = 1e-7

# Equations missed by less are solved; on the scale of the quadratic program, as `NEGLIGIBLE` is.
SOLVED = 1e-12

# Side on which each column and each row holds, see `active_sides`.
ActiveSet: TypeAlias = tuple[Ints, Ints]

# Corners per column; a path that has more goes round in circles.
MOST = 20


class Corner(NamedTuple):
    """A corner portfolio: its place ``t = 1 / risk_aversion``, weights, and cash."""

    place: float
    weights: Floats
    cash: float


@dataclass(frozen=True, eq=False, repr=False)
class Frontier(Shown):
    """Efficient portfolios from least variance to greatest expected return.

    Parameters
    ----------
    names : sequence of labels
        Of the assets.
    problem : TransactionCostQp
        Costs, bounds and moments.
    corners : sequence of Corner
        By rising place; the first is at 0, the portfolio of least variance (of those the one
        that earns most).
    """

    names: Sequence[Hashable]
    problem: TransactionCostQp
    corners: Sequence[Corner]

    @property
    def places(self) -> Floats:
        """``1 / risk_aversion`` of the corners."""
        return np.array([corner.place for corner in self.corners])

    @property
    def holdings(self) -> Floats:
        """Cash, then the assets, of the corners, shape (n_corners, 1 + n_assets)."""
        return np.array([np.append(c.cash, c.weights) for c in self.corners])

    @property
    def expected_returns(self) -> Floats:
        """Of the corners, net of costs."""
        return np.array([self._net_return(row) for row in self.holdings])

    def at(self, risk_aversion: float) -> pd.Series[float]:
        """Holdings at a risk aversion, cash first."""
        return self._series(self.places, 1.0 / risk_aversion if risk_aversion else np.inf)

    def at_return(self, expected_return: float) -> pd.Series[float]:
        """Holdings of an expected return net of costs; the nearest end where there are none."""
        return self._series(self.expected_returns, expected_return)

    def points(self, n_points: int) -> Floats:
        """Holdings at equal steps of expected return, shape (n_points, 1 + n_assets)."""
        known = np.maximum.accumulate(self.expected_returns)
        wanted = np.linspace(known[0], known[-1], n_points)
        points: Floats = np.stack([np.interp(wanted, known, h) for h in self.holdings.T], axis=1)
        return points

    def table(self) -> pd.DataFrame:
        """Corner portfolios.

        Returns
        -------
        DataFrame, shape (n_corners, 5 + n_assets)
            ``risk_aversion`` (infinite at the first), ``expected_return`` net of costs,
            ``volatility``, ``cost``, then the holdings, cash first.
        """
        holdings, p = self.holdings, self.problem
        variances = np.einsum("ci,ij,cj->c", holdings[:, 1:], p.covariance, holdings[:, 1:])
        with np.errstate(divide="ignore"):
            aversions = 1.0 / self.places
        numbers = pd.DataFrame(
            {
                "risk_aversion": aversions,
                "expected_return": self.expected_returns,
                "volatility": np.sqrt(np.maximum(variances, 0.0)),
                "cost": [p.cost(row[1:]) for row in holdings],
            }
        )
        held = pd.DataFrame(holdings, columns=label_index([CASH, *self.names]))
        return pd.concat([numbers, held], axis=1)

    def _net_return(self, holdings: Floats) -> float:
        p, weights = self.problem, holdings[1:]
        return float(p.mean @ weights) + p.cash_return * float(holdings[0]) - p.cost(weights)

    def _series(self, known: Floats, at: float) -> pd.Series[float]:
        known = np.maximum.accumulate(known)
        at = min(max(at, float(known[0])), float(known[-1]))
        held = [float(np.interp(at, known, column)) for column in self.holdings.T]
        return pd.Series(held, index=label_index([CASH, *self.names]))

    def _facts(self) -> dict[str, str]:
        returns = self.expected_returns
        return {
            "corner portfolios": str(len(self.corners)),
            "expected return": f"{returns[0]:.3%} to {returns[-1]:.3%}",
        }

    def _tables(self) -> dict[str, pd.DataFrame]:
        return {"Corner portfolios": self.table()}


def efficient_frontier(
    optimizer: Optimizer,
    inputs: Moments,
    *,
    current_weights: Weights,
    cash_return: float = 0.0,
) -> Frontier:
    """Efficient frontier under an optimizer's costs, bounds and constraints.

    Parameters
    ----------
    optimizer : Optimizer
        Only what it says of trading counts, such as ``MeanVariance(risk_aversion=1.0, ...)``.
    inputs, current_weights, cash_return
        See `Optimizer.solve`.

    Raises
    ------
    DataError, ModelError, InfeasibleProblem, SolverError
        See `Optimizer.solve`. The self-financing form without cash has no frontier down to the
        least variance: wasting wealth would lower it.
    """
    moments = read_moments(inputs.mean, inputs.covariance)
    terms = Terms(optimizer, moments.names)
    current = read_weights(current_weights, moments.names)
    problem = terms.problem(moments.mean, moments.covariance, current, cash_return)
    return Frontier(moments.names, problem, trace(terms, problem))


def trace(terms: Terms, problem: TransactionCostQp) -> list[Corner]:
    """Corner portfolios by rising ``1 / risk_aversion``.

    Raises
    ------
    SolverError
        The path does not come to an end.
    """
    p = problem
    largest = float(p.covariance.diagonal().max())
    place = BEYOND * (largest / p.scale if largest > 0.0 else 1.0)
    columns, corners = columns_of(p), list[Corner]()
    toward_return = row_qp(_at(p, 1.0, risk_aversion=0.0), columns)
    pull = toward_return.gradient * _at(p, 1.0, risk_aversion=0.0).scale
    near: tuple[Floats, Floats] | None = None
    for _ in range(MOST * (len(pull) + len(p.rows) + 1)):
        here = _at(p, place)
        qp = row_qp(here, columns)
        found = None if near is None else _followed(qp, near[0], near[1] / here.scale)
        if found is None:
            start = start_at(here, columns, terms.optimum(here))
            found = *start, active_sides(qp, *start)
        z, duals, sides = found
        dz, d_duals = direction(qp, *sides, pull / here.scale)
        if not corners:
            corners.append(_corner(p, columns, 0.0, z - place * dz))
        step = _step(qp, z, duals, dz, d_duals, pull / here.scale, *sides)
        if not np.isfinite(step):
            return corners
        corners.append(_corner(p, columns, place + step, z + step * dz))
        step, place = (place + step) * (1.0 + BEYOND) - place, (place + step) * (1.0 + BEYOND)
        near = z + step * dz, here.scale * (duals + step * d_duals)
    raise SolverError(
        f"the efficient frontier did not end after {len(corners)} corner portfolios; look for "
        "moments of very different size"
    )


def _followed(qp: RowQp, z: Floats, duals: Floats) -> tuple[Floats, Floats, ActiveSet] | None:
    """The optimum just behind a corner, and its active set; None where one step does not settle it.

    The set is read off where the line before the corner leads. Where it stands after the step that
    solves its equations, the conditions of the optimum hold.
    """
    sides, row_sides = active_sides(qp, z, duals)
    z, duals = active_set_step(qp, z, duals, sides, row_sides)
    following = active_sides(qp, z, duals)
    if (following[0] != sides).any() or (following[1] != row_sides).any():
        return None
    slopes = (qp.hessian @ z + qp.gradient + duals @ qp.rows)[sides == 0]
    levels, limits = qp.rows @ z, np.where(row_sides > 0, qp.row_upper, qp.row_lower)
    missed = np.concatenate([slopes, (levels - limits)[row_sides != 0]])
    # Singular equations may have no solution.
    return (z, duals, following) if float(np.abs(missed).max(initial=0.0)) <= SOLVED else None


def _at(problem: TransactionCostQp, place: float, risk_aversion: float = 1.0) -> TransactionCostQp:
    """The problem at ``1 / risk_aversion = place``, its objective divided by risk aversion."""
    return replace(
        problem,
        mean=place * problem.mean,
        cash_return=place * problem.cash_return,
        cost_weight=place,
        rows=replace(problem.rows, penalty=place * problem.rows.penalty),
        risk_aversion=risk_aversion,
    )


def _corner(problem: TransactionCostQp, columns: Columns, place: float, z: Floats) -> Corner:
    weights = np.clip(columns.weights(z), problem.lower, problem.upper)
    cash = min(max(problem.cash(weights), problem.cash_lower), problem.cash_upper)
    return Corner(place, weights, cash)


def _step(
    qp: RowQp,
    z: Floats,
    duals: Floats,
    dz: Floats,
    d_duals: Floats,
    pull: Floats,
    sides: Ints,
    row_sides: Ints,
) -> float:
    """How far the optimum follows its line: until a bound or row joins or leaves the active set."""
    slope = qp.hessian @ z + qp.gradient + duals @ qp.rows
    d_slope = qp.hessian @ dz + pull + d_duals @ qp.rows
    level, d_level = qp.rows @ z, qp.rows @ dz
    equal = qp.row_lower == qp.row_upper
    free, off = sides == 0, row_sides == 0
    rooms = [
        _room((z - qp.lower)[free], dz[free]),
        _room((qp.upper - z)[free], -dz[free]),
        _room(-(sides * slope)[~free], -(sides * d_slope)[~free]),
        _room((level - qp.row_lower)[off], d_level[off]),
        _room((qp.row_upper - level)[off], -d_level[off]),
        _room((row_sides * duals)[~off & ~equal], (row_sides * d_duals)[~off & ~equal]),
    ]
    return min(rooms)


def _room(margin: Floats, change: Floats) -> float:
    """Least step after which a margin is used up."""
    if not len(margin):
        return np.inf
    # Slopes of rounding size would put a corner where there is none.
    falling = change < -1e-13 * max(float(np.abs(change).max(initial=0.0)), 1e-300)
    steps = np.maximum(margin[falling], 0.0) / -change[falling]
    return float(steps.min(initial=np.inf))
