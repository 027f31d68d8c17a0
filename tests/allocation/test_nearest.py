"""Nearly best decisions near to what is held, against linear programs written out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp.allocation.alternatives import nearest_decision
from sddp.allocation.model import AllocationModel
from sddp.allocation.training import train_allocation
from sddp.engine.training.stopping import Iterations
from sddp.errors import ModelError
from sddp.scenarios import MarkovScenarios

COST, LIMIT, TAIL = 0.004, 0.03, 0.1
MODEL = AllocationModel(transaction_cost=COST, cvar_limit=LIMIT)
NAMES = ("cash", "asset1", "asset2", "asset3", "asset4")


def policy(n_stages: int):
    rng = np.random.default_rng(4)
    law = MarkovScenarios(
        rng.normal([0.01, 0.012, 0.008, 0.006], 0.05, (2, 40, 4)),
        [[0.8, 0.2], [0.3, 0.7]],
        n_stages=n_stages,
    )
    return train_allocation(
        MODEL,
        law,
        initial_holdings={"cash": 1.0},
        rng=1,
        stopping=Iterations(15),
        progress=False,
    ).policy


@pytest.fixture(scope="module")
def one_stage():
    return policy(1)


@pytest.fixture(scope="module")
def three_stages():
    return policy(3)


def least_distance(own, before, wanted, enough) -> float:
    """Rockafellar and Uryasev's rows, one row on expected wealth, and absolute differences."""
    ahead = own.problem.distribution(0, np.array([0.6, 0.4]))
    returns, weights = ahead.returns, ahead.probabilities
    n, m = len(before), len(weights)
    k = n - 1
    # Columns: holdings n, purchases k, sales k, above n, below n, quantile 1, excess m.
    size = 3 * n + 2 * k + 1 + m
    u, b, d = slice(0, n), slice(n, n + k), slice(n + k, n + 2 * k)
    above, below = slice(n + 2 * k, 2 * n + 2 * k), slice(2 * n + 2 * k, 3 * n + 2 * k)
    q, e = 3 * n + 2 * k, slice(3 * n + 2 * k + 1, size)
    equal = np.zeros((2 * n, size))
    equal[:n, u] = np.eye(n)
    equal[0, b], equal[0, d] = 1.0 + COST, -(1.0 - COST)
    equal[1:n, b], equal[1:n, d] = -np.eye(k), np.eye(k)
    equal[n:, u], equal[n:, above], equal[n:, below] = np.eye(n), -np.eye(n), np.eye(n)
    upper = np.zeros((m + 2, size))
    upper[:m, 1:n], upper[:m, b], upper[:m, d] = -returns, COST, COST
    upper[:m, q], upper[:m, e] = -1.0, -np.eye(m)
    upper[m, q], upper[m, e] = 1.0, weights / TAIL
    upper[m + 1, u] = -np.append(1.0, 1.0 + weights @ returns)
    c = np.zeros(size)
    c[above], c[below] = 1.0, 1.0
    c[above.start], c[below.start] = 0.0, 0.0  # cash is what is left
    bounds = [(0.0, None)] * size
    bounds[d] = [(0.0, x) for x in before[1:]]
    bounds[q] = (None, None)
    found = linprog(
        c,
        A_ub=upper,
        b_ub=np.concatenate([np.zeros(m), [LIMIT * before.sum(), -enough]]),
        A_eq=equal,
        b_eq=np.concatenate([before, wanted]),
        bounds=bounds,
        method="highs",
    )
    return float(found.fun)


@pytest.mark.parametrize("within", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_of_the_nearly_best_is_found(one_stage, within, seed):
    rng = np.random.default_rng(seed)
    before, wanted = rng.uniform(0.0, 100.0, (2, 5))
    found = nearest_decision(
        one_stage,
        within=within,
        nearest=dict(zip(NAMES, wanted.tolist(), strict=True)),
        regime=[0.6, 0.4],
        holdings=dict(zip(NAMES, before.tolist(), strict=True)),
    )
    wealth = before.sum()
    assert found.cash == pytest.approx(wealth)
    enough = found.best - within * max(found.best - found.cash, 0.0)
    slack = (1e-9 if within else 1e-7) * wealth
    expected = least_distance(one_stage, before, wanted, enough - slack)
    assert found.value >= enough - 1e-7 * wealth
    # At the best value itself the distance is steep in it.
    assert found.distance == pytest.approx(expected, abs=(1e-5 if within else 1e-3) * wealth)
    assert found.cvar <= LIMIT + 1e-8
    distance = np.abs(found.holdings.to_numpy() - wanted)[1:].sum()
    assert found.holdings.sum() == pytest.approx(wealth - found.cost, abs=1e-6 * wealth)
    assert distance == pytest.approx(found.distance, abs=1e-6 * wealth)


def test_what_is_given_up_buys_trades(three_stages):
    """The more may be given up, the less is traded; nothing where all may be."""
    held = {"cash": 0.55, "asset1": 0.15, "asset3": 0.15, "asset4": 0.15}
    asked = {"regime": [0.6, 0.4], "holdings": held, "nearest": held}
    found = [nearest_decision(three_stages, within=w, **asked) for w in (0.0, 0.05, 0.3, 1.0)]
    distances = [point.distance for point in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > distances[1] + 1e-3
    assert distances[-1] == pytest.approx(0.0, abs=1e-9)
    best = three_stages.decide(regime=[0.6, 0.4], holdings=held)
    assert found[0].value == pytest.approx(best.value, abs=1e-7)
    assert found[1].value >= found[1].best - 0.05 * (found[1].best - found[1].cash) - 1e-9


@pytest.mark.parametrize("within", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_raises(one_stage, within):
    with pytest.raises(ModelError, match="within="):
        nearest_decision(
            one_stage, within=within, nearest={"cash": 1.0}, regime=0, holdings={"cash": 1.0}
        )
