"""Figures and the HTML page of a backtest."""

from sddp.reporting.content import Contents

__all__ = [
    "Contents",
]
