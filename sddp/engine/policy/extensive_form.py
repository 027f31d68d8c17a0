"""The extensive form: an acyclic problem as one linear program over its scenario tree.

Exact and slow: the oracle for small problems. Risk is nested as in training: the cost-to-go of a
decision is the measure over everything that can happen until the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from sddp.arrays import Floats, Ints
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.stage.stage_data import arrays_at
from sddp.engine.stage.transition import StateMap
from sddp.engine.subproblem.feasibility import elastic
from sddp.engine.subproblem.lazy_constraints import broken_rows
from sddp.engine.value.value_functions import RiskChoice, risk_by_node
from sddp.errors import InfeasibleProblem, ModelError, SolverError
from sddp.lp import Arrays, LinearProgram, Status, fitted_scaling, solve_once
from sddp.risk import RiskMeasure, as_risk_measure

MAXIMAL_VERTICES = 200_000
# Generated rows are refined until none is broken by more than this, relative; see `broken_rows`.
ROW_TOLERANCE = 1e-10

# A row that is missed by less than this, relative to the most missed one, is not named; and the
# least weight of a decision among them.
MISSED = 1e-6


@dataclass(frozen=True, eq=False)
class Vertex:
    """One decision of the scenario tree.

    Attributes
    ----------
    node : hashable
    noise : int
        Position in the node's support.
    first_column : int
        Where the stage's declared columns start in the extensive form.
    probability : float
        Of being here, under the original probabilities.
    """

    node: NodeName
    noise: int
    first_column: int
    probability: float


@dataclass(frozen=True, eq=False)
class ExtensiveSolution:
    """Optimal solution of an extensive form, in the user's units.

    Attributes
    ----------
    value : float
    first : list of (node, noise, variables)
        Decisions at the first nodes, one for each noise seen there; variables by name.
    """

    value: float
    first: list[tuple[NodeName, int, dict[str, float]]]

    def decision(self, node: NodeName, noise: int = 0) -> dict[str, float]:
        """Variables of a first decision."""
        for name, position, variables in self.first:
            if (name, position) == (node, noise):
                return variables
        raise ModelError(f"node {node!r} with noise {noise} is no first decision")


@dataclass(eq=False)
class ExtensiveForm:
    """Scenario tree of a problem as a linear program. Made by `extensive_form`."""

    problem: Problem
    risk: Mapping[NodeName, RiskMeasure]
    root_risk: RiskMeasure
    vertices: list[Vertex] = field(default_factory=list)
    _lp: _Assembly = field(default_factory=lambda: _Assembly())

    def solve(self, first_state: Mapping[str, Any] | None = None) -> ExtensiveSolution:
        """Solve to optimality.

        Parameters
        ----------
        first_state : mapping from state name to value, optional
            Fix what the first decisions hand on; tells what a given first decision is worth.

        Raises
        ------
        InfeasibleProblem
            There is no feasible policy.
        SolverError
            The LP is unbounded or fails.
        """
        arrays = self._lp.arrays()
        scaling = fitted_scaling(arrays).finer(self.problem.accuracy)
        program = LinearProgram(arrays, scaling, presolve=True)
        if first_state is not None:
            self._fix_first(program, first_state)
        last = np.full(1, np.nan)
        while True:
            status = program.solve()
            if status is Status.INFEASIBLE:
                raise InfeasibleProblem(
                    f"the extensive form is infeasible: no policy exists; {self._failing(program)}"
                )
            if status is not Status.OPTIMAL:
                raise SolverError(
                    f"the extensive form was not solved ({program.status_text()}); "
                    f"{self._failing(program)}"
                )
            primal = program.primal()
            # Rows that are still broken though a solve moved nothing are within its tolerance.
            if np.array_equal(primal, last) or not self._add_broken_rows(program, primal):
                return self._solution(program, primal)
            last = primal

    def _failing(self, program: LinearProgram) -> str:
        """Node, noise, incoming state and file of a program without a solution, for an error.

        Where rows cannot all hold: a decision with a row that is missed where they are missed by
        the least amount, weighed by probability and the decisions that are left, so that a
        late row is missed rather than all that come before it. Else the first decision.
        """
        arrays, vertex, what = program.arrays(), self.vertices[0], ""
        state = self.problem.initial_state(vertex.node)
        n_rows, n_columns = arrays.matrix.shape
        owners = self._owners(arrays)
        weights = np.array([self._weight(v) for v in self.vertices])[owners]
        phase_one = elastic(arrays, n_rows)
        phase_one.cost[n_columns : n_columns + 2 * n_rows] = np.tile(weights, 2)
        status, solved = solve_once(phase_one)
        if status is Status.OPTIMAL:
            missed = solved.primal()[n_columns : n_columns + 2 * n_rows].reshape(2, -1).sum(axis=0)
            if missed.max(initial=0.0) > 0.0:
                broken = np.flatnonzero(missed > MISSED * missed.max())
                vertex = self.vertices[owners[broken].min()]
                what = f": rows are missed by {missed[broken[owners[broken].argmin()]]:g}"
                incoming = vertex.first_column + self.problem.stages[vertex.node].incoming
                state = solved.primal()[incoming]
        described = self.problem.stages[vertex.node].states.describe(state)
        file = program.write("sddp-extensive", self._column_names(n_columns))
        return (
            f"node {vertex.node!r}, noise {vertex.noise}, incoming state {described}{what}; "
            f"written to {file}"
        )

    def _owners(self, arrays: Arrays) -> Ints:
        """Position of the vertex that each row belongs to: the last one that it holds."""
        pointer = arrays.matrix.indptr
        last = [arrays.matrix.indices[a:b].max(initial=0) for a, b in pairwise(pointer)]
        starts = [vertex.first_column for vertex in self.vertices]
        owners: Ints = np.maximum(np.searchsorted(starts, last, "right") - 1, 0)
        return owners

    def _weight(self, vertex: Vertex) -> float:
        graph = self.problem.graph
        stages = [graph.node(name).stage for name in graph.nodes]
        left = max(stages) + 1 - graph.node(vertex.node).stage
        return max(vertex.probability, MISSED) * left

    def _column_names(self, n_columns: int) -> list[str]:
        """``node.noise.variable``; equal ones, of other branches, are numbered in the file."""
        names = [f"column[{j}]" for j in range(n_columns)]
        for vertex in self.vertices:
            own = [*self.problem.stages[vertex.node].column_names, "value", "cost_to_go"]
            start = vertex.first_column
            names[start : start + len(own)] = [f"{vertex.node}.{vertex.noise}.{c}" for c in own]
        return names

    def _fix_first(self, program: LinearProgram, state: Mapping[str, Any]) -> None:
        for vertex in self._first_vertices():
            compiled = self.problem.stages[vertex.node]
            values = compiled.states.flatten(state)
            rows = sp.lil_array((len(values), program.n_columns))
            rows[np.arange(len(values)), vertex.first_column + compiled.outgoing] = 1.0
            program.add_rows(sp.csr_array(rows), values, values)

    def _first_vertices(self) -> list[Vertex]:
        return self.vertices[: len(self.problem.first_outcomes())]

    def _solution(self, program: LinearProgram, primal: Floats) -> ExtensiveSolution:
        first = []
        for vertex in self._first_vertices():
            names = self.problem.stages[vertex.node].column_names
            values = primal[vertex.first_column : vertex.first_column + len(names)]
            first.append(
                (vertex.node, vertex.noise, dict(zip(names, values.tolist(), strict=True)))
            )
        return ExtensiveSolution(self.problem.sign * program.objective(), first)

    @cached_property
    def _row_sizes(self) -> dict[int, Floats]:
        """Sizes of the generators' variables, by the identity of their stage."""
        first = self.problem.initial_state(self.vertices[0].node)
        size = self.problem.normalized(first)[1]  # 1 where the problem is not homogeneous
        stages = {id(stage): stage for stage in self.problem.stages.values() if stage.rows}
        return {
            key: size * stage.row_sizes(self.problem.scaling(stage).columns)
            for key, stage in stages.items()
        }

    def _add_broken_rows(self, program: LinearProgram, primal: Floats) -> bool:
        found, sizes = False, self._row_sizes
        for vertex in self.vertices:
            compiled = self.problem.stages[vertex.node]
            generator = compiled.rows
            if generator is None:
                continue
            columns = vertex.first_column + compiled.generator_columns
            values = primal[columns]
            rows, upper = generator.violated(values, 0.0)
            broken = broken_rows(rows, upper, values, ROW_TOLERANCE, sizes[id(compiled)])
            rows, upper = rows[broken], upper[broken]
            if len(upper):
                full = sp.lil_array((len(upper), program.n_columns))
                full[:, columns] = rows
                program.add_rows(sp.csr_array(full), np.full(len(upper), -np.inf), upper)
                found = True
        return found


def extensive_form(
    problem: Problem, *, risk: RiskChoice = None, root_risk: RiskMeasure | None = None
) -> ExtensiveForm:
    """Build the extensive form of an acyclic problem.

    Parameters
    ----------
    problem : Problem
    risk, root_risk :
        As in `train`; mixtures of expectation, tail means and the worst case.

    Raises
    ------
    ModelError
        The graph has a cycle, the tree is too large, or a measure has no linear program.
    """
    if problem.graph.reverse_topological() is None:
        raise ModelError("the graph has a cycle, so its scenario tree is infinite; use train")
    form = ExtensiveForm(problem, risk_by_node(problem, risk), as_risk_measure(root_risk))
    for measure in {id(m): m for m in (*form.risk.values(), form.root_risk)}.values():
        if measure.tail_mixture() is None:
            raise ModelError(f"{measure!r} is no mixture of tails: its extensive form is no LP")
    _grow(form)
    return form


@dataclass(frozen=True, eq=False)
class _Outcome:
    """One branch of the tree: where to, with what probability, and how the state gets there."""

    node: NodeName
    noise: int
    probability: float
    transition: StateMap | None
    realisation: int


def _grow(form: ExtensiveForm) -> None:
    """Breadth first, so that the first vertices are the first decisions."""
    lp, problem = form._lp, form.problem
    root_theta = lp.add_columns(1, -np.inf, np.inf)
    lp.set_cost(root_theta, 1.0)
    waiting: list[tuple[list[_Outcome], int, Vertex | None, RiskMeasure, float]] = [
        (_first_outcomes(problem), root_theta, None, form.root_risk, 0.0)
    ]
    while waiting:
        outcomes, theta, parent, measure, stop = waiting.pop(0)
        if len(form.vertices) + len(outcomes) > MAXIMAL_VERTICES:
            raise ModelError(
                f"the scenario tree has more than {MAXIMAL_VERTICES} vertices; use train"
            )
        values, weights = [], []
        for outcome in outcomes:
            vertex, value = _add_vertex(form, outcome, parent)
            values.append(value)
            weights.append(outcome.probability)
            follow = _outcomes_after(problem, outcome.node)
            if follow:
                rest = problem.graph.stop_probability(outcome.node)
                waiting.append((follow, value + 1, vertex, form.risk[outcome.node], rest))
        if stop > 0.0:
            values.append(lp.add_columns(1, 0.0, 0.0))
            weights.append(stop)
        _add_risk(lp, theta, np.array(values), np.array(weights), measure)


def _first_outcomes(problem: Problem) -> list[_Outcome]:
    return [_Outcome(name, w, p, None, 0) for name, w, p in problem.first_outcomes()]


def _outcomes_after(problem: Problem, name: NodeName) -> list[_Outcome]:
    return [
        _Outcome(child, w, p * q * r, problem.stages[child].transition, e)
        for child, p in problem.graph.children(name)
        for w, q in enumerate(problem.stages[child].noise.probabilities)
        for e, r in enumerate(problem.stages[child].transition.probabilities)
    ]


def _add_vertex(
    form: ExtensiveForm, outcome: _Outcome, parent: Vertex | None
) -> tuple[Vertex, int]:
    """Columns and rows of one decision; returns it and the column of its value.

    The column after the value's is its cost-to-go, fixed at 0 where nothing follows.
    """
    lp, compiled = form._lp, form.problem.stages[outcome.node]
    noise = {place: values[outcome.noise] for place, values in compiled.noise.values.items()}
    arrays = arrays_at(compiled, noise)
    first = lp.add_block(arrays)
    incoming = first + compiled.incoming
    lp.set_bounds(incoming, -np.inf, np.inf)
    if parent is None:
        initial = form.problem.initial_state(outcome.node)
        lp.set_bounds(incoming, initial, initial)
    else:
        _add_arrival(form, outcome, parent, incoming)
    value = lp.add_columns(1, -np.inf, np.inf)
    follows = bool(form.problem.graph.children(outcome.node))
    reach = np.inf if follows else 0.0
    theta = lp.add_columns(1, -reach, reach)
    columns = np.concatenate([[value, theta], np.arange(first, first + compiled.n_columns)])
    lp.add_row(columns, np.concatenate([[1.0, -1.0], -arrays.cost]), arrays.offset, arrays.offset)
    weight = outcome.probability * (parent.probability if parent else 1.0)
    vertex = Vertex(outcome.node, outcome.noise, first, weight)
    form.vertices.append(vertex)
    return vertex, value


def _add_arrival(form: ExtensiveForm, outcome: _Outcome, parent: Vertex, incoming: Any) -> None:
    """Rows ``x - A x' = b``."""
    assert outcome.transition is not None
    outgoing = parent.first_column + form.problem.stages[parent.node].outgoing
    n = len(incoming)
    shift = outcome.transition.arrive(np.zeros(n), outcome.realisation)
    columns = [outcome.transition.arrive(unit, outcome.realisation) - shift for unit in np.eye(n)]
    matrix = np.array(columns).T
    for i in range(n):
        used = np.flatnonzero(matrix[i])
        form._lp.add_row(
            np.concatenate([[incoming[i]], outgoing[used]]),
            np.concatenate([[1.0], -matrix[i, used]]),
            shift[i],
            shift[i],
        )


def _add_risk(
    lp: _Assembly, theta: int, values: Any, weights: Floats, measure: RiskMeasure
) -> None:
    """``theta >= sum_i w_i AVaR_tail_i(values)``, each tail by Rockafellar and Uryasev's LP."""
    columns, coefficients = [theta], [1.0]
    for weight, tail in measure.tail_mixture() or ():
        if tail == 1.0:
            columns.extend(values)
            coefficients.extend(-weight * weights)
            continue
        level = lp.add_columns(1, -np.inf, np.inf)
        columns.append(level)
        coefficients.append(-weight)
        for value, p in zip(values, weights, strict=True):
            if p == 0.0:
                continue
            if tail == 0.0:
                lp.add_row([level, value], [1.0, -1.0], 0.0, np.inf)
                continue
            excess = lp.add_columns(1, 0.0, np.inf)
            lp.add_row([excess, value, level], [1.0, -1.0, 1.0], 0.0, np.inf)
            columns.append(excess)
            coefficients.append(-weight * p / tail)
    lp.add_row(columns, coefficients, 0.0, np.inf)


class _Assembly:
    """Collects columns and rows of a large linear program."""

    def __init__(self) -> None:
        self._n = 0
        self._lower: list[Floats] = []
        self._upper: list[Floats] = []
        self._changes: list[tuple[Any, Any, Any]] = []
        self._costs: dict[int, float] = {}
        self._rows: list[Any] = []
        self._columns: list[Any] = []
        self._values: list[Any] = []
        self._row_lower: list[float] = []
        self._row_upper: list[float] = []

    def add_columns(self, n: int, lower: float, upper: float) -> int:
        """Append columns of cost 0; returns the first."""
        return self._extend(np.full(n, lower), np.full(n, upper))

    def add_block(self, arrays: Arrays) -> int:
        """Append columns and rows of a stage, without its costs; returns the first column."""
        first = self._extend(arrays.column_lower, arrays.column_upper)
        matrix = arrays.matrix.tocoo()
        self._rows.append(matrix.row + len(self._row_lower))
        self._columns.append(matrix.col + first)
        self._values.append(matrix.data)
        self._row_lower.extend(arrays.row_lower)
        self._row_upper.extend(arrays.row_upper)
        return first

    def set_bounds(self, columns: Any, lower: Any, upper: Any) -> None:
        """Replace bounds."""
        self._changes.append((columns, lower, upper))

    def set_cost(self, column: int, cost: float) -> None:
        """Set a cost."""
        self._costs[column] = cost

    def add_row(self, columns: Any, values: Any, lower: float, upper: float) -> None:
        """Append one row."""
        self._rows.append(np.full(len(columns), len(self._row_lower)))
        self._columns.append(np.asarray(columns))
        self._values.append(np.asarray(values, dtype=float))
        self._row_lower.append(float(lower))
        self._row_upper.append(float(upper))

    def arrays(self) -> Arrays:
        """The whole program."""
        lower, upper = np.concatenate(self._lower), np.concatenate(self._upper)
        for columns, low, high in self._changes:
            lower[columns], upper[columns] = low, high
        cost = np.zeros(self._n)
        for column, value in self._costs.items():
            cost[column] = value
        triplets = (
            np.concatenate(self._values),
            (np.concatenate(self._rows), np.concatenate(self._columns)),
        )
        matrix = sp.csr_array(triplets, shape=(len(self._row_lower), self._n))
        return Arrays(
            cost, matrix, np.array(self._row_lower), np.array(self._row_upper), lower, upper
        )

    def _extend(self, lower: Floats, upper: Floats) -> int:
        first = self._n
        self._lower.append(np.array(lower))
        self._upper.append(np.array(upper))
        self._n += len(lower)
        return first
