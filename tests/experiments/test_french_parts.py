"""Parts of the study of 100 portfolios: the true law, its tail, and the control variate."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from experiments.french.config import QUICK, Config, Purpose
from experiments.french.inputs import made_up
from experiments.french.law import Law, TrueTail, fit_laws
from experiments.french.policies import (
    COSTS_IGNORED,
    MOST_LIKELY,
    MYOPIC,
    Cell,
    World,
    asked,
    follow_cell,
    train,
    trained,
)
from experiments.french.questions import all_cells, ingredient_cells, whole_cell
from experiments.french.training import in_sample
from sddp.evaluation.rollout import RegimeControl, Rollout, rollout
from sddp.statistics import FittedFactorModel, Regimes
from sddp.studies.streams import stream

SMALL = replace(Config(), **QUICK)
CHAIN = np.array([[0.8, 0.2], [0.4, 0.6]])


@pytest.fixture(scope="module")
def world() -> World:
    return World(SMALL, fit_laws(made_up(SMALL), SMALL))


def one_factor(means=(0.02, -0.03), deviations=(0.02, 0.06)) -> Law:
    """Two assets on one factor, without residuals worth the name."""
    regimes = Regimes(
        np.array(means)[:, None],
        np.array(deviations)[:, None, None] ** 2,
        CHAIN,
        np.array([0.5, 0.5]),
    )
    assets = FittedFactorModel(
        np.array([0.001, 0.0]), np.array([[1.0], [0.5]]), 1e-12 * np.eye(2), np.ones(2)
    )
    return Law(regimes, assets, np.array([1.0, 0.0]))


# --- the law ---


def test_expected_returns_are_lognormal_means():
    law = one_factor()
    expected = np.exp(0.001 + np.array([0.02, -0.03]) + np.array([0.02, 0.06]) ** 2 / 2.0)
    np.testing.assert_allclose(law.gross[:, 1], expected, rtol=1e-9)
    np.testing.assert_array_equal(law.gross[:, 0], 1.0)


def test_the_tail_of_one_lognormal_is_that_of_its_closed_form():
    """CVaR of -(exp(z) - 1): E[exp(z) | z below its quantile] = exp(m + s^2/2) F(q - s) / p."""
    law, tail_mass = one_factor(), 0.1
    tail = TrueTail(law, 0.9, 400_000, rng=np.random.default_rng(1))
    for k, (mean, deviation) in enumerate(((0.021, 0.02), (-0.029, 0.06))):
        worst = np.exp(mean + deviation**2 / 2.0) * norm.cdf(norm.ppf(tail_mass) - deviation)
        expected = 1.0 - worst / tail_mass
        got = tail.cvar(np.array([1.0, 0.0]), np.eye(2)[k])
        assert got == pytest.approx(expected, abs=4e-4)
    assert tail.cvar(np.zeros(2), np.eye(2)[0]) == 0.0


def test_the_tail_of_a_mixture_lies_in_its_worse_regime():
    """Regimes so far apart that the worst tenth is the worst half of a regime of weight 0.2."""
    law = one_factor(means=(0.5, -0.5), deviations=(0.01, 0.01))
    tail = TrueTail(law, 0.9, 200_000, rng=np.random.default_rng(2))
    worst = np.exp(-0.499 + 0.01**2 / 2.0) * norm.cdf(norm.ppf(0.5) - 0.01) / 0.5
    got = tail.cvar(np.array([1.0, 0.0]), np.array([0.8, 0.2]))
    assert got == pytest.approx(1.0 - worst, abs=2e-4)


def test_the_tail_is_proportional_to_holdings(world):
    law = world.laws[2, False]
    tail = TrueTail(law, 0.9, 500, rng=np.random.default_rng(3))
    holdings = np.array([0.1, 0.0, 0.3, 0.0, 0.2, 0.1])
    whole, half = (tail.cvar(c * holdings, law.start) for c in (1.0, 0.5))
    assert half == pytest.approx(whole / 2.0, rel=1e-12)


def test_portfolios_over_bills_earn_less_by_the_bills(world):
    total, excess = world.laws[2, False], world.laws[2, True]
    np.testing.assert_allclose(total.assets.loadings, excess.assets.loadings, atol=1e-10)
    np.testing.assert_allclose(
        total.assets.intercepts - excess.assets.intercepts, np.log1p(0.002), atol=1e-12
    )
    np.testing.assert_array_equal(total.regimes.means, excess.regimes.means)


def test_no_change_of_regime_is_impossible(world):
    assert world.laws[2, False].regimes.transition_matrix.min() > 0.0


# --- the control variate ---


def test_the_control_variate_has_mean_0_by_enumeration():
    """One asset of two returns in each regime, all paths of two periods, with their weights."""
    returns, gross = np.array([[0.1, -0.02], [0.03, -0.2]]), np.ones((2, 2))
    gross[:, 1] += returns.mean(axis=1)
    growth = np.array([[1.3, 1.1], [1.2, 0.9], [1.0, 1.0]])
    share = np.array([[0.7, 0.4], [0.2, 0.9]])  # by date and present regime
    mean = controlled = square = plain = 0.0
    for j, k, r, s in product((0, 1), repeat=4):
        weight = CHAIN[0, j] * CHAIN[j, k] / 4.0
        path = np.array([[[returns[j, r]], [returns[k, s]]]])
        shares = (share[0, 0], share[1, j])
        run = rollout(
            lambda t, before, shares=shares: (
                np.array([[1.0 - shares[t], shares[t]]]) * before.sum()
            ),
            path,
            2,
        )
        beliefs = np.eye(2)[[[0, j]]]
        value = RegimeControl(beliefs, CHAIN, gross, growth).value(run)[0]
        mean += weight * run.terminal[0]
        controlled += weight * value
        plain += weight * run.terminal[0] ** 2
        square += weight * value**2
    assert controlled == pytest.approx(mean, abs=1e-12)
    assert square != pytest.approx(plain, abs=1e-6)


def test_the_control_variate_of_a_hidden_regime_has_mean_0(world):
    """All in one portfolio: its value by recursion, the mean of 4,000 simulated paths."""
    law = world.laws[2, False]
    paths = law.paths(law.start, 4_000, SMALL.n_decisions, 5, 0)
    beliefs = paths.beliefs(law.regimes, law.start)
    position = np.zeros(7)
    position[1] = 1.0
    run = rollout(lambda t, before: before.sum(axis=1)[:, None] * position, paths.returns, 4)
    chain, ahead = law.regimes.transition_matrix, np.ones(2)
    growth = [ahead]
    for _ in range(4):  # of the portfolio itself, by regime
        ahead = chain @ (law.gross[:, 1] * ahead)
        growth.insert(0, ahead)
    value = RegimeControl(beliefs, chain, law.gross, np.array(growth)).value(run)
    # What it takes wealth to be worth is exact for this policy: nothing is left to chance.
    np.testing.assert_allclose(value, law.start @ growth[0], atol=1e-12)
    error = run.terminal.std() / np.sqrt(len(value))
    assert run.terminal.mean() == pytest.approx(value[0], abs=4.0 * error)


def test_in_sample_the_simulated_value_is_below_the_bound(world):
    result = trained(world, Cell.of(SMALL), 0, 8)
    value = in_sample(result.policy, 60, np.random.default_rng(1))
    error = value.std() / np.sqrt(60)
    assert result.bound - 0.02 * (result.bound - 1.0) - 4.0 * error < value.mean()
    assert value.mean() < result.bound + 4.0 * error


# --- the cells ---


def test_cells_are_asked_for_once_and_differ():
    cells = all_cells(SMALL)
    assert len(cells) == len(set(cells))
    assert whole_cell(SMALL, excess=True) in cells
    assert all(cell.n_checked <= cell.n_paths <= Config().n_paths for cell in all_cells(Config()))


def test_a_policy_is_told_what_it_may_know():
    beliefs = np.array([[[0.6, 0.4], [0.1, 0.9]]])
    cells = {name: cell for (name, excess), cell in ingredient_cells(SMALL).items() if not excess}
    assert asked(cells["regimes"], beliefs).tolist() == [[[1.0], [1.0]]]
    certain = asked(cells["belief instead of most likely regime"], beliefs)
    assert certain.tolist() == [[[1.0, 0.0], [0.0, 1.0]]]
    assert asked(whole_cell(SMALL, excess=False), beliefs) is beliefs
    assert cells["belief instead of most likely regime"].policy == MOST_LIKELY


def test_a_policy_that_ignores_costs_pays_them(world):
    cell = Cell.of(SMALL, COSTS_IGNORED, n_checked=1)
    assert train(world, cell, 0).problem.model.transaction_cost == 0.0
    found = follow_cell(world, cell, 0)
    held = 1.0 - found["first"][0]
    # From cash: what is bought costs its share, and nothing is left uninvested for it.
    assert found["paid"].min() >= SMALL.transaction_cost * held / (1.0 + SMALL.transaction_cost)


def test_the_myopic_policy_looks_at_one_period(world):
    policy = train(world, Cell.of(SMALL, MYOPIC), 0)
    assert policy.problem.n_stages == 1


def test_moved_towards_cash_the_true_limit_holds(world, monkeypatch):
    """Under a limit a fifth of the study's, with few scenarios, decisions break it."""
    seen = []
    value = RegimeControl.value

    def listen(self, run: Rollout):
        seen.append(run)
        return value(self, run)

    monkeypatch.setattr(RegimeControl, "value", listen)
    cell = Cell.of(SMALL, cvar_limit=0.01, n_scenarios=20, n_checked=2)
    found = follow_cell(world, cell, 0)
    assert found["risk"].max() > 1.01
    law = world.truth(cell)
    tail = TrueTail(law, 0.9, SMALL.n_tail, rng=stream(SMALL.seed, Purpose.TAIL))
    scaled = seen[-1]
    arrival = np.eye(2)[law.first] @ law.regimes.transition_matrix
    for path in range(2):
        risk = tail.cvar(scaled.holdings[path, 0, 1:], arrival) + scaled.paid[path, 0]
        assert risk == pytest.approx(0.01, rel=1e-6)


def test_draws_and_their_paths_are_the_same_whoever_asks(world):
    cell = Cell.of(SMALL)
    first, again = follow_cell(world, cell, 1), follow_cell(world, cell, 1)
    other = follow_cell(world, cell, 0)
    np.testing.assert_array_equal(first["value"], again["value"])
    assert first["bound"] != other["bound"]
