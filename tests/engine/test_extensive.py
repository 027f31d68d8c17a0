"""The extensive form beyond its value: first decisions, fixed ones, and what it refuses."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.policy import extensive_form as extensive
from sddp.errors import InfeasibleProblem, ModelError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.support import SOLVER


def test_first_decisions_are_named_by_node_and_noise():
    solution = sddp.extensive_form(stagewise.a11()).solve()
    assert [(node, noise) for node, noise, _ in solution.first] == [(0, 0), (0, 1), (0, 2)]
    variables = solution.decision(0, 2)
    assert variables["h"] + variables["g"] == pytest.approx(150.0)
    with pytest.raises(ModelError, match="node 1 with noise 0 is no first decision"):
        solution.decision(1)


def test_what_a_given_first_decision_is_worth():
    """A19: buying b earns the mean over D of 2 min(b, D) + (b - D)+ / 2, less b."""
    form = sddp.extensive_form(stagewise.a19())
    for b in (0.0, 3.0, 7.0, 10.0):
        earned = sum(2 * min(b, d) + 0.5 * max(b - d, 0.0) for d in range(11)) / 11
        assert form.solve({"b": b}).value == pytest.approx(earned - b, rel=SOLVER, abs=SOLVER)
    assert form.solve().value == pytest.approx(35 / 11, rel=SOLVER)  # fixing leaves no trace
    with pytest.raises(InfeasibleProblem, match=r"no policy exists; node 0, noise 0, incoming"):
        form.solve({"b": 11.0})


def test_where_a_tree_is_infeasible_is_named(tmp_path, monkeypatch):
    """Three days, 2 units; the last day asks for 5 under its second noise."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def build(node):
        m = pyo.ConcreteModel()
        m.need = pyo.Param(mutable=True, initialize=0.0)
        m.x0, m.x = pyo.Var(), pyo.Var(bounds=(0.0, 10.0))
        m.balance = pyo.Constraint(expr=m.x == m.x0 - m.need)
        m.cost = pyo.Objective(expr=m.x)
        noise = [{"need": 0.0}, {"need": 5.0 if node.stage == 2 else 0.5}]
        return sddp.Stage(m, {"x": sddp.State(m.x0, m.x, initial=2.0)}, sddp.Noise(noise))

    form = sddp.extensive_form(sddp.Problem(sddp.linear_graph(3), build))
    words = r"no policy exists; node 2, noise 1, incoming state x = .*missed by .*written to (\S+)"
    with pytest.raises(InfeasibleProblem, match=words) as error:
        form.solve()
    path = Path(re.search(r"written to (\S+)$", str(error.value)).group(1))
    assert "_2.1.x0" in path.read_text()


def test_a_loop_has_no_extensive_form():
    with pytest.raises(ModelError, match="the graph has a cycle"):
        sddp.extensive_form(reservoir.d3())


def test_a_tree_that_is_too_large_is_rejected(monkeypatch):
    monkeypatch.setattr(extensive, "MAXIMAL_VERTICES", 50)
    with pytest.raises(ModelError, match="more than 50 vertices; use train"):
        sddp.extensive_form(reservoir.c9())


def test_entropic_risk_has_no_linear_program():
    with pytest.raises(ModelError, match="its extensive form is no LP"):
        sddp.extensive_form(reservoir.c9(), risk=sddp.Entropic(1.0))
    with pytest.raises(ModelError, match="its extensive form is no LP"):
        sddp.extensive_form(
            reservoir.c9(), root_risk=0.5 * sddp.Expectation() + 0.5 * sddp.Entropic(1.0)
        )


def test_vertices_carry_their_probability():
    form = sddp.extensive_form(markov.b7())
    by_node: dict[object, float] = {}
    for vertex in form.vertices:
        by_node[vertex.node] = by_node.get(vertex.node, 0.0) + vertex.probability
    assert by_node == pytest.approx(
        {(0, 0): 1.0, (1, 0): 0.75, (1, 1): 0.25, (2, 0): 0.625, (2, 1): 0.375}
    )
