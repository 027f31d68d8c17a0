"""A trained policy: decisions as a pure function, values, slopes, and what it refuses."""

from __future__ import annotations

import copy
import re
from functools import cache

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.errors import InfeasibleState, ModelError
from tests.engine.cases import markov, reservoir, stagewise
from tests.engine.instances import random_instance
from tests.engine.support import BY_NAME, CUT_FORMS, ROUNDING, SOLVER, train
from tests.oracles import state_value


def exactly(decision):
    """Everything a decision says, for comparison bit by bit."""
    numbers = [decision.stage_objective, decision.cost_to_go, *decision.slope.tolist()]
    return {**decision.variables, "numbers": tuple(n.hex() for n in numbers)}


def noisy_matrix_problem() -> sddp.Problem:
    """Noise in the matrix that is sometimes 0: the solver drops and re-creates entries."""
    rng = np.random.default_rng(5)
    base, cost = rng.normal(size=(6, 6)), rng.uniform(0.3, 1.0, 6)
    table = np.where(rng.random((4, 6)) < 0.5, 0.0, rng.uniform(1.0, 2.0, (4, 6)))
    index = range(6)

    def build(node):
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(index), pyo.Var(index, bounds=(0, 10))
        m.y = pyo.Var(index, domain=pyo.NonNegativeReals)
        m.k = pyo.Param(index, mutable=True, initialize=1.0)

        def row(m, i):
            left = sum(base[i, j] * m.x[j] for j in index) + m.k[i] * m.x[(i + 1) % 6]
            right = 0.3 * m.x_in[i] + 0.1 * sum(m.x_in[j] for j in index) + 0.37
            return left + m.k[(i + 2) % 6] * m.y[i] + m.y[(i + 1) % 6] >= right

        m.rows = pyo.Constraint(index, rule=row)
        m.cost = pyo.Objective(expr=sum(cost[i] * m.x[i] + 3.3 * m.y[i] for i in index))
        realisations = [{f"k[{i}]": value for i, value in enumerate(row)} for row in table]
        return sddp.Stage(
            m, {"x": sddp.State(m.x_in, m.x, initial=1.0)}, noise=sddp.Noise(realisations)
        )

    return sddp.Problem(sddp.linear_graph(3), build)


@cache
def c9() -> sddp.Policy:
    """C9, converged. Sharing it between tests is safe if decisions are pure."""
    return train(reservoir.c9(), 30).policy


PURITY = {
    "c9": (reservoir.c9, lambda rng: {"x": rng.uniform(5.0, 15.0)}, range(4), 3),
    "c2": (
        markov.c2,
        lambda rng: {"r": rng.uniform(0.0, 200.0, 2)},
        [(1, 0), (1, 1), (2, 0), (2, 1)],
        3,
    ),
    "matrix": (noisy_matrix_problem, lambda rng: {"x": rng.uniform(0.0, 5.0, 6)}, range(3), 4),
}


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PURITY)
def test_a_decision_does_not_depend_on_what_was_asked_before(name, cuts):
    build, draw, nodes, n_noises = PURITY[name]
    policy = train(build(), 15, cuts=cuts).policy
    rng = np.random.default_rng(1)
    questions = [
        (nodes[int(rng.integers(len(nodes)))], draw(rng), int(rng.integers(n_noises)))
        for _ in range(40)
    ]
    first = [exactly(policy.decide(*question)) for question in questions]
    assert exactly(policy.decide(*questions[0])) == first[0]  # A, B, ..., A
    assert [exactly(policy.decide(*q)) for q in reversed(questions)][::-1] == first
    policy.simulate(5, rng=rng)
    _ = policy.bound
    assert [exactly(policy.decide(*question)) for question in questions] == first


def test_noise_values_and_positions_are_the_same_question():
    policy = train(stagewise.a11b(), 30).policy
    for position, (w, factor) in enumerate(stagewise.COST_FACTORS.items()):
        by_value = policy.decide(1, {"v": 120.0}, {"factor": factor, "w": w})
        assert exactly(by_value) == exactly(policy.decide(1, {"v": 120.0}, position))


def test_noise_outside_the_support():
    """In the last stage of A11 the value is 150 (150 - v - w), whatever the inflow w."""
    policy = train(stagewise.a11(), 30).policy
    for w in (12.5, 75.0, 149.0):
        decision = policy.decide(2, {"v": 1.0}, {"w": w, "factor": 1.0})
        assert decision.value == pytest.approx(150.0 * (149.0 - w), abs=1e-6)
        assert decision.variables["g"] == pytest.approx(149.0 - w, abs=1e-7)
    # And the next question of the support is answered as if nothing had been asked.
    assert policy.value(2, {"v": 1.0}, 1) == pytest.approx(150.0 * 99.0)


def test_a_decision_says_what_it_consists_of():
    policy = train(stagewise.a8(), 30).policy
    decision = policy.decide(0, {"x": 0.0})  # A8: one demand in the first stage
    assert set(decision.variables) == {"x_in", "x", "u", "o"}
    assert decision.outgoing == {"x": pytest.approx(100.0)}
    assert decision.stage_objective == pytest.approx(100 * 200 + 50 * 100)
    assert decision.cost_to_go == pytest.approx(62500 - 25000)
    assert decision.value == decision.stage_objective + decision.cost_to_go
    last = policy.decide(2, {"x": 100.0}, 1)
    assert last.cost_to_go == 0.0


@pytest.mark.parametrize("maximises", [False, True])
def test_slopes_are_derivatives_of_the_value_in_the_users_sense(maximises):
    instance = random_instance(3, graph="linear", transition="dense", maximises=maximises)
    policy = train(instance.problem(), 20).policy
    rng = np.random.default_rng(0)
    step = 1e-5
    for name in (0, 1, 2):
        for state in rng.uniform(1.0, 6.0, (3, 2)):
            decision = policy.decide(name, instance.state(state), 1)
            for i, unit in enumerate(np.eye(2)):
                ends = [
                    policy.value(name, instance.state(state + s * unit), 1) for s in (-step, step)
                ]
                sides = sorted(
                    [(decision.value - ends[0]) / step, (ends[1] - decision.value) / step]
                )
                # Between the one-sided derivatives where there is a kink.
                assert sides[0] - 1e-3 <= decision.slope[i] <= sides[1] + 1e-3


@pytest.mark.long
def test_values_are_exact_at_convergence():
    """At the first node the whole future is in the cuts: compared with scipy's extensive form."""
    instance = random_instance(4, graph="markov", transition="scale")
    policy = train(instance.problem(), 150).policy
    for name in ("a", "b"):
        for w in range(2):
            exact = state_value(instance.tree, name, instance.tree.initial, w)
            value = policy.value(name, instance.state(instance.tree.initial), w)
            assert value == pytest.approx(exact, rel=SOLVER)


def test_the_bound_of_result_policy_and_log_is_one_number():
    result = train(markov.c1(), 40, risk=0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.5))
    assert result.bound == result.policy.bound
    assert result.bound == pytest.approx(result.log["bound"].iloc[-1], rel=SOLVER)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere", {"x": 10.0}, 0), "node 'nowhere' is unknown"),
        ((0, {"level": 10.0}, 0), "state has ['level']; it needs values for ['x']"),
        ((0, {"x": float("nan")}, 0), "state x is not finite"),
        ((0, {"x": 10.0}), "node 0 sees noise before deciding; give noise="),
        ((0, {"x": 10.0}, 3), "noise = 3 is outside 0..2 at node 0"),
        ((0, {"x": 10.0}, -1), "noise = -1 is outside 0..2 at node 0"),
        ((0, {"x": 10.0}, {"w": 1.0}), "noise has ['w']; it needs values for ['d', 'w']"),
        ((0, {"x": 10.0}, {"w": float("nan"), "d": 1.0}), "w"),
        ((0, {"x": 10.0}, {"w": float("inf"), "d": 1.0}), "w"),
        ((0, {"x": 10.0}, "w"), "noise = 'w'"),
        ((0, {"x": 10.0}, 1.0), "noise = 1.0"),
    ],
)
def test_bad_questions_are_rejected(arguments, words):
    policy = c9()
    with pytest.raises(ModelError, match=re.escape(words)):
        policy.decide(*arguments)
    assert policy.decide(0, {"x": 10.0}, 0).variables["g"] >= 0.0


def test_numpy_numbers_are_numbers():
    expected = exactly(c9().decide(1, {"x": 10.0}, 2))
    assert exactly(c9().decide(1, {"x": np.float64(10.0)}, np.int64(2))) == expected


def test_an_infeasible_state_is_rejected_with_node_and_shortfall():
    with pytest.raises(InfeasibleState, match=r"node 0: .* missed by 5 in total"):
        c9().decide(0, {"x": 0.0}, 0)  # 0 comes in, 0 flows in, 5 must stay
    with pytest.raises(InfeasibleState, match="node 0"):
        c9().value(0, {"x": 0.0})
    assert c9().value(0, {"x": 10.0}) == pytest.approx(275 / 6, rel=1e-6)


# ---------------------------------------------------------------- decide_before


def stage_of_c9(w: float, d: float) -> sddp.Stage:
    """The reservoir's stage at one inflow and demand, without noise."""
    stage = reservoir.reservoir_stage()
    stage.model.w.set_value(w)
    stage.model.d.set_value(d)
    return sddp.Stage(stage.model, stage.states)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("risk", [None, sddp.AVaR(1 / 3)])
def test_a_stage_outside_the_graph_decides_like_one_of_it(risk, cuts):
    policy = train(reservoir.c9(), 60, cuts=cuts, risk=risk).policy
    for x in (6.0, 10.0, 14.5):
        inside = policy.decide(1, {"x": x}, 1)
        outside = policy.decide_before(stage_of_c9(5.0, 5.0), [(2, 1.0)], {"x": x}, risk=risk)
        assert outside.value == pytest.approx(inside.value, rel=SOLVER)


def shortage_stage(node: sddp.Node) -> sddp.Stage:
    """Ten units are needed next time; what is missing then costs 1 or 3, by the regime."""
    m = pyo.ConcreteModel()
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(0, 10))
    m.y = pyo.Var(domain=pyo.NonNegativeReals)
    m.short = pyo.Constraint(expr=m.y >= 10 - m.x_in)
    price = (0.0, 1.0, 3.0)[node.stage * (1 + node.markov_state)]
    m.cost = pyo.Objective(expr=price * m.y + (2.0 * m.x if node.stage == 0 else 0.0))
    return sddp.Stage(m, {"x": sddp.State(m.x_in, m.x, initial=0.0)})


def shortage_by_regime() -> sddp.Problem:
    """Both regimes of `shortage_stage`."""
    return sddp.Problem(sddp.markov_graph([[[1.0]], [[0.5, 0.5]]]), shortage_stage)


@pytest.mark.parametrize(
    ("arcs", "risk", "bought", "value"),
    [
        ([((1, 0), 0.3), ((1, 1), 0.7)], None, 10.0, 20.0),  # 2.4 a unit is more than 2
        ([((1, 0), 0.6), ((1, 1), 0.4)], None, 0.0, 18.0),
        ([((1, 0), 0.3), ((1, 1), 0.5)], None, 0.0, 18.0),  # the rest stops
        ([((1, 0), 1.0)], None, 0.0, 10.0),
        ([((1, 0), 0.6), ((1, 1), 0.4)], sddp.WorstCase(), 10.0, 20.0),
        ([((1, 0), 0.6), ((1, 1), 0.4)], sddp.AVaR(0.8), 0.0, 20.0),  # indifferent
    ],
)
def test_a_belief_weighs_what_may_follow(arcs, risk, bought, value):
    """Buying now costs 2 a unit. By hand."""
    problem = shortage_by_regime()
    policy = train(problem, 5).policy
    stage = shortage_stage(problem.graph.node((0, 0)))
    decision = policy.decide_before(stage, arcs, {"x": 0.0}, risk=risk)
    assert decision.value == pytest.approx(value, rel=SOLVER)
    if risk != sddp.AVaR(0.8):
        assert decision.outgoing["x"] == pytest.approx(bought, abs=1e-7)


def test_deciding_before_leaves_the_policy_as_it_was():
    before = exactly(c9().decide(2, {"x": 9.0}, 1))
    c9().decide_before(stage_of_c9(5.0, 5.0), [(2, 1.0)], {"x": 10.0})
    assert exactly(c9().decide(2, {"x": 9.0}, 1)) == before


def test_deciding_before_what_was_never_learned_is_rejected():
    """First decisions are no outcomes of another one, so training makes no cuts for them."""
    with pytest.raises(ModelError, match="node 0"):
        c9().decide_before(stage_of_c9(5.0, 5.0), [(0, 1.0)], {"x": 10.0})
    with pytest.raises(ModelError, match="nowhere"):
        c9().decide_before(stage_of_c9(5.0, 5.0), [("nowhere", 1.0)], {"x": 10.0})


@pytest.mark.parametrize("arcs", [[(1, 0.7), (2, 0.7)], [(1, -0.5), (2, 1.0)], []])
def test_deciding_before_needs_probabilities(arcs):
    with pytest.raises(ModelError):
        c9().decide_before(stage_of_c9(5.0, 5.0), arcs, {"x": 10.0})


def test_deciding_before_takes_a_stage_without_noise():
    """Which of its realisations was seen could not be said."""
    with pytest.raises(ModelError, match="noise"):
        c9().decide_before(reservoir.reservoir_stage(), [(2, 1.0)], {"x": 10.0})


def test_deciding_before_checks_states_and_state():
    m = pyo.ConcreteModel()
    m.x_in, m.x = pyo.Var(), pyo.Var(bounds=(5, 15))
    m.cost = pyo.Objective(expr=m.x)
    stage = sddp.Stage(m, {"level": sddp.State(m.x_in, m.x)})
    with pytest.raises(ModelError, match="states or sense differ"):
        c9().decide_before(stage, [(1, 1.0)], {"level": 10.0})
    with pytest.raises(InfeasibleState, match="now"):
        c9().decide_before(stage_of_c9(0.0, 0.0), [(1, 1.0)], {"x": 2.0}, name="now")


def test_rounding_of_a_state_onto_its_bound_is_no_infeasibility():
    policy = train(stagewise.a11(), 30).policy
    for v in (0.0, -1e-13, 1e-13):
        assert policy.value(2, {"v": v}, 0) == pytest.approx(150.0 * 150.0, rel=ROUNDING)


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_a_copy_answers_like_the_policy_bit_for_bit(cuts):
    policy = train(reservoir.c9(), 12, cuts=cuts).policy
    twin = copy.deepcopy(policy)
    assert twin is not policy
    assert twin.bound == policy.bound
    for x in (6.0, 10.0):
        mine, other = twin.decide(1, {"x": x}, 0), policy.decide(1, {"x": x}, 0)
        assert mine.variables == other.variables
        assert mine.slope.tolist() == other.slope.tolist()
