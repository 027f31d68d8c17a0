"""CVaR portfolios against the explicit program of Rockafellar and Uryasev, by scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from sddp.errors import InfeasibleConstraints, InfeasibleProblem, ModelError
from sddp.portfolio import (
    ConstraintSet,
    CVaRLimited,
    GroupLimit,
    MaximumReturnToCVaR,
    MinimumCVaR,
    Outcomes,
    PositionLimit,
    TrackingError,
    Turnover,
    outcome_moments,
)

N, S = 5, 120
CASH = 0.001


def law(seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    common = rng.standard_t(4, size=(S, 1)) * 0.02
    returns = 0.012 + common + rng.normal(0.0, [0.01, 0.02, 0.03, 0.04, 0.02], (S, N))
    return Outcomes(returns, rng.dirichlet(np.full(S, 3.0)))


def now(seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 50).dirichlet(np.ones(N + 1))[1:]


COST = np.array([0.001, 0.002, 0.0, 0.004, 0.001])


def explicit(seed, *, tail, risk, earn, limit=np.inf, cash=True, paid=True, group=None):
    """``min risk CVaR - earn (net return)``; columns w, b, s, cash, t (VaR), excess losses."""
    returns, p = law(seed)
    k = 3 * N + 1
    width = k + 1 + S
    cost_row = np.concatenate([np.zeros(N), COST, COST, [0.0]])
    mean = np.concatenate([p @ returns, -COST, -COST, [CASH]])
    cvar = np.zeros(width)
    cvar[k], cvar[k + 1 :] = 1.0, p / tail
    loss = np.zeros((S, width))
    loss[:, :k] = cost_row
    loss[:, :N] -= returns
    loss[:, 3 * N] -= CASH
    loss[:, k], loss[:, k + 1 :] = -1.0, -np.eye(S)
    rows, sides = [loss], [np.zeros(S)]
    if np.isfinite(limit):
        rows, sides = [*rows, cvar[None]], [*sides, [limit]]
    if group is not None:
        line = np.zeros((1, width))
        line[0, :2] = 1.0
        rows, sides = [*rows, line], [*sides, [group]]
    equal = np.zeros((N + 1, width))
    equal[:N, :N], equal[:N, N : 2 * N], equal[:N, 2 * N : 3 * N] = np.eye(N), -np.eye(N), np.eye(N)
    equal[N, :N], equal[N, 3 * N] = 1.0, 1.0
    equal[N, N : 3 * N] = float(paid) * np.concatenate([COST, COST])
    objective = risk * cvar
    objective[:k] -= earn * mean
    found = linprog(
        objective,
        A_ub=np.vstack(rows),
        b_ub=np.concatenate(sides),
        A_eq=equal,
        b_eq=np.append(now(seed), 1.0),
        bounds=[(0, 1)] * (3 * N) + [(0, 1 if cash else 0), (None, None)] + [(0, None)] * S,
        method="highs",
    )
    return found.fun if found.status == 0 else None


def solve(model, seed):
    return model.solve(
        outcome_moments(law(seed)),
        current_weights=now(seed),
        cash_return=CASH,
        outcomes=law(seed),
    )


@pytest.mark.parametrize("seed", range(6))
def test_least_cvar(seed):
    result = solve(MinimumCVaR(transaction_cost=COST, confidence=0.9), seed)
    expected = explicit(seed, tail=0.1, risk=1.0, earn=0.0, cash=False, paid=False)
    assert result.objective == pytest.approx(expected, abs=1e-9)
    assert result.cvar(law(seed), confidence=0.9) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [0.01, 0.03])
def test_greatest_return_under_a_limit(seed, limit):
    """Self-financing, costs in the loss: the tail is fractional."""
    group = ConstraintSet((GroupLimit(name="g", assets=["asset1", "asset2"], upper=0.3),))
    model = CVaRLimited(limit=limit, transaction_cost=COST, confidence=0.85, constraints=group)
    expected = explicit(seed, tail=0.15, risk=0.0, earn=1.0, limit=limit, group=0.3)
    result = solve(model, seed)
    assert result.objective == pytest.approx(-expected, abs=1e-9)
    assert result.expected_return == pytest.approx(-expected, abs=1e-9)
    assert result.cvar(law(seed), confidence=0.85) <= limit + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_greatest_ratio(seed):
    """At the optimal ratio the parametric program has the value 0 (Dinkelbach)."""
    result = solve(MaximumReturnToCVaR(transaction_cost=COST, confidence=0.9), seed)
    ratio = result.objective
    cvar = result.cvar(law(seed), confidence=0.9)
    assert ratio == pytest.approx((result.expected_return - CASH) / cvar, rel=1e-10)
    value = explicit(seed, tail=0.1, risk=ratio, earn=1.0, cash=False, paid=False)
    assert -value - CASH == pytest.approx(0.0, abs=1e-9)


def test_soft_constraints_and_turnover():
    limits = ConstraintSet(
        (
            Turnover(name="turnover", limit=0.2),
            PositionLimit(name="cap", assets=["asset1"], upper=0.0, penalty=1e-6),
        )
    )
    result = solve(CVaRLimited(limit=0.06, transaction_cost=COST, constraints=limits), 1)
    assert result.trades.abs().sum() <= 0.2 + 1e-9
    assert result.constraints.loc["cap", "breach"] == pytest.approx(result.holdings["asset1"])


def test_what_cannot_be_had_is_said():
    with pytest.raises(InfeasibleProblem, match=r"limit=0.001: the least CVaR is 0\.0"):
        solve(CVaRLimited(limit=0.001, max_cash=0.0, self_financing=False), 1)
    with pytest.raises(ModelError, match="needs outcomes"):
        MinimumCVaR().solve(outcome_moments(law(1)), current_weights=now(1))
    with pytest.raises(ModelError, match="no portfolio beats cash_return"):
        MaximumReturnToCVaR().solve(
            outcome_moments(law(1)), current_weights=now(1), cash_return=0.2, outcomes=law(1)
        )
    cap = PositionLimit(name="cap", upper=0.1)
    with pytest.raises(InfeasibleConstraints) as caught:
        solve(MinimumCVaR(constraints=ConstraintSet((cap,))), 1)
    assert set(caught.value.conflict) == {"max_cash", "cap"}
    index = TrackingError(name="i", benchmark={"asset1": 1.0}, limit=0.1, periods_per_year=12)
    with pytest.raises(ModelError, match="TrackingError is a cone"):
        solve(MinimumCVaR(constraints=ConstraintSet((index,))), 1)
    with pytest.raises(ModelError, match="confidence=95"):
        MinimumCVaR(confidence=95)
    sure = Outcomes(np.full((4, 1), 0.01))
    with pytest.raises(ModelError, match="the ratio has no greatest value"):
        MaximumReturnToCVaR().solve(outcome_moments(sure), current_weights=[1.0], outcomes=sure)
