"""A value function from below: combinations of portfolios whose later value is guaranteed.

From holdings ``x`` one may trade into any combination ``sum_i l_i u_i`` of known portfolios,
``l >= 0``. What follows is worth at least ``sum_i l_i q_i``, because the cost-to-go is concave and
positively homogeneous, and its CVaR is at most ``sum_i l_i c_i``, because CVaR is convex. So the
stage problem with these two sums in place of cost-to-go and CVaR is a restriction of the true one:
a linear programme with one row per position and one for the risk limit, whatever the number of
scenarios.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.allocation.model import AllocationModel, Terms
from sddp.arrays import Floats
from sddp.errors import SolverError
from sddp.lp import BASIC, Arrays, LinearProgram, Status

# Wealth 1 inside the LP file, as in the engine's homogeneous problems.
UNIT = 1_000.0

# By which a weight of a combination may be negative, at wealth 1: rounding of a small system.
# HiGHS's own tolerance is a tenth of that in these units.
ROUNDING = 1e-11


@dataclass(frozen=True, eq=False)
class GuaranteedPortfolios:
    """Portfolios of one stage and regime and what is known of them, per unit of money.

    Attributes
    ----------
    weights : array, shape (n_points, n_assets + 1)
        After trading, cash first; each row sums to 1.
    values : array, shape (n_points,)
        Lower bound on what follows from holding them.
    cvar : array, shape (n_points,)
        CVaR of their one-period loss, cost of trading not included.
    """

    weights: Floats
    values: Floats
    cvar: Floats


class InnerHull:
    """Largest guaranteed value from any holdings, and the portfolio that attains it.

    Parameters
    ----------
    portfolios : GuaranteedPortfolios
        With finite values.
    model, terms :
        The allocation model and its numbers per asset.
    name : str
        For error messages.

    Notes
    -----
    All right-hand sides are linear in the holdings, so a basis that is optimal once is optimal
    in a whole cone of holdings. Bases are kept, with the weights and the value that they give as
    linear maps of the holdings; most states are answered by one that is known.
    """

    def __init__(
        self, portfolios: GuaranteedPortfolios, model: AllocationModel, terms: Terms, name: str
    ) -> None:
        self._portfolios, self._name = portfolios, name
        self._matrix, self._sides, n_balances = _rows(portfolios, model, terms)
        n_rows, n_columns = self._matrix.shape
        self._gain = np.zeros(n_columns)
        self._gain[: len(portfolios.values)] = portfolios.values
        if model.cvar_penalty is not None:
            self._gain[-1] = -model.cvar_penalty
        lower = np.full(n_rows, -np.inf)
        lower[:n_balances] = 0.0
        self._is_balance = np.arange(n_rows) < n_balances
        self._programme = LinearProgram(
            Arrays(
                -self._gain,
                sp.csr_array(self._matrix),
                lower,
                np.zeros(n_rows),
                np.zeros(n_columns),
                np.full(n_columns, np.inf),
            ),
            UNIT,
        )
        self._slopes: list[Floats] = []  # of each known basis: value per unit of each position
        self._responses: list[Floats] = []  # and its basic columns per unit of each position

    @property
    def n_solves(self) -> int:
        """Linear programmes solved so far."""
        return self._programme.effort.solves

    def forget_bases(self) -> None:
        """Free their memory (80 kB each for a hundred assets) once all states have been asked."""
        self._slopes.clear()
        self._responses.clear()

    def values(self, states: Floats) -> Floats:
        """Guaranteed value from holdings before trading.

        Parameters
        ----------
        states : array, shape (n, n_assets + 1)
            Money, cash first.

        Returns
        -------
        array, shape (n,)
            Minus infinity where no combination of the portfolios is feasible.
        """
        wealth = states.sum(axis=1)
        found = np.zeros(len(states))
        alive = wealth > 0.0
        found[alive] = wealth[alive] * self._normalised_values(states[alive] / wealth[alive, None])
        return found

    def decide(self, holdings: Floats) -> tuple[float, Floats] | None:
        """Value and holdings after trading at one state; None where nothing is feasible."""
        wealth = float(holdings.sum())
        if not self._solved(holdings / wealth):
            return None
        columns = np.maximum(self._programme.primal(), 0.0)
        held = columns[: len(self._portfolios.values)] @ self._portfolios.weights
        return -wealth * self._programme.objective(), wealth * held

    def _normalised_values(self, states: Floats) -> Floats:
        values, ceiling = self._from_known_bases(states)
        left = np.flatnonzero(np.isnan(values))
        states, ceiling, answers = states[left], ceiling[left], values[left]
        for i in range(len(left)):
            if not np.isnan(answers[i]):
                continue
            if not self._solved(states[i]):
                answers[i] = -np.inf
                continue
            answers[i] = -self._programme.objective()
            if self._remember_basis():
                offered = states @ self._slopes[-1]
                # A basis is optimal only where no other one's duals promise less.
                asked = np.flatnonzero(np.isnan(answers) & (offered <= ceiling + ROUNDING))
                answered = asked[self._keeps_signs(states[asked], -1)]
                answers[answered] = offered[answered]
                np.minimum(ceiling, offered, out=ceiling)
        values[left] = answers
        return values

    def _from_known_bases(self, states: Floats) -> tuple[Floats, Floats]:
        """Values where a known basis is optimal (else NaN), and what duals allow at most."""
        values = np.full(len(states), np.nan)
        if not self._slopes:
            return values, np.full(len(states), np.inf)
        promised = states @ np.array(self._slopes).T
        best = promised.argmin(axis=1)
        ceiling: Floats = promised[np.arange(len(states)), best]
        for basis in np.unique(best):
            asked = np.flatnonzero(best == basis)
            answered = asked[self._keeps_signs(states[asked], int(basis))]
            values[answered] = ceiling[answered]
        return values, ceiling

    def _keeps_signs(self, states: Floats, basis: int) -> NDArray[np.bool_]:
        """Whether a basis gives a combination with no negative weight."""
        kept: NDArray[np.bool_] = (states @ self._responses[basis].T).min(axis=1) >= -ROUNDING
        return kept

    def _solved(self, state: Floats) -> bool:
        """Solve at a state of wealth 1; False where it is infeasible."""
        upper = self._sides @ state
        lower = np.where(self._is_balance, upper, -np.inf)
        rows = np.arange(len(upper), dtype=np.int32)
        self._programme.set_row_bounds(rows, lower, upper)
        status = self._programme.solve()
        if status is Status.FAILED:
            status = self._programme.solve_afresh()
        if status in (Status.OPTIMAL, Status.INFEASIBLE):
            return status is Status.OPTIMAL
        raise SolverError(
            f"inner bound, {self._name}: {self._programme.status_text()}; written to "
            f"{self._programme.write('sddp')}"
        )

    def _remember_basis(self) -> bool:
        """Keep the present basis as linear maps.

        False where that cannot be done: it is singular in floating point, or elsewhere it would
        leave over something of a balance.
        """
        basis = self._programme.basis()
        columns, slacks = basis.columns == BASIC, basis.rows == BASIC
        if slacks[self._is_balance].any():
            return False
        square = np.hstack([self._matrix[:, columns], np.eye(len(self._matrix))[:, slacks]])
        try:
            response = np.asarray(np.linalg.solve(square, self._sides), dtype=float)
        except np.linalg.LinAlgError:
            return False
        self._responses.append(response)
        self._slopes.append(self._gain[columns] @ response[: columns.sum()])
        return True


def _rows(
    portfolios: GuaranteedPortfolios, model: AllocationModel, terms: Terms
) -> tuple[Floats, Floats, int]:
    """Matrix over (combination, purchases, sales, breach), sides per position, balance rows.

    The breach of the limit is a column only where it may be paid for.
    """
    purchase, sale = terms.purchase_cost, terms.sale_cost
    n = len(purchase)
    cash = np.hstack([portfolios.weights[:, :1].T, [1.0 + purchase], [sale - 1.0]])
    assets = np.hstack([portfolios.weights[:, 1:].T, -np.eye(n), np.eye(n)])
    rows, sides = [cash, assets], [np.eye(n + 1)]
    if model.cvar_limit is not None:
        rows.append(np.concatenate([portfolios.cvar, purchase, sale])[None, :])
        sides.append(np.full((1, n + 1), model.cvar_limit))
    if terms.weight_limit is not None:
        rows.append(np.hstack([portfolios.weights[:, 1:].T, np.zeros((n, 2 * n))]))
        sides.append(np.tile(terms.weight_limit[:, None], (1, n + 1)))
    matrix = np.vstack(rows)
    if model.cvar_penalty is not None:
        breach = np.zeros((len(matrix), 1))
        breach[n + 1] = -1.0  # the limit is the row after the balances
        matrix = np.hstack([matrix, breach])
    return matrix, np.vstack(sides), n + 1
