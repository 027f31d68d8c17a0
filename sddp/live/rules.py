"""Rules for rows that arrive: what is accepted, repaired, held back, or rejected, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.arrays import Floats
from sddp.backtest.trading import Event
from sddp.errors import ModelError
from sddp.live.rows import Row
from sddp.market.market import LARGEST_CASH_RATE


@dataclass(frozen=True, kw_only=True)
class RowRejected(Event):
    """A row that is not used.

    Parameters
    ----------
    reason : str
        ``late`` (before the last accepted row), ``clock backwards`` (so many late rows in a row
        that the clock of the source must have been set back), ``duplicate`` (same time and
        content), ``conflict`` (same time, other content), ``absurd`` (a move that the next row did
        not confirm), ``empty`` (no price), ``no time``.
    text : str
        What was found.
    """

    reason: str
    text: str


@dataclass(frozen=True, kw_only=True)
class RowRepaired(Event):
    """A row that is used, or held back, in a form that needs a remark.

    Parameters
    ----------
    reason : str
        ``zone assumed`` (UTC; said once), ``missing`` (the last price is carried, the asset not
        quoted), ``stale`` (missing so many rows in a row), ``not positive`` (a price of 0 or below,
        or no finite number: taken as missing), ``quarantine`` (an absurd move: held back until the
        next row), ``confirmed`` (the next row confirms it: accepted now), ``gap`` (more periods
        since the row before than allowed), ``unknown asset`` (left out), ``volatility index``,
        ``cash rate`` (missing or out of range: the last one is carried), ``volumes`` (missing: none
        is known); an index or volumes in a stream that began without are left out.
    text : str
        What was found.
    assets : tuple of str
        Which assets it concerns.
    """

    reason: str
    text: str
    assets: tuple[str, ...] = ()


@dataclass(frozen=True)
class RowRules:
    """Numbers of the rules.

    Parameters
    ----------
    sigmas, move : float
        A log return of more than `sigmas` standard deviations and a simple one of more than `move`
        (0.2 = 20 %) is absurd until the next row confirms it.
    half_life : float
        Of the weights of the standard deviation, in rows; it counts from 20 returns on.
    missing_rows : int
        Rows in a row without a price from which on an asset is reported as stale.
    gap_periods : float
        Periods between two rows above which a gap is reported.
    period : Timedelta, optional
        Distance of rows; the shortest so far where it is not given.
    late_rows : int
        Late rows in a row from which on the clock of the source is reported.

    Raises
    ------
    ModelError
        A number is not positive.
    """

    sigmas: float = 8.0
    move: float = 0.2
    half_life: float = 100.0
    missing_rows: int = 5
    gap_periods: float = 4.0
    period: pd.Timedelta | None = None
    late_rows: int = 3

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            number = value / pd.Timedelta(1, "s") if isinstance(value, pd.Timedelta) else value
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ModelError(f"{name} = {value}: must be a positive number")


class AcceptedRow(NamedTuple):
    """A row as the view takes it: UTC without a zone; prices carried where not quoted."""

    time: pd.Timestamp
    prices: Floats
    quoted: NDArray[np.bool_]
    volumes: Floats | None
    volatility_index: float | None
    cash_rate: float


# Returns that a standard deviation needs before a move can be absurd.
FEWEST_RETURNS = 20


class StreamRules:
    """Applies the rules to one row after the other.

    Parameters
    ----------
    assets : sequence of str
    rules : RowRules
    """

    def __init__(self, assets: Sequence[str], rules: RowRules) -> None:
        self.assets, self.rules = tuple(assets), rules
        self._known = frozenset(assets)
        self.time: pd.Timestamp | None = None
        self._prices: Floats = np.full(len(self.assets), np.nan)
        self._age = np.zeros(len(self.assets), dtype=int)
        self._variance: Floats = np.zeros(len(self.assets))
        self._count = np.zeros(len(self.assets), dtype=int)
        self._late, self._said_zone = 0, False
        self._said: set[str] = set()
        self._period: float | None = None
        self._index: float | None = None
        # Whether the first accepted row had an index, and volumes; None before it.
        self._given: tuple[bool, bool] | None = None
        self._cash = 0.0
        self._last: Row | None = None
        self._held: Row | None = None

    def apply(self, row: Row) -> tuple[list[AcceptedRow], list[Event]]:
        """Accepted rows (none, the row, or the one held back and the row), and remarks."""
        remarks: list[Event] = []
        time = self._zone(row, remarks)
        if time is None:
            return [], [*remarks, self._rejected(self.time, "no time", "the row has no time")]
        if self.time is not None and time <= self.time:
            return [], [*remarks, self._behind(row, time)]
        self._late = 0
        prices = self._read(row, time, remarks)
        if np.isnan(prices).all():
            return [], [*remarks, self._rejected(time, "empty", "the row has no price")]
        accepted: list[AcceptedRow] = []
        moved = self._absurd(prices, self._prices)
        if self._held is not None:
            held = self._held
            held_time, held_prices = self._plain(held)
            if time == held_time:
                same = row.content() == held.content()
                return [], [*remarks, self._rejected(time, *_TWICE[same])]
            if time > held_time:
                self._held = None
                if moved.any() and not self._absurd(prices, held_prices)[moved].any():
                    text = "the next row confirms the move"
                    names = self._names(moved)
                    remarks.append(
                        RowRepaired(time=held_time, reason="confirmed", text=text, assets=names)
                    )
                    accepted.append(self._accept(held, held_time, held_prices, remarks))
                    moved = self._absurd(prices, self._prices)
                else:
                    text = "the next row does not confirm the move"
                    remarks.append(self._rejected(held_time, "absurd", text))
        if moved.any():
            names = self._names(moved)
            text = "a move beyond the limits is held back until the next row"
            remarks.append(RowRepaired(time=time, reason="quarantine", text=text, assets=names))
            self._held = row
            return accepted, remarks
        accepted.append(self._accept(row, time, prices, remarks))
        return accepted, remarks

    def _zone(self, row: Row, remarks: list[Event]) -> pd.Timestamp | None:
        time = row.time
        if time is None or pd.isna(time):
            return None
        if time.tzinfo is not None:
            return time.tz_convert("UTC").tz_localize(None)
        if not self._said_zone:
            self._said_zone = True
            text = "times have no zone and are taken as UTC"
            remarks.append(RowRepaired(time=time, reason="zone assumed", text=text))
        return time

    def _behind(self, row: Row, time: pd.Timestamp) -> Event:
        if time == self.time and self._last is not None:
            return self._rejected(time, *_TWICE[row.content() == self._last.content()])
        self._late += 1
        if self._late >= self.rules.late_rows:
            text = f"{self._late} rows in a row lie before the last accepted one, {self.time}"
            return self._rejected(time, "clock backwards", text)
        return self._rejected(time, "late", f"the last accepted row is that of {self.time}")

    def _read(self, row: Row, time: pd.Timestamp, remarks: list[Event]) -> Floats:
        """Prices in the order of the assets, NaN where there is none."""
        prices = _by_asset(row.prices, self.assets)
        with np.errstate(invalid="ignore"):
            wrong = (prices <= 0.0) | np.isinf(prices)
        absent = np.isnan(prices)
        if absent.any():
            wrong |= absent & [name in row.prices for name in self.assets]
        if wrong.any():
            text = "prices that are not positive numbers are taken as missing"
            names = self._names(wrong)
            remarks.append(RowRepaired(time=time, reason="not positive", text=text, assets=names))
            prices[wrong] = np.nan
        if not row.prices.keys() <= self._known:
            unknown = tuple(sorted(str(name) for name in row.prices.keys() - self._known))
            text = "the portfolio does not know the asset"
            remarks.append(
                RowRepaired(time=time, reason="unknown asset", text=text, assets=unknown)
            )
        return prices

    def _plain(self, row: Row) -> tuple[pd.Timestamp, Floats]:
        """Time and prices of a row that has been read before."""
        time = self._zone(row, [])
        assert time is not None
        return time, self._read(row, time, [])

    def _absurd(self, prices: Floats, before: Floats) -> NDArray[np.bool_]:
        """Whether each price is an absurd move from those before; not where one is missing."""
        with np.errstate(invalid="ignore"):
            moves = np.abs(np.log(prices / before))
            sigma = np.sqrt(self._variance * (1.0 + self._age))
            beyond = (moves > self.rules.sigmas * sigma) & (
                np.abs(prices / before - 1.0) > (self.rules.move)
            )
        return np.asarray(beyond & (self._count >= FEWEST_RETURNS))

    def _accept(
        self, row: Row, time: pd.Timestamp, prices: Floats, remarks: list[Event]
    ) -> AcceptedRow:
        self._gap(time, remarks)
        quoted = ~np.isnan(prices)
        absent = ~quoted & ~np.isnan(self._prices)
        self._age = np.where(quoted, 0, self._age + absent)
        if absent.any():
            text = "no price: the last one is carried, and the asset not bought"
            names = self._names(absent)
            remarks.append(RowRepaired(time=time, reason="missing", text=text, assets=names))
            stale = self._age == self.rules.missing_rows
            if stale.any():
                text = f"no price for {self.rules.missing_rows} rows in a row"
                names = self._names(stale)
                remarks.append(RowRepaired(time=time, reason="stale", text=text, assets=names))
        self._learn(prices)
        levels = np.where(quoted, prices, self._prices)
        self.time, self._prices, self._last = time, levels, row
        if self._given is None:
            self._given = _is_level(row.volatility_index), row.volumes is not None
        index, cash = self._index_of(row, time, remarks), self._cash_of(row, time, remarks)
        return AcceptedRow(time, levels, quoted, self._volumes_of(row, time, remarks), index, cash)

    def _volumes_of(self, row: Row, time: pd.Timestamp, remarks: list[Event]) -> Floats | None:
        """Volumes, NaN where there is none; None in a stream that began without."""
        assert self._given is not None
        if not self._given[1]:
            self._left_out("volumes", row.volumes, time, remarks)
            return None
        if row.volumes is None:
            text = "no volumes: none is known"
            remarks.append(RowRepaired(time=time, reason="volumes", text=text))
        volumes = _by_asset({} if row.volumes is None else row.volumes, self.assets)
        with np.errstate(invalid="ignore"):
            volumes[~(volumes >= 0.0) | np.isinf(volumes)] = np.nan
        return volumes

    def _gap(self, time: pd.Timestamp, remarks: list[Event]) -> None:
        if self.time is None:
            return
        seconds = (time - self.time).total_seconds()
        given = self.rules.period
        period = self._period if given is None else given.total_seconds()
        if period is not None and seconds > self.rules.gap_periods * period:
            text = f"{seconds / period:.1f} periods of {period:g} s since the row before"
            remarks.append(RowRepaired(time=time, reason="gap", text=text))
        self._period = seconds if self._period is None else min(self._period, seconds)

    def _learn(self, prices: Floats) -> None:
        """Update the variances with the returns of assets quoted now and before."""
        with np.errstate(invalid="ignore"):
            squares = np.log(prices / self._prices) ** 2
        known = ~np.isnan(squares)
        self._count[known] += 1
        # The first returns weigh alike: a mean until the half-life has its say.
        share = np.maximum(
            1.0 - 2.0 ** (-1.0 / self.rules.half_life), 1.0 / np.maximum(self._count, 1)
        )
        moved = self._variance + share * (squares - self._variance)
        self._variance = np.where(known, moved, self._variance)

    def _index_of(self, row: Row, time: pd.Timestamp, remarks: list[Event]) -> float | None:
        level = row.volatility_index
        assert self._given is not None
        if not self._given[0]:
            self._left_out("volatility index", level, time, remarks)
            return None
        if level is None or not _is_level(level):
            text = f"volatility index {level}: the last one is carried"
            remarks.append(RowRepaired(time=time, reason="volatility index", text=text))
            return self._index
        self._index = float(level)
        return self._index

    def _left_out(
        self, reason: str, given: object, time: pd.Timestamp, remarks: list[Event]
    ) -> None:
        """Say once that a stream which began without something now has it."""
        if given is not None and reason not in self._said:
            self._said.add(reason)
            text = "the stream began without it: left out from here on"
            remarks.append(RowRepaired(time=time, reason=reason, text=text))

    def _cash_of(self, row: Row, time: pd.Timestamp, remarks: list[Event]) -> float:
        rate = row.cash_rate
        if rate is None and self._cash == 0.0:
            return 0.0
        if rate is None or not abs(rate) <= LARGEST_CASH_RATE:
            text = f"cash rate {rate}: the last one, {self._cash:g}, is carried"
            remarks.append(RowRepaired(time=time, reason="cash rate", text=text))
            return self._cash
        self._cash = float(rate)
        return self._cash

    def _names(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(self.assets[i] for i in np.flatnonzero(mask))

    def _rejected(self, time: pd.Timestamp | None, reason: str, text: str) -> RowRejected:
        stamp = pd.Timestamp(0) if time is None else time
        return RowRejected(time=stamp, reason=reason, text=text)


_TWICE = {
    True: ("duplicate", "the same row was there before"),
    False: ("conflict", "there was a row of this time with other content"),
}


def _is_level(index: float | None) -> bool:
    return index is not None and math.isfinite(index) and index >= 0.0


def _by_asset(numbers: Mapping[str, float], assets: Sequence[str]) -> Floats:
    """Numbers in the order of the assets; NaN where there is none, or it is no number."""
    found = [numbers.get(name) for name in assets]
    try:
        return np.array(found, dtype=float)  # None becomes NaN
    except (TypeError, ValueError):
        return np.array([x if isinstance(x, (int, float)) else math.nan for x in found])
