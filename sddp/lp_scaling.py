"""Units in which a linear program is solved: powers of two, so that changing them rounds nothing.

HiGHS's tolerances are absolute, and it drops coefficients that it takes for rounding. Both are
right where the numbers of a model are of size one, so the model is counted in units in which they
are (Curtis and Reid 1972, with the sides, the bounds and the costs among the numbers).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import lsmr

from sddp.arrays import Floats, Ints
from sddp.lp_model import Arrays

# No unit is further from 1 than this power of two: what is beyond is no unit but a mistake.
LARGEST_EXPONENT = 400

# The fit is rounded to whole powers of two, so it need not be exact.
FIT_TOLERANCE, FIT_ROUNDS = 1e-6, 200

# Up to this many rows and columns a dense solve of the fit is faster than an iteration.
SMALL = 60


@dataclass(frozen=True, eq=False)
class Scaling:
    """Units of columns, rows and money.

    The solver holds ``z / columns``, rows multiplied by `rows`, and costs in units of `money`.

    Attributes
    ----------
    columns : array, shape (n_columns,)
    rows : array, shape (n_rows,)
        Of the rows that a program is built with; a row added later is scaled by its largest entry.
    money : float
    accuracy : float
        By which the units are smaller than the sizes of the numbers, and tolerances tighter.
    """

    columns: Floats
    rows: Floats
    money: float = 1.0
    accuracy: float = 1.0

    @classmethod
    def uniform(cls, arrays: Arrays, size: float = 1.0) -> Scaling:
        """All columns, and money, in one unit; entries of the matrix stay as they are."""
        n_rows, n_columns = arrays.matrix.shape
        return cls(np.ones(n_columns), np.ones(n_rows)).finer(size)

    def finer(self, accuracy: float) -> Scaling:
        """The same with smaller units of columns and money; entries of the matrix do not change."""
        return Scaling(
            self.columns * accuracy,
            self.rows / accuracy,
            self.money * accuracy,
            self.accuracy * accuracy,
        )

    def of_columns(self, columns: Ints) -> Scaling:
        """That of some columns."""
        return replace(self, columns=self.columns[columns])

    def inside(self, arrays: Arrays) -> Arrays:
        """A model in these units; its offset stays outside."""
        matrix = sp.csr_array(arrays.matrix)
        entries = matrix.data * self.columns[matrix.indices]
        entries *= np.repeat(self.rows, np.diff(matrix.indptr))
        return Arrays(
            arrays.cost * (self.columns / self.money),
            sp.csr_array((entries, matrix.indices, matrix.indptr), shape=matrix.shape),
            arrays.row_lower * self.rows,
            arrays.row_upper * self.rows,
            arrays.column_lower / self.columns,
            arrays.column_upper / self.columns,
        )

    def outside(self, arrays: Arrays) -> Arrays:
        """A model in these units as it is stated outside: what `inside` is undone by."""
        return Scaling(1.0 / self.columns, 1.0 / self.rows, 1.0 / self.money).inside(arrays)


def fitted_scaling(arrays: Arrays) -> Scaling:
    """The scaling in which the numbers of a model are nearest to one, by their logarithms."""
    return observed(arrays).solve()


def observed(arrays: Arrays) -> Fit:
    """A fit to the numbers of a model, to which more may be added."""
    n_rows, n_columns = arrays.matrix.shape
    matrix = arrays.matrix
    fit = Fit(n_rows, n_columns)
    rows, columns = np.arange(n_rows), np.arange(n_columns)
    of_entries = np.repeat(rows, np.diff(matrix.indptr))
    fit.observe(matrix.data, rows=of_entries, columns=matrix.indices.astype(np.int64))
    lower, upper = arrays.row_lower, arrays.row_upper
    fit.observe(lower, rows=rows)
    fit.observe(np.where(upper == lower, 0.0, upper), rows=rows)
    lower, upper = arrays.column_lower, arrays.column_upper
    fit.observe(lower, bounded=columns)
    fit.observe(np.where(upper == lower, 0.0, upper), bounded=columns)
    fit.observe(arrays.cost, columns=columns, cost=True)
    return fit


class Fit:
    """Least squares over logarithms: exponents of rows, columns and money.

    Each number asks that ``log2|number| + its row + its column = 0``; the unknowns are
    ``log2 rows``, ``log2 columns`` and ``-log2 money`` (the row of the costs).
    """

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self._shape = (n_rows, n_columns)
        self._blocks: list[tuple[Floats, Any, Any, float]] = []

    def tie(self, columns: Ints, others: Ints) -> None:
        """Ask that pairs of columns have the same unit."""
        n_rows = self._shape[0]
        self._blocks.append((np.zeros(len(columns)), n_rows + columns, n_rows + others, -1.0))

    def observe(
        self,
        numbers: Floats,
        *,
        rows: Ints | None = None,
        columns: Ints | None = None,
        bounded: Ints | None = None,
        cost: bool = False,
    ) -> None:
        """Add numbers: entries (rows and columns), sides (rows), bounds, costs (columns)."""
        used = np.isfinite(numbers) & (numbers != 0.0)
        logarithms = np.log2(np.abs(numbers[used]))
        n_rows, n_columns = self._shape
        none = np.full(len(logarithms), -1)
        first = none if rows is None else rows[used]
        if cost:
            first = none + 1 + n_rows + n_columns
        second = none
        if columns is not None:
            second = n_rows + columns[used]
        elif bounded is not None:
            second = n_rows + bounded[used]
        target = logarithms if bounded is not None else -logarithms
        self._blocks.append((target, first, second, 1.0))

    def solve(self) -> Scaling:
        """The least-squares solution of least size, rounded."""
        n_rows, n_columns = self._shape
        target = np.concatenate([target for target, _, _, _ in self._blocks])
        first = np.concatenate([first for _, first, _, _ in self._blocks])
        second = np.concatenate([second for _, _, second, _ in self._blocks])
        factor = np.concatenate([np.full(len(t), factor) for t, _, _, factor in self._blocks])
        exponents = np.zeros(n_rows + n_columns + 1)
        if len(target):
            at, ones = np.arange(len(target)), np.ones(len(target))
            unknowns = np.concatenate([first, second])
            there = unknowns >= 0
            equations, factors = np.concatenate([at, at]), np.concatenate([ones, factor])
            places = (equations[there], unknowns[there])
            if len(exponents) <= SMALL:
                dense = np.zeros((len(target), len(exponents)))
                np.add.at(dense, places, factors[there])
                exponents = np.linalg.lstsq(dense, target)[0]
            else:
                system = sp.csr_array((factors[there], places), (len(target), len(exponents)))
                exponents = lsmr(
                    system, target, atol=FIT_TOLERANCE, btol=FIT_TOLERANCE, maxiter=FIT_ROUNDS
                )[0]
        rounded = np.round(np.clip(exponents, -LARGEST_EXPONENT, LARGEST_EXPONENT))
        units: Floats = np.ldexp(1.0, rounded.astype(np.int64))
        return Scaling(units[n_rows:-1], units[:n_rows], float(1.0 / units[-1]))


def row_units(largest: Floats) -> Floats:
    """Powers of two that bring rows with these largest entries to size one."""
    return np.ldexp(1.0, -np.frexp(largest)[1])
