"""How far a study is: a bar on a terminal, lines elsewhere, from one process for all."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from types import TracebackType

from tqdm import tqdm

from sddp.backtest.store import Shelf

# Often enough to look alive, seldom enough that listing folders costs nothing.
SECONDS_BETWEEN_LOOKS = 2.0


class StudyProgress:
    """Rows done of all cells, as the store sees them, on the error stream.

    Only the process that started the study writes. It looks at what the workers have put into the
    store, so the bar moves within a cell wherever that runs; without a store it moves cell by cell.

    Parameters
    ----------
    shelves : mapping of str to Shelf or None
        Of the cells that remain to be run.
    n_rows : int
        Of each cell.
    n_found : int
        Cells that were finished before.
    wanted : bool
        False is silent.
    """

    def __init__(
        self, shelves: Mapping[str, Shelf | None], n_rows: int, n_found: int, *, wanted: bool
    ) -> None:
        self._running, self._n_rows = dict(shelves), n_rows
        self._n_cells, self._n_done = n_found + len(shelves), n_found
        self._wanted, self._on_terminal = wanted, sys.stderr.isatty()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._bar = tqdm(
            total=n_rows * self._n_cells,
            unit="row",
            disable=not (wanted and self._on_terminal),
            dynamic_ncols=True,
        )
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> StudyProgress:
        self._look()
        if not self._bar.disable:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._bar.close()

    def done(self, name: str, outcome: str) -> None:
        """A cell has ended."""
        with self._lock:
            self._running.pop(name)
            self._n_done += 1
        self._look()
        if self._wanted:
            text = f"{name}: {outcome} ({self._n_done} of {self._n_cells})"
            tqdm.write(text, file=sys.stderr)

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            under_way = [s.rows_done() for s in self._running.values() if s is not None]
            rows = self._n_rows * self._n_done + sum(under_way)
            # A cell's windows leave the store a moment before the cell is told of.
            self._bar.n = max(self._bar.n, rows)
            self._bar.refresh()
