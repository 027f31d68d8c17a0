"""Risk limits that hold: calibrated by realized losses, and the strategies compared under them."""

from sddp.backtest.limits.calibration import (
    CalibratedLimit,
    CalibratedStrategy,
    Calibration,
    LimitedStrategy,
)
from sddp.backtest.limits.opponents import HeldToHorizon, PredictiveControl, ScaledToLimit

__all__ = [
    "CalibratedLimit",
    "CalibratedStrategy",
    "Calibration",
    "HeldToHorizon",
    "LimitedStrategy",
    "PredictiveControl",
    "ScaledToLimit",
]
