"""Infeasibility is explained: node, noise, state, file, and rows that cannot all hold."""

from __future__ import annotations

import re
from pathlib import Path

import highspy
import numpy as np
import pyomo.environ as pyo
import pytest
import scipy.sparse as sp
from scipy.optimize import linprog

import sddp
from sddp.engine.subproblem.conflict import find_conflict
from sddp.errors import InfeasibleProblem, InfeasibleState
from sddp.lp import Arrays
from tests.engine.support import train

N_ROWS, N_COLUMNS = 12, 6


def feasible(arrays: Arrays, rows: list[int], lower: np.ndarray, upper: np.ndarray) -> bool:
    """By scipy: some rows, and these bounds."""
    matrix = arrays.matrix.toarray()[rows]
    sides = [(matrix, arrays.row_upper[rows]), (-matrix, -arrays.row_lower[rows])]
    kept = [(m[np.isfinite(b)], b[np.isfinite(b)]) for m, b in sides]
    result = linprog(
        np.zeros(matrix.shape[1]),
        A_ub=np.vstack([m for m, _ in kept]),
        b_ub=np.concatenate([b for _, b in kept]),
        bounds=np.column_stack([lower, upper]),
        method="highs-ds",
    )
    assert result.status in (0, 2)
    return bool(result.status == 0)


def random_infeasible(seed: int) -> Arrays:
    """Random rows and bounds, of which some contradict; column 0 is given."""
    rng = np.random.default_rng(seed)
    while True:
        matrix = rng.normal(size=(N_ROWS, N_COLUMNS)) * (rng.random((N_ROWS, N_COLUMNS)) < 0.5)
        sizes = 10.0 ** rng.uniform(-3.0, 3.0, N_ROWS)
        center = rng.normal(size=N_ROWS)
        width = np.where(rng.random(N_ROWS) < 0.3, 0.0, np.inf)
        lower = np.where(rng.random(N_COLUMNS) < 0.6, 0.0, -np.inf)
        upper = np.where(rng.random(N_COLUMNS) < 0.3, 1.0, np.inf)
        lower[0] = upper[0] = 0.5
        arrays = Arrays(
            np.zeros(N_COLUMNS),
            sp.csr_array(matrix * sizes[:, None]),
            center * sizes,
            (center + width) * sizes,
            lower,
            upper,
        )
        if not feasible(arrays, list(range(N_ROWS)), lower, upper):
            return arrays


def split(arrays: Arrays, conflict: object) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Rows and bounds of a conflict, read off its names."""
    lower, upper = np.full(N_COLUMNS, -np.inf), np.full(N_COLUMNS, np.inf)
    lower[0] = upper[0] = 0.5
    for text in conflict.bounds:
        name, relation, value = text.split()
        (lower if relation == ">=" else upper)[int(name[1:])] = float(value)
    return [int(name[1:]) for name in conflict.rows], lower, upper


def named(arrays: Arrays, **options: float) -> object:
    rows, columns = [f"r{i}" for i in range(N_ROWS)], [f"x{i}" for i in range(N_COLUMNS)]
    return find_conflict(arrays, np.array([0]), rows, columns, N_ROWS - 3, **options)


@pytest.mark.parametrize("seed", range(40))
def test_a_conflict_is_infeasible_and_each_part_of_it_is_needed(seed):
    arrays = random_infeasible(seed)
    conflict = named(arrays)
    rows, lower, upper = split(arrays, conflict)
    assert conflict.minimal
    assert not feasible(arrays, rows, lower, upper)
    for row in rows:
        assert feasible(arrays, [r for r in rows if r != row], lower, upper)
    for i in range(1, N_COLUMNS):
        for bounds, none in ((lower, -np.inf), (upper, np.inf)):
            if np.isfinite(bounds[i]):
                kept, bounds[i] = bounds[i], none
                assert feasible(arrays, rows, lower, upper)
                bounds[i] = kept


def test_a_search_that_is_stopped_says_so_and_what_it_found_is_infeasible():
    found = 0
    for seed in range(10):
        arrays = random_infeasible(seed)
        conflict = named(arrays, seconds=0.0)
        found += not conflict.minimal
        assert not feasible(arrays, *split(arrays, conflict))
        assert "the search for a smaller set was stopped after 2 s" in str(conflict)
    assert found == 10


def test_bounds_that_cross_are_the_conflict():
    arrays = random_infeasible(0)
    upper = arrays.column_upper.copy()
    upper[2] = -1.0
    lower = arrays.column_lower.copy()
    lower[2] = 1.0
    crossed = Arrays(
        arrays.cost, arrays.matrix, arrays.row_lower, arrays.row_upper, lower, upper
    )  # fmt: skip
    conflict = named(crossed)
    assert conflict.rows == ()
    assert conflict.bounds == ("x2 >= 1", "x2 <= -1")


def store(initial: float = 10.0, need: float = 15.0, price: float = 1.0) -> sddp.Problem:
    """Two stages: what is kept must cover `need` less the rain of the second stage."""

    def build(node: sddp.Node) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.rain = pyo.Param(initialize=0.0, mutable=True)
        model.level_in, model.level = pyo.Var(), pyo.Var(bounds=(0.0, 30.0))
        model.used = pyo.Var(bounds=(0.0, None))
        model.spare = pyo.Var(bounds=(0.0, None))
        model.water = pyo.Constraint(expr=model.level == model.level_in - model.used + model.rain)
        model.idle = pyo.Constraint(expr=model.spare <= 3.0)
        if node.stage == 1:
            model.need = pyo.Constraint(expr=model.used >= need)
        model.cost = pyo.Objective(expr=price * model.used)
        states = {"level": sddp.State(model.level_in, model.level, initial)}
        rains = (0.0, 4.0) if node.stage == 1 else (1.0,)
        return sddp.Stage(model, states, sddp.Noise([{"rain": rain} for rain in rains]))

    return sddp.Problem(sddp.linear_graph(2), build)


def file_in(message: str) -> Path:
    found = re.search(r"written to (\S+\.lp)$", message)
    assert found, message
    return Path(found.group(1))


def assert_infeasible_file(path: Path) -> None:
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible


def test_an_infeasible_state_is_explained():
    """From 12, without rain, 15 cannot be used: the water balance, the need and level >= 0."""
    policy = train(store(20.0), 10).policy
    with pytest.raises(InfeasibleState) as error:
        policy.decide(1, {"level": 12.0}, 0)
    message = str(error.value)
    assert "node 1: no decision from this state" in message
    assert "missed by 3 in total" in message
    assert "noise 0, incoming state level = 12: conflicting rows: water, need;" in message
    assert "conflicting bounds: level >= 0 (each is needed for the conflict)" in message
    assert "idle" not in message
    assert_infeasible_file(file_in(message))
    assert policy.decide(1, {"level": 12.0}, 1).variables["used"] == pytest.approx(15.0)


def test_noise_outside_the_support_is_explained():
    policy = train(store(20.0), 10).policy
    with pytest.raises(
        InfeasibleState, match=r"noise outside .*, incoming .* = 12: .* water, need"
    ):
        policy.decide(1, {"level": 12.0}, {"rain": 2.5})


def test_a_feasibility_cut_takes_part_in_a_conflict():
    """Use is rewarded, so that the second stage runs dry until a cut asks to keep 15 of 14 + 1."""
    policy = train(store(14.0, price=-1.0), 10).policy
    assert policy.decide(0, {"level": 14.0}).outgoing["level"] == pytest.approx(15.0)
    with pytest.raises(InfeasibleState, match=r"conflicting rows: water, row\[\d\];.*used >= 0"):
        policy.decide(0, {"level": 13.5})


def test_an_infeasible_problem_is_explained():
    with pytest.raises(InfeasibleProblem) as error:
        train(store(10.0), 10)
    message = str(error.value)
    assert "at node 0 no decision from the initial state keeps all constraints" in message
    assert re.search(r"noise 0, incoming state level = 10: .*water, row\[\d\]", message)
    assert_infeasible_file(file_in(message))


def test_a_node_without_any_feasible_state_is_explained():
    """30 at most can be kept, and 50 are needed."""

    def build(node: sddp.Node) -> sddp.Stage:
        model = pyo.ConcreteModel()
        model.x0, model.x = pyo.Var(), pyo.Var(bounds=(0.0, 30.0))
        if node.stage == 1:
            model.y = pyo.Var(bounds=(0.0, 5.0))
            model.wanted = pyo.Constraint(expr=model.y >= 6.0)
            model.other = pyo.Constraint(expr=model.x <= model.x0)
        model.cost = pyo.Objective(expr=model.x)
        return sddp.Stage(model, {"x": sddp.State(model.x0, model.x, 1.0)})

    with pytest.raises(InfeasibleProblem) as error:
        train(sddp.Problem(sddp.linear_graph(2), build), 3)
    message = str(error.value)
    assert "node 1 has no feasible decision from any incoming state" in message
    assert "conflicting rows: wanted; conflicting bounds: y <= 5" in message


def test_the_same_failure_writes_the_same_file():
    policy = train(store(20.0), 10).policy
    files = set()
    for _ in range(2):
        with pytest.raises(InfeasibleState) as error:
            policy.decide(1, {"level": 12.0}, 0)
        files.add(file_in(str(error.value)))
    assert len(files) == 1
