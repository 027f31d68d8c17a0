"""Search for the risk aversion at which a CVaR equals a limit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sddp.errors import InfeasibleProblem

# The scan multiplies the problem's own unit of risk aversion by powers of 4 from 1e-3 to 1e6.
# Below, the mean decides all but ties; above, the variance does.
POWERS = 4.0 ** np.arange(-5, 11)

# Of wealth, as everywhere a CVaR limit is said to hold.
CVAR_TOLERANCE = 1e-9


def match_cvar(cvar_at: Callable[[float], float], limit: float, unit: float) -> float:
    """Least risk aversion whose solution has a CVaR within a limit.

    The CVaR need not fall as risk aversion rises (without cash, the least variance need not have
    the least CVaR), so the search comes from 0, takes steps of a factor 4 to the first solution
    within the limit, and finds the root between that step and the one before. Where solutions
    jump at the root (a covariance that is not positive definite), the side within the limit is
    taken.

    Parameters
    ----------
    cvar_at : function
        From a risk aversion to the CVaR of the solution, a fraction of wealth.
    limit : float
    unit : float
        Risk aversion of ordinary size for the problem; positive.

    Raises
    ------
    InfeasibleProblem
        No step is within the limit; the message names the least CVaR met.
    """
    from scipy.optimize import brentq  # 0.3 s to import

    excess: dict[float, float] = {}

    def excess_at(risk_aversion: float) -> float:
        excess[risk_aversion] = cvar_at(risk_aversion) - limit
        return excess[risk_aversion]

    above = 0.0
    if excess_at(above) <= CVAR_TOLERANCE:
        return above
    for within in (unit * POWERS).tolist():
        if excess_at(within) <= CVAR_TOLERANCE:
            if excess[within] < 0.0:
                brentq(excess_at, above, within, xtol=1e-14 * within)
            return min(at for at, value in excess.items() if value <= CVAR_TOLERANCE)
        above = within
    where = min(excess, key=excess.__getitem__)
    raise InfeasibleProblem(
        f"no risk aversion brings the CVaR down to the limit {limit:g}: the least met is "
        f"{limit + excess[where]:g}, at risk_aversion = {where:g}; raise the limit, allow more "
        "cash, or lower the costs of getting there"
    )
