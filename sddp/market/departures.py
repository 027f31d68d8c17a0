"""Assets that leave the market: delisted at a stated return, or all lost."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from sddp.dates import plain_date
from sddp.errors import DataError
from sddp.tables import day

# Date of the first row without a market, and the return earned up to it from the last price.
Departures = Mapping[Hashable, tuple[Any, float]]

LARGEST_DEPARTURE = 10.0


def total_losses(levels: pd.DataFrame) -> dict[Hashable, tuple[pd.Timestamp, float]]:
    """Assets whose price is 0, from the first such row on.

    Raises
    ------
    DataError
        A price is positive after one of 0: the 0 stood for a missing price, or something is wrong.
    """
    found: dict[Hashable, tuple[pd.Timestamp, float]] = {}
    for j in np.flatnonzero((levels == 0.0).any(axis=0).to_numpy()):
        values, asset = levels.iloc[:, int(j)].to_numpy(), levels.columns[int(j)]
        row = int(np.argmax(values == 0.0))
        again = row + int(np.argmax(values[row:] > 0.0))
        if again > row:
            raise DataError(
                f"prices = 0 at {asset} on {day(levels.index[row])}, but {values[again]:g} on "
                f"{day(levels.index[again])}: a price of 0 means that all is lost; if it "
                "means that there is no price, leave the cell empty (--missing-value 0)"
            )
        found[asset] = (levels.index[row], -1.0)
    return found


def ended(table: pd.DataFrame, earned: float) -> dict[Hashable, tuple[pd.Timestamp, float]]:
    """Departures of the assets whose numbers end before the table does.

    Parameters
    ----------
    table : DataFrame, shape (n_rows, n_assets)
        Levels or returns by date; NaN where missing. It has to hold all that is known of the
        assets: in a table that is cut, a gap at the cut would look like a departure.
    earned : float
        Decimal return on the first row after the last number.
    """
    known = table.notna().to_numpy()
    rows = len(table) - np.argmax(known[::-1], axis=0)  # first row without a number to the end
    return {
        table.columns[j]: (table.index[int(row)], earned)
        for j, row in enumerate(rows)
        if known[:, j].any() and row < len(table)
    }


def depart(levels: pd.DataFrame, departures: Departures) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Levels with the stated returns, and where an asset is gone.

    Parameters
    ----------
    levels : DataFrame, shape (n_rows, n_assets)
        NaN where there is no price; a price of 0 only where `departures` says so.
    departures : mapping of label to (date, return)
        The return is earned on the first row from the date on.

    Returns
    -------
    levels : DataFrame
        From that row on the level that the return leaves.
    gone : DataFrame of bool
        True from that row on.

    Raises
    ------
    DataError
        An asset is unknown, has no price before the date or one from it on, or the return does not
        lie between -1 and 10.
    """
    levels = levels.copy()
    gone = pd.DataFrame(False, index=levels.index, columns=levels.columns)
    places = {label: j for j, label in enumerate(levels.columns)}
    for asset, (date, earned) in departures.items():
        if asset not in places:
            raise DataError(f"departures[{asset!r}]: no such asset; there are {list(places)[:8]}")
        if not -1.0 <= earned <= LARGEST_DEPARTURE:
            raise DataError(
                f"departures[{asset!r}] = {earned}: the return must be a decimal between -1 (all "
                f"is lost) and {LARGEST_DEPARTURE:g}"
            )
        when = plain_date(date)
        row = int(levels.index.searchsorted(when))
        if row >= len(levels):
            continue
        values = levels.iloc[:, places[asset]].to_numpy()
        later = values[row:]
        if (later > 0.0).any():
            again = levels.index[row + int(np.argmax(later > 0.0))]
            raise DataError(
                f"departures[{asset!r}] = {day(when)}: there is a price on {day(again)}; give the "
                "first date without one"
            )
        before = values[:row][np.isfinite(values[:row])]
        if not before.size:
            raise DataError(
                f"departures[{asset!r}] = {day(when)}: there is no price before it (prices = 0 "
                "from the first row on?); remove the asset"
            )
        levels.iloc[row:, places[asset]] = before[-1] * (1.0 + earned)
        gone.iloc[row:, places[asset]] = True
    return levels, gone
