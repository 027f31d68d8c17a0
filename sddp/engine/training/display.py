"""Progress lines of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from sddp.engine.training.stopping import LogEntry


class Display:
    """Progress lines on a stream, the more seldom the longer it takes."""

    FIRST = 3.0  # seconds before anything is shown: short trainings stay silent
    GROWTH = 1.15

    def __init__(self, wanted: bool, stream: TextIO) -> None:
        self._wanted, self._stream, self._next = wanted, stream, self.FIRST
        self._shown = False

    def show(self, entry: LogEntry) -> None:
        """Print a line if it is time."""
        if not self._wanted or entry.seconds < self._next:
            return
        if not self._shown:
            self._print(f"{'iteration':>9} {'bound':>15} {'simulated':>15} {'LPs':>9} {'s':>7}")
        self._shown = True
        self._line(entry)
        self._next = max(entry.seconds + 1.0, entry.seconds * self.GROWTH)

    def close(self, log: Sequence[LogEntry]) -> None:
        """The last line, where any was shown."""
        if self._shown:
            self._line(log[-1])

    def _line(self, entry: LogEntry) -> None:
        self._print(
            f"{entry.iteration:>9} {entry.bound:>15.8g} {entry.simulated:>15.8g} "
            f"{entry.solves:>9} {entry.seconds:>7.1f}"
        )

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
