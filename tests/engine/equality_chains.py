"""Random chains of equality rows, with noise, redundant and inconsistent rows.

``python -m tests.engine.equality_chains 10000 [FIRST]`` compares training with the extensive form
on that many; a few hundred are part of the tests. Coefficients are decimals whose sums cancel up to
rounding (0.1 + 0.2 - 0.3), and redundant rows are sums of others in other units.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pyomo.environ as pyo
from scipy.optimize import linprog

import sddp
from sddp.errors import InfeasibleProblem, SolverError
from tests.engine.support import Reaches, train

DECIMALS = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 1.0, -0.1, -0.3, -0.7, -1.0, 3.0, 0.01])
UNITS = np.array([0.1, 10.0, -0.3, 1e3, 1e-3, 1 / 3, -0.0254])
REDUNDANT, INCONSISTENT = 0.5, 0.05


class Chain:
    """One random problem, written again for each node from the same draws."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.n_stages = int(rng.integers(1, 4))
        self.seeds = rng.integers(2**32, size=self.n_stages)
        self.noise_in = str(rng.choice(["none", "side", "matrix", "cost", "bound"]))
        self.inconsistent = bool(rng.random() < INCONSISTENT)
        self.maximises = bool(rng.random() < 0.3)

    def problem(self) -> sddp.Problem:
        """A linear graph of the stages."""
        bound = 1e6 if self.maximises else -1e6
        graph = sddp.linear_graph(self.n_stages)
        return sddp.Problem(graph, lambda node: self.stage(node.stage), cost_to_go_bound=bound)

    def stage(self, t: int) -> sddp.Stage:
        """Bounded base variables; every other one is defined by a chain of equality rows."""
        rng = np.random.default_rng(int(self.seeds[t]))
        m = pyo.ConcreteModel()
        m.before, m.after = pyo.Var([0, 1]), pyo.Var([0, 1], bounds=(0, 10))
        m.p, m.q = pyo.Param(mutable=True, initialize=1.0), pyo.Param(mutable=True, initialize=0.5)
        n_base, n_chain = (int(n) for n in rng.integers(2, 6, 2))
        m.x = pyo.Var(range(n_base), bounds=(0, float(rng.integers(1, 9))))
        m.y = pyo.Var(range(n_chain))
        m.shortage, m.surplus = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(2))
        m.up, m.down = (pyo.Var([0, 1], domain=pyo.NonNegativeReals) for _ in range(2))
        rows = self._chain(m, rng)
        if rng.random() < REDUNDANT or self.inconsistent:
            rows += self._dependent(rows, rng)
        order = rng.permutation(len(rows))
        m.rows = pyo.ConstraintList()
        for i in order:
            left, right = rows[i]
            m.rows.add(left == right)
        self._bound_chain(m, rng)
        side = m.p if self.noise_in == "side" else 1.0
        factor = m.p if self.noise_in == "matrix" else 1.0
        total = sum(factor * float(rng.choice(DECIMALS)) * m.y[i] for i in m.y)
        m.demand = pyo.Constraint(expr=total + m.shortage - m.surplus == 3.0 * side)
        for s in (0, 1):
            m.rows.add(m.after[s] == m.y[s % n_chain] + m.up[s] - m.down[s])
        cost = sum(float(rng.uniform(0, 2)) * m.x[i] for i in m.x)
        cost += sum(float(rng.choice(DECIMALS)) * m.y[i] for i in m.y)
        penalty = 20.0 * (m.q if self.noise_in == "cost" else 1.0)
        penalties = m.shortage + m.surplus + m.up[0] + m.up[1] + m.down[0] + m.down[1]
        if self.noise_in == "bound":
            m.x[0].setub(2.0 * m.p)
        cost += penalty * penalties + 0.1 * m.after[0]
        sense = pyo.maximize if self.maximises else pyo.minimize
        m.cost = pyo.Objective(expr=-cost if self.maximises else cost, sense=sense)
        support = [{"p": 1.0, "q": 0.5}, {"p": 0.6, "q": 0.7}, {"p": 1.7, "q": 0.4}]
        key = {"cost": "q"}.get(self.noise_in, "p")
        known = None if self.noise_in == "none" else sddp.Noise([{key: r[key]} for r in support])
        return sddp.Stage(m, {"s": sddp.State(m.before, m.after, initial=2.0)}, noise=known)

    def _chain(self, m: Any, rng: np.random.Generator) -> list[tuple[Any, Any]]:
        """``y_i`` times a decimal equals decimals times base variables, states and earlier ones."""
        rows: list[tuple[Any, Any]] = []
        for i in m.y:
            others = [*m.x.values(), *(m.y[j] for j in range(i)), *m.before.values()]
            chosen = rng.choice(len(others), size=min(len(others), 3), replace=False)
            pivot = float(rng.choice([1.0, 1.0, -1.0, 0.1, 10.0]))
            left = pivot * m.y[i] - sum(float(rng.choice(DECIMALS)) * others[k] for k in chosen)
            side = m.p if self.noise_in == "side" and rng.random() < 0.3 else 1.0
            rows.append((left, side * float(rng.choice(DECIMALS))))
        return rows

    def _dependent(
        self, rows: list[tuple[Any, Any]], rng: np.random.Generator
    ) -> list[tuple[Any, Any]]:
        """Sums of the rows in other units; a side that is wrong where this is wanted."""
        found = []
        for _ in range(int(rng.integers(1, 3))):
            weights = rng.choice(UNITS, size=len(rows))
            pairs = list(zip(weights.tolist(), rows, strict=True))
            miss = float(rng.choice([-0.5, 0.5])) if self.inconsistent else 0.0
            left = sum(weight * row for weight, (row, _) in pairs)
            found.append((left, sum(weight * side for weight, (_, side) in pairs) + miss))
        return found

    def _bound_chain(self, m: Any, rng: np.random.Generator) -> None:
        """Loose bounds, which the base variables imply or not, kept by every feasible point."""
        for i in m.y:
            if rng.random() < 0.5:
                m.y[i].setlb(-1e5)
            if rng.random() < 0.5:
                m.y[i].setub(1e5)


def exact_value(problem: sddp.Problem) -> float:
    """Value of the extensive form; infinity where it is infeasible.

    HiGHS's presolve calls some feasible problems with redundant rows infeasible or unknown: solved
    again without it, by scipy.
    """
    form = sddp.extensive_form(problem)
    try:
        return form.solve().value
    except (InfeasibleProblem, SolverError):
        arrays = form._lp.arrays()
    equal = arrays.row_lower == arrays.row_upper
    assert np.isfinite(arrays.row_lower).all()  # rows are equalities, or "at least"
    result = linprog(
        arrays.cost,
        A_ub=-arrays.matrix[~equal],
        b_ub=-arrays.row_lower[~equal],
        A_eq=arrays.matrix[equal],
        b_eq=arrays.row_lower[equal],
        bounds=np.column_stack([arrays.column_lower, arrays.column_upper]),
        method="highs-ds",
        options={"presolve": False},
    )
    if result.status not in (0, 2):  # solved, infeasible
        raise SolverError(result.message)
    return problem.sign * result.fun if result.status == 0 else np.inf


def miss(seed: int) -> float:
    """Distance of training from the extensive form, relative to max(1, |value|).

    Zero where both say that the problem is infeasible, infinity where one of them does.
    """
    problem = Chain(seed).problem()
    exact = exact_value(problem)
    try:
        bound = train(problem, Reaches(exact) | sddp.Iterations(40), seed).bound
    except InfeasibleProblem:
        bound = np.inf
    if np.isinf(exact) or np.isinf(bound):
        return 0.0 if exact == bound else np.inf
    return abs(bound - exact) / max(1.0, abs(exact))


def main(n: int, first: int = 0) -> None:
    """Print every seed whose two values differ by more than 1e-7, and their number."""
    wrong = 0
    for seed in range(first, first + n):
        try:
            found: float | str = miss(seed)
        except sddp.errors.SddpError as error:
            found = f"{type(error).__name__}: {error}"
        if isinstance(found, str) or found > 1e-7:
            wrong += 1
            print(seed, found, flush=True)
    print(f"{wrong} of {n} wrong")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
