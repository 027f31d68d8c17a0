import tempfile

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.special import ndtr, ndtri

from sddp.errors import DataError, ModelError, SolverError
from sddp.portfolio.optimizers.cvar_limit import LimitedPortfolio, ReturnLaw
from tests.oracles import tail_mean

GROWTH = np.exp(np.random.default_rng(1).normal(0.0, [0.03, 0.05, 0.08, 0.04], (60, 4)))
PROBABILITIES = np.random.default_rng(2).dirichlet(np.ones(60))
SCALE = np.array([1.004, 1.01, 1.02, 1.006])
LAW = ReturnLaw(GROWTH, PROBABILITIES, SCALE, 1.001, 0.85)
RETURNS = SCALE * GROWTH - 1.001
REWARDS = PROBABILITIES @ RETURNS


def explicit_optimum(rewards, limit):
    """One row and one column per outcome (Rockafellar and Uryasev, 2000), by scipy."""
    n_outcomes, n = RETURNS.shape
    cost = np.concatenate([-rewards, np.zeros(1 + n_outcomes)])
    rows = np.zeros((n_outcomes + 2, len(cost)))
    rows[:n_outcomes] = np.hstack([-RETURNS, -np.ones((n_outcomes, 1)), -np.eye(n_outcomes)])
    rows[-2] = np.concatenate([np.zeros(n), [1.0], PROBABILITIES / 0.15])
    rows[-1, :n] = 1.0
    side = np.concatenate([np.zeros(n_outcomes), [limit, 1.0]])
    bounds = [(0, None)] * n + [(None, None)] + [(0, None)] * n_outcomes
    return -linprog(cost, rows, side, bounds=bounds, method="highs").fun


def test_cvar_of_a_law_is_the_tail_mean_of_its_losses():
    weights = np.array([0.2, 0.1, 0.3, 0.15])
    expected = tail_mean(PROBABILITIES, -RETURNS @ weights, 0.15)
    assert LAW.cvar(weights) == pytest.approx(expected, rel=1e-12)
    assert LAW.cvar(3.0 * weights) == pytest.approx(3.0 * expected, rel=1e-12)


def test_cvar_of_a_lognormal_asset_has_a_closed_form():
    """The mean of exp(s x) below its quantile of level q is ``exp(s^2 / 2) Phi(x_q - s) / q``."""
    s, q, n = 0.08, 0.1, 2**16
    middle = ndtri((np.arange(n) + 0.5) / n)
    law = ReturnLaw(np.exp(s * middle)[:, None], np.full(n, 1.0 / n), np.ones(1), 1.0, 1.0 - q)
    expected = 1.0 - np.exp(s**2 / 2.0) * ndtr(ndtri(q) - s) / q
    assert law.cvar(np.ones(1)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("limit", [0.0, 0.01, 0.04, 0.08, 1.0])
def test_the_best_portfolio_is_that_of_the_explicit_program(limit):
    weights = LimitedPortfolio(LAW, 4, limit).best(REWARDS)
    assert REWARDS @ weights == pytest.approx(explicit_optimum(REWARDS, limit), abs=1e-9)
    assert LAW.cvar(weights) <= limit + 1e-9
    assert weights.min() >= 0.0
    assert weights.sum() <= 1.0 + 1e-9


def test_the_limit_decides_somewhere():
    values = [explicit_optimum(REWARDS, limit) for limit in (0.01, 0.04, 1.0)]
    assert values[0] < 0.6 * values[1] < 0.6 * values[2]


def test_one_program_serves_rewards_one_after_the_other():
    portfolio = LimitedPortfolio(LAW, 4, 0.05)
    rng = np.random.default_rng(3)
    for _ in range(5):
        rewards = rng.normal(0.01, 0.02, 4)
        found = rewards @ portfolio.best(rewards)
        assert found == pytest.approx(explicit_optimum(rewards, 0.05), abs=1e-9)
    assert portfolio.best(-np.ones(4)).sum() == 0.0


def test_interest_on_cash_enters_as_excess_returns_and_a_wider_limit():
    """The limit on the loss of all wealth, cash earning 0.3 %, written out."""
    interest, limit = 0.003, 0.04
    n_outcomes, n = RETURNS.shape
    everything = np.hstack([np.full((n_outcomes, 1), interest), RETURNS])
    cost = np.concatenate([-(PROBABILITIES @ everything), np.zeros(1 + n_outcomes)])
    rows = np.hstack([-everything, -np.ones((n_outcomes, 1)), -np.eye(n_outcomes)])
    risk = np.concatenate([np.zeros(n + 1), [1.0], PROBABILITIES / 0.15])
    budget = np.concatenate([np.ones(n + 1), np.zeros(1 + n_outcomes)])
    bounds = [(0, None)] * (n + 1) + [(None, None)] + [(0, None)] * n_outcomes
    whole = linprog(
        cost,
        np.vstack([rows, risk]),
        np.append(np.zeros(n_outcomes), limit),
        budget[None, :],
        np.ones(1),
        bounds=bounds,
        method="highs",
    )
    law = ReturnLaw(GROWTH, PROBABILITIES, SCALE, 1.001 + interest, 0.85)
    rewards = REWARDS - interest
    weights = LimitedPortfolio(law, 4, limit + interest).best(rewards)
    assert interest + rewards @ weights == pytest.approx(-whole.fun, abs=1e-9)


def test_bad_limits_and_rewards_are_named_and_the_next_call_works():
    for limit in (-0.01, np.nan, np.inf):
        with pytest.raises(ModelError, match=f"cvar_limit = {limit}; give a fraction of wealth"):
            LimitedPortfolio(LAW, 4, limit)
    portfolio = LimitedPortfolio(LAW, 4, 0.05)
    with pytest.raises(DataError, match=r"rewards = .*nan.* holds a number that is not finite"):
        portfolio.best(np.array([0.0, np.nan, 0.0, 0.0]))
    found = REWARDS @ portfolio.best(REWARDS)
    assert found == pytest.approx(explicit_optimum(REWARDS, 0.05), abs=1e-9)


def test_a_row_that_does_not_help_is_an_error_and_no_endless_loop(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    portfolio = LimitedPortfolio(LAW, 4, 0.05)
    monkeypatch.setattr(portfolio._lp, "add_rows", lambda *row: None)
    with pytest.raises(SolverError, match=r"a row just added is broken; written to .*\.lp"):
        portfolio.best(REWARDS)
