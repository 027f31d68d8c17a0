"""Volatility against return: two routes, scipy, and what it does not do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sddp.errors import ModelError
from sddp.portfolio import ConstraintSet, GroupLimit, Moments, StandardDeviation
from tests.portfolio.problems import random_numbers, risky


def solve(p, method, weight, **options):
    n = len(p.mean)
    model = StandardDeviation(
        return_weight=weight,
        method=method,
        transaction_cost=p.buy,
        sale_cost=p.sell,
        **({"max_weights": max(0.4, 2.0 / n)} | options),
    )
    return model.solve(Moments.of(p.mean, p.covariance), current_weights=p.current)


@pytest.mark.parametrize("weight", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("n", [3, 10, 30])
@pytest.mark.parametrize("seed", range(4))
def test_two_routes_agree(seed, n, weight):
    p = random_numbers(seed, n, cash=False, self_financing=False)
    search, cone = (solve(p, method, weight) for method in ("search", "cone"))
    assert risky(cone) == pytest.approx(risky(search), abs=1e-7)
    assert cone.objective == pytest.approx(search.objective, abs=1e-9)
    w = risky(search)
    value = weight * p.mean @ w - p.cost(w) - np.sqrt(w @ p.covariance @ w)
    assert search.objective == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_no_better_portfolio_by_scipy(seed):
    n, weight = 5, 1.0
    p = random_numbers(seed, n, cash=False, self_financing=False)

    def value(z):
        w = p.current + z[:n] - z[n:]
        return np.sqrt(w @ p.covariance @ w) - weight * p.mean @ w + p.buy @ z[:n] + p.sell @ z[n:]

    moves = np.hstack([np.eye(n), -np.eye(n)])
    found = minimize(
        value,
        np.zeros(2 * n),
        bounds=[(0.0, 1.0)] * (2 * n),
        constraints=[
            {"type": "eq", "fun": lambda z: (p.current + moves @ z).sum() - 1.0},
            {"type": "ineq", "fun": lambda z: p.current + moves @ z},
            {"type": "ineq", "fun": lambda z: 0.6 - p.current - moves @ z},
        ],
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    )
    result = solve(p, "search", weight, max_weights=0.6)
    assert -result.objective <= found.fun + 1e-9
    assert -result.objective == pytest.approx(found.fun, abs=1e-6)


def test_constraints_are_kept_on_both_routes():
    p = random_numbers(1, 6, cash=False, self_financing=False)
    limits = ConstraintSet((GroupLimit(name="g", assets=["asset1", "asset2"], lower=0.5),))
    search, cone = (
        solve(p, method, 0.5, constraints=limits, max_weights=0.4) for method in ("search", "cone")
    )
    assert search.holdings[["asset1", "asset2"]].sum() >= 0.5 - 1e-12
    assert risky(cone) == pytest.approx(risky(search), abs=1e-7)


def test_it_does_not_equalize_risk_contributions():
    result = StandardDeviation(return_weight=1.0).solve(
        Moments.of([0.01, 0.01], np.diag([0.01, 0.04])), current_weights=[0.5, 0.5]
    )
    shares = result.risk_contributions / result.risk_contributions.sum()
    assert shares["asset1"] == pytest.approx(0.8, abs=1e-9)


def test_bad_parameters_are_rejected():
    for options in ({"return_weight": 0.0}, {"return_weight": 1.0, "method": "x"}):
        with pytest.raises(ModelError, match="must be"):
            StandardDeviation(**options)
    with pytest.raises(ModelError, match="self_financing=True"):
        StandardDeviation(return_weight=1.0, self_financing=True)


@pytest.mark.parametrize("method", ["search", "cone"])
def test_without_any_risk_the_best_return_net_of_costs_is_held(method):
    model = StandardDeviation(return_weight=3.0, method=method, transaction_cost=1e-4)
    inputs = Moments.of([0.001, 0.002, 0.0005], np.zeros((3, 3)))
    result = model.solve(inputs, current_weights=[1.0, 0.0, 0.0])
    assert result.holdings["asset2"] == pytest.approx(1.0, abs=1e-12)
    # The costs of a whole sale and a whole purchase are not multiplied by the weight of the return.
    assert result.objective == pytest.approx(3.0 * 0.002 - 2e-4, abs=1e-14)
