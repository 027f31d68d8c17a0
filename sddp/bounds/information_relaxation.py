"""Information relaxation: upper bounds from decisions with perfect foresight, less a penalty.

Brown and Smith (2011). Let a decision maker see a whole path before deciding and charge a penalty
of mean 0 for every policy that does not use the foresight; the mean over paths of the best
penalized wealth is then no less than the value of any policy that is allowed.

What is kept and why it is valid. At every date the limit on CVaR is a function of the holdings
before and after trading and of the law of returns given the factor of that date. A policy without
foresight meets it on every path, so it may bind the one with foresight too: as a row under the
conditional law given ``z_t``, not under the path that came true.

The penalty is the martingale difference of the cost-free value function ``v_t(z) * wealth``::

    sum_t  sum_i u_ti ( R_ti v_{t+1}(z_{t+1}) - E[ R_ti v_{t+1}(z') | z_t ] )

with u_t the holdings after trading and R_t their gross returns (cash among them). It is linear in
the holdings, so that each path is one linear program. With the exact v and no cost every path's
optimum is ``v_0(z_0)`` times wealth. With costs the bound never exceeds that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike

from sddp.arrays import Floats
from sddp.bounds.frictionless import FrictionlessPolicy
from sddp.errors import DataError, InfeasibleProblem, ModelError, SolverError
from sddp.lp import Arrays, LinearProgram, Scaling, Status
from sddp.portfolio.optimizers.cvar_limit import UNIT, TailMeans, check_limit
from sddp.statistics.paths import ReturnPaths

# Of the wealth of the stage, or of the first where that is more. Rows not yet written only raise
# the bound, which is valid at any value; here by some 1e-7, with half the rounds that 1e-8 takes.
LIMIT_TOLERANCE = 1e-6

# The law of returns given what a path knows at a stage: (path, stage) -> law.
Laws: TypeAlias = Callable[[int, int], TailMeans]


def laws_along(policy: FrictionlessPolicy, paths: ReturnPaths) -> Laws:
    """The laws under which the limit of a policy holds, at the factors of each path."""
    return lambda path, stage: policy.law_at(float(paths.factors[path, stage, 0]))


def information_relaxation(
    excess_returns: Floats,
    laws: Laws,
    penalties: Floats | None = None,
    *,
    transaction_cost: ArrayLike,
    cvar_limit: float,
    initial_holdings: ArrayLike | None = None,
) -> Floats:
    """Best terminal wealth with perfect foresight, path by path.

    The model is that of `AllocationModel` with cash earning nothing (returns in excess of it).

    Parameters
    ----------
    excess_returns : array, shape (n_paths, n_decisions, n_assets)
        Simple returns in excess of cash, as they came true.
    laws : (path, stage) -> TailMeans
        The conditional law behind the limit of each decision.
    penalties : array, shape (n_paths, n_decisions, n_assets + 1), optional
        Charged per unit of money held after trading, cash first; of conditional mean 0. None:
        foresight is free.
    transaction_cost : float or array, shape (n_assets,)
        Of purchases and sales, per unit of money traded; it counts as loss in the limit.
    cvar_limit : float
        Largest CVaR as a fraction of wealth before trading.
    initial_holdings : array, shape (n_assets + 1,), optional
        Money, cash first; by default 1 in cash.

    Returns
    -------
    array, shape (n_paths,)
        The mean is an upper bound on the value of every policy, up to its standard error and to
        what the laws are off the true ones.

    Raises
    ------
    DataError
        Shapes disagree or a number is not finite.
    ModelError
        A cost outside [0, 1) or a bad limit.
    InfeasibleProblem
        The initial holdings can neither be kept nor sold under the limit.
    SolverError
        A linear program was not solved to optimality.
    """
    returns = np.asarray(excess_returns, dtype=float)
    if returns.ndim != 3 or not np.isfinite(returns).all():
        raise DataError(
            f"excess_returns has shape {returns.shape}; give finite numbers per path, stage, asset"
        )
    n_paths, n_stages, n = returns.shape
    shape = (n_paths, n_stages, n + 1)
    charged = np.zeros(shape) if penalties is None else np.asarray(penalties, dtype=float)
    if charged.shape != shape or not np.isfinite(charged).all():
        raise DataError(f"penalties has shape {charged.shape}; give finite numbers, shape {shape}")
    gross = np.concatenate([np.ones((n_paths, n_stages, 1)), 1.0 + returns], axis=2)
    start = _start(initial_holdings, n)
    template = _Template(_costs(transaction_cost, n), check_limit(cvar_limit), start, n_stages)
    best = [_best_on_path(template, gross[p], charged[p], partial(laws, p)) for p in range(n_paths)]
    return np.array(best)


def _costs(transaction_cost: ArrayLike, n_assets: int) -> Floats:
    costs = np.asarray(transaction_cost, dtype=float)
    if costs.shape not in ((), (n_assets,)) or not ((costs >= 0.0) & (costs < 1.0)).all():
        raise ModelError(
            f"transaction_cost = {costs}; give one decimal in [0, 1), or {n_assets} of them"
        )
    return np.asarray(np.broadcast_to(costs, (n_assets,)))


def _start(initial_holdings: ArrayLike | None, n_assets: int) -> Floats:
    if initial_holdings is None:
        return np.concatenate([np.ones(1), np.zeros(n_assets)])
    start: Floats = np.asarray(initial_holdings, dtype=float)
    if start.shape != (n_assets + 1,) or not (np.isfinite(start) & (start >= 0.0)).all():
        raise DataError(f"initial_holdings = {start}; give {n_assets + 1} amounts >= 0, cash first")
    return start


class _Template:
    """The linear program of a path: columns, rows and where the path's returns stand.

    Columns by stage: holdings after trading (cash first), purchases, sales. Rows by stage:
    balances (cash first) with what arrives from the stage before.
    """

    def __init__(self, costs: Floats, limit: float, start: Floats, n_stages: int) -> None:
        self.costs, self.limit, self.start, self.n_stages = costs, limit, start, n_stages
        n = len(costs)
        self.width = 3 * n + 1
        trades = np.block([[1.0 + costs, costs - 1.0], [-np.eye(n), np.eye(n)]])
        stage = np.hstack([np.eye(n + 1), trades])
        self._balances = sp.block_diag([sp.csr_array(stage)] * n_stages, format="csr")

    @property
    def n_positions(self) -> int:
        return len(self.start)

    def arrays(self, gross: Floats, penalties: Floats) -> Arrays:
        """Balances and objective of one path, to be minimized."""
        n, m = self.n_positions, self.n_stages
        rows = np.arange(n, n * m)
        stages, positions = np.divmod(rows - n, n)
        columns = stages * self.width + positions
        arrival = sp.csr_array((-gross[:-1].ravel(), (rows, columns)), shape=self._balances.shape)
        cost = np.zeros((m, self.width))
        cost[:, :n] = penalties
        cost[-1, :n] -= gross[-1]
        side = np.zeros(n * m)
        side[:n] = self.start
        size = m * self.width
        return Arrays(
            cost.ravel(),
            sp.csr_array(self._balances + arrival),
            side,
            side,
            np.zeros(size),
            np.full(size, np.inf),
        )

    def holdings(self, primal: Floats) -> Floats:
        """Holdings after trading, shape (n_stages, n_positions)."""
        return primal.reshape(self.n_stages, self.width)[:, : self.n_positions]

    def tail_row(self, stage: int, mean: Floats, gross: Floats) -> tuple[Floats, float]:
        """``loss in the tail + costs - limit * wealth before trading <= 0``."""
        n = len(self.costs)
        row = np.zeros((self.n_stages, self.width))
        row[stage, 1 : n + 1] = -mean
        row[stage, n + 1 :] = np.tile(self.costs, 2)
        if stage == 0:
            return row.ravel(), self.limit * float(self.start.sum())
        row[stage - 1, : n + 1] -= self.limit * gross[stage - 1]
        return row.ravel(), 0.0


def _best_on_path(
    template: _Template,
    gross: Floats,
    penalties: Floats,
    law: Callable[[int], TailMeans],
) -> float:
    """Optimum of one path; constraints of the limit are added when violated."""
    arrays = template.arrays(gross, penalties)
    lp = LinearProgram(arrays, Scaling.uniform(arrays, UNIT))
    laws = [law(t) for t in range(template.n_stages)]
    last = np.full(lp.n_columns, np.nan)
    while True:
        primal = _solution(lp, template)
        broken = _broken_rows(template, gross, laws, primal)
        if not broken:
            return -lp.objective()
        if np.array_equal(primal, last):
            raise _failure(lp, "rows just added are broken")
        rows, upper = zip(*broken, strict=True)
        lp.add_rows(np.array(rows), np.full(len(rows), -np.inf), np.array(upper))
        last = primal


def _solution(lp: LinearProgram, template: _Template) -> Floats:
    status = lp.solve()
    if status is Status.INFEASIBLE:
        raise InfeasibleProblem(
            f"initial_holdings = {template.start} can neither be kept nor sold under "
            f"cvar_limit = {template.limit}; raise the limit or start with more cash"
        )
    if status is not Status.OPTIMAL:
        raise _failure(lp, lp.status_text())
    return lp.primal()


def _failure(lp: LinearProgram, reason: str) -> SolverError:
    return SolverError(f"information relaxation: {reason}; written to {lp.write('sddp')}")


def _broken_rows(
    template: _Template, gross: Floats, laws: list[TailMeans], primal: Floats
) -> list[tuple[Floats, float]]:
    holdings = template.holdings(primal)
    wealth = [template.start.sum(), *(gross[:-1] * holdings[:-1]).sum(axis=1)]
    broken = []
    for t, law in enumerate(laws):
        row, upper = template.tail_row(t, law.tail_mean(holdings[t, 1:]), gross)
        if float(row @ primal) - upper > LIMIT_TOLERANCE * max(wealth[t], wealth[0]):
            broken.append((row, upper))
    return broken
