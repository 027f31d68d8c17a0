"""The potential of a market of agents who move prices: one convex program, solved directly.

With linear impact the game has an exact potential (Monderer and Shapley, 1996). With permanent
share ``f`` its Nash equilibrium minimizes::

    sum_k s_k (lambda_k / 2 w_k' S_k w_k - mu_k' w_k + cost_k)
      + (1 - f) / 2 (D' Theta D + sum_k s_k^2 d_k' Theta d_k) - f sum_k s_k^2 w0_k' Theta d_k

over each agent's own bounds and budget. Price takers do not see their own part in the price: the
two sums over ``s_k^2`` are absent.

Newton's method (`sddp.simulation.agents.active_sets`) solves it where every agent's own program is
strictly convex; an interior point method does elsewhere, and where Newton's method does not come
to rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import piqp
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from sddp.arrays import Floats
from sddp.errors import ModelError, SolverError
from sddp.portfolio import Moments
from sddp.portfolio.optimizer import Terms
from sddp.simulation.agents.active_sets import AgentPrograms, solve_agents
from sddp.simulation.agents.equilibrium import BestResponses, check_notion, named
from sddp.simulation.agents.market import Equilibrium, ImpactMarket, Notion

# Of the interior point method, on the problem's own scale.
TOLERANCE = 1e-12
# Diagonal shift of the polishing equations, and steps that take it back.
SHIFT, REFINEMENTS = 1e-9, 4
# Active sets that are tried; what slacks and multipliers of an exact one may miss 0 by; polished
# columns further than this from the solver's are those of another problem.
ACTIVE_SETS, EXACT, NEAR = 12, 1e-12, 1e-4
# Residual of Newton's method above which its weights are not believed.
AT_REST = 1e-12
# Least over largest eigenvalue of an agent's program that Newton's method is given.
CONVEX = 1e-10


class PotentialGame:
    """The potential of a market as a quadratic program; solved again for other numbers.

    Parameters
    ----------
    market : ImpactMarket
        Linear impact; every agent a `MeanVariance` with a number as risk aversion, without
        constraints beyond bounds and cash, and without threshold.
    notion : {"price_taking", "nash"}
    knowing : sequence of int, optional
        Numbers of the agents who see their own part in the price: by default all under Nash, none
        of price takers.

    Raises
    ------
    ModelError
        An agent or the impact is of another kind.
    InfeasibleProblem
        An agent's bounds leave nothing; it is named.
    """

    def __init__(
        self, market: ImpactMarket, notion: Notion = "nash", knowing: Sequence[int] | None = None
    ) -> None:
        _check_potential(market, notion)
        self.market, self.notion = market, notion
        self._traders = np.flatnonzero(market.shares > 0.0)
        problems = [self._bounds(int(k)) for k in self._traders]
        for k, problem in zip(self._traders.tolist(), problems, strict=True):
            if len(problem.rows) or len(problem.tracking):
                raise ModelError(
                    f"agent {market.agents[k].name!r}: the potential takes bounds and cash limits, "
                    "no further constraints; use find_equilibrium"
                )
        f, s = market.impact.permanent, market.shares[self._traders]
        seen = np.full(len(market.agents), notion == "nash")
        if knowing is not None:
            seen = np.isin(np.arange(len(market.agents)), knowing)
        self._own = s * seen[self._traders]
        risk = np.array([float(market.risk_aversions[k] or 0.0) for k in self._traders])
        covariances = market.covariances[self._traders]
        self._programs = AgentPrograms(
            shares=s,
            hessians=risk[:, None, None] * covariances
            + (1.0 - f) * self._own[:, None, None] * np.diag(market.alpha),
            lower=np.array([p.lower for p in problems]),
            upper=np.array([p.upper for p in problems]),
            purchase_cost=np.array([p.purchase_cost for p in problems]),
            sale_cost=np.array([p.sale_cost for p in problems]),
            least=np.array([1.0 - p.cash_upper for p in problems]),
            most=np.array([1.0 - p.cash_lower for p in problems]),
            pull=(1.0 - f) * market.alpha,
        )
        values = np.linalg.eigvalsh(self._programs.hessians)
        self._convex = bool((values[:, 0] > CONVEX * values[:, -1]).all())

    def solve(self, means: Floats | None = None, current: Floats | None = None) -> Equilibrium:
        """Equilibrium weights.

        Parameters
        ----------
        means, current : array, shape (n_agents, n_assets), optional
            Instead of the market's.

        Raises
        ------
        SolverError
            The quadratic program was not solved.
        """
        market, k = self.market, self._traders
        means = market.means if means is None else means
        w0 = market.current if current is None else current
        found, residuals, n_iterations = self._solved(means[None, k], w0[k])
        weights = w0.copy()
        weights[k] = found[0]
        weights = _weightless(market, self.notion, means, w0, weights)
        residual = float(residuals[0])
        return Equilibrium(market, self.notion, w0, weights, "converged", residual, n_iterations)

    def demand(self, means: Floats) -> Floats:
        """Demand in equilibrium, in many scenarios of the agents' estimates.

        Parameters
        ----------
        means : array, shape (n_scenarios, n_agents, n_assets)

        Returns
        -------
        array, shape (n_scenarios, n_assets)
            Shares of the market's wealth bought.

        Raises
        ------
        SolverError
            As in `solve`.
        """
        w0 = self.market.current[self._traders]
        weights, _, _ = self._solved(means[:, self._traders], w0)
        return self._programs.demand(weights, w0)

    def _solved(self, means: Floats, current: Floats) -> tuple[Floats, Floats, int]:
        """Weights of those with wealth, residuals by scenario, iterations."""
        market, programs = self.market, self._programs
        slopes = market.cash_return - means - self._own[:, None] * market.alpha * current
        if self._convex:
            weights, residuals, n_iterations = solve_agents(programs, slopes, current)
        else:
            weights, residuals = np.empty_like(slopes), np.full(len(slopes), np.inf)
            n_iterations = 0
        for row in np.flatnonzero(~(residuals <= AT_REST)):
            weights[row], residuals[row], n_iterations = self._interior(slopes[row], current)
        return weights, residuals, n_iterations

    def _interior(self, slopes: Floats, current: Floats) -> tuple[Floats, float, int]:
        """One scenario by the interior point method: weights, residual, iterations."""
        programs, (count, n) = self._programs, current.shape
        s, (given, unit, solver) = programs.shares[:, None], self._given
        linear = s * (slopes - programs.sale_cost)
        costs = s * (programs.purchase_cost + programs.sale_cost)
        # A buy is at least the trade and at least 0; where trading is free it may be anything.
        numbers: dict[str, Any] = {
            "c": np.concatenate([linear.ravel(), costs.ravel(), np.zeros(n)]) / unit,
            "b": -(s * current).sum(axis=0),
            "h_l": np.concatenate([programs.least, -current.ravel()]),
            "h_u": np.concatenate([programs.most, np.full(count * n, np.inf)]),
        }
        solver.update(**numbers)
        status = solver.solve().name
        info = solver.result.info
        residual = float(max(info.primal_res, info.dual_res))
        if status != "PIQP_SOLVED" and not residual < 1e3 * TOLERANCE:
            raise SolverError(
                f"the potential of {count} agents was not solved (PIQP: {status}, "
                f"residual {residual:.1e}); look for numbers of very different size"
            )
        exact = polished(given | numbers, solver.result)[: count * n].reshape(count, n)
        return exact, residual, int(info.iter)

    @cached_property
    def _given(self) -> tuple[dict[str, Any], float, Any]:
        """What is the same in all scenarios, its unit, and a solver that knows it.

        Columns are weights, purchases and the demand.
        """
        programs = self._programs
        count, n = programs.lower.shape
        s, (eye, none) = programs.shares, (sp.identity(n), sp.csc_matrix((n, count * n)))
        blocks = s[:, None, None] * programs.hessians
        spread = float((s[:, None] * np.abs(self.market.means[self._traders])).max())
        unit = max(float(np.abs(blocks).max()), spread) or 1.0
        zeros = sp.csc_matrix((count * n, count * n))
        hessian = sp.block_diag([*blocks, zeros, np.diag(programs.pull)], format="csc")
        demand = sp.hstack([sp.kron(-s[None], eye), none, eye])
        cash = sp.kron(sp.identity(count), np.ones((1, n)))
        budget = sp.hstack([cash, sp.csc_matrix((count, count * n + n))])
        each = sp.identity(count * n)
        buys = sp.hstack([-each, each, sp.csc_matrix((count * n, n))])
        far = np.full(n, np.inf)
        given: dict[str, Any] = {
            "P": sp.csc_matrix(hessian / unit),
            "A": sp.csc_matrix(demand),
            "G": sp.csc_matrix(sp.vstack([budget, buys])),
            "x_l": np.concatenate([programs.lower.ravel(), np.zeros(count * n), -far]),
            "x_u": np.concatenate([programs.upper.ravel(), np.full(count * n, np.inf), far]),
        }
        solver = piqp.SparseSolver()
        settings = solver.settings
        settings.eps_abs = settings.eps_duality_gap_abs = TOLERANCE
        settings.eps_rel = settings.eps_duality_gap_rel = 0.0
        # PIQP deletes rows that have no finite side at first.
        numbers = {
            "c": np.zeros(2 * count * n + n),
            "b": np.zeros(n),
            "h_l": np.concatenate([programs.least, np.zeros(count * n)]),
            "h_u": np.concatenate([programs.most, np.full(count * n, np.inf)]),
        }
        solver.setup(**given, **numbers)
        return given, unit, solver

    def _bounds(self, k: int) -> Any:
        return named(self.market, k, partial(_problem, self.market, k))


def polished(program: Mapping[str, Any], found: Any) -> Floats:
    """Columns of a quadratic program from those of an interior point method, to the last bits.

    Where a bound holds but hardly matters, the method is exact to the root of its tolerance only.
    The primal-dual active set method goes on from there: of slack and multiplier the larger says
    whether a bound is active, the equations on that set give new ones. Where it does not end, the
    columns are left as they are.
    """
    x = np.asarray(found.x, dtype=float)
    g, y = program["G"], x
    low, high = found.z_bl > x - program["x_l"], found.z_bu > program["x_u"] - x
    rows_low = found.z_l > g @ x - program["h_l"]
    rows_high = found.z_u > program["h_u"] - g @ x
    for _ in range(ACTIVE_SETS):
        y, gradient, row_duals = _on_active_set(program, low, high, rows_low, rows_high)
        values = g @ y
        sides = (
            (low, gradient, y - program["x_l"]),
            (high, -gradient, program["x_u"] - y),
            (rows_low, -row_duals, values - program["h_l"]),
            (rows_high, row_duals, program["h_u"] - values),
        )
        wrong = [np.where(on, dual < -EXACT, slack < -EXACT) for on, dual, slack in sides]
        if not any(w.any() for w in wrong):
            return y if float(np.abs(y - x).max()) < NEAR else x
        low, high, rows_low, rows_high = (
            on ^ w for (on, _, _), w in zip(sides, wrong, strict=True)
        )
    return x


def _on_active_set(
    program: Mapping[str, Any], low: Any, high: Any, rows_low: Any, rows_high: Any
) -> tuple[Floats, Floats, Floats]:
    """Columns, slope of the Lagrangian along each, and multipliers of the rows."""
    p, a, g = program["P"], program["A"], program["G"]
    rows, free = rows_low | rows_high, np.flatnonzero(~(low | high))
    y = np.where(low, program["x_l"], np.where(high, program["x_u"], 0.0))
    active = sp.vstack([a, g[rows]], format="csc")
    sides = np.where(rows_low, program["h_l"], program["h_u"])[rows]
    target = np.concatenate([program["b"], sides])
    # A regular matrix whatever rows repeat each other; refinement takes the shift back.
    shift = sp.diags([*np.full(len(free), SHIFT), *np.full(len(target), -SHIFT)])
    inner = active[:, free]
    exact: Any = sp.bmat([[p[free][:, free], inner.T], [inner, None]], format="csc")
    right = np.concatenate([-(program["c"] + p @ y)[free], target - active @ y])
    factors, solution = splu(sp.csc_matrix(exact + shift)), np.zeros(len(right))
    for _ in range(REFINEMENTS):
        solution += factors.solve(right - exact @ solution)
    y[free] = solution[: len(free)]
    duals = solution[len(free) :]
    row_duals = np.zeros(len(rows))
    row_duals[rows] = duals[len(program["b"]) :]
    return y, program["c"] + p @ y + active.T @ duals, row_duals


def _check_potential(market: ImpactMarket, notion: Notion) -> None:
    check_notion(market, notion)
    for agent, risk_aversion in zip(market.agents, market.risk_aversions, strict=True):
        if risk_aversion is None or agent.threshold:
            raise ModelError(
                f"agent {agent.name!r}: the potential needs a MeanVariance with a number as "
                "risk_aversion and without a threshold; use find_equilibrium"
            )
    if not (market.shares > 0.0).any():
        raise ModelError("agents: at least one must have wealth")


def _problem(market: ImpactMarket, k: int) -> Any:
    terms = Terms(market.agents[k].optimizer, market.assets)
    return terms.problem(market.means[k], market.covariances[k], market.current[k])


def _weightless(
    market: ImpactMarket, notion: Notion, means: Floats, current: Floats, weights: Floats
) -> Floats:
    """Weights of agents without wealth: best responses to the others, who do not see them."""
    idle = np.flatnonzero(market.shares == 0.0)
    if not len(idle):
        return weights
    agents = [
        replace(
            agent,
            current=current[k],
            moments=Moments.of(means[k], market.covariances[k], market.assets),
        )
        for k, agent in enumerate(market.agents)
    ]
    responses, seen = BestResponses(replace(market, agents=agents), notion), weights.copy()
    for k in idle:
        weights[k] = responses.of(int(k), seen)
    return weights
