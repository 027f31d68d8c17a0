"""Independent answers: linear programs from plain arrays, solved by `scipy.optimize.linprog`.

Nothing here imports the package. A multistage problem is written as `Tree`: numbers only. Its
value is that of one linear program over all histories, with nested tail means by the linear
program of Rockafellar and Uryasev (2002).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

# Pairs of weight and tail mass: (1, 1) is the expectation, (1, 0) the worst case.
Mixture = Sequence[tuple[float, float]]
NEUTRAL: Mixture = ((1.0, 1.0),)


@dataclass(frozen=True)
class StageArrays:
    """``min cost.z + fixed`` over ``rows_in x + rows z <= rhs`` (``=`` where `equal`), bounds.

    `x` is the incoming state; the first ``len(x)`` entries of `z` are the outgoing one.
    """

    cost: np.ndarray
    fixed: float
    rows_in: np.ndarray
    rows: np.ndarray
    rhs: np.ndarray
    equal: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True)
class TreeNode:
    """Noise seen before the decision, and how the state arrives (noise after the one before).

    `arrivals` are pairs (A, b): the state handed on as y arrives as A y + b.
    """

    realizations: Sequence[StageArrays]
    probabilities: np.ndarray
    arrivals: Sequence[tuple[np.ndarray, np.ndarray]]
    arrival_probabilities: np.ndarray


@dataclass(frozen=True)
class Tree:
    """Nodes, arcs with probabilities (what is missing to 1 stops with value 0) and risk."""

    nodes: Mapping[Hashable, TreeNode]
    arcs: Mapping[tuple[Hashable, Hashable], float]
    initial: np.ndarray
    risk: Mapping[Hashable, Mixture] = field(default_factory=dict)
    root_risk: Mixture = NEUTRAL
    root: Hashable = "root"


def tree_value(tree: Tree) -> float:
    """Least cost of the whole problem."""
    lp = _Lp()
    values, weights = [], []
    for (source, name), p in tree.arcs.items():
        if source == tree.root and p > 0.0:
            node = tree.nodes[name]
            for w, q in enumerate(node.probabilities):
                values.append(_grow(lp, tree, name, w, state=tree.initial))
                weights.append(p * q)
    lp.cost[_risk_column(lp, values, weights, tree.root_risk)] = 1.0
    return lp.solve()


def state_value(tree: Tree, name: Hashable, state: np.ndarray, noise: int) -> float:
    """Least cost from a node on, at an incoming state and a realization of the noise there."""
    lp = _Lp()
    lp.cost[_grow(lp, tree, name, noise, state=state)] = 1.0
    return lp.solve()


def _grow(lp, tree, name, noise, state=None, arrival=None, before=None):
    """Columns and rows of a node and everything after it; the column of its value."""
    node = tree.nodes[name]
    stage = node.realizations[noise]
    n_states = stage.rows_in.shape[1]
    incoming = lp.columns(n_states, -np.inf, np.inf)
    for i in range(n_states):
        if state is not None:
            lp.row({incoming[i]: 1.0}, state[i], state[i])
        else:
            scale, shift = node.arrivals[arrival]
            lp.row({incoming[i]: 1.0, **_terms(before, -scale[i])}, shift[i], shift[i])
    z = lp.columns(len(stage.cost), stage.lower, stage.upper)
    for i in range(len(stage.rhs)):
        row = _terms(incoming, stage.rows_in[i]) | _terms(z, stage.rows[i])
        lp.row(row, stage.rhs[i] if stage.equal[i] else -np.inf, stage.rhs[i])
    value = lp.columns(1, -np.inf, np.inf)[0]
    row = {value: 1.0, **_terms(z, -stage.cost)}
    values, weights = _outcomes(lp, tree, name, z[:n_states])
    if values:
        theta = _risk_column(lp, values, weights, tree.risk.get(name, NEUTRAL))
        row[theta] = -1.0
    lp.row(row, stage.fixed, stage.fixed)
    return value


def _outcomes(lp, tree, name, outgoing):
    """Value columns and joint weights of all that can follow a decision."""
    values, weights, left = [], [], 1.0
    for (source, child), p in tree.arcs.items():
        if source != name or p == 0.0:
            continue
        left -= p
        node = tree.nodes[child]
        for w, q in enumerate(node.probabilities):
            for e, r in enumerate(node.arrival_probabilities):
                values.append(_grow(lp, tree, child, w, arrival=e, before=outgoing))
                weights.append(p * q * r)
    if values and left > 1e-9:
        values.append(lp.columns(1, 0.0, 0.0)[0])
        weights.append(left)
    return values, weights


def _risk_column(lp, values, weights, mixture):
    """A column at or above the mixture of tail means; tight where it is minimized."""
    theta = lp.columns(1, -np.inf, np.inf)[0]
    row = {theta: 1.0}
    for weight, tail in mixture:
        level = lp.columns(1, -np.inf, np.inf)[0]
        row[level] = -weight
        for value, p in zip(values, weights, strict=True):
            if p == 0.0:
                continue
            if tail == 0.0:
                lp.row({level: 1.0, value: -1.0}, 0.0, np.inf)
                continue
            excess = lp.columns(1, 0.0, np.inf)[0]
            lp.row({excess: 1.0, value: -1.0, level: 1.0}, 0.0, np.inf)
            row[excess] = -weight * p / tail
    lp.row(row, 0.0, np.inf)
    return theta


def _terms(columns, coefficients):
    return {c: a for c, a in zip(columns, coefficients, strict=True) if a != 0.0}


class _Lp:
    """Collects a linear program."""

    def __init__(self):
        self.cost, self._lower, self._upper, self._rows = {}, [], [], []

    def columns(self, n, lower, upper):
        """Positions of `n` new columns."""
        self._lower.extend(np.broadcast_to(lower, n))
        self._upper.extend(np.broadcast_to(upper, n))
        return list(range(len(self._lower) - n, len(self._lower)))

    def row(self, terms, lower, upper):
        """Add ``lower <= terms <= upper``."""
        self._rows.append((terms, lower, upper))

    def solve(self):
        """Optimal value."""
        cost = np.zeros(len(self._lower))
        cost[list(self.cost)] = list(self.cost.values())
        entries = [(i, j, a) for i, (t, _, _) in enumerate(self._rows) for j, a in t.items()]
        i, j, a = zip(*entries, strict=True)
        matrix = sp.csr_array((a, (i, j)), shape=(len(self._rows), len(cost)))
        sides = np.array([(lower, upper) for _, lower, upper in self._rows])
        return solve_lp(cost, matrix, *sides.T, np.array(self._lower), np.array(self._upper))[0]


def solve_lp(cost, matrix, row_lower, row_upper, lower, upper, offset=0.0):
    """Optimal value and solution of ``min cost.z + offset`` with two-sided rows and bounds.

    Raises `ValueError` with scipy's words where there is no optimum.
    """
    matrix = sp.csr_array(matrix)
    equal = row_lower == row_upper
    at_most = ~equal & np.isfinite(row_upper)
    at_least = ~equal & np.isfinite(row_lower)
    result = linprog(
        cost,
        A_ub=sp.vstack([matrix[at_most], -matrix[at_least]]),
        b_ub=np.concatenate([row_upper[at_most], -row_lower[at_least]]),
        A_eq=matrix[equal],
        b_eq=row_upper[equal],
        bounds=np.column_stack([lower, upper]),
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if result.status != 0:
        raise ValueError(result.message)
    return result.fun + offset, result.x


def tail_mean(probabilities, costs, tail):
    """Mean of the largest costs with probability mass `tail`, as a linear program.

    ``min level + sum p excess / tail`` over ``excess >= cost - level``, ``excess >= 0``.
    """
    n = len(costs)
    result = linprog(
        np.concatenate([[1.0], np.asarray(probabilities) / tail]),
        A_ub=np.hstack([-np.ones((n, 1)), -np.eye(n)]),
        b_ub=-np.asarray(costs),
        bounds=[(None, None), *[(0.0, None)] * n],
        method="highs",
    )
    return result.fun
