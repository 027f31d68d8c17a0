"""Equilibria of agents who move prices: one quadratic program, and iterations of best responses.

With linear impact the game has an exact potential (Monderer and Shapley, 1996). With permanent
share ``f`` its Nash equilibrium minimizes::

    sum_k s_k (lambda_k / 2 w_k' S_k w_k - mu_k' w_k + cost_k)
      + (1 - f) / 2 (D' Theta D + sum_k s_k^2 d_k' Theta d_k) - f sum_k s_k^2 w0_k' Theta d_k

over each agent's own bounds and budget. Price takers do not see their own part in the price: the
two sums over ``s_k^2`` are absent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import piqp
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from sddp.arrays import Floats
from sddp.errors import InfeasibleProblem, ModelError, SolverError
from sddp.portfolio import Kernel, Known, MeanVariance, Moments
from sddp.portfolio.optimizer import Terms
from sddp.rng import Rng, generator
from sddp.simulation.agents import Equilibrium, ImpactMarket, Notion

Updating: TypeAlias = Literal["simultaneous", "sequential", "random", "single_pass"]

# Of the interior point method, on the problem's own scale.
TOLERANCE = 1e-12
# Diagonal shift of the polishing equations, and steps that take it back.
SHIFT, REFINEMENTS = 1e-9, 4
# Active sets that are tried; what slacks and multipliers of an exact one may miss 0 by; polished
# columns further than this from the solver's are those of another problem.
ACTIVE_SETS, EXACT, NEAR = 12, 1e-12, 1e-4
# A residual this many times the smallest one so far has turned around for good.
TURNED = 1e3
# Largest matrix whose eigenvalues are looked for to explain a divergence.
LARGEST_MATRIX = 2_000


class PotentialGame:
    """The potential of a market as a quadratic program; solved again for other numbers.

    Parameters
    ----------
    market : ImpactMarket
        Linear impact; every agent a `MeanVariance` with a number as risk aversion, without
        constraints beyond bounds and cash, and without threshold.
    notion : {"price_taking", "nash"}

    Raises
    ------
    ModelError
        An agent or the impact is of another kind.
    InfeasibleProblem
        An agent's bounds leave nothing; it is named.
    """

    def __init__(self, market: ImpactMarket, notion: Notion = "nash") -> None:
        _check_potential(market, notion)
        self.market, self.notion = market, notion
        self._solver: Any = None
        n, self._traders = len(market.assets), np.flatnonzero(market.shares > 0.0)
        problems = [self._bounds(int(k)) for k in self._traders]
        for k, problem in zip(self._traders.tolist(), problems, strict=True):
            if len(problem.rows) or len(problem.tracking):
                raise ModelError(
                    f"agent {market.agents[k].name!r}: the potential takes bounds and cash limits, "
                    "no further constraints; use find_equilibrium"
                )
        count, s = len(problems), market.shares[self._traders]
        f, theta = market.impact.permanent, np.diag(market.alpha)
        own = (1.0 - f) if notion == "nash" else 0.0
        blocks = [
            share * float(market.risk_aversions[k] or 0.0) * market.covariances[k]
            + own * share**2 * theta
            for share, k in zip(s, self._traders, strict=True)
        ]
        self._buy = np.array([p.purchase_cost for p in problems])
        self._sell = np.array([p.sale_cost for p in problems])
        largest = max(float(np.abs(b).max()) for b in blocks)
        spread = float((s[:, None] * np.abs(market.means[self._traders])).max())
        self._unit = max(largest, spread) or 1.0
        zeros = sp.csc_matrix((count * n, count * n))
        hessian = sp.block_diag([*blocks, zeros, (1.0 - f) * theta], format="csc")
        eye, none = sp.identity(n), sp.csc_matrix((n, count * n))
        demand = sp.hstack([sp.kron(-s[None], eye), none, eye])
        cash = sp.kron(sp.identity(count), np.ones((1, n)))
        budget = sp.hstack([cash, sp.csc_matrix((count, count * n + n))])
        buys = sp.hstack(
            [-sp.identity(count * n), sp.identity(count * n), sp.csc_matrix((count * n, n))]
        )
        far = np.full(n, np.inf)
        self._given: dict[str, Any] = {
            "P": sp.csc_matrix(hessian / self._unit),
            "A": sp.csc_matrix(demand),
            "G": sp.csc_matrix(sp.vstack([budget, buys])),
            "x_l": np.concatenate([*(p.lower for p in problems), np.zeros(count * n), -far]),
            "x_u": np.concatenate([*(p.upper for p in problems), np.full(count * n, np.inf), far]),
        }
        self._low = np.array([1.0 - p.cash_upper for p in problems])
        self._high = np.array([1.0 - p.cash_lower for p in problems])

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
        s, n = market.shares[k][:, None], len(market.assets)
        linear = -s * (means[k] - market.cash_return + self._sell)
        if self.notion == "nash":
            linear -= s**2 * market.alpha * w0[k]
        costs = s * (self._buy + self._sell)
        # A buy is at least the trade and at least 0; where trading is free it may be anything.
        vector = np.concatenate([linear.ravel(), costs.ravel(), np.zeros(n)]) / self._unit
        numbers: dict[str, Any] = {
            "c": vector,
            "b": -(s * w0[k]).sum(axis=0),
            "h_l": np.concatenate([self._low, -w0[k].ravel()]),
            "h_u": np.concatenate([self._high, np.full(len(k) * n, np.inf)]),
        }
        if self._solver is None:
            self._solver = piqp.SparseSolver()
            settings = self._solver.settings
            settings.eps_abs = settings.eps_duality_gap_abs = TOLERANCE
            settings.eps_rel = settings.eps_duality_gap_rel = 0.0
            self._solver.setup(**self._given, **numbers)
        else:
            self._solver.update(**numbers)
        status = self._solver.solve().name
        info = self._solver.result.info
        residual = float(max(info.primal_res, info.dual_res))
        if status != "PIQP_SOLVED" and not residual < 1e3 * TOLERANCE:
            raise SolverError(
                f"the potential of {len(market.agents)} agents was not solved (PIQP: {status}, "
                f"residual {residual:.1e}); look for numbers of very different size"
            )
        weights = w0.copy()
        exact = polished(self._given | numbers, self._solver.result)
        weights[k] = exact[: len(k) * n].reshape(len(k), n)
        weights = _weightless(market, self.notion, means, w0, weights)
        n_iterations = int(info.iter)
        return Equilibrium(market, self.notion, w0, weights, "converged", residual, n_iterations)

    def _bounds(self, k: int) -> Any:
        return _named(self.market, k, partial(_problem, self.market, k))


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


def find_equilibrium(
    market: ImpactMarket,
    notion: Notion = "nash",
    *,
    updating: Updating = "simultaneous",
    order: Sequence[int] | None = None,
    damping: float | None = None,
    tolerance: float = 1e-10,
    max_iterations: int = 5_000,
    rng: Rng = 0,
) -> Equilibrium:
    """Iterate best responses to a fixed point.

    Parameters
    ----------
    market : ImpactMarket
    notion : {"price_taking", "nash"}
        Whether an agent takes the price move as given, or knows its own part in it.
    updating : {"simultaneous", "sequential", "random", "single_pass"}
        All at once; one after the other, in `order` or in an order drawn anew each round; or once
        in order, each seeing the trades before it.
    order : sequence of int, optional
        Positions of the agents; as they are listed by default.
    damping : float, optional
        Share of the way to the best response that is gone, in (0, 1]. By default that which
        suits the spectral radius r of the undamped map, ``2 / (2 + r)``.
    tolerance : float
        On the residual.
    max_iterations : int
        Rounds.
    rng : int, SeedSequence or Generator
        For random orders.

    Returns
    -------
    Equilibrium
        Its status says whether the iteration converged; where it did not, the spectral radius
        says why.

    Raises
    ------
    ModelError
        An argument is out of range, or the impact is not linear.
    InfeasibleProblem
        An agent's problem is infeasible; it is named.
    """
    _check_notion(market, notion)
    if updating not in get_args(Updating):
        raise ModelError(f"updating={updating!r}: must be one of {get_args(Updating)}")
    if damping is not None and not 0.0 < damping <= 1.0:
        raise ModelError(f"damping={damping}: must be in (0, 1]")
    responses = BestResponses(market, notion)
    count, rng = len(market.agents), generator(rng)
    places = list(range(count)) if order is None else [int(k) for k in order]
    if sorted(places) != list(range(count)):
        raise ModelError(f"order={places}: must name each of {count} agents once")
    weights = market.current.copy()
    if updating == "single_pass":
        for k in places:
            weights[k] = responses.of(k, weights)
        return Equilibrium(market, notion, market.current, weights, "single pass", np.nan, 1)
    if damping is None:
        radius = spectral_radius(market, notion) if updating == "simultaneous" else 0.0
        damping = 2.0 / (2.0 + radius)
    best, residual, iteration, status = np.inf, np.inf, 0, "iteration_limit"
    for _ in range(max_iterations):
        iteration += 1
        before = weights.copy()
        if updating == "random":
            places = [int(k) for k in rng.permutation(count)]
        residual = 0.0
        for k in places:
            seen = before if updating == "simultaneous" else weights
            wanted = responses.of(k, seen)
            residual = max(residual, float(np.abs(wanted - seen[k]).max()))
            weights[k] = seen[k] + damping * (wanted - seen[k])
        best = min(best, residual)
        if residual <= tolerance:
            status = "converged"
            break
        if residual > TURNED * max(best, tolerance) or not np.isfinite(residual):
            status = "diverged"
            break
    if status == "iteration_limit" and residual > 0.1 * float(np.abs(weights).max()):
        status = "diverged"  # it goes to and fro between bounds
    known = None if status == "converged" else spectral_radius(market, notion)
    return Equilibrium(market, notion, market.current, weights, status, residual, iteration, known)


class BestResponses:
    """Best responses of the agents to given weights of the others."""

    def __init__(self, market: ImpactMarket, notion: Notion) -> None:
        _check_notion(market, notion)
        self._market, self._notion = market, notion
        count = range(len(market.agents))
        self._kernels = [_named(market, k, partial(_kernel, market, k)) for k in count]

    def of(self, k: int, weights: Floats) -> Floats:
        """Weights that agent k wants, shape (n_assets,).

        Parameters
        ----------
        k : int
        weights : array, shape (n_agents, n_assets)
            Of all agents; price takers take the price move from them, themselves included.
        """
        market, agent = self._market, self._market.agents[k]
        f, alpha, s = market.impact.permanent, market.alpha, market.shares[k]
        trades = weights - market.current
        demand = market.shares @ trades
        mean, covariance = market.means[k], market.covariances[k]
        risk_aversion = market.risk_aversions[k]
        scaled = covariance if risk_aversion is None else risk_aversion * covariance
        if self._notion == "price_taking":
            mean = mean - (1.0 - f) * alpha * demand
        else:
            others = demand - s * trades[k]
            mean = mean - (1.0 - f) * alpha * others + s * (2.0 - f) * alpha * market.current[k]
            scaled = scaled + np.diag(2.0 * s * (1.0 - f) * alpha)
        known = Known(market.cash_return)
        solve = self._kernels[k].solve
        found = _named(market, k, partial(solve, mean, scaled, market.current[k], known))
        wanted: Floats = np.asarray(found.solution.weights)
        held: Floats = market.current[k]
        return held if np.abs(wanted - held).max() <= agent.threshold else wanted


def spectral_radius(market: ImpactMarket, notion: Notion) -> float:
    """Of the map from weights to simultaneous best responses, bounds and costs left aside.

    Agents that are no mean-variance optimizers, and those without curvature, are left out.
    """
    f, theta, s = market.impact.permanent, np.diag(market.alpha), market.shares
    maps = []
    for k, risk_aversion in enumerate(market.risk_aversions):
        n = len(market.assets)
        if risk_aversion is None or s[k] == 0.0:
            maps.append(np.zeros((n, n)))
            continue
        own = 2.0 * s[k] * (1.0 - f) if notion == "nash" else 0.0
        curvature = risk_aversion * market.covariances[k] + own * theta
        maps.append(np.linalg.pinv(curvature, hermitian=True) @ theta * (1.0 - f))
    if notion == "price_taking":
        total = np.einsum("k,kij->ij", s, np.array(maps))
        return float(np.abs(np.linalg.eigvals(total)).max())
    count, n = len(maps), len(market.assets)
    if count * n > LARGEST_MATRIX:
        raise ModelError(
            f"{count} agents and {n} assets: eigenvalues of {count * n} are not looked for; give "
            "damping="
        )
    jacobian = np.zeros((count, n, count, n))
    for k, response in enumerate(maps):
        for j in range(count):
            if j != k:
                jacobian[k, :, j] = -s[j] * response
    return float(np.abs(np.linalg.eigvals(jacobian.reshape(count * n, count * n))).max())


def _check_notion(market: ImpactMarket, notion: Notion) -> None:
    if notion not in get_args(Notion):
        raise ModelError(f"notion={notion!r}: must be one of {get_args(Notion)}")
    if market.impact.law != "linear":
        raise ModelError("impact.law='square root': equilibria need linear impact")
    if notion == "nash":
        for agent, risk_aversion in zip(market.agents, market.risk_aversions, strict=True):
            if risk_aversion is None:
                raise ModelError(
                    f"agent {agent.name!r}: only a MeanVariance with a number as risk_aversion "
                    "can weigh its own impact; use notion='price_taking'"
                )


def _check_potential(market: ImpactMarket, notion: Notion) -> None:
    _check_notion(market, notion)
    for agent, risk_aversion in zip(market.agents, market.risk_aversions, strict=True):
        if risk_aversion is None or agent.threshold:
            raise ModelError(
                f"agent {agent.name!r}: the potential needs a MeanVariance with a number as "
                "risk_aversion and without a threshold; use find_equilibrium"
            )
    if not (market.shares > 0.0).any():
        raise ModelError("agents: at least one must have wealth")


def _kernel(market: ImpactMarket, k: int) -> Kernel:
    optimizer = market.agents[k].optimizer
    if market.risk_aversions[k] is not None:
        assert isinstance(optimizer, MeanVariance)
        # The risk aversion is in the covariance that the kernel is given.
        optimizer = replace(optimizer, risk_aversion=1.0)
    return optimizer.prepare(market.assets)


def _problem(market: ImpactMarket, k: int) -> Any:
    terms = Terms(market.agents[k].optimizer, market.assets)
    return terms.problem(market.means[k], market.covariances[k], market.current[k])


def _named(market: ImpactMarket, k: int, act: Any) -> Any:
    """What a call returns; where an agent's problem is infeasible, the agent is named."""
    try:
        return act()
    except InfeasibleProblem as error:
        raise InfeasibleProblem(f"agent {market.agents[k].name!r}: {error}") from error


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
