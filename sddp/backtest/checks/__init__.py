"""Checks of strategies before anyone believes them."""

from sddp.backtest.checks.look_ahead import check_no_look_ahead

__all__ = ["check_no_look_ahead"]
