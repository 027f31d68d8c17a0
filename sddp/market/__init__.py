"""Prices, cash rate and factors: `Market`, and `View`, what is known on a date."""

from sddp.market.market import Market, View

__all__ = [
    "Market",
    "View",
]
