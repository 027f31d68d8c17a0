"""The linear programme of one node: solved for a state and a noise, refined until exact.

Rows of the cost-to-go, of the row generator and of feasibility cuts are written over the
declared columns when a solution breaks them; the reduction carries them to the LP's columns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats
from sddp.engine.compile import CompiledStage
from sddp.engine.cost_to_go import CostToGo, Rows
from sddp.engine.lazy_rows import LazyRows, RowPool, RowTable
from sddp.engine.lp_inputs import NoiseInput, StateInput
from sddp.engine.phase_one import FeasibilityCut, feasibility_cut
from sddp.engine.reduction import ReducedStage
from sddp.errors import SolverError
from sddp.lp import FEASIBILITY_TOLERANCE, Basis, Effort, LinearProgram, Status

# Rounds of "solve, find broken rows, solve": a guard on a loop that ends by itself.
MAXIMAL_ROUNDS = 1_000


@dataclass(frozen=True, eq=False)
class StageSolution:
    """Solution of a node's LP at one incoming state and noise, in engine units (costs).

    Attributes
    ----------
    value : float
        Stage cost plus cost-to-go.
    theta : float
        The cost-to-go column.
    columns : array
        Values of the declared columns.
    outgoing : array
        State handed on (empty where nothing is).
    slope : array
        A subgradient of `value` with respect to the incoming state.
    """

    value: float
    theta: float
    columns: Floats
    outgoing: Floats
    slope: Floats


@dataclass
class Work:
    """Counters shared by all nodes of a training or policy."""

    lp: Effort = field(default_factory=Effort)
    cost_to_go_seconds: float = 0.0
    generator_seconds: float = 0.0
    warnings: int = 0


class NodeProblem:
    """LP of one node, with its cost-to-go.

    Parameters
    ----------
    compiled, reduced :
        The stage; shared by nodes that were given the same `Stage` object.
    cost_to_go : CostToGo or None
        None where nothing follows.
    theta_lower : float
        Bound on the cost-to-go column; may be minus infinity.
    unit : float
        See `LinearProgram`.
    name : str
        For error messages.
    work : Work
        Where effort is counted.
    row_pool : RowPool or None
        Generated rows, shared with the nodes whose generator has the same key.
    """

    def __init__(
        self,
        compiled: CompiledStage,
        reduced: ReducedStage,
        cost_to_go: CostToGo | None,
        *,
        theta_lower: float,
        unit: float,
        name: str,
        work: Work,
        row_pool: RowPool | None,
    ) -> None:
        self.compiled, self.reduced, self.cost_to_go = compiled, reduced, cost_to_go
        self.name, self.work, self.theta_lower = name, work, theta_lower
        self.lp = LinearProgram(reduced.arrays, unit, work.lp)
        self.n_theta = cost_to_go.n_columns if cost_to_go else 0
        if self.n_theta:
            self.lp.add_columns(1, 1.0, theta_lower, np.inf)
            self.lp.add_columns(self.n_theta - 1, 0.0, -np.inf, np.inf)
        self._n_static = self.lp.n_rows
        self._row_pool = row_pool
        self._least_breach = 2.0 * FEASIBILITY_TOLERANCE / unit
        self._expansion = _Expansion(compiled, reduced, self.n_theta)
        self._state = StateInput(reduced, len(compiled.incoming))
        self._noise = NoiseInput(compiled, reduced, self.lp)
        self.rows = LazyRows(compiled.n_columns + self.n_theta)

    def solve(
        self, incoming: Floats, noise: int, tolerance: float
    ) -> StageSolution | FeasibilityCut:
        """Solve at a realisation of the support, refined to `tolerance` relative to the value."""
        self._noise.to_realisation(noise)
        return self._refined_solve(incoming, tolerance, f"noise {noise}")

    def solve_at(
        self, incoming: Floats, entries: Mapping[str, Floats], tolerance: float
    ) -> StageSolution | FeasibilityCut:
        """Solve at noise entries outside the support (from `noise_values`)."""
        self._noise.to_entries(entries)
        return self._refined_solve(incoming, tolerance, "noise outside the support")

    def drop_slack_rows(self) -> None:
        """Remove rows that have been slack for many solutions."""
        if len(self.rows):
            old = self.rows.age(self.lp.basic_rows()[self._n_static :])
            self.rows.remove(old)
            self.lp.delete_rows(old + self._n_static)

    def add_table(self, table: RowTable) -> None:
        """Append stored rows in their order."""
        self._append(table.coefficients, table.lower, table.returns)
        if self.cost_to_go is not None:
            eager = ~table.returns
            state = table.coefficients[eager][:, self.compiled.outgoing]
            theta = table.coefficients[eager][:, self.compiled.n_columns :]
            self.cost_to_go.restore(Rows(state, theta, table.lower[eager]))

    def add_initial_row(self) -> None:
        """Bound the cost-to-go by what initial cuts say, at a state of ones: valid anywhere."""
        assert self.cost_to_go is not None
        outcomes = self.cost_to_go.outcomes
        support = outcomes.support(np.ones(outcomes.n_components))
        theta = np.zeros((1, self.n_theta))
        theta[0, 0] = 1.0
        rows = Rows(-support.slope[None, :], theta, np.array([support.constant]))
        self._append(*self._expansion.declared(rows), np.zeros(1, dtype=bool))

    def theta_bound_active(self, solution: StageSolution, tolerance: float) -> bool:
        """Whether the assumed bound, not the cuts, sets the cost-to-go of a solution."""
        if self.cost_to_go is None or solution.theta > self.theta_lower + tolerance:
            return False
        return self.cost_to_go.cuts_value(solution.outgoing) < solution.theta - tolerance

    def forget_after(self, n_rows: int, basis: Basis | None) -> None:
        """Return to the first `n_rows` added rows and a given basis, whatever came between."""
        later = np.arange(n_rows, len(self.rows))
        self.rows.remove(later)
        self.lp.delete_rows(later + self._n_static)
        self.lp.start_from(basis)

    def _refined_solve(
        self, incoming: Floats, tolerance: float, noise: str
    ) -> StageSolution | FeasibilityCut:
        self._state.write(self.lp, incoming)
        self._write_new_rows()
        pivots = -1
        for _ in range(MAXIMAL_ROUNDS):
            if self._run(incoming, noise) is Status.INFEASIBLE:
                return self._infeasible(incoming, noise)
            primal = self.lp.primal()
            outgoing = self._expansion.outgoing(primal)
            broken = self._add_broken_rows(primal, outgoing, tolerance)
            # A broken row that moves nothing is broken within the LP's own tolerance.
            stuck = broken and self.work.lp.pivots == pivots
            if stuck or not broken:
                self.work.warnings += int(stuck)
                return self._solution(primal, outgoing)
            pivots = self.work.lp.pivots
        raise SolverError(
            f"{self.name}, {noise}: {MAXIMAL_ROUNDS} rounds of added rows did not end; "
            f"written to {self.lp.write('sddp')}"
        )

    def _run(self, incoming: Floats, noise: str) -> Status:
        if self.lp.solve() is Status.OPTIMAL:
            return Status.OPTIMAL
        first = self.lp.status_text()
        second = self.lp.solve_afresh()
        if second in (Status.OPTIMAL, Status.INFEASIBLE):
            return second
        unbounded = second is Status.UNBOUNDED
        hint = "; is the cost-to-go unbounded? give a cost_to_go_bound" if unbounded else ""
        raise SolverError(
            f"{self.name}, {noise}, incoming state {incoming}: the LP ended {first!r} and, from "
            f"scratch, {self.lp.status_text()!r}{hint}; written to {self.lp.write('sddp')}"
        )

    def _infeasible(self, incoming: Floats, noise: str) -> FeasibilityCut:
        where = f"{self.name}, {noise}"
        return feasibility_cut(
            self.compiled, self._noise.current, self.rows.table(), incoming, where
        )

    def _write_new_rows(self) -> None:
        rows = self.cost_to_go.new_rows() if self.cost_to_go else None
        if rows is not None:
            self._append(*self._expansion.declared(rows), np.zeros(len(rows.lower), dtype=bool))

    def _add_broken_rows(self, primal: Floats, outgoing: Floats, tolerance: float) -> bool:
        start = time.perf_counter()
        cost_to_go = self._broken_cost_to_go(primal, outgoing, tolerance)
        middle = time.perf_counter()
        generated = self._broken_generator_rows(primal, tolerance)
        self.work.cost_to_go_seconds += middle - start
        self.work.generator_seconds += time.perf_counter() - middle
        for found in (cost_to_go, generated):
            if found is not None:
                self._append(*found, np.ones(len(found[1]), dtype=bool))
        return cost_to_go is not None or generated is not None

    def _broken_cost_to_go(
        self, primal: Floats, outgoing: Floats, tolerance: float
    ) -> tuple[Floats, Floats] | None:
        if self.cost_to_go is None:
            return None
        # Never loosely: a state let through here is infeasible at the next node.
        refused = self.cost_to_go.outcomes.infeasible_rows(outgoing, self._least_breach)
        if refused:  # the cost-to-go of an infeasible decision is no guide
            rows = Rows(
                -np.array([row.slope for row in refused]),
                np.zeros((len(refused), self.n_theta)),
                np.array([row.constant for row in refused]),
            )
            return self._expansion.declared(rows)
        theta = primal[len(primal) - self.n_theta :]
        violated = self.cost_to_go.violated(outgoing, theta, tolerance)
        return None if violated is None else self._expansion.declared(violated)

    def _broken_generator_rows(
        self, primal: Floats, tolerance: float
    ) -> tuple[Floats, Floats] | None:
        generator = self.compiled.stage.rows
        if generator is None:
            return None
        values = self._expansion.generator_values(primal)
        rows, upper = generator.violated(values, tolerance)
        if len(upper) == 0:
            return None
        if self._row_pool is not None:
            pooled, pooled_upper = self._row_pool.violated(values, tolerance)
            self._row_pool.add(rows, upper)
            rows, upper = np.concatenate([rows, pooled]), np.concatenate([upper, pooled_upper])
        return self._expansion.generator_rows(rows, upper)

    def _append(self, coefficients: Floats, lower: Floats, returns: np.ndarray) -> None:
        self.rows.append(coefficients, lower, returns)
        rows, lower = self._expansion.reduced_rows(coefficients, lower)
        self.lp.add_rows(rows, lower, np.full(len(lower), np.inf))

    def _solution(self, primal: Floats, outgoing: Floats) -> StageSolution:
        return StageSolution(
            value=self.lp.objective(),
            theta=float(primal[len(primal) - self.n_theta]) if self.n_theta else 0.0,
            columns=self._expansion.declared_values(primal),
            outgoing=outgoing,
            slope=self._state.slope(self.lp.reduced_costs()),
        )


class _Expansion:
    """The way between the LP's columns and the declared ones (cost-to-go columns at the end)."""

    def __init__(self, compiled: CompiledStage, reduced: ReducedStage, n_theta: int) -> None:
        self._n_declared = compiled.n_columns
        self._n_kept = reduced.expand.shape[1]
        self._n_all = compiled.n_columns + n_theta
        self._expand, self._constant = reduced.expand, reduced.constant
        self._transposed = sp.csr_array(
            sp.block_diag([reduced.expand, sp.eye_array(n_theta)], format="csr").T
            if n_theta
            else reduced.expand.T
        )
        self._outgoing_columns, self._generator_columns = (
            compiled.outgoing,
            compiled.generator_columns,
        )
        self._outgoing = reduced.expand[compiled.outgoing]
        self._generator = reduced.expand[compiled.generator_columns]
        self._bounds = (
            compiled.column_lower[compiled.outgoing],
            compiled.column_upper[compiled.outgoing],
        )

    def outgoing(self, primal: Floats) -> Floats:
        """State handed on, freed of the LP's tolerance on its own bounds."""
        values = self._outgoing @ primal[: self._n_kept]
        values += self._constant[self._outgoing_columns]
        clipped: Floats = np.minimum(np.maximum(values, self._bounds[0]), self._bounds[1])
        return clipped

    def declared_values(self, primal: Floats) -> Floats:
        """Values of all declared columns."""
        values: Floats = self._expand @ primal[: self._n_kept] + self._constant
        return values

    def generator_values(self, primal: Floats) -> Floats:
        """Values of the row generator's variables."""
        values = self._generator @ primal[: self._n_kept]
        values += self._constant[self._generator_columns]
        return np.asarray(values)

    def declared(self, rows: Rows) -> tuple[Floats, Floats]:
        """Cost-to-go rows over the declared columns."""
        full = np.zeros((len(rows.lower), self._n_all))
        full[:, self._outgoing_columns] = rows.state
        full[:, self._n_declared :] = rows.theta
        return full, rows.lower

    def generator_rows(self, rows: Floats, upper: Floats) -> tuple[Floats, Floats]:
        """Generated rows over the declared columns, turned to "at least"."""
        full = np.zeros((len(upper), self._n_all))
        full[:, self._generator_columns] = -rows
        return full, -upper

    def reduced_rows(self, rows: Floats, lower: Floats) -> tuple[Floats, Floats]:
        """Rows over the LP's columns."""
        reduced: Floats = np.asarray(self._transposed @ rows.T).T
        return reduced, lower - rows[:, : self._n_declared] @ self._constant
