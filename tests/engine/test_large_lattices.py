"""Lattices of many nodes: work in proportion to nodes and arcs, and the same answers as before."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.presolve import theta_bounds as bounds
from sddp.engine.subproblem.subproblems import build_subproblems
from tests.engine.instances import random_instance

N_STAGES = 6


class Counted:
    """A name that counts how often names are hashed (every look-up does it) or compared."""

    used = 0

    def __init__(self, number: Hashable) -> None:
        self.number = number

    def __hash__(self) -> int:
        Counted.used += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        Counted.used += 1
        return isinstance(other, Counted) and self.number == other.number


def lattice_arcs(n_states: int, name=lambda pair: pair) -> tuple[list, dict]:
    names = {(t, k): name((t, k)) for t in range(N_STAGES) for k in range(n_states)}
    arcs = {("root", names[0, k]): 1.0 / n_states for k in range(n_states)}
    for t in range(1, N_STAGES):
        for j in range(n_states):
            arcs |= {(names[t - 1, j], names[t, k]): 1.0 / n_states for k in range(n_states)}
    return list(names.values()), arcs


def thermal_stage(demand: float, capacity: float = 12.0) -> sddp.Stage:
    model = pyo.ConcreteModel()
    model.x0, model.x1 = pyo.Var(), pyo.Var(bounds=(0.0, 20.0))
    model.u, model.s = pyo.Var(bounds=(0.0, capacity)), pyo.Var(bounds=(0.0, None))
    model.balance = pyo.Constraint(expr=model.x1 == model.x0 + model.u + model.s - demand)
    model.cost = pyo.Objective(expr=model.u + 5.0 * model.s + 0.1 * model.x1)
    return sddp.Stage(model, states={"x": sddp.State(model.x0, model.x1, initial=0.0)})


def counted_work(n_states: int) -> float:
    """Look-ups for each node and arc while a graph is made, ordered and asked for neighbors."""
    nodes, arcs = lattice_arcs(n_states, Counted)
    Counted.used = 0
    graph = sddp.Graph(nodes, arcs)
    order = graph.reverse_topological()
    assert order is not None
    for name in order:
        graph.parents(name), graph.children(name), graph.stop_probability(name)
    return Counted.used / (len(nodes) + len(arcs))


def test_the_work_on_a_graph_is_linear_in_nodes_and_arcs():
    small, large = counted_work(4), counted_work(40)
    assert large <= 1.1 * small


def naive_parents(graph: sddp.Graph, name: Hashable) -> tuple[Hashable, ...]:
    sources = (graph.root, *graph.nodes)
    return tuple(n for n in sources if any(kid == name for kid, _ in graph.children(n)))


def random_graph(seed: int) -> sddp.Graph:
    """Arcs forward, some of probability 0, every node reachable by a listed arc."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    arcs: dict = {("root", 0): 1.0}
    for source in range(n):
        targets = [t for t in range(source + 1, n) if t == source + 1 or rng.random() < 0.5]
        shares = rng.dirichlet(np.ones(len(targets) + 1))[:-1] if targets else []
        for target, share in zip(targets, shares, strict=True):
            arcs[source, target] = 0.0 if rng.random() < 0.2 else float(share)
    return sddp.Graph(range(n), arcs)


@pytest.mark.parametrize("seed", range(20))
def test_neighbors_order_and_stops_are_those_of_the_definitions(seed):
    graph = random_graph(seed)
    for name in graph.nodes:
        assert graph.parents(name) == naive_parents(graph, name)
        rest = 1.0 - sum(p for _, p in graph.children(name))
        assert graph.stop_probability(name) == (rest if rest > 1e-9 else 0.0)
    order = graph.reverse_topological()
    assert order is not None
    assert sorted(order) == list(graph.nodes)
    place = {name: i for i, name in enumerate(order)}
    assert all(place[kid] < place[n] for n in graph.nodes for kid, _ in graph.children(n))


def naive_box(problem: sddp.Problem, name: Hashable) -> bounds.Box:
    """One box for each parent."""
    compiled = problem.stages[name]
    boxes = []
    for parent in problem.graph.parents(name):
        if parent == problem.graph.root:
            boxes.append((problem.initial_state(name),) * 2)
        else:
            box = bounds.outgoing_box(problem.stages[parent])
            boxes.append(bounds._arriving_box(compiled.transition, box))
    return np.min([b[0] for b in boxes], axis=0), np.max([b[1] for b in boxes], axis=0)


@pytest.mark.parametrize("transition", ["none", "scale", "dense", "sparse", "shift"])
@pytest.mark.parametrize("graph", ["linear", "stopping", "markov", "general"])
def test_boxes_and_least_costs_are_those_of_every_parent_alone(graph, transition):
    problem = random_instance(3, graph=graph, transition=transition).problem()
    names = list(problem.graph.nodes)
    least = bounds._least_costs(problem, names)
    for name in names:
        lower, upper = naive_box(problem, name)
        found = bounds._Boxes(problem).incoming(name)
        assert np.array_equal(found[0], lower)
        assert np.array_equal(found[1], upper)
        fresh = bounds._Programs(problem)  # one program for each node, edited for no other
        noises = range(problem.stages[name].noise.n_realisations)
        alone = min(fresh.least_cost(name, noise, (lower, upper)) for noise in noises)
        assert least[name] == pytest.approx(alone, rel=1e-9, abs=1e-9)


def test_equal_programs_and_equal_boxes_are_looked_at_once(monkeypatch):
    """30 nodes a stage, three different capacities: the bounds need few linear programs."""
    nodes, arcs = lattice_arcs(30)
    shared = [thermal_stage(4.0, capacity) for capacity in (10.0, 11.0, 12.0)]
    problem = sddp.Problem(sddp.Graph(nodes, arcs), lambda node: shared[node.name[1] % 3])
    solved, mapped, built = [], [], []
    least, arriving = bounds._Programs.least_cost, bounds._arriving_box
    program = bounds.LinearProgram
    monkeypatch.setattr(bounds._Programs, "least_cost", lambda *a: solved.append(a) or least(*a))
    monkeypatch.setattr(bounds, "_arriving_box", lambda *a: mapped.append(a) or arriving(*a))
    monkeypatch.setattr(bounds, "LinearProgram", lambda *a: built.append(a) or program(*a))
    build_subproblems(problem, None, sddp.LazyAggregation())
    assert len(solved) == 3
    assert len(mapped) == 3
    assert len(built) == 1  # they differ in a bound only


def test_one_program_is_edited_for_other_sides_and_boxes():
    """Demands of 14, 17 and 20 after a store of 0 to 5: by hand, the store and 12 units come first.

    The least cost is that of the demand beyond the fullest store, at 1 up to 12 and at 5 beyond.
    """
    demands = {0: 0.0, 1: 14.0, 2: 17.0, 3: 20.0}
    arcs = {("root", 0): 1.0} | {(0, k): 1.0 / 3.0 for k in (1, 2, 3)}

    def build(node: sddp.Node) -> sddp.Stage:
        stage = thermal_stage(demands[node.name])
        stage.model.x1.setub(5.0)
        return stage

    least = bounds._least_costs(sddp.Problem(sddp.Graph(range(4), arcs), build), range(4))
    by_hand = {0: 0.0, 1: 9.0, 2: 12.0, 3: 12.0 + 5.0 * 3.0}
    assert least == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.long
def test_a_cycle_of_many_nodes_is_bounded_by_a_sparse_system():
    """A ring with discount 0.5 and least cost c at every node: the cost-to-go is c."""
    n = 3_000
    arcs: dict = {("root", 0): 1.0} | {(k, (k + 1) % n): 0.5 for k in range(n)}

    model = pyo.ConcreteModel()
    model.x0, model.x1 = pyo.Var(), pyo.Var(bounds=(0.0, 1.0))
    model.keep = pyo.Constraint(expr=model.x1 <= model.x0)
    model.cost = pyo.Objective(expr=-2.0 - model.x1)
    stage = sddp.Stage(model, states={"x": sddp.State(model.x0, model.x1, initial=1.0)})
    problem = sddp.Problem(sddp.Graph(range(n), arcs), lambda node: stage)
    found = bounds.cost_to_go_bounds(problem, lambda name: sddp.Expectation())
    assert np.array(list(found.values())) == pytest.approx(np.full(n, -3.0), abs=1e-6)
