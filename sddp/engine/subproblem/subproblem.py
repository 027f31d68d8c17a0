"""The linear program of one node: solved for a state and a noise, refined until exact.

Rows of the cost-to-go, of the row generator and of feasibility cuts are stated in the declared
columns and written, when a solution breaks them, in those that the reduction keeps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from sddp.arrays import Floats, Ints
from sddp.engine.presolve.presolve import Movement, PresolvedStage
from sddp.engine.stage.file import StageModel, stage_model, write_failure
from sddp.engine.stage.scaling import check_range
from sddp.engine.subproblem.bunching import RightHandSides, responses
from sddp.engine.subproblem.conflict import explain
from sddp.engine.subproblem.feasibility import Infeasibility, feasibility_cut
from sddp.engine.subproblem.lazy_constraints import RowPool, broken_rows, over_declared
from sddp.engine.subproblem.parameters import NoiseInput
from sddp.engine.subproblem.solutions import NoiseSolutions, StageSolution, Work
from sddp.engine.subproblem.stage_lp import StageLP
from sddp.engine.value.cost_to_go import CostToGo
from sddp.engine.value.cuts import Cuts, LinearConstraints
from sddp.errors import ModelError, SolverError
from sddp.lp import FEASIBILITY_TOLERANCE, Arrays, Basis, Scaling, Status

# To see whether an assumed bound holds the result it is lowered by this, relative to itself.
LOWERED_BOUND = 1e3

# Below this many realisations, testing a basis costs more than solving again.
FEWEST_BUNCHED = 6

# Bases that answered no other realisation, after which the rest of a state is solved one by one.
PATIENCE = 3

# How far an unbounded cost-to-go column may fall, in the LP's own units.
FAR = 1e10

# Rounds of "solve, find broken rows, solve": a guard on a loop that ends by itself.
MAXIMAL_ROUNDS = 1_000


class Subproblem:
    """LP of one node, with its cost-to-go.

    Parameters
    ----------
    stage : PresolvedStage
        Shared by nodes of the same content.
    cost_to_go : CostToGo or None
        None where nothing follows.
    theta_lower : float
        Bound on the cost-to-go column; may be minus infinity.
    money, scaling, accuracy :
        See `Problem`; the scaling is that of the declared columns and rows.
    name : str
        For error messages.
    work : Work
        Where effort is counted.
    row_pool : RowPool or None
        Generated rows, shared with the nodes whose generator has the same key.
    """

    def __init__(
        self,
        stage: PresolvedStage,
        cost_to_go: CostToGo | None,
        *,
        theta_lower: float,
        money: float,
        scaling: Scaling,
        accuracy: float,
        name: str,
        work: Work,
        row_pool: RowPool | None,
    ) -> None:
        self.stage, self.compiled, self.cost_to_go = stage, stage.compiled, cost_to_go
        self.name, self.work, self.theta_lower = name, work, theta_lower
        self.n_theta = cost_to_go.n_columns if cost_to_go else 0
        if cost_to_go:
            cost_to_go.money = money
        arrays = _with_theta(stage.arrays, self.n_theta, theta_lower)
        n_state = len(self.compiled.incoming)
        self._declared_scaling = scaling
        self._scaling = stage.scaling(scaling, self.n_theta, money, accuracy)
        movement = Movement(stage.bound_columns, stage.bound_lower, stage.bound_upper)
        self.stage_lp = StageLP(
            arrays,
            n_state,
            stage.removable,
            self._scaling,
            work.lp,
            movement if len(stage.bound_columns) else None,
        )
        self._row_pool = row_pool
        self._row_sizes = self.compiled.row_sizes(scaling.columns)
        tail_form = getattr(
            self.compiled.rows, "tail_form", None
        )  # its rows are relative to wealth
        self._size = tail_form().size if tail_form else np.zeros(len(self._row_sizes))
        self._money = money
        self._least_breach = 2.0 * FEASIBILITY_TOLERANCE * accuracy
        self._far = FAR * self._scaling.money
        self._noise = NoiseInput(stage, self.stage_lp)
        self._sides = self._noise.right_hand_sides()
        self._last: tuple[Floats, Floats] | None = None
        self._before: Floats | None = None
        self._fenced = False

    def solve(
        self, incoming: Floats, noise: int | Mapping[str, Floats], tolerance: float
    ) -> StageSolution | Infeasibility:
        """Solve at a state and a noise, refined to `tolerance` relative to the value.

        `noise` is a position in the support, or entries outside of it (from `noise_values`).
        """
        if isinstance(noise, Mapping):
            check_range(self.compiled, noise, self.name)
            self._noise.to_entries(noise)
        else:
            self._noise.to_realisation(noise)
        self.stage_lp.set_state(incoming)
        self.write_new_rows()
        self._refresh(tolerance)
        self._before = None
        last = np.full(1, np.nan)
        for _ in range(MAXIMAL_ROUNDS):
            status = self.stage_lp.solve()
            if status is Status.UNBOUNDED and self.theta_lower == -np.inf and self.n_theta:
                status = self._solve_fenced()
            if status is Status.INFEASIBLE:
                found = self._infeasibility(incoming)
                if found is not None:
                    self._take_fence_away()
                    return found
            elif status is not Status.OPTIMAL:
                raise self._failure(incoming, status)
            primal = self.stage_lp.primal()
            outgoing = self.stage.outgoing(primal, *self._noise.outgoing_bounds)
            broken = self._broken_rows(primal, outgoing, tolerance)
            # Rows are still broken though one more solve moved nothing: they are broken within
            # the LP's own tolerance.
            stuck = bool(broken) and np.array_equal(primal, last)
            if stuck or not broken:
                self.work.warnings += int(stuck)
                solution = self._solution(primal, outgoing)
                self._check_far(solution, incoming)
                return solution
            for rows in broken:
                self.stage_lp.append(rows)
            last = primal
        raise SolverError(
            f"{self._where(incoming)}: {MAXIMAL_ROUNDS} rounds of added rows did not end; "
            f"written to {self.written(incoming)}"
        )

    def solve_all(self, incoming: Floats, tolerance: float) -> NoiseSolutions:
        """Solve at every realisation of the noise; what one basis answers is not solved again."""
        n = self.compiled.noise.n_realisations
        found = NoiseSolutions(
            n, len(self.compiled.cost), len(incoming), len(self.compiled.outgoing)
        )
        left = np.arange(n)
        failures = 0 if n >= FEWEST_BUNCHED and self._sides is not None else PATIENCE
        while len(left):
            solution = self.solve(incoming, int(left[0]), tolerance)
            found.put(int(left[0]), solution)
            left = left[1:]
            if isinstance(solution, StageSolution) and len(left) and failures < PATIENCE:
                answered = self._bunch(found, left, solution.cut.slope, tolerance)
                left = np.setdiff1d(left, answered, assume_unique=True)
                failures += len(answered) == 0
        return found

    def _bunch(self, found: NoiseSolutions, noises: Ints, slope: Floats, tolerance: float) -> Ints:
        """Store solutions at those of other realisations that the last basis answers: which."""
        assert self._sides is not None
        sides = self._sides.of(noises)
        optimal, primals = responses(self.stage_lp, sides)
        values = self._dual_values(sides)[optimal]
        agree = self.stage_lp.agree(primals, values)
        noises, primals, values = noises[optimal][agree], primals[agree], values[agree]
        values += self._noise.offsets()[noises]
        outgoing = self.stage.outgoing(primals, *self._noise.outgoing_bounds)
        keeps = self._keeps_rows(primals, outgoing, tolerance)
        noises, primals, values = noises[keeps], primals[keeps], values[keeps]
        self.work.bunched += len(noises)
        intercepts = values - self.stage_lp.objective() + self.stage_lp.cut.intercept
        found.put_many(
            noises,
            values,
            Cuts(np.tile(slope, (len(noises), 1)), intercepts),
            primals[:, -self.n_theta] if self.n_theta else np.zeros(len(noises)),
            self.stage.declared_values(primals),
            outgoing[keeps],
        )
        return noises

    def _dual_values(self, sides: RightHandSides) -> Floats:
        """Dual values, without the offset, of the last multipliers under other sides of rows."""
        program = self.stage_lp
        here = program.value_of_sides(sides.rows, *program.sides(sides.rows))
        change = program.value_of_sides(sides.rows, sides.lower, sides.upper) - here
        return program.objective() - program.offset + change

    def _keeps_rows(self, primals: Floats, outgoing: Floats, tolerance: float) -> NDArray[np.bool_]:
        """Whether each of some solutions, shape (n, n_columns), breaks no row."""
        start = time.perf_counter()
        keeps = np.ones(len(primals), dtype=bool)
        if self.cost_to_go is not None:
            thetas = primals[:, primals.shape[1] - self.n_theta :]
            keeps &= self.cost_to_go.keeps(outgoing, thetas, tolerance)
            if self.cost_to_go.outcomes.has_feasibility_cuts:
                broken = self.cost_to_go.outcomes.broken_feasibility_cuts
                allowed = [len(broken(state, self._least_breach)) == 0 for state in outgoing]
                keeps &= np.array(allowed, dtype=bool)
        self.work.cost_to_go_seconds += time.perf_counter() - start
        if self.compiled.rows is not None:
            held = [self._broken_generator_rows(row, tolerance) is None for row in primals]
            keeps &= np.array(held, dtype=bool)
        return keeps

    def remove_idle(self) -> None:
        """Remove from the LP what has not mattered for many solutions."""
        self.stage_lp.remove_idle()

    def restore(self, rows: LinearConstraints) -> None:
        """Append stored rows in their order."""
        self.stage_lp.append(rows)
        if self.cost_to_go is not None:
            self.cost_to_go.restore()

    def add_first_rows(self, n_rows: int) -> None:
        """Bound the cost-to-go by what the oldest cuts say: without them the LP is unbounded."""
        assert self.cost_to_go is not None
        supports = self.cost_to_go.outcomes.first_supports(n_rows)
        rows = LinearConstraints.of_cuts(supports, self.n_theta, recurring=False)
        self.stage_lp.append(self.stage.cost_to_go_rows(rows))

    def bound_is_active(
        self, incoming: Floats, noise: int, solution: StageSolution, tolerance: float
    ) -> bool:
        """Whether the value at a state would be lower if the assumed bound were.

        `solution` is the one at that state and noise; differences up to `tolerance` do not count.
        """
        if not self.n_theta or solution.theta > self.theta_lower + tolerance:
            return False
        lowered = self.theta_lower - LOWERED_BOUND * max(self._money, abs(self.theta_lower))
        self._bound_theta(lowered)
        try:
            again = self.solve(incoming, noise, FEASIBILITY_TOLERANCE)
        finally:
            self._bound_theta(self.theta_lower)
        return isinstance(again, StageSolution) and again.value < solution.value - tolerance

    def _bound_theta(self, lower: float) -> None:
        column = np.array([len(self.stage.kept)], dtype=np.int32)
        self.stage_lp.set_column_bounds(column, np.array([lower]), np.full(1, np.inf))

    def forget_after(self, n_rows: int, basis: Basis | None) -> None:
        """Return to the first `n_rows` added rows and a given basis, whatever came between."""
        self.stage_lp.truncate(n_rows)
        self.stage_lp.start_from(basis)
        self._last = None

    def _refresh(self, tolerance: float) -> None:
        """Where cuts have come in since the last solution, write what they say of it.

        The next solution is likely near the last one: that saves a solve.
        """
        if self.cost_to_go is not None and self._last is not None:
            start = time.perf_counter()
            rows = self.cost_to_go.violated(*self._last, tolerance)
            self.work.cost_to_go_seconds += time.perf_counter() - start
            if rows is not None:
                self.stage_lp.append(self.stage.cost_to_go_rows(rows))

    def _solve_fenced(self) -> Status:
        """Solve with the cost-to-go bounded far below.

        The cuts bound it, the rows written so far do not: let it fall far, and the cuts will say
        what it is where it lands.
        """
        self._fenced = True
        self._bound_theta(-self._far)
        return self.stage_lp.solve()

    def _failure(self, incoming: Floats, status: Status) -> SolverError:
        unbounded = status is Status.UNBOUNDED
        hint = "; is the cost-to-go unbounded? give a cost_to_go_bound" if unbounded else ""
        return SolverError(
            f"{self._where(incoming)}: the LP was not solved "
            f"({self.stage_lp.lp.status_text()}){hint}; written to {self.written(incoming)}"
        )

    def _where(self, incoming: Floats) -> str:
        state = self.compiled.states.describe(incoming)
        return f"{self.name}, {self._noise.label()}, incoming state {state}"

    def written(self, incoming: Floats) -> str:
        """Write the stage at the present noise, with the rows added to it; the path."""
        entries = self._noise.entries(self._noise.realisation)
        return write_failure(self.model(entries, incoming), f"{self.name} {self._noise.label()}")

    def model(self, entries: Mapping[str, Floats], incoming: Floats) -> StageModel:
        """The declared program at noise `entries` with the rows added so far."""
        rows = over_declared(self.stage_lp.rows, self.stage.kept, self.compiled.n_columns)
        declared = stage_model(self.compiled, entries, incoming)
        return declared.with_rows(rows.coefficients, rows.lower, self.n_theta, self.theta_lower)

    def _take_fence_away(self) -> bool:
        """Let the cost-to-go column fall freely again; whether it was fenced."""
        fenced, self._fenced = self._fenced, False
        if fenced:
            self._bound_theta(-np.inf)
        return fenced

    def _check_far(self, solution: StageSolution, incoming: Floats) -> None:
        if self._take_fence_away() and solution.theta <= -0.9 * self._far:
            raise SolverError(
                f"{self._where(incoming)}: the cuts known so far do not bound the "
                "cost-to-go; give Problem a cost_to_go_bound, or initial cuts that bound it; "
                f"written to {self.written(incoming)}"
            )

    def _infeasibility(self, incoming: Floats) -> Infeasibility | None:
        """A feasibility cut; None where the state misses by rounding and the LP is solved."""
        where = self._where(incoming)
        cut = feasibility_cut(
            self.compiled,
            self._noise.current,
            self.stage_lp.rows,
            self.stage.kept,
            incoming,
            self._noise.realisation,
            self._declared_scaling.finer(self._scaling.accuracy),
            where,
        )
        if cut is not None and not cut.near:
            return cut
        if self.stage_lp.solve(loosely=True) is Status.OPTIMAL:
            return None
        if cut is None:
            raise SolverError(
                f"{where}: infeasible by the stage LP, though no row need be broken by more than "
                f"rounding; written to {self.written(incoming)}"
            )
        return cut

    def why_infeasible(self, found: Infeasibility) -> str:
        """Noise, incoming state, conflicting rows and a file, for the message of an error."""
        return explain(
            self.compiled,
            self._noise.entries(found.noise),
            self.stage_lp.rows,
            self.stage.kept,
            found,
            self.name,
        )

    def write_new_rows(self) -> None:
        """Write the rows of the cost-to-go that belong into the LP whatever its solution."""
        rows = self.cost_to_go.new_rows() if self.cost_to_go else None
        if rows is not None:
            self.stage_lp.append(self.stage.cost_to_go_rows(rows))

    def _broken_rows(
        self, primal: Floats, outgoing: Floats, tolerance: float
    ) -> list[LinearConstraints]:
        """Rows that a solution breaks."""
        start = time.perf_counter()
        cost_to_go = self._broken_cost_to_go(primal, outgoing, tolerance)
        middle = time.perf_counter()
        generated = self._broken_generator_rows(primal, tolerance)
        self.work.cost_to_go_seconds += middle - start
        self.work.generator_seconds += time.perf_counter() - middle
        return [table for table in (cost_to_go, generated) if table is not None]

    def _broken_cost_to_go(
        self, primal: Floats, outgoing: Floats, tolerance: float
    ) -> LinearConstraints | None:
        if self.cost_to_go is None:
            return None
        # Never loosely: a state let through here is infeasible at the next node.
        broken = self.cost_to_go.outcomes.broken_feasibility_cuts(outgoing, self._least_breach)
        if len(broken):  # the cost-to-go of an infeasible decision is no guide
            rows = LinearConstraints.of_cuts(broken, self.n_theta, recurring=True, theta=0.0)
            return self.stage.cost_to_go_rows(rows)
        theta = primal[len(primal) - self.n_theta :]
        violated = self.cost_to_go.violated(outgoing, theta, tolerance)
        if violated is None:
            return None
        return self.stage.cost_to_go_rows(violated)

    def _broken_generator_rows(self, primal: Floats, tolerance: float) -> LinearConstraints | None:
        generator = self.compiled.rows
        if generator is None:
            return None
        values = self.stage.generator_values(primal)
        scale = self._row_sizes, float(self._size @ values)
        if self._row_pool is not None:
            rows, upper = self._row_pool.violated(values, tolerance, *scale)
            if len(upper):
                return self.stage.generator_rows(rows, upper, self.n_theta)
        rows, upper = generator.violated(values, 0.0)
        broken = broken_rows(rows, upper, values, tolerance, *scale)
        rows, upper = rows[broken], upper[broken]
        if len(upper) == 0:
            return None
        if self._before is not None:
            # A row made half-way to the solution before cuts deeper than one made at a corner.
            others, others_upper = generator.violated((values + self._before) / 2.0, 0.0)
            deep = broken_rows(others, others_upper, values, tolerance, *scale)
            rows = np.concatenate([rows, others[deep]])
            upper = np.concatenate([upper, others_upper[deep]])
        self._before = values
        if not (np.isfinite(rows).all() and np.isfinite(upper).all()):
            raise ModelError(
                f"{self.name}: the row generator {generator!r} returned a row with a number that "
                "is not finite; a row that says nothing is left out"
            )
        if self.compiled.homogeneous and np.any(upper):
            raise ModelError(
                f"{self.name} declares homogeneous=True, but its row generator returned a row "
                f"with right-hand side {upper[np.flatnonzero(upper)[0]]:g}; write it as a share of "
                "the incoming state"
            )
        if self._row_pool is not None:
            self._row_pool.add(rows, upper)
        return self.stage.generator_rows(rows, upper, self.n_theta)

    def _solution(self, primal: Floats, outgoing: Floats) -> StageSolution:
        self._last = (outgoing, primal[len(primal) - self.n_theta :])
        return StageSolution(
            value=self.stage_lp.objective(),
            theta=float(primal[len(primal) - self.n_theta]) if self.n_theta else 0.0,
            columns=self.stage.declared_values(primal),
            outgoing=outgoing,
            cut=self.stage_lp.cut,
        )


def _with_theta(arrays: Arrays, n_theta: int, lower: float) -> Arrays:
    """The same with cost-to-go columns at the end; the first one is in the objective."""
    if n_theta == 0:
        return arrays
    rest = n_theta - 1
    none = sp.csr_array((arrays.matrix.shape[0], n_theta))
    return Arrays(
        cost=np.concatenate([arrays.cost, [1.0], np.zeros(rest)]),
        matrix=sp.hstack([arrays.matrix, none], format="csr"),
        row_lower=arrays.row_lower,
        row_upper=arrays.row_upper,
        column_lower=np.concatenate([arrays.column_lower, [lower], np.full(rest, -np.inf)]),
        column_upper=np.concatenate([arrays.column_upper, np.full(n_theta, np.inf)]),
        offset=arrays.offset,
    )
