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
from sddp.engine.reduction import ReducedStage, as_operator
from sddp.errors import ModelError, SolverError
from sddp.lp import FEASIBILITY_TOLERANCE, Basis, Effort, LinearProgram, Status

# To see whether an assumed bound holds the result it is lowered by this, relative to itself.
LOWERED_BOUND = 1e3

# How far an unbounded cost-to-go column may fall, in the LP's own units.
FAR = 1e10

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
    """Counters shared by all nodes of a training or policy.

    Attributes
    ----------
    lp : Effort
        Solves, simplex pivots and seconds of the linear programmes.
    cost_to_go_seconds, generator_seconds : float
        Time spent on evaluating the cost-to-go, and on the row generators.
    warnings : int
        Solutions accepted although a row was broken within the LP's own tolerance.
    """

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
        self._last: tuple[Floats, Floats] | None = None
        self._fenced = False

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

    def add_initial_rows(self) -> None:
        """Bound the cost-to-go by what initial cuts say: without them the LP is unbounded."""
        assert self.cost_to_go is not None
        supports = self.cost_to_go.outcomes.initial_supports()
        theta = np.zeros((len(supports), self.n_theta))
        theta[:, 0] = 1.0
        rows = Rows(
            -np.array([support.slope for support in supports]),
            theta,
            np.array([support.constant for support in supports]),
        )
        self._append(*self._expansion.declared(rows), np.zeros(len(supports), dtype=bool))

    def leans_on_bound(
        self, incoming: Floats, noise: int, solution: StageSolution, tolerance: float
    ) -> bool:
        """Whether the value at a state would be lower if the assumed bound were.

        `solution` is the one at that state and noise; differences up to `tolerance` do not count.
        """
        if not self.n_theta or solution.theta > self.theta_lower + tolerance:
            return False
        lowered = self.theta_lower - LOWERED_BOUND * max(1.0, abs(self.theta_lower))
        self._bound_theta(lowered)
        try:
            again = self.solve(incoming, noise, FEASIBILITY_TOLERANCE)
        finally:
            self._bound_theta(self.theta_lower)
        return isinstance(again, StageSolution) and again.value < solution.value - tolerance

    def _bound_theta(self, lower: float) -> None:
        column = np.array([len(self.reduced.kept)], dtype=np.int32)
        self.lp.set_column_bounds(column, np.array([lower]), np.full(1, np.inf))

    def forget_after(self, n_rows: int, basis: Basis | None) -> None:
        """Return to the first `n_rows` added rows and a given basis, whatever came between."""
        later = np.arange(n_rows, len(self.rows))
        self.rows.remove(later)
        self.lp.delete_rows(later + self._n_static)
        self.lp.start_from(basis)
        self._last = None

    def _refined_solve(
        self, incoming: Floats, tolerance: float, noise: str
    ) -> StageSolution | FeasibilityCut:
        self._state.write(self.lp, incoming)
        self.write_new_rows()
        self._refresh(tolerance)
        pivots = -1
        for _ in range(MAXIMAL_ROUNDS):
            if self._run(incoming, noise) is Status.INFEASIBLE:
                cut = self._infeasible(incoming, noise)
                if cut is not None:
                    return cut
            primal = self.lp.primal()
            outgoing = self._expansion.outgoing(primal, *self._noise.outgoing_bounds)
            broken = self._broken_rows(primal, outgoing, tolerance)
            # Rows are still broken though the last ones moved nothing: they are broken within
            # the LP's own tolerance.
            stuck = bool(broken) and self.work.lp.pivots == pivots
            if stuck or not broken:
                self.work.warnings += int(stuck)
                solution = self._solution(primal, outgoing)
                self._check_far(solution, noise)
                return solution
            for coefficients, lower in broken:
                self._append(coefficients, lower, np.ones(len(lower), dtype=bool))
            pivots = self.work.lp.pivots
        raise SolverError(
            f"{self.name}, {noise}: {MAXIMAL_ROUNDS} rounds of added rows did not end; "
            f"written to {self.lp.write('sddp')}"
        )

    def _refresh(self, tolerance: float) -> None:
        """Where cuts have come in since the last solution, write what they say of it.

        The next solution is likely near the last one: that saves a solve.
        """
        if self.cost_to_go is not None and self._last is not None:
            rows = self.cost_to_go.violated(*self._last, tolerance)
            if rows is not None:
                self._append(*self._expansion.declared(rows), np.ones(len(rows.lower), dtype=bool))

    def _run(self, incoming: Floats, noise: str) -> Status:
        if self.lp.solve() is Status.OPTIMAL:
            return Status.OPTIMAL
        first = self.lp.status_text()
        if first == "Unbounded" and self.theta_lower == -np.inf and self.n_theta:
            # The cuts bound the cost-to-go, the rows written so far do not: let it fall far, and
            # the cuts will say what it is where it lands.
            self._fenced = True
            self._bound_theta(-FAR / self.lp.unit)
        second = self.lp.solve_afresh()
        if second in (Status.OPTIMAL, Status.INFEASIBLE):
            return second
        unbounded = second is Status.UNBOUNDED
        hint = "; is the cost-to-go unbounded? give a cost_to_go_bound" if unbounded else ""
        raise SolverError(
            f"{self.name}, {noise}, incoming state {incoming}: the LP ended {first!r} and, from "
            f"scratch, {self.lp.status_text()!r}{hint}; written to {self.lp.write('sddp')}"
        )

    def _check_far(self, solution: StageSolution, noise: str) -> None:
        if not self._fenced:
            return
        self._fenced = False
        self._bound_theta(-np.inf)
        if solution.theta <= -0.9 * FAR / self.lp.unit:
            raise SolverError(
                f"{self.name}, {noise}: the cuts known so far do not bound the cost-to-go; give "
                "Problem a cost_to_go_bound, or initial cuts that bound it"
            )

    def _infeasible(self, incoming: Floats, noise: str) -> FeasibilityCut | None:
        """A feasibility cut; None where the state misses by rounding and the LP is solved."""
        where = f"{self.name}, {noise}"
        cut = feasibility_cut(
            self.compiled,
            self._noise.current,
            self.rows.table(),
            incoming,
            self.lp.unit,
            where,
        )
        if cut is None and self.lp.solve_loosely() is not Status.OPTIMAL:
            raise SolverError(
                f"{where}, incoming state {incoming}: infeasible by the stage LP, though no row "
                f"need be broken by more than rounding; written to {self.lp.write('sddp')}"
            )
        return cut

    def write_new_rows(self) -> None:
        """Write the rows that the cost-to-go wants in the LP whatever its solution."""
        rows = self.cost_to_go.new_rows() if self.cost_to_go else None
        if rows is not None:
            self._append(*self._expansion.declared(rows), np.zeros(len(rows.lower), dtype=bool))

    def _broken_rows(
        self, primal: Floats, outgoing: Floats, tolerance: float
    ) -> list[tuple[Floats, Floats]]:
        """Rows over the declared columns, and their lower sides, that a solution breaks."""
        start = time.perf_counter()
        cost_to_go = self._broken_cost_to_go(primal, outgoing, tolerance)
        middle = time.perf_counter()
        generated = self._broken_generator_rows(primal, tolerance)
        self.work.cost_to_go_seconds += middle - start
        self.work.generator_seconds += time.perf_counter() - middle
        return [rows for rows in (cost_to_go, generated) if rows is not None]

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
        if self.compiled.stage.homogeneous and np.any(upper):
            raise ModelError(
                f"{self.name} declares homogeneous=True, but its row generator returned a row "
                f"with right-hand side {upper[np.flatnonzero(upper)[0]]:g}; write it as a share of "
                "the incoming state"
            )
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
        self._last = (outgoing, primal[len(primal) - self.n_theta :])
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
        self._expand, self._constant = as_operator(reduced.expand), reduced.constant
        with_theta = (
            sp.block_diag([reduced.expand, sp.eye_array(n_theta)]) if n_theta else reduced.expand
        )
        self._transposed = as_operator(sp.csr_array(with_theta.T))
        self._outgoing_columns, self._generator_columns = (
            compiled.outgoing,
            compiled.generator_columns,
        )
        self._outgoing = as_operator(reduced.expand[compiled.outgoing])
        self._generator = as_operator(reduced.expand[compiled.generator_columns])

    def outgoing(self, primal: Floats, lower: Floats, upper: Floats) -> Floats:
        """State handed on, freed of the LP's tolerance on its own bounds."""
        values = self._outgoing @ primal[: self._n_kept]
        values += self._constant[self._outgoing_columns]
        clipped: Floats = np.minimum(np.maximum(values, lower), upper)
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
