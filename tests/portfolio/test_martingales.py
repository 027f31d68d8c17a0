from dataclasses import replace

import numpy as np
import pytest

from sddp.bounds.martingales import controlled_wealth, return_differences, value_differences
from sddp.errors import DataError
from sddp.statistics.paths import ReturnPaths
from tests.brown_smith import PROCESS
from tests.portfolio.studies import finite
from tests.portfolio.trees import EXAMPLE, ideal_penalties


def history(problem, path):
    """Log returns and factors along a path of shocks."""
    factors = [problem.factor(path[:t]) for t in range(len(path) + 1)]
    returns = [problem.returns(z)[s] for z, s in zip(factors, path, strict=False)]
    return np.log(1.0 + problem.cash_return + np.array(returns)), np.array(factors)[:, None]


@pytest.mark.long
def test_value_differences_are_those_of_the_exact_recursion():
    all_paths = list(EXAMPLE.histories(3))
    log_returns, factors = zip(*(history(EXAMPLE, path) for path in all_paths), strict=True)
    policy = finite(replace(EXAMPLE, cost=0.0))
    paths = ReturnPaths(np.array(log_returns), np.array(factors), EXAMPLE.cash_return)
    found = value_differences(policy, paths, policy.shocks)
    expected = [ideal_penalties(EXAMPLE, path) for path in all_paths]
    np.testing.assert_allclose(found, expected, atol=5e-6)
    assert np.abs(expected).max() > 0.1


def test_returns_without_shocks_differ_from_nothing():
    still = replace(PROCESS, covariance=np.zeros((4, 4)))
    paths = still.simulate(2, 3, rng=np.random.default_rng(0), start=[1.0])
    np.testing.assert_allclose(return_differences(still, paths), 0.0, atol=1e-15)


def test_a_return_differs_by_its_shock():
    paths = ReturnPaths(
        np.log([[[1.05, 1.0, 1.0]]]), np.array([[[0.0], [9.0]]]), PROCESS.cash_return
    )
    mean = np.exp(0.0053 + 0.002894 / 2)
    differences = return_differences(PROCESS, paths)
    assert differences[0, 0, 0] == 0.0
    assert differences[0, 0, 1] == pytest.approx(1.05 - mean)


def test_controlled_wealth_takes_the_differences_off():
    holdings = np.array([[[1.0, 2.0], [0.0, 3.0]]])
    differences = np.array([[[0.1, 0.01], [9.0, -0.02]]])
    controlled = controlled_wealth(np.array([4.0]), holdings, differences)
    assert controlled == pytest.approx([4.0 - 0.1 - 0.02 + 0.06])
    with pytest.raises(DataError, match="terminal_wealth has shape"):
        controlled_wealth(np.ones(2), np.ones((2, 2, 4)), np.ones((2, 3, 4)))
