"""The study of horizons: its truths and rules against known values, its tables by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from experiments.horizon import study
from experiments.horizon.config import QUICK, Config, Purpose, Setting
from experiments.horizon.figures import label
from sddp.bounds import controlled_wealth, value_differences
from sddp.bounds.one_step import best_holdings, myopic_rewards, planned
from sddp.evaluation.rollout import rollout
from sddp.statistics import brown_smith, fit_autoregression
from sddp.studies.streams import stream

SMALL = Config(**QUICK)


def test_other_half_lives_leave_the_factor_as_wide_as_it_is():
    paper = brown_smith()
    known = study.truth_of(Setting(0.013))
    assert known.factor_transition.tolist() == paper.factor_transition.tolist()
    fast = study.truth_of(Setting(0.013, half_life=3.0))
    assert fast.factor_transition[0, 0] ** 3 == pytest.approx(0.5)
    for one, other in zip(fast.stationary_law(), paper.stationary_law(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_array_equal(fast.covariance[:3, :3], paper.covariance[:3, :3])


def test_estimates_are_those_of_the_months_and_have_a_long_run():
    setting = Setting(0.013, months=240)
    truth = study.truth_of(setting)
    data = truth.simulate(1, 240, rng=stream(SMALL.seed, Purpose.DATA, 1))
    found, fitted = study.believed(SMALL, setting, 1), fit_autoregression(data)
    np.testing.assert_array_equal(found.return_loadings, fitted.return_loadings)
    assert abs(found.factor_transition[0, 0]) <= study.LARGEST_PERSISTENCE
    assert study.believed(SMALL, Setting(0.013), 1) is not found


@pytest.mark.long
def test_held_to_the_horizon_gains_what_is_known_of_study_i():
    """4.23, 3.73 and 3.32 % (prototypes, +-0.03) at 0.5, 1.3 and 2 %."""
    config = replace(Config(), law_points=2**10, n_grid=15)
    truth, n = brown_smith(), 11
    paths = truth.simulate(80, n, rng=3, start=np.zeros(1))
    program = study.program_of(config, truth, cost_free=True)
    differences = value_differences(program, paths, truth.quadrature(32))
    for cost, gain in ((0.005, 4.23), (0.013, 3.73), (0.02, 3.32)):
        rule = study._simple(study.HELD, program, cost, paths, n)
        run = rollout(rule, paths.excess_returns, n)
        value = controlled_wealth(run.terminal, run.holdings, differences)
        assert 100.0 * (value.mean() - 1.0) == pytest.approx(gain, abs=0.05)


def test_what_is_planned_for_one_period_is_the_best_trade_of_one_period():
    process = brown_smith()
    program = study.program_of(SMALL, process, cost_free=False)
    factors = np.array([-0.5, 0.4, 1.5])
    before = np.tile([0.5, 0.2, 0.1, 0.2], (3, 1))
    one = best_holdings(before, factors, myopic_rewards(process, factors), program, 0.001)
    np.testing.assert_allclose(planned(before, factors, program, 0.001, 1), one, atol=1e-8)


def test_rollouts_start_from_what_is_held():
    held = np.array([0.5, 0.5])
    run = rollout(lambda stage, before: before, np.full((2, 3, 1), 0.1), 3, start=held)
    np.testing.assert_allclose(run.wealth[0], [1.0, 1.05, 1.105, 1.1655])


def test_tables_are_means_and_differences_over_replicates():
    """Two replicates of two paths; planned trades on the first path only."""
    found = {
        study.MULTI: np.array([1.02, 1.04]),
        study.ONE_STEP: np.array([1.0, 1.0]),
        study.HELD: np.array([1.03, 1.03]),
        study.PLANNED: np.array([1.01]),
        study.BOUND: np.array([1.05]),
    }
    found |= {f"{name}, risk": np.full(2, 0.9) for name in study.POLICIES}
    more = {name: value + 0.01 for name, value in found.items()}
    setting = Setting(0.013, months=240)
    gains = study.gains({setting: [found, more]}).set_index("rule")
    assert gains["gain"][study.MULTI] == pytest.approx(3.5)
    assert gains["gain"][study.BOUND] == pytest.approx(5.5)
    apart = study.differences({setting: [found, more]}).set_index("less")
    assert apart["difference"][study.HELD] == pytest.approx(0.0, abs=1e-12)
    assert apart["difference"][study.PLANNED] == pytest.approx(1.0)
    assert apart["best_rule"].to_dict() == {
        study.ONE_STEP: False,
        study.HELD: True,
        study.PLANNED: False,
    }
    assert label(apart.iloc[0]) == "cost 1.3 %, estimated from 240 months"


@pytest.mark.long
def test_terms_that_one_decision_does_not_see():
    """The bound is not below the policy, and differences are those of the gains."""
    config = replace(SMALL, term_scenarios=16, term_iterations=30, term_paths=30)
    table = study.with_terms(config, "an exit that costs")
    own = table.set_index("rule").loc[study.MULTI]
    assert own["gain_low"] <= own["bound"] + 1e-9
    assert table["shortfall_probability"].eq(0.0).all()
    apart = table.set_index("rule")["below_multi_stage"]
    gains = table.set_index("rule")["gain"]
    for name in study.SIMPLE:
        assert apart[name] == pytest.approx(gains[study.MULTI] - gains[name])
