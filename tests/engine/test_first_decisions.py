"""The first decision is found once an iteration, with the bound, and handed to all paths."""

from __future__ import annotations

import pytest

import sddp
from sddp.engine.subproblem.network import Network
from sddp.engine.subproblem.subproblem import NodeProblem
from sddp.engine.training.parallel import Crew, Follower, Order
from sddp.engine.training.stopping import Progress, StoppingRule
from tests.engine.cases import markov, reservoir
from tests.engine.instances import random_instance
from tests.engine.support import SOLVER, train
from tests.engine.test_recourse import tank


class Orders:
    """What each iteration's paths were told, and what each first decision was refined to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.orders: list[list[Order]] = []
        self.refined: list[float] = []
        follow, solve = Crew.follow, Network.first_solutions

        def followed(crew, orders, interrupt):
            self.orders.append(list(orders))
            return follow(crew, orders, interrupt)

        def solved(network, tolerance):
            self.refined.append(tolerance)
            return solve(network, tolerance)

        monkeypatch.setattr(Crew, "follow", followed)
        monkeypatch.setattr(Network, "first_solutions", solved)


def test_no_path_solves_the_first_node_again(monkeypatch):
    """After the first iteration, before which nothing was known."""
    solved: list[str] = []
    solve, follow = NodeProblem.solve, Follower.follow
    inside = [False]

    def counted(node, *arguments):
        if inside[0]:
            solved.append(node.name)
        return solve(node, *arguments)

    def following(follower, *arguments):
        inside[0] = True
        try:
            return follow(follower, *arguments)
        finally:
            inside[0] = False

    monkeypatch.setattr(NodeProblem, "solve", counted)
    monkeypatch.setattr(Follower, "follow", following)
    train(markov.b1(), 15, n_paths=3)
    assert solved.count("node (0, 0)") == 1
    assert solved.count("node (1, 0)") > 15


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_decision_that_the_path_would_take(seed, monkeypatch):
    """Two first nodes, several noises: the value at the path's own, as solved afresh."""
    made = random_instance(seed, graph="markov")
    follow, seen = Follower.follow, []

    def compared(follower, order, heard, interrupt):
        for news in heard:
            follower.network.hear(news)
        if order.first is not None:
            step, network = order.path[0], follower.network
            afresh = network.nodes[step.node].solve(
                network.problem.initial_state(step.node), step.noise, order.tolerance
            )
            room = 2.0 * order.tolerance * max(1.0, abs(afresh.value))
            assert order.first.value == pytest.approx(afresh.value, abs=room)
            seen.append((step.node, step.noise))
        return follow(follower, order, [], interrupt)

    monkeypatch.setattr(Follower, "follow", compared)
    train(made.problem(), 15, risk=made.risk(), root_risk=made.root_risk())
    assert len(set(seen)) > 1


def test_it_is_refined_as_far_as_the_iteration_asks(monkeypatch):
    """Also where a stopping rule makes the tolerance jump to the final one."""

    class Jumps(StoppingRule):
        def reason(self, progress: Progress) -> str | None:
            if len(progress.log) == 6:
                progress.refine()
            return "enough" if len(progress.log) == 9 else None

    seen = Orders(monkeypatch)
    train(reservoir.c9(), Jumps())
    told = [order for orders in seen.orders for order in orders]
    assert seen.orders[0][0].first is None
    assert {order.tolerance for order in told[6:]} == {SOLVER}
    assert told[6].first is None  # the bound before was found more loosely
    assert all(order.first is not None for order in [*told[1:6], *told[7:]])
    for order, refined in zip(told[1:], seen.refined, strict=False):
        assert order.first is None or refined <= order.tolerance


def test_what_a_simulation_may_refute_is_found_again(monkeypatch):
    """It follows paths under the present cuts, and hands back feasibility cuts as training does."""
    seen = Orders(monkeypatch)
    result = train(tank(3.0), sddp.PolicyStability(20, 3, 0.0) | sddp.Iterations(9))
    known = [orders[0].first is not None for orders in seen.orders]
    assert known == [False, True, True] * 3
    assert result.bound == pytest.approx(sddp.extensive_form(tank(3.0)).solve().value, rel=SOLVER)


def test_going_on_begins_with_the_decision_of_its_bound(monkeypatch):
    policy = train(reservoir.c9(), 12).policy
    seen = Orders(monkeypatch)
    train(reservoir.c9(), 2, start=policy)
    assert seen.refined[0] == SOLVER
    assert all(orders[0].first is not None for orders in seen.orders)


def test_a_path_that_leaves_the_problem_is_refused_before_anything_is_solved():
    class Lost:
        def sample(self, problem, number, rng):
            return [sddp.Step(0), sddp.Step(1, noise=3)]

    with pytest.raises(sddp.errors.ModelError, match=r"noise = 3 is outside 0\.\.2"):
        train(reservoir.c9(), 3, sampling=Lost(), n_jobs=2)
