"""Number of BLAS threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from threading import Lock

from threadpoolctl import ThreadpoolController

_guard = Lock()
_inside = 0
_limit: AbstractContextManager[object] | None = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS at one thread inside a ``with`` block.

    Products of a few hundred rows gain nothing from a pool of threads, ran up to sixty times
    slower on two busy cores, and sums must not depend on how many cores are free.

    The limit is the process's own, so blocks in several threads share one: the first to enter
    sets it, the last to leave takes it back.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside, _limit
    with _guard:
        if _inside == 0:
            _limit = _controller(len(sys.modules)).limit(limits=1, user_api="blas")
            _limit.__enter__()
        _inside += 1


def _leave() -> None:
    global _inside, _limit
    with _guard:
        _inside -= 1
        if _inside == 0 and _limit is not None:
            _limit.__exit__(None, None, None)
            _limit = None


def _after_fork() -> None:
    """Release the lock in a forked process."""
    global _guard
    _guard = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Controller of the loaded BLAS libraries, looked up again after imports."""
    return ThreadpoolController()
