"""Numbers that are none, and places that are none: named before any solve; the next call works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp

import sddp
from sddp.errors import ModelError, SddpError
from tests.engine.support import BY_NAME, CUT_FORMS, train

NAN, INF = float("nan"), float("inf")
VALUE = 8_333.333333333332  # of the sound problem: three stages, rain of 0, 50 or 100


def hydro(
    stage: int, scale: Any = 1.0, coefficient: Any = 0.0, rains: Any = (0.0, 50.0, 100.0), **options
) -> sddp.Stage:
    model = pyo.ConcreteModel()
    model.w = pyo.Param(initialize=0.0, mutable=True)
    model.k = pyo.Param(initialize=coefficient, mutable=True)
    model.i, model.x = pyo.Var(), pyo.Var(bounds=(0, 200))
    model.g, model.h, model.s = (pyo.Var(domain=pyo.NonNegativeReals) for _ in range(3))
    model.b = pyo.Constraint(expr=model.x == model.i - model.h - model.s + model.w)
    model.d = pyo.Constraint(expr=model.h + model.g == 150)
    model.e = pyo.Constraint(expr=model.k * model.g <= 5 + model.x)
    model.o = pyo.Objective(expr=scale * (50, 100, 150)[stage] * model.g)
    states = {"v": sddp.State(model.i, model.x, options.pop("initial", 200.0))}
    noise = sddp.Noise([{"w": w} for w in rains], options.pop("probabilities", None))
    return sddp.Stage(model, states, noise, **options)


def problem(graph: sddp.Graph | None = None, bound: Any = None, **options: Any) -> sddp.Problem:
    """The sound problem, but for what is given, which concerns the second stage."""
    return sddp.Problem(
        graph or sddp.linear_graph(3),
        lambda node: hydro(node.stage, **(options if node.stage == 1 else {})),
        cost_to_go_bound=bound,
    )


def first(**options: Any) -> sddp.Problem:
    return sddp.Problem(
        sddp.linear_graph(3), lambda node: hydro(node.stage, **({} if node.stage else options))
    )


def moved(**arguments: Any) -> sddp.Problem:
    return problem(transition=sddp.LinearTransition(**arguments))


def matrix(value: float) -> Any:
    return [sp.csr_array(np.array([[1.0]])), sp.csr_array(np.array([[value]]))]


# What is wrong, and what the message must say: the place, the value.
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "slope of a cut": (
        lambda: problem(initial_cuts=[sddp.InitialCut([0.0]), sddp.InitialCut([NAN])]),
        r"node 1: initial cut 1: slope\[0\] = nan: must be finite",
    ),
    "intercept of a cut": (
        lambda: problem(initial_cuts=[sddp.InitialCut([0.0], -INF)]),
        "node 1: initial cut 0: intercept = -inf: must be finite",
    ),
    "shape of a cut": (
        lambda: problem(initial_cuts=[sddp.InitialCut([0.0, 1.0])]),
        r"node 1: initial cut 0 has a slope of shape \(2,\); it needs \(1,\)",
    ),
    "text in a cut": (
        lambda: problem(initial_cuts=[sddp.InitialCut(["much"])]),
        "node 1: .* is not an InitialCut of numbers",
    ),
    "coefficient inf": (lambda: problem(coefficient=INF), "node 1: .* of g in constraint e is inf"),
    "coefficient NaN": (lambda: problem(coefficient=NAN), "node 1: .* g in constraint e .*nan"),
    "cost inf": (lambda: problem(scale=INF), "node 1: .* g in the objective is inf"),
    "cost NaN": (lambda: problem(scale=NAN), "node 1: .* g in the objective .*nan"),
    "noise": (lambda: problem(rains=(1.0, NAN)), "node 1: noise realisation 1 sets w to nan"),
    "probability": (
        lambda: problem(probabilities=[0.5, NAN, 0.5]),
        "node 1: probabilities sum to nan",
    ),
    "probability as text": (
        lambda: problem(probabilities=["a", "b", "c"]),
        "node 1: probabilities are not numbers",
    ),
    "probability of an arc": (
        lambda: sddp.Graph(["a"], {("root", "a"): NAN}),
        r"arc \('root', 'a'\) has probability nan; give 0 to 1",
    ),
    "text as probability of an arc": (
        lambda: sddp.Graph(["a"], {("root", "a"): "sure"}),
        r"arc \('root', 'a'\) has probability 'sure'; give a number from 0 to 1",
    ),
    "probability in a matrix": (
        lambda: sddp.markov_graph([[[1.0]], [[0.5, NAN]]]),
        r"arc \(\(0, 0\), \(1, 1\)\) has probability nan",
    ),
    "initial state": (lambda: first(initial=NAN), "v is not finite"),
    "scale": (
        lambda: moved(scale=[[1.0], [INF]]),
        "node 1: scale of realization 1, state v is inf; give a finite number",
    ),
    "shift": (
        lambda: moved(shift=[[NAN], [1.0]]),
        "node 1: shift of realization 0, state v is nan; give a finite number",
    ),
    "matrix": (
        lambda: moved(matrix=matrix(NAN)),
        "node 1: matrix of realization 1, row 0, column 0 is nan",
    ),
    "dense matrix": (
        lambda: moved(matrix=np.array([[[INF]]])),
        "node 1: matrix of realization 0, row 0, column 0 is inf",
    ),
    "bound": (lambda: problem(bound=NAN), "cost_to_go_bound = nan: must be a finite number"),
    "bound of a node": (
        lambda: problem(bound={1: -INF}),
        "cost_to_go_bound of node 1 = -inf: must be a finite number",
    ),
    "bound as text": (lambda: problem(bound={1: "low"}), "cost_to_go_bound of node 1 = 'low'"),
    "final": (lambda: sddp.Tolerances(final=NAN), "Tolerances: final = nan: must be a finite"),
    "negative": (lambda: sddp.Tolerances(final=-1.0), "Tolerances: final = -1.0: must be a finite"),
    "start": (lambda: sddp.Tolerances(start=INF), "Tolerances: start = inf: must be a finite"),
    "share": (lambda: sddp.Tolerances(share="half"), "Tolerances: share = 'half': must be a"),
    "confidence": (lambda: sddp.CVaR(confidence=NAN), "confidence = nan; give 0 to 1"),
    "risk aversion": (lambda: sddp.Entropic(NAN), "risk_aversion = nan; give a positive number"),
    "weights": (
        lambda: train(problem(), 1, risk=NAN * sddp.Expectation() + 1.0 * sddp.WorstCase()),
        "weights of .* sum to nan",
    ),
    "stalling": (lambda: sddp.BoundStalling(5, NAN), "tolerance = nan"),
    "seconds": (lambda: sddp.Seconds(NAN), "limit = nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_number_is_rejected_with_its_place(name, monkeypatch):
    """Before any linear program is solved."""
    make, message = WRONG[name]

    def solve(self: object) -> None:
        raise AssertionError("a linear program was solved")

    monkeypatch.setattr("sddp.lp.LinearProgram.solve", solve)
    with pytest.raises(ModelError, match=message):
        make()


def test_the_sound_problem_trains_after_all_that():
    for make, _ in WRONG.values():
        with pytest.raises(ModelError):
            make()
    assert train(problem(), 60).bound == pytest.approx(VALUE, rel=1e-9)


def test_a_policy_names_bad_questions_and_answers_the_next_one():
    policy = train(problem(), 60).policy
    before = policy.decide(1, {"v": 100.0}, 1).value
    for state, noise in (
        ({"v": NAN}, 0),
        ({"v": INF}, 0),
        ({"v": "full"}, 0),
        ({"v": 100.0}, {"w": NAN}),
        ({"v": 100.0}, {"w": INF}),
        ({"v": 100.0}, NAN),
    ):
        with pytest.raises(ModelError, match=r"v|w|noise"):
            policy.decide(1, state, noise)
    assert policy.decide(1, {"v": 100.0}, 1).value == before


@pytest.mark.parametrize("probability", [NAN, -0.1, 1.1])
def test_arcs_of_an_extra_decision_are_checked(probability):
    policy = train(problem(), 20).policy
    stage = hydro(0)
    stage = sddp.Stage(stage.model, stage.states)
    with pytest.raises(ModelError, match="arcs have probabilities"):
        policy.decide_before(stage, [(1, probability)], {"v": 100.0})
    assert policy.decide_before(stage, [(1, 1.0)], {"v": 100.0}).value > 0.0


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_a_node_that_training_could_not_reach_is_named(cuts):
    """`b` is not reached, and neither is `c` behind it: nothing is known of what follows `b`."""
    arcs = {("root", "a"): 1.0, ("root", "b"): 0.0, ("a", "d"): 1.0, ("b", "c"): 1.0}
    graph = sddp.Graph(["a", "b", "c", "d"], arcs | {("c", "d"): 1.0})
    policy = train(problem(graph), 60, cuts=cuts).policy
    answer = policy.decide("a", {"v": 100.0}, 0).value
    for ask in (
        lambda: policy.decide("b", {"v": 100.0}, 0),
        lambda: policy.value("b", {"v": 100.0}),
        lambda: policy.simulate(
            1,
            rng=np.random.default_rng(0),
            sampling=sddp.Historical([[sddp.Step("b", 0), sddp.Step("c", 0)]]),
        ),
    ):
        with pytest.raises(SddpError, match=r"'b'.*(positive probability|no arc|arc)"):
            ask()
    assert policy.decide("a", {"v": 100.0}, 0).value == answer
