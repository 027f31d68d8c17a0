"""Several paths an iteration, side by side or one after the other: the same numbers.

Values are those of the extensive form, and known ones of the cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest

import sddp
from sddp.engine.subproblem.feasibility import Infeasibility
from sddp.engine.subproblem.subproblems import Subproblems, build_subproblems
from sddp.engine.training import passes
from sddp.engine.value.cuts import Cut
from sddp.errors import ModelError
from tests.engine.cases import markov, reservoir
from tests.engine.support import (
    BY_NAME,
    CUT_FORMS,
    SOLVER,
    Reaches,
    Watched,
    thawed,
    time_limit,
    train,
)
from tests.engine.test_generated_rows import Circle, circle, circle_stage
from tests.engine.test_homogeneous import portfolio
from tests.engine.test_recourse import tank

TAIL = 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)
PROBLEMS: dict[str, tuple[Callable[[], sddp.Problem], sddp.risk.RiskMeasure | None]] = {
    "markov": (markov.c2, 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)),
    "infeasible-states": (lambda: tank(3.0), TAIL),
    "rows": (partial(circle, lazily=True), None),
    "rows-tail": (partial(circle, lazily=True), TAIL),
    "homogeneous": (partial(portfolio, 1.0), TAIL),
}


@cache
def exact(name: str) -> float:
    """Value of one of them by its extensive form."""
    build, risk = PROBLEMS[name]
    return sddp.extensive_form(build(), risk=risk).solve().value


def numbers(result: sddp.TrainingResult) -> list[dict[str, float]]:
    """The log without clock times."""
    return result.log.drop(columns="seconds").to_dict("records")


# ---------------------------------------------------------------- whatever the number of processes


@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_numbers_do_not_depend_on_the_number_of_processes(name, cuts, tmp_path):
    build, risk = PROBLEMS[name]
    results = [
        train(build(), 14, cuts=cuts, risk=risk, n_paths=3, n_jobs=n_jobs) for n_jobs in (1, 2, 3)
    ]
    files = []
    for i, result in enumerate(results):
        result.policy.save(tmp_path / f"{i}.policy")
        files.append((tmp_path / f"{i}.policy").read_bytes())
    for result, file in zip(results[1:], files[1:], strict=True):
        assert numbers(result) == numbers(results[0])
        assert file == files[0]


@pytest.mark.long
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_any_number_of_paths_reaches_the_extensive_form(name, cuts):
    build, risk = PROBLEMS[name]
    for n_paths in (1, 2, 3):
        stopping = sddp.Iterations(100) | Reaches(exact(name), SOLVER)
        with time_limit(30):
            result = train(build(), stopping, cuts=cuts, risk=risk, n_paths=n_paths)
        assert result.bound == pytest.approx(exact(name), rel=SOLVER)
        bounds = build().sign * result.log["bound"].to_numpy()
        assert np.all(bounds <= build().sign * exact(name) + 1e-8 * abs(exact(name)))


def test_the_first_ten_iterations_follow_one_path():
    asked: list[int] = []

    class Counting(sddp.InSample):
        def sample(self, problem, number, rng):
            asked.append(number)
            return super().sample(problem, number, rng)

    train(reservoir.c9(), 13, sampling=Counting(), n_paths=3)
    assert asked == list(range(10 + 3 * 3))


def test_the_logged_value_is_the_mean_over_the_paths():
    """Three given paths an iteration; the converged policy's totals of each are known."""
    paths = [[sddp.Step(t, w) for t in range(4)] for w in range(3)]
    result = train(reservoir.c9(), 41, sampling=sddp.Historical(paths), n_paths=3)
    table = result.policy.simulate(3, rng=np.random.default_rng(0), sampling=sddp.Historical(paths))
    expected = table.groupby("path")["objective"].sum().mean()
    assert result.log["simulated"].iloc[-1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["n_paths", "n_jobs"])
@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, True, "2", None])
def test_numbers_of_paths_and_processes_are_checked(name, value):
    with pytest.raises(ModelError, match=f"{name} = .*; give a whole number of at least 1"):
        train(reservoir.c9(), 2, **{name: value})


def test_numpy_numbers_of_paths_and_processes_are_numbers():
    result = train(reservoir.c9(), 12, n_paths=np.int64(2), n_jobs=np.int32(2))
    assert numbers(result) == numbers(train(reservoir.c9(), 12, n_paths=2))


# ---------------------------------------------------------------- twins


def twins(problem: sddp.Problem, n: int = 3, cuts: sddp.CutForm | None = None) -> list[Subproblems]:
    cuts = cuts or sddp.LazyAggregation()
    return [build_subproblems(problem, None, cuts, trains_to=SOLVER) for _ in range(n)]


def exchange(networks: list[Subproblems]) -> None:
    """Tell each what the others have found."""
    updates = [network.take_updates() for network in networks]
    for network in networks:
        for other, found in zip(networks, updates, strict=True):
            if other is not network:
                network.apply(found)


def test_feasibility_cuts_are_told_once():
    networks = twins(tank(3.0))
    cuts = [Infeasibility(Cut(np.array([-1.0]), 4.0 + i), 1.0, np.zeros(1), 0) for i in range(3)]
    for network, cut in zip(networks, cuts, strict=True):
        network.add_feasibility_cut(1, cut)

    def known() -> list[list[float]]:
        return [n.value_functions[1].feasibility.intercepts.tolist() for n in networks]

    assert known() == [[4.0], [5.0], [6.0]]
    exchange(networks)
    assert known() == [[4.0, 5.0, 6.0], [5.0, 4.0, 6.0], [6.0, 4.0, 5.0]]
    exchange(networks)  # nothing is new
    assert [len(cuts) for cuts in known()] == [3, 3, 3]


def test_what_a_twin_was_told_binds_its_decisions():
    first, second = twins(tank(3.0), 2)
    first.add_feasibility_cut(
        1, Infeasibility(Cut(np.array([-1.0]), 8.0), 1.0, np.zeros(1), 0)
    )  # at least 8 must be left
    exchange([first, second])
    for network in (first, second):
        assert network[0].solve(np.zeros(1), 0, SOLVER).outgoing[0] >= 8.0 - 1e-9


def test_cuts_are_told():
    first, second = twins(tank(3.0), 2)
    state = np.array([4.5])
    first.add_cuts(2, state, first[2].solve_all(state, SOLVER))
    assert not second.value_functions[2].ready
    exchange([first, second])
    pools = [network.value_functions[2].pools[0] for network in (first, second)]
    assert len(pools[0]) == len(pools[1]) == 1
    assert pools[0].slopes.tolist() == pools[1].slopes.tolist()
    assert pools[0].intercepts.tolist() == pools[1].intercepts.tolist()


def test_averaged_cuts_are_told():
    first, second = twins(markov.c2(), 2, sddp.AverageCut())
    name, state = (1, 0), np.array([10.0, 20.0])
    first.value_functions.add_cost_to_go_cut(name, Cut(np.array([1.0, 2.0]), 3.0), state)
    _ = second[name]  # whether the node is there already or not
    exchange([first, second])
    for network in (first, second):
        rows = network[name].cost_to_go.new_rows()
        assert rows.coefficients.tolist() == [[-1.0, -2.0, 1.0]]
        assert rows.lower.tolist() == [3.0]


class Counted(Circle):
    """Counts how often it is asked."""

    calls = 0

    def violated(self, values, tolerance):
        """See `RowGenerator`."""
        type(self).calls += 1
        return super().violated(values, tolerance)


def test_generated_rows_are_handed_over():
    """A twin that knows the rows asks the generator only for the final word."""

    def build(node: sddp.Node) -> sddp.Stage:
        return replace(circle_stage(lazily=True), rows=Counted())

    problem = sddp.Problem(sddp.linear_graph(3), build)
    counts, values = [], []
    for told in (False, True):
        first, second = twins(problem, 2)
        found = first[2].solve(np.array([1.3]), 0, SOLVER)
        if told:
            exchange([first, second])
        Counted.calls = 0
        answer = second[2].solve(np.array([1.3]), 0, SOLVER)
        counts.append(Counted.calls)
        values.append(answer.value)
        assert answer.value == pytest.approx(found.value, rel=SOLVER)
    assert counts[1] < counts[0]
    assert values[0] == pytest.approx(values[1], rel=SOLVER)


def test_what_the_first_iterations_found_reaches_the_twins():
    """The twins work from the eleventh iteration on; then they are told everything at once."""
    workers = Watched()
    train(tank(3.0), 12, n_paths=2, n_jobs=workers, stage_solver="highs")
    told = [task.updates for tasks in workers.tasks for task in tasks]
    assert [len(updates) for updates in told] == [*[0] * 10, 0, 10, 0, 1]
    assert all(updates.cuts or updates.feasibility for updates in told[11])


# ---------------------------------------------------------------- going on


@pytest.mark.long
@pytest.mark.parametrize("n_paths", [1, 3])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
@pytest.mark.parametrize("name", PROBLEMS)
def test_going_on_reaches_the_same_value(name, cuts, n_paths):
    """From a policy in the middle, with fewer or more paths than it was trained with."""
    build, risk = PROBLEMS[name]
    problem = build()
    short = train(problem, 3, cuts=cuts, risk=risk, n_paths=2)
    stopping = sddp.Iterations(100) | Reaches(exact(name), SOLVER)
    with time_limit(30):
        long = train(problem, stopping, 1, start=short.policy, n_paths=n_paths, n_jobs=2)
    assert long.bound == pytest.approx(exact(name), rel=SOLVER)
    first, last = problem.sign * long.log["bound"].iloc[0], problem.sign * short.bound
    assert first >= last - 1e-8 * abs(last)  # no step back


@pytest.mark.parametrize("twin", [False, True])
@pytest.mark.parametrize("cuts", CUT_FORMS, **BY_NAME)
def test_cuts_that_grow_after_thawing_are_written(cuts, twin):
    """A node asked for only after its children learnt knows what they learnt.

    Rows of the policy are restored as written already: those of later cuts are not.
    """
    risk = 0.5 * sddp.Expectation() + 0.5 * sddp.AVaR(0.66)
    policy = train(markov.c2(), 1, cuts=cuts, risk=risk).policy
    network = thawed(policy)
    asked = thawed(policy) if twin else network
    state, leaf, parent = np.array([150.0, 100.0]), [(2, 0), (2, 1)], (1, 0)
    old = policy.value(parent, {"r": state}, 0)
    for x in np.random.default_rng(0).uniform(0.0, 200.0, (20, 2)):
        for name in leaf:
            network.add_cuts(name, x, network[name].solve_all(x, SOLVER))
    if type(cuts) is sddp.AverageCut:  # it keeps cuts of its own, made at decisions
        for _ in range(10):
            solution = network[parent].solve(state, 0, SOLVER)
            visit = passes.Visit(sddp.Step(parent), state, solution, 1.0)
            trial, rng = solution.outgoing, np.random.default_rng(0)
            passes.refine(network, visit, trial, SOLVER, rng)
    if twin:
        asked.apply(network.take_updates())
    solution = asked[parent].solve(state, 0, SOLVER)
    cost_to_go = asked[parent].cost_to_go
    value = cost_to_go.outcomes.evaluate(solution.outgoing).value
    assert solution.theta == pytest.approx(value, rel=1e-7)
    assert -solution.value < old - 1.0  # maximising: what was learnt lowers the bound
