"""What decisions risk under the process itself, whatever scenarios they were taken on."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import RectBivariateSpline

from sddp.arrays import Floats
from sddp.risk import weighted_cvar
from sddp.statistics import ReturnAutoregression

# Of each share: cubic splines between them are off by less than 1e-6 of a holding.
N_NODES = 21


class TrueTail:
    """CVaR of three assets under the conditional law of returns given the factor.

    The return of asset i is ``m_i(z) g_i - 1 - r_f`` with g the exponentials of the shocks, whose
    law does not depend on the factor. So CVaR is ``f(e) + (1 + r_f) sum u`` with
    ``e_i = u_i m_i(z)``, and f is homogeneous: a function of two shares, tabulated once from many
    points and interpolated by cubic splines.

    Parameters
    ----------
    process : ReturnAutoregression
        Of three assets.
    confidence : float
    n_points : int
        Scrambled Sobol points of the table.
    rng : Generator
    """

    def __init__(
        self,
        process: ReturnAutoregression,
        confidence: float,
        n_points: int,
        *,
        rng: np.random.Generator,
    ) -> None:
        self._process = process
        growth = process.shocks(n_points, rng=rng).growth
        nodes = np.linspace(0.0, 1.0, N_NODES)
        table = [
            [weighted_cvar(-(growth @ _exposures(a, b)), confidence=confidence) for b in nodes]
            for a in nodes
        ]
        self._table = RectBivariateSpline(nodes, nodes, np.array(table))

    def cvar(self, assets: Floats, factors: Floats) -> Floats:
        """CVaR of the loss in excess of cash, in the unit of the holdings.

        Parameters
        ----------
        assets : array, shape (..., 3)
            Money after trading, cash left out.
        factors : array, shape (...)
        """
        exposures = assets * self._process.median_growth(factors[..., None])
        total, pair = exposures.sum(axis=-1), exposures[..., 0] + exposures[..., 1]
        third = np.divide(exposures[..., 2], total, out=np.zeros_like(total), where=total > 0.0)
        second = np.divide(exposures[..., 1], pair, out=np.zeros_like(pair), where=pair > 0.0)
        tail = total * self._table(third, second, grid=False)
        cvar: Floats = tail + (1.0 + self._process.cash_return) * assets.sum(axis=-1)
        return cvar


def _exposures(third: float, second: float) -> Floats:
    """Exposures of sum 1: the share of the third asset, and of the second among the other two."""
    return np.array([(1.0 - third) * (1.0 - second), (1.0 - third) * second, third])
