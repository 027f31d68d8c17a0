"""Bounds on the cost-to-go, computed where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg

from sddp.arrays import Floats
from sddp.engine.model.graph import NodeName
from sddp.engine.model.problem import Problem
from sddp.engine.presolve.compile import compile_problem
from sddp.engine.stage.file import stage_model, write_failure
from sddp.engine.stage.stage_data import StageData
from sddp.engine.stage.transition import IdentityMap, MatrixMap, ScaleMap, StateMap
from sddp.engine.value.initial_cuts import bounded_beforehand
from sddp.errors import ModelError, SolverError
from sddp.lp import Arrays, LinearProgram, Status
from sddp.risk import Expectation, RiskMeasure

# The LPs behind a computed bound are exact to their tolerance only.
SAFETY = 1e-8

Box = tuple[Floats, Floats]


def cost_to_go_bounds(
    problem: Problem, risk: Callable[[NodeName], RiskMeasure]
) -> dict[NodeName, float]:
    """Lower bound, in engine units, on the cost-to-go column of every node that has one.

    The user's bound where there is one; minus infinity where cuts known beforehand bound every
    child; otherwise computed: the least cost of each stage over all incoming states within the
    bounds of the outgoing variables before, added up along the graph under the risk measure.

    Raises
    ------
    ModelError
        A bound is needed, was not given and cannot be computed; the message says why.
    """
    graph = problem.graph
    followed = [name for name in graph.nodes if graph.children(name)]
    exact = compile_problem(problem).exact
    bounded = {n for n in graph.nodes if n in exact or bounded_beforehand(problem, n)}
    known = {n: bound for n in followed if (bound := _known(problem, n, bounded)) is not None}
    if len(known) == len(followed):
        return known
    order = graph.reverse_topological()
    if order is None:
        return _cyclic(problem, risk) | known
    return _acyclic(problem, risk, order, known)


def _known(problem: Problem, name: NodeName, bounded: Collection[NodeName]) -> float | None:
    """A bound that needs no computing; minus infinity where none is needed.

    The cost-to-go of nodes in `bounded` is bounded by cuts known before training.
    """
    given = problem.given_bound(name)
    if given is not None:
        return given
    if not problem.graph.reaches(name):
        return -np.inf
    return -np.inf if all(c in bounded for c, _ in problem.graph.children(name)) else None


def _acyclic(
    problem: Problem,
    risk: Callable[[NodeName], RiskMeasure],
    order: Sequence[NodeName],
    known: Mapping[NodeName, float],
) -> dict[NodeName, float]:
    """From the last nodes back: the least cost of each child and of what may follow it."""
    bounds = dict(known)
    open_nodes = [n for n in problem.graph.nodes if n not in known and problem.graph.children(n)]
    followed = {child for n in open_nodes for child, _ in problem.graph.children(n)}
    needed = [name for name in problem.graph.nodes if name in followed]
    least = _least_costs(problem, needed)
    money = problem.money
    after: dict[NodeName, float] = {}  # least cost of a child and of what follows it
    for name in order:
        children = problem.graph.children(name)
        if name not in bounds and children:
            values = [after[child] for child, _ in children] + [0.0]
            if min(values) == -np.inf:
                raise _unbounded(next(c for c, _ in children if after[c] == -np.inf))
            weights = [p for _, p in children] + [problem.graph.stop_probability(name)]
            bounds[name] = _safe(risk(name).evaluate(weights, values), money)
        if name in least:
            after[name] = least[name] + bounds.get(name, 0.0)
    return bounds


def _cyclic(problem: Problem, risk: Callable[[NodeName], RiskMeasure]) -> dict[NodeName, float]:
    """Costs that are never negative, or the expectation's linear equations."""
    names = list(problem.graph.nodes)
    least = _least_costs(problem, names)
    if min(least.values()) >= 0.0:
        return dict.fromkeys(names, 0.0)
    if any(not isinstance(risk(name), Expectation) for name in names):
        raise ModelError(
            "the graph has a cycle, costs may be negative and the policy is risk averse: "
            "give Problem a cost_to_go_bound"
        )
    chain = problem.graph.transition_probabilities()
    cost = np.array([least[name] for name in names])
    system = sp.csc_array(sp.eye_array(len(names)) - chain)
    values = scipy.sparse.linalg.spsolve(system, cost)
    return {
        name: _safe(float(v), problem.money) for name, v in zip(names, chain @ values, strict=True)
    }


def _safe(bound: float, money: float) -> float:
    return bound - SAFETY * max(money, abs(bound))


def _least_costs(problem: Problem, names: Iterable[NodeName]) -> dict[NodeName, float]:
    """Least cost of each node over the incoming states that may come; equal programs once."""
    boxes, programs = _Boxes(problem), _Programs(problem)
    found: dict[Hashable, float] = {}
    least: dict[NodeName, float] = {}
    for name in names:
        lower, upper = boxes.incoming(name)
        key = (id(problem.stages[name]), lower.tobytes(), upper.tobytes())
        if key not in found:
            n = problem.stages[name].noise.n_realisations
            found[key] = min(programs.least_cost(name, noise, (lower, upper)) for noise in range(n))
        least[name] = found[key]
    return least


class _Programs:
    """Linear programs of least costs; those with equal costs and matrix are one, edited.

    Nodes and noises of a lattice often differ in right-hand sides and bounds only.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._programs: dict[tuple[bytes, ...], LinearProgram] = {}

    def least_cost(self, name: NodeName, noise: int, box: Box) -> float:
        """Least cost of a node under one realization of the noise.

        Raises
        ------
        ModelError
            There is none.
        SolverError
            The program fails.
        """
        compiled = self._problem.stages[name]
        entries = {place: values[noise] for place, values in compiled.noise.values.items()}
        model = stage_model(compiled, entries, box)
        program = self._program(model.arrays, compiled)
        status = program.solve()
        if status is Status.OPTIMAL:
            return program.objective()
        if status is Status.INFEASIBLE:  # never reached, so never paid; training will say so
            return 0.0
        file = write_failure(model, f"node {name} noise {noise} least cost")
        if status is Status.UNBOUNDED:
            raise _unbounded(name, f", noise {noise},", f"; written to {file}")
        low, high = (compiled.states.describe(end) for end in box)
        raise SolverError(
            f"node {name!r}, noise {noise}, incoming state from {low} to {high}: the LP of its "
            f"least cost failed; written to {file}. Give Problem a cost_to_go_bound, which needs "
            "no such LP"
        )

    def _program(self, arrays: Arrays, compiled: StageData) -> LinearProgram:
        matrix = arrays.matrix
        parts = (arrays.cost, matrix.data, matrix.indices, matrix.indptr)
        key = tuple(part.tobytes() for part in parts)
        program = self._programs.get(key)
        if program is None:
            scaling = self._problem.scaling(compiled)
            program = self._programs[key] = LinearProgram(arrays, scaling)
            return program
        rows = np.arange(program.n_rows, dtype=np.int32)
        columns = np.arange(program.n_columns, dtype=np.int32)
        program.set_row_bounds(rows, arrays.row_lower, arrays.row_upper)
        program.set_column_bounds(columns, arrays.column_lower, arrays.column_upper)
        program.offset = arrays.offset
        return program


def _unbounded(name: NodeName, noise: str = "", file: str = "") -> ModelError:
    return ModelError(
        f"the cost-to-go cannot be bounded: node {name!r}{noise} has no least cost while its "
        "incoming state ranges over the bounds of the outgoing variables before it. Give those "
        f"variables bounds, or give Problem a cost_to_go_bound{file}"
    )


class _Boxes:
    """Smallest boxes known to hold the incoming states of the nodes.

    Parents with equal bounds of their outgoing variables are looked at once: a lattice has nodes
    times nodes arcs between two stages, but few different boxes.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._handed_on: list[Box] = []  # different boxes of outgoing variables
        self._numbers: dict[tuple[bytes, bytes], int] = {}
        self._by_stage: dict[int, int] = {}
        self._number = {
            name: self._number_of(problem.stages[name])
            for name in problem.graph.nodes
            if problem.graph.children(name)
        }
        self._arriving: dict[tuple[int, int], Box] = {}

    def incoming(self, name: NodeName) -> Box:
        """The box of one node."""
        compiled, graph = self._problem.stages[name], self._problem.graph
        parents = graph.parents(name)
        boxes = [
            self._arrive(compiled, number)
            for number in sorted({self._number[p] for p in parents if p != graph.root})
        ]
        if graph.root in parents:
            initial = self._problem.initial_state(name)
            boxes.append((initial, initial))
        if not boxes:
            return compiled.column_lower[compiled.incoming], compiled.column_upper[
                compiled.incoming
            ]
        lower = np.min([box[0] for box in boxes], axis=0)
        upper = np.max([box[1] for box in boxes], axis=0)
        return lower, upper

    def _number_of(self, compiled: StageData) -> int:
        if id(compiled) not in self._by_stage:
            box = outgoing_box(compiled)
            key = (box[0].tobytes(), box[1].tobytes())
            if key not in self._numbers:
                self._numbers[key] = len(self._handed_on)
                self._handed_on.append(box)
            self._by_stage[id(compiled)] = self._numbers[key]
        return self._by_stage[id(compiled)]

    def _arrive(self, compiled: StageData, number: int) -> Box:
        key = (id(compiled), number)
        if key not in self._arriving:
            self._arriving[key] = _arriving_box(compiled.transition, self._handed_on[number])
        return self._arriving[key]


def outgoing_box(compiled: StageData) -> Box:
    """Bounds of the outgoing variables, the widest of all noises."""
    lower, upper = compiled.column_lower.copy(), compiled.column_upper.copy()
    noise = compiled.noise
    lower[noise.positions["column_lower"]] = noise.values["column_lower"].min(axis=0)
    upper[noise.positions["column_upper"]] = noise.values["column_upper"].max(axis=0)
    return lower[compiled.outgoing], upper[compiled.outgoing]


def _arriving_box(transition: StateMap, box: Box) -> Box:
    if isinstance(transition, IdentityMap):
        return box
    shift = 0.0 if transition.shift is None else transition.shift
    if isinstance(transition, ScaleMap):
        ends = [_product(transition.scale, end) + shift for end in box]
        return np.min(ends, axis=(0, 1)), np.max(ends, axis=(0, 1))
    if isinstance(transition, MatrixMap) and np.isfinite(box).all():
        stacked = transition.stacked
        middle, radius = (box[0] + box[1]) / 2.0, (box[1] - box[0]) / 2.0
        shape = (transition.n_realisations, transition.n_components)
        center = np.asarray(stacked @ middle).reshape(shape) + shift
        reach = np.asarray(abs(stacked) @ radius).reshape(shape)
        return (center - reach).min(axis=0), (center + reach).max(axis=0)
    unknown = np.full(len(box[0]), np.inf)
    return -unknown, unknown


def _product(scale: Floats, end: Floats) -> Floats:
    """``scale * end`` with 0 times infinity taken as 0."""
    finite = np.where(np.isfinite(end), end, 0.0)
    infinite = np.where(np.isfinite(end), 0.0, np.sign(end))
    product: Floats = scale * finite
    direction = scale * infinite
    product[direction > 0.0] = np.inf
    product[direction < 0.0] = -np.inf
    return product
