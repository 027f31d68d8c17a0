"""Forms in which dates are written, and which of them a column of texts has.

A form is one reading of the date's text: ``01/02/2020`` has two, day first and month first. A
column has the forms that fit every one of its cells; the reader refuses a column with none or with
several that differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pandas as pd

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
LONG_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]

# Years that a date of a table of prices may have; four digits outside are row numbers or prices.
FIRST_YEAR, LAST_YEAR = 1800, 2199
# POSIX: two digits from 69 on are the last century's.
FIRST_OF_LAST_CENTURY = 69

EXCEL, EXCEL_1904, UNIX = (np.datetime64(day) for day in ("1899-12-30", "1904-01-01", "1970-01-01"))
# 36,525 is 1 January 2000 as a day number of Excel and 1 January 2070 as a day of Unix time: above
# it a day number is Excel's, and 62,457 is the year 2070 there.
EARLIEST_EXCEL_ONLY, LATEST_EXCEL = 36525, 62457

Parts = tuple[int, int, int]


@dataclass(frozen=True)
class Form:
    """One reading of a date's text.

    Parameters
    ----------
    name : str
        What the option ``date_format`` calls it.
    words : str
        For messages.
    pattern : str
        Regular expression of the whole text.
    date : callable
        Match to (year, month, day), or to a `datetime64` for numbers that count; a day of 0 is the
        last day of the month.
    """

    name: str
    words: str
    pattern: str
    date: Callable[[re.Match[str]], Parts | np.datetime64]

    def read(self, texts: Sequence[str]) -> pd.DatetimeIndex:
        """Dates of texts; NaT where this form does not fit."""
        return pd.DatetimeIndex(np.array([self.date_of(text) for text in texts], "datetime64[us]"))

    def fits(self, text: str) -> bool:
        """Whether a text is a date of this form."""
        return not np.isnat(self.date_of(text))

    def date_of(self, text: str) -> np.datetime64:
        """Date of a text; NaT where this form does not fit."""
        match = re.fullmatch(self.pattern, text)
        if match is None:
            return np.datetime64("NaT", "us")
        try:
            found = self.date(match)
            if isinstance(found, np.datetime64):
                return found
            year, month, day = found
            if not FIRST_YEAR <= year <= LAST_YEAR or not 1 <= month <= 12:
                return np.datetime64("NaT", "us")
            if day == 0:
                after = np.datetime64(f"{year:04d}-{month:02d}") + np.timedelta64(1, "M")
                return np.datetime64(after.astype("datetime64[D]") - np.timedelta64(1, "D"))
            return np.datetime64(f"{year:04d}-{month:02d}-{day:02d}")
        except (ValueError, OverflowError):
            return np.datetime64("NaT", "us")


def full_year(text: str) -> int:
    """Year of two or four digits."""
    year = int(text)
    return year if len(text) > 2 else year + (1900 if year >= FIRST_OF_LAST_CENTURY else 2000)


def month_number(text: str) -> int:
    """Month of an English name or its first three letters (``Sept`` too)."""
    name = text.lower()
    if name in LONG_MONTHS:
        return LONG_MONTHS.index(name) + 1
    return MONTHS.index(name[:3] if name == "sept" else name) + 1


def _counted(match: re.Match[str], start: np.datetime64, unit: str) -> np.datetime64:
    microseconds = {"d": 86_400e6, "s": 1e6, "ms": 1e3, "us": 1.0, "ns": 0.001}[unit]
    amount = Fraction(match[0].rstrip(".")) * Fraction(str(microseconds))
    return np.datetime64(start.astype("datetime64[us]") + np.timedelta64(round(amount), "us"))


SEP = r"([-/.])"
NAME = r"([A-Za-z]{3,9})\.?"
GAP = r"[-/. ,]*"
ZEROS = r"(?:\.0*)?"


def _triple(first: str, second: str, third: str) -> str:
    return rf"({first}){SEP}({second})\2({third})"


TWO = r"\d{1,2}"
YEAR_FIRST = Form(
    "ymd",
    "year, month, day",
    _triple(r"\d{4}", TWO, TWO),
    lambda m: (int(m[1]), int(m[3]), int(m[4])),
)
DAY_FIRST = Form(
    "dmy",
    "day first",
    _triple(TWO, TWO, r"\d{4}|\d{2}"),
    lambda m: (full_year(m[4]), int(m[3]), int(m[1])),
)
MONTH_FIRST = Form(
    "mdy",
    "month first",
    _triple(TWO, TWO, r"\d{4}|\d{2}"),
    lambda m: (full_year(m[4]), int(m[1]), int(m[3])),
)
SHORT_YEAR_FIRST = Form(
    "yymmdd",
    "two digits of the year first",
    _triple(r"\d{2}", TWO, TWO),
    lambda m: (full_year(m[1]), int(m[3]), int(m[4])),
)
SHORT_DIGITS = Form(
    "yymmdd",
    "two digits each of year, month, day",
    rf"(\d\d)(\d\d)(\d\d){ZEROS}",
    lambda m: (full_year(m[1]), int(m[2]), int(m[3])),
)
NAMED = (
    Form(
        "named",
        "day, month's name, year",
        rf"({TWO}){GAP}{NAME}{GAP}(\d{{4}}|\d{{2}})",
        lambda m: (full_year(m[3]), month_number(m[2]), int(m[1])),
    ),
    Form(
        "named",
        "month's name, day, year",
        rf"{NAME}{GAP}({TWO})(?:st|nd|rd|th)?[-/. ,]+(\d{{4}}|\d{{2}})",
        lambda m: (full_year(m[3]), month_number(m[1]), int(m[2])),
    ),
    Form(
        "named",
        "year, month's name, day",
        rf"(\d{{4}}){GAP}{NAME}{GAP}({TWO})",
        lambda m: (int(m[1]), month_number(m[2]), int(m[3])),
    ),
)
PERIODS = (
    Form(
        "month",
        "months, dated at their last day",
        r"(\d{4})(?:[-/M](\d{1,2})|\.(\d{2}))",
        lambda m: (int(m[1]), int(m[2] or m[3]), 0),
    ),
    Form(
        "month",
        "months, dated at their last day",
        r"(\d{1,2})[-/.](\d{4})",
        lambda m: (int(m[2]), int(m[1]), 0),
    ),
    Form(
        "month",
        "months, dated at their last day",
        rf"{NAME}[-/. ,']*(\d{{4}}|\d{{2}})",
        lambda m: (full_year(m[2]), month_number(m[1]), 0),
    ),
    Form(
        "month",
        "months, dated at their last day",
        rf"(\d{{4}}){GAP}{NAME}",
        lambda m: (int(m[1]), month_number(m[2]), 0),
    ),
    Form(
        "quarter",
        "quarters, dated at their last day",
        r"(\d{4})[-/. ]?[Qq]([1-4])",
        lambda m: (int(m[1]), 3 * int(m[2]), 0),
    ),
    Form(
        "quarter",
        "quarters, dated at their last day",
        r"[Qq]([1-4])[-/. ]?(\d{4})",
        lambda m: (int(m[2]), 3 * int(m[1]), 0),
    ),
    Form(
        "range",
        "periods from day to day, dated at their last day",
        r"\d{4}-\d{2}-\d{2}/(\d{4})-(\d{2})-(\d{2})",
        lambda m: (int(m[1]), int(m[2]), int(m[3])),
    ),
)
YYYYMMDD = Form(
    "yyyymmdd",
    "digits of year, month, day",
    rf"(\d{{4}})(\d\d)(\d\d){ZEROS}",
    lambda m: (int(m[1]), int(m[2]), int(m[3])),
)
YYYYMM = Form(
    "yyyymm",
    "months (yyyymm), dated at their last day",
    rf"(\d{{4}})(\d\d){ZEROS}",
    lambda m: (int(m[1]), int(m[2]), 0),
)
YEARS = Form(
    "year",
    "years, dated at their last day",
    rf"(\d{{4}}){ZEROS}",
    lambda m: (int(m[1]), 12, 0),
)
DAY_NUMBER = r"\d{5}(?:\.\d*)?"
EXCEL_DAYS = Form(
    "excel", "day numbers of Excel (from 1900)", DAY_NUMBER, lambda m: _counted(m, EXCEL, "d")
)
EXCEL_1904_DAYS = Form(
    "excel1904",
    "day numbers of Excel on old Macs (from 1904)",
    DAY_NUMBER,
    lambda m: _counted(m, EXCEL_1904, "d"),
)
UNIX_DAYS = Form("unix-days", "days since 1970", r"\d{5}", lambda m: _counted(m, UNIX, "d"))
UNIX_NUMBERS = (
    Form("unix", "Unix seconds", r"\d{9,10}(?:\.\d*)?", lambda m: _counted(m, UNIX, "s")),
    Form("unix", "Unix milliseconds", rf"\d{{12,13}}{ZEROS}", lambda m: _counted(m, UNIX, "ms")),
    Form("unix", "Unix microseconds", rf"\d{{15,16}}{ZEROS}", lambda m: _counted(m, UNIX, "us")),
    Form("unix", "Unix nanoseconds", r"\d{18,19}", lambda m: _counted(m, UNIX, "ns")),
)

# Forms of which at most one fits a column; those of several readings are decided in `dates`.
PLAIN = (YEAR_FIRST, *NAMED, *PERIODS, YYYYMMDD, YEARS, *UNIX_NUMBERS)
NUMERIC_TRIPLES = (DAY_FIRST, MONTH_FIRST, SHORT_YEAR_FIRST)
SIX_DIGITS = (YYYYMM, SHORT_DIGITS)
FIVE_DIGITS = (EXCEL_DAYS, UNIX_DAYS)
ALL = (*PLAIN, *NUMERIC_TRIPLES, *SIX_DIGITS, *FIVE_DIGITS, EXCEL_1904_DAYS)
WORDS = tuple(dict.fromkeys(form.name for form in ALL))

_WRITTEN = (YEAR_FIRST, *NUMERIC_TRIPLES, *NAMED, *PERIODS)


def looks_written(text: str) -> bool:
    """Whether a text is a date written with separators or a month's name, and no plain number."""
    try:
        float(text.replace(",", ""))
    except ValueError:
        return any(form.fits(text) for form in _WRITTEN)
    return False
