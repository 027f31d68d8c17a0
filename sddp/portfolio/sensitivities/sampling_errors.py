"""Standard errors of estimated moments, by the stationary bootstrap of their window."""

from __future__ import annotations

import numpy as np

from sddp.arrays import Floats
from sddp.statistics.resampling import stationary_blocks
from sddp.statistics.tables import TableLike, read_table

# Mean length of the blocks of the stationary bootstrap, and draws.
BLOCK, DRAWS = 10.0, 200

# A mean correlation below this is taken as this, where an error is put in shares of it.
LEAST_COUPLING = 0.05


def sampling_errors(returns: TableLike, rng: int) -> dict[str, Floats]:
    """Standard error of each mean, volatility, and of each asset's correlations by asset.

    Correlations are moved as a share of themselves: the error of an asset's is that of its mean
    correlation with the others, as a share of it.

    Parameters
    ----------
    returns : DataFrame or array, shape (n_rows, n_assets)
    rng : int
    """
    values = read_table(returns, "returns").values
    drawn = [
        [sample.mean(axis=0), sample.std(axis=0, ddof=1), _coupling(sample)]
        for blocks in stationary_blocks(len(values), block_length=BLOCK, n_draws=DRAWS, rng=rng)
        for sample in values[blocks.rows()]
    ]
    mean, volatility, correlation = np.std(np.array(drawn), axis=0, ddof=1)
    correlation /= np.maximum(np.abs(_coupling(values)), LEAST_COUPLING)
    return {"mean": mean, "volatility": volatility, "correlation": correlation}


def _coupling(values: Floats) -> Floats:
    """Mean correlation of each asset with the others."""
    correlation = np.atleast_2d(np.corrcoef(values.T))
    coupling: Floats = (correlation.sum(axis=0) - 1.0) / max(len(correlation) - 1, 1)
    return coupling
