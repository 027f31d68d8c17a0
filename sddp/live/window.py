"""The rows accepted so far, as views: the numbers a `Market` of the same rows would hand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sddp.errors import DataError
from sddp.labels import label_index
from sddp.live.rules import AcceptedRow
from sddp.market.market import View

# Rows that the first arrays hold; they double when they are full.
FIRST_ROWS = 256

# Tables that say nothing of the first row of all.
FROM_THE_SECOND = ("returns", "log_returns")


class RowWindow:
    """Growing arrays of rows; `view` is a window on them, without a copy.

    Parameters
    ----------
    assets : sequence of str
    lookback : int, optional
        Rows that a view holds at least, as far as there are so many; older ones are dropped. None
        keeps all.

    Notes
    -----
    Sums over rows may differ in their last bit with the order of an array in memory. Returns and
    `quoted` are kept by columns and prices by rows, as in a market with ``missing="carry"``.
    """

    def __init__(self, assets: Sequence[str], lookback: int | None = None) -> None:
        self.columns = label_index(list(assets))
        self.lookback = lookback
        self.n_rows = 0
        self._start, self._stop = 0, 0
        self._tables: dict[str, NDArray[Any]] = {}

    def append(self, row: AcceptedRow) -> None:
        """Add a row.

        Raises
        ------
        DataError
            It has a volatility index or volumes where the first row had none, or the reverse.
        """
        returns = self._returns(row.prices)
        with np.errstate(divide="ignore"):  # a return of -1
            logs = np.log1p(returns)
        cells: dict[str, Any] = {
            "dates": np.datetime64(row.time.as_unit("us").to_numpy()),
            "prices": row.prices,
            "quoted": row.quoted,
            "cash_rate": row.cash_rate,
            "returns": returns,
            "log_returns": logs,
        }
        if row.volatility_index is not None:
            cells["volatility_index"] = row.volatility_index
        if row.volumes is not None:
            cells["volumes"] = row.volumes
        if not self._tables:
            self._tables = {
                name: _empty(name, FIRST_ROWS, np.asarray(cell)) for name, cell in cells.items()
            }
        if cells.keys() != self._tables.keys():
            differing = sorted(cells.keys() ^ self._tables.keys())
            raise DataError(
                f"row of {row.time}: must have {differing} exactly where the first row had; "
                "deliver them on every row or on none"
            )
        if self._stop == len(self._tables["dates"]):
            self._grow()
        for name, cell in cells.items():
            self._tables[name][self._stop] = cell
        self._stop += 1
        self.n_rows += 1

    def view(self) -> View:
        """What is known on the newest row; a window has a return for each of its rows."""
        if self.lookback is not None:
            self._start = max(self._start, self._stop - self.lookback)
        start, stop = self._start, self._stop
        skipped = self.n_rows - (stop - start)
        first = start if skipped else start + 1
        arrays = {
            name: self._read_only(name, first if name in FROM_THE_SECOND else start, stop)
            for name in self._tables
            if name != "dates"
        }
        return View(arrays, self._read_only("dates", start, stop), self.columns, None, skipped)

    def _returns(self, prices: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns since the row before; what is lost stays lost: 0 / 0 is a return of 0."""
        if not self._stop:
            return np.full_like(prices, np.nan)
        before = self._tables["prices"][self._stop - 1]
        ratio: NDArray[np.float64] = np.divide(
            prices, before, out=np.ones_like(prices), where=before != 0.0
        )
        ratio -= 1.0
        return ratio

    def _grow(self) -> None:
        """Move the rows that are still needed to new arrays: views keep the old ones."""
        if self.lookback is not None:
            self._start = max(self._start, self._stop - self.lookback)
        n_kept = self._stop - self._start
        for name, old in self._tables.items():
            new = _empty(name, max(2 * n_kept, FIRST_ROWS), old[0])
            new[:n_kept] = old[self._start : self._stop]
            self._tables[name] = new
        self._start, self._stop = 0, n_kept

    def _read_only(self, name: str, start: int, stop: int) -> NDArray[Any]:
        values = self._tables[name][start:stop]
        values.flags.writeable = False
        return values


def _empty(name: str, n_rows: int, row: NDArray[Any]) -> NDArray[Any]:
    return np.empty((n_rows, *row.shape), row.dtype, "C" if name == "prices" else "F")
