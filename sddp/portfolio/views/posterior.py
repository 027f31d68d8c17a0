"""The posterior of Black and Litterman (1992): the market's implied returns moved by views.

With ``S`` the covariance, ``pi`` the prior mean of excess returns, views ``P mu = Q + error``::

    mean       = pi + tau S P' (tau P S P' + Omega)^-1 (Q - P pi)
    covariance = S + M,  M = tau S - tau S P' (tau P S P' + Omega)^-1 P tau S

``S + M`` is the covariance of the next return, whose mean is itself uncertain (He and Litterman,
1999); without views it is ``(1 + tau) S``. ``covariance="sample"`` leaves ``S`` as it is.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import DataError, ModelError
from sddp.labels import ByLabel, numbers_by_label
from sddp.portfolio.inputs import read_moments
from sddp.portfolio.moments import Moments
from sddp.portfolio.views.view import InvestorView

Uncertainty = Literal["proportional", "idzorek", "given"]

# Certain views that cannot all be true miss each other by more than this, relative to their size.
CONTRADICTION = 1e-9


@dataclass(frozen=True, kw_only=True)
class MarketImplied:
    """Excess returns at which an investor of given risk aversion holds the market.

    Parameters
    ----------
    risk_aversion : float
        Positive, of ``mean'w - risk_aversion / 2 w'S w``.

    Raises
    ------
    ModelError
    """

    risk_aversion: float = 2.5

    def __post_init__(self) -> None:
        if not 0.0 < self.risk_aversion < np.inf:
            raise ModelError(f"risk_aversion={self.risk_aversion}: must be positive")

    def excess_returns(self, covariance: Floats, market_weights: Floats) -> Floats:
        """``risk_aversion * covariance @ market_weights``."""
        excess: Floats = self.risk_aversion * (covariance @ market_weights)
        return excess


@dataclass(frozen=True, eq=False)
class Posterior:
    """Posterior moments and what they were made of.

    Attributes
    ----------
    moments : Moments
        Of total simple returns per period.
    prior_mean : Series by asset
        Of total returns: implied excess returns plus that of cash, once.
    views : sequence of InvestorView
    rows : array, shape (n_views, n_assets)
    stated : array, shape (n_views,)
        Excess return per period that each view states.
    variances : array, shape (n_views,)
        Of the views' errors: the diagonal of Omega.
    """

    moments: Moments
    prior_mean: pd.Series[float]
    views: Sequence[InvestorView]
    rows: Floats
    stated: Floats
    variances: Floats


class TrackRecord:
    """Variances of views from how far earlier views of a source were off.

    Parameters
    ----------
    errors : mapping from source to sequence of floats
        View minus outcome per period of past views; at least two of a source.

    Raises
    ------
    DataError
    """

    def __init__(self, errors: dict[str, Sequence[float]]) -> None:
        self._variances: dict[str, float] = {}
        for source, values in errors.items():
            array = np.asarray(values, dtype=float)
            if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
                raise DataError(f"errors of {source!r}: give at least two finite numbers")
            # About zero, not about their mean: a source that is always wrong by as much is wrong.
            self._variances[source] = float(np.mean(array**2))

    def variance(self, view: InvestorView) -> float:
        """Mean square of the source's errors.

        Raises
        ------
        DataError
            The source has no record.
        """
        if view.source not in self._variances:
            raise DataError(f"{view}: its source has no track record; give past errors of it")
        return self._variances[view.source]


@dataclass(frozen=True, kw_only=True)
class BlackLittermanProcessor:
    """Turns views and market weights into posterior moments.

    Parameters
    ----------
    tau : float
        Uncertainty of the prior mean relative to the covariance; positive.
    prior : MarketImplied
    uncertainty : {"proportional", "idzorek", "given"} or TrackRecord
        Of the views: ``tau p S p'`` (the mean does not depend on tau then), that times
        ``1 / confidence - 1`` (Idzorek, 2005, in the closed form of Walters), each view's own
        `variance`, or the past errors of its source.
    covariance : {"predictive", "sample"}
        ``S + M`` or ``S``, see the top of this module.
    blending : float
        Share of the way from the prior to the posterior, of mean and covariance: 1 is the
        posterior, 0 the prior.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    tau: float = 0.05
    prior: MarketImplied = MarketImplied()
    uncertainty: Uncertainty | TrackRecord = "proportional"
    covariance: Literal["predictive", "sample"] = "predictive"
    blending: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.tau < np.inf:
            raise ModelError(f"tau={self.tau}: must be positive, such as 0.05")
        if not 0.0 <= self.blending <= 1.0:
            raise ModelError(f"blending={self.blending}: must be from 0 (prior) to 1 (posterior)")
        known = get_args(Uncertainty)
        if not isinstance(self.uncertainty, TrackRecord) and self.uncertainty not in known:
            raise ModelError(f"uncertainty={self.uncertainty!r}: must be one of {known}")
        if self.covariance not in ("predictive", "sample"):
            raise ModelError(f"covariance={self.covariance!r}: must be 'predictive' or 'sample'")

    def process(
        self,
        views: Sequence[InvestorView],
        market_weights: ByLabel,
        moments: Moments,
        *,
        cash_return: float = 0.0,
        as_of: datetime.date | str | None = None,
    ) -> Posterior:
        """Posterior of the period's returns.

        Parameters
        ----------
        views : sequence of InvestorView
        market_weights : mapping or Series by asset
            Of all assets; at least 0, scaled to sum to 1.
        moments : Moments
            Only the covariance and the names are read.
        cash_return : float
            Per period; added to excess returns once.
        as_of : date, optional
            On which views must be held; None does not ask.

        Raises
        ------
        DataError
            A view is of an unknown asset, has expired or is not known yet.
        ModelError
            Market weights are no weights, a view lacks the variance that is asked for, or certain
            views contradict each other.
        """
        read = read_moments(moments.mean, moments.covariance)
        names, sigma = read.names, read.covariance
        if as_of is not None:
            for view in views:
                view.check_date(pd.Timestamp(as_of).date())
        weights = numbers_by_label(market_weights, names, "market_weights")
        if not np.isfinite(weights).all() or weights.min() < 0.0 or weights.sum() <= 0.0:
            raise ModelError(f"market_weights={weights}: must be at least 0, and not all 0")
        excess = self.prior.excess_returns(sigma, weights / weights.sum())
        rows = np.array([view.weights(names) for view in views]).reshape(len(views), len(names))
        pairs = zip(views, rows, strict=True)
        stated = np.array([_excess(view, row, cash_return) for view, row in pairs])
        variances = self.variances(views, rows, sigma)
        mean, cov = posterior(excess, sigma, rows, stated, variances, self.tau)
        if self.blending < 1.0:
            mean = excess + self.blending * (mean - excess)
            cov = self.blending * cov + (1.0 - self.blending) * (1.0 + self.tau) * sigma
        if self.covariance == "sample":
            cov = sigma
        return Posterior(
            Moments.of(mean + cash_return, cov, names),
            Moments.of(excess + cash_return, sigma, names).mean,
            tuple(views),
            rows,
            stated,
            variances,
        )

    def variances(self, views: Sequence[InvestorView], rows: Floats, sigma: Floats) -> Floats:
        """Variances of the views' errors: the diagonal of Omega.

        Parameters
        ----------
        views : sequence of InvestorView
        rows : array, shape (n_views, n_assets)
        sigma : array, shape (n_assets, n_assets)

        Raises
        ------
        ModelError, DataError
            A view has no variance where it is to be given; a source has no track record.
        """
        if isinstance(self.uncertainty, TrackRecord):
            return np.array([self.uncertainty.variance(view) for view in views])
        if self.uncertainty == "given":
            missing = [str(view) for view in views if view.variance is None]
            if missing:
                raise ModelError(f"{missing[0]}: variance=None: give it, or another uncertainty")
            return np.array([view.variance for view in views], dtype=float)
        variances: Floats = self.tau * np.einsum("ki,ij,kj->k", rows, sigma, rows)
        if self.uncertainty == "idzorek":
            variances *= np.array([1.0 / view.confidence - 1.0 for view in views])
        return variances


def posterior(
    prior: Floats, covariance: Floats, rows: Floats, stated: Floats, variances: Floats, tau: float
) -> tuple[Floats, Floats]:
    """Mean and covariance ``S + M`` from arrays.

    Parameters
    ----------
    prior : array, shape (n,)
    covariance : array, shape (n, n)
    rows : array, shape (k, n)
    stated, variances : array, shape (k,)
    tau : float

    Raises
    ------
    ModelError
        Certain views contradict each other.
    """
    spread = tau * covariance @ rows.T
    matrix = rows @ spread + np.diag(variances)
    surprise = stated - rows @ prior
    if not len(stated):
        return prior.copy(), (1.0 + tau) * covariance
    try:
        factor = np.linalg.cholesky(matrix)
        regular = float(np.diag(factor).min()) > 1e-7 * float(np.diag(factor).max())
    except np.linalg.LinAlgError:
        regular = False
    right = np.column_stack([surprise, spread.T])
    solved = np.linalg.solve(matrix, right) if regular else np.linalg.lstsq(matrix, right)[0]
    if not regular:
        missed = np.abs(matrix @ solved[:, 0] - surprise)
        size = float(np.abs(surprise).max()) + float(np.abs(stated).max())
        if float(missed.max()) > CONTRADICTION * max(size, 1e-300):
            raise ModelError(
                f"views: certain ones contradict each other, by {float(missed.max()):g} a period; "
                "give one of them less confidence, or leave it out"
            )
    mean: Floats = prior + spread @ solved[:, 0]
    moved: Floats = (1.0 + tau) * covariance - spread @ solved[:, 1:]
    return mean, (moved + moved.T) / 2.0


def _excess(view: InvestorView, row: Floats, cash_return: float) -> float:
    """Excess return per period that a view states; cash cancels in a relative one."""
    cash = cash_return * float(row.sum()) if view.returns == "total" else 0.0
    return view.per_period - cash
