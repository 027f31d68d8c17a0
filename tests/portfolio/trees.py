"""Allocation over finitely many shocks, answered by whole linear programmes of scipy.

Independent of the package: CVaR is written out with one row per outcome (Rockafellar and Uryasev,
2000), and every history of shocks is a node of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from tests.oracles import solve_lp


@dataclass(frozen=True)
class Problem:
    """Two assets, one factor, three shocks; terminal wealth from 1 in cash."""

    growth: np.ndarray
    factors: np.ndarray
    probabilities: np.ndarray
    return_intercepts: np.ndarray
    return_loadings: np.ndarray
    factor_intercept: float
    factor_slope: float
    cash_return: float
    start: float
    n_decisions: int
    confidence: float
    limit: float
    cost: float

    def returns(self, z):
        """Excess returns of every shock given the factor, (n_shocks, n_assets)."""
        median = np.exp(self.return_intercepts + self.return_loadings * z)
        return median * self.growth - 1.0 - self.cash_return

    def gross(self, z):
        """Gross excess returns, cash first."""
        returns = self.returns(z)
        return np.column_stack([np.ones(len(returns)), 1.0 + returns])

    def after(self, z, shock):
        """The factor that follows."""
        return self.factor_intercept + self.factor_slope * z + self.factors[shock]

    def histories(self, length):
        """All sequences of shocks."""
        return itertools.product(range(len(self.factors)), repeat=length)

    def factor(self, history):
        """The factor at the end of a history."""
        z = self.start
        for shock in history:
            z = self.after(z, shock)
        return z

    def probability(self, history):
        """Of a history."""
        return float(np.prod([self.probabilities[s] for s in history]))


EXAMPLE = Problem(
    growth=np.array([[1.09, 1.20], [1.00, 0.96], [0.93, 0.88]]),
    factors=np.array([-0.5, 0.1, 0.6]),
    probabilities=np.array([0.35, 0.4, 0.25]),
    return_intercepts=np.array([0.010, 0.018]),
    return_loadings=np.array([0.02, 0.06]),
    factor_intercept=0.05,
    factor_slope=0.7,
    cash_return=0.001,
    start=0.3,
    n_decisions=3,
    confidence=0.6,
    limit=0.04,
    cost=0.006,
)


def with_cost(cost):
    """The example at another cost of trading."""
    return replace(EXAMPLE, cost=cost)


@dataclass(frozen=True)
class Node:
    """A decision: where its holdings come from, what they earned, what they may earn."""

    parent: int | None
    arrival: np.ndarray
    returns: np.ndarray
    reward: np.ndarray


def tree_optimum(problem):
    """Largest expected terminal wealth of all policies without foresight."""
    nodes, numbers = [], {}
    for t in range(problem.n_decisions):
        for history in problem.histories(t):
            z, parent, arrival = problem.factor(history), None, np.ones(0)
            if t:
                parent = numbers[history[:-1]]
                arrival = problem.gross(problem.factor(history[:-1]))[history[-1]]
            last = t == problem.n_decisions - 1
            reward = problem.probability(history) * problem.probabilities @ problem.gross(z)
            numbers[history] = len(nodes)
            nodes.append(Node(parent, arrival, problem.returns(z), reward * last))
    return largest(problem, nodes)


def path_optimum(problem, path, penalties):
    """Largest terminal wealth less penalties where the whole path of shocks is known."""
    nodes = []
    for t, shock in enumerate(path):
        z = problem.factor(path[:t])
        arrival = problem.gross(problem.factor(path[: t - 1]))[path[t - 1]] if t else np.ones(0)
        last = t == problem.n_decisions - 1
        reward = problem.gross(z)[shock] * last - penalties[t]
        nodes.append(Node(t - 1 if t else None, arrival, problem.returns(z), reward))
    return largest(problem, nodes)


def largest(problem, nodes):
    """``max sum reward.u`` over all nodes: balances, costs, and CVaR outcome by outcome."""
    n, n_outcomes = problem.growth.shape[1], len(problem.factors)
    width = 3 * n + 2 + n_outcomes
    columns = [k * width + np.arange(width) for k in range(len(nodes))]
    rows = []
    for k, node in enumerate(nodes):
        cash, u, b, d, level, excess = np.split(
            columns[k], [1, n + 1, 2 * n + 1, 3 * n + 1, 3 * n + 2]
        )
        cost, before = problem.cost, {}
        if node.parent is not None:
            before = dict(zip(columns[node.parent][: n + 1], node.arrival, strict=True))
        came = list(before.items())
        own = came[:1]
        balance = {cash[0]: 1.0, **dict.fromkeys(b, 1.0 + cost), **dict.fromkeys(d, cost - 1.0)}
        balance |= {i: -a for i, a in own}
        rows.append((balance, 1.0 * (node.parent is None), True))
        for i in range(n):
            moved = {u[i]: 1.0, b[i]: -1.0, d[i]: 1.0}
            moved |= {j: -a for j, a in came[i + 1 : i + 2]}
            rows.append((moved, 0.0, True))
        risk = {level[0]: 1.0} | {
            e: p / (1.0 - problem.confidence)
            for e, p in zip(excess, problem.probabilities, strict=True)
        }
        risk |= dict.fromkeys([*b, *d], cost)
        risk |= {i: -problem.limit * a for i, a in before.items()}
        rows.append((risk, problem.limit * (node.parent is None), False))
        for o in range(n_outcomes):
            earned = dict(zip(u, -node.returns[o], strict=True))
            rows.append(({**earned, level[0]: -1.0, excess[o]: -1.0}, 0.0, False))
    matrix = np.zeros((len(rows), width * len(nodes)))
    for r, (terms, _, _) in enumerate(rows):
        matrix[r, list(terms)] = list(terms.values())
    upper = np.array([side for _, side, _ in rows])
    lower = np.where([equal for _, _, equal in rows], upper, -np.inf)
    cost, least = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    for k, node in enumerate(nodes):
        cost[columns[k][: n + 1]] = -node.reward
        least[columns[k][3 * n + 1]] = -np.inf
    return -solve_lp(cost, matrix, lower, upper, least, np.full(len(cost), np.inf))[0]


def frictionless_growth(problem, history):
    """Growth of wealth to the end without costs, by one-period programmes at exact factors."""
    if len(history) == problem.n_decisions:
        return 1.0
    z = problem.factor(history)
    later = [frictionless_growth(problem, (*history, s)) for s in range(len(problem.factors))]
    node = Node(
        None, np.ones(0), problem.returns(z), (problem.probabilities * later) @ problem.gross(z)
    )
    return largest(replace(problem, cost=0.0), [node])


def ideal_penalties(problem, path):
    """Martingale differences of the exact cost-free value along a path, (n_decisions, n + 1)."""
    penalties = []
    for t, shock in enumerate(path):
        gross = problem.gross(problem.factor(path[:t]))
        later = np.array(
            [frictionless_growth(problem, (*path[:t], s)) for s in range(len(problem.factors))]
        )
        value = gross * later[:, None]
        penalties.append(value[shock] - problem.probabilities @ value)
    return np.array(penalties)
