"""Dynamic programmes of the package that several tests ask: of the first study, of a small tree."""

from __future__ import annotations

import numpy as np

from sddp.bounds.frictionless import factor_grid, solve_frictionless
from sddp.statistics.autoregression import ReturnAutoregression
from sddp.statistics.paths import Shocks
from tests.brown_smith import PROCESS


def brown_smith(limit, n_decisions=11, n_points=2**14, process=PROCESS):
    """The dynamic programme with the settings of the reference values."""
    return solve_frictionless(
        process,
        process.shocks(n_points, rng=np.random.default_rng(1)),
        factor_grid(process, 29),
        n_decisions=n_decisions,
        cvar_limit=limit,
        cvar_confidence=0.9,
        expectation=process.quadrature(32),
    )


def finite(problem, n_grid=101):
    """The dynamic programme of a problem with finitely many shocks."""
    process = ReturnAutoregression(
        problem.return_intercepts,
        problem.return_loadings[:, None],
        np.array([problem.factor_intercept]),
        np.array([[problem.factor_slope]]),
        np.eye(3),
        problem.cash_return,
    )
    return solve_frictionless(
        process,
        Shocks(problem.growth, problem.factors[:, None], problem.probabilities),
        np.linspace(-1.5, 1.5, n_grid),
        n_decisions=problem.n_decisions,
        cvar_limit=problem.limit,
        cvar_confidence=problem.confidence,
    )
