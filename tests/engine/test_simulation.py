"""Simulating a policy: the table, its randomness, given paths, and enumeration as the oracle."""

from __future__ import annotations

import itertools
import re
from functools import cache

import numpy as np
import pandas as pd
import pytest

import sddp
from sddp.errors import ModelError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, train

BASE = ["node", "noise", "objective", "cost_to_go", "v.in", "v.out"]


def rng(seed=0):
    return np.random.default_rng(seed)


@cache
def a11():
    """A11, converged; simulating leaves a policy as it is."""
    return train(stagewise.a11(), 40).policy


def path_totals(table):
    """Total objective of each path."""
    return table.groupby(level="path")["objective"].sum()


def test_the_table_is_labeled():
    table = a11().simulate(4, rng=rng(), record=["g", "h"])
    assert list(table.columns) == [*BASE, "g", "h"]
    assert table.index.names == ["path", "stage"]
    assert list(table.index) == [(path, stage) for path in range(4) for stage in range(3)]
    assert list(table.loc[0, "node"]) == [0, 1, 2]
    assert set(table["noise"]) <= {0, 1, 2}
    assert table["g"].to_numpy() + table["h"].to_numpy() == pytest.approx(150.0)


def test_rows_follow_each_other():
    table = a11().simulate(6, rng=rng(), record=["g", "h", "s"])
    first = table.xs(0, level="stage")
    assert (first["v.in"] == 200.0).all()
    for stage in (1, 2):
        before, after = table.xs(stage - 1, level="stage"), table.xs(stage, level="stage")
        assert (before["v.out"] == after["v.in"]).all()
    inflow = np.array([0.0, 50.0, 100.0])[table["noise"]]
    kept = table["v.in"] - table["h"] - table["s"] + inflow
    assert table["v.out"].to_numpy() == pytest.approx(kept.to_numpy())
    price = np.array([50.0, 100.0, 150.0])[table.index.get_level_values("stage")]
    assert table["objective"].to_numpy() == pytest.approx((price * table["g"]).to_numpy())


def test_equal_generators_give_equal_tables():
    pd.testing.assert_frame_equal(a11().simulate(5, rng=rng(3)), a11().simulate(5, rng=rng(3)))
    assert not a11().simulate(5, rng=rng(3)).equals(a11().simulate(5, rng=rng(4)))


def test_more_paths_do_not_change_the_first_ones():
    few, many = a11().simulate(3, rng=rng(1)), a11().simulate(9, rng=rng(1))
    pd.testing.assert_frame_equal(few, many.loc[:2])


def all_paths(problem):
    """Every path of an acyclic problem with its probability."""

    def grow(name, steps, weight, arrivals):
        stage = problem.stages[name]
        for e, r in arrivals:
            for w, q in enumerate(stage.noise.probabilities):
                path, p = [*steps, sddp.Step(name, w, e)], weight * q * r
                children = problem.graph.children(name)
                stop = problem.graph.stop_probability(name) if children else 1.0
                if stop > 0.0:
                    yield path, p * stop
                for child, probability in children:
                    next_arrivals = enumerate(problem.stages[child].transition.probabilities)
                    yield from grow(child, path, p * probability, list(next_arrivals))

    for name, probability in problem.graph.children("root"):
        yield from grow(name, [], probability, [(0, 1.0)])


def expected_total(policy):
    """Mean total of a policy by following every path."""
    paths, weights = zip(*all_paths(policy.problem), strict=True)
    assert sum(weights) == pytest.approx(1.0)
    table = policy.simulate(len(paths), rng=rng(), sampling=sddp.Historical(paths))
    return float(np.array(weights) @ path_totals(table).to_numpy())


@pytest.mark.long
@pytest.mark.parametrize(
    ("build", "value"),
    [
        (stagewise.a11b, 10625.0),
        (markov.b7, 96875 / 12),
        (markov.c2, 855.0),
        (reservoir.c9, 275 / 6),
    ],
)
def test_the_expected_total_of_a_converged_policy_is_the_optimum(build, value):
    assert expected_total(train(build(), 60).policy) == pytest.approx(value, rel=SOLVER)


@pytest.mark.long
@pytest.mark.parametrize("graph", ["stopping", "general"])
def test_expected_total_with_both_noises_and_stops(graph):
    instance = random_instance(2, graph=graph, transition="scale", maximises=graph == "general")
    policy = train(instance.problem(), 200).policy
    assert expected_total(policy) == pytest.approx(policy.bound, rel=1e-8)


@pytest.mark.filterwarnings("ignore::sddp.errors.BoundWarning")  # after one iteration
def test_an_unconverged_policy_costs_more_than_the_optimum_and_its_bound_less():
    policies = [train(markov.b7(), iterations).policy for iterations in (1, 2, 3)]
    totals = [expected_total(policy) for policy in policies]
    assert min(totals) >= 96875 / 12 - 1e-6
    assert max(totals) > 96875 / 12 + 1.0
    assert max(policy.bound for policy in policies) <= 96875 / 12 + 1e-6


@pytest.mark.long
def test_the_simulated_mean_estimates_the_expected_total():
    """300 paths: within 4 standard errors."""
    policy = train(reservoir.c9(), 40).policy
    totals = path_totals(policy.simulate(300, rng=rng(7)))
    error = totals.std() / np.sqrt(len(totals))
    assert abs(totals.mean() - expected_total(policy)) < 4.0 * error


@pytest.mark.filterwarnings("ignore::sddp.errors.BoundWarning")  # trained for paths, not values
def test_frequencies_follow_the_probabilities():
    """Of a first Markov state (0.6) and of a stop (0.2): within 4 standard errors."""
    instance = random_instance(0, graph="markov", transition="none", noise=1)
    table = train(instance.problem(), 1).policy.simulate(400, rng=rng(1))
    first = table.xs(0, level="stage")["node"]
    assert abs((first == "b").mean() - 0.6) < 4 * np.sqrt(0.24 / 400)
    instance = random_instance(0, graph="stopping", transition="none", noise=1)
    table = train(instance.problem(), 1).policy.simulate(400, rng=rng(2))
    length = table.groupby("path").size()
    assert abs((length == 1).mean() - 0.2) < 4 * np.sqrt(0.16 / 400)


def test_given_paths_are_followed_in_order_and_again():
    paths = [[sddp.Step(0, 2), sddp.Step(1, 0)], [sddp.Step(0, 1)]]
    table = a11().simulate(3, rng=rng(), sampling=sddp.Historical(paths))
    assert list(table.index) == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert list(table["noise"]) == [2, 0, 1, 2, 0]


def test_given_paths_may_be_drawn():
    paths = [[sddp.Step(0, 0)], [sddp.Step(0, 2)]]
    scheme = sddp.Historical(paths, probabilities=[0.0, 1.0])
    assert set(a11().simulate(5, rng=rng(), sampling=scheme)["noise"]) == {2}


def test_values_outside_the_support_on_a_given_path():
    path = [
        sddp.Step(0, {"w": 33.0, "factor": 1.0}),
        sddp.Step(1, {"w": 0.0, "factor": 2.0}),
        sddp.Step(2, 1),
    ]
    table = a11().simulate(1, rng=rng(), record=["g", "h", "s"], sampling=sddp.Historical([path]))
    assert list(table["noise"]) == [-1, -1, 1]
    row = table.loc[(0, 0)]
    assert row["v.out"] == pytest.approx(200.0 + 33.0 - row["h"] - row["s"])
    row = table.loc[(0, 1)]
    assert row["objective"] == pytest.approx(100.0 * 2.0 * row["g"])


def test_out_of_sample_noise_and_arrivals():
    """A law of the user's own for both kinds of noise; nodes by the graph."""
    instance = random_instance(1, graph="linear", transition="scale", noise=1)
    policy = train(instance.problem(), 5).policy

    def draw(node, generator):
        scale = generator.uniform(0.9, 1.1, 2)
        return 0, sddp.LinearTransition(scale=[scale], shift=[[0.25, 0.0]])

    table = policy.simulate(3, rng=rng(9), sampling=sddp.OutOfSample(draw))
    generator = rng(9)
    for path in range(3):
        drawn = [generator.uniform(0.9, 1.1, 2) for _ in range(3)]
        rows = table.loc[path]
        assert list(rows["node"]) == [0, 1, 2]
        for stage in (1, 2):
            left = rows.loc[stage - 1, ["s[0].out", "s[1].out"]].to_numpy(dtype=float)
            arrived = rows.loc[stage, ["s[0].in", "s[1].in"]].to_numpy(dtype=float)
            assert arrived == pytest.approx(drawn[stage] * left + [0.25, 0.0])


def test_positions_drawn_by_numpy_are_positions():
    scheme = sddp.OutOfSample(
        lambda node, generator: (generator.integers(3), generator.integers(1))
    )
    table = a11().simulate(8, rng=rng(), sampling=scheme)
    assert set(table["noise"]) <= {0, 1, 2}
    inflow = np.array([0.0, 50.0, 100.0])[table["noise"]]
    assert (table["v.out"] <= table["v.in"] + inflow + 1e-6).all()


@pytest.mark.long
def test_a_discounted_loop_stops_by_itself_and_can_be_cut_off():
    policy = train(reservoir.d3(), 60).policy
    lengths = policy.simulate(200, rng=rng()).groupby("path").size()
    assert abs(lengths.mean() - 10.0) < 4 * np.sqrt(90 / 200)  # geometric with 0.1
    short = policy.simulate(20, rng=rng(), sampling=sddp.InSample(maximal_steps=3))
    assert short.groupby("path").size().max() == 3


def test_recording_indexed_variables():
    table = train(markov.c2(), 5).policy.simulate(2, rng=rng(), record=["outflow", "d[1,2]", "G"])
    recorded = list(table.columns[-4:])
    assert sorted(recorded) == ["G", "d[1,2]", "outflow[1]", "outflow[2]"]
    assert {"r[1].in", "r[2].out"} <= set(table.columns)


def test_variables_that_only_some_nodes_have_are_missing_elsewhere():
    table = train(markov.b1(), 5).policy.simulate(2, rng=rng(), record=["short"])
    missing = table["short"].isna()
    assert list(missing) == [stage < 3 for _, stage in table.index]


def test_the_value_after_the_last_decision_is_missing():
    instance = random_instance(1, graph="linear")
    problem = instance.problem()
    table = train(problem, 2).policy.simulate(1, rng=rng())
    assert (table.xs(2, level="stage")["cost_to_go"] == 0.0).all()


STEP = sddp.Step


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_paths": 0}, "n_paths = 0; simulate at least one path"),
        ({"record": ["gas"]}, "record names 'gas', which is a variable of no node"),
        ({"path": [STEP("nowhere")]}, "node 'nowhere' is unknown"),
        ({"path": [STEP(0), STEP("nowhere")]}, "node 'nowhere' is unknown"),
        ({"path": [STEP(0, 5)]}, "noise = 5 is outside 0..2"),
        ({"path": [STEP(0, {"w": 1.0})]}, "noise has ['w']; it needs values for"),
        ({"path": [STEP(0), STEP(1, 0, 4)]}, "arrival"),
        ({"path": [STEP(0), STEP(1, 0, -1)]}, "arrival"),
        (
            {"path": [STEP(0), STEP(1, 0, sddp.LinearTransition(scale=[[1.0], [2.0]]))]},
            "the arrival at node 1 has 2 realisations; give one",
        ),
        ({"path": []}, "path"),
    ],
)
def test_what_cannot_be_simulated_is_rejected(options, words):
    options = dict(options)
    if "path" in options:
        options["sampling"] = sddp.Historical([options.pop("path")])
    with pytest.raises(ModelError, match=re.escape(words)):
        a11().simulate(options.pop("n_paths", 1), rng=rng(), **options)


@pytest.mark.parametrize("probabilities", [[0.5], [0.7, 0.7], [-0.5, 1.5]])
def test_probabilities_of_given_paths_are_checked(probabilities):
    paths = [[STEP(0, 0)], [STEP(0, 2)]]
    with pytest.raises(ModelError, match="probabilities"):
        a11().simulate(3, rng=rng(), sampling=sddp.Historical(paths, probabilities))


def test_no_given_paths_are_rejected():
    with pytest.raises(ModelError, match="give at least one historical path"):
        sddp.Historical([])


def test_a_path_into_an_infeasible_state_is_rejected():
    policy = train(reservoir.c9(), 30).policy
    dry = [STEP(t, {"w": -6.0, "d": 0.0}) for t in range(2)]
    with pytest.raises(sddp.errors.InfeasibleState, match=r"node [01]"):
        policy.simulate(1, rng=rng(), sampling=sddp.Historical([dry]))


def test_every_path_is_counted_once_in_the_enumeration():
    """Of this file's own oracle: A11 has 27 paths, B7 27 times 4 regimes."""
    assert sum(1 for _ in all_paths(stagewise.a11())) == 27
    assert sum(1 for _ in all_paths(markov.b7())) == 27 * 4
    paths = [tuple(s.node for s in path) for path, _ in all_paths(markov.b7())]
    expected = {((0, 0), (1, i), (2, j)) for i, j in itertools.product((0, 1), repeat=2)}
    assert set(paths) == expected
