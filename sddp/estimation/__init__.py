"""From the known history of a market to regimes, scenarios and forecasts of the next period."""

from sddp.estimation.excess_returns import ExcessRegimeEstimator
from sddp.estimation.fit_cache import FitCache
from sddp.estimation.forecasts import Forecast, Forecaster, RegimeForecaster, WindowForecaster
from sddp.estimation.regimes import RegimeEstimate, RegimeEstimator, RollingEstimate

__all__ = [
    "ExcessRegimeEstimator",
    "FitCache",
    "Forecast",
    "Forecaster",
    "RegimeEstimate",
    "RegimeEstimator",
    "RegimeForecaster",
    "RollingEstimate",
    "WindowForecaster",
]
