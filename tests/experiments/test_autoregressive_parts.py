"""Parts of the study against enumeration, closed forms and explicit programs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog
from scipy.stats import multivariate_normal, norm

from experiments.autoregressive import policies
from experiments.autoregressive.cells import (
    COSTS_IGNORED,
    SDDP,
    Cell,
    World,
    follow_cell,
    out_of_sample,
    program,
)
from experiments.autoregressive.config import N_NODES, Config
from experiments.autoregressive.policies import held_to_horizon
from experiments.autoregressive.process import START
from experiments.autoregressive.sample import Sample
from experiments.autoregressive.tail import TrueTail
from sddp.allocation.model import AllocationModel
from sddp.allocation.training import train_allocation
from sddp.bounds.frictionless import conditional_law, follow, solve_frictionless
from sddp.bounds.martingales import controlled_wealth, value_differences
from sddp.bounds.one_step import best_holdings
from sddp.engine.training.stopping import Iterations
from sddp.estimation.process_regimes import RegimeModel, fit_regimes, histories
from sddp.evaluation.rollout import PolicyRule, paying_costs, rollout, within_limit
from sddp.evaluation.true_risk import towards_cash
from sddp.statistics import Regimes, brown_smith
from sddp.studies.tasks import Task, TaskPool

CHAIN = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.2, 0.8]])
COVARIANCE = brown_smith().covariance
REGIMES = Regimes(
    np.array([[0.001, 0.0, -0.001, -1.0], [0.006, 0.007, 0.008, 0.0], [0.01, 0.012, 0.015, 1.2]]),
    np.array([COVARIANCE * scale for scale in (1.0, 2.0, 1.5)]),
    CHAIN,
    np.full(3, 1.0 / 3.0),
)


def stationary(chain):
    values, vectors = np.linalg.eig(chain.T)
    law = np.real(vectors[:, np.argmax(np.real(values))])
    return law / law.sum()


def paths(n_paths, n_periods, seed=3):
    return brown_smith().simulate(n_paths, n_periods, rng=np.random.default_rng(seed), start=START)


def enumerated_belief(path, t, pairing):
    """Law of the regime of date t by summing over all sequences of regimes."""
    weights = np.zeros(3)
    z = path.factors[0, :, 0]
    for sequence in product(range(3), repeat=t + 1):
        p = stationary(CHAIN)[sequence[0]]
        for before, after in pairwise(sequence):
            p *= CHAIN[before, after]
        for u, k in enumerate(sequence):
            mean, covariance = REGIMES.means[k], REGIMES.covariances[k]
            first_or_last = u == 0 if pairing == "same date" else u == t
            if first_or_last:  # the factor alone is known
                p *= norm.pdf(z[u], mean[3], np.sqrt(covariance[3, 3]))
            else:
                earned = path.log_returns[0, u - 1 if pairing == "same date" else u]
                p *= multivariate_normal.pdf(np.append(earned, z[u]), mean, covariance)
        weights[sequence[-1]] += p
    return weights / weights.sum()


@pytest.mark.parametrize("pairing", ["same date", "predicted"])
def test_beliefs_use_what_a_decision_knows(pairing):
    path = paths(1, 4)
    beliefs = RegimeModel(REGIMES, pairing, 0.00042).beliefs(path, 4)[0]
    if pairing == "predicted":
        beliefs = beliefs.reshape(4, 3, 3).sum(axis=1)
    expected = [enumerated_belief(path, t, pairing) for t in range(4)]
    np.testing.assert_allclose(beliefs, expected, atol=1e-10)


def test_scenarios_follow_the_timing_of_the_emission():
    """Expected return of the next period: of the next regime, or of the present one."""
    belief = np.array([0.2, 0.5, 0.3])
    expected = np.expm1(
        REGIMES.means[:, :3] + np.diagonal(REGIMES.covariances, axis1=1, axis2=2)[:, :3] / 2.0
    )
    for pairing, law in (("same date", belief @ CHAIN), ("predicted", belief)):
        model = RegimeModel(REGIMES, pairing, 0.00042)
        scenarios = model.scenarios(
            4096, 2, rng=np.random.default_rng(1), sampling="sobol", moment_matching=True
        )
        now = np.diag(belief).ravel() if pairing == "predicted" else belief
        arrival = now @ scenarios.transition_matrix[0]
        mean = arrival @ scenarios.returns[0].mean(axis=1)
        np.testing.assert_allclose(mean, law @ expected - 0.00042, atol=2e-6)
    later = (arrival @ scenarios.transition_matrix[0]).reshape(3, 3).sum(axis=0)
    np.testing.assert_allclose(later, belief @ CHAIN @ CHAIN, atol=1e-8)


def test_known_moments_of_one_regime_are_those_of_the_long_run():
    """Both timings: mean ``a_r`` and covariance ``Sigma + b b' var z``, var z = 0.0529 / 0.0591."""
    process, variance = brown_smith(), 0.0529 / (1.0 - 0.97**2)
    b = process.return_loadings[:, 0]
    for pairing, lag in (("same date", 0.97), ("predicted", 1.0)):
        moments = np.eye(4)
        moments[3, 3] = variance
        anything = Regimes(np.zeros((1, 4)), moments[None], np.ones((1, 1)), np.ones(1))
        found = RegimeModel(anything, pairing, 0.00042).with_known_moments(process).regimes
        np.testing.assert_allclose(found.means[0], [*process.return_intercepts, 0.0], atol=1e-15)
        expected = COVARIANCE.copy()
        expected[:3, :3] += variance * np.outer(b, b)
        expected[3, 3] = variance
        shock = COVARIANCE[:3, 3] if pairing == "same date" else 0.0
        expected[:3, 3] = expected[3, :3] = lag * variance * b + shock
        np.testing.assert_allclose(found.covariances[0], expected, atol=1e-12)


def fitted(n_histories: int, n_discarded: int) -> RegimeModel:
    past = histories(brown_smith(), n_histories, 120, n_discarded=n_discarded, rng=2)
    return fit_regimes(past, 3, "same date", rng=1)


@pytest.mark.long
def test_known_moments_are_what_a_fit_tends_to():
    model = fitted(800, 60)
    known = model.with_known_moments(brown_smith()).regimes
    errors = np.sqrt(np.diagonal(COVARIANCE)[:3] / (800 * 120 / 3))
    assert (np.abs(known.means - model.regimes.means)[:, :3] < 4.0 * errors).all()
    assert np.ptp(known.means[:, 2]) > 8.0 * errors[2]  # what separates regimes is seen
    np.testing.assert_array_equal(known.means[:, 3], model.regimes.means[:, 3])


def test_regimes_are_slots_of_the_factor():
    model = fitted(60, 24)
    z = np.sort(model.regimes.means[:, 3])
    assert z[0] < -0.6
    assert abs(z[1]) < 0.4
    assert z[2] > 0.6


@pytest.fixture(scope="module")
def tail():
    return TrueTail(brown_smith(), 0.9, 2**13, rng=np.random.default_rng(1))


def test_true_cvar_of_one_asset_is_that_of_a_lognormal(tail):
    """Mean below a quantile: ``E[g; g <= q] = exp(s^2 / 2) Phi(Phi^-1(p) - s)``."""
    process = brown_smith()
    z = np.array([-1.0, 0.3])
    for i in range(3):
        deviation = np.sqrt(COVARIANCE[i, i])
        worst = np.exp(deviation**2 / 2.0) * norm.cdf(norm.ppf(0.1) - deviation) / 0.1
        median = np.exp(process.return_intercepts[i] + process.return_loadings[i, 0] * z)
        held = np.tile(2.0 * np.eye(3)[i], (2, 1))
        expected = 2.0 * (1.0 + process.cash_return - median * worst)
        np.testing.assert_allclose(tail.cvar(held, z), expected, rtol=1e-3)


def test_true_cvar_of_mixtures_is_that_of_simulated_returns(tail):
    process, n = brown_smith(), 400_000
    shocks = np.random.default_rng(2).multivariate_normal(np.zeros(4), COVARIANCE, n)[:, :3]
    for weights, z in (([0.2, 0.3, 0.4], 0.7), ([0.6, 0.0, 0.1], -1.5)):
        log_returns = process.return_intercepts + process.return_loadings[:, 0] * z + shocks
        losses = np.sort(-(np.expm1(log_returns) - process.cash_return) @ np.array(weights))
        worst = losses[-n // 10 :]
        error = worst.std() / np.sqrt(len(worst))
        found = tail.cvar(np.array([weights]), np.array([z]))[0]
        assert abs(found - worst.mean()) < 4.0 * error


def test_moved_holdings_sit_on_the_limit_and_balance(tail):
    before = np.array([[1.0, 0.0, 0.0, 0.0], [0.2, 0.0, 0.4, 0.5], [1.0, 0.0, 0.0, 0.0]])
    after = np.array([[0.2, 0.0, 0.4, 0.39], [0.2, 0.0, 0.4, 0.5], [0.9000025, 0.0, 0.0, 0.0995]])
    factors, limit, cost = np.array([0.0, -1.0, 0.5]), 0.05, 0.005
    cvar = tail.cvar(after[:, 1:], factors)
    moved = towards_cash(before, after, cvar, limit=limit, cost=cost)
    trades = np.abs(moved[:, 1:] - before[:, 1:]).sum(axis=1)
    np.testing.assert_allclose(moved.sum(axis=1), before.sum(axis=1) - cost * trades)
    risk = (tail.cvar(moved[:, 1:], factors) + cost * trades) / before.sum(axis=1)
    np.testing.assert_allclose(risk[:2], limit, atol=1e-9)
    np.testing.assert_array_equal(moved[2], after[2])  # it kept the limit already
    np.testing.assert_allclose(moved[0, 3] / moved[0, 2], 0.39 / 0.4)


def explicit_best(before, returns, rewards, limit, cost):
    """One decision as Rockafellar and Uryasev's program: b, d, quantile, excesses."""
    cash, assets = rewards
    s, n = returns.shape
    gain = np.concatenate([assets - cash * (1.0 + cost), cash * (1.0 - cost) - assets])
    objective = np.concatenate([-gain, np.zeros(1 + s)])
    budget = np.concatenate([np.full(n, 1.0 + cost), np.full(n, cost - 1.0), np.zeros(1 + s)])
    risk = np.concatenate([np.full(2 * n, cost), [1.0], np.full(s, 1.0 / (0.1 * s))])
    excess = np.hstack([-returns, returns, -np.ones((s, 1)), -np.eye(s)])
    solved = linprog(
        objective,
        np.vstack([budget, risk, excess]),
        np.concatenate([[before[0], limit * before.sum()], returns @ before[1:]]),
        bounds=[(0, None)] * n + [(0, x) for x in before[1:]] + [(None, None)] + [(0, None)] * s,
    )
    return cash * before[0] + assets @ before[1:] - solved.fun


@pytest.mark.parametrize("cost", [0.0, 0.004, 0.02])
def test_one_step_policies_solve_the_explicit_program(cost):
    process, rng = brown_smith(), np.random.default_rng(5)
    program = solve_frictionless(
        process,
        process.shocks(60, rng=rng),
        np.linspace(-3.0, 3.0, 5),
        n_decisions=1,
        cvar_limit=0.06,
        cvar_confidence=0.9,
    )
    factors = rng.normal(size=12)
    before = rng.dirichlet([4.0, 1.0, 1.0, 1.0], 12) * 1.7
    rewards = np.full(12, 1.1), 1.1 * (1.0 + 3.0 * process.expected_returns(factors[:, None]))
    after = best_holdings(before, factors, rewards, program, cost)
    for p in range(12):
        law = conditional_law(process, program.shocks, factors[p], 0.9)
        returns = law.scale * law.growth - law.cash_growth
        expected = explicit_best(before[p], returns, (1.1, rewards[1][p]), 0.06, cost)
        assert 1.1 * after[p, 0] + rewards[1][p] @ after[p, 1:] == pytest.approx(expected, abs=1e-8)
        paid = cost * np.abs(after[p, 1:] - before[p, 1:]).sum()
        assert after[p].sum() + paid == pytest.approx(before[p].sum(), abs=1e-9)
        assert after[p].min() >= 0.0


def test_following_the_oracle_is_the_librarys_own_walk():
    process, path = brown_smith(), paths(6, 4)
    program = solve_frictionless(
        process,
        process.shocks(2**9, rng=np.random.default_rng(1)),
        np.linspace(-3.0, 3.0, 9),
        n_decisions=4,
        cvar_limit=0.05,
        cvar_confidence=0.9,
    )
    sample = Sample(path, 2)
    ours = rollout(policies.frictionless(program, sample), path.excess_returns, 4)
    runs = follow(program, path)
    np.testing.assert_allclose(ours.wealth, runs.wealth, rtol=1e-12)
    np.testing.assert_allclose(ours.holdings, runs.holdings, rtol=1e-12)
    np.testing.assert_allclose(ours.paid, 0.0, atol=1e-15)


def test_who_ignores_costs_pays_them():
    """All in one asset from cash: 1 / (1 + cost) of it, and nothing more to pay when held."""

    def all_in(stage, before):
        return np.outer(before.sum(axis=1), [0.0, 0.0, 0.0, 1.0])

    path = paths(5, 3)
    run = rollout(paying_costs(all_in, 0.02), path.excess_returns, 3)
    growth = np.prod(1.0 + path.excess_returns[:, :, 2], axis=1)
    np.testing.assert_allclose(run.terminal, growth / 1.02, rtol=1e-12)
    np.testing.assert_allclose(run.paid, [[0.02 / 1.02, 0.0, 0.0]] * 5, atol=1e-12)


@pytest.fixture(scope="module")
def world(tail):
    """Two draws and few paths; regimes as they are stated above."""
    config = replace(
        Config(),
        n_paths=8,
        n_thin=2,
        n_decisions=3,
        n_draws=2,
        iterations=3,
        law_points=2**8,
        n_grid=9,
    )
    model = RegimeModel(REGIMES, "same date", 0.00042)
    return World(config, Sample(paths(8, 11), 2), tail, {(3, "same date"): model})


def trained(world, cost, draw, limit=0.05):
    scenarios = world.regimes[3, "same date"].scenarios(40, 3, rng=np.random.default_rng(draw))
    return train_allocation(
        AllocationModel(transaction_cost=cost, cvar_confidence=0.9, cvar_limit=limit),
        scenarios,
        initial_holdings={"cash": 1.0},
        initial_regime=1,
        stopping=Iterations(3),
        rng=np.random.default_rng(7),
        progress=False,
    ).policy


@pytest.mark.parametrize("cost", [0.0, 0.005])
def test_paths_are_asked_of_the_policy_of_their_draw(world, cost):
    asked = [trained(world, cost, draw) for draw in range(2)]
    beliefs = world.regimes[3, "same date"].beliefs(world.sample.paths, 3)
    rule = PolicyRule(asked, beliefs, world.sample.draws, proportional=cost == 0.0)
    run = rollout(rule, world.sample.paths.excess_returns, 3)
    few = rollout(rule.on(world.sample.first(2)), world.thin.paths.excess_returns, 3)
    np.testing.assert_allclose(few.holdings, run.holdings[[0, 1, 4, 5]], atol=1e-12)
    growth = 1.0 + world.sample.paths.excess_returns
    for p in (0, 3, 4, 7):
        held = {"cash": 1.0}
        for t in range(3):
            decision = asked[p // 4].decide(stage=t, regime=beliefs[p, t], holdings=held)
            np.testing.assert_allclose(run.holdings[p, t], decision.holdings, atol=1e-7)
            grown = decision.holdings.to_numpy() * np.append(1.0, growth[p, t])
            held = dict(zip(decision.holdings.index, grown.tolist(), strict=True))


def test_few_paths_are_the_first_of_each_block(world):
    assert world.thin.n_paths == 4
    np.testing.assert_array_equal(
        world.thin.paths.factors, world.sample.paths.factors[[0, 1, 4, 5]]
    )
    np.testing.assert_array_equal(world.thin.draws, [0, 0, 1, 1])
    means = world.sample.by_draw(np.arange(8.0)).mean(axis=1)
    found = world.sample.interval(np.arange(8.0), "mean")
    assert found["mean"] == means.mean() == 3.5
    reach = stats.t.ppf(0.975, 1) * means.std(ddof=1) / np.sqrt(2.0)
    assert found["mean_high"] - 3.5 == 3.5 - found["mean_low"] == pytest.approx(reach)


def test_moved_towards_cash_no_decision_breaks_the_limit(world):
    """The scaled rollout of a policy trained on a limit that is twice too high."""
    policy = [trained(world, 0.005, draw, limit=0.1) for draw in range(2)]
    beliefs = world.regimes[3, "same date"].beliefs(world.sample.paths, 3)
    rule = PolicyRule(policy, beliefs, world.sample.draws)

    def cvar(stage, after):
        return world.tail.cvar(after[:, 1:], world.sample.paths.factors[:, stage, 0])

    limited = within_limit(rule, cvar, limit=0.05, cost=0.005)
    run = rollout(limited, world.sample.paths.excess_returns, 3)
    factors = world.sample.paths.factors[:, :3, 0]
    risk = (world.tail.cvar(run.holdings[:, :, 1:], factors) + run.paid) / run.wealth[:, :3]
    assert risk.max() <= 0.05 * (1.0 + 1e-9)
    assert risk.max() >= 0.05 * (1.0 - 1e-9)


@pytest.mark.long
def test_cells_do_not_depend_on_the_number_of_jobs(world, tmp_path):
    cells = [Cell(name, 0.05, 0.01, 3, 30, scaled=True) for name in (SDDP, COSTS_IGNORED)]
    tasks = [Task(follow_cell, (world, cell), cell) for cell in cells]
    serial = TaskPool().run("policy", tasks)
    parallel = TaskPool(tmp_path, 2).run("policy", tasks)
    for one, two in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one.value, two.value)
        np.testing.assert_array_equal(one.scaled_value, two.scaled_value)
        np.testing.assert_array_equal(one.risk, two.risk)
    # The control variate has mean 0: of the same size as the wealth it corrects, on few paths.
    assert np.abs(serial[0].value - serial[0].wealth).max() < 0.3
    assert serial[0].value.std() < 0.1 * serial[0].wealth.std()


@pytest.mark.long
@pytest.mark.parametrize(("cost", "gain"), [(0.005, 4.23), (0.013, 3.73), (0.02, 3.32)])
def test_money_held_to_the_horizon_gains_what_many_decisions_do(cost, gain):
    """Per cent over cash at a limit of 5 %, as multi-stage policies gain: 4.21, 3.73, 3.37."""
    config = replace(Config(), n_paths=80)
    free, sample = program(config, 0.05), out_of_sample(config)
    rule = held_to_horizon(free, sample, cost)
    run = rollout(rule, sample.paths.excess_returns, config.n_decisions)
    differences = value_differences(free, sample.paths, free.process.quadrature(N_NODES))
    wealth = controlled_wealth(run.terminal, run.holdings, differences)
    assert 100.0 * (wealth.mean() - 1.0) == pytest.approx(gain, abs=0.05)
