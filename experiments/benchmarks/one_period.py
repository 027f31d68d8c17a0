"""How fast one-period optimizers are, beside PIQP alone, skfolio and PyPortfolioOpt.

Medians of process-CPU milliseconds. Peers are optional: those that are not installed are left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import piqp

from sddp.arrays import Floats
from sddp.portfolio import (
    ConstraintSet,
    GroupLimit,
    Known,
    MeanVariance,
    MinimumCVaR,
    Moments,
    OnlineMeanVariance,
    RiskBudget,
    TrackingError,
    resampled_frontier,
)
from sddp.portfolio.inputs import Law
from sddp.portfolio.optimizer import Terms
from sddp.portfolio.optimizers.risk_parity import risk_budget_weights
from sddp.portfolio.qp.polish import RowQp
from sddp.portfolio.qp.transaction_cost_qp import columns_of, row_qp
from sddp.portfolio.views.posterior import posterior

RISK_AVERSION, COST = 5.0, 0.001

# Milliseconds on a core on which PIQP alone takes `PIQP`, by measurement and number of assets.
SIZES = (10, 50, 200, 500)
PIQP = dict(zip(SIZES, (0.06, 0.5, 11.0, 112.0), strict=True))
ASKED: dict[str, dict[int, float]] = {
    "prepared QP": dict(zip(SIZES, (0.2, 0.8, 13.0, 125.0), strict=True)),
    "ERC, Newton": dict(zip(SIZES, (0.2, 0.3, 2.0, 20.0), strict=True)),
    "Black-Litterman posterior, 10 views": dict(zip(SIZES, (0.1, 0.2, 1.5, 10.0), strict=True)),
    "tracking-error cone": dict(zip(SIZES[:3], (0.6, 3.5, 220.0), strict=True)),
    "CVaR, 2,000 outcomes": {50: 8.0},
    "CVaR, 10,000 outcomes": {50: 40.0},
    "resampled frontier, 500 draws of 20 points": {10: 1_500.0, 50: 5_000.0},
}
# Of the labeled call beyond the prepared one.
LABELS = 0.5

# Peers take longer: fewer repetitions above this size.
LARGE = 200


class Problem(NamedTuple):
    """Moments and current weights; the first of several means."""

    means: Floats
    covariance: Floats
    current: Floats
    returns: Floats
    names: list[str]


def measure(n: int, repetitions: int, seed: int) -> dict[str, Any]:
    """Rows of one number of assets."""
    problem = made_up(n, seed)
    times: dict[str, float] = {}
    for name, work in _works(problem).items():
        few = n >= LARGE or name.startswith("CVaR")
        k = max(3, repetitions // 10) if few else repetitions
        times[name] = _median(work, 1 if name.startswith("resampled") else k)
    alone = times["PIQP alone"]
    rows: list[dict[str, Any]] = []
    for name, milliseconds in times.items():
        asked = ASKED.get(name, {}).get(n, np.nan)
        scaled = asked * alone / PIQP.get(n, np.nan)
        row = {"what": name, "n_assets": n, "milliseconds": milliseconds, "asked": asked}
        rows.append(row | {"of PIQP": milliseconds / alone, "of asked": milliseconds / scaled})
    return {"rows": rows}


def made_up(n: int, seed: int) -> Problem:
    """A factor model's daily moments, and weights from a simplex."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(n, max(3, n // 20))) * 0.01
    covariance = loadings @ loadings.T + np.diag(rng.uniform(1e-4, 4e-4, n))
    mean = rng.normal(5e-4, 1e-3, n)
    means = mean + rng.normal(0.0, 5e-5, (100, n))
    returns = rng.multivariate_normal(mean, covariance, size=10_000, method="cholesky")
    current = rng.dirichlet(np.ones(n)) * 0.9
    return Problem(means, covariance, current, returns, [f"asset{i}" for i in range(n)])


def _median(work: Callable[[], object], repetitions: int) -> float:
    times = []
    for _ in range(repetitions + 1):
        started = time.process_time_ns()
        work()
        times.append((time.process_time_ns() - started) / 1e6)
    return float(np.median(times[1:] if repetitions > 1 else times))


def _works(p: Problem) -> dict[str, Callable[[], object]]:
    n, S, x = len(p.current), p.covariance, p.current
    means = _endless(p.means)
    model = MeanVariance(risk_aversion=RISK_AVERSION, transaction_cost=COST)
    kernel = model.prepare(p.names)
    moments = Moments.of(p.means[0], S, p.names)
    labeled = pd.Series(x, index=p.names)
    program = _program(model, p)
    groups = tuple(
        GroupLimit(name=f"group {k}", assets=tuple(p.names[k::10]), upper=0.25) for k in range(10)
    )
    grouped = replace(model, constraints=ConstraintSet(groups)).prepare(p.names)
    benchmark = tuple((name, 1.0 / n) for name in p.names)
    limit = 0.3 * float(np.sqrt(np.trace(S) / n))
    tracker = TrackingError(
        name="benchmark", benchmark=benchmark, limit=limit, periods_per_year=1.0
    )
    tracked = replace(model, constraints=ConstraintSet((tracker,))).prepare(p.names)
    online = OnlineMeanVariance(risk_aversion=RISK_AVERSION, purchase_cost=COST, sale_cost=COST)
    rng = np.random.default_rng(1)
    views, errors = rng.normal(size=(10, n)), np.full(10, 1e-4)
    stated = rng.normal(0.0, 1e-3, 10)
    equal = np.full(n, 1.0 / n)
    found: dict[str, Callable[[], object]] = {
        "PIQP alone": lambda: _alone(program),
        "prepared QP": lambda: kernel.solve(next(means), S, x),
        "prepared QP, cold": lambda: model.prepare(p.names).solve(next(means), S, x),
        "labeled": lambda: model.solve(moments, current_weights=labeled),
        "prepared QP, ten general rows": lambda: grouped.solve(next(means), S, x),
        "tracking-error cone": lambda: tracked.solve(next(means), S, x),
        "ERC, Newton": lambda: risk_budget_weights(S, equal),
        "ERC, labeled": lambda: RiskBudget().solve(moments, current_weights=labeled),
        "Black-Litterman posterior, 10 views": lambda: posterior(
            p.means[0], S, views, stated, errors, 0.05
        ),
        "online step": lambda: online.step(next(means), S, x / x.sum()),
    }
    if n == 50:
        for rows in (2_000, 10_000):
            known = Known(0.0, None, Law(p.returns[:rows], np.full(rows, 1.0 / rows)))
            least = MinimumCVaR(confidence=0.95, transaction_cost=COST).prepare(p.names)
            found[f"CVaR, {rows:,} outcomes"] = partial(least.solve, p.means[0], S, x, known)
    if n <= 50:
        window = pd.DataFrame(p.returns[:500], columns=p.names)
        found["resampled frontier, 500 draws of 20 points"] = lambda: resampled_frontier(
            MeanVariance(risk_aversion=1.0, max_cash=0.0, self_financing=False),
            window,
            current_weights=labeled,
            n_resamples=500,
            n_points=20,
            rng=1,
        )
    return found | _peers(p, moments)


def _endless(rows: Floats) -> Iterator[Floats]:
    while True:
        yield from rows


def _program(model: MeanVariance, p: Problem) -> RowQp:
    """The same problem as PIQP is given it."""
    problem = Terms(model, p.names).problem(p.means[0], p.covariance, p.current)
    problem = replace(problem, risk_aversion=RISK_AVERSION)
    return row_qp(problem, columns_of(problem))


def _alone(qp: RowQp) -> object:
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_duality_gap_abs = 1e-9
    solver.settings.eps_rel = solver.settings.eps_duality_gap_rel = 0.0
    solver.setup(
        P=np.asfortranarray(qp.hessian),
        c=qp.gradient,
        G=np.asfortranarray(qp.rows),
        h_l=qp.row_lower,
        h_u=qp.row_upper,
        x_l=qp.lower,
        x_u=qp.upper,
    )
    return solver.solve()


def _peers(p: Problem, moments: Moments) -> dict[str, Callable[[], object]]:
    found: dict[str, Callable[[], object]] = {}
    if find_spec("pypfopt"):
        from pypfopt import EfficientFrontier, objective_functions

        def pypfopt() -> object:
            frontier = EfficientFrontier(moments.mean, moments.covariance)
            frontier.add_objective(
                objective_functions.transaction_cost, w_prev=p.current / p.current.sum(), k=COST
            )
            return frontier.max_quadratic_utility(risk_aversion=RISK_AVERSION)

        found["PyPortfolioOpt"] = pypfopt
    if find_spec("skfolio"):
        from skfolio.optimization import MeanRisk, ObjectiveFunction

        window = pd.DataFrame(p.returns[:500], columns=p.names)

        def skfolio() -> object:
            return MeanRisk(
                objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
                risk_aversion=RISK_AVERSION / 2.0,
                transaction_costs=COST,
                previous_weights=p.current / p.current.sum(),
            ).fit(window)

        found["skfolio, moments estimated too"] = skfolio
    return found


def sparsity(n: int, seed: int) -> dict[str, float]:
    """What sparse correlations save in one Newton system of the budget's conditions.

    Correlations below a half are set to zero; milliseconds of a dense Cholesky factorization and of
    a sparse LU one, and the share of entries left.
    """
    import scipy.sparse as sp
    from scipy.linalg import cho_factor
    from scipy.sparse.linalg import splu

    p = made_up(n, seed)
    size = np.sqrt(p.covariance.diagonal())
    correlation = p.covariance / np.outer(size, size)
    kept = np.where(np.abs(correlation) >= 0.5, correlation, 0.0) + n * np.eye(n)
    sparse = sp.csc_array(kept)
    return {
        "n_assets": n,
        "share_of_entries": sparse.nnz / n**2,
        "dense": _median(lambda: cho_factor(kept), 20),
        "sparse": _median(lambda: splu(sparse), 20),
    }
