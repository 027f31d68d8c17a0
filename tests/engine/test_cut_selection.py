"""Training among chosen cuts: exact where it must be, and no longer dearer with every cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyomo.environ as pyo
import pytest

import sddp
from sddp.engine.stage import transition
from sddp.engine.stage.transition import ScaleMap
from sddp.engine.value.cut_selection import RecentlyLargest, SelectedCuts
from sddp.engine.value.cuts import Cut, Cuts
from tests.engine.cases import reservoir
from tests.engine.support import SOLVER, Reaches, train
from tests.engine.test_homogeneous import portfolio

DEFAULT = RecentlyLargest()


def pool_of(n: int) -> Cuts:
    return Cuts(np.arange(n, dtype=float)[:, None], np.zeros(n))


def choice(selection: SelectedCuts) -> list[list[int]] | None:
    chosen = selection.chosen()
    return None if chosen is None else [positions.tolist() for positions in chosen]


MANY = DEFAULT.fewest_values // 20


def selection_of(*pools: Cuts, realisations: int = MANY) -> SelectedCuts:
    return DEFAULT.start([(pool, realisations) for pool in pools])


def test_the_largest_and_the_newer_are_chosen():
    pools = [pool_of(20), pool_of(3)]
    selection = selection_of(*pools)
    assert choice(selection) is None  # nothing was looked at yet
    selection.note([np.array([4, 9, 4]), np.array([0])])
    assert choice(selection) == [[4, 9], [0]]
    pools[1].add(Cut(np.array([7.0]), 1.0))
    assert choice(selection) == [[4, 9], [0, 3]]
    selection.note([np.array([5]), np.array([1])])
    assert choice(selection) == [[4, 5, 9], [0, 1]]  # the new one was looked at: it is not needed


@pytest.mark.parametrize("realisations", [1, MANY])
def test_few_values_are_not_chosen_from(realisations):
    selection = selection_of(pool_of(19), realisations=realisations)
    selection.note([np.array([4])])
    assert choice(selection) is None


def test_all_cuts_are_looked_at_now_and_then():
    selection = selection_of(pool_of(20))
    for _ in range(3):
        selection.note([np.array([1])])
        for _ in range(DEFAULT.period):
            assert choice(selection) == [[1]]
            selection.kept()
        assert choice(selection) is None


def test_what_mattered_long_ago_is_forgotten():
    selection = selection_of(pool_of(20))
    selection.note([np.array([1])])
    for _ in range(DEFAULT.memory - 1):
        selection.note([np.array([2])])
        assert choice(selection) == [[1, 2]]
    selection.note([np.array([2])])
    assert choice(selection) == [[2]]


@pytest.fixture
def choosy(monkeypatch):
    """From the first cuts on, with a short memory, and ruling out whatever can be."""
    monkeypatch.setattr(transition, "SCREENED_SIZE", 0)
    return sddp.LazyAggregation(RecentlyLargest(memory=2, fewest_values=2))


@pytest.mark.parametrize("risk", [None, 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)])
def test_the_value_is_that_of_the_extensive_form(choosy, risk):
    for problem in (reservoir.c9(), portfolio(1.0)):
        exact = sddp.extensive_form(problem, risk=risk).solve().value
        result = train(
            problem, sddp.Iterations(150) | Reaches(exact, SOLVER), risk=risk, cuts=choosy
        )
        assert result.bound == pytest.approx(exact, rel=SOLVER)
        bounds = problem.sign * result.log["bound"].to_numpy()
        assert (np.diff(bounds) >= -1e-12 * np.abs(bounds[:-1])).all()  # it never steps back
        assert (bounds <= problem.sign * exact + 1e-9 * abs(exact)).all()


def inventory(seed: int) -> sddp.Problem:
    """Three goods, three realisations of costs and demand before each decision, four stages."""

    def build(node: sddp.Node) -> sddp.Stage:
        rng, goods = np.random.default_rng([seed, node.stage]), range(3)
        m = pyo.ConcreteModel()
        m.x_in, m.x = pyo.Var(goods), pyo.Var(goods, bounds=(0, 20))
        m.buy = pyo.Var(goods, bounds=(0, 4))
        m.lack, m.waste = (pyo.Var(goods, domain=pyo.NonNegativeReals) for _ in range(2))
        m.batch = pyo.Var(bounds=(0, 6))
        m.price = pyo.Param(goods, mutable=True, initialize=1.0)
        m.demand = pyo.Param(goods, mutable=True, initialize=1.0)
        share = rng.uniform(0, 1, 3)
        m.balance = pyo.Constraint(
            goods,
            rule=lambda m, i: (
                m.x[i]
                == m.x_in[i] + m.buy[i] + share[i] * m.batch - m.demand[i] + m.lack[i] - m.waste[i]
            ),
        )
        m.room = pyo.Constraint(expr=sum(m.x[i] for i in goods) <= 15)
        penalty, storage = rng.uniform(15, 30, 3), rng.uniform(0.05, 0.6, 3)
        m.cost = pyo.Objective(
            expr=1.5 * m.batch
            + sum(
                m.price[i] * m.buy[i]
                + penalty[i] * m.lack[i]
                + storage[i] * m.x[i]
                + 0.1 * m.waste[i]
                for i in goods
            )
        )
        noise = [
            {f"price[{i}]": rng.uniform(0.3, 6) for i in goods}
            | {f"demand[{i}]": rng.uniform(0, 6) for i in goods}
            for _ in range(3)
        ]
        state = sddp.State(m.x_in, m.x, initial=dict.fromkeys(goods, 1.0))
        return sddp.Stage(m, {"x": state}, noise=sddp.Noise(noise))

    return sddp.Problem(sddp.linear_graph(4), build, cost_to_go_bound=0.0)


@pytest.mark.long
@pytest.mark.parametrize("n_paths", [1, 2])
def test_a_bound_that_stalls_is_not_held_back_by_a_missed_cut(choosy, n_paths):
    """Cuts matter here that were last the largest long ago; the default rule must not stop early.

    Without a look at all cuts at the final tolerance the bound stalls 1e-4 to 1e-3 short.
    """
    problem = inventory(1)
    exact = sddp.extensive_form(problem).solve().value
    stopping = sddp.BoundStalling(30, 1e-7) | sddp.Iterations(400)
    result = train(problem, stopping, n_paths=n_paths, cuts=choosy)
    assert result.stopped_because == "bound stalled; not certified"
    assert result.bound == pytest.approx(exact, rel=1e-7)


def test_the_numbers_do_not_depend_on_the_number_of_processes(choosy):
    results = [train(inventory(0), 30, n_jobs=n_jobs, cuts=choosy) for n_jobs in (1, 2)]
    logs = [result.log.drop(columns="seconds") for result in results]
    assert logs[0].equals(logs[1])


@dataclass(frozen=True)
class NobodyAsks:
    """A selection that policies must not begin."""

    def start(self, pools):
        """See `CutSelection`."""
        raise AssertionError


def test_policies_look_at_all_cuts(choosy):
    """Whatever training looked at."""
    result = train(portfolio(1.0), 30, cuts=choosy)
    known = replace(result.policy.checkpoint, cuts=sddp.LazyAggregation(NobodyAsks()))
    again = sddp.Policy(result.policy.problem, known)
    assert again.bound == result.policy.bound
    assert again.bound == pytest.approx(result.log["bound"].iloc[-1], rel=1e-9)


# ---------------------------------------------------------------- cuts ruled out beforehand


@pytest.mark.parametrize("seed", range(20))
def test_ruling_cuts_out_changes_no_value(seed, monkeypatch):
    """Against a look at all of them, with and without intercepts, some components zero."""
    rng = np.random.default_rng(seed)
    n_cuts, n_scenarios, n = 60, 40, 30
    scale = rng.uniform(-0.2 if seed % 2 else 0.8, 1.3, (n_scenarios, n))
    slopes = rng.normal(1.0, 0.05, (n_cuts, n))
    slopes[10] = slopes[20]
    intercepts = rng.normal(0.0, 0.01, n_cuts) if seed % 3 else np.zeros(n_cuts)
    state = rng.dirichlet(np.ones(n)) * (rng.random(n) < 0.3)
    state_map = ScaleMap(np.full(n_scenarios, 1.0 / n_scenarios), scale, None)
    table = intercepts + (scale * state) @ slopes.T
    monkeypatch.setattr(transition, "SCREENED_SIZE", 0)
    values, positions = state_map.largest(slopes, intercepts, state)
    assert values == pytest.approx(table.max(axis=1), rel=1e-13)
    assert table[np.arange(n_scenarios), positions] == pytest.approx(values, rel=1e-13)


def test_a_shift_is_not_ruled_out(monkeypatch):
    """The box knows scales only: here only the shift tells which cut is the largest."""
    monkeypatch.setattr(transition, "SCREENED_SIZE", 0)
    scale, shift = np.ones((2, 1)), np.array([[5.0], [-5.0]])
    state_map = ScaleMap(np.array([0.5, 0.5]), scale, shift)
    values, positions = state_map.largest(
        np.array([[1.0], [-1.0]]), np.array([0.0, -0.5]), np.array([1.0])
    )
    assert values.tolist() == [6.0, 3.5]
    assert positions.tolist() == [0, 1]
