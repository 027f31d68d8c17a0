"""`Market`: checked data; `View`: the part of it that is known on a date."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypedDict, Unpack, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sddp.dates import periods_per_year, plain_date
from sddp.errors import DataError, ModelError
from sddp.labels import CASH
from sddp.market.by_asset import check_cells, tables_by_asset
from sddp.market.departures import Departures, depart, total_losses
from sddp.tables import (
    cells,
    check_same_dates,
    checked_series,
    checked_table,
    day,
    locked,
    window,
)

Missing = Literal["raise", "carry", "drop"]

# The dearest overnight money of a hyperinflation stays below 20 % a period; a rate in percent
# (5.2 for 5.2 %) does not.
LARGEST_CASH_RATE = 0.2

# Nor does money grow a hundredfold in a year, most years of the data: an overnight rate in percent
# (0.04 for 0.04 % a day), or a yearly one taken for a daily one, does.
LARGEST_CASH_GROWTH = 100.0

# A level can be carried over a gap; a return cannot, it would be earned twice.
LEVELS = {"prices", "volatility_index", "costs", "limits"}

ZERO = (
    'must be positive; missing="carry" (--missing carry) takes 0 for a total loss, and an empty '
    "cell (--missing-value 0) is a missing price"
)

# No asset multiplies by eleven in a period, while levels handed in as returns do look so.
LARGEST_RETURN = 10.0


@dataclass(frozen=True, eq=False, repr=False)
class View:
    """What is known on a date: rows up to and including it, read-only.

    Every table is a window on the market's own arrays; nothing is copied. Its rows and its index
    end on the date. Tables are made when they are asked for: what is asked on every row of a stream
    may read `arrays`.

    Attributes
    ----------
    prices : DataFrame, shape (n_rows, n_assets)
        Levels at each date, in money. NaN before an asset's first quote.
    returns : DataFrame, shape (n_rows - 1, n_assets)
        Simple decimal returns: row ``t`` is earned over ``(t-1, t]`` and known at ``t``. A market
        made of returns has all ``n_rows``.
    log_returns : DataFrame
        ``log(1 + returns)``, same rows as `returns`.
    quoted : DataFrame of bool, shape (n_rows, n_assets)
        False where the price is carried from an earlier row, not yet there, not for long enough
        (`minimum_history`), or the asset has left the market.
    cash_rate : Series, shape (n_rows,)
        Decimal return of cash, earned over ``(t-1, t]``.
    factors : DataFrame or None, shape (n_rows, n_factors)
        As handed in; row ``t`` is known at ``t``.
    volatility_index : Series or None, shape (n_rows,)
        As handed in (the VIX in points: 30 is 30 % a year), known at ``t``.
    volumes : DataFrame or None, shape (n_rows, n_assets)
        Money traded in the market over ``(t-1, t]``, known at ``t``; 0 where none is reported.
    costs : DataFrame or None, shape (n_rows, n_assets)
        Fraction of the money traded that a purchase or sale at ``t`` costs, known at ``t``.
    limits : DataFrame or None, shape (n_rows, n_assets)
        Largest weights allowed from ``t`` on, known at ``t``.
    skipped : int
        Rows of the market before the first one, where the view is a window.
    arrays : mapping of text to array
        The same tables by name, without labels; the last row of each is today's.
    assets : Index
        Names of the risky assets; cash is not one.
    """

    arrays: Mapping[str, NDArray[Any]]
    index: pd.DatetimeIndex | NDArray[np.datetime64]
    assets: pd.Index[Any]
    factor_names: pd.Index[Any] | None = None
    skipped: int = 0

    @cached_property
    def dates(self) -> pd.DatetimeIndex:
        """Dates of the rows; the last one is today."""
        return pd.DatetimeIndex(self.index)

    @cached_property
    def date(self) -> pd.Timestamp:
        """Today: the last date known."""
        return pd.Timestamp(self.index[-1])

    @property
    def row(self) -> int:
        """Rows of the market before today's, those before a window included."""
        return self.skipped + len(self.index) - 1

    @cached_property
    def prices(self) -> pd.DataFrame:
        """Levels, see the class."""
        return self._table("prices")

    @cached_property
    def returns(self) -> pd.DataFrame:
        """Simple returns, see the class."""
        return self._table("returns")

    @cached_property
    def log_returns(self) -> pd.DataFrame:
        """``log(1 + returns)``, same rows as `returns`."""
        return self._table("log_returns")

    @cached_property
    def quoted(self) -> pd.DataFrame:
        """Whether there is a quote, see the class."""
        return self._table("quoted")

    @cached_property
    def cash_rate(self) -> pd.Series[float]:
        """Returns of cash, see the class."""
        return self._series("cash_rate")

    @cached_property
    def factors(self) -> pd.DataFrame | None:
        """Factors, see the class."""
        return self._table("factors", self.factor_names) if "factors" in self.arrays else None

    @cached_property
    def volatility_index(self) -> pd.Series[float] | None:
        """The index in points, see the class."""
        return self._series("volatility_index") if "volatility_index" in self.arrays else None

    @cached_property
    def volumes(self) -> pd.DataFrame | None:
        """Volumes in money, see the class."""
        return self._table("volumes") if "volumes" in self.arrays else None

    @cached_property
    def costs(self) -> pd.DataFrame | None:
        """Costs by row, see the class."""
        return self._table("costs") if "costs" in self.arrays else None

    @cached_property
    def limits(self) -> pd.DataFrame | None:
        """Limits by row, see the class."""
        return self._table("limits") if "limits" in self.arrays else None

    def until(self, date: pd.Timestamp, lookback: int | None = None) -> View:
        """View of an earlier date, of all rows or of the last `lookback` ones."""
        stop = int(self.dates.searchsorted(date, side="right"))
        start = 0 if lookback is None else max(stop - lookback, 0)
        arrays = {}
        for name, whole in self.arrays.items():
            lacking = len(self.index) - len(whole)  # a first return
            arrays[name] = whole[max(start - lacking, 0) : stop - lacking]
        return View(
            arrays, self.dates[start:stop], self.assets, self.factor_names, self.skipped + start
        )

    def __repr__(self) -> str:
        return f"View({day(self.date)}, {len(self.index)} rows, {len(self.assets)} assets)"

    def _table(self, name: str, columns: pd.Index[Any] | None = None) -> pd.DataFrame:
        values = self.arrays[name]
        dates = self.dates[len(self.index) - len(values) :]
        return window(values, dates, self.assets if columns is None else columns)

    def _series(self, name: str) -> pd.Series[float]:
        return pd.Series(self.arrays[name], index=self.dates, name=name, copy=False)


class MarketOptions(TypedDict, total=False):
    """Keywords that prices and returns share; see `Market`."""

    cash_rate: float | pd.Series[float]
    factors: pd.DataFrame | None
    volatility_index: pd.Series[float] | None
    volumes: pd.DataFrame | None
    costs: pd.DataFrame | None
    limits: pd.DataFrame | None
    missing: Missing
    departures: Departures | None
    minimum_history: int


class Market:
    """Prices, the cash rate and what else may be known, checked on entry.

    Nothing is read but through `at`, which hands out the rows up to a date.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, n_assets)
        Price levels (total-return levels where dividends count), in money: rows are dates,
        sorted and unique; columns are assets, with any labels but ``cash`` that can be told apart
        (see `sddp.labels`). The columns of a MultiIndex are known by their tuples.
    cash_rate : float or Series, default 0.0
        Decimal return of cash earned from the previous row to this row (0.0005 = 0.05 %). Nobody
        earns the first one, which may be NaN.
    factors : DataFrame, optional
        Any numbers known at each row, such as factor returns.
    volatility_index : Series, optional
        Such as the VIX, in its own points.
    volumes, costs, limits : DataFrame, optional
        By row and asset: money traded over the row, transaction costs charged on it in place of a
        backtest's `transaction_cost` (both sides), and largest weights; see `View`.
    missing : {"raise", "carry", "drop"}
        What a missing price does, and a price of 0; see Notes.
    departures : mapping of label to (date, return), optional
        Assets that are delisted: the first date without a market, and the decimal return earned up
        to it from the last price (-0.3 loses 30 %, -1 all).
    minimum_history : int, default 1
        Rows in a row that an asset must have had a price on to count as quoted (`View.quoted`):
        with 12 it is not bought in the 11 rows after a gap either.

    Raises
    ------
    DataError
        A table fails a check: the message names the argument, the asset and the date.
    ModelError
        `minimum_history` is no whole number of at least 1.

    Notes
    -----
    ===================  =====================  ===============================  ==================
    cell                 ``"raise"``            ``"carry"``                      ``"drop"``
    ===================  =====================  ===============================  ==================
    before the first     error                  NaN, not quoted: not bought      row left out
    price, or never any
    gap between prices   error                  last price, return 0, not        row left out, cash
                                                quoted; the next price earns     compounds over it
                                                the whole change
    after the last       error                  as a gap: a holding may be sold  row left out
    price                                       at the last price
    price of 0           error                  all is lost: return -1, then 0,  as ``"carry"``
                                                never quoted again
    ===================  =====================  ===============================  ==================

    From the date of `departures` on, under every rule, the stated return is earned, then 0; the
    asset is never quoted again: what is left of a holding may be sold, nothing can be bought.

    No rule looks ahead: that an asset has left is known from its date in `departures` on, and a
    price is carried whether or not another one follows. Whatever return a delisting paid must be
    stated, as the last price of the asset or by `departures`; without it a delisted holding is sold
    at its last price, which flatters. A gap in `volatility_index` is treated as one in prices; one
    in `factors` or `cash_rate` cannot be carried, and raises unless its row is dropped for
    ``"drop"``. Dates with a time zone keep their local time, periods are dated at their last day
    (`sddp.dates.plain_dates`).
    """

    def __init__(
        self,
        prices: pd.DataFrame,
        *,
        cash_rate: float | pd.Series[float] = 0.0,
        factors: pd.DataFrame | None = None,
        volatility_index: pd.Series[float] | None = None,
        volumes: pd.DataFrame | None = None,
        costs: pd.DataFrame | None = None,
        limits: pd.DataFrame | None = None,
        missing: Missing = "raise",
        departures: Departures | None = None,
        minimum_history: int = 1,
    ) -> None:
        levels = checked_table(prices, "prices", reserved=CASH)
        check_cells(
            levels < 0.0, levels, "prices", "must be positive (returns? Market.from_returns)"
        )
        losses = {} if missing == "raise" else total_losses(levels)
        check_cells((levels == 0.0) & (missing == "raise"), levels, "prices", ZERO)
        levels, gone = depart(levels, dict(departures or {}) | losses)
        tables = {"prices": levels} | _other_tables(factors, volatility_index, levels.index)
        tables |= tables_by_asset({"volumes": volumes, "costs": costs, "limits": limits}, levels)
        cash = _cash_rate(cash_rate, levels.index)
        self._known = _assemble(tables, gone, cash, missing, minimum_history)

    @classmethod
    def from_returns(cls, returns: pd.DataFrame, **options: Unpack[MarketOptions]) -> Market:
        """Market of simple decimal returns, row ``t`` earned over ``(t-1, t]``.

        Prices start from 1 before the first row. A missing return is a missing price, and with
        ``missing="carry"`` a return of 0. A return of -1 is a price of 0.

        Raises
        ------
        DataError
            As the constructor, and for a return below -1 or above 10, or another than 0 after -1.
        """
        table = checked_table(returns, "returns", reserved=CASH)
        remedy = "lies outside [-1, 10]; give simple decimal returns (0.01 = 1 %)"
        check_cells((table < -1.0) | (table > LARGEST_RETURN), table, "returns", remedy)
        lost = (table == -1.0).cummax().shift(fill_value=False)
        check_cells(
            lost & (table.abs() > 0.0), table, "returns", "follows a return of -1 (all is lost)"
        )
        market = cls((1.0 + table.fillna(0.0)).cumprod().where(table.notna()), **options)
        market._known = _with_first_return(market._known)
        return market

    @property
    def dates(self) -> pd.DatetimeIndex:
        """Dates of all rows."""
        return self._known.dates

    @property
    def assets(self) -> pd.Index[Any]:
        """Names of the risky assets."""
        return self._known.assets

    def at(self, date: str | pd.Timestamp, lookback: int | None = None) -> View:
        """What is known on `date`: the rows up to and including it.

        Parameters
        ----------
        date : date
        lookback : int, optional
            Only the last rows, so many of them; a window has a return for each of its rows.

        Raises
        ------
        DataError
            `date` lies before the first row.
        """
        when = plain_date(date)
        if when < self.dates[0]:
            raise DataError(f"date = {day(when)} lies before the first row {day(self.dates[0])}")
        return self._known.until(when, lookback)

    def __repr__(self) -> str:
        first, last = day(self.dates[0]), day(self.dates[-1])
        return f"Market({first} to {last}, {len(self.dates)} rows, {len(self.assets)} assets)"


def _check_gaps(table: pd.DataFrame, name: str) -> None:
    gaps = table.isna()
    if gaps.to_numpy().any():
        raise DataError(
            f'{name} is missing at {cells(gaps)}; fill it, or give missing="carry" or "drop" '
            "(--missing)"
        )


def _other_tables(
    factors: pd.DataFrame | None, volatility_index: pd.Series[float] | None, dates: Any
) -> dict[str, pd.DataFrame]:
    tables = {}
    if factors is not None:
        tables["factors"] = checked_table(factors, "factors")
    if volatility_index is not None:
        series = checked_series(volatility_index, "volatility_index")
        tables["volatility_index"] = series.to_frame()
    for name, table in tables.items():
        check_same_dates(table, dates, name)
    return tables


def _cash_rate(given: float | pd.Series[float], dates: Any) -> pd.Series[float]:
    if isinstance(given, pd.Series):
        rate = checked_series(given, "cash_rate")
        check_same_dates(rate, dates, "cash_rate")
        rate.iloc[:1] = rate.iloc[:1].fillna(0.0)
    else:
        rate = pd.Series(float(given), index=dates, name="cash_rate")
    _check_gaps(rate.to_frame(), "cash_rate")
    unit = (
        f"exceeds {LARGEST_CASH_RATE} a period: give the decimal return from the previous row to "
        "this row (divide percent by 100, an annual rate by the periods of a year)"
    )
    check_cells(rate.to_frame().abs() > LARGEST_CASH_RATE, rate.to_frame(), "cash_rate", unit)
    _check_growth(rate)
    return rate


def _check_growth(rate: pd.Series[float]) -> None:
    if len(rate) < 2:
        return
    usual, pace = float(rate.median()), periods_per_year(pd.DatetimeIndex(rate.index))
    if pace * math.log1p(usual) > math.log(LARGEST_CASH_GROWTH):
        raise DataError(
            f"cash_rate = {usual:g} (median of {len(rate)} rows, {pace:.1f} of them a year) would "
            f"make one unit of money more than {LARGEST_CASH_GROWTH:g} in a year; give the decimal "
            "return from the previous row to this row (divide percent by 100, an annual rate by "
            "the periods of a year)"
        )


def _assemble(
    tables: dict[str, pd.DataFrame],
    gone: pd.DataFrame,
    cash_rate: pd.Series[float],
    missing: Missing,
    minimum_history: int,
) -> View:
    if missing not in get_args(Missing):
        raise DataError(f"missing = {missing!r}; known are {', '.join(get_args(Missing))}")
    if missing == "drop":
        tables, cash_rate = _dropped(tables, cash_rate)
    gone = gone.loc[tables["prices"].index]
    quoted = _seasoned(tables["prices"].notna() & ~gone, minimum_history)
    carried = tables.keys() & LEVELS if missing == "carry" else set()
    for name, table in tables.items():
        if name not in carried:
            _check_gaps(table, name)
    tables |= {name: tables[name].ffill() for name in carried}
    return _view(tables | {"quoted": quoted, "cash_rate": cash_rate.to_frame()})


def _seasoned(priced: pd.DataFrame, n_rows: int) -> pd.DataFrame:
    """Whether an asset had a price on each of the last `n_rows` rows."""
    if isinstance(n_rows, bool) or not isinstance(n_rows, int) or n_rows < 1:
        raise ModelError(f"minimum_history = {n_rows!r}; give a whole number of rows, at least 1")
    if n_rows == 1:
        return priced
    last_gap = (~priced).rolling(n_rows, min_periods=1).max()
    return last_gap == 0.0


def _dropped(
    tables: dict[str, pd.DataFrame], cash_rate: pd.Series[float]
) -> tuple[dict[str, pd.DataFrame], pd.Series[float]]:
    """Tables without the rows that hold a gap; cash compounds over what was left out."""
    complete = np.all([table.notna().all(axis=1) for table in tables.values()], axis=0)
    kept = np.flatnonzero(complete)
    if not kept.size:
        raise DataError(
            'missing = "drop" leaves no row: every one holds a gap; use "carry" (--missing carry)'
        )
    starts = np.concatenate([[0], kept[:-1] + 1])
    growth = 1.0 + cash_rate.to_numpy()[: kept[-1] + 1]
    compounded = np.multiply.reduceat(growth, starts) - 1.0
    rate = pd.Series(compounded, index=cash_rate.index[kept], name="cash_rate")
    return {name: table.iloc[kept] for name, table in tables.items()}, rate


def _view(tables: dict[str, pd.DataFrame]) -> View:
    """View of all rows, on one read-only array a table: several blocks would be copied each time.

    Logarithms are computed once for a market: its views have windows on them.
    """
    prices = tables["prices"]
    levels = prices.to_numpy()
    # What is lost stays lost: 0 / 0 is a return of 0.
    returns = np.divide(
        levels[1:], levels[:-1], out=np.ones_like(levels[1:]), where=levels[:-1] != 0.0
    )
    returns -= 1.0
    # By columns, as pandas keeps a table: sums over rows depend on it in their last bit.
    returns = pd.DataFrame(returns).to_numpy()
    values = {name: table.to_numpy() for name, table in tables.items()}
    for name in ("cash_rate", "volatility_index"):
        if name in values:
            values[name] = values[name][:, 0]
    factors = tables.get("factors")
    return _frozen(
        values | _with_logs(returns),
        prices.index,
        prices.columns,
        None if factors is None else factors.columns,
    )


def _with_logs(returns: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    with np.errstate(divide="ignore"):  # a return of -1
        return {"returns": returns, "log_returns": np.log1p(returns)}


def _frozen(arrays: Mapping[str, NDArray[Any]], *labels: Any) -> View:
    """View on read-only copies."""
    return View({name: locked(values) for name, values in arrays.items()}, *labels)


def _with_first_return(view: View) -> View:
    """Add the first return, which a market built from returns knows (prices start at 1)."""
    prices, known = view.arrays["prices"], view.returns
    first = pd.DataFrame(prices[:1] - 1.0, view.dates[:1], view.assets)
    returns = pd.concat([first, known]).to_numpy()
    arrays = {**view.arrays, **_with_logs(returns)}
    return _frozen(arrays, view.index, view.assets, view.factor_names)
