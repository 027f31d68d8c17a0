"""Price impact from data: Kyle's slope where signed volume is known, Amihud's ratio elsewhere.

Both say by which share a price moves per unit of money; 0.01 over it is depth, the money that moves
the price by 1 %.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from sddp.arrays import Floats
from sddp.errors import DataError

FEWEST = 10


class ImpactEstimate(NamedTuple):
    """Relative price move per unit of money, its standard error, and the rows it is from."""

    slope: float
    standard_error: float
    n_rows: int

    @property
    def depth(self) -> float:
        """Money that moves the price by 1 %."""
        return 0.01 / self.slope if self.slope > 0.0 else math.inf


def kyle_slope(returns: ArrayLike, signed_volume: ArrayLike) -> ImpactEstimate:
    """Least-squares slope of returns on signed volume (Kyle, 1985).

    Parameters
    ----------
    returns : array, shape (n_rows,)
        Simple returns of each interval.
    signed_volume : array, shape (n_rows,)
        Money bought less money sold by those who cross the spread. Rows with a gap are left out.

    Returns
    -------
    ImpactEstimate
        The standard error allows for unequal variances (White, 1980).

    Raises
    ------
    DataError
        Fewer than 10 rows, or the volume does not vary.
    """
    r, v = _pairs(returns, signed_volume)
    x = v - v.mean()
    total = float(x @ x)
    if total == 0.0:
        raise DataError("signed_volume: must vary")
    slope = float(x @ r) / total
    left = r - r.mean() - slope * x
    return ImpactEstimate(slope, math.sqrt(float((x * left) @ (x * left))) / total, len(r))


def amihud_ratio(returns: ArrayLike, volume: ArrayLike) -> ImpactEstimate:
    """Mean of ``|return| / volume`` (Amihud, 2002): an upper guess at impact.

    It takes every move of the price for impact, news included.

    Parameters
    ----------
    returns : array, shape (n_rows,)
    volume : array, shape (n_rows,)
        Money traded in each interval. Rows with a gap or without volume are left out.

    Raises
    ------
    DataError
        Fewer than 10 rows with volume, or a volume is negative.
    """
    r, v = _pairs(returns, volume)
    if v.min() < 0.0:
        raise DataError(f"volume={v.min()}: must be at least 0")
    traded = v > 0.0
    if traded.sum() < FEWEST:
        raise DataError(f"volume: {int(traded.sum())} rows are positive: must be {FEWEST}")
    ratios = np.abs(r[traded]) / v[traded]
    n = len(ratios)
    return ImpactEstimate(float(ratios.mean()), float(ratios.std(ddof=1)) / math.sqrt(n), n)


def _pairs(returns: ArrayLike, volume: ArrayLike) -> tuple[Floats, Floats]:
    r, v = np.asarray(returns, dtype=float), np.asarray(volume, dtype=float)
    if r.ndim != 1 or r.shape != v.shape:
        raise DataError(f"returns {r.shape} and volume {v.shape}: must be vectors of one length")
    known = np.isfinite(r) & np.isfinite(v)
    if known.sum() < FEWEST:
        raise DataError(
            f"returns and volume: {int(known.sum())} rows are complete: must be {FEWEST}"
        )
    return r[known], v[known]
