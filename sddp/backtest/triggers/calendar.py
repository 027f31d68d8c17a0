"""`Calendar`: the times of a cron line, as a pure function of the data's time."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pandas as pd

from sddp.backtest.trading.decisions import Fired, Question, State
from sddp.backtest.triggers.risk import volatility_held
from sddp.backtest.triggers.trigger import Combinable
from sddp.errors import ModelError

if TYPE_CHECKING:
    from apscheduler.triggers.base import BaseTrigger

DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

# What `ClassFrequency` understands, as cron lines.
FREQUENCIES = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 1",
    "monthly": "0 0 1 * *",
}
UNLESS = " unless volatility > "

# A line that has no time in so many years from here never has one (29 February: eight at most).
SOME_DAY, YEARS = dt.datetime(2000, 1, 1, tzinfo=dt.UTC), 40

INSTANT = dt.timedelta(microseconds=1)


@dataclass(frozen=True)
class Calendar(Combinable):
    """Fire on the first row at or after each time of a cron line.

    Times that pass between two rows are one firing. The words are cron's: minute, hour, day of the
    month, month, day of the week, with 0 and 7 for Sunday, lists, ranges, steps and names; where
    both days are restricted, either one counts. Needs the extra ``live``.

    Parameters
    ----------
    words : str
        Such as ``"0 0 1 * *"``: midnight of the first of each month.
    zone : str, default "UTC"
        Time zone of the words. Times of rows without a zone are taken for local time of it.

    Raises
    ------
    ModelError
        The words are no cron line, or never occur, or the zone is unknown.
    ImportError
        The extra ``live`` is not installed.

    Examples
    --------
    >>> Calendar("0 9 * * 7").after(pd.Timestamp("2024-02-28 12:00"))
    Timestamp('2024-03-03 09:00:00+0000', tz='UTC')
    """

    words: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if next_time(self.words, self.zone, SOME_DAY, YEARS) is None:
            raise ModelError(f"words={self.words!r}: never occur; give a day that its month has")

    def after(self, time: pd.Timestamp) -> pd.Timestamp:
        """The first time of the line after another one."""
        found = next_time(self.words, self.zone, _instant(time, self.zone) + INSTANT)
        assert found is not None
        return pd.Timestamp(found)

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; the state is the next time of the line."""
        now = question.view.date
        if state is None:
            return None, self.after(now).isoformat()
        if _instant(now, self.zone) < dt.datetime.fromisoformat(state):
            return None, state
        return self.fired(f"calendar {self.words} ({self.zone})"), self.after(now).isoformat()


@dataclass(frozen=True)
class ClassFrequency(Combinable):
    """Classes of assets that are traded at frequencies of their own.

    Fires where a class is due. Assets of the other classes are held fixed: they are not traded, and
    an optimizer decides on the rest beside them.

    Parameters
    ----------
    frequencies : mapping of str to str
        By class: ``"hourly"``, ``"daily"``, ``"weekly"`` (Monday), ``"monthly"``, or a cron line;
        behind it, ``" unless volatility > 20 %"``: on every row while the volatility of what is
        held is above that, a year.
    classes : mapping of label to str
        Class of each asset.
    window : int, default 30
        Returns of which the volatility is that of.
    zone : str, default "UTC"
        As in `Calendar`.

    Raises
    ------
    ModelError
        A class has no frequency, or one that is not understood.

    Examples
    --------
    >>> words = {"digital": "hourly", "real_world": "weekly unless volatility > 20 %"}
    >>> trigger = ClassFrequency(words, {"BTC": "digital", "GOLD": "real_world"})
    >>> trigger.lookback
    31
    """

    frequencies: Mapping[str, str]
    classes: Mapping[Hashable, str]
    window: int = 30
    zone: str = "UTC"
    _lines: Mapping[str, Calendar] = field(init=False, repr=False, compare=False)
    _unless: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines, unless = {}, {}
        for name, words in self.frequencies.items():
            line, _, limit = words.partition(UNLESS)
            lines[name] = Calendar(FREQUENCIES.get(line, line), self.zone)
            if limit:
                unless[name] = _fraction(limit, words)
        for asset, name in self.classes.items():
            if name not in lines:
                raise ModelError(
                    f"classes[{asset!r}]={name!r}: must be one of {sorted(lines)}; give it a "
                    "frequency"
                )
        object.__setattr__(self, "_lines", lines)
        object.__setattr__(self, "_unless", unless)

    @property
    def lookback(self) -> int:  # type: ignore[override]
        """The window and the row before it, where a class reads the volatility."""
        return self.window + 1 if self._unless else 1

    def fires(self, question: Question, state: State) -> tuple[Fired | None, State]:
        """See `Trigger.fires`; the state has the next time of each class."""
        unknown = [name for name in question.assets if name not in self.classes]
        if unknown:
            raise ModelError(f"classes: lack {unknown[0]!r}; name the class of every asset")
        known, states, due, figures = dict(state or {}), {}, [], {}
        volatility = volatility_held(question, self.window) if self._unless else 0.0
        for name, line in self._lines.items():
            answer, states[name] = line.fires(question, known.get(name))
            if answer is not None:
                due.append(name)
            elif name in self._unless and volatility > self._unless[name]:
                due.append(name)
                figures["volatility"] = volatility
        free = frozenset(asset for asset in question.assets if self.classes[asset] in due)
        if not free:
            return None, states
        return self.fired(f"classes due: {', '.join(due)}", figures, free), states


def _fraction(words: str, whole: str) -> float:
    number, unit = words.strip().removesuffix("%"), words.strip().endswith("%")
    try:
        return float(number) / (100.0 if unit else 1.0)
    except ValueError:
        raise ModelError(
            f"frequencies={whole!r}: must end in a volatility such as '20 %'"
        ) from None


def _instant(time: pd.Timestamp, zone: str) -> dt.datetime:
    """A row's time as an instant; without a zone it is local time of `zone`."""
    given = time.to_pydatetime(warn=False)
    if given.tzinfo is None:
        given = given.replace(tzinfo=_zone(zone))
    return given.astimezone(dt.UTC)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ModelError(f"zone={name!r}: must be a time zone such as 'Europe/Paris'") from error


def next_time(
    words: str, zone: str, start: dt.datetime, years: int | None = None
) -> dt.datetime | None:
    """First time of a cron line from an instant on, in UTC; None where there is none.

    Parameters
    ----------
    words, zone : str
        As in `Calendar`.
    start : datetime
        With a time zone.
    years : int, optional
        Look no further than so many years.
    """
    end = None if years is None else start.replace(year=start.year + years)
    times = [trigger.get_next_fire_time(None, start) for trigger in cron_triggers(words, zone, end)]
    found = [time.astimezone(dt.UTC) for time in times if time is not None]
    return min(found) if found else None


@lru_cache(maxsize=256)
def cron_triggers(words: str, zone: str, end: dt.datetime | None = None) -> tuple[BaseTrigger, ...]:
    """Triggers of APScheduler that fire at the times of a cron line, one or the other.

    For jobs of its scheduler on the wall clock, too, which decide nothing.
    """
    try:
        # Only calendars need it, and it is an extra.
        from apscheduler.triggers.cron import CronTrigger
    except ImportError as error:
        raise ImportError(
            "calendars need the package apscheduler: pip install 'sddp-allocation[live]'"
        ) from error

    parts = words.split()
    if len(parts) != 5:
        raise ModelError(
            f"words={words!r}: must be five words, minute hour day month weekday, as '0 0 1 * *'"
        )
    minute, hour, day, month, weekday = parts
    fields: dict[str, Any] = {"minute": minute, "hour": hour, "month": month}
    days: list[dict[str, Any]] = [{"day": day, "day_of_week": _weekdays(weekday, words)}]
    if not day.startswith("*") and not weekday.startswith("*"):
        # Cron's rule: either one counts.
        days = [{"day": day}, {"day_of_week": _weekdays(weekday, words)}]
    try:
        return tuple(
            CronTrigger(**fields, **chosen, end_date=end, timezone=_zone(zone)) for chosen in days
        )
    except ValueError as error:
        raise ModelError(f"words={words!r}: {error}; see `man 5 crontab`") from error


def _weekdays(words: str, whole: str) -> str:
    """Days of the week in APScheduler's names: cron counts from Sunday, 0 or 7."""
    if words == "*":
        return words
    found: set[int] = set()
    for part in words.lower().split(","):
        span, _, every = part.partition("/")
        first, _, last = span.partition("-")
        try:
            low, high = (0, 6) if span == "*" else (_day(first), _day(last or first))
            if every and not last and span != "*":
                high = 6  # from a day on, as in cron
            step = int(every) if every else 1
            if step < 1 or not 0 <= low <= high <= 7:
                raise ValueError(part)
        except ValueError as error:
            raise ModelError(
                f"words={whole!r}: the day of the week {part!r} must be 0 to 7 (0 and 7 are "
                "Sunday), a name, a range from a lower to a higher day, or a list of these"
            ) from error
        found |= {number % 7 for number in range(low, high + 1, step)}
    return ",".join(DAYS[number] for number in sorted(found))


def _day(word: str) -> int:
    return DAYS.index(word) if word in DAYS else int(word)
