"""Regimes and scenarios where assets are modeled in excess of cash."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.estimation.fit_cache import Fit
from sddp.estimation.regimes import RegimeEstimate, RegimeEstimator, periods
from sddp.market.market import View
from sddp.scenarios import MarkovScenarios
from sddp.statistics import Regimes


@dataclass(frozen=True, eq=False)
class ExcessRegimeEstimator(RegimeEstimator):
    """A `RegimeEstimator` of what assets earn over cash; the cash rate known today is added.

    Decades of total returns hold the interest of their time. Where rates are lower today, a model
    of total returns takes that interest for a premium over cash.

    ``log(1 + r) - log(1 + r_cash) = a + B f + e`` is fitted; a scenario of the total return is
    ``(1 + x)(1 + r_cash today) - 1``. The market needs factors.

    Parameters
    ----------
    most_likely : bool
        Take the most likely regime for certain, instead of the belief over all of them.
    """

    most_likely: bool = False

    def followers(self, view: View) -> pd.DataFrame:
        """Log returns in excess of cash of the assets quoted today; NaN for gaps."""
        own = super().followers(view)
        cash = view.cash_rate.loc[view.returns.index].to_frame()
        compounded, _ = periods(cash.apply(np.log1p), self._rows(view), self.period)
        return own.sub(compounded["cash_rate"], axis=0)

    def belief(self, regimes: Regimes, view: View) -> Floats:
        """Filtered probabilities of the present regime, or 1 for the most likely one."""
        filtered = super().belief(regimes, view)
        return np.eye(len(filtered))[filtered.argmax()] if self.most_likely else filtered

    def _estimate(
        self, view: View, start: Fit | None, fit: Fit, scenarios: MarkovScenarios
    ) -> RegimeEstimate:
        cash = self.cash_return(view)
        total = MarkovScenarios(
            returns=(1.0 + scenarios.returns[0]) * (1.0 + cash) - 1.0,
            transition_matrix=scenarios.transition_matrix[0],
            asset_names=scenarios.asset_names,
            n_stages=1,
        )
        return RegimeEstimate(self, view.date, start, fit, total, cash)
