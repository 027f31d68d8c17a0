"""Dates of a table from the cells of its date column: one form, decided from all of them.

Times and zones follow one rule. A UTC offset or time zone is dropped and the local time kept, or,
with ``time_zone``, converted to that zone first. With at most one row a day the time of day is
dropped too, unless it says that the rows are stamped at another zone's midnight: times in UTC other
than midnight are refused until ``time_zone`` is given. With several rows a day the times are kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sddp.data import date_forms as forms
from sddp.data.date_forms import Form
from sddp.data.notes import Notes
from sddp.dates import plain_dates

TIME = r"(?:[T ,]+(?P<time>\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
ZONE = r"\s*(?P<zone>Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?"
WEEKDAY = r"(?:(?:[Mm]on|[Tt]ue|[Ww]ed|[Tt]hu|[Ff]ri|[Ss]at|[Ss]un)[a-z]*[., ]+)?"
WHOLE = re.compile(rf"{WEEKDAY}(?P<date>.*?){TIME}{ZONE}")
UTC_NAMES = ("Z", "UTC", "GMT")
REWRITE = "write dates as 2020-01-31"

# A month of daily rows shows a day above 12; months in a row are one apart.
ROWS_TO_TELL_MONTHS = 13


@dataclass(frozen=True)
class DateOptions:
    """How dates are to be read where the data do not say; see `sddp.data.ReadOptions`."""

    date_format: str | None = None
    day_first: bool | None = None
    time_zone: str | None = None


def parse_dates(cells: Sequence[Any], notes: Notes, options: DateOptions) -> pd.DatetimeIndex:
    """Dates of cells: local, without a zone, in the order of the cells.

    Parameters
    ----------
    cells : sequence of str, or an index or array of dates, periods or numbers
    notes : Notes
    options : DateOptions

    Raises
    ------
    DataError
        A cell is no date, the cells are of several forms, or they have several readings; the
        message names the cell, the readings and the option that chooses.
    """
    typed = _typed(cells, notes)
    if typed is not None and typed.tz is None:
        return _settled(typed, None, False, notes, options)
    if typed is not None:
        utc = str(typed.tz) in {"UTC", "Etc/UTC", "+00:00"}
        return _settled(typed.tz_localize(None), typed, utc, notes, options)
    texts = pd.Series([str(cell).strip() for cell in cells], dtype=object)
    codes, unique = pd.factorize(texts)
    split = [WHOLE.fullmatch(text) for text in unique]
    dates = [match["date"] if match else text for match, text in zip(split, unique, strict=True)]
    first_rows = pd.Series(np.arange(len(texts))).groupby(codes).first().to_numpy()
    column = _Column(dates, list(unique), first_rows, notes)
    days, form = column.read(options)
    local = days + pd.to_timedelta([_time(match, column, i) for i, match in enumerate(split)])
    zones = [match["zone"] if match else None for match in split]
    stamps, utc = _absolute(local, zones, form, column)
    whole = None if stamps is None else stamps[codes]
    return _settled(local[codes], whole, utc, notes, options)


def _typed(cells: Sequence[Any], notes: Notes) -> pd.DatetimeIndex | None:
    """Dates that are dates already (not text); None for text and numbers."""
    index = pd.Index(cells)
    if not len(index) or not isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        return None
    if index.hasnans:
        row = int(np.argmax(index.isna()))
        raise notes.error(f"{notes.place(row)} has no date; give one or remove the row")
    if isinstance(index, pd.PeriodIndex):
        notes.guessed.append(f"periods ({index.freqstr}) are dated at their last day")
        return pd.DatetimeIndex(plain_dates(index))
    return index.as_unit("us")


@dataclass(frozen=True)
class _Column:
    """Distinct texts of a date column: the part with the date, the whole, and their first rows."""

    dates: list[str]
    texts: list[str]
    rows: np.ndarray[Any, Any]
    notes: Notes

    def read(self, options: DateOptions) -> tuple[pd.DatetimeIndex, Form | None]:
        """Dates and their form."""
        empty = [i for i, text in enumerate(self.texts) if not text]
        if empty:
            raise self.notes.error(f"{self.at(empty[0])} has no date; give one or remove the row")
        chosen = self.chosen(options)
        if isinstance(chosen, str):
            days = pd.DatetimeIndex(
                pd.to_datetime(pd.Series(self.texts), format=chosen, errors="coerce")
            )
            self.check(days, f"date_format={chosen!r} (--date-format)")
            return days.as_unit("us").tz_localize(None), None
        form = chosen or self.decided()
        days = form.read(self.dates)
        self.check(days, form.words)
        if form not in (forms.YEAR_FIRST, *forms.NAMED):
            self.notes.guessed.append(f"dates are {form.words} (--date-format {form.name})")
        return days, form

    def chosen(self, options: DateOptions) -> Form | str | None:
        """Form that the options state."""
        if options.date_format is not None:
            if "%" in options.date_format:
                return options.date_format
            named = [form for form in forms.ALL if form.name == options.date_format]
            if not named:
                raise self.notes.error(
                    f"date_format={options.date_format!r} (--date-format): must be one of "
                    f"{', '.join(forms.WORDS)} or a pattern such as %d/%m/%Y"
                )
            return max(named, key=lambda form: int(np.sum(form.read(self.dates).notna())))
        if options.day_first is not None and self.fitting(forms.NUMERIC_TRIPLES):
            return forms.DAY_FIRST if options.day_first else forms.MONTH_FIRST
        return None

    def decided(self) -> Form:
        """The only form that fits every cell."""
        for group in (forms.PLAIN, forms.NUMERIC_TRIPLES, forms.SIX_DIGITS, forms.FIVE_DIGITS):
            found = self.fitting(group)
            if found:
                return self.one_of(found)
        return self.none_fits()

    def fitting(self, group: Sequence[Form]) -> list[Form]:
        """Forms of a group that fit every cell."""
        return [form for form in group if form.read(self.dates).notna().all()]

    def one_of(self, found: list[Form]) -> Form:
        """The form, where all that fit say the same or the numbers themselves leave one."""
        if forms.SHORT_YEAR_FIRST in found:
            found = self.in_order(found)
        readings = [form.read(self.dates) for form in found]
        if all(reading.equals(readings[0]) for reading in readings):
            return found[0]
        if forms.YYYYMM in found and self.months_in_a_row(forms.YYYYMM.read(self.dates)):
            return forms.YYYYMM
        if forms.EXCEL_DAYS in found:
            numbers = [float(text) for text in self.dates]
            if min(numbers) >= forms.EARLIEST_EXCEL_ONLY and max(numbers) <= forms.LATEST_EXCEL:
                return forms.EXCEL_DAYS
        shown = next(
            i for i in range(len(self.dates)) if len({str(reading[i]) for reading in readings}) > 1
        )
        options = {"dmy": "--day-first", "mdy": "--month-first"}
        said = " or ".join(
            f"{reading[shown]:%Y-%m-%d} ({form.words}: give "
            f"{options.get(form.name, f'--date-format {form.name}')})"
            for form, reading in zip(found, readings, strict=True)
        )
        python = "day_first=True or False" if forms.DAY_FIRST in found else "date_format"
        raise self.notes.error(
            f"dates have several readings: {self.texts[shown]!r} ({self.at(shown)}) is {said}; no "
            f"cell decides between them; in Python: {python}"
        )

    def in_order(self, found: list[Form]) -> list[Form]:
        """Forms by which dates go one way only, where year first is one reading of several.

        Day and year change places in it: by the wrong one a table jumps from year to year and back.
        """
        ordered = []
        for form in found:
            dates = form.read(self.dates)
            if dates.is_monotonic_increasing or dates.is_monotonic_decreasing:
                ordered.append(form)
        return ordered or found

    @staticmethod
    def months_in_a_row(months: pd.DatetimeIndex) -> bool:
        """Whether enough months follow each other without a gap that they cannot be days."""
        ordered = months.sort_values()
        steps = np.diff(ordered.to_numpy().astype("datetime64[M]").astype(int))
        return len(ordered) >= ROWS_TO_TELL_MONTHS and bool((steps == 1).all())

    def none_fits(self) -> Form:
        """Say which cell is out of place, or that nothing is a date."""
        best, fits = max(
            ((form, form.read(self.dates).notna()) for form in forms.ALL),
            key=lambda pair: int(np.sum(pair[1])),
        )
        if 2 * int(np.sum(fits)) >= len(fits):
            wrong, right = int(np.argmin(fits)), int(np.argmax(fits))
            triples = forms.NUMERIC_TRIPLES
            other = [f for f in triples if best in triples and f.fits(self.dates[wrong])]
            why = f", it is {other[0].words}" if other else ""
            raise self.notes.error(
                f"{self.texts[wrong]!r} ({self.at(wrong)}) is no date of the form of "
                f"{self.texts[right]!r} ({best.words}){why}; correct it, or {REWRITE}"
            )
        if all(re.fullmatch(r"\d{1,6}(?:\.0*)?", text) for text in self.dates):
            raise self.notes.error(
                f"the date column holds numbers that are no dates ({self.texts[0]}, "
                f"{self.texts[min(1, len(self.texts) - 1)]}, ...: row numbers?); name the column "
                f"of dates by date_column (--date-column), or {REWRITE}"
            )
        lost = [i for i, text in enumerate(self.dates) if re.fullmatch(r"\d{4}\.\d", text)]
        if lost:
            raise self.notes.error(
                f"{self.texts[lost[0]]!r} ({self.at(lost[0])}) may be month 1 or month 10 of "
                f"{self.texts[lost[0]][:4]}; write months as 1871-01"
            )
        raise self.notes.error(
            f"no column of dates: {self.texts[0]!r} ({self.at(0)}) is no date; name the column of "
            f"dates by date_column (--date-column), or {REWRITE}"
        )

    def check(self, days: pd.DatetimeIndex, words: str) -> None:
        """Refuse cells that do not fit the form chosen."""
        if days.hasnans:
            wrong = int(np.argmax(days.isna()))
            raise self.notes.error(
                f"{self.texts[wrong]!r} ({self.at(wrong)}) is no date with {words}; correct it or "
                "give another form"
            )

    def at(self, i: int) -> str:
        """Place of the i-th distinct text."""
        return self.notes.place(int(self.rows[i]))


def _time(match: re.Match[str] | None, column: _Column, i: int) -> pd.Timedelta:
    """Time of day of a cell."""
    if match is None or match["time"] is None:
        return pd.Timedelta(0)
    hour, minute, second = [*str(match["time"]).replace(",", ".").split(":"), "0"][:3]
    hours = int(hour)
    if match["half"]:
        if not 1 <= hours <= 12:
            hours = 99
        hours = hours % 12 + (12 if match["half"][0] in "Pp" else 0) if hours < 99 else 99
    if hours > 24 or int(minute) > 59 or float(second) >= 61.0:
        raise column.notes.error(
            f"{column.texts[i]!r} ({column.at(i)}) has no time of day; write it as 16:30:00"
        )
    return pd.Timedelta(hours=hours, minutes=int(minute), seconds=float(second))


def _absolute(
    local: pd.DatetimeIndex, zones: list[str | None], form: Form | None, column: _Column
) -> tuple[pd.DatetimeIndex | None, bool]:
    """Dates in UTC where the cells say their zone (None where not), and whether that is UTC."""
    if form is not None and form.name == "unix":
        return local.tz_localize("UTC"), True
    stated = [zone for zone in zones if zone is not None]
    if not stated:
        return None, False
    if len(stated) < len(zones):
        without = zones.index(None)
        raise column.notes.error(
            f"{column.texts[without]!r} ({column.at(without)}) has no UTC offset while others have "
            f"one ({stated[0]}); give all or none"
        )
    offsets = pd.to_timedelta([_offset(zone) for zone in stated])
    return (local - offsets).tz_localize("UTC"), bool((offsets == pd.Timedelta(0)).all())


def _offset(zone: str) -> pd.Timedelta:
    if zone in UTC_NAMES:
        return pd.Timedelta(0)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    size = pd.Timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -size if zone[0] == "-" else size


def _settled(
    local: pd.DatetimeIndex,
    stamps: pd.DatetimeIndex | None,
    utc: bool,
    notes: Notes,
    options: DateOptions,
) -> pd.DatetimeIndex:
    """Local dates by the rule for zones and times of day."""
    if options.time_zone is not None:
        if stamps is None:
            raise notes.error(
                f"time_zone={options.time_zone!r} (--time-zone): the dates state no time zone to "
                "convert from; leave the option out"
            )
        try:
            local = stamps.tz_convert(options.time_zone).tz_localize(None)
        except (KeyError, ValueError, TypeError) as error:
            raise notes.error(
                f"time_zone={options.time_zone!r} (--time-zone): must be a name such as "
                f"America/New_York or UTC ({error!r})"
            ) from error
        notes.done.append(f"dates converted to {options.time_zone}, zone dropped")
    elif stamps is not None:
        kept = "in UTC" if utc else "local, as written"
        notes.guessed.append(f"time zone dropped; dates are {kept} (--time-zone converts)")
    local = local.as_unit("us")
    days = local.normalize()
    if (days == local).all():
        return days.rename("date")
    if local.nunique() > days.nunique():
        notes.done.append("several rows a day: times of day are kept")
        return local.rename("date")
    odd = local[days != local]
    if stamps is not None and utc and options.time_zone is None:
        raise notes.error(
            f"rows are stamped {odd[0]:%H:%M} UTC ({odd[0]:%Y-%m-%d}), which may be midnight or a "
            "close elsewhere, so the day is not certain; give time_zone (--time-zone), such as "
            "America/New_York, or UTC to keep these days"
        )
    notes.done.append(f"times of day ({odd[0]:%H:%M}) dropped: there is one row a day")
    return days.rename("date")
