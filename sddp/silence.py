"""Suppression of standard output printed by foreign code."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def standard_output_discarded() -> Iterator[None]:
    """Point file descriptor 1 at the null device; C's buffers are flushed on both sides."""
    with suppress(AttributeError, OSError, ValueError):  # no stream, or one that is closed
        sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # descriptor 1 is closed: there is nothing to keep clean
        yield
        return
    try:
        _flush_c_streams()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        yield
    finally:
        _flush_c_streams()
        os.dup2(saved, 1)
        os.close(saved)


def _flush_c_streams() -> None:
    with suppress(OSError, AttributeError, TypeError):  # Windows does not open the null library
        ctypes.CDLL(None).fflush(None)
