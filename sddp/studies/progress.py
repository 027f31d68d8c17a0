"""Progress of a study whose runs work in several processes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType

from sddp.cache.store import RecordFolder
from sddp.display.progress import ProgressDisplay

# Often enough to look alive, seldom enough that listing folders costs nothing.
SECONDS_BETWEEN_LOOKS = 1.0


class StudyProgress:
    """Rows done of all cells, as the store sees them, on the error stream.

    Only the process that started the study writes. It looks at what the workers have put into the
    store, so the display moves within a cell wherever that runs; without a store it moves cell by
    cell.

    Parameters
    ----------
    folders : mapping of str to RecordFolder or None
        Of the cells that remain to be run.
    n_rows : int
        Of each cell.
    n_found : int
        Cells that were finished before.
    wanted : bool
        False is silent.
    """

    def __init__(
        self, folders: Mapping[str, RecordFolder | None], n_rows: int, n_found: int, *, wanted: bool
    ) -> None:
        self._running, self._n_rows = dict(folders), n_rows
        self._n_cells, self._n_done = n_found + len(folders), n_found
        self._wanted = wanted
        self._lock, self._stop = threading.Lock(), threading.Event()
        before = self._rows()
        self._display = ProgressDisplay(n_rows * self._n_cells, "row", done=before, wanted=wanted)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        if before:
            share = f"{before} of {n_rows * self._n_cells} rows"
            self._display.note(f"{share} were finished before and are not run again")

    def __enter__(self) -> StudyProgress:
        if self._wanted:
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
        self._display.close()

    def done(self, name: str, outcome: str) -> None:
        """A cell has ended."""
        with self._lock:
            self._running.pop(name)
            self._n_done += 1
        self._look()
        self._display.note(f"{name}: {outcome} ({self._n_done} of {self._n_cells})")

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            rows = self._rows()
        # A cell's windows leave the store a moment before the cell is told of.
        self._display.update(rows)

    def _rows(self) -> int:
        under_way = [s.rows_done() for s in self._running.values() if s is not None]
        return self._n_rows * self._n_done + sum(under_way)
