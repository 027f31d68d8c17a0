"""What both scripts do the same way on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable

from data.download import DownloadError
from sddp.errors import DataError

INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def report(work: Callable[[], None], by_hand: str) -> int:
    """Run, and turn what can go wrong into words on standard error.

    Parameters
    ----------
    work : callable
    by_hand : str
        How to get the data where the service cannot be used.

    Returns
    -------
    int
        0, 1 after a `DataError`, 130 after Ctrl-C.
    """
    try:
        work()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, DownloadError):
            print(by_hand, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; no file is half-written", file=sys.stderr)
        return INTERRUPTED
    return 0
