"""Newton's method on the weights: from a neighbor it finds what the interior point method finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sddp.portfolio.optimizer import Terms
from sddp.portfolio.qp.newton import newton
from sddp.portfolio.qp.problem import NEGLIGIBLE
from sddp.portfolio.qp.rows import Tracking
from sddp.portfolio.qp.transaction_cost_qp import solve_transaction_cost_qp
from tests.portfolio.oracles import by_daqp
from tests.portfolio.problems import model_of, random_numbers

FORMS = [(cash, paid) for cash in (True, False) for paid in (True, False)]


def problem_of(numbers):
    names = [f"a{i}" for i in range(len(numbers.mean))]
    return Terms(model_of(numbers), names).problem(
        numbers.mean,
        numbers.covariance,
        numbers.current,
        numbers.cash_return,
        numbers.risk_aversion,
    )


@pytest.mark.parametrize(("cash", "paid"), FORMS)
def test_from_a_neighbor_it_finds_the_optimum(cash, paid):
    """Means moved by 3 % of their spread; weights compared with those of an active-set solver."""
    found = 0
    for seed in range(25):
        numbers = random_numbers(seed, (2, 10, 25)[seed % 3], cash=cash, self_financing=paid)
        near = solve_transaction_cost_qp(problem_of(numbers))
        shift = np.random.default_rng(seed).normal(0.0, 0.00025, len(numbers.mean))
        moved = numbers.with_(mean=numbers.mean + shift)
        answer = newton(problem_of(moved), near)
        if answer is None:
            continue
        found += 1
        assert answer.kkt_residual <= NEGLIGIBLE
        assert answer.weights == pytest.approx(by_daqp(moved)[1], abs=1e-9)
        # What is not traded is not traded by a bit, and what is at a bound is there.
        for level in (moved.current, moved.lower, moved.upper):
            close = np.abs(answer.weights - level) <= 1e-9
            assert (answer.weights[close] == level[close]).all()
    assert found >= 22


def test_soft_benchmarks_count_as_risk_and_return():
    """With a charge on the distance from a benchmark, against the cold solution."""
    for seed in range(10):
        problem = problem_of(random_numbers(seed, 8))
        benchmark, price = np.full((1, 8), 0.125), np.array([3.0])
        problem = replace(problem, tracking=Tracking(benchmark, np.full(1, np.inf), price))
        near = solve_transaction_cost_qp(replace(problem, mean=1.02 * problem.mean))
        found, cold = newton(problem, near), solve_transaction_cost_qp(problem)
        assert found is not None
        assert found.weights == pytest.approx(cold.weights, abs=1e-10)
        assert found.prices.tracking == price


def test_it_gives_up_where_its_equations_have_no_solution():
    """Two assets that are one: any split is an optimum, and the solver still finds one."""
    numbers = random_numbers(3, 2).with_(
        mean=np.full(2, 0.01),
        covariance=np.full((2, 2), 0.002),
        current=np.zeros(2),
        buy=np.zeros(2),
        sell=np.zeros(2),
        lower=np.zeros(2),
        upper=np.ones(2),
    )
    problem = problem_of(numbers)
    near = solve_transaction_cost_qp(problem)
    far = near._replace(weights=np.array([0.3, 0.1]), cash=0.6)
    assert newton(problem, far) is None
    assert solve_transaction_cost_qp(problem, far).kkt_residual <= NEGLIGIBLE


def test_numbers_that_are_none_are_no_answer():
    numbers = random_numbers(1, 5)
    problem = problem_of(numbers)
    near = solve_transaction_cost_qp(problem)
    assert newton(replace(problem, mean=np.full(5, np.nan)), near) is None
    assert newton(replace(problem, cash_return=np.nan), near) is None
