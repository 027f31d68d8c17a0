"""The market of the backtests."""

from tests.backtest.conftest import data, other_data

__all__ = ["data", "other_data"]
