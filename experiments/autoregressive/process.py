"""What is known of the process of the study, `sddp.statistics.brown_smith`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Paths start where the authors' do.
START = np.zeros(1)


@dataclass(frozen=True)
class Reference:
    """A number to meet.

    Attributes
    ----------
    quantity : str
    cvar_limit : float
    n_decisions : int
    value : float
    tolerance : float
        Of both computations and of rounding, where nothing is simulated.
    source : str
    standard_error : float
        Of the reference, where it is simulated or made from few points.
    """

    quantity: str
    cvar_limit: float
    n_decisions: int
    value: float
    tolerance: float
    source: str
    standard_error: float = 0.0


TERMINAL, FIRST_CASH = "expected terminal wealth", "first-stage cash"
SIMULATED, DEVIATION = "simulated terminal wealth", "deviation of terminal wealth"
MEAN_CASH = "mean cash over paths and decisions"

INDEPENDENT = "independent recomputation, 29 grid points, scrambled Sobol"
AUTHORS = "authors' test/sdp.jl, 1,000 paths, S = 500"

ELEVEN = {0.012: 1.01084, 0.02: 1.01813, 0.05: 1.04591, 0.08: 1.07439, 0.1: 1.09362, 0.2: 1.12174}
TWELVE = {0.012: 1.0118, 0.02: 1.0198, 0.05: 1.0502, 0.08: 1.0815, 0.1: 1.1027, 0.2: 1.1336}

REFERENCES = (
    *(Reference(TERMINAL, g, 11, v, 1e-4, INDEPENDENT) for g, v in ELEVEN.items()),
    *(Reference(TERMINAL, g, 12, v, 1e-4, INDEPENDENT) for g, v in TWELVE.items()),
    Reference(FIRST_CASH, 0.05, 11, 0.555, 2e-3, INDEPENDENT),
    # A mean of three draws of 1,024 points; one draw differs from another by 0.0018.
    Reference(FIRST_CASH, 0.012, 11, 0.896, 5e-4, "independent recomputation, S = 1,024", 0.0011),
    # Standard errors of 1,000 paths with the authors' deviation; that of cash is as ours.
    Reference(SIMULATED, 0.012, 11, 1.01161, 0.0, AUTHORS, 0.00079),
    Reference(DEVIATION, 0.012, 11, 0.02505, 0.0, AUTHORS, 0.00056),
    # Their cash is that of one draw of 500 points: independent draws differ by 0.0034.
    Reference(MEAN_CASH, 0.012, 11, 0.893047, 0.0, AUTHORS, 0.0034),
)
