"""Risk limits that hold: calibrated by realized losses, and the strategies compared under them."""

from sddp.backtest.limits.calibration import (
    CalibratedLimit,
    CalibratedStrategy,
    Calibration,
    LimitedStrategy,
)

__all__ = ["CalibratedLimit", "CalibratedStrategy", "Calibration", "LimitedStrategy"]
