"""Checks of strategies before anyone believes them."""

from sddp.backtest.checks.look_ahead import check_no_look_ahead
from sddp.backtest.checks.shadow import ShadowedStrategy

__all__ = ["ShadowedStrategy", "check_no_look_ahead"]
