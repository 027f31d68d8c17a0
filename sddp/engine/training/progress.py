"""Progress lines of a training: one of the functions that `train` calls after each iteration."""

from __future__ import annotations

from typing import TextIO

from sddp.engine.training.stopping import LogEntry


class ProgressLines:
    """Lines on a stream, the more seldom the longer it takes.

    Parameters
    ----------
    stream : text stream
    first : float
        Seconds before anything is shown: short trainings stay silent.
    growth : float
        The next line comes after so many times the time so far.
    """

    def __init__(self, stream: TextIO, *, first: float = 3.0, growth: float = 1.15) -> None:
        self._stream, self._next, self._growth = stream, first, growth
        self._last: LogEntry | None = None
        self._shown = False

    def __call__(self, entry: LogEntry) -> None:
        """Print a line if it is time."""
        self._last = entry
        if entry.seconds < self._next:
            return
        if not self._shown:
            self._print(f"{'iteration':>9} {'bound':>15} {'simulated':>15} {'LPs':>9} {'s':>7}")
        self._shown = True
        self._line(entry)
        self._next = max(entry.seconds + 1.0, entry.seconds * self._growth)

    def close(self) -> None:
        """Print the last line, where any was shown."""
        if self._shown and self._last is not None:
            self._line(self._last)

    def _line(self, entry: LogEntry) -> None:
        self._print(
            f"{entry.iteration:>9} {entry.bound:>15.8g} {entry.simulated:>15.8g} "
            f"{entry.solves:>9} {entry.seconds:>7.1f}"
        )

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)
