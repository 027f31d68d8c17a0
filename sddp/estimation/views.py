"""`BlackLittermanMeans`: an estimator's means moved by views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.estimation.means import EquilibriumMeans, MeanEstimator, MeanInputs, checked_means
from sddp.portfolio.views.posterior import BlackLittermanProcessor, posterior
from sddp.portfolio.views.view import InvestorView


@dataclass(frozen=True)
class BlackLittermanMeans:
    """Posterior means of Black and Litterman (1992) from the means of another estimator.

    With ``pi`` the prior's pooled mean and S the pooled covariance of excess returns, every regime
    is moved by ``tau S P' (tau P S P' + Omega)^-1 (Q - P pi)``; what the prior says of differences
    between regimes stays. Views count on the dates on which they are held, from `issued_at` through
    `valid_until`, and on no other.

    Parameters
    ----------
    views : sequence of InvestorView
        Per `horizon` periods of the estimate. Absolute ones are of returns in excess of cash.
    prior : MeanEstimator
    processor : BlackLittermanProcessor
        Its `tau` and `uncertainty`; prior and covariance are those given here.

    Raises
    ------
    ModelError
        A view is none, or an absolute one of total returns.
    """

    views: Sequence[InvestorView]
    prior: MeanEstimator = field(default_factory=EquilibriumMeans)
    processor: BlackLittermanProcessor = field(default_factory=BlackLittermanProcessor)

    def __post_init__(self) -> None:
        for view in self.views:
            if not isinstance(view, InvestorView):
                raise ModelError(f"views hold {view!r}: must be InvestorViews")
            if view.kind == "absolute" and view.returns == "total":
                raise ModelError(
                    f"{view}: returns='total': must be 'excess' where means are in excess of cash"
                )
        object.__setattr__(self, "views", tuple(self.views))

    def means(self, inputs: MeanInputs) -> Floats:
        """See `MeanEstimator.means`.

        Raises
        ------
        DataError
            A view is about an unknown asset, or the inputs have no date.
        ModelError
            Certain views contradict each other.
        """
        prior = checked_means(self.prior, inputs)
        views = self._held(inputs)
        rows = np.array([view.weights(inputs.names) for view in views])
        rows = rows.reshape(len(views), len(inputs.names))
        stated = np.array([view.per_period for view in views])
        pooled = inputs.shares @ prior
        variances = self.processor.variances(views, rows, inputs.covariance)
        tau = self.processor.tau
        moved, _ = posterior(pooled, inputs.covariance, rows, stated, variances, tau)
        means: Floats = prior + (moved - pooled)
        return means

    def _held(self, inputs: MeanInputs) -> list[InvestorView]:
        if inputs.date is None:
            raise DataError("date=None: views are held between dates; give that of the estimate")
        today = inputs.date.date()
        return [view for view in self.views if view.issued_at <= today <= view.valid_until]
