"""Martingale differences of holdings: control variates and penalties of mean zero.

Differences are linear in holdings, so they are kept per unit of money: an array of shape
``(n_paths, n_decisions, n_assets + 1)``, cash first, whose entry t belongs to the holdings after
the trades of date t. Summed with the holdings of any policy without foresight their mean is 0.
"""

from __future__ import annotations

import numpy as np

from sddp.arrays import Floats
from sddp.bounds.frictionless import FrictionlessPolicy, expected_growth
from sddp.errors import DataError
from sddp.statistics.autoregression import ReturnAutoregression
from sddp.statistics.paths import ReturnPaths, Shocks


def return_differences(process: ReturnAutoregression, paths: ReturnPaths) -> Floats:
    """Excess returns less their expectation given the factors.

    As a control variate they leave the sum of conditionally expected gains: the estimator of the
    paper's own code.
    """
    surprises = paths.excess_returns - process.expected_returns(paths.factors[:, :-1])
    return np.concatenate([np.zeros((*surprises.shape[:2], 1)), surprises], axis=2)


def value_differences(
    policy: FrictionlessPolicy, paths: ReturnPaths, expectation: Shocks
) -> Floats:
    """Frictionless value of money after a period, less its expectation given the factor.

    ``R_ti v_{t+1}(z_{t+1}) - E[ R_ti v_{t+1}(z') | z_t ]`` with R gross excess returns.

    Parameters
    ----------
    policy : FrictionlessPolicy
    paths : ReturnPaths
        At least as long as the policy; later periods are not looked at.
    expectation : Shocks
        The law of the paths: ``process.quadrature(32)`` for simulated ones.

    Raises
    ------
    DataError
        The paths are shorter than the policy.
    """
    policy.check_length(paths)
    n_paths, _, n = paths.log_returns.shape
    differences = np.empty((n_paths, policy.n_decisions, n + 1))
    returns, factors = paths.excess_returns, paths.factors[:, :, 0]
    for t in range(policy.n_decisions):
        later = policy.growth_at(t + 1, factors[:, t + 1])
        cash, assets = expected_growth(
            policy.process, expectation, factors[:, t], policy.grid, policy.growth[t + 1]
        )
        differences[:, t, 0] = later - cash
        differences[:, t, 1:] = (1.0 + returns[:, t]) * later[:, None] - assets
    return differences


def controlled_wealth(terminal_wealth: Floats, holdings: Floats, differences: Floats) -> Floats:
    """Terminal wealth less the sum of differences: the same mean, a smaller variance.

    Parameters
    ----------
    terminal_wealth : array, shape (n_paths,)
        Of any policy without foresight, with or without costs.
    holdings, differences : array, shape (n_paths, n_decisions, n_assets + 1)
        Money after trading, cash first.

    Raises
    ------
    DataError
        Shapes disagree.
    """
    if holdings.shape != differences.shape or len(terminal_wealth) != len(holdings):
        raise DataError(
            f"terminal_wealth has shape {terminal_wealth.shape}, holdings {holdings.shape}, "
            f"differences {differences.shape}; give (paths,) and twice (paths, decisions, assets)"
        )
    controlled: Floats = terminal_wealth - np.einsum("ptn,ptn->p", holdings, differences)
    return controlled
