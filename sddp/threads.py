"""One BLAS thread for small products."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS at one thread inside a ``with`` block.

    Products of a few hundred rows gain nothing from a pool of threads, ran up to sixty times
    slower on two busy cores, and sums must not depend on how many cores are free.
    """
    limit: AbstractContextManager[object] = _controller(len(sys.modules)).limit(
        limits=1, user_api="blas"
    )
    return limit


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Looking for loaded libraries takes a millisecond: anew only after another import."""
    return ThreadpoolController()
