"""The report of a problem: sizes and ranges, counted by hand and by every node on its own."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.stage.stage_data import arrays_at
from tests.engine.instances import GRAPHS, random_instance


def chain(small: float = 0.5, rains: tuple[float, ...] = (3.0, 0.0, 7.0)) -> sddp.Problem:
    """Two nodes: `small` in the matrix of the second, three rains there, two arrivals."""

    def build(node: sddp.Node) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.rain = pyo.Param(initialize=99.0, mutable=True)
        model.x0, model.x = pyo.Var(bounds=(-1e6, 1e6)), pyo.Var(bounds=(0.0, 200.0))
        model.spill = pyo.Var(bounds=(0.0, None))
        last = node.stage == 1
        rain = model.rain if last else 2.0
        model.water = pyo.Constraint(expr=model.x == model.x0 + rain - model.spill)
        model.leak = pyo.Constraint(expr=(small if last else 1.0) * model.x + model.spill <= 150.0)
        model.cost = pyo.Objective(expr=4.0 * model.x + (0.25 if last else 30.0) * model.spill)
        return sddp.Stage(
            model,
            {"level": sddp.State(model.x0, model.x, 1.0)},
            sddp.Noise([{"rain": value} for value in rains]) if last else None,
            sddp.LinearTransition(scale=[[0.9], [1.1]]) if last else None,
        )

    return sddp.Problem(sddp.linear_graph(2), build)


def test_sizes_and_ranges_by_hand():
    report = chain().report()
    assert {row.name: row.total for row in report.rows[:10]} == {
        "nodes": 2,
        "arcs": 2,
        "different stages": 2,
        "states": 1,
        "columns": 6,
        "rows": 4,
        "entries": 10,
        "noises": 4,
        "arrivals": 3,
        "paths": 6,
    }
    assert (report["noises"].largest, report["noises"].largest_at) == (3, "node 1")
    matrix = report["matrix"]
    assert (matrix.smallest, matrix.smallest_at) == (0.5, "row leak, column x, node 1")
    assert (matrix.largest, matrix.total) == (1.0, 5 + 3 * 5)
    objective = report["objective"]
    assert (objective.smallest, objective.smallest_at) == (0.25, "column spill, node 1")
    assert (objective.largest, objective.largest_at) == (30.0, "column spill, node 0")
    bound = report["bound"]  # those of the incoming variable are no constraints
    assert (bound.smallest, bound.largest) == (200.0, 200.0)
    sides = report["right-hand side"]  # 99 is replaced by the noise, of which 0 is no number
    assert (sides.smallest, sides.smallest_at) == (2.0, "row water, node 0")
    assert sides.largest == 150.0
    assert sides.span == 75.0
    assert report.warnings == ()
    least = chain(rains=(3.0, 1e-3)).report()["right-hand side"]
    assert (least.smallest, least.smallest_at) == (1e-3, "row water, node 1, noise 1")


@pytest.mark.parametrize("graph", GRAPHS)
def test_ranges_are_those_of_every_node_and_noise_alone(graph):
    problem = random_instance(4, graph=graph, transition="scale", noise=3).problem()
    report = problem.report()
    found: dict[str, list[np.ndarray]] = {"matrix": [], "objective": [], "bound": []}
    found["right-hand side"] = []
    for compiled in problem.stages.values():
        own = np.setdiff1d(np.arange(compiled.n_columns), compiled.incoming)
        for noise in range(compiled.noise.n_realisations):
            entries = {place: v[noise] for place, v in compiled.noise.values.items()}
            arrays = arrays_at(compiled, entries)
            found["matrix"].append(arrays.matrix.data)
            found["objective"].append(arrays.cost)
            found["bound"] += [arrays.column_lower[own], arrays.column_upper[own]]
            found["right-hand side"] += [arrays.row_lower, arrays.row_upper]
    for kind, parts in found.items():
        sizes = np.abs(np.concatenate(parts))
        sizes = sizes[np.isfinite(sizes) & (sizes > 0.0)]
        row = report[kind]
        assert row.total == len(sizes)
        assert row.smallest == sizes.min()
        assert row.largest == sizes.max()


def test_paths_are_counted_on_every_graph():
    """By walking all of them; a cycle has no end of them."""
    problem = random_instance(4, graph="general", transition="scale", noise=3).problem()
    graph, stages = problem.graph, problem.stages

    def walks(name: object) -> int:
        stops = not graph.children(name) or graph.stop_probability(name) > 0.0
        onward = 0
        for child, _ in graph.children(name):
            arrivals = 1 if name == "root" else stages[child].transition.n_realisations
            onward += stages[child].noise.n_realisations * arrivals * walks(child)
        return onward + (name != "root" and stops)

    assert problem.report()["paths"].total == walks("root")
    arcs = {("root", 0): 1.0, (0, 1): 1.0, (1, 0): 0.5}
    loop = sddp.Problem(sddp.Graph([0, 1], arcs), lambda node: chain_stage())
    assert loop.report()["paths"].total == math.inf
    assert "paths             infinite" in str(loop.report())


def chain_stage() -> sddp.Stage:
    model = pyo.ConcreteModel()
    model.x0, model.x = pyo.Var(), pyo.Var(bounds=(0.0, 1.0))
    model.keep = pyo.Constraint(expr=model.x <= model.x0)
    model.cost = pyo.Objective(expr=model.x)
    return sddp.Stage(model, {"x": sddp.State(model.x0, model.x, 1.0)})


def test_units_are_mended_by_scaling_and_true_spans_are_not():
    """Rows and columns in other units are no reason to warn; 1e-9 beside 1 in all of them is."""

    def stage(node: sddp.Node, *, mixed: bool) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.x0, model.x = pyo.Var(), pyo.Var(bounds=(0.0, 1.0))
        model.y, model.z = pyo.Var(bounds=(0.0, 1e6)), pyo.Var(bounds=(0.0, 1.0))
        model.keep = pyo.Constraint(expr=model.x <= model.x0 + 1e-6 * model.y)
        model.other = pyo.Constraint(expr=1e6 * model.z + 1e6 * model.x <= 1e6)
        if mixed:
            model.a = pyo.Constraint(expr=model.x + 1e-13 * model.z <= 1.0)
            model.b = pyo.Constraint(expr=1e-13 * model.x + model.z <= 1.0)
        model.cost = pyo.Objective(expr=model.x + model.z)
        return sddp.Stage(model, {"x": sddp.State(model.x0, model.x, 1.0)})

    sound = sddp.Problem(sddp.linear_graph(2), lambda node: stage(node, mixed=False)).report()
    assert sound["matrix"].span == pytest.approx(1e12)
    assert sound["matrix"].scaled_span < 100.0
    assert sound.warnings == ()
    report = sddp.Problem(sddp.linear_graph(2), lambda node: stage(node, mixed=True)).report()
    assert len(report.warnings) == 1
    assert (
        "matrix entries span 1.0e+19, from 1e-13 (row a, column z, node 0 and 1 more) to"
        in (report.warnings[0])
    )
    assert "more than scaling can mend" in report.warnings[0]
    assert f"Warning: {report.warnings[0]}" in str(report)
    assert "<b>Warning:</b> matrix entries span" in report._repr_html_()


def test_it_is_printed_shown_and_a_frame():
    report = chain().report()
    text = str(report)
    assert text.splitlines()[0].split() == [
        "quantity", "total", "smallest", "at", "largest", "at", "span", "scaled", "span",
    ]  # fmt: skip
    assert "right-hand side" in text
    assert "row leak, column x, node 1" in text
    frame = report.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert frame.loc["columns", "total"] == 6
    assert frame.loc["matrix", "smallest"] == 0.5
    assert list(frame.index) == [row.name for row in report.rows]
    html = report._repr_html_()
    assert html.startswith("<table>")
    assert html.count("<tr>") == 1 + len(report.rows)
    with pytest.raises(KeyError, match="'depth': quantities are"):
        report["depth"]


def test_names_are_escaped_in_html():
    def build(node: sddp.Node) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.x0, model.x = pyo.Var(["<b>"]), pyo.Var(["<b>"], bounds=(0.0, 1.0))
        model.keep = pyo.Constraint(expr=model.x["<b>"] <= 3.0 * model.x0["<b>"])
        model.cost = pyo.Objective(expr=model.x["<b>"])
        return sddp.Stage(model, {"x": sddp.State(model.x0, model.x, 1.0)})

    html = sddp.Problem(sddp.linear_graph(1), build).report()._repr_html_()
    assert "[<b>]" not in html
    assert "&lt;b&gt;" in html


def test_a_lattice_is_looked_at_once_for_each_different_stage():
    n = 200
    arcs = {("root", 0): 1.0} | {(i, i + 1): 1.0 for i in range(n - 1)}
    problem = sddp.Problem(sddp.Graph(range(n), arcs), lambda node: chain_stage())
    report = problem.report()
    assert report["different stages"].total == 1
    assert report["matrix"].largest_at.endswith(f"node 0 and {n - 1} more")
    assert report["matrix"].total == 2 * n
