"""Problems whose value hangs on what is rare, with values by dynamic programs of their own."""

from __future__ import annotations

import math

import numpy as np
import pyomo.environ as pyo

import sddp

INFLOWS, DEMANDS = np.array([0.0, 4.0, 6.0, 9.0]), np.array([9.0, 6.0, 5.0, 3.0])


def drought_measure(confidence: float) -> sddp.risk.RiskMeasure:
    """Half expectation, half tail."""
    return 0.5 * sddp.Expectation() + 0.5 * sddp.CVaR(confidence=confidence)


def drought(n_stages: int, probability: float) -> sddp.Problem:
    """One reservoir and a rare drought of high demand, from which shortage costs 50."""

    def build(node: sddp.Node) -> sddp.Stage:
        m = pyo.ConcreteModel()
        m.inflow, m.demand = (pyo.Param(initialize=0.0, mutable=True) for _ in range(2))
        m.level_in, m.level = pyo.Var(), pyo.Var(bounds=(0, 30))
        m.hydro, m.shortage, m.spill = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
        m.thermal = pyo.Var(bounds=(0, 4))
        m.balance = pyo.Constraint(expr=m.level == m.level_in - m.hydro - m.spill + m.inflow)
        m.met = pyo.Constraint(expr=m.hydro + m.thermal + m.shortage == m.demand)
        m.cost = pyo.Objective(expr=0.1 * m.spill + m.thermal + 50 * m.shortage)
        outcomes = [
            {"inflow": w, "demand": d}
            for w, d in zip(INFLOWS.tolist(), DEMANDS.tolist(), strict=True)
        ]
        noise = sddp.Noise(outcomes, drought_probabilities(probability))
        return sddp.Stage(m, {"level": sddp.State(m.level_in, m.level, 10.0)}, noise)

    return sddp.Problem(sddp.linear_graph(n_stages), build)


def drought_probabilities(probability: float) -> np.ndarray:
    """Of the drought and of the three other outcomes, which are alike."""
    return np.array([probability, *[(1.0 - probability) / 3] * 3])


def drought_value(n_stages: int, probability: float, tail: float) -> float:
    """By a dynamic program over levels 0, 1, ..., 30.

    Supply and demand are whole numbers, so the value functions are linear between whole levels
    (a network flow), and an optimal level to hand on is whole, or the bound of another column is.
    """
    levels = np.arange(31.0)
    p = drought_probabilities(probability)
    to_go = np.zeros(31)
    for _ in range(n_stages):
        values = np.empty((31, 4))
        for w, (inflow, demand) in enumerate(zip(INFLOWS, DEMANDS, strict=True)):
            released = levels[:, None] + inflow - levels[None, :]
            hydro = np.minimum(released, demand)
            missing = demand - hydro
            thermal = np.minimum(missing, 4.0)
            cost = 0.1 * (released - hydro) + thermal + 50.0 * (missing - thermal)
            cost[released < 0.0] = np.inf
            values[:, w] = (cost + to_go).min(axis=1)
        to_go = np.array([0.5 * row @ p + 0.5 * _tail_mean(p, row, tail) for row in values])
    return float(to_go[10])


def _tail_mean(p: np.ndarray, costs: np.ndarray, tail: float) -> float:
    order = np.argsort(-costs)
    before = np.cumsum(p[order]) - p[order]
    return float(np.clip(tail - before, 0.0, p[order]) @ costs[order] / tail)


def put(n_steps: int = 10) -> sddp.Problem:
    """An American put on a binomial lattice: what is left of it is kept or exercised."""
    up, q, discount = _lattice(n_steps)
    nodes = [(t, j) for t in range(n_steps + 1) for j in range(t + 1)]
    arcs = {("root", (0, 0)): 1.0}
    for t, j in nodes:
        if t < n_steps:
            arcs[(t, j), (t + 1, j + 1)] = q
            arcs[(t, j), (t + 1, j)] = 1.0 - q

    def build(node: sddp.Node) -> sddp.Stage:
        t, j = node.name
        m = pyo.ConcreteModel()
        m.held_in, m.held = pyo.Var(), pyo.Var(bounds=(0, 1))
        m.exercised = pyo.Var(domain=pyo.NonNegativeReals)
        m.kept = pyo.Constraint(expr=m.held == m.held_in - m.exercised)
        paid = discount**t * (40.0 - 36.0 * up ** (2 * j - t))
        m.paid = pyo.Objective(expr=paid * m.exercised, sense=pyo.maximize)
        return sddp.Stage(m, {"held": sddp.State(m.held_in, m.held, 1.0)})

    return sddp.Problem(sddp.Graph(nodes, arcs), build, cost_to_go_bound=40.0)


def put_value(n_steps: int = 10) -> float:
    """By backward induction."""
    up, q, discount = _lattice(n_steps)
    value = np.zeros(n_steps + 2)
    for t in range(n_steps, -1, -1):
        j = np.arange(t + 1)
        paid = 40.0 - 36.0 * up ** (2.0 * j - t)
        value = np.maximum(paid, discount * (q * value[1 : t + 2] + (1.0 - q) * value[: t + 1]))
        value = np.maximum(value, 0.0)
    return float(value[0])


def _lattice(n_steps: int) -> tuple[float, float, float]:
    """Factor of a step up, its probability, discount of a step: 20 % volatility, 6 % interest."""
    step = 1.0 / n_steps
    up, growth = math.exp(0.2 * math.sqrt(step)), math.exp(0.06 * step)
    return up, (growth - 1.0 / up) / (up - 1.0 / up), 1.0 / growth
