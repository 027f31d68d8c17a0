"""Levels or returns, decimals or percent: what was stated against what the numbers can be.

A table is what the function or option says it is. Numbers that cannot be that are refused, and the
message names the option under which they can.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from sddp.arrays import Floats
from sddp.data.notes import Notes, count
from sddp.dates import frequency

Kind = Literal["prices", "returns", "factors", "numbers"]

# Largest standard deviation of a period's decimal returns, as the median over assets. Stocks have
# 0.01 to 0.03 a day and 0.05 to 0.15 a month; numbers in percent have a hundred times that.
LARGEST_DEVIATION = {
    "intraday": 0.3,
    "daily": 0.3,
    "weekly": 0.4,
    "fortnightly": 0.4,
    "monthly": 0.5,
    "quarterly": 0.8,
    "half-yearly": 1.0,
}
LARGEST_DEVIATION_OF_YEARS = 1.5
# Percent smaller than this, as a median over assets, are decimals: 0.05 % a day is a calm bond.
LEAST_DEVIATION_IN_PERCENT = 0.05
# A level of which returns are taken; returns above 10 (1,000 %) a period are levels too.
LARGEST_RETURN = 10.0
# Fewer numbers say nothing about a standard deviation.
FEWEST = 5


def to_decimals(
    table: pd.DataFrame,
    kind: Kind,
    percent: bool | None,
    percent_signs: bool,
    notes: Notes,
) -> tuple[pd.DataFrame, str]:
    """Table in decimals (or of levels, unchanged), and its unit in words.

    Parameters
    ----------
    table : DataFrame
        Sorted dates by assets; NaN where missing.
    kind : {"prices", "returns", "factors", "numbers"}
        Of ``"numbers"`` nothing is known.
    percent : bool or None
        What was stated; None is decimals, unless the cells themselves have percent signs.
    percent_signs : bool
    notes : Notes

    Raises
    ------
    DataError
        The numbers contradict what was stated.
    """
    if kind == "numbers":
        return table, "numbers as they stand" + (
            " (percent signs left out)" if percent_signs else ""
        )
    if kind == "prices":
        if percent_signs:
            raise notes.error(
                "cells have a percent sign; prices have none; read returns with "
                "read_returns (--returns)"
            )
        _check_levels(table, notes)
        return table, "levels"
    if percent_signs and percent is False:
        raise notes.error(
            "percent=False (--no-percent): the cells have a percent sign; leave it out"
        )
    in_percent = percent_signs if percent is None else percent
    _check_returns(table, kind, in_percent, percent, notes)
    if percent is None and not percent_signs:
        notes.guessed.append("returns are decimals, 0.01 is 1 % (--percent)")
    if not in_percent:
        return table, "decimal returns"
    notes.done.append("percent divided by 100")
    return table / 100.0, "decimal returns (percent in the file)"


def _check_levels(table: pd.DataFrame, notes: Notes) -> None:
    negative = (table < 0.0).to_numpy()
    if not negative.any():
        _check_changes(table, notes)
        return
    row, column = (int(position[0]) for position in np.nonzero(negative))
    value = table.to_numpy()[row, column]
    share = negative.sum() / table.notna().to_numpy().sum()
    remedy = (
        "these look like returns: read them with read_returns (--returns)"
        if share > 0.25
        else "correct the cell or leave it empty, or read returns with read_returns (--returns)"
    )
    raise notes.error(
        f"{_label(table, column)} is {value:g} on {_day(table.index[row])}; a price must be 0 or "
        f"more ({count(int(negative.sum()), 'negative number')}); {remedy}"
    )


def _check_changes(table: pd.DataFrame, notes: Notes) -> None:
    """Refuse prices that jump about as no prices do; a single jump is no reason."""
    values = table.where(table > 0.0).to_numpy()
    if len(table) <= FEWEST:
        return
    changes = np.diff(np.log(values), axis=0)
    if np.isfinite(changes).sum() < FEWEST:
        return
    usual = _median_of_columns(np.abs(changes))
    limit = _largest(table)
    if usual > limit:
        raise notes.error(
            f"prices change by {np.expm1(usual):.0%} from row to row (median), more than "
            "levels do; if these are returns, read them with read_returns (--returns); else check "
            "the dates and the decimal mark"
        )


def _check_returns(
    table: pd.DataFrame, kind: Kind, in_percent: bool, stated: bool | None, notes: Notes
) -> None:
    values = table.to_numpy()
    known = values[np.isfinite(values)]
    if not known.size:
        return
    unit = 100.0 if in_percent else 1.0
    if known.size >= FEWEST and (known > 0.0).all() and np.median(known) > 0.5 * unit:
        if 0.5 < np.median(known) < 2.0 and known.max() < 3.0:
            raise notes.error(
                f"all numbers are near 1 (median {np.median(known):.4g}): gross returns; "
                "subtract 1, or, if they are prices, read them with read_prices (without --returns)"
            )
        raise notes.error(
            f"all numbers are positive (median {np.median(known):.4g}): these are prices; "
            "read them with read_prices (without --returns)"
        )
    deviations = np.array([_deviation(column) for column in values.T])
    if np.isfinite(deviations).any():
        _check_deviation(float(np.nanmedian(deviations)), table, in_percent, stated, notes)
    if kind == "returns":
        _check_range(table, unit, notes)


def _check_deviation(
    usual: float, table: pd.DataFrame, in_percent: bool, stated: bool | None, notes: Notes
) -> None:
    limit = _largest(table)
    if not in_percent and stated is None and usual > limit:
        raise notes.error(
            f"the standard deviation is {usual:.3g} a row (median over columns); decimal "
            f"returns of this frequency have less than {limit:g}: give percent=True (--percent) if "
            "1.5 is 1.5 %, or percent=False (--no-percent) if the numbers are decimals all the same"
        )
    if in_percent and 0.0 < usual < LEAST_DEVIATION_IN_PERCENT:
        raise notes.error(
            f"the standard deviation is {usual:.3g} a row (median over columns), too little for "
            "percent; give percent=False (--no-percent): 0.01 is 1 %"
        )


def _check_range(table: pd.DataFrame, unit: float, notes: Notes) -> None:
    wrong = ((table < -unit) | (table > LARGEST_RETURN * unit)).to_numpy()
    if wrong.any():
        row, column = (int(position[0]) for position in np.nonzero(wrong))
        sign = " %" if unit > 1.0 else ""
        value, day = table.to_numpy()[row, column], _day(table.index[row])
        raise notes.error(
            f"{_label(table, column)} is {value:g} on {day}; a return must lie between "
            f"{-unit:g}{sign} (all is lost) and {LARGEST_RETURN * unit:g}{sign}; correct the cell, "
            "name the text of missing values by missing_values (--missing-value), or read levels "
            "with read_prices (without --returns)"
        )


def _largest(table: pd.DataFrame) -> float:
    if len(table) < 2:
        return LARGEST_DEVIATION_OF_YEARS
    word = frequency(pd.DatetimeIndex(table.index))
    return LARGEST_DEVIATION.get(word, LARGEST_DEVIATION_OF_YEARS)


def _deviation(column: Floats) -> float:
    known = column[np.isfinite(column)]
    return float(known.std(ddof=1)) if known.size >= FEWEST else np.nan


def _median_of_columns(values: Floats) -> float:
    """Median over columns of the median of what is known in each; 0 where nothing is."""
    medians = [np.median(c[np.isfinite(c)]) for c in values.T if np.isfinite(c).any()]
    return float(np.median(medians)) if medians else 0.0


def _label(table: pd.DataFrame, column: int) -> str:
    return str(list(table.columns)[column])


def _day(date: object) -> str:
    return str(date).removesuffix(" 00:00:00")
