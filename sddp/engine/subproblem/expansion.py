"""The way between the columns that a reduction kept and those that the user declared."""

from __future__ import annotations

from typing import Any

import numpy as np

from sddp.arrays import Floats, Ints
from sddp.engine.model.stage_data import StageData
from sddp.engine.subproblem.reduction import DENSE_PARTS_SIZE, ReducedStage, as_operator, transposed
from sddp.engine.value.cuts import LinearConstraints


class Expansion:
    """The way between the LP's columns (cost-to-go columns at the end) and the declared ones.

    Values may be those of one solution or, a row each, of many.
    """

    def __init__(self, compiled: StageData, reduced: ReducedStage) -> None:
        self._n_kept = reduced.expand.shape[1]
        # Parts of a dense matrix are taken ten times as fast.
        expand = as_operator(reduced.expand, DENSE_PARTS_SIZE)
        self._declared = _Part(expand, reduced.constant, np.arange(len(reduced.constant)))
        self._outgoing = _Part(expand, reduced.constant, compiled.outgoing)
        self._generator = _Part(expand, reduced.constant, compiled.generator_columns)

    def outgoing(self, primal: Floats, lower: Floats, upper: Floats) -> Floats:
        """State handed on, freed of the LP's tolerance on its own bounds."""
        values = self._outgoing.values(primal[..., : self._n_kept])
        clipped: Floats = np.minimum(np.maximum(values, lower), upper)
        return clipped

    def declared_values(self, primal: Floats) -> Floats:
        """Values of all declared columns."""
        return self._declared.values(primal[..., : self._n_kept])

    def generator_values(self, primal: Floats) -> Floats:
        """Values of the row generator's variables."""
        return self._generator.values(primal[: self._n_kept])

    def cost_to_go_rows(self, rows: LinearConstraints) -> LinearConstraints:
        """Rows over the outgoing state and the cost-to-go columns as rows of the program."""
        n = self._outgoing.n_columns
        state, theta = rows.coefficients[:, :n], rows.coefficients[:, n:]
        coefficients, lower = self._outgoing.rows(state, rows.lower)
        return LinearConstraints(np.hstack([coefficients, theta]), lower, rows.recurring)

    def generator_rows(self, rows: Floats, upper: Floats, n_theta: int) -> LinearConstraints:
        """Generated rows, turned to "at least", beside `n_theta` cost-to-go columns."""
        coefficients, lower = self._generator.rows(-rows, -upper)
        none = np.zeros((len(lower), n_theta))
        return LinearConstraints(np.hstack([coefficients, none]), lower, np.ones(len(lower), bool))


class _Part:
    """Some declared columns as functions of the kept ones."""

    def __init__(self, expand: Any, constant: Floats, columns: Ints) -> None:
        part = expand[columns]
        self._expand, self._contract = as_operator(part), transposed(part)
        self._constant, self.n_columns = constant[columns], len(columns)

    def values(self, kept: Floats) -> Floats:
        """Their values, by the last axis."""
        return _product(self._expand, kept) + self._constant

    def rows(self, coefficients: Floats, lower: Floats) -> tuple[Floats, Floats]:
        """Rows over them as rows over the kept columns, and their lower sides."""
        return _product(self._contract, coefficients), lower - coefficients @ self._constant


def _product(operator: Any, values: Floats) -> Floats:
    """``operator @ x`` for a vector, or for each of some rows.

    From the left: a sparse matrix from the right costs scipy five times as much.
    """
    product: Floats = (operator @ values.T).T
    return product
