"""Equilibria: the quadratic program against the iteration and closed forms; money; bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from sddp.errors import InfeasibleProblem, ModelError
from sddp.portfolio import MaximumSharpe, MeanVariance, Moments
from sddp.simulation import (
    Agent,
    Impact,
    ImpactMarket,
    PotentialGame,
    crowding,
    find_equilibrium,
    identical_agents_weights,
    noisy_means,
    settle,
    spectral_radius,
)
from tests.simulation.games import FREE, identical_market, random_market

NOTIONS = ("nash", "price_taking")


@pytest.mark.parametrize("notion", NOTIONS)
@pytest.mark.parametrize(
    "seeds", [range(6), pytest.param(range(6, 500), marks=pytest.mark.long)], ids=["6", "494"]
)
def test_the_fixed_point_is_the_minimum_of_the_potential(notion, seeds):
    for seed in seeds:
        market = random_market(seed)
        fixed = find_equilibrium(market, notion)
        assert fixed.status == "converged"
        assert fixed.residual <= 1e-10
        direct = PotentialGame(market, notion).solve()
        np.testing.assert_allclose(direct.weights, fixed.weights, atol=1e-8, err_msg=str(seed))


@pytest.mark.parametrize("notion", NOTIONS)
def test_newtons_method_finds_the_minimum_of_the_interior_point_method(notion):
    """Kinks, bounds and cash limits, against another solver's minimum."""
    for seed in range(40):
        game = PotentialGame(random_market(seed), notion)
        by_newton = game.solve()
        assert by_newton.residual <= 1e-12
        game._convex = False
        by_interior = game.solve()
        np.testing.assert_allclose(by_newton.weights, by_interior.weights, atol=1e-9)


def test_demand_in_many_scenarios_is_that_of_each():
    market = random_market(5)
    errors = np.random.default_rng(2).normal(0.0, 0.02, (30, *market.means.shape))
    game = PotentialGame(market)
    found = game.demand(market.means + errors)
    for row, error in enumerate(errors):
        one = game.solve(means=market.means + error)
        np.testing.assert_allclose(found[row], one.demand, atol=1e-12)


def test_agents_without_curvature_are_solved_by_the_interior_point_method():
    """A linear program: all money goes to the best asset until its price has taken its lead."""
    model = MeanVariance(risk_aversion=0.0, self_financing=False)
    moments = Moments.of([0.05, 0.03], np.diag([0.01, 0.01]))
    agents = [Agent(name=k, share=0.5, optimizer=model, current=[0.0, 0.0]) for k in range(2)]
    market = ImpactMarket(moments, Impact(alpha=[0.04, 0.0]), agents)
    found = PotentialGame(market, "price_taking").solve()
    # 0.05 - 0.04 D = 0.03 at half of all wealth.
    np.testing.assert_allclose(found.demand, [0.5, 0.5], atol=1e-7)


def utility(market, k, trade, others):
    """What agent k gets, from the statement of the market alone; its own part in the price."""
    agent, s, f = market.agents[k], market.shares[k], market.impact.permanent
    w0, mu, cov = market.current[k], market.means[k], market.covariances[k]
    w = w0 + trade
    move = market.alpha * (others + s * trade)
    earned = mu @ w + market.cash_return * (1.0 - w.sum())
    return earned - 0.5 * agent.optimizer.risk_aversion * w @ cov @ w - trade @ move + f * w @ move


@pytest.mark.parametrize("seed", range(6))
def test_nobody_gains_by_another_trade(seed):
    """Nash, from the utility that the issue states: no direction improves, without bounds."""
    rng = np.random.default_rng(seed)
    market = identical_market(4, alpha=0.3, permanent=rng.uniform())
    agents = [
        replace(a, optimizer=replace(a.optimizer, risk_aversion=rng.uniform(2, 9)), share=share)
        for a, share in zip(market.agents, rng.dirichlet(np.ones(4)), strict=True)
    ]
    market = replace(market, agents=agents)
    found = PotentialGame(market).solve()
    for k in range(4):
        others = found.demand - market.shares[k] * found.trades[k]
        for direction in rng.normal(size=(4, 3)):
            best = minimize_scalar(
                lambda t, k=k, d=direction, o=others: (
                    -utility(market, k, found.trades[k] + t * d, o)
                ),
                bounds=(-0.5, 0.5),
                options={"xatol": 1e-10},
                method="bounded",
            )
            assert abs(best.x) < 1e-6


@pytest.mark.parametrize("notion", NOTIONS)
@pytest.mark.parametrize(("count", "wealth"), [(1, None), (2, None), (7, None), (5, 0.4)])
def test_identical_agents_have_a_closed_form(notion, count, wealth):
    """The factor is 1 + 1/K under Nash and 1 for price takers; s (K + 1) and s K by wealth."""
    market = identical_market(count, wealth=wealth)
    closed = identical_agents_weights(
        market.means[0],
        market.covariances[0],
        alpha=market.alpha,
        risk_aversion=4.0,
        current=market.current[0],
        n_agents=count,
        notion=notion,
        wealth_per_agent=wealth,
    )
    s = wealth or 1.0 / count
    factor = s * (count + (notion == "nash"))
    first = 4.0 * market.covariances[0] @ closed - market.means[0]
    np.testing.assert_allclose(
        first + factor * market.alpha * (closed - market.current[0]), 0.0, atol=1e-12
    )
    direct = PotentialGame(market, notion).solve()
    np.testing.assert_allclose(direct.weights, np.tile(closed, (count, 1)), atol=1e-10)
    fixed = find_equilibrium(market, notion, tolerance=1e-12)
    np.testing.assert_allclose(fixed.weights, np.tile(closed, (count, 1)), atol=1e-10)


@pytest.mark.parametrize("notion", NOTIONS)
def test_no_impact_and_no_wealth_are_no_market(notion):
    """To the last bit: every agent alone, as its optimizer would have it."""
    market = random_market(4)
    alone = np.array(
        [
            a.optimizer.solve(
                a.moments, current_weights=w0, cash_return=market.cash_return
            ).holdings.to_numpy()[1:]
            for a, w0 in zip(market.agents, market.current, strict=True)
        ]
    )
    still = replace(market, impact=Impact(alpha=0.0))
    found = find_equilibrium(still, notion, damping=1.0)
    np.testing.assert_allclose(found.weights, alone, atol=1e-14)
    assert (found.price_move == 0.0).all()
    if notion == "price_taking":
        idle = replace(market, agents=[replace(market.agents[0], share=0.0)])
        found = find_equilibrium(idle, notion, damping=1.0)
        np.testing.assert_allclose(found.weights, alone[:1], atol=1e-14)
        assert (found.price_move == 0.0).all()


@pytest.mark.parametrize("updating", ["simultaneous", "sequential", "random"])
def test_the_order_of_updating_does_not_matter(updating):
    market = random_market(5)
    found = find_equilibrium(market, updating=updating, order=range(len(market.agents)), rng=3)
    assert found.status == "converged"
    np.testing.assert_allclose(found.weights, PotentialGame(market).solve().weights, atol=1e-8)


def test_in_a_single_pass_later_agents_see_the_trades_before_them():
    market = identical_market(2)
    found = find_equilibrium(market, "price_taking", updating="single_pass", order=[1, 0])
    assert found.status == "single pass"
    first = np.linalg.solve(4.0 * market.covariances[0], market.means[0])
    np.testing.assert_allclose(found.weights[1], first, rtol=1e-9)
    moved = market.means[0] - market.alpha * 0.5 * (first - market.current[0])
    np.testing.assert_allclose(
        found.weights[0], np.linalg.solve(4.0 * market.covariances[0], moved), rtol=1e-9
    )


@pytest.mark.parametrize("notion", NOTIONS)
@pytest.mark.parametrize("updating", ["simultaneous", "sequential"])
def test_what_must_diverge_does_and_says_so(notion, updating):
    alpha = (
        2.0 if notion == "nash" else 3.0 / spectral_radius(identical_market(5, alpha=1.0), notion)
    )
    market = identical_market(5, alpha=alpha)
    radius = spectral_radius(market, notion)
    assert radius > 1.0
    found = find_equilibrium(market, notion, damping=1.0, max_iterations=100)
    assert found.status == "diverged"
    assert found.spectral_radius == pytest.approx(radius)
    bounded = replace(
        market,
        agents=[
            replace(a, optimizer=MeanVariance(risk_aversion=4.0, self_financing=False))
            for a in market.agents
        ],
    )
    to_and_fro = find_equilibrium(bounded, notion, damping=1.0, max_iterations=30)
    assert to_and_fro.status == "diverged"
    damped = find_equilibrium(market, notion, updating=updating, damping=1.0 / (1.0 + radius))
    assert damped.status == "converged"
    np.testing.assert_allclose(
        damped.weights, PotentialGame(market, notion).solve().weights, atol=1e-7
    )


@pytest.mark.parametrize("notion", NOTIONS)
def test_the_spectral_radius_is_the_rate_of_the_plain_iteration(notion):
    market = identical_market(4, alpha=0.02)
    exact = PotentialGame(market, notion).solve().weights
    steps = [
        find_equilibrium(market, notion, damping=1.0, tolerance=1e-16, max_iterations=n)
        for n in (4, 5, 6)
    ]
    off = [np.abs(s.weights - exact).max() for s in steps]
    assert off[2] / off[1] == pytest.approx(spectral_radius(market, notion), rel=0.15)


def test_price_takers_trade_more_than_those_who_know_their_impact():
    market = identical_market(3, alpha=0.5)
    sizes = [np.abs(PotentialGame(market, notion).solve().trades).sum() for notion in NOTIONS]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("seed", range(8))
def test_money_is_conserved(seed):
    market = random_market(seed)
    found = PotentialGame(market).solve()
    books = settle(market, found.weights)
    cash = books.agents_cash.sum() + books.providers_cash + books.costs
    assert abs(cash) < 1e-12
    held_before = market.shares @ market.current
    revalued = market.impact.permanent * held_before @ books.price_move
    wealth = books.agents_gain.sum() + books.providers_gain + books.costs
    assert abs(wealth - revalued) < 1e-12
    # Impact that reverts is the providers': D' Theta D less the permanent part.
    demand = found.demand
    share = 1.0 - market.impact.permanent
    assert books.providers_gain == pytest.approx(share * demand @ (market.alpha * demand))
    assert books.providers_gain >= 0.0


def test_buying_raises_the_price_that_buyers_pay_and_lowers_what_follows():
    """The two texts of the specification, in one market."""
    market = identical_market(1, permanent=0.25)
    found = PotentialGame(market).solve()
    bought = np.sign(found.demand)
    assert (np.sign(found.price_move) == bought).all()
    books = settle(market, found.weights)
    paid = (found.trades @ found.price_move).sum()
    reverted = books.agents_gain[0] + paid
    assert paid > 0.0
    assert reverted == pytest.approx(0.25 * found.weights[0] @ found.price_move)


def test_depth_is_money_for_one_percent():
    impact = Impact.from_depth({"a": 1e6, "b": 4e6}, wealth=1e8)
    moves = impact.move(np.array([0.01, 0.04]), ["a", "b"])
    np.testing.assert_allclose(moves, [0.01, 0.01])
    root = Impact.from_depth({"a": 1e6}, wealth=1e8, law="square root")
    np.testing.assert_allclose(root.move(np.array([0.01]), ["a"]), [0.01])
    np.testing.assert_allclose(root.move(np.array([-0.04]), ["a"]), [-0.02])
    with pytest.raises(ModelError, match="equilibria need linear impact"):
        find_equilibrium(replace(identical_market(2), impact=replace(root, alpha=0.1)))


def test_estimates_are_alike_as_stated():
    mean = Moments.of([0.05, 0.02], np.eye(2)).mean
    drawn = noisy_means(mean, noise=0.01, alikeness=0.7, n_agents=2, rng=1, n_scenarios=4_000)
    assert np.corrcoef(drawn[:, 0, 0], drawn[:, 1, 0])[0, 1] == pytest.approx(0.7, abs=0.03)
    assert drawn[:, 0, 0].std() == pytest.approx(0.01, rel=0.05)
    more = noisy_means(mean, noise=0.01, alikeness=0.7, n_agents=5, rng=7)
    np.testing.assert_array_equal(
        more[:2], noisy_means(mean, noise=0.01, alikeness=0.7, n_agents=2, rng=7)
    )
    later = noisy_means(mean, noise=0.01, alikeness=0.7, n_agents=2, rng=7, n_scenarios=3)
    np.testing.assert_array_equal(later[0], more[:2])
    same = noisy_means(mean, noise=0.01, alikeness=1.0, n_agents=3, rng=1)
    np.testing.assert_array_equal(same[0], same[2])


def test_crowding_of_identical_and_opposite_agents():
    market = identical_market(3)
    alike = crowding(market, PotentialGame(market).solve().weights)
    assert alike["trade correlation"] == pytest.approx(1.0)
    assert alike["overlap"] == pytest.approx(1.0)
    weights = market.current.copy()
    weights[0, 0] += 0.1
    weights[1, 0] -= 0.1
    against = crowding(market, weights)
    assert against["trade correlation"] == pytest.approx(-1.0 / 3.0)
    assert against["demand concentration"] == 0.0


def test_any_optimizer_may_take_part_as_a_price_taker():
    market = random_market(5)
    sharpe = MaximumSharpe()
    agents = [replace(market.agents[0], optimizer=sharpe), *market.agents[1:]]
    mixed = replace(market, agents=agents, impact=Impact(alpha=0.001))
    found = find_equilibrium(mixed, "price_taking", updating="sequential", damping=0.5)
    assert found.status == "converged"
    with pytest.raises(ModelError, match="can weigh its own impact"):
        find_equilibrium(mixed)
    with pytest.raises(ModelError, match="the potential needs a MeanVariance"):
        PotentialGame(mixed, "price_taking")


def test_below_its_threshold_an_agent_does_not_trade():
    market = identical_market(2)
    lazy = replace(market, agents=[replace(market.agents[0], threshold=5.0), market.agents[1]])
    found = find_equilibrium(lazy)
    assert (found.trades[0] == 0.0).all()
    assert np.abs(found.trades[1]).max() > 0.01


def changed(**options):
    return replace(identical_market(2).agents[0], **options)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: Impact(alpha=-0.1), "alpha=-0.1: must be"),
        (lambda: Impact(alpha={"a": np.nan}), "alpha="),
        (lambda: Impact(alpha=0.1, permanent=1.5), "permanent=1.5"),
        (lambda: Impact(alpha=0.1, law="cubic"), "law='cubic'"),
        (lambda: Impact.from_depth({"a": -5.0}, wealth=1.0), "depth of 'a'=-5.0: must be positive"),
        (lambda: Impact.from_depth({"a": 5.0}, wealth=0.0), "wealth=0.0"),
        (lambda: Impact(alpha=5.0).move(np.array([-0.3]), ["gold"]), "selling 0.3 .*'gold'.*below"),
        (lambda: changed(share=-1.0), "share=-1.0 of agent 0"),
        (lambda: changed(threshold=-1.0), "threshold=-1.0"),
        (lambda: changed(optimizer=MeanVariance(risk_aversion=1.0)), "self_financing=False"),
        (lambda: replace(identical_market(2), agents=[]), "agents is empty"),
        (lambda: replace(identical_market(2), agents=[changed(), changed()]), "different names"),
        (lambda: find_equilibrium(identical_market(2), "cournot"), "notion='cournot'"),
        (lambda: find_equilibrium(identical_market(2), updating="never"), "updating='never'"),
        (lambda: find_equilibrium(identical_market(2), damping=0.0), "damping=0.0"),
        (lambda: find_equilibrium(identical_market(2), order=[0, 0]), "order="),
        (
            lambda: noisy_means(
                identical_market(2).moments.mean, noise=1.0, alikeness=2.0, n_agents=1, rng=1
            ),
            "alikeness=2.0",
        ),
        (
            lambda: noisy_means(
                identical_market(2).moments.mean, noise=np.nan, alikeness=0.5, n_agents=1, rng=1
            ),
            "noise=nan: must be",
        ),
        (
            lambda: PotentialGame(replace(identical_market(2), agents=[changed(share=0.0)])),
            "at least one must have wealth",
        ),
    ],
)
def test_bad_input_is_named(act, words):
    with pytest.raises(ModelError, match=words):
        act()


@pytest.mark.parametrize("solve", [find_equilibrium, lambda m: PotentialGame(m).solve()])
def test_an_infeasible_agent_is_named(solve):
    model = MeanVariance(risk_aversion=1.0, self_financing=False, max_weights=0.1, max_cash=0.2)
    market = identical_market(2)
    stuck = replace(market.agents[1], name="fund B", optimizer=model)
    with pytest.raises(InfeasibleProblem, match="agent 'fund B'"):
        solve(replace(market, agents=[market.agents[0], stuck]))


def test_one_agent_in_one_asset():
    agent = Agent(
        name="only",
        share=1.0,
        optimizer=MeanVariance(risk_aversion=2.0, self_financing=False, **FREE),
        current=[0.0],
    )
    market = ImpactMarket(Moments.of([0.1], [[0.04]]), Impact(alpha=0.05), [agent])
    found = PotentialGame(market).solve()
    # mu = lambda sigma^2 w + 2 alpha w
    assert found.weights[0, 0] == pytest.approx(0.1 / (0.08 + 0.1), abs=1e-12)
