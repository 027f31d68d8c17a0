"""Policy graphs: what they are, and the words with which bad ones are refused."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp.errors import ModelError


def test_linear_graph_is_a_chain():
    graph = sddp.linear_graph(3)
    assert graph.nodes == (0, 1, 2)
    assert [graph.children(name) for name in ("root", 0, 1, 2)] == [
        ((0, 1.0),),
        ((1, 1.0),),
        ((2, 1.0),),
        (),
    ]
    assert graph.parents(2) == (1,)
    assert [graph.node(name).stage for name in graph.nodes] == [0, 1, 2]
    assert graph.node(1).markov_state is None
    assert graph.reverse_topological() == (2, 1, 0)


def test_markov_graph_from_a_list_of_matrices():
    graph = sddp.markov_graph([[[0.2, 0.8]], [[1.0], [1.0]], [[0.1, 0.0, 0.9]]])
    assert graph.nodes == ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2))
    assert graph.children((1, 0)) == (((2, 0), 0.1), ((2, 2), 0.9))
    assert graph.node((2, 2)) == sddp.Node((2, 2), stage=2, markov_state=2)


@pytest.mark.parametrize("initial", [1, [0.0, 1.0]])
def test_markov_graph_from_one_stationary_matrix(initial):
    matrix = np.array([[0.9, 0.1], [0.4, 0.6]])
    graph = sddp.markov_graph(transition_matrix=matrix, n_stages=3, initial=initial)
    assert graph.children("root") == (((0, 1), 1.0),)
    for stage in (0, 1):
        for state in (0, 1):
            arcs = dict(graph.children((stage, state)))
            assert arcs == {(stage + 1, k): matrix[state, k] for k in (0, 1)}


def test_a_general_graph_stops_where_probability_is_missing():
    graph = sddp.Graph(["a", "b"], {("root", "a"): 1.0, ("a", "b"): 0.75, ("b", "a"): 0.0})
    assert graph.stop_probability("a") == 0.25
    assert graph.stop_probability("b") == 1.0
    assert graph.children("b") == ()  # an arc of probability 0 is none
    assert graph.reverse_topological() == ("b", "a")


def test_rounding_of_probabilities_is_no_stop():
    graph = sddp.Graph(["a", *range(10)], {("root", "a"): 1.0} | {("a", k): 0.1 for k in range(10)})
    assert graph.stop_probability("a") == 0.0


def test_a_cycle_needs_a_discount_and_has_no_order():
    arcs = {("root", "a"): 1.0, ("a", "b"): 1.0, ("b", "a"): 0.9}
    graph = sddp.Graph(["a", "b"], arcs)
    assert graph.reverse_topological() is None
    assert [graph.node(name).stage for name in "ab"] == [0, 1]
    assert graph.transition_probabilities().toarray() == pytest.approx(
        np.array([[0.0, 1.0], [0.9, 0.0]])
    )
    with pytest.raises(ModelError, match="from node 'a' the process never stops"):
        sddp.Graph(["a", "b"], arcs | {("b", "a"): 1.0})


ROOT = {("root", "a"): 1.0}


@pytest.mark.parametrize(
    ("nodes", "arcs", "words"),
    [
        ([], {}, "nodes is empty"),
        (["a", "a"], ROOT, "node 'a' is listed twice"),
        (["a", "root"], ROOT, "'root' is the root and cannot be a decision"),
        (["a"], ROOT | {("a", "z"): 0.5}, "arc ('a', 'z'): node 'z' is unknown"),
        (["a"], ROOT | {("z", "a"): 0.5}, "arc ('z', 'a'): node 'z' is unknown"),
        (["a", "b"], ROOT, "node 'b' has no arc leading to it"),
        (["a", "b"], ROOT | {("a", "b"): -0.1}, "arc ('a', 'b') has probability -0.1"),
        (["a", "b"], ROOT | {("a", "b"): 1.5}, "arc ('a', 'b') has probability 1.5"),
        (["a", "b"], ROOT | {("a", "b"): np.nan}, "arc ('a', 'b') has probability nan"),
        (["a"], ROOT | {("a", "root"): 0.5}, "arc ('a', 'root') leads back to the root"),
        (
            ["a", "b", "c"],
            ROOT | {("a", "b"): 0.75, ("a", "c"): 0.5},
            "the arcs out of node 'a' sum to 1.25, more than 1",
        ),
        (["a"], {("root", "a"): 0.5}, "the arcs out of the root sum to 0.5; they must sum to 1"),
        (
            ["a", "b", "c"],
            ROOT | {("b", "c"): 0.5, ("c", "b"): 0.5},
            "node 'b' cannot be reached from the root",
        ),
    ],
)
def test_bad_graphs_are_rejected_with_node_and_number(nodes, arcs, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        sddp.Graph(nodes, arcs)


NAN, NOT_A_TIME = float("nan"), np.datetime64("NaT", "ns")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (None, "node name None: stands for no node"),
        (NAN, "node name nan: is not equal to itself, as NaN and NaT"),
        ((0, NAN), "node name (0, nan): is not equal to itself"),
        (NOT_A_TIME, "is not equal to itself"),
        (pd.NaT, "node name NaT: is not equal to itself"),
        (Decimal("NaN"), "is not equal to itself"),
    ],
)
def test_names_by_which_nothing_is_found_are_rejected(name, words):
    words = re.escape(words) + ".*give each node a number, a text, a date or a tuple"
    with pytest.raises(ModelError, match=words):
        sddp.Graph(["a", name], ROOT | {("a", name): 1.0})
    with pytest.raises(ModelError, match=words):
        sddp.Graph(["a"], {(name, "a"): 1.0}, root=name)


@pytest.mark.parametrize("name", [[1], ("a", {})])
def test_names_without_a_hash_are_rejected(name):
    with pytest.raises(ModelError, match=r"node name .*: must be hashable"):
        sddp.Graph([name], {("root", "a"): 1.0})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"transition_matrices": [[[1.0]], [[0.5, 0.5], [1.0, 0.0]]]}, "stage 1 has shape (2, 2)"),
        ({"transition_matrices": [[[0.5], [0.5]]]}, "stage 0 has shape (2, 1); it needs 1 rows"),
        ({"transition_matrices": [[[1.0]], [[0.7, 0.7]]]}, "node (0, 0) sum to 1.4"),
        ({"transition_matrix": [[1.0]]}, "n_stages >= 1"),
        ({"transition_matrix": [[1.0]], "n_stages": 0}, "n_stages >= 1"),
        ({}, "give transition_matrices"),
        ({"transition_matrix": [[0.5, 0.5]], "n_stages": 2}, "shape (1, 2); it must be square"),
        (
            {"transition_matrix": [[1.0]], "n_stages": 2, "initial": 3},
            "initial = 3 is outside 0..0",
        ),
    ],
)
def test_bad_markov_chains_are_rejected(arguments, words):
    with pytest.raises(ModelError, match=re.escape(words)):
        sddp.markov_graph(**arguments)


def test_a_graph_without_stages_is_rejected():
    with pytest.raises(ModelError, match="n_stages = 0; at least one decision"):
        sddp.linear_graph(0)


def test_graphs_are_frozen():
    graph = sddp.linear_graph(2)
    with pytest.raises(AttributeError):
        graph.nodes = (1,)
