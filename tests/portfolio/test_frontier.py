"""The efficient frontier: every point of it is the optimum of its risk aversion."""

from __future__ import annotations

import numpy as np
import pytest

from sddp.portfolio import MeanVariance, MinimumVariance, Moments, closed_forms, efficient_frontier
from tests.portfolio.problems import answer, model_of, random_numbers, risky


def frontier_of(p):
    moments = Moments.of(p.mean, p.covariance)
    return efficient_frontier(
        model_of(p), moments, current_weights=p.current, cash_return=p.cash_return
    )


@pytest.mark.parametrize("cash", [True, False])
@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("seed", range(4))
def test_between_corners_it_is_the_optimum(seed, n, cash):
    p = random_numbers(seed, n, cash=cash, self_financing=cash)
    frontier = frontier_of(p)
    places = frontier.places
    assert places[0] == 0.0
    assert (np.diff(places) > 0.0).all()
    for place in np.concatenate([(places[:-1] + places[1:]) / 2.0, places[1:], [2.0 * places[-1]]]):
        expected = answer(p.with_(risk_aversion=1.0 / place))
        assert frontier.at(1.0 / place).to_numpy() == pytest.approx(
            expected.holdings.to_numpy(), abs=1e-9
        )


def test_there_are_corners_and_they_are_few():
    frontier = frontier_of(random_numbers(1, 12))
    assert 8 < len(frontier.corners) < 60


@pytest.mark.parametrize("seed", range(3))
def test_it_begins_at_least_variance_and_ends_at_greatest_return(seed):
    p = random_numbers(seed, 6, cash=False, self_financing=False).with_(lower=np.zeros(6))
    frontier = frontier_of(p)
    table = frontier.table()
    least = MinimumVariance(max_weights=p.upper).solve(
        Moments.of(p.mean, p.covariance), current_weights=p.current
    )
    assert table["volatility"].iloc[0] ** 2 == pytest.approx(least.variance, rel=1e-9)
    best = answer(p.with_(risk_aversion=0.0))
    assert table["expected_return"].iloc[-1] == pytest.approx(best.expected_return, abs=1e-12)
    assert table["expected_return"].is_monotonic_increasing
    assert table["volatility"].is_monotonic_increasing


def test_without_bounds_and_costs_it_is_the_line_of_two_funds():
    p = random_numbers(2, 5)
    model = MeanVariance(
        risk_aversion=1.0, min_weights=-9.0, max_weights=9.0, max_cash=0.0, self_financing=False
    )
    moments = Moments.of(p.mean, p.covariance)
    frontier = efficient_frontier(model, moments, current_weights=np.full(5, 0.2))
    two = closed_forms.two_funds(p.mean, p.covariance)
    for earned in np.linspace(frontier.expected_returns[0], frontier.expected_returns[1], 5):
        assert frontier.at_return(earned).to_numpy()[1:] == pytest.approx(two.at(earned), abs=1e-9)


def test_points_are_at_equal_steps_of_return():
    p = random_numbers(4, 8)
    frontier = frontier_of(p)
    points = frontier.points(7)
    assert points.shape == (7, 9)
    earned = [p.mean @ w[1:] + p.cash_return * w[0] - p.cost(w[1:]) for w in points]
    assert np.diff(earned) == pytest.approx(np.full(6, np.diff(earned).mean()), rel=1e-9)


def test_a_singular_covariance_has_a_frontier():
    rows = np.random.default_rng(3).normal(size=(4, 8)) * 0.04
    p = random_numbers(3, 8).with_(covariance=np.cov(rows.T))
    frontier = frontier_of(p)
    for place in (frontier.places[1:-1] + frontier.places[2:]) / 2.0:
        expected = answer(p.with_(risk_aversion=1.0 / place))
        held = frontier.at(1.0 / place).to_numpy()
        value = p.with_(risk_aversion=1.0 / place).value(held[1:], held[0])
        assert value == pytest.approx(expected.objective, rel=1e-9)
        assert risky(expected).shape == (8,)
