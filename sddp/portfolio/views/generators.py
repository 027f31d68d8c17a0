"""Views made from data: of momentum with its own measured error, and of fitted regimes."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sddp.errors import DataError, ModelError
from sddp.portfolio.moments import Outcomes, regime_moments
from sddp.portfolio.views.view import InvestorView
from sddp.statistics import FittedFactorModel, Regimes


class ViewGenerator(Protocol):
    """Makes views of the next period."""

    def generate(self, outcomes: Outcomes, as_of: datetime.date) -> list[InvestorView]:
        """Views issued and valid on a date.

        Parameters
        ----------
        outcomes : Outcomes
            Of the period; a window forecast's are the returns of the window, oldest first.
        as_of : date
        """
        ...


@dataclass(frozen=True, kw_only=True)
class MomentumViews:
    """Each asset goes on as in the last periods, with the error that this rule had in the window.

    The view of an asset is ``shrinkage`` times its mean return over the last `lookback` periods;
    its variance is the mean square of the rule's errors for the period after, over the window.
    With that variance (`BlackLittermanProcessor(uncertainty="given")`) a rule that never worked
    moves little.

    Parameters
    ----------
    lookback : int
    shrinkage : float
        From 0 (no view of any difference) to 1.

    Raises
    ------
    ModelError
    """

    lookback: int = 60
    shrinkage: float = 0.5

    def __post_init__(self) -> None:
        if self.lookback < 2 or not 0.0 < self.shrinkage <= 1.0:
            raise ModelError(
                f"lookback={self.lookback}, shrinkage={self.shrinkage}: must be at least 2, and "
                "above 0 up to 1"
            )

    def generate(self, outcomes: Outcomes, as_of: datetime.date) -> list[InvestorView]:
        """See `ViewGenerator.generate`.

        Raises
        ------
        DataError
            The returns have no names, or too few rows.
        """
        returns = outcomes.returns
        if not isinstance(returns, pd.DataFrame):
            raise DataError("outcomes: momentum needs a DataFrame of returns, oldest first")
        k = self.lookback
        if len(returns) < k + 10:
            raise DataError(f"outcomes: {len(returns)} rows; momentum over {k} needs {k + 10}")
        values = returns.to_numpy(dtype=float)
        sums = np.vstack([np.zeros(values.shape[1]), np.cumsum(values, axis=0)])
        means = self.shrinkage * (sums[k:] - sums[:-k]) / k
        errors = means[:-1] - values[k:]
        variances = np.mean(errors**2, axis=0)
        return [
            InvestorView(
                kind="absolute",
                assets=((label, 1.0),),
                magnitude=float(means[-1, i]),
                horizon=1.0,
                confidence=0.5,
                variance=float(variances[i]),
                issued_at=as_of,
                valid_until=as_of,
                source="momentum",
            )
            for i, label in enumerate(returns.columns)
        ]


@dataclass(frozen=True, eq=False)
class RegimeViews:
    """Means of fitted regimes under a belief, with the variance of a mean from as many rows.

    Parameters
    ----------
    regimes : Regimes
    belief : array, shape (n_states,)
        Probabilities of today's regime.
    n_rows : int
        Observations that the regimes were fitted to: the variance of a view is the variance of the
        return divided by the expected number of rows like the next one.
    assets : FittedFactorModel, optional
    """

    regimes: Regimes
    belief: ArrayLike
    n_rows: int
    assets: FittedFactorModel | None = None

    def generate(self, outcomes: Outcomes, as_of: datetime.date) -> list[InvestorView]:
        """See `ViewGenerator.generate`; the outcomes are not read."""
        moments = regime_moments(self.regimes, self.belief, self.assets)
        next_state = np.asarray(self.belief, dtype=float) @ self.regimes.transition_matrix
        like = max(self.n_rows * float(next_state @ next_state), 1.0)
        variances = np.diag(moments.covariance.to_numpy()) / like
        return [
            InvestorView(
                kind="absolute",
                assets=((label, 1.0),),
                magnitude=float(moments.mean.iloc[i]),
                horizon=1.0,
                confidence=0.5,
                variance=float(variances[i]),
                issued_at=as_of,
                valid_until=as_of,
                source="regimes",
            )
            for i, label in enumerate(moments.mean.index)
        ]
