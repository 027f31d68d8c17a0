"""Progress and remaining time of work, on standard error after two seconds."""

from __future__ import annotations

import sys
import threading
import time

from tqdm import tqdm

# Work that is done by then needs no display.
SECONDS_BEFORE = 2.0

# Lines where standard error is no terminal: the next one after so much more of the time so far.
LINE_GROWTH, SECONDS_BETWEEN_LINES = 1.5, 5.0


class ProgressDisplay:
    """A bar on a terminal, lines elsewhere; both say how much is done and the time left.

    Parameters
    ----------
    total : int or None
        Units of the whole work; None where nobody knows, and then there is no time left.
    unit : str
        One of them, such as ``"row"``.
    done : int
        Units that were done before this run: they say nothing about its pace.
    wanted : bool
        False is silent.
    """

    def __init__(self, total: int | None, unit: str, *, done: int = 0, wanted: bool = True) -> None:
        self._total, self._unit, self._first, self._done = total, unit, done, done
        self._started = time.monotonic()
        self._next_line = SECONDS_BEFORE
        self._lock = threading.Lock()
        listens = sys.stderr is not None and not sys.stderr.closed
        self._wanted = wanted and listens
        self._on_terminal = self._wanted and sys.stderr.isatty()
        self._bar: tqdm[object] | None = None

    def update(self, done: int) -> None:
        """Set the number of units done."""
        with self._lock:
            self._done = max(self._done, done if self._total is None else min(done, self._total))
            elapsed = time.monotonic() - self._started
            if not self._wanted or elapsed < SECONDS_BEFORE:
                return
            if self._on_terminal:
                self._show_bar()
            elif elapsed >= self._next_line:
                self._next_line = max(elapsed * LINE_GROWTH, elapsed + SECONDS_BETWEEN_LINES)
                self._print(self._line(elapsed))

    def note(self, text: str) -> None:
        """Print a line beside the display."""
        if self._wanted:
            self._print(text)

    def close(self) -> None:
        """End the display."""
        if self._bar is not None:
            self._bar.close()

    def _show_bar(self) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=self._total, initial=self._first, unit=self._unit, dynamic_ncols=True
            )
            self._bar.start_t -= time.monotonic() - self._started
        self._bar.n = self._done
        self._bar.refresh()

    def _line(self, elapsed: float) -> str:
        if self._total is None:
            return f"{self._done} {self._unit}s in {duration(elapsed)}"
        text = f"{self._done} of {self._total} {self._unit}s"
        fresh = self._done - self._first
        if fresh <= 0:
            return text
        return f"{text}, about {duration(elapsed * (self._total - self._done) / fresh)} left"

    def _print(self, text: str) -> None:
        try:
            tqdm.write(text, file=sys.stderr)
        except (OSError, ValueError):  # nobody listens any more
            self._wanted = False


def duration(seconds: float) -> str:
    """A time in words, to the precision that an estimate has.

    >>> duration(8.2), duration(100), duration(5400)
    ('8 s', '2 min', '1.5 h')
    """
    if seconds < 90.0:
        return f"{seconds:.0f} s"
    if seconds < 3600.0:
        return f"{seconds / 60.0:.0f} min"
    return f"{seconds / 3600.0:.1f} h"
