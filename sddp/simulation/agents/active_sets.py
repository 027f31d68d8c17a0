"""Newton's method on the potential of agents who move prices, in many scenarios at once.

Agent k minimizes ``w' H_k w / 2 + c_k' w + cost_k(w - w0_k) + w' p`` over its box and its cash
limits, where ``p = (1 - f) Theta D`` is the same for all. Its optimum is the fixed point of a
scaled proximal step, which is piecewise linear in its weights;
on one piece (which weights are at a bound, bought, sold or left alone, and whether a cash limit
holds) the equations of all agents are linear and meet in the demand D alone, so that a Newton step
costs one small inverse an agent. The piece is right when the step stays on it: the distance to the
proximal step is the residual, and the only thing that is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.threads import one_blas_thread

# Steps that are tried; 4 to 11 are enough for random markets of 3 to 1,000 columns.
MOST_STEPS = 40
# Weights that are this near their proximal step are at rest.
REST = 1e-13
# Numbers of all matrices of some scenarios, that they stay in the processor's cache.
NUMBERS_AT_A_TIME = 2**17


@dataclass(frozen=True, eq=False)
class AgentPrograms:
    """The agents' programs, per unit of the wealth of each.

    Attributes
    ----------
    shares : array, shape (n_agents,)
        Positive.
    hessians : array, shape (n_agents, n_assets, n_assets)
        Positive definite, own impact included.
    lower, upper, purchase_cost, sale_cost : array, shape (n_agents, n_assets)
    least, most : array, shape (n_agents,)
        Of the sum of the weights.
    pull : array, shape (n_assets,)
        What a unit of demand costs every buyer, ``(1 - f) alpha``.
    """

    shares: Floats
    hessians: Floats
    lower: Floats
    upper: Floats
    purchase_cost: Floats
    sale_cost: Floats
    least: Floats
    most: Floats
    pull: Floats

    @property
    def scales(self) -> Floats:
        """Curvature of the potential along each weight, which scales the proximal step."""
        own: Floats = self.shares[:, None] * self.pull
        scales: Floats = np.einsum("kii->ki", self.hessians) + own
        return scales

    def demand(self, weights: Floats, current: Floats) -> Floats:
        """Shares of the market's wealth bought, by scenario."""
        demand: Floats = np.einsum("k,ski->si", self.shares, weights - current)
        return demand


class _Piece(NamedTuple):
    """Where the proximal step lands: its weights, and the linear piece that they lie on."""

    weights: Floats
    free: NDArray[np.bool_]
    kinks: Floats
    limited: NDArray[np.bool_]
    sums: Floats


def solve_agents(
    programs: AgentPrograms, slopes: Floats, current: Floats
) -> tuple[Floats, Floats, int]:
    """Equilibrium weights of all agents.

    Parameters
    ----------
    programs : AgentPrograms
    slopes : array, shape (n_scenarios, n_agents, n_assets)
        ``c_k``.
    current : array, shape (n_agents, n_assets)
        Weights before trading.

    Returns
    -------
    weights : array, shape (n_scenarios, n_agents, n_assets)
    residuals : array, shape (n_scenarios,)
        Largest distance of a weight from its proximal step; above 1e-12 where Newton's method has
        not come to rest.
    n_steps : int
        Most of any scenario.
    """
    count, n = current.shape
    at_a_time = max(1, NUMBERS_AT_A_TIME // (count * n * n))
    found, n_steps = [], 0
    with one_blas_thread():
        for first in range(0, len(slopes), at_a_time):
            weights, residuals, steps = _solve(programs, slopes[first : first + at_a_time], current)
            found.append((weights, residuals))
            n_steps = max(n_steps, steps)
    parts = zip(*found, strict=True)
    return *(np.concatenate(list(part)) for part in parts), n_steps  # type: ignore[return-value]


def _solve(programs: AgentPrograms, slopes: Floats, current: Floats) -> tuple[Floats, Floats, int]:
    weights = np.repeat(current[None], len(slopes), axis=0)
    answers, residuals = weights.copy(), np.full(len(slopes), np.inf)
    going = np.arange(len(slopes))
    seen: list[set[int]] = [set() for _ in going]
    n_steps = 0
    while n_steps < MOST_STEPS:
        n_steps += 1
        piece = _proximal_step(programs, slopes[going], current, weights)
        distance = np.abs(piece.weights - weights).max(axis=(1, 2))
        better = distance < residuals[going]
        answers[going[better]] = piece.weights[better]
        residuals[going[better]] = distance[better]
        on = ~(distance <= REST)
        if not on.any():
            break
        going, weights = going[on], weights[on]
        piece = _Piece(*(values[on] for values in piece))
        target = _newton_step(programs, slopes[going], current, piece)
        for row, s in enumerate(going):
            key = hash((piece.free[row].tobytes(), piece.kinks[row].tobytes()))
            if key in seen[s]:  # it goes round in a circle: half the step leaves it
                target[row] = (target[row] + weights[row]) / 2.0
            seen[s].add(key)
        weights = target
    return answers, residuals, n_steps


def _proximal_step(
    programs: AgentPrograms, slopes: Floats, current: Floats, weights: Floats
) -> _Piece:
    """Minimum over box, costs and cash limits of the agents' diagonal models at some weights."""
    scales = programs.scales
    gradient = np.matmul(programs.hessians, weights[..., None])[..., 0] + slopes
    gradient += (programs.pull * programs.demand(weights, current))[:, None]
    wanted = weights - gradient / scales
    kept = np.clip(current, programs.lower, programs.upper)
    # Buying shifts the optimum down and selling up: between the two, nothing is traded.
    bought, sold = programs.purchase_cost / scales, programs.sale_cost / scales
    rows = _Rows(wanted, scales, programs.lower, kept, programs.upper, bought, sold)
    total = rows.weights(np.zeros(weights.shape[:2])).sum(axis=2)
    limited = (total > programs.most) | (total < programs.least)
    sums = np.where(total > programs.most, programs.most, programs.least)
    multipliers = np.zeros_like(total)
    if limited.any():
        chosen = _Rows(*(np.broadcast_to(values, weights.shape)[limited] for values in rows))
        multipliers[limited] = _multipliers(chosen, sums[limited])
    target = wanted - multipliers[..., None] / scales
    above, below = target - bought > current, target + sold < current
    kinks = np.where(above, programs.purchase_cost, np.where(below, -programs.sale_cost, 0.0))
    x = np.where(above, target - bought, np.where(below, target + sold, current))
    free = (above | below) & (x >= programs.lower) & (x <= programs.upper)
    x = np.clip(x, programs.lower, programs.upper)
    return _Piece(x, free, kinks, limited, sums)


class _Rows(NamedTuple):
    """Diagonal models: their minimum without box and costs, curvature, box, and kinks."""

    wanted: Floats
    scales: Floats
    lower: Floats
    kept: Floats
    upper: Floats
    bought: Floats
    sold: Floats

    def weights(self, multipliers: Floats) -> Floats:
        """Minimum where cash is worth `multipliers`; it falls in them, piece by piece linearly."""
        at = self.wanted - multipliers[..., None] / self.scales
        buying = np.clip(at - self.bought, self.kept, self.upper)
        selling = np.clip(at + self.sold, self.lower, self.kept)
        weights: Floats = buying + selling - self.kept
        return weights


def _multipliers(rows: _Rows, sums: Floats) -> Floats:
    """Worth of cash at which the weights of each row have a given sum."""
    ends = [
        rows.scales * (at - end)
        for at, end in (
            (rows.wanted - rows.bought, rows.upper),
            (rows.wanted - rows.bought, rows.kept),
            (rows.wanted + rows.sold, rows.kept),
            (rows.wanted + rows.sold, rows.lower),
        )
    ]
    edge = np.full((len(sums), 1), np.inf)
    breaks = np.concatenate([-edge, np.sort(np.concatenate(ends, axis=1), axis=1), edge], axis=1)
    row = np.arange(len(sums))
    low, high = np.zeros(len(sums), dtype=int), np.full(len(sums), breaks.shape[1] - 1)
    while (high - low > 1).any():
        middle = (low + high) // 2
        enough = rows.weights(breaks[row, middle]).sum(axis=1) >= sums
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    left, right = breaks[row, low], breaks[row, high]
    moving = np.zeros_like(rows.wanted, dtype=bool)
    for first, last in (ends[:2], ends[2:]):
        moving |= (first <= left[:, None]) & (last >= right[:, None])
    slope = np.where(moving, 1.0 / rows.scales, 0.0).sum(axis=1)
    known = np.where(np.isfinite(left), left, right)
    missing = rows.weights(known).sum(axis=1) - sums
    found: Floats = known + np.divide(missing, slope, out=np.zeros_like(slope), where=slope > 0.0)
    return found


def _newton_step(programs: AgentPrograms, slopes: Floats, current: Floats, piece: _Piece) -> Floats:
    """Weights that solve the equations of one piece."""
    free, n = piece.free, current.shape[1]
    pinned = np.where(free, 0.0, piece.weights)
    # Pinned weights have equations of their own.
    both = free[..., :, None] & free[..., None, :]
    inverse = np.linalg.inv(np.where(both, programs.hessians, np.eye(n) * ~free[..., None]))
    right = -(slopes + piece.kinks) - np.matmul(programs.hessians, pinned[..., None])[..., 0]
    fixed = np.matmul(inverse, np.where(free, right, pinned)[..., None])[..., 0]
    # How weights answer to the worth of cash, and to demand through prices.
    cash = np.matmul(inverse, free[..., None].astype(float))[..., 0]
    prices = inverse * (free * programs.pull)[..., None, :]
    room = cash.sum(axis=-1)
    bound = piece.limited & (room > 0.0)
    each = np.where(bound[..., None], cash, 0.0) / np.where(bound, room, 1.0)[..., None]
    fixed -= each * (fixed.sum(axis=-1) - piece.sums)[..., None]
    prices -= each[..., None] * prices.sum(axis=-2)[..., None, :]
    # D = sum_k s_k (fixed_k - prices_k D - w0_k).
    system = np.eye(n) + np.einsum("k,skij->sij", programs.shares, prices)
    demand = np.linalg.solve(system, programs.demand(fixed, current)[..., None])[..., 0]
    weights: Floats = fixed - np.matmul(prices, demand[:, None, :, None])[..., 0]
    return weights
