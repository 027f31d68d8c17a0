"""The exact value of an instance, without the package: its scenario tree as one linear program.

Nested risk measures are written by supporting rows: the tree is solved, each decision's measure is
evaluated at the values found, and rows that are broken are added until none is. That covers tails
(a finite number of rows) and the entropic measure (to a tolerance).
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import linprog

from experiments.fuzz.instances import Instance, Program
from sddp.arrays import Floats

# Supporting rows that are broken by less, relative to the value, are not added.
TOLERANCE = 1e-9
MOST_ROUNDS = 200
LP_TOLERANCE = 1e-10


class Exact(NamedTuple):
    """Least cost in base units, and the largest stage cost in absolute value."""

    value: float
    largest_cost: float


def adjusted(
    measure: list[tuple[float, float]] | float, p: Floats, z: Floats
) -> tuple[Floats, float]:
    """Weights and offset with which a measure of costs `z` is ``q @ z + offset``."""
    if isinstance(measure, float):
        exponent = measure * (z - z.max())
        q = p * np.exp(exponent)
        total = float(q.sum())
        q /= total
        return q, float(z.max()) + float(np.log(total)) / measure - float(q @ z)
    q = np.zeros_like(p)
    order = np.argsort(-z, kind="stable")
    before = np.cumsum(p[order]) - p[order]
    for weight, tail in measure:
        if tail <= 0.0:
            q[order[0]] += weight
        else:
            q[order] += weight * np.clip(tail - before, 0.0, p[order]) / min(tail, p.sum())
    return q, 0.0


@dataclass
class _Tree:
    """Columns and rows of the program that grows."""

    cost: list[float] = field(default_factory=list)
    bounds: list[tuple[float, float]] = field(default_factory=list)
    upper: list[tuple[dict[int, float], float]] = field(default_factory=list)
    equal: list[tuple[dict[int, float], float]] = field(default_factory=list)
    # Column of the cost-to-go, columns of the values (-1: the process stops), probabilities.
    measures: list[tuple[int, list[int], Floats, bool]] = field(default_factory=list)
    # Column where a stage begins, and its program.
    stages: list[tuple[int, Program]] = field(default_factory=list)

    def column(self, lower: float, upper: float) -> int:
        self.cost.append(0.0)
        self.bounds.append((lower, upper))
        return len(self.cost) - 1

    def solve(self) -> tuple[float, Floats] | None:
        """Value and columns; None where it is infeasible."""
        blocks: list[Any] = []
        for rows in (self.upper, self.equal):
            data = [(i, j, v) for i, (row, _) in enumerate(rows) for j, v in row.items()]
            i, j, v = zip(*data, strict=True) if data else ((), (), ())
            blocks.append(sp.csr_array((v, (i, j)), shape=(len(rows), len(self.cost))))
        result = linprog(
            np.array(self.cost),
            A_ub=blocks[0],
            b_ub=np.array([side for _, side in self.upper]),
            A_eq=blocks[1],
            b_eq=np.array([side for _, side in self.equal]),
            bounds=self.bounds,
            method="highs",
            options={
                "primal_feasibility_tolerance": LP_TOLERANCE,
                "dual_feasibility_tolerance": LP_TOLERANCE,
            },
        )
        if result.status == 2:
            return None
        if result.status != 0 or result.fun is None or result.x is None:
            raise ArithmeticError(f"the oracle's program ended: {result.message}")
        return float(result.fun), result.x


def exact_value(instance: Instance) -> Exact | None:
    """Value of an instance in base units; None where no policy is feasible.

    Raises
    ------
    ArithmeticError
        The oracle itself fails: the instance says nothing.
    """
    tree = _Tree()
    root = tree.column(-np.inf, np.inf)
    tree.cost[root] = 1.0
    _follow(tree, instance, "root", root, None)
    for _ in range(MOST_ROUNDS):
        solved = tree.solve()
        if solved is None:
            return None
        value, x = solved
        if not _add_broken(tree, instance, x):
            costs = [
                abs(float(p.cost @ x[at : at + len(p.cost)]) + p.fixed) for at, p in tree.stages
            ]
            return Exact(value, max(costs))
    raise ArithmeticError("the oracle's supporting rows did not end")


def _follow(
    tree: _Tree, instance: Instance, name: Hashable, theta: int, outgoing: int | None
) -> None:
    """All that may follow a decision whose outgoing state starts at a column."""
    values, weights = [], []
    for (source, child), p in instance.arcs.items():
        if source != name or p <= 0.0:
            continue
        place = instance.places[child]
        for program, q in zip(place.programs, place.probabilities, strict=True):
            arrivals = list(zip(place.arrivals, place.arrival_probabilities, strict=True))
            for arrival, r in arrivals if outgoing is not None else [(None, 1.0)]:
                values.append(_stage(tree, instance, child, program, arrival, outgoing))
                weights.append(p * q * r)
    rest = 1.0 - sum(weights)
    if rest > 1e-9:
        values.append(-1)
        weights.append(rest)
    tree.measures.append((theta, values, np.array(weights), outgoing is None))
    _add_row(tree, instance, len(tree.measures) - 1, np.zeros(len(values)))


def _stage(
    tree: _Tree,
    instance: Instance,
    name: Hashable,
    program: Program,
    arrival: tuple[Floats, Floats] | None,
    outgoing: int | None,
) -> int:
    """Columns and rows of one decision; the column of its value."""
    n = instance.n_states
    first = len(tree.cost)
    for lower, upper in zip(program.lower, program.upper, strict=True):
        tree.column(float(lower), float(upper))
    for i in range(len(program.rhs)):
        row = {first + j: v for j, v in enumerate(program.rows[i].tolist()) if v != 0.0}
        side = float(program.rhs[i])
        for j in range(n):
            entry = float(program.rows_in[i, j])
            if outgoing is None:
                side -= entry * float(instance.initial[j])
            elif entry != 0.0:
                assert arrival is not None
                row[outgoing + j] = row.get(outgoing + j, 0.0) + entry * float(arrival[0][j])
                side -= entry * float(arrival[1][j])
        (tree.equal if program.equal[i] else tree.upper).append((row, side))
    tree.stages.append((first, program))
    value = tree.column(-np.inf, np.inf)
    row = {first + j: -v for j, v in enumerate(program.cost.tolist()) if v != 0.0}
    row[value] = 1.0
    if any(source == name and p > 0.0 for (source, _), p in instance.arcs.items()):
        theta = tree.column(-np.inf, np.inf)
        row[theta] = -1.0
        tree.equal.append((row, program.fixed))
        _follow(tree, instance, name, theta, first)
    else:
        tree.equal.append((row, program.fixed))
    return value


def _add_broken(tree: _Tree, instance: Instance, x: Floats) -> bool:
    broken = False
    for at, (theta, columns, p, is_root) in enumerate(tree.measures):
        z = np.array([0.0 if c < 0 else x[c] for c in columns])
        q, offset = adjusted(_measure(instance, is_root), p, z)
        wanted = float(q @ z) + offset
        if x[theta] < wanted - TOLERANCE * max(1.0, abs(wanted)):
            _add_row(tree, instance, at, z)
            broken = True
    return broken


def _add_row(tree: _Tree, instance: Instance, at: int, z: Floats) -> None:
    theta, columns, p, is_root = tree.measures[at]
    q, offset = adjusted(_measure(instance, is_root), p, z)
    row = {column: float(weight) for column, weight in zip(columns, q, strict=True) if column >= 0}
    tree.upper.append((row | {theta: -1.0}, -offset))


def _measure(instance: Instance, is_root: bool) -> list[tuple[float, float]] | float:
    return instance.measure if not is_root or instance.root_risk else [(1.0, 1.0)]
