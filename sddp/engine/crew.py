"""Tasks of equal rank done one after the other, or side by side in threads.

Threads pay because the solver and the larger array products let go of the interpreter while they
work; nothing has to be copied between processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Crew:
    """Runs tasks; the answers come in the order of the tasks, whoever did them.

    Parameters
    ----------
    n_jobs : int
        Threads at work; 1 uses the caller's own.
    """

    def __init__(self, n_jobs: int) -> None:
        self._threads = ThreadPoolExecutor(n_jobs) if n_jobs > 1 else None

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """Do all tasks. An error of one is raised once all have ended, Ctrl-C only if none is."""
        if self._threads is None or len(tasks) == 1:
            return [task() for task in tasks]
        pending = [self._threads.submit(task) for task in tasks]
        try:
            wait(pending)
        except BaseException:  # Ctrl-C here: nobody may still be at work when it is answered
            for future in pending:
                future.cancel()
            wait(pending)
            raise
        errors = [error for future in pending if (error := future.exception()) is not None]
        if errors:
            raise next((e for e in errors if not isinstance(e, KeyboardInterrupt)), errors[0])
        return [future.result() for future in pending]

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown()
