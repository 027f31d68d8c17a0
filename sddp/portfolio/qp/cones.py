"""Cone programs of one period, by Clarabel: hard benchmarks and the standard deviation.

Clarabel finds the multipliers of the cones; at these the problem is a quadratic program whose
answer `sddp.portfolio.qp.transaction_cost_qp` finds exactly and checks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.errors import SolverError
from sddp.portfolio.qp.polish import RowQp
from sddp.portfolio.qp.problem import TransactionCostQp
from sddp.portfolio.qp.transaction_cost_qp import Columns, columns_of, row_qp

TOLERANCE = 1e-11


class ConeSolution(NamedTuple):
    """What Clarabel found.

    Attributes
    ----------
    weights : array, shape (n,)
    prices : array, shape (q,)
        Of half the tracking variance, as `Tracking.prices`; 0 for soft benchmarks.
    excess : array, shape (q,)
        By how much each limit is missed, where that was to be made small; else 0.
    """

    weights: Floats
    prices: Floats
    excess: Floats


def solve_cones(problem: TransactionCostQp, *, deviation: float = 0.0) -> ConeSolution:
    """The problem with its hard benchmarks as cones, less ``deviation * sqrt(w' S w)``.

    Raises
    ------
    SolverError
        Clarabel found no solution.
    """
    columns = columns_of(problem)
    program = _Program(problem, columns, row_qp(problem, columns))
    program.add_limits(elastic=False)
    if deviation:
        program.add_deviation(deviation)
    return program.solve()


def least_excess(problem: TransactionCostQp) -> ConeSolution:
    """Weights that miss the limits of hard benchmarks least, in total; all else is kept."""
    columns = columns_of(problem)
    program = _Program(problem, columns, row_qp(problem, columns), feasible_only=True)
    program.add_limits(elastic=True)
    return program.solve()


class _Program:
    """``min x'Px/2 + q'x`` with ``b - A x`` in cones; blocks of rows are collected."""

    def __init__(
        self,
        problem: TransactionCostQp,
        columns: Columns,
        qp: RowQp,
        *,
        feasible_only: bool = False,
    ) -> None:
        self._p, self._columns = problem, columns
        n, q = len(qp.gradient), len(problem.tracking)
        # Columns: those of the quadratic program, the excess of each benchmark, the deviation.
        self._n, self._width = n, n + q + 1
        self._hessian = np.zeros((self._width, self._width))
        self._cost = np.zeros(self._width)
        if not feasible_only:
            self._hessian[:n, :n], self._cost[:n] = qp.hessian, qp.gradient
        self._blocks: list[tuple[Any, Floats, Any]] = []
        self._cone_of: dict[int, int] = {}
        self._volatility = float(np.sqrt(problem.covariance.diagonal().max())) or 1.0
        self._factor = _factor(problem.covariance) / self._volatility
        self._moves = np.zeros((len(columns.base), n))
        self._moves[columns.asset, np.arange(len(columns.asset))] = columns.sign
        self._add_box(qp)

    def _add(self, matrix: Floats, right: Floats, kind: str) -> None:
        wide = np.zeros((len(right), self._width))
        wide[:, : matrix.shape[1]] = matrix
        self._blocks.append((wide, right, kind))

    def _add_box(self, qp: RowQp) -> None:
        equal = qp.row_lower == qp.row_upper
        above, below = np.isfinite(qp.row_upper) & ~equal, np.isfinite(qp.row_lower) & ~equal
        finite = np.isfinite(qp.upper)
        eye = np.eye(self._n)
        self._add(qp.rows[equal], qp.row_upper[equal], "zero")
        rows = [qp.rows[above], -qp.rows[below], eye[finite], -eye]
        sides = [qp.row_upper[above], -qp.row_lower[below], qp.upper[finite], -qp.lower]
        self._add(np.vstack(rows), np.concatenate(sides), "nonnegative")

    def add_limits(self, *, elastic: bool) -> None:
        """Cones of the hard benchmarks; their excess is fixed at 0 or minimized."""
        t, n = self._p.tracking, self._n
        q = len(t)
        excess = np.zeros((q, self._width))
        excess[:, n : n + q] = -np.eye(q)
        self._add(excess, np.zeros(q), "nonnegative" if elastic else "zero")
        self._cost[n : n + q] = 1.0
        for j in np.flatnonzero(t.hard):
            off = self._factor @ (self._columns.base - t.benchmarks[j])
            matrix = np.zeros((len(off) + 1, self._width))
            matrix[0, n + j] = -1.0
            matrix[1:, :n] = -self._factor @ self._moves
            self._cone_of[int(j)] = len(self._blocks)
            self._add(matrix, np.append(t.limits[j] / self._volatility, off), "second order")

    def add_deviation(self, weight: float) -> None:
        """The standard deviation of the holdings as a term of the objective."""
        off = self._factor @ self._columns.base
        matrix = np.zeros((len(off) + 1, self._width))
        matrix[0, -1] = -1.0
        matrix[1:, : self._n] = -self._factor @ self._moves
        self._cost[-1] = weight * self._volatility / self._p.scale
        self._add(matrix, np.append(0.0, off), "second order")

    def solve(self) -> ConeSolution:
        """Run Clarabel."""
        import clarabel

        if not self._cost[-1]:
            # Without a deviation its column stands still.
            fixed = np.zeros((1, self._width))
            fixed[0, -1] = 1.0
            self._add(fixed, np.zeros(1), "zero")
        kinds = {
            "zero": clarabel.ZeroConeT,
            "nonnegative": clarabel.NonnegativeConeT,
            "second order": clarabel.SecondOrderConeT,
        }
        blocks = [block for block in self._blocks if len(block[1])]
        cones = [kinds[kind](len(right)) for _, right, kind in blocks]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
        found = clarabel.DefaultSolver(
            sp.csc_matrix(np.triu(self._hessian)),
            self._cost,
            sp.csc_matrix(np.vstack([matrix for matrix, _, _ in blocks])),
            np.concatenate([right for _, right, _ in blocks]),
            cones,
            settings,
        ).solve()
        if str(found.status) not in ("Solved", "AlmostSolved"):
            raise SolverError(f"the cone program of one period ended as {found.status} (Clarabel)")
        return self._read(np.array(found.x), np.array(found.z))

    def _read(self, x: Floats, duals: Floats) -> ConeSolution:
        p, n, t = self._p, self._n, self._p.tracking
        starts = np.cumsum([0, *(len(right) for _, right, _ in self._blocks)])
        prices = np.zeros(len(t))
        for j, block in self._cone_of.items():
            # The multiplier of a cone is along the difference: divided by its length it is a price.
            tau = float(duals[starts[block]])
            prices[j] = p.scale * tau / (float(t.limits[j]) * self._volatility)
        excess = np.maximum(x[n : n + len(t)], 0.0) * self._volatility
        return ConeSolution(self._columns.weights(x[:n]), prices, excess)


def _factor(covariance: Floats) -> Floats:
    """A matrix ``F`` with ``F'F`` the covariance, singular ones included."""
    values, vectors = np.linalg.eigh(covariance)
    factor: Floats = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    return factor
