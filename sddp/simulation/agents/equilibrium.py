"""Equilibria of agents who move prices: iterations of best responses.

The same equilibria as minima of a potential are in `sddp.simulation.agents.potential`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from sddp.arrays import Floats
from sddp.errors import InfeasibleProblem, ModelError
from sddp.portfolio import Kernel, Known, MeanVariance
from sddp.rng import Rng, generator
from sddp.simulation.agents.market import Equilibrium, ImpactMarket, Notion

Updating: TypeAlias = Literal["simultaneous", "sequential", "random", "single_pass"]

# A residual this many times the smallest one so far has turned around for good.
TURNED = 1e3
# Largest matrix whose eigenvalues are looked for to explain a divergence.
LARGEST_MATRIX = 2_000


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
    check_notion(market, notion)
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
        check_notion(market, notion)
        self._market, self._notion = market, notion
        count = range(len(market.agents))
        self._kernels = [named(market, k, partial(_kernel, market, k)) for k in count]

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
        found = named(market, k, partial(solve, mean, scaled, market.current[k], known))
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


def check_notion(market: ImpactMarket, notion: Notion) -> None:
    """Refuse a notion of equilibrium that the agents or the impact do not allow."""
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


def _kernel(market: ImpactMarket, k: int) -> Kernel:
    optimizer = market.agents[k].optimizer
    if market.risk_aversions[k] is not None:
        assert isinstance(optimizer, MeanVariance)
        # The risk aversion is in the covariance that the kernel is given.
        optimizer = replace(optimizer, risk_aversion=1.0)
    return optimizer.prepare(market.assets)


def named(market: ImpactMarket, k: int, act: Any) -> Any:
    """What a call returns; where an agent's problem is infeasible, the agent is named."""
    try:
        return act()
    except InfeasibleProblem as error:
        raise InfeasibleProblem(f"agent {market.agents[k].name!r}: {error}") from error
