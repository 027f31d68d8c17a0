"""Tables of prices, returns and factors from outside, and the report about them."""

from sddp.data.reader import (
    Reading,
    ReadOptions,
    read_factors,
    read_numbers,
    read_prices,
    read_returns,
)
from sddp.data.report import AssetReport, DataReport

__all__ = [
    "AssetReport",
    "DataReport",
    "ReadOptions",
    "Reading",
    "read_factors",
    "read_numbers",
    "read_prices",
    "read_returns",
]
