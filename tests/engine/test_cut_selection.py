"""Training among chosen cuts: exact where it must be, and no longer dearer with every cut."""

from __future__ import annotations

import numpy as np
import pytest

import sddp
from sddp.engine import cut_selection, transition
from sddp.engine.cut_selection import FEWEST_CUTS, MEMORY, PERIOD, CutSelection
from sddp.engine.cuts import CutPool
from sddp.engine.transition import ScaleMap
from tests.engine.cases import reservoir
from tests.engine.support import SOLVER, Reaches, train
from tests.engine.test_homogeneous import portfolio


def pool_of(n: int) -> CutPool:
    pool = CutPool(1)
    pool.extend(np.arange(n, dtype=float)[:, None], np.zeros(n))
    return pool


def choice(selection: CutSelection) -> list[list[int]] | None:
    chosen = selection.chosen()
    return None if chosen is None else [positions.tolist() for positions in chosen]


def test_the_largest_and_the_newer_are_chosen():
    pools = [pool_of(FEWEST_CUTS), pool_of(3)]
    selection = CutSelection(pools)
    assert choice(selection) is None  # nothing was looked at yet
    selection.note([np.array([4, 9, 4]), np.array([0])])
    assert choice(selection) == [[4, 9], [0]]
    pools[1].add(np.array([7.0]), 1.0)
    assert choice(selection) == [[4, 9], [0, 3]]
    selection.note([np.array([5]), np.array([1])])
    assert choice(selection) == [[4, 5, 9], [0, 1]]  # the new one was looked at: it is not needed


def test_few_cuts_are_not_chosen_from():
    selection = CutSelection([pool_of(FEWEST_CUTS - 1)])
    selection.note([np.array([4])])
    assert choice(selection) is None


def test_all_cuts_are_looked_at_now_and_then():
    selection = CutSelection([pool_of(FEWEST_CUTS)])
    for _ in range(3):
        selection.note([np.array([1])])
        for _ in range(PERIOD):
            assert choice(selection) == [[1]]
            selection.solved()
        assert choice(selection) is None


def test_what_mattered_long_ago_is_forgotten():
    selection = CutSelection([pool_of(FEWEST_CUTS)])
    selection.note([np.array([1])])
    for _ in range(MEMORY - 1):
        selection.note([np.array([2])])
        assert choice(selection) == [[1, 2]]
    selection.note([np.array([2])])
    assert choice(selection) == [[2]]


@pytest.fixture
def choosy(monkeypatch):
    """From the first cuts on, with a short memory."""
    monkeypatch.setattr(cut_selection, "FEWEST_CUTS", 2)
    monkeypatch.setattr(cut_selection, "MEMORY", 2)


@pytest.mark.parametrize("risk", [None, 0.4 * sddp.Expectation() + 0.6 * sddp.AVaR(0.3)])
def test_the_value_is_that_of_the_extensive_form(choosy, risk):
    for problem in (reservoir.c9(), portfolio(1.0)):
        exact = sddp.extensive_form(problem, risk=risk).solve().value
        result = train(problem, sddp.Iterations(150) | Reaches(exact, SOLVER), risk=risk)
        assert result.bound == pytest.approx(exact, rel=SOLVER)
        bounds = problem.sign * result.log["bound"].to_numpy()
        assert (np.diff(bounds) >= -1e-12 * np.abs(bounds[:-1])).all()  # it never steps back
        assert (bounds <= problem.sign * exact + 1e-9 * abs(exact)).all()


def test_a_policy_and_the_first_decision_look_at_all_cuts(choosy, monkeypatch):
    """The bound of a policy is that of its cuts, though it was trained among some of them."""
    result = train(portfolio(1.0), 30)
    network = result.policy.thaw()
    chosen = {
        name: node.cost_to_go.selects_cuts
        for name, node in ((n, network.nodes[n]) for n in network.problem.graph.nodes)
        if node.cost_to_go
    }
    firsts = {name for name, _ in network.problem.graph.children(network.problem.graph.root)}
    assert {name for name, selects in chosen.items() if not selects} == firsts
    assert result.policy.bound == pytest.approx(result.log["bound"].iloc[-1], rel=1e-9)
    monkeypatch.setattr(cut_selection.CutSelection, "chosen", None)  # nobody asks
    again = sddp.engine.policy.Policy(result.policy.problem, result.policy.snapshot)
    assert again.bound == result.policy.bound


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
