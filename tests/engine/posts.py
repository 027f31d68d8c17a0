"""Solve fxm problems of the public POSTS collection: ``python -m tests.engine.posts FOLDER``.

The folder holds ``fxm.cor``, ``fxm-<periods>.tim`` and ``fxm-<periods>-<n>.sto`` (SMPS; the files
carry no licence, so they are not kept here). Each problem is trained and solved as an extensive
form. Published: 18,416.759 for fxm2_16 and, to 1e-4, 18,417.066 for fxm2_6 (A. Felt, Test-Problem
Collection for Stochastic Linear Programming); 18,416.686 and 18,615.932 for fxm2_6 and fxm3_6
(D. Holmes, POSTS).
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pyomo.environ as pyo

import sddp

PUBLISHED = {"fxm-2-6": 18416.7, "fxm-2-16": 18416.759, "fxm-3-6": 18615.9}


def sections(path: Path) -> dict[str, list[list[str]]]:
    """Lines of an SMPS file by section, split into fields."""
    found: dict[str, list[list[str]]] = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("*"):
            if not line.startswith(" "):
                current = found.setdefault(line.split()[0], [])
            else:
                current.append(line.split())
    return found


class Fxm:
    """One problem as a chain of stages; right-hand sides are the only noise."""

    def __init__(self, folder: Path, name: str) -> None:
        core = sections(folder / "fxm.cor")
        periods = [r[:2] for r in sections(folder / f"{name.rsplit('-', 1)[0]}.tim")["PERIODS"]]
        senses = {row: kind for kind, row in core["ROWS"]}
        self.objective = next(row for row, kind in senses.items() if kind == "N")
        self.senses = {row: kind for row, kind in senses.items() if kind != "N"}
        self.entries: dict[str, dict[str, float]] = {row: {} for row in senses}
        columns: dict[str, None] = {}
        for column, *pairs in core["COLUMNS"]:
            columns.setdefault(column)
            for row, value in zip(pairs[::2], pairs[1::2], strict=True):
                self.entries[row][column] = float(value)
        self.side = {
            row: float(value)
            for _, *pairs in core["RHS"]
            for row, value in zip(pairs[::2], pairs[1::2], strict=True)
        }
        self.n_stages = len(periods)
        self.period_of_column = self._periods(list(columns), [column for column, _ in periods])
        rows = [row for row in senses if row != self.objective]
        first_nodes = [rows[0], *(row for _, row in periods[1:])]
        self.period_of_row = self._periods(rows, first_nodes)
        self.noise = self._noise(sections(folder / f"{name}.sto")["INDEP"])
        self.carried = [c for c in columns if self._last_use(c) > self.period_of_column[c]]

    @staticmethod
    def _periods(names: list[str], first_nodes: list[str]) -> dict[str, int]:
        starts = [names.index(first) for first in first_nodes]
        return {n: int(np.searchsorted(starts, i, "right")) - 1 for i, n in enumerate(names)}

    def _noise(self, lines: list[list[str]]) -> list[dict[str, list[tuple[float, float]]]]:
        noise: list[dict[str, list[tuple[float, float]]]] = [{} for _ in range(self.n_stages)]
        for _, row, value, probability in (line[:4] for line in lines):
            found = noise[self.period_of_row[row]].setdefault(row, [])
            found.append((float(value), float(probability)))
        return noise

    def _last_use(self, column: str) -> int:
        rows = (r for r, entries in self.entries.items() if column in entries)
        return max(self.period_of_row[row] for row in rows if row != self.objective)

    def stage(self, t: int) -> sddp.Stage:
        """Rows and columns of one period, and what earlier periods hand to it."""
        own = [c for c, period in self.period_of_column.items() if period == t]
        m = pyo.ConcreteModel()
        m.x = pyo.Var(own, domain=pyo.NonNegativeReals)
        m.before, m.after = pyo.Var(self.carried), pyo.Var(self.carried)
        value = {**{c: m.before[c] for c in self.carried}, **{c: m.x[c] for c in own}}
        noise = self.noise[t]
        m.side = pyo.Param(list(noise) or ["none"], mutable=True, initialize=0.0)
        m.rows = pyo.ConstraintList()
        for row, sense in self.senses.items():
            if self.period_of_row[row] == t:
                left = sum(a * value[c] for c, a in self.entries[row].items())
                right = m.side[row] if row in noise else self.side.get(row, 0.0)
                m.rows.add({"E": left == right, "L": left <= right, "G": left >= right}[sense])
        for column in self.carried:  # a column that nobody needs any more is handed on as 0
            known = self.period_of_column[column] <= t < self._last_use(column)
            m.rows.add(m.after[column] == (value[column] if known else 0.0))
        costs = self.entries[self.objective]
        m.cost = pyo.Objective(expr=sum(costs.get(c, 0.0) * m.x[c] for c in own))
        realisations, weights = [], []
        for combination in itertools.product(*noise.values()):
            pairs = zip(noise, combination, strict=True)
            realisations.append({f"side[{row}]": value for row, (value, _) in pairs})
            weights.append(np.prod([p for _, p in combination]))
        known = sddp.Noise(realisations, np.array(weights) / sum(weights)) if noise else None
        return sddp.Stage(m, {"x": sddp.State(m.before, m.after, initial=0.0)}, noise=known)

    def problem(self) -> sddp.Problem:
        """A linear graph; all costs and columns are non-negative."""
        graph = sddp.linear_graph(self.n_stages)
        return sddp.Problem(graph, lambda node: self.stage(node.stage), cost_to_go_bound=0.0)


def main(folder: Path, names: list[str]) -> None:
    """Print the bound of training beside the extensive form and the published value."""
    for name in names or [f"fxm-{t}-{n}" for t in (2, 3, 4) for n in (6, 16)]:
        problem = Fxm(folder, name).problem()
        rng = np.random.default_rng(0)
        result = sddp.train(problem, rng=rng, stopping=sddp.Iterations(40), progress=False)
        try:
            exact = f"{sddp.extensive_form(problem).solve().value:.4f}"
        except sddp.errors.SddpError as error:
            exact = type(error).__name__
        published = PUBLISHED.get(name, "none")
        print(f"{name}: bound {result.bound:.4f}, extensive {exact}, published {published}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
