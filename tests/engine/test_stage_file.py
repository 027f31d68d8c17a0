"""Stage programs written to files: read back and solved by HiGHS they have the right value."""

from __future__ import annotations

from pathlib import Path

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp

import sddp
from sddp.errors import ModelError
from sddp.lp import Arrays, write_model
from tests.engine.instances import random_instance
from tests.engine.support import BY_NAME, CUT_FORMS, train

ENDINGS = ("lp", "mps")


def read(path: Path) -> highspy.Highs:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)  # the scheduler is one for all solvers of a process
    highs.setOptionValue("small_matrix_value", 1e-12)
    assert highs.readModel(str(path)) != highspy.HighsStatus.kError
    return highs


def solved(path: Path) -> tuple[float, dict[str, float]]:
    """Optimal value and columns, by name."""
    highs = read(path)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    values = highs.getSolution().col_value
    return highs.getObjectiveValue(), dict(zip(highs.getLp().col_names_, values, strict=True))


def hydro(sign: float = 1.0) -> sddp.Problem:
    """Two stages: store, or burn fuel at 50 and then 100; maximized as the negative."""

    def build(node: sddp.Node) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.rain = pyo.Param(initialize=0.0, mutable=True)
        model.level_in, model.level = pyo.Var(), pyo.Var(bounds=(0.0, 200.0))
        model.fuel = pyo.Var(["coal", "gas oil"], bounds=(0.0, None))
        model.release = pyo.Var(bounds=(0.0, 150.0))
        model.water = pyo.Constraint(
            expr=model.level == model.level_in - model.release + model.rain
        )
        model.demand = pyo.Constraint(
            expr=model.release + model.fuel["coal"] + model.fuel["gas oil"] == 150.0
        )
        price = (50.0, 100.0)[node.stage]
        model.cost = pyo.Objective(
            expr=sign * (price * model.fuel["coal"] + 2.0 * price * model.fuel["gas oil"] + 7.0),
            sense=pyo.minimize if sign > 0 else pyo.maximize,
        )
        states = {"level": sddp.State(model.level_in, model.level, 200.0)}
        return sddp.Stage(model, states, sddp.Noise([{"rain": 0.0}, {"rain": 100.0}]))

    return sddp.Problem(sddp.linear_graph(2), build)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_stage_is_written_in_the_users_names_and_sense(tmp_path, ending, sign):
    """With 30 in store and no rain, 120 must be burnt at 100: 12,007."""
    path = hydro(sign).write_stage(1, 0, tmp_path / f"stage.{ending}", state={"level": 30.0})
    value, columns = solved(path)
    assert value == pytest.approx(sign * 12_007.0, rel=1e-12)
    assert columns["level_in"] == 30.0
    assert columns["fuel(coal)"] == pytest.approx(120.0)
    assert columns["fuel(gas_oil)"] == 0.0
    assert next(iter(read(path).getLp().row_names_)) in ("water", "waterlo")


def test_noise_is_a_position_or_values_and_the_state_the_initial_one(tmp_path):
    problem = hydro()
    path = problem.write_stage(1, {"rain": -100.0}, tmp_path / "a.lp")
    assert solved(path)[0] == pytest.approx(5_007.0)  # 100 left, 50 to be burnt
    path = problem.write_stage(1, 1, tmp_path / "b.MPS".lower(), state={"level": 20.0})
    assert solved(path)[0] == pytest.approx(3_007.0)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("maximises", [False, True])
def test_a_policys_stage_is_worth_what_it_decides(tmp_path, ending, cuts, maximises):
    """At every node and noise, with noise in costs, sides, bounds and the matrix, under risk."""
    instance = random_instance(
        4, graph="markov", transition="scale", noise=2, maximises=maximises,
        mixture=((0.5, 1.0), (0.5, 0.3)),
    )  # fmt: skip
    policy = train(instance.problem(), 5, cuts=cuts, risk=instance.risk()).policy
    for node in policy.nodes:
        for noise in range(policy.problem.stages[node].noise.n_realisations):
            state = instance.state(np.array([1.5, 0.5]))
            decided = policy.decide(node, state, noise)
            path = policy.write_stage(node, noise, tmp_path / f"s.{ending}", state=state)
            value, columns = solved(path)
            assert value == pytest.approx(decided.value, rel=1e-8, abs=1e-8)
            if policy.problem.graph.children(node):
                assert columns["cost_to_go"] == pytest.approx(decided.cost_to_go, abs=1e-6)


def test_a_policy_writes_the_state_where_training_last_was(tmp_path):
    policy = train(hydro(), 10).policy
    path = policy.write_stage(0, 0, tmp_path / "first.lp")
    value, columns = solved(path)
    assert columns["level_in"] == 200.0
    assert value == pytest.approx(policy.decide(0, {"level": 200.0}, 0).value)


def test_wrong_arguments_are_named(tmp_path):
    problem = hydro()
    with pytest.raises(ModelError, match=r"path='.*stage.txt': must end in .lp or .mps"):
        problem.write_stage(0, 0, tmp_path / "stage.txt")
    with pytest.raises(ModelError, match=r"node=9: must be one of \[0, 1\]"):
        problem.write_stage(9, 0, tmp_path / "stage.lp")
    with pytest.raises(ModelError, match=r"noise = 2 is outside 0\.\.1 at node 0"):
        problem.write_stage(0, 2, tmp_path / "stage.lp")
    with pytest.raises(FileNotFoundError):
        problem.write_stage(0, 0, tmp_path / "missing" / "stage.lp")
    assert solved(problem.write_stage(0, 0, tmp_path / "stage.lp"))  # the next call works


@pytest.mark.parametrize("ending", ENDINGS)
def test_any_name_and_small_entries_survive(tmp_path, ending):
    """Blanks, brackets, operators, reserved words, exponents and equal names; an entry of 1e-10."""
    names = ["x[1,'a b']", "e3", "free", "2nd", "a+b", "a-b", "", "End", "π"]
    n = len(names)
    arrays = Arrays(
        cost=np.arange(1.0, n + 1.0),
        matrix=sp.csr_array(np.eye(n) + np.diag(np.full(n - 1, 1e-10), 1)),
        row_lower=np.ones(n),
        row_upper=np.full(n, np.inf),
        column_lower=np.zeros(n),
        column_upper=np.full(n, 10.0),
        offset=0.5,
    )
    path = tmp_path / f"names.{ending}"
    write_model(arrays, path, column_names=names, row_names=names)
    value, columns = solved(path)
    assert len(columns) == n
    assert value == pytest.approx(0.5 + n * (n + 1) / 2.0, rel=1e-8)
    assert read(path).getLp().num_row_ == n
