"""`PortfolioEstimator`: a one-period optimizer as an estimator of scikit-learn and skfolio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError
from sddp.portfolio.moments import MomentEstimator, Outcomes, SampleMoments
from sddp.portfolio.optimizer import PortfolioOptimizer

if TYPE_CHECKING:
    _Base = object
else:
    try:  # skfolio walks forward only with its own base class.
        from skfolio.optimization import BaseOptimization as _Base
    except ImportError:
        from sklearn.base import BaseEstimator as _Base


class PortfolioEstimator(_Base):
    """Fit moments to a window of returns and hold the optimizer's portfolio.

    It has a keyword-only constructor and ``fit(X)``, so that ``clone``, grid searches and skfolio's
    ``cross_val_predict`` with ``WalkForward`` take it. Each fit starts from `previous_weights`.

    Parameters
    ----------
    optimizer : PortfolioOptimizer
    moments : MomentEstimator, optional
        `SampleMoments` by default.
    previous_weights : array or mapping by asset, optional
        Before trading; all cash by default.
    cash_return : float
        Per period.

    Attributes
    ----------
    weights_ : array, shape (n_assets,)
        Of the risky assets after costs.
    result_ : PortfolioResult
    feature_names_in_ : array of str
    n_features_in_ : int
    """

    def __init__(
        self,
        *,
        optimizer: PortfolioOptimizer | None = None,
        moments: MomentEstimator | None = None,
        previous_weights: Any = None,
        cash_return: float = 0.0,
        portfolio_params: dict[str, Any] | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.moments = moments
        self.previous_weights = previous_weights
        self.cash_return = cash_return
        self.portfolio_params = portfolio_params

    # What skfolio reads of its own estimators.
    fallback = None
    raise_on_failure = True
    needs_previous_weights = False

    def fit(self, X: pd.DataFrame | Floats, y: Any = None, **_: Any) -> PortfolioEstimator:
        """Estimate and solve.

        Parameters
        ----------
        X : DataFrame or array, shape (n_observations, n_assets)
            Simple decimal returns, oldest first.
        y : ignored
        """
        if self.optimizer is None:
            raise DataError("optimizer=None: give one, such as optimizer('ERC')")
        estimated = (self.moments or SampleMoments()).estimate(X)
        names = list(estimated.mean.index)
        current = self.previous_weights
        self.result_ = self.optimizer.solve(
            estimated,
            current_weights=np.zeros(len(names)) if current is None else current,
            cash_return=self.cash_return,
            outcomes=Outcomes(X),
        )
        self.weights_ = np.asarray(self.result_.weights.iloc[1:], dtype=float)
        self.feature_names_in_ = np.array([str(name) for name in names], dtype=object)
        self.n_features_in_ = len(names)
        return self
