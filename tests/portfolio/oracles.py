"""Independent answers to the one-period problem: two solvers on the split form, and its KKT rows.

Nothing here imports the package. Variables are (w, buys, sales, cash), all explicit, and nothing is
scaled or eliminated, unlike in the code under test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import clarabel
import daqp
import numpy as np
import scipy.sparse as sp

# Of the interior point method; the objective of ordinary size is compared to 1e-8 of itself.
CLARABEL_TOLERANCE = 1e-12


@dataclass(frozen=True)
class Numbers:
    """``max mean'w + cash_return c - buy'b - sell's - risk_aversion / 2 w'covariance w``."""

    mean: np.ndarray
    covariance: np.ndarray
    risk_aversion: float
    current: np.ndarray
    buy: np.ndarray
    sell: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    cash_return: float
    cash_lower: float
    cash_upper: float
    self_financing: bool

    def with_(self, **changes) -> Numbers:
        return replace(self, **changes)

    def cost(self, w: np.ndarray) -> float:
        trades = w - self.current
        return float(np.where(trades > 0.0, self.buy * trades, -self.sell * trades).sum())

    def value(self, w: np.ndarray, cash: float) -> float:
        risk = self.risk_aversion / 2.0 * w @ self.covariance @ w
        return float(self.mean @ w + self.cash_return * cash - self.cost(w) - risk)


@dataclass(frozen=True)
class Split:
    """``min z'Pz/2 + q'z`` over ``A z = b``, ``low <= z <= high``; the last row is the budget."""

    P: np.ndarray
    q: np.ndarray
    A: np.ndarray
    b: np.ndarray
    low: np.ndarray
    high: np.ndarray


def split(p: Numbers) -> Split:
    n = len(p.mean)
    eye, paid = np.eye(n), float(p.self_financing)
    P = np.zeros((3 * n + 1,) * 2)
    P[:n, :n] = p.risk_aversion * p.covariance
    budget = np.concatenate([np.ones(n), paid * p.buy, paid * p.sell, [1.0]])
    return Split(
        P=P,
        q=np.concatenate([-p.mean, p.buy, p.sell, [-p.cash_return]]),
        A=np.vstack([np.hstack([eye, -eye, eye, np.zeros((n, 1))]), budget]),
        b=np.append(p.current, 1.0),
        low=np.concatenate([p.lower, np.zeros(2 * n), [p.cash_lower]]),
        # No trade is ever larger than this; a bound keeps free columns in place.
        high=np.concatenate([p.upper, np.full(2 * n, 10.0), [p.cash_upper]]),
    )


def by_clarabel(p: Numbers) -> tuple[float, np.ndarray, float]:
    """Objective, weights and dual of the budget (rise of the objective per unit of wealth)."""
    s = split(p)
    n, m = len(p.mean), len(s.q)
    rows = sp.csc_matrix(np.vstack([s.A, np.eye(m), -np.eye(m)]))
    right = np.concatenate([s.b, s.high, -s.low])
    cones = [clarabel.ZeroConeT(len(s.b)), clarabel.NonnegativeConeT(2 * m)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, CLARABEL_TOLERANCE)
    found = clarabel.DefaultSolver(
        sp.csc_matrix(np.triu(s.P)), s.q, rows, right, cones, settings
    ).solve()
    assert str(found.status) in ("Solved", "AlmostSolved"), found.status
    z = np.array(found.x)
    return -float(found.obj_val), z[:n], float(found.z[n])


def by_daqp(p: Numbers) -> tuple[float, np.ndarray]:
    """Objective and weights by an active-set method, on another elimination: w and cash are gone.

    ``w = current + b - s``, so that rows are bounds on w and on cash.
    """
    n = len(p.mean)
    moves = np.hstack([np.eye(n), -np.eye(n)])
    H = p.risk_aversion * moves.T @ p.covariance @ moves
    slope = p.mean - p.cash_return - p.risk_aversion * p.covariance @ p.current
    paid = float(p.self_financing)
    costs = np.concatenate([p.buy, p.sell])
    spent = np.concatenate([np.ones(n), -np.ones(n)]) + paid * costs
    f = costs * (1.0 + paid * p.cash_return) - moves.T @ slope
    left = 1.0 - p.current.sum()
    low = np.concatenate([np.zeros(2 * n), p.lower - p.current, [left - p.cash_upper]])
    high = np.concatenate([np.full(2 * n, 10.0), p.upper - p.current, [left - p.cash_lower]])
    unit = max(np.abs(f).max(), np.abs(H).max())
    z, _, flag, _ = daqp.solve(
        H / unit,
        f / unit,
        np.ascontiguousarray(np.vstack([moves, spent])),
        high,
        low,
        np.zeros(len(low), dtype=np.int32),
        primal_tol=1e-10,
        dual_tol=1e-10,
        # Its own choice, 1, does not come to an end on one problem in two hundred.
        eps_prox=1e-2,
        iter_limit=100_000,
    )
    assert flag > 0, flag
    z = np.asarray(z)
    w = p.current + moves @ z
    return p.value(w, left - float(spent @ z)), w


def kkt_errors(p: Numbers, w: np.ndarray, cash: float, duals) -> dict[str, float]:
    """Conditions for an optimum, each as the textbook states it, divided by the slopes' size.

    `duals` has `budget`, `lower`, `upper` (cash first) and `marginal_cost`.
    """
    unit = max(
        p.risk_aversion * p.covariance.diagonal().max(),
        np.abs(p.mean - p.cash_return).max(),
        1e-300,
    )
    low, high, held = duals.lower.to_numpy(), duals.upper.to_numpy(), np.append(cash, w)
    slack_low = held - np.append(p.cash_lower, p.lower)
    slack_high = np.append(p.cash_upper, p.upper) - held
    slope = np.append(p.cash_return, p.mean - p.risk_aversion * p.covariance @ w)
    marginal = np.append(0.0, duals.marginal_cost.to_numpy())
    price = 1.0 + p.self_financing * duals.budget
    trades = w - p.current
    side = np.where(trades > 0.0, price * p.buy, -price * p.sell)
    outside = np.maximum(
        np.maximum(marginal[1:] - price * p.buy, -price * p.sell - marginal[1:]), 0.0
    )
    paid = p.cost(w) if p.self_financing else 0.0
    return {
        "stationary": np.abs(slope - duals.budget - marginal + low - high).max() / unit,
        "budget": abs(w.sum() + cash + paid - 1.0),
        "bounds": max(-slack_low.min(), -slack_high.min(), 0.0),
        "signs": max(-low.min(), -high.min(), 0.0) / unit,
        "complementary": max((low * slack_low).max(), (high * slack_high).max()) / unit,
        "kink": float(np.where(np.abs(trades) < 1e-12, outside, np.abs(marginal[1:] - side)).max())
        / unit,
    }
