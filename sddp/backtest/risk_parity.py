"""`DynamicRiskParity`: risk budgets that are traded back to only when they are missed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.errors import ModelError
from sddp.estimation.forecasts import Forecaster, forecaster_state, restore_forecaster
from sddp.labels import CASH
from sddp.market.market import View
from sddp.portfolio import RiskBudget

# Halvings of the way from the present weights to the center.
HALVINGS = 40

# Weight in assets that cannot be judged below this is none.
ROUNDING = 1e-9


@dataclass
class DynamicRiskParity:
    """Trade only if a risk contribution leaves its band, or the volatility its limit.

    On each decision the covariance is forecast anew and the risk contributions of the present
    holdings are compared with their budgets. Inside the band nothing is traded. Outside, the
    holdings move straight towards the exact budgets: up to the band's edge, or all the way. The
    edge is one of contributions: whatever cash there is beyond the center's is invested.

    Parameters
    ----------
    optimizer : RiskBudget
        The center; its `volatility`, if any, is the target that cash brings about.
    forecaster : Forecaster
    band : float
        Largest relative deviation of a contribution from its budget that is left alone.
    volatility_limit : float, optional
        Per period: above it the holdings are traded to the center, and mixed with cash down to it.
    back_to : {"edge", "center"}

    Attributes
    ----------
    decision_log : list of dict
        Per decision: ``deviation`` and ``volatility`` of the holdings found, ``traded``, the
        ``turnover`` asked for, ``seconds``.

    Raises
    ------
    ModelError
        A parameter is out of range.
    """

    optimizer: RiskBudget
    forecaster: Forecaster
    band: float = 0.05
    volatility_limit: float | None = None
    back_to: Literal["edge", "center"] = "edge"
    decision_log: list[dict[str, Any]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.band < 1.0:
            raise ModelError(f"band={self.band}: must be at least 0 and below 1; 0.05 is 5 %")
        if self.volatility_limit is not None and not self.volatility_limit > 0.0:
            raise ModelError(f"volatility_limit={self.volatility_limit}: must be positive, or None")
        if self.back_to not in ("edge", "center"):
            raise ModelError(f"back_to={self.back_to!r}: must be 'edge' or 'center'")

    def decide(self, view: View, holdings: pd.Series[float]) -> pd.Series[float] | None:
        """Weights of the wealth after costs, or None where nothing is traded.

        Assets that are not quoted today, or not forecast, are sold.
        """
        started = time.perf_counter()
        forecast = self.forecaster.forecast(view)
        quoted = dict(zip(view.assets, view.quoted.to_numpy()[-1], strict=True))
        names = [name for name in forecast.moments.mean.index if quoted[name]]
        if not names:
            return pd.Series({CASH: 1.0})
        moments = forecast.moments.of_assets(names)
        present = holdings / holdings.sum()
        weights = np.asarray(present.loc[names], dtype=float)
        others = 1.0 - float(weights.sum()) - float(present[CASH])
        covariance = moments.covariance.to_numpy()
        center = self._center(moments, covariance, forecast.cash_return)
        volatility = float(np.sqrt(max(weights @ covariance @ weights, 0.0)))
        over = self.volatility_limit is not None and volatility > self.volatility_limit
        missed = self._deviation(covariance, weights, center)
        note = {"date": view.date, "deviation": missed, "volatility": volatility}
        trades = over or missed > self.band or others > ROUNDING
        target = center
        if trades and self.back_to == "edge" and not over:
            target = self._edge(covariance, weights, center)
        turnover = float(np.abs(target - weights).sum()) if trades else 0.0
        seconds = time.perf_counter() - started
        self.decision_log.append(
            note | {"traded": trades, "turnover": turnover, "seconds": seconds}
        )
        return pd.Series(target, index=moments.mean.index) if trades else None

    def decision_log_table(self) -> pd.DataFrame:
        """What was decided, by date; see `decision_log`."""
        return pd.DataFrame(self.decision_log).set_index("date")

    def checkpoint(self) -> dict[str, Any] | None:
        """Checkpoint, where the forecaster can be resumed."""
        return self.forecaster.checkpoint()

    def resume(self, state: Mapping[str, Any], view: View) -> None:
        """Resume from a checkpoint."""
        self.forecaster.resume(state, view)

    @property
    def lookback(self) -> int | None:
        """Rows that the forecaster says it reads; None for all."""
        found: int | None = getattr(self.forecaster, "lookback", None)
        return found

    def state(self) -> dict[str, Any]:
        """State after any row, see `Stateful`; the decision log is not in it.

        Raises
        ------
        ModelError
            The forecaster keeps an estimate that it cannot hand out.
        """
        return forecaster_state(self.forecaster)

    def restore(self, state: Mapping[str, Any], view: View) -> None:
        """Go on from a `state`."""
        restore_forecaster(self.forecaster, state, view)

    def _center(self, moments: Any, covariance: Floats, cash_return: float) -> Floats:
        n = len(covariance)
        result = self.optimizer.solve(
            moments, current_weights=np.full(n, 1.0 / n), cash_return=cash_return
        )
        center = np.asarray(result.holdings.iloc[1:], dtype=float)
        reached = float(np.sqrt(result.variance))
        if self.volatility_limit is not None and reached > self.volatility_limit:
            center = center * (self.volatility_limit / reached)
        return center

    def _deviation(self, covariance: Floats, weights: Floats, center: Floats) -> float:
        """Largest relative deviation of shares of risk, or of the sum of weights."""
        budgets = center * (covariance @ center)
        contributions = weights * (covariance @ weights)
        total = float(contributions.sum())
        if total <= 0.0:
            return float("inf")
        shares = contributions / total / (budgets / budgets.sum())
        invested = float(weights.sum()) / float(center.sum())
        return max(float(np.abs(shares - 1.0).max()), abs(invested - 1.0))

    def _edge(self, covariance: Floats, weights: Floats, center: Floats) -> Floats:
        """The first point on the way to the center that is inside the band, as much invested."""
        invested = float(weights.sum())
        if invested <= ROUNDING:
            return center
        start = weights * (float(center.sum()) / invested)
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            at = start + middle * (center - start)
            if self._deviation(covariance, at, center) <= self.band:
                high = middle
            else:
                low = middle
        edge: Floats = start + high * (center - start)
        return edge
