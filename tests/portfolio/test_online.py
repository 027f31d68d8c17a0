"""The online solver: its proximal map, its limit, and its path along a stream."""

from __future__ import annotations

import numpy as np
import pytest

from sddp.errors import ModelError, SolverError
from sddp.portfolio import MeanVariance, Moments
from sddp.portfolio.optimizers.online import OnlineMeanVariance, proximal
from tests.portfolio.problems import risky


def simplex(rng, n):
    return rng.dirichlet(np.ones(n))


@pytest.mark.parametrize("seed", range(20))
def test_the_proximal_map_is_the_optimum_of_its_problem(seed):
    """A quadratic program with unit covariance, by the exact solver."""
    rng, n = np.random.default_rng(seed), 7
    current, target = simplex(rng, n), rng.normal(0.2, 0.3, n)
    costs = rng.uniform(0.0, 0.2, n)
    model = MeanVariance(
        risk_aversion=1.0, transaction_cost=costs, max_cash=0.0, self_financing=False
    )
    exact = model.solve(Moments.of(target, np.eye(n)), current_weights=current)
    found = proximal(target, current, costs, costs)
    assert found == pytest.approx(risky(exact), abs=1e-12)
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    assert found.min() >= 0.0


def test_many_steps_reach_the_optimum_and_none_falls():
    rng, n = np.random.default_rng(5), 6
    factors = rng.normal(size=(n, n))
    S, mean = factors @ factors.T / 100.0, rng.normal(0.01, 0.02, n)
    current, cost, aversion = simplex(rng, n), 0.004, 5.0
    model = MeanVariance(
        risk_aversion=aversion, transaction_cost=cost, max_cash=0.0, self_financing=False
    )
    exact = model.solve(Moments.of(mean, S), current_weights=current)
    reached = []
    for n_steps in (1, 2, 10, 100, 3_000):
        online = OnlineMeanVariance(
            risk_aversion=aversion, purchase_cost=cost, sale_cost=cost, n_steps=n_steps
        )
        w = online.step(mean, S, current)
        traded = cost * np.abs(w - current).sum()
        reached.append(float(mean @ w) - traded - 0.5 * aversion * float(w @ S @ w))
    assert np.diff(reached).min() >= -1e-15
    assert reached[-1] == pytest.approx(exact.objective, abs=1e-12)
    assert w == pytest.approx(risky(exact), abs=1e-6)


def test_high_costs_stop_all_trades():
    current = np.array([0.5, 0.3, 0.2])
    online = OnlineMeanVariance(risk_aversion=3.0, purchase_cost=0.5, sale_cost=0.5)
    w = online.step(np.array([0.01, 0.02, 0.0]), np.eye(3) * 0.01, current)
    assert w == pytest.approx(current, abs=1e-15)


def test_bad_input_is_rejected():
    with pytest.raises(ModelError, match="risk_aversion=0"):
        OnlineMeanVariance(risk_aversion=0.0)
    with pytest.raises(ModelError, match="n_steps=0"):
        OnlineMeanVariance(risk_aversion=1.0, n_steps=0)
    with pytest.raises(ModelError, match="purchase_cost=10"):
        OnlineMeanVariance(risk_aversion=1.0, purchase_cost=10.0)
    with pytest.raises(SolverError, match="finite"):
        OnlineMeanVariance(risk_aversion=1.0).step(
            np.array([np.nan, 0.0]), np.eye(2), np.array([0.5, 0.5])
        )
