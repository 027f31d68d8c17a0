"""Two other solvers, on other forms of the problem, find the same optimum."""

from __future__ import annotations

import numpy as np
import pytest

from tests.portfolio.oracles import by_clarabel, by_daqp, kkt_errors
from tests.portfolio.problems import answer, random_numbers, risky

FORMS = [(cash, paid) for cash in (True, False) for paid in (True, False)]
SEEDS = range(6)


@pytest.mark.parametrize(("cash", "self_financing"), FORMS)
@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_objective_and_weights_agree(seed, n, cash, self_financing):
    numbers = random_numbers(seed, n, cash=cash, self_financing=self_financing)
    result = answer(numbers)
    for value, weights in (by_clarabel(numbers)[:2], by_daqp(numbers)):
        assert value == pytest.approx(result.objective, rel=1e-8)
        assert weights == pytest.approx(risky(result), abs=1e-6)


@pytest.mark.parametrize(("cash", "self_financing"), FORMS)
@pytest.mark.parametrize("n", [2, 5, 20])
@pytest.mark.parametrize("seed", SEEDS)
def test_optimality_conditions_hold(seed, n, cash, self_financing):
    numbers = random_numbers(seed, n, cash=cash, self_financing=self_financing)
    result = answer(numbers)
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors
    assert result.residual < 1e-12
    assert result.objective == pytest.approx(
        numbers.value(risky(result), result.holdings["cash"]), rel=1e-12
    )


def test_the_check_of_conditions_catches_a_wrong_answer():
    """Half a percent moved from the first to the second asset, and duals of another sign."""
    numbers = random_numbers(1, 5, cash=True, self_financing=True)
    result = answer(numbers)
    moved = risky(result) + np.array([0.005, -0.005, 0.0, 0.0, 0.0])
    assert max(kkt_errors(numbers, moved, result.holdings["cash"], result.duals).values()) > 1e-3


@pytest.mark.parametrize("self_financing", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_budget_dual_agrees_where_cash_is_scarce(seed, self_financing):
    """Unique where something is traded and held between its bounds."""
    numbers = random_numbers(seed, 8, cash=False, self_financing=self_financing)
    result = answer(numbers)
    w = risky(result)
    moving = np.abs(w - numbers.current) > 1e-6
    inside = moving & (w > numbers.lower + 1e-6) & (w < numbers.upper - 1e-6)
    assert inside.any()
    assert by_clarabel(numbers)[2] == pytest.approx(result.duals.budget, abs=1e-8)


@pytest.mark.parametrize("self_financing", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_without_risk_aversion_it_is_a_linear_program(seed, self_financing):
    numbers = random_numbers(seed, 6, self_financing=self_financing).with_(risk_aversion=0.0)
    result = answer(numbers)
    assert by_clarabel(numbers)[0] == pytest.approx(result.objective, rel=1e-8)
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors


@pytest.mark.parametrize("seed", SEEDS)
def test_fewer_rows_than_assets_do_no_harm(seed):
    """A covariance of rank 3 for 8 assets: the optimum need not be unique, its value is."""
    numbers = random_numbers(seed, 8)
    rows = np.random.default_rng(seed).normal(size=(4, 8)) * 0.04
    numbers = numbers.with_(covariance=np.cov(rows.T))
    assert np.linalg.matrix_rank(numbers.covariance) == 3
    result = answer(numbers)
    assert by_clarabel(numbers)[0] == pytest.approx(result.objective, rel=1e-8)
    errors = kkt_errors(numbers, risky(result), result.holdings["cash"], result.duals)
    assert max(errors.values()) < 1e-8, errors
