"""One BLAS thread: small products lose to a thread pool, and sums must not depend on its size."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def one_blas_thread() -> AbstractContextManager[Any]:
    """Context in which numpy's linear algebra runs on one thread."""
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


@cache
def _controller() -> ThreadpoolController:
    """Looking for the loaded libraries takes milliseconds: once."""
    return ThreadpoolController()
